"""What a reference experiment consists of."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import xarray as xr

from nida_kit.observe import observe
from nida_kit.simulate import System


@dataclass(frozen=True)
class Setup:
    """Windows of a system and the law that observes them.

    Attributes:
        name: as `load` takes it.
        system: the dynamics.
        steps: T.
        dt: time step.
        model_noise_std: per step and component, state units.
        noise_std: of the observations, in units of `noise_unit`.
        noise_unit: "state", or "spread": the climatological standard deviation at each time and component.
        law: what `nk.observe` is told besides.
        source: paper, with its identifier.
        published: scores, with what they measure.
    """

    name: str
    system: System
    steps: int
    dt: float
    model_noise_std: float
    noise_std: float
    noise_unit: str
    law: dict[str, Any]
    source: str
    published: dict[str, Any] = field(default_factory=dict)

    def windows(self, samples: int, seed: int = 0) -> xr.DataArray:
        """True trajectories `(sample, time, component)`."""
        truth = self.system.simulate(samples, self.steps, self.dt, model_noise_std=self.model_noise_std, seed=seed)
        return truth.assign_attrs(setup=self.name, source=self.source)

    @cached_property
    def spread(self) -> xr.DataArray:
        """Climatological standard deviation at each time and component, from 10,000 windows of their own seed."""
        return self.windows(10_000, seed=2**31 - 1).std("sample")

    def observe(self, truth: xr.DataArray, seed: int = 0) -> xr.Dataset:
        """Observations under the experiment's law."""
        noise_std = self.noise_std * (self.spread if self.noise_unit == "spread" else 1.0)
        return observe(truth, noise_std=noise_std, seed=seed, **self.law)

    def score(self, estimate: xr.DataArray, truth: xr.DataArray) -> float:
        """Mean squared error over everything, each component in units of its spread at that time."""
        return float((((estimate - truth) / self.spread) ** 2).mean())
