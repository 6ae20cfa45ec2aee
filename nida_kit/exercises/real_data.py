"""Exercises of notebook 11: a buoy is withheld, and says how good a map is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from nida_kit.exercises.verdict import NotYet, exercise, tried

PLACE = {"latitude": 0.0, "longitude": 220.0}  # the buoy that is withheld
OFF = 1.5  # K: how much warmer than the other buoys the map of the method below is


@dataclass
class _Method:
    """It says the mean of the values of that time plus `OFF` everywhere, and keeps what it was given."""

    given: list[xr.Dataset] = field(default_factory=list)

    def assimilate(self, obs: xr.Dataset) -> xr.Dataset:
        self.given.append(obs)
        value = obs["value"]
        mean = value.mean(("latitude", "longitude")).fillna(300.0) + OFF
        return xr.Dataset({"mean": mean.broadcast_like(value).transpose(*value.dims), "std": xr.ones_like(value)})


def _observations() -> xr.Dataset:
    """Five months at four places, in K; the buoy misses one month."""
    value = 300 + np.random.default_rng(1).normal(size=(5, 2, 2))
    coords = {"time": np.arange(5), "latitude": [0.0, 5.0], "longitude": [220.0, 250.0]}
    obs = xr.Dataset({"value": (("time", "latitude", "longitude"), value), "noise_std": 0.3}, coords)
    obs["value"][2, 0, 0] = np.nan
    return obs


@exercise
def withheld_rmse(answer: Callable) -> str:
    """A function (method, obs, latitude, longitude) -> root mean squared error at a buoy that the method was not shown.

    obs is a dataset whose `value` is `(time, latitude, longitude)`, NaN where nothing was measured.
    """
    obs, method = _observations(), _Method()
    before = obs.copy(deep=True)
    found = tried(answer, method, obs, PLACE["latitude"], PLACE["longitude"])
    if not method.given:
        raise NotYet("The method was not asked: call method.assimilate with what is left of the observations.")
    if not obs.equals(before):
        raise NotYet(
            "You changed the observations themselves, so the next buoy would be scored without this one. "
            "Work on a copy: obs.assign(value=...)."
        )
    _check_given(method.given[-1], obs)
    if found.size != 1:
        raise NotYet(f"One number is asked for, the error of all months; yours has the shape {found.shape}.")
    estimate = _Method().assimilate(method.given[-1])["mean"]
    _check_error(float(found.reshape(())), (estimate - obs["value"]), obs)
    return "The method never saw this buoy, so you can believe this error (the buoy's own is part of it)."


def _check_given(given: xr.Dataset, obs: xr.Dataset) -> None:
    """What the method was shown: everything but the buoy."""
    if not isinstance(given, xr.Dataset) or "value" not in given:
        raise NotYet("method.assimilate takes a dataset like obs, with other values: obs.assign(value=...).")
    value, all_values = given["value"], obs["value"]
    if value.sizes != all_values.sizes:
        raise NotYet(
            f"The method was given values of the sizes {dict(value.sizes)} instead of "
            f"{dict(all_values.sizes)}. Keep the buoy's place, and put NaN there: value.where(...)."
        )
    here = (all_values["latitude"] == PLACE["latitude"]) & (all_values["longitude"] == PLACE["longitude"])
    if value.where(here).notnull().any():
        raise NotYet(
            "The method was shown the buoy that it is scored on, so it could copy the answer. Hide all of "
            "its values first."
        )
    if not value.where(~here).equals(all_values.where(~here).transpose(*value.dims)):
        lost = int(all_values.where(~here).notnull().sum() - value.where(~here).notnull().sum())
        raise NotYet(
            f"Only that one buoy is to be hidden; {lost} values of others are gone, too. It must be at the "
            "latitude and at the longitude."
            if lost
            else "Values of other buoys were changed."
        )


def _check_error(found: float, error: xr.DataArray, obs: xr.Dataset) -> None:
    """The score, at the hidden values alone."""
    here = error.sel(PLACE)
    right = float((here**2).mean() ** 0.5)
    if np.isnan(found):
        raise NotYet("Your score is NaN: the buoy has missed a month. Take the mean of xarray, which leaves such out.")
    if np.isclose(found, right):
        return
    if np.isclose(found, right**2):
        raise NotYet("That is the mean squared error, in K squared. Take its root.")
    if np.isclose(found, float(np.abs(here).mean())):
        raise NotYet("That is the mean absolute error. Square, take the mean, then the root.")
    if np.isclose(found, abs(float(here.mean()))):
        raise NotYet("That is the mean error: errors of either sign cancel. Square them first.")
    if np.isclose(found, float((error**2).mean() ** 0.5)):
        raise NotYet("That is the error at all buoys, and the method was shown the others. Score the hidden one.")
    if np.isclose(found, float((here**2).sum() / obs.sizes["time"]) ** 0.5):
        raise NotYet("The month that the buoy missed counts as an error of 0 in yours. Divide by the months it has.")
    raise NotYet(
        f"What the method was given is right. The error at the hidden values is {right:.3f}; yours {found:.3f}."
    )
