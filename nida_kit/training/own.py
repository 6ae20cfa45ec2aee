"""A prior for a system of one's own, learnt from trajectories of it in one call.

A climatology of order w is fitted to all windows; around it a network is trained on observations of every spacing and
noise that fit the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
import xarray as xr

from nida_kit import checks
from nida_kit.methods.interpolation import OptimalInterpolation
from nida_kit.observing.laws import mixture
from nida_kit.priors.temporal import NeuralPrior
from nida_kit.priors.weights import Card
from nida_kit.state import COMPONENT, SAMPLE, TIME
from nida_kit.training.train import Settings, fixed, train


def load_trajectories(path: str | Path) -> xr.DataArray:
    """Trajectories `(sample, time, component)` from a NetCDF file that holds one variable.

    Raises:
        ValueError: no such file, none that can be read, several variables, or other dims.
    """
    try:
        found = xr.load_dataarray(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{str(path)!r} cannot be read as a NetCDF file of one variable: {error}") from error
    if set(found.dims) != {SAMPLE, TIME, COMPONENT}:
        raise ValueError(f"{str(path)!r} has the dims {found.dims}; trajectories lie along sample, time, component.")
    return found.transpose(SAMPLE, TIME, COMPONENT)


def learn(
    trajectories: xr.DataArray,
    batches: int = 500,
    batch: int = 64,
    width: int = 32,
    order: int = 4,
    odd: Sequence[str] = (),
    seed: int = 0,
    progress: bool = True,
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
        order: steps that the climatology looks back; at most one less than there are.
        odd: components that a mirror changes the sign of, all at once.
        seed: of everything that is random.
        progress: show a bar.

    Raises:
        ValueError: sizes out of range, unknown components, or too few trajectories for the order.
    """
    batches, order = checks.count("batches", batches, 1), checks.count("order", order, 0)
    odd = checks.names("odd", odd)
    checks.known("components in odd", odd, trajectories[COMPONENT].values.tolist())
    sign = xr.DataArray([-1.0 if c in odd else 1.0 for c in trajectories[COMPONENT].values], dims=COMPONENT)
    images = xr.concat([trajectories, trajectories * sign], SAMPLE) if odd else trajectories
    steps = trajectories.sizes[TIME]
    interpolation = OptimalInterpolation.fit(images, order=min(order, steps - 1))
    climatology, labels = interpolation.climatology, interpolation.labels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(checks.seed(seed))
        prior = NeuralPrior(climatology, width=width, odd=[labels.components.index(name) for name in odd])
    law = partial(mixture, scale=climatology.spread, spacing=(2, max(2, steps // 3)), count=(4, 12))
    settings = Settings(steps=batches, batch=batch, rate=5e-3, longest=4, log_score=0.1, seed=seed)
    windows = fixed(torch.from_numpy(trajectories.values).double())
    history = train(prior, windows, law, settings, progress=progress)
    about = {"windows": trajectories.sizes[SAMPLE], "batches": batches, "seed": seed}
    return prior, Card(labels, interpolation.dt, about | {"minutes": round(history.attrs["seconds"] / 60, 1)})
