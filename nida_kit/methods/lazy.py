"""Lazy results: observations that Dask has in chunks are reconstructed chunk by chunk, when values are asked for.

Windows are independent, so a chunk of them is a batch like any other. What comes out, its variables, dims and dtypes,
is learnt from one short window without observations, which is run at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol

import numpy as np
import xarray as xr

from nida_kit.edge import COVARIANCE, NOISE
from nida_kit.notes import quiet
from nida_kit.observing.operators import Operator
from nida_kit.state import OTHER, TIME, Labels


class Eager(Protocol):
    """What is asked of a method."""

    labels: Labels
    stops_early: bool
    template_steps: int | None

    def dims_of(self, operator) -> tuple[str, ...]: ...

    def eagerly(self, obs, first_guess, operator, *, robust=None, noise=None, trace=False) -> xr.Dataset: ...


def by_chunks(
    method: Eager,
    obs: xr.Dataset,
    first_guess: xr.DataArray | None,
    operator: Operator,
    *,
    robust: Callable | None = None,
    noise: xr.DataArray | None = None,
    trace: bool = False,
) -> xr.Dataset:
    """What `method.eagerly` gives, lazily, by `xr.map_blocks`.

    Raises:
        ValueError: chunks along time or the state, or a trace of unknown length.
    """
    if trace and method.stops_early:
        raise ValueError(
            "A lazy trace needs a known number of steps, and this method stops when it has converged: trace "
            "obs.compute(), or a few samples of it."
        )
    if levels := _levels(obs):  # of which Dask's blocks know nothing
        given = [
            None if a is None else a.reset_index([d for d in levels if d in a.indexes]) for a in (first_guess, noise)
        ]
        how = {"robust": robust, "noise": given[1], "trace": trace}
        found = by_chunks(method, obs.reset_index(list(levels)), given[0], operator, **how)
        return found.set_index(levels)
    obs, core = obs.unify_chunks(), method.dims_of(operator)
    _check_chunks(obs, core)
    value = obs["value"]
    lead = [d for d in value.dims if d not in core]
    chunks = {d: obs.chunksizes.get(d, (obs.sizes[d],)) for d in lead}
    # Observations may have fewer labels along a dim than the state has, or other ones: rename the state's for a while.
    arrays = [
        None if a is None else a.chunk({d: chunks.get(d, -1) for d in a.dims}).rename(_for_a_while(method.labels, a))
        for a in (first_guess, noise)
    ]
    obs = obs.chunk({d: chunks.get(d, -1) for d in obs.dims})
    return xr.map_blocks(
        _block,
        obs,
        args=[method, arrays[0], operator, arrays[1]],
        kwargs={"trace": trace, "robust": robust},
        template=_template(method, obs, operator, {"noise": noise, "trace": trace, "robust": robust}, chunks),
    )


def _levels(obs: xr.Dataset) -> dict[Hashable, list[Hashable]]:
    """The levels of each dim whose labels have several, as after `obs.stack(window=("a", "b"))`."""
    return {dim: list(obs.indexes[dim].names) for dim in obs.dims if getattr(obs.indexes.get(dim), "nlevels", 1) > 1}


def _check_chunks(obs: xr.Dataset, core: tuple[str, ...]) -> None:
    """Raises a ValueError where a window is cut."""
    chunked = [d for d in (*core, *(OTHER + d for d in core)) if len(obs.chunksizes.get(d, (0,))) > 1]
    if chunked:
        whole = ", ".join(f"{d}=-1" for d in dict.fromkeys((*core, *chunked)))
        raise ValueError(f"obs is chunked along {chunked}; a window is solved whole: obs.chunk({whole}).")


def _for_a_while(labels: Labels, array: xr.DataArray) -> dict[str, str]:
    """Other names for the state's own dims."""
    return {dim: f"_state_{dim}" for dim in labels.dims if dim in array.dims}


def _block(obs: xr.Dataset, method: Eager, first_guess, operator, noise, trace, robust) -> xr.Dataset:
    """One chunk, its arrays with the state's dims under their names again."""
    names = {f"_state_{dim}": dim for dim in method.labels.dims}
    arrays = [
        None if a is None else a.rename({other: dim for other, dim in names.items() if other in a.dims})
        for a in (first_guess, noise)
    ]
    return method.eagerly(obs, arrays[0], operator, robust=robust, noise=arrays[1], trace=trace)


def _template(method: Eager, obs: xr.Dataset, operator: Operator, how: dict, chunks: dict) -> xr.Dataset:
    """What comes out, without values; made from one window without observations."""
    value = obs["value"]
    first = {d: slice(0, 1) for d in chunks}
    short = {d: slice(method.template_steps) for d in (TIME, OTHER + TIME)}
    window = obs[[name for name in ("value", NOISE, COVARIANCE) if name in obs]].isel(first, missing_dims="ignore")
    window = window.isel(short, missing_dims="ignore").map(_blank)
    noise = how["noise"]
    how = how | {"noise": None if noise is None else noise.isel(first | short, missing_dims="ignore")}
    with quiet():
        small = method.eagerly(window, None, operator, **how).reindex({TIME: obs[TIME]})
    template = small.isel({d: 0 for d in chunks}, drop=True).expand_dims({d: obs.sizes[d] for d in chunks})
    template = template.map(lambda array: array.transpose(*small[array.name].dims))
    core = set(method.dims_of(operator)) - {TIME}
    outer = {name: c for name, c in value.coords.items() if not core & set(c.dims)}
    template = template.assign_coords(outer).chunk(chunks)
    template.attrs = {k: v for k, v in small.attrs.items() if k not in ("iterations", "seconds", "note")}
    return template


def _blank(array: xr.DataArray) -> xr.DataArray:
    """An array in memory of the same shape and labels, in which nothing is observed."""
    return array.copy(data=np.full(array.shape, np.nan if array.name == "value" else 1.0))
