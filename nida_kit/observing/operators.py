r"""Observation operators: what is measured of a state, y = h(x).

`operator=` may be

* None or a boolean mask: the state's own components;
* a matrix `(p, n)`;
* a torch callable on states, `h(x)` from `(..., n)` to `(..., p)`, or `h(x, t)`, where t is the time and broadcasts
  against x;
* `over_window(h)` of a torch callable on whole trajectories, from `(..., T, n)` to `(..., T, p)`: a mean over time, a
  value between two steps. What it gives at a time step may depend on all steps.

An operator that mixes times without being declared so is found and refused, and so is one that mixes windows or works
in place.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from weakref import WeakKeyDictionary

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from nida_kit import checks
from nida_kit.edge import unfold
from nida_kit.linalg.jacobian import check_slopes

Operator = Callable[..., Tensor]


def identity(x: Tensor) -> Tensor:
    """The state's own components."""
    return x


def apply_matrix(matrix: Tensor, x: Tensor) -> Tensor:
    """A matrix `(p, n)` on each state."""
    return x @ matrix.to(x).mT


@dataclass(frozen=True)
class OverWindow:
    """An operator on whole trajectories.

    Attributes:
        function: from `(..., T, n)` to `(..., T, p)`, and of the times too if it takes two arguments.
    """

    function: Operator

    def __call__(self, x: Tensor, *t: Tensor) -> Tensor:
        return self.function(x, *t)


@dataclass(frozen=True)
class OfFields:
    """An operator that is written for fields, on states that are vectors.

    Attributes:
        function: from `(..., *shape)` to `(..., p)`, and of the times too if it takes two arguments.
        shape: of a field.
    """

    function: Operator
    shape: tuple[int, ...]

    def __call__(self, x: Tensor, *t: Tensor) -> Tensor:
        beside = [each[(..., *[None] * (len(self.shape) - 1))] for each in t]
        fields = unfold(x, self.shape)
        what = f"The operator cannot be applied to fields of shape {tuple(fields.shape)}"
        value = checks.called(what, self.function, fields, *beside, advice=f"{_TORCH} (values, points).")
        if not isinstance(value, Tensor) or value.shape[:-1] != x.shape[:-1]:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"The operator made {got} of fields {tuple(fields.shape)}; it must turn the last {len(self.shape)} "
                "axes into one: return x[..., 3, :2], or x.mean((-2, -1)).unsqueeze(-1) for one value."
            )
        return value


def over_window(function: Operator) -> OverWindow:
    """Declare an operator on whole windows, for methods that see whole windows.

    Args:
        function: from trajectories `(..., T, n)` to values `(..., T, p)`, a torch callable h(x) or h(x, t).

    Raises:
        ValueError: it is not callable.

    >>> import nida_kit as nk, torch
    >>> def mean_of_three(x):  # at each step, of it and the two before
    ...     return torch.stack([x, x.roll(1, -2), x.roll(2, -2)]).mean(0)
    >>> truth = nk.Lorenz63().simulate(1, 32, 0.05)
    >>> h = nk.over_window(mean_of_three)
    >>> obs = nk.observe(truth, every=8, offset=7, noise_std=0.4, operator=h)
    >>> nk.NeuralIncremental.pretrained("lorenz63").assimilate(obs, operator=h)["mean"].shape
    (1, 32, 3)
    """
    if not callable(function):
        raise ValueError(f"over_window takes a torch callable on trajectories (..., T, n), not {function!r}.")
    return OverWindow(function)


def as_operator(
    operator: np.ndarray | Tensor | xr.DataArray | Operator | None, shape: tuple[int, ...] | None = None
) -> Operator:
    """What `operator=` may be, as a torch callable on states `(..., n)`: None and boolean masks are the identity.

    Args:
        operator: as the module says.
        shape: of a state; a callable gets fields of that shape, a matrix acts on their n numbers. None is any vector.

    Raises:
        ValueError: neither callable, nor a mask of such states, nor a finite matrix without labels.
    """
    checks.unmasked("operator", operator)
    if operator is None:
        return identity
    if callable(operator) and not isinstance(operator, Tensor | xr.DataArray):
        if shape is None or len(shape) == 1 or is_linear(operator) or isinstance(operator, OfFields):
            return operator
        if isinstance(operator, OverWindow):
            return OverWindow(as_operator(operator.function, shape))
        return OfFields(operator, tuple(shape))
    if (mask := as_mask(operator)) is not None:
        _check_mask(operator, mask, shape)
        return identity
    if isinstance(operator, xr.DataArray):
        raise ValueError(
            f"operator= is a labelled array with the dims {operator.dims}, but a matrix acts by position: order its "
            "columns as the state's components, and pass its .values, (observed, component)."
        )
    wanted = "a boolean mask, a real matrix (observed, component), or a torch callable on (..., component)"
    array = checks.array("operator", operator, wanted)
    if array.ndim != 2:
        raise ValueError(f"operator= has the shape {array.shape}; give {wanted}.")
    if not np.isfinite(array).all():
        raise ValueError(
            f"operator= holds {(~np.isfinite(array)).sum()} NaN or infinite entries: what does not enter a value has "
            "the weight 0, and a value that is not observed has no row."
        )
    return partial(apply_matrix, torch.from_numpy(array))


def as_mask(operator) -> np.ndarray | None:
    """The mask that an operator is; None if it is none, or all else."""
    try:
        mask = np.asarray(operator.detach().cpu() if isinstance(operator, Tensor) else operator)
    except (TypeError, ValueError, RuntimeError):  # lists of different lengths, or numbers that numpy has not
        return None
    return mask if mask.dtype == bool else None


def _check_mask(operator, mask: np.ndarray, shape: tuple[int, ...] | None) -> None:
    """Raises a ValueError where a mask without labels cannot be one of such states."""
    if shape is None or isinstance(operator, xr.DataArray):
        return
    own = mask.shape[-len(shape) :]
    if any(n not in (1, m) for n, m in zip(reversed(own), reversed(shape), strict=False)):
        raise ValueError(
            f"The mask has the shape {mask.shape}, which is none of states of shape {tuple(shape)}: give one value "
            "for each component, (component,) or (time, component), or an xr.DataArray, which is matched by name."
        )


def is_direct(operator) -> bool:
    """Whether observations through it are values of the state's own components."""
    return as_operator(operator) is identity


def is_linear(operator: Operator) -> bool:
    """Whether it is known to be linear: none, a mask, or a matrix."""
    return operator is identity or getattr(operator, "func", None) is apply_matrix


def takes_time(function: Operator) -> bool:
    """Whether a function of states is one of the time, too: it has a second argument that it needs."""
    while isinstance(function, OverWindow | OfFields):
        function = function.function
    try:
        return _needs_two(function)
    except TypeError:  # not hashable
        return _needs_two.__wrapped__(function)


@lru_cache(maxsize=256)
def _needs_two(function: Operator) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # built-in functions have none
        return False
    needed = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty]
    return len(needed) >= 2


def after(operator: Operator, change: Callable[[Tensor], Tensor]) -> Operator:
    """h(change(z)): an operator on states in other variables z."""
    if isinstance(operator, OverWindow):
        return OverWindow(after(operator.function, change))
    if takes_time(operator):
        return lambda z, t: operator(change(z), t)
    return lambda z: operator(change(z))


def apply_operator(
    operator: Operator, x: Float[Tensor, "*batch T n"], times: Float[Tensor, " T"] | None = None
) -> Float[Tensor, "*batch T p"]:
    """h(x), with what an operator must not do checked.

    Args:
        operator: from `as_operator`.
        x: states; of one time step, T may count anything.
        times: of the steps, or of all states `(1,)`.

    Raises:
        ValueError: the operator cannot take such states, gives no `(..., p)` tensor, needs times that are not known,
            mixes times or windows, or works in place.
    """
    if operator is identity:
        return x
    _check_separate(operator, x, times)
    return _shaped(operator, x, times)


def _shaped(operator: Operator, x: Tensor, times: Tensor | None) -> Tensor:
    """h(x), with its shape checked."""
    if takes_time(operator) and times is None:
        raise ValueError("The operator is one of time, h(x, t), and no times are known here: give it h(x).")
    given = (x, times.to(x)[:, None]) if takes_time(operator) else (x,)
    if isinstance(operator, OfFields) or isinstance(getattr(operator, "function", None), OfFields):
        value = operator(*given)  # which says of what shape its fields are
    else:
        what = f"The operator cannot be applied to states of shape {tuple(x.shape)}"
        value = checks.called(what, operator, *given, advice=f"{_TORCH} (values, components).")
    if not isinstance(value, Tensor) or value.shape[:-1] != x.shape[:-1]:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        if isinstance(operator, OverWindow):
            raise ValueError(
                f"The operator made {got} of states {tuple(x.shape)}; over a window it gives a row of values for each "
                "time step, (..., T, p), also where only some are observed: x.mean(-2, keepdim=True).expand(x.shape)."
            )
        raise ValueError(
            f"The operator made {got} of states {tuple(x.shape)}; it must act on the last axis alone and keep it: "
            "for one observed value per time step, return x[..., :1], not x[..., 0]."
        )
    if value.dtype == torch.bool or value.is_complex() or not value.shape[-1]:
        raise ValueError(
            f"The operator gives {value.shape[-1]} values of dtype {value.dtype} for each state; it must give one real "
            "number or more: (x > 0).to(x) for what is true or false, the real and imaginary parts side by side."
        )
    return value


_separate: WeakKeyDictionary[Operator, set[str]] = WeakKeyDictionary()
"""Along which axes an operator is known to keep the states apart, and whether its slopes are known."""


def _check_separate(operator: Operator, x: Tensor, times: Tensor | None) -> None:
    """Once for each operator: what it gives for one state must not depend on others, nor change its input.

    Slopes tell of others whatever their values; values tell what has no slopes.
    """
    if is_linear(operator):
        return
    axes = {
        name for name, axis, least in (("times", -2, 2), ("windows", 0, 3)) if x.ndim >= least and x.shape[axis] > 1
    }
    try:
        known = _separate.setdefault(operator, set())
    except TypeError:  # that cannot be looked up is checked each time
        known = set()
    if axes <= known:
        return
    some = _moved_a_little(x.detach()[tuple(slice(0, 2) for _ in range(x.ndim - 2))])
    _check_input_kept(operator, some, times)
    _check_order(operator, some, times)
    with torch.enable_grad():
        if not isinstance(operator, OverWindow) and not takes_time(operator):
            _check_each_alone(operator, some)
        point = some.clone().requires_grad_()
        value = _shaped(operator, point * 1, times)
        for t in {0, value.shape[-2] // 2, value.shape[-2] - 1}:
            one = (*(0,) * (value.ndim - 2), t)
            _check_alone(operator, some, times, one, value[one].detach())
            if value.requires_grad:
                (slope,) = torch.autograd.grad(value[one].sum(), point, retain_graph=True, allow_unused=True)
                _refuse_mixed(
                    (0 * point if slope is None else slope).nan_to_num(), one, isinstance(operator, OverWindow)
                )
    known |= axes


def check_operator_slopes(operator: Operator, x: Tensor, times: Tensor | None) -> None:
    """Raises a ValueError, once for each operator, where its values near x have lost their slopes."""
    if is_linear(operator):
        return
    try:
        known = _separate.setdefault(operator, set())
    except TypeError:  # that cannot be looked up is checked each time
        known = set()
    if "slopes" in known:
        return
    some = x[tuple(slice(0, 2) for _ in range(x.ndim - 2))]
    check_slopes("The operator", partial(_shaped, operator, times=times), some)
    known.add("slopes")


def _moved_a_little(x: Tensor) -> Tensor:
    """Near x, where no slope vanishes by chance."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(x)
    return x + 1e-3 * (x.abs() + x.abs().mean() + 1e-3) * noise


def _check_input_kept(operator: Operator, x: Tensor, times: Tensor | None) -> None:
    given = x.clone()
    with torch.no_grad():
        _shaped(operator, given, times)
    if not torch.equal(given.nan_to_num(), x.nan_to_num()):
        raise ValueError(_IN_PLACE)


def _check_order(operator: Operator, x: Tensor, times: Tensor | None) -> None:
    """Raises ValueError where values depend on the order in which windows, or times with their states, stand."""
    with torch.no_grad():
        value = _shaped(operator, x, times)
        scale = 1e-6 * value.abs().nan_to_num(posinf=0.0).amax()
        for axis in range(x.ndim - 2):
            if ((_shaped(operator, x.flip(axis), times).flip(axis) - value).abs() > scale).any():
                raise ValueError(_MIXES_WINDOWS)
        if isinstance(operator, OverWindow):
            return
        order = torch.randperm(x.shape[-2], generator=torch.Generator().manual_seed(0))
        shuffled = times if times is None or len(times) == 1 else times[order]
        if ((_shaped(operator, x[..., order, :], shuffled) - value[..., order, :]).abs() > scale).any():
            raise ValueError(_MIXES_TIMES)


def _check_alone(operator: Operator, x: Tensor, times: Tensor | None, one: tuple[int, ...], value: Tensor) -> None:
    """Raises ValueError where the value of one state is another one when its window, or it itself, stands alone."""
    *window, t = one
    zeros, scale = (0,) * len(window), 1e-6 * value.abs().nan_to_num(posinf=0.0).amax()
    alone = x[tuple(slice(k, k + 1) for k in window)]
    with torch.no_grad():
        if ((_shaped(operator, alone, times)[(*zeros, t)] - value).abs() > scale).any():
            raise ValueError(_MIXES_WINDOWS)
        if isinstance(operator, OverWindow):
            return
        beside = times if times is None or len(times) == 1 else times[t : t + 1]
        if ((_shaped(operator, alone[..., t : t + 1, :], beside)[(*zeros, 0)] - value).abs() > scale).any():
            raise ValueError(_MIXES_TIMES)


def _check_each_alone(operator: Operator, x: Tensor) -> None:
    """Raises ValueError where the values of any state are other ones when it stands alone."""
    windows = x.reshape(-1, *x.shape[-2:])
    with torch.no_grad():
        together = _shaped(operator, x, None)
        alone = _shaped(operator, x.reshape(-1, 1, x.shape[-1]), None).reshape(together.shape)
        first, side_by_side = _shaped(operator, windows[:1], None), _shaped(operator, windows, None)[:1]
    scale = 1e-6 * torch.cat([together.flatten(), alone.flatten()]).abs().nan_to_num(posinf=0.0).amax()
    if ((alone - together).abs() > scale).any():
        raise ValueError(_MIXES_WINDOWS if ((first - side_by_side).abs() > scale).any() else _MIXES_TIMES)


_TORCH = (
    "It takes and gives torch tensors, by torch functions (not xarray's or numpy's, which have no slopes); a matrix is"
)
_IN_PLACE = (
    "The operator changes the states that it is given: work on a copy (x = x.clone()), or use functions that return "
    "new tensors (x * 2, not x.mul_(2); torch.stack instead of x[..., 0] = ...)."
)


_MIXES_WINDOWS = (
    "The operator makes values of one window depend on other windows: it must act on each alone. Reduce over the last "
    "axis (x.sum(-1, keepdim=True)), never over the first ones."
)
_MIXES_TIMES = (
    "The operator mixes times: what it gives for one state depends on others. If that is meant (a mean over time, a "
    "value between two steps), declare it: operator=nk.over_window(h)."
)


def _refuse_mixed(slope: Tensor, one: tuple[int, ...], whole: bool) -> None:
    """Raises ValueError where the values of one state have slopes by others."""
    *window, t = one
    here = slope[tuple(window)].clone()
    others = slope.clone()
    others[tuple(window)] = 0
    if others.any():
        raise ValueError(_MIXES_WINDOWS)
    here[t] = 0
    if here.any() and not whole:
        raise ValueError(_MIXES_TIMES)
