"""Lorenz-96 of Bocquet, Pires and Wu (2010, doi:10.1175/2010MWR3164.1), Figure 5: every second of 40 sites, R = 2.25.

Scores are single-seed values of DAPPER.
"""

from dataclasses import replace

from nida_kit.methods.enkf import EnKF
from nida_kit.methods.ienks import IEnKS
from nida_kit.reference.score import Score
from nida_kit.setups.sakov2008_lorenz96 import setup as sakov2008

setup = replace(
    sakov2008,
    name="bocquet2010-lorenz96",
    noise_std=1.5,
    components=tuple(f"x{i}" for i in range(0, 40, 2)),
    source="doi:10.1175/2010MWR3164.1",
    cycles=1280,
    published={
        "EnKF-N, 24 members": Score(0.58, 880, "DAPPER", 0.2, lambda s: EnKF(s.system, members=24, finite_size=True)),
        "iEnKS, 19 members, lag 2": Score(
            0.46, 880, "DAPPER", 0.2, lambda s: IEnKS(s.system, lag=2, members=19, inflation=1.04)
        ),
    },
)
