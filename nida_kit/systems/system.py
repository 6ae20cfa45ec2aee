"""Systems and their trajectories.

A system is a tendency f in x' = f(x), the labels of its state, and where its trajectories start. A step of length dt is
the classical fourth-order Runge-Kutta scheme (Kutta 1901), cut into equal substeps; model noise, if any, is added
once per step:

    x_{t+1} = M(x_t) + model_noise_std * e_t,    e_t ~ N(0, I).

A system of your own takes ten lines:

>>> import torch, nida_kit as nk
>>> class Rossler(nk.System):
...     labels = nk.StateLabels(("x", "y", "z"), ("1",) * 3, ("x", "y", "z"))
...     longest_substep = 0.05
...     def tendency(self, x):
...         x, y, z = x.unbind(-1)
...         return torch.stack([-y - z, x + 0.2 * y, 0.2 + z * (x - 5.7)], -1)
...     def start(self, samples, generator, dtype, device):
...         return torch.randn(samples, 3, generator=generator, dtype=dtype, device=device)
>>> Rossler().simulate(samples=2, steps=10, dt=0.1, seed=0).sizes
Frozen({'sample': 2, 'time': 10, 'component': 3})
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, is_dataclass
from numbers import Integral, Real

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from nida_kit.edge import trajectory
from nida_kit.state import StateLabels

_AXES = "Components lie along the last axis: x.unbind(-1) or x[..., 0], and torch.stack([...], -1) of all of them."


def runge_kutta(tendency, x: Float[Tensor, "*batch n"], dt: float) -> Float[Tensor, "*batch n"]:
    """One classical fourth-order Runge-Kutta step."""
    k1 = tendency(x)
    k2 = tendency(x + dt / 2 * k1)
    k3 = tendency(x + dt / 2 * k2)
    k4 = tendency(x + dt * k3)
    return x + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


class System(ABC):
    """A dynamical system x' = f(x). Subclasses give `labels`, `longest_substep`, `tendency` and `start`.

    Attributes:
        labels: names and units of the components.
        longest_substep: the longest Runge-Kutta substep, in the system's time unit.
    """

    labels: StateLabels
    longest_substep: float = math.nan

    @property
    def name(self) -> str:
        """For the records."""
        return type(self).__name__

    @abstractmethod
    def tendency(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """f(x) in state units per time unit."""

    @abstractmethod
    def start(
        self, samples: int, generator: torch.Generator, dtype: torch.dtype, device: torch.device
    ) -> Float[Tensor, "samples n"]:
        """Random initial states."""

    def log_start(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
        """Log density of `start` at x, in nats; -inf where no trajectory starts.

        Raises:
            ValueError: a system that does not say.
        """
        raise ValueError(
            f"{type(self).__name__} does not say how likely its start states are: give it a method log_start(x), the "
            "log density (...) of its start law at states (..., n), -inf where none starts."
        )

    def distances(self) -> Float[Tensor, "n n"]:
        """How far apart the components are, for localisation.

        Raises:
            ValueError: a system whose components have no place.
        """
        raise ValueError(
            f"The components of {type(self).__name__} have no places: give distances=, a matrix (component, observed "
            "value), or a method without localisation."
        )

    def step(self, x: Float[Tensor, "*batch n"], dt: float) -> Float[Tensor, "*batch n"]:
        """M(x): the noise-free state dt later; differentiable.

        Raises:
            ValueError: a longest_substep that is not positive and finite.
        """
        if not 0 < self.longest_substep < math.inf:
            raise ValueError(
                f"longest_substep={self.longest_substep} must be positive and finite, in the system's time unit: a "
                "tenth of its fastest time scale is a good start."
            )
        substeps = max(1, math.ceil(dt / self.longest_substep - 1e-9))
        if substeps > 100_000:
            raise ValueError(
                f"dt={dt} takes {substeps:.1e} substeps of longest_substep={self.longest_substep}: is it in the "
                "system's time unit?"
            )
        for _ in range(substeps):
            x = runge_kutta(self.tendency, x, dt / substeps)
        return x

    def trajectories(
        self,
        x: Float[Tensor, "*batch n"],
        steps: int,
        dt: float,
        model_noise_std: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "*batch T n"]:
        """The trajectory of `steps` states that starts at (and includes) x; differentiable in x."""
        states = [x]
        for _ in range(steps - 1):
            x = self.step(x, dt)
            if model_noise_std:
                x = x + model_noise_std * torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
            states.append(x)
        return torch.stack(states, -2)

    def simulate(
        self,
        samples: int,
        steps: int,
        dt: float,
        *,
        model_noise_std: float = 0.0,
        seed: int = 0,
        spinup: int = 0,
        dtype: torch.dtype = torch.float64,
        device: str | torch.device = "cpu",
    ) -> xr.DataArray:
        """Trajectories from random initial states.

        Args:
            samples: how many.
            steps: states per trajectory, the initial one included.
            dt: time between them, in the system's time unit.
            model_noise_std: standard deviation of the noise added to each component after each step, in state units.
            seed: of initial states and model noise.
            spinup: steps run and dropped first, to start on the attractor.
            dtype: of the computation and the result.
            device: where it runs; the result is in main memory.

        Returns:
            `(sample, time, component)`.

        Raises:
            ValueError: a size or step that is not positive, a negative noise, or a trajectory that overflows.
        """
        counts = (samples, steps, spinup, seed)
        if not all(isinstance(k, Integral) for k in counts) or samples < 1 or steps < 1 or min(spinup, seed) < 0:
            raise ValueError(
                f"{samples=}, {steps=} must be whole numbers of at least 1, and {spinup=}, {seed=} of at least 0."
            )
        if not all(isinstance(x, Real) for x in (dt, model_noise_std)):
            raise ValueError(f"{dt=} and {model_noise_std=} must be numbers.")
        if not (dt > 0 and math.isfinite(dt)) or not (model_noise_std >= 0 and math.isfinite(model_noise_std)):
            raise ValueError(
                f"dt={dt} must be positive and model_noise_std={model_noise_std} not negative; both finite."
            )
        device = torch.device(device)
        generator = torch.Generator(device).manual_seed(seed)
        x = self.start(samples, generator, dtype, device)
        self._check(x)
        x = self.trajectories(x, spinup + steps, dt, model_noise_std, generator)[..., spinup:, :]
        if not x.isfinite().all():
            raise ValueError(f"The trajectory overflows with dt={dt}: try a smaller dt or longest_substep.")
        records = {"system": self.name, "dt": dt, "model_noise_std": float(model_noise_std), "seed": seed}
        return trajectory(x, self.labels, dt, attrs=records | {"spinup": spinup} | self.parameters())

    def _check(self, x: Float[Tensor, "samples n"]) -> None:
        """Raises ValueError where what a subclass gives does not fit together."""
        shape = (len(x), len(self.labels.components))
        if x.shape != shape:
            raise ValueError(
                f"start of {type(self).__name__} gives {tuple(x.shape)}; (samples, components) is {shape}."
            )
        name = type(self).__name__
        try:
            slope, alone = self.tendency(x), self.tendency(x[-1:])  # one state tells axes that were mistaken
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"tendency of {name} fails for states {shape}: {error}. {_AXES}") from error
        if not isinstance(slope, Tensor) or slope.shape != shape or not slope.is_floating_point():
            got = f"{slope.dtype} {tuple(slope.shape)}" if isinstance(slope, Tensor) else type(slope).__name__
            raise ValueError(f"tendency of {name} gives {got} for states {shape}. {_AXES}")
        # Rounding is far below a thousandth, another axis far above.
        if ((slope[-1:] - alone).abs() > 1e-3 * slope.abs().amax(0)).any():
            raise ValueError(f"tendency of {name} mixes the states of a batch {shape}. {_AXES}")

    def parameters(self) -> dict[str, int | float | list[float]]:
        """The physical parameters, for the records."""
        return {k: v for k, v in asdict(self).items() if isinstance(v, (int, float))} if is_dataclass(self) else {}


def as_system(system) -> System:
    """A system; or a ValueError that says what came instead."""
    if not isinstance(system, System):
        raise ValueError(f"system={system!r} is no nk.System: give an instance, nk.Lorenz63(), with its parentheses.")
    return system


def log_normal(x: Float[Tensor, "*batch n"], mean: float | Tensor, std: float | Tensor) -> Float[Tensor, "*batch"]:
    """Log density of independent normal components."""
    return torch.distributions.Normal(mean, std, validate_args=False).log_prob(x).sum(-1)
