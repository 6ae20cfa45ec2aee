"""The spread of a field that is known by its generator: from draws, whose squares are averaged over neighbours."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from nida_kit.gaussian import Gaussian


def over_neighbours(
    variance: Float[Tensor, "*batch T n"], sea: Float[Tensor, "y x"], reach: int = 1
) -> Float[Tensor, "*batch T n"]:
    """The mean over the square of so many points to each side, as far as they are sea; 0 on land."""
    size = 2 * reach + 1
    field = variance.unflatten(-1, tuple(sea.shape)).flatten(0, -3).unsqueeze(1)
    around, share = (avg_pool2d(x, size, stride=1, padding=reach) for x in (field * sea, sea[None, None]))
    return (sea * around / share.clamp(min=0.5 / size**2)).reshape(variance.shape)


def of_rows(gaussian: Gaussian, noise: Float[Tensor, "layers *draws T n"]) -> list[Tensor]:
    """Noise for each of a Gaussian's rows, as they need it, from layers of the state's shape.

    Raises:
        ValueError: more rows than values in a window.
    """
    found = []
    for each, shape in zip(noise, gaussian.noise_shapes, strict=True):
        needed = math.prod(shape[-2:])
        if needed > each.shape[-2:].numel():
            raise ValueError(
                f"There are {needed} values within a window of {each.shape[-2:].numel()}: nk.grid without "
                "exact=True combines those that share a cell, and then draws are made."
            )
        found.append(each.flatten(-2)[..., :needed].unflatten(-1, shape[-2:]).to(gaussian.centre))
    return found
