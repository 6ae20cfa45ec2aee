"""Lorenz-96 of Sakov and Oke (2008, doi:10.1111/j.1600-0870.2007.00299.x): 40 sites, all seen at every step of 0.05.

Scores of the methods that the paper does not have are those of DAPPER. All start near one state of the attractor: where
the rest state, with one site moved by 0.01, is 20 time units later.
"""

import torch

from nida_kit.methods.enkf import EnKF
from nida_kit.methods.filters import ThreeDVar
from nida_kit.methods.letkf import LETKF
from nida_kit.reference.cycling import Cycling
from nida_kit.reference.score import Score
from nida_kit.reference.static import climatology, interpolation
from nida_kit.systems.lorenz import Lorenz96
from nida_kit.systems.wrapped import Started

_moved = torch.full((40,), 8.0, dtype=torch.float64) + 0.01 * (torch.arange(40) == 0)
system = Started(Lorenz96(), Lorenz96().trajectories(_moved, 401, 0.05)[-1], 0.001**0.5)

setup = Cycling(
    name="sakov2008-lorenz96",
    system=system,
    dt=0.05,
    every=1,
    noise_std=1.0,
    burn_in=20,
    source="doi:10.1111/j.1600-0870.2007.00299.x",
    published={
        "climatology": Score(3.6, 1000, "DAPPER", 0.2, climatology),
        "optimal interpolation": Score(0.95, 1000, "DAPPER", 0.2, interpolation),
        "3D-Var": Score(0.41, 1000, "DAPPER", 0.2, lambda s: ThreeDVar(s.system, 0.02 * s.covariance)),
        "EnKF, 40 members, perturbed observations": Score(
            0.22, 1000, "DAPPER", 0.2, lambda s: EnKF(s.system, members=40, inflation=1.06, perturbed=True)
        ),
        "EnKF, 24 members": Score(
            0.18, 1000, "square root", 0.2, lambda s: EnKF(s.system, members=24, inflation=1.013)
        ),
        "LETKF, 7 members": Score(
            0.22, 1000, "DAPPER", 0.2, lambda s: LETKF(s.system, members=7, inflation=1.04, radius=4)
        ),
    },
)
