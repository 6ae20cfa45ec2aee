"""A small doubly periodic field that tests share: advection and diffusion, linear and so known in closed form."""

import numpy as np
import torch

import nida_kit as nk

NY, NX = 8, 9


def tendency(x):
    """-u . grad x + k lap x on a grid of unit spacing, by central differences; `(..., y, x)`."""
    east, west, north, south = x.roll(-1, -1), x.roll(1, -1), x.roll(-1, -2), x.roll(1, -2)
    return -0.7 * (east - west) / 2 + 0.4 * (north - south) / 2 + 0.2 * (east + west + north + south - 4 * x)


class Advection(nk.System):
    """It starts from white noise of unit variance around 1, so that nothing is zero by chance."""

    labels = nk.GridLabels(
        {"y": np.arange(NY) * 2.0, "x": np.arange(NX) * 0.1 + 5}, "K", "temperature", coord_units={"y": "km", "x": "km"}
    )
    longest_substep = 0.1

    def tendency(self, x):
        return tendency(x)

    def start(self, samples, generator, dtype, device):
        return 1 + torch.randn(samples, NY, NX, generator=generator, dtype=dtype, device=device)

    def log_start(self, x):
        return torch.distributions.Normal(1.0, 1.0).log_prob(x).sum((-2, -1))

    def distances(self):
        """The shorter way around in both directions, `(y, x, y, x)`."""
        y, x = (torch.minimum(d, n - d) for n in (NY, NX) for d in [(torch.arange(n)[:, None] - torch.arange(n)).abs()])
        return (y[:, None, :, None] ** 2 + x[None, :, None, :] ** 2).double().sqrt()


NAMES = tuple(f"p{i}" for i in range(NY * NX))


class Vector(Advection):
    """The same system, whose author wrote its 72 points one after the other."""

    labels = nk.StateLabels(NAMES, ("K",) * len(NAMES), NAMES)

    def tendency(self, x):
        return tendency(x.unflatten(-1, (NY, NX))).flatten(-2)

    def start(self, samples, generator, dtype, device):
        return super().start(samples, generator, dtype, device).flatten(-2)

    def distances(self):
        return super().distances().reshape(NY * NX, -1)


def flat(array):
    """A labelled field (or a whole dataset) as `Vector` labels it."""
    stacked = array.stack(component=("y", "x")).drop_vars(["y", "x", "component"])
    return stacked.assign_coords(component=list(NAMES)).transpose(..., "component")
