"""Fields on a plane beside each other, as maps on one scale, with the places of instruments."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from nida_kit.plots.style import styled, with_unit

_BESIDE = 0.02  # of the width, between a map and its bar


@styled
def maps(fig: Figure, panels: dict[str, xr.DataArray], at: xr.DataArray, alone: tuple[str, ...] = ()) -> np.ndarray:
    """A map for each field, one below the other; those that are not `alone` share one scale of colours.

    Args:
        fig: from `figure`, a row for each map.
        panels: fields `(y, x)` by the title of their map, all with the same dims and coordinates.
        at: where instruments are, `(y, x)`, true or false; drawn as circles.
        alone: titles of maps that have a scale of their own, a standard deviation beside temperatures.

    Returns:
        The axes.
    """
    fig.clear()
    fig.set_layout_engine("constrained")
    axes = fig.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    up, across = next(iter(panels.values())).dims
    rows, columns = np.nonzero(at.transpose(up, across).values)
    shared = [field.values for title, field in panels.items() if title not in alone]
    limits = {"vmin": np.min(shared), "vmax": np.max(shared)} if shared else {}
    for ax, (title, field) in zip(axes, panels.items(), strict=True):
        looks = {"cmap": "viridis"} if title in alone else {"cmap": "cividis", **limits}
        y, x = field[up], field[across]
        image = ax.pcolormesh(x.values, y.values, field.transpose(up, across).values, shading="nearest", **looks)
        marks = {"marker": "o", "markersize": 6, "color": "white", "markeredgecolor": "black", "linestyle": "none"}
        ax.plot(x.values[columns], y.values[rows], label="instruments", **marks)
        ax.set_title(title)
        ax.grid(False)
        fig.colorbar(image, ax=ax, pad=_BESIDE, label=with_unit("", field.attrs.get("units")).strip())
    fig.supylabel(with_unit(str(up), y.attrs.get("units")), fontsize="medium")
    axes[-1].set_xlabel(with_unit(str(across), x.attrs.get("units")))
    return axes
