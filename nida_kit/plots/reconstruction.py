"""Trajectories: made once, then updated by setting data alone.

The layout is that of Blanke, Fablet and Lelarge (2024, arXiv:2406.15076): a row per temperature step, a column per
component against time, and a phase portrait in the last column. Names and units come from the dataset's coordinates.

>>> from nida_kit.experiment import Parameters, run
>>> from nida_kit.plots import figure
>>> fig = figure(rows=1)
>>> artists = make(fig, run(Parameters()), steps=[-1])
>>> update(artists, run(Parameters(seed=1)))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from nida_kit.evaluate import BAND
from nida_kit.plots.style import (
    BESIDE,
    CROSSES,
    GREYS,
    LINES,
    MARKS,
    OTHER_STYLES,
    bounds_of,
    colour_of,
    colour_of_estimate,
    label_panels,
    legend,
    looks_of,
    numbers_of,
    pick,
    portrait,
    row_label,
    styled,
    trajectory_panels,
)
from nida_kit.state import COMPONENT, TIME, labels_of

_NO_LINES = ("std", "usual")  # what a row shows otherwise: as its band and its limits


@dataclass(frozen=True)
class Artists:
    """What `make` drew and `update` sets anew.

    Attributes:
        figure: that they live in.
        steps: which steps of the dataset are the rows.
        axes: `(rows, columns)`.
        drawn: for each row and column the artists, by the variable that they show.
        labels: of the rows.
    """

    figure: Figure
    steps: list[int] | None
    axes: np.ndarray
    drawn: list[list[dict[str, Artist]]]
    labels: list[Text]


def _rows(ds: xr.Dataset, steps: list[int] | None) -> xr.Dataset:
    """The first window of a dataset, with the steps that are drawn and at most three components."""
    ds = pick(ds).isel({COMPONENT: slice(3)})
    if "step" not in ds["mean"].dims:
        ds = ds.assign({k: ds[k].expand_dims("step") for k in ("mean", "std") if k in ds})
    for name in ds["other"].values if "beside" in ds else ():
        ds = ds.assign({f"{BESIDE}{name}": ds["beside"].sel(other=name, drop=True)})
    return ds if steps is None else ds.isel(step=steps)


def _lines(ds: xr.Dataset) -> dict[str, tuple[str, dict[str, Any]]]:
    """Label and looks of each line, by the variable that it draws."""
    others = [str(name) for name in ds if str(name).startswith(BESIDE)]
    label, looks = LINES["mean"]
    mean = {"mean": (label, looks | {"color": colour_of_estimate(ds)})}
    thin = {}
    for name, grey, style in zip(others, cycle(GREYS), cycle(OTHER_STYLES)):
        label = name.removeprefix(BESIDE)
        thin[name] = (label, {"color": colour_of(label) or grey, "linestyle": style, "linewidth": 1.4})
    return {name: look for name, look in (LINES | mean | thin | MARKS).items() if name in ds}


def _row_label(ds: xr.Dataset, row: int) -> str:
    """Its temperature, or for priors without one the number of the step, if there are steps; of several its error."""
    s = float(ds["temperature"][row]) if "temperature" in ds.coords else 0.0
    number = f"step {int(ds['step'][row])}" if "step" in ds.coords else ""
    name = f"s = {s:.2g}" if s > 0 else number
    if "step_rmse" not in ds or ds.sizes["step"] == 1:
        return name
    return f"{name}, RMSE {float(ds['step_rmse'][row]):.3f}"


def _row_of(ds: xr.Dataset, name: str, row: int) -> np.ndarray | None:
    """A variable `(time, component)` in one row, or `(end, component)`; None if the dataset has it not."""
    if name not in ds:
        return None
    array = ds[name].isel(step=row) if "step" in ds[name].dims else ds[name]
    return array.reindex({COMPONENT: ds[COMPONENT]}).transpose(..., COMPONENT).values


def _row(ds: xr.Dataset, row: int) -> dict[str, np.ndarray]:
    """What a row shows, `(time, component)` by variable: read once, for xarray is slower than drawing."""
    found = {name: _row_of(ds, name, row) for name in (*_lines(ds), *_NO_LINES)}
    return {name: values for name, values in found.items() if values is not None}


def _curves(shown: dict[str, np.ndarray], time: np.ndarray, column: int) -> dict[str, np.ndarray]:
    """The points `(..., 2)` of each line in a panel; columns beyond the components are the portrait."""
    n = shown["mean"].shape[-1]
    across, up = (None, column) if column < n else portrait(n)
    return {
        name: np.stack([time if across is None else values[:, across], values[:, up]], -1)
        for name, values in shown.items()
        if name not in _NO_LINES
    }


def _band(shown: dict[str, np.ndarray], time: np.ndarray, column: int) -> np.ndarray | None:
    """The outline `(2 T, 2)` of the 90% interval; None in the portrait or without a spread."""
    if "std" not in shown or column >= shown["mean"].shape[-1]:
        return None
    mean, half = shown["mean"][:, column], BAND * shown["std"][:, column]
    low, high = mean - half, mean + half
    return np.concatenate([np.stack([time, low], -1), np.stack([time, high], -1)[::-1]])


def _set_limits(artists: Artists, rows: list[dict[str, np.ndarray]], time: np.ndarray) -> None:
    """Each column's panels share their limits, see `bounds_of`."""
    bounds = bounds_of(rows)
    n = len(bounds)
    for ax in artists.axes[:, :n].T.flat:
        ax.set_xlim(time[0], time[-1] if len(time) > 1 else time[0] + 1)
    for panels, bound in zip(artists.axes.T, bounds, strict=False):
        for ax in panels:
            ax.set_ylim(bound)
    for ax in artists.axes[:, n:].flat:
        across, up = portrait(n)
        ax.set(xlim=bounds[across], ylim=bounds[up])


def _draw_panel(ax: Axes, ds: xr.Dataset, row: int, column: int) -> dict[str, Artist]:
    """A panel's artists, without data."""
    drawn: dict[str, Artist] = {}
    shown, time, lines = _row(ds, row), numbers_of(ds[TIME]), _lines(ds)
    band = {"color": colour_of_estimate(ds), "alpha": 0.18, "linewidth": 0}
    if _band(shown, time, column) is not None:
        (drawn["band"],) = ax.fill([0, 0, 1], [0, 1, 0], label="90% interval", **band)
    for name in _curves(shown, time, column):
        label, looks = lines[name]
        (drawn[name],) = ax.plot([], [], label=label, **looks)
    return drawn


def shown(result: xr.Dataset, obs: xr.Dataset, truth: xr.DataArray | None = None) -> xr.Dataset:
    """A result with what was observed, and the truth if it is known, in the result's units, as `make` draws it.

    Raises:
        ValueError: units that cannot be converted.
    """
    from nida_kit.edge import in_units_of  # here, for it needs torch, and no other figure does

    state = labels_of(result["mean"])
    found = result.assign(value=in_units_of(state, obs["value"], "obs.value"))
    return found if truth is None else found.assign(truth=in_units_of(state, truth, "truth"))


@styled
def make(fig: Figure, ds: xr.Dataset, steps: Sequence[int] | None = None) -> Artists:
    """Draw a reconstruction into an emptied figure.

    Args:
        fig: from `figure`, or any other.
        ds: as `experiment.run` or `assimilate` return it, of which the first window is drawn: `mean` and, where
            there are any, `std`, `truth`, `first_guess`, `value` and `beside`; with or without the dim `step`. Rows are
            labelled with `step_rmse`, and limits hold the `usual` range of a `Setup`, if there is one.
        steps: which steps to draw, a row each; None is all. Of more than three components the first three are drawn.

    Returns:
        The artists, for `update`. With other rows, components or variables, make anew.
    """
    steps = None if steps is None else list(steps)
    shown = _rows(ds, steps)
    n, rows = shown.sizes[COMPONENT], shown.sizes["step"]
    columns = n + (portrait(n) is not None)
    fig.clear()
    axes = trajectory_panels(fig, rows, n, columns)
    drawn = [[_draw_panel(axes[i, j], shown, i, j) for j in range(columns)] for i in range(rows)]
    label_panels(axes, shown)
    legend(fig, drawn[0][0])
    artists = Artists(fig, steps, axes, drawn, [row_label(ax) for ax in axes[:, 0]])
    update(artists, ds)
    return artists


def update(artists: Artists, ds: xr.Dataset, limits: bool = True) -> None:
    """Show another dataset of the same rows, components and variables: data, row labels, and limits if they may change.

    Raises:
        ValueError: the dataset does not fit what was made.
    """
    shown = _rows(ds, artists.steps)
    if shown.sizes["step"] != len(artists.drawn):
        raise ValueError(
            f"The figure was made for {len(artists.drawn)} rows, the dataset has {shown.sizes['step']}: make it anew."
        )
    time, rows = numbers_of(shown[TIME]), [_row(shown, row) for row in range(len(artists.drawn))]
    for row, (panels, values) in enumerate(zip(artists.drawn, rows, strict=True)):
        artists.labels[row].set_text(_row_label(shown, row))
        for column, drawn in enumerate(panels):
            for name, points in _curves(values, time, column).items():
                drawn[name].set_data(*points.T)
            if "band" in drawn:
                drawn["band"].set_xy(_band(values, time, column))
    if limits:
        _set_limits(artists, rows, time)


@styled
def trajectories(fig: Figure, arrays: dict[str, xr.DataArray], window: int = 0) -> np.ndarray:
    """Trajectories over one another: a column per component against time.

    Args:
        fig: from `figure`.
        arrays: `(..., time, component)` each, by the label of their line; the first is black, as the truth is.
        window: which one to draw of each, over the leading dims.

    Returns:
        The axes, `(1, columns)`.
    """
    fig.clear()
    first = next(iter(arrays.values()))
    n = first.sizes[COMPONENT]
    axes = trajectory_panels(fig, 1, n, n)
    looks = looks_of(list(arrays))
    for name, array in arrays.items():
        style, colour = looks[name]["linestyle"], "black" if array is first else looks[name]["color"]
        for ax, component in zip(axes[0], first[COMPONENT].values, strict=True):
            line = pick(array, window).sel({COMPONENT: component})
            ax.plot(numbers_of(array[TIME]), line, linestyle=style, color=colour, label=name)
    label_panels(axes, first)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="upper center", ncols=len(arrays), handlelength=2.8)
    return axes


@styled
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
    axes = trajectory_panels(fig, 1, len(chosen), len(chosen))
    for ax, name in zip(axes[0], chosen, strict=True):
        ax.plot(numbers_of(shown[TIME]), lines.sel({COMPONENT: name}), **_thin(lines.sizes["member"]))
        drawn: dict[str, Artist] = {"draws": ax.plot([], [], color=GREYS[1], linewidth=1, label="draws")[0]}
        for key, array in over.items():
            label, looks = LINES.get(key, ("observation", CROSSES))
            column = pick(array, window).reindex({COMPONENT: chosen}).sel({COMPONENT: name})
            (drawn[key],) = ax.plot(numbers_of(column[TIME]), column, label="mean" if key == "mean" else label, **looks)
        ax.set_xlim(*numbers_of(shown[TIME])[[0, -1]])
    label_panels(axes, shown)
    legend(fig, drawn)
    return axes


def _thin(count: int) -> dict[str, Any]:
    """The looks of many lines: the more there are, the fainter is each."""
    return {"color": GREYS[1], "linestyle": "-", "linewidth": 0.7, "alpha": min(0.6, max(0.06, 20 / count))}
