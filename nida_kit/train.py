r"""Training a neural prior end to end, through the linear solve.

Draw trajectories x, an observation law, observations y and a schedule; assimilate; minimise over the steps' estimates

    loss = mean |x_hat - x|^2 + log_score * mean( log std + (x_hat - x)^2 / (2 std^2) ),

all in climatological units. The first term alone leaves the precision's scale open (only its balance with the
observations matters); the Gaussian log score of the marginals closes it. Gradients pass the solve by implicit
differentiation. Either the loop is *unrolled* as it will be used, or one step is taken from x_s = s x_0 + (1 - s) x
for a random s, as in the paper.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from nida_kit import schedule as schedules
from nida_kit.assimilate.incremental import incremental
from nida_kit.assimilate.methods import first_guess_of
from nida_kit.gaussian import Gaussian
from nida_kit.observe import Law, Observations
from nida_kit.prior import NeuralPrior, PaperPrior

Windows = Callable[[int, torch.Generator], Tensor]
"""windows(batch, generator) -> trajectories `(batch, T, n)`."""


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        steps: batches.
        batch: windows per batch.
        rate: peak learning rate of the one-cycle schedule.
        unrolled: the loop as it will be used; else one step from a random temperature.
        longest: schedules have 1 to `longest` steps, of random shape (unrolled only).
        log_score: weight of the log score.
        decay: AdamW's weight decay.
        clip: largest gradient norm.
        bfloat16: the network's products in bfloat16 while it trains, up to three times faster where the processor has
            them; weights, solves and losses keep their precision.
        seed: of everything drawn.
    """

    steps: int = 2400
    batch: int = 64
    rate: float = 2e-3
    unrolled: bool = True
    longest: int = 8
    log_score: float = 0.02
    decay: float = 1e-4
    clip: float = 1.0
    bfloat16: bool = False
    seed: int = 0

    def __post_init__(self):
        if self.steps < 1 or self.batch < 1 or self.longest < 1 or self.rate <= 0 or self.log_score < 0:
            raise ValueError(
                f"steps, batch and longest must be at least 1, rate positive, log_score not negative: {self}."
            )


def draw_schedule(longest: int, generator: torch.Generator) -> list[float]:
    """Temperatures of a random number of steps, few more often than many, and a random shape.

    A step costs as much as a window, and the first ones are common to all schedules.
    """
    steps = 1 + int(longest * torch.rand((), generator=generator) ** 2)
    bend = float(torch.empty(()).uniform_(-1, 1, generator=generator).exp())
    return [s**bend for s in schedules.linear(steps)]


def fixed(windows: Float[Tensor, "N T n"]) -> Windows:
    """Random windows of a fixed set."""

    def draw(batch: int, generator: torch.Generator) -> Tensor:
        return windows[torch.randint(len(windows), (batch,), generator=generator)]

    return draw


def simulated(system, steps: int, dt: float, model_noise_std: float = 0.0, latest: int = 0) -> Windows:
    """Fresh windows of a system; half start where its trajectories do, half up to `latest` steps after."""

    def draw(batch: int, generator: torch.Generator) -> Tensor:
        x = system.start(batch, generator, torch.float64, torch.device("cpu"))
        x = system.trajectories(x, steps + latest, dt, model_noise_std, generator)
        late = torch.rand(batch, generator=generator) < 0.5
        begin = torch.randint(latest + 1, (batch,), generator=generator) * late
        return x[torch.arange(batch)[:, None], begin[:, None] + torch.arange(steps)]

    return draw


def observe_law(x: Float[Tensor, "B T n"], law: Law, generator: torch.Generator) -> Observations:
    """Observations of a batch under a law."""
    seen, noise_std = law(tuple(x.shape), generator)
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return Observations((x + noise_std * noise).where(seen, torch.nan), noise_std)


def loss_of(posterior: Gaussian, x: Tensor, spread: Tensor, log_score: float) -> tuple[Tensor, Tensor]:
    """(loss, squared error), both means over windows, times and components in climatological units."""
    squared = ((posterior.mean - x) / spread).square()
    loss = squared.mean()
    if log_score:
        variance = posterior.precision.variances / spread**2
        loss = loss + log_score * ((variance.log() + squared / variance) / 2).mean()
    return loss, squared.detach().mean()


def _posteriors(prior, observations: Observations, x: Tensor, settings: Settings, generator: torch.Generator):
    with torch.no_grad():
        start = first_guess_of(prior.climatology, observations)
        start.mean, start.std  # noqa: B018 (solved for here, outside the graph)
    if settings.unrolled:
        return incremental(prior, draw_schedule(settings.longest, generator), observations, start)
    s = torch.rand(len(x), generator=generator, dtype=x.dtype).to(x)
    blend = s[:, None, None]
    local = prior(start.at(blend * start.mean + (1 - blend) * x), s)
    return [local.condition(*observations.linearise(local.centre))]


def train(
    prior: NeuralPrior | PaperPrior,
    windows: Windows,
    law: Law,
    settings: Settings = Settings(),
    *,
    device: str | torch.device = "cpu",
    checkpoint: str | Path | None = None,
    every: int = 100,
    progress: bool = True,
) -> xr.Dataset:
    """Train a prior in place.

    Args:
        prior: its climatology is kept, its weights are trained.
        windows: draws trajectories, see `fixed` and `simulated`.
        law: draws observation processes, see `nk.observe`.
        settings: all that is random depends on settings.seed alone.
        device: where the network and the solves run; windows and laws are drawn on the CPU, so that they are the same
            everywhere.
        checkpoint: a file written every `every` batches and at the end. If it exists, training goes on from it, to
            the same weights, bit for bit, as without a break.
        every: batches between checkpoints.
        progress: show a progress bar.

    Returns:
        The history: `loss` and `mse` (climatological units) of each batch, along `batch`; settings and seconds in
        `attrs`.

    Raises:
        ValueError: a checkpoint of another training, or a loss that is no longer finite.
    """
    prior.to(device).train()
    generator = torch.Generator().manual_seed(settings.seed)
    optimiser = torch.optim.AdamW(prior.parameters(), lr=settings.rate, weight_decay=settings.decay)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.rate, total_steps=settings.steps, pct_start=0.2)
    parts = {"prior": prior, "optimiser": optimiser, "cycle": cycle}
    history: list[tuple[float, float]] = []
    seconds = 0.0
    if checkpoint is not None and Path(checkpoint).exists():
        saved = torch.load(checkpoint, weights_only=True, map_location=device)
        if saved["settings"] != asdict(settings):
            raise ValueError(
                f"{checkpoint} belongs to another training: {saved['settings']}, where {asdict(settings)} is asked. "
                "Name another file, or remove it to start anew."
            )
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        generator.set_state(saved["generator"].cpu())
        history, seconds = [tuple(row) for row in saved["history"]], saved["seconds"]

    began = time.perf_counter() - seconds
    bar = tqdm(range(len(history), settings.steps), initial=len(history), total=settings.steps, disable=not progress)
    for step in bar:
        x = windows(settings.batch, generator)
        observations = observe_law(x, law, generator).to(device)
        x = x.to(device)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=settings.bfloat16):
            terms = [
                loss_of(posterior, x, prior.climatology.spread, settings.log_score)
                for posterior in _posteriors(prior, observations, x, settings, generator)
            ]
        loss = torch.stack([term for term, _ in terms]).mean()
        if not loss.isfinite():
            raise ValueError(
                f"The loss of batch {step} is {loss.item()}: lower the rate, now {settings.rate}, or clip more."
            )
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(prior.parameters(), settings.clip)
        optimiser.step()
        cycle.step()
        history.append((float(loss.detach()), float(terms[-1][1])))
        if step % 20 == 0:
            bar.set_postfix(mse=f"{history[-1][1]:.3f}")
        if checkpoint is not None and ((step + 1) % every == 0 or step + 1 == settings.steps):
            state = {name: part.state_dict() for name, part in parts.items()}
            state |= {"settings": asdict(settings), "generator": generator.get_state(), "history": history}
            state["seconds"] = time.perf_counter() - began
            partial = Path(checkpoint).with_suffix(".part")
            torch.save(state, partial)
            partial.replace(checkpoint)  # never a half-written checkpoint
    prior.eval()
    loss, mse = (list(column) for column in zip(*history, strict=True))
    return xr.Dataset(
        {"loss": ("batch", loss), "mse": ("batch", mse)},
        {"batch": range(1, settings.steps + 1)},
        asdict(settings) | {"seconds": time.perf_counter() - began},
    )
