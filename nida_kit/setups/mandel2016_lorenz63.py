"""Lorenz-63 of Mandel et al. (2016, doi:10.5194/npg-23-59-2016): H = x^3 of each component, every 35 steps, R = 8.

The model noise has variance 0.01 from one observation to the next. Scores are single-seed values of
DAPPER; runs of few members differ by a factor of six.
"""

from dataclasses import replace

import torch

from nida_kit.methods.enkf import EnKF
from nida_kit.reference.score import Score
from nida_kit.setups.sakov2012_lorenz63 import setup as sakov2012


def cubed(x: torch.Tensor) -> torch.Tensor:
    """H."""
    return x**3


setup = replace(
    sakov2012,
    name="mandel2016-lorenz63",
    every=35,
    noise_std=8**0.5,
    operator=cubed,
    model_noise_std=(0.01 / 35) ** 0.5,
    source="doi:10.5194/npg-23-59-2016",
    experiments=12,
    published={
        "EnKF, 100 members, perturbed observations": Score(
            0.20,
            1000,
            "DAPPER",
            0.2,
            lambda s: EnKF(s.system, s.model_noise_std, members=100, inflation=1.03, perturbed=True),
        ),
        "EnKF, 10 members, perturbed observations": Score(
            0.64, 1000, "DAPPER, inflation 1.20; with other seeds the members run apart and overflow"
        ),
    },
)
