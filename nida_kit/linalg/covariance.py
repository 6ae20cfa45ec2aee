r"""Covariances of errors, known by a root: R = L L'.

To *whiten* an error is to apply L^-1, after which it is N(0, I); to *colour* unit noise is to apply L. Independent
errors need no matrix: their root is the vector of their standard deviations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit.linalg.banded import apply


@dataclass(frozen=True)
class Covariance:
    """A covariance of n numbers.

    Attributes:
        root: standard deviations `(..., n)` of independent errors, or a lower triangular matrix `(..., n, n)`.
        independent: which of the two.
    """

    root: Tensor
    independent: bool

    @classmethod
    def diagonal(cls, std: Float[Tensor, "*batch n"]) -> Covariance:
        """Of independent errors with these standard deviations."""
        return cls(std, True)

    @classmethod
    def full(cls, matrix: Float[Tensor, "*batch n n"]) -> Covariance:
        """Of a symmetric positive definite matrix."""
        return cls(torch.linalg.cholesky(matrix), False)

    @property
    def std(self) -> Float[Tensor, "*batch n"]:
        """Marginal standard deviations."""
        return self.root if self.independent else self.root.square().sum(-1).sqrt()

    @cached_property
    def zero(self) -> bool:
        """Whether there are no errors."""
        return not self.std.any()

    @property
    def matrix(self) -> Float[Tensor, "*batch n n"]:
        """R."""
        return torch.diag_embed(self.root.square()) if self.independent else self.root @ self.root.mT

    @cached_property
    def inverse_root(self) -> Float[Tensor, "*batch n n"]:
        """L^-1."""
        if self.independent:
            return torch.diag_embed(1 / self.root)
        identity = torch.eye(self.root.shape[-1]).to(self.root).expand_as(self.root)
        return torch.linalg.solve_triangular(self.root, identity, upper=False)

    def whiten(self, error: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """L^-1 of each error."""
        return error / self.root if self.independent else apply(self.inverse_root, error)

    def whiten_rows(self, rows: Float[Tensor, "*batch n m"]) -> Float[Tensor, "*batch n m"]:
        """L^-1 of the columns of a matrix."""
        return rows / self.root.unsqueeze(-1) if self.independent else self.inverse_root @ rows

    def colour(self, noise: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """Errors of this covariance, made of unit noise."""
        return noise * self.root if self.independent else apply(self.root, noise)

    @property
    def logdet(self) -> Float[Tensor, "*batch"]:
        """Log det R."""
        return 2 * (self.root if self.independent else self.root.diagonal(dim1=-2, dim2=-1)).log().sum(-1)
