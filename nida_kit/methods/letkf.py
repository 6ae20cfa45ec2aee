"""The local ensemble transform Kalman filter: each component has an analysis of its own.

    A_i = I + Y T_i R^-1 T_i Y',    w_i = A_i^-1 Y T_i R^-1 T_i (y - h(m)),    T_i^2 = diag(taper(distances))

So a component is moved by what was observed near it, and N members may span far more than N - 1 dimensions. Of
independent errors, the taper raises the variances; of others, the whole precision R^-1 fades out with distance, and
stays one. Y here is not whitened. For w, Y, S and m see `ensemble`.

On a ring and on the grid of a field, distances are known without a matrix of them: arcs and tiles are worked out one
after the other, each from the values within reach of it. Of a field, blocks of neighbouring cells share one analysis,
with distances from the middle of the block.

Where the members outnumber the values that a component sees, the same analysis is found among the latter. With the
columns P of Y T_i R^-1/2 and C the Cholesky factor of I + P' P,

    A_i^-1 = I - P (C C')^-1 P' = B B',    B' = I - P (C + I)'^-1 C^-1 P'

(Andrews 1968, doi:10.2514/3.4864).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import torch
import xarray as xr
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nida_kit import checks
from nida_kit.linalg.taper import gaspari_cohn, reach
from nida_kit.methods.enkf import EnKF, finite_size_inflation
from nida_kit.methods.ensemble import deviations, inflated, root_of, rotated_noise, seen_by
from nida_kit.methods.sequential import DOUBLE
from nida_kit.observing.errors import Independent
from nida_kit.observing.observations import Observations
from nida_kit.state import OTHER, GridLabels, Labels
from nida_kit.systems.system import System

AT_ONCE = 2**17  # numbers in the matrices A of a tile: they stay in a processor's cache
ARC = 256  # sites of a ring that are analysed at once, or more where the taper reaches farther


class LETKF(EnKF):
    """The local ensemble transform Kalman filter (Hunt, Kostelich & Szunyogh 2007, doi:10.1016/j.physd.2006.11.008).

    Every component has weights of its own, from observations that count the less the farther away they are: as if
    their error variance grew by 1 / taper. So few members do for a large state. The random rotation is the
    same everywhere, and the weights change smoothly from component to component.

    Fields are localised on their grid, in cells:

    >>> import nida_kit as nk
    >>> ocean = nk.QuasiGeostrophic(cells=17)
    >>> truth = ocean.simulate(samples=1, steps=6, dt=10.0, seed=0)
    >>> obs = nk.observe(truth, fraction=0.2, noise_std=2.0, seed=1)
    >>> result = nk.LETKF(ocean, members=10, radius=3.0, block=2).assimilate(obs)
    >>> bool(nk.rmse(result["mean"], truth) < nk.rmse(result["forecast"], truth))
    True

    Args:
        system: an `nk.System`; the first members are draws of its `start`.
        model_noise_std, model_noise_covariance: as for `EnKF`.
        radius: of localisation: the taper of `gaspari_cohn`, in units of `distances`, or cells of a field's grid.
        distances: from each component to each observed value, `(n, p)`; of a field also `(*shape, p)` or
            `(*shape, *shape)`. None asks the system, which `nk.Lorenz96` answers: sites along the ring; of a field
            whose system does not say, they are those on its grid, in cells. Labelled ones lie between components,
            `(component, other_component)`.
        block: cells along each side of the blocks that share one analysis, of a field on its grid. With 2, an analysis
            takes a quarter of the time, and hardly changes where the radius is several cells.
        members, inflation, finite_size, hyperprior, seed, dtype: as for `EnKF`; with finite_size, each block finds an
            inflation of its own (LETKF-N, Bocquet 2011, doi:10.5194/npg-18-735-2011).
    """

    def __init__(
        self,
        system: System,
        model_noise_std=0.0,
        *,
        model_noise_covariance=None,
        radius: float = 4.0,
        distances=None,
        block: int = 1,
        members: int = 10,
        inflation: float = 1.0,
        finite_size: bool = False,
        hyperprior: float = 1.0,
        seed: int = 0,
        dtype: torch.dtype = DOUBLE,
    ):
        noise = {"model_noise_std": model_noise_std, "model_noise_covariance": model_noise_covariance}
        ensemble = {"members": members, "inflation": inflation, "finite_size": finite_size, "seed": seed}
        ensemble |= {"hyperprior": hyperprior}
        super().__init__(system, **noise, **ensemble, dtype=dtype)
        self.settings["radius"], block = checks.positive("radius", radius), checks.count("block", block, 1)
        radius, at_once = self.settings["radius"], max(1, AT_ONCE // self.members**2)
        on_ring = distances is None and self.system.ring
        if distances is None and not on_ring:
            distances = self.system.distances()
        elif distances is not None:
            distances = _by_label(distances, self.labels)
        if (on_ring or distances is not None) and block != 1:
            raise ValueError(f"{block=} is of a field's grid; here distances say what is near: leave one of them out.")
        self.places: _Places
        if on_ring:
            self.places = _OnRing(self.labels.size, radius)
        elif distances is not None:
            self.places = _ByMatrix(gaspari_cohn(_matrix(distances, self.labels), radius))
        elif isinstance(self.labels, GridLabels):
            self.settings["block"] = block
            self.places = _OnGrid(self.labels.shape, radius, block, at_once)
        else:
            raise ValueError(
                f"The components of {self.system.name} have no places: give distances=, a matrix (component, observed "
                "value), or a method without localisation."
            )

    def analysed(self, E, here, generator):
        seen = seen_by(E, here)
        if seen.shape[-1] != self.places.values:
            raise ValueError(
                f"There are {seen.shape[-1]} observed values per time and distances to {self.places.values}: give "
                "distances= (component, observed value) for this operator."
            )
        Y, innovation = deviations(seen), here.value - seen.mean(-2, keepdim=True)
        pulls = (_Independent if isinstance(here.errors, Independent) else _Correlated)(Y, innovation, here)
        S, noise = deviations(E).mT.contiguous(), rotated_noise(self.members, generator)
        moved = S.new_empty(*S.shape[:-1], self.members)
        for windows, cells, near, taper in self.places.parts(here.seen.squeeze(-2)):
            if not self.finite_size and 0 < pulls.values(taper) < self.members - 1:
                moved[windows, cells] = _among_values(*pulls.tapered(windows, near, taper), S[windows, cells], noise)
            else:
                products, pull = pulls(windows, near, taper)
                moved[windows, cells] = self._moved(products, pull, S[windows, cells], noise)
        return inflated(E.mean(-2, keepdim=True) + moved.mT, self.inflation)

    def _moved(
        self,
        products: Float[Tensor, "W B m m"],
        pull: Float[Tensor, "W B m"],
        S: Float[Tensor, "W B c m"],
        noise: Float[Tensor, "N m"],
    ) -> Float[Tensor, "W B c N"]:
        """How far from the forecast's mean the members are, at the c components of each block.

        It is (rotated noise + z') v, with z = L^-1 pull and v = L^-1 S of each component.
        """
        if self.finite_size:
            factor = finite_size_inflation(products, pull, self.members, self.hyperprior)
            products, pull, S = factor.square().unsqueeze(-1) * products, factor * pull, factor.unsqueeze(-1) * S
        lower = root_of(products + torch.eye(self.members - 1, dtype=DOUBLE))
        both = torch.linalg.solve_triangular(lower, torch.cat([pull.unsqueeze(-2), S], -2).mT, upper=False)
        z, v = both[..., :1], both[..., 1:]
        return v.mT @ noise.mT + (z * v).sum(-2).unsqueeze(-1)


# What the weights see of observed values q that are near blocks B: A - I and Y T R^-1 T (y - h(m)) of each


class _Independent:
    """Of independent errors: every taper sums the same products."""

    def __init__(self, Y: Float[Tensor, "W m p"], innovation: Float[Tensor, "W one p"], here: Observations):
        self.Y, self.innovation = here.whiten(Y).mT, here.whiten(innovation).mT

    def __call__(
        self, windows: slice, near: slice | Int[Tensor, " q"], taper: Float[Tensor, "B q"]
    ) -> tuple[Float[Tensor, "W B m m"], Float[Tensor, "W B m"]]:
        Y, innovation = self.Y[windows, near], self.innovation[windows, near]
        pairs = (Y.unsqueeze(-1) * Y.unsqueeze(-2)).flatten(-2)
        return (taper @ pairs).unflatten(-1, (Y.shape[-1],) * 2), taper @ (Y * innovation)

    @staticmethod
    def values(taper: Float[Tensor, "B q"]) -> int:
        """How many values, observed or not, a block is near to at most."""
        return int((taper > 0).sum(-1).amax()) if taper.shape[-1] else 0

    def tapered(
        self, windows: slice, near: slice | Int[Tensor, " q"], taper: Float[Tensor, "B q"]
    ) -> tuple[Float[Tensor, "W B k m"], Float[Tensor, "W B k one"]]:
        """What a block sees: deviations and innovations of the values that it is near to, by the root of the taper."""
        index = taper.topk(self.values(taper)).indices.sort().values  # (B, k)
        root = taper.gather(-1, index).sqrt().unsqueeze(-1)
        return tuple(root * each[windows, near][:, index] for each in (self.Y, self.innovation))


class _Correlated:
    """Of others: each taper has whitened deviations of its own."""

    def __init__(self, Y: Float[Tensor, "W m p"], innovation: Float[Tensor, "W one p"], here: Observations):
        self.Y, self.innovation = Y.mT, innovation.nan_to_num(nan=0.0).mT
        self.whitener = here.whiten(torch.eye(Y.shape[-1], dtype=DOUBLE)).mT  # R^-1/2, (W, p, p)

    def tapered(
        self, windows: slice, near: slice | Int[Tensor, " q"], taper: Float[Tensor, "B q"]
    ) -> tuple[Float[Tensor, "W B p m"], Float[Tensor, "W B p one"]]:
        """As of independent errors, of all values."""
        whitener, root = self.whitener[windows, :, near].unsqueeze(-3), taper.sqrt().unsqueeze(-1)
        given = self.Y[windows, near], self.innovation[windows, near]
        return tuple(whitener @ (root * each.unsqueeze(-3)) for each in given)

    def __call__(
        self, windows: slice, near: slice | Int[Tensor, " q"], taper: Float[Tensor, "B q"]
    ) -> tuple[Float[Tensor, "W B m m"], Float[Tensor, "W B m"]]:
        Y, innovation = self.tapered(windows, near, taper)
        return Y.mT @ Y, (Y.mT @ innovation).squeeze(-1)

    def values(self, taper: Float[Tensor, "B q"]) -> int:
        """How many values a block is near to: whitened, it may be to all."""
        return self.Y.shape[-2]


def _among_values(
    Y: Float[Tensor, "W B k m"],
    innovation: Float[Tensor, "W B k one"],
    S: Float[Tensor, "W B c m"],
    noise: Float[Tensor, "N m"],
) -> Float[Tensor, "W B c N"]:
    """As `LETKF._moved`, by matrices of k values, which are fewer than the members.

    With C C' = Y Y' + I and P = Y S', the mean moves by d' (C C')^-1 P, and deviations lose (C + I)'^-1 C^-1 P of Y.
    """
    one = torch.eye(Y.shape[-2], dtype=DOUBLE)
    lower = root_of(Y @ Y.mT + one)
    both = torch.linalg.solve_triangular(lower, torch.cat([innovation, Y @ S.mT], -1), upper=False)
    z, v = both[..., :1], both[..., 1:]
    less = torch.linalg.solve_triangular((lower + one).mT, v, upper=True)
    return S @ noise.mT + (z * v).sum(-2).unsqueeze(-1) - less.mT @ (Y @ noise.mT)


# What is near


class _Places(Protocol):
    """Where components and observed values are.

    Attributes:
        values: how many values may be observed at a time.
    """

    values: int

    def parts(
        self, seen: Bool[Tensor, "W p"]
    ) -> Iterator[tuple[slice, Int[Tensor, "B c"], slice | Int[Tensor, " q"], Float[Tensor, "B q"]]]:
        """Some windows, the components of blocks, the observed values near any of them, and the taper of both."""
        ...


class _ByMatrix:
    """Each component is a block by itself, with a row of a matrix.

    Args:
        taper: of component and observed value.
    """

    def __init__(self, taper: Float[Tensor, "n p"]):
        self.taper, self.values = taper, taper.shape[-1]

    def parts(self, seen):
        yield slice(None), torch.arange(len(self.taper)).unsqueeze(-1), slice(None), self.taper


class _OnRing:
    """Sites of a ring, in arcs; each may be observed.

    Args:
        sites: of the ring.
        radius: of the taper, in sites.
    """

    def __init__(self, sites: int, radius: float):
        self.values, self.far = sites, math.ceil(reach(radius)) - 1
        self.taper = gaspari_cohn(torch.arange(sites // 2 + 1).double(), radius)  # by distance
        each = max(ARC, 2 * self.far)
        self.arcs = torch.arange(sites).split(each if each + 2 * self.far < sites else sites)

    def parts(self, seen):
        for arc in self.arcs:
            near = torch.arange(int(arc[0]) - self.far, int(arc[-1]) + self.far + 1)[: self.values] % self.values
            near = near.sort().values  # so that the order of the values is that of a matrix
            away = (arc.unsqueeze(-1) - near).abs()
            yield slice(None), arc.unsqueeze(-1), near, self.taper[torch.minimum(away, self.values - away)]


class _OnGrid:
    """Blocks of the cells of a grid, in tiles; each cell may be observed.

    Args:
        shape: of the grid.
        radius: of the taper, in cells.
        block: cells along each side of a block; those at the end may have fewer, and name their last ones twice.
        at_once: blocks in a tile, or somewhat fewer.
    """

    def __init__(self, shape: tuple[int, ...], radius: float, block: int, at_once: int):
        self.radius, self.values, d = radius, math.prod(shape), len(shape)
        along = [torch.arange(0, n, block)[:, None] + torch.arange(min(block, n)) for n in shape]
        # Along each dim an axis of blocks, and after all of these one of the cells within each.
        index = [
            cells.clamp(max=n - 1).view(
                [len(cells) if j == k else cells.shape[1] if j == k + d else 1 for j in range(2 * d)]
            )
            for k, (cells, n) in enumerate(zip(along, shape, strict=True))
        ]
        tiles = [torch.arange(self.values).view(shape)[tuple(index)].flatten(d)]
        for k in range(d):
            tiles = [part for tile in tiles for part in tile.split(max(1, int(at_once ** (1 / d))), k)]
        self.tiles = [tile.flatten(0, d - 1) for tile in tiles]
        self.place = torch.cartesian_prod(*(torch.arange(n).double() for n in shape)).reshape(self.values, -1)

    def parts(self, seen):
        far = reach(self.radius)
        for w, observed in enumerate(seen):
            index = observed.nonzero().squeeze(-1)
            places = self.place[index]
            for cells in self.tiles:
                middle = (self.place[cells[:, 0]] + self.place[cells[:, -1]]) / 2
                inside = ((places > middle.amin(0) - far) & (places < middle.amax(0) + far)).all(-1)
                # not by matrix products, which lose digits
                distances = torch.cdist(middle, places[inside], compute_mode="donot_use_mm_for_euclid_dist")
                yield slice(w, w + 1), cells, index[inside], gaspari_cohn(distances, self.radius)


def _matrix(distances, labels: Labels) -> Float[Tensor, "n p"]:
    """Distances from each component to each observed value.

    Raises:
        ValueError: what are none.
    """
    distances = checks.numbers("distances", distances)
    n, shape = labels.size, labels.shape
    if distances.shape[: len(shape)] == shape:  # a field's own dims, of rows and perhaps of columns too
        whole = distances.shape[len(shape) :] == shape
        distances = distances.reshape(n, n) if whole else distances.flatten(0, len(shape) - 1)
    if distances.ndim != 2 or len(distances) != n:
        raise ValueError(
            f"distances must be a matrix (component, observed value) of {n} rows, not {tuple(distances.shape)}."
        )
    if not (distances >= 0).all():
        raise ValueError("distances holds NaN or negative values: give how far apart things are.")
    return distances


def _by_label(distances, labels: Labels):
    """Labelled distances between components in the state's order.

    Raises:
        ValueError: labelled distances to anything else, or other labels than the state's.
    """
    columns = [f"{OTHER}{dim}" for dim in labels.dims]
    if isinstance(distances, xr.DataArray) and set(distances.dims) != {*labels.dims, *columns}:
        raise ValueError(
            f"distances has the dims {distances.dims}; only {(*labels.dims, *columns)} are matched by their labels. Of "
            "other observed values give distances.values, rows in the order of the state and columns in theirs."
        )
    return labels.ordered("distances", distances)
