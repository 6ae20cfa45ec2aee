"""Exercises of notebook 10: what a model error costs in weak-constraint 4D-Var."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nida_kit.exercises.verdict import NotYet, exercise, tried


def _step(x: np.ndarray) -> np.ndarray:
    """A model that is not linear, of two components, for states `(..., 2)`."""
    return np.stack([0.9 * x[..., 0] + 0.3 * x[..., 1], 0.8 * x[..., 1] - 0.1 * x[..., 0] ** 2], -1)


@exercise
def model_error_cost(answer: Callable) -> str:
    """A function (x, step, q) -> the cost of a trajectory's model errors.

    x is `(T, n)`, step a model for states `(..., n)`, q `(n,)` the standard deviation of the error per step, by
    component.
    """
    generator = np.random.default_rng(0)
    for steps, q in ((3, [0.5, 0.5]), (5, [0.3, 2.0])):
        x, q = generator.normal(size=(steps, 2)), np.array(q)
        found = tried(answer, x, _step, q)
        if found.size != 1:
            raise NotYet(f"A cost is one number: sum over time and components. Yours has the shape {found.shape}.")
        error = x[1:] - _step(x[:-1])
        right = 0.5 * np.sum((error / q) ** 2)
        _check(float(found.reshape(())), right, x, error, q)
    return "Half a squared error per step, in units of what is allowed: a larger Q makes it cheaper to leave the model."


def _check(found: float, right: float, x: np.ndarray, error: np.ndarray, q: np.ndarray) -> None:
    if np.isclose(found, right):
        return
    mistakes = (
        (2 * right, "Almost: a cost is -log of a Gaussian density, so it has a factor 1/2."),
        (0.5 * np.sum(error**2 / q), "You divide by the standard deviation. The square of the error needs q squared."),
        (
            0.5 * np.sum(error**2),
            "All errors count alike here. Divide each by its q: an unsure component may err more.",
        ),
        (0.5 * np.sum((error * q) ** 2), "You multiply by q. A large q makes an error cheap: divide."),
        (
            0.5 * np.mean((error / q) ** 2),
            "You take a mean. Densities of independent errors multiply: sum their costs.",
        ),
        (
            0.5 * np.sum((x[:-1] - _step(x[1:])) ** 2 / q**2),
            "Time runs backwards: the model makes x[t + 1] out of x[t], so compare x[1:] with step(x[:-1]).",
        ),
        (
            0.5 * np.sum((x - _step(x)) ** 2 / q**2),
            "You compare each state with what the model makes of the same state. It belongs to the next time.",
        ),
        (
            0.5 * np.sum((x[1:] - x[:-1]) ** 2 / q**2),
            "You compare each state with the one before it. Between them the model moves it: step(x[:-1]).",
        ),
        (0.5 * np.sum(error / q), "Errors of either sign cancel here. Square them."),
    )
    for value, why in mistakes:
        if np.isclose(found, value):
            raise NotYet(why)
    raise NotYet(f"For {len(x)} steps and q = {q.tolist()} the cost is {right:.3f}; yours is {found:.3f}.")
