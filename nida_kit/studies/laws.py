"""Every method under every law: `python -m nida_kit.studies.laws`, after `python -m nida_kit.studies.limit`.

One shipped prior serves all laws; 4D-Var and the hybrid know the exact physics, the others do not. Test windows, the
same for all methods; the ratio to the Bayes limit is taken on the windows on which that was measured, the first ones.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import xarray as xr

from nida_kit import setups
from nida_kit.assimilate.method import Chain, Method
from nida_kit.assimilate.methods import KalmanSmoother, NeuralIncremental, OptimalInterpolation, WeakFourDVar
from nida_kit.setups import Setup
from nida_kit.simulate import LinearOscillator
from nida_kit.studies.common import LAWS, PENDULUM, TEST, Z_ONLY, command, lorenz63, observed


def lorenz63_methods(setup: Setup) -> dict[str, Method]:
    """The columns of the table."""
    first = OptimalInterpolation.fit(setup.windows(10_000, seed=2))
    neural = NeuralIncremental.pretrained("lorenz63")
    noise = setup.model_noise_std
    return {
        "optimal interpolation": first,
        "4D-Var from optimal interpolation": Chain([first, WeakFourDVar(setup.system, noise)]),
        "paper's network, 5 temperatures": NeuralIncremental.pretrained("lorenz63_paper", temperatures=5),
        "shipped prior, 1 temperature": neural.with_temperatures(1),
        "shipped prior, 4 temperatures": neural,
        "hybrid: shipped prior, then 3 steps of 4D-Var": Chain(
            [neural, WeakFourDVar(setup.system, noise, iterations=3)]
        ),
    }


def pendulum_methods(setup: Setup) -> dict[str, Method]:
    """The same for the pendulum; a noise-free model has no weak constraint, so 4D-Var gets a small model noise."""
    neural = NeuralIncremental.pretrained("pendulum")
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


def measure(samples: int, limits: Path = Path("figures/limit.json")) -> dict[str, Any]:
    """The table; `limits` is what `limit` wrote."""
    known = json.loads(limits.read_text()) if limits.exists() else {"lorenz63": {}, "pendulum": {}}
    setup = lorenz63()
    methods = lorenz63_methods(setup)
    table: dict[str, dict] = {}
    for name, law in (LAWS | {"z only": Z_ONLY}).items():
        truth, obs = observed(setup, law, samples)
        limit = known["lorenz63"].get(name, {})
        table[name] = {title: score(setup, m, truth, obs, law.operator, limit) for title, m in methods.items()}
        table[name] |= {"Bayes limit": {k: limit[k] for k in ("mse", "windows")}} if limit else {}
        print(name, {title: row["mse"] for title, row in table[name].items()}, flush=True)
    setup = setups.load(PENDULUM)
    truth = setup.windows(samples, TEST)
    obs = setup.observe(truth, TEST + 1)
    rows = {t: score(setup, m, truth, obs, None, known["pendulum"]) for t, m in pendulum_methods(setup).items()}
    return {"lorenz63": table, "pendulum": rows, "windows": samples, "windows_seed": TEST}


if __name__ == "__main__":
    command("laws", measure, 1000)
