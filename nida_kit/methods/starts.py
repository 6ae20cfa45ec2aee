"""A descent from several starts, of which the lowest cost wins in each window.

    x_hat = the x^(i) of lowest cost,      x^(i) = descent from start i,      start 0 = the first guess

The cost of a chaotic window has many local minima, and a descent finds one near its start. Windows do not influence
each other: each has a winner of its own. Winners are chosen among trajectories, by a plain gather; the posterior is
the linearised model at the winner (Laplace), made once, when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit import checks
from nida_kit.descent import Laplace, descend
from nida_kit.methods.method import stream
from nida_kit.reconstruction import Reconstruction
from nida_kit.statement import Statement

Drawn = TypeVar("Drawn")

NEAR = 0.1  # posterior standard deviations that an undamped step may still lead away from where a search has converged


@dataclass(frozen=True)
class Descents:
    """What descents from several starts found; the starts lie along the first axis of every tensor.

    Attributes:
        path: the estimate after each step, `(S, ..., T, n)` each.
        start: where they began, `(S, ..., T, n)`.
        diagnostics: `cost`, `iterations` and the number of the `start`, `(S, ...)`.
    """

    path: list[Tensor]
    start: Tensor
    diagnostics: dict[str, Tensor]


@dataclass(frozen=True)
class Search:
    """How to descend, and from how many starts.

    Attributes:
        iterations: at most, from each start.
        damping: the first lambda.
        tolerance: relative fall of the cost that counts as none.
        starts: how many, the first guess included.
        seed: of the other starts.
    """

    iterations: int
    damping: float
    tolerance: float
    starts: int
    seed: int

    def __post_init__(self):
        for name in ("iterations", "starts"):
            checks.store(self, **{name: checks.count(name, getattr(self, name), 1)})
        for name in ("damping", "tolerance"):
            checks.store(self, **{name: checks.number(name, getattr(self, name))})
        checks.store(self, seed=checks.seed(self.seed))

    @property
    def settings(self) -> dict[str, float]:
        """For the records."""
        found = {"max_iterations": self.iterations, "first_lambda": self.damping, "tolerance": self.tolerance}
        return found | ({"starts": self.starts, "seed": self.seed} if self.starts > 1 else {})

    def draw(self, one: Callable[[torch.Generator], Drawn]) -> list[Drawn]:
        """All starts but the first. They are drawn one by one, so that fewer starts are the first of more."""
        generator = stream(self.seed)
        return [one(generator) for _ in range(self.starts - 1)]

    def run(self, prior: Statement, observations: Statement, starts: Sequence[Tensor]) -> Reconstruction:
        """Descend from each start.

        Args:
            prior: gives the cost, and is linearised.
            observations: give the rest of the cost.
            starts: the first guess `(..., T, n)`, and others, which broadcast against it.

        Returns:
            The way to the winner of each window, its `cost`, `iterations`, `distance` from a minimum, whether it has
            `converged`, and its number as `start`.
        """
        first_guess = starts[0]
        if len(starts) == 1:
            return self._reconstruction(self._descend(prior, observations, first_guess[None], 0), prior, observations)
        at_once = self._at_once(first_guess)
        found: list[Descents] = []
        for i in range(0, len(starts), at_once):
            some = reachable(starts[i : i + at_once], first_guess, prior, observations)
            found = [lowest(*found, self._descend(prior, observations, some, i))]
        return self._reconstruction(found[0], prior, observations)

    def _descend(self, prior: Statement, observations: Statement, x: Tensor, first: int) -> Descents:
        """From some starts, of which the first has this number."""
        path, diagnostics = descend(prior, observations, x, self.iterations, self.damping, self.tolerance)
        cost = diagnostics["cost"]
        number = torch.arange(first, first + len(x)).view(-1, *[1] * (cost.ndim - 1)).expand_as(cost)
        return Descents(path, x, diagnostics | {"start": number})

    def _reconstruction(self, best: Descents, prior: Statement, observations: Statement) -> Reconstruction:
        """Of the one start that is left in each window."""
        path = [Laplace(prior, observations, x[0]) for x in best.path]
        diagnostics = {name: x[0] for name, x in best.diagnostics.items()} | {"distance": path[-1].distance}
        diagnostics["converged"] = diagnostics["distance"] < NEAR
        if self.starts == 1:
            del diagnostics["start"]
        return Reconstruction(path, [0.0] * len(path), best.start[0], diagnostics)

    def _at_once(self, first_guess: Float[Tensor, "*batch T n"]) -> int:
        """How many starts descend as one batch: their estimates and some copies of a precision are to fit in memory."""
        kept = first_guess.numel() * (self.iterations + 16 * first_guess.shape[-1])
        return max(1, 2**25 // max(1, kept))  # 256 MiB


def reachable(
    starts: Sequence[Tensor], first_guess: Float[Tensor, "*batch T n"], prior: Statement, observations: Statement
) -> Float[Tensor, "starts *batch T n"]:
    """Starts for every window; the first guess instead of those that left every bound, which it ties with."""
    x = torch.stack([start.expand_as(first_guess) for start in starts])
    cost, known = (prior.misfit(z) + observations.misfit(z) for z in (x, first_guess))
    # Beyond that, double precision cannot tell the linearised model from a singular one.
    lost = ~(cost <= 1e12 * (1 + known))
    return torch.where(lost[..., None, None], first_guess, x)


def lowest(*tries: Descents) -> Descents:
    """In each window the start of lowest cost, the first of equal ones; the axis of starts keeps length 1."""
    winner = torch.cat([t.diagnostics["cost"] for t in tries]).argmin(0, keepdim=True)

    def pick(*tensors: Tensor) -> Tensor:
        together = torch.cat(tensors)
        return together.take_along_dim(winner[(..., *[None] * (together.ndim - winner.ndim))], 0)

    # A shorter path stands still at its end.
    steps = [[t.path[min(k, len(t.path) - 1)] for t in tries] for k in range(max(len(t.path) for t in tries))]
    diagnostics = {name: pick(*(t.diagnostics[name] for t in tries)) for name in tries[0].diagnostics}
    return Descents([pick(*step) for step in steps], pick(*(t.start for t in tries)), diagnostics)
