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

from typing import Protocol, runtime_checkable

from torch import Tensor

from nida_kit.gaussian import Gaussian


@runtime_checkable
class Prior(Protocol):
    """What the assimilation loop asks."""

    def __call__(self, current: Gaussian, s: float | Tensor) -> Gaussian:
        """The local Gaussian prior around the current estimate at temperature s (a number, or one per window)."""
