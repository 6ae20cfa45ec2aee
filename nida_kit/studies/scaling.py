r"""What a longer window and a larger state cost: `OMP_NUM_THREADS=1 python -m nida_kit.studies.scaling`.

A window of T steps of n components is T n numbers, and its precision couples a step with the one before. To leading
order, in multiplications and in numbers kept,

    dense     (T n)^3 / 3      (T n)^2
    banded    ~ T n^3          2 T n^2

so everything that goes through the banded solve is linear in T and cubic in n. An ensemble of N members costs N runs of
the model and an analysis of N^2 per observed value, whatever n; this package's LETKF tapers each site's observations by
a full matrix, which is quadratic in n, with a small factor.

Four sweeps, `MEASURES`: the algebra against T, the gradient of a solve against T, methods against T on Lorenz-63, and
methods against n on rings of Lorenz-96. All calls of a size take turns, and the medians count; seconds are those that
the processor spends, so that other programs count little. An exponent is the slope of log seconds against log size over
the larger sizes: small ones only measure calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from nida_kit import setups
from nida_kit.edge import read_observations
from nida_kit.evaluate import ERROR, rmse
from nida_kit.linalg.banded import BlockBanded
from nida_kit.loop import incremental
from nida_kit.methods.enkf import EnKF
from nida_kit.methods.interpolation import OptimalInterpolation, first_guess_of
from nida_kit.methods.letkf import LETKF
from nida_kit.methods.method import Method
from nida_kit.methods.neural import NeuralIncremental
from nida_kit.methods.particle_filter import ParticleFilter
from nida_kit.methods.weak import WeakFourDVar
from nida_kit.notes import quiet
from nida_kit.observing.observations import Observations
from nida_kit.observing.observe import observe
from nida_kit.priors.climatology import Climatology
from nida_kit.priors.parts import Seeded
from nida_kit.priors.ring import RingPrior
from nida_kit.studies import common
from nida_kit.studies.cost import one_thread
from nida_kit.systems.lorenz import Lorenz96
from nida_kit.systems.wrapped import Started

Call = Callable[[], Any]
Line = list[tuple[int, float]]
Findings = dict[str, Any]


# Timing


def in_turns(calls: dict[str, Call], repeats: int, least: float = 0.01) -> dict[str, float]:
    """Median seconds of each call, of the processor; they take turns.

    A turn is as many calls as take `least` seconds: the clock would blur shorter ones. Before them, one that does not
    count finds again what the other calls drove out of the caches.
    """
    count = {}
    for name, call in calls.items():
        call()
        count[name] = max(1, round(least / max(cpu_seconds(call, 1), 1e-6)))
    turns = [{name: cpu_seconds(call, count[name]) for name, call in calls.items()} for _ in range(repeats)]
    return {name: median(turn[name] for turn in turns) for name in calls}


def cpu_seconds(call: Call, count: int) -> float:
    """CPU seconds of one call, the mean of several."""
    if count > 1:
        call()
    began = process_time()
    for _ in range(count):
        call()
    return (process_time() - began) / count


def exponent(line: Line, last: int = 4) -> float:
    """The power of the size that the last points of a line grow with, by least squares in logarithms."""
    size, seconds = np.log(np.array(line[-last:], float)).T
    return float(np.polyfit(size, seconds, 1)[0])


def sweep(sizes: Sequence[int], calls_of: Callable[[int], dict[str, Call]], repeats: int) -> Findings:
    """Everyone's `seconds` at each size, by name; and the `exponents` of those with two sizes or more.

    Args:
        sizes: rising.
        calls_of: the calls of one size, by name; a name may be missing where it would take too long.
        repeats: turns that count.
    """
    lines: dict[str, Line] = {}
    with quiet():  # of answers that are only timed
        for size in sizes:
            for name, seconds in in_turns(calls_of(size), repeats).items():
                lines.setdefault(name, []).append((size, float(f"{seconds:.4g}")))
    exponents = {name: round(exponent(line), 2) for name, line in lines.items() if len(line) > 1}
    return {"seconds": lines, "exponents": exponents}


def _check(repeats: int, **sizes: Sequence[int]) -> None:
    for name, values in sizes.items():
        if not values or min(values) < 1 or list(values) != sorted(set(values)):
            raise ValueError(f"{name}={list(values)} must be rising whole numbers of at least 1, and not none of them.")
    if repeats < 1:
        raise ValueError(f"{repeats=} must be at least 1.")


# The algebra


def problem(steps: int, n: int, seed: int = 0) -> tuple[BlockBanded, Float[Tensor, "T n"]]:
    """A random well-conditioned precision that couples neighbours in time, and a right-hand side."""
    generator = torch.Generator().manual_seed(seed)
    factor = 0.5 / n**0.5 * torch.randn(steps, 2, n, n, generator=generator, dtype=torch.float64)
    factor[:, 0] += 2 * torch.eye(n)
    return BlockBanded.gram(factor), torch.randn(steps, n, generator=generator, dtype=torch.float64)


def dense_solve(matrix: Float[Tensor, "N N"], b: Float[Tensor, "T n"]) -> Float[Tensor, "T n"]:
    """A^-1 b by a full Cholesky factor."""
    return torch.cholesky_solve(b.reshape(-1, 1), torch.linalg.cholesky(matrix)).view_as(b)


def dense_variances(matrix: Float[Tensor, "N N"], steps: int) -> Float[Tensor, "T n"]:
    """The diagonal of A^-1 by a full Cholesky factor."""
    return torch.cholesky_inverse(torch.linalg.cholesky(matrix)).diagonal().view(steps, -1)


def algebra(lengths: Sequence[int], n: int = 3, dense_up_to: int = 1024, repeats: int = 5) -> Findings:
    """Solve and marginal variances of a window's precision, banded and dense, against its length.

    Args:
        lengths: T, rising.
        n: components.
        dense_up_to: the longest window whose full matrix is factorised.
        repeats: turns that count.

    Returns:
        `seconds` and `exponents` by name; `bytes` that the matrix itself takes, banded and dense; and
        `largest_difference` between the two, relative to the largest value.

    Raises:
        ValueError: sizes that leave nothing to measure.
    """
    _check(repeats, lengths=lengths, n=[n])
    differences = [0.0]
    kept: dict[str, Line] = {"banded": [], "dense": []}

    def calls_of(steps: int) -> dict[str, Call]:
        A, b = problem(steps, n)
        kept["banded"].append((steps, A.blocks.nbytes))
        kept["dense"].append((steps, 8 * (steps * n) ** 2))
        calls = {"banded solve": lambda: A.solve(b), "banded variances": lambda: BlockBanded(A.blocks).variances}
        if steps <= dense_up_to:
            full = A.dense()
            calls |= {"dense solve": lambda: dense_solve(full, b)}
            calls |= {"dense variances": lambda: dense_variances(full, steps)}
            for ours, other in ((A.solve(b), dense_solve(full, b)), (A.variances, dense_variances(full, steps))):
                differences.append(float((ours - other).abs().max() / other.abs().max()))
        return calls

    with one_thread():
        found = sweep(lengths, calls_of, repeats)
    return found | {"bytes": kept, "largest_difference": max(differences), "n": n}


# The gradient of a solve


def gradient(solve: Callable[[Tensor, Tensor], Tensor], blocks: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Of the sum of squares of the solution, with respect to the matrix's blocks and the right-hand side."""
    blocks, b = blocks.clone().requires_grad_(), b.clone().requires_grad_()
    return torch.autograd.grad(solve(blocks, b).square().sum(), (blocks, b))


def implicit(blocks: Float[Tensor, "T w n n"], b: Float[Tensor, "T n"]) -> Float[Tensor, "T n"]:
    """The package's solve, whose gradient is one more solve with the same factor."""
    return BlockBanded(blocks).solve(b)


def through_dense(blocks: Float[Tensor, "T w n n"], b: Float[Tensor, "T n"]) -> Float[Tensor, "T n"]:
    """A full matrix made of the blocks, and torch's own solve: autograd does the rest."""
    return torch.linalg.solve(BlockBanded(blocks).dense(), b.reshape(-1, 1)).view_as(b)


def through_steps(blocks: Float[Tensor, "T w n n"], b: Float[Tensor, "T n"]) -> Float[Tensor, "T n"]:
    """Block elimination, a loop over the time steps of a matrix that couples neighbours: autograd unrolls it."""
    factors, y = [], []
    for t in range(len(b)):
        main, right = blocks[t, 0], b[t]
        if t:
            gain = torch.cholesky_solve(blocks[t - 1, 1].mT, factors[-1]).mT
            main, right = main - gain @ blocks[t - 1, 1].mT, right - gain @ y[-1]
        factors.append(torch.linalg.cholesky(main))
        y.append(right)
    x = [torch.cholesky_solve(y[-1][:, None], factors[-1])[:, 0]]
    for t in reversed(range(len(b) - 1)):
        x.append(torch.cholesky_solve((y[t] - blocks[t, 1].mT @ x[-1])[:, None], factors[t])[:, 0])
    return torch.stack(x[::-1])


WAYS = {"implicit, banded": implicit, "autograd, step by step": through_steps, "autograd, dense": through_dense}


def saved_bytes(solve: Callable[[Tensor, Tensor], Tensor], blocks: Tensor, b: Tensor) -> int:
    """What is kept for the backward pass: each tensor that autograd saves, and the banded factor if there is one."""
    kept: dict[int, Tensor] = {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x  # held, so that no other takes its place
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        solution = solve(blocks.clone().requires_grad_(), b.clone().requires_grad_())
    factor = getattr(solution.grad_fn, "factor", None)
    return sum(x.untyped_storage().nbytes() for x in kept.values()) + (0 if factor is None else factor.nbytes)


def gradients(lengths: Sequence[int], n: int = 3, dense_up_to: int = 512, repeats: int = 5) -> Findings:
    """A solve and its gradient, three ways, against the length of the window; arguments and errors as for `algebra`.

    Returns:
        `seconds`, forward and backward together, and `exponents` by way; `bytes` that are kept for the backward pass;
        and `largest_difference` of a gradient from the implicit one, relative to its largest entry.
    """
    _check(repeats, lengths=lengths, n=[n])
    differences = [0.0]
    kept: dict[str, Line] = {name: [] for name in WAYS}

    def calls_of(steps: int) -> dict[str, Call]:
        A, b = problem(steps, n)
        ways = {name: way for name, way in WAYS.items() if way is not through_dense or steps <= dense_up_to}
        ours = gradient(implicit, A.blocks, b)
        for name, way in ways.items():
            kept[name].append((steps, saved_bytes(way, A.blocks, b)))
            for mine, other in zip(_symmetric(ours), _symmetric(gradient(way, A.blocks, b)), strict=True):
                differences.append(float((mine - other).abs().max() / mine.abs().max()))
        return {name: partial(gradient, way, A.blocks, b) for name, way in ways.items()}

    with one_thread():
        found = sweep(lengths, calls_of, repeats)
    return found | {"bytes": kept, "largest_difference": max(differences), "n": n}


def _symmetric(gradient: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """What of it means anything: the symmetric part of symmetric blocks, and no block beyond the window."""
    blocks, b = gradient
    main = (blocks[:, 0] + blocks[:, 0].mT) / 2
    return torch.cat([main, blocks[:-1, 1]]), b


# Methods against the length of the window


def by_length(
    lengths: Sequence[int], batch: int = 16, members: int = 20, particles: int = 1000, repeats: int = 3, seed: int = 0
) -> Findings:
    """Seconds of methods on Lorenz-63 against the length of the window, x seen at every 8th step.

    Args:
        lengths: T, rising; at least 8.
        batch: windows of NIDA's batch.
        members: of the ensemble Kalman filter.
        particles: of the particle filter.
        repeats: turns that count.
        seed: of the windows; of observations, one more.

    Returns:
        `seconds` for a window and `exponents` by name; and `mse` of optimal interpolation and NIDA over the batch, in
        climatological variances.

    Raises:
        ValueError: sizes that leave nothing to measure.
    """
    _check(repeats, lengths=lengths, batch=[batch])
    if lengths[0] < 8:
        raise ValueError(f"lengths={list(lengths)} must not be shorter than 8 steps: less may hold no observation.")
    setup = common.lorenz63()
    neural = NeuralIncremental.pretrained("lorenz63")
    spread = neural.prior.climatology.spread
    interpolation = OptimalInterpolation(neural.prior.climatology, neural.labels, neural.dt)
    model = {"system": setup.system, "model_noise_std": setup.model_noise_std}
    methods: dict[str, Method] = {
        "optimal interpolation": interpolation,
        "NIDA, 4 temperatures": neural,
        f"EnKF, {members} members": EnKF(**model, members=members, inflation=1.05),
        f"particle filter, {particles}": ParticleFilter(**model, particles=particles),
    }
    step = WeakFourDVar(**model, iterations=1)
    together = f"NIDA, one of a batch of {batch}"
    errors: dict[str, Line] = {"optimal interpolation": [], "NIDA, 4 temperatures": []}

    def calls_of(steps: int) -> dict[str, Call]:
        truth = setup.system.simulate(batch, steps, setup.dt, model_noise_std=setup.model_noise_std, seed=seed)
        obs = observe(truth, components=["x"], every=8, noise_std=0.05 * float(spread[0]), seed=seed + 1)
        for name, line in errors.items():
            away = (methods[name].assimilate(obs)["mean"] - truth) / spread.numpy()
            line.append((steps, float(f"{float((away**2).mean()):.4g}")))
        one = obs.isel(sample=slice(1))
        guess = interpolation.assimilate(one)["mean"]
        calls = {name: partial(method.assimilate, one) for name, method in methods.items()}
        return calls | {
            "4D-Var, one step": partial(step.assimilate, one, guess),
            together: partial(neural.assimilate, obs),
        }

    with one_thread():
        found = sweep(lengths, calls_of, repeats)
    line = found["seconds"][together]
    found["seconds"][together] = [(steps, float(f"{seconds / batch:.4g}")) for steps, seconds in line]
    return found | {"mse": errors, "batch": batch, "seed": seed}


# Methods against the size of the state


def untrained(sites: int, width: int = 32, reach: int = 3) -> RingPrior:
    """A network that knows nothing, around independent sites: what it costs is that of a trained one."""
    mean = torch.full((2, sites), 2.3, dtype=torch.float64)
    in_time = 3.6**2 * torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64)
    covariance = torch.kron(in_time, torch.eye(sites, dtype=torch.float64))
    climatology = Climatology.from_covariance(mean, covariance, torch.full((sites,), 3.6, dtype=torch.float64))
    with Seeded(0):
        return RingPrior(climatology, width=width, reach=reach)


def _window_calls(n: int, steps: int, seed: int) -> dict[str, Call]:
    """Calls on one window of a ring, that smooth it as a whole."""
    system = Lorenz96(n)
    truth = system.simulate(1, steps, 0.05, model_noise_std=0.1, seed=seed, spinup=200)
    obs = observe(truth, components=system.labels.components[::2], every=4, noise_std=1.0, seed=seed + 1)
    read = read_observations(obs, system.labels, 0.05)
    observations = Observations(read.value, read.noise_std)
    prior = untrained(n)
    A, b = problem(steps, n)
    with torch.no_grad():
        start = first_guess_of(prior.climatology, observations)
        start.mean, start.std  # noqa: B018 (solved for here: it is no part of a step)
    scaled = start.mean - start.mean.mean()
    descent = WeakFourDVar(system, 0.1, start_mean=2.3, start_std=3.6, iterations=1)

    def network() -> Tensor:
        with torch.no_grad():
            return prior.local_model(scaled.float(), scaled.float(), 0.5)[0]

    def neural() -> Tensor:
        with torch.no_grad():
            posterior = next(incremental(prior, [1.0], observations, start))
            return posterior.mean + posterior.std

    return {
        "banded solve": lambda: A.solve(b),
        "RingPrior, the network": network,
        "RingPrior, one step": neural,
        "4D-Var, one step": lambda: descent.assimilate(obs, truth),
    }


def _cycling(n: int, cycles: int, seed: int) -> tuple[Started, xr.DataArray, xr.Dataset]:
    """A ring that is seen wholly at every step of 0.05, with errors of 1, as by Sakov and Oke (2008)."""
    moved = torch.full((n,), 8.0, dtype=torch.float64) + 0.01 * (torch.arange(n) == 0)
    system = Started(Lorenz96(n), Lorenz96(n).trajectories(moved, 401, 0.05)[-1], 0.001**0.5)
    truth = system.simulate(1, cycles, 0.05, seed=seed)
    return system, truth, observe(truth, noise_std=1.0, seed=seed + 1)


def by_state(
    sites: Sequence[int],
    steps: int = 20,
    cycles: int = 300,
    members: tuple[int, int] = (20, 10),
    repeats: int = 3,
    seed: int = 0,
) -> Findings:
    """Seconds of methods on rings of Lorenz-96 against the number of sites.

    Args:
        sites: n, rising; at least 8.
        steps: of the window that the smoothing methods take.
        cycles: of the filters.
        members: of the EnKF and of the LETKF, the same for all n.
        repeats: turns that count.
        seed: of the truth; of observations, one more.

    Returns:
        `seconds` for each time step and `exponents` by name; `rmse` of the filters' analyses over the second half
        of their cycles; `bytes` of what stands for the uncertainty, a window's precision or an ensemble.

    Raises:
        ValueError: sizes that leave nothing to measure.
    """
    _check(repeats, sites=sites, steps=[steps], cycles=[cycles])
    if sites[0] < 8 or steps < 5 or cycles < 2:
        raise ValueError(f"sites={list(sites)} must be at least 8, {steps=} at least 5 and {cycles=} at least 2.")
    filters = {f"EnKF, {members[0]} members": EnKF, f"LETKF, {members[1]} members": LETKF}
    errors: dict[str, Line] = {name: [] for name in filters}
    kept: dict[str, Line] = {name: [] for name in ("precision of a window", *filters)}

    def calls_of(n: int) -> dict[str, Call]:
        system, truth, obs = _cycling(n, cycles, seed)
        calls = _window_calls(n, steps, seed)
        kept["precision of a window"].append((n, 8 * 2 * steps * n**2))
        half = {"time": slice(cycles // 2, None)}
        for (name, kind), size in zip(filters.items(), members, strict=True):
            method = kind(system, members=size, inflation=1.04)
            analysis = method.assimilate(obs)["mean"]
            errors[name].append((n, float(f"{float(rmse(analysis.isel(half), truth.isel(half))):.4g}")))
            kept[name].append((n, 8 * size * n))
            calls[name] = partial(method.assimilate, obs.isel(time=slice(steps)))
        return calls

    with one_thread():
        found = sweep(sites, calls_of, repeats)
    found["seconds"] = {
        name: [(n, float(f"{seconds / steps:.4g}")) for n, seconds in line] for name, line in found["seconds"].items()
    }
    return found | {"rmse": errors, "bytes": kept, "steps": steps, "cycles": cycles, "seed": seed}


MEASURES: dict[str, Callable[..., Findings]] = {
    "algebra": algebra,
    "gradients": gradients,
    "by_length": by_length,
    "by_state": by_state,
}
_POWERS = [2**k for k in range(17)]
SIZES = {"algebra": _POWERS[5:], "gradients": _POWERS[5:13], "by_length": _POWERS[5:13], "by_state": _POWERS[3:10]}
"""Of the record."""


def measure(repeats: int, folder: Path) -> Findings:
    """All sweeps, at the sizes of the record."""
    found: Findings = {}
    for name, of_this in MEASURES.items():
        found[name] = of_this(SIZES[name], repeats=repeats)
        print(name, found[name]["exponents"])
    turns = f"medians of {repeats} turn{'s' * (repeats > 1)}"
    return found | {"timing": turns, "unit": "processor seconds; by_state: seconds for each time step"}


# Reading the findings

RMSE = ERROR.replace(" [", "\n[")
LAWS: dict[str, dict[str, int | str]] = {
    "algebra": {"banded solve": 1, "banded variances": 1, "dense solve": 3, "dense variances": 3},
    "by_length": {
        "optimal interpolation": 1,
        "NIDA, 4 temperatures": 1,
        "NIDA, one of a batch of 16": 1,
        "EnKF, 20 members": 1,
        "particle filter, 1000": 1,
        "4D-Var, one step": 1,
    },
    "by_state": {
        "banded solve": 3,
        "RingPrior, the network": 1,
        "RingPrior, one step": "3, above 64 sites 1",
        "4D-Var, one step": 3,
        "EnKF, 20 members": 1,
        "LETKF, 10 members": "1 to 2",
    },
}
"""The power of the size that each cost should grow with, where the theory says one, by sweep."""


def powers(sweep: str, found: Findings) -> pd.DataFrame:
    """The measured power of each call of a sweep, a row each, beside that of its law."""
    measured = found["exponents"]
    law = {name: LAWS[sweep].get(name, "") for name in measured}
    return pd.DataFrame({"measured power": measured, "law": law}).reindex(list(measured))


def panels(sweep: str, found: Findings) -> dict[str, Any]:
    """What `plots.growth` draws of a sweep, its arguments after the figure: `panels`, `xlabel` and `powers`."""
    return _PANELS[sweep](found)


def _algebra_panels(found: Findings) -> dict[str, Any]:
    kept = {f"{way} solve": line for way, line in found["bytes"].items()}
    return {
        "panels": {"seconds": found["seconds"], "bytes": kept},
        "xlabel": f"time steps T (n = {found['n']})",
        "powers": {"seconds": {"banded solve": 1, "dense solve": 3}, "bytes": {"banded solve": 1, "dense solve": 2}},
    }


def _length_panels(found: Findings) -> dict[str, Any]:
    errors = {name: [(steps, mse**0.5) for steps, mse in line] for name, line in found["mse"].items()}
    return {
        "panels": {"seconds per window": found["seconds"], RMSE: errors},
        "xlabel": "time steps T",
        "powers": {"seconds per window": {"EnKF, 20 members": 1, f"NIDA, one of a batch of {found['batch']}": 1}},
    }


def _state_panels(found: Findings) -> dict[str, Any]:
    unit = setups.load("sakov2008-lorenz96").climatological_std  # of a site, the same on rings of all sizes
    kept = {"banded solve" if name.startswith("precision") else name: line for name, line in found["bytes"].items()}
    errors = {name: [(n, error / unit) for n, error in line] for name, line in found["rmse"].items()}
    return {
        "panels": {"seconds per time step": found["seconds"], "bytes": kept, RMSE: errors},
        "xlabel": "sites n",
        "powers": {"seconds per time step": {"banded solve": 3, "EnKF, 20 members": 1}, "bytes": {"banded solve": 2}},
    }


_PANELS = {"algebra": _algebra_panels, "by_length": _length_panels, "by_state": _state_panels}


if __name__ == "__main__":
    common.command("scaling", measure, samples=5)
