"""Priors: what is known about a trajectory before it is observed, as a Gaussian around the current estimate.

A prior is a function of the current Gaussian (its mean is the estimate) and the temperature s, 1 = coarse, 0 = sharp:

    prior(current, s) -> Gaussian

* `Climatology` does not look at the estimate: mean and covariance of past trajectories.
* `Physics` linearises the dynamics x_{t+1} ~ N(M(x_t), Q) at the estimate.
* `NeuralPrior` is a network that corrects the estimate and says how sure it is, with no physics at run time.
* `RingPrior` is such a network for a ring of like sites, of any number.
* `PaperPrior` is the network of Blanke et al. (2024), for comparison.

All but the last write their precision as P = F' F with a block-banded F, whose row t is what they know of x_t given the
steps before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from nida_kit.gaussian import Gaussian
from nida_kit.linalg.banded import BlockBanded
from nida_kit.linalg.jacobian import linearise


@dataclass(frozen=True)
class Physics:
    """The dynamics, linearised at the estimate: the Gauss-Newton view of weak-constraint 4D-Var.

    x_0 ~ N(start_mean, start_std^2) and x_{t+1} ~ N(M(x_t), noise_std^2), componentwise: B and Q are diagonal. Around
    the estimate x, with Jacobians J_t of M, the prior's log density is that of the residuals r_0 = x_0 - start_mean,
    r_{t+1} = x_{t+1} - M(x_t); hence row t of F is (I, -J_{t-1}) / noise_std, and the information that pulls away from
    x is -F' r.

    Attributes:
        step: M, from `(..., n)` to `(..., n)`, torch, one time step.
        noise_std: of the model error per step, `(n,)`, positive.
        start_mean: `(n,)`.
        start_std: `(n,)`, positive.
    """

    step: Callable[[Tensor], Tensor]
    noise_std: Float[Tensor, " n"]
    start_mean: Float[Tensor, " n"]
    start_std: Float[Tensor, " n"]

    def __post_init__(self):
        for name in ("noise_std", "start_std"):
            std = getattr(self, name)
            if not (std.isfinite() & (std > 0)).all():
                raise ValueError(
                    f"{name} = {std.tolist()} must be positive: with an exact model the trajectory's precision is "
                    "infinite. Give a small model noise, or use a strong-constraint method."
                )

    def _scales(self, steps: int) -> Tensor:
        return torch.stack([self.start_std] + [self.noise_std] * (steps - 1))

    def _residuals(self, x: Tensor, forecast: Tensor) -> Tensor:
        """R / std, the whitened residuals of a trajectory whose states forecast `forecast`."""
        expected = torch.cat([self.start_mean.expand_as(x[..., :1, :]), forecast], -2)
        return (x - expected) / self._scales(x.shape[-2])

    def __call__(self, current: Gaussian, s: float | Tensor = 0.0) -> Gaussian:
        return self.around(current.mean)

    def around(self, x: Float[Tensor, "*batch T n"]) -> Gaussian:
        """The linearised prior, centred at x."""
        forecast, J = linearise(self.step, x[..., :-1, :])
        scales = self._scales(x.shape[-2])
        now = torch.diag_embed(1 / scales).expand(*x.shape, -1)
        before = pad(-J, (0, 0, 0, 0, 1, 0)) / scales.unsqueeze(-1)
        residuals = self._residuals(x, forecast)
        pull = -(residuals / scales)
        pull = pull - pad((before[..., 1:, :, :].mT @ residuals[..., 1:, :, None]).squeeze(-1), (0, 0, 0, 1))
        return Gaussian(x, BlockBanded.gram(torch.stack([now, before], -3)), pull)

    def misfit(self, x: Float[Tensor, "*batch T n"]) -> Float[Tensor, "*batch"]:
        """-log density up to a constant: half the squared whitened residuals."""
        return self._residuals(x, self.step(x[..., :-1, :])).square().sum((-2, -1)) / 2

    def forecast(self, steps: int) -> Float[Tensor, "T n"]:
        """The noise-free trajectory from the start's mean: a first guess that needs no data."""
        states = [self.start_mean]
        for _ in range(steps - 1):
            states.append(self.step(states[-1]))
        return torch.stack(states)
