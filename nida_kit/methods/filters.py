"""Filters that carry a mean and a covariance from one time to the next.

    forecast    m^f = M(m),  P^f = B (3D-Var)  or  J P J' + Q (extended Kalman filter)
    analysis    K = P^f H' (H P^f H' + R)^-1,  m = m^f + K (y - h(m^f)),  P = (I - K H) P^f (I - K H)' + K R K'

J and H are the derivatives of model and operator at m and m^f. Both are linearised once; for linear ones the extended
filter is the Kalman filter, which is exact.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit import checks
from nida_kit.linalg.jacobian import linearise
from nida_kit.linalg.rows import apply
from nida_kit.methods.sequential import Sequential, advance, model_noise, noise_settings, start_moments
from nida_kit.observing.errors import Independent
from nida_kit.observing.observations import Observations
from nida_kit.observing.operators import OverWindow
from nida_kit.priors.physics import Physics
from nida_kit.reconstruction import Moments
from nida_kit.systems.system import System, as_system


def gaussian_filter(
    forecast: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]],
    mean: Float[Tensor, "*batch n"],
    covariance: Float[Tensor, "*batch n n"],
    observations: Observations,
) -> Iterator[tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]]:
    """Mean and covariance of each state before and after the analysis of what was observed at its time.

    A walk through time by the same update on windows of one step, but by covariances: without model noise, they become
    singular as directions contract.

    Args:
        forecast: mean and covariance of the next state, from those of this one and its number.
        mean: of the first state.
        covariance: of the first state.
        observations: of the whole batch.
    """
    value = observations.value
    mean = mean.expand(*value.shape[:-2], -1)
    covariance = covariance.expand(*mean.shape, -1)
    for t in range(value.shape[-2]):
        if t:
            mean, covariance = forecast(mean, covariance, t - 1)
            covariance = covariance.expand(*mean.shape, -1)
        before, here = (mean, covariance), observations.at(t)
        if not here.value.isnan().all():
            seen = here.around(mean.unsqueeze(-2))
            mean, covariance = _analysis(mean, covariance, seen.rows.dense(), seen.residual[0].squeeze(-2))
        yield before, (mean, covariance)


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

    def forecast(mean: Tensor, covariance: Tensor, t: int) -> tuple[Tensor, Tensor]:
        mean, J = linearise(partial(physics.advanced, t=t), mean, mean.shape[-1])
        return mean, J @ covariance @ J.mT + physics.noise.matrix

    start = physics.start_mean, physics.start.matrix
    return torch.stack([mean for _, (mean, _) in gaussian_filter(forecast, *start, observations)], -2)


class _GaussianFilter(Sequential):
    """A filter that carries a mean and a covariance."""

    @abstractmethod
    def forecast(self, mean: Tensor, spread: Tensor, dt: float, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean `(W, n)` and covariance of the state dt after time t."""

    @abstractmethod
    def start(self) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
        """Mean and covariance of the first state."""

    def walk(self, observations, dt):
        def forecast(mean: Tensor, spread: Tensor, k: int) -> tuple[Tensor, Tensor]:
            return self.forecast(mean, spread, dt, observations.times[k])

        steps = gaussian_filter(forecast, *self.start(), observations)
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
        self.background = checks.covariance(background, as_system(system).labels.size, "background")
        super().__init__(system, background=str(self.background.tolist()))
        self._mean = start_moments(system)[0]

    def start(self):
        return self._mean, self.background

    def forecast(self, mean, spread, dt, t):
        return advance(self.system, dt, mean, t), self.background


class ExtendedKalmanFilter(_GaussianFilter):
    """The Kalman filter, with the model linearised at the analysis; its smoother is `nk.KalmanSmoother`.

    Args:
        system: an `nk.System`; the first mean and covariance are those of its `start`.
        model_noise_std: of the model error per step, per component or one for all, in state units; may be 0.
        model_noise_covariance: Q `(n, n)`, in place of model_noise_std.
        inflation: factor on the forecast's covariance per unit of time, against the error of linearising.
    """

    def __init__(self, system: System, model_noise_std=0.0, *, model_noise_covariance=None, inflation: float = 1.0):
        self.noise = model_noise(model_noise_std, model_noise_covariance, as_system(system).labels.size)
        self.inflation = checks.positive("inflation", inflation)
        super().__init__(system, **noise_settings(self.noise), inflation=self.inflation)
        self._start = start_moments(system)

    def start(self):
        return self._start

    def forecast(self, mean, spread, dt, t):
        mean, J = linearise(lambda x: advance(self.system, dt, x, t), mean, mean.shape[-1])
        return mean, self.inflation**dt * J @ spread @ J.mT + self.noise.matrix
