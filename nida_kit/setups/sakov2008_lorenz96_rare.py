"""Lorenz-96 of Sakov and Oke (2008), observed every 4 steps (0.2) instead: windows of 4D-Var and the iEnKS.

Scores are those of DAPPER. They only make sense for backgrounds of 4D-Var whose covariance is a share of the identity.
"""

from dataclasses import replace

import numpy as np

from nida_kit.methods.ienks import IEnKS
from nida_kit.methods.method import Method
from nida_kit.methods.strong import StrongFourDVar
from nida_kit.reference.cycling import Cycling
from nida_kit.reference.score import Score
from nida_kit.setups.sakov2008_lorenz96 import setup as sakov2008


def _four_d_var(lag: int, variance: float):
    def make(setup: Cycling) -> Method:
        background = variance * np.eye(len(setup.system.labels.components))
        return StrongFourDVar(setup.system, background, lag=lag, iterations=10, tolerance=1e-3)

    return make


setup = replace(
    sakov2008,
    name="sakov2008-lorenz96-rare",
    every=4,
    published={
        "4D-Var, lag 1": Score(0.46, 1000, "DAPPER", 0.2, _four_d_var(1, 0.2)),
        "4D-Var, lag 2": Score(0.39, 1000, "DAPPER", 0.2, _four_d_var(2, 0.1)),
        "4D-Var, lag 4": Score(0.37, 1000, "DAPPER", 0.2, _four_d_var(4, 0.02)),
        "iEnKS, 20 members, lag 4": Score(
            0.31, 1000, "DAPPER", 0.2, lambda s: IEnKS(s.system, lag=4, members=20, inflation=1.02)
        ),
    },
)
