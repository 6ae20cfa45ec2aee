"""Speed of the banded algebra against scipy's LAPACK call, on one thread.

`pytest tests/benchmarks --benchmark-only` times; `python tests/benchmarks/test_banded_benchmark.py [--out]` measures
all ratios in one run, ours and scipy's by turns, and holds them against their goals.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before scipy is imported, when this file is the script

import argparse
import json
import platform
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import scipy
import torch
from scipy.linalg import solveh_banded

import nida_kit as nk
from nida_kit.linalg.banded import BlockBanded

SINGLE = [(1000, 3), (10_000, 3), (32, 40)]
BATCHES = [(256, 32, 3), (64, 100, 2)]
LENGTHS = [1000, 10_000, 100_000]
OUT = Path(__file__).parents[2] / "figures" / "banded_speed.json"


def problem(steps, n, batch=()):
    """A block-tridiagonal matrix and a right-hand side."""
    generator = torch.Generator().manual_seed(0)
    factor = 0.5 / n**0.5 * torch.randn(*batch, steps, 2, n, n, generator=generator, dtype=torch.float64)
    factor[..., 0, :, :] += 2 * torch.eye(n)
    b = torch.randn(*batch, steps, n, generator=generator, dtype=torch.float64)
    return BlockBanded.gram(factor), b


def lower_band(A):
    """One window as scipy takes it: `ab[i, c] = A[c + i, c]`."""
    n = A.components
    height = (A.width + 1) * n
    columns = A.blocks.flatten(-3, -2).mT.reshape(-1, height).numpy()
    ab = np.zeros((height, A.steps * n))
    for i in range(n):
        ab[: height - i, i::n] = columns[i::n, i:].T
    return np.asfortranarray(ab)


def scipys(A, b):
    """A call that solves each window by scipy, on bands made ready."""
    windows = BlockBanded(A.blocks.reshape(-1, *A.blocks.shape[-4:])).blocks
    ready = [(lower_band(BlockBanded(w)), x.numpy()) for w, x in zip(windows, b.reshape(len(windows), -1), strict=True)]
    return lambda: [solveh_banded(ab, x, lower=True) for ab, x in ready]


def ours_backward(A, b):
    """(forward, forward and backward) with gradients for A and b."""
    A, b = BlockBanded(A.blocks.clone().requires_grad_()), b.clone().requires_grad_()
    cotangent = torch.ones_like(b)
    return lambda: A.solve(b), lambda: torch.autograd.grad(A.solve(b), (A.blocks, b), cotangent)


@pytest.mark.parametrize(("steps", "n", "batch"), [(32, 4, (3,)), (10, 3, ()), (1, 2, (2,))])
def test_scipy_is_given_the_same_matrix(steps, n, batch):
    A, b = problem(steps, n, batch)
    np.testing.assert_allclose(np.ravel(scipys(A, b)()), A.solve(b).flatten(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("who", ["nida_kit", "scipy"])
@pytest.mark.parametrize(("steps", "n", "batch"), [(*s, ()) for s in SINGLE] + [(t, n, (w,)) for w, t, n in BATCHES])
def test_solve(benchmark, who, steps, n, batch):
    A, b = problem(steps, n, batch)
    benchmark(scipys(A, b) if who == "scipy" else lambda: A.solve(b))


@pytest.mark.parametrize(("steps", "n"), SINGLE)
def test_solve_and_its_gradient(benchmark, steps, n):
    benchmark(ours_backward(*problem(steps, n))[1])


@pytest.mark.parametrize("steps", LENGTHS)
@pytest.mark.parametrize("what", ["solve", "variances", "logdet", "sample"])
def test_cost_against_length(benchmark, what, steps):
    A, b = problem(steps, 3)
    calls = {
        "solve": lambda: A.solve(b),
        "variances": lambda: BlockBanded(A.blocks).variances,
        "logdet": A.logdet,
        "sample": lambda: A.sample(b),
    }
    benchmark(calls[what])


def test_ten_thousand_windows_of_lorenz63(benchmark):
    benchmark.pedantic(lambda: nk.Lorenz63().simulate(samples=10_000, steps=32, dt=0.05), rounds=3)


def by_turns(*calls, repeats=15):
    """Median seconds of each call, of the processor, taking turns so that the machine's moods hit all alike."""
    seconds = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(repeats):
        for call, taken in zip(calls, seconds, strict=True):
            began = time.process_time()
            call()
            taken.append(time.process_time() - began)
    return [median(taken) for taken in seconds]


def measure():
    """A row for each ratio: what, its goal, the seconds of ours and of what it is held against."""
    rows = []

    def add(what, goal, ours, other):
        row = {"what": what, "ours_s": ours, "other_s": other, "ratio": ours / other, "at_most": goal}
        rows.append(row | {"kept": row["ratio"] <= goal})

    for steps, n in SINGLE:
        A, b = problem(steps, n)
        add(f"solve / solveh_banded, T={steps}, n={n}", 2.0, *by_turns(lambda A=A, b=b: A.solve(b), scipys(A, b)))
    for windows, steps, n in BATCHES:
        A, b = problem(steps, n, (windows,))
        add(f"solve / loop, {windows} x ({steps}, {n})", 1.0, *by_turns(lambda A=A, b=b: A.solve(b), scipys(A, b)))
    for steps, n, batch in [(*s, ()) for s in SINGLE] + [(t, n, (w,)) for w, t, n in BATCHES]:
        forward, both = by_turns(*ours_backward(*problem(steps, n, batch)))
        add(f"backward / forward, {batch or ''} T={steps}, n={n}", 3.0, both - forward, forward)
    lengths = [problem(steps, 3) for steps in LENGTHS]
    times = by_turns(*(lambda A=A, b=b: A.solve(b) for A, b in lengths))
    for (short, long), (few, many) in zip(pairwise(LENGTHS), pairwise(times), strict=True):
        # Ten times the length, per step; half as much again is left to the caches.
        add(f"solve per step, T={long} / T={short}", 1.5, many / long, few / short)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", action="store_true", help=f"write {OUT}")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure()
    for row in rows:
        verdict = "kept" if row["kept"] else "MISSED"
        print(f"{row['what']:45s} {row['ratio']:6.2f}  at most {row['at_most']:.1f}  {verdict}")
    if arguments.out:
        machine = {"machine": platform.machine(), "python": platform.python_version(), "threads": 1}
        packages = {module.__name__: module.__version__ for module in (torch, scipy, np)}
        OUT.parent.mkdir(exist_ok=True)
        OUT.write_text(json.dumps({"rows": rows, **machine, **packages, "load": os.getloadavg()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
