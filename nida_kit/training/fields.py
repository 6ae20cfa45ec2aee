"""Training the network of a field: first as a plain regression, then through a truncated solve.

A field's first guess costs as much as its network. So windows are observed and interpolated beforehand, those that
share their places together, and read in random order. A network soon knows them by heart, so they are renewed while it
is trained. From them

1. the network learns its mean alone, the squared error of mu;
2. then its noise, too: a few steps of conjugate gradients at each temperature are unrolled, and the loss is the squared
   error of the estimates and, in some batches, the fair CRPS of two draws (Ferro 2014, doi:10.1002/qj.2270), which
   needs no variance.

Windows count by the spread of their first guess, or the sparsely observed ones would rule. The kept weights are a
moving mean of the last ones.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from tqdm.auto import tqdm

from nida_kit import checks
from nida_kit.gaussian import Gaussian
from nida_kit.linalg.rows import Diagonal
from nida_kit.linalg.solvers import Truncated
from nida_kit.methods.interpolation import first_guess_of
from nida_kit.methods.neural import steps_of_field
from nida_kit.observing.laws import Law, check_law, drawn
from nida_kit.observing.observations import Observations
from nida_kit.priors.drawn import Drawn
from nida_kit.priors.field import FieldPrior
from nida_kit.priors.modes import FieldClimatology
from nida_kit.schedule import linear
from nida_kit.training.checkpoint import read_checkpoint, write_checkpoint
from nida_kit.training.muon import Muon
from nida_kit.training.train import Windows

BEFORE = 0.3  # weight of the estimates before the last one
NORMAL_90 = 1.6448536  # a normal number is within this of its mean in 90% of cases


@dataclass(frozen=True)
class FieldSettings:
    """How to train the network of a field.

    Attributes:
        regression: batches of the first stage.
        one: batches through the solve at one temperature.
        several: batches through it at as many as the network is for.
        batch: windows per batch.
        rate: learning rate of the matrices between features (Muon); it rises over 20 batches, and falls from 40% on.
        rate_of_rest: that of all else (AdamW).
        iterations: steps of conjugate gradients.
        renewal: batches between fresh windows, where there are some.
        drawn: share of the batches through the solve that have draws, too.
        clip: largest gradient norm.
        average: how much of the mean of the weights is kept at each batch.
        seed: of everything drawn.
    """

    regression: int = 4000
    one: int = 4000
    several: int = 8000
    batch: int = 8
    rate: float = 7e-4
    rate_of_rest: float = 2e-3
    iterations: int = 7
    renewal: int = 2
    drawn: float = 0.25
    clip: float = 1.0
    average: float = 0.99
    seed: int = 0

    def __post_init__(self):
        counts = {name: checks.count(name, getattr(self, name), 0) for name in ("regression", "one", "several")}
        counts |= {name: checks.count(name, getattr(self, name), 1) for name in ("batch", "iterations", "renewal")}
        checks.store(self, **counts, seed=checks.seed(self.seed))
        if not self.batches:
            raise ValueError("regression, one and several are all 0: a training has a batch or more.")
        for name in ("rate", "rate_of_rest", "clip"):
            checks.store(self, **{name: checks.positive(name, getattr(self, name))})
        for name in ("drawn", "average"):
            checks.store(self, **{name: checks.share(name, getattr(self, name))})

    @property
    def batches(self) -> int:
        """In all."""
        return self.regression + self.one + self.several


@dataclass(frozen=True)
class Interpolated:
    """Windows, what was observed of them, and their first guess; in half precision, for there are many.

    Attributes:
        x: departures from the climatological mean, in units of `scale`, as all else, `(N, T, n)`.
        value: NaN where nothing was observed, `(N, T, n)`.
        noise_std: one for each window, `(N,)`.
        guess: `(N, T, n)`.
        std: of the first guess, `(N, T, n)`.
        mean: of the climatology, `(1, n)`.
        scale: root mean square of its spread.
    """

    x: Tensor
    value: Tensor
    noise_std: Tensor
    guess: Tensor
    std: Tensor
    mean: Tensor
    scale: Tensor

    @classmethod
    def of(
        cls,
        climatology: FieldClimatology,
        windows: Windows,
        law: Law,
        count: int,
        generator: torch.Generator,
        alike: int = 8,
        progress: bool = True,
    ) -> Interpolated:
        """Draw, observe and interpolate.

        Args:
            climatology: gives the first guess.
            windows: draws trajectories.
            law: draws where they are observed, and the error of that, one for each window.
            count: of windows; a multiple of `alike`.
            generator: of all random numbers.
            alike: windows that are observed at the same places.
            progress: show a progress bar.

        Raises:
            ValueError: numbers out of range, or a law that cannot be used or gives an operator.
        """
        count, alike = checks.count("count", count, 1), checks.count("alike", alike, 1)
        if count % alike:
            raise ValueError(f"count={count} is no multiple of alike={alike}, the windows that are observed alike.")
        check_law(law)
        mean, scale = climatology.mean.float(), climatology.spread.square().mean().sqrt().float()
        found: list[tuple[Tensor, ...]] = []
        for _ in tqdm(range(0, count, alike), disable=not progress, desc="first guesses"):
            x = windows(alike, generator).float()
            seen, noise_std, operator = drawn(law, (1, *x.shape[1:]), generator)
            if operator is not None:
                raise ValueError("law gives an operator, and networks of fields are trained on values of the field.")
            noise_std = noise_std.float()[:, :1, :1]
            value = x + noise_std * torch.randn(x.shape, generator=generator)
            value = value.where(seen, torch.nan)
            with torch.no_grad():
                start = first_guess_of(climatology, Observations(value, noise_std.expand_as(value)))
                away = [(part - mean) / scale for part in (x, value, start.mean)]
            own = (*away, start.std / scale, noise_std.flatten().expand(alike) / scale)
            found.append(tuple(part.half() for part in own))
        x, value, guess, std, noise_std = (torch.cat(parts) for parts in zip(*found, strict=True))
        return cls(x, value, noise_std, guess, std, mean, scale)

    def renew(self, fresh: Interpolated, turn: int) -> None:
        """Put fresh windows, at the given turn, in the place of the oldest."""
        at = (turn * len(fresh.x) + torch.arange(len(fresh.x))) % len(self.x)
        for name in ("x", "value", "noise_std", "guess", "std"):
            getattr(self, name)[at] = getattr(fresh, name)

    def batch(self, index: Tensor) -> tuple[Tensor, Observations, Gaussian]:
        """Some windows, their observations and their first guess."""
        x, value, guess = (self.mean + self.scale * part[index].float() for part in (self.x, self.value, self.guess))
        std, noise_std = (self.scale * part[index].float() for part in (self.std, self.noise_std[:, None, None]))
        return x, Observations(value, noise_std.expand_as(value)), Gaussian.of(guess, Diagonal(1 / std))


Fresh = Callable[[int], Interpolated]


class _Training:
    """All that a training changes, so that it can be written and read back."""

    def __init__(self, prior: FieldPrior, windows: Interpolated, settings: FieldSettings, fresh: Fresh | None):
        self.prior, self.windows, self.settings, self.fresh = prior, windows, settings, fresh
        self.generator = torch.Generator().manual_seed(settings.seed)
        inner = {n: p for n, p in prior.named_parameters() if n.endswith("weight") and not n.startswith(_HEADS)}
        rest = [p for n, p in prior.named_parameters() if n not in inner]
        self.optimisers = [
            Muon(inner.values(), settings.rate),
            torch.optim.AdamW(rest, settings.rate_of_rest, betas=(0.9, 0.98), weight_decay=1e-4),
        ]
        self.mean = {n: p.detach().clone() for n, p in prior.named_parameters()}
        self.history: list[tuple[float, float]] = []
        self.order = torch.empty(0, dtype=torch.long)
        self.seconds = 0.0
        self.began_with = [len(windows.x), float(windows.x.double().sum())]

    def run(self) -> None:
        """One batch."""
        s, done = self.settings, len(self.history)
        self._set_rates(done)
        if done % s.renewal == 0:
            self._renew(done // s.renewal)
        if len(self.order) < s.batch:
            self.order = torch.randperm(len(self.windows.x), generator=self.generator)
        index, self.order = self.order[: s.batch], self.order[s.batch :]
        x, observations, start = self.windows.batch(index)
        spread = self.prior.climatology.spread.square().mean()
        weight = 1 / (start.std.square().mean((-2, -1), keepdim=True) + 1e-4 * spread)
        if done < s.regression:
            estimates, draws = [self.prior(start, 1.0).centre], None
        else:
            temperatures = 1 if done < s.regression + s.one else self.prior.settings["temperatures"]
            estimates, draws = self._through(observations, start, temperatures)
        errors = [((estimate - x).square() * weight).mean() for estimate in estimates]
        loss = errors[-1] + BEFORE * sum(errors[:-1])
        if draws is not None:
            away = (draws - x).abs().mean(0) - (draws[0] - draws[1]).abs() / 2
            loss = loss + (away * weight.sqrt()).mean()
        self._step(loss)
        squared = (estimates[-1].detach() - x).square().sum() / (start.mean - x).square().sum()
        self.history.append((loss.item(), squared.item()))

    def _renew(self, turn: int) -> None:
        if self.fresh is not None:
            self.windows.renew(self.fresh(turn), turn)

    def _through(self, observations: Observations, start: Gaussian, temperatures: int):
        """Estimates after each temperature, and in some batches two draws."""
        steps = list(steps_of_field(self.prior, linear(temperatures), observations, start))
        if torch.rand((), generator=self.generator) >= self.settings.drawn:
            return [step.mean for step in steps], None
        last = steps[-1]
        draws = last.mean + self.prior.wider * (last.draw(2, self.generator) - last.mean)
        return [step.mean for step in steps], draws

    def _set_rates(self, done: int) -> None:
        share = done / self.settings.batches
        factor = min(1.0, (done + 1) / 20) * max(0.02, min(1.0, (1 - share) / 0.6))
        for optimiser, rate in zip(self.optimisers, (self.settings.rate, self.settings.rate_of_rest), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * factor

    def _step(self, loss: Tensor) -> None:
        self.prior.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.prior.parameters(), self.settings.clip)
        if norm.isfinite():
            for optimiser in self.optimisers:
                optimiser.step()
        done = len(self.history) + 1
        kept = min(self.settings.average, done / (done + 10))
        with torch.no_grad():
            for name, p in self.prior.named_parameters():
                self.mean[name].lerp_(p, 1 - kept)

    def save(self, path: Path) -> None:
        """Write everything; never a half-written file."""
        state = {"prior": self.prior.state_dict(), "mean": self.mean, "history": self.history, "order": self.order}
        state |= {"optimisers": [o.state_dict() for o in self.optimisers]} | self._identity()
        state |= {"generator": self.generator.get_state(), "seconds": self.seconds}
        write_checkpoint(path, state)

    def _identity(self) -> dict:
        """What must not change between two parts of one training."""
        network = {"kind": type(self.prior).__name__, **self.prior.settings}
        return {"settings": asdict(self.settings), "network": network, "windows": self.began_with}

    def resume(self, path: Path) -> None:
        """Read everything; errors as in `train_field`."""
        saved = read_checkpoint(path, "cpu", self._identity())
        self.prior.load_state_dict(saved["prior"])
        for optimiser, state in zip(self.optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        self.mean, self.order, self.seconds = saved["mean"], saved["order"], saved["seconds"]
        self.history = [tuple(row) for row in saved["history"]]
        self.generator.set_state(saved["generator"])
        if self.fresh is not None:
            turns = math.ceil(len(self.history) / self.settings.renewal)
            still_there = math.ceil(len(self.windows.x) / len(self.fresh(0).x))
            for turn in range(max(0, turns - still_there), turns):
                self._renew(turn)


_HEADS = ("correction", "fine", "coarse", "temperature")


def train_field(
    prior: FieldPrior,
    windows: Interpolated,
    settings: FieldSettings = FieldSettings(),
    *,
    fresh: Fresh | None = None,
    checkpoint: str | Path | None = None,
    every: int = 200,
    progress: bool = True,
) -> xr.Dataset:
    """Train the network of a field in place.

    Args:
        prior: its climatology is kept, its weights are trained.
        windows: with their first guesses.
        fresh: gives other windows, the same ones for the same turn 0, 1, ...; they are put in the place of the oldest.
            Then a training goes on from a checkpoint with the windows that it began with.
        settings: all that is random depends on settings.seed alone.
        checkpoint: a file written every `every` batches and at the end, from which training goes on to the same
            weights as without a break.
        every: batches between checkpoints.
        progress: show a progress bar.

    Returns:
        `loss` and `ratio`, the squared error over that of the first guess, of each batch; settings and seconds in
        `attrs`.

    Raises:
        ValueError: a checkpoint that is damaged or of another training.
    """
    every = checks.count("every", every, 1)
    path = Path(checkpoint) if checkpoint is not None else None
    state = _Training(prior.train(), windows, settings, fresh)
    if path is not None and path.exists():
        state.resume(path)
    began = time.perf_counter() - state.seconds
    use, prior.solver = prior.solver, partial(Truncated, iterations=settings.iterations)
    try:
        with tqdm(initial=len(state.history), total=settings.batches, disable=not progress) as bar:
            while len(state.history) < settings.batches:
                state.run()
                state.seconds = time.perf_counter() - began
                bar.update()
                done = len(state.history)
                if done % 20 == 0:
                    bar.set_postfix(ratio=f"{sum(r for _, r in state.history[-100:]) / min(done, 100):.3f}")
                if path is not None and (done % every == 0 or done == settings.batches):
                    state.save(path)
    finally:
        prior.solver = use
        prior.eval()
    prior.load_state_dict(state.mean, strict=False)
    loss, ratio = (list(column) for column in zip(*state.history, strict=True))
    return xr.Dataset(
        {"loss": ("batch", loss), "ratio": ("batch", ratio)},
        {"batch": range(1, len(loss) + 1)},
        asdict(settings) | {"seconds": state.seconds},
    )


def calibrate(prior: FieldPrior, windows: Interpolated) -> float:
    """Set by how much draws are wider, so that 90% intervals cover 90% of windows that were held out.

    Returns:
        The factor.
    """
    x, observations, start = windows.batch(torch.arange(len(windows.x)))
    temperatures = linear(prior.settings["temperatures"])
    prior.eval()
    with torch.no_grad():
        prior.doubt.zero_()
        *_, last = steps_of_field(prior, temperatures, observations, start)
        drawn = Drawn(last, prior.climatology, unresolved=prior.unresolved)
        off = ((x - drawn.mean) / drawn.std).abs()[..., prior.climatology.varies]
        prior.doubt.fill_(math.log(float(np.quantile(off.numpy(), 0.9)) / NORMAL_90))
    return float(prior.wider)
