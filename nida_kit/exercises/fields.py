"""Exercises of notebook 12: a map at one place, from what was measured at two others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nida_kit.exercises.verdict import NotYet, exercise, tried

_CASES = (  # place, places, values, noise_std
    ((0.5, 0.5), ((0.45, 0.5), (0.5, 0.6)), (1.0, -0.5), 0.3),
    ((0.2, 0.7), ((0.3, 0.7), (0.31, 0.7)), (2.0, 1.8), 0.5),  # neighbours, which say nearly the same
    ((0.1, 0.1), ((0.9, 0.8), (0.8, 0.9)), (1.0, 1.0), 0.2),  # far away
)


def _near(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Covariances (a, b) of the sea at places (a, 2) and (b, 2)."""
    return np.exp(-((a[:, None] - b) ** 2).sum(-1) / (2 * 0.1**2))


@exercise
def map_at(answer: Callable) -> str:
    """A function (place, places, values, noise_std) -> (mean, std) of the sea at a place.

    It has mean 0 and variance 1, and the covariance exp(-d^2 / (2 L^2)) at a distance d, with L = 0.1.
    """
    for place, places, values, r in _CASES:
        x, seen, y = np.array(place), np.array(places), np.array(values)
        found = tried(answer, x, seen, y, r)
        if found.shape != (2,):
            raise NotYet(f"Return two numbers, mean and std; yours has the shape {found.shape}.")
        _compare(found, _near(x[None], seen)[0], _near(seen, seen), y, r)
    return (
        "Two measurements that say the same count little more than one, and far from both the map falls back to the "
        "mean, with the std 1. `nk.OptimalInterpolation` does this at every place and time at once."
    )


def _compare(found: np.ndarray, c: np.ndarray, C: np.ndarray, y: np.ndarray, r: float) -> None:
    """Raises NotYet where the map is another one than that of the covariances c with the place, and C among values."""
    S = C + r**2 * np.eye(2)
    mean, variance = c @ np.linalg.solve(S, y), 1 - c @ np.linalg.solve(S, c)
    if np.allclose(found, [mean, variance**0.5]):
        return
    wrong = {
        "the measurements had no errors: add their variance to the diagonal of C.": C,
        "the variance of the errors were their std: square it.": C + r * np.eye(2),
        "the two measurements knew nothing of each other. Close ones say nearly the same, and must share their weight: "
        "C has covariances off its diagonal.": (1 + r**2) * np.eye(2),
    }
    for words, other in wrong.items():
        if np.isclose(found[0], c @ np.linalg.solve(other, y)) and not np.isclose(found[0], mean):
            raise NotYet(f"You weigh as if {words}")
    if np.isclose(found[0], c @ y / c.sum()) and not np.isclose(found[0], mean):
        raise NotYet("That is an average by nearness. It cannot fall back to the mean 0 far away: weights solve C + R.")
    if not np.isclose(found[0], mean):
        raise NotYet(
            f"With covariances {np.round(c, 3).tolist()} to the two and {C[0, 1]:.3f} between them, the values "
            f"{y.tolist()} and errors of {r:g} the mean is {mean:.3f}; yours is {found[0]:.3f}."
        )
    if np.isclose(found[1], variance):
        raise NotYet("The mean is right. You return a variance: take its square root.")
    if np.isclose(found[1], (1 - variance) ** 0.5):
        raise NotYet("The mean is right. That is the std of what became known: left is 1 minus its square.")
    raise NotYet(f"The mean is right. The std is {variance**0.5:.3f}; yours is {found[1]:.3f}.")
