"""What the studies share: the windows and laws that methods are compared on, and how results are recorded.

Three sets of windows never meet: training draws its own, choices are made on validation windows, scores are reported on
test windows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from nida_kit import checks, setups
from nida_kit.methods.interpolation import OptimalInterpolation
from nida_kit.notes import versions
from nida_kit.observing.observe import observe
from nida_kit.setups import Setup

VALIDATION, TEST = 777, 20241  # seeds of windows; observations take the next one
RECORDS = Path(__file__).parent  # each study's JSON lies beside its code, for `notebook.record`
LORENZ63 = "blanke2024-lorenz63"
PENDULUM = "blanke2024-pendulum"


@dataclass(frozen=True)
class Law:
    """How windows of a reference experiment are observed.

    Attributes:
        what: in words.
        trained: whether the shipped prior's training draws such laws.
        noise: standard deviation of the error, in climatological standard deviations.
        how: what `nk.observe` is told besides.
    """

    what: str
    trained: bool
    noise: float
    how: dict[str, Any] = field(default_factory=dict)

    @property
    def operator(self):
        """What is observed, for `assimilate`."""
        return self.how.get("operator")

    def observe(self, setup: Setup, truth: xr.DataArray, seed: int) -> xr.Dataset:
        """Observations of windows of the setup."""
        unit = setup.spread if self.operator is None else float(setup.spread.mean())
        return observe(truth, noise_std=self.noise * unit, seed=seed, **self.how)


def _steps(*steps: int) -> list[float]:
    """Times of the Lorenz-63 experiment."""
    return [0.05 * k for k in steps]


LAWS = {
    "paper": Law("x every 8th step", True, 0.05, {"components": ["x"], "every": 8, "offset": "random"}),
    "two": Law("x and z every 8th step", True, 0.1, {"components": ["x", "z"], "every": 8, "offset": "random"}),
    "random": Law("a tenth of all values, at random", True, 0.1, {"fraction": 0.1}),
    "noisy": Law("all, every 4th step, very noisy", False, 0.5, {"every": 4, "offset": "random"}),
    "sum": Law(
        "the sum x + z every 8th step",
        True,
        0.1,
        {"operator": np.array([[1.0, 0.0, 1.0]]), "every": 8, "offset": "random"},
    ),
    "bursts": Law(
        "y in two bursts of six steps",
        False,
        0.1,
        {"components": ["y"], "times": _steps(*range(4, 10), *range(20, 26))},
    ),
    "rare": Law("all, every 16th step", False, 0.1, {"every": 16, "offset": "random"}),
}
"""Observation laws of Lorenz-63 that methods are compared under; those not trained lie outside the training's mixture
in noise, pattern or spacing."""

Z_ONLY = Law("z every 8th step", True, 0.05, {"components": ["z"], "every": 8, "offset": "random"})
"""Its posterior is symmetric in (x, y) -> (-x, -y), so it has two modes in x and y, which no Gaussian can hold."""


def observed(setup: Setup, law: Law, samples: int, seed: int = TEST) -> tuple[xr.DataArray, xr.Dataset]:
    """Windows of a setup, and their observations under a law."""
    truth = setup.windows(samples, seed)
    return truth, law.observe(setup, truth, seed + 1)


def lorenz63() -> Setup:
    """The Lorenz-63 experiment of the paper."""
    return setups.load(LORENZ63)


def interpolation(setup: Setup) -> OptimalInterpolation:
    """Optimal interpolation at its best: the full covariance of a window, from 10,000 of them."""
    return OptimalInterpolation.fit(setup.windows(10_000, seed=2))


def record(path: Path, study: str, findings: dict[str, Any]) -> None:
    """Write findings as JSON, with the command that measures them, unless they say it, and what it was measured on."""
    about = {
        "command": f"python -m nida_kit.studies.{study}",
        "machine": f"{platform.machine()}, {torch.get_num_threads()} thread of {os.cpu_count()} cores; {versions()}",
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(checks.strict(about | findings), indent=2, allow_nan=False) + "\n")


class Kept:
    """A record that grows as it is measured: a study that was cut off goes on where it stopped.

    Args:
        folder: of the JSON file.
        study: its name.
        about: what its findings depend on; a record of anything else is begun anew.
    """

    def __init__(self, folder: Path, study: str, about: dict[str, Any]):
        self.path, self.study = folder / f"{study}.json", study
        there = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.found = there if all(there.get(name) == value for name, value in about.items()) else about

    def row(self, *where: str, make: Callable[[], Any]) -> Any:
        """What is found at this place, a key within a key; measured if it is not there."""
        place = self.found
        for name in where[:-1]:
            place = place.setdefault(name, {})
        if where[-1] not in place:
            place[where[-1]] = make()
            record(self.path, self.study, self.found)
            print(*where, place[where[-1]], flush=True)
        return place[where[-1]]


def command(study: str, measure: Callable[[Any, Path], dict[str, Any]], samples: int | None) -> None:
    """The command of a study: `measure(samples, folder)` on one thread, into a JSON file of that folder."""
    parser = argparse.ArgumentParser(prog=f"python -m nida_kit.studies.{study}")
    parser.add_argument("--out", type=Path, default=RECORDS, help="folder of the JSON file")
    parser.add_argument("--samples", type=int, default=samples, help="windows or experiments of each")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    record(arguments.out / f"{study}.json", study, measure(arguments.samples, arguments.out))
