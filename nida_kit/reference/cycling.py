"""Reference experiments of filters: one long trajectory, observed at regular times, cycle after cycle.

The score of an experiment is the time mean of its root mean squared errors, after a burn-in that does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter

import numpy as np
import xarray as xr

from nida_kit import checks, html
from nida_kit.evaluate import rmse
from nida_kit.methods.method import Method
from nida_kit.methods.sequential import LostTruth
from nida_kit.notes import quiet
from nida_kit.observing.observe import observe
from nida_kit.reference.score import Score
from nida_kit.systems.system import System


@dataclass(frozen=True)
class Cycling:
    """A system, how it is observed, and how long.

    Attributes:
        name: as `load` takes it.
        system: the dynamics, with the start that truth and methods share.
        dt: time step.
        every: steps from one observation to the next; the first state is not observed.
        noise_std: of the observations, in units of what is observed.
        burn_in: time at the beginning that no score counts, in the system's unit.
        source: paper, with its identifier.
        cycles: observed times of one experiment.
        components: which are observed; None is all.
        operator: what is observed of the state, for `nk.observe`; None is the state itself.
        points: which values of true trajectories are observed, a mask for `nk.observe`, made of them and of a random
            generator; None is all.
        model_noise_std: per step and component, state units.
        experiments: how many a score needs, so that chance does not decide it.
        published: scores on record, by method.
    """

    name: str
    system: System
    dt: float
    every: int
    noise_std: float
    burn_in: float
    source: str
    cycles: int = 1000
    components: Sequence[str] | None = None
    operator: Callable | None = None
    points: Callable[[xr.DataArray, np.random.Generator], xr.DataArray] | None = None
    model_noise_std: float = 0.0
    experiments: int = 3
    published: dict[str, Score] = field(default_factory=dict)

    def __post_init__(self):
        for name in ("every", "cycles", "experiments"):
            checks.store(self, **{name: checks.count(name, getattr(self, name), 1)})
        for name in ("dt", "noise_std"):
            checks.store(self, **{name: checks.positive(name, getattr(self, name))})
        for name in ("burn_in", "model_noise_std"):
            checks.store(self, **{name: checks.number(name, getattr(self, name))})

    def _repr_html_(self) -> str:
        about = {
            "system": f"{self.system.name}: {html.state(self.system.labels)}",
            "observed": f"every {self.every} steps of {self.dt:g}, {self.cycles} times",
            "model noise": self.model_noise_std,
            "methods on record": "; ".join(self.published) or None,
            "source": self.source,
        }
        return html.card(f"Setup {self.name}", about)

    def windows(self, samples: int, seed: int = 0, cycles: int | None = None) -> xr.DataArray:
        """True trajectories `(sample, time, component)`, one experiment each, of `cycles` or the setup's own."""
        steps = self.every * (self.cycles if cycles is None else checks.count("cycles", cycles, 1)) + 1
        samples, noise = checks.count("samples", samples, 1), self.model_noise_std
        truth = self.system.simulate(samples, steps, self.dt, model_noise_std=noise, seed=checks.seed(seed))
        return truth.assign_attrs(setup=self.name, source=self.source)

    def observe(self, truth: xr.DataArray, seed: int = 0) -> xr.Dataset:
        """Observations under the experiment's law."""
        seen = self.operator
        if self.points is not None:
            seen = self.points(truth, np.random.default_rng([1, checks.seed(seed)]))  # not the numbers of the errors
        how = {"components": self.components, "operator": seen, "noise_std": self.noise_std}
        return observe(truth, every=self.every, offset=self.every, seed=seed, **how)

    @cached_property
    def states(self) -> np.ndarray:
        """States of the attractor, `(20000, n)`, for climatological means and covariances."""
        x = self.system.simulate(
            100, 200, 5 * self.dt, model_noise_std=self.model_noise_std, seed=2**31 - 1, spinup=500
        )
        return x.values.reshape(-1, self.system.labels.size)

    @property
    def covariance(self) -> np.ndarray:
        """Climatological covariance, `(n, n)`, of one state."""
        return np.cov(self.states.T)

    @cached_property
    def climatological_std(self) -> float:
        """One number for the whole state, a root mean square over its components: the error of the mean of the past."""
        return float(self.states.var(0).mean() ** 0.5)

    def scores(self, result: xr.Dataset, truth: xr.DataArray) -> dict[str, float]:
        """Root mean squared errors over the state, meaned over the observed times after the burn-in and experiments.

        Returns:
            `forecast`, `analysis` and `smoothed`, as far as the method has them; the standard error of each over
            experiments, `forecast_error` and so on, without the chance in the method's own random numbers, which all
            experiments share; the `analysis_median` of the experiments instead of their mean; and the `spread` of the
            analysis, the root of its mean variance.

        Raises:
            ValueError: no observed time is left after the burn-in.
        """
        observed = truth["time"].values[self.every :: self.every]
        counted = {"time": observed[observed > self.burn_in]}
        if not counted["time"].size:
            raise ValueError(f"No observed time is later than the burn-in, {self.burn_in}: run more cycles.")
        smoother = "analysis" in result
        means = {"forecast": result.get("forecast"), "analysis": result["analysis" if smoother else "mean"]}
        means |= {"smoothed": result["mean"]} if smoother else {}
        truth = truth.sel(counted)
        errors = {
            name: rmse(x.sel(counted), truth, self.system.labels.dims).mean("time", skipna=False)
            for name, x in means.items()
            if x is not None
        }
        found = {name: float(error.mean(skipna=False)) for name, error in errors.items()}
        found["analysis_median"] = float(errors["analysis"].median(skipna=False))
        if truth.sizes["sample"] > 1:
            root = truth.sizes["sample"] ** 0.5
            found |= {f"{name}_error": float(error.std("sample", ddof=1)) / root for name, error in errors.items()}
        variance = result["analysis_std" if smoother else "std"].sel(counted) ** 2
        return found | {"spread": float(variance.mean()) ** 0.5}

    def error(self, method: Method, obs: xr.Dataset, truth: xr.DataArray) -> float:
        """RMSE of a method's analysis as in `scores`, in climatological standard deviations; NaN if it loses the truth.

        It gives no warnings: a lost truth shows in the number.

        >>> import nida_kit as nk
        >>> setup = nk.setups.load("sakov2012-lorenz63")
        >>> truth = setup.windows(samples=2, cycles=80)
        >>> ensemble = nk.EnKF(setup.system, members=10, inflation=1.02)
        >>> setup.error(ensemble, setup.observe(truth, seed=1), truth) < 0.2
        True

        Raises:
            ValueError: as `scores` and the method, but for an ensemble whose members have run apart.
        """
        try:
            with quiet():
                result = method.assimilate(obs, operator=self.operator)
        except LostTruth:
            return float("nan")
        return self.scores(result, truth)["analysis"] / self.climatological_std

    def run(
        self, method: Method, samples: int | None = None, seed: int = 0, cycles: int | None = None
    ) -> dict[str, float]:
        """`scores` of a method on `samples` experiments or the setup's own number, and the `seconds` that it took."""
        seed = checks.seed(seed)
        truth = self.windows(self.experiments if samples is None else samples, seed, cycles)
        obs, began = self.observe(truth, seed + 1), perf_counter()
        result = method.assimilate(obs, operator=self.operator)
        return self.scores(result, truth) | {"seconds": perf_counter() - began}
