"""How fast a lab answers: `python -m nida_kit.lab.speed` writes `figures/lab_speed.json`.

In turns and in one run: the whole way from a control's new value to the new image, within the kernel; the bare redraw
of the same figure by matplotlib; and the method alone, as its result says.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

from nida_kit.lab.ocean import OceanLab
from nida_kit.lab.reconstruction import Lab
from nida_kit.lab.view import Explorer
from nida_kit.studies.common import record

LABS: dict[str, Callable[[], Explorer]] = {
    "lorenz63": Lab,
    "pendulum": partial(Lab, system="pendulum"),
    "lorenz96": partial(Lab, system="lorenz96"),
    "ocean": OceanLab,
    "ocean, four satellites": partial(OceanLab, satellites=4),
}
MOVES: dict[str, Callable[[int], float]] = {  # what a held key does to a slider; seeds lay everything out anew
    "noise_std": lambda i: 10 ** (-1.5 + 0.05 * (i % 30)),
    "temperatures": lambda i: 1 + i % 8,
    "seed": lambda i: i,
}


def measure(repeats: int, moves: Sequence[str] = tuple(MOVES)) -> dict[str, dict[str, dict[str, float]]]:
    """Medians in milliseconds, by lab and by what is moved; `ratio` is (answer - method) / redraw."""
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in LABS}
    for name, make in LABS.items():
        for moved in moves:
            lab = make()
            if moved in lab.controls:
                found[name][moved] = _timed(lab, moved, repeats)
    return found


def _timed(lab: Explorer, moved: str, repeats: int) -> dict[str, float]:
    times: dict[str, list[float]] = {"answer": [], "redraw": [], "method": []}
    for i in range(repeats + 1):
        began = perf_counter()
        lab.controls[moved].value = MOVES[moved](i)
        times["answer"].append(perf_counter() - began)
        times["method"].append(lab.model.result.attrs["seconds"])
        began = perf_counter()
        lab.figure.savefig(BytesIO(), format="png", pil_kwargs={"compress_level": 1})  # as little as the lab's
        times["redraw"].append(perf_counter() - began)
    row = {what: 1e3 * median(some[1:]) for what, some in times.items()}  # the first one makes what is kept
    return row | {"ratio": (row["answer"] - row["method"]) / row["redraw"]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m nida_kit.lab.speed")
    parser.add_argument("--out", type=Path, default=Path("figures"), help="folder of the JSON file")
    parser.add_argument("--repeats", type=int, default=30)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    labs = measure(arguments.repeats)
    found = {"command": "python -m nida_kit.lab.speed", "milliseconds": labs, "repeats": arguments.repeats}
    record(arguments.out / "lab_speed.json", "lab", found)
    for name, rows in labs.items():
        print(name, {moved: round(row["ratio"], 2) for moved, row in rows.items()})
