"""An ocean from satellites: simulate a gyre, let satellites cross it, reconstruct it. One function behind its lab.

The ocean is `nk.QuasiGeostrophic(cells=65)`, whose time and lengths have no unit: the side of its square is 1, an eddy
lives for some tens of units of time, and a window is 8 steps of 5. What a satellite measures is put at the nearest step
and cell: it is the truth there, with an error.

>>> ds = run(OceanParameters(method="optimal interpolation", satellites=1, spinup=20))
>>> sorted(ds.data_vars), dict(ds["mean"].sizes)
(['mean', 'noise_std', 'std', 'truth', 'value'], {'time': 8, 'y': 65, 'x': 65})
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from time import perf_counter
from typing import Any

import numpy as np
import torch
import xarray as xr

from nida_kit import checks
from nida_kit.evaluate import coverage, resolved_scales, rmse
from nida_kit.methods.interpolation import ClimatologicalForecast, OptimalInterpolation
from nida_kit.methods.method import Method
from nida_kit.methods.neural import NeuralIncremental
from nida_kit.observing.grid import grid
from nida_kit.observing.observe import observe
from nida_kit.observing.tracks import clouds, tracks
from nida_kit.state import SAMPLE, TIME
from nida_kit.systems.quasigeostrophic import QuasiGeostrophic

WEIGHTS = "ocean"
STEPS = 8  # of a window
MOST_SATELLITES = 4
_REPEAT = 40.0  # time until the tracks are the same again, that of a window
_ALONG = 1 / 16  # between values along a track
_TRACKS: dict[str, dict[str, Any]] = {
    "nadir": {"passes": 2 * STEPS},
    "swath": {"passes": STEPS // 2, "across": [-0.09, -0.03, 0.03, 0.09]},
}
_DRAWS = 8  # of which spreads are made, half of the usual number: a lab must keep up with its sliders
_COARSE = 5  # every fifth cell of an image
ALONG = ("x", "y", "time")


@dataclass(frozen=True)
class OceanParameters:
    """Of one reconstruction of the ocean.

    Attributes:
        satellites: how many, 1 to 4; of an image there is one.
        instrument: one of `INSTRUMENTS`.
        cover: the share of an image that clouds hide, 0 to 0.9.
        noise_std: of the errors, relative to the ocean's spread.
        method: one of `METHODS`.
        seed: of ocean, tracks, clouds and errors.
        spinup: steps until the ocean has forgotten the random noise that it began with; about 200 are needed.
    """

    satellites: int = 2
    instrument: str = "nadir"
    cover: float = 0.6
    noise_std: float = 0.1
    method: str = "NIDA"
    seed: int = 0
    spinup: int = 240

    def __post_init__(self):
        checks.store(
            self,
            satellites=checks.count("satellites", self.satellites, 1, MOST_SATELLITES),
            instrument=checks.one_of("instrument", self.instrument, INSTRUMENTS),
            cover=checks.within("cover", self.cover, 0.0, 0.9),
            noise_std=checks.positive("noise_std", self.noise_std),
            method=checks.one_of("method", self.method, METHODS),
            seed=checks.seed(self.seed),
            spinup=checks.count("spinup", self.spinup, 0),
        )


# What sees the ocean: from the truth and the standard deviation of the errors to observations on its grid.


def passes(
    truth: xr.DataArray,
    instrument: str,
    satellites: int,
    noise_std: float,
    seed: int,
) -> xr.Dataset:
    """What altimeters see of windows of the ocean, at the nearest cells and steps, on the grid of the methods.

    >>> obs = passes(simulated(0, spinup=0), "nadir", satellites=1, noise_std=0.1, seed=0)
    >>> obs["value"].sizes
    Frozen({'time': 8, 'y': 65, 'x': 65})

    Args:
        truth: `(..., time, y, x)`, `STEPS` steps from time 0.
        instrument: "nadir", a line below each satellite, two passes in a step; or "swath", four lines beside each
            other, a pass every other step.
        satellites: how many.
        noise_std: of the errors, in units of the field.
        seed: of tracks and errors.

    Raises:
        ValueError: another instrument, or a truth on another grid.
    """
    checks.one_of("instrument", instrument, list(_TRACKS))
    _check_grid(truth)
    obs = observe(truth, at=_places(instrument, satellites, seed), noise_std=noise_std, seed=seed)
    return grid(obs, methods()["NIDA"], dt=methods()["NIDA"].dt, start=0.0, steps=STEPS)


def _check_grid(truth: xr.DataArray) -> None:
    """Raises a ValueError if a truth has other points than the methods: values there would be interpolated."""
    labels = methods()["NIDA"].labels
    for dim, points in labels.indexes.items():
        own = truth[dim].values if dim in getattr(truth, "coords", ()) else ()
        if len(own) != len(points) or not np.allclose(own, points):
            raise ValueError(
                f"truth has other points along {dim!r} than the methods, whose grid is that of {labels.shape} cells, "
                f"from {points[0]:g} to {points[-1]:g}: simulate nk.QuasiGeostrophic(cells={labels.shape[0]})."
            )


@lru_cache(maxsize=8)
def _places(instrument: str, satellites: int, seed: int) -> xr.Dataset:
    """The cells and steps nearest to the points of tracks."""
    how = {"repeat": _REPEAT, "satellites": satellites, "spacing": _ALONG, "seed": seed}
    window = _window()
    points = tracks(window, **_TRACKS[instrument], **how)
    nearest = {
        dim: index[index.get_indexer(points[dim].values, method="nearest")] for dim, index in window.indexes.items()
    }
    return points.assign_coords({dim: points[dim].copy(data=values) for dim, values in nearest.items()})


@lru_cache(maxsize=1)
def _window() -> xr.DataArray:
    """A window of the ocean without eddies."""
    neural = methods()["NIDA"]
    labels, times = neural.labels, neural.dt * np.arange(STEPS)
    coords = labels.coordinates() | {TIME: (TIME, times, {"units": labels.time_units})}
    return xr.DataArray(np.zeros((STEPS, *labels.shape)), coords, (TIME, *labels.dims))


def _nadir(truth: xr.DataArray, p: OceanParameters, noise: float) -> xr.Dataset:
    return passes(truth, "nadir", p.satellites, noise, p.seed)


def _swath(truth: xr.DataArray, p: OceanParameters, noise: float) -> xr.Dataset:
    return passes(truth, "swath", p.satellites, noise, p.seed)


def _image(truth: xr.DataArray, p: OceanParameters, noise: float) -> xr.Dataset:
    return observe(truth, operator=_unhidden(p.cover, p.seed), noise_std=noise, seed=p.seed)


@lru_cache(maxsize=8)
def _unhidden(cover: float, seed: int) -> xr.DataArray:
    """Where an image has a value."""
    window = _window()
    hidden = clouds(window, fraction=cover, length=0.15, lifetime=15.0, seed=seed)
    y, x = (np.arange(window.sizes[dim]) % _COARSE == _COARSE // 2 for dim in window.dims[-2:])
    return ~hidden & xr.DataArray(y[:, None] & x, dims=window.dims[-2:])


INSTRUMENTS: dict[str, Callable[[xr.DataArray, OceanParameters, float], xr.Dataset]] = {
    "nadir": _nadir,  # along lines straight below, two passes of each satellite in a step
    "swath": _swath,  # four lines beside each other, a pass every other step
    "image under clouds": _image,  # every fifth cell that no cloud hides
}

METHODS = ("climatology", "optimal interpolation", "NIDA")


@lru_cache(maxsize=1)
def methods() -> dict[str, Method]:
    """By name, all of the same past."""
    neural = NeuralIncremental.pretrained(WEIGHTS)
    neural.draws = _DRAWS
    past = neural.prior.climatology, neural.labels, neural.dt
    return dict(zip(METHODS, (ClimatologicalForecast(*past), OptimalInterpolation(*past), neural), strict=True))


@lru_cache(maxsize=1)
def spread() -> float:
    """The ocean's standard deviation, over all its points."""
    return float(methods()["NIDA"].prior.climatology.spread.square().mean().sqrt())


@lru_cache(maxsize=8)
def simulated(seed: int, spinup: int = 240) -> xr.DataArray:
    """A window of the ocean `(time, y, x)`, which begins at time 0 and has the methods' time step."""
    neural = methods()["NIDA"]
    system = QuasiGeostrophic(cells=len(neural.labels.indexes["x"]))
    found = system.simulate(1, STEPS, neural.dt, seed=seed, spinup=spinup, dtype=torch.float32)
    return found.isel({SAMPLE: 0}, drop=True).astype(float)


def observed(parameters: OceanParameters) -> xr.Dataset:
    """What the satellites see of it, on the grid; the same whoever makes the map."""
    return _observed(replace(parameters, method=METHODS[0])).copy(deep=True)  # a user may change his own


@lru_cache(maxsize=8)
def _observed(p: OceanParameters) -> xr.Dataset:
    return INSTRUMENTS[p.instrument](simulated(p.seed, p.spinup), p, p.noise_std * spread())


@lru_cache(maxsize=8)
def run(parameters: OceanParameters) -> xr.Dataset:
    """Simulate, observe, reconstruct.

    Returns:
        `truth`, `value`, `noise_std`, `mean` and `std`, each `(time, y, x)`; in `attrs` the method's records, `rmse` in
        spreads of the ocean, `coverage_90`, `lambda_x` (the shortest wavelength that is resolved, see
        `nk.resolved_scales`), how many values were `observed`, and `seconds` in all.
    """
    truth, obs = simulated(parameters.seed, parameters.spinup), observed(parameters)
    began = perf_counter()
    result = methods()[parameters.method].assimilate(obs)[["mean", "std"]]
    seconds = perf_counter() - began
    found = result.assign(truth=truth, value=obs["value"], noise_std=obs["noise_std"])
    scores = {
        "rmse": float(rmse(result["mean"], truth)) / spread(),
        "coverage_90": float(coverage(result["mean"], result["std"], truth)),
        "lambda_x": float(resolved_scales(result["mean"], truth)["lambda_x"]),
        "observed": int(obs["value"].notnull().sum()),
        "seconds": seconds,
    }
    return found.assign_attrs(scores)
