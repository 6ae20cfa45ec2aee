r"""The climatology of a large field by trajectories of its past, localised: nothing is fitted.

    x_t = mu + sum_k E_{k,t} v_k / sqrt(r)

The E_k are windows cut from the past, the weights v_k vary slowly in space (`linalg.fields.Ensemble`). So a window may
be any local mixture of past ones: ensemble variational assimilation with a climatological ensemble (Liu, Xiao & Wang
2008, doi:10.1175/2008MWR2312.1, who take a forecast's).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import SupportsIndex

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from nida_kit import checks, html
from nida_kit.gaussian import Gaussian
from nida_kit.linalg.fields import Ensemble
from nida_kit.linalg.rows import Diagonal, Sparse
from nida_kit.linalg.solvers import to_its_spread
from nida_kit.priors.drawn import LEAST, Drawn
from nida_kit.priors.modes import TOO_EXACT, OfField, departures, seen_of

_MOST_AT_ONCE = 5000  # values of a window that are one dense system: beyond them it takes longer than many small ones
_POINTS = 4096  # whose covariances with what was seen are in memory at a time


@dataclass(frozen=True)
class EnsembleClimatology(OfField):
    """Mean and localised covariance of the past of a field, by windows of it.

    Attributes:
        members: departures of windows from the mean, `(r, L, n)`.
        octaves: weights of members are splines with knots at every 2^octaves-th point.
    """

    members: Float[Tensor, "r L n"]
    octaves: int

    def _repr_html_(self) -> str:
        about = {"grid": self.shape, "members": len(self.members), "longest window": self.members.shape[1]}
        return html.card("EnsembleClimatology", about | {"octaves": self.octaves})

    @classmethod
    def fit(
        cls,
        records: Float[Tensor, "N T y x"],
        steps: SupportsIndex = 8,
        members: SupportsIndex = 400,
        octaves: SupportsIndex = 3,
    ) -> EnsembleClimatology:
        """From records of the past.

        >>> import nida_kit as nk, torch
        >>> past = nk.QuasiGeostrophic(cells=17).simulate(samples=40, steps=12, dt=5.0, seed=0)
        >>> EnsembleClimatology.fit(torch.from_numpy(past.values), steps=3, members=50).members.shape
        torch.Size([50, 3, 289])

        Args:
            records: without gaps at sea; on land they are NaN at all times.
            steps: of the longest window to be reconstructed.
            members: how many windows of the records, spread evenly over them; they may overlap. Where the records hold
                fewer, all of those.
            octaves: of the splines, whose values are alike over about 2^octaves points and 0 beyond four times as many.

        Raises:
            ValueError: records that are too short, too few, have gaps or do not vary; splines as coarse as the field.
        """
        steps, members = checks.count("steps", steps, 1), checks.count("members", members, 2)
        mean, away, spread, mask = departures(records)
        count, length, *shape = records.shape
        octaves = checks.count("octaves", octaves, 0, max(0, int(np.log2(min(shape))) - 1))
        starts = count * (length - steps + 1)
        if length < steps or starts < 2:
            raise ValueError(
                f"{checks.counted(count, 'record')} of {checks.counted(length, 'step')} can be cut into "
                f"{checks.counted(max(0, starts), 'window')} of {steps}, and a mixture takes two or more: give shorter "
                "windows or more records."
            )
        members = min(members, starts)
        away = away.flatten(2)
        chosen = np.linspace(0, starts - 1, members).round().astype(int)
        windows = [away[k // (length - steps + 1), (at := k % (length - steps + 1)) : at + steps] for k in chosen]
        return cls(mean, spread, tuple(shape), torch.stack(windows), octaves, mask=mask)

    @cached_property
    def _longest(self) -> Ensemble:
        return self._generator(self.members.shape[1])

    def _generator(self, steps: int) -> Ensemble:
        return Ensemble(self.members[:, :steps].contiguous(), self.shape, self.octaves)

    def prior(self, steps: int) -> Gaussian:
        """A window of that many steps, known by its generator.

        Raises:
            ValueError: windows longer than the members.
        """
        longest = self.members.shape[1]
        checks.within_reach(steps, longest, "the members of the climatology have", f"; or fit it with steps={steps}")
        generator = self._longest if steps == longest else self._generator(steps)
        return replace(
            Gaussian.generated(self.mean.expand(steps, -1), generator, generator.noise), solver=to_its_spread
        )

    def given(self, statement: Gaussian) -> Gaussian:
        mean, std, _ = self.solved(statement)
        return Gaussian.of(mean, Diagonal(1 / std))

    def solved(self, statement: Gaussian) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]:
        """Mean and spread of each value, as `given`; and how far conjugate gradients came, as `Gaussian.reached`.

        Few values are one dense system. Of many, conjugate gradients give the mean, and draws the spread.
        """
        lead, (steps, n) = statement.centre.shape[:-2], statement.centre.shape[-2:]
        seen = [seen_of(statement, window) for window in np.ndindex(lead)]
        few = max((len(index) for index, *_ in seen), default=0) <= _MOST_AT_ONCE
        found = [self._exactly(steps, *each) if few else self._roughly(steps, *each) for each in seen]
        mean, std = (torch.stack([each[i] for each in found]).view(*lead, steps, n) for i in (0, 1))
        reached = None if few else tuple(torch.stack(x).view(lead) for x in zip(*(r for *_, r in found), strict=True))
        return mean.to(statement.centre), std.to(statement.centre), reached

    def _exactly(
        self, steps: int, index: Int[Tensor, "p k"], weight: Float[Tensor, "p k"], residual: Float[Tensor, " p"]
    ) -> tuple[Tensor, Tensor]:
        """Of one window, by what the values that were seen say of each other."""
        generator = self.prior(steps).generator.to(torch.float64)
        weight, window = weight.double(), torch.arange(steps * self.members.shape[-1], device=index.device)
        places, own = index.unique(return_inverse=True)

        def observed(covariance: Float[Tensor, "m q"]) -> Float[Tensor, "p q"]:
            return sum(covariance[own[:, k]] * weight[:, k, None] for k in range(own.shape[1]))

        between = observed(observed(generator.covariance(places, places)).mT)
        between.diagonal().add_(1)
        root, failed = torch.linalg.cholesky_ex(between)
        if failed:
            raise ValueError(TOO_EXACT)
        said = torch.linalg.solve_triangular(root, -residual.double().unsqueeze(-1), upper=False)
        move, known = [], []
        for part in window.split(_POINTS):
            half = torch.linalg.solve_triangular(root, observed(generator.covariance(places, part)), upper=False)
            move.append((half.mT @ said).squeeze(-1))
            known.append(half.square().sum(0))
        variance = generator.members.square().mean(0) - torch.cat(known).view(steps, -1)
        std = variance.clamp(min=0).sqrt() + LEAST * self.spread
        return self.mean + torch.cat(move).view(steps, -1), std

    def _roughly(
        self, steps: int, index: Int[Tensor, "p k"], weight: Float[Tensor, "p k"], residual: Float[Tensor, " p"]
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Of one window, to a tolerance: all its members, times 16 draws, fill a memory."""
        prior = self.prior(steps)
        rows = Sparse(index, weight.to(self.mean), tuple(prior.centre.shape[-2:]))
        own = Gaussian.of(prior.centre, rows, residual.to(self.mean).unsqueeze(-2))
        posterior = Drawn(prior.condition(own), self)
        return posterior.mean, posterior.std, posterior.gaussian.reached
