"""Sparse, noisy observations of given trajectories: y = h(x) + eta, eta ~ N(0, noise_std^2) or N(0, noise_covariance).

What is not observed is NaN, and nothing else is left of it: no method can see the truth through its input. The noise is
drawn as unit noise over the whole grid before anything is masked. So for one seed it only scales with noise_std, and no
value changes when another one is observed as well.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from numbers import Real

import numpy as np
import torch
import xarray as xr

from nida_kit import checks
from nida_kit.edge import (
    COVARIANCE,
    LENGTH,
    NOISE,
    align_covariance,
    check_covariance,
    check_tracks,
    fill_covariance,
    fold,
    track_of,
    unfold,
    variances,
    with_labels_of,
)
from nida_kit.observing.errors import AlongTracks
from nida_kit.observing.operators import apply_operator, as_mask, as_operator, is_direct
from nida_kit.observing.points import sampled
from nida_kit.state import COMPONENT, OBSERVED, OTHER, TIME, state_dims, storable


def observe(
    truth: xr.DataArray,
    components: Sequence[str] | None = None,
    every: int = 1,
    *,
    noise_std: float | xr.DataArray | None = None,
    noise_covariance=None,
    seed: int = 0,
    offset: int | str = 0,
    times: Sequence[float] | None = None,
    fraction: float = 1.0,
    operator=None,
    at: xr.Dataset | None = None,
    noise_length: float | None = None,
) -> xr.Dataset:
    """Sparse, noisy observations of trajectories.

    >>> import nida_kit as nk
    >>> truth = nk.Lorenz63().simulate(samples=2, steps=9, dt=0.05, seed=0)
    >>> nk.observe(truth, components=["x"], every=4, noise_std=0.4, seed=1)["value"].count().item()
    6

    Args:
        truth: `(..., time, component)`; or of a field, its own dims after time: `(..., time, y, x)`.
        components: which are observed; None is all. With a matrix or callable as operator: which of its values h0,
            h1, ... A field itself has none: select its points by a mask.
        every: observe each `every`-th time step,
        offset: from this index on; "random" draws it for each window.
        times: observe at these times only (each must be a time of the grid), instead of `every`.
        fraction: of these, the random share that is really measured.
        noise_std: of each error, in units of what is observed; a number, or anything that broadcasts over the values.
        noise_covariance: instead of noise_std, of correlated errors: `(p, p)` of the p values of one time, or
            `(T, p, T, p)` of all values of a window, in their order; or an `xr.DataArray` with the dims of the values
            of one time and `other_` of each (component, other_component), and any of time and the leading dims, or
            both time and other_time.
        seed: of noise and random patterns.
        operator: what is observed, see `observing.operators`; a mask also selects: an array `(component,)` or
            `(time, component)`, or an `xr.DataArray`, which is matched by its labels.
        at: of a field, the points where and when it is observed, instead of steps and cells: an `xr.Dataset` with the
            coordinates `time` and those of the field along a dim `obs`, as `nk.tracks` makes them; without `time`, at
            every step. Values between are linear along each axis. Along the dims of windows, each has its own points.
        noise_length: with `at`, errors drift along the tracks of the points (coordinates `track` and `along_track`):
            within one they are correlated as exp(-|distance| / noise_length), between two they are independent.

    Returns:
        `value` (NaN where not observed) and `noise_std` or `noise_covariance`. With `at` they lie along `obs`, as
        tracks and stations come: `nk.grid(obs, system, dt, exact=True)` brings them to a method.

    Raises:
        ValueError: unknown components or times, a pattern without any observation, a noise that is not positive, or
            points outside the domain or the window.
    """
    _check_asked(truth, every, offset, times, fraction, seed)
    if (noise_std is None) == (noise_covariance is None):
        raise ValueError("Give noise_std= or noise_covariance=, and not both: each says how large the errors are.")
    own = state_dims(truth)
    if at is not None:
        given = {"components": components, "operator": operator, "times": times, "noise_covariance": noise_covariance}
        others = [name for name, value in given.items() if value is not None]
        _check_points_alone(own, others + ["every"] * (every != 1) + ["offset"] * (offset != 0))
        return _observe_points(truth, at, own, noise_std, noise_length, fraction, seed)
    if noise_length is not None:
        raise ValueError(
            f"noise_length={noise_length!r} is of errors that drift along the tracks of points: give these, "
            "at=nk.tracks(truth, ...)."
        )
    exact = _measured(truth.transpose(..., TIME, *own), operator, own)
    dims = own if is_direct(operator) else (COMPONENT,)
    lead = exact.dims[: -1 - len(dims)]
    generator = np.random.default_rng(seed)
    noise = exact.copy(data=generator.standard_normal(exact.shape))
    uniform = generator.random(exact.shape)
    start = generator.random(exact.shape[: len(lead)])
    times = None if times is None else _list_of_times(times)
    when = _regularly(exact, every, offset, start) if times is None else _on_grid(truth[TIME].values, times)
    seen = when[(..., *[None] * len(dims))] & _among(components, exact) & _unmasked(operator, exact)
    seen = seen & (uniform < fraction)
    if not seen.any():
        raise ValueError("Nothing is observed: name some components, and widen times, fraction or the mask.")
    if not np.isfinite(exact.values[seen]).all():
        raise ValueError(_without_value(operator))

    if noise_covariance is None:
        said = _read_noise(noise_std, exact, seen)
        errors = noise * said
        said.attrs = {"long_name": "standard deviation of the observation error"}
    else:
        said, root = _read_covariance(noise_covariance, exact, seen, lead, dims)
        errors = noise.copy(data=_correlated(root, noise.values, len(lead)))
        said.attrs = {"long_name": "covariance of the observation errors"}
    observed = (exact + errors).transpose(*exact.dims).where(seen)
    observed.attrs = {"long_name": "observed value", "comment": "NaN where nothing was observed"}
    observed.attrs |= {"units": truth.attrs["units"]} if "units" in truth.attrs and is_direct(operator) else {}
    pattern = {"every": every, "offset": offset} if times is None else {"times": times.tolist()}
    attrs = pattern | {"fraction": fraction, "seed": seed}
    name = NOISE if noise_covariance is None else COVARIANCE
    return storable(xr.Dataset({"value": observed, name: said}, attrs=attrs))


def _without_value(operator) -> str:
    """What to say of values that are observed and that truth does not have, as those of a field on land."""
    said = "truth holds NaN or infinite values where it is observed; leave those out"
    if operator is None:
        return f"{said}, by times= or a mask, as of a field with land: operator=np.isfinite(truth)."
    if is_direct(operator):
        return f"{said} of the mask: operator=np.isfinite(truth) & mask, a labelled one."
    return (
        f"{said}, by times=, or by an operator that reads none of them: lambda x: x[..., sea], say, with sea = "
        "torch.from_numpy(np.isfinite(truth.values)) of one time."
    )


def _observe_points(
    truth: xr.DataArray, at: xr.Dataset, own, noise_std, noise_length, fraction: float, seed: int
) -> xr.Dataset:
    """A field at points, as they come."""
    exact = sampled(truth, at, own)
    lead = [d for d in truth.dims if d not in (TIME, *own)]  # the first of exact's
    if noise_length is not None:
        exact = exact.assign_coords({LENGTH: checks.positive(LENGTH, noise_length)})
    generator = np.random.default_rng(seed)
    noise = exact.copy(data=generator.standard_normal(exact.shape))
    seen = exact.notnull().values & (generator.random(exact.shape) < fraction)
    if not seen.any():
        raise ValueError("Nothing is observed: give more points, or a larger fraction.")
    said = _read_noise(noise_std, exact, seen)
    said.attrs = {"long_name": "standard deviation of the observation error"}
    errors = noise * said if noise_length is None else _drifting(noise, said, seen, lead)
    observed = (exact + errors).transpose(*exact.dims).where(seen)
    observed.attrs = {"long_name": "observed value", "comment": "NaN where nothing was observed"}
    observed.attrs |= {"units": truth.attrs["units"]} if "units" in truth.attrs else {}
    return storable(xr.Dataset({"value": observed, NOISE: said}, attrs={"fraction": fraction, "seed": seed}))


def _drifting(noise: xr.DataArray, std: xr.DataArray, seen: np.ndarray, lead: Sequence[Hashable]) -> xr.DataArray:
    """Unit noise `(*lead, ...)` as errors that drift along tracks."""
    *where, length = track_of(noise)
    std, track, distance = (x.broadcast_like(noise).transpose(*noise.dims).values.astype(float) for x in (std, *where))
    check_tracks(track, distance, seen, own=noise.ndim - len(lead))
    track = np.where(np.isnan(distance), np.nan, track)
    shape = (*noise.shape[: len(lead)], 1, -1)
    *law, unit = (torch.from_numpy(x.reshape(shape)) for x in (std, track, distance, noise.values))
    return noise.copy(data=AlongTracks(*law, length).colour(unit).numpy().reshape(noise.shape))


def _check_points_alone(own: Sequence[Hashable], others: Sequence[str]) -> None:
    """Raises a ValueError where points are asked of no field, or beside what else says where and when."""
    if COMPONENT in own:
        raise ValueError(
            "at= gives points of a field, and truth has named components: choose by components=, every= or times=."
        )
    if others:
        raise ValueError(
            f"at= says where and when is observed, with independent errors, and {others} cannot be given beside it: "
            "leave them away, or select points before, points.isel(obs=...)."
        )


def _check_asked(truth, every, offset, times, fraction, seed) -> None:
    """Raises a ValueError where truth or pattern are not what they must be."""
    own = state_dims(truth) if isinstance(truth, xr.DataArray) else ()
    if not own or any(d not in truth.dims or d not in truth.coords for d in (TIME, *own)):
        raise ValueError(
            "truth is an xr.DataArray with the dims and coordinates time and component, or time and, after it, those "
            "of a grid."
        )
    checks.real("truth", truth)
    checks.no_fill("truth", truth, truth.attrs)
    if taken := [name for name in (*truth.dims, *truth.coords) if name in OBSERVED]:
        raise ValueError(
            f"truth has a dim or coordinate {taken[0]!r}, a name that observations use themselves: rename it, "
            f'truth.rename({taken[0]}="{taken[0]}_of_truth"), or drop_vars it.'
        )
    checks.seed(seed)
    if not isinstance(fraction, Real) or not isinstance(every, Real) or not math.isfinite(every):
        raise ValueError(f"{every=} and {fraction=} must be finite numbers.")
    if not 0 < fraction <= 1 or int(every) != every or every < 1:
        raise ValueError(f"every={every} must be a positive whole number and fraction={fraction} within (0, 1].")
    if times is not None and (every != 1 or offset != 0):
        raise ValueError(f"times= says which steps are observed, and so do every={every}, offset={offset}: give one.")


def _measured(truth: xr.DataArray, operator, own: Sequence[Hashable]) -> xr.DataArray:
    """h(truth), labelled: on the state's own dims, or with the components h0, h1, ..."""
    shape, values = truth.shape[truth.ndim - len(own) :], torch.from_numpy(truth.values.astype(float))
    times = torch.from_numpy(truth[TIME].values.astype(float)) if truth[TIME].dtype.kind in "iuf" else None
    value = apply_operator(as_operator(operator, shape), fold(values, shape), times).detach()
    if is_direct(operator):
        return xr.DataArray(unfold(value, shape).numpy(), truth.coords, truth.dims)
    coords = {name: c for name, c in truth.coords.items() if not set(own) & set(c.dims)}
    coords |= {COMPONENT: [f"h{i}" for i in range(value.shape[-1])]}
    return xr.DataArray(value.numpy(), coords, (*truth.dims[: truth.ndim - len(own)], COMPONENT))


def _regularly(exact: xr.DataArray, every: int, offset: int | str, start: np.ndarray) -> np.ndarray:
    """Which time steps are observed, `(T,)`, or `(..., T)` from random offsets on."""
    index = np.arange(exact.sizes[TIME])
    if offset == "random":
        first = np.floor(start * every)[..., None]
    elif not isinstance(offset, Real) or not 0 <= offset < index.size or int(offset) != offset:
        raise ValueError(f'offset={offset!r} must be "random" or a whole number within the {index.size} time steps.')
    else:
        first = offset
    return (index >= first) & ((index - first) % every == 0)


def _list_of_times(times) -> np.ndarray:
    expected = "a list of times of the grid, numbers in its unit"
    found = checks.array("times", times, expected)
    if found.ndim != 1:
        raise checks.refused("times", times, expected, "Try times=[0.0].")
    return found


def _on_grid(grid: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Which time steps lie at the given times, `(T,)`."""
    nearest = np.abs(grid[:, None] - times).argmin(0)
    missed = times[~np.isclose(grid[nearest], times, atol=1e-6 * max(1.0, np.abs(grid).max()))]
    if missed.size:
        raise ValueError(f"times {missed.tolist()} are not on the grid from {grid[0]:g} to {grid[-1]:g}.")
    return np.isin(np.arange(grid.size), nearest)


def _among(components: Sequence[str] | None, exact: xr.DataArray) -> np.ndarray | bool:
    """Which values are observed, `(p,)`; of a field, all."""
    if COMPONENT not in exact.dims:
        if components is not None:
            raise ValueError(
                f"components={components!r} selects values by name, and a field {exact.dims} has none: select its "
                "points by a mask, operator=mask, an array or an xr.DataArray of truth's dims."
            )
        return True
    names = exact[COMPONENT].values.tolist()
    if isinstance(components, str):
        some = [components] if components in names else f"some of {names}"
        raise ValueError(f'components="{components}" is one text; give a list of names: {some}.')
    if components is None:
        return True
    asked = checks.several("components", components)
    if unknown := [each for each in asked if each not in names]:
        raise ValueError(f"Components {unknown} are not among those observed, {names}: choose from these.")
    return np.array([name in asked for name in names])


def _unmasked(operator, like: xr.DataArray) -> np.ndarray:
    """Where a mask lets the values `like` be observed: everywhere, if the operator is none."""
    if isinstance(operator, xr.DataArray):
        return _aligned(operator, like)
    found = None if operator is None or callable(operator) else as_mask(operator)
    mask = np.asarray(True) if found is None else found
    try:
        return np.broadcast_to(mask, like.shape)
    except ValueError:
        raise ValueError(
            f"The mask of shape {mask.shape} does not broadcast over {like.shape}: give (component,), "
            "(time, component), or an xr.DataArray, which is matched by name."
        ) from None


def _aligned(mask: xr.DataArray, like: xr.DataArray) -> np.ndarray:
    """A labelled mask on the labels of the values `like`, which it must cover.

    Raises:
        ValueError: dims that there are not, or labels that are missing or come twice.
    """
    foreign = sorted(map(str, set(mask.dims) - set(like.dims)))
    if foreign:
        raise ValueError(f"The mask has the dims {foreign}, the values {like.dims}: rename, or select one of each.")
    mask = with_labels_of(like, mask, "The mask")
    for dim in mask.dims:
        if dim in mask.coords and dim in like.coords:
            missing = np.setdiff1d(like[dim], mask[dim])
            if missing.size:
                raise ValueError(
                    f"The mask lacks {missing.tolist()} along {dim!r}; it needs each label of truth once: "
                    f"mask.reindex({dim}=truth.{dim}, fill_value=False)."
                )
            mask = mask.sel({dim: like[dim]})
    return mask.broadcast_like(like).transpose(*like.dims).values


def _read_noise(noise_std: float | xr.DataArray, like: xr.DataArray, seen: np.ndarray) -> xr.DataArray:
    """noise_std on the coordinates of the values `like`; it may lack those that are not seen.

    Raises:
        ValueError: it does not broadcast over the values, or is not positive where they are seen.
    """
    expected = f"a number, or an xr.DataArray of numbers with some of the dims {like.dims}"
    if not isinstance(noise_std, xr.DataArray):
        noise_std = xr.DataArray(checks.array("noise_std", noise_std, expected))
    checks.real("noise_std", noise_std)
    if foreign := sorted(map(str, set(noise_std.dims) - set(like.dims))):
        raise ValueError(f"noise_std has the dims {foreign}; give {expected}.")
    noise_std = with_labels_of(like, noise_std, "noise_std").reindex_like(like)
    needed = noise_std.broadcast_like(like).transpose(*like.dims).values[seen]
    if not (np.isfinite(needed) & (needed > 0)).all():
        raise ValueError(
            "noise_std must be positive and finite wherever something is observed, on the same coordinates; an exact "
            "measurement is a small positive noise_std."
        )
    return noise_std


def _read_covariance(
    R, exact: xr.DataArray, seen: np.ndarray, lead: Sequence[Hashable], dims: Sequence[Hashable]
) -> tuple[xr.DataArray, np.ndarray]:
    """The covariance on the coordinates of the values, NaN where it says nothing; and its lower root.

    Raises:
        ValueError: it does not fit the values, lacks some that are seen, or is not positive definite.
    """
    R = R if isinstance(R, xr.DataArray) else _labelled_covariance(R, exact, dims)
    checks.real("noise_covariance", R)
    aligned = align_covariance(R, exact, lead, dims)
    given = ~np.isnan(variances(aligned, lead))
    folded = seen.reshape(*seen.shape[: len(lead) + 1], -1)
    if (folded & ~given).any():
        raise ValueError(
            "noise_covariance is NaN, or has no row and column, for some values that are observed, or lies on other "
            "coordinates: give it for all of them."
        )
    filled = fill_covariance(aligned, given)
    check_covariance(filled, exact, lead)
    paired = (TIME, *dims) if OTHER + TIME in R.dims else tuple(dims)
    names = [d for d in (*lead, TIME) if d in R.dims and d not in paired]
    values = aligned.reshape([exact.sizes[d] for d in (*names, *paired, *paired)])
    coords = {d: exact[d] for d in (*names, *paired) if d in exact.coords}
    coords |= {OTHER + d: (OTHER + d, exact[d].values) for d in paired}
    size = math.prod(exact.sizes[d] for d in paired)
    roots = np.linalg.cholesky(filled.reshape(*filled.shape[: filled.ndim - (4 if TIME in paired else 2)], size, size))
    return xr.DataArray(values, coords, (*names, *paired, *(OTHER + d for d in paired))), roots


def _labelled_covariance(R, exact: xr.DataArray, dims: Sequence[Hashable]) -> xr.DataArray:
    """An array of rows and columns in the order of the values."""
    R = checks.array("noise_covariance", R)
    for paired in (dims, (TIME, *dims)):
        whole = [exact.sizes[d] for d in paired]
        flat = [math.prod(exact.sizes[d] for d in group) for group in ((TIME,), dims) if set(group) <= set(paired)]
        if R.shape in (tuple(whole * 2), tuple(flat * 2)):
            return xr.DataArray(R.reshape(whole * 2), dims=[*paired, *(f"{OTHER}{d}" for d in paired)])
    T, p = exact.sizes[TIME], math.prod(exact.sizes[d] for d in dims)
    raise ValueError(
        f"noise_covariance has the shape {R.shape}; it is ({p}, {p}) for the {p} values of one time, ({T}, {p}, {T}, "
        f"{p}) for all values of a window, or an xr.DataArray with the dims {[*dims, *(f'{OTHER}{d}' for d in dims)]}."
    )


def _correlated(root: np.ndarray, noise: np.ndarray, lead: int) -> np.ndarray:
    """Unit noise `(..., T, *dims)` times the lower root of a covariance, of each time or of whole windows."""
    shape, size = noise.shape[: lead + 1], root.shape[-1]
    noise_of_one = noise.reshape(*(shape if root.ndim == lead + 3 else shape[:-1]), size)
    return (root @ noise_of_one[..., None]).reshape(noise.shape)
