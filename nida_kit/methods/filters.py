"""Filters that carry a mean and a covariance from one time to the next.

    forecast    m^f = M(m),  P^f = B (3D-Var)  or  J P J' + Q (extended Kalman filter)
    analysis    K = P^f H' (H P^f H' + R)^-1,  m = m^f + K (y - h(m^f)),  P = (I - K H) P^f (I - K H)' + K R K'

J and H are the derivatives of model and operator at m and m^f. Both are linearised once; for linear ones the extended
filter is the Kalman filter, which is exact.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nida_kit import checks
from nida_kit.linalg.banded import apply
from nida_kit.linalg.jacobian import FEW, linearise
from nida_kit.linalg.solvers import EPS, MOST, failed
from nida_kit.methods.sequential import (
    Sequential,
    advance,
    model_noise,
    noise_settings,
    reported_moments,
    start_moments,
)
from nida_kit.notes import recorded
from nida_kit.observing.errors import Independent
from nida_kit.observing.observations import Observations
from nida_kit.observing.operators import OverWindow
from nida_kit.priors.physics import Physics
from nida_kit.reconstruction import Moments
from nida_kit.systems.system import System, as_system

LONG = 1_000  # steps: a window that is worth cutting
ROUNDS = 10  # in which a filter that forgets has forgotten any start


def gaussian_filter(
    forecast: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]],
    mean: Float[Tensor, "*batch n"],
    covariance: Float[Tensor, "*batch n n"],
    observations: Observations,
) -> tuple[Moments, Moments]:
    """What is known of each state before and after the analysis of what was observed at its time.

    A walk through time by the same update on windows of one step, but by covariances: without model noise, they become
    singular as directions contract.

    A filter forgets its start. So one long window is cut into segments that walk side by side, each from the law of
    the first state; then those walk again whose start is not where the segment before ended, until none is left. The
    answer is that of one walk, in far fewer calls. A filter that has lost the truth forgets nothing: after some rounds
    the segments left walk one after the other, which takes hardly longer than one walk.

    Args:
        forecast: mean and covariance of the next states, from those of these `(..., C, n)` and their steps `(C,)`.
        mean: of the first state.
        covariance: of the first state.
        observations: of the whole batch.
    """
    value = observations.value
    steps = value.shape[-2]
    alone = value[..., 0, 0].numel() == 1 and covariance.numel() * math.isqrt(steps) < FEW
    # A guessed start may lie where a nonlinear h has no value.
    length = math.isqrt(steps) if alone and steps >= LONG and observations.linear else steps
    begin = torch.arange(0, steps, length)
    mean = mean.expand(*value.shape[:-2], len(begin), -1).clone()
    covariance = covariance.expand(*mean.shape, -1).clone()
    before, after = ([mean.new_empty(*value.shape[:-1], mean.shape[-1]) for _ in range(2)] for _ in range(2))
    waiting, rounds = torch.ones(len(begin), dtype=torch.bool), 0  # segments that have not walked from their start
    while waiting.any():
        walk, rounds = waiting.nonzero().squeeze(-1), rounds + 1
        walk = walk if rounds <= ROUNDS else walk[:1]
        t, m, P = begin[walk], mean[..., walk, :], covariance[..., walk, :, :]
        for k in range(length):
            if k:
                if t[-1] == steps - 1:  # the last segment may be shorter
                    t, m, P = t[:-1], m[..., :-1, :], P[..., :-1, :, :]
                    if not len(t):
                        break
                m, P = forecast(m, P, t)
                t = t + 1
                P = P.expand(*m.shape, -1)
            _keep(before, t, m, P)
            here = observations.at(t)
            if not here.value.isnan().all():
                seen = here.around(m)
                m, P = _analysis(m, P, seen.rows.along_time().squeeze(-3), seen.residual[0])
            _keep(after, t, m, P)
        waiting[walk] = False
        following = walk[walk < len(begin) - 1] + 1
        if len(following):
            m, P = forecast(m[..., : len(following), :], P[..., : len(following), :, :], begin[following] - 1)
            P = P.expand(*m.shape, -1)
            waiting[following] |= _differ(m, P, mean[..., following, :], covariance[..., following, :, :])
            mean[..., following, :], covariance[..., following, :, :] = m, P
    return Moments(before[0], before[1].sqrt()), Moments(after[0], after[1].sqrt())


def _keep(moments: list[Tensor], t: Tensor, mean: Tensor, covariance: Tensor) -> None:
    """Write mean and variances of some times into the whole."""
    moments[0][..., t, :], moments[1][..., t, :] = mean, covariance.diagonal(dim1=-2, dim2=-1)


def _differ(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> Bool[Tensor, " C"]:
    """Which of C states' laws differ in any window by more than rounding can tell."""
    std = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    near = 1e-13 * mean.abs() + 1e-12 * std
    same = ((mean - other_mean).abs() <= near).all(-1)
    scale = std.unsqueeze(-1) * std.unsqueeze(-2)
    same &= ((covariance - other_covariance).abs() <= 1e-12 * scale).all(-1).all(-1)
    return ~same.reshape(-1, same.shape[-1]).all(0)


def _analysis(
    mean: Float[Tensor, "*batch n"],
    covariance: Float[Tensor, "*batch n n"],
    J: Float[Tensor, "*batch p n"],
    r: Float[Tensor, "*batch p"],
) -> tuple[Tensor, Tensor]:
    """`Gaussian.condition` of one state on whitened rows about its mean, by its covariance."""
    cross = J @ covariance
    gain = torch.linalg.solve(cross @ J.mT + torch.eye(r.shape[-1]).to(r), cross).mT
    shrink = torch.eye(mean.shape[-1]).to(mean) - gain @ J
    return mean - apply(gain, r), shrink @ covariance @ shrink.mT + gain @ gain.mT  # Joseph's form stays positive


def extended_kalman_filter(physics: Physics, observations: Observations) -> Float[Tensor, "*batch T n"]:
    """The filtered means, given the observations up to each time; the model is linearised at the state before.

    What cannot be taken one time after the other is left out (an operator over the window) or taken as independent
    (errors correlated in time): these means only say where to linearise.
    """
    value = observations.value
    if isinstance(observations.operator, OverWindow):
        return physics.forecast(value.shape[-2]).expand(*value.shape[:-1], -1)
    if observations.errors.correlated_in_time:
        observations = replace(observations, errors=Independent(observations.noise_std))

    def forecast(mean: Tensor, covariance: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        mean, J = linearise(partial(physics.advanced, t=t), mean, mean.shape[-1])
        return mean, J @ covariance @ J.mT + physics.noise.matrix

    return gaussian_filter(forecast, physics.start_mean, physics.start.matrix, observations)[1].mean


class _GaussianFilter(Sequential):
    """A filter that carries a mean and a covariance."""

    @abstractmethod
    def forecast(self, mean: Tensor, spread: Tensor, dt: float, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean `(W, C, n)` and covariance of the states dt after times t `(C,)`."""

    @abstractmethod
    def start(self) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
        """Mean and covariance of the first state."""

    def walk(self, observations, dt):
        def forecast(mean: Tensor, spread: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
            return self.forecast(mean, spread, dt, observations.times[steps])

        forecasts, analyses = gaussian_filter(forecast, *self.start(), observations)
        # Of a variance that an analysis makes so much smaller, the last digits are those of the larger one.
        left = (analyses.std / forecasts.std).square().nan_to_num(nan=1.0)
        if (bad := (~(MOST * left >= EPS)).flatten(-2).any(-1)).any() or analyses.std.isnan().any():
            lost = bad | (analyses.std.isnan() & forecasts.std.isfinite()).flatten(-2).any(-1)
            if lost.any():
                raise failed("the standard deviation", lost)
        return reported_moments(self.system, {"forecast": forecasts, "analysis": analyses})


class ThreeDVar(_GaussianFilter):
    """3D-Var: a forecast of the mean alone, analysed with a covariance that never changes (Lorenc 1986).

    >>> import nida_kit as nk
    >>> system = nk.Lorenz63()
    >>> truth = system.simulate(samples=1, steps=40, dt=0.05, seed=0)
    >>> obs = nk.observe(truth, every=4, noise_std=1.0, seed=1)
    >>> import numpy as np
    >>> result = nk.ThreeDVar(system, background=10.0 * np.eye(3)).assimilate(obs)
    >>> bool(nk.rmse(result["mean"], truth) < 5.0)  # the climatology has 8.6
    True

    A nonlinear h is linearised once, at the forecast.

    Args:
        system: an `nk.System`; the first mean is that of its `start`.
        background: covariance of a forecast's error, `(n, n)`, state units; often a share of the climatological one.
    """

    def __init__(self, system: System, background):
        labels = as_system(system).labels
        self.background = checks.covariance(labels.ordered("background", background), labels.shape, "background")
        super().__init__(system, background=str(recorded(self.background)))
        self._mean = start_moments(system)[0]

    def start(self):
        return self._mean, self.background

    def forecast(self, mean, spread, dt, t):
        return advance(self.system, dt, mean, t), self.background


class ExtendedKalmanFilter(_GaussianFilter):
    """The Kalman filter, with the model linearised at the analysis; its smoother is `nk.KalmanSmoother`.

    >>> import nida_kit as nk
    >>> system = nk.Lorenz63()
    >>> truth = system.simulate(samples=1, steps=40, dt=0.05, seed=0)
    >>> obs = nk.observe(truth, every=4, noise_std=1.0, seed=1)
    >>> result = nk.ExtendedKalmanFilter(system, model_noise_std=0.1).assimilate(obs)
    >>> bool(nk.rmse(result["mean"], truth) < 3.0)  # the climatology has 8.6
    True

    Args:
        system: an `nk.System`; the first mean and covariance are those of its `start`.
        model_noise_std: of the model error per step, per component or one for all, in state units; may be 0.
        model_noise_covariance: Q `(n, n)`, in place of model_noise_std.
        inflation: factor on the forecast's covariance per unit of time, against the error of linearising.
    """

    def __init__(self, system: System, model_noise_std=0.0, *, model_noise_covariance=None, inflation: float = 1.0):
        self.noise = model_noise(model_noise_std, model_noise_covariance, as_system(system).labels)
        self.inflation = checks.positive("inflation", inflation)
        super().__init__(system, **noise_settings(self.noise), inflation=self.inflation)
        as_system(system, slopes=True)
        self._start = start_moments(system)

    def start(self):
        return self._start

    def forecast(self, mean, spread, dt, t):
        mean, J = linearise(lambda x: advance(self.system, dt, x, t), mean, mean.shape[-1])
        return mean, self.inflation**dt * J @ spread @ J.mT + self.noise.matrix
