"""An ocean of two layers: that of `quasigeostrophic`, over water that moves as well (Pedlosky 1987, section 6.16).

    q_1 = lap psi_1 + F (psi_2 - psi_1),    q_2 = lap psi_2 + d F (psi_1 - psi_2),    d = H_1 / H_2

    q_i,t = -beta psi_i,x - r J(psi_i, q_i) - A lap^3 psi_i  - w sin(2 pi y) (above)  - b lap psi_2 (below)

in the same box, on the same grid and in the same units. Over an infinitely deep ocean at rest (d = 0) the upper layer
is the one-layer model itself. Sine transforms leave two equations for the psi of each wave, with the determinant
e (e - F - d F), e the wave's eigenvalue of lap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from nida_kit import checks
from nida_kit.state import GridLabels
from nida_kit.systems.quasigeostrophic import QuasiGeostrophic, laplacian
from nida_kit.systems.system import System


@dataclass(frozen=True)
class TwoLayerQuasiGeostrophic(System):
    """The streamfunctions of a wind-driven ocean gyre and of the water below it.

    >>> import nida_kit as nk
    >>> system = nk.TwoLayerQuasiGeostrophic(nk.QuasiGeostrophic(cells=17))
    >>> truth = system.simulate(samples=1, steps=3, dt=5.0, seed=0)
    >>> truth.sizes
    Frozen({'sample': 1, 'time': 3, 'layer': 2, 'y': 17, 'x': 17})
    >>> truth.sel(layer=1, drop=True).dims  # what the one-layer model and its methods take
    ('sample', 'time', 'y', 'x')

    States are psi `(..., layer, y, x)`, zero around; layer 1 lies above. The one-layer model takes the water below to
    be at rest: that is its error. The water below takes energy from the upper layer, so the default wind is 1.5 times
    that of Sakov and Oke: the upper layer is then about as strong as their ocean.

    Trajectories start from smooth noise above, and rest below; it takes about 2,000 time units until they have
    forgotten that.

    Args:
        upper: the model of the upper layer alone. The lower layer has its cells, F, r, beta, A and substeps, too.
        depth_ratio: d, depth of the upper layer over that of the lower one, 0 or more.
        bottom_friction: b, of the lower layer.
    """

    upper: QuasiGeostrophic = field(default_factory=lambda: QuasiGeostrophic(wind=3 * math.pi))
    depth_ratio: float = 0.1
    bottom_friction: float = 1e-3
    labels: GridLabels = field(init=False, repr=False)

    def __post_init__(self):
        checks.instance("upper", self.upper, QuasiGeostrophic, "a nk.QuasiGeostrophic", "Try nk.QuasiGeostrophic(65).")
        for name in ("depth_ratio", "bottom_friction"):
            checks.store(self, **{name: checks.number(name, getattr(self, name))})
        coords = {"layer": (1.0, 2.0), **self.upper.labels.indexes}
        checks.store(self, labels=GridLabels(coords, "1", "streamfunction"))

    @property
    def longest_substep(self) -> float:
        """That of the upper layer's model."""
        return self.upper.longest_substep

    @cached_property
    def lower(self) -> QuasiGeostrophic:
        """The lower layer's part of the equations: no wind, and the bottom."""
        return replace(self.upper, wind=0.0, friction=self.bottom_friction)

    def parameters(self):
        return self.upper.parameters() | super().parameters()

    def tendency(self, x):
        psi, zeta, q = self._parts(x)
        layers = zip((self.upper, self.lower), *(part.unbind(-3) for part in (psi, zeta, q)), strict=True)
        slopes = [layer.vorticity_tendency(*state) for layer, *state in layers]
        return pad(self.inverted(torch.stack(slopes, -3)), (1, 1, 1, 1))

    def inverted(self, q: Float[Tensor, "*batch layer y x"]) -> Float[Tensor, "*batch layer y x"]:
        """The psi of these q, both without the points around."""
        F, G = self._couplings
        e = self.upper.eigenvalues(q)
        above, below = self.upper.sines(q).unbind(-3)
        waves = torch.stack([(e - G) * above - F * below, (e - F) * below - G * above], -3)
        return self.upper.sines(waves / (e * (e - F - G)))

    def start(self, samples, generator, dtype, device):
        """The upper layer as its own model starts, the lower one at rest."""
        above = self.upper.start(samples, generator, dtype, device)
        return torch.stack([above, torch.zeros_like(above)], -3)

    def energy(self, x: Float[Tensor, "*batch layer y x"]) -> Float[Tensor, "*batch"]:
        """Kinetic and potential energy, -psi q / 2, a mean over square and depth."""
        psi, _, q = self._parts(x)
        above, below = (psi * q).sum((-2, -1)).unbind(-1)
        return -(self.depth_ratio * above + below) / (1 + self.depth_ratio) / 2 / (self.upper.cells - 1) ** 2

    def enstrophy(self, x: Float[Tensor, "*batch layer y x"]) -> Float[Tensor, "*batch layer"]:
        """q^2 / 2 of each layer, a mean over the square."""
        return self._parts(x)[2].square().sum((-2, -1)) / 2 / (self.upper.cells - 1) ** 2

    @property
    def _couplings(self) -> tuple[float, float]:
        """F and d F."""
        return self.upper.screening, self.depth_ratio * self.upper.screening

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Psi, lap psi and q, without the points around."""
        psi = x[..., 1:-1, 1:-1]
        zeta = laplacian(psi, 1 / (self.upper.cells - 1))
        above, below = psi.unbind(-3)
        shear = below - above
        F, G = self._couplings
        return psi, zeta, zeta + torch.stack([F * shear, -G * shear], -3)
