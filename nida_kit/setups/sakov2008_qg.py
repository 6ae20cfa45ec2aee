"""The ocean gyre of Sakov and Oke (2008, doi:10.1111/j.1600-0870.2007.00299.x), seen along tracks that shift.

At each of 300 times, 5 time units apart, 300 of 129 x 129 cells are seen, as far apart as can be row by row, from a
random one on: they lie on slanting tracks. Truth and members start from snapshots of one free run. Scores are those of
DAPPER, whose LETKF-N looks for its inflation among values that are not tapered, and corrects the prior's mode.
"""

import numpy as np
import torch
import xarray as xr

from nida_kit.methods.letkf import LETKF
from nida_kit.reference.cycling import Cycling
from nida_kit.reference.score import Score
from nida_kit.systems.quasigeostrophic import QuasiGeostrophic
from nida_kit.systems.wrapped import OnAttractor

SEEN = 300 / 129**2  # share of the cells


def tracks(truth: xr.DataArray, generator: np.random.Generator) -> xr.DataArray:
    """Cells evenly apart at each time, from a random one on; the same for all experiments."""
    dims = ("time", "y", "x")
    T, y, x = (truth.sizes[dim] for dim in dims)
    count = round(SEEN * y * x)
    cells = np.arange(count) * (y * x) // count + generator.integers(y * x // count, size=(T, 1))
    seen = np.zeros((T, y * x), bool)
    np.put_along_axis(seen, cells, True, 1)
    return xr.DataArray(seen.reshape(T, y, x), {dim: truth[dim] for dim in dims if dim in truth.coords}, dims)


def letkf(setup: Cycling, **how) -> LETKF:
    """Localised as on record; the model runs in float32."""
    return LETKF(setup.system, radius=10, block=2, dtype=torch.float32, **how)


setup = Cycling(
    name="sakov2008-qg",
    system=OnAttractor(QuasiGeostrophic(), time=3500.0, snapshots=400, apart=50.0),
    dt=5.0,
    every=1,
    noise_std=2.0,
    burn_in=250,
    source="doi:10.1111/j.1600-0870.2007.00299.x",
    cycles=300,
    points=tracks,
    experiments=1,
    published={
        "LETKF, 25 members": Score(0.64, 300, "DAPPER", 0.2, lambda s: letkf(s, members=25, inflation=1.04)),
        "LETKF, 45 members": Score(0.52, 300, "DAPPER", 0.2, lambda s: letkf(s, members=45, inflation=1.02)),
        "LETKF-N, 25 members": Score(
            0.66, 300, "DAPPER", 0.2, lambda s: letkf(s, members=25, finite_size=True, hyperprior=2.0)
        ),
        "LETKF-N, 45 members": Score(
            0.51, 300, "DAPPER", 0.2, lambda s: letkf(s, members=45, finite_size=True, hyperprior=1.5)
        ),
        "serial EAKF, 25 members": Score(0.62, 300, "DAPPER, inflation 1.04, radius 10"),
        "serial EAKF, 25 members, less inflation": Score(0.58, 300, "DAPPER, inflation 1.03, radius 10"),
        "iLEnKS, 25 members": Score(0.59, 300, "DAPPER, inflation 1.03, radius 12, 3 iterations, lag 2"),
    },
)
