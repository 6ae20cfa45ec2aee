"""Lorenz-63 of Bocquet and Sakov (2012, doi:10.5194/npg-19-383-2012), Figure 11: observed every 25 steps, R = I."""

from dataclasses import replace

from nida_kit.methods.ienks import IEnKS
from nida_kit.reference.score import Score
from nida_kit.setups.sakov2012_lorenz63 import setup as sakov2012

setup = replace(
    sakov2012,
    name="bocquet2012-lorenz63",
    noise_std=1.0,
    source="doi:10.5194/npg-19-383-2012",
    published={
        "iEnKS, 10 members": Score(
            0.22, 1000, "lag 1", 0.2, lambda s: IEnKS(s.system, lag=1, members=10, inflation=1.02)
        ),
        "iEnKS, 3 members": Score(
            0.23, 1000, "lag 1", 0.2, lambda s: IEnKS(s.system, lag=1, members=3, inflation=1.04)
        ),
    },
)
