"""Laws of observations for training: a random pattern of what is seen, and how noisy it is, for each window of a batch.

A law is a function of the shape `(B, T, n)` and a random generator. It gives where there are values, `(B, T, n)`, and
the standard deviations of their errors there. The values themselves are drawn by the training, x + noise_std * noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Law = Callable[[tuple[int, int, int], torch.Generator], tuple[Tensor, Tensor]]


def regular(
    shape: tuple[int, int, int],
    generator: torch.Generator,
    *,
    components: Sequence[int],
    every: int,
    noise_std: float | Tensor,
) -> tuple[Bool[Tensor, "B T n"], Float[Tensor, "B T n"]]:
    """Some components at every `every`-th step from a random offset on: the paper's laws."""
    batch, steps, n = shape
    offset = torch.randint(every, (batch, 1), generator=generator)
    when = (torch.arange(steps) - offset) % every == 0
    which = torch.zeros(n, dtype=torch.bool)
    which[list(components)] = True
    return when[:, :, None] & which, torch.as_tensor(noise_std, dtype=torch.float64).expand(shape)


def either(
    shape: tuple[int, int, int], generator: torch.Generator, *, law: Law, other: Law, share: float
) -> tuple[Bool[Tensor, "B T n"], Float[Tensor, "B T n"]]:
    """One law for a random share of the windows, another one for the rest."""
    first, second = law(shape, generator), other(shape, generator)
    chosen = torch.rand(shape[0], 1, 1, generator=generator) < share
    return tuple(torch.where(chosen, a, b) for a, b in zip(first, second, strict=True))


def mixture(
    shape: tuple[int, int, int],
    generator: torch.Generator,
    *,
    scale: Tensor,
    noise: tuple[float, float] = (0.02, 0.2),
    spacing: tuple[int, int] = (2, 12),
    count: tuple[int, int] = (4, 20),
    least: int = 1,
) -> tuple[Bool[Tensor, "B T n"], Float[Tensor, "B T n"]]:
    """A different law for every window, so that a prior trained on it serves them all.

    Two windows in three are regular, at a random spacing within `spacing` steps from a random offset on; the others
    hold a random `count` of values at random places. Of all windows, half see `least` random components and the other
    half a random set of `least` to n: sparse laws, where there is most to learn, come often. The noise is log-uniform
    within `noise`, in units of `scale` (n,), the climatological standard deviations.
    """
    batch, steps, n = shape
    if not 1 <= least <= n:
        raise ValueError(f"least={least} must lie from 1 to the {n} components.")

    def coin(share: float) -> Tensor:
        return torch.rand(batch, 1, generator=generator) < share

    size = torch.randint(least, n + 1, (batch, 1), generator=generator).where(coin(0.5), least)
    which = torch.rand(batch, n, generator=generator).argsort(1).argsort(1) < size
    every = torch.randint(spacing[0], spacing[1] + 1, (batch, 1), generator=generator)
    offset = (every * torch.rand(batch, 1, generator=generator)).long()
    grid = ((torch.arange(steps) - offset) % every == 0)[:, :, None] & which[:, None]
    places = torch.rand(shape, generator=generator).where(which[:, None].expand(shape), 2.0).flatten(1)
    values = torch.randint(count[0], count[1] + 1, (batch, 1), generator=generator)
    scattered = ((places.argsort(1).argsort(1) < values) & (places < 2)).view(shape)
    seen = torch.where(coin(2 / 3)[:, :, None], grid, scattered)
    low, high = noise
    level = low * (high / low) ** torch.rand(batch, 1, 1, generator=generator, dtype=torch.float64)
    return seen, (level * scale.double()).expand(shape)
