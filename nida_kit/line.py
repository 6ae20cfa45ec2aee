r"""Bayes on a line: one unknown number x, one measurement y of it, the smallest assimilation that there is.

    prior        x ~ N(m, sigma_b^2)
    measurement  y = h(x) + eta,  eta ~ N(0, sigma_o^2)
    posterior    p(x | y) = p(x) p(y | x) / p(y)

Where h(x) = x, the posterior is Gaussian. Precisions add, and the mean moves by the share w of the surprise y - m:

    1 / sigma_a^2 = 1 / sigma_b^2 + 1 / sigma_o^2,   m_a = m + w (y - m),   w = sigma_b^2 / (sigma_b^2 + sigma_o^2).

For any other h it need not be Gaussian, and may have several peaks. So there are two answers here: the exact one on a
grid (for smooth functions that vanish at its ends, sums over a grid are as good as integrals), and the package's own
update, on a window of one step of one component.

>>> ds = line(prior_mean=0.0, prior_std=2.0, value=3.0, noise_std=1.0)
>>> round(ds.attrs["mean"], 6), round(ds.attrs["weight"], 6)
(2.4, 0.8)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
import xarray as xr
from scipy.optimize import brentq
from torch import Tensor

from nida_kit import checks
from nida_kit.descent import conditioned
from nida_kit.gaussian import Gaussian
from nida_kit.linalg.rows import Diagonal
from nida_kit.observing.observations import Observations
from nida_kit.observing.operators import Operator, as_operator


def _saturating(x: Tensor) -> Tensor:
    return 3 * torch.tanh(x / 3)


OPERATORS: dict[str, Operator | None] = {"identity": None, "square": torch.square, "saturating": _saturating}
SPACING = 0.005  # less than the least standard deviation that a posterior within these bounds has
GRID = SPACING * np.arange(-5000, 5001)  # 8 standard deviations beyond every prior within them
BOUNDS = {"prior_mean": (-5.0, 5.0), "prior_std": (0.1, 2.5), "value": (-10.0, 10.0), "noise_std": (0.1, 10.0)}


@dataclass(frozen=True)
class LineParameters:
    """Of one assimilation on the line; each number lies within its `BOUNDS`, for which the grid is made.

    Attributes:
        prior_mean: m.
        prior_std: s.
        value: y, what was measured.
        noise_std: r.
        operator: h, one of `OPERATORS`: "identity", "square" (x^2) or "saturating" (3 tanh(x / 3)).
    """

    prior_mean: float = -1.0
    prior_std: float = 1.5
    value: float = 3.0
    noise_std: float = 1.0
    operator: str = "identity"

    def __post_init__(self):
        for name, (low, high) in BOUNDS.items():
            advice = f"The line is a grid from {GRID[0]:g} to {GRID[-1]:g}, made for these: stay within them."
            checks.store(self, **{name: checks.within(name, getattr(self, name), low, high, advice)})
        checks.store(self, operator=checks.one_of("operator", self.operator, OPERATORS))


def line(prior_mean: float, prior_std: float, value: float, noise_std: float, operator: str = "identity") -> xr.Dataset:
    """`run_line` of these parameters; errors as in `LineParameters`."""
    return run_line(LineParameters(prior_mean, prior_std, value, noise_std, operator))


def run_line(parameters: LineParameters) -> xr.Dataset:
    """Prior, likelihood and posterior of one number, exact and by the package's Gaussian update.

    Returns:
        Along `x`: the densities `prior`, `posterior` (exact) and `gaussian` (the package's), `likelihood`, which is a
        density of the value y and not of x, and `predicted`, h(x). In `attrs` the parameters; `mean`, `std` and
        `mode` of the exact posterior (the MAP; of two that are equally high, the left one); `gaussian_mean`, which is
        also its mode, and `gaussian_std`; the `weight` of the observation, 1 - gaussian_std^2 / prior_std^2, for the
        identity w as above; and `misplaced`, the probability that the Gaussian puts in the wrong place, from 0
        to 1 (the total variation distance).
    """
    p = parameters
    predicted = as_operator(OPERATORS[p.operator])(torch.from_numpy(GRID)).numpy()
    likelihood = _bell(p.value, predicted, p.noise_std)
    misfit = ((GRID - p.prior_mean) / p.prior_std) ** 2 / 2 + ((p.value - predicted) / p.noise_std) ** 2 / 2
    posterior = np.exp(misfit.min() - misfit)
    posterior = posterior / (posterior.sum() * SPACING)
    mean = (posterior * GRID).sum() * SPACING
    std = np.sqrt((posterior * (GRID - mean) ** 2).sum() * SPACING)

    found = update(p)
    gaussian_mean, gaussian_std = found.mean.item(), found.std.item()
    gaussian = _bell(GRID, gaussian_mean, gaussian_std)
    densities = {"prior": _bell(GRID, p.prior_mean, p.prior_std), "posterior": posterior, "gaussian": gaussian}
    drawn = densities | {"likelihood": likelihood, "predicted": predicted}
    numbers = {
        "mean": mean,
        "std": std,
        "mode": _minimum(p, GRID[misfit.argmin()]),
        "gaussian_mean": gaussian_mean,
        "gaussian_std": gaussian_std,
        "weight": 1 - (gaussian_std / p.prior_std) ** 2,
        "misplaced": np.abs(posterior - gaussian).sum() * SPACING / 2,
    }
    return xr.Dataset(
        {name: ("x", values) for name, values in drawn.items()},
        {"x": ("x", GRID, {"long_name": "x"})},
        asdict(p) | {name: float(number) for name, number in numbers.items()},
    )


def update(parameters: LineParameters) -> Gaussian:
    """The package's posterior, a Gaussian over one time step of one component, all tensors of size one.

    For a nonlinear h it is centred on the peak to which the descent from the prior's mean leads, with the spread of
    h linearised there.
    """
    p = parameters
    prior = Gaussian.of(_one(p.prior_mean), Diagonal(_one(1 / p.prior_std)))
    return conditioned(prior, _observed(p))


def _observed(p: LineParameters) -> Observations:
    return Observations(_one(p.value), _one(p.noise_std), as_operator(OPERATORS[p.operator]))


def _one(number: float) -> Tensor:
    """A window of one step of one component, `(1, 1)`."""
    return torch.tensor([[number]], dtype=torch.float64)


def _bell(x: np.ndarray | float, mean: np.ndarray | float, std: float) -> np.ndarray:
    """The density of N(mean, std^2) at x."""
    return np.exp(-(((x - mean) / std) ** 2) / 2) / (std * np.sqrt(2 * np.pi))


def _minimum(p: LineParameters, near: float) -> float:
    """Where the misfit has no slope, within a grid spacing of the best grid point."""
    observed = _observed(p)

    def slope(x: float) -> float:
        seen = observed.around(_one(x))
        return (x - p.prior_mean) / p.prior_std**2 + seen.rows.pull(seen.residual).sum().item()

    ends = near - SPACING, near + SPACING
    if slope(ends[0]) * slope(ends[1]) > 0:  # two peaks closer than the grid can tell
        return near
    return brentq(slope, *ends, xtol=1e-13)
