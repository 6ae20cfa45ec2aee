"""What a result says of itself: who made it, from what, and in which units, by the CF conventions.

A file of results is read where nobody remembers the call. So the attributes of the observations stay on it, beside the
records of the method, and its variables have the names and units that other tools look for.
https://cfconventions.org
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import xarray as xr

from nida_kit.state import TIME, Labels, StateLabels, storable

CONVENTIONS = "CF-1.11"
_STATES = ("mean", "std", "first_guess", "draws")  # variables in the units of the state
_ABOUT = {
    "residual": {"units": "1"},
    "weight": {"units": "1"},
    "observed": {"units": "1", "standard_name": "number_of_observations"},
    "misfit": {
        "units": "1",
        "long_name": "root mean square misfit to the observations, in standard deviations of their errors",
    },
}


def with_records(result: xr.Dataset, obs: xr.Dataset, labels: Labels, *, direct: bool) -> xr.Dataset:
    """The result with the attributes of its observations and those of the CF conventions.

    Args:
        result: with the method's records in its attrs; where the observations have an attribute of the same name, it is
            kept as `obs_` and the name.
        obs: that it was made from.
        labels: of the state.
        direct: the values are the state's own, so their standard name is that of the state.
    """
    result.attrs = {"Conventions": CONVENTIONS} | kept(obs.attrs, result.attrs) | result.attrs
    standard_name = obs["value"].attrs.get("standard_name") if direct else None
    for name in _STATES:
        if name in result:
            result[name].attrs |= _units(labels) | _standard_name(name, standard_name)
    for name, about in _ABOUT.items():
        if name in result:
            result[name].attrs |= about
    result[TIME].attrs.setdefault("axis", "T")
    return storable(result)


def kept(attrs: dict[Hashable, Any], records: dict[Hashable, Any]) -> dict[Hashable, Any]:
    """Attributes of observations, as plain values, under names that the records of a method leave free.

    >>> kept({"title": "buoys", "seed": 3, "Conventions": "CF-1.8"}, {"seed": "none"})
    {'title': 'buoys', 'obs_seed': 3}
    """
    plain = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in attrs.items()}
    taken = {*records, "note"}
    return {f"obs_{name}" if name in taken else name: value for name, value in plain.items() if name != "Conventions"}


def _units(labels: Labels) -> dict[str, str]:
    """Of the whole array, where all its components share one."""
    shared = set(labels.units) if isinstance(labels, StateLabels) else set()
    return {"units": shared.pop()} if len(shared) == 1 else {}


def _standard_name(variable: str, standard_name: str | None) -> dict[str, str]:
    """CF marks a standard deviation by a modifier behind the name."""
    if standard_name is None:
        return {}
    return {"standard_name": f"{standard_name} standard_error" if variable == "std" else standard_name}
