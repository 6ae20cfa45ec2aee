"""Exercises of notebook 01: Bayes' rule for one number, and for two that are correlated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nida_kit.exercises.verdict import NotYet, exercise, tried


@exercise
def kalman_update(answer: Callable) -> str:
    """A function (mean, std, value, noise_std) -> (mean, std) of the posterior of one number."""
    for m, s, y, r in ((-1.0, 1.5, 3.0, 1.0), (0.5, 0.3, -2.0, 2.0), (2.0, 1.0, 2.0, 1.0)):
        found = tried(answer, m, s, y, r)
        if found.shape != (2,):
            raise NotYet(f"Return two numbers, mean and std; yours has the shape {found.shape}.")
        weight = s**2 / (s**2 + r**2)
        mean, std = m + weight * (y - m), (s**-2 + r**-2) ** -0.5
        given = f"With the prior {m:g} +- {s:g} and the value {y:g} +- {r:g}"
        if np.allclose(found, [y, r]):
            raise NotYet(
                "You return the measurement alone. The prior knows something too: weigh both by their precisions."
            )
        if np.isclose(found[0], y + weight * (m - y)) and weight != 0.5:
            raise NotYet(f"{given} the mean is {found[0]:.3f}: the weights are swapped. The surer one must count more.")
        if np.isclose(found[0], m + s / (s + r) * (y - m)) and s != r:
            raise NotYet("The mean is weighed by standard deviations. Weights are made of variances: square them.")
        if not np.isclose(found[0], mean):
            raise NotYet(f"{given} the mean must be between the two; yours is {found[0]:.3f}, and {mean:.3f} is right.")
        if np.isclose(found[1], std**2):
            raise NotYet("The mean is right. You return a variance: take its square root.")
        if np.isclose(found[1], (s**2 + r**2) ** 0.5):
            raise NotYet(
                "The mean is right. Variances add for a sum of two errors; here precisions, 1 / variance, add."
            )
        if not np.isclose(found[1], std):
            raise NotYet(f"The mean is right. {given} the std is {std:.3f}; yours is {found[1]:.3f}.")
    return "The mean moves by a share of the surprise, and the posterior is surer than either of the two."


@exercise
def interpolate_pair(answer: Callable) -> str:
    """A function (correlation, value, noise_std) -> (mean, std) of x2, after x1 was measured.

    Both have the mean 0 and the variance 1 before.
    """
    for c, y, r in ((0.6, 1.5, 0.5), (-0.9, 2.0, 1.5), (0.0, 1.0, 0.4)):
        found = tried(answer, c, y, r)
        if found.shape != (2,):
            raise NotYet(f"Return two numbers, mean and std of x2; yours has the shape {found.shape}.")
        weight = 1 / (1 + r**2)
        mean, variance = c * weight * y, 1 - c**2 * weight
        if np.allclose(found, [mean, variance**0.5]):
            continue
        given = f"With the correlation {c:g} and the value {y:g} +- {r:g}"
        if np.isclose(found[0], weight * y) and np.isclose(found[1], (1 - weight) ** 0.5):
            raise NotYet("This is x1, which was measured. Asked for is x2: it moves by the correlation times as much.")
        if np.isclose(found[0], c * y) and c != 0:
            raise NotYet("The mean of x2 follows the value as if it had no error. What is the weight of the value?")
        if np.isclose(found[0], weight * y):
            raise NotYet("You move x2 as much as x1. It moves by the correlation times as much.")
        if not np.isclose(found[0], mean):
            raise NotYet(f"{given} the mean of x2 is {mean:.3f}; yours is {found[0]:.3f}.")
        if np.isclose(found[1], variance):
            raise NotYet("The mean is right. You return a variance: take its square root.")
        if np.isclose(found[1], (1 - c**2) ** 0.5):
            raise NotYet(
                "The mean is right. The std is that of a value without an error: weigh the correlation squared."
            )
        if np.isclose(found[1], max(1 - abs(c) * weight, 0) ** 0.5):
            raise NotYet("The mean is right. In the variance the correlation counts twice: there and back, squared.")
        raise NotYet(f"The mean is right. {given} the std of x2 is {variance**0.5:.3f}; yours is {found[1]:.3f}.")
    return "The correlation carries the share of the surprise to x2, and without any correlation x2 learns nothing."
