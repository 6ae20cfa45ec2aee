"""Exercises of notebook 06: a proper score."""

from __future__ import annotations

from collections.abc import Callable
from math import log, pi, sqrt
from statistics import NormalDist

import numpy as np

from nida_kit.exercises.verdict import NotYet, exercise, tried

_CASES = ((0.0, 1.0, -0.3), (1.0, 0.5, 2.0), (-2.0, 2.0, -3.5))  # mean, std, truth


@exercise
def gaussian_crps(answer: Callable) -> str:
    """A function (mean, std, truth) -> the CRPS of N(mean, std^2) at the truth, to 2%: on a grid, or in closed form."""
    for mean, std, truth in _CASES:
        found = tried(answer, mean, std, truth)
        if found.size != 1:
            raise NotYet(f"Return one number; yours has the shape {found.shape}. A sum over u makes one of them.")
        value = float(found.reshape(()))
        if not np.isfinite(value):
            raise NotYet(f"Your score is {value}. Far out, F and the step agree: 0 at the left, 1 at the right.")
        _recognise(value, mean, std, truth)
    return (
        "The score falls as the forecast narrows, as long as the truth stays within reach; at the limit, without any "
        "spread, it is the absolute error."
    )


def _crps(std: float, z: float) -> float:
    """In closed form, of a truth z standard deviations from the mean (Gneiting & Raftery 2007)."""
    normal = NormalDist()
    return std * (z * (2 * normal.cdf(z) - 1) + 2 * normal.pdf(z) - 1 / sqrt(pi))


def _recognise(value: float, mean: float, std: float, truth: float) -> None:
    z, normal = (truth - mean) / std, NormalDist()
    right = _crps(std, z)

    def near(other: float) -> bool:
        return abs(value - other) <= 0.02 * abs(other)

    if near(right):
        return
    given = f"For N({mean:g}, {std:g}^2) and the truth {truth:g}"
    if near(-right):
        raise NotYet("The sign is turned around: the smaller the CRPS, the better, and it is never negative.")
    if near(truth - mean) and truth < mean:
        raise NotYet("That is the area between F and the step with its sign: the difference must be squared first.")
    if near(abs(truth - mean)):
        raise NotYet(
            "That is the absolute error. The CRPS knows the spread, too: compare F with the step at the truth."
        )
    if near(z**2 / 2 + log(std) + log(2 * pi) / 2):
        raise NotYet("That is the log score. The CRPS compares distribution functions, F(u) with a step at the truth.")
    if std != 1 and near(right / std):
        raise NotYet(f"You score (truth - mean) / std. {given} the score has the unit of the truth: multiply by std.")
    if near(right + std / sqrt(pi)):
        raise NotYet(
            "That is the mean distance of a draw from the truth. Half of the mean distance of two draws comes off; on "
            "a grid, the difference of F and the step must be squared."
        )
    if near(std * (z * (2 * normal.cdf(z) - 1) + normal.pdf(z) - 1 / sqrt(pi))):
        raise NotYet("The density must count twice: 2 phi(z).")
    if near(_crps_of_variance(std, truth - mean)):
        raise NotYet("You use the variance as a standard deviation: z = (truth - mean) / std has no square.")
    raise NotYet(
        f"{given} the CRPS is {right:.4f}; yours is {value:.4f}. On a grid: does it reach far enough, five std "
        "beyond mean and truth, is it fine enough, and does the sum have its du?"
    )


def _crps_of_variance(std: float, error: float) -> float:
    return _crps(std**2, error / std**2)
