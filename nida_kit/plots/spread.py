"""What a stretched spread does: draws, ranks, coverage and score beside each other.

Each panel's limits hold all that a stretch can do, so that only what is drawn moves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from nida_kit.evaluate import BAND
from nida_kit.plots.style import CROSSES, GREYS, LINES, RED, legend, numbers_of, styled
from nida_kit.state import TIME

_REACH = 4.0  # climatological standard deviations: beyond the attractor
_IDEAL = {"color": "black", "linewidth": 1, "linestyle": (0, (3, 2)), "label": "calibrated"}


@dataclass(frozen=True)
class Spread:
    """What `make_spread` drew and `update_spread` sets anew.

    Attributes:
        figure: that it lives in.
        axes: of draws, ranks, coverage and score.
        draws: a line each.
        drawn: the rest, by what it shows.
    """

    figure: Figure
    axes: tuple[Axes, Axes, Axes, Axes]
    draws: list[Artist]
    drawn: dict[str, Artist]


@styled
def make_spread(fig: Figure, ds: xr.Dataset) -> Spread:
    """Draw a forecast whose spread is stretched.

    Args:
        fig: from `figure(rows=2)`.
        ds: along time `truth`, `value`, `mean`, `std` and `draws (member, time)`; `ranks (rank)`, `coverage (level)`,
            and `curve (stretch)`, the CRPS of other stretches; in `attrs` `stretch`, `crps` and the `component`.

    Returns:
        The artists, for `update_spread`.
    """
    fig.clear()
    grid = fig.add_gridspec(2, 2, left=0.09, right=0.985, top=0.88, bottom=0.1, hspace=0.52, wspace=0.24)
    top, ranks, covered, score = (fig.add_subplot(grid[i, j]) for i in range(2) for j in range(2))
    time = numbers_of(ds[TIME])
    thin = {"color": GREYS[1], "linewidth": 0.7, "alpha": 0.6}
    draws = [top.plot(time, 0 * time, **thin)[0] for _ in range(ds.sizes["member"])]
    drawn: dict[str, Artist] = {"draws": draws[0]}
    draws[0].set_label("draws")
    (drawn["band"],) = top.fill([0, 0, 1], [0, 1, 0], color=RED, alpha=0.18, linewidth=0, label="90% interval")
    for name, (label, looks) in {"truth": LINES["truth"], "mean": LINES["mean"]}.items():
        (drawn[name],) = top.plot(time, 0 * time, label=label, **looks)
    (drawn["value"],) = top.plot([], [], label="observation", **CROSSES | {"clip_on": True})
    top.set(xlim=(time[0], time[-1]), ylim=(-_REACH, _REACH), xlabel="time", ylabel="[climatological std]")
    edges = np.arange(ds.sizes["rank"] + 1) + 0.5
    drawn["ranks"] = ranks.stairs(0 * edges[1:], edges, fill=True, color=GREYS[1])
    ranks.axhline(1.0, **_IDEAL)
    ranks.set(xlim=(edges[0], edges[-1]), ylim=(0, 6), xlabel="rank of the truth among the draws")
    ranks.set_ylabel("frequency [of flat]")
    (drawn["coverage"],) = covered.plot([], [], color=RED, marker="o", clip_on=False)
    covered.axline((0, 0), slope=1, **_IDEAL)
    covered.set(xlim=(0, 1), ylim=(0, 1), xlabel="level of the interval", ylabel="truth within it")
    (drawn["curve"],) = score.plot([], [], color=RED)
    (drawn["here"],) = score.plot([], [], color=RED, marker="D", linestyle="none", markersize=8)
    score.axvline(1.0, **_IDEAL | {"label": "as told"})
    score.set(xscale="log", yscale="log", xlabel="stretch", ylabel="CRPS [climatological std]")
    score.set_xlim(float(ds["curve"]["stretch"].min()), float(ds["curve"]["stretch"].max()))
    score.set_xticks([0.1, 0.3, 1, 3, 10], ["0.1", "0.3", "1", "3", "10"])
    score.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    score.yaxis.set_major_formatter("{x:g}")
    for axis in (score.xaxis, score.yaxis):
        axis.set_minor_locator(NullLocator())
    for ax, title in zip((top, ranks, covered, score), ("", "ranks", "coverage", "score"), strict=True):
        ax.set_title(title)
    legend(fig, drawn)
    made = Spread(fig, (top, ranks, covered, score), draws, drawn)
    update_spread(made, ds)
    return made


def update_spread(made: Spread, ds: xr.Dataset) -> None:
    """Show another one of the same times: data, and the limits of the score."""
    drawn, time = made.drawn, numbers_of(ds[TIME])
    for line, values in zip(made.draws, ds["draws"].transpose("member", TIME).values, strict=True):
        line.set_data(time, values)
    for name in ("truth", "value", "mean"):
        drawn[name].set_data(time, ds[name].values)
    mean, half = ds["mean"].values, BAND * ds["std"].values
    outline = np.concatenate([np.stack([time, mean - half], -1), np.stack([time, mean + half], -1)[::-1]])
    drawn["band"].set_xy(outline)
    drawn["ranks"].set_data(ds["ranks"].values / ds["ranks"].values.mean())
    drawn["coverage"].set_data(ds["level"].values, ds["coverage"].values)
    curve = ds["curve"]
    drawn["curve"].set_data(curve["stretch"].values, curve.values)
    drawn["here"].set_data([ds.attrs["stretch"]], [ds.attrs["crps"]])
    top, *_, score = made.axes
    top.title.set_text(f"draws of {ds.attrs['component']}, one window")
    score.set_ylim(0.8 * curve.values.min(), 1.2 * curve.values.max())
