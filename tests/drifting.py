"""A small smooth field that tests share: it drifts to the right around a ring and is renewed slowly."""

import numpy as np
import torch
import xarray as xr

SIDE = 17


def drifting(samples, steps, seed, side=SIDE):
    """Trajectories `(sample, time, y, x)` with a time step of 5, about 4 points smooth where `side` is 17."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(samples, steps, side, side, generator=generator, dtype=torch.float64)
    at = torch.arange(side, dtype=torch.float64)
    apart = (at[:, None] - at).abs()
    width = 2.5 * (side - 1) / 16
    along, around = (torch.exp(-((d / width) ** 2)) for d in (apart, torch.minimum(apart, side - apart)))
    along, around = (k / k.square().sum(1, keepdim=True).sqrt() for k in (along, around))
    x = along @ noise @ around.mT
    for t in range(1, steps):
        x[:, t] = 0.95 * x[:, t - 1].roll(1, -1) + (1 - 0.95**2) ** 0.5 * x[:, t]
    x = x * torch.linspace(2, 6, side, dtype=torch.float64)[:, None] + 1
    place = np.linspace(0, 1, side)
    dims = ("sample", "time", "y", "x")
    return xr.DataArray(x.numpy(), dims=dims, coords={"time": 5.0 * np.arange(steps), "y": place, "x": place})
