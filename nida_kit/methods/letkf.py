"""The local ensemble transform Kalman filter: each component has an analysis of its own.

    A_i = I + Y T_i R^-1 T_i Y',    w_i = A_i^-1 Y T_i R^-1 T_i (y - h(m)),    T_i^2 = diag(taper(distances))

So a component is moved by what was observed near it, and N members may span far more than N - 1 dimensions. Of
independent errors, the taper raises the variances; of others, the whole precision R^-1 fades out with distance, and
stays one. Y here is not whitened. For w, Y, S and m see `ensemble`.
"""

from __future__ import annotations

import torch
import xarray as xr
from torch import Tensor

from nida_kit import checks
from nida_kit.linalg.taper import gaspari_cohn
from nida_kit.methods.enkf import EnKF
from nida_kit.methods.ensemble import deviations, inflated, root_of, rotated_noise, seen_by
from nida_kit.methods.sequential import DOUBLE
from nida_kit.observing.errors import Independent
from nida_kit.observing.observations import Observations
from nida_kit.state import OTHER, Labels
from nida_kit.systems.system import System


class LETKF(EnKF):
    """The local ensemble transform Kalman filter (Hunt, Kostelich & Szunyogh 2007, doi:10.1016/j.physd.2006.11.008).

    Every component has weights of its own, from observations that count the less the farther away they are: as if
    their error variance grew by 1 / taper. So few members do for a large state. The random rotation is the
    same everywhere, and the weights change smoothly from component to component.

    Args:
        system: an `nk.System`; the first members are draws of its `start`.
        model_noise_std, model_noise_covariance: as for `EnKF`.
        radius: of localisation: the taper of `gaspari_cohn`, in units of `distances`.
        distances: from each component to each observed value, `(n, p)`; of a field also `(*shape, p)` or
            `(*shape, *shape)`. None asks the system, which `nk.Lorenz96` answers: sites along the ring. Labelled ones
            lie between components, `(component, other_component)`.
        members, inflation, seed: as for `EnKF`.
    """

    def __init__(
        self,
        system: System,
        model_noise_std=0.0,
        *,
        model_noise_covariance=None,
        radius: float = 4.0,
        distances=None,
        members: int = 10,
        inflation: float = 1.0,
        seed: int = 0,
    ):
        noise = {"model_noise_std": model_noise_std, "model_noise_covariance": model_noise_covariance}
        super().__init__(system, **noise, members=members, inflation=inflation, seed=seed)
        distances = self.system.distances() if distances is None else _by_label(distances, self.labels)
        distances = checks.numbers("distances", distances)
        n, shape = self.labels.size, self.labels.shape
        if distances.shape[: len(shape)] == shape:  # a field's own dims, of rows and perhaps of columns too
            whole = distances.shape[len(shape) :] == shape
            distances = distances.reshape(n, n) if whole else distances.flatten(0, len(shape) - 1)
        if distances.ndim != 2 or len(distances) != n:
            raise ValueError(
                f"distances must be a matrix (component, observed value) of {n} rows, not {tuple(distances.shape)}."
            )
        if not (distances >= 0).all():
            raise ValueError("distances holds NaN or negative values: give how far apart things are.")
        self.settings["radius"] = checks.positive("radius", radius)
        self.taper = gaspari_cohn(distances, self.settings["radius"])

    def analysed(self, E, here, generator):
        seen = seen_by(E, here)
        if seen.shape[-1] != self.taper.shape[-1]:
            raise ValueError(
                f"There are {seen.shape[-1]} observed values per time and distances to {self.taper.shape[-1]}: give "
                "distances= (component, observed value) for this operator."
            )
        Y, innovation = deviations(seen), here.value - seen.mean(-2, keepdim=True)
        independent = isinstance(here.errors, Independent)
        products, pull = (self._of_independent if independent else self._of_correlated)(Y, innovation, here)
        lower = root_of(products + torch.eye(self.members - 1, dtype=DOUBLE))
        # Members are mean + (rotated noise + z') v with z = L^-1 pull and v = L^-1 S of each component.
        z, v = torch.linalg.solve_triangular(lower, torch.stack([pull, deviations(E).mT], -1), upper=False).unbind(-1)
        moved = (v @ rotated_noise(self.members, generator).mT + (z * v).sum(-1, keepdim=True)).mT
        return inflated(E.mean(-2, keepdim=True) + moved, self.inflation)

    def _of_independent(self, Y: Tensor, innovation: Tensor, here: Observations) -> tuple[Tensor, Tensor]:
        """Of each component, A_i - I and what pulls the weights: every taper sums the same products."""
        Y, innovation = here.whiten(Y).mT, here.whiten(innovation).mT  # (W, p, m)
        pairs = (Y.unsqueeze(-1) * Y.unsqueeze(-2)).flatten(-2)
        return (self.taper @ pairs).unflatten(-1, (Y.shape[-1],) * 2), self.taper @ (Y * innovation)

    def _of_correlated(self, Y: Tensor, innovation: Tensor, here: Observations) -> tuple[Tensor, Tensor]:
        """The same, where each taper has whitened deviations of its own."""
        whitener = here.whiten(torch.eye(Y.shape[-1], dtype=DOUBLE)).mT.unsqueeze(-3)  # R^-1/2, (W, 1, p, p)
        near = self.taper.sqrt()
        tapered = whitener @ (near.unsqueeze(-1) * Y.mT.unsqueeze(-3))  # (W, n, p, m)
        d = whitener @ (near * innovation.nan_to_num(nan=0.0)).unsqueeze(-1)
        return tapered.mT @ tapered, (tapered.mT @ d).squeeze(-1)


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
