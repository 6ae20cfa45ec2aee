"""Conjugate gradients for many windows at once, for rows whose J' J is not written down (Hestenes & Stiefel 1952)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nida_kit import notes
from nida_kit.linalg.rows import Stack

Map = Callable[[Tensor], Tensor]

_SPREADS = 60  # per value, that the answer may be off by for each unit of the tolerance: 1e-3 leaves 6% of a spread
_EXACT = 1e-4  # of the field's spread: rounding hides what smaller errors of observations tell


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner products within each window, `(..., 1, 1)`."""
    return (a * b).sum((-2, -1), keepdim=True)


def conjugate_gradients(
    matvec: Map, b: Tensor, precondition: Map, tolerance: float, most: int, values: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The x with A x = b; of each window the error that is left, and the iterations, both `(..., 1, 1)`.

    The error that is left is |b - A x| / |b|. Where A is the precision of a posterior and `values` were observed, that
    may be small while x is far off in units of the posterior spread: the more exact the observations, the smaller the
    share of b that tells what lies between them. So there the distance (x* - x)' A (x* - x) has to be small too beside
    the number of values. What the last quarter of the iterations took away of it says how much is left (Hestenes &
    Stiefel 1952; Strakos & Tichy 2002, ETNA 13, 56-80). It is not asked for where errors are so small a share of the
    spread (`_EXACT`) that more iterations gather rounding errors.

    A window that has converged stands still, so that neither its answer nor its error depends on the others.
    """
    x, r, done = torch.zeros_like(b), b, 0
    taken = torch.zeros_like(b[..., :1, :1], dtype=torch.int64)
    p = z = precondition(r)
    energy, size = dot(r, z), dot(b, b).clamp(min=torch.finfo(b.dtype).tiny).sqrt()
    gained = [torch.zeros_like(energy, dtype=torch.float64)]  # in all, after each iteration

    def left() -> Tensor:
        residual = dot(r, r).sqrt() / size
        if values is None or not done:
            return residual
        last, total = gained[-1] - gained[done - done // 4 - 1], gained[-1]
        distance = (last / torch.minimum(values, total).clamp(min=1.0)).sqrt() / _SPREADS
        asked = (residual != 0) & (total <= values / _EXACT**2)
        return torch.where(asked, torch.maximum(residual, distance.to(residual)), residual)

    error = left()
    while done < most and (active := ~(error <= tolerance)).any():  # so that NaN is not taken as converged
        q = matvec(p)
        length = torch.where(active, energy / dot(p, q), 0.0)
        x, r = x + length * p, r - length * q
        gained.append(gained[-1] + (length * energy).double())
        z = precondition(r)
        energy, before = dot(r, z), energy
        p = torch.where(active, z + energy / before * p, p)
        done, taken = done + 1, taken + active
        error = torch.where(active, left(), error)
    return x, error, taken


@dataclass(frozen=True)
class ConjugateGradients:
    """(J' J)^-1, known by what it does.

    Attributes:
        rows: J.
        tolerance: of the residual, relative to the right-hand side.
        most: iterations.
        precondition: about (J' J)^-1.
        values: how many were observed, `(..., 1, 1)`, where the answer has to be near in units of its spread too.
    """

    rows: Stack
    tolerance: float
    most: int
    precondition: Map
    values: Tensor | None = None

    def solve(self, b: Tensor) -> Tensor:
        """(J' J)^-1 b; warns where it has not converged."""
        x, left, taken = self.solved(b)
        warn_unless(left, taken, self.tolerance)
        return x

    def solved(self, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same without a word, with the error that is left and the iterations of each window."""

        def matvec(v: Tensor) -> Tensor:
            return self.rows.pull(self.rows.push(v))

        return conjugate_gradients(matvec, b, self.precondition, self.tolerance, self.most, self.values)


def warn_unless(left: Tensor, taken: Tensor, tolerance: float) -> None:
    """Warns where the error that is left is above the tolerance."""
    if not (left <= tolerance).all():
        notes.warn(
            f"Conjugate gradients have not converged after {int(taken.max())} iterations: the error that is left is "
            f"{float(left.max()):.1e}, and {tolerance:.0e} was asked for. Observations that are very exact, or "
            "many, take more iterations: raise noise_std where it is below a thousandth of the field's spread.",
            stacklevel=3,
        )
