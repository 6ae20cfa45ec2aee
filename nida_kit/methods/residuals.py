r"""What an answer leaves of the observations, and how improbable that is.

Each value is held against what the others say of it. Without it the answer x with variance P would be at

    x + (x - y) h / (1 - h),    with the variance P / (1 - h),    h = w P / sigma^2,

sigma being its error and w the weight that it counted with. So its standardised residual is

    t = (y - x) / (1 - h) / (sigma^2 + P / (1 - h))^(1/2),

of unit variance where prior and errors are what they are said to be: the studentised residual of regression (Cook &
Weisberg 1982). Behind an operator P is not known, and taken as 0.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nida_kit.observing.observations import Observations

LEVERAGE = 0.95  # at most: a value that alone decides cannot be held against others
CHANCE = 1e-3  # of a false alarm in a whole batch


def leverages(observations: Observations, std: Tensor, weight: Tensor | float = 1.0) -> Float[Tensor, "*batch T p"]:
    """The share h of the answer that each value decides itself; 0 where there is none, or it is not known."""
    if not observations.direct:
        return torch.zeros_like(observations.value)
    h = (weight * (std / observations.noise_std).square()).clamp(max=LEVERAGE)
    return torch.where(observations.seen, h, 0.0)


def standardised(
    observations: Observations, mean: Tensor, std: Tensor, weight: Tensor | float = 1.0
) -> Float[Tensor, "*batch T p"]:
    """The standardised residual t of every value, NaN where there is none.

    Args:
        observations: with the errors as they were told.
        mean: the answer, `(..., T, n)`.
        std: its standard deviations, `(..., T, n)`.
        weight: with which each value counted, `(..., T, p)`.
    """
    rest = 1 - leverages(observations, std, weight)
    known = std.square() / rest if observations.direct else 0.0
    return (observations.value - observations.predicted(mean)) / rest / (observations.noise_std.square() + known).sqrt()


def misfit(observations: Observations, mean: Tensor) -> Float[Tensor, "*batch"]:
    """Root mean square of y - h(mean), in standard deviations of the errors.

    NaN if nothing is observed, infinite if the mean is not finite.
    """
    count = observations.seen.sum((-2, -1))
    found = (2 * observations.misfit(mean) / count).sqrt().where(count > 0, math.nan)
    return found.where(mean.isfinite().all(-1).all(-1), math.inf)


def improbable(observations: Observations, mean: Tensor, std: Tensor, t: Tensor) -> Bool[Tensor, "*batch"]:
    """Which windows miss what was observed by more than chance would: as a whole, or by one value.

    The squared misfit follows chi-square, with a degree of freedom for each value, less what the answer follows it; the
    worst t is the largest of as many normal numbers.
    """
    count = observations.seen.sum((-2, -1)).to(t)
    freedom = (count - leverages(observations, std).sum((-2, -1))).clamp(min=0.5)
    whole = torch.special.gammaincc(freedom / 2, observations.misfit(mean))
    worst = count * torch.special.erfc(t.abs().nan_to_num(nan=0.0).amax((-2, -1)) / math.sqrt(2))
    return (torch.minimum(whole, worst) * count.numel() < CHANCE) & (count > 0)
