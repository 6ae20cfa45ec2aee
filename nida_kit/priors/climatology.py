r"""Climatology as a prior: F (x - mu) ~ N(0, I), from the mean and covariance of past trajectories.

Row t of F is what they know of x_t given the steps before it; it does not look at the estimate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit import checks, html
from nida_kit.gaussian import Gaussian
from nida_kit.linalg import solvers
from nida_kit.linalg.rows import Banded, Circulant, Stack, Whole
from nida_kit.linalg.taper import gaspari_cohn
from nida_kit.priors.moments import amount, moments, stretches_of

_SINGULAR = (
    "The covariance is singular (a constant component, or noise-free linear dynamics): give a smaller order (1, say), "
    "windows that differ, or shrinkage=0.1 to `fit`."
)


@dataclass(frozen=True)
class Climatology:
    r"""Mean and covariance of past trajectories, Markov of order w: x_t given the w steps before it.

    F is the inverse Cholesky factor of the covariance of w + 1 consecutive states; its last row is repeated for windows
    longer than that. With w = T - 1 it holds the full sample covariance of windows of T steps, the paper's
    choice; a small w is a vector autoregression, with memory and cost linear in T, for large states and any length.

    Attributes:
        mean: `(w + 1, n)`.
        factor: rows of F, `(w + 1, w + 1, n, n)`: `factor[t, d]` multiplies x_{t - d}. Of a ring of many sites those of
            the first one, `(w + 1, w + 1, n)`: they are turned with the site.
        spread: standard deviation of each component over all windows and times, `(n,)`.
    """

    mean: Float[Tensor, "w n"]
    factor: Float[Tensor, "w w n *n"]
    spread: Float[Tensor, " n"]

    def _repr_html_(self) -> str:
        steps, n = self.mean.shape
        spread = [float(f"{value:.4g}") for value in self.spread.tolist()]
        return html.card("Climatology", {"order": steps - 1, "components": n, "spread": spread})

    @classmethod
    def fit(
        cls, windows: Float[Tensor, "N T n"], order: SupportsIndex | None = None, shrinkage: float | str = 0.0
    ) -> Climatology:
        """From N windows, NaN where a value is missing (`priors/moments.py`).

        >>> import torch
        >>> windows = torch.randn(60, 5, 2, generator=torch.Generator().manual_seed(0))
        >>> Climatology.fit(windows.where(windows < 1, torch.nan), order=1).mean.shape
        torch.Size([2, 2])

        Args:
            windows: past trajectories.
            order: w; None is T - 1. Smaller orders pool all stretches of w + 1 steps.
            shrinkage: from 0, the covariance as it is, to 1, its diagonal alone; "auto" finds it, for windows that do
                not overlap. With it fewer windows than numbers do.

        Raises:
            ValueError: not enough windows for an invertible covariance, or values that are hardly ever seen together;
                constant components, infinite values, or no such order or shrinkage.
        """
        if not isinstance(windows, Tensor):
            raise ValueError(
                f"windows is a tensor (N, T, n), not a {type(windows).__name__}: torch.from_numpy(windows.values) of "
                "an xr.DataArray (sample, time, component)."
            )
        if windows.isinf().any():
            raise ValueError("windows hold infinite values: make them NaN, if they are missing, or drop their windows.")
        _, steps, n = windows.shape
        order = steps - 1 if order is None else checks.count("order", order, 0, steps - 1)
        shrinkage = amount(shrinkage, windows, order)
        mean, covariance = moments(stretches_of(windows, order).flatten(0, 1), shrinkage)
        mean, gaps = mean.view(order + 1, n), windows.isnan().any()
        spread = _spread_of(mean, covariance) if gaps else windows.double().std((0, 1))
        return cls.from_covariance(mean, covariance, spread)

    @classmethod
    def from_covariance(
        cls, mean: Float[Tensor, "w n"], covariance: Float[Tensor, "N N"], spread: Float[Tensor, " n"]
    ) -> Climatology:
        """From the mean and covariance of w + 1 consecutive states, N = (w + 1) n.

        Raises:
            ValueError: a covariance that is not positive definite.
        """
        lower, info = torch.linalg.cholesky_ex(covariance)
        if info:
            raise ValueError(_SINGULAR)
        length, n = mean.shape
        inverse = torch.linalg.solve_triangular(lower, torch.eye(len(lower)).to(lower), upper=False)
        rows = inverse.view(length, n, length, n).transpose(1, 2)
        t = torch.arange(length)
        inside = (t[:, None] >= t)[:, :, None, None]
        return cls(mean, rows[t[:, None], (t[:, None] - t).clamp(min=0)] * inside, spread)

    def on_ring(self, sites: SupportsIndex) -> Climatology:
        """The same for another number of like sites on a ring.

        Around a number of sites that divides their own the covariance is folded. Around any other it is first tapered
        to nothing at half of the way around its own ring, for there is nothing known of longer ways, and only so it
        stays positive definite.

        Raises:
            ValueError: no whole number of sites, sites that differ in mean or covariance, or no invertible covariance.
        """
        sites = checks.count("sites", sites, 1)
        length, n = self.mean.shape
        if self.factor.ndim == 3 and n > solvers.MANY:
            raise ValueError("A ring of many sites is made of one of few: call on_ring of that one.")
        covariance = torch.linalg.inv(self.over(length).precision.dense()).view(length, n, length, n)
        at = torch.arange(n, device=covariance.device)
        away = (at[:, None] + at) % n
        seen_from_each = covariance.transpose(1, 2)[:, :, at[:, None], away]  # (w + 1, w + 1, site, offset)
        alike = seen_from_each.mean(-2)
        scale = self.spread.square().mean()
        apart = (seen_from_each - alike.unsqueeze(-2)).abs().max()
        if apart > 1e-6 * scale or self.mean.std(-1).max() > 1e-6 * scale.sqrt():
            raise ValueError(
                "The sites differ in their mean or covariance: fit the climatology to windows and all their turns "
                "around the ring."
            )
        offset = (at + n // 2) % n - n // 2
        if n % sites:
            alike = alike * gaspari_cohn(offset.abs().to(alike), n / 4 / math.sqrt(10 / 3))
        folded = alike.new_zeros(length, length, sites).index_add(-1, offset % sites, alike)
        to = torch.arange(sites, device=at.device)
        mean, spread = self.mean.mean(-1, keepdim=True).expand(length, sites), self.spread.mean().expand(sites)
        if sites > solvers.FEW:
            return type(self)(mean, _kernel(folded), spread)
        index = (to - to[:, None]) % sites
        square = folded[..., index].transpose(1, 2).reshape(length * sites, length * sites)
        return type(self).from_covariance(mean, square, spread)

    def part(self, begin: int, steps: int) -> Climatology:
        """That of some of its own steps alone, from the one of this number on."""
        length, n = self.mean.shape
        rows = Stack((Banded(self.factor),)).dense()
        root = torch.linalg.solve_triangular(rows, torch.eye(length * n).to(rows), upper=False)
        covariance = (root @ root.mT).view(length, n, length, n)
        some = slice(begin, begin + steps)
        square = covariance[some, :, some].reshape(steps * n, steps * n)
        return type(self).from_covariance(self.mean[some], (square + square.mT) / 2, self.spread)

    def over(self, steps: int) -> Gaussian:
        """The Gaussian over a window of that many steps."""
        index = torch.arange(steps, device=self.factor.device).clamp(max=len(self.factor) - 1)
        factor = self.factor[index, : min(steps, len(self.factor))]
        if factor.ndim == 3:
            return Gaussian.of(self.mean[index], Circulant(factor))
        rows = Banded(factor)
        if 2 * len(self.factor) > steps:  # as good as full
            rows = Whole(Stack((rows,)).dense().unflatten(-1, self.mean[index].shape))
        return Gaussian.of(self.mean[index], rows)

    def __call__(self, current: Gaussian, s: float | Tensor = 1.0) -> Gaussian:
        return self.over(current.centre.shape[-2])

    def around(self, x: Float[Tensor, "*batch T n"]) -> Gaussian:
        """The same over the window of x, written about x."""
        return self.over(x.shape[-2]).around(x)

    def misfit(self, x: Float[Tensor, "*batch T n"]) -> Float[Tensor, "*batch"]:
        """Half the squared residuals at x."""
        return self.over(x.shape[-2]).misfit(x)


def _kernel(covariance: Float[Tensor, "w w n"]) -> Float[Tensor, "w w n"]:
    """Of covariances of site 0 at t with site o at t', rows of F around a ring: a Cholesky factor for each wave.

    Raises:
        ValueError: a covariance that is not positive definite.
    """
    length, n = covariance.shape[-2:]
    lower, info = torch.linalg.cholesky_ex(torch.fft.rfft(covariance).movedim(-1, 0).mT)
    if info.any():
        raise ValueError(_SINGULAR)
    inverse = torch.linalg.solve_triangular(lower, torch.eye(length).to(lower).expand_as(lower), upper=False)
    t = torch.arange(length)
    before = t[:, None] - t
    rows = inverse[:, t[:, None], before.clamp(min=0)] * (before >= 0)  # row t, d steps before
    return torch.fft.irfft(rows.conj().movedim(0, -1), n)


def _spread_of(mean: Float[Tensor, "w n"], covariance: Float[Tensor, "N N"]) -> Float[Tensor, " n"]:
    """Standard deviations over all steps, of each component."""
    return (covariance.diagonal().view_as(mean).mean(0) + mean.var(0, correction=0)).sqrt()
