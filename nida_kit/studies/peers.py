"""This package beside those that a user would take instead: `python -m nida_kit.studies.peers`.

The peers have a virtual environment of their own, which is made if it is not there; what cannot be installed is said in
the record. For each task the arrays are made once, and every contender gets the same (`peers_ours.py` and
`peers_theirs.py` are what a user writes; only the call at their end is timed). All contenders of a task wait side by
side, each in a process on one thread, and take turns; the medians of the processor's seconds count, so that other
programs count little. The first call is told apart: it holds what is compiled or computed once. A contender whose first
call takes longer than `LONG` has no other; the others have one that is not timed before each turn.

DAPPER does one experiment after the other; this package does a batch of them as well, which is timed as a contender of
its own, per unit of work. Errors are those of the same experiments.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nida_kit import setups
from nida_kit.studies.common import record
from nida_kit.systems.quasigeostrophic import QuasiGeostrophic
from nida_kit.systems.wrapped import OnAttractor
from nida_kit.training.ocean import records

PEERS = (
    *("dapper==1.7.1", "filterpy", "pykalman", "simdkalman", "statsmodels", "dynamax"),
    *("scikit-learn", "pykrige", "meson", "ninja"),  # with the last two DAPPER's ocean is compiled
)
OCEAN = "dapper's ocean, in Fortran"
LONG = 2.0  # seconds
HERE = Path(__file__).parent
Arrays = dict[str, np.ndarray]
Row = dict[str, Any]


# The peers' environment


def environment(folder: Path) -> dict[str, str]:
    """The version of each peer there, installed if need be, or why it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        for peer in PEERS:
            subprocess.run([python, "-m", "pip", "install", "--quiet", peer], check=False)
    names = [peer.split("==")[0] for peer in PEERS]
    code = "import importlib.metadata as m, json, sys; d = {x.metadata['Name'].lower(): x.version for x in"
    code += " m.distributions()}; print(json.dumps({n: d.get(n, 'could not be installed') for n in sys.argv[1:]}))"
    found = json.loads(subprocess.run([python, "-c", code, *names], check=True, capture_output=True).stdout)
    return found | {OCEAN: "compiled" if compiled(python) else "could not be compiled: is there gfortran?"}


def compiled(python: Path) -> bool:
    """Whether DAPPER's model of the ocean is, in that environment; if need be it is compiled now, as DAPPER says."""
    code = "import importlib.util; print(importlib.util.find_spec('dapper').origin)"
    package = subprocess.run([python, "-c", code], check=False, capture_output=True, text=True).stdout.strip()
    folder = Path(package).parent / "mods" / "QG" / "f90"
    if not any(folder.glob("py_mod*.so")) and folder.exists():
        names = ("utils", "parameters", "helmholtz", "calc", "qgflux", "qgstep", "interface")
        call = [python, "-m", "numpy.f2py", "-c", *[f"{name}.f90" for name in names], "-m", "py_mod"]
        where = os.environ | {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}  # meson and ninja are there
        subprocess.run(call, cwd=folder, env=where, check=False, capture_output=True)
    return any(folder.glob("py_mod*.so"))


# Tasks


@dataclass(frozen=True)
class Task:
    """Work that several packages do.

    Attributes:
        what: in words.
        data: makes its arrays, for a number of experiments or series.
        unit: of work, and how many of them an experiment has.
        ours: a function of `peers_ours.py`, and how many experiments or series it does at once, by turns.
        theirs: functions of `peers_theirs.py`, and how many each does.
    """

    what: str
    data: Callable[[int], Arrays]
    unit: tuple[str, int]
    ours: tuple[str, tuple[int, ...]]
    theirs: dict[str, int]


def cycled(name: str, cycles: int) -> Callable[[int], Arrays]:
    """Experiments of a setup: truth, what is observed of it, and at which steps."""

    def make(samples: int) -> Arrays:
        setup = setups.load(name)
        truth = setup.windows(samples, 0, cycles)
        times = truth["time"].values
        observed = np.arange(setup.every, len(times), setup.every)
        value = setup.observe(truth, 1)["value"].values
        counted = times[observed] > setup.burn_in
        mean = setup.system.start_moments()[0].numpy()  # the law of the start is the same for everyone
        arrays = {"truth": truth.values, "value": value, "mean": mean}
        return arrays | {"times": times, "observed": observed, "counted": counted}

    return make


def linear(steps: int) -> Callable[[int], Arrays]:
    """Series of a linear model of three components, a tenth of whose times are missing."""

    def make(samples: int) -> Arrays:
        random = np.random.default_rng(0)
        model = np.array([[0.9, 0.2, 0.0], [-0.2, 0.9, 0.1], [0.0, -0.1, 0.95]])
        noise, errors = 0.1 * np.eye(3) + 0.02, np.diag([0.5, 1.0, 2.0])
        truth, root = random.standard_normal((samples, steps, 3)), np.linalg.cholesky(noise)
        for t in range(1, steps):
            truth[:, t] = truth[:, t - 1] @ model.T + truth[:, t] @ root.T
        value = truth + random.standard_normal(truth.shape) * np.sqrt(np.diag(errors))
        value[random.random((samples, steps)) < 0.1] = np.nan
        arrays = {
            "model": model,
            "noise": noise,
            "errors": errors,
            "start": np.eye(3),
            "times": np.arange(float(steps)),
        }
        return arrays | {"truth": truth, "value": value, "observed": np.arange(steps), "counted": np.full(steps, True)}

    return make


def fields(trajectories: int, steps: int = 20) -> Callable[[int], Arrays]:
    """Turbulent oceans of 65 x 65 points, 600 of which are seen, and so many trajectories of the past."""

    def make(samples: int) -> Arrays:
        random, x = np.random.default_rng(0), records(trajectories + samples, steps, seed=11).numpy()
        past, truth = x[:trajectories], x[trajectories:, 0].reshape(samples, 1, -1).astype(float)
        noise = 0.1 * past.std()
        value = np.full_like(truth, np.nan)
        for one, field in zip(value[:, 0], truth[:, 0], strict=True):
            seen = random.choice(np.flatnonzero(past.std((0, 1)).ravel()), 600, replace=False)
            one[seen] = field[seen] + noise * random.standard_normal(600)
        arrays = {"truth": truth, "value": value, "noise": noise, "past": past}
        return arrays | {"observed": np.arange(1), "counted": np.full(1, True)}

    return make


GYRE = {"wait": 1500.0, "apart": 25.0, "cycle": 5.0, "noise": 2.0, "seen": 300, "cells": 129}


@cache
def snapshots(count: int) -> Tensor:
    """States of a turbulent gyre `(count, y, x)`, of one long run."""
    run = OnAttractor(QuasiGeostrophic(cells=GYRE["cells"]), GYRE["wait"], snapshots=count, apart=GYRE["apart"])
    return run.start(count, torch.Generator().manual_seed(0), torch.float64, torch.device("cpu"))


def gyre_steps(samples: int) -> Arrays:
    """States of the gyre, and where steps of half the length lead from them in the time of a cycle."""
    x = snapshots(samples)
    fine = replace(QuasiGeostrophic(cells=GYRE["cells"]), longest_substep=0.625).step(x, GYRE["cycle"])
    arrays = {"value": x.flatten(1).numpy(), "truth": fine.reshape(samples, 1, -1).numpy()}
    return arrays | {"observed": np.arange(1), "counted": np.full(1, True)}


def gyre_cycles(cycles: int, members: int) -> Callable[[int], Arrays]:
    """The experiment `sakov2008-qg`, short: members, truth, and which cells are seen at each time but the first."""

    def make(samples: int) -> Arrays:
        random, x = np.random.default_rng(0), snapshots(members + samples).double()
        gyre = QuasiGeostrophic(cells=GYRE["cells"])
        truth = gyre.trajectories(x[members:], cycles + 1, GYRE["cycle"]).flatten(-2).numpy()
        apart = truth.shape[-1] // GYRE["seen"]
        cells = np.arange(GYRE["seen"]) * apart + random.integers(apart, size=(cycles + 1, 1))
        value = np.full_like(truth, np.nan)
        for t in range(1, cycles + 1):
            value[:, t, cells[t]] = truth[:, t, cells[t]] + GYRE["noise"] * random.standard_normal(GYRE["seen"])
        times = GYRE["cycle"] * np.arange(cycles + 1)
        arrays = {"members": x[:members].numpy(), "cells": cells, "times": times, "observed": np.arange(1, cycles + 1)}
        return arrays | {"truth": truth, "value": value, "counted": np.full(cycles, True)}

    return make


LOOPS = {"filterpy_smoother": 1, "pykalman_smoother": 1}  # a hundred thousand steps take them minutes
FAST = ("simdkalman_smoother", "statsmodels_smoother", "dynamax_smoother")


def tasks(convection: int, ring: int, ocean: int) -> list[Task]:
    """All of them; so many cycles of an experiment of Lorenz-63, of Lorenz-96, and of the ocean."""
    x63, x96 = cycled("sakov2012-lorenz63", convection), cycled("sakov2008-lorenz96", ring)
    short, long, both = ("cycle", convection), ("cycle", ring), (1, 100)
    one = dict.fromkeys(FAST, 1)
    return [
        Task("EnKF, 10 members, Lorenz-63", x63, short, ("enkf", both), {"dapper_enkf": 4}),
        Task("iEnKS, 10 members, Lorenz-63", x63, short, ("ienks", both), {"dapper_ienks": 4}),
        Task("particle filter, 100 particles, Lorenz-63", x63, short, ("particles", both), {"dapper_particles": 4}),
        Task("LETKF, 7 members, Lorenz-96", x96, long, ("letkf", both), {"dapper_letkf": 4}),
        Task("Kalman smoother, 1,000 steps x 3", linear(1000), ("series", 1), ("smoother", (1,)), one | LOOPS),
        Task("Kalman smoother, 100,000 steps x 3", linear(100_000), ("series", 1), ("smoother", (1,)), one),
        Task(
            "Kalman smoother, windows of 100 steps x 3",
            linear(100),
            ("window", 1),
            ("smoother", (1000,)),
            dict.fromkeys(FAST, 1000),
        ),
        Task(
            "interpolation of 65 x 65 points from 600",
            fields(40),
            ("field", 1),
            ("interpolation", (1, 20)),
            {"sklearn_process": 4, "pykrige_kriging": 4},
        ),
        Task("model of the ocean, 129 x 129", gyre_steps, ("time", 1), ("gyre", (1, 16)), {"dapper_gyre": 4}),
        Task(
            "LETKF, 25 members, ocean of 129 x 129",
            gyre_cycles(ocean, 25),
            ("cycle", ocean),
            ("gyre_letkf", (1,)),
            {"dapper_gyre_letkf": 1},
        ),
    ]


# Contenders


def lines_of(file: Path, function: str) -> int:
    """How many lines a user writes: those of a function, and of the helpers of its file that it calls."""
    functions = {node.name: node for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)}
    needed, found = [function], set()
    while needed:
        name = needed.pop()
        found.add(name)
        called = {node.id for node in ast.walk(functions[name]) if isinstance(node, ast.Name)}
        needed += sorted((called & set(functions)) - found)
    count = 0
    for name in found:
        node = functions[name]
        lines = file.read_text().splitlines()[node.body[0].lineno - 1 : node.end_lineno]
        count += sum(bool(line.strip()) and not line.strip().startswith("#") for line in lines)
    return count


class Contender:
    """A process that does a task when it is told to.

    Args:
        python: the interpreter.
        file: `peers_ours.py` or `peers_theirs.py`.
        function: there.
        data: arrays (npz).
        answer: where its first answer goes (npy).
    """

    def __init__(self, python: Path | str, file: Path, function: str, data: Path, answer: Path):
        one = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        one |= {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"}
        command = [python, "-P", HERE / "peers_worker.py", file, function, data, answer]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | one | {"PYTHONPATH": str(HERE.parents[1])} | {"PYTHONWARNINGS": "ignore"},
        )
        self.file, self.function, self.answer = file, function, answer
        self.turns: list[Row] = []

    def work(self) -> None:
        """One turn."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        if not (line := self.process.stdout.readline()):
            raise RuntimeError(f"{self.process.args[3:5]} failed: run {self.process.args} by hand.")
        self.turns.append(json.loads(line))

    @property
    def waits(self) -> bool:
        """Whether it has another turn."""
        return self.turns[0]["seconds"] < LONG

    def end(self) -> None:
        """Its process ends with its input."""
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def row_of(contender: Contender, size: int, task: Task, data: Arrays, scored: int) -> Row:
    """What is recorded of a contender: errors over the first `scored` experiments, if it has so many."""
    seconds = [turn["seconds"] for turn in contender.turns]
    found = {
        "milliseconds_per_unit": 1e3 * median(seconds[1:] or seconds) / task.unit[1] / size,
        "first_call_seconds": seconds[0],
        "turns": len(seconds) - 1,
        "megabytes": contender.turns[0]["megabytes"],
        "lines": lines_of(contender.file, contender.function),
    }
    if size >= scored:
        away = np.load(contender.answer)[:scored] - data["truth"][:scored, data["observed"]]
        found["rmse"] = np.sqrt(np.square(away).mean(-1))[:, data["counted"]].mean()
    return {k: float(f"{v:.4g}") for k, v in found.items()}


def contest(task: Task, python: Path | str, folder: Path, turns: int) -> Row:
    """Everyone who does a task, by turns."""
    entries = [(sys.executable, "ours", task.ours[0], size) for size in task.ours[1]]
    entries += [(python, "theirs", function, size) for function, size in task.theirs.items()]
    data = task.data(max(size for *_, size in entries))
    contenders = []
    for k, (interpreter, whose, function, size) in enumerate(entries):
        place = folder / f"{k}.npz"
        np.savez(place, **data | {name: data[name][:size] for name in ("truth", "value")})
        file = HERE / f"peers_{whose}.py"
        contenders.append(Contender(interpreter, file, function, place, folder / f"{k}.npy"))
    for turn in range(turns + 1):
        for contender in contenders:
            if not turn or contender.waits:
                contender.work()
    rows, scored = [], min(task.theirs.values(), default=1)
    for (_, whose, function, size), contender in zip(entries, contenders, strict=True):
        contender.end()
        name = "nida_kit" if whose == "ours" else function.split("_")[0]
        rows.append({"name": name, "at_once": size} | row_of(contender, size, task, data, scored))
    answers = [np.load(contender.answer)[:scored] for contender in contenders]
    found = {"task": task.what, "unit": task.unit[0], "scored": scored, "contenders": rows}
    if all(x.shape == answers[0].shape for x in answers):  # the same posterior, to this
        found["largest_difference"] = float(f"{max(np.abs(x - answers[0]).max() for x in answers):.2g}")
    print(json.dumps(found, indent=1), flush=True)
    return found


def table(found: list[Row]) -> str:
    """The record as Markdown."""
    lines = [
        "| task | package | experiments or series | ms per unit | first call, s | error | lines | memory, MB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for task in found:
        for row in task["contenders"]:
            numbers = f"{row['milliseconds_per_unit']:.3g} | {row['first_call_seconds']:.2g}"
            error = f"{row['rmse']:.3g}" if "rmse" in row else ""
            label = f"{task['task']}, per {task['unit']} | {row['name']} | {row['at_once']}"
            lines.append(f"| {label} | {numbers} | {error} | {row['lines']:.0f} | {row['megabytes']:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m nida_kit.studies.peers")
    parser.add_argument("--out", type=Path, default=Path("figures"), help="folder of the JSON file")
    parser.add_argument("--environment", type=Path, default=Path(".venv-peers"), help="folder of the peers")
    parser.add_argument("--cycles", type=int, nargs=3, default=(100, 440, 6), help="of Lorenz-63, Lorenz-96, the ocean")
    parser.add_argument("--turns", type=int, default=2, help="that are timed, after a first call")
    parser.add_argument("--only", default="", help="tasks whose name holds this; of others the record stays")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    versions, out = environment(arguments.environment.absolute()), arguments.out / "peers.json"
    before = json.loads(out.read_text())["tasks"] if arguments.only and out.exists() else []
    found = {task["task"]: task for task in before}
    for task in tasks(*arguments.cycles):
        if arguments.only in task.what:
            if "could not" in versions[OCEAN]:
                task = replace(task, theirs={k: n for k, n in task.theirs.items() if "gyre" not in k})
            with tempfile.TemporaryDirectory() as folder:
                python = arguments.environment.absolute() / "bin" / "python"
                found[task.what] = contest(task, python, Path(folder), arguments.turns)
    print(table(list(found.values())))
    sizes = {"cycles": list(arguments.cycles), "turns": arguments.turns}
    record(out, "peers", {"peers": versions, **sizes, "tasks": list(found.values())})


if __name__ == "__main__":
    main()
