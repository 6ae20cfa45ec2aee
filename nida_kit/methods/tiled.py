"""Fields larger than memory: tile by tile, each with a halo of what is observed around it.

A value far from a tile says nothing of it, so a tile that sees its surroundings as far as values are correlated gets
the answer that the whole field would give it. Dask hands the tiles with their halos (`dask.array.map_overlap`) to
whatever runs it, threads or the workers of a cluster. Each writes its own part of a Zarr store and then a checksum of
its observations, so a run that was cut off goes on where it stopped, and not with other data. Noise goes by the place
in the whole field: tiles agree on their draws where they meet.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from tqdm.auto import tqdm

from nida_kit import checks
from nida_kit.edge import LENGTH, NOISE, check_observations, in_state_units, time_step
from nida_kit.methods.interpolation import OptimalInterpolation, posterior_of
from nida_kit.methods.method import unused
from nida_kit.notes import warn
from nida_kit.observing.errors import Independent
from nida_kit.observing.observations import Observations
from nida_kit.priors.multiscale import MultiscaleClimatology
from nida_kit.state import MEMBER, TIME, storable

if TYPE_CHECKING:
    from dask.array import Array

_DONE = "finished"  # along tile_y and tile_x: a checksum of the observations that a tile was made from; 0 is not yet


def tiled(
    method: OptimalInterpolation,
    obs: xr.Dataset,
    store: str | Path,
    *,
    tile: int = 512,
    halo: int = 64,
    members: int = 0,
    seed: int = 0,
) -> xr.Dataset:
    """Reconstruct one large field tile by tile into a Zarr store.

    >>> import nida_kit as nk, tempfile
    >>> climatology = nk.MultiscaleClimatology.of((96, 96), length=2.0, time=2.0, steps=2, draws=2)
    >>> place = [float(k) for k in range(96)]
    >>> method = nk.OptimalInterpolation(climatology, nk.GridLabels({"y": place, "x": place}), dt=1.0)
    >>> value = xr.DataArray(np.full((2, 96, 96), np.nan, "float32"), {"time": [0.0, 1.0], "y": place, "x": place},
    ...     ("time", "y", "x"))
    >>> value[:, ::5, ::7] = 1.0
    >>> obs = xr.Dataset({"value": value, "noise_std": 0.1})  # or xr.open_zarr(...)
    >>> result = nk.tiled(method, obs, tempfile.mkdtemp() + "/result.zarr", tile=48, halo=16, members=1)
    >>> result["draws"].sizes
    Frozen({'member': 1, 'time': 2, 'y': 96, 'x': 96})

    With `dask.distributed.Client(...)` its workers do it, one tile per thread; without, one tile after the other.
    (Dask's workers are three times as fast if they keep freed memory to use it again: before the cluster is made,
    `dask.config.set({"distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 2**30})`, and the same with TRIM.)
    Called again with the same settings and observations, it computes the tiles that are not finished.

    Args:
        method: optimal interpolation by an `nk.MultiscaleClimatology`.
        obs: of one field on the method's grid: `value (time, y, x)`, NaN where nothing was measured, and `noise_std`;
            `xr.open_zarr(path)` reads it as it is needed.
        store: where the result goes: a new folder, or one that a run was cut off in.
        tile: points along each side of a tile; tiles at the far edges take what is left over.
        halo: points around it that it sees, some correlation lengths.
        members: so many of the climatology's draws are kept.
        seed: of the draws.

    Returns:
        The store: `mean`, `std` and, if there are members, `draws`, in single precision, not yet read.

    Raises:
        ValueError: another method; observations in half precision, at points, on another grid, or with correlated
            errors; tiles smaller than their halo, or not in multiples of the coarsest scale; a store of other settings
            or of other observations.
    """
    import dask.array as da  # here, as all that takes long to import

    climatology = _climatology_of(method)
    tile, halo = checks.count("tile", tile, 1), checks.count("halo", halo, 0)
    members = checks.count("members", members, 0, climatology.draws)
    climatology = replace(climatology, seed=checks.seed(seed))
    sizes = [_cut(n, tile, halo, climatology.coarsest) for n in method.labels.shape]
    given = _given(obs, method)
    for note in unused(obs):
        warn(note, stacklevel=3)
    steps = given.shape[1]
    settings = {**method.settings, "tile": tile, "halo": halo, "members": members, "seed": climatology.seed}
    settings["climatology"] = _fingerprint(climatology)
    done = _prepare(Path(store), obs, method, sizes, settings)
    _check_unchanged(store, given, sizes, done)
    finished = done != 0
    written = da.map_overlap(
        _Tile(climatology, str(store), tuple(map(tuple, sizes)), halo, members),
        given.rechunk((2, steps, *map(tuple, sizes))),
        depth=(0, 0, *(halo if len(each) > 1 else 0 for each in sizes)),
        boundary="none",
        trim=False,
        allow_rechunk=False,
        chunks=((1,), (1,), (1,) * len(sizes[0]), (1,) * len(sizes[1])),
        dtype=bool,
        meta=np.empty((0,) * 4, bool),
    )
    left = [written.blocks[0, 0, i, j] for i, j in np.argwhere(~finished)]
    with tqdm(total=finished.size, initial=int(finished.sum()), desc="tiles", unit="tile") as bar:
        for _ in _one_by_one(left):
            bar.update()
    return xr.open_zarr(store, consolidated=False).drop_vars(_DONE).assign_attrs(settings)


def _climatology_of(method) -> MultiscaleClimatology:
    climatology = getattr(method, "climatology", None)
    if not isinstance(method, OptimalInterpolation) or not isinstance(climatology, MultiscaleClimatology):
        raise checks.refused(
            "method",
            method,
            "an nk.OptimalInterpolation by an nk.MultiscaleClimatology",
            "Others see a field as a whole: nk.OptimalInterpolation.fit_scales(records, steps) makes one.",
        )
    return climatology


def _fingerprint(climatology: MultiscaleClimatology) -> str:
    """A few letters that another climatology does not have."""
    from dask.base import tokenize  # here, as all that takes long to import

    names = ("mean", "spread", "memory", *(() if climatology.mask is None else ("mask",)))
    return tokenize(
        *(getattr(climatology, name).numpy() for name in names),
        climatology.finest,
        climatology.shares,
        climatology.wider,
        climatology.unresolved,
    )


def _cut(n: int, tile: int, halo: int, coarsest: int) -> list[int]:
    """The sizes of tiles along an axis; what is less than a tile and its halo goes to the last one."""
    if tile < halo or tile % coarsest or halo % coarsest:
        good = -(-max(halo, 1) // coarsest) * coarsest
        raise ValueError(
            f"tile={tile} and halo={halo} must be multiples of {coarsest} points, the coarsest scale of the "
            f"climatology, and a tile no smaller than its halo: try tile={max(good, -(-tile // coarsest) * coarsest)}, "
            f"halo={good}."
        )
    count = max(1, n // tile)
    if n - count * tile >= max(halo, 1) + tile // 2:
        count += 1
    sizes = [tile] * (count - 1)
    return [*sizes, n - sum(sizes)]


def _given(obs: xr.Dataset, method: OptimalInterpolation) -> Array:
    """Values and their errors on each other, `(2, T, y, x)`, in single precision; nothing is read yet."""
    import dask.array as da  # here, as all that takes long to import

    labels = method.labels
    check_observations(obs, labels.dims)
    if NOISE not in obs or LENGTH in obs.variables:
        raise ValueError(
            "Tiles take independent errors: give noise_std in the place of noise_covariance, or drop noise_length."
        )
    for name in ("value", NOISE):
        checks.unhalved(f"obs.{name}", obs[name].dtype)
    obs = in_state_units(obs, labels)
    value, error = obs["value"], obs[NOISE]
    if foreign := [d for d in value.dims if d not in (TIME, *labels.dims)]:
        raise ValueError(
            f"obs.value has the dims {foreign} beside time and the field's: take one field at a time, .isel."
        )
    time_step(value[TIME], method.dt, labels.time_units)
    for dim, known in labels.indexes.items():
        points = value[dim].values
        if len(points) != len(known) or np.abs(points - known).max() > 1e-3 * abs(known[1] - known[0]):
            raise ValueError(
                f"obs has {_grid(points)} along {dim!r}, and the method {_grid(known)}: its correlations are those "
                f"between points of its own grid. Bring them onto it, nk.grid(obs, method)."
            )
    value = value.transpose(TIME, *labels.dims)
    error = error.transpose(..., *(d for d in value.dims if d in error.dims))
    shape = [value.sizes[d] if d in error.dims else 1 for d in value.dims]
    value = da.asarray(value.data)
    error = da.broadcast_to(da.asarray(error.data).reshape(shape), value.shape, chunks=value.chunks)
    return da.stack([value.astype(np.float32), error.astype(np.float32)])


def _grid(points) -> str:
    return f"{len(points)} points from {points[0]:g} to {points[-1]:g}"


def _prepare(
    store: Path, obs: xr.Dataset, method: OptimalInterpolation, sizes: list[list[int]], settings: dict[str, Any]
) -> np.ndarray:
    """Checksums of the store's tiles, `(tile_y, tile_x)`, 0 where not finished; an empty store is made first.

    Raises:
        ValueError: a store of other settings, or another grid.
    """
    import dask.array as da  # here, as all that takes long to import

    labels, time = method.labels, obs[TIME]
    if store.exists():
        try:
            found = xr.open_zarr(store, consolidated=False)
            same = all(found.attrs.get(name) == value for name, value in settings.items())
            same = same and _DONE in found and all(np.array_equal(found[d], obs[d]) for d in (TIME, *labels.dims))
        except (OSError, ValueError, KeyError):
            same = False
        if not same:
            raise ValueError(
                f"{str(store)!r} is no result of these settings, {settings}, on this grid: give another folder, or "
                "delete this one."
            )
        return found[_DONE].values
    shape = (time.size, *labels.shape)
    chunks = (time.size, *(own[0] for own in sizes))
    dims = (TIME, *labels.dims)
    variables = {
        name: (dims, da.zeros(shape, dtype=np.float32, chunks=chunks), labels.attributes) for name in ("mean", "std")
    }
    if settings["members"]:
        empty = da.zeros((settings["members"], *shape), dtype=np.float32, chunks=(1, *chunks))
        variables["draws"] = ((MEMBER, *dims), empty, labels.attributes)
    counts = tuple(map(len, sizes))
    variables[_DONE] = (("tile_y", "tile_x"), da.zeros(counts, dtype=np.uint32, chunks=(1, 1)))
    empty = xr.Dataset(variables, labels.coordinates() | {TIME: time}, settings)
    encoding = {name: {"chunks": x[1].chunksize} for name, x in variables.items()}
    storable(empty).to_zarr(store, compute=False, consolidated=False, encoding=encoding)
    return np.zeros(counts, np.uint32)


def _places(sizes: Sequence[Sequence[int]], where: Iterable[int]) -> tuple[slice, slice]:
    """Where a tile lies in the whole field."""
    begin = [sum(own[:k]) for own, k in zip(sizes, where, strict=True)]
    along_y, along_x = (slice(b, b + own[k]) for b, own, k in zip(begin, sizes, where, strict=True))
    return along_y, along_x


def _checksum(given: np.ndarray) -> int:
    """Of a tile's own observations and their errors; never 0."""
    return zlib.crc32(np.ascontiguousarray(given)) or 1


def _check_unchanged(store: str | Path, given: Array, sizes: list[list[int]], done: np.ndarray) -> None:
    """Raises a ValueError where finished tiles were made from other observations."""
    finished = np.argwhere(done)
    other = [(i, j) for i, j in finished if _checksum(given[(..., *_places(sizes, (i, j)))].compute()) != done[i, j]]
    if other:
        raise ValueError(
            f"{str(store)!r} has {checks.counted(len(finished), 'finished tile')}, {len(other)} of them made from "
            "other observations: give another folder, or delete this one."
        )


@dataclass(frozen=True)
class _Tile:
    """One tile of observations with its halo becomes one of the store.

    Attributes:
        climatology: of the whole field.
        store: a path.
        sizes: of tiles, along y and along x.
        halo: around each.
        members: how many draws are kept.
    """

    climatology: MultiscaleClimatology
    store: str
    sizes: tuple[tuple[int, ...], tuple[int, ...]]
    halo: int
    members: int

    def __call__(self, given: np.ndarray, block_info=None) -> np.ndarray:
        if not block_info:
            return np.ones((1, 1, 1, 1), bool)
        where = block_info[0]["chunk-location"][-2:]
        own = _places(self.sizes, where)
        first = [max(0, s.start - self.halo) for s in own]
        seen = [slice(f, f + n) for f, n in zip(first, given.shape[-2:], strict=True)]
        inner = (..., *(slice(s.start - f, s.stop - f) for s, f in zip(own, first, strict=True)))
        with torch.no_grad():
            found = _solved(self.climatology.part(*seen), given, self.members)
        self._write({name: x[inner] for name, x in found.items()}, own, where, _checksum(given[inner]))
        return np.ones((1, 1, 1, 1), bool)

    def _write(
        self, found: dict[str, np.ndarray], own: tuple[slice, slice], where: tuple[int, int], checksum: int
    ) -> None:
        import zarr  # here, as all that takes long to import

        group = zarr.open_group(self.store, mode="r+")
        for name, x in found.items():
            group[name][(..., *own)] = x
        group[_DONE][where] = checksum  # last, so that a tile is finished when all of it is there


def _solved(climatology: MultiscaleClimatology, given: np.ndarray, members: int) -> dict[str, np.ndarray]:
    """Mean, std and draws of a tile, `(..., T, y, x)`.

    Raises:
        ValueError: infinite values, or errors that are not positive.
    """
    value, error = (torch.from_numpy(np.ascontiguousarray(x)).flatten(-2) for x in given)
    seen = ~value.isnan()
    if value.isinf().any() or not ((error > 0) & error.isfinite())[seen].all():
        raise ValueError("obs.value must be finite, or NaN where not observed, and obs.noise_std positive and finite.")
    error = error.where(seen, 1.0)
    posterior = posterior_of(climatology, Observations(value, Independent(error)))
    std, draws = posterior.drawn(members)
    mean = posterior.gaussian.mean
    std = climatology.told(std, mean, value.to(mean), error.to(mean))
    found = {"mean": mean, "std": std} | ({"draws": torch.stack(draws)} if draws else {})
    if climatology.mask is not None:
        found = {name: x.where(climatology.mask, math.nan) for name, x in found.items()}
    return {name: x.unflatten(-1, climatology.shape).numpy() for name, x in found.items()}


def _one_by_one(tiles: list[Array]) -> Iterator[None]:
    """Compute tiles, on the workers of a cluster if there is one, and say when each is done."""
    try:
        from distributed import as_completed, default_client

        client = default_client()
    except (ImportError, ValueError):  # no cluster
        for tile in tiles:
            tile.compute(scheduler="synchronous")
            yield
        return
    for future in as_completed(client.compute(tiles)):
        future.result()
        yield
