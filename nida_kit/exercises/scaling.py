"""Exercises of notebook 08: a piece of something large, with what lies around it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.linalg import solveh_banded

from nida_kit.exercises.verdict import NotYet, exercise, tried

MEMORY = 0.8  # correlation of neighbours
NOISE = 0.5  # variance of the error of a value, in variances of what is observed
_SHIFT = 4.0  # of the mean, which no solve may take for 0: what is cut off must not be padded


def smooth(values: np.ndarray) -> np.ndarray:
    """The mean of a line of numbers, given a noisy value of each: optimal interpolation by a banded solve.

    The numbers have variance 1, and neighbours the correlation `MEMORY`: their precision is a band.

    >>> smooth(np.array([0.0, 1.0, 0.0])).round(2)
    array([0.21, 0.45, 0.21])
    """
    y = np.asarray(values, float)
    between = 1 - MEMORY**2
    diagonal = np.full(len(y), (1 + MEMORY**2) / between)
    diagonal[[0, -1]] = 1 / between if len(y) > 1 else 1.0
    band = np.stack([np.full(len(y), -MEMORY / between), diagonal + 1 / NOISE])
    return solveh_banded(band, y / NOISE)


@exercise
def one_tile(answer: Callable) -> str:
    """A function (solve, values, start, stop, halo) -> the estimates from start to stop, solved with a halo only."""
    values = _SHIFT + np.random.default_rng(3).normal(size=60)
    whole = smooth(values)
    for start, stop in ((20, 40), (0, 12), (3, 15), (48, 60)):
        for halo in (0, 5):
            _check(answer, values, start, stop, halo)
    errors = [np.abs(_tile(values, 20, 40, halo) - whole[20:40]).max() for halo in (0, 4, 16)]
    return (
        "Against the solve of the whole line, the tile's largest error is {:.2g} without a halo, {:.2g} with 4 values "
        "on either side, {:.2g} with 16: a halo of some correlation lengths is as good as everything.".format(*errors)
    )


def _tile(values: np.ndarray, start: int, stop: int, halo: int) -> np.ndarray:
    low, high = max(0, start - halo), min(len(values), stop + halo)
    return smooth(values[low:high])[start - low : stop - low]


def _check(answer: Callable, values: np.ndarray, start: int, stop: int, halo: int) -> None:
    lengths: list[int] = []

    def solve(part) -> np.ndarray:
        part = np.asarray(part, float)
        if part.size == 0:
            raise NotYet(
                f"You solve an empty piece for start={start}, halo={halo}: start - halo is below 0 there, and counts "
                "from the end. Begin at max(0, start - halo)."
            )
        lengths.append(len(part))
        return smooth(part)

    found = tried(answer, solve, values.copy(), start, stop, halo)
    asked = f"start={start}, stop={stop}, halo={halo} of {len(values)} values"
    wanted, low = min(len(values), stop + halo) - max(0, start - halo), max(0, start - halo)
    if not lengths:
        raise NotYet("You do not call solve: it turns a piece of the values into its estimates.")
    if found.shape == (wanted,) and wanted != stop - start:
        raise NotYet("You return the halo as well. Cut it off again: it was there to be seen only.")
    if found.shape != (stop - start,):
        raise NotYet(f"For {asked}, return {stop - start} estimates; yours has the shape {found.shape}.")
    if np.allclose(found, _tile(values, start, stop, halo)):
        return
    if max(lengths) == len(values):
        raise NotYet("You solve the whole line. That is right and dear: solve the tile and its halo alone.")
    if halo and np.allclose(found, _tile(values, start, stop, 0)):
        raise NotYet("The halo is not used: give solve the values from start - halo to stop + halo.")
    if low == 0 and start < halo:
        raise NotYet(f"Wrong for {asked}: the piece begins at 0 there, so the tile begins at place {start} of it.")
    raise NotYet(
        f"Wrong for {asked}: solve is given {lengths[-1]} values where {wanted} are asked for, or the part that you "
        "return is not the tile."
    )
