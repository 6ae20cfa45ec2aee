r"""Robust reconstruction: errors with heavier tails than the normal law, as reweighted observations.

A value counts with the weight w(t), as if its error were sigma / w^(1/2). Its residual is studentised,

    t = (y - x) / (sigma (1 - h)^(1/2)),

h being the share of the answer that it decides itself (`residuals.py`). The most probable answer under the law of the
errors is the one whose weights lead to itself (iteratively reweighted least squares), so any method is robust by being
run a few times.

    student    w = (k + 1) / (k + t^2), at most 1: Student's t law with k = 4
    huber      w = 1.345 / |t|, at most 1: a normal law whose tails fall as exp(-|t|) (Huber 1964)

What lies further off than `GROSS` is a gross error and counts for nothing.

A gross error draws the answer to itself, and then nothing betrays it. So each window is also reconstructed without some
of its values, group by group, and the reweighting starts from the most plausible of these answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit import checks
from nida_kit.methods.residuals import leverages
from nida_kit.observing.errors import Independent
from nida_kit.observing.observations import Observations
from nida_kit.reconstruction import Reconstruction

Law = Callable[[Tensor], Tensor]

GROSS = 6.0  # standard deviations
GROUPS = 10  # of values, each of which is left out once
ROUNDS = 4  # of reweighting


def student(t: Tensor, freedom: float = 4.0) -> Tensor:
    """Weights under Student's t law."""
    return ((freedom + 1) / (freedom + t.square())).clamp(max=1.0)


def huber(t: Tensor, bound: float = 1.345) -> Tensor:
    """Weights under Huber's law."""
    return (bound / t.abs()).clamp(max=1.0)


LAWS: dict[str, Law] = {"student": student, "huber": huber}


class Robust(Protocol):
    """What is asked of a method."""

    def reconstruct(self, observations: Observations, dt: float, first_guess: Tensor | None) -> Reconstruction: ...

    def implausibility(self, x: Tensor, observations: Observations, dt: float) -> Tensor: ...


def law_of(robust: str | Law) -> Law:
    """The weights of a law by its name; a function of standardised residuals is one itself.

    Raises:
        ValueError: neither.
    """
    return robust if callable(robust) else LAWS[checks.one_of("robust", robust, LAWS)]


def weighted(observations: Observations, weight: Float[Tensor, "*batch T p"]) -> Observations:
    """The same, with each value counted by its weight; those of none are not there."""
    value = observations.value.where(weight > 0, torch.nan)
    return replace(
        observations, value=value, errors=Independent(observations.noise_std / weight.where(weight > 0, 1.0).sqrt())
    )


def reweighted(
    method: Robust, law: Law, observations: Observations, dt: float, first_guess: Tensor | None
) -> Float[Tensor, "*batch T p"]:
    """The weights with which the method's answer and the law agree; 1 where nothing was observed.

    Raises:
        ValueError: errors that are not independent.
    """
    if not isinstance(observations.errors, Independent):
        raise ValueError(
            "robust= weighs each value by itself, and these errors are correlated (noise_covariance, or noise_length): "
            "give their noise_std alone, or leave out robust=."
        )
    flat, lead = observations.flattened(), observations.value.shape[:-2]
    if first_guess is not None:
        first_guess = first_guess.expand(*lead, *first_guess.shape[-2:]).reshape(-1, *first_guess.shape[-2:])

    def answered(weight: Tensor) -> tuple[Tensor, Tensor]:
        """The weights that the answer asks for, and how implausible it is: twice the cost, gross errors cut off."""
        answer = method.reconstruct(weighted(flat, weight), dt, first_guess).posteriors[-1]
        mean, std = answer.mean.to(flat.value), answer.std.to(flat.value)
        rest = 1 - leverages(flat, std, weight)
        t = (flat.value - flat.predicted(mean)) / flat.noise_std / rest.sqrt()
        cost = t.square().clamp(max=GROSS**2).nan_to_num(nan=0.0).sum((-2, -1))
        wished = torch.where(flat.seen, law(t).where(t.abs() <= GROSS, 0.0), 1.0)
        return wished, cost + 2 * method.implausibility(mean, flat, dt).to(cost)

    best, cost = answered(torch.ones_like(flat.value))
    number = (flat.seen.flatten(-2).cumsum(-1) - 1).view(flat.value.shape)  # of each value in its window
    for group in range(GROUPS):
        left_out = flat.seen & (number % GROUPS == group)
        wished, other = answered((~left_out).to(flat.value))
        better = other < cost
        best, cost = torch.where(better[:, None, None], wished, best), torch.where(better, other, cost)
    for _ in range(ROUNDS):
        best, _ = answered(best)
    return best.view(observations.value.shape)
