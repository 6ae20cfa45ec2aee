"""Exercises of notebook 02: what the network sees."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nida_kit.exercises.verdict import NotYet, exercise, tried


@exercise
def blend(answer: Callable) -> str:
    """A function (x, s, first_guess) -> D(x, s), the state between the two that the network sees."""
    x, first_guess = np.array([[1.0, -2.0], [0.5, 3.0], [2.0, 0.0]]), np.array([[4.0, 1.0], [-1.5, 2.0], [0.5, -1.0]])
    for s in (0.25, 0.8, 1.0, 0.0):
        found, right = tried(answer, x, s, first_guess), s * first_guess + (1 - s) * x
        if found.shape != x.shape:
            raise NotYet(f"Return a whole trajectory, of the shape {x.shape} here; yours has the shape {found.shape}.")
        if np.allclose(found, right):
            continue
        if np.allclose(found, s * x + (1 - s) * first_guess):
            raise NotYet(
                f"The weights are swapped: with s = {s:g} you see {s:.0%} of the estimate. At s = 1, where the loop "
                "begins, it counts nothing: the first guess alone is seen."
            )
        if np.allclose(found, x):
            raise NotYet("You return the estimate itself. The higher the temperature, the less of it is seen.")
        if np.allclose(found, first_guess):
            raise NotYet(
                "You return the first guess alone. The lower the temperature, the more of the estimate is seen."
            )
        if np.allclose(found, (x + first_guess) / 2):
            raise NotYet("You return the mean of the two at every temperature: weigh them by s and 1 - s.")
        if np.allclose(found, x + s * first_guess) or np.allclose(found, s * (x + first_guess)):
            raise NotYet("The weights must add up to one: s of the first guess, and 1 - s of the estimate.")
        raise NotYet(
            f"With s = {s:g}, an estimate of {x[0, 0]:g} and a first guess of {first_guess[0, 0]:g} the network "
            f"sees {right[0, 0]:g}; you return {found[0, 0]:g}."
        )
    return "At s = 1 the network sees the first guess alone, at s = 0 the estimate alone; in between, a share of each."
