"""Gaussians over whole trajectories, and the one update that every method here repeats.

A Gaussian N(mu, P^-1) over x (T time steps of n components) is kept by its *precision* P, banded in time, a point c and
the information b that pulls it away from there:

    log p(x) = -1/2 (x - c)' P (x - c) + b' (x - c) + const,      mu = c + P^-1 b.

Observations y = H x + eta, eta ~ N(0, R), act on each time step, so H' R^-1 H is block-diagonal. Conditioning adds

    P + H' R^-1 H,      b + H' R^-1 (y - H c),

keeps the band, and is exact however far apart c and mu lie: the linearised forecast of a chaotic model leaves every
bound on a long window, but never has to be computed. Asking for `mean` costs the one linear solve. R is diagonal; a
missing value (NaN in y) is an infinite error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit.linalg.banded import BlockBanded


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian over trajectories; `Gaussian(mean, precision)` where there is no information to add.

    Attributes:
        centre: c, `(..., T, n)`, in the state's units.
        precision: P, the inverse covariance, banded in time.
        information: b, `(..., T, n)`; None is zero, and then the centre is the mean.
    """

    centre: Float[Tensor, "*#batch T n"]
    precision: BlockBanded
    information: Float[Tensor, "*#batch T n"] | None = None

    @classmethod
    def flat(cls, point: Float[Tensor, "*batch T n"]) -> Gaussian:
        """A guess of which nothing else is known: zero precision, so no std and no draws."""
        return cls(point, BlockBanded(point.new_zeros(*point.shape[:-1], 1, *point.shape[-1:] * 2)))

    def condition(
        self, H: Float[Tensor, "*#batch T p n"], R: Float[Tensor, "*#batch T p"], y: Float[Tensor, "*#batch T p"]
    ) -> Gaussian:
        """The posterior given y = H x + eta, eta ~ N(0, diag(R)) at each time step; NaN in y: not measured."""
        weight = torch.where(y.isnan(), 0.0, 1 / R)
        weighted = H.mT * weight.unsqueeze(-2)  # H' R^-1
        innovation = y.nan_to_num(nan=0.0) - (H @ self.centre.unsqueeze(-1)).squeeze(-1)
        information = (weighted @ innovation.unsqueeze(-1)).squeeze(-1)
        if self.information is not None:
            information = information + self.information
        return Gaussian(self.centre, self.precision.add_diagonal(weighted @ H), information)

    @cached_property
    def mean(self) -> Float[Tensor, "*#batch T n"]:
        """mu, solved for when first asked; errors as in `BlockBanded.solve`."""
        return self.centre if self.information is None else self.centre + self.precision.solve(self.information)

    @property
    def std(self) -> Float[Tensor, "*#batch T n"]:
        """Marginal standard deviations."""
        return self.precision.variances.sqrt()

    def at(self, point: Float[Tensor, "*#batch T n"]) -> Gaussian:
        """The same spread around another mean."""
        return Gaussian(point, self.precision)

    def sample(self, noise: Float[Tensor, "*#draws T n"]) -> Float[Tensor, "*#draws T n"]:
        """Draws from unit normal `noise`, whose leading axes broadcast against the batch."""
        return self.mean + self.precision.sample(noise.expand(torch.broadcast_shapes(noise.shape, self.mean.shape)))

    def log_prob(self, x: Float[Tensor, "*#batch T n"]) -> Float[Tensor, "*#batch"]:
        """Log N(x; mean, precision^-1), in nats."""
        error = x - self.mean
        squared = (error * self.precision.matvec(error)).sum((-2, -1))
        size = x.shape[-1] * x.shape[-2]
        return (self.precision.logdet() - squared - size * math.log(2 * math.pi)) / 2
