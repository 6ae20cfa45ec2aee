"""The methods that are the loop of `incremental` with one prior each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from numbers import Integral

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from nida_kit import schedule as schedules
from nida_kit.assimilate.incremental import (
    conditioned,
    descend,
    extended_kalman_filter,
    incremental,
)
from nida_kit.assimilate.method import Method, Reconstruction, stream
from nida_kit.banded import BlockBanded
from nida_kit.gaussian import Gaussian
from nida_kit.labels import COMPONENT, CORE, TIME, StateLabels, time_step
from nida_kit.observe import Observations
from nida_kit.prior import Climatology, Network, Physics, RingPrior
from nida_kit.simulate import System, as_system
from nida_kit.weights import load_pretrained


class OptimalInterpolation(Method):
    """The climatology conditioned on the observations: one step of the loop, exact for Gaussian states and linear h.

    There is one answer whatever the first guess: the climatology does not look at it.

    Args:
        climatology: mean and covariance of past trajectories.
        labels: the components' names and units.
        dt: the climatology's time step.
    """

    def __init__(self, climatology: Climatology, labels: StateLabels, dt: float):
        _check_state(climatology, labels, dt)
        self.climatology, self.labels, self.dt = climatology, labels, dt
        self.settings = {"order": len(climatology.factor) - 1}

    @classmethod
    def fit(cls, windows: xr.DataArray, order: int | None = None) -> OptimalInterpolation:
        """From past trajectories `(sample, time, component)`; order and errors as in `Climatology.fit`."""
        if not isinstance(windows, xr.DataArray) or any(d not in windows.dims or d not in windows.coords for d in CORE):
            raise ValueError("windows is an xr.DataArray with the dims and coordinates time and component.")
        windows = windows.transpose(..., *CORE)
        if windows.ndim == 2 or not np.isfinite(windows.values).all():
            raise ValueError(
                f"windows has the dims {windows.dims}; it needs a leading one, along which there are many windows, and "
                "no NaN or infinite value: drop the windows that have any."
            )
        names = tuple(map(str, windows[COMPONENT].values))
        given = {k: tuple(map(str, windows[k].values)) for k in ("units", "long_name") if k in windows.coords}
        units, long_names = given.get("units", ("1",) * len(names)), given.get("long_name", names)
        labels = StateLabels(names, units, long_names, str(windows[TIME].attrs.get("units", "1")))
        values = torch.from_numpy(windows.values).double()
        return cls(Climatology.fit(values.flatten(0, -3), order), labels, time_step(windows["time"]))

    def doubts(self, observations):
        return _outliers(self.climatology, observations)

    def reconstruct(self, observations, dt, first_guess):
        start = self.climatology.over(observations.value.shape[-2])
        if first_guess is not None:
            start = start.at(first_guess)
        posteriors = list(incremental(self.climatology, [1.0], observations, start, conditioned))
        return Reconstruction(posteriors, [math.nan], start.mean)


class ClimatologicalForecast(OptimalInterpolation):
    """The climatology alone, whatever was observed: what every method should beat."""

    fits = False

    def reconstruct(self, observations, dt, first_guess):
        alone = self.climatology.over(observations.value.shape[-2])
        return Reconstruction([alone], [math.nan], alone.mean)


class NeuralIncremental(Method):
    """Neural incremental data assimilation: a trained network's priors, coarse to fine.

    Args:
        prior: trained by `nk.train`.
        labels: the components' names and units.
        dt: the time step of the prior's training.
        temperatures: how many steps, or their temperatures, falling from 1 towards 0.
        schedule: spreads a number of steps, one of `nk.schedule`.
    """

    def __init__(
        self,
        prior: Network,
        labels: StateLabels,
        dt: float,
        temperatures: int | Sequence[float] = 4,
        schedule: schedules.Schedule = schedules.linear,
    ):
        _check_state(prior.climatology, labels, dt)
        self.prior, self.labels, self.dt = prior.eval(), labels, dt
        self.temperatures = schedules.temperatures(temperatures, schedule)
        self.noise_layers = len(self.temperatures)
        self.settings = {"temperatures": self.temperatures}

    @classmethod
    def pretrained(
        cls,
        name: str,
        temperatures: int | Sequence[float] = 4,
        schedule: schedules.Schedule = schedules.linear,
        labels: StateLabels | None = None,
    ) -> NeuralIncremental:
        """With shipped weights ("lorenz63", "lorenz63_small", "lorenz63_paper", "lorenz96", "pendulum"), or a file's.

        Args:
            name: of shipped weights, or a path.
            temperatures: as above.
            schedule: as above.
            labels: of a ring of another number of sites than the weights were trained on.

        Raises:
            ValueError: no such weights, a file that is damaged or not ours, or labels that the network does not serve.
        """
        prior, card = load_pretrained(name)
        if labels is not None and not isinstance(labels, StateLabels):
            raise ValueError(
                f"labels={labels!r} must be nk.StateLabels: those of a system, nk.Lorenz96(sites=20).labels."
            )
        if labels is not None and isinstance(prior, RingPrior):
            prior = prior.on(len(labels.components))
        elif labels not in (None, card.labels):
            raise ValueError(f"{name} knows {list(card.labels.components)} only: labels= is for rings of like sites.")
        method = cls(prior, card.labels if labels is None else labels, card.dt, temperatures, schedule)
        method.settings["weights"] = str(name)
        return method

    def with_temperatures(self, temperatures, schedule=schedules.linear) -> NeuralIncremental:
        """The same prior under another schedule."""
        method = type(self)(self.prior, self.labels, self.dt, temperatures, schedule)
        method.settings = self.settings | method.settings
        return method

    def doubts(self, observations):
        device = self.prior.climatology.mean.device
        return _outliers(self.prior.climatology, observations.to(device))

    def reconstruct(self, observations, dt, first_guess):
        observations, start = self._start(observations, first_guess)
        posteriors = list(incremental(self.prior, self.temperatures, observations, start, conditioned))
        return Reconstruction(posteriors, self.temperatures, start.mean)

    def draw(self, observations, dt, first_guess, noise):
        """Incremental sampling: each step moves to a draw from its Gaussian instead of its mean.

        So draws may part early, at high temperature, and fall into different modes of a posterior that no Gaussian
        holds. As in one-step training, the prior sees a state on the way from the first guess to a possible truth, with
        the first guess's spread.
        """
        observations, start = self._start(observations, first_guess)
        draws: list[Tensor] = []

        def to_a_draw(posterior: Gaussian) -> Gaussian:
            draws.append(posterior.sample(noise[len(draws)].to(posterior.mean)))
            return start.at(draws[-1])

        for _ in incremental(self.prior, self.temperatures, observations, start, conditioned, to_a_draw):
            pass
        return draws[-1]

    def _start(self, observations: Observations, first_guess: Tensor | None) -> tuple[Observations, Gaussian]:
        """The observations where the prior is, and the first guess with its spread."""
        device = self.prior.climatology.mean.device
        observations = observations.to(device)
        start = first_guess_of(self.prior.climatology, observations)
        return observations, start if first_guess is None else start.at(first_guess.to(device))


def first_guess_of(climatology: Climatology, observations: Observations) -> Gaussian:
    """x_0: the climatology's optimal interpolation, where neural priors start."""
    start = climatology.over(observations.value.shape[-2])
    return next(incremental(climatology, [1.0], observations, start, conditioned))


def _outliers(climatology: Climatology, observations: Observations) -> list[str]:
    """What to say of values far outside what ever occurs: most often fill values, or in another unit."""
    if not observations.direct:
        return []
    away = (observations.value - climatology.mean[-1]).abs() / (climatology.spread + observations.noise_std)
    far = observations.value[away > 10]
    if not far.numel():
        return []
    return [
        f"{far.numel()} observed values, {far[0]:g} among them, lie more than 10 standard deviations from the "
        "climatological mean. Are they fill values (make them NaN), or in another unit?"
    ]


def _check_state(climatology: Climatology, labels: StateLabels, dt: float) -> None:
    n = climatology.mean.shape[-1]
    if len(labels.components) != n or not (math.isfinite(dt) and dt > 0):
        raise ValueError(
            f"The climatology has {n} components, the labels name {list(labels.components)}, and dt={dt}: give the "
            "labels and the positive time step of the trajectories that it was fitted to."
        )


class _PhysicalMethod(Method):
    """What methods with a dynamical model share: the model, its error and where it starts."""

    def __init__(self, system: System, model_noise_std, start_mean=None, start_std=None):
        self.system, self.labels = as_system(system), system.labels
        draws = system.start(10_000, torch.Generator().manual_seed(0), torch.float64, torch.device("cpu"))
        self._model_noise_std = self._vector(model_noise_std, "model_noise_std")
        self._start_mean = draws.mean(0) if start_mean is None else self._vector(start_mean, "start_mean")
        self._start_std = draws.std(0) if start_std is None else self._vector(start_std, "start_std")
        self.physics(1.0)  # says now what it would refuse later
        self.settings = {"system": system.name}
        self.settings |= {f"system_{name}": value for name, value in system.parameters().items()}
        self.settings |= {"model_noise_std": self._model_noise_std.tolist()}
        self.settings |= {"start_mean": self._start_mean.tolist(), "start_std": self._start_std.tolist()}

    def _vector(self, value, name: str) -> Tensor:
        n = len(self.labels.components)
        try:
            vector = torch.as_tensor(value, dtype=torch.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}={value!r} must be a number or {n} of them: {error}") from error
        if vector.shape not in ((), (n,)) or not vector.isfinite().all():
            raise ValueError(f"{name}={value!r} must be one finite number or {n} of them, one per component.")
        return vector.expand(n)

    def physics(self, dt: float) -> Physics:
        """The prior for this time step."""
        return Physics(partial(self.system.step, dt=dt), self._model_noise_std, self._start_mean, self._start_std)


class KalmanSmoother(_PhysicalMethod):
    """The Kalman (Rauch-Tung-Striebel) smoother: exact for a linear system and h, extended otherwise.

    The extended filter's means are where the dynamics are linearised; then the smoother is one step of the loop.

    Args:
        system: an `nk.System`.
        model_noise_std: of the model error per step, per component or one for all, in state units; positive.
        start_mean, start_std: of the state at the window's start; by default those of the system's own start law.
    """

    def reconstruct(self, observations, dt, first_guess):
        physics = self.physics(dt)
        if first_guess is None:
            filtered = extended_kalman_filter(physics, observations)
        else:
            filtered = first_guess.to(observations.value)
        return Reconstruction(list(incremental(physics, [0.0], observations, Gaussian.flat(filtered))), [0.0], filtered)


class WeakFourDVar(_PhysicalMethod):
    """Weak-constraint 4D-Var by Gauss-Newton steps (incremental 4D-Var), with Levenberg-Marquardt damping.

    Its result holds each window's `cost` (half the squared whitened residuals of start, model and observations),
    `iterations` and `converged`. It finds a local minimum near the first guess; std is that of the linearised model
    there (Laplace).

    With several starts, it descends from the first guess and from trajectories of the system's own law, model noise
    included, and keeps what has the lowest cost in each window: all of the result is of that `start`, counted from
    0, the first guess. Every window has the same starts, so its result depends on no other, and fewer starts are the
    first of more.

    Args:
        system: an `nk.System`.
        model_noise_std: as for `KalmanSmoother`.
        start_mean, start_std: as for `KalmanSmoother`.
        iterations: at most, from each start.
        damping: the first lambda.
        tolerance: relative fall of the cost that counts as none.
        starts: how many, the first guess included.
        seed: of the other starts.
    """

    stops_early = True

    def __init__(
        self,
        system: System,
        model_noise_std,
        start_mean=None,
        start_std=None,
        *,
        iterations: int = 30,
        damping: float = 1e-2,
        tolerance: float = 1e-6,
        starts: int = 1,
        seed: int = 0,
    ):
        super().__init__(system, model_noise_std, start_mean, start_std)
        if iterations < 1 or damping < 0 or tolerance < 0:
            raise ValueError(f"{iterations=} must be at least 1; {damping=} and {tolerance=} not negative.")
        if not isinstance(starts, Integral) or starts < 1 or not isinstance(seed, Integral):
            raise ValueError(f"{starts=} must be a whole number of at least 1, and {seed=} a whole number.")
        self.steps, self.damping, self.tolerance = iterations, damping, tolerance
        self.settings |= {"max_iterations": iterations, "first_lambda": damping, "tolerance": tolerance}
        self.starts, self.seed = int(starts), int(seed)
        if starts > 1:
            self.settings |= {"starts": self.starts, "seed": self.seed}

    def reconstruct(self, observations, dt, first_guess):
        physics, steps = self.physics(dt), observations.value.shape[-2]
        first_guess = physics.forecast(steps) if first_guess is None else first_guess.to(observations.value)
        first_guess = first_guess.expand(*observations.value.shape[:-1], first_guess.shape[-1])
        if self.starts == 1:
            return descend(physics, observations, first_guess, self.steps, self.damping, self.tolerance)
        starts = [first_guess, *self._drawn(physics, steps)]
        at_once = self._at_once(first_guess)
        best: list[Reconstruction] = []
        for i in range(0, self.starts, at_once):
            some = self._hopeful(starts[i : i + at_once], first_guess, physics, observations)
            found = descend(physics, observations, some, self.steps, self.damping, self.tolerance)
            number = torch.arange(i, i + len(some)).view(-1, *[1] * (some.ndim - 3))
            found.diagnostics["start"] = number.expand_as(found.diagnostics["cost"])
            best = [_lowest(*best, found)]
        return _combined(lambda x: x[0], best[0])

    def _drawn(self, physics: Physics, steps: int) -> Float[Tensor, "starts T n"]:
        """Trajectories of the system's law, all but the first start."""
        generator = stream(self.seed)
        cpu, n = torch.device("cpu"), len(self.labels.components)
        # Each draws its numbers before the next does: fewer starts are the first of more.
        drawn = [
            (
                self.system.start(1, generator, torch.float64, cpu),
                torch.randn(1, steps - 1, n, generator=generator, dtype=torch.float64),
            )
            for _ in range(self.starts - 1)
        ]
        start, noise = (torch.cat(x) for x in zip(*drawn, strict=True))
        states = [start]
        for e in noise.unbind(1):
            states.append(physics.step(states[-1]) + physics.noise_std * e)
        return torch.stack(states, 1)

    def _at_once(self, first_guess: Float[Tensor, "*batch T n"]) -> int:
        """How many starts descend as one batch: all their steps, whose precisions are kept, are to fit in memory."""
        kept = self.steps * first_guess.numel() * 2 * first_guess.shape[-1]
        return max(1, 2**25 // max(1, kept))  # 256 MiB

    def _hopeful(
        self, starts: list[Tensor], first_guess: Tensor, physics: Physics, observations: Observations
    ) -> Float[Tensor, "starts *batch T n"]:
        """Starts for every window; the first guess instead of those that left every bound, which it ties with."""
        x = torch.stack([start.expand_as(first_guess) for start in starts])
        cost, reachable = (physics.misfit(z) + observations.misfit(z) for z in (x, first_guess))
        # Beyond that, double precision cannot tell the linearised model from a singular one.
        lost = ~(cost <= 1e12 * (1 + reachable))
        return torch.where(lost[..., None, None], first_guess, x)


def _combined(function: Callable[..., Tensor], *found: Reconstruction) -> Reconstruction:
    """The reconstruction whose tensors are a function of theirs; a shorter path stands still at its end."""
    longest = max(found, key=lambda f: len(f.posteriors))
    steps = [[f.posteriors[min(k, len(f.posteriors) - 1)] for f in found] for k in range(len(longest.posteriors))]
    return Reconstruction(
        [
            Gaussian(function(*(g.mean for g in step)), BlockBanded(function(*(g.precision.blocks for g in step))))
            for step in steps
        ],
        longest.temperatures,
        function(*(f.first_guess for f in found)),
        {name: function(*(f.diagnostics[name] for f in found)) for name in longest.diagnostics},
    )


def _lowest(*tries: Reconstruction) -> Reconstruction:
    """In each window the one of lowest cost, of several starts along the first axis of each; that axis is kept."""
    winner = torch.cat([t.diagnostics["cost"] for t in tries]).argmin(0, keepdim=True)  # the first of equal ones

    def pick(*x: Tensor) -> Tensor:
        together = torch.cat(x)
        return together.take_along_dim(winner[(..., *[None] * (together.ndim - winner.ndim))], 0)

    return _combined(pick, *tries)
