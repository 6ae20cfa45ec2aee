"""`nk.plot`: matplotlib is imported when something is drawn, not before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

from nida_kit import checks
from nida_kit.edge import COVARIANCE, NOISE, OBS_COMPONENT, in_state_units, in_units_of
from nida_kit.state import TIME, labels_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot(
    result: xr.Dataset, obs: xr.Dataset | None = None, truth: xr.DataArray | None = None, window: int = 0
) -> Figure:
    """A figure of a reconstruction, with what was observed and the truth, if given.

    >>> import nida_kit as nk
    >>> truth = nk.Lorenz63().simulate(samples=2, steps=17, dt=0.05, seed=0)
    >>> obs = nk.observe(truth, components=["x"], every=8, noise_std=0.4, seed=1)
    >>> result = nk.NeuralIncremental.pretrained("lorenz63", temperatures=1).assimilate(obs)
    >>> len(nk.plot(result, obs, truth, window=1).axes)
    3

    Up to six components have a panel each, against time, with the 90% interval of a normal distribution; more, or a
    field along a line, are images against time; a field on a plane is shown at its last time, with its error. Units
    that observations and truth declare are converted to those of the result.

    Args:
        result: what `assimilate` returned.
        obs: what it was given, drawn as crosses with their standard deviation.
        truth: `(..., time, component)`, where it is known.
        window: which one is drawn, counted from 0 over all leading dims.

    Returns:
        The figure: a notebook shows it, `.savefig(path)` writes it.

    Raises:
        ValueError: no result, no such window, no matplotlib, a state of more than two dims, or observations between the
            cells of a field.
    """
    checks.instance("result", result, xr.Dataset, "an xr.Dataset", "It is what method.assimilate(obs) returns.")
    if "mean" not in result or TIME not in result["mean"].dims:
        raise ValueError(f"The result has {list(result.data_vars)}, and no mean along time: pass what assimilate gave.")
    advice = "Pass the observations that assimilate was given."
    checks.instance("obs", obs, xr.Dataset | None, "an xr.Dataset with value", advice)
    if obs is not None and "value" not in obs:
        raise ValueError(f"obs has {list(obs.data_vars)}, and no value. {advice}")
    advice = 'Pass an array with the dims of result["mean"].'
    checks.instance("truth", truth, xr.DataArray | None, "an xr.DataArray", advice)
    window = checks.count("window", window, 0)
    state = labels_of(result["mean"])
    if obs is not None and OBS_COMPONENT not in result.dims:  # behind an operator, values have units of their own
        told = {NOISE, COVARIANCE} & set(obs)
        obs = in_state_units(obs, state) if told else obs.assign(value=in_units_of(state, obs["value"], "obs.value"))
    truth = None if truth is None else in_units_of(state, truth, "truth")
    try:
        from nida_kit.plots.result import draw
    except ModuleNotFoundError as error:
        raise ValueError(f"Figures need {error.name}: pip install 'nida_kit[notebooks]'.") from error
    return draw(result, obs, truth, window)
