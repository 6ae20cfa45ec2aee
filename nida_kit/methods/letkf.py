"""Ensemble methods: the covariance is that of N states, which the full model carries along.

With the mean m of the ensemble and its N - 1 independent deviations S (their rows; the covariance is S' S), every
analysis looks among the states x = m + w S for *weights* w, which are N(0, I) beforehand. Observations of h see

    y = h(m) + w Y + eta,      Y: the deviations of h of the members,

so their posterior is again a Gaussian conditioned on observations, in N - 1 dimensions whatever the size of the state:

    A = I + Y R^-1 Y',      w_mean = A^-1 Y R^-1 (y - h(m)),      covariance A^-1.

The square root filter takes as its members draws from it, of noise that is exactly centred, uncorrelated and of unit
variance, turned at random (Sakov & Oke 2008, doi:10.1175/2007MWR2021.1): so mean and covariance are met exactly. With a
random turn any square root of A^-1 gives the same law of ensembles, and that of Cholesky is fastest.

Windows that are observed at the same times meet the same random numbers: results depend neither on the other windows
nor on how Dask cuts them, and windows are compared on equal terms.
"""

from __future__ import annotations

import torch

from nida_kit.checks import positive
from nida_kit.linalg.taper import gaspari_cohn
from nida_kit.methods.enkf import EnKF
from nida_kit.methods.ensemble import deviations, inflated, root_of, rotated_noise, seen_by
from nida_kit.methods.sequential import DOUBLE
from nida_kit.systems.system import System


class LETKF(EnKF):
    """The local ensemble transform Kalman filter (Hunt, Kostelich & Szunyogh 2007, doi:10.1016/j.physd.2006.11.008).

    Every component has weights of its own, from observations that count the less the farther away they are: as if
    their error variance grew by 1 / taper. So few members do for a large state. The random turn is the same
    everywhere, and the weights change smoothly from component to component.

    Args:
        system: an `nk.System`; the first members are draws of its `start`.
        model_noise_std: as for `EnKF`.
        radius: of localisation: the taper of `gaspari_cohn`, in units of `distances`.
        distances: from each component to each observed value, `(n, p)`; None asks the system, which `nk.Lorenz96`
            answers: sites along the ring.
        members, inflation, seed: as for `EnKF`.
    """

    def __init__(
        self,
        system: System,
        model_noise_std=0.0,
        *,
        radius: float = 4.0,
        distances=None,
        members: int = 10,
        inflation: float = 1.0,
        seed: int = 0,
    ):
        super().__init__(system, model_noise_std, members=members, inflation=inflation, seed=seed)
        try:
            distances = system.distances() if distances is None else torch.as_tensor(distances, dtype=DOUBLE)
        except (TypeError, RuntimeError) as error:
            raise ValueError(f"distances={distances!r} must be a matrix of numbers: {error}") from error
        n = len(self.labels.components)
        if distances.ndim != 2 or len(distances) != n:
            raise ValueError(
                f"distances must be a matrix (component, observed value) of {n} rows, not {tuple(distances.shape)}."
            )
        if not (distances >= 0).all():
            raise ValueError("distances holds NaN or negative values: give how far apart things are.")
        self.taper = gaspari_cohn(distances, positive("radius", radius))
        self.settings["radius"] = float(radius)

    def analysed(self, E, here, generator):
        seen, R = seen_by(E, here), here.noise_std.square()
        if seen.shape[-1] != self.taper.shape[-1]:
            raise ValueError(
                f"There are {seen.shape[-1]} observed values per time and distances to {self.taper.shape[-1]}: give "
                "distances= (component, observed value) for this operator."
            )
        innovation = here.value - seen.mean(-2, keepdim=True)
        weight = torch.where(innovation.isnan(), 0.0, 1 / R).mT
        Y, m = deviations(seen).mT, self.members - 1  # (W, p, m)
        # Products of all pairs of deviations, summed over the observations by every taper at once.
        pairs = (Y.unsqueeze(-1) * (Y * weight).unsqueeze(-2)).flatten(-2)
        lower = root_of((self.taper @ pairs).unflatten(-1, (m, m)) + torch.eye(m, dtype=DOUBLE))
        pull = self.taper @ (Y * (weight * innovation.nan_to_num(nan=0.0).mT))
        # Members are mean + (turn + z') v with z = L^-1 pull and v = L^-1 S of each component.
        z, v = torch.linalg.solve_triangular(lower, torch.stack([pull, deviations(E).mT], -1), upper=False).unbind(-1)
        moved = (v @ rotated_noise(self.members, generator).mT + (z * v).sum(-1, keepdim=True)).mT
        return inflated(E.mean(-2, keepdim=True) + moved, self.inflation)
