"""Draws against the posterior itself, and where one Gaussian must fail: `python -m nida_kit.studies.sampling`.

A forecast of a window is a set of draws here, whatever made them. Each set is compared with draws of a particle
smoother, by the Wasserstein-1 distance, and with the truth, by the energy score. Both take a window as one point, each
value in units of its climatological standard deviation, with the Euclidean distance.

Finite sets of one law are not at distance 0: the floor is that of two particle smoothers with different random numbers.

Two laws follow Rozet & Louppe (2023, arXiv:2306.10574), who made this comparison first. Their windows have 65 steps of
0.025, and the state is divided by 8. Ours have 32 steps of 0.05: the same time span and model noise per time, observed
as often in time ("lo") or half as often ("hi"), with the same noise in units of the spread, which is about 8. So their
numbers and ours do not compare, the floors of each do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nida_kit.evaluate import energy_score, wasserstein
from nida_kit.methods.compose import Composed
from nida_kit.methods.method import Method
from nida_kit.methods.neural import NeuralIncremental
from nida_kit.methods.particle_smoother import ParticleSmoother
from nida_kit.setups import Setup
from nida_kit.state import COMPONENT, CORE, TIME
from nida_kit.studies.common import LAWS as REFERENCE_LAWS
from nida_kit.studies.common import TEST, Z_ONLY, Law, command, interpolation, lorenz63, observed

LAWS = {
    "paper": REFERENCE_LAWS["paper"],
    "z only": Z_ONLY,
    "lo": Law("x every 4th step", True, 0.05, {"components": ["x"], "every": 4, "offset": "random"}),
    "hi": Law("x every step, noisy", False, 0.25, {"components": ["x"], "every": 1}),
}
REFERENCE, FLOOR = "particles", "particles, other random numbers"
BETWEEN = 0.5  # of the reference's median |x|: a draw that has less lies between the modes


class LastGaussian(Composed):
    """A method of which only the last Gaussian is drawn from: the same reconstruction, the draws that all methods have.

    Args:
        method: whose posteriors are Gaussian.
    """

    def __init__(self, method: Method):
        super().__init__([method], method.settings)
        self.noise_layers = 1  # of the draws that all methods have

    def reconstruct(self, observations, dt, first_guess):
        return self.methods[0].reconstruct(observations, dt, first_guess)


def forecasts(setup: Setup, neural: NeuralIncremental, particles: int = 16384) -> dict[str, Method]:
    """What is drawn from, by name; the reference and its floor among them.

    Args:
        setup: whose model the particles follow.
        neural: the trained prior.
        particles: of each filter.
    """
    return {
        "OI": interpolation(setup),
        "NIDA, last Gaussian": LastGaussian(neural.with_temperatures(4)),
        "NIDA, incremental, 4 temperatures": neural.with_temperatures(4),
        "NIDA, incremental, 8 temperatures": neural.with_temperatures(8),
        REFERENCE: ParticleSmoother(setup.system, setup.model_noise_std, particles=particles, seed=0),
        FLOOR: ParticleSmoother(setup.system, setup.model_noise_std, particles=particles, seed=1),
    }


def right_lobe(draws: xr.DataArray) -> xr.DataArray:
    """The share of draws whose time mean of x is positive."""
    return (draws.sel({COMPONENT: "x"}, drop=True).mean(TIME) > 0).mean("member")


def between(draws: xr.DataArray, reference: xr.DataArray) -> xr.DataArray:
    """The share of draws that lie between two modes of the reference which mirror each other in x.

    Looked at when the modes are clearest apart: the time at which all but 5% of the reference's draws have the largest
    |x|. Between is what has less than half their median |x| then. A Gaussian with the mean and variance of two such
    narrow modes has 38% there.
    """
    away, typical = abs(draws.sel({COMPONENT: "x"})), abs(reference.sel({COMPONENT: "x"}))
    clearest = typical.quantile(0.05, "member").idxmax(TIME)
    away, typical = away.sel({TIME: clearest}), typical.sel({TIME: clearest}).median("member")
    return (away < BETWEEN * typical).mean("member").reset_coords(drop=True)


def compare(draws: dict[str, xr.DataArray], truth: xr.DataArray) -> xr.Dataset:
    """Every forecast against the reference, and against the truth.

    Args:
        draws: `(member, ..., time, component)` in climatological units, by the forecast's name; `REFERENCE` among them.
        truth: `(..., time, component)`, in the same units.

    Returns:
        Along `forecast`, for each window: `wasserstein` and `energy_score` in those units, and of x alone
        `right_lobe` and `between`.
    """
    reference = draws[REFERENCE]
    scores = {
        "wasserstein": {k: wasserstein(x, reference) for k, x in draws.items()},
        "energy_score": {k: energy_score(x, truth, CORE) for k, x in draws.items()},
        "right_lobe": {k: right_lobe(x) for k, x in draws.items()},
        "between": {k: between(x, reference) for k, x in draws.items()},
    }
    along = xr.Variable("forecast", list(draws))
    return xr.Dataset({name: xr.concat(list(by.values()), along) for name, by in scores.items()})


def of_law(setup: Setup, law: Law, methods: dict[str, Method], samples: int, members: int) -> xr.Dataset:
    """`compare` on the first windows of a law, one window at a time to save memory.

    Args:
        setup: whose windows are observed.
        law: by which they are.
        methods: from `forecasts`.
        samples: windows.
        members: draws of each forecast.
    """
    truth, obs = observed(setup, law, samples)
    windows = []
    for i in range(samples):
        window = obs.isel(sample=[i])
        draws = {
            # Seeds of their own: draws that share their noise would seem closer than they are.
            name: method.sample(window, members, seed=TEST + len(methods) * i + k, operator=law.operator) / setup.spread
            for k, (name, method) in enumerate(methods.items())
        }
        windows.append(compare(draws, truth.isel(sample=[i]) / setup.spread))
    return xr.concat(windows, "sample")


def side_by_side(arrays: dict[str, xr.DataArray], component: str) -> xr.DataArray:
    """One component of several forecasts as the components of one array, so that a figure has a column for each."""
    chosen = [x.sel({COMPONENT: component}, drop=True) for x in arrays.values()]
    plain = [x.drop_vars(["long_name", "units"], errors="ignore") for x in chosen]
    return xr.concat(plain, xr.Variable(COMPONENT, list(arrays))).transpose(..., *CORE)


def _standard_error(x: xr.DataArray) -> xr.DataArray:
    """Of the mean over windows."""
    return x.std("sample", ddof=1) / np.sqrt(x.sizes["sample"])


def summary(scores: xr.Dataset) -> dict[str, dict[str, float]]:
    """Means over windows and their standard errors, by forecast, from `of_law`."""
    found = {}
    for name in scores["forecast"].values:
        own = scores.sel(forecast=name)
        kept = ["energy_score"] if name == REFERENCE else ["wasserstein", "energy_score"]
        rows = {k: float(own[k].mean()) for k in kept}
        rows |= {f"{k}_error": float(_standard_error(own[k])) for k in kept}
        found[str(name)] = {k: round(v, 4) for k, v in rows.items()}
    return found


def modes(scores: xr.Dataset) -> dict[str, dict[str, Any]]:
    """How draws fall into the two lobes, by forecast: over windows, and in each."""
    found = {}
    for name in scores["forecast"].values:
        own = scores.sel(forecast=name)
        away = abs(own["right_lobe"] - scores["right_lobe"].sel(forecast=REFERENCE))
        found[str(name)] = {
            "right_lobe_away_from_particles": round(float(away.mean()), 4),
            "between": round(float(own["between"].mean()), 4),
            "right_lobe_by_window": own["right_lobe"].values.round(3).tolist(),
        }
    return found


def measure(samples: int, members: int = 512, particles: int = 8192) -> dict[str, Any]:
    """The study.

    Args:
        samples: windows of each law.
        members: draws of each forecast.
        particles: of each filter of the reference.
    """
    setup = lorenz63()
    methods = forecasts(setup, NeuralIncremental.pretrained("lorenz63"), particles)
    laws, scores = {}, {}
    for name, law in LAWS.items():
        scores[name] = of_law(setup, law, methods, samples, members)
        laws[name] = {"what": law.what, "trained": law.trained, "forecasts": summary(scores[name])}
        print(f"{name:8}", {k: v.get("wasserstein") for k, v in laws[name]["forecasts"].items()}, flush=True)
    return {
        "laws": laws,
        "z_only_modes": modes(scores["z only"]),
        "windows": f"the first {samples} of each law, seed {TEST}, observed with seed {TEST + 1}",
        "draws": members,
        "particles": particles,
        "unit": "climatological standard deviations, Euclidean over a window; errors are standard errors over windows",
        "floor": f"the wasserstein of {FLOOR!r}",
        "between": f"draws with |x| below {BETWEEN:g} times the particles' median, when these lie clearest apart",
    }


def table(findings: dict[str, Any]) -> pd.DataFrame:
    """The scores of `measure`: a row per law and forecast."""
    rows = {(law, name): row for law, found in findings["laws"].items() for name, row in found["forecasts"].items()}
    made = pd.DataFrame.from_dict(rows, orient="index").rename_axis(["law", "forecast"])
    made.columns = [title(column) for column in made.columns]
    return made


def title(column: str) -> str:
    """Of a score, in tables that readers see.

    >>> title("wasserstein"), title("energy_score_error")
    ('distance', 'standard error of the energy score')
    """
    name = column.removesuffix("_error").replace("wasserstein", "distance").replace("_", " ")
    return f"standard error of the {name}" if column.endswith("_error") else name


def modes_table(findings: dict[str, Any]) -> pd.DataFrame:
    """The modes of `measure`: a row per forecast, with quartiles of the share of draws in the right lobe."""
    rows = {}
    for name, found in findings["z_only_modes"].items():
        quartiles = np.quantile(found["right_lobe_by_window"], [0.0, 0.25, 0.5, 0.75, 1.0]).round(3)
        shares = dict(zip(("least", "lower quartile", "median", "upper quartile", "most"), quartiles, strict=True))
        rows[name] = {"in between": found["between"]} | shares
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("forecast")


if __name__ == "__main__":
    command("sampling", lambda samples, _: measure(samples), samples=12)
