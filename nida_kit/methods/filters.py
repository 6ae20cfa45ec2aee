"""The loop: ask a prior for a Gaussian around the current estimate, condition it on the observations, move there.

    for s in schedule:                        # temperatures, 1 = coarse ... 0 = sharp
        x_s     = s x_0 + (1 - s) x_hat       # what the prior sees: between the first guess and the estimate
        N(mu, P^-1) = prior(x_s, s)
        A       = P + H' R^-1 H
        x_hat   = mu + A^-1 H' R^-1 (y - H mu)

Optimal interpolation, the Kalman smoother, weak-constraint 4D-Var and neural incremental assimilation are this loop
with different priors (Blanke, Fablet and Lelarge 2024, arXiv:2406.15076). A nonlinear h is linearised anew at each
step, at the prior's centre; a prior that knows nothing of h takes several such steps, `descended`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit.checks import covariance, noise, positive
from nida_kit.linalg.jacobian import linearise
from nida_kit.methods.sequential import Sequential, start_moments
from nida_kit.observing.observations import Observations
from nida_kit.priors.physics import Physics
from nida_kit.reconstruction import Moments
from nida_kit.systems.system import System, as_system


def gaussian_filter(
    forecast: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    mean: Float[Tensor, "*batch n"],
    covariance: Float[Tensor, "*batch n n"],
    observations: Observations,
) -> Iterator[tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]]:
    """Mean and covariance of each state before and after the analysis of what was observed at its time.

    A walk through time by the same update on windows of one step, but by covariances: without model noise, they become
    singular as directions contract.

    Args:
        forecast: mean and covariance of the next state, from those of this one.
        mean: of the first state.
        covariance: of the first state.
        observations: of the whole batch.
    """
    value = observations.value
    mean = mean.expand(*value.shape[:-2], -1)
    covariance = covariance.expand(*mean.shape, -1)
    for t in range(value.shape[-2]):
        if t:
            mean, covariance = forecast(mean, covariance)
            covariance = covariance.expand(*mean.shape, -1)
        before, here = (mean, covariance), observations.at(t)
        if not here.value.isnan().all():
            H, R, y = here.linearise(mean.unsqueeze(-2))
            mean, covariance = _analysis(mean, covariance, H.squeeze(-3), R.squeeze(-2), y.squeeze(-2))
        yield before, (mean, covariance)


def _analysis(mean: Tensor, covariance: Tensor, H: Tensor, R: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """`Gaussian.condition` of one state `(..., n)`, by its covariance."""
    seen = ~y.isnan()
    H = H * seen.unsqueeze(-1)
    innovation = torch.where(seen, y, 0.0) - (H @ mean.unsqueeze(-1)).squeeze(-1)
    cross = H @ covariance
    gain = torch.linalg.solve(cross @ H.mT + torch.diag_embed(R.expand_as(y)), cross).mT
    mean = mean + (gain @ innovation.unsqueeze(-1)).squeeze(-1)
    shrink = torch.eye(mean.shape[-1]).to(mean) - gain @ H
    return mean, shrink @ covariance @ shrink.mT + gain * R.unsqueeze(-2) @ gain.mT  # Joseph's form stays positive


def extended_kalman_filter(physics: Physics, observations: Observations) -> Float[Tensor, "*batch T n"]:
    """The filtered means, given the observations up to each time; the model is linearised at the state before."""

    def forecast(mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
        mean, J = linearise(physics.step, mean)
        return mean, J @ covariance @ J.mT + torch.diag_embed(physics.noise_std**2)

    start = physics.start_mean, torch.diag_embed(physics.start_std**2)
    return torch.stack([mean for _, (mean, _) in gaussian_filter(forecast, *start, observations)], -2)


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
