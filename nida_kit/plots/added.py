"""What one step adds: an estimate on the way, and below it the step beside what was missing.

>>> from nida_kit.experiment import Parameters, run
>>> from nida_kit.plots import figure
>>> artists = make_added(figure(rows=2), run(Parameters()))
>>> update_added(artists, run(Parameters(seed=1)))
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.text import Text

from nida_kit.evaluate import BAND
from nida_kit.plots.style import (
    LINES,
    MARKS,
    bounds_of,
    colour_of_estimate,
    component_names,
    label_time,
    legend,
    numbers_of,
    pick,
    round_bounds,
    styled,
)
from nida_kit.state import COMPONENT, TIME

_SHOWN = LINES | MARKS
_MOST = 3  # components


@dataclass(frozen=True)
class AddedArtists:
    """What `make_added` drew and `update_added` sets anew.

    Attributes:
        figure: that they live in.
        axes: `(2, components)`.
        drawn: for each row and column the artists, by what they show.
        said: a line about the step, between the rows.
    """

    figure: Figure
    axes: np.ndarray
    drawn: list[list[dict[str, Artist]]]
    said: Text


@styled
def make_added(fig: Figure, ds: xr.Dataset) -> AddedArtists:
    """Draw an estimate on the way, a column per component, and what the last step added to it.

    The lower row shows what was missing before the step, truth minus the estimate that it began with, and what the
    step added. If both lie on one another, the step was perfect.

    Args:
        fig: from `figure(rows=2)`.
        ds: from `experiment.run`, of which the first window is drawn at its last step.

    Returns:
        The artists, for `update_added`, which suit every dataset of as many components.
    """
    fig.clear()
    shown = _last(ds)
    n = shown.sizes[COMPONENT]
    axes = _panels(fig, n)
    drawn: list[list[dict[str, Artist]]] = [[{} for _ in range(n)] for _ in range(2)]
    colour = {"color": colour_of_estimate(ds)}
    for ax, made in zip(axes[0], drawn[0], strict=True):
        (made["band"],) = ax.fill([0, 0, 1], [0, 1, 0], alpha=0.18, linewidth=0, label="90% interval", **colour)
        for name in ("truth", "first_guess", "mean", "value"):
            label, looks = _SHOWN[name]
            (made[name],) = ax.plot([], [], label=label, **looks | (colour if name == "mean" else {}))
    for ax, made in zip(axes[1], drawn[1], strict=True):
        (made["missing"],) = ax.plot([], [], color="black", linewidth=1.3, label="missing before")
        (made["added"],) = ax.plot([], [], label="added", **LINES["mean"][1] | colour)
    for ax, name in zip(axes[0], component_names(shown), strict=True):
        ax.set_title(name)
        ax.tick_params(labelbottom=False)
    for ax in axes[1]:
        label_time(ax, shown[TIME])
    legend(fig, drawn[0][0])
    below = {"fontsize": "small", "handlelength": 2.4, "columnspacing": 1.0, "ncols": 2, "borderaxespad": 0}
    axes[1, -1].legend(*axes[1, 0].get_legend_handles_labels(), loc="lower right", bbox_to_anchor=(1.0, 1.03), **below)
    said = axes[1, 0].text(0, 1.06, "", transform=axes[1, 0].transAxes, fontsize="small")
    artists = AddedArtists(fig, axes, drawn, said)
    update_added(artists, ds)
    return artists


def update_added(artists: AddedArtists, ds: xr.Dataset) -> None:
    """Show another dataset of as many components: data, limits and the line about the step change."""
    shown = _last(ds)
    time = numbers_of(shown[TIME])
    values = {
        name: shown[name].reindex({COMPONENT: shown[COMPONENT]}).transpose(..., COMPONENT).values
        for name in ("truth", "first_guess", "mean", "std", "value", "before", "usual")
    }
    half = BAND * values["std"]
    around = np.concatenate([values["mean"] - half, (values["mean"] + half)[::-1]])
    there_and_back = np.concatenate([time, time[::-1]])
    steps = {"missing": values["truth"] - values["before"], "added": values["mean"] - values["before"]}
    bounds = bounds_of([values])
    for k, (above, below) in enumerate(zip(*artists.drawn, strict=True)):
        above["band"].set_xy(np.stack([there_and_back, around[:, k]], -1))
        for name in ("truth", "first_guess", "mean", "value"):
            above[name].set_data(time, values[name][:, k])
        for name, lines in steps.items():
            below[name].set_data(time, lines[:, k])
        artists.axes[0, k].set_ylim(bounds[k])
        # The same for all steps, so that a small step looks small.
        widest = values["truth"][:, k] - values["first_guess"][:, k]
        artists.axes[1, k].set_ylim(round_bounds(np.concatenate([widest, -widest])))
        for ax in artists.axes[:, k]:
            ax.set_xlim(time[0], time[-1])
    artists.said.set_text(_sentence(shown))


def _sentence(shown: xr.Dataset) -> str:
    s = float(shown["temperature"]) if "temperature" in shown.coords else 0.0
    step = f"Step {int(shown['step'])}" + (f", at s = {s:.2g}," if s > 0 else "")
    before, after = float(shown["before_rmse"]), float(shown["step_rmse"])
    digits = 3 if f"{before:.2f}" == f"{after:.2f}" else 2  # a small change is to be seen, too
    return f"{step} takes the RMSE from {before:.{digits}f} to {after:.{digits}f}."


def _last(ds: xr.Dataset) -> xr.Dataset:
    """The first window at its last step, and at most three components."""
    return pick(ds).isel(step=-1).isel({COMPONENT: slice(_MOST)})


def _panels(fig: Figure, n: int) -> np.ndarray:
    """Axes `(2, n)` at fixed places: nothing moves."""
    width, height = fig.get_size_inches()
    gap, left, low, top, between = 0.55, 0.6, 0.5, 0.85, 0.5
    wide, tall = (width - left - 0.15 - (n - 1) * gap) / n, (height - low - top - between) / 2
    axes = np.empty((2, n), dtype=object)
    for i, j in np.ndindex(2, n):
        place = (left + j * (wide + gap), low + (1 - i) * (tall + between), wide, tall)
        axes[i, j] = fig.add_axes([x / size for x, size in zip(place, (width, height) * 2, strict=True)])
    return axes
