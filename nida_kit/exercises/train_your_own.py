"""Exercises of notebook 09: the gradient of a linear solve."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nida_kit.exercises.verdict import NotYet, exercise, tried

CASES = (  # A, b, and the gradient of the loss with respect to x; the second A is not symmetric
    ([[2.0, 1.0], [1.0, 3.0]], [1.0, -2.0], [0.5, 1.5]),
    ([[2.0, 0.5, 0.0], [-1.0, 3.0, 0.3], [0.2, 0.4, 1.5]], [1.0, 2.0, -1.0], [1.0, -0.5, 2.0]),
)


@exercise
def solve_gradient(answer: Callable) -> str:
    """A function (A, b, gradient_of_x) -> (gradient of A, gradient of b) of a loss of x = A^(-1) b.

    A is `(n, n)`, the others are `(n,)`, all numpy arrays.
    """
    for case in CASES:
        A, b, g = map(np.array, case)
        of_A, of_b = _two(answer, A, b, g)
        x, adjoint = np.linalg.solve(A, b), np.linalg.solve(A.T, g)
        _check_b(of_b, A, b, g, x, adjoint)
        _check_A(of_A, x, adjoint)
    return "One more solve, with A transposed, and an outer product: training through a solve needs no more."


def _two(answer: Callable, A: np.ndarray, b: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both gradients, with the shapes of A and b."""
    found = []

    def first(*given):
        found.append(answer(*given))
        pair = found[-1]
        return pair if pair is None or pair is Ellipsis else 0.0

    tried(first if callable(answer) else answer, A, b, g)
    pair = found[-1]
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise NotYet("Return two things: the gradient with respect to A, then that with respect to b.")
    of_A, of_b = (tried(lambda part=part: part) for part in pair)
    if of_A.shape == b.shape and of_b.shape == A.shape:
        raise NotYet("You return the gradient of b first. The one of A comes first.")
    if of_b.size == b.size:
        of_b = of_b.reshape(b.shape)
    for name, part, like in (("A", of_A, A), ("b", of_b, b)):
        if part.shape != like.shape:
            raise NotYet(
                f"The gradient with respect to {name} has a number for each of {name}'s, so the shape "
                f"{like.shape}; yours is {part.shape}."
            )
    return of_A, of_b


def _check_b(
    found: np.ndarray, A: np.ndarray, b: np.ndarray, g: np.ndarray, x: np.ndarray, adjoint: np.ndarray
) -> None:
    if np.allclose(found, adjoint):
        return
    if np.allclose(found, g):
        raise NotYet(
            "You return the gradient with respect to x as that of b. Between them lies the solve: x = A^(-1) b."
        )
    if np.allclose(found, x):
        raise NotYet("You return x itself as the gradient of b. Solve once more, for the gradient instead of b.")
    if np.allclose(found, np.linalg.solve(A, g)):
        raise NotYet("Almost: the second solve is with A transposed. This A is not symmetric, so one can tell.")
    if np.allclose(found, -adjoint):
        raise NotYet("The gradient of b has the wrong sign: if b grows, x = A^(-1) b grows with it.")
    if np.allclose(found, A.T @ g) or np.allclose(found, A @ g):
        raise NotYet("The gradient of b multiplies by A where it must be solved for: use np.linalg.solve.")
    raise NotYet(f"The gradient of b is {np.round(adjoint, 3).tolist()} here, and yours {np.round(found, 3).tolist()}.")


def _check_A(found: np.ndarray, x: np.ndarray, adjoint: np.ndarray) -> None:
    right = -np.outer(adjoint, x)
    if np.allclose(found, right):
        return
    if np.allclose(found, -right):
        raise NotYet("The gradient of b is right. That of A has the wrong sign: dx = A^(-1) (db - dA x).")
    if np.allclose(found, right.T):
        raise NotYet("The gradient of b is right. That of A is transposed: row i, column j is -lambda_i x_j.")
    if np.allclose(found, np.diag(np.diag(right))):
        raise NotYet("The gradient of b is right. That of A has numbers off the diagonal, too: an outer product.")
    raise NotYet(
        f"The gradient of b is right. The first row of that of A is {np.round(right[0], 3).tolist()} here, and "
        f"yours {np.round(found[0], 3).tolist()}."
    )
