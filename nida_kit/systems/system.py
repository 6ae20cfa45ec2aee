"""Systems and their trajectories.

A system is a tendency f in x' = f(x) or f(x, t), the labels of its state, and where its trajectories start. A step of
length dt is the classical fourth-order Runge-Kutta scheme (Kutta 1901), cut into equal substeps; model noise, if any,
is added once per step:

    x_{t+1} = M(x_t) + e_t,    e_t ~ N(0, Q),    Q = model_noise_std^2 I or a whole covariance.

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

A field is written as it lies on its grid, with the dims of `nk.GridLabels` as the last axes of its states:

>>> class Diffusion(nk.System):
...     labels = nk.GridLabels({"y": range(4), "x": range(6)}, units="K")
...     longest_substep = 0.1
...     def tendency(self, x):
...         return sum(x.roll(shift, axis) for axis in (-1, -2) for shift in (-1, 1)) - 4 * x
...     def start(self, samples, generator, dtype, device):
...         return torch.randn(samples, 4, 6, generator=generator, dtype=dtype, device=device)
>>> Diffusion().simulate(samples=2, steps=10, dt=0.1, seed=0).sizes
Frozen({'sample': 2, 'time': 10, 'y': 4, 'x': 6})
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from dataclasses import asdict, is_dataclass
from functools import cached_property
from numbers import Real

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from nida_kit import checks
from nida_kit.checks import covariance, noise
from nida_kit.edge import fold, trajectory, unfold
from nida_kit.linalg.jacobian import WITHOUT_SLOPES, check_slopes
from nida_kit.notes import recorded, warn
from nida_kit.state import Labels

AT_ONCE = 2**16  # numbers of states that a thread steps together: they stay in a processor's cache


def runge_kutta(
    tendency, x: Float[Tensor, "*batch n"], dt: float, t: Tensor | None = None
) -> Float[Tensor, "*batch n"]:
    """One classical fourth-order Runge-Kutta step; with the time t, of a tendency that depends on it."""

    def slope(x, later):
        return tendency(x) if t is None else tendency(x, t + later)

    k1 = slope(x, 0.0)
    k2 = slope(x + dt / 2 * k1, dt / 2)
    k3 = slope(x + dt / 2 * k2, dt / 2)
    k4 = slope(x + dt * k3, dt)
    if not isinstance(x, Tensor):
        return (k1 + 2 * k2 + 2 * k3 + k4) * (dt / 6) + x
    # Doubling is exact: this rounds as the line above does, in fewer calls, which are what a small state costs.
    return torch.add(k1, k2, alpha=2).add_(k3, alpha=2).add_(k4).mul_(dt / 6).add_(x)


def of_arrays_too(tendency):
    """Marks a tendency that takes NumPy arrays as well as tensors, and gives the same numbers to the last bit.

    NumPy's calls take less time than torch's, which counts where states are few: forecasts without slopes use them.
    """
    tendency.of_arrays_too = True
    return tendency


def split(x):
    """The components of a state `(..., n)`; those of a NumPy array have its other axes in reverse order."""
    return x.unbind(-1) if isinstance(x, Tensor) else x.T


def joined(parts):
    """The state of these components, the reverse of `split`."""
    # So each component of the next state that is made of this one lies in one piece.
    return torch.stack(parts, -1) if isinstance(parts[0], Tensor) else np.array(parts).T


class System(ABC):
    """A dynamical system x' = f(x) or f(x, t). Subclasses give `labels`, `longest_substep`, `tendency` and `start`.

    >>> import nida_kit as nk, torch
    >>> class Decay(nk.System):
    ...     labels = nk.StateLabels(("q",), ("1",), ("charge",))
    ...     longest_substep = 0.1
    ...     def tendency(self, x):
    ...         return -x
    ...     def start(self, samples, generator, dtype, device):
    ...         return torch.ones(samples, 1, dtype=dtype, device=device)
    >>> round(float(Decay().simulate(samples=1, steps=11, dt=0.1)[0, -1, 0]), 4)  # 1 / e
    0.3679

    A state is `(n,)` with `nk.StateLabels`; with `nk.GridLabels` it has the grid's shape, wherever `n` stands below.

    Attributes:
        labels: names, coordinates and units of the state.
        longest_substep: the longest Runge-Kutta substep, in the system's time unit.
    """

    labels: Labels
    longest_substep: float = math.nan

    def __setattr__(self, name: str, value) -> None:
        """A parameter; what was worked out with another one is forgotten here, not by wrappers and methods of it."""
        super().__setattr__(name, value)
        for kept in [k for k in vars(self) if isinstance(getattr(type(self), k, None), cached_property)]:
            del vars(self)[kept]

    @property
    def name(self) -> str:
        """For the records."""
        return type(self).__name__

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the states that tendency, start and step give and take."""
        return self.labels.shape

    @abstractmethod
    def tendency(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """f(x) in state units per time unit.

        A tendency that takes a second argument gets the time of each state there, `(..., 1)`, or `(..., 1, 1)` for
        states `(..., y, x)`: it broadcasts with x, and t[..., 0] with x[..., 0].
        """

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

    def start_moments(self) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]] | None:
        """Mean and covariance of `start`, of states as vectors, where they are known; None takes those of draws."""
        return None

    @cached_property
    def drawn_moments(self) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
        """The same of 10,000 draws, those that are finite; kept, for a start may be a long run of the model."""
        draws = self.start(10_000, torch.Generator().manual_seed(0), torch.float64, torch.device("cpu"))
        draws = draws.flatten(1)[draws.flatten(1).isfinite().all(-1)]
        return draws.mean(0), torch.atleast_2d(draws.mT.cov())

    def as_observed(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """States in the units in which they are observed and reported; others only in `nk.Transformed`."""
        return x

    def as_modelled(self, x: Float[Tensor, "*batch n"], what: str = "a first guess") -> Float[Tensor, "*batch n"]:
        """The way back: observed states as the model has them.

        Args:
            x: the states.
            what: they are, for the error.

        Raises:
            ValueError: states outside its domain.
        """
        return x

    @property
    def transformed(self) -> bool:
        """Whether the model's states are others than those that are observed."""
        return False

    def distances(self) -> Float[Tensor, "n n"] | None:
        """How far apart the components are, for localisation; `(*shape, *shape)`. None where they have no places.

        A field's have those of its grid without this; one whose grid is periodic, say, knows other distances.
        """
        return None

    @property
    def ring(self) -> bool:
        """Whether the components are the sites of a ring, in order: their distances need no matrix."""
        return False

    @cached_property
    def depends_on_time(self) -> bool:
        """Whether the tendency takes the time."""
        given = inspect.signature(self.tendency).parameters.values()
        return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty for p in given) > 1

    @cached_property
    def steps_arrays(self) -> bool:
        """Whether `step` takes NumPy arrays as well: a marked tendency f(x), and parameters that are Python's numbers.

        NumPy's own would make double precision of single.
        """
        marked = getattr(type(self).tendency, "of_arrays_too", False) and type(self).step is System.step
        worked_out = {name for name in vars(self) if isinstance(getattr(type(self), name, None), cached_property)}
        own = [value for name, value in vars(self).items() if name[0] != "_" and name not in worked_out]
        return marked and not self.depends_on_time and all(type(value) in (int, float) for value in own)

    def times_of(self, x: Float[Tensor, "*batch n"], t: float | Tensor | None) -> Float[Tensor, "*batch one"] | None:
        """The time of each state, as the tendency takes it; None if it takes none.

        Args:
            x: states.
            t: one time, or one for each state, in a shape that broadcasts to theirs without the state's axes.

        Raises:
            ValueError: a time that is missing, or does not broadcast.
        """
        if not self.depends_on_time:
            return None
        if t is None:
            raise ValueError(
                f"The tendency of {self.name} depends on time, and none was given: step(x, dt, t), with the time of x. "
                "A method that steps without times serves systems whose tendency is f(x) alone."
            )
        axes = len(self.shape)
        times = torch.as_tensor(t, dtype=x.dtype, device=x.device)
        try:
            return times.expand(x.shape[: x.ndim - axes])[(..., *[None] * axes)]
        except RuntimeError as error:
            raise ValueError(
                f"t has the shape {tuple(times.shape)}; it needs one time, or one for each state of "
                f"{tuple(x.shape[: x.ndim - axes])}."
            ) from error

    def step(
        self, x: Float[Tensor, "*batch n"], dt: float, t: float | Tensor | None = None
    ) -> Float[Tensor, "*batch n"]:
        """M(x): the noise-free state dt later; differentiable.

        Args:
            x: states.
            dt: how far, in the system's time unit.
            t: the time of x, one for all or one for each state `(...)`; needed if the tendency depends on it.

        Raises:
            ValueError: states of another shape, a longest_substep that is not positive and finite, or a time that is
                missing.
        """
        if x.shape[x.ndim - len(self.shape) :] != self.shape:
            raise ValueError(
                f"The states have the shape {tuple(x.shape)}; those of {self.name} end in {self.shape}: leading axes "
                "are a batch."
            )
        t, groups = self.times_of(x, t), [x]
        if isinstance(x, Tensor) and x.device.type == "cpu" and x.numel() > AT_ONCE and self._treats_states_alike:
            states = x.reshape(-1, *self.shape)
            most = max(1, AT_ONCE * torch.get_num_threads() // math.prod(self.shape))
            few = math.ceil(len(states) / math.ceil(len(states) / most))  # alike: a last one alone costs as many calls
            groups = states.split(few)
        if len(groups) == 1:
            return self.in_substeps(x, dt, t)
        times = [None] * len(groups) if t is None else t.reshape(-1, *[1] * len(self.shape)).split(few)
        parts = [self.in_substeps(some, dt, its) for some, its in zip(groups, times, strict=True)]
        return torch.cat(parts).reshape(x.shape)

    @property
    def _treats_states_alike(self) -> bool:
        """Whether a group of states can be stepped by itself: no parameter has axes, which may be those of a batch."""
        return all(not getattr(value, "ndim", 0) for name, value in vars(self).items() if name[0] != "_")

    def in_substeps(self, x, dt: float, t: Tensor | None = None):
        """A step, unchecked: of states of the right shape, and of their times as the tendency takes them."""
        substeps = self._substeps(dt)
        h = dt / substeps
        for k in range(substeps):
            x = runge_kutta(self.tendency, x, h, None if t is None else t + k * h)
        return x

    def _substeps(self, dt: float) -> int:
        """Into how many a step is cut."""
        longest = self.longest_substep
        if not isinstance(longest, Real) or not 0 < longest < math.inf:
            raise ValueError(
                f"longest_substep={longest!r} must be positive and finite, in the system's time unit: a tenth of its "
                "fastest time scale is a good start."
            )
        substeps = max(1, math.ceil(dt / longest - 1e-9))
        if substeps > 100_000:
            raise ValueError(
                f"dt={dt} takes {substeps:.1e} substeps of longest_substep={longest}: is it in the system's time unit?"
            )
        return substeps

    def _check_substeps(self, x: Float[Tensor, "samples n"], dt: float, t: float) -> None:
        """Warns where a substep is so long that halves of it lead elsewhere: by a tenth of how far it goes."""
        h = dt / self._substeps(dt)
        whole, half = self._after_substep(x, t, h), self._after_substep(x, t, h / 2)
        away = (self._after_substep(half, t + h / 2, h / 2) - whole).square().mean().sqrt()
        if not away <= (whole - x).square().mean().sqrt() / 10 + 1e-6 * x.square().mean().sqrt():
            warn(
                f"Substeps of {h:g} are too long for {self.name}: in the end two of half that length lead elsewhere, "
                f"by {float(away):.3g} (root mean square). Give a shorter longest_substep, or dt.",
                stacklevel=3,
            )

    def _after_substep(self, x: Tensor, t: float, h: float) -> Tensor:
        return runge_kutta(self.tendency, x, h, self.times_of(x, t))

    def trajectories(
        self,
        x: Float[Tensor, "*batch n"],
        steps: int,
        dt: float,
        model_noise_std: float | Tensor = 0.0,
        generator: torch.Generator | None = None,
        *,
        start_time: float | Tensor = 0.0,
        model_noise_covariance: Float[Tensor, "n n"] | None = None,
    ) -> Float[Tensor, "*batch T n"]:
        """The trajectory of `steps` states that starts at (and includes) x; differentiable in x.

        Args:
            x: where it starts.
            steps: how many states.
            dt: time between them.
            model_noise_std: of what is added after each step: one, or one per component.
            generator: of the noise.
            start_time: the time of x.
            model_noise_covariance: instead of model_noise_std, of states as vectors.
        """
        root = None if model_noise_covariance is None else torch.linalg.cholesky(model_noise_covariance).to(x)
        noisy = root is not None or bool(torch.as_tensor(model_noise_std).any())
        states = [x]
        for k in range(steps - 1):
            x = self.step(x, dt, start_time + k * dt) if self.depends_on_time else self.step(x, dt)
            if noisy:
                unit = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
                x = x + (
                    model_noise_std * unit if root is None else unfold(fold(unit, self.shape) @ root.mT, self.shape)
                )
            states.append(x)
        return torch.stack(states, -1 - len(self.shape))

    def simulate(
        self,
        samples: int,
        steps: int,
        dt: float,
        *,
        model_noise_std: float = 0.0,
        model_noise_covariance=None,
        seed: int = 0,
        spinup: int = 0,
        start_time: float = 0.0,
        dtype: torch.dtype = torch.float64,
        device: str | torch.device = "cpu",
    ) -> xr.DataArray:
        """Trajectories from random initial states.

        Args:
            samples: how many.
            steps: states per trajectory, the initial one included.
            dt: time between them, in the system's time unit.
            model_noise_std: standard deviation of the noise added after each step, in state units (of `nk.Transformed`,
                those of its z): one for all, or one per component (of a field, an array of its shape).
            model_noise_covariance: instead of it, the covariance of that noise, `(n, n)`, n numbers making a state.
            seed: of initial states and model noise.
            spinup: steps run and dropped first, to start on the attractor.
            start_time: the time of the first state that is kept; the spinup runs before it.
            dtype: of the computation and the result.
            device: where it runs; the result is in main memory.

        Returns:
            `(sample, time, component)`; of a field, its own dims in the place of component.

        Raises:
            ValueError: a size or step that is not positive, a noise that is negative or given twice, or a trajectory
                that overflows.
        """
        samples, steps = checks.count("samples", samples, 1), checks.count("steps", steps, 1)
        spinup, seed = checks.count("spinup", spinup, 0), checks.seed(seed)
        dt, start_time = checks.positive("dt", dt), checks.finite("start_time", start_time)
        self._check_parts()
        std, Q = self._read_noise(model_noise_std, model_noise_covariance)
        dtype, device = checks.dtype(dtype), checks.device(device)
        generator = torch.Generator(device).manual_seed(seed)
        x = self._try_start(samples, generator, dtype, device)
        self._try_tendency(x)
        noise = {"model_noise_std": std if isinstance(std, float) else std.to(x), "model_noise_covariance": Q}
        before = start_time - spinup * dt
        x = self.trajectories(x, spinup + steps, dt, generator=generator, start_time=before, **noise)
        last = x[:, -1]
        x = fold(self.as_observed(x), self.shape)[..., spinup:, :]
        if not x.isfinite().all():
            raise ValueError(
                f"The trajectory overflows with dt={dt}: try a smaller dt or longest_substep. Or it comes to states "
                "where the tendency has no value (a log or root of negative numbers): clamp them there, or keep "
                "positive states as their logarithm, nk.Transformed(system, torch.log, torch.exp)."
            )
        if type(self).step is System.step:
            self._check_substeps(last[:4], dt, start_time + (steps - 1) * dt)
        records = {"system": self.name, "dt": dt, "model_noise_std": _recorded(std, Q), "seed": seed}
        records |= {"spinup": spinup} | ({"start_time": float(start_time)} if start_time else {})
        return trajectory(x, self.labels, dt, attrs=records | self.parameters(), start=start_time)

    def _read_noise(self, std, Q) -> tuple[float | Tensor, Tensor | None]:
        """Standard deviations, one or of the state's shape, and the covariance if there is one."""
        std = self.labels.ordered("model_noise_std", std)
        Q = self.labels.ordered("model_noise_covariance", Q)
        if Q is not None:
            if not isinstance(std, Real) or std != 0:
                raise ValueError(
                    "model_noise_std and model_noise_covariance both say how large the noise is: give one."
                )
            return 0.0, covariance(Q, self.labels.shape, "model_noise_covariance")
        if isinstance(std, Real):
            return float(noise(std, (1,))), None
        return unfold(noise(std, self.shape), self.shape), None

    def check(self) -> None:
        """Try the system once, on two states.

        Raises:
            ValueError: what a subclass gives does not fit together.
        """
        if "_fits" not in vars(self):
            self._check_parts()
            self._try_tendency(self._two_states())
            self._try_moments()
            vars(self)["_fits"] = True

    def check_slopes(self) -> None:
        """Try once whether the tendency has the slopes that many methods need.

        Raises:
            ValueError: it has none, or not those of its values.
        """
        if "_has_slopes" not in vars(self):
            x, name = self._two_states(), type(self).__name__
            t = self.times_of(x, torch.arange(len(x)))
            what, advice = f"tendency of {name} fails where its slopes are asked for", f"{_axes(self)} {WITHOUT_SLOPES}"

            def tendency(x: Tensor) -> Tensor:
                return checks.called(what, self.tendency, x, *([] if t is None else [t]), advice=advice)

            check_slopes(f"tendency of {name}", tendency, x)
            vars(self)["_has_slopes"] = True

    def _two_states(self) -> Float[Tensor, "two n"]:
        generator = torch.Generator().manual_seed(0)
        return self._try_start(2, generator, torch.float64, torch.device("cpu"))

    def _check_parts(self) -> None:
        """Raises ValueError where a subclass gives no labels, or no function."""
        for name in ("tendency", "start"):
            checks.function(name, getattr(self, name), f"Write a method, def {name}(self, ...).")
        advice = 'Try nk.StateLabels(("x", "y"), ("1", "1"), ("x", "y")).'
        checks.instance("labels", self.labels, Labels, "nk.StateLabels or nk.GridLabels", advice)

    def _try_start(self, samples: int, generator, dtype, device) -> Float[Tensor, "samples n"]:
        """The states that a subclass starts from; a ValueError where they are none."""
        name, shape = type(self).__name__, (samples, *self.shape)
        dims = "components" if len(self.shape) == 1 else ", ".join(self.labels.dims)
        advice = (
            f"start(self, samples, generator, dtype, device) gives a tensor (samples, {dims}) of this dtype, here "
            f"{shape} of {dtype}: torch.randn(samples, ..., generator=generator, dtype=dtype, device=device)."
        )
        given = samples, generator, dtype, device
        x = checks.called(f"start of {name} fails", self.start, *given, advice=advice)
        if not isinstance(x, Tensor) or x.shape != shape or x.dtype != dtype:
            got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"start of {name} gives {got}. {advice}")
        if not x.isfinite().all():
            raise ValueError(f"start of {name} gives NaN or infinite values: trajectories start from finite states.")
        return x

    def _try_moments(self) -> None:
        """Raises ValueError where the moments of the start are none."""
        what = f"start_moments of {type(self).__name__}"
        found = checks.called(f"{what} fails", self.start_moments)
        if found is None:
            return
        n = self.labels.size
        shapes = [tuple(getattr(each, "shape", ())) for each in found] if isinstance(found, tuple | list) else None
        if shapes != [(n,), (n, n)] or not all(isinstance(each, Tensor) for each in found):
            raise ValueError(
                f"{what} gives {shapes or type(found).__name__}; they are a mean ({n},) and a covariance ({n}, {n}), "
                "tensors, or None."
            )

    def _try_tendency(self, x: Float[Tensor, "samples n"]) -> None:
        """Raises ValueError where the tendency that a subclass gives does not fit its states."""
        name, axes, shape = type(self).__name__, _axes(self), tuple(x.shape)
        t = checks.called(f"tendency of {name} is no function", self.times_of, x, torch.arange(len(x)))
        given = (x.clone(),) if t is None else (x.clone(), t)
        what = f"tendency of {name} fails for states {shape}"
        slope = checks.called(what, self.tendency, *given, advice=axes)
        # One state tells axes that were mistaken.
        alone = checks.called(what, self.tendency, *(each[-1:].clone() for each in given), advice=axes)
        if not torch.equal(given[0].nan_to_num(), x.nan_to_num()):
            raise ValueError(
                f"tendency of {name} changes the states that it is given: work on x = x.clone(), or write "
                "x = x + y for x += y, and torch.stack([...], -1) for x[..., 0] = y."
            )
        if not isinstance(slope, Tensor) or slope.shape != shape or slope.dtype != x.dtype:
            got = f"{slope.dtype} {tuple(slope.shape)}" if isinstance(slope, Tensor) else type(slope).__name__
            raise ValueError(f"tendency of {name} gives {got} for states {shape} of {x.dtype}. {axes}")
        # Rounding is far below a thousandth, another axis far above.
        if ((slope[-1:] - alone).abs() > 1e-3 * slope.abs().amax(0)).any():
            raise ValueError(f"tendency of {name} mixes the states of a batch {shape}. {axes}")

    def parameters(self) -> dict[str, int | float | list[float]]:
        """The physical parameters, for the records."""
        return {k: v for k, v in asdict(self).items() if isinstance(v, (int, float))} if is_dataclass(self) else {}


def _axes(system: System) -> str:
    """Where the numbers of a state lie, for those who write a tendency."""
    said = "Components lie along the last axis: x.unbind(-1) or x[..., 0], and torch.stack([...], -1) of all of them."
    if len(system.shape) > 1:
        said = (
            f"A state lies along the last axes, ({', '.join(system.labels.dims)}): x.roll(1, -1) moves it along the "
            f"last, and sums over it leave the axes before."
        )
    return f"{said} The time comes as (..., 1): t[..., 0] beside x[..., 0]." if system.depends_on_time else said


def _recorded(std: float | Tensor, Q: Tensor | None) -> float | list[float] | str:
    """The noise, as short as a file's records can keep it."""
    if Q is not None:
        return recorded(Q.diagonal().sqrt())
    return std if isinstance(std, float) else recorded(std.flatten())


def checked(system) -> System:
    """A system; or a ValueError that says what came instead, or what is wrong with it."""
    if not isinstance(system, System):
        raise ValueError(f"system={system!r} is no nk.System: give an instance, nk.Lorenz63(), with its parentheses.")
    system.check()
    return system


def as_system(system, *, slopes: bool = False) -> System:
    """The system as methods take it: tried once, and with states `(..., n)`, vectors, whatever shape its own have.

    Args:
        system: what should be one.
        slopes: whether the method needs those of its tendency.

    Raises:
        ValueError: it is no system, or what it gives does not fit together.
    """
    from nida_kit.systems.wrapped import Folded  # here: what is wrapped is a system itself

    system = checked(system)
    if slopes:
        system.check_slopes()
    return system if len(system.shape) == 1 else Folded(system)


def check_spread(system: System, covariance: Float[Tensor, "n n"], advice: str) -> None:
    """Raises ValueError where the covariance of a system's start is singular, as far as double precision tells."""
    lower, info = torch.linalg.cholesky_ex(covariance)
    left = lower.diagonal().square() / covariance.diagonal()  # of each variance, given the components before
    if info or not (left > 8 * len(covariance) * torch.finfo(covariance.dtype).eps).all():
        raise ValueError(
            f"The start of {system.name} does not spread in every direction: its standard deviations are "
            f"{covariance.diagonal().sqrt().tolist()}. The members of nk.Continued do not, either, where they are no "
            f"more than the components. {advice}"
        )


def log_normal(x: Float[Tensor, "*batch n"], mean: float | Tensor, std: float | Tensor) -> Float[Tensor, "*batch"]:
    """Log density of independent normal components."""
    return torch.distributions.Normal(mean, std, validate_args=False).log_prob(x).sum(-1)
