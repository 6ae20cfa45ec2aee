"""Three challenges of two minutes each: what a player chooses, and what it scores. `lab.challenge` has their labs.

    run_four      four values of Lorenz-63: where would you observe, to beat the hybrid?
    run_ten       ten values of an ocean: how much of it can they explain?
    run_seeds     four values are shown: in which window will every method fail?

A result on file has its challenge, its player and its score, so that a room can compare: see `board`.

>>> run_four(Four(first=3, second=11, third=20, fourth=28)).attrs["score"] > 0.9
True
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from nida_kit import checks, ocean, setups
from nida_kit.experiment import METHODS, Parameters, run
from nida_kit.observing.observe import observe
from nida_kit.state import COMPONENT, SAMPLE, TIME

NAMES = ("beat the hybrid", "ten observations", "where everyone fails")
_PRIOR, _HYBRID = "neural", "neural + 4D-Var"


# Beat the hybrid by choosing where to observe

_SETUP = "blanke2024-lorenz63"
_WINDOWS, SEED = 50, 20_000  # luck with one window is no skill
PLACES = ("first", "second", "third", "fourth")


@dataclass(frozen=True)
class Four:
    """Where four values are measured, in all of 50 windows.

    Attributes:
        first: step of the first value, 0 to 31; and so on.
        first_sees: its component; and so on.
        window: the one that is drawn, 0 to 49.
        player: whose score it is.
    """

    first: int = 0
    second: int = 8
    third: int = 16
    fourth: int = 24
    first_sees: str = "x"
    second_sees: str = "x"
    third_sees: str = "x"
    fourth_sees: str = "x"
    window: int = 0
    player: str = "somebody"

    def __post_init__(self):
        setup = setups.load(_SETUP)
        for name in PLACES:
            sees = f"{name}_sees"
            component = checks.one_of(sees, getattr(self, sees), setup.system.labels.components)
            checks.store(self, **{name: checks.count(name, getattr(self, name), 0, setup.steps - 1), sees: component})
        checks.store(self, window=checks.count("window", self.window, 0, _WINDOWS - 1))

    @property
    def places(self) -> list[tuple[int, str]]:
        """Step and component of each value."""
        return [(getattr(self, name), getattr(self, f"{name}_sees")) for name in PLACES]


@lru_cache(maxsize=1)
def _windows() -> xr.DataArray:
    return setups.load(_SETUP).windows(_WINDOWS, seed=SEED)


@lru_cache(maxsize=1)
def _of_hybrid() -> float:
    """The hybrid's error where x is seen at every eighth step, from the fourth on: it has no poor places."""
    setup = setups.load(_SETUP)
    obs = observe(_windows(), ["x"], 8, offset=4, noise_std=setup.noise, seed=SEED + 1)
    result = METHODS[_HYBRID](Parameters()).assimilate(obs)
    return setup.score(result["mean"], _windows()) ** 0.5


def run_four(p: Four) -> xr.Dataset:
    """NIDA with the player's four values.

    Returns:
        `truth`, `value`, `noise_std`, `mean` and `std` of one window, `(time, component)`, and the `usual` range of the
        climatology; in `attrs` the root mean squared errors of all windows in climatological standard deviations,
        `rmse` and `hybrid_rmse`, and `score`, the second over the first: above 1 the player has won.

    Raises:
        ValueError: two values at the same place.
    """
    if len(set(p.places)) < len(p.places):
        raise ValueError("Two of the four values are the same one: move one of them.")
    setup, truth = setups.load(_SETUP), _windows()
    seen = xr.zeros_like(truth.isel({SAMPLE: 0}, drop=True), dtype=bool)
    for step, component in p.places:
        seen[{TIME: step, COMPONENT: list(seen[COMPONENT].values).index(component)}] = True
    obs = observe(truth, operator=seen, noise_std=setup.noise, seed=SEED + 1)
    result = METHODS[_PRIOR](Parameters()).assimilate(obs)
    error = setup.score(result["mean"], truth) ** 0.5
    found = result[["mean", "std"]].assign(truth=truth, value=obs["value"], noise_std=obs["noise_std"])
    scores = {"rmse": error, "hybrid_rmse": _of_hybrid(), "score": _of_hybrid() / error}
    return found.isel({SAMPLE: p.window}, drop=True).assign(usual=setup.usual).assign_attrs(scores)


# Spend ten observations on an ocean

TEN = 10
_TRIALS = 4  # sets of random places that a player is compared with


@dataclass(frozen=True)
class Ten:
    """Where an ocean is observed, up to ten times, and where the player would do it next.

    Attributes:
        spent: `(moment, y, x)` of each value, indices of the ocean's window of 8 steps and 65 x 65 points.
        moment: step of the next one,
        y: likewise, from 0 at the southern wall to 1,
        x: likewise.
        seed: of the ocean.
        player: whose score it is.
        spinup: steps until the ocean has forgotten what it began with, see `ocean.OceanParameters`.
    """

    spent: tuple[tuple[int, int, int], ...] = ()
    moment: int = ocean.STEPS // 2
    y: float = 0.5
    x: float = 0.25
    seed: int = 0
    player: str = "somebody"
    spinup: int = 240

    def __post_init__(self):
        checks.store(
            self,
            moment=checks.count("moment", self.moment, 0, ocean.STEPS - 1),
            seed=checks.seed(self.seed),
            spinup=checks.count("spinup", self.spinup, 0),
            **{name: checks.within(name, getattr(self, name), 0.0, 1.0) for name in ("y", "x")},
        )
        if len(self.spent) > TEN:
            raise ValueError(f"All {TEN} observations are spent: start anew, with reset or another seed.")
        if len(set(self.spent)) < len(self.spent):
            raise ValueError("This point is observed already: move on.")

    @property
    def next(self) -> tuple[int, int, int]:
        """The place that is looked at, as `spent` has it."""
        truth = ocean.simulated(self.seed, self.spinup)
        y, x = (round(getattr(self, dim) * (truth.sizes[dim] - 1)) for dim in ("y", "x"))
        return self.moment, y, x


def run_ten(p: Ten) -> xr.Dataset:
    """NIDA with the values that were bought so far; the truth is shown when all are spent.

    Returns:
        `value`, `mean` and `std`, `(time, y, x)`, and at the end `truth`; in `attrs` how many are `left`; at the end
        `score`, the share of the ocean's departures from its mean that is explained, 1 at most, and `by_chance`, that
        of ten random places, the mean of four trials.
    """
    truth = ocean.simulated(p.seed, p.spinup)
    found = _explained(p.spent, p.seed, p.spinup)
    if len(p.spent) < TEN:
        return xr.Dataset(found.data_vars, attrs={"left": TEN - len(p.spent)})
    return found.assign(truth=truth).assign_attrs(left=0, by_chance=_by_chance(p.seed, p.spinup))


@lru_cache(maxsize=32)
def _explained(spent: tuple[tuple[int, int, int], ...], seed: int, spinup: int) -> xr.Dataset:
    truth, usual = ocean.simulated(seed, spinup), ocean.methods()["climatology"]
    if not spent:
        nothing = truth.where(False).to_dataset(name="value").assign(noise_std=0.1 * ocean.spread())
        return usual.assimilate(nothing)[["mean", "std"]].assign(value=nothing["value"])
    seen = xr.zeros_like(truth, dtype=bool)
    for place in spent:
        seen[place] = True
    obs = observe(truth, operator=seen, noise_std=0.1 * ocean.spread(), seed=seed)
    found = ocean.methods()["NIDA"].assimilate(obs)[["mean", "std"]]
    before = usual.assimilate(obs)["mean"]
    left = float(((found["mean"] - truth) ** 2).sum() / ((before - truth) ** 2).sum())
    return found.assign(value=obs["value"]).assign_attrs(score=1 - left)


@lru_cache(maxsize=8)
def _by_chance(seed: int, spinup: int) -> float:
    generator = np.random.default_rng(seed)
    sizes = ocean.simulated(seed, spinup).shape
    trials = generator.integers(0, sizes, (_TRIALS, TEN, len(sizes)))
    places = [tuple(tuple(int(k) for k in place) for place in trial) for trial in trials]
    return float(np.mean([_explained(places_of, seed, spinup).attrs["score"] for places_of in places]))


# Find the seed where everyone fails

TRIES = 10
EVERYONE = ("neural", "4D-Var", "neural + 4D-Var", "EnKS")
_MEMBERS = 100


@dataclass(frozen=True)
class Seeds:
    """Windows of Lorenz-63 that were revealed, and the one that is looked at.

    Attributes:
        seed: of the window that is looked at.
        revealed: those that were bet on, at most ten.
        player: whose score it is.
    """

    seed: int = 0
    revealed: tuple[int, ...] = ()
    player: str = "somebody"

    def __post_init__(self):
        checks.store(self, seed=checks.seed(self.seed))
        if len(self.revealed) > TRIES:
            raise ValueError(f"All {TRIES} bets are made: start anew.")
        if len(set(self.revealed)) < len(self.revealed):
            raise ValueError("This window is revealed already: look for another one.")


def run_seeds(p: Seeds) -> xr.Dataset:
    """Four observations, and when a player has bet on them, the truth and what everyone makes of it.

    Returns:
        As `experiment.run`; what was not bet on has no `truth`, no estimate but the first guess, and NaN for `mean`. In
        `attrs` the `least` error of all methods in this window, if it is revealed; `best_seed` and `score`, the largest
        of these in all windows that are, 0 where there are none; and how many bets are `left`.
    """
    errors = {seed: _least(seed) for seed in p.revealed}
    scores = {"score": max(errors.values(), default=0.0), "left": TRIES - len(p.revealed)}
    if errors:
        scores["best_seed"] = max(errors, key=lambda seed: errors[seed])
    found = _of_everyone(p.seed)
    if p.seed in errors:
        return found.assign_attrs(scores, least=errors[p.seed])
    known = {name: found[name] for name in ("value", "noise_std", "first_guess", "usual")}
    known["mean"] = found["mean"].isel(step=-1, drop=True).where(False)
    return xr.Dataset(known, attrs=scores)


@lru_cache(maxsize=32)
def _of_everyone(seed: int) -> xr.Dataset:
    return run(Parameters(method=EVERYONE[0], beside=EVERYONE[1:], members=_MEMBERS, seed=seed))


def _least(seed: int) -> float:
    found = _of_everyone(seed)
    return min(found.attrs["rmse"], float(found["beside_rmse"].min()))


def board(folder: str | Path = ".") -> pd.DataFrame:
    """The scores that "export figure" of the challenges wrote into a folder, the best of each challenge first.

    Args:
        folder: of the JSON files.

    Returns:
        Columns challenge, player, score, file.

    Raises:
        ValueError: no such folder, or no score in it.
    """
    if not Path(folder).is_dir():
        raise ValueError(f"folder={str(folder)!r} is no folder. Give the one that the scores were written into.")
    rows = []
    for path in sorted(Path(folder).glob("*.json")):
        try:
            found = json.loads(path.read_text())
        except ValueError:
            continue  # another one's file
        if isinstance(found, dict) and found.get("challenge") in NAMES:
            rows.append({name: found.get(name) for name in ("challenge", "player", "score")} | {"file": path.name})
    if not rows:
        raise ValueError(f"No score in {folder}: play a challenge, and press 'export figure'.")
    table = pd.DataFrame(rows)
    return table.sort_values(["challenge", "score"], ascending=[True, False], ignore_index=True)
