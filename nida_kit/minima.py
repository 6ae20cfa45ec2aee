r"""The cost of 4D-Var between a start, the minimum that it leads to, and the truth.

A start lies on the straight line from the first guess x_0 to the true trajectory x,

    x(a) = (1 - a) x_0 + a x,

and weak-constraint 4D-Var descends from there. What lies between its end and the truth? The cost along two straight
lines, from the start to the minimum and on to the truth: if it has to rise in between, the minimum is another one.

>>> far, near = (run_minima(MinimaParameters(place=place)).attrs["barrier"] for place in (0.0, 0.8))
>>> far > 100 > near
True
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import xarray as xr

from nida_kit import checks, setups
from nida_kit.edge import read_observations
from nida_kit.methods.interpolation import OptimalInterpolation
from nida_kit.methods.weak import WeakFourDVar
from nida_kit.notes import quiet
from nida_kit.observing.observations import Observations
from nida_kit.observing.observe import observe
from nida_kit.setups import Setup

SETUP = "blanke2024-lorenz63"
LINE = 60  # pieces of each of the two lines


@dataclass(frozen=True)
class MinimaParameters:
    """Of one descent.

    Attributes:
        place: a, where it starts: 0 is the first guess, 1 the truth.
        every: steps between observations of x.
        noise_std: of these, relative to the climatological spread.
        seed: of the trajectory and its observations.
        iterations: of 4D-Var at most.
    """

    place: float = 0.0
    every: int = 8
    noise_std: float = 0.05
    seed: int = 34  # a window of which the first guess leads to a wrong minimum
    iterations: int = 30

    def __post_init__(self):
        checks.store(self, place=checks.within("place", self.place, -1.0, 2.0))
        checks.store(self, every=checks.count("every", self.every, 1, 32))
        checks.store(self, noise_std=checks.positive("noise_std", self.noise_std))
        checks.store(self, seed=checks.seed(self.seed), iterations=checks.count("iterations", self.iterations, 1))


def cost(setup: Setup, obs: xr.Dataset, mean: xr.DataArray) -> np.ndarray:
    """4D-Var's cost of any trajectories `(..., time, component)` of observed windows, `(...)`."""
    read = read_observations(obs, setup.system.labels, setup.dt, direct=True)
    x = torch.from_numpy(mean.transpose(..., "time", "component").values)
    physics = WeakFourDVar(setup.system, setup.model_noise_std).physics(setup.dt)
    return (physics.misfit(x) + Observations(read.value, read.noise_std).misfit(x)).numpy()


def descents(
    setup: Setup, obs: xr.Dataset, first_guesses: xr.DataArray, iterations: int = 30
) -> tuple[xr.DataArray, xr.Dataset]:
    """4D-Var of one window from each of several starts, each on its own.

    Args:
        setup: the experiment.
        obs: of the one window, without further dims.
        first_guesses: `(guess, time, component)`.
        iterations: at most.

    Returns:
        The cost after each step, `(guess, step)`, the guess's own as step 0; and the results with all steps,
        `(guess, ..., step)`.
    """
    same = obs.expand_dims(guess=first_guesses.sizes["guess"]).copy()
    with quiet():  # a descent that ends early, or has not converged, is what the costs show
        found = WeakFourDVar(setup.system, setup.model_noise_std, iterations=iterations).assimilate(
            same, first_guesses, trace=True
        )
    steps = [cost(setup, same, found["first_guess"])[None], cost(setup, same, found["mean"].transpose("step", ...))]
    costs = xr.DataArray(np.concatenate(steps), dims=("step", "guess"), coords={"step": range(len(found["step"]) + 1)})
    return costs.transpose("guess", "step"), found


@lru_cache(maxsize=1)
def _interpolation() -> OptimalInterpolation:
    setup = setups.load(SETUP)
    return OptimalInterpolation.fit(setup.windows(2000, seed=2**31 - 1), order=4)


def run_minima(parameters: MinimaParameters) -> xr.Dataset:
    """A descent on Lorenz-63, and the cost along the lines from its start to its end and on to the truth.

    Returns:
        `truth`, `value`, `noise_std`, `first_guess` (the start), and `mean` along `step`, the start as step 0, with
        `step_rmse` (climatological standard deviations), `step_cost` and `step_place`, how far it has come from the
        start to the minimum; the last two again along `descent`, as `descent_cost` and `descent_place`; along `place`,
        which runs from 0 at the start over 1 at the minimum to 2 at the truth, `line_cost`. In `attrs` the costs
        `start_cost`, `minimum_cost` and `true_cost`, and `barrier`: how much higher
        than both its ends the cost is between the minimum and the truth; and the minimum's `rmse`.
    """
    p, setup = parameters, setups.load(SETUP)
    truth = setup.windows(1, seed=p.seed).isel(sample=0).transpose("time", "component")
    unit = setup.spread
    obs = observe(truth, components=["x"], every=p.every, noise_std=p.noise_std * unit, seed=p.seed + 1)
    guess = _interpolation().assimilate(obs)["mean"]
    start = ((1 - p.place) * guess + p.place * truth).transpose("time", "component")
    costs, result = descents(setup, obs, start.expand_dims("guess"), p.iterations)
    path = result["mean"].isel(guess=0).transpose("step", "time", "component").values
    steps = np.concatenate([start.values[None], path])

    def labelled(values: np.ndarray, dim: str) -> xr.DataArray:
        return truth.expand_dims({dim: len(values)}).copy(data=values)

    along = np.linspace(0, 1, LINE + 1)
    weight = along[:, None, None]
    down, on = ((1 - weight) * a + weight * b for a, b in ((steps[0], steps[-1]), (steps[-1], truth.values)))
    lines = labelled(np.concatenate([down, on[1:]]), "place")
    line_cost = cost(setup, obs.expand_dims(place=len(lines)), lines)
    mean = labelled(steps, "step").assign_coords(step=range(len(steps)))
    between = line_cost[LINE:]
    way, gone = steps[-1] - steps[0], steps - steps[0]
    rmse = (((mean - truth) / unit) ** 2).mean(("time", "component")) ** 0.5
    found = {
        "start_cost": line_cost[0],
        "minimum_cost": between[0],
        "true_cost": between[-1],
        "barrier": between.max() - max(between[0], between[-1]),
        "rmse": rmse[-1],
    }
    on_the_way = (gone * way).sum((1, 2)) / max((way**2).sum(), 1e-12)
    step_cost = costs.isel(guess=0).values
    return xr.Dataset(
        {
            "truth": truth,
            "value": obs["value"],
            "noise_std": obs["noise_std"],
            "first_guess": start,
            "mean": mean,
            "step_cost": ("step", step_cost),
            "step_rmse": rmse,
            "step_place": ("step", on_the_way),
            "descent_cost": ("descent", step_cost),
            "descent_place": ("descent", on_the_way),
            "line_cost": ("place", line_cost),
        },
        {"place": np.concatenate([along, 1 + along[1:]])},
        {name: float(value) for name, value in found.items()},
    )
