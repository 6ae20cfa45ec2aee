"""Error against seconds of everyone, on three systems: `python -m nida_kit.studies.accuracy`.

Errors and seconds are those on record of `classical` (Lorenz-63), `ring` (Lorenz-96) and `ocean`: per window of a
batch, on one thread, and of the same test windows for all methods of a system, but that methods which run the ocean's
model have 16 of its 200. Two times are measured here: to read the observations once, which every method must, and to
run the model once along the window, which those must that use it. The Bayes limit is that of particles, and of
Lorenz-63 alone: the others are beyond them.

Notebook 08 draws it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import xarray as xr

from nida_kit import notebook, setups
from nida_kit.studies import ocean
from nida_kit.studies.classical import law
from nida_kit.studies.common import TEST, command, lorenz63
from nida_kit.studies.ring import LORENZ96
from nida_kit.systems.lorenz import Lorenz63, Lorenz96
from nida_kit.systems.quasigeostrophic import QuasiGeostrophic
from nida_kit.systems.system import System

LIMIT = "particle limit"
# what a method is by its name; the first that fits counts
KINDS = {
    "particles": "particle",
    "NIDA, then 4D-Var": "hybrid",
    "NIDA": "^NIDA",
    "4D-Var": "4D-Var",
    "ensembles": "EnK|LETKF",
    "optimal interpolation": "^optimal interpolation$|first guess|localised",
    "regression": "regression",
}
SPACING, NOISE = 8, 0.05  # of Lorenz-63: the paper's law
TRACKS = next(iter(ocean.LAWS))

Points = dict[str, list[tuple[float, float]]]
Rows = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Case:
    """A system of the figure.

    Attributes:
        rows: what is on record of each method.
        points: (seconds per window, RMSE in climatological standard deviations) of each.
        system: its model.
        batch: makes its windows and their observations, so many.
    """

    rows: Callable[[], Rows]
    points: Callable[[dict[str, float]], tuple[float, float]]
    system: System
    batch: Callable[[int], tuple[xr.DataArray, xr.Dataset]]


def _of_window(row: dict[str, float]) -> tuple[float, float]:
    return row["milliseconds"] / 1000, row["mse"] ** 0.5


def _of_ocean(row: dict[str, float]) -> tuple[float, float]:
    return row["seconds"], row["error"] ** 0.5


def _lorenz63(samples: int) -> tuple[xr.DataArray, xr.Dataset]:
    setup = lorenz63()
    truth = setup.windows(samples, TEST)
    return truth, law(SPACING, NOISE).observe(setup, truth, TEST + 1)


def _lorenz96(samples: int) -> tuple[xr.DataArray, xr.Dataset]:
    setup = setups.load(LORENZ96)
    truth = setup.windows(samples, TEST)
    return truth, setup.observe(truth, TEST + 1)


def _ocean(samples: int) -> tuple[xr.DataArray, xr.Dataset]:
    gyre = QuasiGeostrophic(cells=ocean.CELLS)
    truth = gyre.simulate(samples=samples, steps=ocean.STEPS, dt=ocean.DT, seed=TEST)
    return truth, ocean.observed(truth, ocean.LAWS[TRACKS], float(truth.std()), TEST + 1)


CASES = {
    "Lorenz-63, 3 x 32 values": Case(
        lambda: notebook.record("classical")["laws"][law(SPACING, NOISE).what]["methods"],
        _of_window,
        Lorenz63(),
        _lorenz63,
    ),
    "Lorenz-96, 40 x 20 values": Case(lambda: notebook.record("ring")["methods"], _of_window, Lorenz96(40), _lorenz96),
    "ocean, 65 x 65 x 8 values": Case(
        lambda: notebook.record("ocean")["laws"][TRACKS],
        _of_ocean,
        QuasiGeostrophic(cells=ocean.CELLS),
        _ocean,
    ),
}


def points(case: Case) -> tuple[Points, float | None]:
    """Those of each kind of method, and the Bayes limit where it is known; methods that ran apart are left out."""
    found: Points = {}
    rows = case.rows()
    for name, row in rows.items():
        kind = next((kind for kind, pattern in KINDS.items() if re.search(pattern, name)), None)
        if kind and "on those windows" not in name and "runs apart" not in row:
            found.setdefault(kind, []).append(tuple(float(f"{v:.4g}") for v in case.points(row)))
    floor = rows[LIMIT]["mse"] ** 0.5 if LIMIT in rows else None
    return found, floor


def marks(case: Case, samples: int, repeats: int = 5) -> dict[str, float]:
    """Seconds per window of one read and of one run: the median of some turns."""
    truth, obs = case.batch(samples)
    time = truth["time"].values
    tasks: dict[str, Callable[[], Any]] = {
        "one read of the observations": lambda: float(obs["value"].sum()),
        "one model run": lambda: case.system.simulate(samples, truth.sizes["time"], float(time[1] - time[0]), seed=0),
    }

    def seconds(task: Callable[[], Any]) -> float:
        began = process_time()
        task()
        return (process_time() - began) / samples

    return {what: float(f"{median(seconds(task) for _ in range(repeats)):.3g}") for what, task in tasks.items()}


def measure(samples: int, folder: Path, cases: dict[str, Case] = CASES) -> dict[str, Any]:
    """All systems."""
    found: dict[str, Any] = {"points": {}, "limit": {}, "marks": {}}
    for name, case in cases.items():
        found["points"][name], floor = points(case)
        if floor is not None:
            found["limit"][name] = float(f"{floor:.4g}")
        found["marks"][name] = marks(case, samples)
    return found | {"windows": samples, "windows_seed": TEST}


if __name__ == "__main__":
    command("accuracy", measure, samples=20)
