"""What a size costs: times as they are measured, beside the powers that they should follow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from nida_kit.plots.style import GREYS, styled

_SECONDS = (3e-6, 30.0)  # from the call of a function to where nobody waits
_SIZES = {"steps": ("steps T", (2.0, 12_000.0)), "components": ("components n", (0.9, 150.0))}
_LAWS = {"steps": {"band": 1, "full matrix": 3}, "components": {"band": 3, "full matrix": 3}}
_LOOKS = {
    "band": {"color": GREYS[0], "marker": "o", "linestyle": "-"},
    "full matrix": {"color": GREYS[1], "marker": "s", "linestyle": (0, (5, 2))},
}


@dataclass(frozen=True)
class Cost:
    """What `make_cost` drew and `update_cost` sets anew.

    Attributes:
        figure: that it lives in.
        axes: by what grows.
        drawn: by what grows and what it shows.
        texts: the powers, by what grows and the way.
    """

    figure: Figure
    axes: dict[str, Axes]
    drawn: dict[str, dict[str, Artist]]
    texts: dict[str, dict[str, Artist]]


@styled
def make_cost(fig: Figure, ds: xr.Dataset) -> Cost:
    """Draw seconds against each size.

    Args:
        fig: from `figure`.
        ds: `seconds (point, way)`, of the ways "band" and "full matrix", NaN where none were measured, with the sizes
            `steps (point)` and `components (point)`; in `attrs` the `steps` and `components` that are shown, and
            `powers` by what grows and the way.

    Returns:
        The artists, for `update_cost`.
    """
    fig.clear()
    grid = fig.add_gridspec(1, 2, left=0.1, right=0.985, top=0.8, bottom=0.14, wspace=0.12)
    axes = {name: fig.add_subplot(grid[0, k]) for k, name in enumerate(_SIZES)}
    drawn: dict[str, dict[str, Artist]] = {}
    texts: dict[str, dict[str, Artist]] = {}
    for name, ax in axes.items():
        label, ends = _SIZES[name]
        drawn[name], texts[name] = {}, {}
        for k, (way, looks) in enumerate(_LOOKS.items()):
            thin = {"color": looks["color"], "linewidth": 1.2, "linestyle": (0, (1, 2))}
            (drawn[name][f"law {way}"],) = ax.plot([], [], label="expected power", **thin)
            (drawn[name][way],) = ax.plot([], [], label=way, **looks)
            (drawn[name][f"here {way}"],) = ax.plot([], [], color=looks["color"], marker="D", markersize=9)
            ground = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
            place = {"transform": ax.transAxes, "ha": "left", "va": "top", "color": looks["color"], "bbox": ground}
            texts[name][way] = ax.text(0.03, 0.97 - 0.08 * k, "", **place)
        ax.set(xscale="log", yscale="log", xlim=ends, ylim=_SECONDS, xlabel=label)
        ax.xaxis.set_major_formatter("{x:g}")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_major_locator(LogLocator(numticks=9))
    axes["steps"].set_ylabel("seconds of the processor")
    axes["components"].tick_params(labelleft=False)
    shown = [drawn["steps"][name] for name in ("band", "full matrix", "law band")]
    fig.legend(shown, [line.get_label() for line in shown], loc="upper center", ncols=3)
    made = Cost(fig, axes, drawn, texts)
    update_cost(made, ds)
    return made


def update_cost(made: Cost, ds: xr.Dataset) -> None:
    """Show what else was measured."""
    for name, other in (("steps", "components"), ("components", "steps")):
        symbol = {"steps": "n", "components": "T"}[name]
        made.axes[name].title.set_text(f"{symbol} = {ds.attrs[other]}")
        line = ds.isel(point=np.flatnonzero(ds[other].values == ds.attrs[other])).sortby(name)
        for way in _LOOKS:
            seconds, sizes = line["seconds"].sel(way=way).values, line[name].values
            fine = np.isfinite(seconds)
            seconds, sizes = seconds[fine], sizes[fine]
            made.drawn[name][way].set_data(sizes, seconds)
            here = sizes == ds.attrs[name]
            made.drawn[name][f"here {way}"].set_data(sizes[here], seconds[here])
            law, found = _LAWS[name][way], ds.attrs["powers"][name][way]
            ends = np.array(_SIZES[name][1])
            guide = seconds[-1] * (ends / sizes[-1]) ** law if len(sizes) else np.full(2, np.nan)
            made.drawn[name][f"law {way}"].set_data(ends, guide)
            measured = f"power {found:.2f}, " if np.isfinite(found) else ""
            made.texts[name][way].set_text(f"{way}: {measured}law {law}")
