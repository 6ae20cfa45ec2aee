"""Figures. Those of reconstructions are made once, then updated by setting data alone.

The layout is that of Blanke, Fablet and Lelarge (2024, arXiv:2406.15076): a row per temperature step, a column per
component against time, and a phase portrait in the last column. Names and units come from the dataset's coordinates.
Lines differ in style as well as in colour, so that they can be told apart in grey.

>>> from nida_kit.experiment import Parameters, run
>>> fig = figure(rows=1)
>>> artists = make(fig, run(Parameters()), steps=[-1])
>>> update(artists, run(Parameters(seed=1)))
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from importlib.metadata import version
from itertools import cycle
from pathlib import Path
from statistics import NormalDist
from typing import Any

import matplotlib.style
import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from nida_kit.assimilate.method import versions
from nida_kit.labels import COMPONENT, TIME

STYLE = Path(__file__).with_name("nida.mplstyle")
BAND = NormalDist().inv_cdf(0.95)  # half-width of the central 90% interval, in standard deviations

BLUE, RED = "#5790fc", "#e42536"  # of the style's cycle
# label, then the line's looks, by the variable that it draws
_LINES = {
    "truth": ("truth", {"color": "black", "linestyle": "-", "linewidth": 1.3}),
    "first_guess": ("first guess", {"color": BLUE, "linestyle": (0, (3, 2)), "linewidth": 1.6}),
    "mean": ("reconstruction", {"color": RED, "linestyle": (0, (7, 1.5, 1.2, 1.5)), "linewidth": 1.9}),
}
_CROSSES = {
    "color": "black",
    "linestyle": "none",
    "marker": "x",
    "markersize": 7,
    "markeredgewidth": 1.8,
    "zorder": 4,
    "clip_on": False,
}
_STYLES = ["-", (0, (5, 2)), (0, (1, 1.2)), (0, (7, 1.5, 1.2, 1.5))]
_MSE = "mean squared error\n[climatological variances]"
_MARKERS = ["o", "s", "^", "D", "v", "P", "X"]


@dataclass(frozen=True)
class Artists:
    """What `make` drew and `update` sets anew.

    Attributes:
        figure: that they live in.
        steps: which steps of the dataset are the rows.
        axes: `(rows, columns)`.
        drawn: for each row and column the artists, by the variable that they show.
    """

    figure: Figure
    steps: list[int] | None
    axes: np.ndarray
    drawn: list[list[dict[str, Artist]]]


def _styled(draw: Callable) -> Callable:
    """The package's style around a function that draws."""

    @wraps(draw)
    def inner(*args, **kwargs):
        with matplotlib.style.context(STYLE):
            return draw(*args, **kwargs)

    return inner


@_styled
def figure(rows: int = 1, width: float = 10.0, row_height: float = 1.9) -> Figure:
    """An empty figure in the package's style.

    Args:
        rows: of panels.
        width: in inches, at 90 dots per inch.
        row_height: in inches.
    """
    return Figure(figsize=(width, 1.0 + row_height * rows))


def pick(data: xr.Dataset | xr.DataArray, window: int = 0) -> xr.Dataset | xr.DataArray:
    """One window of data that may hold many: the `window`-th over the leading dims but `step` and `member`.

    Raises:
        ValueError: there is no such window.
    """
    main = data if isinstance(data, xr.DataArray) else data["mean" if "mean" in data else "value"]
    lead = {d: n for d, n in main.sizes.items() if d not in ("step", "member", TIME, COMPONENT)}
    count = math.prod(lead.values())
    if not 0 <= window < count:
        raise ValueError(f"window={window}: there are {count}, counted from 0.")
    return data.isel(dict(zip(lead, np.unravel_index(window, tuple(lead.values())), strict=True)))


def _rows(ds: xr.Dataset, steps: list[int] | None) -> xr.Dataset:
    """The first window of a dataset, with the steps that are drawn and at most three components."""
    ds = pick(ds).isel({COMPONENT: slice(3)})
    if "step" not in ds["mean"].dims:
        ds = ds.assign({k: ds[k].expand_dims("step") for k in ("mean", "std") if k in ds})
    return ds if steps is None else ds.isel(step=steps)


def _with_unit(name: str, unit: str | None) -> str:
    return name if unit in (None, "", "1") else f"{name} [{unit}]"


def _names(ds: xr.Dataset | xr.DataArray) -> list[str]:
    """Of the components, with units other than 1."""
    names = ds["long_name"].values if "long_name" in ds.coords else ds[COMPONENT].values
    units = ds["units"].values if "units" in ds.coords else [None] * len(names)
    return [_with_unit(str(n), u) for n, u in zip(names, units, strict=True)]


def _portrait(components: int) -> tuple[int, int] | None:
    """Which components the phase portrait shows: x and z of three (the classical view of Lorenz-63), both of two."""
    return {1: None, 2: (0, 1)}.get(components, (0, 2))


def _row_label(ds: xr.Dataset, row: int) -> str:
    """Its temperature, or for priors without one the number of the step."""
    s = float(ds["temperature"][row]) if "temperature" in ds.coords else 0.0
    number = int(ds["step"][row]) if "step" in ds.coords else row + 1
    return f"s = {s:.2g}" if s > 0 else f"step {number}"


def _row_of(ds: xr.Dataset, name: str, row: int) -> np.ndarray | None:
    """A variable `(time, component)` in one row; None if the dataset has it not."""
    if name not in ds:
        return None
    array = ds[name].isel(step=row) if "step" in ds[name].dims else ds[name]
    return array.reindex({COMPONENT: ds[COMPONENT]}).transpose(TIME, COMPONENT).values


def _curves(ds: xr.Dataset, row: int, column: int) -> dict[str, np.ndarray]:
    """The points `(..., 2)` of each line in a panel; columns beyond the components are the portrait."""
    n = ds.sizes[COMPONENT]
    across, up = (None, column) if column < n else _portrait(n)
    curves = {}
    for name in (*_LINES, "value"):
        values = _row_of(ds, name, row)
        if values is not None:
            curves[name] = np.stack([ds[TIME].values if across is None else values[:, across], values[:, up]], -1)
    return curves


def _band(ds: xr.Dataset, row: int, column: int) -> np.ndarray | None:
    """The outline `(2 T, 2)` of the 90% interval; None in the portrait or without a spread."""
    std = _row_of(ds, "std", row)
    if std is None or column >= ds.sizes[COMPONENT]:
        return None
    mean, time = _row_of(ds, "mean", row)[:, column], ds[TIME].values
    low, high = mean - BAND * std[:, column], mean + BAND * std[:, column]
    return np.concatenate([np.stack([time, low], -1), np.stack([time, high], -1)[::-1]])


def _bounds(values: np.ndarray) -> tuple[float, float]:
    """Round limits around values: they move in jumps, rarely, while a slider does."""
    low, high = np.nanmin(values), np.nanmax(values)
    ticks = MaxNLocator(nbins=6, min_n_ticks=3).tick_values(low, high)
    return ticks[0], ticks[-1]


def _set_limits(artists: Artists, ds: xr.Dataset) -> None:
    """Each column's panels share their limits, which hold every line; bands may leave them where the truth is known."""
    known = [ds[k] for k in (*_LINES, "value") if k in ds]
    if "truth" not in ds and "std" in ds:
        known += [ds["mean"] - BAND * ds["std"], ds["mean"] + BAND * ds["std"]]
    bounds = []
    for component in ds[COMPONENT].values:
        bounds.append(_bounds(np.concatenate([a.sel({COMPONENT: component}).values.ravel() for a in known])))
    n, time = len(bounds), ds[TIME].values
    for ax in artists.axes[:, :n].T.flat:
        ax.set_xlim(time[0], time[-1] if len(time) > 1 else time[0] + 1)
    for panels, bound in zip(artists.axes.T, bounds, strict=False):
        for ax in panels:
            ax.set_ylim(bound)
    for ax in artists.axes[:, n:].flat:
        across, up = _portrait(n)
        ax.set(xlim=bounds[across], ylim=bounds[up])


def _draw_panel(ax: Axes, ds: xr.Dataset, row: int, column: int) -> dict[str, Artist]:
    """A panel's artists, without data."""
    drawn: dict[str, Artist] = {}
    if _band(ds, row, column) is not None:
        (drawn["band"],) = ax.fill([0, 0, 1], [0, 1, 0], color=RED, alpha=0.18, linewidth=0, label="90% interval")
    for name in _curves(ds, row, column):
        label, looks = _LINES.get(name, ("observation", _CROSSES))
        (drawn[name],) = ax.plot([], [], label=label, **looks)
    return drawn


def _legend(fig: Figure, drawn: dict[str, Artist]) -> None:
    order = [k for k in ("truth", "value", "first_guess", "mean", "band", "draws") if k in drawn]
    fig.legend(
        [drawn[k] for k in order],
        [drawn[k].get_label() for k in order],
        loc="upper center",
        ncols=len(order),
        handlelength=2.8,
    )


def _panels(fig: Figure, rows: int, components: int, columns: int) -> np.ndarray:
    """Axes `(rows, columns)` at fixed places, with room for the longest tick labels: nothing ever moves."""
    width, height = fig.get_size_inches()
    gaps = [0.75] + [0.5] * (components - 1) + [0.8] * (columns - components)  # inches before each column
    wide = (width - sum(gaps) - 0.2) / columns
    left = np.cumsum(gaps) + wide * np.arange(columns)
    top, bottom, between = 0.65, 0.5, 0.2
    tall = (height - top - bottom + between) / rows
    axes = np.empty((rows, columns), dtype=object)
    for i, j in np.ndindex(rows, columns):
        low = bottom + (rows - 1 - i) * tall
        axes[i, j] = fig.add_axes((left[j] / width, low / height, wide / width, (tall - between) / height))
        axes[i, j].yaxis.set_label_coords(-0.5 / wide, 0.5)
    return axes


@_styled
def make(fig: Figure, ds: xr.Dataset, steps: Sequence[int] | None = None) -> Artists:
    """Draw a reconstruction into an emptied figure.

    Args:
        fig: from `figure`, or any other.
        ds: as `experiment.run` or `assimilate` return it, of which the first window is drawn: `mean` and, where
            there are any, `std`, `truth`, `first_guess` and `value`; with or without the dim `step`.
        steps: which steps to draw, a row each; None is all. Of more than three components the first three are drawn.

    Returns:
        The artists, for `update`. With other rows, components or variables, make anew.
    """
    steps = None if steps is None else list(steps)
    shown = _rows(ds, steps)
    n, rows = shown.sizes[COMPONENT], shown.sizes["step"]
    columns = n + (_portrait(n) is not None)
    fig.clear()
    axes = _panels(fig, rows, n, columns)
    drawn = [[_draw_panel(axes[i, j], shown, i, j) for j in range(columns)] for i in range(rows)]
    _label(axes, shown)
    _legend(fig, drawn[0][0])
    artists = Artists(fig, steps, axes, drawn)
    update(artists, ds)
    return artists


def _label(axes: np.ndarray, ds: xr.Dataset | xr.DataArray) -> None:
    """Titles above columns, temperatures before rows, time below."""
    names, n = _names(ds), ds.sizes[COMPONENT]
    time = _with_unit(ds[TIME].attrs.get("long_name", "time"), ds[TIME].attrs.get("units"))
    for ax in axes[:-1].flat:
        ax.tick_params(labelbottom=False)
    for ax, name in zip(axes[0], names, strict=False):
        ax.set_title(name)
    for ax in axes[-1, :n]:
        ax.set_xlabel(time)
    for ax in axes[:, n:].flat:
        across, up = _portrait(n)
        ax.set_ylabel(names[up])
    for ax in axes[:1, n:].flat:
        ax.set_title("phase portrait")
    for ax in axes[-1:, n:].flat:
        ax.set_xlabel(names[across])


def update(artists: Artists, ds: xr.Dataset) -> None:
    """Show another dataset of the same rows, components and variables: data, limits and row labels change.

    Raises:
        ValueError: the dataset does not fit what was made.
    """
    shown = _rows(ds, artists.steps)
    if shown.sizes["step"] != len(artists.drawn):
        raise ValueError(
            f"The figure was made for {len(artists.drawn)} rows, the dataset has {shown.sizes['step']}: make it anew."
        )
    for row, panels in enumerate(artists.drawn):
        artists.axes[row, 0].set_ylabel(_row_label(shown, row))
        for column, drawn in enumerate(panels):
            for name, points in _curves(shown, row, column).items():
                drawn[name].set_data(*points.T)
            if "band" in drawn:
                drawn["band"].set_xy(_band(shown, row, column))
    _set_limits(artists, shown)


@_styled
def trajectories(fig: Figure, arrays: dict[str, xr.DataArray], window: int = 0) -> np.ndarray:
    """Trajectories over one another: a column per component against time.

    Args:
        fig: from `figure`.
        arrays: `(..., time, component)` each, by the label of their line.
        window: which one to draw of each, over the leading dims.

    Returns:
        The axes, `(1, columns)`.
    """
    fig.clear()
    first = next(iter(arrays.values()))
    n = first.sizes[COMPONENT]
    axes = _panels(fig, 1, n, n)
    for (name, array), style in zip(arrays.items(), cycle(_STYLES)):
        for ax, component in zip(axes[0], first[COMPONENT].values, strict=True):
            ax.plot(array[TIME], pick(array, window).sel({COMPONENT: component}), linestyle=style, label=name)
    _label(axes, first)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="upper center", ncols=len(arrays), handlelength=2.8)
    return axes


def _one_panel(fig: Figure) -> Axes:
    fig.clear()
    fig.set_layout_engine("constrained")
    return fig.subplots()


@_styled
def temperature_ablation(fig: Figure, ds: xr.Dataset) -> Axes:
    """Error against the number of steps, a line per way of lowering (or holding) the temperature.

    Args:
        fig: from `figure`.
        ds: from `experiment.ablate_temperature`: `mse (variant, steps)` and the scalar `first_guess_mse`.
    """
    ax = _one_panel(fig)
    for name, style, marker in zip(ds["variant"].values, cycle(_STYLES), cycle(_MARKERS)):
        ax.plot(ds["steps"], ds["mse"].sel(variant=name), linestyle=style, marker=marker, label=str(name))
    ax.axhline(float(ds["first_guess_mse"]), color="black", linewidth=1, linestyle=(0, (3, 2)), label="first guess")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="number of steps", ylabel=_MSE)
    ax.set_ylim(bottom=0)
    fig.legend(loc="outside right upper", title="temperature")
    return ax


@_styled
def error_by_step(fig: Figure, errors: dict[str, Sequence[float]]) -> Axes:
    """Error of the estimate after each step.

    Args:
        fig: from `figure`.
        errors: mean squared errors in climatological variances of the first guess and of each step's estimate, by
            the label of their line.
    """
    ax = _one_panel(fig)
    for (name, values), style, marker in zip(errors.items(), cycle(_STYLES), cycle(_MARKERS)):
        ax.plot(range(len(values)), values, linestyle=style, marker=marker, label=name)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="step (0 is the first guess)", ylabel=_MSE)
    ax.set_ylim(bottom=0)
    fig.legend(loc="outside right upper")
    return ax


_IDEAL = {"color": "black", "linewidth": 1, "linestyle": (0, (3, 2)), "label": "calibrated"}
_BESIDE = {"loc": "upper left", "bbox_to_anchor": (1.02, 1.0)}  # a square panel


def _log(ax: Axes) -> None:
    """Logarithmic axes around what is drawn, with plain numbers: enough on short ranges, not too many on long ones."""
    ax.set(xscale="log", yscale="log")
    for axis in (ax.xaxis, ax.yaxis):
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1e3 * low else (1,)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())


@_styled
def rank_histogram(fig: Figure, counts: xr.DataArray) -> np.ndarray:
    """How often the truth has each rank among the members: flat if calibrated, a U if overconfident.

    Args:
        fig: from `figure`.
        counts: from `evaluate.rank_histogram`, `(rank,)`, or `(component, rank)` for a column per component.

    Returns:
        The axes, `(columns,)`.
    """
    fig.clear()
    fig.set_layout_engine("constrained")
    columns = counts.expand_dims(COMPONENT) if COMPONENT not in counts.dims else counts
    axes = fig.subplots(1, columns.sizes[COMPONENT], sharey=True, squeeze=False)[0]
    edges = np.arange(columns.sizes["rank"] + 1) + 0.5
    for ax, column in zip(axes, columns.transpose(COMPONENT, "rank").values, strict=True):
        ax.stairs(column, edges, fill=True, color=BLUE, alpha=0.7)
        ax.axhline(column.mean(), **_IDEAL)
        ax.set(xlim=(edges[0], edges[-1]), xlabel="rank of the truth")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if COMPONENT in counts.dims:
        for ax, name in zip(axes, _names(counts), strict=True):
            ax.set_title(name)
    axes[0].set_ylabel("count")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
    return axes


@_styled
def reliability(fig: Figure, curves: dict[str, xr.DataArray]) -> Axes:
    """How often the truth lies in the central intervals, against how often it should: below is overconfident.

    Args:
        fig: from `figure`.
        curves: from `evaluate.reliability`, `(level,)` each, by the label of their line.
    """
    ax = _one_panel(fig)
    for (name, curve), style, marker in zip(curves.items(), cycle(_STYLES), cycle(_MARKERS)):
        ax.plot(curve["level"], curve, linestyle=style, marker=marker, label=name, clip_on=False)
    ax.axline((0, 0), slope=1, **_IDEAL)
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="nominal level", ylabel="observed coverage", box_aspect=1)
    ax.legend(**_BESIDE)
    return ax


@_styled
def spread_error(fig: Figure, pairs: dict[str, xr.Dataset]) -> Axes:
    """Error against predicted spread, in bins of the spread, both logarithmic: above the diagonal is overconfident.

    Args:
        fig: from `figure`.
        pairs: from `evaluate.spread_error`, `spread (bin)` and `error (bin)` each, by the label of their line.
    """
    ax = _one_panel(fig)
    for (name, ds), style, marker in zip(pairs.items(), cycle(_STYLES), cycle(_MARKERS)):
        ax.plot(ds["spread"], ds["error"], linestyle=style, marker=marker, label=name)
    shown = np.concatenate([ds[k].values for ds in pairs.values() for k in ("spread", "error")])
    ends = shown[shown > 0].min() / 1.3, shown.max() * 1.3
    ax.plot(ends, ends, **_IDEAL)
    ax.set(xlim=ends, ylim=ends, xlabel="predicted spread", ylabel="rms error", box_aspect=1)
    _log(ax)
    ax.legend(**_BESIDE)
    return ax


@_styled
def pareto(
    fig: Figure,
    points: dict[str, Sequence[tuple[float, float]]],
    xlabel: str,
    ylabel: str,
    floor: float | None = None,
    floor_label: str = "Bayes limit",
) -> Axes:
    """Error against cost, both logarithmic: what lies to the lower left is better.

    Args:
        fig: from `figure`.
        points: pairs (cost, error), one or many, in the order in which a line joins them, by the method's name.
        xlabel: the cost, with its unit.
        ylabel: the error, with its unit.
        floor: the least error that can be reached.
        floor_label: what it is called.
    """
    ax = _one_panel(fig)
    for (name, pairs), style, marker in zip(points.items(), cycle(_STYLES), cycle(_MARKERS)):
        ax.plot(*np.transpose(pairs), linestyle=style, marker=marker, label=name)
    if floor is not None:
        ax.axhline(floor, **_IDEAL | {"label": floor_label})
    _log(ax)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    fig.legend(loc="outside right upper")
    return ax


@_styled
def by_effort(
    fig: Figure,
    panels: dict[str, dict[str, Sequence[tuple[float, float]]]],
    ylabel: str,
    floor: float | None = None,
    floor_label: str = "Bayes limit",
) -> np.ndarray:
    """The same error (logarithmic) against several measures of effort, a column each: what lies lower is better.

    Args:
        fig: from `figure`.
        panels: pairs (effort, error) in the order in which a line joins them, by the line's name, by the effort's name
            with its unit. Efforts may be 0: their axis is linear up to 1 and logarithmic beyond.
        ylabel: the error, with its unit.
        floor: the least error that can be reached.
        floor_label: what it is called.

    Returns:
        The axes, `(columns,)`.
    """
    fig.clear()
    fig.set_layout_engine("constrained")
    axes = fig.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    looks = {name: look for name, *look in zip(names, cycle(_STYLES), cycle(_MARKERS), cycle(_colours()))}
    shown: dict[str, Artist] = {}
    for ax, (xlabel, lines) in zip(axes, panels.items(), strict=True):
        for name, pairs in lines.items():
            style, marker, colour = looks[name]
            (shown[name],) = ax.plot(*np.transpose(pairs), linestyle=style, marker=marker, color=colour, label=name)
        if floor is not None:
            shown[floor_label] = ax.axhline(floor, **_IDEAL | {"label": floor_label})
        _log(ax)
        end = 1.6 * max(1, *(x for pairs in lines.values() for x, _ in pairs))
        ax.set_xscale("symlog", linthresh=1, linscale=0.5)
        ax.set(xlabel=xlabel, xlim=(-0.3, end), xticks=[0, *(10**k for k in range(9) if 10**k < end)])
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_locator(NullLocator())
    axes[0].set_ylabel(ylabel)
    fig.legend(shown.values(), shown.keys(), loc="outside upper center", ncols=3, handlelength=2.8)
    return axes


def _colours() -> list[str]:
    """The style's cycle."""
    return matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]


@_styled
def ranking(fig: Figure, errors: dict[str, float], xlabel: str, reference: str) -> Axes:
    """Errors as dots on a line each, best first, with a line through the one that the others are compared with.

    Args:
        fig: from `figure`; a row for about eight names.
        errors: by what they belong to.
        xlabel: the error, with its unit.
        reference: one of the names.
    """
    ax = _one_panel(fig)
    names = sorted(errors, key=errors.get, reverse=True)
    ax.axvline(errors[reference], **_IDEAL)
    for place, name in enumerate(names):
        marker, face = ("D", RED) if name == reference else ("o", "black")
        ax.plot(errors[name], place, marker=marker, color=face, linestyle="none")
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel=xlabel)
    return ax


@_styled
def samples(
    fig: Figure,
    draws: xr.DataArray,
    truth: xr.DataArray,
    mean: xr.DataArray | None = None,
    value: xr.DataArray | None = None,
    window: int = 0,
    component: str | Sequence[str] | None = None,
) -> np.ndarray:
    """Draws of one window as thin lines against time, below its truth: a column per component.

    Args:
        fig: from `figure`.
        draws: `(member, ..., time, component)`.
        truth: `(..., time, component)`.
        mean: the same, if it is to be shown.
        value: the observations, if they are to be shown; of these components or others.
        window: which one to draw of each, over the leading dims.
        component: which to draw, one or many; None is the first three.

    Returns:
        The axes, `(1, columns)`.
    """
    fig.clear()
    chosen = truth[COMPONENT].values[:3] if component is None else np.atleast_1d(component)
    shown = pick(truth, window).sel({COMPONENT: chosen})
    lines = pick(draws, window).sel({COMPONENT: chosen}).transpose(TIME, "member", COMPONENT)
    over = {k: v for k, v in {"truth": truth, "value": value, "mean": mean}.items() if v is not None}
    axes = _panels(fig, 1, len(chosen), len(chosen))
    for ax, name in zip(axes[0], chosen, strict=True):
        ax.plot(shown[TIME], lines.sel({COMPONENT: name}), **_thin(lines.sizes["member"]))
        drawn: dict[str, Artist] = {"draws": ax.plot([], [], color=BLUE, linewidth=1, label="draws")[0]}
        for key, array in over.items():
            label, looks = _LINES.get(key, ("observation", _CROSSES))
            column = pick(array, window).reindex({COMPONENT: chosen}).sel({COMPONENT: name})
            (drawn[key],) = ax.plot(column[TIME], column, label="mean" if key == "mean" else label, **looks)
        ax.set_xlim(shown[TIME][0], shown[TIME][-1])
    _label(axes, shown)
    _legend(fig, drawn)
    return axes


def _thin(count: int) -> dict[str, Any]:
    """The looks of many lines: the more there are, the fainter is each."""
    return {"color": BLUE, "linestyle": "-", "linewidth": 0.7, "alpha": min(0.6, max(0.06, 20 / count))}


def save(fig: Figure, path: str | Path, numbers: dict[str, Any]) -> None:
    """Write a figure as PNG, and beside it the numbers behind it as JSON, with the versions that made them.

    Args:
        fig: the figure.
        path: of the PNG; the JSON has the same name.
        numbers: what the figure shows, as plain numbers, lists and names; it must hold the `seed`.

    Raises:
        ValueError: no seed, or a path that does not end in .png.
    """
    path = Path(path)
    if "seed" not in numbers:
        raise ValueError("numbers must hold the seed that made them.")
    if path.suffix != ".png":
        raise ValueError(f"The figure is written as PNG; {path.name!r} does not end in .png.")
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path)
    record = numbers | {"versions": f"{versions()}, matplotlib {version('matplotlib')}"}
    path.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")
