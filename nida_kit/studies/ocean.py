"""Reconstructions of the ocean gyre beside each other: `python -m nida_kit.studies.ocean`.

200 windows of eight trajectories that nobody was trained on, 65 x 65 points, 8 steps of 5 time units; four laws of
observation, of which the last was in no training. Modes and taper of optimal interpolation are chosen on windows of
other trajectories. Ensembles are not tuned: they start from a past of the ocean and have eight steps, for which none of
their settings is made; `history` has them over 300 cycles. Where a window takes seconds, a part of the windows is
reconstructed: a quarter under the swath, and 16 by methods that run the model. All takes hours of one core;
rows are kept as they are found, and a study that was cut off goes on where it stopped.

At last a network of the same size that corrects optimal interpolation, and meets no observation but through it, is
trained on half as many of the same windows. It leaves its checkpoint in the current folder.
"""

from __future__ import annotations

import math
import multiprocessing
import resource
import time
import zlib
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import xarray as xr

from nida_kit import evaluate, pretrained
from nida_kit.gaussian import Gaussian
from nida_kit.linalg.solvers import Truncated
from nida_kit.loop import incremental
from nida_kit.methods.compose import Chain
from nida_kit.methods.cycled import Cycled
from nida_kit.methods.enkf import EnKS
from nida_kit.methods.field_weak import FieldFourDVar
from nida_kit.methods.interpolation import ClimatologicalForecast, OptimalInterpolation, first_guess_of
from nida_kit.methods.letkf import LETKF
from nida_kit.methods.method import Method
from nida_kit.methods.neural import NeuralIncremental
from nida_kit.methods.sequential import LostTruth
from nida_kit.observing.laws import field_mixture
from nida_kit.observing.observations import Observations
from nida_kit.priors.ensemble import EnsembleClimatology
from nida_kit.priors.field import FieldPrior
from nida_kit.priors.field_physics import FieldPhysics
from nida_kit.priors.modes import FieldClimatology
from nida_kit.priors.parts import Seeded
from nida_kit.reconstruction import Moments, Reconstruction
from nida_kit.state import GridLabels
from nida_kit.studies.common import Kept, command
from nida_kit.systems.quasigeostrophic import QuasiGeostrophic
from nida_kit.systems.system import as_system
from nida_kit.systems.two_layer import TwoLayerQuasiGeostrophic
from nida_kit.systems.wrapped import OnAttractor
from nida_kit.training.fields import NORMAL_90, FieldSettings, train_field
from nida_kit.training.ocean import CELLS, DT, NOISE, STEPS, Drawing, records

TEST, VALIDATION = 4242, 777  # seeds of trajectories; training has 1 and 3
LAWS = {
    "tracks, 75 a step": {"tracks": (75, 75)},
    "random, 75 a step": {"random": (75, 75)},
    "tracks, 30 a step": {"tracks": (30, 30)},
    "swath, 300 a step": {"lines": (300, 300)},
}
REGRESSION = FieldSettings(regression=FieldSettings().batches // 2, one=0, several=0)
TENDENCIES = 8  # of a step: two of Runge and Kutta
RADIUS = 25.0  # points, of the taper of the shipped climatology
DRAWS = 3  # behind the spread of 4D-Var
MODEL_ERROR = 0.03  # of it, in a step
HYBRID = 3  # iterations of conjugate gradients, after which the hybrid stops
ITERATIONS = (0, 1, 3, 10, 30, 100)  # after which its error is looked at


def labelled(x: torch.Tensor, cells: int = CELLS) -> xr.DataArray:
    """Trajectories `(N, T, y, x)` as the system labels them."""
    labels = QuasiGeostrophic(cells=cells).labels
    coords = {"time": DT * np.arange(x.shape[1]), **labels.coordinates()}
    return xr.DataArray(x.double().numpy(), coords, ("sample", "time", "y", "x"), attrs=labels.attributes)


@cache
def windows(seed: int, each: int, trajectories: int = 8, cells: int = CELLS) -> xr.DataArray:
    """So many windows of each trajectory, 20 steps apart."""
    x = records(trajectories, 20 * each, seed, cells)
    return labelled(torch.cat([x[:, begin : begin + STEPS] for begin in range(0, 20 * each, 20)]), cells)


def observed(truth: xr.DataArray, counts: dict[str, tuple[int, int]], scale: float, seed: int) -> xr.Dataset:
    """Of each step some cells, with an error of a tenth of the field's spread."""
    generator = torch.Generator().manual_seed(seed)
    cells = truth.sizes["y"]
    shape = (*truth.shape[:2], cells**2)
    seen, noise_std = field_mixture(shape, generator, grid=(cells, cells), counts=counts, noise_std=NOISE * scale)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64) * noise_std
    value = truth + noise.unflatten(-1, (cells, cells)).numpy()
    error = float(noise_std.flatten()[0])
    return xr.Dataset({"value": value.where(seen.unflatten(-1, (cells, cells)).numpy()), "noise_std": error})


def scored(method: Method, truth: xr.DataArray, obs: xr.Dataset, scale: float, at_once: int = 10) -> dict[str, Any]:
    """Error in variances of the field, CRPS in its spread, coverage away from the walls; CPU seconds and model runs.

    Of an ensemble that runs apart, that it does.
    """
    Counted.count.clear()
    began, parts = time.process_time(), []
    for begin in range(0, truth.sizes["sample"], at_once):
        try:
            result = method.assimilate(obs.isel(sample=slice(begin, begin + at_once)))
        except LostTruth:
            return {"windows": truth.sizes["sample"], "runs apart": True}
        parts.append(result[["mean", "std"]])
    seconds = (time.process_time() - began) / truth.sizes["sample"]
    result = xr.concat(parts, "sample")
    inner = {"y": slice(1, -1), "x": slice(1, -1)}
    mean, std, true = (a.isel(inner) for a in (result["mean"], result["std"], truth))
    found = {
        "error": float(evaluate.mse(result["mean"], truth)) / scale**2,
        "crps": float(evaluate.crps(mean, std, true)) / scale,
        "coverage": float(evaluate.coverage(mean, std, true)),
        "seconds": seconds,
    }
    a_run = (STEPS - 1) * TENDENCIES
    found |= {f"model runs {way}": n / a_run / truth.sizes["sample"] for way, n in Counted.count.items()}
    return {"windows": truth.sizes["sample"]} | {name: float(f"{value:.4g}") for name, value in found.items()}


def peak() -> float:
    """Memory of this process so far, at most, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def memory(method: Method, obs: xr.Dataset, at_once: int = 4) -> float:
    """GB that so many windows take, beyond what the process holds: at most, in a process of its own."""
    context = multiprocessing.get_context("fork")
    mine, other = context.Pipe(duplex=False)

    def run():
        before = peak()
        method.assimilate(obs.isel(sample=slice(0, at_once)))
        other.send(peak() - before)

    process = context.Process(target=run)
    process.start()
    found = mine.recv()
    process.join()
    return round(found, 2)


@cache
def past() -> torch.Tensor:
    """What optimal interpolation is fitted to: that of the network's training."""
    return records(1000, 160, seed=1)


CANDIDATES: dict[str, tuple[int, float | None]] = {
    "360 modes, taper of 25 points": (360, RADIUS),
    "500 modes, no taper": (500, None),
    "500 modes, taper of 25 points": (500, RADIUS),
}


def fit(name: str) -> OptimalInterpolation:
    """One of the candidates for optimal interpolation."""
    return OptimalInterpolation(
        FieldClimatology.fit(past(), STEPS, *CANDIDATES[name]), QuasiGeostrophic(cells=CELLS).labels, DT
    )


def interpolation(scale: float, each: int = 2) -> dict[str, float]:
    """The mean error of each candidate on validation windows."""
    truth, found = windows(VALIDATION, each), {}
    for name in CANDIDATES:
        method = fit(name)
        errors = [
            scored(method, truth, observed(truth, LAWS[law], scale, seed=VALIDATION + 1), scale)["error"]
            for law in list(LAWS)[:3]
        ]
        found[name] = float(f"{np.mean(errors):.4g}")
    return found


class Regression(OptimalInterpolation):
    """A network that corrects optimal interpolation, with its spread times one factor.

    Args:
        prior: a network whose mean alone was trained.
        labels: of the field.
        dt: its time step.
    """

    fits = False  # nothing makes its answer agree with the observations

    def __init__(self, prior: FieldPrior, labels, dt: float):
        super().__init__(prior.climatology, labels, dt)
        self.prior = prior.eval()

    def reconstruct(self, observations, dt, first_guess):
        start = first_guess_of(self.climatology, observations.to(None, torch.float32))
        found = Moments(self.prior(start, 1.0).centre, start.std * self.prior.wider)
        return Reconstruction([found], [math.nan], start.mean)


def regression(
    folder: Path = Path(), pool: int = 4000, modes: int = 360, settings: FieldSettings = REGRESSION
) -> Regression:
    """Trained in that folder, half as many batches as the shipped network; its spread covers windows held out."""
    labels, climatology = QuasiGeostrophic(cells=CELLS).labels, FieldClimatology.fit(past(), STEPS, modes, RADIUS)
    drawing = Drawing(climatology, past())
    with Seeded(settings.seed):
        prior = FieldPrior(climatology, STEPS)
    train_field(prior, drawing(pool, seed=2), settings, fresh=drawing.fresh, checkpoint=folder / "regression.ckpt")
    held_out = Drawing(climatology, records(8, 160, seed=3))(64, seed=4)
    x, _, start = held_out.batch(torch.arange(64))
    with torch.no_grad():
        off = ((x - prior.eval()(start, 1.0).centre) / start.std).abs()[..., climatology.varies]
        prior.doubt.fill_(math.log(float(np.quantile(off.numpy(), 0.9)) / NORMAL_90))
    return Regression(prior, labels, DT)


class Counted(QuasiGeostrophic):
    """The gyre, which counts how many states it has advanced, and how many of their slopes were followed back.

    Slopes of many draws that are followed together count as one. Weak 4D-Var follows them forth as often as back.
    """

    count: ClassVar[Counter] = Counter()

    def tendency(self, x):
        states = math.prod(x.shape[:-2])
        self.count["forth"] += states
        found = super().tendency(x)
        if found.requires_grad:
            found.register_hook(lambda _: self.count.update(back=states))
        return found


def localised(labels: GridLabels) -> OptimalInterpolation:
    """By 400 past windows, of each fourth trajectory's first 40 steps."""
    return OptimalInterpolation(EnsembleClimatology.fit(past()[::4, :40].double(), STEPS, 400, 3), labels, DT)


def running(fitted: Callable[[], OptimalInterpolation], neural: NeuralIncremental) -> dict[str, Callable[[], Method]]:
    """Methods that run the model. Ensembles start from snapshots of a long run."""
    gyre = Counted(cells=CELLS)

    @cache
    def ocean() -> OnAttractor:
        snapshots = OnAttractor(gyre, 1500.0, snapshots=200, apart=50.0)
        snapshots.start(1, torch.Generator(), torch.float32, torch.device("cpu"))  # the long run is not a method's
        return snapshots

    how = {"model_error": MODEL_ERROR, "draws": DRAWS}

    def hybrid() -> Chain:
        return Chain([neural, FieldFourDVar(gyre, fitted(), **how, outer=1, iterations=HYBRID)])

    ensemble = {"inflation": 1.02, "dtype": torch.float32}
    return {
        "LETKF, 40 members": lambda: LETKF(ocean(), members=40, radius=6.0, block=2, **ensemble),
        "EnKS, 100 members": lambda: EnKS(ocean(), members=100, **ensemble),
        "weak 4D-Var": lambda: FieldFourDVar(gyre, fitted(), **how),
        f"hybrid, {HYBRID} iterations": hybrid,
    }


def along_the_descent(
    start: Method, climatology: FieldClimatology, truth: xr.DataArray, obs: xr.Dataset, scale: float, at_once: int = 8
) -> dict[str, float]:
    """The error of 4D-Var in variances of the field, by the iterations of its first outer loop.

    Without its spread, which takes most of the time of `FieldFourDVar`.

    Args:
        start: what gives the first guess.
        climatology: whose covariance is that of the start and of the model's errors.
        truth: windows `(sample, time, y, x)`.
        obs: of these windows.
        scale: the field's spread.
        at_once: windows that are reconstructed together.
    """
    gyre, squares = as_system(QuasiGeostrophic(cells=truth.sizes["y"]), slopes=True), Counter()

    def tensor(array: xr.DataArray) -> torch.Tensor:
        return torch.from_numpy(array.values).flatten(-2).to(climatology.mean)

    for begin in range(0, truth.sizes["sample"], at_once):
        some = {"sample": slice(begin, begin + at_once)}
        value, noise_std = tensor(obs["value"].isel(some)), float(obs["noise_std"])
        observations = Observations(value, torch.full_like(value, noise_std))
        first = tensor(start.assimilate(obs.isel(some))["mean"])[:, :1]
        for n in ITERATIONS:
            solver = partial(Truncated, iterations=n)
            prior = FieldPhysics(lambda x, t: gyre.step(x, DT), climatology, MODEL_ERROR, solver)
            x = prior.forecast(prior.held(first), STEPS)
            (posterior,) = incremental(prior, [0.0], observations, Gaussian.flat(x), prior.update)
            squares[n] += float((posterior.estimate - tensor(truth.isel(some))).double().square().mean((-2, -1)).sum())
    return {str(n): float(f"{s / truth.sizes['sample'] / scale**2:.4g}") for n, s in squares.items()}


def measure(samples: int, folder: Path) -> dict[str, Any]:
    """Everything, of so many windows; 16 of them for methods that run the model."""
    neural = NeuralIncremental.pretrained("ocean")
    labels, own = neural.labels, neural.prior.climatology
    scale = float(own.spread.square().mean().sqrt())
    weights = (Path(pretrained.__file__).parent / "ocean.safetensors").read_bytes()
    found = Kept(folder, "ocean", {"weights": f"{zlib.crc32(weights):08x}", "windows": samples})
    found.row("spread", make=lambda: float(f"{scale:.6g}"))
    tried = found.row("interpolation, mean error on validation windows", make=lambda: interpolation(scale))
    fitted = cache(lambda: fit(min(tried, key=tried.get)))
    truth = windows(TEST, max(1, samples // 8))
    few = {"sample": slice(0, None, math.ceil(truth.sizes["sample"] / 16))}
    cases = {law: observed(truth, counts, scale, seed=TEST + 1 + k) for k, (law, counts) in enumerate(LAWS.items())}

    def rows(name: str, made: Callable[[], Method], all_windows: bool, title: str | None = None) -> None:
        method = cache(made)  # none is made whose rows are all there
        for law, obs in cases.items():
            some = {"sample": slice(0, None, 4 if "swath" in law else 1)} if all_windows else few
            at_once = 10 if all_windows else 16
            given = truth.isel(some), obs.isel(some), scale, at_once
            found.row("laws", law, title or name, make=lambda given=given: scored(method(), *given))
        if title is None:
            found.row("two layers", name, make=lambda: simplified(method(), scale))
            found.row("memory of four windows, GB", name, make=lambda: memory(method(), next(iter(cases.values()))))

    cheap: dict[str, Callable[[], Method]] = {
        "climatology": lambda: ClimatologicalForecast(fitted().climatology, labels, DT),
        "optimal interpolation": fitted,
        "first guess of NIDA": lambda: OptimalInterpolation(own, labels, DT),
        "NIDA": lambda: neural,
    }
    for name, method in cheap.items():
        rows(name, method, all_windows=True)
    for name in ("optimal interpolation", "NIDA"):
        rows(name, cheap[name], all_windows=False, title=f"{name}, on those windows")
    found.row("finer", make=lambda: finer(scale))
    found.row("scales", make=lambda: scales(neural, fitted()))
    rows("NIDA, one temperature", lambda: neural.with_temperatures(1), all_windows=False)
    for name, made in running(fitted, neural).items():
        rows(name, made, all_windows=False)
    rows("localised ensemble of 400 past windows", lambda: localised(labels), all_windows=False)

    def descent(start: Callable[[], Method], obs: xr.Dataset) -> dict[str, float]:
        return along_the_descent(start(), fitted().climatology, truth.isel(few), obs.isel(few), scale)

    for law, obs in cases.items():
        for name in ("optimal interpolation", "NIDA"):
            found.row("4D-Var, by iterations", law, f"from {name}", make=partial(descent, cheap[name], obs))
    rows("regression", regression, all_windows=True)
    return found.found


def finer(scale: float, trajectories: int = 4, each: int = 4) -> dict[str, Any]:
    """The same prior on 129 x 129 points, 300 of which are seen, without retraining."""
    cells = 2 * CELLS - 1
    truth = windows(TEST, each, trajectories, cells)
    obs = observed(truth, {"tracks": (300, 300)}, scale, seed=TEST + 9)
    labels = QuasiGeostrophic(cells=cells).labels
    neural = NeuralIncremental.pretrained("ocean", labels=labels)
    methods = {"optimal interpolation": OptimalInterpolation(neural.prior.climatology, labels, DT), "NIDA": neural}
    return {name: scored(method, truth, obs, scale, at_once=2) for name, method in methods.items()}


def simplified(method: Method, scale: float, trajectories: int = 4, each: int = 4) -> dict[str, Any]:
    """The truth has two layers that move; the method knows the one-layer model, or a past that it made."""
    truth = two_layers(trajectories, each)
    obs = observed(truth, LAWS["tracks, 75 a step"], scale, seed=TEST + 30)
    return scored(method, truth, obs, scale, at_once=16)


@cache
def two_layers(trajectories: int, each: int) -> xr.DataArray:
    """So many windows of each trajectory of the upper layer, 20 steps apart."""
    truth_of = TwoLayerQuasiGeostrophic(upper=QuasiGeostrophic(cells=CELLS, wind=3 * math.pi))
    run = OnAttractor(truth_of, 2000.0).simulate(trajectories, 20 * each, DT, seed=TEST, dtype=torch.float32)
    upper = run.sel(layer=1, drop=True).astype(float)
    return xr.concat(
        [
            upper.isel(time=slice(begin, begin + STEPS)).assign_coords(time=DT * np.arange(STEPS))
            for begin in range(0, 20 * each, 20)
        ],
        "sample",
    ).transpose("sample", "time", "y", "x")


SETUPS = {
    "whole field every 5 steps": (5, {"random": (CELLS**2, CELLS**2)}),
    "tracks every 5 steps": (5, {"lines": (2 * CELLS, 2 * CELLS)}),
    "tracks every 20 steps": (20, {"lines": (2 * CELLS, 2 * CELLS)}),
}
"""As in the quasi-geostrophic data challenge of the ocean community; its step is taken as one time unit here."""


def scales(neural: Method, fitted: Method, steps: int = 100) -> dict[str, Any]:
    """mu, sigma and the scales that maps resolve, of one long record."""
    truth = labelled(records(1, steps, TEST + 1)).isel(sample=0)
    scale = float(truth.std())
    found: dict[str, Any] = {}
    for k, (setup, (every, counts)) in enumerate(SETUPS.items()):
        obs = observed(truth.expand_dims("sample"), counts, scale, seed=TEST + 20 + k).isel(sample=0)
        kept = np.arange(steps) % max(1, round(every / DT)) == 0
        obs["value"] = obs["value"].where(xr.DataArray(kept, dims="time"))
        found[setup] = {}
        for name, method in {"optimal interpolation": fitted, "NIDA": neural}.items():
            result = Cycled(method, window=STEPS, overlap=STEPS // 2).assimilate(obs)
            score = evaluate.resolved_scales(result["mean"], truth)
            found[setup][name] = {k: float(f"{float(v):.4g}") for k, v in score.data_vars.items() if v.ndim == 0}
            print(setup, name, found[setup][name], flush=True)
    return found


if __name__ == "__main__":
    command("ocean", measure, samples=200)
