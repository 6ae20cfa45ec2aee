"""Methods without localised ensembles on the ocean gyre: `python -m nida_kit.studies.history`.

The truths and observations of `sakov2008-qg` on which `.published` measures the LETKF: what history is worth, and
localisation. Climatology and optimal interpolation know no history; 3D-Var carries its mean alone; the EnKF looks for
its analysis among all members at once, with the inflation that the LETKF has. The covariances of optimal interpolation
and of 3D-Var are those of snapshots, localised like the LETKF's, since a matrix of 16,641 x 16,641 takes 2 GB and its
products minutes at each time; the share of it that is 3D-Var's is that of least error on another experiment.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch
import xarray as xr

from nida_kit import setups
from nida_kit.methods.enkf import EnKF
from nida_kit.methods.letkf import LETKF
from nida_kit.methods.method import Method, stream
from nida_kit.setups import Cycling
from nida_kit.studies.common import VALIDATION, command
from nida_kit.systems.system import System

EXPERIMENT = "sakov2008-qg"
SNAPSHOTS = 50  # behind covariances
ENSEMBLES = {25: 1.04, 100: 1.02}  # members of the EnKF, and their inflation
SHARES = (0.1, 0.2, 0.3)
LOCAL = {"radius": 10, "block": 2, "dtype": torch.float32}
TRIED = 60  # cycles of the experiment on which the share is chosen


class Still(System):
    """A system's start, after which nothing moves: of windows of one time."""

    def __init__(self, system: System):
        self.system, self.labels, self.longest_substep = system, system.labels, system.longest_substep

    def tendency(self, x):
        return torch.zeros_like(x)

    def start(self, samples, generator, dtype, device):
        return self.system.start(samples, generator, dtype, device)


class LocalThreeDVar(LETKF):
    """3D-Var whose background covariance is that of snapshots, localised (as the EnOI of Oke et al. 2002).

    Args:
        system: whose start gives the snapshots, `members` of them, and the first mean.
        share: of their deviations in the background's.
        how: as for `LETKF`.
    """

    def __init__(self, system: System, share: float, **how):
        super().__init__(system, **how)
        self.share = share

    def ensembles(self, observations, dt, keep):
        generator, found = stream(self.seed), {"forecast": [], "analysis": []}
        states = self.first(len(observations.value), generator)
        mean = states.mean(-2, keepdim=True)
        deviations = self.share * (states - mean)
        for t in range(observations.value.shape[-2]):
            if t:
                mean = self.advanced(mean, dt, observations.times[t - 1])
            E, here = mean + deviations, observations.at(t)
            found["forecast"].append(keep(E))
            if not here.value.isnan().all():
                E = self.analysed(E, here, generator)
                mean = E.mean(-2, keepdim=True)
            found["analysis"].append(keep(E))
        return found


def at_each_time(setup: Cycling, obs: xr.Dataset, snapshots: int, at_once: int = 20) -> xr.Dataset:
    """Optimal interpolation of each time by itself, with the localised covariance of snapshots."""
    method = LETKF(Still(setup.system), members=snapshots, **LOCAL)
    times, dims = obs["time"], setup.system.labels.dims
    parts = []
    for first in range(0, times.size, at_once):
        some = obs["value"].isel(time=slice(first, first + at_once)).rename(time="cycle")
        # A window of two times, of which the second is not seen.
        alone = some.expand_dims(time=[0.0, setup.dt], axis=-1 - len(dims)).copy()
        alone[{"time": 1}] = np.nan
        lead = xr.Dataset({"value": alone, "noise_std": obs["noise_std"]})
        parts.append(method.assimilate(lead)[["mean", "std"]].isel(time=0, drop=True))
    found = xr.concat(parts, "cycle").rename(cycle="time")
    return found.transpose("sample", "time", *dims).assign_coords(time=times)


def climatology(setup: Cycling, truth: xr.DataArray) -> xr.Dataset:
    """Mean and standard deviation of all snapshots, at each time."""
    states = setup.system.start(setup.system.snapshots, stream(0), torch.float64, torch.device("cpu"))
    mean, std = (xr.zeros_like(truth) + x.numpy() for x in (states.mean(0), states.std(0)))
    return xr.Dataset({"mean": mean, "std": std})


def three_d_var(setup: Cycling, snapshots: int, cycles: int) -> LocalThreeDVar:
    """With the share of least error on the second half of an experiment of its own."""
    truth = setup.windows(1, VALIDATION, cycles)
    obs, late = setup.observe(truth, VALIDATION + 1), {"time": slice(truth.sizes["time"] // 2, None)}

    def error(method: Method) -> float:
        return float(((method.assimilate(obs)["mean"] - truth).isel(late) ** 2).mean())

    return min((LocalThreeDVar(setup.system, share, members=snapshots, **LOCAL) for share in SHARES), key=error)


def measure(
    samples: int, folder: Path, setup: Cycling | None = None, snapshots: int = SNAPSHOTS, tried: int = TRIED
) -> dict[str, Any]:
    """All methods on `samples` experiments."""
    setup = setups.load(EXPERIMENT) if setup is None else setup
    truth, rows = setup.windows(samples, 0), {}
    obs, system = setup.observe(truth, 1), setup.system
    filters: dict[str, Method] = {"3D-Var": three_d_var(setup, snapshots, tried)}
    for members, inflation in ENSEMBLES.items():
        filters[f"EnKF, {members} members"] = EnKF(system, members=members, inflation=inflation, dtype=torch.float32)
    runs: dict[str, Callable[[], xr.Dataset]] = {
        "climatology": lambda: climatology(setup, truth),
        "optimal interpolation": lambda: at_each_time(setup, obs, snapshots),
    }
    runs |= {name: partial(method.assimilate, obs) for name, method in filters.items()}
    for name, run in runs.items():
        began = process_time()
        scores = setup.scores(run(), truth) | {"cpu_seconds": process_time() - began}
        rows[name] = {key: float(f"{value:.4g}") for key, value in scores.items()}
        print(name, rows[name], flush=True)
    about = {"experiments": samples, "seeds": "truths of seed 0, observations of seed 1", "snapshots": snapshots}
    about |= {"share": filters["3D-Var"].share, "validation_seed": VALIDATION}
    return {"setup": setup.name, "methods": rows} | about


if __name__ == "__main__":
    command("history", measure, samples=1)
