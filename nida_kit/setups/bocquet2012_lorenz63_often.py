"""As `bocquet2012_lorenz63`, observed every 5 steps."""

from dataclasses import replace

from nida_kit.methods.ienks import IEnKS
from nida_kit.reference.score import Score
from nida_kit.setups.bocquet2012_lorenz63 import setup as seldom

setup = replace(
    seldom,
    name="bocquet2012-lorenz63-often",
    every=5,
    published={
        "iEnKS, 10 members": Score(
            0.13, 1000, "lag 1", 0.2, lambda s: IEnKS(s.system, lag=1, members=10, inflation=1.02)
        ),
        "iEnKS, 3 members": Score(
            0.13, 1000, "lag 1", 0.2, lambda s: IEnKS(s.system, lag=1, members=3, inflation=1.02)
        ),
    },
)
