"""The best that any method can do: the error of the posterior mean, by particles: `python -m nida_kit.studies.limit`.

The mean squared error of an estimate is least at the posterior mean. A particle smoother estimates that mean with a
Monte-Carlo error of its own, which adds to its squared error and is taken off again:

    limit = MSE(particle mean) - mean(mean_error^2).

On the paper's law it is held against something simpler that needs no resampling: windows simulated by the million,
weighted by how well they fit the observations. The pendulum knows no noise, and its limit comes from importance
sampling over start states.
"""

from __future__ import annotations

import time
from typing import Any

import torch
import xarray as xr
from torch import Tensor

from nida_kit import setups
from nida_kit.assimilate.method import Method
from nida_kit.assimilate.particle import ImportanceSampler, ParticleSmoother
from nida_kit.setups import Setup
from nida_kit.studies.common import LAWS, PENDULUM, TEST, Z_ONLY, Law, command, lorenz63, observed

PARTICLES, DRAWS = 4096, 128


def limit(setup: Setup, method: Method, truth: xr.DataArray, obs: xr.Dataset, operator=None) -> dict[str, float]:
    """The limit on these windows, in climatological variances, and what it rests on."""
    found = method.assimilate(obs, operator=operator)
    chance = float(((found["mean_error"] / setup.spread) ** 2).mean())
    return {
        "windows": truth.sizes["sample"],
        "mse": setup.score(found["mean"], truth) - chance,
        "monte_carlo_share": chance,
        "expected_mse": float(((found["std"] / setup.spread) ** 2).mean()),
        "least_effective_particles": float(found["effective_particles"].min()),
        "seconds_per_window": found.attrs["seconds"] / truth.sizes["sample"],
    }


def weighted_means(setup: Setup, obs: xr.Dataset, simulations: int, chunk: int = 100_000) -> tuple[Tensor, Tensor]:
    """Posterior means `(B, T, n)` by weighting simulated windows, and the effective number of these, `(B,)`."""
    y = torch.tensor(obs["value"].values)
    std = torch.tensor(obs["noise_std"].broadcast_like(obs["value"]).values)
    seen = ~y.isnan()
    generator = torch.Generator().manual_seed(TEST + 2)
    top = torch.full((len(y),), -torch.inf, dtype=torch.float64)
    total, squares = torch.zeros(2, len(y), dtype=torch.float64)
    weighted = torch.zeros(len(y), y[0].numel(), dtype=torch.float64)
    for _ in range(max(simulations // chunk, 1)):
        start = setup.system.start(min(chunk, simulations), generator, torch.float64, torch.device("cpu"))
        x = setup.system.trajectories(start, setup.steps, setup.dt, setup.model_noise_std, generator)
        fit = torch.stack([(((x[:, s] - v[s]) / r[s]) ** 2).sum(-1) / -2 for v, r, s in zip(y, std, seen, strict=True)])
        higher = torch.maximum(top, fit.amax(-1))
        shrink, weights = (top - higher).exp(), (fit - higher[:, None]).exp()
        total = total * shrink + weights.sum(-1)
        squares = squares * shrink**2 + (weights**2).sum(-1)
        weighted = weighted * shrink[:, None] + weights @ x.flatten(1)
        top = higher
    return (weighted / total[:, None]).view(y.shape), total**2 / squares


def agreement(setup: Setup, windows: int, simulations: int, particles: int) -> dict[str, float]:
    """The particle smoother beside importance weights on the paper's law.

    Both have their chance error: the smoother reports its own, that of weights is variance / effective number. If the
    methods agree, their mean squared difference is the sum of the two.
    """
    truth, obs = observed(setup, LAWS["paper"], windows)
    found = ParticleSmoother(setup.system, setup.model_noise_std, particles=particles, draws=DRAWS).assimilate(obs)
    began = time.perf_counter()
    means, counting = weighted_means(setup, obs, simulations)
    seconds = time.perf_counter() - began
    weighted = truth.copy(data=means.numpy())
    enough = xr.DataArray((counting >= 30).numpy(), dims="sample")
    difference = (((found["mean"] - weighted) / setup.spread) ** 2).where(enough)
    own = ((found["mean_error"] / setup.spread) ** 2).where(enough)
    of_weights = ((found["std"] / setup.spread) ** 2 / xr.DataArray(counting.numpy(), dims="sample")).where(enough)
    return {
        "windows": windows,
        "simulated_windows": simulations,
        "windows_with_30_effective_simulations": int(enough.sum()),
        "mse_particles": setup.score(found["mean"], truth),
        "mse_importance_weights": setup.score(weighted, truth),
        "squared_difference": float(difference.mean()),
        "squared_difference_by_chance": float((own + of_weights).mean()),
        "seconds_of_weighting": seconds,
    }


def pendulum(samples: int) -> dict[str, float]:
    """The limit of the pendulum."""
    setup = setups.load(PENDULUM)
    truth = setup.windows(samples, TEST)
    return limit(setup, ImportanceSampler(setup.system), truth, setup.observe(truth, TEST + 1))


def measure(samples: int, simulations: int = 4_000_000, particles: int = PARTICLES) -> dict[str, Any]:
    """Everything: `samples` windows of the paper's law, a fifth as many of every other."""
    setup = lorenz63()
    smoother = ParticleSmoother(setup.system, setup.model_noise_std, particles=particles, draws=DRAWS)
    few = max(samples // 5, 2)
    laws: dict[str, Law] = LAWS | {"z only": Z_ONLY}
    limits = {}
    for name, law in laws.items():
        truth, obs = observed(setup, law, samples if name == "paper" else few)
        limits[name] = limit(setup, smoother, truth, obs, law.operator)
        print(name, limits[name], flush=True)
    return {
        "lorenz63": limits,
        "agreement": agreement(setup, few, simulations, particles),
        "pendulum": pendulum(few),
        "settings": {"particles": particles, "draws": DRAWS, "repeats": 4, "windows_seed": TEST},
    }


if __name__ == "__main__":
    command("limit", measure, 1000)
