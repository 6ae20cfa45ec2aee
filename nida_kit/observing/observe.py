"""Observation operators and processes: y = h(x) + eta, eta ~ N(0, noise_std^2), at each time step.

h is `None` or a mask (the state's own components), a matrix `(p, n)`, or any torch callable from `(..., n)` to
`(..., p)`. Where nothing is observed there is NaN and nothing else: no method can see the truth through its input. The
noise is drawn as unit noise over the whole grid before anything is masked, so for one seed it only scales with
noise_std, and no value changes when another is observed as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
import torch
import xarray as xr

from nida_kit.observing.operators import apply_operator, as_operator, is_direct
from nida_kit.state import COMPONENT, CORE, TIME


def observe(
    truth: xr.DataArray,
    components: Sequence[str] | None = None,
    every: int = 1,
    *,
    noise_std: float | xr.DataArray,
    seed: int = 0,
    offset: int | str = 0,
    times: Sequence[float] | None = None,
    fraction: float = 1.0,
    operator=None,
) -> xr.Dataset:
    """Sparse, noisy observations of trajectories.

    Args:
        truth: `(..., time, component)`.
        components: which are observed; None is all. With a matrix or callable as operator: which of its values h0,
            h1, ...
        every: observe each `every`-th time step,
        offset: from this index on; "random" draws it for each window.
        times: observe at these times only (each must be a time of the grid), instead of `every`.
        fraction: of these, the random share that is really measured.
        noise_std: of each error, in units of what is observed; a number, or anything that broadcasts over the values.
        seed: of noise and random patterns.
        operator: what is observed, see the module; a mask also selects: an array `(component,)` or
            `(time, component)`, or an `xr.DataArray`, which is matched by its labels.

    Returns:
        `value` (NaN where not observed) and `noise_std`.

    Raises:
        ValueError: unknown components or times, a pattern without any observation, or a noise that is not positive.
    """
    if not isinstance(truth, xr.DataArray) or any(d not in truth.dims or d not in truth.coords for d in CORE):
        raise ValueError("truth is an xr.DataArray with the dims and coordinates time and component.")
    if not isinstance(fraction, Real) or not isinstance(every, Real):
        raise ValueError(f"{every=} and {fraction=} must be numbers.")
    if not isinstance(seed, Integral) or seed < 0:
        raise ValueError(f"{seed=} must be a whole number, not negative.")
    if not 0 < fraction <= 1 or int(every) != every or every < 1:
        raise ValueError(f"every={every} must be a positive whole number and fraction={fraction} within (0, 1].")
    if times is not None and (every != 1 or offset != 0):
        raise ValueError(f"times= says which steps are observed, and so do every={every}, offset={offset}: give one.")
    exact = _measured(truth.transpose(..., *CORE), operator)
    generator = np.random.default_rng(seed)
    noise = exact.copy(data=generator.standard_normal(exact.shape))
    uniform = generator.random(exact.shape)
    start = generator.random(exact.shape[:-2])
    when = _on_grid(truth[TIME].values, times) if times is not None else _regularly(exact, every, offset, start)
    seen = when[..., None] & _among(components, exact[COMPONENT].values.tolist()) & _unmasked(operator, exact)
    seen = seen & (uniform < fraction)
    if not seen.any():
        raise ValueError("Nothing is observed: name some components, and widen times, fraction or the mask.")
    if not np.isfinite(exact.values[seen]).all():
        raise ValueError(
            "truth holds NaN or infinite values where it is observed; leave those out, by times or a mask."
        )

    noise_std = _read_noise(noise_std, exact, seen)
    observed = (exact + noise * noise_std).transpose(*exact.dims).where(seen)
    observed.attrs = {"long_name": "observed value", "comment": "NaN where nothing was observed"}
    noise_std.attrs = {"long_name": "standard deviation of the observation error"}
    pattern = {"every": every, "offset": offset} if times is None else {"times": np.asarray(times, float).tolist()}
    attrs = pattern | {"fraction": fraction, "seed": seed}
    return xr.Dataset({"value": observed, "noise_std": noise_std}, attrs=attrs)


def _measured(truth: xr.DataArray, operator) -> xr.DataArray:
    """h(truth), labelled: with the state's components, or h0, h1, ..."""
    value = apply_operator(as_operator(operator), torch.from_numpy(truth.values.astype(float))).detach().numpy()
    if is_direct(operator):
        return xr.DataArray(value, truth.coords, truth.dims)
    coords = {name: c for name, c in truth.coords.items() if COMPONENT not in c.dims}
    return xr.DataArray(value, coords | {COMPONENT: [f"h{i}" for i in range(value.shape[-1])]}, truth.dims)


def _regularly(exact: xr.DataArray, every: int, offset: int | str, start: np.ndarray) -> np.ndarray:
    """Which time steps are observed, `(T,)`, or `(..., T)` from random offsets on."""
    index = np.arange(exact.sizes[TIME])
    if offset == "random":
        first = np.floor(start * every)[..., None]
    elif isinstance(offset, str) or int(offset) != offset or not 0 <= offset < index.size:
        raise ValueError(f'offset={offset!r} must be "random" or a whole number within the {index.size} time steps.')
    else:
        first = offset
    return (index >= first) & ((index - first) % every == 0)


def _on_grid(grid: np.ndarray, times: Sequence[float]) -> np.ndarray:
    """Which time steps lie at the given times, `(T,)`."""
    times = np.asarray(times, float)
    nearest = np.abs(grid[:, None] - times).argmin(0)
    missed = times[~np.isclose(grid[nearest], times, atol=1e-6 * max(1.0, np.abs(grid).max()))]
    if missed.size:
        raise ValueError(f"times {missed.tolist()} are not on the grid from {grid[0]:g} to {grid[-1]:g}.")
    return np.isin(np.arange(grid.size), nearest)


def _among(components: Sequence[str] | None, names: list[str]) -> np.ndarray:
    """Which values are observed, `(p,)`."""
    if isinstance(components, str):
        raise ValueError(f'components="{components}" is one name; give a list of them: ["{components}"].')
    unknown = sorted(set(components or ()) - set(names))
    if unknown:
        raise ValueError(f"Components {unknown} are not among those observed, {names}: choose from these.")
    return np.array([components is None or name in components for name in names])


def _unmasked(operator, like: xr.DataArray) -> np.ndarray:
    """Where a mask lets the values `like` be observed: everywhere, if the operator is none."""
    if isinstance(operator, xr.DataArray):
        return _aligned(operator, like)
    mask = np.asarray(True if operator is None or callable(operator) else operator)
    try:
        return np.broadcast_to(mask if mask.dtype == bool else True, like.shape)
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
    for dim in mask.dims:
        if dim in mask.coords and dim in like.coords:
            missing = np.setdiff1d(like[dim], mask[dim])
            if missing.size or not mask.get_index(dim).is_unique:
                raise ValueError(
                    f"The mask lacks {missing.tolist()} along {dim!r}, or has a label twice; it needs each label of "
                    f"truth once: mask.reindex({dim}=truth.{dim}, fill_value=False)."
                )
            mask = mask.sel({dim: like[dim]})
        elif mask.sizes[dim] != like.sizes[dim]:
            raise ValueError(f"The mask has {mask.sizes[dim]} along {dim!r}, the values {like.sizes[dim]}: label it.")
    return mask.broadcast_like(like).transpose(*like.dims).values


def _read_noise(noise_std: float | xr.DataArray, like: xr.DataArray, seen: np.ndarray) -> xr.DataArray:
    """noise_std on the coordinates of the values `like`; it may lack those that are not seen.

    Raises:
        ValueError: it does not broadcast over the values, or is not positive where they are seen.
    """
    noise_std = xr.DataArray(noise_std)
    if set(noise_std.dims) - set(like.dims) or noise_std.dtype.kind not in "iuf":
        raise ValueError(
            f"noise_std has dims {noise_std.dims} and dtype {noise_std.dtype}; give a number, or an xr.DataArray of "
            f"numbers with some of the dims {like.dims}."
        )
    noise_std = noise_std.reindex_like(like)
    needed = noise_std.broadcast_like(like).transpose(*like.dims).values[seen]
    if not (np.isfinite(needed) & (needed > 0)).all():
        raise ValueError(
            "noise_std must be positive and finite wherever something is observed, on the same coordinates; an exact "
            "measurement is a small positive noise_std."
        )
    return noise_std
