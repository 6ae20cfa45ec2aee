"""The network of Blanke et al. (2024, arXiv:2406.15076), for comparison: a window of fixed length, P = I + L L'."""

from __future__ import annotations

import math
from typing import SupportsIndex

import torch
from torch import Tensor, nn

from nida_kit import checks
from nida_kit.gaussian import Gaussian
from nida_kit.linalg.rows import Whole
from nida_kit.priors.climatology import Climatology
from nida_kit.priors.field import FieldPrior
from nida_kit.priors.parts import Climate, LocalPrior, embed, network_card


class PaperPrior(nn.Module):
    """The network of Blanke et al. (2024): two perceptrons of 4 x 64 tanh layers on the whole window of fixed length.

    >>> import nida_kit as nk
    >>> prior, card = nk.load("lorenz63_paper")
    >>> isinstance(prior, nk.PaperPrior)
    True

    One gives mu, the other a factor L of rank 10; P = I + L L', in units of each time step's climatological spread.
    """

    def __init__(
        self, climatology: Climatology, steps: SupportsIndex, rank: SupportsIndex = 10, width: SupportsIndex = 64
    ):
        steps, rank, width = (
            checks.count(name, value, 1) for name, value in (("steps", steps), ("rank", rank), ("width", width))
        )
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

    def _repr_html_(self) -> str:
        return network_card(self)

    @property
    def climatology(self) -> Climatology:
        """The climatology that gives the first guess."""
        return self.climate()

    def forward(self, current: Gaussian, s: float | Tensor) -> Gaussian:
        x = current.estimate
        steps, n = x.shape[-2:]
        known = self.settings["steps"]
        checks.within_reach(steps, known, "this network takes windows of exactly")
        if steps < known:
            raise ValueError(
                f"This network takes windows of {known} steps only, not {steps}: nk.extend(obs, {known - steps}) adds "
                "steps without values."
            )
        base = self.climatology.over(steps)
        spread = base.std
        scaled = ((x - base.mean) / spread).flatten(-2).to(self.mean[0].weight.dtype)
        h = torch.cat([scaled, embed(s, scaled.unsqueeze(-2)).squeeze(-2)], -1)
        mean = base.mean + spread * self.mean(h).double().unflatten(-1, (steps, n))
        low_rank = self.low_rank(h).double().unflatten(-1, (steps * n, -1)) / math.sqrt(self.settings["rank"])
        unit = torch.eye(steps * n).to(low_rank).expand(*low_rank.shape[:-2], -1, -1)
        rows = torch.cat([unit, low_rank.mT], -2) / spread.flatten()
        return Gaussian.of(mean, Whole(rows.unflatten(-1, (steps, n))))

    def around(self, x: Tensor, s: float | Tensor = 0.0) -> Gaussian:
        """What the network says around x, written about x."""
        return self(Gaussian.flat(x), s).around(x)

    def misfit(self, x: Tensor, s: float | Tensor = 0.0) -> Tensor:
        """Half the squared residuals of that at x."""
        return self.around(x, s).misfit(x)


Network = LocalPrior | PaperPrior | FieldPrior
"""What can be trained."""
