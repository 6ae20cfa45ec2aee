"""How the cost grows with the work, one sweep for each kind of it: `python -m nida_kit.studies.growth`.

Windows, steps of a window, sites of a ring, cells of a field, members of an ensemble, and workers that share a field's
tiles. All sizes take turns, three times; calls of more than ten seconds are made once. Seconds are those of the
processor, but for workers, who save time and not work: theirs are those of the clock.

An exponent is the slope of log seconds against log size over the upper three sizes, since small ones only measure
calls. There is one for each turn: told are the least, the middle and the greatest. 1 is linear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import xarray as xr

from nida_kit.methods.enkf import EnKF, EnKS
from nida_kit.methods.interpolation import OptimalInterpolation
from nida_kit.methods.letkf import LETKF
from nida_kit.methods.neural import NeuralIncremental
from nida_kit.methods.particle_filter import ParticleFilter
from nida_kit.methods.weak import WeakFourDVar
from nida_kit.notes import quiet
from nida_kit.observing.observe import observe
from nida_kit.studies import common, fields_scale
from nida_kit.studies.scaling import Call, cpu_seconds, exponent
from nida_kit.systems.lorenz import Lorenz96
from nida_kit.systems.quasigeostrophic import QuasiGeostrophic
from nida_kit.systems.wrapped import Started

UPPER = 3  # sizes that an exponent is fitted to
LONG, SHORT = 10.0, 0.05  # seconds of a call that is made once, and of a turn of calls that are shorter
Calls = Callable[[int], dict[str, Call]]


def timed(call: Call) -> float:
    """CPU seconds of a call, the mean of several if it is short."""
    first = cpu_seconds(call, 1)
    return first if first > SHORT else cpu_seconds(call, max(1, round(SHORT / max(first, 1e-6))))


def sweep(sizes: Sequence[int], calls_of: Calls, turns: int) -> dict[str, Any]:
    """Median seconds at each size, by name, and the exponents of the turns: least, middle, greatest.

    Args:
        sizes: rising.
        calls_of: the calls of one size, by name; a name may be missing where it would take too long.
        turns: through all sizes.
    """
    of_size = {size: calls_of(size) for size in sizes}
    found: dict[str, dict[int, list[float]]] = {}
    with quiet():  # of answers that are only timed
        for _ in range(turns):
            for size, calls in of_size.items():
                for name, call in calls.items():
                    took = found.setdefault(name, {}).setdefault(size, [])
                    took.append(took[0] if took and took[0] > LONG else timed(call))
    return {name: summary(line) for name, line in found.items()}


def summary(line: dict[int, list[float]]) -> dict[str, Any]:
    """Of the seconds of each turn, by size."""
    turns = zip(*line.values(), strict=True)
    powers = sorted(exponent(list(zip(line, turn, strict=True)), UPPER) for turn in turns)
    middle = [(size, float(f"{median(took):.4g}")) for size, took in line.items()]
    return {"seconds": middle, "exponents": [round(p, 2) + 0.0 for p in (powers[0], median(powers), powers[-1])]}


def _lorenz63(samples: int, steps: int) -> xr.Dataset:
    setup = common.lorenz63()
    truth = setup.system.simulate(samples, steps, setup.dt, model_noise_std=setup.model_noise_std, seed=0)
    error = 0.05 * float(setup.spread.sel(component="x").mean())
    return observe(truth, components=["x"], every=8, noise_std=error, seed=1)


def windows(samples: int) -> dict[str, Call]:
    """Windows of 16 steps of Lorenz-63, all in one batch."""
    obs, neural = _lorenz63(samples, 16), NeuralIncremental.pretrained("lorenz63")
    interpolation = OptimalInterpolation(neural.prior.climatology, neural.labels, neural.dt)
    return {name: partial(m.assimilate, obs) for name, m in {"OI": interpolation, "NIDA": neural}.items()}


def length(steps: int, filtered: int = 10_000) -> dict[str, Call]:
    """Steps of one window of Lorenz-63; a filter and 4D-Var take them one by one, and fewer of them."""
    obs, setup = _lorenz63(1, steps), common.lorenz63()
    neural = NeuralIncremental.pretrained("lorenz63")
    methods: dict[str, Any] = {
        "OI": OptimalInterpolation(neural.prior.climatology, neural.labels, neural.dt),
        "NIDA": neural,
    }
    if steps <= filtered:
        methods["EnKF, 10 members"] = EnKF(setup.system, setup.model_noise_std, members=10, inflation=1.05)
        methods["weak 4D-Var, one step"] = WeakFourDVar(setup.system, setup.model_noise_std, iterations=1)
    return {name: partial(method.assimilate, obs) for name, method in methods.items()}


def sites(n: int, steps: int = 20, dense: int = 400) -> dict[str, Call]:
    """Sites of a ring, every second of which is seen at every fourth step; 4D-Var ties all of a step, and has fewer.

    Among so many sites some member leaves the model's stable range in steps of 0.05: the LETKF takes half of them.
    """
    system, ensemble = Lorenz96(n), Started(Lorenz96(n, longest_substep=0.025), 2.3, 3.6)
    truth = system.simulate(1, steps, 0.05, model_noise_std=0.1, seed=0, spinup=200)
    obs = observe(truth, components=system.labels.components[::2], every=4, noise_std=1.0, seed=1)
    methods: dict[str, Any] = {
        "NIDA, one temperature": NeuralIncremental.pretrained("lorenz96", 1, labels=system.labels),
        "LETKF, 10 members": LETKF(ensemble, 0.1, members=10, inflation=1.04, radius=4.0),
    }
    if n <= dense:
        methods["weak 4D-Var, one step"] = WeakFourDVar(system, 0.1, start_mean=2.3, start_std=3.6, iterations=1)
    return {name: partial(method.assimilate, obs) for name, method in methods.items()}


def cells(count: int, steps: int = 5) -> dict[str, Call]:
    """Cells of a square field: optimal interpolation with two draws, and a step of the gyre's model."""
    side = round(count**0.5)
    of, system = fields_scale.climatology((side, side), steps), QuasiGeostrophic(cells=side)
    true = fields_scale.labelled(of, fields_scale.truth(of, slice(0, side), slice(0, side)))
    obs = xr.Dataset({"value": true.copy(data=fields_scale.seen(true.values)), "noise_std": fields_scale.NOISE})
    x = torch.from_numpy(true.values[:1])
    return {
        "OI of 5 steps": partial(fields_scale.method(of).assimilate, obs),
        "a step of the gyre": partial(system.trajectories, x, 2, 1.25),
    }


def members(count: int) -> dict[str, Call]:
    """Members of ensembles on a ring of 40 sites, and particles of three numbers, 50 cycles."""
    system, setup = Lorenz96(40), common.lorenz63()
    truth = system.simulate(1, 50, 0.05, seed=0, spinup=200)
    obs, few = observe(truth, noise_std=1.0, seed=1), _lorenz63(1, 50)
    how = {"members": count, "inflation": 1.1}
    return {
        "EnKF": partial(EnKF(system, 0.1, **how).assimilate, obs),
        "EnKS": partial(EnKS(system, 0.1, **how).assimilate, obs),
        "LETKF": partial(LETKF(system, 0.1, **how, radius=4.0).assimilate, obs),
        "particle filter": partial(
            ParticleFilter(setup.system, setup.model_noise_std, particles=count).assimilate, few
        ),
    }


def workers(turns: int, side: int = 1024) -> dict[str, Any]:
    """One and two of a cluster that takes a field from Zarr to Zarr by tiles."""
    line = {n: [fields_scale.larger(side, tile=side // 4, workers=n)["wall"] for _ in range(turns)] for n in (1, 2)}
    return {f"tiles of a field of {side} x {side} x 8": summary(line)}


SWEEPS: dict[str, tuple[Calls, Sequence[int]]] = {
    "windows": (windows, (1, 10, 100, 1000, 10_000, 100_000)),
    "steps": (length, (32, 320, 3200, 10_000, 32_000, 100_000)),
    "sites": (sites, (40, 100, 400, 4000, 20_000, 100_000)),
    "cells": (cells, [n**2 for n in (33, 65, 129, 257, 513, 1025)]),
    "members": (members, (5, 20, 50, 100, 200, 500)),
}


def measure(turns: int, folder: Path) -> dict[str, Any]:
    """All sweeps."""
    found = common.Kept(folder, "growth", {"turns": turns})
    for name, (calls_of, sizes) in SWEEPS.items():
        found.row("sweeps", name, make=partial(sweep, sizes, calls_of, turns))
    found.row("sweeps", "workers", make=partial(workers, turns))
    return found.found


if __name__ == "__main__":
    common.command("growth", measure, samples=3)
