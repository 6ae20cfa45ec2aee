"""Methods with a dynamical model and Gaussian errors, and the Kalman smoother, which is one step of the loop.

    x_1 ~ N(b, B),    x_{t+1} = M(x_t) + e_t, e_t ~ N(0, Q),    y_t = h(x_t) + eta_t, eta_t ~ N(0, R)

For linear M and h the prior `Physics`, conditioned on all observations, is the exact posterior. For others the model is
linearised once, along the means of the extended Kalman filter.
"""

from __future__ import annotations

from abc import abstractmethod
from copy import copy
from functools import partial
from typing import Self

import torch
import xarray as xr
from jaxtyping import Bool, Float
from torch import Tensor

from nida_kit import checks
from nida_kit.checks import not_a_covariance
from nida_kit.edge import time_step
from nida_kit.gaussian import Gaussian
from nida_kit.linalg.covariance import Covariance
from nida_kit.loop import incremental
from nida_kit.methods.filters import extended_kalman_filter
from nida_kit.methods.interpolation import past_of, sea_of
from nida_kit.methods.method import Method
from nida_kit.methods.sequential import (
    model_noise,
    modelled,
    noise_settings,
    reported,
    system_settings,
)
from nida_kit.notes import recorded
from nida_kit.observing.observations import Observations
from nida_kit.priors.moments import amount, moments, stretches_of
from nida_kit.priors.physics import Physics
from nida_kit.reconstruction import Reconstruction
from nida_kit.state import TIME
from nida_kit.systems.linear import LinearModel
from nida_kit.systems.system import System, as_system, check_spread


class PhysicalMethod(Method):
    """What methods with a dynamical model share: the model, its error and where it starts."""

    def __init__(
        self,
        system: System,
        model_noise_std=None,
        start_mean=None,
        start_std=None,
        *,
        model_noise_covariance=None,
        start_covariance=None,
    ):
        self.system, self.labels = as_system(system, slopes=True), system.labels
        self._noise = model_noise(model_noise_std, model_noise_covariance, self.labels)
        self._start_mean, self._start = self._started(start_mean, start_std, start_covariance)
        self.physics(1.0)  # refuses now what it would refuse later
        self.settings = system_settings(system) | noise_settings(self._noise)
        self.settings |= {"start_mean": recorded(self._start_mean)} | noise_settings(self._start, "start")

    def _started(self, start_mean, start_std, start_covariance) -> tuple[Tensor, Covariance]:
        """Mean and covariance of the first state: what is given, what the system knows, or those of draws."""
        start_mean = self.labels.ordered("start_mean", start_mean)
        mean = None if start_mean is None else checks.vector("start_mean", start_mean, self.labels.shape)
        spread = None
        if start_std is not None or start_covariance is not None:
            spread = model_noise(start_std, start_covariance, self.labels, "start")
        if mean is not None and spread is not None:
            return mean, spread
        if (known := self.system.start_moments()) is None:
            own, covariance = self.system.drawn_moments
            spread = Covariance.diagonal(covariance.diagonal().sqrt()) if spread is None else spread
            return own if mean is None else mean, spread
        if spread is None:
            check_spread(self.system, known[1], "Give start_std=, or start_covariance=, a positive definite one.")
            spread = Covariance.full(known[1])
        return known[0] if mean is None else mean, spread

    def started(self, mean: Float[Tensor, " n"], covariance: Float[Tensor, "n n"]) -> Self:
        """The same method from another first state on.

        Raises:
            ValueError: a covariance that is none, or too near to a singular one.
        """
        other = copy(self)
        other._start_mean, other._start = mean, Covariance.full(checks.covariance(covariance, mean.shape))
        return other

    @abstractmethod
    def estimate(self, observations: Observations, dt: float, first_guess: Tensor | None) -> Reconstruction:
        """The method itself, of the model's own states."""

    def reconstruct(self, observations, dt, first_guess):
        if first_guess is not None:
            first_guess = self.system.as_modelled(first_guess.to(observations.value))
        return reported(self.system, self.estimate(modelled(self.system, observations), dt, first_guess))

    def implausibility(self, x, observations, dt):
        return self.physics(dt, observations.times).misfit(self.system.as_modelled(x))

    def physics(self, dt: float, times: Tensor | None = None) -> Physics:
        """The prior for this time step, and for windows of these times if the system depends on them."""
        return Physics(
            partial(self.system.step, dt=dt) if not self.system.depends_on_time else partial(_timed, self.system, dt),
            self._noise,
            self._start_mean,
            self._start,
            times if self.system.depends_on_time else None,
        )


def _timed(system: System, dt: float, x: Tensor, t: Tensor) -> Tensor:
    """A step from states at these times."""
    return system.step(x, dt, t)


class KalmanSmoother(PhysicalMethod):
    """The Kalman (Rauch-Tung-Striebel) smoother: exact for a linear system and h, extended otherwise.

    The extended filter's means are where the dynamics are linearised; then the smoother is one step of the loop. A
    linear system needs no such walk through time.

    Args:
        system: an `nk.System`.
        model_noise_std: of the model error per step, per component or one for all, in state units; positive.
        start_mean, start_std: of the state at the window's start; by default those of the system's own start law.
        model_noise_covariance: Q `(n, n)`, in place of model_noise_std.
        start_covariance: B `(n, n)`, in place of start_std.
    """

    @classmethod
    def fit(cls, windows: xr.DataArray, modes: int | None = None, shrinkage: float | str = 0.0) -> Self:
        """Of a linear model that is itself fitted to past trajectories, by least squares from one step to the next.

        >>> import nida_kit as nk
        >>> past = nk.LinearOscillator().simulate(samples=50, steps=9, dt=0.2, model_noise_std=0.1, seed=0)
        >>> nk.KalmanSmoother.fit(past).assimilate(nk.observe(past[:1], every=4, noise_std=0.1))["mean"].sizes
        Frozen({'sample': 1, 'time': 9, 'component': 2})

        With all modes this is optimal interpolation of order 1, about one mean. With few, what lies outside the leading
        ones is not carried on to the next step; so fewer trajectories of many components do. Errors of the model have
        the covariance of what the fit leaves, the first state has that of the past. Standard deviations are as they
        come, and of windows of one record, or of fields, mostly too small: `nk.coverage` on windows held out says by
        how much, and of fields `OptimalInterpolation.fit_field` has calibrated ones.

        Args:
            windows: `(sample, time, component)`, or those of a field, `(sample, time, y, x)`; NaN where missing. Points
                of a field that are NaN at all times are land, and left out.
            modes: leading principal components of the states through which they are stepped; None is all.
            shrinkage: of the covariance of two consecutive states, as in `Climatology.fit`.

        Raises:
            ValueError: windows that no method can be fitted to, too few of them, or modes out of range.
        """
        windows, values, labels = past_of(windows)
        sea = sea_of(values, labels)
        values = values[..., sea]
        n = values.shape[-1]
        modes = n if modes is None else checks.count("modes", modes, 1, n)
        if values.shape[-2] < 2:
            raise ValueError("windows have one time, and a model goes from one to the next: cut longer ones.")
        shrinkage = amount(shrinkage, values, 1)
        mean, both = moments(stretches_of(values, 1).flatten(0, 1), shrinkage)
        matrix, errors = _least_squares(both, modes)
        start = both[:n, :n]
        if any(not_a_covariance(x) for x in (start, errors)):
            raise ValueError(
                f"{len(values)} windows of {n} components leave a covariance that is singular: they are too few, or "
                'components are constant or sums of others. Try shrinkage="auto", fewer components, or a longer past.'
            )
        # On land a number of its own, which nothing depends on, stands for none.
        mean = mean.new_zeros(len(sea)).masked_scatter(sea, mean.view(2, n).mean(0))
        start, errors = (_among_land(x, sea, 1.0) for x in (start, errors))
        dt = time_step(windows[TIME])
        method = cls(LinearModel(_among_land(matrix, sea, 0.0), labels, dt, mean, start), model_noise_covariance=errors)
        method.dt, method.land = dt, None if sea.all() else ~sea
        method.settings |= {"modes": modes, "shrinkage": shrinkage}
        return method

    def estimate(self, observations, dt, first_guess):
        physics, value = self.physics(dt, observations.times), observations.value
        if first_guess is None and observations.linear and physics.looks_linear():
            anywhere = physics.start_mean.expand(value.shape[-2], -1)  # one linearisation serves all windows
            posterior = _smoothed(physics, observations, anywhere)
            if physics.is_linear_between(anywhere, posterior.mean):
                return Reconstruction([posterior], [0.0], anywhere.expand_as(posterior.mean))
        around = extended_kalman_filter(physics, observations) if first_guess is None else first_guess
        return Reconstruction([_smoothed(physics, observations, around)], [0.0], around)


def _among_land(matrix: Float[Tensor, "m m"], sea: Bool[Tensor, " n"], own: float) -> Float[Tensor, "n n"]:
    """A matrix of the points at sea as one of all points, of which those on land have this on the diagonal."""
    whole = torch.diag((~sea).to(matrix) * own)
    whole[sea.nonzero(), sea.nonzero().mT] = matrix
    return whole


def _least_squares(both: Float[Tensor, "m m"], modes: int) -> tuple[Float[Tensor, "n n"], Float[Tensor, "n n"]]:
    """A through the leading modes of states, and the covariance of x_{t+1} - A x_t, from that of (x_t, x_{t+1})."""
    n = len(both) // 2
    now, cross, after = both[:n, :n], both[n:, :n], both[n:, n:]
    leading = torch.linalg.eigh(now).eigenvectors[:, -modes:]
    within = leading.mT @ now @ leading
    matrix = leading @ torch.linalg.solve(within, leading.mT @ cross @ leading, left=False) @ leading.mT
    errors = after - matrix @ cross.mT - cross @ matrix.mT + matrix @ now @ matrix.mT
    return matrix, (errors + errors.mT) / 2


def _smoothed(physics: Physics, observations: Observations, around: Tensor) -> Gaussian:
    """One step of the loop."""
    return next(incremental(physics, [0.0], observations, Gaussian.flat(around)))
