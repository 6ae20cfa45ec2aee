"""As `mandel2016_lorenz63`, observed every 5 steps."""

from dataclasses import replace

from nida_kit.methods.enkf import EnKF
from nida_kit.reference.score import Score
from nida_kit.setups.mandel2016_lorenz63 import setup as seldom

setup = replace(
    seldom,
    name="mandel2016-lorenz63-often",
    every=5,
    model_noise_std=(0.01 / 5) ** 0.5,
    published={
        "EnKF, 100 members, perturbed observations": replace(
            seldom.published["EnKF, 100 members, perturbed observations"], value=0.05
        ),
        "EnKF, 10 members, perturbed observations": Score(
            0.09,
            1000,
            "DAPPER; all of 12 runs here have less, so no test holds it",
            None,
            lambda s: EnKF(s.system, s.model_noise_std, members=10, inflation=1.20, perturbed=True),
        ),
    },
)
