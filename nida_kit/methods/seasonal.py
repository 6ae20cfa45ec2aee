"""A method that works on anomalies, around which the season is taken off and put on again."""

from __future__ import annotations

import torch
import xarray as xr

from nida_kit import checks
from nida_kit.edge import NEXT, fold, in_state_units, in_units_of
from nida_kit.methods.compose import Composed
from nida_kit.methods.method import Method
from nida_kit.observing.operators import Operator, OverWindow, identity, is_linear, takes_time
from nida_kit.record import Season
from nida_kit.state import TIME

STATES = ("mean", "first_guess", "forecast", "analysis", "draws")


class Seasonal(Composed):
    """A method of anomalies for observations with their season (`nk.Season`), dated.

    >>> import nida_kit as nk, numpy as np, xarray as xr
    >>> time, random = xr.date_range("1990-01-01", periods=240, freq="MS"), np.random.default_rng(0)
    >>> noise = np.convolve(random.normal(size=250), np.ones(6) / 6)[5:245]
    >>> sst = 20 + 5 * np.cos(2 * np.pi * np.arange(240) / 12) + noise
    >>> record = xr.DataArray(sst[:, None], {"time": time, "component": ["sst"]}, ("time", "component"))
    >>> season = nk.Season.fit(record, by="month")
    >>> past = nk.windows(season.anomalies(record), steps=12)
    >>> method = nk.Seasonal(nk.OptimalInterpolation.fit(past), season)
    >>> obs = xr.Dataset({"value": record[40:52].where(np.arange(12)[:, None] % 3 == 0), "noise_std": 0.1})
    >>> method.assimilate(obs)["mean"].dims
    ('time', 'component')

    Behind a callable operator the method sees whole windows, as with `nk.over_window`: the season has its time in them.

    Args:
        method: fitted to, or trained on, anomalies.
        season: of the same state.
    """

    def __init__(self, method: Method, season: Season):
        checks.instance(
            "method", method, Method, "a method of anomalies", "Try nk.OptimalInterpolation.fit(anomalies)."
        )
        checks.instance("season", season, Season, "an nk.Season", "Try nk.Season.fit(record, by='month').")
        own = {dim: tuple(season.coefficients[dim].values.tolist()) for dim in season.coefficients.dims[1:]}
        if own != method.labels.indexes:
            raise ValueError(f"The season is of {own}, the method of {method.labels.indexes}: fit both to one record.")
        self.season = season
        super().__init__([method], method.settings | {"season": season.by, "of": type(method).__name__})

    def eagerly(self, obs, first_guess, operator, **how):
        obs = in_state_units(obs, self.labels) if operator is identity else obs
        season = in_units_of(self.labels, self.season.at(obs[TIME]), "the season")
        if operator is identity:
            obs = obs.assign(value=obs["value"] - _like(season, obs["value"]))
        else:
            obs, operator = self._through(obs, season, operator)
        if first_guess is not None:
            first_guess = in_units_of(self.labels, first_guess, "first_guess") - season
        result = self.methods[0].eagerly(obs, first_guess, operator, **how)
        result = result.drop_vars([name for name in NEXT if name in result])  # of an anomaly, and nobody goes on here
        whole = {name: (result[name] + season).transpose(*result[name].dims) for name in STATES if name in result}
        result = result.assign({name: x.assign_attrs(result[name].attrs) for name, x in whole.items()})
        return result.assign_attrs(method=type(self).__name__, **self.settings)

    def _through(self, obs: xr.Dataset, season: xr.DataArray, operator: Operator) -> tuple[xr.Dataset, Operator]:
        """Observations and operator of anomalies, h(season + x)."""
        s = fold(torch.from_numpy(season.transpose(TIME, *self.labels.dims).values), self.labels.shape)
        if is_linear(operator):
            seen = xr.DataArray(operator(s).numpy(), {TIME: obs[TIME]}, (TIME, "component"))
            return obs.assign(value=obs["value"] - seen.assign_coords(component=obs["component"])), operator
        function = operator.function if isinstance(operator, OverWindow) else operator
        if takes_time(operator):
            return obs, OverWindow(lambda x, t: function(x + s.to(x), t))
        return obs, OverWindow(lambda x: function(x + s.to(x)))

    def reconstruct(self, observations, dt, first_guess):
        raise ValueError(
            "nk.Seasonal needs the dates, which only the outermost method has: nk.Seasonal(nk.Chain(...), season)."
        )


def _like(season: xr.DataArray, value: xr.DataArray) -> xr.DataArray:
    """The season of what was observed; what the state does not have is refused later, by name."""
    along = {dim: value[dim] for dim in season.dims if dim != TIME and dim in value.coords}
    return season.reindex(along, fill_value=0.0).drop_vars([c for c in season.coords if c not in season.dims])
