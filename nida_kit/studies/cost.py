"""What an error costs in seconds, model evaluations and physics steps: `python -m nida_kit.studies.cost`.

Everyone reconstructs the same test windows, seen by the paper's law, and weak-constraint 4D-Var has the same banded
solve as everyone else. It starts from optimal interpolation (OI); from NIDA, the hybrid; from OI beside trajectories of
the system's own law, of which the lowest cost is kept; and from the truth, where no method can. There it stays in the
minimum beside the truth, even where another trajectory is more probable, so its error is a floor and no goal.

One *model evaluation* is one run of the model along one whole window: T - 1 applications of its step M. A pullback, a
row of M's Jacobian along the window by reverse differentiation, counts as one more, although it takes a little longer
than that. Both are counted as they are computed, so windows that wait in a batch until its last one has converged count
as well. A network needs no model.

Times are those of `assimilate` on one thread, spread and labels included: per window of a batch, and for a window
alone. Everyone takes turns, and the median of the turns counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from nida_kit.methods.compose import Chain
from nida_kit.methods.interpolation import OptimalInterpolation
from nida_kit.methods.method import Method
from nida_kit.methods.neural import NeuralIncremental
from nida_kit.methods.weak import WeakFourDVar
from nida_kit.minima import cost
from nida_kit.notes import quiet
from nida_kit.setups import Setup
from nida_kit.studies import common, limit
from nida_kit.systems.system import System

Findings = dict[str, Any]
Row = dict[str, Any]
Lines = dict[str, list[tuple[float, float]]]

_THEN, _SEVERAL = ", then 4D-Var", "4D-Var, several starts"
OI, FROM_OI, FROM_TRUTH = "OI", "OI" + _THEN, "4D-Var from the truth"
PHYSICS, STARTS, TEMPERATURES = "physics steps", "starts", "temperatures"
DEFAULT = 4  # temperatures of the NIDA that is compared with, and that the hybrid goes on from


def shipped_networks() -> dict[str, str]:
    """Weights of the shipped networks for Lorenz-63, by a short name."""
    return {"shipped": "lorenz63", "small": "lorenz63_small"}


# Counting


class _CountPullbacks(torch.autograd.Function):
    """The identity, which tells a counter of every pullback through it."""

    @staticmethod
    def forward(x, counter):
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.counter = inputs[1]

    @staticmethod
    def backward(ctx, grad):
        ctx.counter.pullbacks += grad[..., 0].numel()
        return grad, None


class Counted(System):
    """A system that counts, for each state, how often M is applied and how often it is pulled back through.

    Attributes:
        forward: applications of M to one state.
        pullbacks: products of one covector with M's Jacobian at one state.
    """

    def __init__(self, system: System):
        self.system, self.labels, self.longest_substep = system, system.labels, system.longest_substep
        self.forward = self.pullbacks = 0

    def tendency(self, x):
        return self.system.tendency(x)

    def start(self, samples, generator, dtype, device):
        return self.system.start(samples, generator, dtype, device)

    def step(self, x, dt):
        self.forward += x[..., 0].numel()
        return _CountPullbacks.apply(self.system.step(x, dt), self)


# Who takes part


@dataclass(frozen=True)
class Contestant:
    """A method at one point of its line in the figures.

    Attributes:
        line: the line's name.
        at: how far along it; 0 for a method with nothing to vary.
        unit: of what, one of `PHYSICS`, `STARTS`, `TEMPERATURES`.
        make: the method, for a system (which may count).
        budget: physics steps at most, from each start.
        from_truth: whether it is given the truth as its first guess.
    """

    line: str
    at: int
    unit: str
    make: Callable[[System], Method]
    budget: int = 0
    from_truth: bool = False

    @property
    def name(self) -> str:
        """Of its row in the table."""
        unit = self.unit.removesuffix("s") if self.at == 1 else self.unit
        return f"{self.line}, {self.at} {unit}" if self.at else self.line

    def run(self, system: System, truth: xr.DataArray, obs: xr.Dataset) -> xr.Dataset:
        """Its reconstruction."""
        return self.make(system).assimilate(obs, truth if self.from_truth else None)


def nida(network: str) -> str:
    """The line of a network."""
    return f"NIDA ({network})"


def hybrid(network: str) -> str:
    """The line of physics steps that start from a network's answer."""
    return nida(network) + _THEN


def several(budget: int) -> str:
    """The line of many starts, with at most that many physics steps from each."""
    return f"{_SEVERAL}, {budget} steps each"


def _is_several(name: str) -> bool:
    return name.startswith(_SEVERAL)


def contestants(
    setup: Setup,
    networks: dict[str, str],
    temperatures: Sequence[int],
    steps: Sequence[int],
    starts: Sequence[int],
    budgets: Sequence[int],
) -> list[Contestant]:
    """Everyone who takes part; sizes as in `measure`."""
    neural = {name: NeuralIncremental.pretrained(weights, DEFAULT) for name, weights in networks.items()}
    first_name, first = next(iter(neural.items()))
    # The one that NIDA itself starts from: narrow, so as fast as can be.
    interpolation = OptimalInterpolation(first.prior.climatology, first.labels, first.dt)

    def always(method: Method) -> Callable[[System], Method]:
        return lambda system: method

    def four_d_var(before: Sequence[Method], **how: int) -> Callable[[System], Method]:
        return lambda system: Chain([*before, WeakFourDVar(system, setup.model_noise_std, **how)])

    found = [Contestant(OI, 0, PHYSICS, always(interpolation))]
    for name, method in neural.items():
        for k in temperatures:
            found.append(Contestant(nida(name), k, TEMPERATURES, always(method.with_temperatures(k))))
    for k in steps:
        found.append(Contestant(FROM_OI, k, PHYSICS, four_d_var([interpolation], iterations=k), k))
        found.append(Contestant(hybrid(first_name), k, PHYSICS, four_d_var([first], iterations=k), k))
        found.append(Contestant(FROM_TRUTH, k, PHYSICS, four_d_var([], iterations=k), k, from_truth=True))
    for budget in budgets:
        for n in starts:
            make = four_d_var([interpolation], iterations=budget, starts=n)
            found.append(Contestant(several(budget), n, STARTS, make, budget))
    return found


# Measuring


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread, and afterwards as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _score(contestant: Contestant, setup: Setup, truth: xr.DataArray, obs: xr.Dataset) -> tuple[Row, xr.Dataset]:
    """How good and how costly its answer is; and the answer, `mean` with its `cost (sample)`."""
    counted = Counted(setup.system)
    result = contestant.run(counted, truth, obs)
    costs = cost(setup, obs, result["mean"])
    run = truth.sizes["sample"] * (setup.steps - 1)
    row = {"name": contestant.name, "line": contestant.line, "at": contestant.at, "unit": contestant.unit}
    row |= {"budget": contestant.budget}
    row |= {"mse": setup.score(result["mean"], truth)}
    row |= {"cost_mean": float(costs.mean()), "cost_median": float(np.median(costs))}
    row |= {"forward": counted.forward / run, "pullbacks": counted.pullbacks / run}
    row |= {"evaluations": row["forward"] + row["pullbacks"]}
    if "iterations" in result:
        row |= {"steps_until_converged": float(result["iterations"].mean())}
    return row, xr.Dataset({"mean": result["mean"], "cost": ("sample", costs)})


def _seconds(run: Callable[[], Any]) -> float:
    began = perf_counter()
    run()
    return perf_counter() - began


def _time(
    all_of_them: list[Contestant], setup: Setup, truth: xr.DataArray, obs: xr.Dataset, repeats: int, alone: int
) -> list[Row]:
    """Milliseconds per window in the batch and alone; everyone takes turns."""
    single = [(truth.isel(sample=i), obs.isel(sample=i)) for i in range(alone)]
    batch: list[list[float]] = [[] for _ in all_of_them]
    one: list[list[float]] = [[] for _ in all_of_them]
    for _ in range(repeats):
        for c, b, o in zip(all_of_them, batch, one, strict=True):
            b.append(_seconds(lambda c=c: c.run(setup.system, truth, obs)))
            o += [_seconds(lambda c=c, w=w: c.run(setup.system, *w)) for w in single]
    windows = truth.sizes["sample"]
    return [
        {"milliseconds_batch": 1e3 * median(b) / windows, "milliseconds_alone": 1e3 * median(o)}
        for b, o in zip(batch, one, strict=True)
    ]


def measure(
    samples: int = 100,
    *,
    networks: dict[str, str] | None = None,
    temperatures: Sequence[int] = (1, 2, 4, 8),
    steps: Sequence[int] = (1, 2, 3, 5, 10, 30),
    starts: Sequence[int] = (2, 4, 8, 16, 32, 64),
    budgets: Sequence[int] = (10, 30),
    repeats: int = 2,
    alone: int = 5,
    particles: int = 4096,
    seed: int = common.TEST,
) -> Findings:
    """Error and cost of everyone on the same windows, and the time that 4D-Var needs for NIDA's error.

    Args:
        samples: windows.
        networks: weights by name, the first for the hybrid; None is those that are shipped.
        temperatures: of NIDA, several numbers of them.
        steps: of 4D-Var from OI, NIDA and the truth.
        starts: of 4D-Var from several, OI the first of them.
        budgets: physics steps at most from each of several starts.
        repeats: turns of each contestant.
        alone: windows that are also timed one by one.
        particles: of the particle smoother behind the posterior mean; 0 leaves it out.
        seed: of the windows; of observations, one more.

    Returns:
        `rows`, one per contestant; `posterior_mean`, its error and that of the minimum beside it, or None;
        `time_to_accuracy`, see `reach`, by network; `map`, the error of the lowest cost that anyone found who does not
        know the truth; plain numbers throughout.

    Raises:
        ValueError: sizes that leave nothing to compare, or unknown weights.
    """
    networks = shipped_networks() if networks is None else networks
    lists = (temperatures, steps, starts, budgets)
    if not networks or not all(lists) or min(samples, repeats, alone, *(min(x) for x in lists)) < 1 or particles < 0:
        raise ValueError(
            f"{networks=} must name weights; {temperatures=}, {steps=}, {starts=} and {budgets=} must not be empty, "
            f"nothing in them nor {samples=}, {repeats=}, {alone=} below 1; {particles=} not negative."
        )
    setup = common.lorenz63()
    law = common.LAWS["paper"]
    truth, obs = common.observed(setup, law, samples, seed)
    temperatures = sorted({*temperatures, DEFAULT})
    taking_part = contestants(setup, networks, temperatures, steps, starts, budgets)
    with one_thread(), quiet():  # that some stop too early is what is measured
        rows, answers = zip(*(_score(c, setup, truth, obs) for c in taking_part), strict=True)
        times = _time(taking_part, setup, truth, obs, repeats, min(alone, samples))
        ideal = _posterior_mean(setup, truth, obs, particles)
    rows = [_rounded(row | time) for row, time in zip(rows, times, strict=True)]
    return {
        "rows": rows,
        "posterior_mean": ideal,
        "time_to_accuracy": {name: reach(rows, name) for name in networks},
        "map": _map(setup, truth, [a for c, a in zip(taking_part, answers, strict=True) if not c.from_truth]),
        "windows": f"{samples}, {law.what}; seed {seed}, observed with seed {seed + 1}",
        "seed": seed,
        "timing": f"median of {repeats} turns; alone: of {min(alone, samples)} windows each turn",
        "networks": networks,
    }


def _rounded(row: Row) -> Row:
    """To five digits."""
    return {k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in row.items()}


def _posterior_mean(setup: Setup, truth: xr.DataArray, obs: xr.Dataset, particles: int) -> Row | None:
    """The least mean squared error, see `limit`; and the minimum of the cost beside it."""
    if not particles:
        return None
    began = perf_counter()
    found = limit.posterior(limit.smoothers(setup, particles, 16 * particles), obs)
    milliseconds = 1e3 * (perf_counter() - began) / truth.sizes["sample"]
    chance = float(((found["mean_error"] / setup.spread) ** 2).mean())
    beside = WeakFourDVar(setup.system, setup.model_noise_std).assimilate(obs, found["mean"])
    row = {
        "mse": setup.score(found["mean"], truth) - chance,
        "cost_mean": float(cost(setup, obs, found["mean"]).mean()),
        "then_4d_var_mse": setup.score(beside["mean"], truth),
        "then_4d_var_cost_mean": float(beside["cost"].mean()),
    }
    return _rounded(row | {"particles": particles, "milliseconds_batch": milliseconds})


def _map(setup: Setup, truth: xr.DataArray, answers: Sequence[xr.Dataset]) -> Row:
    """The most probable trajectory known: in each window, of all these answers, the one of lowest cost."""
    everyone = xr.concat(answers, "who", combine_attrs="drop")
    best = everyone.isel(who=everyone["cost"].argmin("who"))
    return _rounded({"mse": setup.score(best["mean"], truth), "cost_mean": float(best["cost"].mean())})


# Reading the findings


def line(rows: list[Row], name: str) -> list[Row]:
    """The rows of a line in their order, the row that it goes on from first.

    Physics steps go on from OI or from NIDA, and several starts from OI alone with as many steps.
    """
    own = [row for row in rows if row["line"] == name]
    if name.endswith(_THEN):
        before = [r for r in rows if r["line"] == name.removesuffix(_THEN) and r["at"] in (0, DEFAULT)]
    else:
        before = [r for r in rows if r["line"] == FROM_OI and several(r["at"]) == name]
    return [*before, *own]


def _names(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row["line"] for row in rows))


def reach(rows: list[Row], network: str) -> Row:
    """The time that 4D-Var from several starts takes for a network's error, relative to the network's.

    Returns:
        `target`, the network's row by name, and its `mse`; whether it was `reached`, and `by` which row: the fastest
        that did, else the longest try. Its `reached_mse` and milliseconds, and how many times the network's these are,
        in a batch and alone: bounds from below where it was not reached. `lowest_mse` is that of all tries. `waiting`
        is the share of its steps that the winning start of a window spends in the batch after it has converged: about
        what a descent that sent windows home would save.
    """
    target = next(r for r in rows if r["line"] == nida(network) and r["at"] == DEFAULT)
    tries = [r for name in _names(rows) if _is_several(name) for r in line(rows, name)]
    enough = [r for r in tries if r["mse"] <= target["mse"]]
    by = (min if enough else max)(enough or tries, key=lambda r: r["milliseconds_batch"])
    found = {"target": target["name"], "mse": target["mse"], "reached": bool(enough), "by": by["name"]}
    found |= {"reached_mse": by["mse"], "lowest_mse": min(r["mse"] for r in tries)}
    found |= {"waiting": 1 - by["steps_until_converged"] / by["budget"]}
    for how in ("batch", "alone"):
        ours, theirs = (r[f"milliseconds_{how}"] for r in (target, by))
        found |= {f"milliseconds_{how}": theirs, f"nida_milliseconds_{how}": ours, f"ratio_{how}": theirs / ours}
    return _rounded(found)


def sentence(found: Row) -> str:
    """What `reach` found, in words; errors are root mean squares."""
    verb = "reaches it" if found["reached"] else "does not reach it"
    return (
        f"{found['target']}: RMSE {found['mse'] ** 0.5:.3f} in {found['nida_milliseconds_batch']:.2f} ms per window of "
        f"a batch, {found['nida_milliseconds_alone']:.1f} ms for a window alone. 4D-Var from several starts {verb}: "
        f"RMSE {found['reached_mse'] ** 0.5:.3f} ({found['by']}) after {found['milliseconds_batch']:.1f} ms and "
        f"{found['milliseconds_alone']:.1f} ms, {found['ratio_batch']:.1f} and {found['ratio_alone']:.1f} times NIDA's."
    )


def front(findings: Findings, how: str = "batch") -> Lines:
    """For `plots.pareto`: (milliseconds per window, RMSE) of everyone who does not know the truth, by line.

    Args:
        findings: from `measure`.
        how: "batch" or "alone".
    """
    rows = findings["rows"]
    return _lines(rows, f"milliseconds_{how}", [n for n in _names(rows) if n not in (OI, FROM_TRUTH)])


def efforts(findings: Findings) -> dict[str, Lines]:
    """For `plots.by_effort`: RMSE against physics steps, model evaluations, and milliseconds for a window alone.

    4D-Var from the truth is a level: where it ends.
    """
    rows = findings["rows"]
    physics = [name for name in _names(rows) if name.endswith(_THEN)]
    many = [name for name in _names(rows) if _is_several(name)]
    end = max(line(rows, FROM_TRUTH), key=lambda row: row["at"])
    level = [(at, end["mse"] ** 0.5) for at in (0, end["at"])]
    return {
        "physics steps": _lines(rows, "at", physics) | {FROM_TRUTH: level},
        "model evaluations per window": _lines(rows, "evaluations", physics + many),
        "milliseconds, a window alone": _lines(rows, "milliseconds_alone", physics + many),
    }


def table(findings: Findings) -> pd.DataFrame:
    """OI, 4D-Var from it, NIDA, the hybrid and most starts, a row each: error, cost, model runs, milliseconds alone."""
    rows = findings["rows"]
    named = {row["name"]: row for row in rows}
    most = max((row for row in rows if row["unit"] == STARTS), key=lambda row: row["budget"] * row["at"])
    chosen = [line(rows, OI)[-1], line(rows, FROM_OI)[-1], named[f"{nida('shipped')}, {DEFAULT} {TEMPERATURES}"]]
    chosen += [named[f"{hybrid('shipped')}, 3 {PHYSICS}"], most]
    columns = {
        "RMSE": [row["mse"] ** 0.5 for row in chosen],
        "mean cost": [row["cost_mean"] for row in chosen],
        "runs of the model": [row["evaluations"] for row in chosen],
        "ms": [row["milliseconds_alone"] for row in chosen],
    }
    index = [OI, FROM_OI, *(row["name"] for row in chosen[2:])]
    return pd.DataFrame(columns, index).round({"RMSE": 3, "mean cost": 1, "runs of the model": 0, "ms": 0})


def _lines(rows: list[Row], x: str, names: list[str]) -> Lines:
    """(x, root mean squared error) along lines. What a line of physics steps goes on from has taken none of them."""

    def effort(row: Row) -> float:
        return 0 if x == "at" and row["unit"] != PHYSICS else row[x]

    return {name: [(effort(row), row["mse"] ** 0.5) for row in line(rows, name)] for name in names}


if __name__ == "__main__":
    common.command("cost", lambda samples, _: measure(samples), samples=100)
