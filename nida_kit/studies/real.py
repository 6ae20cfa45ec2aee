"""Two real records, reconstructed where values were withheld: `python -m nida_kit.studies.real`.

*Pacific*: sea-surface temperature of the equatorial Pacific by month, April 2006 to September 2010 (OSTIA, in
`iris_sample_data`), seen by a dozen moored buoys with gaps. *El Nino*: the index by month, 1950 to 2010
(`statsmodels.datasets.elnino`), with most months hidden. Both come with the extra `data`.

Cross-validation: in turn one year (of the Pacific, from April to March, so that an event's winter is not cut) or one
decade is withheld as a whole, and all methods are fitted to the others. Its values are observed several times, with
other gaps and errors; what is scored was never observed. Choices are made within the other years, which are held out in
turn themselves: the order of the climatology, the modes of the linear model, and for how many batches the network is
trained, with the block that is held out for validation; then it is trained on all of them for so many.

Pilot runs, on a finer grid and without the stretch below, had shown errors of the Pacific's last twelve months; these
are not untouched.

The season is that of N training years. It was fitted to them and errs in a new year, so anomalies about it are
too small by a factor of sqrt((N - 1) / (N + 1)), for N independent years, and are made larger before methods see them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from nida_kit.edge import fold
from nida_kit.evaluate import ERROR, coverage, crps, mse
from nida_kit.methods.interpolation import ClimatologicalForecast, OptimalInterpolation
from nida_kit.methods.method import Method
from nida_kit.methods.neural import NeuralIncremental
from nida_kit.methods.seasonal import Seasonal
from nida_kit.methods.smoothers import KalmanSmoother
from nida_kit.notes import quiet
from nida_kit.observing.observe import observe
from nida_kit.priors.temporal import NeuralPrior
from nida_kit.record import Season, windows
from nida_kit.state import COMPONENT, SAMPLE, TIME
from nida_kit.studies import few
from nida_kit.studies.common import TEST, VALIDATION, command
from nida_kit.training.train import Settings, fixed, train

BUOYS = {  # degrees north, degrees east; twelve moorings of the array TAO/TRITON (McPhaden et al. 1998)
    "0N 165E": (0, 165),
    "0N 170W": (0, 190),
    "0N 155W": (0, 205),
    "0N 140W": (0, 220),
    "0N 125W": (0, 235),
    "0N 110W": (0, 250),
    "0N 95W": (0, 265),
    "2N 180": (2, 180),
    "2N 125W": (2, 235),
    "2S 140W": (-2, 220),
    "5S 170W": (-5, 190),
    "5S 110W": (-5, 250),
}
BOX = {"latitude": 6, "longitude": 8}  # pixels of 0.56 by 0.83 degrees to a grid point
REPEATS = 8  # of a withheld block, each time with other gaps and errors
CLIMATOLOGY, INTERPOLATION, SMOOTHER, NEURAL = "climatology", "optimal interpolation", "Kalman smoother", "NIDA"


@dataclass(frozen=True)
class Task:
    """A record, how it is cut, and how it is observed.

    Attributes:
        record: dated, by month.
        blocks: first and last month of each block that is withheld, "2006-04".
        at: which points have an instrument, with the state's dims.
        noise: standard deviation of its errors, in K.
        lost: share of the months that are missing at random.
        gap: months that are missing on end at half of the instruments.
        window: months of the windows that methods are fitted to.
        menu: what is chosen from, for each method.
        settings: of trainings, from which the rate and the number of batches are chosen.
    """

    record: xr.DataArray
    blocks: Sequence[tuple[str, str]]
    at: xr.DataArray
    noise: float
    lost: float
    gap: int
    window: int
    menu: dict[str, Sequence[dict[str, Any]]]
    settings: Sequence[Settings]

    def block(self, k: int) -> xr.DataArray:
        """The record of one block."""
        return self.record.sel({TIME: slice(*self.blocks[k])})

    def reporting(self, shape: tuple[int, int, int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Where and how well instruments measure, `(B, T, n)`: a law, as training and observations draw it."""
        batch, steps, n = shape
        seen = torch.rand(shape, generator=generator) >= self.lost
        begin = torch.randint(1 - self.gap, steps, (batch, 1, n), generator=generator)
        away = torch.arange(steps)[:, None] - begin
        broken = torch.rand(batch, 1, n, generator=generator) < 0.5
        seen &= ~(broken & (away >= 0) & (away < self.gap))
        return seen & torch.from_numpy(self.at.values.ravel()), torch.full(shape, self.noise, dtype=torch.float64)

    def observe(self, truth: xr.DataArray, seed: int, repeats: int = REPEATS) -> tuple[xr.DataArray, xr.Dataset]:
        """A dated block as often as asked, and its observations, each time other ones."""
        many = xr.concat([truth] * repeats, SAMPLE).transpose(SAMPLE, TIME, ...)
        shape = (repeats, truth.sizes[TIME], self.at.size)
        seen, _ = self.reporting(shape, torch.Generator().manual_seed(seed))
        mask = many.copy(data=seen.numpy().reshape(many.shape)).astype(bool)
        return many, observe(many, operator=mask, noise_std=self.noise, seed=seed)


def by_buoy(
    methods: dict[str, Method], obs: xr.Dataset, score: Callable[[Method, xr.Dataset, float, float], float]
) -> pd.DataFrame:
    """A score of each method at each buoy, a row for each, of observations of the Pacific.

    Args:
        methods: by name.
        obs: of the Pacific, `value (time, latitude, longitude)`.
        score: of a method, the observations, and the latitude and longitude of a box, in degrees.
    """
    rows = {}
    for buoy, (latitude, longitude) in BUOYS.items():
        box = obs.sel(latitude=latitude, longitude=longitude, method="nearest")
        place = float(box["latitude"]), float(box["longitude"])
        rows[buoy] = {name: score(method, obs, *place) for name, method in methods.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("withheld buoy")


def ostia() -> xr.DataArray:
    """Sea-surface temperature between 160E and 93W, 5S and 5N, in K, in boxes, `(time, latitude, longitude)`.

    Raises:
        ValueError: the data are not installed.
    """
    try:
        from iris_sample_data import path
    except ImportError as error:
        raise ValueError("The Pacific comes with iris-sample-data: pip install 'nida_kit[data]'.") from error
    found = xr.load_dataset(Path(path) / "ostia_monthly.nc")["surface_temperature"]
    found = found.sel(longitude=slice(159.9, 266.5)).astype(float).coarsen(BOX).mean()
    found = found.drop_vars([name for name in found.coords if name not in found.dims])
    # Means of months; a month is a step, which dates of its middle are not.
    months = xr.date_range(str(found[TIME].values[0])[:7] + "-01", periods=found.sizes[TIME], freq="MS")
    return found.assign_coords({TIME: months}).assign_attrs(units="K", long_name="sea-surface temperature")


def pacific(record: xr.DataArray | None = None) -> Task:
    """The Pacific and its buoys."""
    record = ostia() if record is None else record
    at = xr.zeros_like(record.isel({TIME: 0}, drop=True), bool)
    for latitude, longitude in BUOYS.values():
        nearest = at.sel(latitude=latitude, longitude=longitude, method="nearest")
        at.loc[{dim: nearest[dim] for dim in at.dims}] = True
    years = [(f"{year}-04", f"{year + 1}-03") for year in range(2006, 2010)] + [("2010-04", "2010-09")]
    return Task(
        record=record,
        blocks=years,
        at=at,
        noise=0.3,  # of the instrument far less: a buoy speaks for a box of 740 by 370 km
        lost=0.15,
        gap=4,
        window=6,
        menu={
            INTERPOLATION: [{"order": order, "shrinkage": "auto"} for order in (1, 2)],
            SMOOTHER: [{"modes": modes, "shrinkage": "auto"} for modes in (1, 2, 4, 8, 16)],
        },
        settings=[Settings(steps=30, batch=16, rate=r, longest=2, log_score=0.1, look=5) for r in (5e-4, 2e-3)],
    )


def el_nino() -> Task:
    """The El Nino index and its decades."""
    record = few.record()
    decades = [(f"{year}-01", f"{year + 9}-12") for year in range(1950, 2000, 10)] + [("2000-01", "2010-12")]
    return Task(
        record=record,
        blocks=decades,
        at=xr.ones_like(record.isel({TIME: 0}, drop=True), bool),
        noise=0.2,
        lost=0.75,
        gap=12,
        window=24,
        menu={INTERPOLATION: [{"order": order} for order in (1, 2, 3, 6)], SMOOTHER: [{}]},
        settings=[Settings(steps=200, batch=64, rate=2e-3, longest=3, log_score=0.1, look=20)],
    )


TASKS: dict[str, Callable[[], Task]] = {"Pacific": pacific, "El Nino": el_nino}


# Fitting


def past(task: Task, blocks: Sequence[int]) -> tuple[Season, xr.DataArray]:
    """The season of some blocks, and windows of anomalies, none of which reaches over what lies between blocks."""
    parts = [task.block(k) for k in blocks]
    season = Season.fit(xr.concat(parts, TIME))
    years = sum(part.sizes[TIME] for part in parts) / 12
    wider = np.sqrt((years + 1) / (years - 1))
    cut = [windows(wider * season.anomalies(part), task.window) for part in parts]
    return season, xr.concat(cut, SAMPLE)


def fitted(task: Task, blocks: Sequence[int], kind: str, choice: dict[str, Any]) -> Seasonal:
    """A method without a network, fitted to some blocks."""
    season, cut = past(task, blocks)
    fit = {
        SMOOTHER: KalmanSmoother.fit,
        INTERPOLATION: OptimalInterpolation.fit,
        CLIMATOLOGY: ClimatologicalForecast.fit,
    }
    return Seasonal(fit[kind](cut, **choice), season)


def choose(task: Task, blocks: Sequence[int], kind: str) -> dict[str, Any]:
    """What does best of a method's menu when these blocks are withheld in turn."""
    menu = task.menu[kind]
    if len(menu) == 1:
        return menu[0]

    def error(choice: dict[str, Any]) -> float:
        parts = []
        for k in blocks:
            method = fitted(task, [j for j in blocks if j != k], kind, choice)
            parts += [scores(task, method, k, VALIDATION)["all"]]
        return sum(part["mse"] * part["values"] for part in parts)

    return min(menu, key=error)


def _tensor(task: Task, cut: xr.DataArray) -> Tensor:
    return fold(torch.from_numpy(cut.values).double(), task.at.shape)


def network(
    task: Task, blocks: Sequence[int], choice: dict[str, Any], settings: Settings | None, held_out: int | None = None
) -> tuple[Seasonal, NeuralPrior, xr.Dataset | None]:
    """NIDA by a network that begins as the climatology of some blocks and is trained on them.

    Args:
        task: what is learnt.
        blocks: to train on.
        choice: of the climatology, as optimal interpolation has it.
        settings: of the training; without one this is optimal interpolation.
        held_out: another block, for validation.

    Returns:
        The method, and the history of the training, if there was any.
    """
    season, cut = past(task, blocks)
    interpolation, history = OptimalInterpolation.fit(cut, **choice), None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0 if settings is None else settings.seed)
        prior = NeuralPrior(interpolation.climatology, width=8, dilations=(1, 2, 4), anchored=True, order=0).eval()
    if settings is not None:
        validation = None
        if held_out is not None:
            unseen = windows(season.anomalies(task.block(held_out)), task.window)
            validation = _tensor(task, unseen).repeat(4, 1, 1), task.reporting
        with quiet():
            draw = fixed(_tensor(task, cut), jitter=0.3)
            history = train(prior, draw, task.reporting, settings, validation=validation, progress=False)
    method = NeuralIncremental(
        prior, interpolation.labels, interpolation.dt, 1 if settings is None else settings.longest
    )
    return Seasonal(method, season), history


def trained_for(task: Task, blocks: Sequence[int], choice: dict[str, Any]) -> Settings | None:
    """The rate, and as many batches, as do best when these blocks are withheld in turn; None is no training."""
    found = []
    for settings in task.settings:
        errors = []
        for k in blocks:
            _, history = network(task, [j for j in blocks if j != k], choice, settings, k)
            errors.append(history["validation"] * len(windows(task.block(k), task.window)))
        total = sum(errors)
        best = int(total.argmin())
        batches = int(total["after"][best])
        found.append((float(total[best]), replace(settings, steps=batches) if batches else None))
    return min(found, key=lambda pair: pair[0])[1]


# Scores


def scores(task: Task, method: Method, k: int, seed: int = TEST) -> dict[str, dict[str, float]]:
    """Of a method on a block, observed several times: where there is no instrument, where a month is missing, and both.

    Returns:
        By group `mse` in K^2, `crps` in K, `coverage_90`, and `values`, how many were scored; groups without any are
        left out.
    """
    truth, obs = task.observe(task.block(k), seed + k)
    with quiet():
        result = method.assimilate(obs)
    mean, std = result["mean"], result["std"]
    each = {
        "mse": mse(mean, truth, []),
        "crps": crps(mean, std, truth, []),
        "coverage_90": coverage(mean, std, truth, 0.9, []),
    }
    unseen = obs["value"].isnull()
    groups = {"all": unseen, "points": unseen & ~task.at, "months": unseen & task.at}
    return {
        group: {name: float(score.where(where).mean()) for name, score in each.items()} | {"values": int(where.sum())}
        for group, where in groups.items()
        if where.any()
    }


def pooled(parts: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Scores over all blocks, each value counting the same; `rmse` in K."""
    found = {}
    for group in dict.fromkeys(group for part in parts for group in part):
        there = [part[group] for part in parts if group in part]
        weights = np.array([part["values"] for part in there], float)
        mean = {
            name: float(np.average([part[name] for part in there], weights=weights))
            for name in ("mse", "crps", "coverage_90")
        }
        found[group] = {"rmse": mean.pop("mse") ** 0.5} | mean
    return found


def _rounded(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: _rounded(value) for name, value in found.items()}
    return round(found, 4) if isinstance(found, float) else found


def methods(task: Task, blocks: Sequence[int], seeds: int) -> Iterator[tuple[str, Seasonal, Any]]:
    """All methods, fitted to these blocks, and what was chosen for each; one NIDA for each seed."""
    yield CLIMATOLOGY, fitted(task, blocks, CLIMATOLOGY, {"order": 0, "shrinkage": 1.0}), {}
    choice = choose(task, blocks, INTERPOLATION)
    yield INTERPOLATION, fitted(task, blocks, INTERPOLATION, choice), choice
    linear = choose(task, blocks, SMOOTHER)
    yield SMOOTHER, fitted(task, blocks, SMOOTHER, linear), linear
    settings = trained_for(task, blocks, choice) if seeds else None
    about = {"batches": 0} if settings is None else {"batches": settings.steps, "rate": settings.rate}
    for seed in range(seeds):
        method, _ = network(task, blocks, choice, None if settings is None else replace(settings, seed=seed))
        yield f"{NEURAL}, seed {seed}", method, about


def cross_validate(task: Task, seeds: int, turns: Sequence[int] | None = None) -> dict[str, Any]:
    """Scores of all methods on the blocks, each withheld in turn.

    Returns:
        `methods`, the scores over all blocks, NIDA's as a mean over seeds; and `blocks`, of each, with choices.
    """
    everything = range(len(task.blocks))
    rows, kept = [], {}
    for k in everything if turns is None else turns:
        blocks = [j for j in everything if j != k]
        row: dict[str, Any] = {"withheld": list(task.blocks[k])}
        for name, method, choice in methods(task, blocks, seeds):
            found = scores(task, method, k)
            kept.setdefault(name, []).append(found)
            row[name] = {"rmse": found["all"]["mse"] ** 0.5, "coverage_90": found["all"]["coverage_90"]} | choice
        rows.append(_rounded(row))
        print(rows[-1], flush=True)
    total = {name: pooled(parts) for name, parts in kept.items()}
    trained = [total.pop(f"{NEURAL}, seed {seed}") for seed in range(seeds)]
    if trained:
        total[NEURAL] = {
            group: {name: float(np.mean([one[group][name] for one in trained])) for name in trained[0][group]}
            for group in trained[0]
        }
    return {"methods": _rounded(total), "blocks": rows}


# Reading the findings

COVERED = "share within 90% intervals"


def table(found: dict[str, Any], groups: dict[str, str] | None = None) -> pd.DataFrame:
    """The scores of each method over all blocks of a record, a row each.

    Args:
        found: one record of the study, as `cross_validate` returns it.
        groups: parts of the values whose error has a column of its own, "points" or "months", with their titles.
    """
    rows = {}
    for method, scores in found["methods"].items():
        row = scores["all"]
        rows[method] = {"RMSE [K]": row["rmse"], ERROR: row["rmse"] / _unit(found)}
        rows[method] |= {f"in {what} [K]": scores[group]["rmse"] for group, what in (groups or {}).items()}
        rows[method] |= {"CRPS [K]": row["crps"], "90% interval holds": f"{row['coverage_90']:.0%}"}
    return pd.DataFrame.from_dict(rows, orient="index").round(3)


def by_block(found: dict[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """For `plots.by_case`: error and coverage of each method by withheld block; of several trainings, the first."""
    panels: dict[str, dict[str, dict[str, float]]] = {ERROR: {}, COVERED: {}}
    for row in found["blocks"]:
        first, last = row["withheld"]
        whole_years = first.endswith("-01") and last.endswith("-12")
        block = f"{first[:4]} to {last[:4]}" if whole_years else f"{first} to {last}"
        for method in found["methods"]:
            scores = row[method] if method in row else row[f"{method}, seed 0"]
            panels[ERROR].setdefault(method, {})[block] = scores["rmse"] / _unit(found)
            panels[COVERED].setdefault(method, {})[block] = scores["coverage_90"]
    return panels


def _unit(found: dict[str, Any]) -> float:
    """One climatological standard deviation, in K: the error of the climatology."""
    return found["methods"][CLIMATOLOGY]["all"]["rmse"]


def at_places(field: xr.DataArray, places: dict[str, tuple[float, float]]) -> xr.DataArray:
    """A map in K at named places (latitude, longitude), in degrees, as series `(time, component)` for `nk.plot`."""
    latitude, longitude = (xr.DataArray(list(v), dims=COMPONENT) for v in zip(*places.values(), strict=True))
    found = field.sel(latitude=latitude, longitude=longitude, method="nearest").drop_vars(["latitude", "longitude"])
    labels = {COMPONENT: list(places), "units": (COMPONENT, ["K"] * len(places))}
    return found.assign_coords(labels).transpose(TIME, COMPONENT)


def measure(seeds: int, folder: Path) -> dict[str, Any]:
    """Both records."""
    about = {"what": __doc__.split("\n")[0], "unit": "K", "seed": TEST, "seeds": seeds, "repeats": REPEATS}
    return about | {name: cross_validate(make(), seeds) for name, make in TASKS.items()}


if __name__ == "__main__":
    command("real", measure, samples=2)
