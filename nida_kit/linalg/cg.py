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
) -> tuple[Tensor, Tensor, int]:
    """The x with A x = b, the residual |b - A x| / |b| of each window, and the iterations.

    A window that has converged stands still, so that its answer does not depend on the others.
    """
    x, r, done = torch.zeros_like(b), b, 0
    p = z = precondition(r)
    energy, goal = dot(r, z), tolerance**2 * dot(b, b)
    while done < most and (active := ~(dot(r, r) <= goal)).any():  # so that NaN is not taken as converged
        q = matvec(p)
        length = torch.where(active, energy / dot(p, q), 0.0)
        x, r = x + length * p, r - length * q
        z = precondition(r)
        energy, before = dot(r, z), energy
        p = torch.where(active, z + energy / before * p, p)
        done += 1
    return x, (dot(r, r) / dot(b, b).clamp(min=torch.finfo(b.dtype).tiny)).sqrt(), done


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

        def matvec(v: Tensor) -> Tensor:
            return self.rows.pull(self.rows.push(v))

        x, residual, done = conjugate_gradients(matvec, b, self.precondition, self.tolerance, self.most)
        if not (residual <= self.tolerance).all():
            notes.warn(
                f"Conjugate gradients have not converged after {done} iterations: the residual is "
                f"{float(residual.max()):.1e} of the right-hand side. Observations that are very exact, or many, take "
                "more iterations.",
                stacklevel=2,
            )
        return x
