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

_MOST_AT_ONCE = 5000**2  # values of a window times the points that they lie at, whose dense system fits in memory
_POINTS = 1024  # whose covariances with what was seen are made at a time


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

    def solved(self, statement: Gaussian) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Mean and spread of each value, as `given`; and how far conjugate gradients came, as `Gaussian.reached`.

        What is seen of a window is one dense system. Of very many values conjugate gradients give the mean, and draws
        the spread. Which of both it is depends on the window alone.
        """
        lead, (steps, n) = statement.centre.shape[:-2], statement.centre.shape[-2:]
        prior = self.prior(steps)
        double, found = prior.generator.to(torch.float64), []
        for window in np.ndindex(lead):  # one by one: all members of a window, times 16 draws, fill a memory
            index, weight, residual = seen_of(statement, window)
            if len(index) * len(index.unique()) <= _MOST_AT_ONCE:
                found.append(self._exactly(double, index, weight.double(), residual.double()))
            else:
                found.append(self._by_iterations(prior, index, weight, residual))
        mean, std, *reached = (torch.stack(x) for x in zip(*found, strict=True))
        mean, std = (x.view(*lead, steps, n).to(statement.centre) for x in (mean, std))
        return mean, std, tuple(x.view(lead) for x in reached)

    def _exactly(
        self,
        generator: Ensemble,
        index: Int[Tensor, "p k"],
        weight: Float[Tensor, "p k"],
        residual: Float[Tensor, " p"],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of one window: mean and spread, and that it took no iterations."""
        places, own = index.unique(return_inverse=True)
        steps, n = generator.members.shape[1:]

        def observed(at_places: Float[Tensor, "m q"]) -> Float[Tensor, "p q"]:
            """What the rows make of what is at their places."""
            return sum(at_places[own[:, k]] * weight[:, k, None] for k in range(own.shape[1]))

        with_places = [observed(generator.covariance(places, part)) for part in places.split(_POINTS)]
        among = observed(torch.cat(with_places, 1).mT)
        among.diagonal().add_(1)
        root, failed = torch.linalg.cholesky_ex(among)
        if failed:
            raise ValueError(TOO_EXACT)
        whitened = torch.linalg.solve_triangular(root, -residual.unsqueeze(-1), upper=False)
        move, known = [], []
        for part in torch.arange(steps * n, device=index.device).split(_POINTS):
            half = torch.linalg.solve_triangular(root, observed(generator.covariance(places, part)), upper=False)
            move.append((half.mT @ whitened).squeeze(-1))
            known.append(half.square().sum(0))
        variance = generator.members.square().mean(0) - torch.cat(known).view(steps, n)
        std = variance.clamp(min=0).sqrt() + LEAST * self.spread
        left, iterations = variance.new_zeros(()), index.new_zeros(())
        return self.mean + torch.cat(move).view(steps, n), std, left, iterations

    def _by_iterations(
        self, prior: Gaussian, index: Int[Tensor, "p k"], weight: Float[Tensor, "p k"], residual: Float[Tensor, " p"]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The same to a tolerance, and how far it came."""
        rows = Sparse(index, weight.to(self.mean), tuple(prior.centre.shape[-2:]))
        own = Gaussian.of(prior.centre, rows, residual.to(self.mean).unsqueeze(-2))
        posterior = Drawn(prior.condition(own), self)
        mean = posterior.mean
        left, iterations = posterior.gaussian.reached
        return mean, posterior.std, left.double(), iterations
