"""The classical methods on the windows of NIDA: `python -m nida_kit.studies.classical`.

Three spacings of x and two noise levels, the same test windows for all. Ensemble methods get the inflation, and the
iEnKS the lag, that are best on validation windows of the same law. 4D-Var gets every help there is: the best first
guess, a window lengthened piece by piece, a model error that is lowered step by step, and many starts of which the
lowest cost counts. Strong-constraint methods neglect the model noise that is there; the particle smoother is the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import xarray as xr

from nida_kit import schedule
from nida_kit.methods.compose import Chain, QuasiStatic
from nida_kit.methods.enkf import EnKS
from nida_kit.methods.ienks import IEnKS
from nida_kit.methods.method import Method
from nida_kit.methods.neural import NeuralIncremental
from nida_kit.methods.sequential import LostTruth
from nida_kit.methods.strong import StrongFourDVar
from nida_kit.methods.weak import WeakFourDVar
from nida_kit.setups import Setup
from nida_kit.studies import limit
from nida_kit.studies.common import TEST, VALIDATION, Law, command, interpolation, lorenz63, observed

SPACINGS, NOISES = (4, 8, 16), (0.05, 0.2)
INFLATIONS = (1.0, 1.02, 1.05, 1.1, 1.2, 1.4)
LAGS = (1, 2, 4)
MEMBERS = 40


def law(spacing: int, noise: float) -> Law:
    """X at every `spacing`-th step, with noise in climatological standard deviations."""
    how = {"components": ["x"], "every": spacing, "offset": "random"}
    return Law(f"x every {spacing}th step, noise {noise:g}", spacing <= 12, noise, how)


def fixed_methods(setup: Setup) -> dict[str, Method]:
    """Those without anything to tune."""
    system, noise = setup.system, setup.model_noise_std
    neural, first = NeuralIncremental.pretrained("lorenz63"), interpolation(setup)
    weak, strong = WeakFourDVar(system, noise), StrongFourDVar(system)
    annealed = [WeakFourDVar(system, noise * (1 + 9 * s), iterations=8) for s in schedule.linear(4)]
    return {
        "NIDA": neural,
        "hybrid, 3 steps": Chain([neural, WeakFourDVar(system, noise, iterations=3)]),
        "optimal interpolation": first,
        "weak 4D-Var": Chain([first, weak]),
        "weak 4D-Var, quasi-static": Chain([first, QuasiStatic(weak)]),
        "weak 4D-Var, annealed model error": Chain([first, *annealed, weak]),
        "weak 4D-Var, 16 starts": Chain([first, WeakFourDVar(system, noise, starts=16)]),
        "strong 4D-Var": Chain([first, strong]),
        "strong 4D-Var, quasi-static": Chain([first, QuasiStatic(strong)]),
        "strong 4D-Var, 16 starts": Chain([first, StrongFourDVar(system, starts=16)]),
    }


def tuned(
    setup: Setup, law: Law, samples: int, inflations: Sequence[float] = INFLATIONS, lags: Sequence[int] = LAGS
) -> dict[str, Method]:
    """Ensemble methods at their best on validation windows."""
    system, noise = setup.system, setup.model_noise_std
    windows = observed(setup, law, samples, VALIDATION)
    return {
        "EnKS": best(setup, [EnKS(system, noise, members=MEMBERS, inflation=f) for f in inflations], *windows),
        "iEnKS": best(
            setup, [IEnKS(system, lag=k, members=MEMBERS, inflation=f) for k in lags for f in inflations], *windows
        ),
    }


def best(setup: Setup, candidates: Sequence[Method], truth: xr.DataArray, obs: xr.Dataset) -> Method:
    """Of least error on these windows."""
    return min(candidates, key=lambda method: _error(setup, method, truth, obs))


def _error(setup: Setup, method: Method, truth: xr.DataArray, obs: xr.Dataset) -> float:
    """Infinite where the members run apart."""
    try:
        return setup.score(method.assimilate(obs)["mean"], truth)
    except LostTruth:
        return float("inf")


def of_law(setup: Setup, named: dict[str, Method], truth: xr.DataArray, obs: xr.Dataset) -> dict[str, dict[str, Any]]:
    """Scores and milliseconds per window, by method."""
    rows = {}
    for name, method in named.items():
        result = method.assimilate(obs)
        scores = setup.scores(result, truth) | {"milliseconds": 1e3 * result.attrs["seconds"] / truth.sizes["sample"]}
        rows[name] = {k: float(f"{v:.4g}") for k, v in scores.items()}
        rows[name] |= {k: method.settings[k] for k in ("inflation", "lag", "radius") if k in method.settings}
    return rows


def particle_limit(setup: Setup, truth: xr.DataArray, obs: xr.Dataset, particles: int) -> dict[str, float]:
    """Scores of the exact posterior, with more particles where few count."""
    began = perf_counter()
    found = limit.posterior(limit.smoothers(setup, particles, 16 * particles), obs)
    scores = setup.scores(found, truth) | {"milliseconds": 1e3 * (perf_counter() - began) / truth.sizes["sample"]}
    return {k: float(f"{v:.4g}") for k, v in scores.items()}


def measure(
    samples: int,
    folder: Path,
    make: Callable[[Setup], dict[str, Method]] = fixed_methods,
    particles: int = 4096,
) -> dict[str, Any]:
    """All laws."""
    setup = lorenz63()
    always, laws = make(setup), {}
    for spacing in SPACINGS:
        for noise in NOISES:
            here = law(spacing, noise)
            truth, obs = observed(setup, here, samples)
            rows = of_law(setup, always | tuned(setup, here, samples), truth, obs)
            rows["particle limit"] = particle_limit(setup, truth, obs, particles)
            laws[here.what] = {"spacing": spacing, "noise": noise, "methods": rows}
            print(here.what, {name: row["mse"] for name, row in rows.items()}, flush=True)
    return {"laws": laws, "windows": samples, "windows_seed": TEST, "validation_seed": VALIDATION, "members": MEMBERS}


if __name__ == "__main__":
    command("classical", measure, samples=100)
