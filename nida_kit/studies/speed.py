"""Cycles per second, alone and of 100 experiments at once: `python -m nida_kit.studies.speed`.

One experiment is mostly calls of small operations; a batch of them makes the same calls on larger tensors. One thread;
the two take turns, and the medians of the processor's seconds count, so that other programs count little. Experiments
are short, for the guard of `tests/benchmarks` makes them anew: those of `nida_kit.studies.peers` have more cycles, and
other ratios of a batch to one.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import xarray as xr

from nida_kit import setups
from nida_kit.studies.common import command

METHODS = {
    "sakov2012-lorenz63": ("EnKF, 10 members", "iEnKS, 10 members", "particle filter, 100 particles"),
    "sakov2008-lorenz96": ("LETKF, 7 members",),
}


def of_setup(name: str, title: str, cycles: int, batch: int, repeats: int) -> dict[str, Any]:
    """Of one method, for `cycles` of `batch` experiments."""
    setup = setups.load(name)
    method = setup.published[title].method(setup)
    obs = setup.observe(setup.windows(batch, 0, cycles), 1)
    one = obs.isel(sample=slice(1))
    method.assimilate(one)  # what is computed once and kept

    def seconds(obs: xr.Dataset) -> float:
        began = process_time()
        method.assimilate(obs)
        return process_time() - began

    turns = [[seconds(x) for x in (one, obs)] for _ in range(repeats)]
    alone, together = (median(taken) for taken in zip(*turns, strict=True))
    found = {"alone": cycles / alone, "together": batch * cycles / together, "times_as_long": together / alone}
    return {"setup": name, "method": title} | {k: float(f"{v:.4g}") for k, v in found.items()}


def measure(batch: int, folder: Path) -> dict[str, Any]:
    """All methods, alone and `batch` experiments at once."""
    cycles, repeats = 40, 5
    rows = [of_setup(name, title, cycles, batch, repeats) for name, titles in METHODS.items() for title in titles]
    print(rows)
    unit = "cycles of one experiment per second; alone one experiment, together all of the batch"
    return {"methods": rows, "cycles": cycles, "batch": batch, "repeats": repeats, "unit": unit}


if __name__ == "__main__":
    command("speed", measure, samples=100)
