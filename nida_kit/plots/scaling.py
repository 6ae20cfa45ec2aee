"""How a cost grows with a size."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from nida_kit.plots.style import MARKERS, STYLES, colours, styled


@styled
def growth(
    fig: Figure,
    panels: dict[str, dict[str, Sequence[tuple[float, float]]]],
    xlabel: str,
    powers: dict[str, int] | None = None,
) -> np.ndarray:
    """Quantities against a size, both logarithmic, a column each: a power law is a straight line.

    Args:
        fig: from `figure`.
        panels: pairs (size, value), rising, by the line's name, by the quantity's name with its unit.
        xlabel: the size.
        powers: expected of some lines, by their name: a thin line of that slope goes through their last point.

    Returns:
        The axes, `(columns,)`.
    """
    fig.clear()
    fig.set_layout_engine("constrained")
    axes = fig.subplots(1, len(panels), squeeze=False)[0]
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    looks = {name: look for name, *look in zip(names, cycle(STYLES), cycle(MARKERS), cycle(colours()))}
    shown = {}
    for ax, (ylabel, lines) in zip(axes, panels.items(), strict=True):
        for name, pairs in lines.items():
            style, marker, colour = looks[name]
            (shown[name],) = ax.plot(*np.transpose(pairs), linestyle=style, marker=marker, color=colour, label=name)
        low = ax.get_ylim()[0]
        for name, power in (powers or {}).items():
            if name in lines:
                size, value = np.transpose(lines[name])
                guide = value[-1] * (size / size[-1]) ** power
                (drawn,) = ax.plot(size, guide, color="black", linewidth=1, linestyle=(0, (1, 2)), zorder=1)
                shown["expected power"] = drawn
        sizes = sorted({x for pairs in lines.values() for x, _ in pairs})
        ax.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel, ylim=(low if low > 0 else None, None))
        every = -(-len(sizes) // 6)  # at most six labels
        ax.set_xticks(sizes[::-1][::every], [f"{x:g}" for x in sizes[::-1][::every]])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_locator(LogLocator(numticks=8))
        ax.yaxis.set_minor_locator(NullLocator())
    fig.legend(shown.values(), shown.keys(), loc="outside upper center", ncols=3, handlelength=2.8)
    return axes
