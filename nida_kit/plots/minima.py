"""A descent of 4D-Var, and the cost between its start, its minimum and the truth.

>>> from nida_kit.minima import MinimaParameters, run_minima
>>> from nida_kit.plots import figure
>>> artists = make_minima(figure(rows=2), run_minima(MinimaParameters()))
>>> update_minima(artists, run_minima(MinimaParameters(place=0.8)))
"""

from __future__ import annotations

from dataclasses import dataclass

import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from nida_kit.plots.style import LINES, MARKS, colour_of, legend, styled
from nida_kit.state import COMPONENT, TIME

X, Z = (-24.0, 24.0), (0.0, 55.0)  # both wings of the attractor of Lorenz-63
COST = (0.3, 3e4)
_SHOWN = ("truth", "value", "first_guess", "mean")


@dataclass(frozen=True)
class MinimaArtists:
    """What `make_minima` drew and `update_minima` sets anew.

    Attributes:
        figure: that they live in.
        axes: of x against time, of the attractor, and of the cost.
        drawn: for each of these the artists, by what they show.
    """

    figure: Figure
    axes: tuple[Axes, Axes, Axes]
    drawn: tuple[dict[str, Artist], dict[str, Artist], dict[str, Artist]]


@styled
def make_minima(fig: Figure, ds: xr.Dataset) -> MinimaArtists:
    """Draw trajectories and, below them, the cost along the lines from the start over the minimum to the truth.

    Args:
        fig: from `figure(rows=2)`.
        ds: from `nida_kit.minima`, of which the last step is shown.

    Returns:
        The artists, for `update_minima`, which suit every dataset of `nida_kit.minima`.
    """
    fig.clear()
    width, height = fig.get_size_inches()

    def place(left: float, low: float, wide: float, tall: float) -> Axes:
        return fig.add_axes((left / width, low / height, wide / width, tall / height))

    room, below = height - 1.65, width - 0.95
    low = 0.5 + 0.5 * room + 0.6
    axes = (
        place(0.75, low, 0.55 * below, 0.5 * room),
        place(0.75 + 0.55 * below + 0.7, low, 0.45 * below - 0.7, 0.5 * room),
        place(0.75, 0.5, below, 0.5 * room),
    )
    series, wings, valley = axes
    colour = colour_of("4D-Var")
    labels = LINES | MARKS | {"first_guess": ("start", LINES["first_guess"][1])}
    labels |= {"mean": ("reconstruction", LINES["mean"][1] | {"color": colour})}
    drawn: tuple[dict[str, Artist], ...] = ({}, {}, {})
    for ax, made in zip(axes[:2], drawn[:2], strict=True):
        for name in _SHOWN if ax is series else ("truth", "first_guess", "mean"):
            label, looks = labels[name]
            (made[name],) = ax.plot([], [], label=label, **looks)
    (drawn[2]["line"],) = valley.plot([], [], color="black", linewidth=1.4, label="cost on the way")
    (drawn[2]["path"],) = valley.plot([], [], color=colour, linewidth=0.8, marker=".", markersize=4, label="descent")
    (drawn[2]["here"],) = valley.plot([], [], color=colour, linestyle="none", marker="o", markersize=8, label="here")
    series.set(ylim=X, xlabel="time", ylabel="x")
    wings.set(xlim=X, ylim=Z, xlabel="x", ylabel="z")
    valley.set(yscale="log", ylim=COST, xlim=(-0.08, 2.08), ylabel="cost")
    valley.set_xticks([0, 1, 2], ["start", "where it ends", "truth"])
    valley.yaxis.set_minor_locator(NullLocator())
    valley.yaxis.set_major_formatter("{x:g}")
    legend(fig, drawn[0])
    artists = MinimaArtists(fig, axes, drawn)
    update_minima(artists, ds)
    return artists


def update_minima(artists: MinimaArtists, ds: xr.Dataset) -> None:
    """Show another dataset: only data change."""
    ds = ds.isel(step=-1) if "step" in ds["mean"].dims else ds
    series, wings, valley = artists.drawn
    time = ds[TIME].values
    artists.axes[0].set_xlim(time[0], time[-1])
    for name in _SHOWN:
        x, z = (ds[name].sel({COMPONENT: c}).values if c in ds[name][COMPONENT] else None for c in ("x", "z"))
        series[name].set_data(time, x)
        if name in wings:
            wings[name].set_data(x, z)
    valley["line"].set_data(ds["place"], ds["line_cost"])
    valley["path"].set_data(ds["descent_place"], ds["descent_cost"])
    valley["here"].set_data([float(ds["step_place"])], [float(ds["step_cost"])])
