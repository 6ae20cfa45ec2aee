"""The lab of a training: a prior learns from one's own trajectories, is watched while it does, and can be stopped.

The training runs on a thread of its own, so the notebook goes on meanwhile. After some batches each it looks at windows
that it does not learn from; what was seen then is kept, and can be gone through afterwards.

>>> import nida_kit as nk
>>> trajectories = nk.Pendulum().simulate(samples=60, steps=9, dt=0.1, model_noise_std=0.05)
>>> lab = TrainingLab(trajectories, odd=["angle", "momentum"], order=1, batches=4, batch=4, width=8)
>>> lab.buttons["train"].click()
>>> lab.model.wait()
>>> lab.model.result.sizes["batch"], lab.model.result["after"].values.tolist()
(4, [0, 1, 2, 3, 4])
>>> result = lab.model.method.assimilate(lab.model.obs)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event, Thread
from time import perf_counter
from typing import Any

import numpy as np
import torch
import xarray as xr

from nida_kit import checks, plots
from nida_kit.evaluate import coverage, rmse
from nida_kit.lab.controls import even, logarithmic, typed, whole
from nida_kit.lab.model import CAUTION, Model, guarded
from nida_kit.lab.reconstruction import CONTROLS
from nida_kit.lab.render import Drawing
from nida_kit.lab.turns import in_turn
from nida_kit.lab.view import Control, Explorer
from nida_kit.methods.neural import NeuralIncremental
from nida_kit.notes import quiet
from nida_kit.observing.observe import observe
from nida_kit.priors.weights import Card, save
from nida_kit.state import COMPONENT, SAMPLE, TIME
from nida_kit.training import own
from nida_kit.training.train import Settings, train
from nida_kit.training.validation import Validation

LOOKS = 12  # at the windows that are held out, over a whole training
SHOWN = 20  # of those windows, at most, can be looked at
HELD_OUT = 0.1  # share of the trajectories
PAUSE, SHARE = 0.5, 4  # between two pictures, at least: seconds, and of the time that one took
NOISE = 0.1  # of the observations that are drawn, in climatological standard deviations

TRAIN, STOP, SAVE = "train", "stop", "save weights"

PRESETS: dict[str, dict[str, Any]] = {
    "too hasty": {"rate": 0.1},
    "too timid": {"rate": 1e-4},
    "error alone": {"log_score": 0.0},
}


@dataclass(frozen=True)
class TrainingParameters:
    """Of a training, and what is shown of it.

    Attributes:
        batches: of the training.
        batch: windows per batch.
        rate: peak learning rate.
        width: features of the network per time step, an even number.
        log_score: weight of the log score in the loss.
        seed: of everything that is random.
        window: which of the windows that are held out is drawn, counted from 0.
    """

    batches: int = 300
    batch: int = 32
    rate: float = 5e-3
    width: int = 32
    log_score: float = 0.1
    seed: int = 0
    window: int = 0

    def __post_init__(self):
        for name, least in (("batches", 1), ("batch", 1), ("width", 2), ("window", 0)):
            checks.store(self, **{name: checks.count(name, getattr(self, name), least)})
        if self.width % 2:
            raise ValueError(f"width={self.width} must be even: half of the features are mirrored.")
        checks.store(self, rate=checks.positive("rate", self.rate), seed=checks.seed(self.seed))
        checks.store(self, log_score=checks.number("log_score", self.log_score))

    def settings(self) -> Settings:
        """As `train` takes them."""
        asked = {"rate": self.rate, "log_score": self.log_score, "seed": self.seed}
        look = max(1, self.batches // LOOKS)
        return Settings(self.batches, self.batch, **own.RECIPE | asked, look=look)


class TrainingModel(Model):
    """A training of one's own, see `training.own.learn`.

    Args:
        trajectories: `(sample, time, component)`, in any units; the last tenth is held out.
        odd: components that a mirror changes the sign of, all at once.
        order: steps that the climatology looks back.
        params: of `TrainingParameters`.

    Attributes:
        obs: windows that are held out, observed: the first component, four times a window.
    """

    kind = TrainingParameters

    def __init__(self, trajectories: xr.DataArray, odd: Sequence[str] = (), order: int = 4, **params):
        self._data, self._odd, self._order = _checked(trajectories), odd, order
        self._run_of: Event | None = None  # the training that goes on, by what stops it
        self._anew = True  # whether the next result is that of an untrained network in any case
        self._thread: Thread | None = None
        super().__init__(**params)

    # The untrained network, and what is shown

    def compute(self):
        """Of an untrained network, unless another window alone is asked for."""
        if not self._anew and replace(self.params, window=self._ran.window) == self._ran:
            return self.result
        self._abandon()
        self._own = own.begin(self._data, self.params.width, self._order, self._odd, self.params.seed, HELD_OUT)
        validation = Validation.of(self._own.validation, self._own.prior, self.params.settings(), torch.device("cpu"))
        self._truth = self._own.unseen[:SHOWN]
        spread = self._own.prior.climatology.spread.numpy()
        self._unit = xr.DataArray(spread, dims=COMPONENT, coords={COMPONENT: self._truth[COMPONENT].values})
        first, every = self._truth[COMPONENT].values[0], max(1, self._truth.sizes[TIME] // 4)
        noise = NOISE * float(self._unit.sel({COMPONENT: first}))
        seed = self.params.seed
        self.obs = observe(self._truth, [first], every, noise_std=noise, offset="random", seed=seed)
        self._anew = False
        history = xr.Dataset(
            {"mse": ("batch", np.empty(0)), "validation": ("after", [validation.error(self._own.prior)])},
            {"after": [0]},
            {"interpolation": validation.interpolation, "seconds": 0.0},
        )
        return self._with(self._look(1), history)

    def _look(self, step: int) -> xr.Dataset:
        """What the network makes of windows that are held out, now."""
        with quiet():
            found = self.method.assimilate(self.obs)[["mean", "std"]]
        error = rmse(found["mean"] / self._unit, self._truth / self._unit, dim=self._truth.dims)
        within = coverage(found["mean"], found["std"], self._truth, dim=self._truth.dims)
        return found.assign(step_rmse=error, step_coverage=within).drop_attrs().expand_dims(step=[step])

    def _with(self, looks: xr.Dataset, history: xr.Dataset) -> xr.Dataset:
        """The result: all looks, and the errors on the way to them."""
        curves = {"batch_rmse": history["mse"] ** 0.5, "look_rmse": history["validation"] ** 0.5}
        limits = [[float(f(column)) for f in (np.min, np.max)] for column in self._truth.values.T]
        about = {"batches": self.params.batches, "limits": limits, "seconds": history.attrs["seconds"]}
        about["interpolation"] = history.attrs["interpolation"] ** 0.5
        return looks.assign(curves | {"truth": self._truth, "value": self.obs["value"]}).assign_attrs(about)

    @property
    def method(self) -> NeuralIncremental:
        """The prior as it is now, as a method."""
        return NeuralIncremental(self._own.prior, self._own.labels, self._own.dt, temperatures=4)

    @property
    def shown(self):
        found = super().shown.isel({SAMPLE: self.params.window})
        return found.assign_attrs(shown_after=int(found["after"][self.step - 1]))

    # The training

    @property
    def running(self) -> bool:
        """Whether a training goes on."""
        return self._run_of is not None

    @in_turn
    def begin(self) -> None:
        """Train, from the first batch on, on a thread of its own."""
        if self.running:
            return
        if self.result.sizes["batch"]:
            self.reset_training()
        self._run_of = stop = Event()
        self._thread = Thread(target=self._train, args=(stop, self.params.settings()), daemon=True)
        self._thread.start()
        self._reveal(self.steps)

    @in_turn
    def stop(self) -> None:
        """End after this batch; the best weights so far are kept."""
        if self._run_of is not None:
            self._run_of.set()

    def wait(self) -> None:
        """Until the training has ended."""
        if self._thread is not None:
            self._thread.join()

    @in_turn
    def reset_training(self) -> None:
        """An untrained network again, with the same parameters."""
        self._anew = True
        self._run(lambda: self.params)

    @in_turn
    def reset(self):
        self._anew = True
        super().reset()

    def _abandon(self) -> None:
        """A training that goes on ends after its batch, and is not heard any more."""
        if self._run_of is not None:
            self._run_of.set()
        self._run_of = None

    def _train(self, stop: Event, settings: Settings) -> None:
        """What the thread does."""
        begun, self._next = self._own, perf_counter()
        try:
            with quiet():  # the line below the figure repeats what is said
                history = train(
                    *(begun.prior, begun.windows, begun.law, settings),
                    validation=begun.validation,
                    progress=False,
                    watch=partial(self._watch, stop),
                )
        except Exception as error:
            self._end(stop, error)
        else:
            self._show(stop, history)
            self._end(stop)

    def _watch(self, stop: Event, history: xr.Dataset) -> bool:
        """Show how far it is, now and then; whether it goes on."""
        began = perf_counter()
        due = began > self._next or history.sizes["after"] > self.result.sizes["after"]
        if due and not stop.is_set():
            self._show(stop, history)
            self._next = perf_counter() + max(PAUSE, SHARE * (perf_counter() - began))
        return not stop.is_set()

    def _show(self, stop: Event, history: xr.Dataset) -> None:
        """Take up what the training has come to; one that was abandoned is not heard any more."""
        number = history.sizes["after"]
        new = self._look(number) if number > self.result.sizes["step"] else None
        self._take(stop, history, new)

    @in_turn
    def _take(self, stop: Event, history: xr.Dataset, new: xr.Dataset | None) -> None:
        if self._run_of is not stop:
            return
        looks = self.result[list(_LOOKED)]
        self.result = self._with(looks if new is None else xr.concat([looks, new], "step"), history)
        for name in ("kept_after", "note"):
            if name in history.attrs:
                self.result.attrs[name] = history.attrs[name]
        self._reveal(self.steps)

    @in_turn
    def _end(self, stop: Event, error: Exception | None = None) -> None:
        """The training has ended: what is kept is shown, or why there is nothing."""
        if self._run_of is not stop:
            return
        self._run_of = None
        after = self.result["after"].values.tolist()
        self._reveal(1 + after.index(self.result.attrs.get("kept_after", after[-1])))
        if error is not None:
            guarded(self, partial(_raise, error))

    def save(self, path: str | Path) -> None:
        """Write the weights and their card."""
        told = {name: self.result.attrs[name] for name in ("kept_after", "note") if name in self.result.attrs}
        about = asdict(self._ran) | {"trained": self.result.sizes["batch"]} | told
        save(self._own.prior, path, Card(self._own.labels, self._own.dt, about))

    # What the view asks for

    def presets(self):
        return PRESETS

    def offers(self):
        return {"window": len(self._truth) - 1}

    def unused(self):
        return set(TrainingParameters.__dataclass_fields__) - {"window"} if self.running else set()

    def idle(self):
        return {*PRESETS, TRAIN, SAVE} if self.running else {STOP}

    def about(self, ds):
        last, found, done = ds.isel(step=0), self.result.attrs, self.result.sizes["batch"]
        state = "Training" if self.running else "Trained" if done else "Untrained"
        said = (
            f"{state}: {done} of {found['batches']} batches in {found['seconds']:.0f} s. After "
            f"{ds.attrs['shown_after']} of them: RMSE {float(last['step_rmse']):.3f} on {len(self._truth)} held-out "
            f"windows, against {float(self.result['step_rmse'][0]):.3f} before the first, in climatological standard "
            f"deviations; {float(last['step_coverage']):.0%} of the truth lies within the 90% interval."
        )
        if self.running or not done:
            return said
        kept = ""
        if "kept_after" in found:
            kept = f" Kept are the weights after {checks.counted(found['kept_after'], 'batch', 'batches')}."
        return said + kept + (f"{CAUTION}{found['note']}" if "note" in found else "")

    @property
    def alt_text(self):
        return (
            "Above, the error of each batch of a training, and that on windows which are held out, against the number "
            "of batches; below, one of these windows: truth, observations, and the reconstruction with its 90% "
            f"interval. {self.status}"
        )

    @property
    def numbers(self):
        found = self.result
        curves = {name: found[name].values.tolist() for name in ("batch_rmse", "look_rmse", "after")}
        return asdict(self._ran) | {"step": self.step} | self.scores | curves


_LOOKED = ("mean", "std", "step_rmse", "step_coverage")


def _checked(trajectories: Any) -> xr.DataArray:
    """Of which some can be held out."""
    if not isinstance(trajectories, xr.DataArray) or set(trajectories.dims) != {SAMPLE, TIME, COMPONENT}:
        what = trajectories.dims if isinstance(trajectories, xr.DataArray) else type(trajectories).__name__
        raise ValueError(
            f"trajectories={what} must be an xr.DataArray along sample, time and component: nk.windows(record, "
            "steps=32) cuts a long one."
        )
    if round(HELD_OUT * trajectories.sizes[SAMPLE]) < 1:
        raise ValueError(
            f"Of {checks.counted(trajectories.sizes[SAMPLE], 'trajectory', 'trajectories')} none can be held out "
            "to look at: give 10 or more, or cut long ones into windows, nk.windows(record, steps=32, every=8)."
        )
    return trajectories.transpose(SAMPLE, TIME, COMPONENT)


def _raise(error: Exception) -> None:
    raise error


class TrainingLab(Explorer):
    """The lab of a training.

    Args:
        trajectories: as for `TrainingModel`.
        odd: likewise.
        order: likewise.
        export: where "export figure" writes its PNG, and PDF and JSON of its numbers beside it; "save weights" writes
            the .safetensors file of that name, and its card.
        params: where to start, see `TrainingParameters`.

    Attributes:
        model: the state; `model.method` reconstructs with the prior as it is.
        controls: by the name of the parameter, and `step`.
        buttons: by name: the presets, "reset", "play the steps", "export figure", "train", "stop", "save weights".

    Raises:
        ValueError: trajectories that nothing can be learnt from, or parameters out of range.
    """

    def __init__(
        self,
        trajectories: xr.DataArray,
        odd: Sequence[str] = (),
        order: int = 4,
        export: str | Path = "nida_training.png",
        **params,
    ):
        model = TrainingModel(trajectories, odd, order, **params)
        controls = {
            "batches": Control("batches", "How many there will be.", lambda: typed(1, 100_000)),
            "batch": Control("batch", "Windows in each.", lambda: typed(1, 4096)),
            "rate": Control("learning rate", "Its peak, after a fifth of the batches.", lambda: logarithmic(-4, -1)),
            "width": Control("width", "Features of the network per time step.", lambda: whole(2, 128, 2)),
            "log_score": Control("log score", "Its weight in the loss.", lambda: even(0.0, 1.0, 0.05)),
            "seed": Control("seed", "Another number, other weights and batches.", lambda: typed(0, 9999)),
            "window": Control("window", "Which held-out window is drawn, counted from 0.", lambda: whole(0, 1)),
            "step": CONTROLS["step"],
        }
        actions = {TRAIN: model.begin, STOP: model.stop, SAVE: self._save}
        super().__init__(model, controls, list(PRESETS), _TRAINING, export, rows=1.9, actions=actions)

    def _save(self) -> None:
        path = self.export.with_suffix(".safetensors")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.model.save(path)
        self._written(path)


_TRAINING = Drawing(
    lambda fig, ds: plots.make_training(fig, ds.isel(step=0)),
    lambda made, ds: plots.update_training(made, ds.isel(step=0)),
    lambda ds: tuple(ds[COMPONENT].values),
)
