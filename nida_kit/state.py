"""Dims, coordinates, units: the one edge between labelled arrays and tensors.

Outside, a trajectory is an `xr.DataArray` with the dims (..., time, component); observations are an `xr.Dataset` with

    value       (..., time, component)   what was measured, NaN where nothing was
    noise_std   any subset of these dims  its error's standard deviation, in the same units

Inside, everything is a tensor `(..., T, n)`. Nothing is repaired on the way in: what cannot be used is a `ValueError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

TIME, COMPONENT, SAMPLE = "time", "component", "sample"


CORE = (TIME, COMPONENT)


RESERVED = ("step", "temperature", "member")  # what results add


@dataclass(frozen=True)
class StateLabels:
    """What the components of a state are called and measured in.

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
        if not len(self.components) == len(self.units) == len(self.long_names):
            raise ValueError(
                f"The {len(self.components)} components {list(self.components)} have {len(self.units)} units and "
                f"{len(self.long_names)} long names: give one of each for every component."
            )

    def coordinates(self) -> dict[str, Any]:
        """The component coordinate with units and long names along it."""
        return {
            COMPONENT: list(self.components),
            "units": (COMPONENT, list(self.units)),
            "long_name": (COMPONENT, list(self.long_names)),
        }
