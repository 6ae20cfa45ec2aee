"""Where and when satellites and other instruments measure a field, and what clouds hide of it.

A satellite crosses the field along straight lines at plus and minus its inclination i, ascending and descending in
turn, each within a moment. A repeat of P passes by S satellites fills the field with lines evenly, one after the other:
pass k of satellite s is at the time (k + s / S) repeat / P, and at the share (k + (s + 1/2) / S) / P of the way from
the first line that meets the field to the last. A point of it is

    x = x_k + d cos(i) - (+-c sin(i)),    y = y_middle +- d sin(i) + c cos(i)

d along the track from where it crosses the middle, c to its left.

Clouds lie where a stationary Gaussian field is above a quantile. It is white noise smoothed by Gaussian kernels, so its
correlation is exp(-(r / length)^2 / 2 - (t / lifetime)^2 / 2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import xarray as xr

from nida_kit import checks
from nida_kit.dates import natural_unit
from nida_kit.observing.axes import Months, read_step
from nida_kit.state import TIME, state_dims

OBS = "obs"  # the dim along which single measurements lie


def tracks(
    like: xr.DataArray,
    *,
    repeat,
    passes: int,
    satellites: int = 1,
    inclination: float = 65.0,
    spacing: float | None = None,
    across: float | Sequence[float] = 0.0,
    seed: int | None = None,
) -> xr.Dataset:
    """Where and when satellites cross a field: points along straight ground tracks.

    >>> import nida_kit as nk
    >>> truth = nk.QuasiGeostrophic(cells=17).simulate(samples=1, steps=9, dt=5.0, seed=0)
    >>> points = nk.tracks(truth, repeat=20.0, passes=8, satellites=2)
    >>> obs = nk.observe(truth, at=points, noise_std=0.1, seed=1)
    >>> obs, between = nk.grid(obs, nk.QuasiGeostrophic(cells=17), dt=5.0, start=0.0, steps=9, exact=True)

    `method.assimilate(obs, operator=between)` takes the values where and when they were measured, `nk.grid` without
    `exact` at the nearest cell and step. Points of any other kind are an `xr.Dataset` made by hand, with the same
    coordinates along `obs`; of a moored array, y and x alone:

    >>> import xarray as xr
    >>> moored = xr.Dataset(coords={"y": ("obs", [0.3, 0.3, 0.7]), "x": ("obs", [0.2, 0.5, 0.8])})
    >>> nk.observe(truth, at=moored, noise_std=0.1)["value"].sizes
    Frozen({'sample': 1, 'time': 9, 'obs': 3})

    Windows with tracks of their own, shorter ones filled with NaN:

    >>> several = [nk.tracks(truth, repeat=20.0, passes=8, seed=k) for k in range(3)]
    >>> own = xr.concat(several, "sample", join="outer")

    Args:
        like: a field `(..., time, y, x)`, whose times and area are crossed.
        repeat: after this time the tracks are the same again; a number in the unit of time, or along dates a duration,
            such as "10D".
        passes: within one repeat, of each satellite, ascending and descending in turn.
        satellites: evenly between one another in time and place.
        inclination: of the tracks against the axis of x, in degrees, above 0 and up to 90.
        spacing: of the points along a track, in the unit of y and x, which must be the same; None is the finer one of
            the grid's spacings.
        across: distances from the track to its left, negative ones to its right: several make a swath.
        seed: the first time is a random one of the repeat; None is where it begins.

    Returns:
        Along `obs`, ordered by time, the coordinates `time`, `y` and `x`, under the names that they have in `like`;
        `satellite`; `track`, a number for each line of points; and `along_track`, the distance along it.

    Raises:
        ValueError: no field of two dims, a number out of range, or no pass within these times.
    """
    y, x = _plane(like)
    kind, begin, end, time_units = _window(like)
    step = _span("repeat", repeat, kind, time_units) / checks.count("passes", passes, 1)
    satellites = checks.count("satellites", satellites, 1)
    angle = checks.within("inclination", inclination, 0.0, 90.0, "Try inclination=65.0.")
    if not angle:
        raise checks.refused("inclination", inclination, "above 0", "Try inclination=65.0.")
    finest = min(np.abs(np.diff(like[dim].values)).min(initial=np.inf) for dim in (y, x))
    spacing = checks.positive("spacing", finest if spacing is None else spacing)
    offsets = checks.vector("across", across, (max(1, np.size(across)),)).numpy()
    phase = 0.0 if seed is None else np.random.default_rng(checks.seed(seed)).random() * passes

    first = (end - begin) / step  # of all passes that could begin in these times
    number, satellite = np.divmod(np.arange(satellites * (math.ceil(phase + first) + 1)), satellites)
    since = number + satellite / satellites - phase  # in passes, from the first time on
    inside = (since >= 0) & (since <= first + 1e-9)
    number, satellite, since = number[inside], satellite[inside], since[inside].clip(max=first)
    turn = number % passes
    where = (turn + (satellite + 0.5) / satellites) / passes
    places = _lines(like, (y, x), where, np.where(turn % 2, -1.0, 1.0), math.radians(angle), spacing, offsets)
    line, at_y, at_x, distance = places
    if not line.size:
        raise ValueError(
            f"No pass crosses the field from {begin} to {end}: one begins every {step / satellites}. Give more passes, "
            "a shorter repeat, or a window of more steps."
        )
    of = line // len(offsets)
    told = {dim: like[dim].attrs.get("units") for dim in (TIME, y, x)}
    units = {dim: {"units": unit} if unit else {} for dim, unit in told.items()}
    coords = {
        OBS: np.arange(line.size),
        TIME: (OBS, begin + since[of] * step, {"long_name": "time"} | units[TIME]),
        y: (OBS, at_y, {"long_name": y} | units[y]),
        x: (OBS, at_x, {"long_name": x} | units[x]),
        "satellite": (OBS, satellite[of]),
        "track": (OBS, np.unique(line, return_inverse=True)[1], {"long_name": "line of points"}),
        "along_track": (OBS, distance, {"long_name": "distance along the track"} | units[x]),
    }
    return xr.Dataset(coords=coords)


def _lines(
    like: xr.DataArray,
    dims: tuple[str, str],
    where: np.ndarray,
    sign: np.ndarray,
    angle: float,
    spacing: float,
    offsets: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points of lines within the field: the line of each, y, x, and the distance along it.

    Args:
        like: the field.
        dims: of y and x.
        where: of each pass, on the way from the first line that meets the field to the last.
        sign: 1 of ascending passes, -1 of descending ones.
        angle: against the axis of x.
        spacing: along the lines.
        offsets: of each pass's lines, to the left.
    """
    (bottom, top), (left, right) = ((float(like[d].min()), float(like[d].max())) for d in dims)
    height, slack = top - bottom, 1e-9 * (top - bottom + right - left)
    reach = height / 2 / math.tan(angle) if angle < math.pi / 2 else 0.0
    crossing = left - reach + where * (right - left + 2 * reach)
    most = math.ceil((math.hypot(height, right - left) + np.abs(offsets).max()) / spacing)
    d = (spacing * np.arange(-most, most + 1))[None, None]
    s, c = sign[:, None, None], offsets[None, :, None]
    x = crossing[:, None, None] + d * math.cos(angle) - s * c * math.sin(angle)
    y = (bottom + top) / 2 + s * d * math.sin(angle) + c * math.cos(angle)
    inside = (x >= left - slack) & (x <= right + slack) & (y >= bottom - slack) & (y <= top + slack)
    x, y, d = (np.broadcast_to(a, inside.shape)[inside] for a in (x, y, d))
    return np.nonzero(inside.reshape(-1, inside.shape[-1]))[0], y.clip(bottom, top), x.clip(left, right), d


def shifting_points(like: xr.DataArray, every: int = 55, seed: int = 0) -> xr.DataArray:
    """Every 55th cell of a field in row order, from a random one of the first 55 on at each time: tracks that shift.

    So Sakov & Oke (2008, doi:10.1111/j.1600-0870.2007.00299.x) observe 300 of 129 x 129 cells.

    >>> import nida_kit as nk
    >>> truth = nk.QuasiGeostrophic(cells=17).simulate(samples=1, steps=3, dt=5.0, seed=0)
    >>> obs = nk.observe(truth, operator=nk.shifting_points(truth, every=29), noise_std=2.0, seed=1)
    >>> obs["value"].count(["y", "x"]).values
    array([[10, 10, 10]])

    Args:
        like: a field `(..., time, y, x)`.
        every: cells from one to the next.
        seed: of the offsets.

    Returns:
        A mask of the dims of `like`, True where it is observed.
    """
    own = _field(like)
    shape = [like.sizes[d] for d in own]
    every = checks.count("every", every, 1, math.prod(shape))
    lead = [d for d in like.dims if d not in own]
    offset = np.random.default_rng(checks.seed(seed)).integers(every, size=[like.sizes[d] for d in lead])
    cell = np.arange(math.prod(shape)).reshape(shape)
    seen = cell % every == offset[(..., *[None] * len(own))]
    return xr.DataArray(seen, _coords_of(like), (*lead, *own), name="observed").transpose(*like.dims)


def clouds(like: xr.DataArray, *, fraction: float, length: float, lifetime, seed: int = 0) -> xr.DataArray:
    """Where clouds hide a field from those who look from above.

    >>> import nida_kit as nk
    >>> truth = nk.QuasiGeostrophic(cells=17).simulate(samples=1, steps=9, dt=5.0, seed=0)
    >>> hidden = nk.clouds(truth, fraction=0.4, length=0.2, lifetime=15.0, seed=2)
    >>> obs = nk.observe(truth, operator=~hidden, noise_std=0.1, seed=1)

    Of points those are left that no cloud covers at the nearest step and cell:

    >>> points = nk.tracks(truth, repeat=20.0, passes=8)
    >>> covered = hidden[0].sel(time=points["time"], y=points["y"], x=points["x"], method="nearest")
    >>> clear = points.isel(obs=~covered.values)

    Args:
        like: a field `(..., time, y, x)`, on an even grid.
        fraction: of the field that they cover on average, between 0 and 1.
        length: of their correlation exp(-(r / length)^2 / 2), in the unit of the grid, which is one for all its dims.
        lifetime: likewise in time; a number in its unit, or along dates a duration, such as "3D".
        seed: of the clouds; each window has its own.

    Returns:
        A mask of the dims of `like`, True where there is a cloud.

    Raises:
        ValueError: no field, an uneven grid, or a number out of range.
    """
    own = _field(like)
    fraction, length = checks.within("fraction", fraction, 0.0, 1.0), checks.positive("length", length)
    kind, _, _, time_units = _window(like)
    widths = [_span("lifetime", lifetime, kind, time_units) / _spacing(like, TIME, kind)]
    widths = np.array([*widths, *(length / _spacing(like, d, "f") for d in own)]) / math.sqrt(2)
    core = [like.sizes[d] for d in (TIME, *own)]
    lead = [d for d in like.dims if d not in (TIME, *own)]
    generator = np.random.default_rng(checks.seed(seed))
    smooth = [_smoothed(core, widths, generator) for _ in range(math.prod(like.sizes[d] for d in lead))]
    field = np.reshape(smooth, [*(like.sizes[d] for d in lead), *core])
    level = NormalDist().inv_cdf(1 - fraction) if 0 < fraction < 1 else math.inf * (1 - 2 * fraction)
    found = xr.DataArray(field > level, _coords_of(like), (*lead, TIME, *own), name="clouds")
    return found.transpose(*like.dims).assign_attrs(long_name="hidden by clouds")


def _smoothed(shape: Sequence[int], widths: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """White noise under Gaussian kernels of these widths, with unit variance everywhere."""
    kernels = [_kernel(n, width) for n, width in zip(shape, widths, strict=True)]
    field = generator.standard_normal([kernel.shape[1] for kernel in kernels])
    for axis, kernel in enumerate(kernels):
        along = np.moveaxis(field, axis, 0)
        found = kernel @ along.reshape(len(along), -1)
        field = np.moveaxis(found.reshape(-1, *along.shape[1:]), 0, axis)
    return field


def _kernel(n: int, width: float):
    """What makes smooth noise at n points of white noise: sparse, `(n, m)`, with rows of unit length.

    The white noise lies at every point, or eight within a width: more of it would change correlations by less than
    rounding does. It reaches beyond the n points, so that no edge is seen.
    """
    from scipy.sparse import csr_array  # here, as all that takes long to import

    apart = max(1, int(width / 8))
    reach = math.ceil(4 * width / apart)
    at = apart * np.arange(-reach, math.ceil((n - 1) / apart) + 1 + reach)
    away = np.abs(np.arange(n)[:, None] - at)
    rows = np.exp(-((away / width) ** 2) / 2) * (away <= 4 * width + apart / 2)
    return csr_array(rows / np.linalg.norm(rows, axis=1, keepdims=True))


# Fields


def _field(like) -> tuple[str, ...]:
    """The dims of a field after time."""
    own = state_dims(like) if isinstance(like, xr.DataArray) else ()
    if not own or any(d not in like.coords or like[d].dtype.kind not in "iuf" for d in own) or TIME not in like.coords:
        raise ValueError(
            f"like= must be a field, an xr.DataArray with the dims and coordinates time and, after it, y and x, not "
            f"{f'one with the dims {like.dims}' if isinstance(like, xr.DataArray) else type(like).__name__}: give the "
            "truth that nk.QuasiGeostrophic().simulate(...) makes, say."
        )
    return own


def _plane(like) -> tuple[str, str]:
    own = _field(like)
    if len(own) != 2 or min(like.sizes[d] for d in own) < 2:
        sizes = {d: like.sizes[d] for d in own}
        raise ValueError(f"Tracks cross a field of two dims with two or more points each; like= has {sizes}: select.")
    return own


def _coords_of(like: xr.DataArray) -> dict:
    return {d: like[d] for d in like.dims if d in like.coords}


def _window(like: xr.DataArray):
    """The kind of times that there are, the first and the last of them, and their unit."""
    time = like[TIME]
    if time.dtype.kind not in "iufMm":
        raise ValueError(f"The times have dtype {time.dtype}; numbers, datetime64 or timedelta64 are needed.")
    if time.isnull().any():
        raise ValueError("Some times of like= are NaN: leave them out, like.sel(time=like.time.notnull()).")
    kind = time.dtype.kind if time.dtype.kind in "Mm" else "f"
    values = time.values.astype(float if kind == "f" else f"{kind}8[us]")
    return kind, values.min(), values.max(), natural_unit(time)


def _span(name: str, given, kind: str, time_units: str):
    """A span of time, as times of that kind take it."""
    try:
        span = read_step(given, kind, time_units, None)
    except ValueError as error:
        raise ValueError(str(error).replace("dt=", f"{name}=")) from None
    if isinstance(span, Months):
        raise ValueError(f"{name}={given!r} is calendar months, which differ in length: give days, {name}='10D'.")
    return span


def _spacing(like: xr.DataArray, dim: str, kind: str):
    """Between the points of an axis, which must be even."""
    points = like[dim].values.astype(float if kind == "f" else f"{kind}8[us]")
    gaps = np.diff(points)
    if not gaps.size:
        raise ValueError(f"There is one single point along {dim!r}, which has no spacing: give two or more.")
    advice = f"make clouds on an even one, and take them at this one's points, .sel({dim}=..., method='nearest')."
    checks.even(dim, points, advice)
    return abs(gaps[0])
