"""Scores of several methods, case by case."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from nida_kit.plots.style import looks_of, styled


@styled
def by_case(
    fig: Figure,
    panels: dict[str, dict[str, dict[str, float]]],
    log: tuple[str, ...] = (),
    ideal: dict[str, float] | None = None,
) -> np.ndarray:
    """A row per case, a marker per method, a column per score.

    Args:
        fig: from `figure`; a unit of rows for about five cases.
        panels: values by case, by the method's name, by the score's name with its unit. Cases stand in the order of
            their first mention, from above; a method may lack some.
        log: scores whose axis is logarithmic.
        ideal: by score, a value that is marked by a line.

    Returns:
        The axes, `(columns,)`.
    """
    fig.clear()
    fig.set_layout_engine("constrained")
    axes = fig.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    methods = list(dict.fromkeys(name for values in panels.values() for name in values))
    cases = list(dict.fromkeys(case for values in panels.values() for row in values.values() for case in row))
    looks = looks_of(methods)
    shift = dict(zip(methods, np.linspace(-0.3, 0.3, len(methods)), strict=True))
    shown = {}
    for ax, (score, values) in zip(axes, panels.items(), strict=True):
        for name, row in values.items():
            places = [cases.index(case) + shift[name] for case in row]
            marks = looks[name] | {"linestyle": "none", "markeredgecolor": "black"}
            (shown[name],) = ax.plot(list(row.values()), places, label=name, **marks)
        for edge in np.arange(len(cases) - 1) + 0.5:
            ax.axhline(edge, color="black", linewidth=0.5, alpha=0.4)
        if score in (ideal or {}):
            ax.axvline(ideal[score], color="black", linewidth=1, linestyle=(0, (3, 2)))
        if score in log:
            ax.set_xscale("log")
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_locator(NullLocator())
        ax.grid(False, axis="y")
        ax.set(xlabel=score, ylim=(len(cases) - 0.5, -0.5))
    axes[0].set_yticks(range(len(cases)), cases)
    fig.legend(shown.values(), shown.keys(), loc="outside upper center", ncols=3)
    return axes
