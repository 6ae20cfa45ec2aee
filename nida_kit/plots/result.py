"""A result of any state in one figure: what `nk.plot` draws.

Few components are drawn against time, a panel each, with the 90% interval; many, or a field along a line, as images
against time; a field on a plane as maps of the last time (`plane.make_plane`).
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nida_kit.evaluate import BAND
from nida_kit.plots.plane import make_plane, rows_of
from nida_kit.plots.style import UNKNOWN, colour_of_estimate, figure, label_time, numbers_of, pick, styled, with_unit
from nida_kit.state import COMPONENT, TIME, state_dims

_MOST = 6  # components that have a panel each


@styled
def draw(
    result: xr.Dataset, obs: xr.Dataset | None = None, truth: xr.DataArray | None = None, window: int = 0
) -> Figure:
    """Draw one window of a result; arguments and errors are those of `nk.plot`, which calls this."""
    mean = _window(result["mean"], window)
    if obs is not None and COMPONENT not in mean.dims and not set(mean.dims) <= set(obs["value"].dims):
        raise ValueError(
            f"The observations lie along {list(obs['value'].dims)}, between the cells {list(mean.dims)} of the field: "
            "nk.grid(points, method, dt=...) without exact=True puts them into the nearest ones, to be drawn."
        )
    shown = {"mean": mean, "std": _window(result["std"], window) if "std" in result else None}
    shown |= {"value": None if obs is None else _window(obs["value"], window)}
    shown |= {"noise_std": None if obs is None or "noise_std" not in obs else _noise(obs, window)}
    shown |= {"truth": None if truth is None else _window(truth, window)}
    shown = {name: array for name, array in shown.items() if array is not None}
    dims = state_dims(mean)
    if dims == (COMPONENT,) and mean.sizes[COMPONENT] <= _MOST:
        return _lines(shown, colour_of_estimate(result))
    if len(dims) == 1:
        return _images({name: shown[name] for name in shown if name != "noise_std"}, (TIME, dims[0]))
    if len(dims) == 2:
        return _maps({name: shown[name] for name in shown if name != "noise_std"})
    raise ValueError(f"A state along {list(dims)} has no one picture: select a plane, result.isel({dims[0]}=0).")


def _window(array: xr.DataArray, window: int) -> xr.DataArray:
    """One window, at the last step of a trace, as `(time, *state)`."""
    array = array.isel(step=-1, drop=True) if "step" in array.dims else array
    return pick(array, window).transpose(TIME, *state_dims(array)).compute()


def _noise(obs: xr.Dataset, window: int) -> xr.DataArray:
    return _window(obs["noise_std"].broadcast_like(obs["value"]), window)


def _lines(shown: dict[str, xr.DataArray], colour: str) -> Figure:
    """A panel for each component."""
    mean = shown["mean"]
    names, time = mean[COMPONENT].values, numbers_of(mean[TIME])
    fig = figure(rows=len(names), row_height=1.6)
    fig.set_layout_engine("constrained")
    axes = fig.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    for ax, name in zip(axes, names, strict=True):
        column = {key: array.reindex({COMPONENT: names}).sel({COMPONENT: name}) for key, array in shown.items()}
        _panel(ax, time, column, colour)
        unit = str(column["mean"]["units"].values) if "units" in column["mean"].coords else None
        ax.set_ylabel(with_unit(str(name), unit))
    label_time(axes[-1], mean[TIME])
    handles = {text: line for ax in axes for line, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles))
    return fig


def _panel(ax: Axes, time: np.ndarray, column: dict[str, xr.DataArray], colour: str) -> None:
    """One component against time."""
    mean = column["mean"].values
    if "truth" in column:
        truth = column["truth"]
        ax.plot(numbers_of(truth[TIME]), truth, color="black", linestyle="-", linewidth=1.2, label="truth")
    ax.plot(time, mean, color=colour, linestyle="-.", label="reconstruction")
    if "std" in column:
        half = BAND * column["std"].values
        ax.fill_between(time, mean - half, mean + half, color=colour, alpha=0.18, linewidth=0, label="90% interval")
    if "value" in column and column["value"].notnull().any():
        error = column.get("noise_std")
        looks = {"linestyle": "none", "marker": "x", "color": "black", "markersize": 5, "elinewidth": 0.8}
        when = time if column["value"].size == len(time) else numbers_of(column["value"][TIME])
        ax.errorbar(when, column["value"], yerr=error, label="observation", **looks)


_TITLES = {"mean": "reconstruction", "std": "standard deviation", "value": "observed", "truth": "truth"}


def _images(shown: dict[str, xr.DataArray], dims: tuple[str, str]) -> Figure:
    """A panel for each variable, its first dim, time, across."""
    across, up = dims
    fig = figure(rows=1, width=3.4 * len(shown), row_height=2.6)
    fig.set_layout_engine("constrained")
    axes = fig.subplots(1, len(shown), squeeze=False)[0]
    states = np.concatenate([shown[name].values.ravel() for name in shown if name != "std"])
    low, high = np.nanmin(states), np.nanmax(states)
    x, y = _places(shown["mean"][across]), _places(shown["mean"][up])
    for ax, (name, array) in zip(axes, shown.items(), strict=True):
        looks = {} if name == "std" else {"vmin": low, "vmax": high}
        array = array.reindex({dim: shown["mean"][dim] for dim in dims})
        mesh = ax.pcolormesh(x, y, array.transpose(up, across).values, shading="nearest", cmap="cividis", **looks)
        ax.set(title=_TITLES[name], ylabel=_label(shown["mean"][up]), facecolor=UNKNOWN)
        label_time(ax, shown["mean"][TIME])
        ax.grid(False)
        fig.colorbar(mesh, ax=ax)
    return fig


def _maps(shown: dict[str, xr.DataArray]) -> Figure:
    """A field on a plane, at its last time."""
    mean = shown["mean"]
    here = {dim: mean[dim] for dim in mean.dims}
    ds = xr.Dataset({name: array.reindex(here) for name, array in shown.items()})
    fig = figure(rows=rows_of(ds), row_height=2.6)
    make_plane(fig, ds)
    return fig


def _places(coord: xr.DataArray) -> np.ndarray:
    """Where the values of a dim lie in an image: at their numbers, or one after another."""
    if coord.name == TIME:
        return numbers_of(coord)
    return coord.values if coord.dtype.kind in "iuf" else np.arange(coord.size)


def _label(coord: xr.DataArray) -> str:
    return with_unit(str(coord.name), coord.attrs.get("units"))
