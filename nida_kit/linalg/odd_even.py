"""Odd-even elimination of block-tridiagonal matrices (cyclic reduction, Hockney 1965).

Eliminating every second time step leaves a block-tridiagonal matrix of half the length: log2(T) batched operations
instead of T small ones. Read backwards it gives the inverse's blocks (selected inversion, Takahashi et al. 1973) and
samples.

Every array has time first. Matrices come last, `(T, B, m, k)`, where BLAS multiplies them. Blocks of a few numbers in
many windows are kept number by number, `(T, m, k, B)`: there a product is a few products of long vectors, where BLAS
spends its time on calls.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

SMALL = 4  # numbers on a side of blocks that are kept number by number
MANY = 16  # windows, likewise


class Layout(Protocol):
    """How many matrices are kept, with time first."""

    @staticmethod
    def arranged(blocks: Float[Tensor, "B T m k"]) -> Tensor:
        """Kept so."""

    @staticmethod
    def restored(blocks: Tensor) -> Float[Tensor, "B T m k"]:
        """The reverse."""

    @staticmethod
    def turned(a: Tensor) -> Tensor:
        """The transpose of each."""

    @staticmethod
    def product(a: Tensor, b: Tensor) -> Tensor:
        """A b."""

    @staticmethod
    def factor(a: Tensor) -> Tensor:
        """The Cholesky factor F of each, a = F F', or its inverse; a `torch.linalg.LinAlgError` if there is none."""

    @staticmethod
    def inverse_root(factor: Tensor) -> Tensor:
        """F^-1."""

    @staticmethod
    def solved(factor: Tensor, b: Tensor) -> Tensor:
        """The x of A x = b."""


class ByBlocks:
    """`(T, B, m, k)`."""

    @staticmethod
    def arranged(blocks):
        return blocks.transpose(0, 1)

    restored = arranged

    @staticmethod
    def turned(a):
        return a.mT

    @staticmethod
    def product(a, b):
        return a @ b

    @staticmethod
    def factor(a):
        return torch.linalg.cholesky(a)

    @staticmethod
    def inverse_root(factor):
        unit = torch.eye(factor.shape[-1]).to(factor).expand_as(factor)
        return torch.linalg.solve_triangular(factor, unit, upper=False)

    @staticmethod
    def solved(factor, b):
        return torch.cholesky_solve(b, factor)


class ByNumbers:
    """`(T, m, k, B)`."""

    @staticmethod
    def arranged(blocks):
        return blocks.permute(1, 2, 3, 0).contiguous()

    @staticmethod
    def restored(blocks):
        return blocks.permute(3, 0, 1, 2)

    @staticmethod
    def turned(a):
        return a.transpose(1, 2)

    @staticmethod
    def product(a, b):
        found = a[:, :, :1] * b[:, :1]
        for k in range(1, a.shape[2]):
            found = found.addcmul_(a[:, :, k : k + 1], b[:, k : k + 1])
        return found

    @staticmethod
    def factor(a):
        """F^-1, which all that is asked needs."""
        columns: list[Tensor] = []  # of the factor, from the diagonal on
        for j in range(a.shape[1]):
            rest = a[:, j:, j]
            for k, column in enumerate(columns):
                rest = torch.addcmul(rest, column[:, j - k :], column[:, j - k : j - k + 1], value=-1)
            columns.append(rest / rest[:, :1].sqrt())
        if not all((column[:, 0] > 0).all() for column in columns):
            raise torch.linalg.LinAlgError("A block is not positive definite.")
        rows, rest = [], torch.eye(a.shape[1])[None, :, :, None].to(a).expand(*a.shape)
        for column in columns:
            rows.append(rest[:, :1] / column[:, :1, None])
            rest = torch.addcmul(rest[:, 1:], column[:, 1:, None], rows[-1], value=-1)
        return torch.cat(rows, 1)

    @staticmethod
    def inverse_root(factor):
        return factor

    @staticmethod
    def solved(factor, b):
        return ByNumbers.product(ByNumbers.turned(factor), ByNumbers.product(factor, b))


class _Level(NamedTuple):
    """What the elimination of every second step leaves behind.

    Attributes:
        root: F^-1 of the eliminated steps' Cholesky factors.
        covariance: of them, given their neighbours.
        left: regression of each kept step's left neighbour on it, x_left = -left x_kept + ...
        right: of its right neighbour.
        steps: before it.
    """

    root: Tensor
    covariance: Tensor
    left: Tensor
    right: Tensor
    steps: int


class OddEven:
    """A block-tridiagonal matrix A, eliminated.

    Args:
        main: its blocks on the diagonal, `(B, T, m, m)`.
        lower: `lower[:, t] = A[t + 1, t]`, `(B, T - 1, m, m)`.

    Raises:
        torch.linalg.LinAlgError: it is not positive definite.
    """

    def __init__(self, main: Float[Tensor, "B T m m"], lower: Float[Tensor, "B T1 m m"]):
        # Slopes of so many small products take longer than the products of BLAS.
        small = main.shape[-1] <= SMALL and len(main) >= MANY and not (main.is_cuda or main.requires_grad)
        self.layout: type[Layout] = ByNumbers if small else ByBlocks
        self.levels, self.size = [], main.shape[-1]
        main, lower = self.layout.arranged(main), self.layout.arranged(lower)
        while len(main) > 1:
            level, main, lower = self._eliminated(main, lower)
            self.levels.append(level)
        self.factor = self.layout.factor(main)

    @cached_property
    def _root(self) -> Tensor:
        """F^-1 of the last step."""
        return self.layout.inverse_root(self.factor)

    def _eliminated(self, main: Tensor, lower: Tensor) -> tuple[_Level, Tensor, Tensor]:
        """Without time steps 0, 2, 4, ...: steps 1, 3, 5, ... and their matrix."""
        product, turned, steps = self.layout.product, self.layout.turned, len(main)
        if steps % 2 == 0:  # one independent unit-variance step at the end, which nothing else sees
            unit = self.layout.arranged(torch.eye(self.size).to(main)[None, None])
            unit = unit.expand_as(main[:1])
            main, lower = torch.cat([main, unit]), torch.cat([lower, torch.zeros_like(unit)])
        root = self.layout.inverse_root(self.layout.factor(main[::2]))
        covariance = product(turned(root), root)
        from_left, from_right = lower[::2], turned(lower[1::2])
        left, right = product(covariance[:-1], turned(from_left)), product(covariance[1:], turned(from_right))
        kept = main[1::2] - product(from_left, left) - product(from_right, right)
        between = -product(from_left[1:], right[:-1])
        return _Level(root, covariance, left, right, steps), (kept + turned(kept)) / 2, between

    def inverse(self) -> tuple[Float[Tensor, "B T m m"], Float[Tensor, "B T1 m m"]]:
        """The inverse's main and lower blocks."""
        product, turned = self.layout.product, self.layout.turned
        inverse = product(turned(self._root), self._root)
        beside = inverse[:0]
        for level in reversed(self.levels):
            # Covariances of an eliminated step with the kept steps at its right (`left` weights) and at its left.
            with_right, with_left = -product(level.left, inverse), -product(level.right, inverse)
            if len(inverse) > 1:
                with_right[1:] -= product(level.right[:-1], turned(beside))
                with_left[:-1] -= product(level.left[1:], beside)
            eliminated = level.covariance.clone()
            eliminated[:-1] -= product(with_right, turned(level.left))
            eliminated[1:] -= product(with_left, turned(level.right))
            inverse = _interleaved(eliminated, inverse, level.steps)
            beside = _interleaved(turned(with_right), with_left, level.steps - 1)
        return self.layout.restored(inverse), self.layout.restored(beside)

    def solve(self, b: Float[Tensor, "B T m k"]) -> Float[Tensor, "B T m k"]:
        """A^-1 b."""
        product, turned, evens = self.layout.product, self.layout.turned, []
        b = self.layout.arranged(b)
        for level in self.levels:
            even, odd = _halves(b)
            evens.append(product(level.covariance, even))
            b = odd - product(turned(level.left), even[:-1]) - product(turned(level.right), even[1:])
        return self._filled(self.layout.solved(self.factor, b), evens)

    def sample(self, noise: Float[Tensor, "B T m k"]) -> Float[Tensor, "B T m k"]:
        """Draws of covariance A^-1: the kept steps from their marginal, then each other given its neighbours."""
        product, turned, evens = self.layout.product, self.layout.turned, []
        noise = self.layout.arranged(noise)
        for level in self.levels:
            even, noise = _halves(noise)
            evens.append(product(turned(level.root), even))
        return self._filled(product(turned(self._root), noise), evens)

    def _filled(self, x: Tensor, evens: list[Tensor]) -> Float[Tensor, "B T m k"]:
        """All steps, from the last one that was kept and what eliminated ones are without their neighbours."""
        for level, even in zip(reversed(self.levels), reversed(evens), strict=True):
            even = even.clone()
            even[:-1] -= self.layout.product(level.left, x)
            even[1:] -= self.layout.product(level.right, x)
            x = _interleaved(even, x, level.steps)
        return self.layout.restored(x)

    def logdet(self) -> Float[Tensor, " B"]:
        """Log det A: the sum over all eliminated steps."""
        roots = [*(level.root for level in self.levels), self._root]
        return -2 * sum(self.layout.restored(x).diagonal(dim1=-2, dim2=-1).log().sum((-2, -1)) for x in roots)


def _halves(b: Tensor) -> tuple[Tensor, Tensor]:
    """The eliminated and the kept steps of b, of which there is always one more to eliminate."""
    if len(b) % 2 == 0:
        b = torch.cat([b, torch.zeros_like(b[:1])])
    return b[::2], b[1::2]


def _interleaved(even: Tensor, odd: Tensor, steps: int) -> Tensor:
    """even[0], odd[0], even[1], ..., cut to `steps`."""
    both = even.new_empty(len(even) + len(odd), *even.shape[1:])
    both[::2], both[1::2] = even, odd
    return both[:steps]
