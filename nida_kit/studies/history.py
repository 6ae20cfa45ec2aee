"""All methods on the ocean gyre over 300 cycles: `python -m nida_kit.studies.history`.

The truths and observations of `sakov2008-qg`: what history is worth, and localisation. Climatology and optimal
interpolation of each time know no history. 3D-Var carries its mean alone; the EnKF looks for its analysis among all
members at once, with the inflation that the LETKF has; the LETKF does so near each cell. NIDA takes windows of eight
times, each by itself; with history, each is combined with what the model forecasts from the window before. The hybrid
goes on from NIDA's first window: weak-constraint 4D-Var in windows, each from the forecast of the one before.

The covariances of optimal interpolation and of 3D-Var are those of snapshots, localised like the LETKF's, since a
matrix of 16,641 x 16,641 takes 2 GB and its products minutes at each time; the share of it that is 3D-Var's is that of
least error on another experiment. The background of the hybrid's 4D-Var is what is left of the snapshots' covariance
once every cell was seen with a large error: the scales that are strong are known well, those that are weak are not.

A filter's analysis of a time knows the observations up to that time. Of windows this holds at their last time: that is
their `analysis`. In the `middle` and over `all` times of a window later observations help.

Rows are kept as they are found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from nida_kit import setups
from nida_kit.edge import fold, unfold
from nida_kit.evaluate import rmse
from nida_kit.gaussian import Gaussian
from nida_kit.linalg.solvers import Truncated
from nida_kit.loop import incremental
from nida_kit.methods.enkf import EnKF
from nida_kit.methods.letkf import LETKF
from nida_kit.methods.method import Method, stream
from nida_kit.methods.neural import NeuralIncremental
from nida_kit.methods.sequential import LostTruth, advance, check_finite
from nida_kit.observing.observations import Observations
from nida_kit.priors.field_physics import FieldPhysics
from nida_kit.priors.modes import FieldClimatology
from nida_kit.setups import Cycling
from nida_kit.studies.common import VALIDATION, Kept, command
from nida_kit.systems.system import System, as_system

EXPERIMENT = "sakov2008-qg"
SNAPSHOTS = 50  # behind covariances
ENSEMBLES = {25: 1.04, 100: 1.02}  # members of the EnKF, and their inflation
SHARES = (0.1, 0.2, 0.3)
LOCAL = {"radius": 10, "block": 2, "dtype": torch.float32}
TRIED = 60  # cycles of the experiment on which the share is chosen
STEPS = 8  # of NIDA's windows
TRUST = 0.45  # in NIDA's estimate beside a forecast, chosen on another experiment, of 65 x 65 points
HYBRID = {"window": 16, "seen_std": 4.0, "model_error": 0.05, "iterations": 25}  # chosen on another experiment


class Still(System):
    """A system's start, after which nothing moves: of windows of one time."""

    def __init__(self, system: System):
        self.system, self.labels, self.longest_substep = system, system.labels, system.longest_substep

    def tendency(self, x):
        return torch.zeros_like(x)

    def start(self, samples, generator, dtype, device):
        return self.system.start(samples, generator, dtype, device)


class LocalThreeDVar(LETKF):
    """3D-Var whose background covariance is that of snapshots, localised (as the EnOI of Oke et al. 2002).

    Args:
        system: whose start gives the snapshots, `members` of them, and the first mean.
        share: of their deviations in the background's.
        how: as for `LETKF`.
    """

    def __init__(self, system: System, share: float, **how):
        super().__init__(system, **how)
        self.share = share

    def ensembles(self, observations, dt, keep):
        generator, found = stream(self.seed), {"forecast": [], "analysis": []}
        states = self.first(len(observations.value), generator)
        mean = states.mean(-2, keepdim=True)
        deviations = self.share * (states - mean)
        for t in range(observations.value.shape[-2]):
            if t:
                mean = self.advanced(mean, dt, observations.times[t - 1 : t])[0]
            E, here = mean + deviations, observations.at(t)
            found["forecast"] += keep(E.unsqueeze(0))
            if not here.value.isnan().all():
                E = self.analysed(E, here, generator)
                mean = E.mean(-2, keepdim=True)
            found["analysis"] += keep(E.unsqueeze(0))
        return found


def at_each_time(setup: Cycling, obs: xr.Dataset, snapshots: int, at_once: int = 20) -> xr.Dataset:
    """Optimal interpolation of each time by itself, with the localised covariance of snapshots."""
    method = LETKF(Still(setup.system), members=snapshots, **LOCAL)
    times, dims = obs["time"], setup.system.labels.dims
    parts = []
    for first in range(0, times.size, at_once):
        some = obs["value"].isel(time=slice(first, first + at_once)).rename(time="cycle")
        # A window of two times, of which the second is not seen.
        alone = some.expand_dims(time=[0.0, setup.dt], axis=-1 - len(dims)).copy()
        alone[{"time": 1}] = np.nan
        lead = xr.Dataset({"value": alone, "noise_std": obs["noise_std"]})
        parts.append(method.assimilate(lead)[["mean", "std"]].isel(time=0, drop=True))
    found = xr.concat(parts, "cycle").rename(cycle="time")
    return found.transpose("sample", "time", *dims).assign_coords(time=times)


def climatology(setup: Cycling, truth: xr.DataArray) -> xr.Dataset:
    """Mean and standard deviation of all snapshots, at each time."""
    states = setup.system.start(setup.system.snapshots, stream(0), torch.float64, torch.device("cpu"))
    mean, std = (xr.zeros_like(truth) + x.numpy() for x in (states.mean(0), states.std(0)))
    return xr.Dataset({"mean": mean, "std": std})


def share(setup: Cycling, snapshots: int, cycles: int) -> float:
    """That of 3D-Var with the least error on the second half of an experiment of its own."""
    truth = setup.windows(1, VALIDATION, cycles)
    obs, late = setup.observe(truth, VALIDATION + 1), {"time": slice(truth.sizes["time"] // 2, None)}

    def error(tried: float) -> float:
        method = LocalThreeDVar(setup.system, tried, members=snapshots, **LOCAL)
        return float(((method.assimilate(obs)["mean"] - truth).isel(late) ** 2).mean())

    return min(SHARES, key=error)


def background(setup: Cycling, seen_std: float, modes: int = 800, radius: float = 12.0) -> FieldClimatology:
    """What is left of the snapshots' covariance once every cell was seen with an error of `seen_std`.

        (B^-1 + I / seen_std^2)^-1,      B = sum of lambda e e'  ->  sum of e e' / (1 / lambda + 1 / seen_std^2)

    Modes are found on every second cell, from the snapshots and their mirror images, and tapered.
    """
    cpu = torch.device("cpu")
    x = setup.system.start(setup.system.snapshots, stream(0), torch.float32, cpu)[:, ::2, ::2]
    records = torch.stack([x, -x.flip(-2)], 1).flatten(0, 1).unsqueeze(0)
    found = FieldClimatology.fit(records, 1, modes, radius).on(setup.system.labels.shape)
    variance = found.patterns.square().sum(0)
    scale = (seen_std**2 / (variance + seen_std**2)).sqrt()
    spread = ((found.patterns * scale).square().sum(1) + found.rest).sqrt()
    return replace(found, spread=spread, modes=found.modes * scale[:, None, None], lags=torch.eye(len(scale))[None])


class Hybrid:
    """Weak-constraint 4D-Var of fields in windows that do not overlap, each from the forecast of the one before.

    Few iterations of conjugate gradients start from that forecast, along which the model is linearised.

    Args:
        setup: the experiment.
        background: covariance of the forecast's errors; its mean is not used.
        model_error: of each step, in standard deviations of the background.
        iterations: of conjugate gradients.
    """

    def __init__(self, setup: Cycling, background: FieldClimatology, model_error: float, iterations: int):
        self.system, self.dt = as_system(setup.system, slopes=True), setup.dt
        self.background, self.model_error = background, model_error
        self.solver = partial(Truncated, iterations=iterations)

    def step(self, x: Tensor, t: int) -> Tensor:
        """From states to those one step later."""
        return advance(self.system, self.dt, x, None)

    def window(self, start: Tensor, observations: Observations) -> Tensor:
        """The trajectory `(T, n)` of a window whose first state was forecast, `(1, n)`."""
        known = replace(self.background, mean=start)
        prior = FieldPhysics(self.step, known, self.model_error, self.solver)
        x = prior.forecast(start, observations.value.shape[-2])
        check_finite(x)
        (posterior,) = incremental(prior, [0.0], observations, Gaussian.flat(x), prior.update)
        return posterior.estimate

    def on_from(self, last: Tensor, observations: Observations, window: int) -> Tensor:
        """The trajectory of whole windows after a state `(1, n)` of the time before the first of them."""
        found = []
        for begin in range(0, observations.value.shape[-2] - window + 1, window):
            found.append(self.window(self.step(last, 0), observations.at(slice(begin, begin + window))))
            last = found[-1][-1:]
        return torch.cat(found)


def shipped(setup: Cycling) -> NeuralIncremental:
    """NIDA with the shipped prior, taken to the experiment's grid."""
    method = NeuralIncremental.pretrained("ocean", labels=setup.system.labels)
    method.draws = 1  # their spread is not scored
    return method


def neural_windows(neural: Method, obs: xr.Dataset, steps: int) -> xr.DataArray:
    """Whole windows, each by itself, one after the other."""
    times = range(0, obs.sizes["time"] - steps + 1, steps)
    return xr.concat([neural.assimilate(obs.isel(time=slice(t, t + steps)))["mean"] for t in times], "time")


def with_history(setup: Cycling, estimates: xr.DataArray, trust: float) -> xr.DataArray:
    """The middle and the end of each window, its estimate combined with the forecast from the window before.

        x_m = M(x_m of the window before) + trust (estimate_m - M(...)),      x_end = M(x_m)

    The forecast has seen what was observed before the window, the estimate what was observed in it: no observation
    counts twice, and both are independent as far as the climatology is not what they are wrong in. The end of a window
    is forecast from its middle, which has seen all of the window.
    """
    dims, middle = setup.system.labels.dims, STEPS // 2

    def ahead(x: Tensor, steps: int) -> Tensor:
        for _ in range(steps):
            x = setup.system.step(x, setup.dt)
        return x

    values = torch.from_numpy(estimates.transpose("time", "sample", *dims).values).float()
    x, found = values[middle], []
    for k in range(0, len(values), STEPS):
        if k:
            x = torch.lerp(ahead(x, STEPS), values[k + middle], trust)
        found += [x, ahead(x, STEPS - 1 - middle)]
    times = [estimates["time"].values[k + t] for k in range(0, len(values), STEPS) for t in (middle, STEPS - 1)]
    whole = xr.DataArray(torch.stack(found).double().numpy(), {"time": times}, ("time", "sample", *dims))
    return whole.transpose("sample", "time", *dims)


def hybrid(setup: Cycling, neural: Method, background: FieldClimatology, obs: xr.Dataset, how: dict) -> xr.DataArray:
    """NIDA's first window, and 4D-Var from there on; the first window of it begins at `STEPS`."""
    method = Hybrid(setup, background, how["model_error"], how["iterations"])
    like, dims = background.mean, setup.system.labels.dims
    values = obs["value"].transpose("sample", "time", *dims).values
    parts = []
    for k, value in enumerate(torch.from_numpy(values).to(like)):
        first = neural.assimilate(obs.isel(sample=k, time=slice(0, STEPS)))["mean"].transpose("time", *dims)
        last = fold(torch.from_numpy(first.values[-1:]).to(like), setup.system.labels.shape)
        value = fold(value[STEPS:], setup.system.labels.shape)
        with torch.no_grad():
            x = method.on_from(last, Observations(value, torch.full_like(value, setup.noise_std)), how["window"])
        parts.append(unfold(x, setup.system.labels.shape).double().numpy())
    times = obs["time"][STEPS : STEPS + len(parts[0])]
    return xr.DataArray(np.stack(parts), {"time": times}, ("sample", "time", *dims))


def scores_of_windows(setup: Cycling, mean: xr.DataArray, truth: xr.DataArray, steps: int) -> dict[str, float]:
    """Root mean squared errors at the last times of windows, in their middle, and over all times, after the burn-in.

    Args:
        setup: the experiment.
        mean: of whole windows, one after the other.
        truth: of all times.
        steps: of a window in `mean`; of two, the first is its middle.
    """
    error = rmse(mean, truth.sel(time=mean["time"]), setup.system.labels.dims).mean("sample")
    middle = 0 if steps == 2 else steps // 2
    places = {"analysis": error[steps - 1 :: steps], "middle": error[middle::steps]}
    places |= {"all": error} if steps > 2 else {}
    return {name: float(x.where(x["time"] > setup.burn_in).mean()) for name, x in places.items()}


def timed(run: Callable[[], dict[str, float]]) -> dict[str, Any]:
    """What a method finds, and its CPU seconds; of an ensemble that runs apart, that it does."""
    began = process_time()
    try:
        found = run()
    except LostTruth:
        return {"runs apart": True}
    return {name: float(f"{value:.4g}") for name, value in (found | {"cpu_seconds": process_time() - began}).items()}


def measure(
    samples: int,
    folder: Path,
    setup: Cycling | None = None,
    snapshots: int = SNAPSHOTS,
    tried: int = TRIED,
    neural: Method | None = None,
    how: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """All methods on `samples` experiments; `neural` in the place of the shipped prior, `how` of `HYBRID`."""
    setup = setups.load(EXPERIMENT) if setup is None else setup
    neural = shipped(setup) if neural is None else neural
    how = HYBRID if how is None else how
    about = {"experiments": samples, "seeds": "truths of seed 0, observations of seed 1", "snapshots": snapshots}
    about |= {"setup": setup.name, "validation_seed": VALIDATION, "hybrid": how}
    found = Kept(folder, "history", about)
    truth = setup.windows(samples, 0)
    obs, system = setup.observe(truth, 1), setup.system
    chosen = found.row("share", make=lambda: share(setup, snapshots, tried))
    filters: dict[str, Method] = {"3D-Var": LocalThreeDVar(system, chosen, members=snapshots, **LOCAL)}
    for members, inflation in ENSEMBLES.items():
        filters[f"EnKF, {members} members"] = EnKF(system, members=members, inflation=inflation, dtype=torch.float32)
    filters |= {name: score.method(setup) for name, score in setup.published.items() if score.method is not None}

    def whole(run: Callable[[], xr.Dataset]) -> dict[str, float]:
        return setup.scores(run(), truth)

    def by_window(run: Callable[[], xr.DataArray], steps: int) -> dict[str, float]:
        return scores_of_windows(setup, run(), truth, steps)

    runs: dict[str, Callable[[], dict[str, float]]] = {
        "climatology": lambda: whole(lambda: climatology(setup, truth)),
        "optimal interpolation": lambda: whole(lambda: at_each_time(setup, obs, snapshots)),
    }
    runs |= {name: partial(whole, partial(method.assimilate, obs)) for name, method in filters.items()}
    estimates = cache(lambda: neural_windows(neural, obs, STEPS))
    runs["NIDA"] = lambda: by_window(estimates, STEPS)
    runs["NIDA with history"] = lambda: by_window(lambda: with_history(setup, estimates(), TRUST), 2)
    runs["hybrid"] = lambda: by_window(
        lambda: hybrid(setup, neural, background(setup, how["seen_std"]), obs, how), how["window"]
    )
    for name, run in runs.items():
        found.row("methods", name, make=partial(timed, run))
    return found.found


if __name__ == "__main__":
    command("history", measure, samples=1)
