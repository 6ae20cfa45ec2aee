"""A prior for a system of one's own, learnt from trajectories of it in one call.

A climatology of order w is fitted to the windows. A network that starts as this climatology is trained on observations
of every spacing and noise that fit the window. The last windows are held out: the weights that do best there are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from nida_kit import checks
from nida_kit.edge import read_file
from nida_kit.methods.interpolation import OptimalInterpolation
from nida_kit.notes import warn
from nida_kit.observing.laws import Law, mixture
from nida_kit.priors.parts import Seeded
from nida_kit.priors.temporal import NeuralPrior
from nida_kit.priors.weights import Card
from nida_kit.state import COMPONENT, SAMPLE, TIME, StateLabels
from nida_kit.training.train import Settings, Windows, fixed, train

RECIPE = {"rate": 5e-3, "longest": 4, "log_score": 0.1}
"""Of all trainings here."""


def load_trajectories(path: str | Path) -> xr.DataArray:
    """Trajectories `(sample, time, component)` from a NetCDF file that holds one variable.

    Raises:
        ValueError: no such file, none that can be read, several variables, or other dims.
    """
    variables = list(read_file(path).values())
    if len(variables) != 1:
        raise ValueError(
            f"{str(path)!r} has the variables {[x.name for x in variables]}; trajectories are one variable."
        )
    (found,) = variables
    if set(found.dims) != {SAMPLE, TIME, COMPONENT}:
        raise ValueError(f"{str(path)!r} has the dims {found.dims}; trajectories lie along sample, time, component.")
    return found.transpose(SAMPLE, TIME, COMPONENT)


@dataclass(frozen=True)
class Beginning:
    """What is there before the first batch.

    Attributes:
        prior: untrained, so it answers as optimal interpolation does.
        labels: of the state.
        dt: time step.
        windows: to learn from.
        law: that observes them.
        unseen: windows that are held out.
    """

    prior: NeuralPrior
    labels: StateLabels
    dt: float
    windows: Windows
    law: Law
    unseen: xr.DataArray

    @property
    def held_out(self) -> int:
        """How many windows are."""
        return len(self.unseen)

    @property
    def validation(self) -> tuple[Tensor, Law] | None:
        """As `train` takes it."""
        return (torch.from_numpy(self.unseen.values).double(), self.law) if self.held_out else None


def begin(
    trajectories: xr.DataArray, width: int, order: int, odd: Sequence[str], seed: int, held_out: float
) -> Beginning:
    """Fit the climatology, and make the network; arguments and errors are those of `learn`."""
    order, odd = checks.count("order", order, 0), checks.names("odd", odd)
    checks.known("components in odd", odd, trajectories[COMPONENT].values.tolist())
    sign = xr.DataArray([-1.0 if c in odd else 1.0 for c in trajectories[COMPONENT].values], dims=COMPONENT)
    _check_enough(trajectories, order)
    steps = trajectories.sizes[TIME]
    some = round(len(trajectories) * checks.within("held_out", held_out, 0.0, 0.5))
    past, rest = (trajectories[part] for part in (slice(None, -some or None), slice(len(trajectories) - some, None)))
    images = xr.concat([past, past * sign], SAMPLE) if odd else past
    interpolation = OptimalInterpolation.fit(images, order=order)
    climatology, labels = interpolation.climatology, interpolation.labels
    with Seeded(seed):
        mirrored = [labels.components.index(name) for name in odd]
        prior = NeuralPrior(climatology, width=width, odd=mirrored, anchored=True)
    law = partial(mixture, scale=climatology.spread, spacing=(2, max(2, steps // 3)), count=(4, 12))
    windows = fixed(torch.from_numpy(past.values).double())
    return Beginning(prior, labels, interpolation.dt, windows, law, rest)


def learn(
    trajectories: xr.DataArray,
    batches: int = 500,
    batch: int = 64,
    width: int = 32,
    order: int = 4,
    odd: Sequence[str] = (),
    seed: int = 0,
    progress: bool = True,
    held_out: float = 0.1,
) -> tuple[NeuralPrior, Card]:
    """A network trained on trajectories, and its card.

    >>> import nida_kit as nk
    >>> trajectories = nk.Pendulum().simulate(samples=60, steps=9, dt=0.1, model_noise_std=0.05)
    >>> prior, card = learn(trajectories, batches=1, batch=4, width=8, order=1, progress=False)
    >>> card.labels.components, card.dt
    (('angle', 'momentum'), 0.1)

    Args:
        trajectories: `(sample, time, component)`, in any units.
        batches: of the training.
        batch: windows per batch.
        width: features of the network per time step, an even number.
        order: steps that the climatology looks back, less than a window has.
        odd: components that a mirror changes the sign of, all at once.
        seed: of everything that is random.
        progress: show a bar.
        held_out: share of the trajectories, the last ones, on which weights are compared, with each other and with
            optimal interpolation; windows that overlap belong side by side. 0 keeps the last weights, unseen.

    Raises:
        ValueError: sizes out of range, unknown components, values that are not finite, one single trajectory, or too
            few for the order.

    Warns:
        Of so few trajectories that none is held out, and of a training that did not help; the card's `note` says the
        same.
    """
    batches = checks.count("batches", batches, 1)
    own = begin(trajectories, width, order, odd, seed, held_out)
    settings = Settings(batches, batch, **RECIPE, seed=seed)
    history = train(own.prior, own.windows, own.law, settings, validation=own.validation, progress=progress)
    about = {"windows": len(trajectories) - own.held_out, "batches": batches, "seed": seed}
    about |= {"minutes": round(history.attrs["seconds"] / 60, 1)}
    if own.held_out:
        about |= {"held_out": own.held_out, "validation": float(history["validation"].min())}
        told = ("interpolation", "kept_after", "note")
        about |= {name: history.attrs[name] for name in told if name in history.attrs}
    elif held_out:
        about["note"] = (
            f"Of {checks.counted(len(trajectories), 'trajectory', 'trajectories')} none was held out, so nothing "
            "tells whether the training helped: give more, or a larger held_out."
        )
        warn(about["note"], stacklevel=2)
    return own.prior, Card(own.labels, own.dt, about)


def _check_enough(trajectories: xr.DataArray, order: int) -> None:
    """Raises a ValueError for windows that nothing can be learnt from."""
    if not np.isfinite(trajectories.values).all():
        raise ValueError(
            "The trajectories hold NaN or infinite values, and a network learns from whole windows: drop the others by "
            "trajectories.dropna('sample'), or use nk.OptimalInterpolation.fit, which takes gaps."
        )
    if len(trajectories) < 2:
        raise ValueError(
            "There is 1 trajectory, and a network would learn it by heart: simulate or give more, or cut a long one "
            "into windows, nk.windows(record, steps=32, every=8)."
        )
    if order >= (steps := trajectories.sizes[TIME]):
        raise ValueError(
            f"order={order} looks back {order} steps from each, and a window of {steps} steps has at most {steps - 1} "
            f"before one: give order={min(4, steps - 1)}, or longer windows."
        )
