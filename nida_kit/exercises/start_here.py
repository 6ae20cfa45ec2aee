"""Exercises of notebook 00: observations of one's own choice, and their reconstruction."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

from nida_kit.evaluate import rmse
from nida_kit.exercises.verdict import NotYet, called, exercise
from nida_kit.methods.neural import NeuralIncremental
from nida_kit.observing.observe import observe
from nida_kit.systems.lorenz import Lorenz63

SEEN, EVERY, NOISE = ("x", "z"), 4, 0.5


@exercise
def reconstruct(answer: Callable) -> str:
    """A function of a truth of Lorenz-63, `(sample, time, component)`, that returns the reconstruction.

    It observes x and z at every 4th step with an error of 0.5, and gives that to a method with the shipped prior.
    """
    truth = Lorenz63().simulate(samples=2, steps=32, dt=0.05, seed=11)
    found = called(answer, truth)
    if isinstance(found, xr.Dataset) and "value" in found and "mean" not in found:
        raise NotYet("You return the observations. Give them to a method: method.assimilate(obs).")
    if isinstance(found, xr.DataArray) and found.equals(truth):
        raise NotYet("You return the truth, which nobody knows. Observe it, and reconstruct from that.")
    if not isinstance(found, xr.Dataset) or "mean" not in found or "residual" not in found:
        raise NotYet(f"Return the whole result of method.assimilate(obs); yours is a {type(found).__name__}.")
    if found["mean"].sizes != truth.sizes:
        raise NotYet(f"The result has {dict(found['mean'].sizes)}, the truth {dict(truth.sizes)}: observe all of it.")
    _check_observed(found["residual"])
    if found.attrs.get("method") != "NeuralIncremental":
        raise NotYet(f'You use {found.attrs.get("method")}. Take the shipped prior: nk.method_of("lorenz63").')
    obs = observe(truth, SEEN, EVERY, noise_std=NOISE, seed=found.attrs["obs_seed"])
    method = NeuralIncremental.pretrained("lorenz63", found.attrs["temperatures"])
    expected = method.assimilate(obs)
    if not np.allclose(found["mean"], expected["mean"], atol=0.1) or not np.allclose(
        found["std"], expected["std"], 0.1
    ):
        raise NotYet(f"You observe the right values, but not with an error of {NOISE:g}: set noise_std={NOISE:g}.")
    error = rmse(found["mean"], truth, dim=("sample", "time")) / method.prior.climatology.spread.mean(0).numpy()
    return (
        f"{int(found['residual'].notnull().sum())} of {truth.size} values were seen, y never. The root mean squared "
        f"error of y is {float(error.sel(component='y')):.3f} of its climatological standard deviation."
    )


def _check_observed(residual: xr.DataArray) -> None:
    """Which values were seen: the others have no residual."""
    seen = residual.notnull()
    components = tuple(str(name) for name in seen.component.values[seen.any(("sample", "time")).values])
    if components != SEEN:
        raise NotYet(f"You observe {' and '.join(components) or 'nothing'}, and x and z are asked for: components=.")
    steps = np.flatnonzero(seen.any(("sample", "component")))
    if not np.array_equal(steps, np.arange(0, residual.sizes["time"], EVERY)):
        raise NotYet(f"You observe the steps {', '.join(map(str, steps[:4]))} and so on, not every {EVERY}th: every=.")
