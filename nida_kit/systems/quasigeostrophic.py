"""A turbulent ocean in a box: the barotropic model with a free surface of Sakov and Oke (2008).

    q = lap psi - F psi
    q_t = -beta psi_x - r J(psi, q) - A lap^3 psi - b lap psi - w sin(2 pi y),    psi = lap psi = lap^2 psi = 0 around

on the unit square, in nondimensional units. J is Arakawa's (1966), which conserves energy and enstrophy; lap has five
points. Since psi is its own state, psi_t is found from q_t by sine transforms, exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from nida_kit import checks
from nida_kit.state import GridLabels
from nida_kit.systems.system import System

_INTERVALS = 128  # along a side of the published grid


@dataclass(frozen=True)
class QuasiGeostrophic(System):
    """The streamfunction of a wind-driven ocean gyre (Sakov & Oke 2008, doi:10.1111/j.1600-0870.2007.00299.x).

    >>> import nida_kit as nk
    >>> nk.QuasiGeostrophic(cells=17).simulate(samples=1, steps=3, dt=5.0, seed=0).sizes
    Frozen({'sample': 1, 'time': 3, 'y': 17, 'x': 17})

    States are psi `(..., y, x)`, zero around. One cycle of the published experiment is 5 time units, on 129 x 129
    points. Trajectories start from smooth noise, as strong as the turbulence is; it takes about 1,000 time units until
    they have forgotten that.

    Args:
        cells: points along a side, those around included; 9 or more.
        viscosity: A, of lap^3, 0 or more; None is 2e-12 on 129 points, and ten times more on half as many.
        friction: b, of the bottom, 0 or more.
        screening: F, the inverse square of the Rossby radius, in sides of the square; 0 or more.
        advection: r.
        beta: gradient of planetary vorticity.
        wind: w, amplitude of its curl.
        longest_substep: None is 1.25 on 129 points, and inversely as many as there are.

    Raises:
        ValueError: a number that is not finite, or negative where it cannot be.
    """

    cells: int = 129
    viscosity: float | None = None
    friction: float = 0.0
    screening: float = 1600.0
    advection: float = 1e-5
    beta: float = 1.0
    wind: float = 2 * math.pi
    longest_substep: float | None = None
    labels: GridLabels = field(init=False, repr=False)

    def __post_init__(self):
        cells = checks.count("cells", self.cells, 9)
        coarser = _INTERVALS / (cells - 1)
        found = {"viscosity": 2e-12 * 10 ** math.log2(coarser), "longest_substep": 1.25 * coarser}
        asked = dict.fromkeys(("advection", "beta", "wind"), checks.finite) | {"longest_substep": checks.positive}
        asked |= dict.fromkeys(("viscosity", "friction", "screening"), checks.number)
        for name, check in asked.items():
            given = getattr(self, name)
            checks.store(self, **{name: check(name, found[name] if given is None else given)})
        along = np.linspace(0.0, 1.0, cells)
        checks.store(self, cells=cells, labels=GridLabels({"y": along, "x": along}, "1", "streamfunction"))

    def tendency(self, x):
        psi = x[..., 1:-1, 1:-1]
        zeta = laplacian(psi, 1 / (self.cells - 1))
        return pad(self.inverted(self.vorticity_tendency(psi, zeta, zeta - self.screening * psi)), (1, 1, 1, 1))

    def vorticity_tendency(
        self, psi: Float[Tensor, "*batch y x"], zeta: Float[Tensor, "*batch y x"], q: Float[Tensor, "*batch y x"]
    ) -> Float[Tensor, "*batch y x"]:
        """q_t of one layer, whose zeta is lap psi and whose q may see other layers; all without the points around."""
        h = 1 / (self.cells - 1)
        slope = -self.advection * jacobian(psi, q, h) - self.viscosity * laplacian(laplacian(zeta, h), h)
        if self.beta:
            wide = pad(psi, (1, 1))
            slope = slope - self.beta * (wide[..., 2:] - wide[..., :-2]) / (2 * h)
        if self.friction:
            slope = slope - self.friction * zeta
        if self.wind:
            slope = slope - self.wind * _operators(self.cells, psi.dtype, psi.device).wind
        return slope

    def inverted(self, q: Float[Tensor, "*batch y x"]) -> Float[Tensor, "*batch y x"]:
        """The psi of q = lap psi - F psi, both without the points around."""
        return self.sines(self.sines(q) / (self.eigenvalues(q) - self.screening))

    def sines(self, a: Float[Tensor, "*batch y x"]) -> Float[Tensor, "*batch y x"]:
        """The sine transform of inner points, orthonormal and its own inverse."""
        S = _operators(self.cells, a.dtype, a.device).sines
        return S @ a @ S

    def eigenvalues(self, like: Tensor) -> Float[Tensor, "y x"]:
        """Of the Laplacian, one for each wave of `sines`, in the dtype and where it is asked for."""
        return _operators(self.cells, like.dtype, like.device).eigenvalues

    def start(self, samples, generator, dtype, device):
        found, m = _operators(self.cells, dtype, device), self.cells - 2
        noise = torch.randn(samples, m, m, generator=generator, dtype=dtype, device=device)
        waves = (-found.eigenvalues).sqrt() / math.pi  # half waves along a side
        size = (1 + (waves / 10) ** 6).rsqrt()  # the spectrum of the turbulence, as measured after 3,000 time units
        size = size * 6.8 * (m + 1) / size.norm()
        return pad(found.sines @ (noise * size) @ found.sines, (1, 1, 1, 1))

    def energy(self, x: Float[Tensor, "*batch y x"]) -> Float[Tensor, "*batch"]:
        """Kinetic and potential energy, -psi q / 2, a mean over the square."""
        psi, q = self._both(x)
        return -(psi * q).sum((-2, -1)) / 2 / (self.cells - 1) ** 2

    def enstrophy(self, x: Float[Tensor, "*batch y x"]) -> Float[Tensor, "*batch"]:
        """q^2 / 2, a mean over the square."""
        _, q = self._both(x)
        return q.square().sum((-2, -1)) / 2 / (self.cells - 1) ** 2

    def _both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        psi = x[..., 1:-1, 1:-1]
        return psi, laplacian(psi, 1 / (self.cells - 1)) - self.screening * psi


def laplacian(a: Float[Tensor, "*batch y x"], h: float) -> Float[Tensor, "*batch y x"]:
    """Of inner points with spacing h, with zeros around, by five points."""
    p = pad(a, (1, 1, 1, 1))
    out = p[..., 2:, 1:-1] + p[..., :-2, 1:-1]  # a sum in place takes half the time of a new one
    return out.add_(p[..., 1:-1, 2:]).add_(p[..., 1:-1, :-2]).sub_(a, alpha=4).div_(h**2)


def jacobian(a: Float[Tensor, "*batch y x"], b: Float[Tensor, "*batch y x"], h: float) -> Float[Tensor, "*batch y x"]:
    """a_x b_y - a_y b_x by Arakawa's (1966, doi:10.1016/0021-9991(66)90015-5) mean of three forms, zeros around."""
    A, B = pad(a, (1, 1, 1, 1)), pad(b, (1, 1, 1, 1))
    # Fluxes of A through the four sides and four corners of a cell, each computed once for both cells that share it.
    shear = B[..., :-2, :] - B[..., 2:, :]
    east = (shear[..., 1:] + shear[..., :-1]) * (A[..., 1:-1, 1:] + A[..., 1:-1, :-1])
    shear = B[..., 2:] - B[..., :-2]
    north = (shear[..., 1:, :] + shear[..., :-1, :]) * (A[..., 1:, 1:-1] + A[..., :-1, 1:-1])
    north_east = (B[..., :-1, 1:] - B[..., 1:, :-1]) * (A[..., 1:, 1:] + A[..., :-1, :-1])
    north_west = (B[..., 1:, 1:] - B[..., :-1, :-1]) * (A[..., 1:, :-1] + A[..., :-1, 1:])
    out = (east[..., 1:] - east[..., :-1]).add_(north[..., 1:, :]).sub_(north[..., :-1, :])
    out.add_(north_east[..., 1:, 1:]).sub_(north_east[..., :-1, :-1])
    return out.add_(north_west[..., 1:, :-1]).sub_(north_west[..., :-1, 1:]).div_(-12 * h**2)


@dataclass(frozen=True)
class _Operators:
    """What a grid's tendency is made of.

    Attributes:
        sines: of the inner points, `(m, m)`: orthonormal and symmetric, so their own inverse.
        eigenvalues: of the Laplacian, `(m, m)`.
        wind: curl of the wind stress on each row, `(m, 1)`, of unit amplitude.
    """

    sines: Tensor
    eigenvalues: Tensor
    wind: Tensor


@lru_cache(maxsize=8)
def _operators(cells: int, dtype: torch.dtype, device: torch.device) -> _Operators:
    m = cells - 2
    k = torch.arange(1, m + 1, dtype=torch.float64)
    sines = torch.sin(math.pi * torch.outer(k, k) / (m + 1)) * math.sqrt(2 / (m + 1))
    along = (2 * torch.cos(math.pi * k / (m + 1)) - 2) * (m + 1) ** 2
    wind = torch.sin(2 * math.pi * k / (m + 1))[:, None]
    return _Operators(*(x.to(device, dtype) for x in (sines, along[:, None] + along, wind)))
