"""Is the spread a probability forecast? `python -m nida_kit.studies.calibration`.

A forecast N(m, v) of each value is calibrated if the truth behaves as a draw from it. Then, over many windows,

    central intervals hold the truth as often as they say,
    root mean v equals the root mean squared error, among all values and among those of any one v,
    the truth has every rank among draws equally often.

All of these can hold for a useless forecast (the climatology's), so a proper score is reported too: the CRPS, whose
expectation is least for the posterior itself. What is least is measured with a particle smoother, on the paper's law.

Every value is in units of its climatological standard deviation, so that all times and components count alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nida_kit.evaluate import (
    crps,
    crps_ensemble,
    gaussian_scores,
    mse,
    rank_histogram,
    reliability,
    spread_error,
    spread_error_ratio,
)
from nida_kit.methods.compose import Chain
from nida_kit.methods.method import Method
from nida_kit.methods.neural import NeuralIncremental
from nida_kit.methods.particle_smoother import ParticleSmoother
from nida_kit.methods.weak import WeakFourDVar
from nida_kit.setups import Setup
from nida_kit.state import COMPONENT, CORE, TIME
from nida_kit.studies.common import LAWS, TEST, Law, command, interpolation, lorenz63, observed
from nida_kit.studies.sampling import LastGaussian

BOUNDS = {"coverage_90": (0.87, 0.93), "coverage_50": (0.45, 0.57), "spread_error_ratio": (0.9, 1.1)}
"""What counts as calibrated here."""

TITLES = {
    "rmse": "RMSE",
    "crps": "CRPS",
    "log_score": "log score",
    "coverage_90": "90% intervals",
    "coverage_50": "50% intervals",
    "spread_error_ratio": "spread over error",
    "crps_over_particles": "CRPS over particles'",
    "standard_error": "its standard error",
}
"""Of scores, in tables that readers see."""

RANKED = 19  # draws, so 20 ranks: the middle 18 are the 90% interval, the middle 10 that of 50%
DRAWN = 100  # windows, the first ones, that are drawn for
CHUNK = 50  # windows that a network draws for at once


def methods(setup: Setup, neural: NeuralIncremental) -> dict[str, Method]:
    """What is compared, by name."""
    physics = WeakFourDVar(setup.system, setup.model_noise_std, iterations=3)
    return {
        "OI": interpolation(setup),
        "NIDA": neural,
        "hybrid": Chain([neural, physics]),
    }


def drawn(method: Method, obs: xr.Dataset, members: int, operator=None) -> xr.DataArray:
    """Draws of all windows, some at a time to save memory."""
    parts = [
        method.sample(obs.isel(sample=slice(i, i + CHUNK)), members, seed=TEST + i, operator=operator)
        for i in range(0, obs.sizes["sample"], CHUNK)
    ]
    return xr.concat(parts, "sample", combine_attrs="drop")


def _rounded(scores: dict[str, Any]) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in scores.items()}


def log_score(mean: xr.DataArray, std: xr.DataArray, truth: xr.DataArray) -> float:
    """The mean negative log density of Gaussian marginals at the truth, in nats per value (Good 1952)."""
    return float((((truth - mean) / std) ** 2 / 2 + np.log(std)).mean() + math.log(2 * math.pi) / 2)


def wrong_spreads(
    mean: xr.DataArray, std: xr.DataArray, truth: xr.DataArray, factors: Sequence[float]
) -> dict[float, dict[str, float]]:
    """Proper scores if the spread is told so many times as large: least where it is right."""
    return {
        factor: {"crps": float(crps(mean, factor * std, truth)), "log_score": log_score(mean, factor * std, truth)}
        for factor in factors
    }


def ranks(draws: xr.DataArray, truth: xr.DataArray) -> xr.DataArray:
    """How often the truth has each rank among the first `RANKED` draws, `(component, rank)`."""
    return rank_histogram(draws.isel(member=slice(RANKED)), truth, dim=["sample", TIME])


def covered(counts: xr.DataArray, level: float) -> float:
    """The share of ranks in the middle, which draws of a calibrated forecast have `level` of.

    Args:
        counts: from `ranks`.
        level: of which `(1 - level) / 2` is a whole number of ranks.
    """
    outside = round(counts.sizes["rank"] * (1 - level) / 2)
    return float(counts.isel(rank=slice(outside, -outside)).sum() / counts.sum())


def draw_scores(draws: xr.DataArray, truth: xr.DataArray) -> dict[str, float]:
    """As `gaussian_scores`, of draws: the CRPS is that of the m members, which score 1 + 1 / m times their law."""
    counts = ranks(draws, truth)
    mean, std = draws.mean("member"), draws.std("member", ddof=1)
    return _rounded(
        {
            "mse": mse(mean, truth),
            "crps": crps_ensemble(draws, truth),
            "coverage_90": covered(counts, 0.9),
            "coverage_50": covered(counts, 0.5),
            "spread_error_ratio": spread_error_ratio(mean, std, truth),
        }
    )


def curves(mean: xr.DataArray, std: xr.DataArray, truth: xr.DataArray) -> dict[str, dict[str, list[float]]]:
    """The reliability curve, and error against spread in bins of the spread."""
    levels, pairs = reliability(mean, std, truth), spread_error(mean, std, truth)
    return {
        "reliability": {"level": levels["level"].values.tolist(), "coverage": levels.values.round(4).tolist()},
        "spread_error": {name: pairs[name].values.round(4).tolist() for name in ("spread", "error")},
    }


def _by_component(counts: xr.DataArray) -> dict[str, list[int]]:
    return {str(name): counts.sel({COMPONENT: name}).values.astype(int).tolist() for name in counts[COMPONENT].values}


def outside(scores: dict[str, float]) -> list[str]:
    """Which scores are not within `BOUNDS`."""
    return [name for name, (low, high) in BOUNDS.items() if not low <= scores[name] <= high]


def of_method(setup: Setup, law: Law, method: Method, truth: xr.DataArray, obs: xr.Dataset) -> dict[str, Any]:
    """Everything about one method under one law: scores, curves, ranks among draws of its last Gaussian."""
    result = method.assimilate(obs, operator=law.operator)
    truth, mean, std = truth / setup.spread, result["mean"] / setup.spread, result["std"] / setup.spread
    few = {"sample": slice(DRAWN)}
    draws = drawn(LastGaussian(method), obs.isel(few), RANKED, law.operator) / setup.spread
    scores = _rounded(gaussian_scores(mean, std, truth))
    found = {"scores": scores, "outside": outside(scores)} | curves(mean, std, truth)
    found["ranks"] = {"last Gaussian": _by_component(ranks(draws, truth.isel(few)))}
    if isinstance(method, NeuralIncremental):
        counts = ranks(drawn(method, obs.isel(few), RANKED, law.operator) / setup.spread, truth.isel(few))
        found["ranks"]["incremental sampling"] = _by_component(counts)
        found["incremental_sampling"] = _rounded({f"coverage_{k}": covered(counts, k / 100) for k in (90, 50)})
    return found


def against_particles(
    setup: Setup, law: Law, named: dict[str, Method], truth: xr.DataArray, obs: xr.Dataset, members: int, particles: int
) -> dict[str, Any]:
    """Scores beside those of the posterior itself, all on the same windows.

    Args:
        setup: whose model the particles follow.
        law: by which its windows are observed.
        named: methods, from `methods`.
        truth: windows.
        obs: of these windows.
        members: draws of the particle smoother and of incremental sampling.
        particles: of each filter.

    Returns:
        By method its `scores`, and `crps_over_particles` with its standard error over windows.
    """
    truth = truth / setup.spread
    smoother = ParticleSmoother(setup.system, setup.model_noise_std, particles=particles)
    draws = {
        "particles": smoother.sample(obs, members, seed=TEST, operator=law.operator) / setup.spread,
        "NIDA, incremental sampling": drawn(named["NIDA"], obs, members, law.operator) / setup.spread,
    }
    scores = {name: draw_scores(x, truth) for name, x in draws.items()}
    by_window = {name: crps_ensemble(x, truth, CORE) for name, x in draws.items()}
    for name, method in named.items():
        result = method.assimilate(obs, operator=law.operator)
        forecast = result["mean"] / setup.spread, result["std"] / setup.spread
        scores[name], by_window[name] = _rounded(gaussian_scores(*forecast, truth)), crps(*forecast, truth, CORE)
    least = by_window["particles"] / (1 + 1 / members)  # of the posterior itself, not of so many draws
    return {name: {"scores": scores[name]} | _ratio(by_window[name], least) for name in scores}


def _ratio(one: xr.DataArray, other: xr.DataArray) -> dict[str, float]:
    """Of the means over windows, with its standard error: the windows are the same, so their difficulty cancels."""
    ratio = float(one.mean() / other.mean())
    rest = one - ratio * other
    error = float(rest.std(ddof=1) / math.sqrt(rest.size) / other.mean())
    return _rounded({"crps_over_particles": ratio, "standard_error": error})


def measure(samples: int, reference: int = 60, members: int = 256, particles: int = 8192) -> dict[str, Any]:
    """The study.

    Args:
        samples: windows of each law.
        reference: how many of them, the first ones, the particle smoother is run on.
        members: draws in that comparison.
        particles: of each of its filters.
    """
    setup = lorenz63()
    named = methods(setup, NeuralIncremental.pretrained("lorenz63", temperatures=4))
    laws = {}
    for name, law in LAWS.items():
        truth, obs = observed(setup, law, samples)
        found = {k: of_method(setup, law, method, truth, obs) for k, method in named.items()}
        better = found["NIDA"]["scores"]["crps"] < found["OI"]["scores"]["crps"]
        laws[name] = {"what": law.what, "trained": law.trained, "better_than_oi": better, "methods": found}
        print(f"{name:8}", found["NIDA"]["scores"], "outside:", found["NIDA"]["outside"], flush=True)
    law = LAWS["paper"]
    truth, obs = (x.isel(sample=slice(reference)) for x in observed(setup, law, samples))
    beside = against_particles(setup, law, named, truth, obs, members, particles)
    print("CRPS over particles:", {k: v["crps_over_particles"] for k, v in beside.items()}, flush=True)
    return {
        "laws": laws,
        "bounds": BOUNDS,
        "windows": f"{samples} of each law, seed {TEST}, observed with seed {TEST + 1}",
        "unit": "climatological standard deviations",
        "ranks": f"of the truth among {RANKED} draws, over the first {DRAWN} windows and all times",
        "paper_beside_particles": {
            "methods": beside,
            "windows": f"the first {truth.sizes['sample']} of the paper's law, for all methods",
            "draws": members,
            "particles": particles,
            "crps": f"exact for Gaussians; of draws that of {members} members, up to {1 / members:.1%} above their law",
        },
    }


def table(findings: dict[str, Any]) -> pd.DataFrame:
    """The scores of `measure`: a row per law and method, and what is outside the bounds."""
    rows = {
        (law, name): shown(row["scores"])
        | {"outside the bounds": ", ".join(TITLES[key] for key in row["outside"]) or "none"}
        for law, found in findings["laws"].items()
        for name, row in found["methods"].items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["law", "method"])


def particle_table(beside: dict[str, Any]) -> pd.DataFrame:
    """What `against_particles` returns: a row per method."""
    rows = {
        name: shown(row["scores"]) | {TITLES[k]: v for k, v in row.items() if k != "scores"}
        for name, row in beside.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")


def shown(scores: dict[str, float]) -> dict[str, float]:
    """Scores as tables have them, by their titles: the error is a root mean square.

    >>> shown({"mse": 0.25, "crps": 0.3})
    {'RMSE': 0.5, 'CRPS': 0.3}
    """
    rest = {TITLES[name]: value for name, value in scores.items() if name != "mse"}
    return {"RMSE": math.sqrt(scores["mse"])} | rest


def in_words(name: str, scores: dict[str, float]) -> str:
    """What coverage and spread of a method say, a sentence.

    >>> in_words("OI", {"coverage_90": 0.7, "spread_error_ratio": 0.6})
    'OI is too sure: its 90% intervals hold 70% of the truth, and its spread is 0.60 of its error.'
    """
    (low, high), (small, large) = BOUNDS["coverage_90"], BOUNDS["spread_error_ratio"]
    covered, ratio = scores["coverage_90"], scores["spread_error_ratio"]
    if covered < low or ratio < small:
        verdict = "is in two minds" if covered > high or ratio > large else "is too sure"
    else:
        verdict = "is too unsure" if covered > high or ratio > large else "is calibrated by both"
    held = f"its 90% intervals hold {covered:.0%} of the truth, and its spread is {ratio:.2f} of its error"
    return f"{name} {verdict}: {held}."


def ranks_in_words(counts: xr.DataArray) -> str:
    """The ends of a rank histogram, a sentence."""
    ends = float(counts.isel(rank=[0, -1]).sum() / counts.sum())
    expected = 2 / counts.sizes["rank"]
    return f"{ends:.0%} of the truth lies outside all draws, where {expected:.0%} would: {shape_of(ends / expected)}."


def shape_of(ends: float) -> str:
    """A rank histogram in words, by how many times as often as it should the truth lies outside all draws.

    >>> shape_of(2.0)
    'a U, too sure'
    """
    if ends > 1.5:
        return "a U, too sure"
    return "a hump, too unsure" if ends < 1 / 1.5 else "nearly flat at its ends"


if __name__ == "__main__":
    command("calibration", lambda samples, _: measure(samples), samples=4000)
