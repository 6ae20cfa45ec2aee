"""A large state as images: its sites or points against time, or a plane as a map of one time.

The truth, where it is known, the reconstruction, those of methods beside it, and the reconstruction's error in standard
deviations of its posterior; without a truth these standard deviations. Crosses are what was observed, circles what was
withheld. Made once, then updated by setting data alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import fill

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D

from nida_kit.plots.style import MARKS, UNKNOWN, label_time, numbers_of, pick, round_bounds, styled, with_unit
from nida_kit.state import COMPONENT, TIME, state_dims

_WIDEST = 4.0  # standard deviations
_ERROR, _STD = "error / posterior std", "posterior std"


@dataclass(frozen=True)
class Images:
    """What `make_field` drew and `update_field` sets anew.

    Attributes:
        figure: that they live in.
        images: by panel.
        marks: in each panel, by the variable that they show.
    """

    figure: Figure
    images: dict[str, AxesImage]
    marks: list[dict[str, Line2D]]


def _last(ds: xr.Dataset) -> xr.Dataset:
    """The first window, at its last step."""
    ds = pick(ds)
    return ds.isel(step=-1) if "step" in ds.dims else ds


def _axes_of(ds: xr.Dataset) -> tuple[str, str]:
    """The dims that lie upwards and across."""
    own = state_dims(ds["mean"])
    return (own[0], TIME) if len(own) == 1 else own


def _panels(ds: xr.Dataset) -> dict[str, np.ndarray]:
    """What each panel shows, `(up, across)`."""
    panels = {"truth": ds["truth"]} if "truth" in ds else {}
    panels |= {"reconstruction": ds["mean"]}
    panels |= {str(name): ds["beside"].sel(other=name) for name in (ds["other"].values if "beside" in ds else ())}
    panels |= {_ERROR: (ds["mean"] - ds["truth"]) / ds["std"]} if "truth" in ds else {_STD: ds["std"]}
    dims = _axes_of(ds)
    return {name: array.squeeze(set(array.dims) - set(dims)).transpose(*dims).values for name, array in panels.items()}


def places_of(coord: xr.DataArray) -> np.ndarray:
    """Where the values of a dim lie: at their numbers if these are even, as pixels are, else one after another."""
    numbers = numbers_of(coord) if coord.name == TIME else coord.values
    even = numbers.dtype.kind in "iuf" and (len(numbers) < 3 or np.ptp(np.diff(numbers)) < 1e-3 * np.ptp(numbers))
    return numbers if even or coord.name == TIME else np.arange(len(numbers))


def ends_of(places: np.ndarray) -> tuple[float, float]:
    """The outer edges of the first and last pixel."""
    half = (places[-1] - places[0]) / (len(places) - 1) / 2 if len(places) > 1 else 0.5
    return places[0] - half, places[-1] + half


def name_axis(ax: Axes, coord: xr.DataArray, side: str) -> None:
    """The label of an axis."""
    if coord.name == TIME:
        label_time(ax, coord)
    else:
        ax.set(**{f"{side}label": with_unit(str(coord.name), coord.attrs.get("units"))})


@styled
def make_field(fig: Figure, ds: xr.Dataset) -> Images:
    """Draw a reconstruction of many components, or of a field, into an emptied figure.

    Args:
        fig: from `figure`.
        ds: as `experiment.run` returns it: `mean`, `std`, `value`, and `truth`, `hidden` and `beside`, if there are
            any, of which the first window and the last step are drawn; of a field on a plane, at one time.

    Returns:
        The artists, for `update_field`.
    """
    fig.clear()
    shown = _last(ds)
    up, across = (shown[dim] for dim in _axes_of(shown))
    extent = (*ends_of(places_of(across)), *ends_of(places_of(up)))
    panels = _panels(shown)
    images, marks = {}, []
    left, gap, bars = 0.06, 0.02, 0.12  # of the width: labels, between panels, a bar with its labels
    wide = (0.98 - left - bars - gap * len(panels)) / len(panels)
    for i, (name, values) in enumerate(panels.items()):
        is_spread = name in (_ERROR, _STD)
        at = left + i * (wide + gap) + (bars / 2 if is_spread else 0)
        ax = fig.add_axes((at, 0.2, wide, 0.66))
        looks = {"cmap": "RdBu_r", "vmin": -_WIDEST, "vmax": _WIDEST} if name == _ERROR else {"cmap": "cividis"}
        images[name] = ax.imshow(values, aspect="auto", origin="lower", extent=extent, **looks)
        small = {"markersize": 3, "markeredgewidth": 0.8, "clip_on": True}
        marks.append({key: ax.plot([], [], **look | small)[0] for key, (_, look) in MARKS.items() if key in shown})
        many = len(panels) > 4
        ax.set_title(fill(name, 14, break_long_words=False) if many else name, fontsize="small" if many else "medium")
        name_axis(ax, across, "x")
        ax.tick_params(labelleft=i == 0)
        ax.grid(False)
        ax.set_facecolor(UNKNOWN)  # land
        # The last panel's bar, and that of all before it.
        if i >= len(panels) - 2:
            fig.colorbar(images[name], cax=fig.add_axes((at + wide + 0.006, 0.2, 0.012, 0.66)))
    name_axis(fig.axes[0], up, "y")
    made = Images(fig, images, marks)
    update_field(made, ds)
    return made


def update_field(made: Images, ds: xr.Dataset) -> None:
    """Show another dataset of the same dims, labels and panels."""
    shown = _last(ds)
    panels = _panels(shown)
    bounds = _bounds(shown)
    for name, values in panels.items():
        made.images[name].set_data(values)
        if name == _STD:
            made.images[name].set_clim(0.0, round_bounds(np.append(values, 0.0))[1])
        elif name != _ERROR:
            made.images[name].set_clim(*bounds)
    up, across = _axes_of(shown)
    x, y = places_of(shown[across]), places_of(shown[up])
    for key in made.marks[0]:
        seen = shown[key].reindex({COMPONENT: shown[COMPONENT]}) if up == COMPONENT else shown[key]
        rows, columns = np.nonzero(seen.squeeze(set(seen.dims) - {up, across}).transpose(up, across).notnull().values)
        for drawn in made.marks:
            drawn[key].set_data(x[columns], y[rows])


def _bounds(ds: xr.Dataset) -> tuple[float, float]:
    """Of colours: those of the truth, so that they rarely move; where none is known, of all that is shown."""
    if "truth" in ds:
        return float(np.floor(ds["truth"].min())), float(np.ceil(ds["truth"].max()))
    shown = [ds[name].values.ravel() for name in (*MARKS, "mean", "beside") if name in ds]
    return round_bounds(np.concatenate(shown))
