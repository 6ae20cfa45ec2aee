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

import math

import torch
from torch import Tensor, nn

from nida_kit.gaussian import Gaussian
from nida_kit.linalg.banded import BlockBanded
from nida_kit.priors.climatology import Climatology
from nida_kit.priors.parts import Climate, LocalPrior, embed


class PaperPrior(nn.Module):
    """The network of Blanke et al. (2024): two perceptrons of 4 x 64 tanh layers on the whole window of fixed length.

    One gives mu, the other a factor L of rank 10; P = I + L L', in units of each time step's climatological spread.
    """

    def __init__(self, climatology: Climatology, steps: int, rank: int = 10, width: int = 64):
        super().__init__()
        size = steps * climatology.mean.shape[-1]
        self.settings = {"steps": steps, "rank": rank, "width": width}
        self.climate = Climate(climatology)
        self.mean = self._perceptron(size, width, size)
        self.low_rank = self._perceptron(size, width, size * rank)

    @staticmethod
    def _perceptron(size: int, width: int, out: int) -> nn.Sequential:
        layers: list[nn.Module] = [nn.Linear(size + 16, width), nn.Tanh()]
        for _ in range(3):
            layers += [nn.Linear(width, width), nn.Tanh()]
        return nn.Sequential(*layers, nn.Linear(width, out))

    @property
    def climatology(self) -> Climatology:
        """The climatology that gives the first guess."""
        return self.climate()

    def forward(self, current: Gaussian, s: float | Tensor) -> Gaussian:
        x = current.mean
        steps, n = x.shape[-2:]
        if steps != self.settings["steps"]:
            raise ValueError(f"This network takes windows of {self.settings['steps']} steps only, not {steps}.")
        base = self.climatology.over(steps)
        spread = base.std
        scaled = ((x - base.mean) / spread).flatten(-2).to(self.mean[0].weight.dtype)
        h = torch.cat([scaled, embed(s, scaled.unsqueeze(-2)).squeeze(-2)], -1)
        mean = base.mean + spread * self.mean(h).double().unflatten(-1, (steps, n))
        low_rank = self.low_rank(h).double().unflatten(-1, (steps * n, -1)) / math.sqrt(self.settings["rank"])
        precision = torch.eye(steps * n).to(low_rank) + low_rank @ low_rank.mT
        precision = precision / (spread.flatten()[:, None] * spread.flatten())
        return Gaussian(mean, BlockBanded.from_dense(precision, steps))


Network = LocalPrior | PaperPrior
"""What can be trained."""
