"""Forecasts: a window is made longer by steps at which nothing is observed, and any method goes on through them."""

from __future__ import annotations

import numpy as np
import xarray as xr

from nida_kit import checks
from nida_kit.dates import later
from nida_kit.edge import check_observations, time_step
from nida_kit.state import OTHER, TIME


def extend(obs: xr.Dataset, steps: int) -> xr.Dataset:
    """Observations with further time steps at the end, at which nothing was measured: there, a method forecasts.

    >>> import nida_kit as nk
    >>> system = nk.LinearOscillator()
    >>> truth = system.simulate(samples=1, steps=9, dt=0.1, seed=0)
    >>> obs = nk.observe(truth, every=2, noise_std=0.1, seed=1)
    >>> result = nk.KalmanSmoother(system, model_noise_std=0.05).assimilate(nk.extend(obs, steps=20))
    >>> spread = result["std"].isel(sample=0).mean("component")
    >>> bool(spread.isel(time=-1) > 2 * spread.isel(time=8))
    True

    Args:
        obs: `value` and `noise_std` or `noise_covariance`, at evenly spaced times.
        steps: how many more; their times go on evenly, those of monthly dates by the calendar.

    Returns:
        The same, longer along time; what is new in variables along time is NaN.

    Raises:
        ValueError: no observations, or times that are not even.
    """
    steps = checks.count("steps", steps, 1)
    check_observations(obs)
    time_step(obs[TIME])
    times = np.concatenate([obs[TIME].values, later(obs[TIME], steps).values])
    along = {dim: times for dim in (TIME, OTHER + TIME) if dim in obs.dims}
    longer = obs.reindex(along)
    longer[TIME].attrs = dict(obs[TIME].attrs)
    return longer.chunk({dim: -1 for dim in along}) if obs.chunks else longer
