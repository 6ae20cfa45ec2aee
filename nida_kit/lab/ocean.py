"""The lab of the ocean: how many satellites, of which kind, with which errors, and who makes the map.

>>> lab = OceanLab(method="optimal interpolation", spinup=20)
>>> lab.controls["satellites"].value = 1
>>> lab.model.result.attrs["observed"] < 300
True
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path
from typing import Any

import xarray as xr

from nida_kit import checks, plots
from nida_kit.lab.controls import choice, even, logarithmic, typed, whole
from nida_kit.lab.model import Model, cautioned
from nida_kit.lab.render import Drawing
from nida_kit.lab.view import Control, Explorer
from nida_kit.notes import quiet
from nida_kit.ocean import ALONG, INSTRUMENTS, METHODS, MOST_SATELLITES, STEPS, OceanParameters, run
from nida_kit.plots.plane import shared

PRESETS: dict[str, dict[str, Any]] = {
    "one satellite": {"instrument": "nadir", "satellites": 1, "noise_std": 0.1},
    "four satellites": {"instrument": "nadir", "satellites": 4, "noise_std": 0.1},
    "wide swath": {"instrument": "swath", "satellites": 2, "noise_std": 0.1},
    "clouds": {"instrument": "image under clouds", "cover": 0.6, "noise_std": 0.1},
}
_SCORES = ("rmse", "coverage_90", "lambda_x", "observed", "seconds")


@dataclass(frozen=True)
class OceanView(OceanParameters):
    """What is reconstructed, and what is shown of it.

    Attributes:
        moment: the step of the window that the maps show.
        along: what the cut goes along: x, y or time.
        y: of the point that it goes through,
        x: likewise.
    """

    moment: int = STEPS // 2
    along: str = "x"
    y: float = 0.4
    x: float = 0.2

    def __post_init__(self):
        super().__post_init__()
        checks.store(
            self,
            moment=checks.count("moment", self.moment, 0, STEPS - 1),
            along=checks.one_of("along", self.along, ALONG),
            **{name: checks.within(name, getattr(self, name), 0.0, 1.0) for name in ("y", "x")},
        )


class OceanModel(Model):
    """An ocean seen by satellites, see `ocean.run`.

    Args:
        params: of `OceanView`.
    """

    kind = OceanView

    def compute(self):
        p = self.params
        asked = OceanParameters(**{name: getattr(p, name) for name in OceanParameters.__dataclass_fields__})
        with quiet():  # values that share a cell, and the like
            found = run(asked)
        return found.assign_attrs(moment=p.moment, along=p.along, at={"y": p.y, "x": p.x})

    def presets(self):
        return PRESETS

    def unused(self):
        return {"satellites"} if self.params.instrument == "image under clouds" else {"cover"}

    def about(self, ds):
        found = ds.attrs
        scale = "no wave" if isnan(found["lambda_x"]) else f"waves of {found['lambda_x']:.3f} and longer"
        return (
            f"{self.params.method}: RMSE {found['rmse']:.3f}, in standard deviations of the ocean; {scale} along x "
            f"resolved; {found['coverage_90']:.0%} of the truth lies within the 90% interval; observed values: "
            f"{found['observed']}; {found['seconds']:.2f} s." + cautioned(found)
        )

    @property
    def alt_text(self):
        p = self._ran
        return (
            f"Maps of an ocean at step {p.moment}: the truth, what {p.instrument} observed, the reconstruction by "
            f"{p.method}, its error and its standard deviation; and a cut along {p.along}. {self.status}"
        )

    @property
    def numbers(self):
        return asdict(self._ran) | {name: self.result.attrs[name] for name in _SCORES}


class OceanLab(Explorer):
    """The lab of an ocean seen by satellites.

    Args:
        export: where "export figure" writes its PNG, and PDF and JSON of its numbers beside it.
        params: where to start, see `OceanView`.

    Attributes:
        model: the state.
        controls: by the name of the parameter.
        buttons: by name: the presets, "reset", "export figure".

    Raises:
        ValueError: parameters that there are not, or out of range.
    """

    def __init__(self, export: str | Path = "nida_ocean.png", **params):
        controls = {
            "method": Control("method", "Who makes the map.", lambda: choice(METHODS)),
            "instrument": Control("instrument", "What the satellites see.", lambda: choice(tuple(INSTRUMENTS))),
            "satellites": Control("satellites", "How many there are.", lambda: whole(1, MOST_SATELLITES)),
            "cover": Control("cloud cover", "Share of an image that clouds hide.", lambda: even(0.0, 0.9, 0.1)),
            "noise_std": Control(
                "noise [clim. std]",
                "Error of a value, in climatological standard deviations.",
                lambda: logarithmic(-2, 0),
            ),
            "seed": Control("seed", "Another number, another ocean.", lambda: typed(0, 9999)),
            "moment": Control("map of step", "The time that the maps show.", lambda: whole(0, STEPS - 1)),
            "along": Control("cut along", "What the cut goes along.", lambda: choice(ALONG)),
            "y": Control("through y", "A point that the cut goes through.", lambda: even(0.0, 1.0, 0.05)),
            "x": Control("through x", "A point that the cut goes through.", lambda: even(0.0, 1.0, 0.05)),
        }
        super().__init__(OceanModel(**params), controls, list(PRESETS), _OCEAN, export, rows=1.6)


def _shown(ds: xr.Dataset) -> tuple:
    return ds.attrs["moment"], ds.attrs["along"], ds.attrs["at"]


_OCEAN = Drawing(
    lambda fig, ds: plots.make_plane(fig, ds, *_shown(ds)),
    lambda made, ds: plots.update_plane(made, ds, *_shown(ds)),
    shared,
)
