"""Methods that walk through time: forecast to the next step, analyse what was observed there, go on.

    forecast    x_t^f = M(x_{t-1}^a)
    analysis    x_t^a = x_t^f conditioned on y_t

A *filter* stops there: its mean at a time knows the observations up to that time only. So it serves any length of
window, and experiments of thousands of cycles are one long window. Windows of a batch that are observed at the same
times walk together.
"""

from __future__ import annotations

import math
from numbers import Integral, Real

import torch
from jaxtyping import Float
from torch import Tensor


def count(name: str, value, least: int) -> int:
    """A whole number of at least `least`; or a ValueError."""
    if not isinstance(value, Integral) or isinstance(value, bool) or not least <= value < 2**63:
        raise ValueError(f"{name}={value!r} must be a whole number of at least {least}, below 2^63.")
    return int(value)


def positive(name: str, value) -> float:
    """A positive finite number; or a ValueError."""
    if not isinstance(value, Real) or not 0 < value < math.inf:
        raise ValueError(f"{name}={value!r} must be a positive, finite number.")
    return float(value)


def number(name: str, value) -> float:
    """A finite number, not negative; or a ValueError."""
    if not isinstance(value, Real) or not 0 <= value < math.inf:
        raise ValueError(f"{name}={value!r} must be a finite number, not negative.")
    return float(value)


def noise(value, n: int) -> Float[Tensor, " n"]:
    """Standard deviations, one or one per component, none of them negative; or a ValueError."""
    try:
        std = torch.as_tensor(value, dtype=torch.float64).expand(n)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"model_noise_std={value!r} must be a number or {n} of them: {error}") from error
    if not ((std >= 0) & std.isfinite()).all():
        raise ValueError(f"model_noise_std={value!r} must be finite and not negative.")
    return std


def covariance(value, n: int) -> Float[Tensor, "n n"]:
    """A positive definite matrix; or a ValueError."""
    try:
        matrix = torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"The covariance must be a matrix ({n}, {n}) of numbers: {error}") from error
    if matrix.shape != (n, n):
        raise ValueError(
            f"The covariance must be a matrix ({n}, {n}), one row per component, not {tuple(matrix.shape)}."
        )
    if not matrix.isfinite().all():
        raise ValueError("The covariance holds NaN or infinite values: drop the states that have any before np.cov.")
    if not torch.allclose(matrix, matrix.mT, rtol=1e-6) or torch.linalg.cholesky_ex(matrix).info:
        raise ValueError("The covariance must be symmetric and positive definite, as np.cov(states.T) of many states.")
    return (matrix + matrix.mT) / 2
