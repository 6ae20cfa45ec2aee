"""Lorenz-63 of Rozet and Louppe (2023, arXiv:2306.10574), "lo": x every 8 steps, with errors of 0.05 in units of 8.

Their windows begin on the attractor, ours from independent components of its mean and spread. They score samples: the
Wasserstein-1 distance to a particle filter's, see `nida_kit.studies.sampling`.
"""

from nida_kit.reference.setup import Setup, in_state_units
from nida_kit.systems.lorenz import Lorenz63
from nida_kit.systems.wrapped import Started

setup = Setup(
    name="rozet2023-lorenz63-lo",
    system=Started(Lorenz63(), [0.0, 0.0, 23.5], [7.9, 9.0, 8.6]),
    steps=65,
    dt=0.025,
    model_noise_std=0.025**0.5,
    noise_std=0.4,
    noise_unit=in_state_units,
    law={"components": ["x"], "every": 8, "offset": 0},
    source="arXiv:2306.10574",
)
