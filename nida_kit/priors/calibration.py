r"""How far to trust the spread of a field's climatology: measured on windows of the past.

A covariance of few records, or of few scales, is not that of the field, and an answer by it is surer than it may be. So
windows of the past are reconstructed from few of their values, and

    E e^2 = (f s)^2 + (u c)^2

says how far the errors e are from the standard deviations s that were told: f widens these, u is what the climatology
cannot hold, as a share of its spread c, however much is observed. Of all f >= 1 and u those are taken whose Gaussian
likelihood is largest; then a factor on both makes the 90% interval hold 90%.
"""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit.gaussian import Gaussian
from nida_kit.linalg.rows import Diagonal
from nida_kit.notes import warn
from nida_kit.priors.modes import OfField
from nida_kit.priors.multiscale import MultiscaleClimatology

# What is seen of the windows, little and rough, much and exact: shares, and errors in standard deviations of the field.
_LAWS = ((0.05, 0.1), (0.2, 0.02))
WINDOWS = 10  # at most, where what is solved for one serves all
FEW = 2  # where each takes a solve of its own, and is alike everywhere
_HELD = 10  # one in so many records, or steps of a long one, is held out
_DRAWS = 4  # that a spread is made of, for f and u are means over many points
_SIDE = 64  # points of the part of a large field that is looked at
_VALUES = 4_000  # of which f and u are found
_BAND = NormalDist().inv_cdf(0.95)
_Kind = TypeVar("_Kind", bound=OfField)


def held_out(
    records: Float[Tensor, "N T y x"], steps: int, least: int, most: int = WINDOWS
) -> tuple[Float[Tensor, "M S y x"], Float[Tensor, "W L n"] | None]:
    """Records to fit, and windows of others to calibrate with; None where there are too few for both.

    Between both is a gap: a window's length of one record, or as many records as overlap.

    Args:
        records: of the past.
        steps: of a window.
        least: steps that a record to be fitted needs.
        most: windows.
    """
    count, length = records.shape[:2]
    held = count // _HELD
    fitted = count - held - (_overlapping(records) if held else 0)
    if held and fitted >= held:
        return records[:fitted], windows_of(records[count - held :], steps, most)
    held = max(steps, length // _HELD)
    fitted = length - held - steps
    if count >= _HELD or fitted < least or length < _HELD * steps:
        return records, None
    return records[:, :fitted], windows_of(records[:, length - held :], steps, most)


def _overlapping(records: Float[Tensor, "N T y x"]) -> int:
    """How many records before another one hold a part of it, as windows of one record do."""
    length, (before, last) = records.shape[1], records[-2:].nan_to_num(nan=0.0)
    for later in range(1, length):
        if torch.equal(before[later:], last[: length - later]):
            return (length - 1) // later
    return 0


def windows_of(records: Float[Tensor, "N T y x"], steps: int, most: int) -> Float[Tensor, "W L n"]:
    """Some windows of records, spread evenly over them."""
    cut = records.unfold(1, steps, steps).movedim(-1, 2).flatten(0, 1).flatten(-2)
    chosen = torch.linspace(0, len(cut) - 1, min(most, len(cut))).round().long()
    return cut[chosen]


def calibrated(climatology: _Kind, windows: Float[Tensor, "W L n"], advice: str) -> _Kind:
    """The climatology with the f and u, `wider` and `unresolved`, that windows of the past call for.

    It warns where answers are further off than the mean of the past.

    Args:
        climatology: that was fitted.
        windows: of the past.
        advice: what to do then.
    """
    part, windows = _part(climatology, windows.nan_to_num(nan=0.0))
    part = replace(part, draws=_DRAWS) if isinstance(part, MultiscaleClimatology) else part
    errors, stds = [], []
    generator = torch.Generator().manual_seed(0)
    size = float(part.spread[part.varies].square().mean().sqrt())
    for fraction, error in _LAWS:
        noise_std = error * size
        # The same places in all windows, which share the work for them.
        seen = (torch.rand(windows.shape[-2:], generator=generator) < fraction) & part.varies
        noise = torch.randn(windows.shape, generator=generator, dtype=torch.float64)
        weight = seen.to(part.mean) / noise_std
        centre = part.mean.expand(windows.shape[-2:]).expand_as(windows)
        residual = weight * (centre - windows - noise_std * noise).to(part.mean)
        found = part.given(Gaussian.of(centre, Diagonal(weight.expand_as(residual)), residual))
        unseen = ~seen & part.varies
        errors.append(((found.mean - windows) / part.spread)[:, unseen])
        stds.append((found.std / part.spread)[:, unseen])
    off = [float(each.square().mean().sqrt()) for each in errors]
    if max(off) > 1:
        worst = off.index(max(off))
        warn(
            f"On windows of the past, answers from {_LAWS[worst][0]:.0%} of the values are off by {off[worst]:.2g} "
            f"standard deviations of the field: the mean of the past is better. {advice}",
            stacklevel=4,
        )
    e, s = (torch.cat([x.flatten() for x in each]).double() for each in (errors, stds))
    some = torch.randperm(len(e), generator=generator)[:_VALUES]
    f, u = _factors(e[some].square(), s[some].square())
    return replace(climatology, wider=f, unresolved=u)


def _part(climatology: _Kind, windows: Tensor) -> tuple[_Kind, Tensor]:
    """Of a large field that is alike everywhere one part, at sea."""
    if not isinstance(climatology, MultiscaleClimatology) or max(climatology.shape) <= 2 * _SIDE:
        return climatology, windows
    side = -(-_SIDE // climatology.coarsest) * climatology.coarsest
    sea, best = climatology.sea, (-1.0, slice(0, 0), slice(0, 0))
    for top in range(0, max(1, sea.shape[0] - side + 1), side):
        for left in range(0, max(1, sea.shape[1] - side + 1), side):
            y, x = slice(top, min(top + side, sea.shape[0])), slice(left, min(left + side, sea.shape[1]))
            best = max(best, (float(sea[y, x].sum()), y, x), key=lambda each: each[0])
    _, y, x = best
    return climatology.part(y, x), windows.unflatten(-1, climatology.shape)[..., y, x].flatten(-2)


def _factors(e2: Float[Tensor, " N"], s2: Float[Tensor, " N"]) -> tuple[float, float]:
    """F and u, of squared errors and variances."""
    wider = torch.linspace(0, 2, 31, dtype=torch.float64).mul(2).exp()  # f^2, f up to e^2
    unresolved = torch.cat([torch.zeros(1), torch.logspace(-6, 0, 40)]).double()  # u^2
    s2 = s2.clamp(min=1e-12)
    costs = []
    for f2 in wider:
        variance = f2 * s2 + unresolved[:, None]
        costs.append((e2 / variance + variance.log()).mean(-1))
    k, j = divmod(int(torch.stack(costs).argmin()), len(unresolved))
    f2, u2 = float(wider[k]), float(unresolved[j])
    more = float((e2 / (f2 * s2 + u2)).sqrt().quantile(0.9)) / _BAND
    return max(1.0, math.sqrt(f2) * more), min(1.0, math.sqrt(u2) * more)
