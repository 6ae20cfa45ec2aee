r"""Least squares on the rows themselves, for statements that differ so much in scale that J' J loses them.

J' J squares the condition of J: a spread of 1e3 beside a model error of 1e-5 leaves no digit of double precision.
Orthogonal transformations of the rows lose none (Paige & Saunders 1977, doi:10.1137/0714012). A sweep along time keeps
a triangle that holds all rows so far about the last w states. Each step puts the next rows under it, makes the stack
triangular again, and lays aside the n rows about the state that no later row sees:

    U_t x_t + V_t (x_{t+1}, ..., x_{t+w}),

the block rows of the Cholesky factor of J' J, which is never formed. Rows that see the whole window are one step of
T n components.
"""

from __future__ import annotations

from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from nida_kit.linalg.banded import apply
from nida_kit.linalg.rows import Stack

SINGULAR = (
    "The statements do not determine the state (their rows are singular in double precision). Either a covariance "
    "behind them is singular (a noise-free model: give it model_noise_std), or they differ by more than about 1e13 in "
    "scale: check units and noise_std, and for a linearised model start nearer to the truth or raise model_noise_std."
)


class SquareRoot:
    """The triangle that all rows make.

    Args:
        rows: of a window.

    Raises:
        ValueError: rows that are not finite, or do not determine every value of the state.
    """

    def __init__(self, rows: Stack):
        band, whole = rows.split()
        self.steps, self.components = (whole.matrix if whole is not None else band.squares()).shape[-2:]
        if whole is not None or 2 * band.width > self.steps:
            factor = rows.dense().double()[..., None, None, :, :]
        else:
            factor = rows.along_time().double()
        self.now, self.later = _sweep(factor)
        self._check()

    def _check(self) -> None:
        for t, U in enumerate(self.now):
            size = U.diagonal(dim1=-2, dim2=-1).abs()
            if not (size > 1e-300).all() or not U.isfinite().all():
                raise ValueError(f"{SINGULAR} It shows at time step {t if len(self.now) > 1 else 'unknown'}.")

    def solve(self, b: Float[Tensor, "*batch T n"]) -> Float[Tensor, "*batch T n"]:
        """(J' J)^-1 b."""
        b = b.reshape(*b.shape[:-2], len(self.now), -1)
        return self._up(self._down(b)).reshape(*b.shape[:-2], self.steps, self.components)

    def _down(self, b: Tensor) -> list[Tensor]:
        """By the transposed triangle, forwards."""
        left, states = list(b.unbind(-2)), []
        for t, (U, later) in enumerate(zip(self.now, self.later, strict=True)):
            z = torch.linalg.solve_triangular(U.mT, left[t].unsqueeze(-1), upper=False).squeeze(-1)
            states.append(z)
            n = U.shape[-1]
            for k, sent in enumerate(apply(later.mT, z).split(n, -1) if later.shape[-1] else ()):
                left[t + 1 + k] = left[t + 1 + k] - sent
        return states

    def _up(self, b: list[Tensor]) -> Tensor:
        """By the triangle, backwards."""
        states: list[Tensor] = []
        for U, later, right in reversed(list(zip(self.now, self.later, b, strict=True))):
            if later.shape[-1]:
                right = right - apply(later, torch.cat(states[: later.shape[-1] // U.shape[-1]], -1))
            states.insert(0, torch.linalg.solve_triangular(U, right.unsqueeze(-1), upper=True).squeeze(-1))
        return torch.stack(states, -2)

    def sample(self, noise: Float[Tensor, "*batch T n"]) -> Float[Tensor, "*batch T n"]:
        """Draws with covariance (J' J)^-1 from unit noise."""
        noise = noise.reshape(*noise.shape[:-2], len(self.now), -1)
        return self._up(list(noise.unbind(-2))).reshape(*noise.shape[:-2], self.steps, self.components)

    @property
    def logdet(self) -> Float[Tensor, "*batch"]:
        """Log det J' J."""
        return 2 * sum(U.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1) for U in self.now)

    @cached_property
    def variances(self) -> Float[Tensor, "*batch T n"]:
        """The diagonal of (J' J)^-1: sums of squares of a root of it, so nothing cancels."""
        n = self.now[0].shape[-1]
        found, root = [], self.now[-1].new_zeros(*self.now[-1].shape[:-2], 0, 0)  # of the states after
        for U, later in zip(reversed(self.now), reversed(self.later), strict=True):
            root = root[..., : later.shape[-1], :]
            inverse = torch.linalg.solve_triangular(U, torch.eye(n).to(U).expand_as(U), upper=True)
            here = torch.cat([inverse, -inverse @ later @ root], -1)
            found.insert(0, here.square().sum(-1))
            root = triangle(torch.cat([here, pad(root, (n, 0))], -2).mT).mT
        together = torch.stack(found, -2)
        return together.reshape(*together.shape[:-2], self.steps, self.components)

    def lost(self, diagonal: Float[Tensor, "*batch T n"]) -> Float[Tensor, "*batch"]:
        """What rounding may change in each window's worst standard deviation, relative to it.

        A row is known to its last digit, and a standard deviation answers in proportion to both; so at each step.

        Args:
            diagonal: of J' J.
        """
        scale = (diagonal * self.variances).detach().sqrt().amax((-2, -1))
        return self.steps * torch.finfo(torch.float64).eps * scale


def _sweep(factor: Float[Tensor, "*batch T w p n"]) -> tuple[list[Tensor], list[Tensor]]:
    """U and V of each step."""
    steps, width, _, n = factor.shape[-4:]
    carry = factor.new_zeros(*factor.shape[:-4], 0, 0)
    now, later = [], []
    for t in range(steps):
        here = torch.cat([factor[..., t, d, :, :] for d in range(min(t, width - 1), -1, -1)], -1)
        carry = triangle(torch.cat([pad(carry, (0, n)), here], -2))
        # Which states no later row sees: all but the last w, and at the end all.
        while carry.shape[-1] > (width - 1) * n or (t == steps - 1 and carry.shape[-1]):
            now.append(carry[..., :n, :n])
            later.append(carry[..., :n, n:])
            carry = carry[..., n:, n:]
    return now, later


def triangle(rows: Float[Tensor, "*batch m k"]) -> Float[Tensor, "*batch k k"]:
    """R of Q R = rows, square; differentiable where it has to be.

    The largest rows come first: only so Householder's transformations keep the small ones (Cox & Higham 1998,
    doi:10.1023/A:1022361001008).
    """
    order = rows.detach().abs().amax(-1).argsort(-1, descending=True)
    rows = rows.take_along_dim(order.unsqueeze(-1), -2)
    R = torch.linalg.qr(rows, mode="reduced" if rows.requires_grad else "r").R
    return pad(R, (0, 0, 0, R.shape[-1] - R.shape[-2]))
