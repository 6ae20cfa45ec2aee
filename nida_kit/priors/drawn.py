"""The spread of a field that is known by its generator: that of draws, for there is no closed form of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit.gaussian import Gaussian
from nida_kit.linalg.fields import averaged
from nida_kit.linalg.solvers import to_a_tolerance
from nida_kit.priors.modes import OfField

DRAWS = 16  # of which the spread of a field is made
LEAST = 0.005  # climatological standard deviations, below which no error is believed
_rough = partial(to_a_tolerance, tolerance=1e-2)  # moves a spread by half a percent, where so few draws leave 20


@dataclass(frozen=True)
class Drawn:
    """A posterior of a field. Its spread is that of draws, their squares averaged over neighbours.

    Attributes:
        gaussian: known by its generator.
        climatology: of the field.
        wider: than that all draws are by this factor.
        draws: how many the spread is made of.
        unresolved: standard deviation of what the generator cannot hold, independent of it. The spread has it, and the
            draws, which are smooth, have not.
    """

    gaussian: Gaussian
    climatology: OfField
    wider: float = 1.0
    draws: int = DRAWS
    unresolved: Float[Tensor, " n"] | float = 0.0

    @property
    def mean(self) -> Float[Tensor, "*batch T n"]:
        """In double precision, as results are."""
        return self.gaussian.mean.double()

    @property
    def std(self) -> Float[Tensor, "*batch T n"]:
        """Marginal standard deviations; the same whichever windows are reconstructed together."""
        return (self.resolved.square() + self.unresolved**2).sqrt()

    @cached_property
    def resolved(self) -> Float[Tensor, "*batch T n"]:
        """Those of what the generator holds."""
        own = self.gaussian
        around = replace(own, residual=(None,) * len(own.residual), solver=_rough)  # its draws, about the centre
        drawn = around.draw(self.draws, torch.Generator().manual_seed(0), alike=True) - own.centre
        variance = averaged(drawn.square().mean(0), self.climatology.sea)
        return (self.wider * variance.sqrt() + LEAST * self.climatology.spread).double()

    def sample(self, noise: Float[Tensor, "layers *draws T n"]) -> Float[Tensor, "*draws T n"]:
        """Draws from unit normal noise: as many layers as it takes for the prior, then for the observations."""
        mean = self.gaussian.mean
        return (mean + self.wider * (self.gaussian.perturbed(of_rows(self.gaussian, noise)) - mean)).double()


def of_rows(gaussian: Gaussian, noise: Float[Tensor, "layers *draws T n"]) -> list[Tensor]:
    """Noise for each of the stacked rows, from layers of the window's shape: as many as it takes for each.

    Raises:
        ValueError: more rows than there is noise.
    """
    found, used, window = [], 0, noise.shape[-2:].numel()
    for shape in gaussian.noise_shapes:
        needed = math.prod(shape[-2:])
        layers = noise[used : used + math.ceil(needed / window)].movedim(0, -3).flatten(-3)
        if needed > layers.shape[-1]:
            raise ValueError(
                f"There are {needed} values within a window of {window}: nk.grid without exact=True combines those "
                "that share a cell, and then draws are made."
            )
        found.append(layers[..., :needed].unflatten(-1, shape[-2:]).to(gaussian.centre))
        used += math.ceil(needed / window)
    return found
