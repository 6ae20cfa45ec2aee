r"""Mean and covariance of vectors z of which some numbers are missing, or of fewer vectors than an inverse needs.

*Gaps*: expectation-maximisation (Dempster, Laird and Rubin 1977). By the current N(m, S) each vector, seen at o, has

    E[z | z_o] = m + S_.o S_oo^-1 (z_o - m_o),    Cov[z | z_o] = S - S_.o S_oo^-1 S_o.

and the next m and S are the mean of the first, and their covariance plus the mean of the second. The likelihood of what
was seen rises with each such step. Values may be missing for any reason that they do not themselves decide.

*Few*: the covariance is shrunk towards its own diagonal, S <- (1 - a) S + a diag S, which keeps all variances
(Schaefer and Strimmer 2005, doi:10.2202/1544-6115.1175, target D). With gaps too this is done at each step (Schneider
2001).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nida_kit import checks
from nida_kit.notes import warn

STEPS, TOLERANCE = 1000, 1e-6  # of expectation-maximisation; the largest change, in standard deviations
AT_ONCE = 2**22  # numbers of a batch of matrices
ADVICE = 'give more windows, a smaller order, or shrinkage="auto"'


def stretches_of(windows: Float[Tensor, "N T n"], order: int) -> Float[Tensor, "N L d"]:
    """All stretches of order + 1 steps within each window, d = (order + 1) n numbers each, in float64."""
    return windows.double().unfold(1, order + 1, 1).mT.flatten(2)


def moments(
    stretches: Float[Tensor, "M d"], shrinkage: float = 0.0
) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Mean and covariance of vectors, NaN where they were not seen.

    Raises:
        ValueError: too few vectors, values that are never or too rarely seen together, or a constant.
    """
    seen = ~stretches.isnan()
    if seen.all():
        _check_enough(stretches, len(stretches), shrinkage)
        covariance = stretches.T.cov().reshape(stretches.shape[-1], -1)  # of one number alone, torch gives a scalar
        # Rounding alone leaves no more than this of a constant.
        _check_variances(covariance.diagonal().sqrt() <= 1e-14 * stretches[0].abs())
        return stretches.mean(0), shrunk(covariance, shrinkage)
    stretches, seen = stretches[seen.any(-1)], seen[seen.any(-1)]
    _check_together(stretches, seen, shrinkage)
    centre = stretches.nanmean(0)
    away = stretches - centre
    scale = (away.square().nansum(0) / (seen.sum(0) - 1)).sqrt()
    _check_variances(scale <= 1e-14 * centre.abs())
    mean, covariance = _maximised(away / scale, shrinkage)
    count = len(stretches)  # as of the covariance of what has no gaps
    return centre + scale * mean, scale[:, None] * scale * covariance * (count / (count - 1))


def shrunk(covariance: Float[Tensor, "d d"], shrinkage: float) -> Float[Tensor, "d d"]:
    """The covariance on its way to its diagonal."""
    return (1 - shrinkage) * covariance + shrinkage * torch.diag(covariance.diagonal())


@dataclass(frozen=True)
class Seen:
    """Vectors of which each was seen in part; those with the same gaps share one factorisation.

    Attributes:
        z: `(M, d)`.
        patterns: which numbers may be seen, `(P, d)`.
        pattern: of each vector, `(M,)`.
    """

    z: Float[Tensor, "M d"]
    patterns: Bool[Tensor, "P d"]
    pattern: Int[Tensor, " M"]

    @classmethod
    def of(cls, z: Float[Tensor, "M d"]) -> Seen:
        """Vectors, NaN where not seen."""
        return cls(z, *(~z.isnan()).unique(dim=0, return_inverse=True))

    def maximise(
        self, mean: Float[Tensor, " d"], covariance: Float[Tensor, "d d"]
    ) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"], float]:
        """One step of expectation-maximisation: the next mean and covariance; the log likelihood of those before it."""
        seen = self.patterns[self.pattern]
        error = (self.z - mean).where(seen, 0.0)
        weights, information, log_determinant = torch.zeros_like(error), torch.zeros_like(covariance), 0.0
        unit, most = torch.eye(len(mean)).to(covariance), max(1, AT_ONCE // covariance.numel())
        counts = self.pattern.bincount().to(covariance)
        for some in torch.arange(len(self.patterns)).split(most):
            there = self.patterns[some].to(covariance)
            both = there[:, :, None] * there[:, None]
            # Where nothing was seen the identity stands, so that all patterns have matrices of one size.
            lower = torch.linalg.cholesky(covariance * both + torch.diag_embed(1 - there))
            inverse = torch.cholesky_solve(unit.expand_as(lower), lower) * both
            information += (counts[some, None, None] * inverse).sum(0)
            log_determinant += float(counts[some] @ (2 * lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)))
            for own in ((self.pattern >= some[0]) & (self.pattern <= some[-1])).nonzero().squeeze(-1).split(most):
                weights[own] = (inverse[self.pattern[own] - some[0]] @ error[own].unsqueeze(-1)).squeeze(-1)
        numbers = int(seen.sum()) * math.log(2 * math.pi)
        likelihood = -(float((error * weights).sum()) + log_determinant + numbers) / 2
        completed = self.z.where(seen, mean + weights @ covariance)
        unexplained = covariance - covariance @ (information / len(self.z)) @ covariance
        return completed.mean(0), completed.T.cov(correction=0) + (unexplained + unexplained.mT) / 2, likelihood


def _maximised(z: Tensor, shrinkage: float) -> tuple[Tensor, Tensor]:
    """Mean and covariance of standardised vectors with gaps, from uncorrelated ones on."""
    seen, mean, covariance = Seen.of(z), torch.zeros_like(z[0]), torch.eye(z.shape[-1]).to(z)
    for _ in range(STEPS):
        before = mean, covariance
        mean, covariance, _ = seen.maximise(mean, covariance)
        covariance = shrunk(covariance, shrinkage)
        if torch.linalg.cholesky_ex(covariance).info:
            raise ValueError(
                "The covariance that the gaps leave is singular: give more windows, a smaller order, or shrinkage=0.1."
            )
        change = max(float((a - b).abs().max()) for a, b in zip(before, (mean, covariance), strict=True))
        if change < TOLERANCE:
            return mean, covariance
    warn(
        f"The climatology of windows with gaps still changed by {change:.1e} standard deviations after {STEPS} steps: "
        "some values are hardly ever seen together. Give more windows, a smaller order, or shrinkage=0.1.",
        stacklevel=4,
    )
    return mean, covariance


def _needed(size: int, shrinkage: float) -> int:
    """Vectors that an invertible covariance of so many numbers needs."""
    return 2 if shrinkage else size + 1


def _check_enough(stretches: Tensor, count: int, shrinkage: float) -> None:
    size = stretches.shape[-1]
    if count < _needed(size, shrinkage):
        raise ValueError(
            f"{count} stretches cannot give an invertible covariance of {size} numbers (steps times components): "
            f"{ADVICE}."
        )


def _check_together(stretches: Tensor, seen: Tensor, shrinkage: float) -> None:
    """With gaps each pair of numbers must be there in as many vectors."""
    _check_enough(stretches, len(stretches), shrinkage)
    together = seen.double().T @ seen.double()
    size, fewest = len(together), int(together.min())
    if fewest < (needed := _needed(size, shrinkage)):
        i, j = divmod(int(together.argmin()), size)
        raise ValueError(
            f"Numbers {i} and {j} of {size} (steps times components) are seen together in {fewest} of "
            f"{len(stretches)} stretches, and it takes {needed} to know their covariance: {ADVICE}; leave out a "
            "component that is never seen."
        )


def _check_variances(constant: Tensor) -> None:
    if constant.any():
        at = constant.nonzero().flatten().tolist()
        raise ValueError(
            f"The covariance is singular: of {len(constant)} numbers (steps times components), number {at[0]} and "
            f"{len(at) - 1} others are constant, and no shrinkage gives them a variance. Leave a constant component "
            "out, give a smaller order where only the first step is constant, or add noise as large as the error it "
            "was measured with."
        )


def intensity(stretches: Float[Tensor, "N L d"]) -> float:
    """How far to shrink: the variances of the correlations, summed, over the sum of their squares, at most 1.

    Stretches of a window count together, so that they may depend on each other; windows are taken as independent. Of
    windows that overlap it says too little.

    Raises:
        ValueError: a single window.
    """
    if len(stretches) < 2:
        raise ValueError(
            f'shrinkage="auto" compares windows, and there are {len(stretches)}: cut the record by nk.windows, or give '
            "a number, shrinkage=0.1."
        )
    seen = ~stretches.isnan()
    away = (stretches - stretches.flatten(0, 1).nanmean(0)).where(seen, 0.0)
    scale = (away.square().sum((0, 1)) / seen.sum((0, 1)).clamp(min=1)).sqrt()
    z = away / scale.where(scale > 0, 1.0)
    size = z.shape[-1]
    there = seen.to(z).flatten(0, 1)
    count = (there.T @ there).clamp(min=1)
    correlation = z.flatten(0, 1).T @ z.flatten(0, 1) / count
    squares = torch.zeros_like(count)
    for some, its in zip(*(x.split(max(1, AT_ONCE // size**2)) for x in (z, seen.to(z))), strict=True):
        squares += (some.mT @ some - (its.mT @ its) * correlation).square().sum(0)
    variance = len(z) / (len(z) - 1) * squares / count**2
    off = ~torch.eye(size, dtype=torch.bool, device=z.device)
    total = float(correlation[off].square().sum())
    return min(1.0, float(variance[off].sum()) / total) if total else 1.0


def amount(shrinkage, windows: Float[Tensor, "N T n"], order: int) -> float:
    """The number that `shrinkage` stands for.

    Raises:
        ValueError: neither "auto" nor a number from 0 to 1.
    """
    advice = 'Try shrinkage="auto".'
    if isinstance(shrinkage, str):
        checks.one_of("shrinkage", shrinkage, ["auto"], advice)
        return intensity(stretches_of(windows, order))
    return checks.within("shrinkage", shrinkage, 0.0, 1.0, advice)
