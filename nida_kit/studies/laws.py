"""Every method under every law: `python -m nida_kit.studies.laws`, after `python -m nida_kit.studies.limit`.

One shipped prior serves all laws; 4D-Var and the hybrid know the exact physics, the others do not. Test windows, the
same for all methods; the ratio to the Bayes limit is taken on the windows on which that was measured, the first ones.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from nida_kit import setups
from nida_kit.methods.compose import Chain
from nida_kit.methods.interpolation import OptimalInterpolation
from nida_kit.methods.method import Method
from nida_kit.methods.neural import NeuralIncremental
from nida_kit.methods.smoothers import KalmanSmoother
from nida_kit.methods.weak import WeakFourDVar
from nida_kit.setups import Setup
from nida_kit.studies.common import LAWS, PENDULUM, TEST, Z_ONLY, Law, command, interpolation, lorenz63, observed
from nida_kit.systems.pendulum import LinearOscillator


def lorenz63_methods(setup: Setup) -> dict[str, Method]:
    """The columns of the table."""
    first = interpolation(setup)
    neural = NeuralIncremental.pretrained("lorenz63")
    noise = setup.model_noise_std
    return {
        "optimal interpolation": first,
        "4D-Var from optimal interpolation": Chain([first, WeakFourDVar(setup.system, noise)]),
        "paper's network, 2 temperatures": NeuralIncremental.pretrained("lorenz63_paper", temperatures=2),
        "shipped prior, 1 temperature": neural.with_temperatures(1),
        "shipped prior, 4 temperatures": neural,
        "hybrid: shipped prior, then 3 steps of 4D-Var": Chain(
            [neural, WeakFourDVar(setup.system, noise, iterations=3)]
        ),
    }


def pendulum_methods(setup: Setup) -> dict[str, Method]:
    """The same for the pendulum; a noise-free model has no weak constraint, so 4D-Var gets a small model noise."""
    neural = NeuralIncremental.pretrained("pendulum")
    # Without model noise the full covariance of a window is singular.
    first = OptimalInterpolation(neural.prior.climatology, neural.labels, neural.dt)
    physics = WeakFourDVar(setup.system, 0.01)
    return {
        "linear oscillator's Kalman smoother": KalmanSmoother(LinearOscillator(), 0.1),
        "optimal interpolation": first,
        "4D-Var from optimal interpolation": Chain([first, physics]),
        "shipped prior, 1 temperature": neural.with_temperatures(1),
        "shipped prior, 4 temperatures": neural,
        "hybrid: shipped prior, then 4D-Var": Chain([neural, physics]),
    }


def score(
    setup: Setup, method: Method, truth: xr.DataArray, obs: xr.Dataset, operator, known: dict
) -> dict[str, float]:
    """Error, calibration and time of one method; `known` is the limit's record, or empty."""
    found = method.assimilate(obs, operator=operator)
    scores = setup.scores(found, truth)
    scores["milliseconds_per_window"] = 1e3 * found.attrs["seconds"] / truth.sizes["sample"]
    if "cost" in found:
        scores |= {"cost_mean": float(found["cost"].mean()), "cost_median": float(found["cost"].median())}
    if known and known["windows"] <= truth.sizes["sample"]:
        first = {"sample": slice(0, known["windows"])}
        scores["mse_over_limit"] = setup.score(found["mean"].isel(first), truth.isel(first)) / known["mse"]
    return {name: float(f"{value:.4g}") for name, value in scores.items()}


def table(setup: Setup, methods: dict[str, Method], laws: dict[str, Law], samples: int, known: dict) -> dict[str, dict]:
    """Scores by law and method on test windows; `known` holds the limits' records, by law."""
    rows: dict[str, dict] = {}
    for name, law in laws.items():
        truth, obs = observed(setup, law, samples)
        limit = known.get(name, {})
        rows[name] = {title: score(setup, m, truth, obs, law.operator, limit) for title, m in methods.items()}
        rows[name] |= {"Bayes limit": {k: limit[k] for k in ("mse", "windows")}} if limit else {}
    return rows


def sweep(methods: dict[str, Method], spacings: Sequence[int], noises: Sequence[float], samples: int) -> xr.Dataset:
    """Error when x is observed more or less often, and more or less exactly.

    Args:
        methods: of the Lorenz-63 experiment.
        spacings: steps between observations.
        noises: in climatological standard deviations.
        samples: test windows, the same for all.

    Returns:
        `mse (method, spacing, noise)` in climatological variances.
    """
    setup = lorenz63()
    truth = setup.windows(samples, TEST)

    def mse(method: Method, spacing: int, noise: float) -> float:
        law = Law("", False, noise, {"components": ["x"], "every": spacing, "offset": "random"})
        return setup.score(method.assimilate(law.observe(setup, truth, TEST + 1))["mean"], truth)

    errors = [[[mse(m, spacing, noise) for noise in noises] for spacing in spacings] for m in methods.values()]
    coords = {"method": list(methods), "spacing": list(spacings), "noise": list(noises)}
    return xr.Dataset({"mse": (("method", "spacing", "noise"), errors)}, coords, {"samples": samples, "seed": TEST})


def beyond(setup: Setup, methods: dict[str, Method], exact: xr.Dataset) -> dict[str, dict[str, float]]:
    """How far methods are from the limit under the paper's law, with less chance than a ratio of two errors has.

    Given the observations, the truth is a draw from the posterior, and the expected error of an estimate a is

        E |a - truth|^2 = posterior variance + |a - posterior mean|^2.

    So its ratio to the limit can be had without the truth, whose luck it does not share.

    Args:
        setup: of the paper's law.
        methods: by name.
        exact: posterior `mean`, `std` and `mean_error` of the first test windows, from `limit`; the error that chance
            adds to the mean is taken off.

    Returns:
        `mse_over_limit` with the truth, and `expected_over_limit` without it, on these windows.
    """
    truth, obs = observed(setup, LAWS["paper"], exact.sizes["sample"])
    mean, variance = truth.copy(data=exact["mean"].values), float(((exact["std"] / setup.spread) ** 2).mean())
    chance = float(((exact["mean_error"] / setup.spread) ** 2).mean())
    limit = setup.score(mean, truth) - chance
    found = {title: method.assimilate(obs)["mean"] for title, method in methods.items()}
    return {
        title: {
            "mse_over_limit": round(setup.score(x, truth) / limit, 3),
            "expected_over_limit": round(1 + (setup.score(x, mean) - chance) / variance, 3),
        }
        for title, x in found.items()
    }


def measure(samples: int, folder: Path) -> dict[str, Any]:
    """The table; `folder` is where `limit` wrote."""
    limits = folder / "limit.json"
    known = json.loads(limits.read_text()) if limits.exists() else {"lorenz63": {}, "pendulum": {}}
    setup = lorenz63()
    named = lorenz63_methods(setup)
    rows: dict[str, dict] = {}
    for name, law in (LAWS | {"z only": Z_ONLY}).items():
        rows |= table(setup, named, {name: law}, samples, known["lorenz63"])
        print(name, {title: row["mse"] for title, row in rows[name].items()}, flush=True)
    exact = folder / "posterior_paper.nc"
    ratios = beyond(setup, named, xr.load_dataset(exact).isel(sample=slice(samples))) if exact.exists() else {}
    swinging = setups.load(PENDULUM)
    truth = swinging.windows(samples, TEST)
    obs = swinging.observe(truth, TEST + 1)
    methods = pendulum_methods(swinging)
    pendulum = {title: score(swinging, m, truth, obs, None, known["pendulum"]) for title, m in methods.items()}
    limit = known["pendulum"]
    pendulum |= {"Bayes limit": {k: limit[k] for k in ("mse", "windows")}} if limit else {}
    return {
        "lorenz63": rows,
        "paper_beyond_limit": ratios,
        "pendulum": pendulum,
        "windows": samples,
        "windows_seed": TEST,
    }


if __name__ == "__main__":
    command("laws", measure, 1000)
