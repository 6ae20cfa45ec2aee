"""What would make NIDA faster, and what of its error that would cost: `python -m nida_kit.studies.faster`.

Validation windows of every law of Lorenz-63, as the shipped prior reconstructs them, and in other ways: with fewer
temperatures, with the small network, with a network in bfloat16, with a compiled one, and with windows that stop once
the next step hardly moves them. All ways take turns on one thread. A time is that of `assimilate`, spread and labels
included, in seconds of the processor over those as shipped in the same turn: the median of all turns and laws.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import torch
import xarray as xr

from nida_kit.methods.neural import NeuralIncremental
from nida_kit.notes import quiet
from nida_kit.priors.temporal import NeuralPrior
from nida_kit.studies.common import LAWS, VALIDATION, command, lorenz63, observed
from nida_kit.studies.scaling import cpu_seconds

STILL = 0.1  # of a standard deviation: a window that the next step would move by less than this could stop
ALONE = 5  # calls of a turn for a window alone
SHIPPED, STOPPED, HALF, COMPILED = "as shipped, four temperatures", "stopping rule", "bfloat16", "torch.compile"


def changed(method: NeuralIncremental, change: Callable[[NeuralPrior], None]) -> NeuralIncremental:
    """The method with a copy of its prior, in which something is changed."""
    prior = deepcopy(method.prior)
    change(prior)
    return NeuralIncremental(prior, method.labels, method.dt, method.temperatures)


def in_bfloat16(prior: NeuralPrior) -> None:
    """The network's weights; the climatology, and the solve that its rows go to, stay in double precision."""
    for part in (prior.inside, prior.temperature, prior.blocks, prior.outside):
        part.bfloat16()


def compiled(prior: NeuralPrior) -> None:
    """The network, for each shape by itself; a temperature that were a number would be compiled anew for each value."""
    network = torch.compile(prior._network, dynamic=False)
    prior._network = lambda seen, s: network(seen, torch.as_tensor(s, dtype=seen.dtype).expand(seen.shape[:-2]))


def ways() -> dict[str, NeuralIncremental]:
    """By name, the first one as shipped; compiled where there is a compiler."""
    shipped, small = (NeuralIncremental.pretrained(name, 4) for name in ("lorenz63", "lorenz63_small"))
    width, less = (method.prior.settings["width"] for method in (shipped, small))
    found = {SHIPPED: shipped}
    found |= {f"{word} temperatures": shipped.with_temperatures(k) for word, k in (("three", 3), ("two", 2))}
    found |= {f"the small network, {less} features for {width}": small, HALF: changed(shipped, in_bfloat16)}
    return found | ({COMPILED: changed(shipped, compiled)} if shutil.which("g++") else {})


def stopped(traced: xr.Dataset) -> tuple[xr.DataArray, float]:
    """Where windows could stop, and the share of steps that this saves.

    A window stops after the first step whose next one would move it by less than `STILL` of its standard deviation,
    root mean square over the window. Only the next step tells, so what is saved is a bound from above.

    Args:
        traced: from `assimilate(..., trace=True)`.

    Returns:
        The mean of each window where it stops, and the share.
    """
    moves = traced["mean"].diff("step", label="lower") / traced["std"]
    still = (moves**2).mean(("time", "component")) ** 0.5 < STILL
    last = traced.sizes["step"] - 1
    at = xr.where(still.any("step"), still.argmax("step"), last)
    return traced["mean"].isel(step=at), 1 - float((at + 1).mean()) / (last + 1)


def times(
    methods: dict[str, NeuralIncremental], seen: dict[str, xr.Dataset], turns: int
) -> dict[str, dict[str, float]]:
    """Of a batch and of its first window alone: milliseconds, and the time over that of the first method."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
    for _ in range(turns):
        for law, obs in seen.items():
            for name, method in methods.items():
                batch, one = (
                    partial(method.assimilate, x, operator=LAWS[law].operator) for x in (obs, obs.isel(sample=0))
                )
                taken[name].append((cpu_seconds(batch, 1), cpu_seconds(one, ALONE)))
    found: dict[str, dict[str, float]] = {name: {} for name in methods}
    for name, row in found.items():
        for i, how in enumerate(("batch", "alone")):
            row[how] = median(own[i] / first[i] for own, first in zip(taken[name], taken[SHIPPED], strict=True))
            row[f"milliseconds_{how}"] = 1000 * median(own[i] for own in taken[name])
    return found


def _begun(method: NeuralIncremental, obs: xr.Dataset) -> float:
    """Seconds of the clock until a method has answered its first batch and its first window alone."""
    began = perf_counter()
    for each in (obs, obs.isel(sample=0)):
        method.assimilate(each)
    return perf_counter() - began


def measure(samples: int, folder: Path, turns: int = 5) -> dict[str, Any]:
    """All ways, on so many windows of each law."""
    setup, methods = lorenz63(), ways()
    windows = {name: observed(setup, law, samples, VALIDATION) for name, law in LAWS.items()}
    seen = {name: obs for name, (_, obs) in windows.items()}
    errors: dict[str, list[float]] = {name: [] for name in [*methods, STOPPED]}
    saved: list[float] = []
    with quiet():  # of answers that are only compared
        startup = {name: _begun(method, seen["paper"]) for name, method in methods.items()}
        for law, (truth, obs) in windows.items():
            for name, method in methods.items():
                traced = method.assimilate(obs, operator=LAWS[law].operator, trace=True)
                errors[name].append(setup.score(traced["mean"].isel(step=-1), truth) ** 0.5)
                if name == SHIPPED:
                    mean, share = stopped(traced)
                    errors[STOPPED].append(setup.score(mean, truth) ** 0.5)
                    saved.append(share)
        rows = times(methods, seen, turns) | {STOPPED: {"steps_saved": float(np.mean(saved))}}
    for name, row in rows.items():
        ratios = np.divide(errors[name], errors[SHIPPED])
        row |= {"rmse": float(ratios.mean()), "worst": float(ratios.max())}
    if COMPILED in methods:
        rows[COMPILED]["startup_seconds"] = startup[COMPILED]
    rows = {name: {key: float(f"{value:.4g}") for key, value in row.items()} for name, row in rows.items()}
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}  # older torch has none
    return {
        "windows": f"{samples} of each law, seed {VALIDATION}",
        "turns": turns,
        "compiler": "g++" if COMPILED in methods else "none was there, so nothing is compiled",
        "processor": {name: able[name] for name in ("amx_bf16", "avx512_bf16") if name in able},
        "ways": rows,
    }


def table(found: dict[str, Any]) -> str:
    """The ways as a table in Markdown."""
    rows = [
        "| way | time, a batch | time, alone | RMSE, mean of the laws | RMSE, worst law |",
        "| --- |" + " --- |" * 4,
    ]
    for name, row in found["ways"].items():
        said = f"{name}, after {row['startup_seconds']:.0f} s to compile" if "startup_seconds" in row else name
        if name == STOPPED:
            took = [f"at least {1 - row['steps_saved']:.2f}"] * 2
        else:
            took = [f"{row[how]:.2f}" for how in ("batch", "alone")]
        rows.append(f"| {' | '.join([said, *took, *(f'{row[key]:.3f}' for key in ('rmse', 'worst'))])} |")
    return "\n".join(rows)


if __name__ == "__main__":
    # Nothing that an earlier run compiled is found again.
    with TemporaryDirectory(ignore_cleanup_errors=True) as os.environ["TORCHINDUCTOR_CACHE_DIR"]:
        command("faster", measure, samples=200)
