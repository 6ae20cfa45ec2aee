"""A state's dims, coordinates and units: what its numbers are called and measured in.

A state is either a few numbers with names (`StateLabels`, the dim `component`) or a field on a grid (`GridLabels`, the
dims of its own, such as y and x). Both say the same of themselves: their `dims` with the labels along each (`indexes`),
their `shape` and `size`, and the coordinates that labelled arrays get. For the algebra, either is a vector of `size`
numbers, in the order of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from nida_kit import checks
from nida_kit.dates import natural_unit
from nida_kit.units import NONE, check_agree

TIME, COMPONENT, SAMPLE, MEMBER = "time", "component", "sample", "member"


CORE = (TIME, COMPONENT)


OTHER = "other_"  # other_time, other_component, ...: the columns of a covariance


# What results add, as dims, coordinates or variables.
RESERVED = (
    "step",
    "temperature",
    MEMBER,
    "draws",
    "mean",
    "std",
    "first_guess",
    "observed",
    "misfit",
    "residual",
    "weight",
    "obs_component",
    # what methods say beside mean and std
    *("start", "cost", "iterations", "distance", "converged", "log_evidence", "effective_particles", "mean_error"),
    *("forecast", "forecast_std", "analysis", "analysis_std"),
    *("next_mean", "next_covariance", "next_time"),
    "_layer",  # along it lies the noise of draws
)


OBSERVED = ("value", "noise_std", "noise_covariance")  # what observations are made of


_AXIS = "state_axis"  # in the attrs of a grid's coordinates: which axis of the state this is


def storable(data: xr.Dataset | xr.DataArray) -> xr.Dataset | xr.DataArray:
    """The same data, whose texts are written to Zarr as texts of any length.

    Zarr 3 has no specification for numpy's texts of a fixed length, and warns of each. In memory nothing changes.
    """
    arrays = data.variables if isinstance(data, xr.Dataset) else data.coords
    for name in arrays:
        array = data[name].variable
        if array.dtype.kind == "U":
            array.encoding["dtype"] = object
    return data


def reserved(name: Hashable) -> bool:
    """Whether results or covariances use this name themselves."""
    return name in RESERVED or str(name).startswith(OTHER)


class _Labels:
    """What both kinds of labels share.

    Attributes:
        indexes: the labels along each dim, in order.
    """

    indexes: dict[str, tuple]
    time_units: str

    @property
    def dims(self) -> tuple[str, ...]:
        """The names of the state's axes."""
        return tuple(self.indexes)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Their sizes."""
        return tuple(map(len, self.indexes.values()))

    @property
    def size(self) -> int:
        """How many numbers a state is."""
        return math.prod(self.shape)

    def ordered(self, name: str, given: Any) -> Any:
        """Numbers for each component, or a matrix of them, in the state's order if they are labelled.

        Args:
            name: of what is given, for the error.
            given: an `xr.DataArray` with any of the state's dims, and of a matrix `other_` and each of them, too; what
                is no such array, and what lies along a dim without labels, is taken as it stands.

        Raises:
            ValueError: other dims, or other labels than the state's.
        """
        if not isinstance(given, xr.DataArray) or not given.dims:
            return given
        rows = self.indexes
        indexes = rows | ({f"{OTHER}{dim}": labels for dim, labels in rows.items()} if given.ndim > len(rows) else {})
        if set(given.dims) != set(indexes):
            raise ValueError(f"{name} has the dims {given.dims}; give it those of the state, {tuple(indexes)}.")
        for dim in given.dims:
            known = given[dim].values.tolist() if dim in given.coords else list(indexes[dim])
            if len(known) != len(indexes[dim]) or set(known) != set(indexes[dim]):
                raise ValueError(
                    f"{name} has the labels {known} along {dim!r}; the state has {list(indexes[dim])}: one of each."
                )
            if dim in given.coords:
                given = given.sel({dim: list(indexes[dim])})
        return given.transpose(*indexes).values


@dataclass(frozen=True)
class StateLabels(_Labels):
    """What the components of a state are called and measured in.

    >>> import nida_kit as nk
    >>> nk.StateLabels(("h", "u"), ("m", "m s-1"), ("height", "speed"), time_units="s").components
    ('h', 'u')

    Attributes:
        components: names, in the order of the tensors' last axis.
        units: one unit per component.
        long_names: one description per component, as plots show it.
        time_units: of time; "1" is the equations' own unit.

    Raises:
        ValueError: not as many units or long names as components.
    """

    components: tuple[str, ...]
    units: tuple[str, ...]
    long_names: tuple[str, ...]
    time_units: str = "1"

    def __post_init__(self):
        for name in ("components", "units", "long_names"):
            checks.store(self, **{name: checks.names(name, getattr(self, name))})
        checks.store(self, time_units=checks.text("time_units", self.time_units))
        if not self.components or len(set(self.components)) < len(self.components):
            raise ValueError(
                f"The components {list(self.components)} need different names, one or more: no method tells them apart."
            )
        if not len(self.components) == len(self.units) == len(self.long_names):
            raise ValueError(
                f"There are {checks.counted(len(self.components), 'component')}, {list(self.components)}, "
                f"{checks.counted(len(self.units), 'unit')} and {checks.counted(len(self.long_names), 'long name')}: "
                "give one of each for every component."
            )

    @property
    def indexes(self) -> dict[str, tuple]:
        return {COMPONENT: self.components}

    @property
    def attributes(self) -> dict[str, str]:
        """What a whole array of states says of itself: nothing, its components have units of their own."""
        return {}

    def coordinates(self) -> dict[str, Any]:
        """The component coordinate with units and long names along it."""
        return {
            COMPONENT: list(self.components),
            "units": (COMPONENT, list(self.units)),
            "long_name": (COMPONENT, list(self.long_names)),
        }


@dataclass(frozen=True)
class GridLabels(_Labels):
    """Where the points of a field lie, and what it is measured in.

    >>> GridLabels({"y": (0.0, 10.0), "x": (0.0, 10.0, 20.0)}, "K", "temperature", coord_units={"y": "km", "x": "km"})
    GridLabels(2 y x 3 x, temperature in K)

    Attributes:
        coords: the dims in the order of the tensors' last axes, each with its coordinates: numbers, none twice. Kept as
            pairs of name and numbers.
        units: of the field.
        long_name: its description, as plots show it.
        coord_units: of the coordinates, by dim; "1" where there is none. Kept as one per dim, in their order.
        time_units: of time; "1" is the equations' own unit.

    Raises:
        ValueError: no dim, a name that something else has, coordinates that are not numbers or come twice.
    """

    coords: Mapping[str, Sequence[float]]
    units: str = "1"
    long_name: str = "field"
    coord_units: Mapping[str, str] = ()
    time_units: str = "1"

    def __post_init__(self):
        coords = _by_dim("coords", self.coords, '{"y": [0.0, 1.0], "x": [0.0, 1.0]}')
        units = _by_dim("coord_units", self.coord_units, '{"y": "km", "x": "km"}')
        for name in ("units", "long_name", "time_units"):
            checks.store(self, **{name: checks.text(name, getattr(self, name))})
        if not coords or (foreign := sorted(set(units) - set(coords))):
            raise ValueError(
                f"A grid needs a dim or more, and units of these only; it has the dims {list(coords)} and units of "
                f'{list(units)}{f", of which {foreign} are no dims" if coords else ""}: GridLabels({{"y": [...], '
                '"x": [...]}), say.'
            )
        checks.store(
            self,
            coords=tuple((dim, _coordinates(dim, values)) for dim, values in coords.items()),
            coord_units=tuple((dim, checks.text(f"coord_units[{dim!r}]", units.get(dim, "1"))) for dim in coords),
        )

    def __repr__(self) -> str:
        sizes = " x ".join(f"{len(values)} {dim}" for dim, values in self.coords)
        return f"GridLabels({sizes}, {self.long_name} in {self.units})"

    @property
    def indexes(self) -> dict[str, tuple]:
        return dict(self.coords)

    @property
    def attributes(self) -> dict[str, str]:
        """What a whole array of states says of itself."""
        return {"units": self.units, "long_name": self.long_name}

    def coordinates(self) -> dict[str, Any]:
        """The coordinate of each dim, with its unit and its place among the axes of a state."""
        units = dict(self.coord_units)
        return {
            dim: (dim, list(values), {"long_name": dim, "units": units[dim], _AXIS: axis})
            for axis, (dim, values) in enumerate(self.coords)
        }


Labels = StateLabels | GridLabels


# What a dim of a grid cannot be called, beside what results add.
_TAKEN = (TIME, COMPONENT, SAMPLE, "obs", *OBSERVED, "units", "long_name")


def _by_dim(name: str, given, example: str) -> dict:
    """What is given for each dim: a mapping, or pairs, as they are kept."""
    try:
        return dict(given)
    except (TypeError, ValueError):
        raise checks.refused(name, given, "a mapping from dims", f"Try {name}={example}.") from None


def _coordinates(dim, values) -> tuple[float, ...]:
    """The coordinates along a dim of a grid; a ValueError if this is none."""
    if not isinstance(dim, str) or dim in _TAKEN or reserved(dim):
        raise ValueError(
            f"A grid cannot have the dim {dim!r}, a name that observations or results use themselves: rename it, "
            f'"{dim}_of_grid", or as the axis is called: "y", "x", "level".'
        )
    name, expected = f"The coordinates of {dim!r}", "a sequence of finite numbers"
    found = checks.array(name, values, expected)
    if found.ndim != 1 or not np.isfinite(found).all():
        raise checks.refused(name, values, expected, "Try [0.0, 1.0].")
    if found.size == 0 or np.unique(found).size < found.size:
        raise ValueError(f"{name} must be one or more and none twice: {found.tolist()}.")
    return tuple(found.tolist())


def declared_units(array: xr.DataArray) -> list[str | None]:
    """The units that an array declares, by its coordinate `units` or in its attributes: of each component, or of all.

    Raises:
        ValueError: both do, and do not agree.
    """
    whole, along = array.attrs.get("units"), array.coords.get("units")
    size = array.sizes.get(COMPONENT, 1)
    if along is None or along.dims not in ((), (COMPONENT,)):
        return [whole] * size
    each = np.broadcast_to(along.values, size).tolist()
    if isinstance(whole, str) and whole.strip() not in NONE:
        for unit in (u for u in each if not isinstance(u, str) or u.strip() not in NONE):
            check_agree(unit, whole, f"The coordinate 'units' of {array.name or 'the array'}", "its attrs['units']")
    return each


def labels_of(array: xr.DataArray) -> Labels:
    """What an array of trajectories says of its states; "1" is the unit where it says none.

    Raises:
        ValueError: dims that no grid can have.
    """
    dims, time_units = state_dims(array), natural_unit(array[TIME])
    if dims == (COMPONENT,):
        names = tuple(map(str, array[COMPONENT].values))
        units = tuple("1" if unit is None else str(unit) for unit in declared_units(array))
        long_names = tuple(map(str, array["long_name"].values)) if "long_name" in array.coords else names
        return StateLabels(names, units, long_names, time_units)
    coords = {dim: array[dim].values.tolist() for dim in dims}
    units = {dim: str(array[dim].attrs["units"]) for dim in dims if "units" in array[dim].attrs}
    name = str(array.attrs.get("long_name", array.name or "field"))
    unit = declared_units(array)[0]
    return GridLabels(coords, "1" if unit is None else str(unit), name, units, time_units)


def state_dims(array: xr.DataArray) -> tuple[Hashable, ...]:
    """The state's own dims of a labelled array, in the state's order.

    They are `component`, or those whose coordinates say that they are a grid's, or, of an array that was made by hand,
    those that follow `time`. Where a single component or point was selected, there is none.
    """
    if COMPONENT in array.coords or COMPONENT in array.dims:
        return (COMPONENT,) if COMPONENT in array.dims else ()
    if any(_AXIS in c.attrs for c in array.coords.values()):
        return grid_dims(array)
    after = array.dims[array.dims.index(TIME) + 1 :] if TIME in array.dims else ()
    return tuple(d for d in after if d not in (SAMPLE, MEMBER))


def grid_dims(array: xr.DataArray) -> tuple[Hashable, ...]:
    """The dims of a labelled array whose coordinates say that they are a grid's, in the state's order."""
    axes = {name: c.attrs[_AXIS] for name, c in array.coords.items() if _AXIS in c.attrs}
    return tuple(sorted((d for d in axes if d in array.dims), key=axes.get))
