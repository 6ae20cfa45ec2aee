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
from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import relu

from nida_kit.gaussian import Gaussian
from nida_kit.linalg.banded import BlockBanded
from nida_kit.priors.climatology import Climatology

Streams = list[Tensor]
"""Features `(B, T, c)`: the even ones, and where the system has a symmetry the odd ones."""


def embed(s: float | Tensor, like: Tensor, waves: int = 8) -> Float[Tensor, "*batch one e"]:
    """Sines and cosines of the temperature at geometric frequencies, continuous in s: `(..., 1, 2 waves)`."""
    s = torch.as_tensor(s, dtype=like.dtype, device=like.device).expand(like.shape[:-2])[..., None, None]
    angles = s * math.pi * 2.0 ** torch.linspace(-1, 4, waves, dtype=like.dtype, device=like.device)
    return torch.cat([angles.sin(), angles.cos()], -1)


def temperature_features(width: int) -> nn.Sequential:
    """From the embedded temperature to what it adds to the features."""
    return nn.Sequential(nn.Linear(16, width), nn.SiLU(), nn.Linear(width, width))


class Climate(nn.Module):
    """A climatology as buffers, so that it travels with the weights."""

    def __init__(self, climatology: Climatology):
        super().__init__()
        for name in ("mean", "factor", "spread"):
            self.register_buffer(name, getattr(climatology, name).double().clone())

    def __call__(self) -> Climatology:
        return Climatology(self.mean, self.factor, self.spread)


class StreamwiseLinear(nn.Module):
    """A linear map of each stream on its own; a constant is even, so only the even stream has a bias."""

    def __init__(self, streams: int, inside: int, outside: int):
        super().__init__()
        self.maps = nn.ModuleList([nn.Linear(inside, outside, bias=i == 0) for i in range(streams)])

    def forward(self, h: Streams) -> Streams:
        return [linear(x) for linear, x in zip(self.maps, h, strict=True)]


def normalised(h: Streams) -> Streams:
    """Unit mean square over all channels of all streams (Zhang & Sennrich 2019, arXiv:1910.07467)."""
    power = sum(x.square().mean(-1, keepdim=True) for x in h) / len(h)
    scale = torch.rsqrt(power + 1e-6)
    return [x * scale for x in h]


def rectified(h: Streams) -> Streams:
    """Twice the even and odd part of a rectified unit and of its mirror image; of one stream alone, the unit itself."""
    if len(h) == 1:
        return [relu(h[0])]
    even, odd = h
    here, mirrored = relu(even + odd), relu(even - odd)
    return [here + mirrored, here - mirrored]


class LocalPrior(nn.Module, ABC):
    r"""A network's Gaussian around the current estimate.

    It sees the estimate, the log marginal standard deviation of the current Gaussian, and the temperature; never an
    observation or its operator, so it serves any. It returns a correction of the estimate, and a row of F for each
    step, all in climatological units.

    Attributes:
        settings: the constructor's, for the weight file.
        temperature: the features that the temperature adds.
    """

    settings: dict[str, Any]
    temperature: nn.Sequential

    def __init__(self, climatology: Climatology):
        super().__init__()
        self.climate = Climate(climatology)

    @property
    def climatology(self) -> Climatology:
        """The climatology that gives the first guess."""
        return self.climate()

    def forward(self, current: Gaussian, s: float | Tensor) -> Gaussian:
        climatology = self.climatology
        estimate, spread = current.mean, climatology.spread
        dtype = self.temperature[0].weight.dtype
        scaled = ((estimate - climatology.mean[-1]) / spread).to(dtype)
        log_std = (current.std / spread).log().to(dtype).detach()
        correction, factor = self.says(*torch.broadcast_tensors(scaled, log_std), s)
        return Gaussian(estimate + correction * spread, BlockBanded.gram(factor / spread))

    @abstractmethod
    def says(
        self, scaled: Float[Tensor, "*batch T n"], log_std: Float[Tensor, "*batch T n"], s: float | Tensor
    ) -> tuple[Float[Tensor, "*batch T n"], Float[Tensor, "*batch T w n n"]]:
        """The correction, and the rows of F as `BlockBanded.gram` takes them, in float64 and climatological units."""
