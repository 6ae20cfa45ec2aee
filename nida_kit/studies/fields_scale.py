"""What large fields cost: `python -m nida_kit.studies.fields_scale`.

Optimal interpolation by an `nk.MultiscaleClimatology`, mean and two draws. A twentieth of all values is seen, on
slanted tracks that shift from step to step, with an error of a tenth of the spread. Each size runs in a process of its
own, whose CPU time and peak memory are told. The largest goes from Zarr to Zarr by tiles on two workers: its `seconds`
are those of the processor in both workers together, reading and writing with them, and not those of this process, which
makes the store and hands the tiles out; `wall` is the clock's time of the call, and `memory` the most that the three
held at a time. What a billion values would take is worked out from `seconds`, as if no worker ever waited.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import torch
import xarray as xr

from nida_kit import evaluate
from nida_kit.methods.interpolation import OptimalInterpolation
from nida_kit.methods.tiled import tiled
from nida_kit.observing.grid import grid
from nida_kit.observing.observe import observe
from nida_kit.observing.tracks import clouds
from nida_kit.priors.multiscale import MultiscaleClimatology
from nida_kit.state import GridLabels
from nida_kit.studies.common import command

LENGTH, TIME, NOISE, EVERY = 6.0, 3.0, 0.1, 20
SIDES, STEPS = (65, 129, 257, 513, 1025), (5, 10, 20, 40)
WORKERS, TILE, HALO = 2, 512, 32
MARGIN = 64  # points around a part of the truth, of which it is made as the whole would be


def climatology(shape: tuple[int, int], steps: int) -> MultiscaleClimatology:
    """Of the fields that the truth is drawn from."""
    return MultiscaleClimatology.of(shape, LENGTH, TIME, steps, draws=2)


def method(of: MultiscaleClimatology) -> OptimalInterpolation:
    """Optimal interpolation on a grid whose points are 1 apart."""
    labels = GridLabels({dim: [float(k) for k in range(n)] for dim, n in zip("yx", of.shape, strict=True)})
    return OptimalInterpolation(of, labels, 1.0)


def truth(of: MultiscaleClimatology, y: slice, x: slice) -> np.ndarray:
    """A part of one field `(T, y, x)`, which does not depend on how it is cut."""
    wide = [slice(max(0, s.start - MARGIN), s.stop + MARGIN) for s in (y, x)]
    part = of.part(*wide)
    field = part.drawn_before(part.memory.shape[-1], 10**6).unflatten(-1, part.shape).numpy()
    return field[(..., *(slice(s.start - w.start, s.stop - w.start) for s, w in zip((y, x), wide, strict=True)))]


def seen(field: np.ndarray, top: int = 0, left: int = 0) -> np.ndarray:
    """What is observed of a part that begins there."""
    t, y, x = np.ogrid[tuple(slice(n) for n in field.shape)]
    noise = np.random.default_rng([1, top, left]).standard_normal(field.shape, dtype=np.float32)
    return np.where((y + top + x + left + 7 * t) % EVERY == 0, field + NOISE * noise, np.float32(np.nan))


def labelled(of: MultiscaleClimatology, value) -> xr.DataArray:
    """A field with its coordinates."""
    coords = dict(zip(("time", "y", "x"), (np.arange(n, dtype=float) for n in value.shape), strict=True))
    return xr.DataArray(value, coords, ("time", "y", "x"))


def alone(function: Callable[..., dict[str, Any]], *given) -> dict[str, Any]:
    """What a function finds in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(function, *given).result()
    print(found, flush=True)
    return found


def peak(process: str = "self") -> float:
    """The most memory that a process has held, GB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1e6


def rounded(found: dict[str, Any]) -> dict[str, Any]:
    """Floats with four digits."""
    return {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in found.items()}


def one(side: int, steps: int) -> dict[str, Any]:
    """One field, as a whole."""
    torch.set_num_threads(1)
    of = climatology((side, side), steps)
    true = labelled(of, truth(of, slice(0, side), slice(0, side)))
    obs = xr.Dataset({"value": true.copy(data=seen(true.values)), "noise_std": NOISE})
    began = time.process_time()
    result = method(of).assimilate(obs)
    seconds = time.process_time() - began
    return rounded(
        {
            "side": side,
            "steps": steps,
            "values": side**2 * steps,
            "seconds": seconds,
            "memory": peak(),
            "error": float(evaluate.mse(result["mean"], true)),
            "coverage": float(evaluate.coverage(result["mean"], result["std"], true)),
        }
    )


def satellite(values: int = 55_000, hidden: int = 14) -> dict[str, Any]:
    """A user's case: 216 x 192 points, 25 dates, a million values between points, clouds on 14 of the dates."""
    torch.set_num_threads(1)
    of, steps = climatology((216, 192), 25), 25
    true = labelled(of, truth(of, slice(0, 216), slice(0, 192)))
    numbers = np.random.default_rng(2)
    date = np.repeat(np.arange(steps), values)
    coords = {d: ("obs", numbers.uniform(0, n - 1, date.size)) for d, n in zip("yx", of.shape, strict=True)}
    points = xr.Dataset(coords={"time": ("obs", date.astype(float)), **coords})
    covered = clouds(true, fraction=0.4, length=25.0, lifetime=2.0, seed=3)
    covered = covered.sel(time=points["time"], y=points["y"], x=points["x"], method="nearest").values
    points = points.isel(obs=~(covered & np.isin(date, numbers.permutation(steps)[:hidden])))
    obs = observe(true, at=points, noise_std=NOISE, seed=4)
    began = time.process_time()
    interpolation = method(of)
    placed, between = grid(obs, interpolation, start=0.0, steps=steps, exact=True)
    read = time.process_time() - began
    result = interpolation.assimilate(placed, operator=between)
    return rounded(
        {
            "observed": points.sizes["obs"],
            "values": true.size,
            "seconds": time.process_time() - began,
            "of which placing them": read,
            "memory": peak(),
            "error": float(evaluate.mse(result["mean"], true)),
            "coverage": float(evaluate.coverage(result["mean"], result["std"], true)),
        }
    )


def against_whole(side: int = 257, steps: int = 4, tile: int = 64) -> dict[str, Any]:
    """The error of tiles, over that of the whole field, by halo; and how far draws of both are apart."""
    torch.set_num_threads(1)
    of = climatology((side, side), steps)
    true = labelled(of, truth(of, slice(0, side), slice(0, side)))
    obs = xr.Dataset({"value": true.copy(data=seen(true.values)), "noise_std": NOISE})
    folder = Path(tempfile.mkdtemp())

    def reconstructed(name: str, own: int, halo: int) -> xr.Dataset:
        return tiled(method(of), obs, folder / name, tile=own, halo=halo, members=1).load()

    whole, found = reconstructed("whole", 512, 0), {}
    for halo in (0, 8, 16, 32):
        parts = reconstructed(str(halo), tile, halo)
        ratio = evaluate.mse(parts["mean"], true) / evaluate.mse(whole["mean"], true)
        apart = (parts["draws"] - whole["draws"]).std() / np.sqrt((whole["std"] ** 2).mean())
        found[str(halo)] = rounded({"error": float(ratio), "draws apart, in spreads": float(apart)})
    return {"side": side, "tile": tile, "halo": found}


def store_of(of: MultiscaleClimatology, path: Path, tile: int) -> None:
    """Observations of a field in a Zarr store, written part by part."""
    steps, side = of.memory.shape[-1], of.shape[0]
    empty = labelled(of, da.full((steps, *of.shape), np.nan, dtype=np.float32, chunks=(steps, tile, tile)))
    xr.Dataset({"value": empty, "noise_std": NOISE}).to_zarr(path, compute=False, consolidated=False)
    for top in range(0, side, tile):
        for left in range(0, side, tile):
            y, x = slice(top, min(top + tile, side)), slice(left, min(left + tile, side))
            value = seen(truth(of, y, x), top, left)
            part = xr.Dataset({"value": (("time", "y", "x"), value)})
            part.to_zarr(path, region={"time": slice(None), "y": y, "x": x}, consolidated=False)


def larger(
    side: int = 4096, steps: int = 8, tile: int = TILE, halo: int = HALO, parts: int = 4, workers: int = WORKERS
) -> dict[str, Any]:
    """From Zarr to Zarr by tiles, on a cluster of so many workers; the error on some tiles."""
    from distributed import Client, LocalCluster

    of, folder = climatology((side, side), steps), Path(tempfile.mkdtemp())
    store_of(of, folder / "obs.zarr", tile)
    limits = {"n_workers": workers, "threads_per_worker": 1, "memory_limit": "3GB"}
    # Dask makes its workers give back each freed block at once, which takes four times as long as to use it again.
    keep = {f"distributed.nanny.pre-spawn-environ.MALLOC_{name}_THRESHOLD_": 2**30 for name in ("TRIM", "MMAP")}
    with dask.config.set(keep), LocalCluster(**limits, dashboard_address=None) as cluster, Client(cluster) as client:
        client.run(torch.set_num_threads, 1)
        before = sum(client.run(time.process_time).values())
        began = time.perf_counter()
        with Watch(list(client.run(os.getpid).values())) as watch:
            result = tiled(
                method(of),
                xr.open_zarr(folder / "obs.zarr", consolidated=False),
                folder / "out.zarr",
                tile=tile,
                halo=halo,
            )
        wall = time.perf_counter() - began
        cpu = sum(client.run(time.process_time).values()) - before
    wrong = []
    for k in range(parts):
        y = slice(k * side // parts // tile * tile, k * side // parts // tile * tile + tile)
        wrong.append(float(np.square(result["mean"][:, y, y].values - truth(of, y, y)).mean()))
    written = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return rounded(
        {
            "side": side,
            "steps": steps,
            "values": side**2 * steps,
            "tile": tile,
            "halo": halo,
            "workers": workers,
            "seconds": cpu,
            "wall": wall,
            "memory": watch.most,
            "memory in the first half": watch.most_until(0.5),
            "bytes in both stores": written,
            "error": float(np.mean(wrong)),
        }
    )


class Watch:
    """The memory that some processes, and this one, hold together, looked at each second."""

    def __init__(self, processes: list[int]):
        self.processes, self.seen, self._over = [*map(str, processes), "self"], [], threading.Event()

    def __enter__(self):
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(1.0):
            pages = [int(Path(f"/proc/{p}/statm").read_text().split()[1]) for p in self.processes]
            self.seen.append(sum(pages) * 4096 / 1e9)

    @property
    def most(self) -> float:
        """GB."""
        return max(self.seen)

    def most_until(self, share: float) -> float:
        """Likewise, in the first part of the time."""
        return max(self.seen[: max(1, int(share * len(self.seen)))])


def billion(run: dict[str, Any], cores: int = 64) -> dict[str, Any]:
    """What 10^9 values would take: 8 steps of 11,180 x 11,180 points, by the same tiles, from the run's CPU seconds."""
    values, steps = 10**9, run["steps"]
    side = math.sqrt(values / steps)
    tiles = math.ceil(side / run["tile"]) ** 2
    hours = run["seconds"] / run["values"] * values / 3600
    read = values * 2 * 4 * (1 + 2 * run["halo"] / run["tile"]) ** 2
    return rounded(
        {
            "values": values,
            "tiles": tiles,
            "core hours": hours,
            "cores": cores,
            "hours": hours / cores * math.ceil(tiles / cores) / (tiles / cores),
            "memory of a core, GB": run["memory"] / run["workers"],
            "bytes read, with halos": read,
            "bytes written, mean and std": float(values * 2 * 4),
        }
    )


def exponent(rows: list[dict[str, Any]], of: str) -> float:
    """Of the seconds, over the upper three sizes."""
    sizes, seconds = ([row[name] for row in rows[-3:]] for name in (of, "seconds"))
    return round(float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]), 3)


def measure(side: int, folder: Path) -> dict[str, Any]:
    """Everything; `side` is that of the largest field."""
    cells = [alone(one, n, 10) for n in SIDES]
    steps = [alone(one, 257, n) for n in STEPS]
    user = alone(satellite)
    tiles = alone(against_whole)
    run = larger(side)
    return {
        "command": f"python -m nida_kit.studies.fields_scale --samples {side}",
        "cells": cells,
        "exponent in values": exponent(cells, "values"),
        "steps": steps,
        "exponent in steps": exponent(steps, "steps"),
        "user": user,
        "tiles against the whole": tiles,
        "larger than memory": run,
        "a billion values, worked out": billion(run),
    }


if __name__ == "__main__":
    command("fields_scale", measure, samples=4096)
