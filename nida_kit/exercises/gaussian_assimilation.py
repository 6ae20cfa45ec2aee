"""Exercises of notebook 01: Bayes' rule for one number."""

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
