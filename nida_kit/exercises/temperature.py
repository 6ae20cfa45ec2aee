"""Exercises of notebook 03: a schedule of temperatures."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from nida_kit import setups
from nida_kit.exercises.verdict import NotYet, exercise, tried
from nida_kit.methods.neural import NeuralIncremental
from nida_kit.schedule import SCHEDULES

WINDOWS, SEED, STEPS = 100, 777, 4  # on which a right answer is tried


@exercise
def schedule(answer: Callable) -> str:
    """A function (steps) -> as many temperatures, from 1 down, which is none of those that are shipped."""
    for steps in (1, 2, 4, 8):
        found = tried(answer, steps)
        if found.shape != (steps,):
            raise NotYet(f"With steps={steps} return {steps} numbers; yours has the shape {found.shape}.")
        _check(found, steps)
    for name, shipped in SCHEDULES.items():
        if all(np.allclose(tried(answer, steps), shipped(steps)) for steps in (2, 4, 8)):
            raise NotYet(f"That is nk.schedule.{name}. Let yours fall in another way: faster, or slower.")
    own, linear = (_error(list(falls)) for falls in (tried(answer, STEPS), SCHEDULES["linear"](STEPS)))
    return (
        f"With {STEPS} steps its RMSE is {own:.3f} on {WINDOWS} windows of their own, and that of the linear schedule "
        f"{linear:.3f}. The shape of the schedule changes little; that it falls changes a lot."
    )


def _check(found: np.ndarray, steps: int) -> None:
    """Raises NotYet where temperatures are no schedule."""
    shown = np.array2string(found, precision=3, separator=", ")
    if not np.isfinite(found).all() or (found < 0).any() or (found > 1).any():
        raise NotYet(f"With steps={steps} yours is {shown}. Temperatures are numbers from 0 to 1.")
    if any(a < b - 1e-12 for a, b in pairwise(found)):
        raise NotYet(f"With steps={steps} yours is {shown}: it rises. From coarse to fine is from high to low.")
    if not np.isclose(found[0], 1):
        raise NotYet(
            f"With steps={steps} yours begins at {found[0]:.3g}. At the first step there is no estimate but the first "
            "guess: s = 1."
        )
    if steps > 1 and np.isclose(found[0], found[-1]):
        raise NotYet(f"With steps={steps} yours is held at 1: each step sees the first guess. Let it fall.")
    if np.isclose(found[-1], 0):
        raise NotYet(
            f"With steps={steps} yours ends at 0, where the network sees its own estimate alone. Its training hardly "
            "went there: divide by steps, not by steps - 1."
        )


def _error(temperatures: list[float]) -> float:
    """RMSE on windows of their own, in climatological standard deviations."""
    setup = setups.load("blanke2024-lorenz63")
    truth = setup.windows(WINDOWS, SEED)
    method = NeuralIncremental.pretrained("lorenz63", temperatures=temperatures)
    return setup.score(method.assimilate(setup.observe(truth, SEED + 1))["mean"], truth) ** 0.5
