"""Generators of fields: how a Gaussian over many thousand values is made of independent numbers, x = c + L z.

Each is a kind of rows (`rows.py`): `push` is L, `pull` its adjoint, and z one flat vector, `(..., 1, N)`, of which
`noise` is the shape. They add up (`Sum`), and a model carries them through time (`Propagated`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d

from nida_kit.linalg.pyramid import Shape, coarser, finer, shapes, splines
from nida_kit.linalg.rows import Rows

_LARGE = 2**19  # values, two megabytes


def nearest_at_sea(sea: Bool[Tensor, " n"], shape: Sequence[int]) -> Int[Tensor, " n"]:
    """Of each point of a grid the nearest one at sea, which at sea is itself."""
    from scipy.ndimage import distance_transform_edt  # here, for few fields have land

    land = ~sea.view(tuple(shape)).cpu().numpy()
    at = distance_transform_edt(land, return_distances=False, return_indices=True)
    return torch.from_numpy(np.ravel_multi_index(tuple(at), tuple(shape)).ravel()).to(sea.device)


class Generator(Rows, Protocol):
    """A square root L of a covariance; it also offers `to(dtype)`."""

    @property
    def noise(self) -> tuple[int, ...]:
        """The shape of z; z may have more leading axes."""


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

    def to(self, dtype: torch.dtype) -> Pyramid:
        """The same in another precision."""
        return Pyramid(
            *(tuple(x.to(dtype) for x in own) for own in (self.amplitude, self.mixing)), self.inside.to(dtype)
        )


@dataclass(frozen=True)
class Scaled:
    """A generator of noise that has other sizes than one: x = c + L (scale z).

    Attributes:
        generator: L.
        scale: of each number, in the shape of z.
    """

    generator: Generator
    scale: Float[Tensor, "*_ a b"]

    @property
    def noise(self) -> tuple[int, ...]:
        """The shape of z."""
        return self.generator.noise

    def push(self, v):
        return self.generator.push(self.scale * v)

    def pull(self, w):
        return self.scale * self.generator.pull(w)

    def to(self, dtype: torch.dtype) -> Scaled:
        """The same in another precision."""
        return Scaled(self.generator.to(dtype), self.scale.to(dtype))


def memory(steps: int, time: Tensor) -> Float[Tensor, "T T"]:
    """Mixing of independent steps into ones that are alike for about `time` steps, of unit variance."""
    t = torch.arange(steps).to(time)
    q = torch.exp(-((t[:, None] - t) / time).square() / 2) + 1e-3
    return q / q.square().sum(1, keepdim=True).sqrt()


@dataclass(frozen=True)
class Ensemble:
    r"""Combinations of known trajectories whose weights vary slowly in space, and not in time.

        x_t = sum_k E_{k,t} v_k / sqrt(r),    cov = (1/r sum_k E_k E_k') * rho

    with v_k of unit variance and correlation rho. So what lies far apart is independent, whatever few members say of it
    (the extended control variable of Lorenc 2003, doi:10.1256/qj.02.132).

    Attributes:
        members: E, departures from the mean, `(r, T, n)`.
        shape: of the field.
        octaves: the weights are splines with knots at every 2^octaves-th point.
    """

    members: Float[Tensor, "r T n"]
    shape: Shape
    octaves: int

    @cached_property
    def grids(self) -> list[Shape]:
        """From the field's to that of the knots."""
        return shapes(self.shape, self.octaves)

    @property
    def noise(self) -> tuple[int, int]:
        """The shape of z."""
        return 1, len(self.members) * math.prod(self.grids[-1])

    @cached_property
    def _scale(self) -> Float[Tensor, "y x"]:
        """What makes the variance of a member's weight 1 / r; splines of a plane are products along its axes."""
        y, x = (self._along(axis).square().sum(1) for axis in (0, 1))
        return (y[:, None] * x * len(self.members)).rsqrt()

    def _along(self, axis: int) -> Float[Tensor, "n knots"]:
        """The splines along an axis, one in a column."""
        product = torch.eye(self.grids[-1][axis]).to(self.members)
        for grid in reversed(self.grids[:-1]):
            product = splines(grid[axis], product.dtype, product.device) @ product
        return product

    @cached_property
    def _at_points(self) -> Float[Tensor, "n r T"]:
        """E as products at each point need it: else it would be copied for each of them."""
        return self.members.permute(2, 0, 1).contiguous()

    @cached_property
    def _correlations(self) -> list[Float[Tensor, "n n"]]:
        """Of a member's weights at points along either axis; rho is their product."""
        units = (x / x.norm(dim=1, keepdim=True) for x in (self._along(axis) for axis in (0, 1)))
        return [x @ x.mT for x in units]

    def covariance(self, a: Int[Tensor, " p"], b: Int[Tensor, " q"]) -> Float[Tensor, "p q"]:
        """Between some values of a flattened window and others."""
        members, n, columns = self.members.flatten(1), self.members.shape[-1], self.shape[1]
        (row_a, column_a), (row_b, column_b) = ((at % n // columns, at % columns) for at in (a, b))
        along_y, along_x = self._correlations
        rho = along_y[row_a[:, None], row_b] * along_x[column_a[:, None], column_b]
        return (members[:, a].mT @ members[:, b]).mul_(rho).div_(len(members))

    def push(self, v):
        weights = v.squeeze(-2).unflatten(-1, (len(self.members), *self.grids[-1]))
        for shape in reversed(self.grids[:-1]):
            weights = finer(weights, shape)
        weights = (weights * self._scale).flatten(-2)
        lead = weights.shape[:-2]
        x = weights.reshape(-1, *weights.shape[-2:]).permute(2, 0, 1) @ self._at_points
        return x.permute(1, 2, 0).reshape(*lead, *self.members.shape[1:])

    def pull(self, w):
        lead = w.shape[:-2]
        weights = w.reshape(-1, *w.shape[-2:]).permute(2, 0, 1) @ self._at_points.mT
        weights = weights.permute(1, 2, 0).reshape(*lead, len(self.members), *self.shape) * self._scale
        for _ in range(self.octaves):
            weights = coarser(weights)
        return weights.flatten(-3).unsqueeze(-2)

    def to(self, dtype: torch.dtype) -> Ensemble:
        """The same in another precision."""
        return Ensemble(self.members.to(dtype), self.shape, self.octaves)


@dataclass(frozen=True)
class Modes:
    """Each step by itself: a few patterns of independent amplitudes, and independent values beside them.

        x_t = scale_t (E z_t + D z'_t)

    Attributes:
        patterns: E, `(n, r)`.
        rest: the diagonal of D, `(n,)`, positive.
        scale: of each step, `(T,)`, positive.
    """

    patterns: Float[Tensor, "n r"]
    rest: Float[Tensor, " n"]
    scale: Float[Tensor, " T"]

    @property
    def noise(self) -> tuple[int, int]:
        """The shape of z."""
        return 1, len(self.scale) * sum(self.patterns.shape)

    def push(self, v):
        n, r = self.patterns.shape
        z, own = v.squeeze(-2).unflatten(-1, (len(self.scale), r + n)).split([r, n], -1)
        return (z @ self.patterns.mT + own * self.rest) * self.scale[:, None]

    def pull(self, w):
        w = w * self.scale[:, None]
        return torch.cat([w @ self.patterns, w * self.rest], -1).flatten(-2).unsqueeze(-2)

    def whiten(self, x: Float[Tensor, "*batch T n"]) -> Float[Tensor, "*batch 1 N"]:
        """The shortest z that gives x: half its square is -log density of x, up to a constant."""
        own = self._double
        z = own.pull(own.weighed(x.double()))
        return (z + own.pull(own.weighed(x.double() - own.push(z)))).to(x)  # mends what the first has lost

    def nearest(self, x: Float[Tensor, "*batch T n"], std: Float[Tensor, " n"]) -> Float[Tensor, "*batch T n"]:
        """E[f | f + e = x] of a field f that is made so, and an independent error e.

        Args:
            x: the two together.
            std: of e at each point, in units of each step's `scale`.
        """
        own, std = self._double, std.double()
        wider = Modes(own.patterns, torch.hypot(own.rest, std), own.scale)
        return (x - (own.scale[:, None] * std).square() * wider.weighed(x.double())).to(x)

    def weighed(self, x: Float[Tensor, "*batch T n"]) -> Float[Tensor, "*batch T n"]:
        """(L L')^-1 x, by Woodbury's identity."""
        D = self.rest.square()
        x = x / self.scale[:, None] / D
        within = torch.cholesky_solve((x @ self.patterns).mT, self._root).mT
        return (x - within @ self.patterns.mT / D) / self.scale[:, None]

    @cached_property
    def _double(self) -> Modes:
        return self.to(torch.float64)

    @cached_property
    def _root(self) -> Float[Tensor, "r r"]:
        """Of I + E' D^-2 E."""
        E = self.patterns / self.rest[:, None]
        return torch.linalg.cholesky(E.mT @ E + torch.eye(E.shape[1]).to(E))

    def to(self, dtype: torch.dtype) -> Modes:
        """The same in another precision."""
        return Modes(self.patterns.to(dtype), self.rest.to(dtype), self.scale.to(dtype))


@dataclass(frozen=True)
class Propagated:
    """What a linear model makes of errors: x_1 = e_1, x_{t+1} = M_t x_t + e_{t+1}.

    Attributes:
        model: M_t, rows that take one state `(..., 1, n)`, one for each step but the last.
        errors: makes e of z.
    """

    model: tuple[Rows, ...]
    errors: Generator

    @property
    def noise(self) -> tuple[int, ...]:
        """The shape of z."""
        return self.errors.noise

    def push(self, v):
        first, *later = self.errors.push(v).split(1, -2)
        states = [first]
        for step, error in zip(self.model, later, strict=True):
            states.append(step.push(states[-1]) + error)
        return torch.cat(states, -2)

    def pull(self, w):
        *earlier, back = w.split(1, -2)
        found = [back]
        for step, own in zip(reversed(self.model), reversed(earlier), strict=True):
            found.append(own + step.pull(found[-1]))
        return self.errors.pull(torch.cat(found[::-1], -2))

    def to(self, dtype: torch.dtype) -> Propagated:
        """The same in another precision."""
        return Propagated(tuple(step.to(dtype) for step in self.model), self.errors.to(dtype))


@dataclass(frozen=True)
class Sum:
    """Independent fields, added.

    Attributes:
        parts: what makes each; z is theirs, one after the other.
    """

    parts: tuple[Generator, ...]

    @property
    def _sizes(self) -> list[int]:
        return [part.noise[-1] for part in self.parts]

    @property
    def noise(self) -> tuple[int, ...]:
        """The shape of z."""
        return (*torch.broadcast_shapes(*(part.noise[:-1] for part in self.parts)), sum(self._sizes))

    def push(self, v):
        return sum(part.push(z) for part, z in zip(self.parts, v.split(self._sizes, -1), strict=True))

    def pull(self, w):
        parts = [part.pull(w) for part in self.parts]
        batch = torch.broadcast_shapes(*(p.shape[:-1] for p in parts))
        return torch.cat([p.expand(*batch, -1) for p in parts], -1)

    def to(self, dtype: torch.dtype) -> Sum:
        """The same in another precision."""
        return Sum(tuple(part.to(dtype) for part in self.parts))


def averaged(
    field: Float[Tensor, "*batch n"], inside: Float[Tensor, "y x"], reach: int = 1
) -> Float[Tensor, "*batch n"]:
    """The mean over each point and those up to `reach` points to each side, as far as they are inside; 0 elsewhere."""
    size = 2 * reach + 1
    own = field.unflatten(-1, inside.shape).reshape(-1, 1, *inside.shape) * inside
    around, share = (avg_pool2d(x, size, stride=1, padding=reach) for x in (own, inside[None, None]))
    return (inside * around / share.clamp(min=0.5 / size**2)).reshape(field.shape)
