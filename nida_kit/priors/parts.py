r"""What networks are made of: streams of features, the temperature, and the Gaussian that they return.

A network is a prior that depends on the estimate: F (x - mu) ~ N(0, I), where it gives the correction mu - x_hat and
the rows of F, in climatological units.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import relu
from torch.overrides import TorchFunctionMode

from nida_kit import checks, html
from nida_kit.gaussian import Gaussian
from nida_kit.linalg.rows import Banded, Diagonal, Rows
from nida_kit.priors.climatology import Climatology

PART = 6000  # values of windows that a network sees at once

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


class Seeded(TorchFunctionMode):
    """Within it, a new network's parameters are drawn from a seed of its own, in this thread alone.

    They are the numbers that `torch.manual_seed` would lead to, and torch's global ones stay where they are.

    >>> with Seeded(0):
    ...     first = nn.Linear(1, 1).weight.item()
    >>> with Seeded(0):
    ...     again = nn.Linear(1, 1).weight.item()
    >>> first == again
    True
    """

    def __init__(self, seed: int):
        super().__init__()
        self.generator = torch.Generator().manual_seed(checks.seed(seed))

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        # Those of torch.nn.init say so, and hand it on.
        draws = func in (Tensor.uniform_, Tensor.normal_) or "generator" in kwargs
        return func(*args, **(kwargs | ({"generator": self.generator} if draws else {})))


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


def network_card(prior: nn.Module) -> str:
    """What a network shows of itself in a notebook: its size, what it knows, how it was made."""
    about = {
        "weights": sum(p.numel() for p in prior.parameters()),
        "components": prior.climatology.mean.shape[-1],
        "order of its climatology": len(prior.climatology.mean) - 1,
    }
    return html.card(type(prior).__name__, about | prior.settings)


class LocalPrior(nn.Module, ABC):
    r"""A network's Gaussian around the current estimate.

    It sees the estimate, the log marginal standard deviation of the current Gaussian, and the temperature; never an
    observation or its operator, so it serves any. It returns a correction of the estimate, and a row of F for each
    step, all in climatological units.

    Attributes:
        settings: the constructor's keywords besides the climatology, for the weight file.
        temperature: the features that the temperature adds.
        kinds: all subclasses by name, by which a weight file finds its own.
    """

    settings: dict[str, Any]
    temperature: nn.Sequential
    kinds: ClassVar[dict[str, type[LocalPrior]]] = {}

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        known = LocalPrior.kinds.setdefault(cls.__name__, cls)
        if known.__module__ != cls.__module__:
            raise ValueError(
                f"There is a network {cls.__name__} in {known.__module__} already, and weight files find theirs by "
                "this name: give the class another one."
            )
        LocalPrior.kinds[cls.__name__] = cls  # the latest, where a notebook's cell has run again

    def __init__(self, climatology: Climatology):
        super().__init__()
        self.climate = Climate(climatology)

    def _repr_html_(self) -> str:
        return network_card(self)

    @property
    def climatology(self) -> Climatology:
        """The climatology that gives the first guess."""
        return self.climate()

    def forward(self, current: Gaussian, s: float | Tensor) -> Gaussian:
        climatology = self.climatology
        estimate, spread = current.estimate, climatology.spread
        dtype = self.temperature[0].weight.dtype
        scaled = ((estimate - climatology.mean[-1]) / spread).to(dtype)
        log_std = (current.std / spread).log().to(dtype).detach()
        correction, factor = self._by_parts(*torch.broadcast_tensors(scaled, log_std), s)
        return Gaussian.of(estimate + correction * spread, self.rows_of(factor, spread))

    def _by_parts(self, scaled: Tensor, log_std: Tensor, s: float | Tensor) -> tuple[Tensor, Tensor]:
        """The local model; without gradients of a few windows at a time, so that its features fit in the cache."""
        *batch, steps, n = scaled.shape
        each = max(1, PART // (steps * n))
        if torch.is_grad_enabled() or scaled.is_cuda or math.prod(batch) <= each:
            return self.local_model(scaled, log_std, s)
        temperatures = torch.as_tensor(s, dtype=scaled.dtype, device=scaled.device).expand(batch).reshape(-1)
        windows = (x.reshape(-1, steps, n).split(each) for x in (scaled, log_std))
        parts = zip(*windows, temperatures.split(each), strict=True)
        found = zip(*(self.local_model(*part) for part in parts), strict=True)
        correction, factor = (torch.cat(pieces).unflatten(0, batch) for pieces in found)
        return correction, factor

    def rows_of(self, factor: Tensor, spread: Float[Tensor, " n"]) -> Rows:
        """F in the state's units."""
        return Banded(factor / spread)

    def around(self, x: Float[Tensor, "*batch T n"], s: float | Tensor = 0.0) -> Gaussian:
        """What the network says around x if no more than the climatological spread is known, written about x."""
        spread = self.climatology.spread
        return self(Gaussian.of(x, Diagonal((1 / spread).expand_as(x))), s).around(x)

    def misfit(self, x: Float[Tensor, "*batch T n"], s: float | Tensor = 0.0) -> Float[Tensor, "*batch"]:
        """Half the squared residuals of that at x."""
        return self.around(x, s).misfit(x)

    @abstractmethod
    def local_model(
        self, scaled: Float[Tensor, "*batch T n"], log_std: Float[Tensor, "*batch T n"], s: float | Tensor
    ) -> tuple[Float[Tensor, "*batch T n"], Float[Tensor, "*batch T w n n"]]:
        """The correction, and the rows of F as `Banded` takes them, in float64 and climatological units."""
