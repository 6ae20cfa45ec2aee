"""Exercises of notebook 04: an operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nida_kit.exercises.verdict import NotYet, exercise, tried


def _radius(state: Tensor) -> Tensor:
    return state[..., :2].square().sum(-1, keepdim=True).sqrt()


@exercise
def operator(answer: Callable) -> str:
    """A function of states (..., 3) -> the distance (..., 1) from the axis x = y = 0, which has slopes."""
    one = torch.tensor([3.0, -4.0, 20.0], dtype=torch.float64)
    found = tried(_detached(answer), one)
    many = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    _check_values(found.reshape(-1), one)
    whole = tried(_detached(answer), many)
    if whole.shape == (2, 5):
        raise NotYet(
            "The values are right, and the last axis is missing: of states (2, 5, 3) yours makes (2, 5). An instrument "
            "with one reading returns (..., 1): keepdim=True, or slices such as state[..., 0:1]."
        )
    if whole.shape != (2, 5, 1):
        raise NotYet(
            f"Of states (2, 5, 3) yours makes {whole.shape}, and (2, 5, 1) is right: components lie along the last "
            "axis, as in state[..., 0]; all axes before it must stay."
        )
    if not np.allclose(whole, _radius(many).numpy()):
        raise NotYet("Of one state it is right, of many it is not: use the last axis alone, as in state[..., 0].")
    _check_slopes(answer, one)
    return "It keeps all leading axes and has slopes: `neural.assimilate(obs, operator=...)` takes it as it is."


def _detached(answer: Callable) -> Any:
    """The same function, for a check of its numbers."""
    if not callable(answer):
        return answer

    def run(state: Tensor) -> Any:
        found = answer(state)
        return found.detach().numpy() if isinstance(found, Tensor) else found

    return run


def _check_values(found: np.ndarray, one: Tensor) -> None:
    """Raises NotYet where the distance of one state is another one."""
    if found.shape != (1,):
        raise NotYet(f"The instrument has one reading of a state, and yours makes {found.size}: sum the two squares.")
    x, y, z = one.tolist()
    if np.isclose(found, x**2 + y**2).all():
        raise NotYet("You return the square of the distance: take the root.")
    if np.isclose(found, (x**2 + y**2 + z**2) ** 0.5).all():
        raise NotYet("That is the distance from the point 0. The instrument sees x and y alone: leave z out.")
    if np.isclose(found, abs(x + y)).all() or np.isclose(found, abs(x) + abs(y)).all():
        raise NotYet("The distance is no sum of x and y: it is the root of the sum of their squares.")
    if not np.isclose(found, 5.0).all():
        raise NotYet(f"Of x = 3, y = -4, z = 20 the distance is 5; yours is {found[0]:.4g}.")


def _check_slopes(answer: Callable, one: Tensor) -> None:
    """Raises NotYet where no gradient comes through, or a wrong one."""
    x = one.clone().requires_grad_()
    try:
        found = answer(x)
        (slope,) = torch.autograd.grad(found.sum(), x)
    except Exception as error:  # whatever a learner's code may do
        raise NotYet(
            "The numbers are right, but the loop also needs slopes, and these do not come through "
            f"({type(error).__name__}). Use torch functions throughout: no numpy, no float()."
        ) from error
    if not torch.allclose(slope, torch.tensor([0.6, -0.8, 0.0], dtype=slope.dtype)):
        raise NotYet(f"The numbers are right, the slopes are not: at (3, -4, 20) they are {slope.tolist()}.")
