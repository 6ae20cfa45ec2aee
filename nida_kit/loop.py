"""The loop: ask a prior for a Gaussian around the current estimate, condition it on the observations, move there.

    for s in schedule:                        # temperatures, 1 = coarse ... 0 = sharp
        x_s   = s x_0 + (1 - s) x_hat         # what the prior sees: between the first guess and the estimate
        local = prior(x_s, s)                 # r + J (x - c) ~ N(0, I)
        x_hat = mean of local.condition(observations.around(c))

Optimal interpolation, the Kalman smoother, weak-constraint 4D-Var and neural incremental assimilation are this loop
with different priors (Blanke, Fablet and Lelarge 2024, arXiv:2406.15076). A nonlinear h is linearised anew at each
step, at the prior's centre; a prior that knows nothing of h takes several such steps, `descended`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from nida_kit.gaussian import Gaussian
from nida_kit.statement import Prior, Statement

Update = Callable[[Gaussian, Statement], Gaussian]


Move = Callable[[Gaussian], Gaussian]


def linearised(local: Gaussian, observations: Statement) -> Gaussian:
    """The local prior conditioned on the observations, h linearised at its centre: exact for a linear h."""
    return local.condition(observations.around(local.centre))


def to_the_mean(posterior: Gaussian) -> Gaussian:
    """The usual move: the posterior's mean is the next estimate."""
    return posterior


def incremental(
    prior: Prior,
    schedule: Sequence[float | Tensor],
    observations: Statement,
    start: Gaussian,
    update: Update = linearised,
    move: Move = to_the_mean,
) -> Iterator[Gaussian]:
    """The posterior after each step.

    Args:
        prior: asked once per step.
        schedule: temperatures, each a number or one per window.
        observations: of the whole batch.
        start: the first guess and its spread.
        update: combines the local prior with the observations; `conditioned` if h may be nonlinear.
        move: where the next step starts from the posterior of this one; a draw from it instead of its mean makes the
            loop a sampler.

    Yields:
        One Gaussian per temperature; the last one is the answer.
    """
    current = start
    for s in schedule:
        blend = torch.as_tensor(s, dtype=start.centre.dtype, device=start.centre.device)[..., None, None]
        local = prior(current.at(blend * start.estimate + (1 - blend) * current.estimate), s)
        posterior = update(local, observations)
        yield posterior
        current = move(posterior)
