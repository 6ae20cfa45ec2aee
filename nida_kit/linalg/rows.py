r"""Whitened rows: a linear map J of a trajectory, known by what it does.

A statement r + J (x - c) ~ N(0, I) about a trajectory x (T time steps of n components) needs of J only

    push    v -> J v,      from (..., T, n) to the rows (..., M, p)
    pull    w -> J' w,     back again

and, where it fits in memory, J' J by its blocks in time (`gram`) and its own rows along time (`along_time`). Each kind
keeps as little as it can: a measured component is one weight, a model step two blocks, a mean over a window one row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from nida_kit.linalg.banded import BlockBanded, apply, lower_triangle
from nida_kit.linalg.jacobian import check_slopes, pullback


@runtime_checkable
class Rows(Protocol):
    """A linear map J.

    Kinds that fit in memory offer more: `gram()`, J' J; `squares()`, its diagonal `(..., T, n)`; and `along_time()`,
    the rows of each time step as those of `Banded`. Kinds for many values offer `to(dtype)`, and on a ring
    `in_arcs(arcs)`, the blocks of J' J within arcs of neighbouring sites `(m, k)`: `(..., T, w + 1, m, k, k)`.
    """

    def push(self, v: Float[Tensor, "*batch T n"]) -> Float[Tensor, "*rows M p"]:
        """J v."""

    def pull(self, w: Float[Tensor, "*rows M p"]) -> Float[Tensor, "*batch T n"]:
        """J' w."""


@dataclass(frozen=True)
class Diagonal:
    """A row for each value of the state, which sees that value alone: a measured component costs no matrix.

    Attributes:
        weight: `(..., T, n)`; 0 is no row.
    """

    weight: Float[Tensor, "*batch T n"]

    def push(self, v):
        return self.weight * v

    def pull(self, w):
        return self.weight * w

    def gram(self):
        return BlockBanded(torch.diag_embed(self.weight.double().square()).unsqueeze(-3))

    def squares(self):
        return self.weight.square()

    def along_time(self):
        return torch.diag_embed(self.weight).unsqueeze(-3)

    def to(self, dtype: torch.dtype) -> Diagonal:
        """The same in another precision."""
        return Diagonal(self.weight.to(dtype))


@dataclass(frozen=True)
class Banded:
    """Rows of each time step that see it and the w steps before.

    Attributes:
        factor: `(..., T, w + 1, p, n)`: `factor[..., t, d, :, :]` multiplies x_{t - d}. What reaches before the window
            (d > t) is ignored.
    """

    factor: Float[Tensor, "*batch T w p n"]

    def push(self, v):
        out = apply(self.factor[..., 0, :, :], v)
        steps = v.shape[-2]
        for d in range(1, min(self.factor.shape[-3], steps)):
            out = out + pad(apply(self.factor[..., d:, d, :, :], v[..., : steps - d, :]), (0, 0, d, 0))
        return out

    def pull(self, w):
        out = apply(self.factor[..., 0, :, :].mT, w)
        for d in range(1, min(self.factor.shape[-3], w.shape[-2])):
            out = out + pad(apply(self.factor[..., d:, d, :, :].mT, w[..., d:, :]), (0, 0, 0, d))
        return out

    def gram(self):
        return BlockBanded.gram(self.factor.double())

    def squares(self):
        squares = self.factor.square().sum(-2)
        return sum(pad(squares[..., d:, d, :], (0, 0, 0, d)) for d in range(min(squares.shape[-2], squares.shape[-3])))

    def along_time(self):
        return self.factor

    def to(self, dtype: torch.dtype) -> Banded:
        """The same in another precision."""
        return Banded(self.factor.to(dtype))


@dataclass(frozen=True)
class Ring:
    r"""A row for each time step and site of a ring, which sees the site, and its neighbours one step before.

        u_i,t (v_i,t - sum_o w_o,i,t v_{i+o},{t-1}),    |o| <= r.

    Attributes:
        scale: u, `(..., T, n)`.
        weight: w, `(..., T, 2 r + 1, n)`, from o = -r on; those of the first step are ignored. Where r is n / 2, the
            most there is, both ends are one site, and the last weight is 0.
    """

    scale: Float[Tensor, "*batch T n"]
    weight: Float[Tensor, "*batch T k n"]

    @property
    def sites(self) -> int:
        """Of the ring."""
        return self.scale.shape[-1]

    @property
    def reach(self) -> int:
        """How many neighbours on either side, r."""
        return self.weight.shape[-2] // 2

    def push(self, v):
        r, n = self.reach, v.shape[-1]
        before = v[..., :-1, :]
        around = torch.cat([before[..., n - r :], before, before[..., :r]], -1)
        first, *others = self.weight[..., 1:, :, :].unbind(-2)
        told = first * around[..., :n]
        for k, weight in enumerate(others, 1):
            told = torch.addcmul(told, weight, around[..., k : k + n])
        return self.scale * (v - pad(told, (0, 0, 1, 0)))

    def pull(self, w):
        w = self.scale * w
        return w - pad(_turned_back(self.weight[..., 1:, :, :], w[..., 1:, :]), (0, 0, 0, 1))

    def gram(self):
        return Banded(self.along_time()).gram()

    def squares(self):
        squares = self.scale.square()
        later = self.weight[..., 1:, :, :].square()
        return squares + pad(_turned_back(later, squares[..., 1:, :]), (0, 0, 0, 1))

    def along_time(self):
        n = self.scale.shape[-1]
        sites = torch.arange(n, device=self.scale.device)
        seen = (sites[:, None] + torch.arange(-self.reach, self.reach + 1, device=sites.device)) % n
        weight = self.weight.mT
        W = weight.new_zeros(*weight.shape[:-1], n).scatter_add(-1, seen.expand_as(weight), weight)
        return torch.stack([torch.eye(n).to(W).expand_as(W), -W], -3) * self.scale[..., None, :, None]

    def in_arcs(self, arcs):
        r, length = self.reach, arcs.shape[-1]
        own, seeing = self.scale[..., arcs], (arcs[:, :1] + torch.arange(-r, length + r).to(arcs)) % self.sites
        weight = self.weight[..., 1:, :, :][..., seeing] * self.scale[..., 1:, None, :][..., seeing]
        rows = _banded(weight.movedim(-3, -1))[..., 2 * r : 2 * r + length]
        blocks = rows.new_zeros(*own.shape[:-2], 2, *own.shape[-2:], length)
        blocks[..., :-1, 0, :, :, :] = rows.mT @ rows
        blocks[..., 0, :, :, :].diagonal(dim1=-2, dim2=-1).add_(own.square())
        torch.mul(rows[..., r : r + length, :], -own[..., 1:, :, :, None], out=blocks[..., :-1, 1, :, :, :])
        return blocks

    def to(self, dtype: torch.dtype) -> Ring:
        """The same in another precision."""
        return Ring(self.scale.to(dtype), self.weight.to(dtype))


def _banded(weight: Float[Tensor, "*batch m k"]) -> Float[Tensor, "*batch m l"]:
    """Rows that begin with their k weights at the diagonal, l = m + k - 1.

    Padding each row to l + 1 and reading the memory in rows of l shifts it there.
    """
    m, k = weight.shape[-2:]
    return pad(weight, (0, m)).flatten(-2)[..., : m * (m + k - 1)].unflatten(-1, (m, -1))


def _turned_back(
    weight: Float[Tensor, "*#batch T k n"], w: Float[Tensor, "*#batch T n"]
) -> Float[Tensor, "*batch T n"]:
    """What each site of a ring gets from the rows that see it, sum_o weight_o,{j-o} w_{j-o}."""
    r, n = weight.shape[-2] // 2, w.shape[-1]
    batch = np.broadcast_shapes(weight.shape[:-2], w.shape[:-1])
    around = weight.new_zeros(*batch, n + 2 * r)
    for k, each in enumerate(weight.unbind(-2)):
        around[..., k : k + n] += each * w
    out = around[..., r : r + n].clone()
    out[..., :r] += around[..., r + n :]
    out[..., n - r :] += around[..., :r]
    return out


@dataclass(frozen=True)
class Circulant:
    """Rows of each time step that see all sites of a ring, it and the w steps before, the same for every site.

    They are applied by Fourier transforms around the ring.

    Attributes:
        kernel: the rows of site 0, `(T, w + 1, n)`: `kernel[t, d]` multiplies x_{t - d}, and is turned with the site.
            What reaches before the window (d > t) is ignored.
    """

    kernel: Float[Tensor, "T w n"]

    @property
    def sites(self) -> int:
        """Of the ring."""
        return self.kernel.shape[-1]

    @cached_property
    def _waves(self) -> Tensor:
        return torch.fft.rfft(self.kernel).conj().resolve_conj()

    def push(self, v):
        waves, (steps, width, n) = torch.fft.rfft(v), self.kernel.shape
        out = self._waves[:, 0] * waves
        for d in range(1, min(width, steps)):
            out[..., d:, :] += self._waves[d:, d] * waves[..., :-d, :]
        return torch.fft.irfft(out, n)

    def pull(self, w):
        waves, (steps, width, n) = torch.fft.rfft(w), self.kernel.shape
        back = self._waves.conj()
        out = back[:, 0] * waves
        for d in range(1, min(width, steps)):
            out[..., :-d, :] += back[d:, d] * waves[..., d:, :]
        return torch.fft.irfft(out, n)

    def squares(self):
        return self._gram[:, 0, :1].expand(self.kernel.shape[0], self.kernel.shape[-1])

    def gram(self):
        return Banded(self.along_time()).gram()

    def along_time(self):
        sites = torch.arange(self.kernel.shape[-1], device=self.kernel.device)
        return self.kernel[..., (sites - sites[:, None]) % len(sites)]

    @cached_property
    def _gram(self) -> Float[Tensor, "T w n"]:
        """J' J of site 0 at t + d with each site at t."""
        steps, width, n = self.kernel.shape
        later = pad(self._waves, (0, 0, 0, 0, 0, width - 1))
        seen = [later[e : e + steps] for e in range(width)]  # by the rows of step t + e
        bands = [sum(seen[e][:, e - d] * seen[e][:, e].conj() for e in range(d, width)) for d in range(width)]
        return torch.fft.irfft(torch.stack(bands, 1), n)

    def in_arcs(self, arcs):
        count, length = arcs.shape
        along = torch.arange(length, device=arcs.device)
        blocks = self._gram[..., (along - along[:, None]) % self.kernel.shape[-1]]
        return blocks.unsqueeze(-3).expand(*blocks.shape[:2], count, length, length)

    def to(self, dtype: torch.dtype) -> Circulant:
        """The same in another precision."""
        return Circulant(self.kernel.to(dtype))


@dataclass(frozen=True)
class Whole:
    """Rows that see the whole window: means over time, values between two steps, a full covariance.

    Attributes:
        matrix: `(..., M, T, n)`; a row is pushed to `(..., 1, M)`.
    """

    matrix: Float[Tensor, "*batch M T n"]

    @property
    def flat(self) -> Float[Tensor, "*batch M N"]:
        """As a matrix, N = T n."""
        return self.matrix.flatten(-2)

    def push(self, v):
        return apply(self.flat, v.flatten(-2)).unsqueeze(-2)

    def pull(self, w):
        return apply(self.flat.mT, w.squeeze(-2)).unflatten(-1, self.matrix.shape[-2:])

    def gram(self):
        flat = self.flat.double()
        return BlockBanded.from_dense(flat.mT @ flat, self.matrix.shape[-2])

    def squares(self):
        return self.matrix.square().sum(-3)

    def to(self, dtype: torch.dtype) -> Whole:
        """The same in another precision."""
        return Whole(self.matrix.to(dtype))


@dataclass(frozen=True)
class Sparse:
    """Rows that see a few values each, anywhere in the window: a value between points of a grid and two steps.

    They cost as much as what they see, and are written down as `Whole` only where J' J is.

    Attributes:
        index: of what each row sees, in a flattened window, `(..., M, k)`; without leading axes, of all windows alike.
        weight: of each of these, `(..., M, k)`.
        shape: of a window, (T, n).
    """

    index: Int[Tensor, "*#batch M k"]
    weight: Float[Tensor, "*batch M k"]
    shape: tuple[int, int]

    def push(self, v):
        flat = v.flatten(-2)
        if self.index.ndim == 2:  # x[..., index] has slopes eighty times as slow
            seen = flat.index_select(-1, self.index.flatten())
        else:
            batch = np.broadcast_shapes(flat.shape[:-1], self.index.shape[:-2])
            seen = flat.expand(*batch, -1).gather(-1, self.index.flatten(-2).expand(*batch, -1))
        return (seen.unflatten(-1, self.index.shape[-2:]) * self.weight.to(v)).sum(-1).unsqueeze(-2)

    def pull(self, w):
        return self._gathered(w.squeeze(-2).unsqueeze(-1) * self.weight.to(w)).unflatten(-1, self.shape)

    def _gathered(self, parts: Float[Tensor, "*rows M k"]) -> Float[Tensor, "*rows N"]:
        """What each value of a window gets of all rows."""
        out = parts.new_zeros(*parts.shape[:-2], math.prod(self.shape))
        if self.index.ndim == 2:
            return out.index_add(-1, self.index.flatten(), parts.flatten(-2))
        return out.scatter_add(-1, self.index.expand(parts.shape).flatten(-2), parts.flatten(-2))

    @property
    def matrix(self) -> Float[Tensor, "*batch M T n"]:
        """All of them as those of `Whole`."""
        out = self.weight.new_zeros(*self.weight.shape[:-1], math.prod(self.shape))
        return out.scatter_add(-1, self.index.expand(self.weight.shape), self.weight).unflatten(-1, self.shape)

    @property
    def flat(self) -> Float[Tensor, "*batch M N"]:
        """As a matrix, N = T n."""
        return self.matrix.flatten(-2)

    def gram(self):
        return Whole(self.matrix).gram()

    def squares(self):
        same = self.index.unsqueeze(-1) == self.index.unsqueeze(-2)  # a row may see one value twice
        total = (same * self.weight.unsqueeze(-2)).sum(-1)
        return self._gathered(total * self.weight).unflatten(-1, self.shape)

    def to(self, dtype: torch.dtype) -> Sparse:
        """The same in another precision."""
        return Sparse(self.index, self.weight.to(dtype), self.shape)


@dataclass(frozen=True)
class Differential:
    """The slopes of a function that are never written down, for windows too large for that.

    Attributes:
        function: from trajectories `(..., T, n)` to rows `(..., M, p)`, torch.
        point: where its slopes are taken, `(..., T, n)`.
    """

    function: Callable[[Tensor], Tensor]
    point: Float[Tensor, "*batch T n"]

    @cached_property
    def _pullback(self) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        return pullback(self.function, self.point)

    @cached_property
    def _followed(self) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
        """The point, f there, and w and J' w, which is linear in w, so that its own pullback is J; None if constant."""
        with torch.enable_grad():
            point = self.point.detach().requires_grad_()
            value = self.function(point)
            if not value.requires_grad:
                check_slopes("The operator or the model", self.function, point)
                return None
            w = torch.zeros_like(value, requires_grad=True)
            (pulled,) = torch.autograd.grad(value, point, w, create_graph=True)
        return point, value, w, pulled

    def push(self, v):
        if self._followed is None:
            return torch.zeros_like(self.function(self.point)).expand(*v.shape[: v.ndim - self.point.ndim], -1, -1)
        _, _, w, pulled = self._followed
        return _along(pulled, w, v, self.point.shape)

    def pull(self, w):
        if torch.is_grad_enabled() and self.point.requires_grad:
            value, pull = self._pullback
            return pull(w.expand_as(value))
        if self._followed is None:
            return torch.zeros_like(self.point).expand(*w.shape[: w.ndim - self.point.ndim], *self.point.shape)
        point, value, _, _ = self._followed
        return _along(value, point, w, value.shape)

    def to(self, dtype: torch.dtype) -> Differential:
        """The same in another precision."""
        return Differential(self.function, self.point.to(dtype))


def _along(of: Tensor, at: Tensor, w: Tensor, shape: torch.Size) -> Tensor:
    """Slopes of `of` by `at`, multiplied by w, or by many w along leading axes, all at once."""
    lead = w.shape[: max(0, w.ndim - len(shape))]
    w = w.expand(*lead, *shape)
    if not lead:
        return torch.autograd.grad(of, at, w, retain_graph=True)[0]
    many = {"retain_graph": True, "is_grads_batched": True}
    return torch.autograd.grad(of, at, w.reshape(-1, *shape), **many)[0].reshape(*lead, *at.shape)


@dataclass(frozen=True)
class Through:
    """Rows about x = c + L z as rows about z.

    Attributes:
        rows: about x.
        generator: L.
    """

    rows: Rows
    generator: Rows

    def push(self, v):
        return self.rows.push(self.generator.push(v))

    def pull(self, w):
        return self.generator.pull(self.rows.pull(w))

    def to(self, dtype: torch.dtype) -> Through:
        """The same in another precision."""
        return Through(self.rows.to(dtype), self.generator.to(dtype))


@dataclass(frozen=True)
class Stack:
    """Rows under each other: all that is known.

    Attributes:
        parts: each with its own number and shape of rows.
    """

    parts: tuple[Rows, ...]

    def push(self, v: Float[Tensor, "*batch T n"]) -> list[Tensor]:
        """J v, of each part."""
        return [part.push(v) for part in self.parts]

    def pull(self, w: Sequence[Tensor | None]) -> Tensor:
        """J' w, of rows of each part; None is zero."""
        return sum(part.pull(each) for part, each in zip(self.parts, w, strict=True) if each is not None)

    def gram(self) -> BlockBanded:
        """J' J."""
        return BlockBanded.total([part.gram() for part in self.parts])

    @property
    def assembles(self) -> bool:
        """Whether every part has a `gram`."""
        return all(hasattr(part, "gram") for part in self.parts)

    @property
    def requires_grad(self) -> bool:
        """Whether gradients are followed through any of them."""
        numbers = [x for part in self.parts for x in vars(part).values() if isinstance(x, Tensor)]
        return torch.is_grad_enabled() and any(x.requires_grad for x in numbers)

    @property
    def has_arcs(self) -> bool:
        """Whether every part has an `in_arcs`, or sees single values."""
        return all(hasattr(part, "in_arcs") or isinstance(part, Diagonal) for part in self.parts)

    def in_arcs(self, arcs: Int[Tensor, "m k"]) -> Float[Tensor, "*batch T w m k k"]:
        """The blocks of J' J within arcs of neighbouring sites."""
        single = Stack(tuple(part for part in self.parts if isinstance(part, Diagonal)))
        blocks = [part.in_arcs(arcs) for part in self.parts if not isinstance(part, Diagonal)]
        width = max(each.shape[-4] for each in blocks)
        total = sum(pad(each, (0,) * 7 + (width - each.shape[-4],)) for each in blocks) if blocks[1:] else blocks[0]
        if single.parts:
            own = single.squares()[..., arcs]
            batch = np.broadcast_shapes(total.shape[:-5], own.shape[:-3])
            total = total.expand(*batch, *total.shape[-5:]).contiguous()
            total[..., 0, :, :, :].diagonal(dim1=-2, dim2=-1).add_(own)
        return total

    def to(self, dtype: torch.dtype) -> Stack:
        """The same in another precision."""
        return Stack(tuple(part.to(dtype) for part in self.parts))

    def squares(self) -> Float[Tensor, "*batch T n"]:
        """The diagonal of J' J."""
        return sum(part.squares() for part in self.parts)

    def along_time(self) -> Float[Tensor, "*batch T w p n"]:
        """All rows of each time step under each other."""
        factors = [part.along_time() for part in self.parts]
        width = max(f.shape[-3] for f in factors)
        batch = np.broadcast_shapes(*(f.shape[:-4] for f in factors))
        wide = [pad(f, (0, 0, 0, 0, 0, width - f.shape[-3])) for f in factors]
        return torch.cat([f.expand(*batch, *f.shape[-4:]) for f in wide], -2)

    @property
    def width(self) -> int:
        """How many steps a row sees at most, of parts that are banded in time."""
        wide = {
            Banded: lambda part: part.factor.shape[-3],
            Circulant: lambda part: part.kernel.shape[1],
            Ring: lambda _: 2,
        }
        return max(wide.get(type(part), lambda _: 1)(part) for part in self.parts)

    def dense(self) -> Float[Tensor, "*batch M N"]:
        """J as a matrix, N = T n, part under part; memory grows as T squared."""
        parts = [part.flat if _sees_all(part) else _dense(part.along_time()) for part in self.parts]
        batch = np.broadcast_shapes(*(part.shape[:-2] for part in parts))
        return torch.cat([part.expand(*batch, *part.shape[-2:]) for part in parts], -2)

    def split(self) -> tuple[Stack, Whole | None]:
        """The parts that are banded in time, and the rows that see the whole window."""
        whole = [part.matrix for part in self.parts if _sees_all(part)]
        rest = Stack(tuple(part for part in self.parts if not _sees_all(part)))
        if not whole:
            return rest, None
        batch = np.broadcast_shapes(*(matrix.shape[:-3] for matrix in whole))
        return rest, Whole(torch.cat([matrix.expand(*batch, *matrix.shape[-3:]) for matrix in whole], -3))


def _sees_all(part: Rows) -> bool:
    """Whether its rows see the whole window."""
    return isinstance(part, Whole | Sparse)


def _dense(factor: Float[Tensor, "*batch T w p n"]) -> Float[Tensor, "*batch M N"]:
    """Rows of each time step as a matrix."""
    steps = factor.shape[-4]
    return lower_triangle(factor, torch.arange(steps)[:, None].expand(steps, steps))
