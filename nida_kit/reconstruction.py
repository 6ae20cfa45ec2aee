"""What a method found, on tensors: what is known after each of its steps, and where it started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from jaxtyping import Float
from torch import Tensor


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
