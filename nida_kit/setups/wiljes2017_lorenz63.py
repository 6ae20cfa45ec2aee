"""Lorenz-63 of de Wiljes, Reich and Stannat (2018, doi:10.1137/17M1119056): only x is seen, every 12 steps, R = 8.

Scores are single-seed values of DAPPER, of 100 cycles; 12 runs of 1,000 stand beside them here.
"""

from dataclasses import replace

from nida_kit.methods.enkf import EnKF
from nida_kit.methods.filters import ThreeDVar
from nida_kit.methods.particle_filter import ParticleFilter
from nida_kit.reference.score import Score
from nida_kit.reference.static import interpolation
from nida_kit.setups.sakov2012_lorenz63 import setup as sakov2012

setup = replace(
    sakov2012,
    name="wiljes2017-lorenz63",
    every=12,
    noise_std=8**0.5,
    components=("x",),
    burn_in=4,
    source="doi:10.1137/17M1119056",
    experiments=12,  # runs of few particles differ by a factor of two
    published={
        "optimal interpolation": Score(5.4, 100, "DAPPER", 0.2, interpolation),
        "3D-Var": Score(3.0, 100, "DAPPER", 0.2, lambda s: ThreeDVar(s.system, 0.3 * s.covariance)),
        "EnKF-N, 5 members": Score(2.68, 100, "DAPPER", 0.2, lambda s: EnKF(s.system, members=5, finite_size=True)),
        "EnKF-N, 30 members": Score(2.52, 100, "DAPPER", 0.2, lambda s: EnKF(s.system, members=30, finite_size=True)),
        "particle filter, 35 particles": Score(
            2.05, 100, "DAPPER", 0.2, lambda s: ParticleFilter(s.system, particles=35, jitter=1.4, resample_below=0.3)
        ),
    },
)
