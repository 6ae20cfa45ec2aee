r"""A large ring by overlapping arcs, each solved as if all other sites were known.

Sites of a ring that are far apart know little of each other. Let arcs cover the ring, and each have a halo on either
side of the sites that it stands for, its middle. Of the part A_a of A = J' J within an arc, the inverse is the
covariance of the arc's values given all others. In the middle

    diag A_a^-1    are the posterior variances, less the little that the other values tell through the halo,
    A_a^-1 b_a     is the solution of A x = b, but for about the root of that share.

So refining the solution takes a few steps (restricted additive Schwarz, Cai & Sarkis 1999,
doi:10.1137/S106482759732678X), and everything costs as much for each site on a ring of any size.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nida_kit.linalg.rows import Stack

AT_ONCE = 2**21  # numbers in the blocks of some arcs, which are factorised together: they stay in a processor's cache
DIRECT = 32  # rows of a matrix that LAPACK inverts; larger ones go by halves, which are products


class Cover(NamedTuple):
    """Arcs that cover a ring.

    Attributes:
        arcs: the sites of each, `(m, k)`.
        middle: of each site of the ring, where it is in the middle of an arc, counted through all arcs, `(n,)`.
    """

    arcs: Int[Tensor, "m k"]
    middle: Int[Tensor, " n"]

    @classmethod
    def of(cls, sites: Int[Tensor, " n"], halo: int) -> Cover:
        """With a halo on either side of each middle, which is twice as wide or somewhat wider."""
        n = len(sites)
        count = max(1, n // (2 * halo))
        first = torch.arange(count + 1, device=sites.device) * n // count
        length = int(first.diff().max()) + 2 * halo
        of_site = torch.searchsorted(first, sites, right=True) - 1
        arcs = (first[:-1, None] - halo + torch.arange(length, device=sites.device)) % n
        return cls(arcs, of_site * length + sites - first[of_site] + halo)

    def around(self, found: Float[Tensor, "*batch T m k"]) -> Float[Tensor, "*batch T n"]:
        """Of each site what the arc says in whose middle it is."""
        return found.flatten(-2).index_select(-1, self.middle)


class Arcs:
    """J' J within some arcs of a ring.

    Args:
        rows: J, each part with `in_arcs`.
        arcs: the sites of each, `(m, k)`.
        dtype: of the factors.

    Attributes:
        variances: the diagonals of the inverses, `(..., T, m, k)`.

    Raises:
        torch.linalg.LinAlgError: not positive definite in that precision.
    """

    def __init__(self, rows: Stack, arcs: Int[Tensor, "m k"], dtype: torch.dtype):
        squares, rows = rows.squares(), rows.to(dtype)
        self.dtype, self.batch = dtype, squares.shape[:-2]
        self.groups = arcs.split(max(1, AT_ONCE // (squares[..., 0].numel() * arcs.shape[-1] ** 2)))
        self.parts = [InTime(rows.in_arcs(each).expand(*self.batch, *[-1] * 5)) for each in self.groups]
        self.variances = self._together([part.variances() for part in self.parts]).to(squares)

    def _together(self, found: list[list[Tensor]]) -> Float[Tensor, "*batch T m k"]:
        """Of what was found for each step, `(M, k)`, of each part."""
        of_parts = [torch.stack(steps).unflatten(1, (*self.batch, -1)).movedim(0, -3) for steps in found]
        return torch.cat(of_parts, -2)

    def solve(self, b: Float[Tensor, "*batch T n"]) -> Float[Tensor, "*batch T m k"]:
        """The solution within each arc, for a right-hand side all around the ring."""
        if b.ndim > 2 + len(self.batch):
            return torch.stack([self.solve(each) for each in b])
        size = b.abs().amax((-2, -1), keepdim=True).clamp(min=torch.finfo(self.dtype).tiny)
        scaled = (b / size).to(self.dtype).expand(*self.batch, *b.shape[-2:])
        found = [
            part.solve([step.flatten(0, -2) for step in scaled[..., arcs].unbind(-3)])
            for part, arcs in zip(self.parts, self.groups, strict=True)
        ]
        return self._together(found).to(b) * size.unsqueeze(-1)


class InTime:
    """A block-banded matrix in time for each of some arcs, factorised as L D L'.

    Args:
        blocks: lower block columns, `(..., T, w + 1, m, k, k)` of m arcs of k sites; with M, windows and arcs in one.

    Attributes:
        inverses: D^-1, of each step, `(M, k, k)`.
        factors: of each step, its column of L below the diagonal.
    """

    def __init__(self, blocks: Float[Tensor, "*batch T w m k k"]):
        steps, width = blocks.shape[-5:-3]
        left = [[blocks[..., t, d, :, :, :].flatten(0, -3) for d in range(min(width, steps - t))] for t in range(steps)]
        self.inverses, self.factors = [], []
        for t, (pivot, *below) in enumerate(left):
            inverse = inverted(pivot)
            factors = [each @ inverse for each in below]
            for d, factor in enumerate(factors):
                for e in range(d, len(below)):
                    left[t + 1 + d][e - d] = torch.baddbmm(left[t + 1 + d][e - d], below[e], factor.mT, alpha=-1)
            self.inverses.append(inverse)
            self.factors.append(factors)

    def solve(self, b: list[Float[Tensor, "M k"]]) -> list[Float[Tensor, "M k"]]:
        """The x that it makes b of, step by step."""
        x = [each.unsqueeze(-1) for each in b]
        for t, factors in enumerate(self.factors):
            for d, factor in enumerate(factors, 1):
                x[t + d] = torch.baddbmm(x[t + d], factor, x[t], alpha=-1)
        x = [inverse @ each for inverse, each in zip(self.inverses, x, strict=True)]
        for t in reversed(range(len(x))):
            for d, factor in enumerate(self.factors[t], 1):
                x[t] = torch.baddbmm(x[t], factor.mT, x[t + d], alpha=-1)
        return [each.squeeze(-1) for each in x]

    def variances(self) -> list[Float[Tensor, "M k"]]:
        """The diagonal of its inverse, which is found within the band, from its end (Takahashi et al. 1973)."""
        found: dict[tuple[int, int], Tensor] = {}
        for t in reversed(range(len(self.inverses))):
            factors = list(enumerate(self.factors[t], t + 1))
            for s, _ in factors:
                pairs = [(factor.mT, found[r, s] if r <= s else found[s, r].mT) for r, factor in factors]
                found[t, s] = _products(pairs[0][0] @ pairs[0][1], pairs[1:]).neg_()
            found[t, t] = _products(self.inverses[t].neg(), [(found[t, s], factor) for s, factor in factors]).neg_()
        return [found[t, t].diagonal(dim1=-2, dim2=-1) for t in range(len(self.inverses))]


def _products(begin: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Begin and the products, summed in place."""
    for a, b in pairs:
        begin.baddbmm_(a, b)
    return begin


def inverted(matrix: Float[Tensor, "*batch k k"]) -> Float[Tensor, "*batch k k"]:
    """The inverse of symmetric positive-definite matrices, of many small ones faster than by LAPACK alone.

    Raises:
        torch.linalg.LinAlgError: one that is not positive definite.
    """
    n = matrix.shape[-1]
    if n <= DIRECT:
        lower = torch.linalg.cholesky(matrix)
        root = torch.linalg.solve_triangular(lower, torch.eye(n).to(lower).expand_as(lower), upper=False)
        return root.mT @ root
    top, beside, rest = (
        matrix[..., : n // 2, : n // 2],
        matrix[..., n // 2 :, : n // 2],
        matrix[..., n // 2 :, n // 2 :],
    )
    first = inverted(top)
    weights = beside @ first
    last = inverted(rest - weights @ beside.mT)
    both = -last @ weights
    return torch.cat([torch.cat([first - weights.mT @ both, both.mT], -1), torch.cat([both, last], -1)], -2)
