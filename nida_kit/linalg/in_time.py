r"""Many values, each by itself in time: the part of J' J that ties no value to another one.

For each value i of the state only A_i[t + d, t] is kept of J' J, a band in time. It is a principal part of J' J, so it
is positive definite where that is, and T steps of elimination solve with it for all values at once. Where many values
are observed it is nearly all of J' J, and conjugate gradients that it preconditions take as many iterations on any
number of values.
"""

from __future__ import annotations

from copy import copy

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit.linalg.rows import Stack


class InTime:
    """A band in time for each value, factorised as L D L'.

    Args:
        rows: J, each part with `in_time`.

    Attributes:
        pivots: D, of each step.
        factors: of each step, its column of L below the diagonal.
    """

    def __init__(self, rows: Stack):
        bands = [part.in_time() for part in rows.parts]
        steps, width = bands[0].shape[-3], max(band.shape[-2] for band in bands)
        left = [
            [sum(band[..., t, d, :] for band in bands if d < band.shape[-2]) for d in range(min(width, steps - t))]
            for t in range(steps)
        ]
        self.pivots, self.factors = [], []
        for t, (pivot, *below) in enumerate(left):
            factors = [each / pivot for each in below]
            for d, factor in enumerate(factors):
                for e in range(d, len(below)):
                    left[t + 1 + d][e - d] = left[t + 1 + d][e - d] - below[e] * factor
            self.pivots.append(pivot)
            self.factors.append(factors)

    @property
    def definite(self) -> bool:
        """Whether it is positive definite."""
        return all(bool((pivot > 0).all()) for pivot in self.pivots)

    def to(self, dtype: torch.dtype) -> InTime:
        """The same in another precision."""
        other = copy(self)
        other.pivots = [pivot.to(dtype) for pivot in self.pivots]
        other.factors = [[factor.to(dtype) for factor in factors] for factors in self.factors]
        return other

    def solve(self, b: Float[Tensor, "*batch T n"]) -> Float[Tensor, "*batch T n"]:
        """The x that it makes b of."""
        x = list(b.unbind(-2))
        for t, factors in enumerate(self.factors):
            for d, factor in enumerate(factors, 1):
                x[t + d] = torch.addcmul(x[t + d], factor, x[t], value=-1)
        x = [each / pivot for each, pivot in zip(x, self.pivots, strict=True)]
        for t in reversed(range(len(x))):
            for d, factor in enumerate(self.factors[t], 1):
                x[t] = torch.addcmul(x[t], factor, x[t + d], value=-1)
        return torch.stack(x, -2)

    def variances(self) -> Float[Tensor, "*batch T n"]:
        """The diagonal of its inverse: the variance of each value, given those of all other sites.

        The inverse is found within the band, from its end (Takahashi et al. 1973).
        """
        inverse: dict[tuple[int, int], Tensor] = {}
        for t in reversed(range(len(self.pivots))):
            factors = list(enumerate(self.factors[t], t + 1))
            for s, _ in factors:
                inverse[t, s] = -sum(factor * inverse[min(s, r), max(s, r)] for r, factor in factors)
            inverse[t, t] = 1 / self.pivots[t] - sum(factor * inverse[t, s] for s, factor in factors)
        return torch.stack([inverse[t, t] for t in range(len(self.pivots))], -2)
