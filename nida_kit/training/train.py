"""Training a neural prior end to end, through the linear solve.

Draw trajectories x, an observation law, observations y and a schedule; assimilate; minimise over the steps' estimates

    loss = mean |x_hat - x|^2 + log_score * mean( log std + (x_hat - x)^2 / (2 std^2) ),

all in climatological units. The first term alone leaves the precision's scale open (only its balance with the
observations matters); the Gaussian log score of the marginals closes it. Gradients pass the solve by implicit
differentiation. Two kinds of batches teach two uses:

* *unrolled*: the loop as it will be used for the posterior mean, from the first guess on;
* *one step* from x_s = s x_0 + (1 - s) x for a random s, as in the paper: a state on the way from the first guess to a
  possible truth, with the first guess's spread. That is what incremental sampling meets.

Few windows are soon learnt by heart. On others, held out, the error tells when: the weights that do best there are kept
(`validation.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from nida_kit import checks
from nida_kit import schedule as schedules
from nida_kit.gaussian import Gaussian
from nida_kit.loop import incremental
from nida_kit.methods.interpolation import first_guess_of
from nida_kit.notes import warn
from nida_kit.observing.laws import Law, check_law
from nida_kit.observing.observations import Observations
from nida_kit.priors.paper import Network
from nida_kit.systems.system import as_system
from nida_kit.training.checkpoint import read_checkpoint, write_checkpoint
from nida_kit.training.muon import Muon
from nida_kit.training.processes import Processes
from nida_kit.training.validation import Validation, observe_law

Windows = Callable[[int, torch.Generator], Tensor]
"""windows(batch, generator) -> trajectories `(batch, T, n)`."""


@dataclass(frozen=True)
class Settings:
    """How to train.

    >>> import nida_kit as nk
    >>> nk.Settings(steps=100, batch=32).rate
    0.002

    Attributes:
        steps: batches.
        batch: windows per batch, in each process.
        rate: peak learning rate of the one-cycle schedule.
        one_step: share of the batches that take one step from a random temperature; the others unroll the loop.
        longest: unrolled schedules have 2 to `longest` steps, of random shape.
        log_score: weight of the log score.
        decay: decoupled weight decay.
        clip: largest gradient norm.
        seed: of everything drawn.
        look: batches between two looks at the validation windows, if there are any.
        patience: looks without a smaller error after which training stops; None goes on to the end.
    """

    steps: int = 2400
    batch: int = 64
    rate: float = 2e-3
    one_step: float = 0.2
    longest: int = 5
    log_score: float = 0.02
    decay: float = 1e-4
    clip: float = 1.0
    seed: int = 0
    look: int = 50
    patience: int | None = None

    def __post_init__(self):
        for name in ("steps", "batch", "longest", "look"):
            checks.store(self, **{name: checks.count(name, getattr(self, name), 1)})
        if self.patience is not None:
            checks.store(self, patience=checks.count("patience", self.patience, 1))
        for name in ("rate", "clip"):
            checks.store(self, **{name: checks.positive(name, getattr(self, name))})
        for name in ("log_score", "decay"):
            checks.store(self, **{name: checks.number(name, getattr(self, name))})
        checks.store(self, one_step=checks.share("one_step", self.one_step), seed=checks.seed(self.seed))


def draw_schedule(longest: int, generator: torch.Generator) -> list[float]:
    """Temperatures of a random number of steps, two or more, and a random shape: every schedule begins with s = 1."""
    steps = int(torch.randint(min(2, longest), longest + 1, (), generator=generator))
    bend = float(torch.empty(()).uniform_(-0.7, 0.7, generator=generator).exp())
    return [s**bend for s in schedules.linear(steps)]


def fixed(windows: Float[Tensor, "N T n"], jitter: float = 0.0) -> Windows:
    """Random windows of a fixed set, `torch.from_numpy(windows.values)` of an xr.DataArray `(sample, time, component)`.

    >>> import nida_kit as nk, torch
    >>> past = nk.Lorenz63().simulate(samples=50, steps=8, dt=0.05, seed=0)
    >>> windows = nk.fixed(torch.from_numpy(past.values))
    >>> windows(4, torch.Generator().manual_seed(0)).shape
    torch.Size([4, 8, 3])

    With `jitter` each is further off the mean of all, or closer to it, by a factor of 1 + jitter N(0, 1): so few
    windows, of a linear kind, are not so soon learnt by heart.

    Raises:
        ValueError: no tensor `(N, T, n)`, or a jitter that is negative.
    """
    if not isinstance(windows, Tensor) or windows.ndim != 3:
        raise ValueError(
            f"windows={type(windows).__name__} must be a tensor (N, T, n): torch.from_numpy(windows.values) of an "
            "xr.DataArray (sample, time, component)."
        )
    jitter = checks.number("jitter", jitter)
    centre = windows.mean((0, 1)) if jitter else None

    def draw(batch: int, generator: torch.Generator) -> Tensor:
        drawn = windows[torch.randint(len(windows), (batch,), generator=generator)]
        if centre is None:
            return drawn
        factor = 1 + jitter * torch.randn(batch, 1, 1, generator=generator, dtype=windows.dtype)
        return centre + factor * (drawn - centre)

    return draw


def simulated(system, steps: int, dt: float, model_noise_std=0.0, latest: int = 0, late: float = 0.5) -> Windows:
    """Fresh windows of a system; the share `late` of them starts up to `latest` steps after its trajectory.

    >>> import nida_kit as nk, torch
    >>> windows = nk.simulated(nk.Lorenz63(), steps=8, dt=0.05)
    >>> windows(4, torch.Generator().manual_seed(0)).shape
    torch.Size([4, 8, 3])

    Raises:
        ValueError: no system, or a number out of range.
    """
    system = as_system(system)
    steps, latest = checks.count("steps", steps, 1), checks.count("latest", latest, 0)
    dt, late = checks.positive("dt", dt), checks.share("late", late)
    noise = checks.noise(system.labels.ordered("model_noise_std", model_noise_std), system.labels.shape)

    def draw(batch: int, generator: torch.Generator) -> Tensor:
        x = system.start(batch, generator, torch.float64, torch.device("cpu"))
        x = system.as_observed(system.trajectories(x, steps + latest, dt, noise, generator))
        starts_late = torch.rand(batch, generator=generator) < late
        begin = torch.randint(latest + 1, (batch,), generator=generator) * starts_late
        return x[torch.arange(batch)[:, None], begin[:, None] + torch.arange(steps)]

    return draw


def loss_of(posterior: Gaussian, x: Tensor, spread: Tensor, log_score: float) -> tuple[Tensor, Tensor]:
    """(loss, squared error), both means over windows, times and components in climatological units."""
    squared = ((posterior.estimate - x) / spread).square()
    loss = squared.mean()
    if log_score:
        variance = posterior.variances / spread**2
        loss = loss + log_score * ((variance.log() + squared / variance) / 2).mean()
    return loss, squared.detach().mean()


def draw_use(x: Tensor, settings: Settings, generator: torch.Generator) -> list[float] | Tensor:
    """How a batch uses the prior: temperatures of the loop, or of one step, a temperature for each window."""
    schedule = draw_schedule(settings.longest, generator)
    if torch.rand((), generator=generator) < settings.one_step:
        return torch.rand(len(x), generator=generator, dtype=x.dtype)
    return schedule


def _posteriors(prior, observations: Observations, x: Tensor, use: list[float] | Tensor):
    with torch.no_grad():
        start = first_guess_of(prior.climatology, observations)
        start.estimate, start.std  # noqa: B018 (solved for here, outside the graph)
    if isinstance(use, Tensor):  # the same loop, once, from a state on the way
        s = use.to(x)
        blend = s[:, None, None]
        return incremental(prior, [s], observations, start.at(blend * start.estimate + (1 - blend) * x))
    return incremental(prior, use, observations, start)


def _optimisers(prior: nn.Module, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon for the matrices between a network's features, AdamW for all else."""
    matrices = {name: p for name, p in prior.named_parameters() if name.startswith("blocks.") and p.ndim == 2}
    rest = [p for name, p in prior.named_parameters() if name not in matrices]
    adam = torch.optim.AdamW(rest, lr=settings.rate, weight_decay=settings.decay)
    return [adam, Muon(matrices.values(), settings.rate, settings.decay)] if matrices else [adam]


class _State:
    """All that a training changes, so that it can be written and read back."""

    def __init__(self, prior: Network, settings: Settings, validation: Validation | None):
        self.prior, self.settings, self.validation = prior, settings, validation
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.optimisers = _optimisers(prior, settings)
        # A cycle of less than ten batches has no room to rise.
        self.cycles = [
            torch.optim.lr_scheduler.OneCycleLR(
                optimiser, settings.rate, total_steps=max(settings.steps, 10), pct_start=0.2, cycle_momentum=False
            )
            for optimiser in self.optimisers
        ]
        self.history: list[tuple[float, float]] = []
        self.looks: list[tuple[int, float]] = []
        self.best: dict[str, Tensor] = {}
        self.seconds = 0.0

    def _parts(self):
        parts = {"prior": self.prior}
        for i, (optimiser, cycle) in enumerate(zip(self.optimisers, self.cycles, strict=True)):
            parts |= {f"optimiser_{i}": optimiser, f"cycle_{i}": cycle}
        return parts

    def _identity(self) -> dict:
        """What must not change between two parts of one training."""
        network = {"kind": type(self.prior).__name__, **self.prior.settings}
        held_out = {} if self.validation is None else {"validation": self.validation.shape}
        return {"settings": asdict(self.settings) | held_out, "network": network}

    def step(self, loss: Tensor, mse: Tensor, processes: Processes) -> None:
        """Descend."""
        found = processes.mean(torch.stack([loss.detach(), mse]))
        if not found[0].isfinite():
            raise ValueError(
                f"The loss of batch {len(self.history)} is {found[0].item()}: lower the rate, now "
                f"{self.settings.rate}, or clip more."
            )
        self.prior.zero_grad()
        loss.backward()
        processes.agree(self.prior.parameters())
        torch.nn.utils.clip_grad_norm_(self.prior.parameters(), self.settings.clip)
        for part in (*self.optimisers, *self.cycles):
            part.step()
        self.history.append(tuple(found.tolist()))

    @property
    def done(self) -> int:
        """Batches so far."""
        return len(self.history)

    def look(self, now: bool = False) -> None:
        """At the validation windows, if it is time and there are any; the best weights are kept."""
        due = now or self.done % self.settings.look == 0 or self.done == self.settings.steps
        if self.validation is None or not due or (self.looks and self.looks[-1][0] == self.done):
            return
        error = self.validation.error(self.prior)
        if all(error < other for _, other in self.looks):
            self.best = {name: value.detach().clone() for name, value in self.prior.state_dict().items()}
        self.looks.append((self.done, error))

    @property
    def errors(self) -> dict[str, str]:
        """Mean squared errors so far, for the progress bar."""
        found = {"mse": f"{self.history[-1][1]:.3g}"}
        if self.validation is not None:
            kept = f"{min(error for _, error in self.looks):.3g}"
            found |= {"held_out": kept, "interpolation": f"{self.validation.interpolation:.3g}"}
        return found

    @property
    def over(self) -> bool:
        """Whether all batches are done, or the error has long not fallen."""
        errors = [error for _, error in self.looks]
        since = len(errors) - 1 - errors.index(min(errors)) if errors else 0
        impatient = self.settings.patience is not None and since >= self.settings.patience
        return self.done >= self.settings.steps or impatient

    def keep_the_best(self) -> None:
        """The weights with the smallest error on the validation windows."""
        if self.best:
            self.prior.load_state_dict(self.best)

    def save(self, path: Path) -> None:
        """Write everything; never a half-written file."""
        state = {name: part.state_dict() for name, part in self._parts().items()} | self._identity()
        state |= {"generator": self.generator.get_state(), "history": self.history, "seconds": self.seconds}
        state |= {"looks": self.looks, "best": self.best}
        write_checkpoint(path, state)

    def resume(self, path: Path, device) -> None:
        """Read everything; errors as in `train`."""
        saved = read_checkpoint(path, device, self._identity())
        climate = {k: v for k, v in saved["prior"].items() if k.startswith("climate.")}
        if not all(torch.equal(v, self.prior.state_dict()[k]) for k, v in climate.items()):
            raise ValueError(f"{path} was trained with another climatology. Name another file, or remove it.")
        for name, part in self._parts().items():
            part.load_state_dict(saved[name])
        self.generator.set_state(saved["generator"].cpu())
        self.history, self.seconds = [tuple(row) for row in saved["history"]], saved["seconds"]
        self.looks, self.best = [tuple(row) for row in saved["looks"]], saved["best"]

    def dataset(self) -> xr.Dataset:
        """The history."""
        loss, mse = (list(column) for column in zip(*self.history, strict=True))
        found = xr.Dataset(
            {"loss": ("batch", loss), "mse": ("batch", mse)},
            {"batch": range(1, len(loss) + 1)},
            {name: value for name, value in asdict(self.settings).items() if value is not None}
            | {"seconds": self.seconds},
        )
        if self.validation is None:
            return found
        after, errors = (list(column) for column in zip(*self.looks, strict=True))
        kept = {"kept_after": after[errors.index(min(errors))], "interpolation": self.validation.interpolation}
        if note := self.validation.verdict(min(errors), kept["kept_after"]):
            kept["note"] = note
        return found.assign(validation=("after", errors)).assign_coords(after=after).assign_attrs(kept)


def _batch(prior, x: Tensor, law: Law, settings: Settings, generator: torch.Generator, device, processes: Processes):
    """(loss, squared error of the last step) of a batch of windows, or of this process's share of them."""
    observations, use = observe_law(x, law, generator), draw_use(x, settings, generator)
    if processes.count > 1:
        mine = processes.share(settings.batch)
        x, observations = x[mine], observations.flattened().select(mine)
        use = use[mine] if isinstance(use, Tensor) else use
    observations, x = observations.to(device), x.to(device)
    terms = [
        loss_of(posterior, x, prior.climatology.spread, settings.log_score)
        for posterior in _posteriors(prior, observations, x, use)
    ]
    return torch.stack([loss for loss, _ in terms]).mean(), terms[-1][1]


def train(
    prior: Network,
    windows: Windows,
    law: Law,
    settings: Settings = Settings(),
    *,
    validation: tuple[Tensor, Law] | None = None,
    device: str | torch.device = "cpu",
    fabric=None,
    checkpoint: str | Path | None = None,
    every: int = 100,
    progress: bool = True,
    watch: Callable[[xr.Dataset], bool] | None = None,
) -> xr.Dataset:
    """Train a prior in place.

    Args:
        prior: its climatology is kept, its weights are trained.
        windows: draws trajectories, see `fixed` and `simulated`.
        law: draws observation processes, see `mixture` and `regular`.
        settings: all that is random depends on settings.seed alone.
        validation: windows `(N, T, n)` that `windows` does not draw, best of other years, and how they are observed.
            Before the first and after each `settings.look` batches the loop runs on them, always with the same
            observations, drawn by random numbers of their own. The weights with the smallest squared error are kept.
            If those are the first ones, or no better than optimal interpolation by 1%, a warning says so.
        device: where the network and the solves run; windows and laws are drawn on the CPU, so that they are the same
            everywhere.
        fabric: of lightning-fabric (the extra `gpu`), launched, for several processes, GPUs or machines; its device
            and precision (float32, or "bf16-mixed" for the network) are taken. Every process calls this function with
            the same arguments and takes `settings.batch` windows of each batch: N processes come to the weights of one
            with N times the batch. The first one writes the checkpoint, where all must be able to read it.
        checkpoint: a file written every `every` batches and at the end. If it exists, training goes on from it, to
            the same weights, bit for bit, as without a break; it must belong to the same settings, network and
            climatology, and windows, law and validation must be given again as they were.
        every: batches between checkpoints, positive.
        progress: show a progress bar.
        watch: called after each batch with the history so far, as it is returned; training ends where it says False,
            after a last look at the validation windows.

    Returns:
        The history: `loss` and `mse` (climatological units) of each batch, along `batch`; settings and seconds in
        `attrs`. With validation, its mean squared error `validation` along `after`, the batches done, and in `attrs`
        `kept_after`, those that made the kept weights, the error of optimal `interpolation`, and a `note` if the
        training did not help.

    Raises:
        ValueError: a checkpoint that is damaged or of another training, windows or a loss that are not finite, or a law
            that lacks arguments, fails, or gives what cannot be used.

    >>> import nida_kit as nk, functools, torch
    >>> past = torch.from_numpy(nk.Pendulum().simulate(samples=60, steps=6, dt=0.1, seed=0).values)
    >>> prior = nk.NeuralPrior(nk.Climatology.fit(past[:50], order=1), width=4, dilations=(1,))
    >>> law = functools.partial(nk.regular, components=[0], every=2, noise_std=0.1)
    >>> settings = nk.Settings(steps=4, batch=8, look=2)
    >>> history = nk.train(prior, nk.fixed(past[:50]), law, settings, validation=(past[50:], law), progress=False)
    >>> history["after"].values.tolist()
    [0, 2, 4]
    """
    every = checks.count("every", every, 1)
    checks.function("windows", windows, "Try windows=nk.fixed(tensor).")
    check_law(law)
    processes = Processes(fabric)
    device = checks.device(device) if fabric is None else fabric.device
    path = Path(checkpoint) if checkpoint is not None else None
    prior = prior.to(device).train()
    processes.begin_alike(prior)
    held_out = None if validation is None else Validation.of(validation, prior, settings, device)
    state = _State(prior, settings, held_out)
    if path is not None and path.exists():
        state.resume(path, device)
    began = time.perf_counter() - state.seconds
    state.look()
    goes_on = True
    with tqdm(initial=state.done, total=settings.steps, disable=not progress or processes.rank > 0) as bar:
        while goes_on and not state.over:
            x = windows(settings.batch * processes.count, state.generator)
            if not x.isfinite().all():
                raise ValueError(
                    f"The windows of batch {state.done} hold NaN or infinite values: drop those, or integrate finer."
                )
            with processes.precision():
                loss, mse = _batch(prior, x, law, settings, state.generator, device, processes)
            state.step(loss, mse, processes)
            state.look()
            state.seconds = time.perf_counter() - began
            bar.update()
            goes_on = watch is None or watch(state.dataset())
            ends = state.over or not goes_on
            state.look(now=ends)
            if state.done % 20 == 1 or ends:
                bar.set_postfix(state.errors)
            if path is not None and processes.rank == 0 and (state.done % every == 0 or ends):
                state.save(path)
    state.keep_the_best()
    prior.eval()
    history = state.dataset()
    if "note" in history.attrs:
        warn(history.attrs["note"], stacklevel=2)
    return history
