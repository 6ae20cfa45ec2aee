r"""Many values, each by itself in time: the part of J' J that ties no value to another one.

For each value i of the state only A_i[t, t] and A_i[t + 1, t] are kept of J' J, a tridiagonal matrix in time. It is a
principal part of J' J, so it is positive definite where that is, and T steps of elimination solve with it for all
values at once. Where many values are observed it is nearly all of J' J, and conjugate gradients that it preconditions
take as many iterations on any number of values.
"""

from __future__ import annotations

from copy import copy

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit.linalg.rows import Stack


class InTime:
    """A tridiagonal matrix in time for each value, factorised as L D L'.

    Args:
        rows: J, each part with `in_time`.
    """

    def __init__(self, rows: Stack):
        found = [part.in_time() for part in rows.parts]
        main, below = (sum(parts) for parts in zip(*found, strict=True))
        self.pivots, self.factors = [main[..., 0, :]], []  # D and the lower diagonal of L, from the first step on
        for t, beside in enumerate(below.unbind(-2), 1):
            self.factors.append(beside / self.pivots[-1])
            self.pivots.append(main[..., t, :] - self.factors[-1] * beside)

    @property
    def definite(self) -> bool:
        """Whether it is positive definite."""
        return all(bool((pivot > 0).all()) for pivot in self.pivots)

    def to(self, dtype: torch.dtype) -> InTime:
        """The same in another precision."""
        other = copy(self)
        other.pivots, other.factors = ([x.to(dtype) for x in each] for each in (self.pivots, self.factors))
        return other

    def solve(self, b: Float[Tensor, "*batch T n"]) -> Float[Tensor, "*batch T n"]:
        """The x that it makes b of."""
        x = [b[..., 0, :]]
        for t, factor in enumerate(self.factors, 1):
            x.append(torch.addcmul(b[..., t, :], factor, x[-1], value=-1))
        x = [each / pivot for each, pivot in zip(x, self.pivots, strict=True)]
        for t in range(len(x) - 2, -1, -1):
            x[t] = torch.addcmul(x[t], self.factors[t], x[t + 1], value=-1)
        return torch.stack(x, -2)

    def variances(self) -> Float[Tensor, "*batch T n"]:
        """The diagonal of its inverse: the variance of each value, given all others of other sites."""
        found = [1 / self.pivots[-1]]
        for factor, pivot in zip(reversed(self.factors), reversed(self.pivots[:-1]), strict=True):
            found.append(1 / pivot + factor.square() * found[-1])
        return torch.stack(found[::-1], -2)
