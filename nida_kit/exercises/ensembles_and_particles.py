"""Exercises of notebook 07: what keeps few members from believing themselves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nida_kit.exercises.verdict import NotYet, exercise, tried


@exercise
def inflation(answer: Callable) -> str:
    """A function (members (N, n), factor) -> members whose deviations from their mean are that many times as large."""
    generator = np.random.default_rng(7)
    for count, n, factor in ((5, 3, 1.1), (20, 2, 1.5), (4, 4, 0.8)):
        members = generator.normal([10.0, -5.0, 25.0, 1.0][:n], [1.0, 2.0, 4.0, 0.5][:n], (count, n))
        given = members.copy()
        found = tried(answer, members, factor)
        if found.shape != members.shape:
            raise NotYet(
                f"{count} members of {n} values go in, so the shape must be {(count, n)}; yours is {found.shape}."
            )
        _recognise(found, given, factor)
    return "The mean stays where the observations put it; the spread grows by the factor, the variance by its square."


def _recognise(found: np.ndarray, members: np.ndarray, factor: float) -> None:
    mean = members.mean(0)
    deviations = members - mean

    def near(other: np.ndarray) -> bool:
        return np.allclose(found, other, rtol=1e-4, atol=1e-6)  # single precision will do

    if near(mean + factor * deviations):
        return
    if near(members):
        raise NotYet("Nothing has changed. Take the deviations from the mean, and multiply these.")
    if near(factor * members):
        raise NotYet("You multiply the states, so the mean moves away from the observations. Only deviations may grow.")
    if near(factor * deviations):
        raise NotYet("These are the deviations alone: add the mean again.")
    if near(mean + factor**2 * deviations):
        raise NotYet(
            "The deviations grow by factor squared. It is the variance that grows by the square; they by the factor."
        )
    if near(mean + factor**0.5 * deviations):
        raise NotYet("Here the variance grows by the factor. The factor is one of deviations: take no root.")
    own = members.mean(1, keepdims=True)
    if near(own + factor * (members - own)):
        raise NotYet("Your mean is over the values of each member. It must be over the members, the first axis.")
    if near(members.mean() + factor * (members - members.mean())):
        raise NotYet("Your mean is one number for everything. Each value has a mean of its own, over the members.")
    if not np.allclose(found.mean(0), mean, rtol=1e-4, atol=1e-6):
        raise NotYet("The mean over the members has moved. It must stay: only the deviations from it grow.")
    raise NotYet(
        f"The mean is right. The spread grows by {(found.std(0) / members.std(0)).mean():.3f}; it should by {factor:g}."
    )
