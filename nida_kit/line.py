r"""Bayes on a line: one unknown number x, one measurement y of it, the smallest assimilation that there is.

    prior        x ~ N(m, sigma_b^2)
    measurement  y = h(x) + eta,  eta ~ N(0, sigma_o^2)
    posterior    p(x | y) = p(x) p(y | x) / p(y)

Where h(x) = x, the posterior is Gaussian. Precisions add, and the mean moves by the share w of the surprise y - m:

    1 / sigma_a^2 = 1 / sigma_b^2 + 1 / sigma_o^2,   m_a = m + w (y - m),   w = sigma_b^2 / (sigma_b^2 + sigma_o^2).

For any other h it need not be Gaussian, and may have several peaks. So there are two answers here: the exact one on a
grid (for smooth functions that vanish at its ends, sums over a grid are as good as integrals), and the package's own
update, `descent.conditioned`, written out for one number: without torch, so that it runs in a browser, too.

>>> ds = line(prior_mean=0.0, prior_std=2.0, value=3.0, noise_std=1.0)
>>> round(ds.attrs["mean"], 6), round(ds.attrs["weight"], 6)
(2.4, 0.8)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import xarray as xr
from scipy.optimize import brentq

from nida_kit import checks

# h and its slope, by name
OPERATORS: dict[str, tuple[Callable, Callable]] = {
    "identity": (lambda x: x, np.ones_like),
    "square": (np.square, lambda x: 2 * x),
    "saturating": (lambda x: 3 * np.tanh(x / 3), lambda x: 1 - np.tanh(x / 3) ** 2),
}
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
    predicted = OPERATORS[p.operator][0](GRID)
    likelihood = _bell(p.value, predicted, p.noise_std)
    misfit = _misfit(p, GRID)
    posterior = np.exp(misfit.min() - misfit)
    posterior = posterior / (posterior.sum() * SPACING)
    mean = (posterior * GRID).sum() * SPACING
    std = np.sqrt((posterior * (GRID - mean) ** 2).sum() * SPACING)

    gaussian_mean, gaussian_std = update(p)
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


def update(parameters: LineParameters) -> tuple[float, float]:
    """Mean and standard deviation of the package's posterior, a Gaussian.

    For a nonlinear h it is centred on the peak to which the descent from the prior's mean leads, with the spread of
    h linearised there. Each step goes to the mean of prior and measurement, linearised at the best x so far, and of the
    damping N(best, prior_std^2 / lambda); lambda shrinks where the misfit fell, and grows where it did not, as in
    `descent.LevenbergMarquardt`.
    """
    p = parameters
    best, damping = p.prior_mean, 0.0  # undamped, the first step is exact for a linear h
    lowest = _misfit(p, best)
    for _ in range(20):
        step = -_slope(p, best) / (_precision(p, best) + damping / p.prior_std**2)
        gain = lowest - _misfit(p, best + step)
        # A short step gains little far from any minimum too: there damping takes the larger share of what it could.
        held = 0 < gain < 2 * damping * (step / p.prior_std) ** 2
        converged = abs(gain) <= 1e-6 * (1 + lowest) and not held
        if gain > 0:
            best, lowest, damping = best + step, lowest - gain, damping / 10
        else:
            damping = max(5 * damping, 1e-2)
        if converged:
            break
    return float(best), float(_precision(p, best) ** -0.5)


def _misfit(p: LineParameters, x: np.ndarray | float) -> np.ndarray | float:
    """Minus the logarithm of the posterior's density, up to a constant."""
    h, _ = OPERATORS[p.operator]
    return ((x - p.prior_mean) / p.prior_std) ** 2 / 2 + ((p.value - h(x)) / p.noise_std) ** 2 / 2


def _slope(p: LineParameters, x: float) -> float:
    """Of the misfit."""
    h, slope = OPERATORS[p.operator]
    return (x - p.prior_mean) / p.prior_std**2 - slope(x) * (p.value - h(x)) / p.noise_std**2


def _precision(p: LineParameters, x: float) -> float:
    """Of the posterior with h linearised at x."""
    _, slope = OPERATORS[p.operator]
    return p.prior_std**-2 + (slope(x) / p.noise_std) ** 2


def _bell(x: np.ndarray | float, mean: np.ndarray | float, std: float) -> np.ndarray:
    """The density of N(mean, std^2) at x."""
    return np.exp(-(((x - mean) / std) ** 2) / 2) / (std * np.sqrt(2 * np.pi))


def _minimum(p: LineParameters, near: float) -> float:
    """Where the misfit has no slope, within a grid spacing of the best grid point."""
    ends = near - SPACING, near + SPACING
    if _slope(p, ends[0]) * _slope(p, ends[1]) > 0:  # two peaks closer than the grid can tell
        return near
    return brentq(lambda x: _slope(p, x), *ends, xtol=1e-13)
