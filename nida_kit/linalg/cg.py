"""Conjugate gradients for many windows at once, for rows whose J' J is not written down (Hestenes & Stiefel 1952)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nida_kit import notes
from nida_kit.linalg.rows import Stack

Map = Callable[[Tensor], Tensor]


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner products within each window, `(..., 1, 1)`."""
    return (a * b).sum((-2, -1), keepdim=True)


def conjugate_gradients(
    matvec: Map, b: Tensor, precondition: Map, tolerance: float, most: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The x with A x = b; of each window the residual |b - A x| / |b|, and the iterations, both `(..., 1, 1)`.

    A window that has converged stands still, so that its answer does not depend on the others.
    """
    x, r, done = torch.zeros_like(b), b, 0
    taken = torch.zeros_like(b[..., :1, :1], dtype=torch.int64)
    p = z = precondition(r)
    energy, goal = dot(r, z), tolerance**2 * dot(b, b)
    while done < most and (active := ~(dot(r, r) <= goal)).any():  # so that NaN is not taken as converged
        q = matvec(p)
        length = torch.where(active, energy / dot(p, q), 0.0)
        x, r = x + length * p, r - length * q
        z = precondition(r)
        energy, before = dot(r, z), energy
        p = torch.where(active, z + energy / before * p, p)
        done, taken = done + 1, taken + active
    return x, (dot(r, r) / dot(b, b).clamp(min=torch.finfo(b.dtype).tiny)).sqrt(), taken


@dataclass(frozen=True)
class ConjugateGradients:
    """(J' J)^-1, known by what it does.

    Attributes:
        rows: J.
        tolerance: of the residual, relative to the right-hand side.
        most: iterations.
        precondition: about (J' J)^-1.
    """

    rows: Stack
    tolerance: float
    most: int
    precondition: Map

    def solve(self, b: Tensor) -> Tensor:
        """(J' J)^-1 b; warns where it has not converged."""
        x, residual, taken = self.solved(b)
        warn_unless(residual, taken, self.tolerance)
        return x

    def solved(self, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same without a word, with the residual and the iterations of each window."""

        def matvec(v: Tensor) -> Tensor:
            return self.rows.pull(self.rows.push(v))

        return conjugate_gradients(matvec, b, self.precondition, self.tolerance, self.most)


def warn_unless(residual: Tensor, taken: Tensor, tolerance: float) -> None:
    """Warns where a residual is above the tolerance."""
    if not (residual <= tolerance).all():
        notes.warn(
            f"Conjugate gradients have not converged after {int(taken.max())} iterations: the residual is "
            f"{float(residual.max()):.1e} of the right-hand side. Observations that are very exact, or many, take "
            "more iterations: raise noise_std where it is below a thousandth of the field's spread.",
            stacklevel=3,
        )
