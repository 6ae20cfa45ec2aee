"""A training as it goes: its errors so far, and what the network makes of a window that it never saw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from nida_kit.evaluate import BAND, ERROR
from nida_kit.plots.style import (
    BLUE,
    CROSSES,
    LINES,
    RED,
    component_names,
    label_time,
    legend,
    numbers_of,
    round_bounds,
    styled,
)
from nida_kit.state import COMPONENT, TIME

_MOST = 3  # components that have a panel
_ERRORS = (0.1, 2.0)  # that the upper panel shows, unless there are smaller ones


@dataclass(frozen=True)
class Training:
    """What `make_training` drew.

    Attributes:
        errors: the upper panel.
        curves: its artists, by what they show.
        panels: the axes below, one for each component.
        drawn: their artists, by variable.
    """

    errors: Axes
    curves: dict[str, Artist]
    panels: list[Axes]
    drawn: list[dict[str, Artist]]


@styled
def make_training(fig: Figure, ds: xr.Dataset) -> Training:
    """Draw the state of a training into an emptied figure.

    Args:
        fig: from `figure`.
        ds: `batch_rmse (batch)` and, after some batches each, `look_rmse (look)` of the windows that are held out, with
            the coordinate `after`; of one such window `truth`, `value`, `mean` and `std`, `(time, component)`; in
            `attrs` how many `batches` there will be, the error of `interpolation`, and `limits`, by component the
            smallest and the largest value to be shown.

    Returns:
        The artists, for `update_training`.
    """
    fig.clear()
    n = min(ds.sizes[COMPONENT], _MOST)
    fig.set_layout_engine("none")
    errors = fig.add_axes((0.12, 0.56, 0.85, 0.34))
    curves: dict[str, Artist] = {}
    (curves["batches"],) = errors.plot([], [], ".", markersize=3, color="black", alpha=0.35, label="each batch")
    (curves["looks"],) = errors.plot([], [], "o-", color=RED, clip_on=False, label="held-out windows")
    curves["interpolation"] = errors.axhline(
        1.0, color=BLUE, linewidth=1.6, linestyle=(0, (3, 2)), label="optimal interpolation on them"
    )
    curves["shown"] = errors.axvline(0.0, color=RED, linewidth=1, alpha=0.5)
    errors.set(yscale="log", xlabel="batches", ylabel=ERROR)
    errors.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    errors.yaxis.set_major_formatter("{x:g}")
    errors.yaxis.set_minor_locator(NullLocator())
    errors.legend(loc="upper right", fontsize="small", ncols=3)
    wide = 0.85 / n
    panels = [fig.add_axes((0.12 + i * wide, 0.1, wide - (0.06 if i < n - 1 else 0), 0.3)) for i in range(n)]
    drawn = []
    for ax, name in zip(panels, component_names(ds), strict=False):
        ax.set_title(name, fontsize="small")
        label_time(ax, ds[TIME])
        parts: dict[str, Artist] = {}
        (parts["band"],) = ax.fill([0, 0, 1], [0, 1, 0], color=RED, alpha=0.18, linewidth=0, label="90% interval")
        for key in ("truth", "mean"):
            (parts[key],) = ax.plot([], [], label=LINES[key][0], **LINES[key][1])
        (parts["value"],) = ax.plot([], [], label="observation", **CROSSES)
        drawn.append(parts)
    legend(fig, drawn[0])
    made = Training(errors, curves, panels, drawn)
    update_training(made, ds)
    return made


def update_training(made: Training, ds: xr.Dataset) -> None:
    """Show another state of the same training, or of another of as many components."""
    errors, looks = ds["batch_rmse"].values, ds["look_rmse"].values
    made.curves["batches"].set_data(np.arange(1, len(errors) + 1), errors)
    made.curves["looks"].set_data(ds["after"].values, looks)
    level = ds.attrs["interpolation"]
    made.curves["interpolation"].set_ydata([level, level])
    made.curves["shown"].set_xdata([ds.attrs["shown_after"]] * 2)
    least = min([*errors, *looks, level])
    low = _ERRORS[0] if least > _ERRORS[0] else 10.0 ** np.floor(np.log10(least))
    made.errors.set(xlim=(0, ds.attrs["batches"]), ylim=(low, _ERRORS[1]))
    time = numbers_of(ds[TIME])
    for column, (ax, parts) in enumerate(zip(made.panels, made.drawn, strict=True)):
        here = {
            name: ds[name].transpose(TIME, COMPONENT).values[:, column] for name in ("truth", "value", "mean", "std")
        }
        for name in ("truth", "value", "mean"):
            parts[name].set_data(time, here[name])
        half = BAND * here["std"]
        low, high = here["mean"] - half, here["mean"] + half
        parts["band"].set_xy(np.concatenate([np.stack([time, low], -1), np.stack([time, high], -1)[::-1]]))
        ax.set(xlim=(time[0], time[-1]), ylim=round_bounds(np.array(ds.attrs["limits"][column])))
