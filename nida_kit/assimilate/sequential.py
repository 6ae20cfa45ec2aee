r"""Methods that walk through time: forecast to the next step, analyse what was observed there, go on.

    forecast    x_t^f = M(x_{t-1}^a)
    analysis    x_t^a = x_t^f conditioned on y_t

A *filter* stops there: its mean at a time knows the observations up to that time only. So it serves any length of
window, and experiments of thousands of cycles are one long window. Windows of a batch that are observed at the same
times walk together.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral, Real

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nida_kit.assimilate.incremental import gaussian_filter
from nida_kit.assimilate.method import Method, Moments, Reconstruction
from nida_kit.gaussian import linearise
from nida_kit.observe import Observations
from nida_kit.simulate import System, as_system

CPU, DOUBLE = torch.device("cpu"), torch.float64


def by_times(observations: Observations) -> Iterator[tuple[Int[Tensor, " W"], Observations]]:
    """Windows `(W, T, p)` that are observed at the same times, and where they stand in the flattened batch."""
    value = observations.value
    size = value.shape[-2:]
    noise_std = observations.noise_std.expand_as(value).reshape(-1, *size)
    value = value.reshape(-1, *size)
    patterns, which = (~value.isnan()).any(-1).unique(dim=0, return_inverse=True)
    for k in range(len(patterns)):
        index = (which == k).nonzero().squeeze(-1)
        yield index, Observations(value[index], noise_std[index], observations.operator)


def observed_times(observations: Observations) -> list[int]:
    """The steps at which anything is observed."""
    return (~observations.value.isnan()).any(-1).flatten(0, -2).any(0).nonzero().squeeze(-1).tolist()


class Sequential(Method):
    """What such methods share. There is no first guess: one that is given is not used.

    A result's `mean` is the smoothed one where there is one; beside it are `forecast` and `analysis`
    and their `_std`.
    """

    template_steps = 2

    def __init__(self, system: System, **settings):
        self.system, self.labels = as_system(system), system.labels
        self.settings = {"system": system.name}
        self.settings |= {f"system_{name}": value for name, value in system.parameters().items()} | settings

    @abstractmethod
    def walk(self, observations: Observations, dt: float) -> dict[str, Moments]:
        """Of windows observed at the same times: `forecast` and `analysis`, as far as there are, and `smoothed`."""

    def reconstruct(self, observations, dt, first_guess):
        lead = observations.value.shape[:-2]
        start = self.system.start(1, torch.Generator().manual_seed(0), DOUBLE, CPU)
        observations.predicted(start)  # says now what does not fit, before anything is simulated
        found: dict[str, Tensor] = {}
        for index, windows in by_times(observations):
            for name, moments in self.walk(windows, dt).items():
                both = torch.stack([moments.mean, moments.std])
                whole = found.setdefault(name, both.new_empty(2, math.prod(lead), *both.shape[2:]))
                whole[:, index] = both
        check_finite(*found.values())
        moments = {name: Moments(*x.reshape(2, *lead, *x.shape[2:])) for name, x in found.items()}
        answer = moments.pop("smoothed", None) or moments.pop("analysis")
        start = moments.get("forecast", answer).mean
        before = {name: x.mean for name, x in moments.items()} | {f"{k}_std": x.std for k, x in moments.items()}
        return Reconstruction([answer], [math.nan], start, before)


def check_finite(*states: Tensor) -> None:
    """Raises a ValueError if any is not."""
    if not all(x.isfinite().all() for x in states):
        raise ValueError(
            "The forecast overflowed: the filter has lost the truth, or the model is unstable at this time step. Try "
            "more inflation, more members, or a shorter longest_substep of the system."
        )


def count(name: str, value, least: int) -> int:
    """A whole number of at least `least`; or a ValueError."""
    if not isinstance(value, Integral) or isinstance(value, bool) or not least <= value < 2**63:
        raise ValueError(f"{name}={value!r} must be a whole number of at least {least}, below 2^63.")
    return int(value)


def positive(name: str, value) -> float:
    """A positive finite number; or a ValueError."""
    if not isinstance(value, Real) or not 0 < value < math.inf:
        raise ValueError(f"{name}={value!r} must be a positive, finite number.")
    return float(value)


def number(name: str, value) -> float:
    """A finite number, not negative; or a ValueError."""
    if not isinstance(value, Real) or not 0 <= value < math.inf:
        raise ValueError(f"{name}={value!r} must be a finite number, not negative.")
    return float(value)


def noise(value, n: int) -> Float[Tensor, " n"]:
    """Standard deviations, one or one per component, none of them negative; or a ValueError."""
    try:
        std = torch.as_tensor(value, dtype=DOUBLE).expand(n)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"model_noise_std={value!r} must be a number or {n} of them: {error}") from error
    if not ((std >= 0) & std.isfinite()).all():
        raise ValueError(f"model_noise_std={value!r} must be finite and not negative.")
    return std


def covariance(value, n: int) -> Float[Tensor, "n n"]:
    """A positive definite matrix; or a ValueError."""
    try:
        matrix = torch.as_tensor(value, dtype=DOUBLE)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"The covariance must be a matrix ({n}, {n}) of numbers: {error}") from error
    if matrix.shape != (n, n):
        raise ValueError(
            f"The covariance must be a matrix ({n}, {n}), one row per component, not {tuple(matrix.shape)}."
        )
    if not matrix.isfinite().all():
        raise ValueError("The covariance holds NaN or infinite values: drop the states that have any before np.cov.")
    if not torch.allclose(matrix, matrix.mT, rtol=1e-6) or torch.linalg.cholesky_ex(matrix).info:
        raise ValueError("The covariance must be symmetric and positive definite, as np.cov(states.T) of many states.")
    return (matrix + matrix.mT) / 2


def start_moments(system: System) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
    """Mean and covariance of the system's start law, from 10,000 draws."""
    draws = as_system(system).start(10_000, torch.Generator().manual_seed(0), DOUBLE, CPU)
    return draws.mean(0), torch.atleast_2d(draws.mT.cov())


class _GaussianFilter(Sequential):
    """A filter that carries a mean and a covariance."""

    @abstractmethod
    def forecast(self, mean: Tensor, spread: Tensor, dt: float) -> tuple[Tensor, Tensor]:
        """Mean `(W, n)` and covariance of the next state."""

    @abstractmethod
    def start(self) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
        """Mean and covariance of the first state."""

    def walk(self, observations, dt):
        steps = gaussian_filter(partial(self.forecast, dt=dt), *self.start(), observations)
        # The means and the variances of forecast and analysis, over time.
        kept = [[(mean, spread.diagonal(dim1=-2, dim2=-1)) for mean, spread in step] for step in steps]
        forecast, analysis = ([torch.stack(x, -2) for x in zip(*both, strict=True)] for both in zip(*kept, strict=True))
        return {name: Moments(m, v.sqrt()) for name, (m, v) in {"forecast": forecast, "analysis": analysis}.items()}


class ThreeDVar(_GaussianFilter):
    """3D-Var: a forecast of the mean alone, analysed with a covariance that never changes (Lorenc 1986).

    A nonlinear h is linearised once, at the forecast.

    Args:
        system: an `nk.System`; the first mean is that of its `start`.
        background: covariance of a forecast's error, `(n, n)`, state units; often a share of the climatological one.
    """

    def __init__(self, system: System, background):
        self.background = covariance(background, len(as_system(system).labels.components))
        super().__init__(system, background=str(self.background.tolist()))
        self._mean = start_moments(system)[0]

    def start(self):
        return self._mean, self.background

    def forecast(self, mean, spread, dt):
        return self.system.step(mean, dt), self.background


class ExtendedKalmanFilter(_GaussianFilter):
    """The Kalman filter, with the model linearised at the analysis; its smoother is `nk.KalmanSmoother`.

    Args:
        system: an `nk.System`; the first mean and covariance are those of its `start`.
        model_noise_std: of the model error per step, per component or one for all, in state units; may be 0.
        inflation: factor on the forecast's covariance per unit of time, against the error of linearising.
    """

    def __init__(self, system: System, model_noise_std=0.0, *, inflation: float = 1.0):
        self.noise_std = noise(model_noise_std, len(as_system(system).labels.components))
        self.inflation = positive("inflation", inflation)
        super().__init__(system, model_noise_std=self.noise_std.tolist(), inflation=self.inflation)
        self._start = start_moments(system)

    def start(self):
        return self._start

    def forecast(self, mean, spread, dt):
        mean, J = linearise(partial(self.system.step, dt=dt), mean)
        return mean, self.inflation**dt * J @ spread @ J.mT + self.noise_std.square().diag()


@dataclass(frozen=True)
class Cycle:
    """A window of a smoother with a lag.

    Attributes:
        begin: its first step.
        used: the steps whose observations it uses.
        end: its last step.
        following: the first step of the next window; of the last one, the number of steps.
    """

    begin: int
    used: list[int]
    end: int
    following: int


def cycles(times: list[int], lag: int | None, steps: int) -> list[Cycle]:
    """Windows that begin `lag` observed times before the one whose observations they use, and end there.

    Args:
        times: that are observed.
        lag: None is one window that uses all of them.
        steps: of the whole; the last window goes on to the last step.
    """
    if lag is None or not times:
        return [Cycle(0, times, steps - 1, steps)]
    starts = [0] * lag + times
    found = [Cycle(starts[k], [t], t, starts[k + 1]) for k, t in enumerate(times)]
    return [*found[:-1], replace(found[-1], end=steps - 1, following=steps)]


def through(
    windows: list[Cycle], whole: bool, analyse: Callable[[Cycle], tuple[list[Tensor], list[Tensor]]]
) -> dict[str, list]:
    """One window after the other.

    Args:
        windows: from `cycles`.
        whole: whether it is a single one, which uses all observations at once.
        analyse: what is kept of each step of a window, before and after the analysis of what it uses.

    Returns:
        Of all steps: `forecast`, `analysis` and `smoothed`; of a whole window only the last, which is all there is.
    """
    found: dict[str, list] = {"forecast": [], "analysis": [], "smoothed": []}
    for window in windows:
        before, after = analyse(window)
        new = slice(len(found["forecast"]) - window.begin, None)
        split = (window.used or [window.end])[-1] - window.begin
        found["forecast"] += [*before[: split + 1], *after[split + 1 :]][new]
        found["analysis"] += [*before[:split], *after[split:]][new]
        found["smoothed"] += after[: window.following - window.begin]
    return {"smoothed": found["smoothed"]} if whole else found
