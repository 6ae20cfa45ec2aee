"""What every method has in common: labelled observations in, a labelled reconstruction out.

A method implements `reconstruct`, on tensors, and `draw` if its posterior is no Gaussian. The rest is here: checking
the input, labels, records, lazy Dask samples.
"""

from __future__ import annotations

import math
import time
import warnings
from abc import ABC, abstractmethod
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
from numbers import Integral
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from nida_kit.edge import ObservedTensors, check_observations, read_observations, read_trajectory
from nida_kit.observing.observations import Observations
from nida_kit.observing.operators import as_operator, is_direct
from nida_kit.reconstruction import Moments, Reconstruction
from nida_kit.state import COMPONENT, CORE, TIME, StateLabels


@lru_cache
def versions() -> str:
    """Of the packages that a result depends on."""
    return ", ".join(f"{name} {version(name)}" for name in ("nida_kit", "torch", "numpy", "xarray"))


def stream(seed: int) -> torch.Generator:
    """A method's own random numbers: never those that a system draws its true trajectories from for the same seed."""
    own = torch.randint(2**62, (), generator=torch.Generator().manual_seed(seed))
    return torch.Generator().manual_seed(int(own))


class Method(ABC):
    """A way to reconstruct trajectories from observations.

    Attributes:
        labels: the state's components.
        dt: the time step it works with; None takes the observations'.
        settings: for the records of each result; `seed` is among them if the method itself is random.
        stops_early: whether the number of steps depends on the observations.
        noise_layers: how many times unit noise over the whole window `draw` needs for each draw.
        template_steps: how many time steps say what a lazy result looks like; None is the whole window.
        fits: whether the answer should agree with the observations.
    """

    labels: StateLabels
    dt: float | None = None
    settings: dict[str, Any]
    stops_early: bool = False
    noise_layers: int = 1
    template_steps: int | None = None
    fits: bool = True

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.settings.items())})"

    def doubts(self, observations: Observations) -> list[str]:
        """What to say of observations before anything is made of them."""
        return []

    @abstractmethod
    def reconstruct(self, observations: Observations, dt: float, first_guess: Tensor | None) -> Reconstruction:
        """The method itself, on a batch of windows as float64 tensors `(..., T, n)`."""

    def draw(
        self,
        observations: Observations,
        dt: float,
        first_guess: Tensor | None,
        noise: Float[Tensor, "layers members *batch T n"],
    ) -> Float[Tensor, "members *batch T n"]:
        """Draws from the posterior, a function of independent unit normal noise: here, those of the last Gaussian."""
        last = self.reconstruct(observations, dt, first_guess).posteriors[-1]
        if isinstance(last, Moments):
            raise ValueError(
                f"{type(self).__name__} knows the mean and the spread of each value, but not how they vary together: "
                "draw from a smoother, nk.EnKS or nk.ParticleSmoother."
            )
        return last.sample(noise[0].to(last.mean))

    def assimilate(
        self, obs: xr.Dataset, first_guess: xr.DataArray | None = None, *, operator=None, trace: bool = False
    ) -> xr.Dataset:
        """Reconstruct the trajectories behind observations.

        Args:
            obs: `value (..., time, component)`, NaN where nothing was measured, and `noise_std`, which broadcasts
                over it. A dimension chunked by Dask (`obs.chunk(sample=100)`) stays lazy.
            first_guess: where to start, `(..., time, component)`; None is the method's own.
            operator: what was observed, as given to `nk.observe`; None is the state's own components.
            trace: keep every estimate on the way, along the dimension `step`, and the first guess.

        Returns:
            `mean` and `std (..., time, component)`; for each window how many values were `observed`, the `misfit` of
            the mean to them (root mean square, in standard deviations of their errors: about 1 or less) and what else
            the method says about it; records in `attrs`, and a `note` of what was warned of. (A lazy result warns as
            its chunks are computed, and has no note: look at its `misfit`.)

        Raises:
            ValueError: input that cannot be used; it says which and what to try.
        """
        return self._labelled(obs, first_guess, operator, trace=trace)

    def sample(
        self, obs: xr.Dataset, samples: int, seed: int = 0, first_guess: xr.DataArray | None = None, *, operator=None
    ) -> xr.DataArray:
        """Draws from the posterior, along the new leading dimension `member`; otherwise as `assimilate`."""
        if not isinstance(samples, Integral) or samples < 1:
            raise ValueError(f"samples={samples!r} must be a whole number of at least 1.")
        if not isinstance(seed, Integral) or seed < 0:
            raise ValueError(f"seed={seed!r} must be a whole number, not negative.")
        check_observations(obs)
        lead = {d: n for d, n in obs["value"].sizes.items() if d not in CORE}
        sizes = {
            "_layer": self.noise_layers,
            "member": samples,
            **lead,
            TIME: obs.sizes[TIME],
            COMPONENT: len(self.labels.components),
        }
        # Drawn here for all windows, so that the draws do not depend on how Dask cuts them.
        noise = torch.randn(*sizes.values(), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        drawn = self._labelled(obs, first_guess, operator, noise=xr.DataArray(noise.numpy(), dims=list(sizes)))
        own = {"method_seed": self.settings["seed"]} if "seed" in self.settings else {}
        return drawn["draws"].assign_attrs(drawn.attrs | own | {"seed": seed})

    def _labelled(self, obs, first_guess, operator, **how) -> xr.Dataset:
        check_observations(obs)
        operator = as_operator(operator)
        arrays = [*obs.variables.values(), first_guess]
        lazy = any(isinstance(a, xr.Variable | xr.DataArray) and a.chunks for a in arrays)
        return (self._lazily if lazy else self._eagerly)(obs, first_guess, operator, **how)

    def _eagerly(self, obs, first_guess, operator, noise=None, trace=False) -> xr.Dataset:
        began = time.perf_counter()
        read = read_observations(obs, self.labels, self.dt, direct=is_direct(operator))
        if first_guess is not None:
            first_guess = read_trajectory(first_guess, read, self.labels, "first_guess")
        observations = Observations(read.value, read.noise_std, operator)
        notes = _empty(observations) + self.doubts(observations)
        with torch.no_grad():
            given = observations, read.dt, first_guess
            if noise is None:
                found = self.reconstruct(*given)
                misfit = _misfit(observations, found.posteriors[-1].mean)
                notes += _contradictions(misfit, found.diagnostics.get("converged")) if self.fits else []
                found = replace(found, diagnostics=found.diagnostics | {"misfit": misfit})
                result, steps = _label(found, read, trace), {"iterations": len(found.posteriors)}
            else:
                draws = self.draw(*given, torch.from_numpy(noise.values))
                result, steps = _label_draws(draws, noise.dims[1:]), {}
        result.attrs = {"method": type(self).__name__, "seed": "none", **self.settings, **steps}
        result.attrs |= {"seconds": time.perf_counter() - began, "versions": versions()}
        for note in notes:
            warnings.warn(note, stacklevel=4)
        result.attrs |= {"note": " ".join(notes)} if notes else {}
        return result.assign_coords(read.coords)

    def _block(self, obs, first_guess, operator, noise, trace) -> xr.Dataset:
        """One chunk, with the state's components under their name for a while."""
        arrays = [None if a is None else a.rename({_STATE: COMPONENT}) for a in (first_guess, noise)]
        return self._eagerly(obs, arrays[0], operator, arrays[1], trace)

    def _lazily(self, obs, first_guess, operator, noise=None, trace=False) -> xr.Dataset:
        """Chunk by chunk, by `xr.map_blocks`; one window without observations, run now, says what comes out."""
        if trace and self.stops_early:
            raise ValueError(
                "A lazy trace needs a known number of steps, and this method stops when it has converged: trace "
                "obs.compute(), or a few samples of it."
            )
        obs = obs.unify_chunks()
        value = obs["value"]
        chunked = [d for d in CORE if len(obs.chunksizes.get(d, (0,))) > 1]
        if chunked:
            raise ValueError(
                f"obs is chunked along {chunked}; a window is solved whole: obs.chunk(time=-1, component=-1)."
            )
        lead = [d for d in value.dims if d not in CORE]
        chunks = {d: obs.chunksizes.get(d, (obs.sizes[d],)) for d in lead}
        # Behind an operator, "component" of the observations and of the state are two things: rename one for a while.
        arrays = [
            None if a is None else a.chunk({d: chunks.get(d, -1) for d in a.dims}).rename({COMPONENT: _STATE})
            for a in (first_guess, noise)
        ]
        obs = obs.chunk({d: chunks.get(d, -1) for d in obs.dims})

        first = {d: slice(0, 1) for d in lead}
        window = obs[["value", "noise_std"]].isel(first, missing_dims="ignore").map(_blank)
        short = {TIME: slice(self.template_steps)}
        draws = None if noise is None else noise.isel(first | short)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            small = self._eagerly(window.isel(short, missing_dims="ignore"), None, operator, draws, trace)
            small = small.reindex({TIME: obs[TIME]})
        template = small.isel({d: 0 for d in lead}, drop=True).expand_dims({d: obs.sizes[d] for d in lead})
        template = template.map(lambda array: array.transpose(*small[array.name].dims))
        outer = {name: c for name, c in value.coords.items() if COMPONENT not in c.dims}
        template = template.assign_coords(outer).chunk(chunks)
        template.attrs = {k: v for k, v in small.attrs.items() if k not in ("iterations", "seconds", "note")}
        return xr.map_blocks(
            self._block, obs, args=[arrays[0], operator, arrays[1]], kwargs={"trace": trace}, template=template
        )


_STATE = "_state_component"


_WORST_MISFIT = 3.0  # standard deviations of the errors of observations


def _blank(array: xr.DataArray) -> xr.DataArray:
    """An array in memory of the same shape and labels, in which nothing is observed."""
    return array.copy(data=np.full(array.shape, np.nan if array.name == "value" else 1.0))


def _empty(observations: Observations) -> list[str]:
    """What to say of windows without any observation."""
    empty = observations.value.isnan().flatten(-2).all(-1)
    if not empty.any():
        return []
    return [f"In {int(empty.sum())} of {empty.numel()} windows nothing is observed: they show the prior alone."]


def _misfit(observations: Observations, mean: Tensor) -> Tensor:
    """Root mean square of y - h(mean), in standard deviations of the errors, `(...)`.

    NaN if nothing is observed, infinite if the mean is not finite.
    """
    observations = observations.to(mean.device)
    count = (~observations.value.isnan()).sum((-2, -1))
    misfit = (2 * observations.misfit(mean) / count).sqrt().where(count > 0, math.nan)
    return misfit.where(mean.isfinite().all(-1).all(-1), math.inf)


def _contradictions(misfit: Tensor, converged: Tensor | None) -> list[str]:
    """What to say of answers that miss what was observed."""
    if misfit.isinf().any():
        return [f"In {int(misfit.isinf().sum())} of {misfit.numel()} windows the answer is not finite."]
    off = misfit > _WORST_MISFIT
    if not off.any():
        return []
    note = (
        f"In {int(off.sum())} of {off.numel()} windows the answer misses what was observed, by up to "
        f"{float(misfit[off].max()):.3g} standard deviations of its error (root mean square). The prior or the model "
        "may be another system's, noise_std too small, or a search stuck in a wrong minimum"
    )
    if converged is not None and (stuck := off & ~converged.to(off)).any():
        note += (
            f"; in {int(stuck.sum())} of them it has not converged: start from a better first_guess, as in "
            "nk.Chain([interpolation, method]), or give more iterations"
        )
    return [f"{note}."]


def _label(found: Reconstruction, read: ObservedTensors, trace: bool) -> xr.Dataset:
    """A reconstruction as variables; with every step along `step`, if asked."""
    dims, shape = (*read.dims, *CORE), (*read.value.shape[:-1], found.first_guess.shape[-1])

    def array(x: Tensor, long_name: str, dims=dims) -> xr.Variable:
        return xr.Variable(dims, x.cpu().numpy(), {"long_name": long_name})

    def stacked(name: str) -> Tensor:
        return torch.stack([getattr(posterior, name).expand(shape) for posterior in found.posteriors])

    last = found.posteriors[-1]
    variables = {
        "mean": array(last.mean.expand(shape), "posterior mean"),
        "std": array(last.std.expand(shape), "posterior standard deviation"),
    }
    variables["observed"] = array((~read.value.isnan()).sum((-2, -1)), "number of observed values", read.dims)
    for name, x in found.diagnostics.items():
        whole = x.ndim > len(read.dims)
        variables[name] = array(x.expand(shape if whole else shape[:-2]), name, dims if whole else read.dims)
    if not trace:
        return xr.Dataset(variables)
    variables["mean"] = array(stacked("mean"), "posterior mean after each step", ("step", *dims))
    variables["std"] = array(stacked("std"), "posterior standard deviation after each step", ("step", *dims))
    variables["first_guess"] = array(found.first_guess.expand(shape), "first guess")
    numbers = np.arange(1, len(found.posteriors) + 1)
    return xr.Dataset(variables, {"step": numbers, "temperature": ("step", np.array(found.temperatures, float))})


def _label_draws(draws: Tensor, dims: tuple) -> xr.Dataset:
    """Draws as a variable, the first of its `dims` being the member."""
    return xr.Dataset({"draws": (dims, draws.cpu().numpy())}, {"member": np.arange(len(draws))})
