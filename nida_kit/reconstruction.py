"""What a method found, on tensors: what is known after each of its steps, and where it started."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit import notes

TOO_WIDE = (
    "Some values spread so far that their std is not found, and what is given is too small: those of a logarithm, say, "
    "whose own std is above 6.5. Use quantiles of draws, method.sample(obs, 200).quantile(0.5, 'member'), or tell the "
    "method more: observe more often, or give a smaller model noise or start_std=."
)


class Posterior(Protocol):
    """What is known after a step; an `nk.Gaussian` most often.

    Attributes:
        mean: `(..., T, n)`.
        std: marginal standard deviations, `(..., T, n)`.
    """

    @property
    def mean(self) -> Tensor: ...

    @property
    def std(self) -> Tensor: ...


@dataclass(frozen=True)
class Moments:
    """A posterior of which only mean and spread are known.

    Attributes:
        mean: `(..., T, n)`.
        std: marginal standard deviations, `(..., T, n)`.
    """

    mean: Float[Tensor, "*batch T n"]
    std: Float[Tensor, "*batch T n"]


def moments_after(
    mean: Float[Tensor, "*batch n"], std: Float[Tensor, "*batch n"], change: Callable[[Tensor], Tensor]
) -> Moments:
    """Mean and standard deviation of change(z), for each z ~ N(mean, std^2) by itself; by Gauss-Hermite quadrature.

    The nodes reach 15 standard deviations. The std of a lognormal law is exact to 0.2% until that of its logarithm is
    6.5; beyond, the outermost node makes up ever more of it, and a note says so.

    >>> import torch
    >>> moments_after(torch.zeros(1).double(), torch.ones(1).double(), torch.exp).mean  # of the lognormal law: e^(1/2)
    tensor([1.6487], dtype=torch.float64)

    Args:
        mean: of z.
        std: of z.
        change: a function that takes each number by itself.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    points = list(zip((weights / weights.sum()).tolist(), nodes.tolist(), strict=True))
    first = sum(w * change(mean + node * std) for w, node in points)

    def squared(w: float, node: float) -> Tensor:
        return w * (change(mean + node * std) - first).square()

    variance = sum(squared(*point) for point in points)
    if any((squared(*point) > 0.07 * variance).any() for point in (points[0], points[-1])):
        notes.warn(TOO_WIDE, stacklevel=6)
    return Moments(first, variance.sqrt())


@dataclass(frozen=True)
class After:
    """What is known of change(z), when a posterior of z is known.

    Attributes:
        posterior: of z.
        change: a function that takes each number by itself.
    """

    posterior: Posterior
    change: Callable[[Tensor], Tensor]

    @cached_property
    def _moments(self) -> Moments:
        return moments_after(self.posterior.mean, self.posterior.std, self.change)

    @property
    def mean(self) -> Float[Tensor, "*batch T n"]:
        """Of each value."""
        return self._moments.mean

    @property
    def std(self) -> Float[Tensor, "*batch T n"]:
        """Of each value."""
        return self._moments.std

    def sample(self, noise: Float[Tensor, "*draws T n"]) -> Float[Tensor, "*draws T n"]:
        """Draws from unit normal noise."""
        return self.change(self.posterior.sample(noise))


def of_solver(reached: Sequence[tuple[Tensor, Tensor] | None]) -> dict[str, Tensor]:
    """What conjugate gradients say of each window, as diagnostics: of several solves the largest residual, and the sum.

    Args:
        reached: of each solve for a mean, `Gaussian.reached`; None where it took none.
    """
    found = [each for each in reached if each is not None]
    if not found:
        return {}
    residuals, iterations = zip(*found, strict=True)
    return {
        "solver_iterations": sum(iterations),
        "solver_residual": reduce(torch.maximum, residuals).double(),
    }


@dataclass(frozen=True)
class State:
    """What is known of the states of one time.

    Attributes:
        mean: `(..., n)`.
        covariance: `(..., n, n)`.
    """

    mean: Float[Tensor, "*batch n"]
    covariance: Float[Tensor, "*batch n n"]


@dataclass(frozen=True)
class Reconstruction:
    """What a method found.

    Attributes:
        posteriors: what is known after each step; the last one is the answer.
        temperatures: of each step; NaN where the method has none.
        first_guess: where it started, `(..., T, n)`.
        diagnostics: more about each window, `(...)`, or about each value, `(..., T, n)`, by name.
        following: the forecast of the step after the window, where one may go on from it.
    """

    posteriors: Sequence[Posterior]
    temperatures: list[float]
    first_guess: Tensor
    diagnostics: dict[str, Tensor] = field(default_factory=dict)
    following: State | None = None
