"""Bayes on a line, ellipses of two variables, and matrices of a window.

>>> from nida_kit.line import line
>>> from nida_kit.plots import figure
>>> artists = make_line(figure(rows=2), line(prior_mean=-1.0, prior_std=1.5, value=3.0, noise_std=1.0))
>>> update_line(artists, line(prior_mean=0.0, prior_std=1.5, value=3.0, noise_std=1.0))
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from nida_kit.evaluate import BAND
from nida_kit.plots.style import BLUE, CROSSES, RED, styled

if TYPE_CHECKING:
    from torch import Tensor

    from nida_kit.gaussian import Gaussian

ORANGE = "#f89c20"  # of the style's cycle
ACROSS, UP = (-6.0, 10.0), (-5.0, 10.5)  # what is shown of x and of y, whatever the parameters
# label, then the line's looks, by the variable that it draws
CURVES: dict[str, tuple[str, dict[str, Any]]] = {
    "prior": ("prior", {"color": BLUE, "linestyle": (0, (3, 2)), "linewidth": 1.7}),
    "likelihood": ("likelihood of x", {"color": ORANGE, "linestyle": (0, (7, 1.5, 1.2, 1.5)), "linewidth": 1.7}),
    "posterior": ("posterior, exact", {"color": RED, "linestyle": "-", "linewidth": 2.4}),
    "gaussian": ("Gaussian update", {"color": "black", "linestyle": (0, (1, 1.6)), "linewidth": 1.9}),
}
MARKS: dict[str, tuple[str, dict[str, Any]]] = {
    "prior_mean": ("prior mean", {"color": BLUE, "marker": "^", "markersize": 8}),
    "mean": ("posterior mean", {"color": RED, "marker": "o", "markersize": 7}),
    "mode": ("MAP", {"color": "white", "marker": "D", "markersize": 7, "markeredgecolor": RED, "markeredgewidth": 1.8}),
}


@dataclass(frozen=True)
class LineArtists:
    """What `make_line` drew and `update_line` sets anew.

    Attributes:
        figure: that they live in.
        axes: of the densities, and of what is measured.
        drawn: by the variable or number that they show.
        top: of the densities' axis; None is a round one above all of them.
    """

    figure: Figure
    axes: tuple[Axes, Axes]
    drawn: dict[str, Artist]
    top: float | None


@styled
def make_line(fig: Figure, ds: xr.Dataset, top: float | None = None) -> LineArtists:
    """Draw prior, likelihood and posterior over x, and below them what is measured: h(x), and the value.

    Args:
        fig: from `figure(rows=2)`.
        ds: from `nida_kit.line`.
        top: of the densities' axis. None is the lowest of 0.5, 1, 2, 4, ... above all curves, so it moves rarely.

    Returns:
        The artists, for `update_line`, which suit every dataset of `nida_kit.line`.
    """
    fig.clear()
    axes = _two_panels(fig)
    above, below = axes
    drawn: dict[str, Artist] = {}
    for name, (label, looks) in CURVES.items():
        (drawn[name],) = above.plot([], [], label=label, **looks)
    for name, (label, looks) in MARKS.items():
        (drawn[name],) = above.plot([], [], linestyle="none", label=label, zorder=4, clip_on=False, **looks)
    (drawn["predicted"],) = below.plot([], [], color="black", linewidth=1.5, label="h(x)")
    looks = CURVES["likelihood"][1]
    (drawn["value"],) = below.plot([], [], label="measured value", **looks)
    drawn["band"] = below.axhspan(0, 1, color=ORANGE, alpha=0.25, linewidth=0, label="its 90% interval")
    (drawn["agree"],) = below.plot([], [], **CROSSES | {"label": "h(x) = value", "clip_on": True})
    above.set(xlim=ACROSS, ylabel="density")
    below.set(xlim=ACROSS, ylim=UP, xlabel="x", ylabel="y")
    above.tick_params(labelbottom=False)
    for ax in axes:
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.04), handlelength=2.8)
    artists = LineArtists(fig, axes, drawn, top)
    update_line(artists, ds)
    return artists


def update_line(artists: LineArtists, ds: xr.Dataset) -> None:
    """Show another dataset: data and, if it has no fixed top, the height of the densities' axis change."""
    x, about, drawn = ds["x"].values, ds.attrs, artists.drawn
    shown = (x >= ACROSS[0]) & (x <= ACROSS[1])
    for name in (*CURVES, "predicted"):
        drawn[name].set_data(x[shown], ds[name].values[shown])
    drawn["mean"].set_data([about["mean"]], [0])
    for peak, curve in (("prior_mean", "prior"), ("mode", "posterior")):
        drawn[peak].set_data([about[peak]], [np.interp(about[peak], x, ds[curve].values)])
    value, half = about["value"], BAND * about["noise_std"]
    drawn["value"].set_data(ACROSS, [value, value])
    drawn["band"].set(y=value - half, height=2 * half)
    meeting = _crossings(x, ds["predicted"].values - value)
    drawn["agree"].set_data(meeting, np.full(len(meeting), value))
    artists.axes[0].set_ylim(0, artists.top or _round_top(max(ds[name].values.max() for name in CURVES)))


def _two_panels(fig: Figure) -> tuple[Axes, Axes]:
    """Densities above, the measurement below, at fixed places with room for the legends at the right."""
    width, height = fig.get_size_inches()
    left, wide = 0.75 / width, (width - 3.0) / width
    low, gap, top = 0.5 / height, 0.2 / height, 0.15 / height
    tall = 1 - low - gap - top
    below = fig.add_axes((left, low, wide, 0.42 * tall))
    above = fig.add_axes((left, low + gap + 0.42 * tall, wide, 0.58 * tall))
    for ax in (above, below):
        ax.yaxis.set_label_coords(-0.5 / (width - 3.0), 0.5)
    return above, below


def _round_top(highest: float) -> float:
    """The lowest of 0.5, 1, 2, 4, ... that leaves some room above."""
    return 2.0 ** max(-1, math.ceil(math.log2(1.05 * highest)))


def _crossings(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where a curve crosses zero, by linear interpolation."""
    at = np.flatnonzero(np.signbit(y[:-1]) != np.signbit(y[1:]))
    return x[at] - y[at] * (x[at + 1] - x[at]) / (y[at + 1] - y[at])


@styled
def ellipses(fig: Figure, panels: dict[str, tuple[Gaussian, Gaussian]], value: float, noise_std: float) -> np.ndarray:
    """Two variables of which the first is measured: the ellipses that hold 90% before and after, a panel per prior.

    Args:
        fig: from `figure`.
        panels: prior and posterior by the panel's title, Gaussians over one step of two components, `(1, 2)`.
        value: measured of the first component.
        noise_std: its error's.

    Returns:
        The axes, `(columns,)`.
    """
    fig.clear()
    axes = _square_panels(fig, len(panels))
    for ax, (title, pair) in zip(axes, panels.items(), strict=True):
        half = BAND * noise_std
        ax.axvspan(value - half, value + half, color=ORANGE, alpha=0.25, linewidth=0, label="its 90% interval")
        ax.axvline(value, **CURVES["likelihood"][1], label="measured value")
        for gaussian, name, mark in zip(pair, ("prior", "posterior"), ("prior_mean", "mean"), strict=True):
            ax.plot(*_ellipse(gaussian), label=f"{name}, 90%", **CURVES[name][1])
            ax.plot(*gaussian.mean[0], linestyle="none", label=MARKS[mark][0], zorder=4, **MARKS[mark][1])
        ax.set(title=title, xlabel="x₁, measured")
    ends = np.concatenate([line.get_xydata().ravel() for ax in axes for line in ax.lines[1:]])
    axes[0].set(xlim=(ends.min() - 0.3, ends.max() + 0.3), ylim=(ends.min() - 0.3, ends.max() + 0.3))
    axes[0].set_ylabel("x₂, not measured")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="upper center", ncols=3, handlelength=2.8)
    return axes


def _square_panels(fig: Figure, columns: int) -> np.ndarray:
    """Square axes side by side with the same limits, centred, and room for a legend of two lines above."""
    width, height = fig.get_size_inches()
    gap, low = 0.3, 0.5
    side = min((width - 1.6) / columns - gap, height - low - 0.85)
    left = (width - columns * (side + gap) + gap) / 2
    axes = np.empty(columns, dtype=object)
    for i in range(columns):
        place = ((left + i * (side + gap)) / width, low / height, side / width, side / height)
        axes[i] = fig.add_axes(place, sharex=axes[0], sharey=axes[0])
        axes[i].tick_params(labelleft=i == 0)
    return axes


def _ellipse(gaussian: Gaussian) -> np.ndarray:
    """The outline `(2, points)` of what holds 90% of a Gaussian over two variables."""
    radius = math.sqrt(-2 * math.log(0.1))  # of chi-squared with two degrees of freedom
    turn = np.linspace(0, 2 * math.pi, 201)
    covariance = np.linalg.inv(gaussian.precision.double().dense().numpy())
    outline = radius * np.linalg.cholesky(covariance) @ np.stack([np.cos(turn), np.sin(turn)])
    return gaussian.mean[0].double().numpy()[:, None] + outline


@styled
def matrices(fig: Figure, panels: dict[str, Tensor | np.ndarray], components: int = 1) -> np.ndarray:
    """Square matrices of a window as images: how large each entry is beside the largest one of its matrix.

    Args:
        fig: from `figure`.
        panels: `(T n, T n)` each, by the panel's title.
        components: n; the axes count time steps.

    Returns:
        The axes, `(columns,)`.
    """
    fig.clear()
    fig.set_layout_engine("constrained")
    axes = fig.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    norm = PowerNorm(0.5, 0, 1)  # small entries are to be seen beside large ones
    for ax, (title, matrix) in zip(axes, panels.items(), strict=True):
        size = np.abs(np.asarray(matrix))
        steps = len(size) / components - 0.5
        image = ax.imshow(size / size.max(), cmap="Greys", norm=norm, extent=(-0.5, steps, steps, -0.5))
        ax.set(title=title, xlabel="time step")
        ax.grid(False)
        ax.spines[:].set_visible(True)
    axes[0].set_ylabel("time step")
    fig.colorbar(image, ax=list(axes), ticks=[0, 0.01, 0.1, 0.5, 1], label="|entry| / largest", shrink=0.8)
    return axes
