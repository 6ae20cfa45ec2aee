"""Errors, costs and calibration: one figure, one function each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, MaxNLocator, NullLocator

from nida_kit.evaluate import ERROR
from nida_kit.plots.style import (
    BLUE,
    GREYS,
    LINES,
    MARKERS,
    RED,
    STYLES,
    colour_of,
    component_names,
    looks_of,
    one_panel,
    reds,
    styled,
)
from nida_kit.state import COMPONENT

_UNIT = "[climatological std]"
_FIRST_GUESS = LINES["first_guess"][1]


@styled
def temperature_ablation(fig: Figure, ds: xr.Dataset) -> Axes:
    """Error against the number of steps, a line per way of lowering (or holding) the temperature.

    Args:
        fig: from `figure`.
        ds: from `experiment.ablate_temperature`: `mse (variant, steps)` and the scalar `first_guess_mse`.
    """
    ax = one_panel(fig)
    names = [str(name) for name in ds["variant"].values]
    held = [name for name in names if "held" in name]
    shades = dict(zip(held, reds(len(held)), strict=True))
    for name, style, marker in zip(names, cycle(STYLES), cycle(MARKERS)):
        looks = {"linestyle": style, "marker": marker, "color": shades.get(name, RED)}
        ax.plot(ds["steps"], ds["mse"].sel(variant=name) ** 0.5, label=name, **looks)
    ax.axhline(float(ds["first_guess_mse"]) ** 0.5, label="first guess", **_FIRST_GUESS)
    ax.set(xlabel="number of steps", ylabel=ERROR)
    _log(ax, "y")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    fig.legend(loc="outside right upper", title="temperature")
    return ax


@styled
def error_by_step(fig: Figure, errors: dict[str, Sequence[float]]) -> Axes:
    """Error of the estimate after each step, from that of the first guess on.

    Args:
        fig: from `figure`.
        errors: mean squared errors in climatological variances of the first guess and of each step's estimate, by
            the label of their line; their roots are drawn.
    """
    ax = one_panel(fig)
    for (name, values), style, marker in zip(errors.items(), cycle(STYLES), cycle(MARKERS)):
        roots = np.sqrt(values)
        ax.plot(range(len(roots)), roots, linestyle=style, marker=marker, color=RED, label=name)
        ax.plot(0, roots[0], marker=marker, color=BLUE, markersize=9, linestyle="none")
    ax.set(xlabel="step (0 is the first guess)", ylabel=ERROR)
    _log(ax, "y")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    fig.legend(loc="outside right upper", title="NIDA, begun with")
    return ax


_IDEAL = {"color": "black", "linewidth": 1, "linestyle": (0, (3, 2)), "label": "calibrated"}
_BESIDE = {"loc": "upper left", "bbox_to_anchor": (1.02, 1.0)}  # a square panel


def _log(ax: Axes, which: str = "xy") -> None:
    """Logarithmic axes around what is drawn, with plain numbers: enough on short ranges, not too many on long ones."""
    ax.set(**{f"{name}scale": "log" for name in which})
    for axis in (getattr(ax, f"{name}axis") for name in which):
        low, high = axis.get_view_interval()
        short = (1, 2, 3, 4, 5, 6, 8) if high < 5 * low else (1, 2, 5)
        axis.set_major_locator(LogLocator(subs=short if high < 1e3 * low else (1,)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())


@styled
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
        ax.stairs(column, edges, fill=True, color=GREYS[1])
        ax.axhline(column.mean(), **_IDEAL)
        ax.set(xlim=(edges[0], edges[-1]), xlabel="rank of the truth")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if COMPONENT in counts.dims:
        for ax, name in zip(axes, component_names(counts), strict=True):
            ax.set_title(name)
    axes[0].set_ylabel("count")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
    return axes


@styled
def reliability(fig: Figure, curves: dict[str, xr.DataArray]) -> Axes:
    """How often the truth lies in the central intervals, against how often it should: below is overconfident.

    Args:
        fig: from `figure`.
        curves: from `evaluate.reliability`, `(level,)` each, by the label of their line.
    """
    ax = one_panel(fig)
    looks = looks_of(list(curves))
    for name, curve in curves.items():
        ax.plot(curve["level"], curve, label=name, clip_on=False, **looks[name])
    ax.axline((0, 0), slope=1, **_IDEAL)
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="nominal level", ylabel="observed coverage", box_aspect=1)
    ax.legend(**_BESIDE)
    return ax


@styled
def spread_error(fig: Figure, pairs: dict[str, xr.Dataset]) -> Axes:
    """Error against predicted spread, in bins of the spread, both logarithmic: above the diagonal is overconfident.

    Args:
        fig: from `figure`.
        pairs: from `evaluate.spread_error`, `spread (bin)` and `error (bin)` each, in climatological standard
            deviations, by the label of their line.
    """
    ax = one_panel(fig)
    looks = looks_of(list(pairs))
    for name, ds in pairs.items():
        ax.plot(ds["spread"], ds["error"], label=name, **looks[name])
    shown = np.concatenate([ds[k].values for ds in pairs.values() for k in ("spread", "error")])
    ends = shown[shown > 0].min() / 1.3, shown.max() * 1.3
    ax.plot(ends, ends, **_IDEAL)
    ax.set(xlim=ends, ylim=ends, xlabel=f"predicted spread {_UNIT}", ylabel=f"RMSE {_UNIT}", box_aspect=1)
    _log(ax)
    ax.legend(**_BESIDE)
    return ax


@styled
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
    ax = one_panel(fig)
    looks = looks_of(list(points))
    for name, pairs in points.items():
        ax.plot(*np.transpose(pairs), label=name, **looks[name])
    if floor is not None:
        ax.axhline(floor, **_IDEAL | {"label": floor_label})
    _log(ax)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    fig.legend(loc="outside right upper")
    return ax


@styled
def time_to_accuracy(
    fig: Figure,
    panels: dict[str, dict[str, Sequence[tuple[float, float]]]],
    floors: dict[str, float],
    marks: dict[str, dict[str, float]],
) -> np.ndarray:
    """Error against seconds, both logarithmic, a column for each system: what lies to the lower left is better.

    Args:
        fig: from `figure`.
        panels: pairs (seconds, error) by the kind of method, by the system's name.
        floors: the least error that can be reached, for systems of which it is known.
        marks: seconds to compare with, by what takes them, by the system's name.

    Returns:
        The axes, `(columns,)`.
    """
    fig.clear()
    fig.set_layout_engine("constrained")
    axes = fig.subplots(1, len(panels), squeeze=False)[0]
    looks = looks_of(list(dict.fromkeys(kind for points in panels.values() for kind in points)))
    shown: dict[str, Artist] = {}
    for ax, (system, points) in zip(axes, panels.items(), strict=True):
        for kind, pairs in points.items():
            (shown[kind],) = ax.plot(*np.transpose(pairs), label=kind, **looks[kind] | {"linestyle": "none"})
        if system in floors:
            shown["Bayes limit"] = ax.axhline(floors[system], **_IDEAL | {"label": "Bayes limit"})
        for (what, seconds), style in zip(marks[system].items(), cycle(STYLES[2:4])):
            shown[what] = ax.axvline(seconds, color=GREYS[1], linewidth=1.4, linestyle=style, label=what)
        _log(ax)
        ax.xaxis.set_major_formatter(LogFormatterSciNotation())
        ax.set(title=system, xlabel="seconds per window")
    axes[0].set_ylabel(ERROR)
    fig.legend(shown.values(), shown.keys(), loc="outside upper center", ncols=5)
    return axes


@styled
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
    looks = looks_of(list(dict.fromkeys(name for lines in panels.values() for name in lines)))
    shown: dict[str, Artist] = {}
    for ax, (xlabel, lines) in zip(axes, panels.items(), strict=True):
        for name, pairs in lines.items():
            (shown[name],) = ax.plot(*np.transpose(pairs), label=name, **looks[name])
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


@styled
def against(
    fig: Figure,
    lines: dict[str, Sequence[tuple[float, float]]],
    xlabel: str,
    ylabel: str,
    levels: dict[str, float] | None = None,
    logarithmic: bool = False,
    chance: dict[str, Sequence[float]] | None = None,
) -> Axes:
    """A score against a setting, a line per name.

    Args:
        fig: from `figure`.
        lines: pairs (setting, score), rising, by the line's name; scores that are not finite are left out.
        xlabel: the setting, with its unit.
        ylabel: the score, with its unit.
        levels: scores to compare with, horizontal lines by their name.
        logarithmic: both axes.
        chance: standard errors of a line's scores, by its name: bars of that length go up and down from each.
    """
    ax = one_panel(fig)
    looks = looks_of(list(lines))
    for name, pairs in lines.items():
        kept = [(x, y) for x, y in pairs if np.isfinite(y)]
        ax.plot(*np.transpose(kept or [(np.nan, np.nan)]), label=name, **looks[name])
        if name in (chance or {}):
            bars = {"yerr": chance[name], "fmt": "none", "ecolor": looks[name]["color"], "capsize": 3}
            ax.errorbar(*np.transpose(pairs), **bars)
    for (name, level), style in zip((levels or {}).items(), cycle(STYLES[::-1])):
        ax.axhline(level, color=colour_of(name) or "black", linewidth=1.2, linestyle=style, label=name)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if logarithmic:
        _log(ax)
        settings = sorted({x for pairs in lines.values() for x, _ in pairs})
        ax.set_xticks(settings, [f"{float(f'{x:.3g}'):g}" for x in settings])
    else:
        ax.set_ylim(bottom=0)
    fig.legend(loc="outside right upper")
    return ax


@styled
def ranking(fig: Figure, errors: dict[str, float], xlabel: str, reference: str, repeats: Sequence[str] = ()) -> Axes:
    """Errors as dots on a line each, best first, with a line through the one that the others are compared with.

    Args:
        fig: from `figure`; a row for about eight names.
        errors: by what they belong to.
        xlabel: the error, with its unit.
        reference: one of the names.
        repeats: names of the same as the reference, which differ by chance alone. The range of all of them is drawn:
            a difference within it may be chance as well.
    """
    ax = one_panel(fig)
    names = sorted(errors, key=errors.get, reverse=True)
    same = [reference, *repeats]
    if repeats:
        ends = [errors[name] for name in same]
        ax.axvspan(min(ends), max(ends), color=RED, alpha=0.15, linewidth=0, label=f"{len(same)} seeds of {reference}")
    else:
        ax.axvline(errors[reference], **_IDEAL | {"label": reference})
    for place, name in enumerate(names):
        marker, other = ("D", RED) if name in same else ("o", GREYS[0])
        ax.plot(errors[name], place, marker=marker, color=colour_of(name) or other, linestyle="none", label=name)
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel=xlabel)
    if repeats:
        ax.legend(*(x[:1] for x in ax.get_legend_handles_labels()), loc="upper right")
    return ax


@styled
def epochs(
    fig: Figure, lines: dict[str, Sequence[float]], first_guess: float, xlabel: str = "epochs", ylabel: str = ERROR
) -> Axes:
    """Error against training epoch, a line per temperature.

    Args:
        fig: from `figure`.
        lines: errors before the first epoch and after each, by the line's name, from the coarsest temperature on.
        first_guess: error of the first guess, which knows no network.
        xlabel: what is counted.
        ylabel: the error, with its unit.
    """
    ax = one_panel(fig)
    for (name, values), style, shade in zip(lines.items(), cycle(STYLES[3::-1]), reds(len(lines))):
        ax.plot(range(len(values)), values, linestyle=style, color=shade, label=name)
    ax.axhline(first_guess, label="first guess", **_FIRST_GUESS)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    _log(ax, "y")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    fig.legend(loc="outside right upper", title="temperature")
    return ax
