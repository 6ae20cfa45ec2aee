"""A large state as images: site against time.

The truth, the reconstruction, those of methods beside it, and the reconstruction's error in standard deviations of its
posterior; crosses are what was observed. Made once, then updated by setting data alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import fill

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D

from nida_kit.plots.style import pick, styled, with_unit
from nida_kit.state import COMPONENT, TIME

_WIDEST = 4.0  # standard deviations
_ERROR = "error / posterior std"


@dataclass(frozen=True)
class Images:
    """What `make_field` drew and `update_field` sets anew.

    Attributes:
        figure: that they live in.
        images: by panel.
        observed: crosses, by panel.
    """

    figure: Figure
    images: dict[str, AxesImage]
    observed: list[Line2D]


def _last(ds: xr.Dataset) -> xr.Dataset:
    """The first window, at its last step."""
    ds = pick(ds)
    return ds.isel(step=-1) if "step" in ds.dims else ds


def _panels(ds: xr.Dataset) -> dict[str, np.ndarray]:
    """What each panel shows, `(component, time)`."""
    others = {str(name): ds["beside"].sel(other=name) for name in (ds["other"].values if "beside" in ds else ())}
    error = (ds["mean"] - ds["truth"]) / ds["std"]
    panels = {"truth": ds["truth"], "reconstruction": ds["mean"], **others, _ERROR: error}
    return {name: array.transpose(COMPONENT, TIME).values for name, array in panels.items()}


@styled
def make_field(fig: Figure, ds: xr.Dataset) -> Images:
    """Draw a reconstruction of many components into an emptied figure.

    Args:
        fig: from `figure`.
        ds: as `experiment.run` returns it: `truth`, `mean`, `std`, `value` and, if there are others, `beside`, of which
            the first window and the last step are drawn.

    Returns:
        The artists, for `update_field`.
    """
    fig.clear()
    shown = _last(ds)
    images, observed = {}, []
    time, sites = shown[TIME].values, shown.sizes[COMPONENT]
    half = (time[1] - time[0]) / 2 if len(time) > 1 else 0.5
    extent = (time[0] - half, time[-1] + half, -0.5, sites - 0.5)
    panels = _panels(shown)
    left, gap, bars = 0.06, 0.02, 0.12  # of the width: labels, between panels, a bar with its labels
    wide = (0.98 - left - bars - gap * len(panels)) / len(panels)
    for i, (name, values) in enumerate(panels.items()):
        is_error = name == _ERROR
        at = left + i * (wide + gap) + (bars / 2 if is_error else 0)
        ax = fig.add_axes((at, 0.2, wide, 0.66))
        looks = {"cmap": "RdBu_r", "vmin": -_WIDEST, "vmax": _WIDEST} if is_error else {"cmap": "cividis"}
        images[name] = ax.imshow(values, aspect="auto", origin="lower", extent=extent, **looks)
        observed += ax.plot([], [], color="black", linestyle="none", marker="x", markersize=3, markeredgewidth=0.8)
        many = len(panels) > 4
        ax.set_title(fill(name, 14, break_long_words=False) if many else name, fontsize="small" if many else "medium")
        ax.set_xlabel(with_unit("time", shown[TIME].attrs.get("units")))
        ax.tick_params(labelleft=i == 0)
        ax.grid(False)
        # The last panel's bar, and that of all before it.
        if i >= len(panels) - 2:
            fig.colorbar(images[name], cax=fig.add_axes((at + wide + 0.006, 0.2, 0.012, 0.66)))
    fig.axes[0].set_ylabel("component")
    made = Images(fig, images, observed)
    update_field(made, ds)
    return made


def update_field(made: Images, ds: xr.Dataset) -> None:
    """Show another dataset of the same components and times."""
    shown = _last(ds)
    panels = _panels(shown)
    low, high = np.floor(panels["truth"].min()), np.ceil(panels["truth"].max())
    for name, values in panels.items():
        made.images[name].set_data(values)
        if name != _ERROR:
            made.images[name].set_clim(low, high)
    index, when = np.nonzero(shown["value"].transpose(COMPONENT, TIME).notnull().values)
    names = shown["value"][COMPONENT].values[index]
    site = shown.get_index(COMPONENT).get_indexer(names)
    for crosses in made.observed:
        crosses.set_data(shown[TIME].values[when], site)
