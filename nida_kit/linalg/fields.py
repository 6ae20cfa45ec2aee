"""Generators of fields: how a Gaussian over many thousand values is made of independent numbers, x = c + L z.

Each is a kind of rows (`rows.py`): `push` is L, `pull` its adjoint, and z one flat vector, `(..., 1, N)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit.linalg.pyramid import Shape, coarser, finer, shapes

_LARGE = 2**19  # values, two megabytes


@dataclass(frozen=True)
class Pyramid:
    """Noise of several scales, each an octave coarser than the one before, and each with its own memory in time.

    The finest scale may be coarser than the field itself: then fields are smooth.

    Attributes:
        amplitude: of each scale, fine to coarse, `(..., T, h, w)` on grids of `pyramid.shapes`.
        mixing: of each scale, `(T, T)`: independent steps become ones with a memory.
        inside: what the sum is multiplied by, `(y, x)`: 1 or another factor, and 0 on land.
    """

    amplitude: tuple[Float[Tensor, "*_ T _ _"], ...]
    mixing: tuple[Float[Tensor, "T T"], ...]
    inside: Float[Tensor, "y x"]

    @property
    def shape(self) -> Shape:
        """Of the field."""
        return tuple(self.inside.shape)

    @cached_property
    def grids(self) -> list[Shape]:
        """From the field's to the coarsest."""
        own = [tuple(a.shape[-2:]) for a in self.amplitude]
        chain = shapes(self.shape, 12)
        return chain[: chain.index(own[-1]) + 1]

    @property
    def _sizes(self) -> list[int]:
        return [a.shape[-3:].numel() for a in self.amplitude]

    @property
    def noise(self) -> tuple[int, ...]:
        """The shape of z."""
        batch = torch.broadcast_shapes(*(a.shape[:-3] for a in self.amplitude))
        return (*batch, 1, sum(self._sizes))

    def push(self, v):
        above, total = len(self.grids) - len(self.amplitude), None
        parts = v.squeeze(-2).split(self._sizes, -1)
        for k in reversed(range(len(self.amplitude))):
            a = self.amplitude[k]
            mixed = self.mixing[k] @ parts[k].unflatten(-1, (a.shape[-3], -1))
            mixed = a * mixed.unflatten(-1, a.shape[-2:])
            total = mixed if total is None else finer(total, self.grids[above + k]) + mixed
        return self._by_step(partial(self._to_field, above), total).flatten(-2)

    def pull(self, w):
        above, parts = len(self.grids) - len(self.amplitude), []
        field = self._by_step(partial(self._from_field, above), w.unflatten(-1, self.shape))
        for k, (a, mix) in enumerate(zip(self.amplitude, self.mixing, strict=True)):
            if k:
                field = coarser(field)
            parts.append((mix.mT @ (a * field).flatten(-2)).flatten(-2))
        batch = torch.broadcast_shapes(*(p.shape[:-1] for p in parts))
        return torch.cat([p.expand(*batch, -1) for p in parts], -1).unsqueeze(-2)

    def _to_field(self, above: int, x: Tensor) -> Tensor:
        for shape in reversed(self.grids[:above]):
            x = finer(x, shape)
        return x * self.inside

    def _from_field(self, above: int, x: Tensor) -> Tensor:
        x = x * self.inside
        for _ in range(above):
            x = coarser(x)
        return x

    def _by_step(self, change: Callable[[Tensor], Tensor], x: Float[Tensor, "*_ T a b"]) -> Float[Tensor, "*_ T c d"]:
        """A change of each step by itself: of large fields one after the other, which stay in the processor's cache."""
        if x.shape[-3] * self.inside.numel() < _LARGE:
            return change(x)
        return torch.stack([change(step) for step in x.unbind(-3)], -3)


@dataclass(frozen=True)
class Scaled:
    """A generator of noise that has other sizes than one: x = c + L (scale z).

    Attributes:
        generator: L.
        scale: of each number, in the shape of z.
    """

    generator: Pyramid
    scale: Float[Tensor, "*_ a b"]

    def push(self, v):
        return self.generator.push(self.scale * v)

    def pull(self, w):
        return self.scale * self.generator.pull(w)


def memory(steps: int, time: Tensor) -> Float[Tensor, "T T"]:
    """Mixing of independent steps into ones that are alike for about `time` steps, of unit variance."""
    t = torch.arange(steps).to(time)
    q = torch.exp(-((t[:, None] - t) / time).square() / 2) + 1e-3
    return q / q.square().sum(1, keepdim=True).sqrt()
