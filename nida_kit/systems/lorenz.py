"""Lorenz's chaotic systems: three equations of convection (1963), and a ring of sites (1996)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from nida_kit.state import StateLabels
from nida_kit.systems.system import System, joined, log_normal, of_arrays_too, split


@dataclass(frozen=True)
class Lorenz63(System):
    """Lorenz's (1963, doi:10.1175/1520-0469(1963)020<0130:DNF>2.0.CO;2) convection model, in its nondimensional units.

    >>> import nida_kit as nk
    >>> truth = nk.Lorenz63().simulate(samples=2, steps=32, dt=0.05, seed=0)
    >>> truth.dims, truth["component"].values.tolist()
    (('sample', 'time', 'component'), ['x', 'y', 'z'])

    Trajectories start from N((0, 0, 25), 10^2 I), as in Blanke et al. (2024, arXiv:2406.15076).
    """

    sigma: float = 10.0
    rho: float = 28.0
    beta: float = 8 / 3
    longest_substep: float = 0.025

    labels = StateLabels(
        ("x", "y", "z"), ("1", "1", "1"), ("convection x", "horizontal temperature y", "vertical temperature z")
    )

    @of_arrays_too
    def tendency(self, x):
        x, y, z = split(x)
        return joined([self.sigma * (y - x), x * (self.rho - z) - y, x * y - self.beta * z])

    def start(self, samples, generator, dtype, device):
        centre = torch.tensor([0.0, 0.0, 25.0], dtype=dtype, device=device)
        return centre + 10 * torch.randn(samples, 3, generator=generator, dtype=dtype, device=device)

    def log_start(self, x):
        return log_normal(x, torch.tensor([0.0, 0.0, 25.0]).to(x), 10.0)


@dataclass(frozen=True)
class Lorenz96(System):
    """Lorenz's (1996) ring of sites, x_i' = (x_{i+1} - x_{i-2}) x_{i-1} - x_i + forcing; time unit about 5 days.

    >>> import nida_kit as nk
    >>> nk.Lorenz96(sites=20).simulate(samples=1, steps=8, dt=0.05, seed=0, spinup=400).sizes
    Frozen({'sample': 1, 'time': 8, 'component': 20})

    Trajectories start from the unstable rest state plus unit noise: spin up (about 400 steps of 0.05) for the
    attractor.
    """

    sites: int = 40
    forcing: float = 8.0
    longest_substep: float = 0.05
    labels: StateLabels = field(init=False, repr=False)

    def __post_init__(self):
        if self.sites < 4:
            raise ValueError(f"Lorenz-96 couples each site with three others: sites={self.sites} must be at least 4.")
        names = tuple(f"x{i}" for i in range(self.sites))
        object.__setattr__(self, "labels", StateLabels(names, ("1",) * self.sites, names))

    def tendency(self, x):
        return (x.roll(-1, -1) - x.roll(2, -1)) * x.roll(1, -1) - x + self.forcing

    def start(self, samples, generator, dtype, device):
        return self.forcing + torch.randn(samples, self.sites, generator=generator, dtype=dtype, device=device)

    def log_start(self, x):
        return log_normal(x, self.forcing, 1.0)

    @property
    def ring(self):
        return type(self).distances is Lorenz96.distances

    def distances(self):
        """In sites, the shorter way around the ring."""
        away = (torch.arange(self.sites)[:, None] - torch.arange(self.sites)).abs()
        return torch.minimum(away, self.sites - away).double()
