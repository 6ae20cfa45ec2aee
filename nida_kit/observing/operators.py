"""Observation operators and processes: y = h(x) + eta, eta ~ N(0, noise_std^2), at each time step.

h is `None` or a mask (the state's own components), a matrix `(p, n)`, or any torch callable from `(..., n)` to
`(..., p)`. Where nothing is observed there is NaN and nothing else: no method can see the truth through its input. The
noise is drawn as unit noise over the whole grid before anything is masked, so for one seed it only scales with
noise_std, and no value changes when another is observed as well.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import xarray as xr
from torch import Tensor

Operator = Callable[[Tensor], Tensor]


def identity(x: Tensor) -> Tensor:
    return x


def apply_matrix(matrix: Tensor, x: Tensor) -> Tensor:
    return x @ matrix.to(x).mT


def as_operator(operator: np.ndarray | Tensor | xr.DataArray | Operator | None) -> Operator:
    """What `operator=` may be, as a torch callable on states: None and boolean masks are the identity.

    Raises:
        ValueError: neither callable, mask, nor a finite matrix without labels.
    """
    if operator is None:
        return identity
    if callable(operator) and not isinstance(operator, Tensor | xr.DataArray):
        return operator
    array = np.asarray(operator)
    if array.dtype == bool:
        return identity
    if isinstance(operator, xr.DataArray):
        raise ValueError(
            f"operator= is a labelled array with the dims {operator.dims}, but a matrix acts by position: order its "
            "columns as the state's components, and pass its .values, (observed, component)."
        )
    if array.ndim != 2 or array.dtype.kind not in "iuf":
        raise ValueError(
            f"operator= has dtype {array.dtype} and shape {array.shape}; give a boolean mask, a real matrix "
            "(observed, component), or a torch callable on (..., component)."
        )
    if not np.isfinite(array).all():
        raise ValueError(
            f"operator= holds {(~np.isfinite(array)).sum()} NaN or infinite entries: what does not enter a value has "
            "the weight 0, and a value that is not observed has no row."
        )
    return partial(apply_matrix, torch.from_numpy(array.astype(float)))


def is_direct(operator) -> bool:
    """Whether observations through it are values of the state's own components."""
    return as_operator(operator) is identity


def apply_operator(operator: Operator, x: Tensor) -> Tensor:
    """h(x), with its shape checked.

    Raises:
        ValueError: the operator cannot take such states, or gives no `(..., p)` tensor.
    """
    try:
        value = operator(x)
    except (RuntimeError, IndexError, TypeError) as error:
        raise ValueError(
            f"The operator cannot be applied to states of shape {tuple(x.shape)}: {error}. It takes and gives torch "
            "tensors, by torch functions (numpy's have no gradients); a matrix is (values, components)."
        ) from error
    if not isinstance(value, Tensor) or value.shape[:-1] != x.shape[:-1]:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(
            f"The operator made {got} of states {tuple(x.shape)}; it must act on the last axis alone and keep it: "
            "for one observed value per time step, return x[..., :1], not x[..., 0]."
        )
    return value
