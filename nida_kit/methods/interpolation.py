"""Optimal interpolation: the climatology N(mu, C) conditioned on the observations.

    x_hat = mu + C H' (H C H' + R)^-1 (y - H mu)

It is one step of the loop (`loop.py`), exact for Gaussian states and a linear h. Neural methods start there.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import xarray as xr

from nida_kit import checks
from nida_kit.descent import conditioned
from nida_kit.edge import time_step
from nida_kit.gaussian import Gaussian
from nida_kit.loop import incremental
from nida_kit.methods.method import Method
from nida_kit.observing.observations import Observations
from nida_kit.priors.climatology import Climatology
from nida_kit.reconstruction import Reconstruction
from nida_kit.state import COMPONENT, CORE, TIME, StateLabels


class OptimalInterpolation(Method):
    """The climatology conditioned on the observations: one step of the loop, exact for Gaussian states and linear h.

    There is one answer whatever the first guess: the climatology does not look at it.

    Args:
        climatology: mean and covariance of past trajectories.
        labels: the components' names and units.
        dt: the climatology's time step.
    """

    def __init__(self, climatology: Climatology, labels: StateLabels, dt: float):
        advice = "nk.OptimalInterpolation.fit(windows) makes one of past trajectories."
        checks.instance("climatology", climatology, Climatology, "an nk.Climatology", advice)
        self.climatology, self.labels, self.dt = climatology, *check_state(climatology, labels, dt)
        self.settings = {"order": len(climatology.factor) - 1}

    @classmethod
    def fit(cls, windows: xr.DataArray, order: int | None = None) -> OptimalInterpolation:
        """From past trajectories `(sample, time, component)`; order and errors as in `Climatology.fit`."""
        if not isinstance(windows, xr.DataArray) or any(d not in windows.dims or d not in windows.coords for d in CORE):
            raise ValueError("windows is an xr.DataArray with the dims and coordinates time and component.")
        windows = windows.transpose(..., *CORE)
        if windows.ndim == 2 or not np.isfinite(windows.values).all():
            raise ValueError(
                f"windows has the dims {windows.dims}; it needs a leading one, along which there are many windows, and "
                "no NaN or infinite value: drop the windows that have any."
            )
        names = tuple(map(str, windows[COMPONENT].values))
        given = {k: tuple(map(str, windows[k].values)) for k in ("units", "long_name") if k in windows.coords}
        units, long_names = given.get("units", ("1",) * len(names)), given.get("long_name", names)
        labels = StateLabels(names, units, long_names, str(windows[TIME].attrs.get("units", "1")))
        values = torch.from_numpy(windows.values).double()
        return cls(Climatology.fit(values.flatten(0, -3), order), labels, time_step(windows["time"]))

    def doubts(self, observations):
        return outliers(self.climatology, observations)

    def reconstruct(self, observations, dt, first_guess):
        start = self.climatology.over(observations.value.shape[-2])
        if first_guess is not None:
            start = start.at(first_guess)
        posteriors = list(incremental(self.climatology, [1.0], observations, start, conditioned))
        return Reconstruction(posteriors, [math.nan], start.mean)


class ClimatologicalForecast(OptimalInterpolation):
    """The climatology alone, whatever was observed: what every method should beat."""

    fits = False

    def reconstruct(self, observations, dt, first_guess):
        alone = self.climatology.over(observations.value.shape[-2])
        return Reconstruction([alone], [math.nan], alone.mean)


def first_guess_of(climatology: Climatology, observations: Observations) -> Gaussian:
    """x_0: the climatology's optimal interpolation, where neural priors start."""
    start = climatology.over(observations.value.shape[-2])
    return next(incremental(climatology, [1.0], observations, start, conditioned))


def outliers(climatology: Climatology, observations: Observations) -> list[str]:
    """What to say of values far outside what ever occurs: most often fill values, or in another unit."""
    if not observations.direct:
        return []
    away = (observations.value - climatology.mean[-1]).abs() / (climatology.spread + observations.noise_std)
    far = observations.value[away > 10]
    if not far.numel():
        return []
    return [
        f"{far.numel()} observed values, {far[0]:g} among them, lie more than 10 standard deviations from the "
        "climatological mean. Are they fill values (make them NaN), or in another unit?"
    ]


def check_state(climatology: Climatology, labels: StateLabels, dt: float) -> tuple[StateLabels, float]:
    """Labels and time step of the climatology's trajectories."""
    checks.instance("labels", labels, StateLabels, "nk.StateLabels", "Try those of a system, nk.Lorenz63().labels.")
    n = climatology.mean.shape[-1]
    if len(labels.components) != n:
        raise ValueError(
            f"The climatology has {n} components, the labels name {list(labels.components)}: give the labels of the "
            "trajectories that it was fitted to."
        )
    return labels, checks.positive("dt", dt)
