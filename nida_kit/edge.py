"""Dims, coordinates, units: the one edge between labelled arrays and tensors.

Outside, a trajectory is an `xr.DataArray` with the dims (..., time, component); observations are an `xr.Dataset` with

    value       (..., time, component)   what was measured, NaN where nothing was
    noise_std   any subset of these dims  its error's standard deviation, in the same units

Inside, everything is a tensor `(..., T, n)`. Nothing is repaired on the way in: what cannot be used is a `ValueError`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from nida_kit.state import COMPONENT, CORE, RESERVED, SAMPLE, TIME, StateLabels

_MISSING = {
    "value": "It holds what was measured: obs.rename(your_name='value').",
    "noise_std": "It is the standard deviation of the measurement error, in value's unit: obs.assign(noise_std=0.4).",
}


@dataclass(frozen=True)
class ObservedTensors:
    """Observations as tensors, and all that is needed to label a result like them.

    Attributes:
        value: `(..., T, p)`, NaN where not observed.
        noise_std: `(..., T, p)`.
        dims: names of the leading dims.
        coords: the result's coordinates.
        dt: time step.
    """

    value: Tensor
    noise_std: Tensor
    dims: tuple[Hashable, ...]
    coords: dict[Hashable, Any]
    dt: float


def time_step(time: xr.DataArray, expected: float | None = None) -> float:
    """The even spacing of a time coordinate.

    Args:
        time: the coordinate, `(T,)`, numeric.
        expected: the spacing that is needed, if any; then one single time is allowed.

    Raises:
        ValueError: not numeric, not evenly increasing, or not `expected`.
    """
    if time.dtype.kind not in "iuf":
        raise ValueError(
            f"The time coordinate has dtype {time.dtype}; model time is needed, as plain numbers. For dates: "
            'obs.assign_coords(time=(obs.time - obs.time[0]) / np.timedelta64(1, "s")), with the model\'s unit for "s".'
        )
    if time.size == 0:
        raise ValueError("The window is empty: its time dimension has size 0. Select at least one time step.")
    if not np.isfinite(time.values).all():
        raise ValueError("The time coordinate holds NaN or infinite values; drop those times, or fill them in.")
    if time.size == 1:
        if expected is None:
            raise ValueError(
                "One single time gives no time step: give two or more times, with NaN where nothing was measured, or "
                "use a method that knows its step."
            )
        return expected
    step = _even_spacing(time.values.astype(float))
    if expected is not None and abs(step - expected) > 1e-3 * expected:
        raise ValueError(
            f"The observations' time step is {step:g}, the method works with {expected:g}. Reindex them to that step "
            "(NaN where nothing was measured), or use a method made for theirs."
        )
    return step


def _even_spacing(times: np.ndarray) -> float:
    """The step of at least two times."""
    gaps = np.diff(times)
    step = float((times[-1] - times[0]) / gaps.size)
    tolerance = 1e-3 * abs(step)
    if step <= 0 or np.abs(gaps - step).max() > tolerance:
        raise ValueError(
            f"The time coordinate is not evenly increasing (steps from {gaps.min():g} to {gaps.max():g}). Put the "
            "observations on the model's grid, with NaN where nothing was measured, for example "
            "obs.reindex(time=np.arange(steps) * dt, method='nearest', tolerance=dt / 2)."
        )
    return step


def load_observations(path: str | Path) -> xr.Dataset:
    """Observations from a NetCDF file, in memory.

    Args:
        path: of a file that holds `value` and `noise_std`, as the module describes.

    Raises:
        ValueError: no file, none that can be read, or one that lacks something.
    """
    if not isinstance(path, str | Path) or not Path(path).is_file():
        raise ValueError(
            f"{str(path)!r} is no file. (A Zarr store is a folder: xr.open_zarr(path).to_netcdf(...) first.)"
        )
    try:
        obs = xr.load_dataset(path)
    except Exception as error:  # what the libraries below raise depends on where a file is damaged
        said = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"{str(path)!r} cannot be read as NetCDF; it may be another format, or cut off. Make a table a dataset by "
            f"df.to_xarray(), and write it by to_netcdf(path). What xarray said: {type(error).__name__} {said}"
        ) from error
    check_observations(obs)
    return obs


def check_observations(obs: xr.Dataset) -> None:
    """Check that observations have the variables, dims and coordinates that they need; no value is read.

    Raises:
        ValueError: they have not.
    """
    if not isinstance(obs, xr.Dataset):
        raise ValueError(f"Observations are an xr.Dataset with value and noise_std, not a {type(obs).__name__}.")
    for name in ("value", "noise_std"):
        if name not in obs:
            raise ValueError(
                f"The observations have no variable {name!r}, only {sorted(map(str, obs.data_vars))}. {_MISSING[name]}"
            )
    value, noise_std = obs["value"], obs["noise_std"]
    for dim in CORE:
        if dim not in value.dims:
            raise ValueError(f"obs.value has dims {value.dims}; it needs {dim!r}: rename, or expand_dims({dim!r}).")
        if dim not in value.coords:
            raise ValueError(f"obs has no coordinate {dim!r}; assign_coords it, so that it is known what was measured.")
    taken = [name for name in RESERVED if name in value.dims or name in value.coords]
    if taken:
        raise ValueError(
            f"obs has a dim or coordinate {taken[0]!r}, a name that results use themselves: rename it, "
            f'obs.rename({taken[0]}="{taken[0]}_of_obs"), or drop_vars it.'
        )
    for name, array in (("value", value), ("noise_std", noise_std)):
        if array.dtype.kind not in "iuf":
            raise ValueError(f"obs.{name} has dtype {array.dtype}; real numbers are needed.")
    foreign = set(noise_std.dims) - set(value.dims)
    if foreign:
        raise ValueError(f"obs.noise_std has dims {sorted(map(str, foreign))} that obs.value {value.dims} has not.")


def read_observations(
    obs: xr.Dataset, state: StateLabels, dt: float | None = None, *, direct: bool = True
) -> ObservedTensors:
    """Check observations and turn them into float64 tensors.

    Args:
        obs: `value` and `noise_std`, as the module describes.
        state: the components that the method knows.
        dt: the method's time step; None takes whatever even spacing comes.
        direct: the values are the state's own components (no observation operator): absent ones are added as NaN.

    Raises:
        ValueError: anything missing, mislabelled, infinite or non-positive.
    """
    check_observations(obs)
    value, noise_std = obs["value"], obs["noise_std"]
    step = time_step(value[TIME], dt)
    _check_components(value[COMPONENT].values.tolist(), state if direct else None)
    if direct:
        whole = {COMPONENT: list(state.components)}
        value = value.reindex(whole)
        noise_std = noise_std.reindex(whole if COMPONENT in noise_std.dims else {})
    lead = tuple(dim for dim in value.dims if dim not in CORE)
    if 0 in value.shape:
        raise ValueError(f"The observations are empty: sizes {dict(value.sizes)}.")
    value = value.transpose(*lead, *CORE)
    noise_std = noise_std.broadcast_like(value).transpose(*value.dims)
    y, std = value.values.astype(float), noise_std.values.astype(float)
    _check_values(y, std)
    coords = {name: c for name, c in value.coords.items() if COMPONENT not in c.dims} | state.coordinates()
    about = {"long_name": "time", "units": state.time_units}
    coords[TIME] = value[TIME].assign_attrs(about | value[TIME].attrs)
    return ObservedTensors(
        torch.from_numpy(y.copy()), torch.from_numpy(np.where(np.isnan(y), 1.0, std)), lead, coords, step
    )


def _check_components(names: list, state: StateLabels | None) -> None:
    """Unique, and among those of the state if there is one."""
    if len(set(names)) < len(names):
        raise ValueError(f"The component coordinate repeats itself: {names}. Select each once, or rename them.")
    unknown = [name for name in names if state and name not in state.components]
    if unknown:
        raise ValueError(
            f"Components {unknown} are unknown here; the state has {list(state.components)}. Rename them, drop "
            "them, or say how they are measured with operator=."
        )


def _check_values(y: np.ndarray, std: np.ndarray) -> None:
    """Finite or NaN, with an error that is positive wherever there is a value."""
    if np.isinf(y).any():
        raise ValueError(f"obs.value holds {np.isinf(y).sum()} infinite values; mark what was not measured by NaN.")
    bad = ~np.isnan(y) & ~((std > 0) & np.isfinite(std))
    if bad.any():
        raise ValueError(
            f"obs.noise_std must be positive and finite wherever something was measured; it holds "
            f"{std[bad].flat[0]:g}. An exact measurement is a small positive noise_std."
        )


def read_trajectory(x: xr.DataArray, like: ObservedTensors, state: StateLabels, what: str) -> Tensor:
    """A labelled trajectory as a float64 tensor on the observations' window.

    Raises:
        ValueError: dims, times, components, leading coordinates or values that do not fit.
    """
    _check_trajectory(x, like, state, what)
    lead = [dim for dim in like.dims if dim in x.dims]
    values = x.sel({COMPONENT: list(state.components)}).transpose(*lead, *CORE).values.astype(float)
    if not np.isfinite(values).all():
        raise ValueError(f"{what} holds NaN or infinite values; every time and component is needed.")
    shape = [x.sizes.get(dim, 1) for dim in like.dims]
    return torch.from_numpy(values.reshape(*shape, *values.shape[-2:])).expand(
        *like.value.shape[:-1], len(state.components)
    )


def _check_trajectory(x: xr.DataArray, like: ObservedTensors, state: StateLabels, what: str) -> None:
    """Labels that are those of the observations; no value is read."""
    if not isinstance(x, xr.DataArray):
        raise ValueError(f"{what} is an xr.DataArray with dims (..., time, component), not a {type(x).__name__}.")
    for dim in CORE:
        if dim not in x.dims or dim not in x.coords:
            raise ValueError(f"{what} needs the dim and coordinate {dim!r}; it has dims {x.dims}.")
    foreign = [dim for dim in x.dims if dim not in (*like.dims, *CORE)]
    if foreign:
        raise ValueError(f"{what} has dims {foreign} that the observations have not; select one of each.")
    names = x[COMPONENT].values.tolist()
    if len(names) != len(state.components) or set(names) != set(state.components):
        raise ValueError(f"{what} has components {names}; needed are {list(state.components)}, each once: select them.")
    times = like.coords[TIME]
    if x.sizes[TIME] != times.size or not np.allclose(x[TIME], times, atol=1e-3 * like.dt):
        raise ValueError(f"{what} has other times than the observations; select or interpolate it to obs.time.")
    for dim, size in zip(like.dims, like.value.shape[:-2], strict=True):
        if dim not in x.dims:
            continue
        if x.sizes[dim] != size:
            raise ValueError(f"{what} has {x.sizes[dim]} along {dim!r}, the observations {size}: select the same ones.")
        if dim in x.coords and dim in like.coords and not np.array_equal(x[dim], like.coords[dim]):
            raise ValueError(
                f"{what} has other coordinates along {dim!r} than the observations, or in another order: bring them "
                f"together with .sel({dim}=obs.{dim}), or drop_vars({dim!r}) if they are the same windows in turn."
            )


def trajectory(
    x: Tensor, state: StateLabels, dt: float, dims: Sequence[Hashable] = (SAMPLE,), attrs: dict | None = None
) -> xr.DataArray:
    """A tensor `(..., T, n)` as a labelled trajectory that starts at time 0."""
    times = xr.DataArray(np.arange(x.shape[-2]) * dt, dims=TIME, attrs={"long_name": "time", "units": state.time_units})
    return xr.DataArray(
        x.detach().cpu().numpy(), dims=(*dims, *CORE), coords={TIME: times, **state.coordinates()}, attrs=attrs
    )
