"""What all figures share: the style sheet, the looks of lines, panels at fixed places, and how a figure is saved.

A colour says who: a method has one in all figures, `METHODS`, and it is nobody else's. What is no method is black or
grey. Lines differ in style as well as in colour, so that they can be told apart in grey.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.metadata import version
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib.dates
import matplotlib.style
import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from nida_kit import checks
from nida_kit.evaluate import BAND
from nida_kit.notes import versions
from nida_kit.state import COMPONENT, TIME, state_dims

STYLE = Path(__file__).parents[1] / "nida.mplstyle"
PRINTED = 180  # dots per inch
_LABEL = -0.5  # inches: where a y axis has its label
ROOM = 0.05  # of a range, above and below
NARROW = 9.0  # inches: below, a legend may take two lines
SHORT = 1.6  # inches: a narrower panel has a small title
FOLDED = 0.55  # of a figure's width: in a higher one, a row of panels takes two lines
BLUE, RED = "#5790fc", "#e42536"  # of the style's cycle
GREYS = ["#4c4c52", "#8a8a90"]
# label, then the line's looks, by the variable that it draws
LINES = {
    "truth": ("truth", {"color": "black", "linestyle": "-", "linewidth": 1.3}),
    "first_guess": ("first guess", {"color": BLUE, "linestyle": (0, (3, 2)), "linewidth": 1.6}),
    "mean": ("reconstruction", {"color": RED, "linestyle": (0, (7, 1.5, 1.2, 1.5)), "linewidth": 1.9}),
}
BESIDE = "beside "  # before the name of another method's line
OTHER_STYLES = [(0, (1, 1.2)), (0, (5, 1, 1, 1, 1, 1)), (0, (4, 1))]
# Each kind of method: what the name of its line or of its class holds, and its colour in all figures. The first that
# fits counts. Four colours are not of the style's cycle, which has too few; orange is left to what is measured.
METHODS = {
    "truth": ("^truth$", "black"),
    "hybrid": (r"(NIDA|[Nn]eural).*(physics steps|4D-Var|FourDVar)|[Hh]ybrid", "#7a21dd"),
    "4D-Var": ("4D-Var|FourDVar|QuasiStatic", "#964a8b"),
    "interpolation": ("first guess|^OI|[Oo]ptimal ?[Ii]nterpolation|3D-Var|ThreeDVar", BLUE),
    "NIDA": ("NIDA|[Nn]eural|[Nn]etwork|RingPrior|shipped prior|^mine", RED),
    "ensembles": ("EnK[FS]|LETKF|[Ee]nsemble|[0-9] members", "#009e73"),
    "particles": ("[Pp]article|ImportanceSampler", "#5e3a00"),
    "Kalman smoother": ("Kalman|^smoother", "#1f3a93"),
    "climatology": ("[Cc]limatolog", "#3a7d34"),
}
CROSSES = {
    "color": "black",
    "linestyle": "none",
    "marker": "x",
    "markersize": 7,
    "markeredgewidth": 1.8,
    "zorder": 4,
    "clip_on": False,
}
CIRCLES = {"color": "black", "linestyle": "none", "marker": "o", "markersize": 6, "fillstyle": "none", "zorder": 4}
# what marks observed values, those that a method was shown and those that it was not
MARKS = {"value": ("observation", CROSSES), "hidden": ("withheld observation", CIRCLES)}
UNKNOWN = "#e4e4e4"  # where a map has no value
STYLES = ["-", (0, (5, 2)), (0, (1, 1.2)), (0, (7, 1.5, 1.2, 1.5)), (0, (3, 1, 1, 1, 1, 1)), (0, (10, 2))]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]


def styled(draw: Callable) -> Callable:
    """The package's style around a function that draws."""

    @wraps(draw)
    def inner(*args, **kwargs):
        with matplotlib.style.context(STYLE):
            return draw(*args, **kwargs)

    return inner


@styled
def figure(rows: float = 1, width: float = 10.0, row_height: float = 1.9, dpi: float = 90.0) -> Figure:
    """An empty figure in the package's style.

    Args:
        rows: of panels.
        width: in inches.
        row_height: in inches.
        dpi: dots per inch.
    """
    return Figure(figsize=(width, 1.0 + row_height * rows), dpi=dpi)


def pick(data: xr.Dataset | xr.DataArray, window: int = 0) -> xr.Dataset | xr.DataArray:
    """One window of data that may hold many: the `window`-th over the leading dims but `step` and `member`.

    Raises:
        ValueError: there is no such window.
    """
    main = data if isinstance(data, xr.DataArray) else data["mean" if "mean" in data else "value"]
    lead = {d: n for d, n in main.sizes.items() if d not in ("step", "member", TIME, COMPONENT, *state_dims(main))}
    count = math.prod(lead.values())
    if not 0 <= window < count:
        raise ValueError(f"window={window}: there are {count}, counted from 0.")
    return data.isel(dict(zip(lead, np.unravel_index(window, tuple(lead.values())), strict=True)))


def with_unit(name: str, unit: str | None) -> str:
    """A label with its unit, unless that is 1."""
    return name if unit in (None, "", "1") else f"{name} [{unit}]"


def numbers_of(time: xr.DataArray) -> np.ndarray:
    """Times as numbers that an axis has: dates as matplotlib counts them.

    Dates of calendars that matplotlib does not know, and durations, are counted in days.
    """
    values = time.values
    if values.dtype.kind == "M":
        return matplotlib.dates.date2num(values)
    if values.dtype.kind == "m":
        return values / np.timedelta64(1, "D")
    if values.dtype.kind == "O":
        return np.array([(date - values[0]).total_seconds() / 86_400 for date in values])
    return values


def label_time(ax: Axes, time: xr.DataArray) -> None:
    """Name the x axis of a panel whose points lie at `numbers_of(time)`, and write dates as such."""
    kind = time.dtype.kind
    if kind == "M":
        narrow = ax.get_position().width * ax.figure.get_figwidth() < 3.0  # inches
        locator = matplotlib.dates.AutoDateLocator(minticks=2, maxticks=4 if narrow else 8)
        ax.xaxis.axis_date()
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(matplotlib.dates.ConciseDateFormatter(locator))
    days = {"m": "time [days]", "O": f"days since {str(time.values[0])[:10]}", "M": "time"}
    own = with_unit(str(time.attrs.get("long_name", "time")), time.attrs.get("units"))
    ax.set_xlabel(days.get(kind, own))


def round_bounds(values: np.ndarray) -> tuple[float, float]:
    """Round limits, with some room, around values of which some may be NaN: they move rarely while a slider does."""
    values = values[np.isfinite(values)]
    if not values.size or np.ptp(values) <= 1e-6 * np.abs(values).max():
        middle = values.mean() if values.size else 0.0
        values = np.array([middle - 1, middle + 1])
    low, high = values.min(), values.max()
    low, high = low - ROOM * (high - low), high + ROOM * (high - low)
    ticks = MaxNLocator(nbins=6, min_n_ticks=3).tick_values(low, high)
    return ticks[0], ticks[-1]


def bounds_of(rows: Sequence[dict[str, np.ndarray]]) -> list[tuple[float, float]]:
    """Limits of each component's panels, from what each row of them shows, `(time, component)` by variable.

    They hold everything that is drawn. Where the `usual` range of the climatology is given, as in labs, they hold that,
    the truth, the observations and the first guess: they rarely change while a slider moves, and an estimate in the
    wrong lobe is seen.
    """
    if "usual" in rows[0]:
        held = [rows[0][name] for name in ("truth", "value", "first_guess", "usual") if name in rows[0]]
    else:
        held = [values for row in rows for name, values in row.items() if name != "std"]
        held += [row["mean"] + side * row["std"] for row in rows if "std" in row for side in (-BAND, BAND)]
    return [round_bounds(of_component) for of_component in np.concatenate(held).T]


def component_names(ds: xr.Dataset | xr.DataArray) -> list[str]:
    """Of the components, with units other than 1."""
    names = ds["long_name"].values if "long_name" in ds.coords else ds[COMPONENT].values
    units = ds["units"].values if "units" in ds.coords else [None] * len(names)
    return [with_unit(str(n), u) for n, u in zip(names, units, strict=True)]


def portrait(components: int) -> tuple[int, int] | None:
    """Which components the phase portrait shows: x and z of three (the classical view of Lorenz-63), both of two."""
    return {1: None, 2: (0, 1)}.get(components, (0, 2))


def legend(fig: Figure, drawn: dict[str, Artist]) -> None:
    """Above all panels, in one line if there is room."""
    order = [k for k in ("truth", "value", "hidden", "first_guess", "mean", "band", "draws") if k in drawn]
    order += [k for k in drawn if k.startswith(BESIDE)]
    narrow = fig.get_figwidth() < NARROW
    tight = {"fontsize": "small", "columnspacing": 1.0, "handlelength": 2.4}
    fig.legend(
        [drawn[k] for k in order],
        [drawn[k].get_label() for k in order],
        loc="upper center",
        ncols=len(order) if not narrow or len(order) <= 5 else -(-len(order) // 2),
        **(tight if narrow or len(order) > 6 else {"handlelength": 2.8}),
    )


def trajectory_panels(fig: Figure, rows: int, components: int, columns: int) -> np.ndarray:
    """Axes `(rows, columns)` at fixed places, with room for the longest tick labels: nothing ever moves.

    A single row of more than two panels lies in two lines where the figure is high enough.
    """
    width, height = fig.get_size_inches()
    folded = rows == 1 and columns > 2 and height > FOLDED * width
    lines, across = (2, -(-columns // 2)) if folded else (rows, columns)
    usual = [0.75] + [0.5] * (components - 1) + [0.8] * (columns - components)
    gaps = [0.75] * across if folded else usual  # inches before each column
    wide = (width - sum(gaps) - 0.2) / across
    left = np.cumsum(gaps) + wide * np.arange(across)
    top, bottom, between = (0.8 if width < NARROW else 0.65), 0.5, (0.8 if folded else 0.2)
    tall = (height - top - bottom + between) / lines
    axes = np.empty((rows, columns), dtype=object)
    for i, j in np.ndindex(rows, columns):
        down, right = divmod(j, across) if folded else (i, j)
        low = bottom + (lines - 1 - down) * tall
        axes[i, j] = fig.add_axes((left[right] / width, low / height, wide / width, (tall - between) / height))
        axes[i, j].yaxis.set_label_coords(_LABEL / wide, 0.5)
    return axes


def row_label(ax: Axes) -> Text:
    """Where the y axis would have its label, a text: what changes from step to step is no part of the frame."""
    wide = ax.get_position().width * ax.figure.get_figwidth()
    looks = {"rotation": 90, "rotation_mode": "anchor", "ha": "center", "va": "bottom"}
    return ax.text(_LABEL / wide, 0.5, "", transform=ax.transAxes, **looks)


def label_panels(axes: np.ndarray, ds: xr.Dataset | xr.DataArray) -> None:
    """Titles above columns, temperatures before rows, time below."""
    names, n = component_names(ds), ds.sizes[COMPONENT]
    for ax in axes[:, :n].flat:
        label_time(ax, ds[TIME])
    for ax in axes[:-1].flat:
        ax.tick_params(labelbottom=False)
        ax.set_xlabel("")
    size = "small" if axes[0, 0].get_position().width * axes[0, 0].figure.get_figwidth() < SHORT else None
    for ax, name in zip(axes[0], names, strict=False):
        ax.set_title(name, fontsize=size)
    for ax in axes[:, n:].flat:
        across, up = portrait(n)
        ax.set_ylabel(names[up])
    for ax in axes[:1, n:].flat:
        ax.set_title("phase portrait", fontsize=size)
    for ax in axes[-1:, n:].flat:
        ax.set_xlabel(names[across])


def one_panel(fig: Figure) -> Axes:
    """The only axes of an emptied figure, with room beside them for a legend."""
    fig.clear()
    fig.set_layout_engine("constrained")
    return fig.subplots()


def looks_of(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Line style, marker and colour by name: a method's own colour, and greys for what is no method."""
    greys = cycle(GREYS)
    return {
        name: {"linestyle": style, "marker": marker, "color": colour_of(name) or next(greys)}
        for name, style, marker in zip(names, cycle(STYLES), cycle(MARKERS))
    }


def colour_of(name: str) -> str | None:
    """A method's colour by the name of its line or of its class; None is no method's name."""
    return next((colour for pattern, colour in METHODS.values() if re.search(pattern, name)), None)


def colour_of_estimate(ds: xr.Dataset) -> str:
    """Of the method that made a result; NIDA's red where its records name none."""
    return colour_of(str(ds.attrs.get("chain", ds.attrs.get("method", "")))) or RED


def reds(count: int) -> list[str]:
    """NIDA's red from light to dark: for temperatures, which have an order, the coldest is the darkest."""
    shades = LinearSegmentedColormap.from_list("reds", ["#ef7480", "#6b0711"])
    return [to_hex(shade) for shade in shades(np.linspace(0, 1, count))]


def panels(fig: Figure) -> list[dict[str, Any]]:
    """What the lines and areas with a name show in each panel: some hundreds of points, to six digits; and its texts.

    Images, bars, and the many thin lines of draws have no names: what they show is up to the numbers given to `save`.
    """
    found = []
    for ax in fig.axes:
        named = {str(artist.get_label()): artist for artist in (*ax.lines, *ax.patches)}
        points = {name: _points(artist) for name, artist in named.items() if name and not name.startswith("_")}
        if points := {name: {"x": x, "y": y} for name, (x, y) in points.items() if x}:
            texts = [text.get_text() for text in ax.texts]
            about = {"title": ax.get_title(), "x": ax.get_xlabel(), "y": ax.get_ylabel(), "texts": texts}
            found.append(about | {"shows": points})
    return found


def _points(artist: Artist) -> tuple[list[float], list[float]]:
    """Of a line or an outline, in its own coordinates; nothing where it has a gap."""
    if isinstance(artist, Line2D):
        points = np.asarray(artist.get_xydata(), float)
    else:
        points = artist.get_patch_transform().transform(artist.get_path().vertices)
    points = points[np.isfinite(points).all(-1)]
    x, y = points[:: max(1, len(points) // 200)].T
    return [float(f"{v:.6g}") for v in x], [float(f"{v:.6g}") for v in y]


@styled
def save(fig: Figure, path: str | Path, numbers: dict[str, Any]) -> None:
    """Write a figure for print, as PNG and PDF, and the numbers behind it as JSON, with the versions that made them.

    Args:
        fig: the figure, whose `panels` are put on record too.
        path: of the PNG; PDF and JSON have the same name.
        numbers: what made the figure, and its scores, as plain numbers, lists and names; it must hold the `seed`.

    Raises:
        ValueError: no seed, or a path that does not end in .png.
    """
    path = Path(path)
    if "seed" not in numbers:
        raise ValueError("numbers must hold the seed that made them.")
    if path.suffix != ".png":
        raise ValueError(f"The figure is written as PNG; {path.name!r} does not end in .png.")
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=PRINTED)
    fig.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})  # the same figure is the same file
    record = numbers | {"panels": panels(fig), "versions": f"{versions()}, matplotlib {version('matplotlib')}"}
    path.with_suffix(".json").write_text(json.dumps(checks.strict(record), indent=2, allow_nan=False) + "\n")
