"""The best that any method can do: the error of the posterior mean, by particles: `python -m nida_kit.studies.limit`.

The mean squared error of an estimate is least at the posterior mean. A particle smoother estimates that mean with a
Monte-Carlo error of its own, which adds to its squared error and is taken off again:

    limit = MSE(particle mean) - mean(mean_error^2).

Where few particles come near the observations, the window is done again with many more. The paper's law observes so
little that something simpler does, without resampling: windows simulated by the million, weighted by how well they fit
the observations; the two are held against each other. The pendulum knows no noise, and its limit comes from importance
sampling over start states.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import Tensor

from nida_kit import setups
from nida_kit.methods.importance import ImportanceSampler
from nida_kit.methods.method import Method
from nida_kit.methods.particle_smoother import ParticleSmoother
from nida_kit.setups import Setup
from nida_kit.studies.common import LAWS, PENDULUM, TEST, Z_ONLY, Law, command, lorenz63, observed

PARTICLES, MORE, DRAWS, REPEATS = 4096, 65_536, 128, 2
ENOUGH = 30  # effective particles


def smoothers(setup: Setup, *particles: int) -> list[Method]:
    """The same particle smoother with ever more particles."""
    known = {"draws": DRAWS, "repeats": REPEATS}
    return [ParticleSmoother(setup.system, setup.model_noise_std, particles=n, **known) for n in particles]


def posterior(methods: Sequence[Method], obs: xr.Dataset, operator=None) -> xr.Dataset:
    """Mean, std and mean_error by the first method, and by the next where too few particles counted."""
    names = ["mean", "std", "mean_error", "effective_particles"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of few particles, which is what the next method is for
        found = methods[0].assimilate(obs, operator=operator)[names]
    poor = (found["effective_particles"] < ENOUGH).values
    if len(methods) == 1 or not poor.any():
        return found
    again = posterior(methods[1:], obs.isel(sample=poor), operator)
    for name in names:
        found[name][{"sample": poor}] = again[name].values
    return found


def limit(setup: Setup, methods: Sequence[Method], truth: xr.DataArray, obs: xr.Dataset, operator=None) -> dict:
    """The limit on these windows, in climatological variances, and what it rests on."""
    began = time.perf_counter()
    found = posterior(methods, obs, operator)
    chance = float(((found["mean_error"] / setup.spread) ** 2).mean())
    return {
        "windows": truth.sizes["sample"],
        "mse": setup.score(found["mean"], truth) - chance,
        "monte_carlo_share": chance,
        "posterior_variance": float(((found["std"] / setup.spread) ** 2).mean()),
        "least_effective_particles": float(found["effective_particles"].min()),
        "windows_below_ten_effective_particles": int((found["effective_particles"] < 10).sum()),
        "seconds_per_window": (time.perf_counter() - began) / truth.sizes["sample"],
    }


def weighted_moments(
    setup: Setup, obs: xr.Dataset, simulations: int, chunk: int = 50_000
) -> tuple[Tensor, Tensor, Tensor]:
    """Posterior means and variances `(B, T, n)` by weighting simulated windows, and how many of these count, `(B,)`."""
    y = torch.tensor(obs["value"].values)
    std = torch.tensor(obs["noise_std"].broadcast_like(obs["value"]).values)
    seen = ~y.isnan()
    generator = torch.Generator().manual_seed(TEST + 2)
    top = torch.full((len(y),), -torch.inf, dtype=torch.float64)
    total, squares = torch.zeros(2, len(y), dtype=torch.float64)
    first, second = torch.zeros(2, len(y), y[0].numel(), dtype=torch.float64)
    for size in [chunk] * (simulations // chunk) + [simulations % chunk] * (simulations % chunk > 0):
        start = setup.system.start(size, generator, torch.float64, torch.device("cpu"))
        x = setup.system.trajectories(start, setup.steps, setup.dt, setup.model_noise_std, generator)
        fit = torch.stack([(((x[:, s] - v[s]) / r[s]) ** 2).sum(-1) / -2 for v, r, s in zip(y, std, seen, strict=True)])
        higher = torch.maximum(top, fit.amax(-1))
        shrink, weights = (top - higher).exp(), (fit - higher[:, None]).exp()
        total = total * shrink + weights.sum(-1)
        squares = squares * shrink**2 + (weights**2).sum(-1)
        first = first * shrink[:, None] + weights @ x.flatten(1)
        second = second * shrink[:, None] + weights @ x.flatten(1) ** 2
        top = higher
    mean, square = (moment / total[:, None] for moment in (first, second))
    return mean.view(y.shape), (square - mean**2).view(y.shape), total**2 / squares


def paper_posterior(samples: int, simulations: int, particles: int = MORE) -> tuple[xr.Dataset, dict[str, float]]:
    """The posterior of test windows under the paper's law: by weights, and by particles where too few weights count.

    Returns:
        `mean`, `std`, `mean_error` and `effective` of each window, and what they say: the limit on these windows, and
        the posterior variance, which is what it would be on average over all truths.
    """
    setup = lorenz63()
    truth, obs = observed(setup, LAWS["paper"], samples)
    mean, variance, counting = weighted_moments(setup, obs, simulations)
    found = xr.Dataset({"mean": truth.copy(data=mean), "std": truth.copy(data=variance.clamp(min=0).sqrt())})
    found["mean_error"] = found["std"] / xr.DataArray(counting.sqrt().numpy(), dims="sample")
    found["effective"] = ("sample", counting.numpy())
    poor = (counting < ENOUGH).numpy()
    if poor.any():
        again = posterior(smoothers(setup, particles), obs.isel(sample=poor))
        for name in ("mean", "std", "mean_error"):
            found[name][{"sample": poor}] = again[name].values
    chance = float(((found["mean_error"] / setup.spread) ** 2).mean())
    return found, {
        "windows": samples,
        "simulated_windows": simulations,
        "windows_by_particles": int(poor.sum()),
        "mse": setup.score(found["mean"], truth) - chance,
        "posterior_variance": float(((found["std"] / setup.spread) ** 2).mean()),
        "monte_carlo_share": chance,
    }


def agreement(setup: Setup, methods: Sequence[Method], windows: int, simulations: int) -> dict[str, float]:
    """The particle smoother beside importance weights on the paper's law.

    Both have their chance error: the smoother reports its own, that of weights is variance / effective number. If the
    methods agree, their mean squared difference is the sum of the two. That of weights holds where enough count.
    """
    truth, obs = observed(setup, LAWS["paper"], windows)
    found = posterior(methods, obs)
    began = time.perf_counter()
    means, _, counting = weighted_moments(setup, obs, simulations)
    seconds = time.perf_counter() - began
    weighted = truth.copy(data=means.numpy())
    count = xr.DataArray(counting.numpy(), dims="sample")

    def average(x: xr.DataArray) -> float:
        return float((x / setup.spread**2).where(count >= ENOUGH).mean())

    return {
        "windows": windows,
        "simulated_windows": simulations,
        "windows_with_enough_effective_simulations": int((count >= ENOUGH).sum()),
        "mse_particles": setup.score(found["mean"], truth),
        "mse_importance_weights": setup.score(weighted, truth),
        "squared_difference": average((found["mean"] - weighted) ** 2),
        "squared_difference_by_chance": average(found["mean_error"] ** 2 + found["std"] ** 2 / count),
        "seconds_of_weighting": seconds,
    }


def measure(
    samples: int, folder: Path, simulations: int = 4_000_000, particles: Sequence[int] = (PARTICLES, MORE)
) -> dict[str, Any]:
    """Everything: `samples` windows of the paper's law, whose posterior goes to `folder` as NetCDF.

    Other laws get a tenth as many windows, the pendulum and the agreement a fifth.
    """
    setup = lorenz63()
    methods = smoothers(setup, *particles)
    exact, paper = paper_posterior(samples, simulations, particles[-1])
    folder.mkdir(exist_ok=True)
    exact.astype("float32").to_netcdf(folder / "posterior_paper.nc")
    print("paper", paper, flush=True)
    limits = {"paper": paper}
    laws: dict[str, Law] = {k: law for k, law in LAWS.items() if k != "paper"} | {"z only": Z_ONLY}
    for name, law in laws.items():
        truth, obs = observed(setup, law, max(samples // 10, 2))
        limits[name] = limit(setup, methods, truth, obs, law.operator)
        print(name, limits[name], flush=True)
    swinging = setups.load(PENDULUM)
    truth = swinging.windows(max(samples // 5, 2), TEST)
    return {
        "lorenz63": limits,
        "agreement": agreement(setup, methods, max(samples // 5, 2), simulations),
        "pendulum": limit(swinging, [ImportanceSampler(swinging.system)], truth, swinging.observe(truth, TEST + 1)),
        "settings": {"particles": list(particles), "draws": DRAWS, "repeats": REPEATS, "windows_seed": TEST},
    }


if __name__ == "__main__":
    command("limit", measure, 1000)
