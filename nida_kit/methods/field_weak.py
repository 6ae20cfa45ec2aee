"""Weak-constraint 4D-Var of fields: as `weak`, with no covariance and no slopes of the model written down.

    cost(x) = 1/2 |x_1 - b|^2_B  +  1/2 sum_t |x_{t+1} - M(x_t)|^2_{q^2 B}  +  1/2 sum_t |y_t - h(x_t)|^2_R

B is the climatology's. Each outer loop is one step of the loop (`loop.py`) with the prior `FieldPhysics`, solved by
conjugate gradients (incremental 4D-Var: Courtier et al. 1994, doi:10.1002/qj.49712051912).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit import checks
from nida_kit.gaussian import Gaussian
from nida_kit.linalg.solvers import Truncated, to_a_tolerance
from nida_kit.loop import incremental, linearised
from nida_kit.methods.interpolation import OptimalInterpolation, first_guess_of, land_of, outliers
from nida_kit.methods.method import Method
from nida_kit.methods.sequential import advance, system_settings
from nida_kit.methods.starts import NEAR
from nida_kit.observing.observations import Observations
from nida_kit.priors.drawn import Drawn
from nida_kit.priors.field_physics import FieldPhysics
from nida_kit.priors.modes import FieldClimatology
from nida_kit.reconstruction import Reconstruction, of_solver
from nida_kit.systems.system import System, as_system


class FieldFourDVar(Method):
    """Weak-constraint 4D-Var for fields of thousands of values, by conjugate gradients.

    It starts from the forecast of the first guess's first state, without the fine scales that the climatology has none
    of; the first guess is optimal interpolation, or what stands before it in an `nk.Chain`. The answer's errors are run
    through the model itself.

    Its result holds each window's `cost` (half the squared whitened residuals of start, model and observations), and
    whether it has `converged`: whether the last outer loop moved the mean by less than a tenth of its standard
    deviation (`distance`, root mean square); `solver_iterations` and `solver_residual` are those of conjugate
    gradients, the sum over outer loops and the largest, over the right-hand side. std is that of draws from the model
    linearised at the mean.

    It computes in the climatology's precision, single for a shipped one. Memory grows with the number of windows, for
    the model's slopes are kept: `obs.chunk(sample=4)` takes a few at a time.

    >>> import nida_kit as nk
    >>> ocean = nk.QuasiGeostrophic(cells=17)
    >>> past = ocean.simulate(samples=60, steps=12, dt=5.0, seed=0)
    >>> interpolation = nk.OptimalInterpolation.fit_field(past, steps=3, modes=60)
    >>> truth = ocean.simulate(samples=1, steps=3, dt=5.0, seed=1)
    >>> obs = nk.observe(truth, fraction=0.3, noise_std=2.0, seed=2)
    >>> result = nk.FieldFourDVar(ocean, interpolation, draws=2).assimilate(obs)
    >>> bool(result["converged"].all())
    True

    Args:
        system: an `nk.System` on the climatology's grid.
        interpolation: of that field: its leading modes are B, and it gives the first guess.
        model_error: q, standard deviation of the model's error in a step, in climatological ones; its covariance is
            q^2 B.
        outer: how many times the model is linearised.
        iterations: of conjugate gradients in each outer loop. None goes on until they have converged, 200 at most. Few
            of them stay near the first guess, which is one's choice where it is better than what start and model are
            known by.
        draws: of which std is made; its own relative error is about 1 / sqrt(18 draws) where neighbours are alike, for
            their squares are averaged over neighbours. Beside a value that was seen it is too large, and small
            structures of it are smoothed; where one was, it is no larger than that value's error.
    """

    def __init__(
        self,
        system: System,
        interpolation: OptimalInterpolation,
        *,
        model_error: float = 0.03,
        outer: int = 3,
        iterations: int | None = None,
        draws: int = 8,
    ):
        advice = "Try nk.OptimalInterpolation.fit_field(records)."
        checks.instance("interpolation", interpolation, OptimalInterpolation, "an nk.OptimalInterpolation", advice)
        kinds = "the climatology of a field by its modes"
        checks.instance("interpolation.climatology", interpolation.climatology, FieldClimatology, kinds, advice)
        self.system, self.labels, self.dt = as_system(system, slopes=True), interpolation.labels, interpolation.dt
        if system.labels.indexes != self.labels.indexes or system.transformed:
            raise ValueError(
                f"The interpolation knows the field {self.labels}, the states of the system are {system.labels}: give "
                "one that was fitted to trajectories of this system, in its own variables."
            )
        self.climatology = interpolation.climatology
        self.model_error = checks.positive("model_error", model_error)
        self.outer, self.draws = checks.count("outer", outer, 1), checks.count("draws", draws, 1)
        self.iterations = None if iterations is None else checks.count("iterations", iterations, 1)
        n, r = self.climatology.patterns.shape
        self.noise_layers = math.ceil((n + r) / n) + 1
        self.settings = system_settings(system) | {"model_error": self.model_error, "outer": self.outer}
        self.settings |= {"cg_iterations": self.iterations or "until converged", "draws": self.draws}

    @property
    def land(self):
        return land_of(self.climatology)

    def doubts(self, observations):
        return outliers(self.climatology, observations.to(self.climatology.mean.device))

    def implausibility(self, x, observations, dt):
        return self._prior(dt, observations.times).misfit(x.to(self.climatology.mean)).to(x)

    def _prior(self, dt: float, times: Tensor | None) -> FieldPhysics:
        solver = to_a_tolerance if self.iterations is None else partial(Truncated, iterations=self.iterations)

        def step(x: Tensor, t: int) -> Tensor:
            return advance(self.system, dt, x, times[t] if self.system.depends_on_time else None)

        return FieldPhysics(step, self.climatology, self.model_error, solver)

    def _path(self, observations, dt, first_guess) -> tuple[list[LaplaceOfField], dict[str, Tensor]]:
        """What is known at the start, and after each outer loop; and what its solver says."""
        like = self.climatology.mean
        observations = observations.to(like.device, like.dtype)
        if first_guess is None:
            first_guess = first_guess_of(self.climatology, observations).mean
        prior = self._prior(dt, observations.times)
        x = prior.forecast(prior.held(first_guess.to(like)[..., :1, :]), first_guess.shape[-2])
        means, reached = [x], []
        for posterior in incremental(prior, [0.0] * self.outer, observations, Gaussian.flat(x), prior.update):
            means.append(posterior.estimate)
            reached.append(posterior.reached)
        return [LaplaceOfField(prior, observations, mean, self.draws) for mean in means], of_solver(reached)

    def reconstruct(self, observations, dt, first_guess):
        (start, *path), of_cg = self._path(observations, dt, first_guess)
        last, before = path[-1], [start, *path][-2]
        moved = ((last.mean - before.mean) / last.std).square().mean((-2, -1)).sqrt()
        cost = last.prior.misfit(last.centre) + last.observations.misfit(last.centre)
        found = {"cost": cost.double(), "distance": moved, "converged": moved < NEAR} | of_cg
        return Reconstruction(path, [0.0] * len(path), start.mean, found)

    def draw(self, observations, dt, first_guess, noise):
        path, _ = self._path(observations, dt, first_guess)
        return path[-1].sample(noise)


@dataclass(frozen=True)
class LaplaceOfField:
    """What is known at an estimate: it, and the spread of all statements linearised there, worked out when asked for.

    Attributes:
        prior: the model.
        observations: of the whole batch.
        centre: the estimate, `(..., T, n)`.
        draws: of which the spread is made.
    """

    prior: FieldPhysics
    observations: Observations
    centre: Float[Tensor, "*batch T n"]
    draws: int

    @property
    def mean(self) -> Float[Tensor, "*batch T n"]:
        """In double precision, as results are."""
        return self.centre.double()

    @cached_property
    def _drawn(self) -> Drawn:
        # However few steps the mean took: draws that stop early have a wrong spread. What a tolerance of 1% leaves is
        # far below the error of so few draws.
        local = replace(self.prior, solver=partial(to_a_tolerance, tolerance=1e-2)).around(self.centre)
        return Drawn(linearised(local, self.observations).at(self.centre), self.prior.climatology, draws=self.draws)

    @property
    def std(self) -> Float[Tensor, "*batch T n"]:
        """Marginal standard deviations; where a value was seen, no larger than its own error."""
        std, seen = self._drawn.std, self.observations
        if not seen.direct:
            return std
        return torch.minimum(std, torch.where(seen.seen, seen.noise_std, math.inf).to(std))

    def sample(self, noise: Float[Tensor, "layers *draws T n"]) -> Float[Tensor, "*draws T n"]:
        """Draws from unit normal noise."""
        return self._drawn.sample(noise)
