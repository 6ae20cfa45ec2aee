"""One pure function behind every lab and notebook: parameters in, an `xr.Dataset` out.

>>> ds = run(Parameters(samples=2, temperatures=3))
>>> [name for name in ds.data_vars if "step" in ds[name].dims]
['mean', 'std', 'step_rmse', 'component_rmse', 'step_coverage', 'before', 'before_rmse']
>>> ds.sizes["step"]
3
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import xarray as xr

from nida_kit import checks, setups
from nida_kit.evaluate import coverage, rmse
from nida_kit.methods.compose import Chain
from nida_kit.methods.enkf import EnKF, EnKS
from nida_kit.methods.ienks import IEnKS
from nida_kit.methods.interpolation import OptimalInterpolation
from nida_kit.methods.letkf import LETKF
from nida_kit.methods.method import Method
from nida_kit.methods.neural import NeuralIncremental
from nida_kit.methods.particle_filter import ParticleFilter
from nida_kit.methods.weak import WeakFourDVar
from nida_kit.notes import quiet
from nida_kit.observing.observe import observe
from nida_kit.priors.weights import shipped
from nida_kit.schedule import SCHEDULES
from nida_kit.state import COMPONENT
from nida_kit.systems.system import System

SETUPS = {"lorenz63": "blanke2024-lorenz63", "pendulum": "blanke2024-pendulum", "lorenz96": "half-lorenz96"}
LARGE = 3  # a state of more components is shown as images


@dataclass(frozen=True)
class Parameters:
    """Of one experiment.

    Attributes:
        system: one of `SETUPS`, by its reference experiment; if a shipped prior has the same name, networks serve it.
        method: one of `methods_of` the system.
        beside: more of them, to compare with.
        temperatures: steps of the neural prior.
        schedule: how they fall, one of `SCHEDULES`.
        components: observed; None is what the reference experiment observes.
        every: steps between observations; None as above.
        noise_std: of the observations, relative to each component's climatological spread.
        members: of ensembles.
        inflation: of ensembles, on the deviations after each analysis.
        radius: of the LETKF's localisation, in sites.
        particles: of the particle filter.
        steps: length of the window; None as above.
        samples: windows.
        seed: of trajectories and observations.
    """

    system: str = "lorenz63"
    method: str = "neural"
    beside: tuple[str, ...] = ()
    temperatures: int = 4
    schedule: str = "linear"
    components: tuple[str, ...] | None = None
    every: int | None = None
    noise_std: float = 0.05
    members: int = 20
    inflation: float = 1.02
    radius: float = 4.0
    particles: int = 1000
    steps: int | None = None
    samples: int = 1
    seed: int = 4  # a window of usual difficulty in both systems

    def __post_init__(self):
        for name, allowed in (("system", SETUPS), ("schedule", SCHEDULES)):
            checks.store(self, **{name: checks.one_of(name, getattr(self, name), allowed)})
        self._check_methods()
        for name, least in (("temperatures", 1), ("samples", 1), ("members", 2), ("particles", 2)):
            checks.store(self, **{name: checks.count(name, getattr(self, name), least)})
        for name in ("noise_std", "inflation", "radius"):
            checks.store(self, **{name: checks.positive(name, getattr(self, name))})
        for name in ("every", "steps"):
            if getattr(self, name) is not None:
                checks.store(self, **{name: checks.count(name, getattr(self, name), 1)})
        if self.components is not None:
            checks.store(self, components=checks.names("components", self.components))
        checks.store(self, seed=checks.seed(self.seed))

    def _check_methods(self) -> None:
        """The method and those beside it serve the system, and none is named twice."""
        serve = methods_of(self.system)
        advice = f"These are the methods that serve {self.system}."
        method = checks.one_of("method", self.method, serve, advice)
        beside = tuple(checks.one_of("beside", each, serve, advice) for each in checks.names("beside", self.beside))
        if len({method, *beside}) < 1 + len(beside):
            raise ValueError(f"{method=}, {beside=} name a method twice: name each once.")
        checks.store(self, method=method, beside=beside)


@lru_cache(maxsize=4)
def _setup(system: str) -> setups.Setup:
    return setups.load(SETUPS[system])


@lru_cache(maxsize=16)
def _truth(system: str, samples: int, steps: int | None, seed: int) -> xr.DataArray:
    setup = _setup(system)
    return setup.system.simulate(
        samples, steps or setup.steps, setup.dt, model_noise_std=setup.model_noise_std, seed=seed
    )


@lru_cache(maxsize=4)
def _neural(system: str) -> NeuralIncremental:
    return NeuralIncremental.pretrained(system)


def _neural_method(p: Parameters) -> Method:
    return _neural(p.system).with_temperatures(p.temperatures, SCHEDULES[p.schedule])


@lru_cache(maxsize=4)
def _interpolation_of(system: str) -> OptimalInterpolation:
    if system in shipped():
        neural = _neural(system)
        return OptimalInterpolation(neural.prior.climatology, neural.labels, neural.dt)
    setup = _setup(system)
    return OptimalInterpolation.fit(setup.windows(setup.climate, seed=2**31 - 1), order=1)


def _interpolation(p: Parameters) -> Method:
    return _interpolation_of(p.system)


@lru_cache(maxsize=4)
def _physics(system: str) -> WeakFourDVar:
    setup = _setup(system)
    # A noise-free system has no weak constraint; 1 percent of the spread per step stands for one.
    return WeakFourDVar(setup.system, setup.model_noise_std or 0.01 * float(setup.spread.mean()))


def _four_d_var(p: Parameters) -> Method:
    return _physics(p.system)


def _hybrid(p: Parameters) -> Method:
    return Chain([_neural_method(p), _four_d_var(p)])


def _model(p: Parameters) -> tuple[System, float]:
    """A system and its noise, as ensemble methods take them."""
    return _setup(p.system).system, _setup(p.system).model_noise_std


def _enkf(p: Parameters) -> Method:
    return EnKF(*_model(p), members=p.members, inflation=p.inflation)


def _enks(p: Parameters) -> Method:
    return EnKS(*_model(p), members=p.members, inflation=p.inflation)


def _ienks(p: Parameters) -> Method:
    return IEnKS(_setup(p.system).system, members=p.members, inflation=p.inflation)


def _letkf(p: Parameters) -> Method:
    return LETKF(*_model(p), members=p.members, inflation=p.inflation, radius=p.radius)


def _particle_filter(p: Parameters) -> Method:
    return ParticleFilter(*_model(p), particles=p.particles)


METHODS: dict[str, Callable[[Parameters], Method]] = {
    "neural": _neural_method,
    "optimal interpolation": _interpolation,
    "4D-Var": _four_d_var,
    "neural + 4D-Var": _hybrid,
    "EnKF": _enkf,
    "EnKS": _enks,
    "iEnKS": _ienks,
    "LETKF": _letkf,
    "particle filter": _particle_filter,
}


def methods_of(system: str) -> list[str]:
    """Those that serve a system: networks are trained for one, and only sites on a ring have places to localise by."""
    without = set() if system in shipped() else {"neural", "neural + 4D-Var"}
    without |= set() if system == "lorenz96" else {"LETKF"}
    return [name for name in METHODS if name not in without]


SETTINGS = ("temperatures", "schedule", "members", "inflation", "radius", "particles")


@lru_cache(maxsize=32)
def settings_of(system: str, method: str) -> frozenset[str]:
    """Which of the `SETTINGS` make a difference to a method: those that its line in `METHODS` reads.

    >>> sorted(settings_of("lorenz63", "EnKF"))
    ['inflation', 'members']
    """
    read = set()

    class Noted(Parameters):
        def __getattribute__(self, name):
            read.add(name)
            return super().__getattribute__(name)

    parameters = Noted(system=system, method=method)
    read.clear()  # of what was read to check them
    METHODS[method](parameters)
    return frozenset(read & set(SETTINGS))


def run(parameters: Parameters) -> xr.Dataset:
    """Simulate, observe, reconstruct. Methods that take a first guess start from the optimal interpolation.

    Returns:
        `truth`, `value`, `noise_std`, `first_guess`, the `usual` range of the climatology, and `mean`, `std`,
        `step_rmse`, the same by component as `component_rmse`, and `step_coverage` (of the 90% interval) along `step`
        with the coordinate `temperature`, beside the estimate that each step began with, `before`, and its
        `before_rmse`; if asked, `beside` and `beside_rmse` along `other`; in `attrs` the method's records,
        `first_guess_rmse`, the last step's `rmse` and `coverage_90`, and how many values
        were `observed`. Root mean squared errors are in climatological standard deviations.

    Raises:
        ValueError: parameters out of range, or components that the system has not.
    """
    setup = _setup(parameters.system)
    truth = _truth(parameters.system, parameters.samples, parameters.steps, parameters.seed)
    law = setup.law | {"offset": 0}
    law |= {k: v for k in ("components", "every") if (v := getattr(parameters, k)) is not None}
    unit = setup.spread.mean("time")
    obs = observe(truth, noise_std=parameters.noise_std * unit, seed=parameters.seed, **law)
    first_guess = _interpolation(parameters).assimilate(obs)["mean"]
    result = METHODS[parameters.method](parameters).assimilate(obs, first_guess, trace=True)
    scaled = truth / unit

    def errors(estimate: xr.DataArray, over: Sequence[Hashable] = truth.dims) -> xr.DataArray:
        return rmse(estimate / unit, scaled, dim=over)

    step_rmse = errors(result["mean"])
    step_coverage = coverage(result["mean"], result["std"], truth, dim=truth.dims)
    scores = {
        "rmse": float(step_rmse[-1]),
        "first_guess_rmse": float(errors(first_guess)),
        "coverage_90": float(step_coverage[-1]),
        "observed": int(obs["value"].notnull().sum()),
    }
    result = result.drop_vars(set(result) - {"mean", "std", "observed", "misfit"}).assign(
        truth=truth,
        value=obs["value"],
        noise_std=obs["noise_std"],
        first_guess=first_guess,
        usual=setup.usual,
        step_rmse=step_rmse,
        component_rmse=errors(result["mean"], [dim for dim in truth.dims if dim != COMPONENT]),
        step_coverage=step_coverage,
        before=result["mean"].shift(step=1).fillna(first_guess).transpose(*result["mean"].dims),
        before_rmse=step_rmse.shift(step=1, fill_value=scores["first_guess_rmse"]),
    )
    if parameters.beside:
        found = [METHODS[name](parameters).assimilate(obs, first_guess)["mean"] for name in parameters.beside]
        beside = xr.concat(found, xr.Variable("other", list(parameters.beside)))
        result = result.assign(beside=beside, beside_rmse=errors(beside))
    return result.assign_attrs(scores)


def ablate_temperature(
    system: str = "lorenz63",
    most: int = 8,
    held: Sequence[float] = (1.0, 0.5, 0.25),
    samples: int = 200,
    seed: int = 0,
) -> xr.Dataset:
    """What lowering the temperature is worth: the error after 1 to `most` steps, with schedules and without.

    Every variant reconstructs the same windows with the same prior, which was trained with varying temperatures.
    Holding s fixes both uses of it: the network's input, and the blend of first guess and estimate that it sees. So at
    s = 1 every step sees x_0; only the spread of the last posterior is new to it.

    Args:
        system: a shipped prior and its reference experiment, one of `SETUPS`.
        most: steps.
        held: temperatures that are kept fixed through all steps instead.
        samples: windows of the reference experiment.
        seed: of trajectories; of observations, one more.

    Returns:
        `mse (variant, steps)` and `first_guess_mse`, in climatological variances.

    Raises:
        ValueError: an unknown system, sizes below 1, or temperatures outside [0, 1].
    """
    p = Parameters(system=system, temperatures=most, samples=samples, seed=seed)
    held = [checks.share("held", s) for s in checks.several("held", held)]
    setup, method = _setup(p.system), _neural(p.system)
    truth = setup.windows(p.samples, p.seed)
    obs = setup.observe(truth, p.seed + 1)

    def errors(temperatures: Sequence[float]) -> list[float]:
        with quiet():  # that some are poor is what is measured
            found = method.with_temperatures(temperatures).assimilate(obs, trace=True)["mean"]
        return [setup.score(found.isel(step=k), truth) for k in range(len(temperatures))]

    mse = {name: [errors(falls(k))[-1] for k in range(1, p.temperatures + 1)] for name, falls in SCHEDULES.items()}
    # Held fixed, the first k of many steps are k steps.
    mse |= {f"s = {s:g} held": errors([s] * p.temperatures) for s in held}
    first_guess = _interpolation(p).assimilate(obs)["mean"]
    return xr.Dataset(
        {"mse": (("variant", "steps"), list(mse.values())), "first_guess_mse": setup.score(first_guess, truth)},
        {"variant": list(mse), "steps": range(1, p.temperatures + 1)},
        {"system": p.system, "samples": p.samples, "seed": p.seed},
    )
