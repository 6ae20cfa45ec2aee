"""Exercises of notebook 05: a Gauss-Newton step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nida_kit.exercises.verdict import NotYet, exercise, tried

CASES = ((2.0, 1.0, 1.5, 3.0, 0.5), (0.5, -1.0, 0.7, 3.0, 2.0), (-1.5, -0.5, 2.0, 1.0, 0.3))


@exercise
def gauss_newton_step(answer: Callable) -> str:
    """A function (x, mean, std, value, noise_std, h, slope) -> the next estimate of one number."""
    for x, m, s, y, r in CASES:
        h, slope = x**2, 2 * x
        found = tried(answer, x, m, s, y, r, h, slope)
        if found.size != 1:
            raise NotYet(f"Return one number, the next estimate; yours has the shape {found.shape}.")
        found = found.reshape(())
        precision = s**-2 + slope**2 / r**2
        pull, push = (m - x) / s**2, slope * (y - h) / r**2  # downhill
        given = f"From x = {x:g}, with the prior {m:g} +- {s:g} and {y:g} +- {r:g} measured of h(x) = x^2,"
        for wrong, said in (
            (x - (pull + push) / precision, "the step goes uphill. Go from x against the gradient."),
            (x + (pull - push) / precision, "the value pushes the wrong way: by slope * (value - h), not (h - value)."),
            (x + (push - pull) / precision, "the prior pulls the wrong way: by (mean - x), not (x - mean)."),
            (m + push / precision, "the step begins at the prior's mean. Begin at x; the prior pulls by (mean - x)."),
            (x + push / precision, "the prior does not pull: (x - mean) / std^2 is missing in the gradient."),
            (x + (pull + push) / (slope**2 / r**2), "the curvature lacks the prior's part, 1 / std^2."),
            (x + (pull + push) / (s**-2 + slope / r**2), "the slope enters the curvature squared."),
            (x + (pull + (y - h) / r**2) / precision, "the misfit of the value is not multiplied by the slope."),
            (
                x + ((m - x) / s + slope * (y - h) / r) / (1 / s + slope**2 / r),
                "misfits are weighed by standard deviations. Weigh them by variances: square them.",
            ),
            ((pull + push) / precision, "you return the step. Add it to x."),
        ):
            if np.isclose(found, wrong) and not np.isclose(wrong, x + (pull + push) / precision):
                raise NotYet(f"{given} {said}")
        if not np.isclose(found, x + (pull + push) / precision):
            raise NotYet(
                f"{given} the next estimate is {x + (pull + push) / precision:.4f}; yours is {float(found):.4f}."
            )
    return "Where h is linear, one step ends at the Kalman update; where it is not, repeat it. That is 4D-Var."
