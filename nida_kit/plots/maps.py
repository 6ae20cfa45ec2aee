"""Fields on a plane beside each other, as maps on one scale, with the places of instruments."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from nida_kit.plots.style import UNKNOWN, styled, with_unit

_BESIDE = 0.02  # of the width, between a map and its bar
_CIRCLES = {"marker": "o", "markersize": 6, "color": "white", "markeredgecolor": "black", "linestyle": "none"}


@styled
def maps(
    fig: Figure,
    panels: dict[str, xr.DataArray],
    at: xr.DataArray | None = None,
    alone: tuple[str, ...] = (),
    columns: int = 1,
) -> np.ndarray:
    """A map for each field, row by row; those that are not `alone` share one scale of colours.

    Args:
        fig: from `figure`, a row for each map.
        panels: fields `(y, x)` by the title of their map, all with the same dims and coordinates; NaN stays empty.
        at: where instruments are, `(y, x)`, true or false; drawn as circles.
        alone: titles of maps that have a scale of their own, a standard deviation beside temperatures.
        columns: how many maps lie side by side; 1 puts each below the other.

    Returns:
        The axes.
    """
    fig.clear()
    fig.set_layout_engine("constrained")
    rows = -(-len(panels) // columns)
    grid = fig.subplots(rows, columns, sharex=True, sharey=columns > 1, squeeze=False)
    axes = grid.flat[: len(panels)]
    for ax in grid.flat[len(panels) :]:
        ax.remove()
    up, across = next(iter(panels.values())).dims
    shared = [field.values for title, field in panels.items() if title not in alone]
    limits = {"vmin": np.nanmin(shared), "vmax": np.nanmax(shared)} if shared else {}
    first = next((ax for ax, title in zip(axes, panels, strict=True) if title not in alone), None)
    for ax, (title, field) in zip(axes, panels.items(), strict=True):
        looks = {"cmap": "viridis"} if title in alone else {"cmap": "cividis", **limits}
        y, x = field[up], field[across]
        image = ax.pcolormesh(x.values, y.values, field.transpose(up, across).values, shading="nearest", **looks)
        if at is not None:
            j, i = np.nonzero(at.transpose(up, across).values)
            ax.plot(x.values[i], y.values[j], label="instruments", **_CIRCLES)
        ax.set(title=title, facecolor=UNKNOWN)
        ax.grid(False)
        label = with_unit("", field.attrs.get("units")).strip()
        if columns == 1 or title in alone:
            fig.colorbar(image, ax=ax, pad=_BESIDE, label=label)
        elif ax is first:  # one bar for all beside each other that share a scale
            fig.colorbar(image, ax=list(axes[:columns]), pad=_BESIDE, label=label)
    fig.supylabel(with_unit(str(up), y.attrs.get("units")), fontsize="medium")
    for ax in axes[-columns:]:
        ax.set_xlabel(with_unit(str(across), x.attrs.get("units")))
    return axes
