"""Validation: windows that training never sees, observed once, and what optimal interpolation makes of the same.

Their random numbers are not those of the training, so it draws the same batches with validation as without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit import checks
from nida_kit import schedule as schedules
from nida_kit.gaussian import Gaussian
from nida_kit.loop import incremental
from nida_kit.methods.interpolation import first_guess_of
from nida_kit.observing.laws import Law, check_law, drawn
from nida_kit.observing.observations import Observations
from nida_kit.observing.operators import apply_operator, identity
from nida_kit.priors.paper import Network

APART = 2**32 - 5  # of this generator's seed from the training's
BETTER = 0.01  # by which share the error must be below that of optimal interpolation to be worth a network


def observe_law(x: Float[Tensor, "B T n"], law: Law, generator: torch.Generator) -> Observations:
    """Observations of a batch under a law.

    Raises:
        ValueError: the law fails, or gives what cannot be used.
    """
    seen, noise_std, operator = drawn(law, x.shape, generator)
    operator = identity if operator is None else operator
    noise = torch.randn(seen.shape, generator=generator, dtype=x.dtype)
    exact = apply_operator(operator, x)
    if exact.shape != seen.shape:
        raise ValueError(
            f"law gave an operator of {exact.shape[-1]} values for each time, and says of {seen.shape[-1]} whether "
            "they are seen: give as many columns as the operator gives values."
        )
    lost = int((~exact.isfinite() & seen).sum())
    if lost:
        raise ValueError(
            f"law gave an operator whose value is NaN or infinite at {lost} of {int(seen.sum())} places that are seen: "
            "use one with a value everywhere (x.clamp(min=...) before a log), or let the law leave these places out."
        )
    value = exact + noise_std * noise
    return Observations(value.where(seen, torch.nan), noise_std, operator)


@dataclass(frozen=True)
class Validation:
    """Held-out windows as the loop meets them.

    Attributes:
        batches: windows, observations of them, and the first guess.
        schedule: temperatures of the loop.
        interpolation: mean squared error of the first guess, in climatological units.
    """

    batches: Sequence[tuple[Tensor, Observations, Gaussian]]
    schedule: Sequence[float]
    interpolation: float

    @classmethod
    def of(cls, validation: tuple[Tensor, Law], prior: Network, settings, device: torch.device) -> Validation:
        """Observe the windows, and interpolate.

        Args:
            validation: windows `(N, T, n)`, and the law.
            prior: gives the climatology.
            settings: those of the training.
            device: of the prior.

        Raises:
            ValueError: no windows and law, of another number of components, or with values that are not finite.
        """
        if not isinstance(validation, tuple | list) or len(validation) != 2:
            raise checks.refused(
                "validation", validation, "windows and a law", "Try validation=(torch.from_numpy(windows.values), law)."
            )
        x, law, climatology = validation[0], check_law(validation[1]), prior.climatology
        n = climatology.mean.shape[-1]
        if not isinstance(x, Tensor) or x.ndim != 3 or not len(x) or x.shape[-1] != n or not x.isfinite().all():
            shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(
                f"The windows of validation, {shape}, must be a tensor (N, T, {n}) of finite values: "
                "torch.from_numpy(windows.values) of an xr.DataArray (sample, time, component)."
            )
        x = x.double()
        generator = torch.Generator().manual_seed((settings.seed + APART) % 2**63)
        observed = observe_law(x, law, generator)
        batches = []
        for some in torch.arange(len(x)).split(settings.batch):
            observations = observed.select(some).to(device)
            with torch.no_grad():
                start = first_guess_of(climatology, observations)
                batches.append((x[some].to(device), observations, start.at(start.estimate)))
        errors = [((start.estimate - own) / climatology.spread).square().sum() for own, _, start in batches]
        return cls(batches, schedules.linear(settings.longest), float(sum(errors)) / x.numel())

    @property
    def shape(self) -> list[int]:
        """Of all windows."""
        return [sum(len(x) for x, _, _ in self.batches), *self.batches[0][0].shape[1:]]

    def error(self, prior: Network) -> float:
        """Mean squared error of the loop, in climatological units."""
        total, spread = 0.0, prior.climatology.spread
        prior.eval()
        with torch.no_grad():
            for x, observations, start in self.batches:
                *_, last = incremental(prior, self.schedule, observations, start)
                total += float(((last.estimate - x) / spread).square().sum())
        prior.train()
        return total / (self.shape[0] * self.shape[1] * self.shape[2])

    def verdict(self, error: float, kept_after: int) -> str:
        """What to say if the training did not help; "" if it did.

        Args:
            error: of the kept weights.
            kept_after: the batches that made them.
        """
        said = (
            [] if kept_after else ["No batch made the error on the validation windows smaller: the prior is as before."]
        )
        if error > (1 - BETTER) * self.interpolation:
            better = "better than" if error > (1 + BETTER) * self.interpolation else "as good as"
            said.append(
                f"On the validation windows optimal interpolation is {better} the trained prior: RMSE "
                f"{self.interpolation**0.5:.4g} against {error**0.5:.4g}, in climatological standard deviations. Use "
                "nk.OptimalInterpolation, or train on more windows, with fewer features or for longer."
            )
        elif said:
            said.append(
                f"Its RMSE is {error**0.5:.4g}, that of optimal interpolation {self.interpolation**0.5:.4g}, in "
                "climatological standard deviations."
            )
        return " ".join(said)
