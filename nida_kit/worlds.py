"""A truth, and what somebody believes about it: one function behind the lab of model error.

Both are Lorenz's (1963) equations with model noise, each with parameters of its own. The truth is simulated and
observed; methods know the belief alone. 4D-Var runs the believed model, with the believed model noise as its Q; optimal
interpolation has the climatology of believed simulations. A network holds the belief that it was trained on.

>>> right = run_worlds(WorldParameters(rho=28.0))
>>> wrong = run_worlds(WorldParameters(rho=22.4))
>>> right.attrs["rmse"] < wrong.attrs["rmse"] and right.attrs["coverage_90"] > wrong.attrs["coverage_90"]
True
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter

import torch
import xarray as xr

from nida_kit import checks, setups
from nida_kit.evaluate import coverage, rmse
from nida_kit.methods.compose import Chain
from nida_kit.methods.interpolation import OptimalInterpolation
from nida_kit.methods.method import Method
from nida_kit.methods.neural import NeuralIncremental
from nida_kit.methods.weak import WeakFourDVar
from nida_kit.observing.observe import observe
from nida_kit.setups import Setup
from nida_kit.state import COMPONENT, SAMPLE, TIME
from nida_kit.systems.lorenz import Lorenz63

REFERENCE = "blanke2024-lorenz63"
ORDER = 4  # steps that the climatology looks back, as in the trainings
CLIMATE, CLIMATE_SEED = 2000, 2**31 - 1  # believed windows behind a climatology
STARTS = 8  # of 4D-Var: its error is to be the belief's, not that of a local minimum
RANGES = {"rho": (15.0, 40.0), "sigma": (5.0, 20.0), "noise": (0.04, 3.0)}
"""What parameters of the physics can be, true and believed."""


@dataclass(frozen=True)
class WorldParameters:
    """A truth, a belief, and who reconstructs.

    Attributes:
        true_rho: Rayleigh number of the truth.
        true_sigma: its Prandtl number.
        true_noise: its model noise, a standard deviation per step and component, in state units.
        rho: Rayleigh number that is believed in.
        sigma: Prandtl number that is believed in.
        noise: model noise that is believed in, the square root of Q.
        method: one of `METHODS`.
        every: steps between two observations of x.
        seed: of the truth and its observations.
    """

    true_rho: float = 28.0
    true_sigma: float = 10.0
    true_noise: float = 0.22
    rho: float = 22.4
    sigma: float = 10.0
    noise: float = 0.22
    method: str = "4D-Var"
    every: int = 8
    seed: int = 20  # a window that goes from one lobe to the other

    def __post_init__(self):
        for name, (low, high) in RANGES.items():
            for here in (name, f"true_{name}"):
                checks.store(self, **{here: checks.within(here, getattr(self, here), low, high)})
        checks.store(self, method=checks.one_of("method", self.method, METHODS))
        checks.store(self, every=checks.count("every", self.every, 1, 32), seed=checks.seed(self.seed))

    @property
    def believed(self) -> tuple[float, float, float]:
        """rho, sigma and model noise."""
        return self.rho, self.sigma, self.noise

    @property
    def true(self) -> tuple[float, float, float]:
        """Likewise."""
        return self.true_rho, self.true_sigma, self.true_noise


@lru_cache(maxsize=1)
def _setup() -> Setup:
    return setups.load(REFERENCE)


@lru_cache(maxsize=16)
def _windows(rho: float, sigma: float, noise: float, samples: int, seed: int) -> xr.DataArray:
    system, setup = Lorenz63(sigma=sigma, rho=rho), _setup()
    return system.simulate(samples, setup.steps, setup.dt, model_noise_std=noise, seed=seed)


@lru_cache(maxsize=16)
def _interpolation(rho: float, sigma: float, noise: float) -> OptimalInterpolation:
    """With the climatology of simulations and their mirror images."""
    past = _windows(rho, sigma, noise, CLIMATE, CLIMATE_SEED)
    mirrored = past * xr.DataArray([-1.0, -1.0, 1.0], dims=COMPONENT)
    return OptimalInterpolation.fit(xr.concat([past, mirrored], SAMPLE), order=ORDER)


@lru_cache(maxsize=16)
def _four_d_var(rho: float, sigma: float, noise: float) -> Method:
    """From several starts, the optimal interpolation of the same belief first."""
    system = Lorenz63(sigma=sigma, rho=rho)
    return Chain([_interpolation(rho, sigma, noise), WeakFourDVar(system, noise, starts=STARTS)])


@lru_cache(maxsize=4)
def _neural(name: str) -> Callable[[float, float, float], Method]:
    method = NeuralIncremental.pretrained(name, temperatures=4)
    return lambda rho, sigma, noise: method


METHODS: dict[str, Callable[[float, float, float], Method]] = {
    "4D-Var": _four_d_var,
    "optimal interpolation": _interpolation,
    "network, trained on rho 28": lambda *believed: _neural("lorenz63_small")(*believed),
    "network, trained on rho 22.4": lambda *believed: _neural("lorenz63_rho22")(*believed),
}
"""Each of a belief: rho, sigma and model noise."""

NETWORKS = tuple(name for name in METHODS if name.startswith("network"))
"""Whose belief is that of their training."""

RIGHT = "4D-Var with the true physics"


@lru_cache(maxsize=8)
def _seen(true: tuple[float, float, float], every: int, seed: int) -> tuple[xr.DataArray, xr.Dataset, xr.DataArray]:
    """The truth, observations of it, and what 4D-Var makes of them that knows the true parameters."""
    truth = _windows(*true, 1, seed)
    law = _setup().law | {"every": every}
    obs = observe(truth, noise_std=_setup().noise, seed=(seed + 1) % 2**31, **law)
    return truth, obs, _four_d_var(*true).assimilate(obs)["mean"]


def run_worlds(parameters: WorldParameters) -> xr.Dataset:
    """Simulate the truth, observe x, reconstruct by what is believed.

    Returns:
        `truth`, `value`, `noise_std`, `mean` and `std` along time and component; the `usual` range of the reference
        experiment; `beside`, 4D-Var that knows the true parameters; in `attrs` `rmse` and `beside_rmse` in
        climatological standard deviations of that experiment, `coverage_90`, how many values were `observed`, the
        `seconds`, and by component what the believed model leaves `unexplained` in a step of the true window, a root
        mean square in state units.

    Raises:
        ValueError: parameters out of range.
    """
    p = parameters
    truth, obs, right = _seen(p.true, p.every, p.seed)
    began = perf_counter()
    found = METHODS[p.method](*p.believed).assimilate(obs)
    seconds = perf_counter() - began
    unit = _setup().spread

    def error(estimate: xr.DataArray) -> float:
        return float(rmse(estimate / unit, truth / unit, dim=truth.dims))

    unexplained = _unexplained(Lorenz63(sigma=p.sigma, rho=p.rho), truth)
    about = {
        "rmse": error(found["mean"]),
        "beside_rmse": error(right),
        "coverage_90": float(coverage(found["mean"], found["std"], truth, dim=truth.dims)),
        "observed": int(obs["value"].notnull().sum()),
        "seconds": seconds,
        "unexplained": dict(zip(truth[COMPONENT].values.tolist(), unexplained, strict=True)),
    }
    beside = right.expand_dims(other=[RIGHT])
    kept = {"truth": truth, "value": obs["value"], "noise_std": obs["noise_std"], "beside": beside}
    kept["usual"] = _setup().usual  # for limits that hold both lobes
    return found[["mean", "std"]].assign(kept).assign_attrs(about)


def _unexplained(system: Lorenz63, truth: xr.DataArray) -> list[float]:
    """Root mean square of what a model leaves of each step, by component."""
    x = torch.from_numpy(truth.transpose(SAMPLE, TIME, COMPONENT).values)
    error = x[:, 1:] - system.step(x[:, :-1], _setup().dt)
    return error.square().mean((0, 1)).sqrt().tolist()
