"""The methods on the paper's experiments, same windows for all: `python -m nida_kit.pretrained.scores --out figures`.

It also trains the network of Blanke et al. (2024) on the paper's data budget, 1,800 Lorenz-63 windows and 300 epochs,
for its row in the table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
import xarray as xr

from nida_kit import setups
from nida_kit.assimilate.method import Chain, Method, versions
from nida_kit.assimilate.methods import KalmanSmoother, NeuralIncremental, OptimalInterpolation, WeakFourDVar
from nida_kit.evaluate import coverage
from nida_kit.observe import regular
from nida_kit.prior import Climatology, PaperPrior
from nida_kit.setups import Setup
from nida_kit.simulate import LinearOscillator
from nida_kit.train import Settings, fixed, train

SAMPLES, SEED = 1000, 20241  # no training seed comes near
BUDGET, EPOCHS, BATCH = 1800, 300, 128


def paper_prior(setup: Setup, checkpoint: Path | None) -> tuple[PaperPrior, dict]:
    """The paper's network on the paper's budget and law, through the unrolled loop of 1 to 5 temperatures."""
    settings = Settings(steps=EPOCHS * BUDGET // BATCH, batch=BATCH, longest=5, log_score=0.0, decay=0.0)
    windows = torch.from_numpy(setup.windows(BUDGET, seed=1).values)
    torch.manual_seed(settings.seed)
    prior = PaperPrior(Climatology.fit(windows), setup.steps)
    noise_std = torch.from_numpy(setup.noise.values)
    law = partial(regular, components=[0], every=setup.law["every"], noise_std=noise_std)
    history = train(prior, fixed(windows), law, settings, checkpoint=checkpoint)
    return prior, asdict(settings) | {"windows": BUDGET, "minutes": round(history.attrs["seconds"] / 60, 1)}


def score(setup: Setup, method: Method, truth: xr.DataArray, obs: xr.Dataset) -> dict[str, float]:
    """Error, calibration and time of one method."""
    result = method.assimilate(obs)
    scores = {
        "mse": setup.score(result["mean"], truth),
        "coverage_90": float(coverage(result["mean"], result["std"], truth)),
        "rms_error_over_std": float((((result["mean"] - truth) / result["std"]) ** 2).mean() ** 0.5),
        "milliseconds_per_window": 1e3 * result.attrs["seconds"] / truth.sizes["sample"],
    }
    if "cost" in result:
        scores |= {"cost_mean": float(result["cost"].mean()), "cost_median": float(result["cost"].median())}
        scores["converged"] = float(result["converged"].mean())
    return {name: round(value, 4) for name, value in scores.items()}


def table(setup: Setup, methods: dict[str, Method]) -> dict[str, dict[str, float]]:
    """The scores of methods on the same fresh windows of the setup's law."""
    truth = setup.windows(SAMPLES, seed=SEED)
    obs = setup.observe(truth, seed=SEED + 1)
    rows = {}
    for name, method in methods.items():
        rows[name] = score(setup, method, truth, obs)
        print(f"{setup.name:22} {name:58} mse {rows[name]['mse']:.4f}")
    return rows


def lorenz63(checkpoint: Path | None) -> dict:
    """Every method on the Lorenz-63 experiment."""
    setup = setups.load("blanke2024-lorenz63")
    labels, dt, noise = setup.system.labels, setup.dt, setup.model_noise_std
    prior, budget = paper_prior(setup, checkpoint)
    first = OptimalInterpolation.fit(setup.windows(10_000, seed=2))
    neural = NeuralIncremental.pretrained("lorenz63")
    methods = {
        "optimal interpolation": first,
        "4D-Var from optimal interpolation": Chain([first, WeakFourDVar(setup.system, noise)]),
        "paper's network, 1,800 windows, 1 temperature": NeuralIncremental(prior, labels, dt, 1),
        "paper's network, 1,800 windows, 5 temperatures": NeuralIncremental(prior, labels, dt, 5),
        "shipped prior, 1 temperature": neural.with_temperatures(1),
        "shipped prior, 4 temperatures": neural,
        "shipped prior, 8 temperatures": neural.with_temperatures(8),
        "hybrid: shipped prior, then 3 steps of 4D-Var": Chain(
            [neural, WeakFourDVar(setup.system, noise, iterations=3)]
        ),
        "hybrid: shipped prior, then 4D-Var": Chain([neural, WeakFourDVar(setup.system, noise)]),
    }
    return {"scores": table(setup, methods), "paper_network_training": budget}


def pendulum() -> dict:
    """Every method on the pendulum experiment."""
    setup = setups.load("blanke2024-pendulum")
    neural = NeuralIncremental.pretrained("pendulum")
    first = OptimalInterpolation(neural.prior.climatology, neural.labels, neural.dt)
    # The paper's first guess, with a model error of our choice.
    linear = KalmanSmoother(LinearOscillator(), 0.1)
    methods = {
        "linear oscillator's Kalman smoother": linear,
        "optimal interpolation (linear Markov fit)": first,
        "4D-Var from optimal interpolation, model noise 0.01": Chain([first, WeakFourDVar(setup.system, 0.01)]),
        "shipped prior, 1 temperature": neural.with_temperatures(1),
        "shipped prior, 4 temperatures": neural,
        "shipped prior, 8 temperatures": neural.with_temperatures(8),
        "hybrid: shipped prior, then 4D-Var": Chain([neural, WeakFourDVar(setup.system, 0.01)]),
    }
    return {"scores": table(setup, methods)}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("figures"), help="folder of scores.json")
    parser.add_argument("--checkpoint", type=Path, help="of the paper's network, to resume from")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    records = {"blanke2024-lorenz63": lorenz63(arguments.checkpoint), "blanke2024-pendulum": pendulum()}
    records["windows"] = f"{SAMPLES} of each law, seed {SEED}, observed with seed {SEED + 1}"
    records["command"] = "python -m nida_kit.pretrained.scores --out figures"
    records["machine"] = f"{platform.machine()}, 1 thread of {os.cpu_count()} cores; {versions()}"
    arguments.out.mkdir(exist_ok=True)
    (arguments.out / "scores.json").write_text(json.dumps(records, indent=2) + "\n")


if __name__ == "__main__":
    main()
