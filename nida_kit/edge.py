"""The one edge between labelled arrays and tensors, both ways.

Outside, a trajectory is an `xr.DataArray` with the dims (..., time, *state): the state's own dims are `component`, or
those of a grid, such as y and x. Observations are an `xr.Dataset` with

    value             (..., time, *state)    what was measured, NaN where nothing was
    noise_std         any of these dims      its error's standard deviation, in the same units; or instead of it
    noise_covariance  (component, other_component), and any of time and the leading dims: of the errors of one time, or
                      (time, component, other_time, other_component): of all errors of a window; for a field y, x,
                      other_y, other_x, and so on

Errors that drift along the track of an instrument have a noise_std, and as coordinates `track` of each value,
`along_track`, the distance along it, and one `noise_length`: within a track they are correlated as
exp(-|distance| / noise_length).

Values behind an observation operator always lie along `component`. Inside, everything is a tensor `(..., T, n)`: here,
and only here, a field is folded to a vector and unfolded again. Nothing is repaired on the way in: what cannot be used
is a `ValueError`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from nida_kit import checks, flags
from nida_kit.dates import later, model_times, natural_unit
from nida_kit.linalg.fields import nearest_at_sea
from nida_kit.state import (
    COMPONENT,
    OBSERVED,
    OTHER,
    SAMPLE,
    TIME,
    Labels,
    StateLabels,
    declared_units,
    grid_dims,
    reserved,
    storable,
)
from nida_kit.units import conversion

NOISE, COVARIANCE = "noise_std", "noise_covariance"
TRACK, ALONG, LENGTH = "track", "along_track", "noise_length"  # of errors that drift along tracks
NEXT = ("next_mean", "next_covariance", "next_time")  # in results: where one may go on
OBS_COMPONENT = "obs_component"  # in results: what was observed behind an operator


@dataclass(frozen=True)
class ObservedTensors:
    """Observations as tensors, and all that is needed to label a result like them.

    Attributes:
        value: `(..., T, p)`, NaN where not observed.
        noise_std: `(..., T, p)`, 1 where not observed.
        dims: names of the leading dims.
        coords: the result's coordinates.
        dt: time step.
        times: in the state's unit of time, `(T,)`; of dates, since 1970-01-01.
        state: the labels of the state that results are of.
        labels: what the values of one time lie along, and their labels: the state's dims, or `obs_component`.
        noise_covariance: `(..., T, p, p)` of each time, or `(..., T, p, T, p)` of the whole window, with the rows and
            columns of the identity where not observed; None if the errors are independent. Then noise_std is the root
            of its diagonal.
        tracks: track `(..., T, p)`, NaN where none is, distance along it `(..., T, p)`, and the length over which the
            errors of a track are correlated; None if they are not.
        converted: which units were, and to which; "" if none.
    """

    value: Tensor
    noise_std: Tensor
    dims: tuple[Hashable, ...]
    coords: dict[Hashable, Any]
    dt: float
    times: Tensor
    state: Labels
    labels: dict[str, Sequence]
    noise_covariance: Tensor | None
    tracks: tuple[Tensor, Tensor, float] | None
    converted: str


# Fields and vectors


def fold(x: Tensor, shape: Sequence[int]) -> Tensor:
    """States `(..., *shape)` as vectors `(..., n)`."""
    return x if len(shape) == 1 else x.flatten(-len(shape))


def unfold(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Vectors `(..., n)` as states `(..., *shape)`."""
    return x if len(shape) == 1 else x.unflatten(-1, tuple(shape))


def _folded(array: xr.DataArray | xr.Variable, lead: Sequence[Hashable], *groups: Sequence[Hashable]) -> np.ndarray:
    """An array's values with the leading dims, and one axis for each group of dims."""
    array = array.transpose(*lead, *(dim for group in groups for dim in group))
    sizes = [math.prod(array.sizes[dim] for dim in group) for group in groups]
    return array.values.astype(float).reshape(*array.shape[: len(lead)], *sizes)


# Time


def time_step(time: xr.DataArray, expected: float | None = None, unit: str | None = None) -> float:
    """The even spacing of a time coordinate.

    Args:
        time: the coordinate, `(T,)`: numbers, spans or dates.
        expected: the spacing that is needed, if any; then one single time is allowed.
        unit: of the spacing; None is the coordinate's own.

    Raises:
        ValueError: not times, not evenly increasing, or not `expected`.
    """
    if time.size == 0:
        raise ValueError("The window is empty: its time dimension has size 0. Select at least one time step.")
    times = model_times(time, natural_unit(time) if unit is None else unit)
    if time.size == 1:
        if expected is None:
            raise ValueError(
                "One single time gives no time step, and a model needs one: add a time without values, "
                "obs.reindex(time=[t, t + dt]) with t = obs.time.values[0] and dt as the model's step, and take "
                "result.isel(time=[0]); or use a method that knows its step."
            )
        return expected
    step = _even_spacing(times)
    if expected is not None and abs(step - expected) > 1e-3 * expected:
        raise ValueError(
            f"The observations' time step is {step:g}, the method works with {expected:g}. Bring them onto its steps, "
            f"nk.grid(obs, method, dt={expected:g}), or use a method made for theirs."
        )
    return step


def _even_spacing(times: np.ndarray) -> float:
    """The step of at least two times."""
    gaps = np.diff(times)
    step = float((times[-1] - times[0]) / gaps.size)
    tolerance = 1e-3 * abs(step)
    if step <= 0 or np.abs(gaps - step).max() > tolerance:
        raise ValueError(
            f"The time coordinate is not evenly increasing (steps from {gaps.min():g} to {gaps.max():g}). Put all "
            "values on the model's steps, with NaN where nothing was measured: nk.grid(obs, method, dt=...); "
            "exact=True there keeps their true times."
        )
    return step


# Observations in


def load_observations(path: str | Path | xr.Dataset, flag: Hashable | Sequence[Hashable] | None = None) -> xr.Dataset:
    """Observations from a NetCDF file, in memory; `attrs["observations_file"]` is its path, in results too.

    >>> import nida_kit as nk, tempfile
    >>> obs = nk.observe(nk.Lorenz63().simulate(1, 9, 0.05), components=["x"], every=4, noise_std=0.4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     obs.to_netcdf(f"{folder}/mine.nc")
    ...     again = nk.load_observations(f"{folder}/mine.nc")
    >>> again["value"].sizes
    Frozen({'sample': 1, 'time': 9, 'component': 3})

    Args:
        path: of a file that holds `value` and `noise_std` or `noise_covariance`, as the module describes; or what was
            read from one.
        flag: which quality flags the good values have: one or several of the flag's values, or of its
            `flag_meanings`. All others become NaN, and so do values without any flag; None looks at no flag. The flags
            are `value_qc`, or what value's attribute `ancillary_variables` names (CF conventions, section 3.4), or
            the only variable whose name or attributes say that it holds flags: `qc`, `status_flag`, `flag_meanings`.

    Raises:
        ValueError: no file, none that can be read, or one that lacks something; flags that it has not, or bit masks.
    """
    obs = path if isinstance(path, xr.Dataset) else _named(read_file(path)).assign_attrs(observations_file=str(path))
    obs = obs if flag is None else _good(obs, flag)
    check_observations(obs)
    return obs


def read_file(path: str | Path) -> xr.Dataset:
    """All of a NetCDF file, or of a Zarr store, which is a folder.

    Raises:
        ValueError: no such file, or none that can be read.
    """
    if not isinstance(path, str | Path) or not Path(path).exists():
        raise ValueError(f"{str(path)!r} is no file, nor the folder of a Zarr store.")
    try:
        return xr.open_zarr(path, consolidated=False).load() if Path(path).is_dir() else xr.load_dataset(path)
    except Exception as error:  # what the libraries below raise depends on where a file is damaged
        said = (str(error).splitlines() or [""])[0]
        known = "did not find a match" not in said  # among xarray's readers, which it lists at length
        raise ValueError(
            f"{str(path)!r} cannot be read as NetCDF or Zarr; it may be another format, or cut off. Of a table, which "
            "nida reconstruct takes as .csv, nk.grid(pd.read_csv(path), method).to_netcdf(...) makes one."
            + (f" What xarray said: {type(error).__name__} {said}" if known else "")
        ) from error


def _named(obs: xr.Dataset) -> xr.Dataset:
    """Names that are arrays of characters, as files hold them, padded by blanks or zeros, as text."""
    chars = {n: c for n, c in obs.coords.items() if c.dtype.kind == "S" and c.dims == (n,)}
    texts = {n: [each.decode().rstrip("\0 ") for each in c.values] for n, c in chars.items()}
    return obs.assign_coords({n: (n, x, chars[n].attrs) for n, x in texts.items()})


def flags_of(obs: xr.Dataset) -> list[str]:
    """The names of the variables that say how good the values are."""
    attrs = {str(n): obs[n].attrs for n in obs.data_vars if n not in ("value", NOISE, COVARIANCE)}
    return flags.among(attrs, _ancillary(obs))


def _ancillary(obs: xr.Dataset) -> list[str]:
    """What the values name as belonging to them, besides their errors."""
    return str(obs["value"].attrs.get("ancillary_variables", "")).split() if "value" in obs else []


def _good(obs: xr.Dataset, flag: Hashable | Sequence[Hashable]) -> xr.Dataset:
    """The observations whose flags are among some, without the flags."""
    name = flags.chosen(flags_of(obs), "value", _ancillary(obs))
    given = obs[name]
    kept = given.copy(data=flags.good(name, given.values, given.attrs, flag))
    if "value" in obs and (foreign := [d for d in kept.dims if d not in obs["value"].dims]):
        raise ValueError(f"{name} has the dims {foreign} that value has not: a flag is of each value.")
    return obs.assign(value=obs["value"].where(kept)).drop_vars(name)


def check_observations(obs: xr.Dataset, dims: Sequence[str] | None = None) -> None:
    """Check that observations have the variables, dims and coordinates that they need; no value is read.

    Args:
        obs: as the module describes.
        dims: what the values of one time lie along; None takes any.

    Raises:
        ValueError: they have not.
    """
    if not isinstance(obs, xr.Dataset):
        both = ""
        if isinstance(obs, tuple) and len(obs) == 2:
            both = " nk.grid(..., exact=True) gives two: obs, operator = nk.grid(...); pass operator=operator as well."
        raise ValueError(f"Observations are an xr.Dataset with value and noise_std, not a {type(obs).__name__}.{both}")
    if "value" not in obs:
        raise ValueError(f"{_lacks(obs, 'value')} It holds what was measured: obs.rename(your_name='value').")
    error = _error_of(obs)
    value = obs["value"]
    for dim in (TIME, *(dims or ())):
        if dim not in value.dims:
            advice = f"rename, or expand_dims({dim!r})"
            if TIME in value.coords and value[TIME].dims and TIME not in value.dims:
                advice = "values with times and places of their own go through nk.grid(obs, method, exact=True)"
            raise ValueError(f"obs.value has dims {value.dims}; it needs {dim!r}: {advice}.")
        if dim not in value.coords:
            raise ValueError(f"obs has no coordinate {dim!r}; assign_coords it, so that it is known what was measured.")
    if value.ndim < 2:
        raise ValueError("obs.value has the dim time alone: expand_dims(component=['x']), with the name of the value.")
    if len(set(value.dims)) < value.ndim:
        raise ValueError(f"obs.value has the dims {value.dims}, one of them twice: rename the dim of the windows.")
    taken = [name for name in (*value.dims, *value.coords) if reserved(name) or name in OBSERVED]
    if taken:
        raise ValueError(
            f"obs has a dim or coordinate {taken[0]!r}, a name that results use themselves: rename it, "
            f'obs.rename({taken[0]}="{taken[0]}_of_obs"), or drop_vars it.'
        )
    for name in ("units", "long_name"):
        along = value.coords[name].dims if name in value.coords else ()
        if name in value.dims or (COMPONENT in value.dims and along not in ((COMPONENT,), ())):
            raise ValueError(
                f"obs has a dim or coordinate {name!r} along {along or value.dims}; results have one along "
                f"'component': rename it, obs.rename({name}='{name}_of_obs')."
            )
    for array in (value, error):
        checks.real(f"obs.{array.name}", array)
    if error.name == COVARIANCE and LENGTH in obs.variables:
        raise ValueError(
            "The observations have noise_covariance and noise_length, and each says how errors are correlated: "
            "obs.drop_vars('noise_length'), or give noise_std."
        )
    foreign = set(error.dims) - set(value.dims)
    if error.name == COVARIANCE:
        foreign -= {f"{OTHER}{dim}" for dim in value.dims}
    if foreign:
        raise ValueError(f"obs.{error.name} has dims {sorted(map(str, foreign))} that obs.value {value.dims} has not.")


def _lacks(obs: xr.Dataset, name: str) -> str:
    return f"The observations have no variable {name!r}, only {sorted(map(str, obs.data_vars))}."


def _error_of(obs: xr.Dataset) -> xr.DataArray:
    """noise_std or noise_covariance, the one that there is."""
    given = [name for name in (NOISE, COVARIANCE) if name in obs]
    if not given:
        raise ValueError(
            f"{_lacks(obs, NOISE)} It is the standard deviation of the measurement error, in value's unit: "
            "obs.assign(noise_std=0.4). Correlated errors have a noise_covariance instead."
        )
    if len(given) > 1:
        raise ValueError(
            "The observations have noise_std and noise_covariance, and each says how large the errors are: "
            "obs.drop_vars('noise_std') if they are correlated, obs.drop_vars('noise_covariance') if not."
        )
    return obs[given[0]]


def read_observations(
    obs: xr.Dataset, state: Labels, dt: float | None = None, *, direct: bool = True
) -> ObservedTensors:
    """Check observations and turn them into float64 tensors.

    Args:
        obs: `value` and `noise_std` or `noise_covariance`, as the module describes.
        state: the labels of the state that the method knows.
        dt: the method's time step; None takes whatever even spacing comes.
        direct: the values are the state's own (no observation operator): absent ones are added as NaN.

    Raises:
        ValueError: anything missing, mislabelled, infinite or non-positive.
    """
    dims = state.dims if direct else (COMPONENT,)
    check_observations(obs, dims)
    obs = _named(obs)
    value, error = obs["value"], _error_of(obs)
    for array in (value, error):
        checks.no_fill(f"obs.{array.name}", array, array.attrs)
    if direct and (more := [d for d in grid_dims(value) if d not in dims]):
        raise ValueError(
            f"The observations are of a field along {list(grid_dims(value))}, and the state has {list(dims)}: select "
            f"one along {more[0]!r}, obs.sel({more[0]}={value[more[0]].values[0]:g}, drop=True)."
        )
    step = time_step(value[TIME], dt, state.time_units)
    value, error, converted = _in_units_of(state, value, error) if direct else (value, error, "")
    for dim in dims:
        known = state.indexes[dim] if direct else None
        labels = _known_labels(dim, value[dim].values.tolist(), known)
        value, error = (_relabelled(array, dim, labels) for array in (value, error))
        if direct and labels != list(known):
            value = value.reindex({dim: list(known)})
    lead = tuple(dim for dim in value.dims if dim not in (TIME, *dims))
    _check_lead(lead, state)
    if 0 in value.shape:
        raise ValueError(f"The observations are empty: sizes {dict(value.sizes)}.")
    value = value.transpose(*lead, TIME, *dims)
    y = _folded(value, (*lead, TIME), dims)
    if np.isinf(y).any():
        infinite = checks.counted(np.isinf(y).sum(), "infinite value")
        raise ValueError(f"obs.value holds {infinite}; mark what was not measured by NaN.")
    R = _read_covariance(error, value, y, lead, dims) if error.name == COVARIANCE else None
    std = _read_std(error, value, y, lead, dims) if R is None else np.sqrt(variances(R, lead))
    coords = {name: c for name, c in value.coords.items() if not set(dims) & set(c.dims)} | state.coordinates()
    dated = value[TIME].dtype.kind not in "iuf"  # what has a unit of its own is written with it
    about = {"long_name": "time"} | ({} if dated else {"units": state.time_units})
    coords[TIME] = value[TIME].assign_attrs(about | value[TIME].attrs)
    labels = dict(state.indexes) if direct else {OBS_COMPONENT: value[COMPONENT].values.tolist()}
    return ObservedTensors(
        torch.from_numpy(y.copy()),
        torch.from_numpy(std),
        lead,
        coords,
        step,
        torch.from_numpy(model_times(value[TIME], state.time_units)),
        state,
        labels,
        None if R is None else torch.from_numpy(R),
        _read_tracks(value, y, (*lead, TIME), dims) if LENGTH in obs.variables else None,
        converted,
    )


def in_state_units(obs: xr.Dataset, state: Labels) -> xr.Dataset:
    """Observations of a state's own values, in its units.

    Raises:
        ValueError: units that cannot be converted.
    """
    value, error, said = _in_units_of(state, obs["value"], _error_of(obs))
    if not said:
        return obs
    told = _declared(value, state)
    return obs.assign({"value": told, error.name: error}).assign_coords(
        {"units": told["units"]} if "units" in told.coords else {}
    )


def in_units_of(state: Labels, x: xr.DataArray, what: str) -> xr.DataArray:
    """An array of a state's values in its units; units that are not declared are taken to be those.

    Args:
        state: the labels of the state.
        x: with any of its dims.
        what: it is, for the error.

    Raises:
        ValueError: units that cannot be converted.
    """
    factor, offset, said = _conversions(state, x, what)
    return _declared((x * factor + offset).transpose(*x.dims).assign_attrs(x.attrs), state) if said else x


def _declared(x: xr.DataArray, state: Labels) -> xr.DataArray:
    """The array as one in the state's units."""
    if COMPONENT not in state.dims:
        return x.assign_attrs(units=state.units)
    own = dict(zip(state.components, state.units, strict=True))
    x = x.assign_coords(units=(COMPONENT, [own.get(c, "1") for c in x[COMPONENT].values.tolist()]))
    return x.drop_attrs(deep=False).assign_attrs({k: v for k, v in x.attrs.items() if k != "units"})


def _in_units_of(state: Labels, value: xr.DataArray, error: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray, str]:
    """Values and their errors in the state's units, and what was converted."""
    factor, offset, said = _conversions(state, value, "obs.value")
    own, said_of_error = factor, ""
    if error.name == NOISE and error.attrs.get("units"):  # 300 mK of values in degC, say; a difference has no offset
        declared = value.drop_vars("units", errors="ignore").assign_attrs(units=error.attrs["units"])
        own, _, said_of_error = _conversions(state, declared, f"obs.{NOISE}")
    if not said and not said_of_error:
        return value, error, ""
    rows = own if error.name == NOISE else factor * factor.rename({d: f"{OTHER}{d}" for d in factor.dims})
    error = (error * rows).rename(error.name).drop_attrs(deep=False)  # the unit that it had
    more = [f"errors: {said_of_error}"] if said_of_error not in ("", said) else []
    return value * factor + offset, error, ", ".join([*([said] if said else []), *more])


def _conversions(state: Labels, array: xr.DataArray, what: str) -> tuple[xr.DataArray, xr.DataArray, str]:
    """Factor and offset that take an array of the state's values to the state's units, and what that is in words.

    Its units are declared along `component`, or in its attributes for all of it.
    """
    if COMPONENT not in state.dims:
        pairs = {None: (declared_units(array)[0], state.units)}
    else:
        own, labels = dict(zip(state.components, state.units, strict=True)), array[COMPONENT].values.tolist()
        pairs = {c: (unit, own.get(c)) for c, unit in zip(labels, declared_units(array), strict=True)}
    if all(given in (None, wanted) for given, wanted in pairs.values()):
        return xr.DataArray(1.0), xr.DataArray(0.0), ""
    found, said = [], []
    for name, (given, wanted) in pairs.items():
        known = isinstance(given, str) and wanted is not None
        found.append(conversion(given, wanted, what if name is None else f"{what}, {name},") if known else (1.0, 0.0))
        if found[-1] != (1.0, 0.0):
            said.append(f"{given} to {wanted}" if name is None else f"{name}: {given} to {wanted}")
    if None in pairs:
        factor, offset = (xr.DataArray(x) for x in found[0])
    else:
        factor, offset = (xr.DataArray(list(x), {COMPONENT: list(pairs)}, COMPONENT) for x in zip(*found, strict=True))
    return factor, offset, ", ".join(said)


def _check_lead(lead: Sequence[Hashable], state: Labels) -> None:
    """Windows do not lie along what the state lies along."""
    both = [dim for dim in lead if dim in state.dims]
    if both:
        raise ValueError(
            f"obs.value, of an operator, has the dim {both[0]!r} that the state itself has: values behind an operator "
            f"lie along 'component', and windows along dims of other names: obs.rename({both[0]}=...)."
        )


def _known_labels(dim: str, given: list, known: Sequence | None) -> list:
    """The labels along a dim, as the state has them: unique, and among those of the state if there is one."""
    if len(set(given)) < len(given):
        raise ValueError(f"The {dim} coordinate repeats itself: {given}. Select each once, or rename them.")
    if known is None:
        return given
    found = _like(known, given)
    unknown = [label for label, there in zip(given, found, strict=True) if there is None]
    if unknown and dim == COMPONENT:
        raise ValueError(
            f"Components {unknown} are unknown here; the state has {list(known)}. Rename them, drop "
            "them, or say how they are measured with operator=."
        )
    if unknown:
        raise ValueError(
            f"Along {dim!r} the observations lie at {_shortened(unknown)}, where the state has no point: its grid is "
            f"{_shortened(known)}. Bring them onto it, nk.grid(obs, method) (there, exact=True keeps true "
            "places), or say how they are measured with operator=."
        )
    return found


def _like(known: Sequence, given: Sequence) -> list:
    """Each given label as the known ones have it; None where there is none. Numbers may be off by rounding."""
    if not all(isinstance(label, float) for label in known):
        names = set(known)
        return [label if label in names else None for label in given]
    if not all(isinstance(label, int | float) for label in given):
        return [None] * len(given)
    grid = np.array(known)
    gaps = np.diff(np.sort(grid))
    tolerance = 1e-3 * gaps.min() if gaps.size else 1e-6 * max(1.0, abs(grid[0]))
    nearest = np.abs(np.subtract.outer(np.array(given, float), grid)).argmin(1)
    return [known[k] if abs(known[k] - g) <= tolerance else None for k, g in zip(nearest, given, strict=True)]


def _shortened(labels: Sequence) -> str:
    """A list of which only the ends are shown if it is long."""
    labels = list(labels)
    return str(labels) if len(labels) <= 8 else f"[{labels[0]}, {labels[1]}, ..., {labels[-1]}]"


def with_labels_of(value: xr.DataArray, array: xr.DataArray, what: str) -> xr.DataArray:
    """An array with the labels of values, where its own are others by rounding only; further ones stay.

    Raises:
        ValueError: another size along a dim without labels, or labels that come twice.
    """
    for dim in [d for d in array.dims if d in value.dims]:
        if dim not in array.coords or dim not in value.coords:
            if array.sizes[dim] != value.sizes[dim]:
                raise ValueError(
                    f"{what} has {array.sizes[dim]} along {dim!r}, the values {value.sizes[dim]}: label it, or give as "
                    "many."
                )
            continue
        given, known = array[dim].values.tolist(), value[dim].values.tolist()
        labels = [own if label is None else label for own, label in zip(given, _like(known, given), strict=True)]
        if len(set(labels)) < len(labels):
            raise ValueError(f"{what} repeats a label along {dim!r}: select each once.")
        array = _relabelled(array, dim, labels)
    return array


def _relabelled(array: xr.DataArray, dim: str, labels: list) -> xr.DataArray:
    """The array with these labels along a dim that it may have."""
    if dim not in array.dims or array[dim].values.tolist() == labels:
        return array
    return array.assign_coords({dim: array[dim].copy(data=labels)})


def _read_std(
    std: xr.DataArray, value: xr.DataArray, y: np.ndarray, lead: Sequence[Hashable], dims: Sequence[str]
) -> np.ndarray:
    """Standard deviations `(..., T, p)`, positive wherever there is a value, and 1 elsewhere."""
    other = {dim: value[dim] for dim in dims if dim in std.dims and not np.array_equal(std[dim], value[dim])}
    std = std.reindex(other) if other else std
    std = _folded(std.variable.set_dims(value.sizes), (*lead, TIME), dims)  # one dataset: their windows have one order
    bad = ~np.isnan(y) & ~((std > 0) & np.isfinite(std))
    if bad.any():
        raise ValueError(
            f"obs.noise_std must be positive and finite wherever something was measured; it holds "
            f"{std[bad].flat[0]:g}. An exact measurement is a small positive noise_std."
        )
    return np.where(np.isnan(y), 1.0, std)


# Correlated observation errors


def _read_tracks(
    value: xr.DataArray, y: np.ndarray, lead: Sequence[Hashable], dims: Sequence[str]
) -> tuple[Tensor, Tensor, float]:
    """Track and distance of each value, `(..., T, p)`, and the length over which errors are correlated."""
    track, distance, length = track_of(value)
    track, distance = (_folded(x.broadcast_like(value), lead, dims) for x in (track, distance))
    check_tracks(track, distance, ~np.isnan(y), own=2)
    return torch.from_numpy(np.where(np.isnan(y), np.nan, track)), torch.from_numpy(distance.copy()), length


def track_of(value: xr.DataArray | xr.Dataset) -> tuple[xr.DataArray, xr.DataArray, float]:
    """The coordinates track and along_track of values, and the length over which errors are correlated.

    Raises:
        ValueError: one of them lacks, or is no number.
    """
    lacking = [name for name in (TRACK, ALONG, LENGTH) if name not in value.coords]
    if lacking:
        raise ValueError(
            f"Errors that drift along tracks need the coordinates {[TRACK, ALONG, LENGTH]}, and {lacking} are none "
            "of the observations': nk.tracks gives the first two, assign_coords(noise_length=...) the last."
        )
    for name in (TRACK, ALONG):
        checks.real(f"obs.{name}", value[name])
    length = value.coords[LENGTH]
    return (
        value.coords[TRACK],
        value.coords[ALONG],
        checks.positive(LENGTH, length.item() if not length.ndim else length),
    )


def check_tracks(track: np.ndarray, distance: np.ndarray, seen: np.ndarray, own: int) -> None:
    """Raises a ValueError where values of a track have no distance along it, or two of them the same.

    Args:
        track: `(...)`, NaN where none is.
        distance: `(...)`.
        seen: where there is a value.
        own: how many of the last axes are one window's.
    """
    counts = seen & ~np.isnan(track)
    if (lost := counts & ~np.isfinite(distance)).any():
        said = checks.counted(lost.sum(), "value of a track has", "values of tracks have")
        raise ValueError(f"{said} no distance along it, and errors need one.")
    windows = [a.reshape(-1, math.prod(a.shape[a.ndim - own :])) for a in (track, distance, counts)]
    for its_track, its_distance, its_counts in zip(*windows, strict=True):
        both = np.stack([its_track[its_counts], its_distance[its_counts]])
        found, times = np.unique(both, axis=1, return_counts=True)
        if (times > 1).any():
            which, where = found[:, times.argmax()]
            raise ValueError(
                f"Track {which:g} has {times.max()} values at the distance {where:g}, whose errors would be the same: "
                "give lines of points that are measured at other times a track of their own."
            )


def align_covariance(R: xr.DataArray, value: xr.DataArray, lead: Sequence[Hashable], dims: Sequence[str]) -> np.ndarray:
    """A labelled covariance on the labels of values, NaN where it says nothing.

    Args:
        R: with the dims `dims`, `other_` and each of them; `time` or both `time` and `other_time`; any of `lead`.
        value: with the dims (*lead, time, *dims).
        lead: names of the leading dims.
        dims: what the values of one time lie along.

    Returns:
        `(..., T, p, p)`, or `(..., T, p, T, p)` with other_time; of size 1 along leading dims and time that R has not.

    Raises:
        ValueError: dims or labels that do not fit.
    """
    window = OTHER + TIME in R.dims
    paired = (TIME, *dims) if window else tuple(dims)
    _check_covariance_dims(R, value, paired, lead)
    R = with_labels_of(value, R, "noise_covariance")
    for dim in paired:
        R = _paired(R, dim, value)
    shared = [dim for dim in (TIME, *lead) if dim in R.coords and dim in R.dims and dim in value.coords]
    R = R.reindex({dim: value[dim] for dim in (*shared, *paired) if not R[dim].equals(value[dim])})
    R = R.reindex({OTHER + dim: value[dim].values for dim in paired})
    R = R.expand_dims([dim for dim in (*lead, TIME) if dim not in R.dims])
    others = [OTHER + dim for dim in dims]
    return _folded(R, lead, [TIME], dims, *([[OTHER + TIME]] if window else []), others)


def _check_covariance_dims(
    R: xr.DataArray, value: xr.DataArray, paired: Sequence[str], lead: Sequence[Hashable]
) -> None:
    """Rows and columns for each dim, and nothing that the values do not have."""
    needed = [dim for each in paired for dim in (each, OTHER + each)]
    missing = [dim for dim in needed if dim not in R.dims]
    foreign = [dim for dim in R.dims if dim not in (*needed, TIME, *lead)]
    if missing or foreign:
        raise ValueError(
            f"noise_covariance has the dims {R.dims}: {missing} are missing and {foreign} unknown. Its rows lie along "
            f"{list(paired)} and its columns along {[OTHER + dim for dim in paired]}, beside any of "
            f"{[d for d in (*lead, TIME) if d not in paired]}."
        )


def _paired(R: xr.DataArray, dim: str, value: xr.DataArray) -> xr.DataArray:
    """The covariance with the labels of its rows on its columns; labelled columns may be more, as after obs.sel."""
    other = OTHER + dim
    if dim not in R.coords:
        R = R.assign_coords({dim: value[dim]})
    rows = R[dim].values.tolist()
    if other not in R.coords and R.sizes[other] != len(rows):
        raise ValueError(
            f"noise_covariance has {len(rows)} along {dim!r} and {R.sizes[other]} along {other!r}: it is square."
        )
    columns = _like(rows, R[other].values.tolist()) if other in R.coords else rows
    kept = [k for k, label in enumerate(columns) if label is not None]
    columns = [columns[k] for k in kept]
    if len(set(rows)) < len(rows) or len(set(columns)) < len(columns):
        raise ValueError(f"noise_covariance repeats a label along {dim!r} or {other!r}: select each once.")
    if len(columns) < len(rows):
        raise ValueError(
            f"noise_covariance has other labels along {other!r}, {_shortened(R[other].values.tolist())}, than along "
            f"{dim!r}, {_shortened(rows)}: select the same, or drop_vars({other!r})."
        )
    return R.isel({other: kept}).assign_coords({other: (other, columns)})


def fill_covariance(R: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """A covariance with the rows and columns of the identity where nothing is seen.

    Args:
        R: as `align_covariance` gives it.
        seen: `(..., T, p)`, which broadcasts with R.
    """
    window = R.ndim > seen.ndim + 1
    one = np.eye(math.prod(seen.shape[-2:])).reshape(*seen.shape[-2:] * 2) if window else np.eye(seen.shape[-1])
    both = seen[..., None, None] & seen[..., None, None, :, :] if window else seen[..., None] & seen[..., None, :]
    return np.where(both, R, one)


def check_covariance(R: np.ndarray, value: xr.DataArray, lead: Sequence[Hashable]) -> None:
    """Raises a ValueError if a filled covariance is not symmetric and positive definite; it says where.

    Args:
        R: as `fill_covariance` gives it.
        value: what it is of, for its labels.
        lead: names of the leading dims.
    """
    window = R.ndim > len(lead) + 3
    matrices = R.reshape(*R.shape[: len(lead)], math.prod(R.shape[-2:]), -1) if window else R
    found = checks.not_a_covariance(torch.from_numpy(matrices))
    if found is None:
        return
    bad, why = found
    names = lead if window else (*lead, TIME)
    places = {dim: value[dim].values[k].item() for dim, k, n in zip(names, bad, R.shape, strict=False) if n > 1}
    where = f" (at {', '.join(f'{dim} {label!r}' for dim, label in places.items())})" if places else ""
    raise ValueError(
        "noise_covariance must be finite, symmetric and positive definite on what was measured; it is not"
        f"{where}: it {checks.sentence(why)}"
    )


def _read_covariance(
    R: xr.DataArray, value: xr.DataArray, y: np.ndarray, lead: Sequence[Hashable], dims: Sequence[str]
) -> np.ndarray:
    """`(..., T, p, p)` or `(..., T, p, T, p)`, positive definite."""
    R = fill_covariance(align_covariance(R, value, lead, dims), ~np.isnan(y))
    check_covariance(R, value, lead)
    return R


def variances(R: np.ndarray, lead: Sequence[Hashable]) -> np.ndarray:
    """The diagonal `(..., T, p)` of a covariance as `align_covariance` gives it."""
    if R.ndim == len(lead) + 3:
        return R.diagonal(axis1=-2, axis2=-1)
    size = math.prod(R.shape[-2:])
    return R.reshape(*R.shape[:-4], size, size).diagonal(axis1=-2, axis2=-1).reshape(*R.shape[:-4], *R.shape[-2:])


# Trajectories in


def read_trajectory(
    x: xr.DataArray, like: ObservedTensors, state: Labels, what: str, land: Tensor | None = None
) -> Tensor:
    """A labelled trajectory as a float64 tensor `(..., T, n)` on the observations' window.

    Args:
        x: the trajectory.
        like: the observations.
        state: the labels of the state.
        what: it is, for the error.
        land: `(n,)`, which of a field's points are land: there it holds what the nearest point at sea does.

    Raises:
        ValueError: dims, times, coordinates or values that do not fit.
    """
    _check_trajectory(x, like, state, what)
    lead = [dim for dim in like.dims if dim in x.dims]
    x = in_units_of(state, x, what)
    for dim in state.dims:
        x = _relabelled(x, dim, _like(state.indexes[dim], x[dim].values.tolist()))
    x = x.sel({dim: list(labels) for dim, labels in state.indexes.items()})
    values = _folded(x, (*lead, TIME), state.dims)
    if land is not None:
        values = values[..., nearest_at_sea(~land, state.shape)]
    if not np.isfinite(values).all():
        place = "component" if isinstance(state, StateLabels) else "point" if land is None else "point at sea"
        raise ValueError(f"{what} holds NaN or infinite values; every time and {place} is needed.")
    shape = [x.sizes.get(dim, 1) for dim in like.dims]
    return torch.from_numpy(values.reshape(*shape, *values.shape[-2:])).expand(*like.value.shape[:-1], state.size)


def _check_trajectory(x: xr.DataArray, like: ObservedTensors, state: Labels, what: str) -> None:
    """Labels that are those of the observations; no value is read."""
    core = (TIME, *state.dims)
    if not isinstance(x, xr.DataArray):
        raise ValueError(f"{what} is an xr.DataArray with dims (..., {', '.join(core)}), not a {type(x).__name__}.")
    for dim in core:
        if dim not in x.dims or dim not in x.coords:
            raise ValueError(f"{what} needs the dim and coordinate {dim!r}; it has dims {x.dims}.")
    foreign = [dim for dim in x.dims if dim not in (*like.dims, *core)]
    if foreign:
        raise ValueError(f"{what} has dims {foreign} that the observations have not; select one of each.")
    checks.real(what, x)
    for dim, known in state.indexes.items():
        given = x[dim].values.tolist()
        if len(given) != len(known) or set(_like(known, given)) != set(known):
            raise ValueError(
                f"{what} has {'components' if dim == COMPONENT else f'along {dim!r} the coordinates'} "
                f"{_shortened(given)}; needed are {_shortened(known)}, each once: select them."
            )
    times = like.coords[TIME]
    same = x.sizes[TIME] == times.size
    if not same or not np.allclose(model_times(x[TIME], state.time_units), like.times, rtol=0, atol=1e-3 * like.dt):
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


# States in


def read_next(start: xr.Dataset, obs: xr.Dataset, state: Labels) -> tuple[Tensor, Tensor]:
    """What a result says of the step after its window, for observations that begin there.

    Args:
        start: a result, or its `next_mean`, `next_covariance` and `next_time`.
        obs: of the same records, if there are several.
        state: the labels of the state that the method knows.

    Returns:
        Mean `(W, n)` and covariance `(W, n, n)` of each of W records.

    Raises:
        ValueError: no such result, or one of another state, time or other records.
    """
    if not isinstance(start, xr.Dataset) or (missing := [name for name in NEXT if name not in start]):
        has = f"lacks {missing}" if isinstance(start, xr.Dataset) else f"is a {type(start).__name__}"
        raise ValueError(
            f"start {has}: pass the result of nk.Cycled(...).assimilate(earlier), or its {list(NEXT)}, of a method "
            "with a model."
        )
    check_observations(obs)
    mean, covariance = start["next_mean"], start["next_covariance"]
    for dim, known in state.indexes.items():
        for name, array in ((dim, mean), (dim, covariance), (OTHER + dim, covariance)):
            given = array[name].values.tolist() if name in array.coords else None
            if given is None or _like(known, given) != list(known):
                raise ValueError(
                    f"start is the state of another system: along {name!r} it has {given and _shortened(given)}, and "
                    f"here there are {_shortened(known)}."
                )
    _check_next_units(start, state)
    lead = [dim for dim in obs["value"].dims if dim in mean.dims and dim not in (TIME, *state.dims)]
    sizes = {d: n for d, n in obs["value"].sizes.items() if d not in (TIME, COMPONENT, *state.dims)}
    if {d: n for d, n in mean.sizes.items() if d not in state.dims} != sizes:
        raise ValueError(f"start has {dict(mean.sizes)}, and the observations are records along {sizes}: select these.")
    for dim in lead:
        if dim in mean.coords and dim in obs.coords and not np.array_equal(mean[dim], obs[dim]):
            raise ValueError(f"start has other coordinates along {dim!r} than the observations: .sel({dim}=obs.{dim}).")
    _check_next_time(start["next_time"], obs[TIME], state)
    values = _folded(mean, lead, state.dims).reshape(-1, state.size)
    square = _folded(covariance, lead, state.dims, [OTHER + dim for dim in state.dims])
    found = torch.from_numpy(values.copy()), torch.from_numpy(square.reshape(-1, state.size, state.size).copy())
    if not all(x.isfinite().all() for x in found):
        raise ValueError("start holds NaN or infinite values: pass the result as assimilate gave it.")
    return found


def _check_next_units(start: xr.Dataset, state: Labels) -> None:
    """A state is carried in the units of its method, or not at all."""
    given = start.coords.get("units")
    own = state.coordinates().get("units")
    if given is not None and own is not None and given.dims == (COMPONENT,) and list(given.values) != own[1]:
        raise ValueError(f"start is in the units {list(given.values)}, and here they are {own[1]}: use one system.")


def _check_next_time(due: xr.DataArray, time: xr.DataArray, state: Labels) -> None:
    """Observations begin where the record before them ended."""
    numbers = model_times(xr.DataArray(np.ravel(due.values), dims=TIME, attrs=due.attrs), state.time_units)
    begins = model_times(time, state.time_units)[0]
    near = 1e-3 * time_step(time, unit=state.time_units)
    if np.abs(numbers - begins).max() > near:
        raise ValueError(
            f"start is the state at the time {np.ravel(due.values)[0]}, and the observations begin at "
            f"{time.values[0]}: let them begin there, with NaN where nothing was measured."
        )


# Trajectories and results out


def trajectory(
    x: Tensor,
    state: Labels,
    dt: float,
    dims: Sequence[Hashable] = (SAMPLE,),
    attrs: dict | None = None,
    *,
    start: float = 0.0,
) -> xr.DataArray:
    """A tensor `(..., T, n)` as a labelled trajectory from the time `start` on."""
    about = {"long_name": "time", "units": state.time_units}
    times = xr.DataArray(start + np.arange(x.shape[-2]) * dt, dims=TIME, attrs=about)
    return storable(
        xr.DataArray(
            unfold(x.detach().cpu(), state.shape).numpy(),
            dims=(*dims, TIME, *state.dims),
            coords={TIME: times, **state.coordinates()},
            attrs=state.attributes | (attrs or {}),
        )
    )


def label(arrays: Mapping[str, tuple[Tensor, str]], read: ObservedTensors, first: Sequence[str] = ()) -> dict:
    """Tensors of a result as labelled variables, by name.

    Args:
        arrays: each a tensor that broadcasts to `(*first, ..., T, n)`, or a number for each window `(...)`; and its
            long name, "" for none.
        read: the observations whose windows these are.
        first: names of dims before those of the windows.
    """
    return {name: _variable(x, long_name, read, tuple(first)) for name, (x, long_name) in arrays.items()}


def label_next(mean: Tensor, covariance: Tensor, read: ObservedTensors) -> dict[str, xr.Variable]:
    """The state of the step after the window, mean `(..., n)` and covariance `(..., n, n)`, as labelled variables."""
    own, lead, state = read.state.dims, read.value.shape[:-2], read.state
    others = tuple(OTHER + dim for dim in own)
    time = later(read.coords[TIME], 1)
    about = {"long_name": "forecast at next_time"}
    square = covariance.reshape(*lead, *state.shape, *state.shape)
    return {
        "next_mean": xr.Variable((*read.dims, *own), unfold(mean, state.shape).numpy(), about),
        "next_covariance": xr.Variable(
            (*read.dims, *own, *others), square.numpy(), about | {"long_name": "covariance of the forecast"}
        ),
        "next_time": xr.Variable(read.dims, np.broadcast_to(time.values[0], lead), time.attrs | {"long_name": "time"}),
    } | {OTHER + dim: xr.Variable(OTHER + dim, list(labels)) for dim, labels in state.indexes.items()}


def label_values(arrays: Mapping[str, tuple[Tensor, str]], read: ObservedTensors) -> dict[str, xr.Variable]:
    """Tensors `(..., T, p)`, a number for each observed value, as labelled variables, by name."""
    dims, shape = (*read.dims, TIME, *read.labels), [len(labels) for labels in read.labels.values()]
    along = {dim: xr.Variable(dim, labels) for dim, labels in read.labels.items() if dim not in read.state.dims}
    return along | {
        name: xr.Variable(dims, unfold(x.cpu(), shape).numpy(), {"long_name": long_name})
        for name, (x, long_name) in arrays.items()
    }


def without_land(result: xr.Dataset, land: Tensor, state: Labels) -> xr.Dataset:
    """A result with NaN on land, where the state has no number.

    Args:
        result: as it is labelled; where one may go on from it (`NEXT`), it stays as it is.
        land: `(n,)`.
        state: the labels of the state.
    """
    sea = xr.DataArray(unfold(~land.cpu(), state.shape).numpy(), dims=state.dims)
    fields = [name for name, x in result.data_vars.items() if set(state.dims) <= set(x.dims) and name not in NEXT]
    return result.assign({name: result[name].where(sea) for name in fields})


def place(index: int, read: ObservedTensors) -> str:
    """One of all observed values `(..., T, p)`, counted along all axes, by its labels."""
    sizes = dict(zip((*read.dims, TIME), read.value.shape, strict=False))
    along = {d: list(read.coords[d].values) if d in read.coords else range(n) for d, n in sizes.items()} | read.labels
    at = np.unravel_index(index, [len(labels) for labels in along.values()])
    found = {d: labels[int(k)] for (d, labels), k in zip(along.items(), at, strict=True)}
    return ", ".join(f"{d} {v:.6g}" if isinstance(v, float) else f"{d} {v}" for d, v in found.items())


def _variable(x: Tensor, long_name: str, read: ObservedTensors, first: tuple[str, ...]) -> xr.Variable:
    lead, about = read.value.shape[:-2], {"long_name": long_name} if long_name else {}
    if not first and x.ndim <= len(lead):
        return xr.Variable(read.dims, x.expand(lead).cpu().numpy(), about)
    x = x.expand(*x.shape[: len(first)], *read.value.shape[:-1], read.state.size)
    dims = (*first, *read.dims, TIME, *read.state.dims)
    return xr.Variable(dims, unfold(x.cpu(), read.state.shape).numpy(), read.state.attributes | about)
