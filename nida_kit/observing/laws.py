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
from numbers import Integral

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nida_kit import checks
from nida_kit.observing.operators import Operator, as_operator

Law = Callable[[tuple[int, int, int], torch.Generator], tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Operator]]

_SPREAD = "prior.climatology.spread"
_MIXTURE = f"functools.partial(nk.mixture, scale={_SPREAD})"
_SERVES = {"law": _MIXTURE, "other": _MIXTURE, "scale": _SPREAD, "share": "0.5"}  # any prior, as arguments
_GIVES = (
    "A law gives a pair of tensors (B, T, n): where there are values, of booleans, and noise_std, the standard "
    f"deviations of their errors; or these (B, T, p) and an operator. Try law={_MIXTURE}."
)


def check_law(law: Law) -> Law:
    """A function that a shape and a generator are enough for.

    Raises:
        ValueError: none, or one that lacks arguments or has some that it does not know.
    """
    checks.function("law", law, f"Try law={_MIXTURE}.")
    function, name = law.func if isinstance(law, partial) else law, _name(law)
    try:
        own = list(inspect.signature(function).parameters)
    except ValueError as error:  # a compiled function tells none
        if not inspect.isbuiltin(function):
            return law
        raise ValueError(
            f"law={name} is a built-in function, and a law is one of a shape (B, T, n) and a generator. Try "
            f"law={_MIXTURE}."
        ) from error
    try:
        signature = inspect.signature(law)
    except ValueError as error:
        unknown = [each for each in law.keywords if each not in own]
        said = f"arguments that it does not have, {unknown}" if unknown else f"wrong ones: {error.__cause__}"
        raise ValueError(f"law={name} was given {said}. It has {own}.") from error
    lacking = [p.name for p in signature.parameters.values() if p.kind == p.KEYWORD_ONLY and p.default is p.empty]
    if lacking:
        given = law.keywords if isinstance(law, partial) else {}
        own = ", ".join(f"{each}={_shown(each, given.get(each))}" for each in [*lacking, *given])
        raise ValueError(
            f"law={name} lacks {lacking}, and a training calls it with a shape and a generator alone: give "
            f"law=functools.partial({name}, {own})."
        )
    try:
        signature.bind((1, 1, 1), None)
    except TypeError as error:
        raise ValueError(
            f"law={name} is called with a shape (B, T, n) and a generator, law(shape, generator): "
            f"{checks.sentence(error)} Try law={_MIXTURE}."
        ) from error
    return law


def _name(law: Law) -> str:
    function = law.func if isinstance(law, partial) else law
    name = getattr(function, "__name__", type(function).__name__)
    return f"nk.{name}" if function in (regular, mixture, combinations, field_mixture) else name


def _shown(name: str, value) -> str:
    """An argument in code: as it was given, if that can be told, or one that serves."""
    if callable(value) and getattr(value, "__name__", "").isidentifier() and value is not mixture:
        return value.__name__
    short = isinstance(value, int | float | str | list | tuple | dict) and len(repr(value)) < 80
    return repr(value) if short else _SERVES.get(name, "...")


def drawn(law: Law, shape: tuple[int, int, int], generator: torch.Generator) -> tuple[Tensor, Tensor, Operator | None]:
    """What a law gives, checked: where there are values, the standard deviations of their errors, and the operator.

    Raises:
        ValueError: it fails, gives something else, or errors that are not positive and finite where it sees.
    """
    name, shape = _name(law), tuple(shape)
    given = checks.called(f"law={name} fails", law, shape, generator)
    if not isinstance(given, tuple | list) or len(given) not in (2, 3):
        what = f"{len(given)} things" if isinstance(given, tuple | list) else f"a {type(given).__name__}"
        raise ValueError(f"law={name} gave {what}. {_GIVES}")
    seen, noise_std, operator = (*given, None)[:3]
    for what, part in (("where there are values", seen), ("noise_std", noise_std)):
        fits = isinstance(part, Tensor) and (part.dtype == torch.bool if part is seen else part.is_floating_point())
        if not fits:
            kind = f"of {part.dtype}" if isinstance(part, Tensor) else f"as a {type(part).__name__}"
            raise ValueError(f"law={name} gave {what} {kind}. {_GIVES}")
    same = seen.ndim == 3 and seen.shape == (shape if operator is None else (*shape[:2], *seen.shape[2:3]))
    if not same or noise_std.shape != seen.shape:
        raise ValueError(
            f"law={name} gave the shapes {tuple(seen.shape)} and {tuple(noise_std.shape)} for windows of {shape}; of "
            f"what is the same for all, x.expand(shape) has theirs. {_GIVES}"
        )
    if operator is not None and not callable(operator):
        raise ValueError(
            f"law={name} gave an operator that is a {type(operator).__name__}, and it is a function of states "
            "(..., n): of a matrix H (p, n) give lambda x: x @ H.mT."
        )
    wrong = noise_std[seen]
    wrong = wrong[~(wrong.isfinite() & (wrong > 0))]
    if len(wrong):
        raise ValueError(
            f"law={name} gave noise_std={wrong[0].item():g} where it sees, as {checks.counted(len(wrong), 'error')} of "
            f"{int(seen.sum()):,}: standard deviations are positive and finite, of an exact value small ones."
        )
    return seen, noise_std, operator


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

    Args:
        shape: `(B, T, n)`.
        generator: of random numbers.
        components: which, by their numbers from 0 on.
        every: steps from one to the next.
        noise_std: one for all, or what broadcasts over the shape, `(n,)` say.

    Raises:
        ValueError: components that there are not, or numbers out of range.
    """
    batch, steps, n = shape
    every, components = checks.count("every", every, 1), _components(components, n)
    std = checks.numbers("noise_std", noise_std, "a number, or one for each component").detach().cpu()
    fits = std.ndim <= 3 and all(own in (1, size) for own, size in zip(std.shape[::-1], shape[::-1], strict=False))
    if not fits or not _positive(std.expand(shape)[..., components]):
        raise checks.refused(
            "noise_std", noise_std, f"a number or {n} of them, positive and finite where it sees", "Try noise_std=1.0."
        )
    offset = torch.randint(every, (batch, 1), generator=generator)
    when = (torch.arange(steps) - offset) % every == 0
    which = torch.zeros(n, dtype=torch.bool)
    which[components] = True
    return when[:, :, None] & which, std.expand(shape)


def either(
    shape: tuple[int, int, int], generator: torch.Generator, *, law: Law, other: Law, share: float
) -> tuple[Bool[Tensor, "B T n"], Float[Tensor, "B T n"]]:
    """One law for a random share of the windows, another one for the rest."""
    share = checks.share("share", share)
    (seen, std, h), (other_seen, other_std, g) = (drawn(check_law(each), shape, generator) for each in (law, other))
    if h is not None or g is not None:
        raise ValueError("law or other gives an operator, and a batch has one: both are of what is seen of components.")
    chosen = torch.rand(shape[0], 1, 1, generator=generator) < share
    return torch.where(chosen, seen, other_seen), torch.where(chosen, std, other_std)


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

    Raises:
        ValueError: another number of components, or numbers out of range.
    """
    batch, steps, n = shape
    scale, least = _scale(scale, n), checks.count("least", least, 1, n)
    (low, high), spacing, count = _levels("noise", noise), _range("spacing", spacing), _range("count", count)

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
    level = low * (high / low) ** torch.rand(batch, 1, 1, generator=generator, dtype=torch.float64)
    return seen, (level * scale).expand(shape)


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

    Raises:
        ValueError: a law that gives an operator or cannot be used, another number of components, or numbers out of
            range.
    """
    share, law, scale = checks.share("share", share), check_law(law), _scale(scale, shape[-1])
    combines = torch.rand((), generator=generator) < share
    seen, noise_std, operator = drawn(law, shape, generator)
    if operator is not None:  # said in every batch, so that no long training ends in one that combines
        raise ValueError("law gives an operator of its own: combinations are of what a law sees of the components.")
    if not combines:
        return seen, noise_std
    Q, R = torch.linalg.qr(torch.randn(shape[-1], shape[-1], generator=generator, dtype=torch.float64))
    return seen, noise_std / scale, as_operator((Q * R.diagonal().sign()).mT / scale)


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
    noise = noise_std if isinstance(noise_std, tuple | list) else [checks.positive("noise_std", noise_std)] * 2
    low, high = _levels("noise_std", noise)

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


def _levels(name: str, pair) -> tuple[float, float]:
    """The least and the largest standard deviation."""
    found = checks.array(name, pair, "two positive numbers, the least and the largest")
    if found.shape != (2,) or not 0 < found[0] <= found[1] < math.inf:
        raise checks.refused(name, pair, "two positive, finite numbers, the least first", f"Try {name}=(0.02, 0.2).")
    return float(found[0]), float(found[1])


def _scale(scale, n: int) -> Float[Tensor, " n"]:
    """The climatological standard deviations, in double precision."""
    expected = f"{n} positive, finite numbers, the climatological standard deviations of the {n} components"
    found = checks.numbers("scale", scale, expected).detach().cpu()  # where laws are drawn
    if found.shape != (n,) or not _positive(found):
        raise checks.refused("scale", scale, expected, f"Try scale={_SPREAD}.")
    return found


def _components(components, n: int) -> list[int]:
    """Their numbers."""
    found = checks.several("components", components)
    if not found or not all(isinstance(i, Integral) and not isinstance(i, bool) and 0 <= i < n for i in found):
        whole = f"a list of whole numbers from 0 to {n - 1}, one or more of the {n} components"
        raise checks.refused("components", components, whole, "Try components=[0].")
    return [int(each) for each in found]


def _positive(x: Tensor) -> bool:
    return bool((x.isfinite() & (x > 0)).all())
