"""Laws of observations for training: a random pattern of what is seen, and how noisy it is, for each window of a batch.

A law is a function of the shape `(B, T, n)` and a random generator. It gives where there are values, `(B, T, n)`, and
the standard deviations of their errors there. The values themselves are drawn by the training, x + noise_std * noise.
Where something else than the components is seen, a law gives the operator h as a third, one for the whole batch: values
are then h(x) + noise_std * noise.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nida_kit import checks
from nida_kit.observing.operators import Operator, as_operator

Law = Callable[[tuple[int, int, int], torch.Generator], tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Operator]]


def check_law(law: Law) -> Law:
    """A function that a shape and a generator are enough for.

    Raises:
        ValueError: none, or one that lacks arguments or has some that it does not know.
    """
    checks.function("law", law, "Try law=functools.partial(nk.mixture, scale=...).")
    function = law.func if isinstance(law, partial) else law
    name = getattr(function, "__name__", type(function).__name__)
    name = f"nk.{name}" if function in (regular, mixture, combinations, field_mixture) else name
    try:
        own = list(inspect.signature(function).parameters)
    except ValueError as error:  # a compiled function tells none
        if not inspect.isbuiltin(function):
            return law
        raise ValueError(
            f"law={name} is a built-in function, and a law is one of a shape (B, T, n) and a generator. Try "
            "law=functools.partial(nk.mixture, scale=...)."
        ) from error
    try:
        signature = inspect.signature(law)
    except ValueError as error:
        unknown = [each for each in law.keywords if each not in own]
        said = f"arguments that it does not have, {unknown}" if unknown else f"wrong ones: {error.__cause__}"
        raise ValueError(f"law={name} was given {said}. It has {own}.") from error
    lacking = [p.name for p in signature.parameters.values() if p.kind == p.KEYWORD_ONLY and p.default is p.empty]
    if lacking:
        own = ", ".join(f"{each}=..." for each in lacking)
        raise ValueError(
            f"law={name} lacks {lacking}, and a training calls it with a shape and a generator alone: give "
            f"law=functools.partial({name}, {own}), with all of its arguments."
        )
    try:
        signature.bind((1, 1, 1), None)
    except TypeError as error:
        raise ValueError(
            f"law={name} is called with a shape (B, T, n) and a generator, law(shape, generator): "
            f"{checks.sentence(error)} Try law=functools.partial(nk.mixture, scale=...)."
        ) from error
    return law


def regular(
    shape: tuple[int, int, int],
    generator: torch.Generator,
    *,
    components: Sequence[int],
    every: int,
    noise_std: float | Tensor,
) -> tuple[Bool[Tensor, "B T n"], Float[Tensor, "B T n"]]:
    """Some components at every `every`-th step from a random offset on: the paper's laws.

    >>> import nida_kit as nk, torch
    >>> generator = torch.Generator().manual_seed(0)
    >>> seen, noise_std = nk.regular((2, 32, 3), generator, components=[0], every=8, noise_std=0.4)
    >>> seen.sum((-2, -1)).tolist()  # four values of x in each of two windows
    [4, 4]
    """
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
    first, second = (check_law(each)(shape, generator) for each in (law, other))
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

    >>> import nida_kit as nk, torch
    >>> seen, noise_std = nk.mixture((64, 32, 3), torch.Generator().manual_seed(0), scale=torch.ones(3))
    >>> seen.shape, bool(seen.any(-1).any(-1).all())
    (torch.Size([64, 32, 3]), True)

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


def combinations(
    shape: tuple[int, int, int], generator: torch.Generator, *, law: Law, scale: Tensor, share: float = 0.5
) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Operator]:
    """A law that in a random share of the batches sees linear combinations of the components in their place.

    >>> import functools, nida_kit as nk, torch
    >>> scale = torch.tensor([8.0, 9.0, 8.6], dtype=torch.float64)
    >>> law = functools.partial(nk.combinations, law=functools.partial(nk.mixture, scale=scale), scale=scale, share=1.0)
    >>> seen, noise_std, operator = law((64, 32, 3), torch.Generator().manual_seed(0))
    >>> operator(torch.ones(32, 3, dtype=torch.float64)).shape
    torch.Size([32, 3])

    As many as there are components, in random directions at right angles to each other, of the components over `scale`
    `(n,)`, the climatological standard deviations. What `law` says of a component, where it is seen and how noisy it is
    over its scale, then holds of a combination.

    Args:
        shape: `(B, T, n)`.
        generator: of random numbers.
        law: of the components.
        scale: of each.
        share: of the batches.
    """
    share, law = checks.share("share", share), check_law(law)
    if torch.rand((), generator=generator) >= share:
        return law(shape, generator)
    seen, noise_std, *operator = law(shape, generator)
    if operator:
        raise ValueError("law gives an operator of its own: combinations are of what a law sees of the components.")
    Q, R = torch.linalg.qr(torch.randn(shape[-1], shape[-1], generator=generator, dtype=torch.float64))
    return seen, noise_std / scale, as_operator((Q * R.diagonal().sign()).mT / scale.double())


KINDS = ("tracks", "random", "lines")


def field_mixture(
    shape: tuple[int, int, int],
    generator: torch.Generator,
    *,
    grid: tuple[int, int],
    counts: Mapping[str, tuple[int, int]],
    noise_std: float | tuple[float, float],
) -> tuple[Bool[Tensor, "B T n"], Float[Tensor, "B T n"]]:
    """Cells of a field at every step: a random kind for each window, and how many of them, so that a prior serves all.

    >>> import functools, torch, nida_kit as nk
    >>> counts = {"tracks": (30, 75), "random": (75, 75), "lines": (300, 600)}
    >>> law = functools.partial(nk.field_mixture, grid=(65, 65), counts=counts, noise_std=0.6)
    >>> seen, noise_std = law((16, 8, 65 * 65), torch.Generator().manual_seed(0))
    >>> seen.sum(-1).float().quantile(0.5)
    tensor(75.)

    Kinds are

        tracks    cells at even distances in row order, from a random one of the first on at each step: tracks that
                  shift (`nk.shifting_points`)
        random    any cells
        lines     those nearest to a straight line, somewhere at any angle at each step: a track, or with many of them
                  a swath

    Args:
        shape: (B, T, n).
        generator: of random numbers.
        grid: (y, x), the points of the field, n in all.
        counts: of the kinds that there are, equally often, the least and the most values a step; the number is
            log-uniform between them, and one for each window.
        noise_std: of each error, in the field's unit; of two numbers log-uniform between them, one for each window.

    Raises:
        ValueError: another grid, unknown kinds, or numbers out of range.
    """
    batch, steps, n = shape
    rows, columns = checks.counts("grid", grid, 1) if len(checks.several("grid", grid)) == 2 else (0, 0)
    if rows * columns != n:
        raise checks.refused("grid", grid, f"the points (y, x) of a field of {n} values", "Try grid=(65, 65).")
    counts = checks.instance("counts", counts, Mapping, "a dict", 'Try counts={"tracks": (30, 75)}.')
    checks.known("kinds of observations", counts, KINDS)
    pairs = [_range(f"counts[{kind!r}]", pair) for kind, pair in counts.items()]
    if not pairs or max(most for _, most in pairs) > n:
        raise ValueError(f"counts={dict(counts)} must name one kind or more, with up to the {n} values of a step.")
    least, most = torch.tensor(pairs).mT
    noise = noise_std if isinstance(noise_std, tuple | list) else (noise_std, noise_std)
    low, high = (checks.positive("noise_std", x) for x in noise)

    def uniform(*size: int) -> Tensor:
        return torch.rand(batch, *size, generator=generator, dtype=torch.float64)

    which = torch.randint(len(counts), (batch,), generator=generator)
    low_count, high_count = least[which].double(), most[which].double()
    # Half a number more on each side, so that the least and the most come as often as those between.
    count = ((low_count - 0.5) * ((high_count + 0.5) / (low_count - 0.5)) ** uniform()).round().long()
    count = count.clamp(least[which], most[which])[:, None, None]
    every = n // count
    shifting = torch.arange(n) % every == (every * uniform(steps, 1)).long()
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angle, y0, x0 = (size * uniform(steps, 1) for size in (math.pi, rows - 1, columns - 1))
    aside = ((y.flatten() - y0) * angle.cos() - (x.flatten() - x0) * angle.sin()).abs()
    kinds = torch.tensor([KINDS.index(kind) for kind in counts])[which][:, None, None]
    far = torch.where(kinds == KINDS.index("lines"), aside, uniform(steps, n))
    nearest = far <= far.sort(-1).values.gather(-1, (count - 1).expand(batch, steps, 1))
    level = low * (high / low) ** uniform(1, 1)
    return torch.where(kinds == KINDS.index("tracks"), shifting, nearest), level.expand(shape)


def _range(name: str, pair) -> list[int]:
    """The least and the most of something."""
    found = checks.counts(name, pair, 1)
    if len(found) != 2 or found[0] > found[1]:
        raise checks.refused(name, pair, "two whole numbers, the least and the most", f"Try {name}=(30, 75).")
    return found
