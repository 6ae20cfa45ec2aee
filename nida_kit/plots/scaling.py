"""How a cost grows with a size, and how an error falls with training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from nida_kit.evaluate import ERROR
from nida_kit.plots.style import colour_of, looks_of, one_panel, styled


@styled
def growth(
    fig: Figure,
    panels: dict[str, dict[str, Sequence[tuple[float, float]]]],
    xlabel: str,
    powers: dict[str, dict[str, int]] | None = None,
) -> np.ndarray:
    """Quantities against a size, both logarithmic, a column each: a power law is a straight line.

    A measured power is the slope of a line's last four points in logarithms.

    Args:
        fig: from `figure`.
        panels: pairs (size, value), rising, by the line's name, by the quantity's name with its unit.
        xlabel: the size.
        powers: expected of some lines, by their name, by the quantity's: a thin line of that slope goes through their
            last point, and both powers, the measured one and this, stand in the panel.

    Returns:
        The axes, `(columns,)`.
    """
    fig.clear()
    fig.set_layout_engine("constrained")
    axes = fig.subplots(1, len(panels), squeeze=False)[0]
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    looks = looks_of(names)
    shown = {}
    thin = {"color": "black", "linewidth": 1, "linestyle": (0, (1, 2)), "zorder": 1}
    for ax, (ylabel, lines) in zip(axes, panels.items(), strict=True):
        for name, pairs in lines.items():
            (shown[name],) = ax.plot(*np.transpose(pairs), label=name, **looks[name])
        for name, power in (powers or {}).get(ylabel, {}).items():
            size, value = np.transpose(lines[name])
            guide = value[-1] * (size / size[-1]) ** power
            (shown["expected power"],) = ax.plot(size, guide, **thin)
        _say_powers(ax, lines, (powers or {}).get(ylabel, {}), looks)
        sizes = sorted({x for pairs in lines.values() for x, _ in pairs})
        values = [y for pairs in lines.values() for _, y in pairs]
        ends = min(values) / 1.4, max(values) * 1.4
        ax.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel, ylim=ends)
        every = -(-len(sizes) // 6)  # at most six labels
        ax.set_xticks(sizes[::-1][::every], [f"{x:g}" for x in sizes[::-1][::every]])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if ends[1] < 100 * ends[0] else (1,)))
        if ends[0] > 1e-3 and ends[1] < 1e5:
            ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_locator(NullLocator())
    guides = {"expected power": shown.pop("expected power")} if "expected power" in shown else {}
    shown |= guides  # last
    fig.legend(shown.values(), shown.keys(), loc="outside upper center", ncols=3, handlelength=2.8)
    return axes


def _say_powers(
    ax: Axes, lines: dict[str, Sequence[tuple[float, float]]], laws: dict[str, int], looks: dict[str, dict]
) -> None:
    """The power that a line grows with, beside that of its law, in the line's colour."""
    for place, (name, law) in enumerate(laws.items()):
        size, value = np.log(np.array(lines[name][-4:], float)).T
        measured = f"{np.polyfit(size, value, 1)[0]:.2f}" if len(size) > 1 else "not measured"
        about = {"transform": ax.transAxes, "va": "top", "fontsize": "x-small", "color": looks[name]["color"]}
        about |= {"bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1.0}}
        ax.text(0.03, 0.97 - 0.08 * place, f"{name}: power {measured}, law {law}", **about)


@styled
def learning(
    fig: Figure, histories: dict[str, xr.Dataset], levels: dict[str, float] | None = None, smooth: int = 25
) -> Axes:
    """Root mean squared error of each batch against the number of batches, as points, and a running median as a line.

    Args:
        fig: from `figure`.
        histories: from `nk.train`, by the label of their line.
        levels: root mean squared errors to compare with, by their name.
        smooth: batches that a median is taken over.
    """
    ax = one_panel(fig)
    looks = looks_of(list(histories))
    for name, history in histories.items():
        style, colour = looks[name]["linestyle"], looks[name]["color"]
        error = history["mse"] ** 0.5
        ax.plot(history["batch"], error, linestyle="none", marker=".", markersize=2, color=colour, alpha=0.4)
        median = error.rolling(batch=smooth, center=True, min_periods=1).median()
        ax.plot(history["batch"], median, linestyle=style, color=colour, label=name)
    for (name, level), dashes in zip((levels or {}).items(), cycle([(0, (3, 2)), (0, (1, 1.5))])):
        ax.axhline(level, color=colour_of(name) or "black", linewidth=1, linestyle=dashes, label=name)
    ax.set(yscale="log", xlabel="batches", ylabel=ERROR)
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_locator(NullLocator())
    fig.legend(loc="outside right upper")
    return ax
