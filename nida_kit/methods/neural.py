"""Neural incremental data assimilation: the loop with a trained network as its prior.

    x_s = s x_0 + (1 - s) x_hat,    N(mu, P^-1) = network(x_s, s),    x_hat = mean of N(mu, P^-1) given y

for temperatures s that fall from 1 towards 0, from the optimal interpolation x_0 on (Blanke, Fablet and Lelarge 2024,
arXiv:2406.15076). The network never sees observations or their operator, so it serves any.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from torch import Tensor

from nida_kit import checks
from nida_kit import schedule as schedules
from nida_kit.descent import conditioned
from nida_kit.edge import check_observations
from nida_kit.gaussian import Gaussian
from nida_kit.loop import incremental
from nida_kit.methods.interpolation import OptimalInterpolation, check_state, first_guess_of, land_of, outliers
from nida_kit.methods.method import Method
from nida_kit.notes import warn
from nida_kit.observing.observations import Observations
from nida_kit.observing.operators import is_direct
from nida_kit.priors.climatology import Climatology
from nida_kit.priors.drawn import DRAWS, Drawn
from nida_kit.priors.field import FieldPrior
from nida_kit.priors.modes import OfField
from nida_kit.priors.paper import Network
from nida_kit.priors.ring import RingPrior
from nida_kit.priors.weights import load, load_pretrained
from nida_kit.reconstruction import Reconstruction, of_solver
from nida_kit.state import GridLabels, Labels, StateLabels


def method_of(weights: str | Path, temperatures: int | Sequence[float] | None = None) -> Method:
    """The method that weights serve: of a network NIDA, of a climatology alone optimal interpolation.

    >>> method_of("lorenz63", temperatures=2)
    NeuralIncremental(temperatures=[1.0, 0.5], weights='lorenz63')

    Args:
        weights: shipped ones by name, or a file that `nk.save` wrote.
        temperatures: of a network, as in `NeuralIncremental`.

    Raises:
        ValueError: no such weights, or a file that is damaged or not ours.
    """
    prior, _ = load(weights)
    if isinstance(prior, Climatology | OfField):
        return OptimalInterpolation.load(weights)
    return NeuralIncremental.pretrained(weights, temperatures)


class NeuralIncremental(Method):
    """Neural incremental data assimilation: a trained network's priors, coarse to fine.

    >>> import nida_kit as nk
    >>> truth = nk.Lorenz63().simulate(samples=20, steps=32, dt=0.05, seed=0)
    >>> obs = nk.observe(truth, components=["x"], every=8, noise_std=0.4, seed=1)
    >>> result = nk.NeuralIncremental.pretrained("lorenz63", temperatures=4).assimilate(obs)
    >>> bool(nk.rmse(result["mean"], truth) < 4.0)  # the climatology has 8.6
    True

    Results of a field hold `solver_iterations` and `solver_residual` of each window: those of conjugate gradients, the
    sum over temperatures and the largest, over the right-hand side. There `robust=` solves for every field many times,
    and makes answers worse where no error is gross.

    Args:
        prior: trained by `nk.train`.
        labels: the components' names and units, or those of a field.
        dt: the time step of the prior's training.
        temperatures: how many steps, or their temperatures, falling from 1 towards 0; None is 4, and of a field as
            many as its network is trained for: more of them make a field worse.
        schedule: spreads a number of steps, one of `nk.schedule`.

    Attributes:
        draws: of which the spread of a field is made; fewer are quicker, and rougher.
    """

    draws: int = DRAWS

    def __init__(
        self,
        prior: Network,
        labels: Labels,
        dt: float,
        temperatures: int | Sequence[float] | None = None,
        schedule: schedules.Schedule = schedules.linear,
    ):
        advice = "nk.NeuralIncremental.pretrained(name) has one that is trained."
        kinds = "a network, nk.NeuralPrior, nk.RingPrior, nk.FieldPrior or nk.PaperPrior"
        checks.instance("prior", prior, Network, kinds, advice)
        self.labels, self.dt = check_state(prior.climatology, labels, dt)
        self.prior = prior.eval()
        of_field = isinstance(prior, FieldPrior)
        trained = prior.settings["temperatures"] if of_field else 4
        temperatures = trained if temperatures is None else temperatures
        self.temperatures = schedules.temperatures(temperatures, schedule)
        if of_field and len(self.temperatures) > trained:
            warn(
                f"temperatures={len(self.temperatures)}: this network is trained for {trained}, and more of them "
                "make the answer worse. Leave temperatures= out.",
                stacklevel=2,
            )
        if of_field:
            self.doubt_of_robust = (
                "robust= makes this method's fields worse where no error is gross: use it where some are. Errors that "
                "are larger than was told ask for a larger noise_std."
            )
        self.noise_layers = 2 if of_field else len(self.temperatures)
        self.settings = {"temperatures": self.temperatures}

    @classmethod
    def pretrained(
        cls,
        name: str,
        temperatures: int | Sequence[float] | None = None,
        schedule: schedules.Schedule = schedules.linear,
        labels: Labels | None = None,
    ) -> NeuralIncremental:
        """With shipped weights, or a file's.

        Shipped are "lorenz63", "lorenz63_small", "lorenz63_paper", "lorenz96", "pendulum" and "ocean"; and
        "lorenz63_rho22", which was taught a wrong rho, to see what that does.

        Args:
            name: of shipped weights, or a path.
            temperatures: as above.
            schedule: as above.
            labels: of a ring of another number of sites, or of a finer grid, than the weights were trained on; of
                "ocean", 65 x 65, these are 129 x 129, 257 x 257 and so on, between the same ends.

        Raises:
            ValueError: no such weights, a file that is damaged or not ours, or labels that the network does not serve.
        """
        prior, card = load_pretrained(name)
        advice = "Try those of a system, nk.Lorenz96(sites=20).labels."
        kinds = "nk.StateLabels or nk.GridLabels"
        checks.instance("labels", labels, StateLabels | GridLabels | None, kinds, advice)
        if isinstance(labels, StateLabels) and isinstance(prior, RingPrior):
            prior = prior.on(len(labels.components))
        elif isinstance(labels, GridLabels) and isinstance(prior, FieldPrior) and labels != card.labels:
            _check_same_place(card.labels, labels)
            prior = prior.on(labels.shape)
        elif labels not in (None, card.labels):
            raise ValueError(
                f"{name} knows {card.labels} only: labels= is for rings of like sites, and for finer grids."
            )
        method = cls(prior, card.labels if labels is None else labels, card.dt, temperatures, schedule)
        method.settings["weights"] = str(name)
        return method

    def with_temperatures(self, temperatures, schedule=schedules.linear) -> NeuralIncremental:
        """The same prior under another schedule."""
        method = type(self)(self.prior, self.labels, self.dt, temperatures, schedule)
        method.settings, method.draws = self.settings | method.settings, self.draws
        return method

    def _labelled(self, obs, first_guess, operator, **how):
        check_observations(obs, self.dims_of(operator)[1:])
        if isinstance(self.prior, FieldPrior) and is_direct(operator):
            self._check_grid(obs["value"])
        return super()._labelled(obs, first_guess, operator, **how)

    def _check_grid(self, value: xr.DataArray) -> None:
        """Raises a ValueError where observations lie on a finer grid that the network serves as well."""
        own, dims = self.labels.indexes, self.labels.dims
        shape = tuple(value.sizes[dim] for dim in dims)
        if shape in self.prior.climatology.served[1:] and all(
            np.allclose(value[dim].values[[0, -1]], (own[dim][0], own[dim][-1]), rtol=1e-6) for dim in dims
        ):
            weights = self.settings.get("weights", "name")
            raise ValueError(
                f"The observations lie on a grid of {shape} points, the method on one of {self.labels.shape}. Its "
                f"weights serve that grid as well: nk.NeuralIncremental.pretrained({weights!r}, labels=...), with the "
                f"labels of a system, nk.QuasiGeostrophic(cells={shape[0]}).labels, or nk.GridLabels."
            )

    @property
    def land(self):
        return land_of(self.prior.climatology)

    def doubts(self, observations):
        device = self.prior.climatology.mean.device
        notes = outliers(self.prior.climatology, observations.to(device))
        return notes + (_too_exact(self.prior, observations.to(device)) if isinstance(self.prior, FieldPrior) else [])

    def implausibility(self, x, observations, dt):
        if isinstance(self.prior, FieldPrior):
            return super().implausibility(x, observations, dt)
        return self.prior.climatology.misfit(x.to(self.prior.climatology.mean))

    def reconstruct(self, observations, dt, first_guess):
        observations, start = self._start(observations, first_guess)
        posteriors = list(self._steps(observations, start))
        if not isinstance(self.prior, FieldPrior):
            return Reconstruction(posteriors, self.temperatures, start.estimate)
        drawn = [self._drawn(posterior) for posterior in posteriors]
        posteriors[-1].mean  # noqa: B018 (solved for now, and kept)
        reached = of_solver([posterior.reached for posterior in posteriors])
        return Reconstruction(drawn, self.temperatures, start.estimate, reached)

    def _steps(self, observations: Observations, start: Gaussian) -> Iterator[Gaussian]:
        if not isinstance(self.prior, FieldPrior):
            return incremental(self.prior, self.temperatures, observations, start, conditioned)
        return steps_of_field(self.prior, self.temperatures, observations, start)

    def _drawn(self, posterior: Gaussian) -> Drawn:
        """What is known of a field: draws of its network's are too near to each other."""
        prior = self.prior
        return Drawn(posterior, prior.climatology, float(prior.wider), self.draws, prior.unresolved.double())

    def draw(self, observations, dt, first_guess, noise):
        """Incremental sampling: each step moves to a draw from its Gaussian instead of its mean.

        So draws may part early, at high temperature, and fall into different modes of a posterior that no Gaussian
        holds. As in one-step training, the prior sees a state on the way from the first guess to a possible truth, with
        the first guess's spread. They are nearer to each other than draws of the posterior (`studies.calibration` says
        by how much): for intervals take `std`. Of a field, draws are those of the last Gaussian.
        """
        observations, start = self._start(observations, first_guess)
        if isinstance(self.prior, FieldPrior):
            *_, last = self._steps(observations, start)
            return self._drawn(last).sample(noise)
        draws: list[Tensor] = []

        def to_a_draw(posterior: Gaussian) -> Gaussian:
            draws.append(posterior.sample(noise[len(draws)].to(posterior.mean)))
            return start.at(draws[-1])

        for _ in incremental(self.prior, self.temperatures, observations, start, conditioned, to_a_draw):
            pass
        return draws[-1]

    def _start(self, observations: Observations, first_guess: Tensor | None) -> tuple[Observations, Gaussian]:
        """The observations where the prior is, and the first guess with its spread."""
        like = self.prior.climatology.mean
        if isinstance(self.prior, FieldPrior):
            self.prior.check_steps(observations.value.shape[-2])
        observations = observations.to(like.device, like.dtype if isinstance(self.prior, FieldPrior) else None)
        start = first_guess_of(self.prior.climatology, observations)
        return observations, start if first_guess is None else start.at(first_guess.to(start.centre))


def steps_of_field(
    prior: FieldPrior, temperatures: Sequence[float], observations: Observations, start: Gaussian
) -> Iterator[Gaussian]:
    """The loop, whose prior is told the first guess's spread at each step: a field's own has no closed form."""
    return incremental(prior, temperatures, observations, start, move=lambda posterior: start.at(posterior.mean))


def _too_exact(prior: FieldPrior, observations: Observations) -> list[str]:
    """What to say of errors far below what the network's noise can hold."""
    noise_std = observations.noise_std.expand(observations.value.shape)[observations.seen]
    unresolved = float(prior.unresolved.square().mean().sqrt())
    if not noise_std.numel() or noise_std.min() >= unresolved / 3:
        return []
    return [
        f"Some errors are told as {float(noise_std.min()):.3g}, and what this prior cannot hold of a field is "
        f"{unresolved:.3g} (root mean square): where much is observed, that error counts as well, and the answer is "
        f"better with noise_std=(noise_std**2 + {unresolved:.3g}**2) ** 0.5."
    ]


def _check_same_place(known: GridLabels, labels: GridLabels) -> None:
    """Raises a ValueError where a finer grid lies elsewhere, or holds another field."""
    ends = [{dim: (along[0], along[-1]) for dim, along in each.indexes.items()} for each in (known, labels)]
    units = [(each.units, each.coord_units, each.time_units) for each in (known, labels)]
    if (
        ends[0].keys() != ends[1].keys()
        or units[0] != units[1]
        or not np.allclose(list(ends[0].values()), list(ends[1].values()), rtol=1e-6)
    ):
        raise ValueError(
            f"The weights know a field from {ends[0]} in {known.units!r}, labels= one from {ends[1]} in "
            f"{labels.units!r}: a finer grid has the same ends, dims and units, and twice (four times, ...) as many "
            f"intervals between, {[tuple(2**k * (n - 1) + 1 for n in known.shape) for k in (1, 2)]} points and so on."
        )
