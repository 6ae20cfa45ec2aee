"""Reference experiments of windows: a system, how long and how its windows are observed, and scores on record.

Errors are counted in units of the climatological standard deviation of each component at each time of the window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter
from typing import Any

import xarray as xr

from nida_kit import checks, html
from nida_kit.evaluate import gaussian_scores, mse
from nida_kit.methods.method import Method
from nida_kit.observing.observe import observe
from nida_kit.reference.score import Score
from nida_kit.systems.system import System

_USUAL = (0.005, 0.995)  # shares of the past


def in_state_units(spread: xr.DataArray) -> float:
    """A unit of noise: those of the state."""
    return 1.0


def in_spreads(spread: xr.DataArray) -> xr.DataArray:
    """A unit of noise: the climatological standard deviation at each time and component."""
    return spread


@dataclass(frozen=True)
class Setup:
    """Windows of a system and the law that observes them.

    Attributes:
        name: as `load` takes it.
        system: the dynamics.
        steps: T.
        dt: time step.
        model_noise_std: per step and component, state units.
        noise_std: of the observations, in units of `noise_unit(spread)`.
        noise_unit: `in_state_units`, `in_spreads`, or any other function of the climatological spread.
        law: what `nk.observe` is told besides; labs need `components` and `every` there.
        source: paper, with its identifier.
        published: scores on record, by method.
        climate: windows behind `spread` and `usual`.
    """

    name: str
    system: System
    steps: int
    dt: float
    model_noise_std: float
    noise_std: float
    noise_unit: Callable[[xr.DataArray], xr.DataArray | float]
    law: dict[str, Any]
    source: str
    published: dict[str, Score] = field(default_factory=dict)
    climate: int = 10_000

    def __post_init__(self):
        for name, least in (("steps", 1), ("climate", 2)):
            checks.store(self, **{name: checks.count(name, getattr(self, name), least)})
        for name in ("dt", "noise_std"):
            checks.store(self, **{name: checks.positive(name, getattr(self, name))})
        checks.store(self, model_noise_std=checks.number("model_noise_std", self.model_noise_std))

    def _repr_html_(self) -> str:
        about = {
            "system": f"{self.system.name}: {html.state(self.system.labels)}",
            "window": f"{self.steps} steps of {self.dt:g}",
            "observed": ", ".join(f"{name} {value}" for name, value in self.law.items()),
            "model noise": self.model_noise_std,
            "methods on record": "; ".join(self.published) or None,
            "source": self.source,
        }
        return html.card(f"Setup {self.name}", about)

    def windows(self, samples: int, seed: int = 0) -> xr.DataArray:
        """True trajectories `(sample, time, component)`."""
        samples, noise = checks.count("samples", samples, 1), self.model_noise_std
        truth = self.system.simulate(samples, self.steps, self.dt, model_noise_std=noise, seed=checks.seed(seed))
        return truth.assign_attrs(setup=self.name, source=self.source)

    @cached_property
    def _climatology(self) -> tuple[xr.DataArray, xr.DataArray]:
        past = self.windows(self.climate, seed=2**31 - 1)
        return past.std("sample"), past.quantile(_USUAL, ("sample", "time")).rename(quantile="end")

    @property
    def spread(self) -> xr.DataArray:
        """Climatological standard deviation at each time and component, from windows of their own seed."""
        return self._climatology[0]

    @property
    def usual(self) -> xr.DataArray:
        """Between which values each component lies for 99% of these windows' times, `(end, component)`.

        >>> import nida_kit as nk
        >>> nk.setups.load("blanke2024-pendulum").usual.dims
        ('end', 'component')
        """
        return self._climatology[1]

    @property
    def noise(self) -> xr.DataArray | float:
        """The observations' noise_std in state units."""
        return self.noise_std * self.noise_unit(self.spread)

    def observe(self, truth: xr.DataArray, seed: int = 0) -> xr.Dataset:
        """Observations under the experiment's law."""
        return observe(truth, noise_std=self.noise, seed=seed, **self.law)

    def run(self, method: Method, samples: int | None = None, seed: int = 0, cycles: None = None) -> dict[str, float]:
        """`scores` of a method on `samples` windows or 100, and the `seconds` that it took."""
        if cycles is not None:
            raise ValueError(f"{cycles=}: {self.name} has windows of {self.steps} steps, and no cycles.")
        seed = checks.seed(seed)
        truth = self.windows(100 if samples is None else samples, seed)
        obs, began = self.observe(truth, seed + 1), perf_counter()
        result = method.assimilate(obs)
        return self.scores(result, truth) | {"seconds": perf_counter() - began}

    def score(self, estimate: xr.DataArray, truth: xr.DataArray) -> float:
        """Mean squared error over everything, each component in units of its spread at that time; NaN if any is.

        Raises:
            ValueError: estimate, truth and the experiment's windows differ in their dims or coordinates.
        """
        return float(mse(self._in_spreads(estimate), self._in_spreads(truth)))

    def scores(self, result: xr.Dataset, truth: xr.DataArray) -> dict[str, float]:
        """`evaluate.gaussian_scores` of `mean` and `std`, each component in units of its spread at that time.

        Raises:
            ValueError: as `score`.
        """
        return gaussian_scores(*(self._in_spreads(x) for x in (result["mean"], result["std"], truth)))

    def _in_spreads(self, x: xr.DataArray) -> xr.DataArray:
        if not isinstance(x, xr.DataArray) or not set(self.spread.dims) <= set(x.dims):
            got = f"an array with the dims {x.dims}" if isinstance(x, xr.DataArray) else f"a {type(x).__name__}"
            raise ValueError(f"Scores compare xr.DataArrays (..., time, component), not {got}: pass result['mean'].")
        try:
            with xr.set_options(arithmetic_join="exact"):
                return x / self.spread
        except ValueError as error:
            raise ValueError(
                f"These are no whole windows of {self.name}, {self.steps} steps of {self.dt}: make them by "
                f".windows(), or use nk.mse for others. {error}"
            ) from error
