"""The lab of a told spread: what stretching it does to draws, ranks, coverage and score, all at once.

A forecast tells each value m +- sigma. Here it tells m +- (stretch sigma) instead, and its draws go away from m by that
factor. A stretch of 1 is what the method says.

>>> lab = SpreadLab(windows=20)
>>> before = lab.model.result.attrs["coverage_90"]
>>> lab.controls["stretch"].value = 0.4
>>> lab.model.result.attrs["coverage_90"] < before
True
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nida_kit import checks, plots
from nida_kit.evaluate import crps, rank_histogram, reliability, rmse
from nida_kit.lab.controls import choice, logarithmic, typed, whole
from nida_kit.lab.model import Model
from nida_kit.lab.render import Drawing
from nida_kit.lab.view import Control, Explorer
from nida_kit.methods.method import Method
from nida_kit.methods.neural import NeuralIncremental
from nida_kit.notes import gathered, warn
from nida_kit.state import COMPONENT, TIME
from nida_kit.studies.calibration import RANKED, drawn, methods, ranks_in_words
from nida_kit.studies.common import LAWS, Z_ONLY, lorenz63
from nida_kit.studies.sampling import LastGaussian

SEEN = {law.what: law for law in (*LAWS.values(), Z_ONLY) if law.operator is None}
"""Laws by which windows are observed, whose values lie in the panels of their components."""
COMPONENTS = ("x", "y", "z")
LEVELS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
STRETCHES = np.geomspace(0.1, 10.0, 41)  # of the curve of scores
PRESETS: dict[str, dict[str, Any]] = {
    "too sure": {"stretch": 0.4},
    "as told": {"stretch": 1.0},
    "too unsure": {"stretch": 2.5},
    "z only": {"seen": Z_ONLY.what, "component": "x", "stretch": 1.0},
}
_SCORES = ("coverage_90", "outside", "crps", "crps_told", "best", "rmse")


@dataclass(frozen=True)
class SpreadParameters:
    """Of a forecast and how its spread is stretched.

    Attributes:
        method: who forecasts: "OI", "NIDA" or "hybrid".
        seen: how the windows are observed, one of `SEEN`.
        stretch: factor on sigma, 0.1 to 10.
        component: that all panels are of.
        window: that draws are shown of, counted from 0.
        windows: behind the scores.
        seed: of trajectories, observations and draws.
    """

    method: str = "NIDA"
    seen: str = LAWS["paper"].what
    stretch: float = 1.0
    component: str = "y"
    window: int = 0
    windows: int = 60
    seed: int = 0

    def __post_init__(self):
        checks.store(
            self,
            method=checks.one_of("method", self.method, _methods()),
            seen=checks.one_of("seen", self.seen, SEEN),
            stretch=checks.within("stretch", self.stretch, 0.1, 10.0),
            component=checks.one_of("component", self.component, COMPONENTS),
            windows=checks.count("windows", self.windows, 2, 1000),
            seed=checks.seed(self.seed),
        )
        checks.store(self, window=checks.count("window", self.window, 0, self.windows - 1))


@lru_cache(maxsize=1)
def _methods() -> dict[str, Method]:
    return methods(lorenz63(), NeuralIncremental.pretrained("lorenz63", temperatures=4))


@lru_cache(maxsize=8)
def _forecast(method: str, seen: str, windows: int, seed: int) -> xr.Dataset:
    """As told: truth, value, mean, std, draws, and the CRPS of each stretch; in climatological standard deviations."""
    setup, law = lorenz63(), SEEN[seen]
    truth = setup.windows(windows, seed)
    obs = law.observe(setup, truth, seed + 1)
    how = LastGaussian(_methods()[method])
    with gathered() as said:
        found = how.assimilate(obs)[["mean", "std"]] / setup.spread
        draws, truth = drawn(how, obs, RANKED) / setup.spread, truth / setup.spread
    scores = [crps(found["mean"], s * found["std"], truth, ["sample", TIME]) for s in STRETCHES]
    value = (obs["value"] / setup.spread).reindex({COMPONENT: truth[COMPONENT]})
    curve = xr.concat(scores, xr.Variable("stretch", STRETCHES))
    return found.assign(truth=truth, value=value, draws=draws, curve=curve).assign_attrs(note="\n".join(said))


def run(p: SpreadParameters) -> xr.Dataset:
    """A forecast whose spread is stretched, and what that does.

    Returns:
        Of one component: in one window along time `truth`, `value`, `mean`, `std` and `draws`; over all windows
        `ranks (rank)`, `coverage (level)` and `curve (stretch)`, the CRPS of other stretches; in `attrs` the scores.
        All is in climatological standard deviations.
    """
    told = _forecast(p.method, p.seen, p.windows, p.seed).sel({COMPONENT: p.component}, drop=True)
    for note in told.attrs["note"].splitlines():
        warn(note, stacklevel=2)
    mean, std, truth = told["mean"], p.stretch * told["std"], told["truth"]
    draws = mean + p.stretch * (told["draws"] - mean)
    ranks = rank_histogram(draws, truth)
    covered = reliability(mean, std, truth, LEVELS)
    lines = xr.Dataset({"mean": mean, "std": std, "truth": truth, "value": told["value"], "draws": draws})
    return (
        lines.isel(sample=p.window)
        .reset_coords(drop=True)
        .assign(ranks=ranks, coverage=covered, curve=told["curve"])
        .assign_attrs(
            stretch=p.stretch,
            component=p.component,
            coverage_90=float(covered.sel(level=0.9)),
            outside=float(ranks[[0, -1]].sum() / ranks.sum()),
            crps=float(crps(mean, std, truth)),
            crps_told=float(crps(mean, told["std"], truth)),
            best=float(told["curve"].idxmin()),
            rmse=float(rmse(mean, truth)),
        )
    )


class SpreadModel(Model):
    """A forecast whose spread is stretched, see `run`.

    Args:
        params: of `SpreadParameters`.
    """

    kind = SpreadParameters

    def compute(self):
        return run(self.params)

    def presets(self):
        return PRESETS

    def offers(self):
        return {"window": self.params.windows - 1}

    def about(self, ds):
        a = ds.attrs
        return (
            f"The 90% interval holds {a['coverage_90']:.0%} of the truth. {ranks_in_words(ds['ranks'])} CRPS "
            f"{a['crps']:.3f}, against {a['crps_told']:.3f} as told; it is least near a stretch of {a['best']:.2g}. "
            f"RMSE {a['rmse']:.3f}, whatever the stretch. Errors are in climatological standard deviations."
        )

    @property
    def alt_text(self):
        p = self._ran
        return (
            f"Four panels about a forecast of {p.component} by {p.method} whose spread is multiplied by {p.stretch:g}: "
            f"draws in one window with the truth; the rank histogram of the truth among {RANKED} draws; how "
            f"often central intervals hold the truth, by their level; the CRPS against the factor. {self.status}"
        )

    @property
    def numbers(self):
        return asdict(self._ran) | {name: self.result.attrs[name] for name in _SCORES}


class SpreadLab(Explorer):
    """The lab of a told spread, on Lorenz-63.

    Args:
        export: where "export figure" writes its PNG, and PDF and JSON of its numbers beside it.
        params: where to start, see `SpreadParameters`.

    Attributes:
        model: the state.
        controls: by the name of the parameter.
        buttons: by name: the presets, "reset", "export figure".

    Raises:
        ValueError: parameters that there are not, or out of range.
    """

    def __init__(self, export: str | Path = "nida_spread.png", **params):
        controls = {
            "stretch": Control("stretch", "Factor on the spread that is told.", lambda: logarithmic(-1, 1)),
            "method": Control("method", "Who forecasts.", lambda: choice(tuple(_methods()))),
            "seen": Control("observed", "How the windows are observed.", lambda: choice(tuple(SEEN))),
            "component": Control("component", "The component that all panels are of.", lambda: choice(COMPONENTS)),
            "window": Control("window", "Which window is drawn; scores are of all.", lambda: whole(0, 1)),
            "seed": Control("seed", "Another number, other windows.", lambda: typed(0, 9999)),
        }
        super().__init__(SpreadModel(**params), controls, list(PRESETS), _SPREAD, export, rows=1.9)


_SPREAD = Drawing(plots.make_spread, plots.update_spread, lambda ds: tuple(ds[TIME].values))
