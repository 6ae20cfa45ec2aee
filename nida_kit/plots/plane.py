"""A field on a plane, at one time: truth, observations, reconstruction, error and standard deviation as maps; a cut.

One colour bar for each quantity: the state's own, errors around zero, and standard deviations from zero on. Their
limits come from the truth where it is known, over all times of the window, so that the maps of two times or two methods
can be compared. Made once, then updated by setting data alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon

from nida_kit.evaluate import BAND
from nida_kit.plots.field import ends_of, name_axis, places_of
from nida_kit.plots.style import (
    CROSSES,
    LINES,
    UNKNOWN,
    colour_of_estimate,
    numbers_of,
    pick,
    round_bounds,
    styled,
    with_unit,
)
from nida_kit.state import TIME, state_dims

TRUTH, SEEN, MEAN, ERROR, STD = "truth", "observations", "reconstruction", "error", "standard deviation"
_STATES = (TRUTH, SEEN, MEAN)  # which share one bar
_LOOKS = {ERROR: "RdBu_r", STD: "magma"}  # of the others' colours; all of these can be told apart by everyone
_COLUMNS = 3
_RARE = 0.003  # the share of values beyond the colours at either end: few strong eddies leave the others their shades
Point = Mapping[Hashable, float]


@dataclass(frozen=True)
class Plane:
    """What `make_plane` drew and `update_plane` sets anew.

    Attributes:
        figure: that they live in.
        images: by panel, but for the observations.
        seen: what was observed, in colours, and in other panels its places as dots.
        land: in the panel of observations, where there never is a field; None without that panel.
        cut: lines by variable, the band as `band`; empty where no cut was asked for.
        ways: where the cut is, in each map.
    """

    figure: Figure
    images: dict[str, AxesImage]
    seen: dict[str, PathCollection | Line2D]
    land: AxesImage | None
    cut: dict[str, Line2D | Polygon]
    ways: list[Line2D]


def _whole(ds: xr.Dataset) -> xr.Dataset:
    """The first window, at its last step, as `(time, up, across)`."""
    ds = pick(ds)
    ds = ds.isel(step=-1) if "step" in ds.dims else ds
    known = ds[[name for name in ("truth", "value", "mean", "std") if name in ds]]
    return known.squeeze(set(known.dims) - {TIME, *state_dims(ds["mean"])}, drop=True)


def _maps(ds: xr.Dataset) -> dict[str, xr.DataArray]:
    """What the maps show, by their titles, at all times."""
    found = {TRUTH: ds.get("truth"), SEEN: ds.get("value"), MEAN: ds["mean"]}
    found |= {ERROR: ds["mean"] - ds["truth"] if "truth" in ds else None, STD: ds.get("std")}
    dims = (TIME, *state_dims(ds["mean"]))
    return {title: array.transpose(*dims) for title, array in found.items() if array is not None}


def _land(maps: dict[str, xr.DataArray]) -> np.ndarray:
    """1 where neither the field nor an observation has a value at any time, NaN elsewhere."""
    known = [maps[title].notnull().any(TIME).values for title in _STATES if title in maps]
    return np.where(np.any(known, axis=0), np.nan, 1.0)


def rows_of(ds: xr.Dataset, cut: bool = False) -> int:
    """How many rows of panels `make_plane` draws: three of them side by side."""
    return -(-(len(_maps(_whole(ds))) + cut) // _COLUMNS)


def _states(maps: dict[str, xr.DataArray]) -> np.ndarray:
    """The values that limits come from."""
    states = [maps[TRUTH]] if TRUTH in maps else [maps[title] for title in _STATES if title in maps]
    values = np.concatenate([array.values.ravel() for array in states])
    return values[np.isfinite(values)]


def _cuts(ds: xr.Dataset, states: np.ndarray) -> np.ndarray:
    """The values that hold all cuts, their bands as well: so the axis stays where it is while the cut moves."""
    if "std" not in ds:
        return states
    ends = [(ds["mean"] + side * BAND * ds["std"]).values.ravel() for side in (-1, 1)]
    return np.concatenate([states, *(x[np.isfinite(x)] for x in ends)])


def _limits(maps: dict[str, xr.DataArray]) -> dict[str, tuple[float, float]]:
    """Of each map's colours."""
    limits = dict.fromkeys(_STATES, round_bounds(np.quantile(_states(maps), (_RARE, 1 - _RARE))))
    if TRUTH in maps:
        most = float(f"{float(maps[TRUTH].std()) or 1.0:.1g}")
    else:
        most = round_bounds(np.append(maps[STD].values, 0.0))[1] if STD in maps else 1.0
    return limits | {ERROR: (-most, most), STD: (0.0, most)}


@styled
def make_plane(fig: Figure, ds: xr.Dataset, moment: int = -1, along: Hashable | None = None, at: Point = ()) -> Plane:
    """Draw a field on a plane into an emptied figure.

    >>> import nida_kit as nk
    >>> from nida_kit import plots
    >>> truth = nk.QuasiGeostrophic(cells=17).simulate(samples=1, steps=4, dt=5.0, seed=0)
    >>> ds = nk.observe(truth, noise_std=0.6, fraction=0.1, seed=1).assign(truth=truth, mean=0.9 * truth)
    >>> list(plots.make_plane(plots.figure(rows=2), ds).images)
    ['truth', 'reconstruction', 'error']

    Args:
        fig: from `figure`, with a row for each three panels, see `rows_of`.
        ds: `mean`, and where there are any `truth`, `value` (on the grid, NaN where nothing was seen) and `std`, each
            `(time, y, x)`; of further dims the first window and the last step are drawn.
        moment: index of the time that the maps show.
        along: a dim, y, x or time: one more panel has the values along it, through the point `at`. None is no cut.
        at: the other coordinates of that point, as `{"y": 0.5, "x": 0.3}`; the nearest cell is taken.

    Returns:
        The artists, for `update_plane`.
    """
    fig.clear()
    whole = _whole(ds)
    maps = _maps(whole)
    up, across = (whole[dim] for dim in state_dims(whole["mean"]))
    panels = len(maps) + (along is not None)
    places = _Places(fig, panels)
    extent = (*ends_of(places_of(across)), *ends_of(places_of(up)))
    limits = _limits(maps)
    images: dict[str, AxesImage] = {}
    seen: dict[str, PathCollection | Line2D] = {}
    ways, land = [], None
    last_state = [title for title in maps if title in _STATES][-1]
    for k, title in enumerate(maps):
        ax = places.panel(k)
        low, high = limits[title]
        looks = {"cmap": _LOOKS.get(title, "viridis"), "vmin": low, "vmax": high}
        if title == SEEN:
            shown = seen[SEEN] = ax.scatter([], [], c=[], s=9, marker="o", linewidths=0, **looks)
            grey = {"cmap": ListedColormap([UNKNOWN]), "aspect": "auto", "origin": "lower", "zorder": 0}
            land = ax.imshow(np.full((up.size, across.size), np.nan), extent=extent, **grey)
            ax.set(xlim=extent[:2], ylim=extent[2:])
        else:
            empty = np.full((up.size, across.size), np.nan)
            shown = images[title] = ax.imshow(empty, aspect="auto", origin="lower", extent=extent, **looks)
        if title == STD and SEEN in maps:
            seen[STD] = ax.plot([], [], linestyle="none", marker="o", markersize=1.2, color="white")[0]
        if along is not None:
            line = {"color": "white" if title == STD else "black", "linewidth": 1.0, "linestyle": (0, (3, 2))}
            ways.append(ax.plot([], [], **line)[0])
        ax.set_title(title, fontsize="medium")
        ax.grid(False)
        ax.set_facecolor(UNKNOWN)  # land
        ax.tick_params(labelleft=k % _COLUMNS == 0, labelbottom=k + _COLUMNS >= panels)
        if k % _COLUMNS == 0:
            name_axis(ax, up, "y")
        if k + _COLUMNS >= panels:
            name_axis(ax, across, "x")
        if title == last_state or title in _LOOKS:
            unit = whole["mean"].attrs.get("units")
            fig.colorbar(shown, cax=places.bar(k), extend="max" if title == STD else "both")
            fig.axes[-1].set_title(with_unit("", unit).strip(), fontsize="small")
    cut = {} if along is None else _empty_cut(places.panel(len(maps), wide=True), whole)
    made = Plane(fig, images, seen, land, cut, ways)
    update_plane(made, ds, moment, along, at)
    return made


class _Places:
    """Axes at fixed places, three in a row, each with room for a bar at its right."""

    def __init__(self, fig: Figure, panels: int):
        self.fig, self.rows = fig, -(-panels // _COLUMNS)
        width, height = fig.get_size_inches()
        self.left, self.wide, self.gap = 0.62 / width, (width - 0.62 - _COLUMNS * 0.75) / _COLUMNS / width, 0.75 / width
        self.bottom, self.between = 0.5 / height, 0.62 / height
        self.tall = (1 - self.bottom - 0.3 / height + self.between) / self.rows - self.between

    def _corner(self, k: int) -> tuple[float, float]:
        row, column = divmod(k, _COLUMNS)
        low = self.bottom + (self.rows - 1 - row) * (self.tall + self.between)
        return self.left + column * (self.wide + self.gap), low

    def panel(self, k: int, wide: bool = False) -> Axes:
        """The k-th one, over all that is left of its row if `wide`."""
        columns = _COLUMNS - 1 - k % _COLUMNS if wide else 0
        shift = 0.1 * self.gap if wide else 0.0
        across = self.wide + columns * (self.wide + self.gap) + (0.75 * self.gap if wide else 0.0)
        x, y = self._corner(k)
        return self.fig.add_axes((x + shift, y, across - shift, self.tall))

    def bar(self, k: int) -> Axes:
        """Of colours, beside the k-th panel."""
        x, y = self._corner(k)
        return self.fig.add_axes((x + self.wide + 0.1 * self.gap, y, 0.14 * self.gap, self.tall))


def _empty_cut(ax: Axes, ds: xr.Dataset) -> dict[str, Line2D | Polygon]:
    drawn: dict[str, Line2D | Polygon] = {}
    if "std" in ds:
        drawn["band"] = ax.fill([], [], color=colour_of_estimate(ds), alpha=0.18, linewidth=0, label="90% interval")[0]
    for name in ("truth", "mean"):
        if name in ds:
            label, look = LINES[name]
            own = {"color": colour_of_estimate(ds)} if name == "mean" else {}
            drawn[name] = ax.plot([], [], label=label, **look | own)[0]
    if "value" in ds:
        drawn["value"] = ax.plot([], [], label="observation", **CROSSES | {"markersize": 4, "clip_on": True})[0]
    ax.legend(loc="upper left", ncols=2, fontsize="x-small", handlelength=1.6, borderpad=0.2, labelspacing=0.2)
    return drawn


@styled
def update_plane(made: Plane, ds: xr.Dataset, moment: int = -1, along: Hashable | None = None, at: Point = ()) -> None:
    """Show another dataset of the same dims, labels and variables, another time, or another cut."""
    whole = _whole(ds)
    maps = _maps(whole)
    limits = _limits(maps)
    up, across = state_dims(whole["mean"])
    x, y = places_of(whole[across]), places_of(whole[up])
    for title, image in made.images.items():
        image.set_data(maps[title].isel({TIME: moment}).values)
        image.set_clim(*limits[title])
    if SEEN in maps:
        value = maps[SEEN].isel({TIME: moment}).values
        rows, columns = np.nonzero(np.isfinite(value))
        made.seen[SEEN].set_offsets(np.stack([x[columns], y[rows]], axis=-1))
        made.seen[SEEN].set_array(value[rows, columns])
        made.seen[SEEN].set_clim(*limits[SEEN])
        land = _land(maps)
        made.land.set_data(land)  # grey as in all maps, and so white is what was not seen
        some = np.isfinite(land).any()
        made.land.axes.set_facecolor("white" if some else UNKNOWN)
        grey = "land is grey" if TRUTH in maps else "grey has no value"  # without the truth it may be lost
        made.land.axes.set_title(f"{SEEN} ({grey})" if some else SEEN, fontsize="medium")
        if STD in made.seen:
            made.seen[STD].set_data(x[columns], y[rows])
    if along is not None:
        _set_cut(made, whole, moment, along, dict(at), round_bounds(_cuts(whole, _states(maps))))


def _set_cut(made: Plane, ds: xr.Dataset, moment: int, along: Hashable, at: dict, limits: tuple[float, float]) -> None:
    """Values along a dim through a point, and the way of the cut in the maps."""
    dims = state_dims(ds["mean"])
    point = {dim: ds[dim].sel({dim: at[dim]}, method="nearest").item() for dim in dims if dim != along}
    line = ds.sel(point) if along == TIME else ds.isel({TIME: moment}).sel(point)
    over = numbers_of(line[along]) if along == TIME else line[along].values
    for name in set(made.cut) - {"band"}:
        made.cut[name].set_data(over, line[name].values)
    if "band" in made.cut:
        mean, half = line["mean"].values, BAND * line["std"].values
        outline = np.concatenate([np.stack([over, mean - half], -1), np.stack([over, mean + half], -1)[::-1]])
        made.cut["band"].set_xy(outline)
    ax = made.cut["mean"].axes
    room = 0.35 * (limits[1] - limits[0])  # for the legend
    ax.set(xlim=(over[0], over[-1]), ylim=(limits[0], limits[1] + room))
    name_axis(ax, line[along], "x")
    ax.set_title(", ".join(["cut", *(f"{dim} = {value:.3g}" for dim, value in point.items())]), fontsize="medium")
    up, across = (places_of(ds[dim]) for dim in dims)
    index = {dim: ds.get_index(dim).get_loc(point[dim]) for dim in point}
    ys = up if along == dims[0] else up[[index[dims[0]]]]
    xs = across if along == dims[1] else across[[index[dims[1]]]]
    ys, xs = np.broadcast_arrays(ys, xs)
    for way in made.ways:
        way.set_data(xs, ys)
        way.set_marker("o" if along == TIME else "")


def shared(ds: xr.Dataset) -> tuple[Any, ...]:
    """What two datasets must have in common for `update_plane` to show one where the other was."""
    whole = _whole(ds)
    land = _land(_maps(whole)).tobytes()
    return colour_of_estimate(ds), tuple(whole), land, *(tuple(whole[dim].values) for dim in whole.dims)
