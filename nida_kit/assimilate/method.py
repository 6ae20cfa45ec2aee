"""What every method has in common: labelled observations in, a labelled reconstruction out.

A method implements `reconstruct`, on tensors. The rest is here: checking the input, labels, records, lazy Dask
samples, draws.
"""

from __future__ import annotations

import time
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from nida_kit.gaussian import Gaussian
from nida_kit.labels import COMPONENT, CORE, ObservedTensors, StateLabels, read_observations, read_trajectory
from nida_kit.observe import Observations, as_operator, is_direct


@dataclass(frozen=True)
class Reconstruction:
    """What a method found.

    Attributes:
        posteriors: the Gaussian after each step; the last one is the answer.
        temperatures: of each step; NaN where the method has none.
        first_guess: where it started, `(..., T, n)`.
        diagnostics: more about each window, `(...)` each, by name.
    """

    posteriors: list[Gaussian]
    temperatures: list[float]
    first_guess: Tensor
    diagnostics: dict[str, Tensor] = field(default_factory=dict)


@lru_cache
def versions() -> str:
    """Of the packages that a result depends on."""
    return ", ".join(f"{name} {version(name)}" for name in ("nida_kit", "torch", "numpy", "xarray"))


class Method(ABC):
    """A way to reconstruct trajectories from observations.

    Attributes:
        labels: the state's components.
        dt: the time step it works with; None takes the observations'.
        settings: for the records of each result.
    """

    labels: StateLabels
    dt: float | None = None
    settings: dict[str, Any]

    @abstractmethod
    def reconstruct(self, observations: Observations, dt: float, first_guess: Tensor | None) -> Reconstruction:
        """The method itself, on a batch of windows as float64 tensors `(..., T, n)`."""

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
            `mean` and `std (..., time, component)`, what the method says about each window, and records in `attrs`.

        Raises:
            ValueError: input that cannot be used; it says which and what to try.
        """
        return self._labelled(obs, first_guess, operator, trace=trace)

    def sample(
        self, obs: xr.Dataset, samples: int, seed: int = 0, first_guess: xr.DataArray | None = None, *, operator=None
    ) -> xr.DataArray:
        """Draws from the posterior, along the new leading dimension `member`; otherwise as `assimilate`."""
        if samples < 1:
            raise ValueError(f"samples={samples}: at least one is needed.")
        return self._labelled(obs, first_guess, operator, draws=(samples, seed))["draws"]

    def _labelled(self, obs, first_guess, operator, **how) -> xr.Dataset:
        arrays = [obs, first_guess] if first_guess is not None else [obs]
        if any(isinstance(a, xr.Dataset | xr.DataArray) and a.chunks for a in arrays):
            return self._lazily(obs, first_guess, operator, **how)
        return self._eagerly(obs, first_guess, operator, **how)

    def _eagerly(self, obs, first_guess, operator, trace=False, draws=None) -> xr.Dataset:
        began = time.perf_counter()
        direct = is_direct(operator)
        read = read_observations(obs, self.labels, self.dt, direct=direct)
        if first_guess is not None:
            first_guess = read_trajectory(first_guess, read, self.labels, "first_guess")
        empty = int(read.value.isnan().flatten(-2).all(-1).sum())
        note = (
            f"{empty} of {read.value[..., 0, 0].numel()} windows hold no observation: they show the prior alone."
            * bool(empty)
        )
        if note:
            warnings.warn(note, stacklevel=4)
        with torch.no_grad():
            found = self.reconstruct(
                Observations(read.value, read.noise_std, as_operator(operator)), read.dt, first_guess
            )
            result = self._label(found, read, trace, draws)
        result.attrs = {"method": type(self).__name__, **self.settings, "iterations": len(found.posteriors)}
        result.attrs |= {
            "seed": draws[1] if draws else "none",
            "seconds": time.perf_counter() - began,
            "versions": versions(),
        }
        result.attrs |= {"note": note} if note else {}
        return result

    def _label(self, found: Reconstruction, read: ObservedTensors, trace: bool, draws) -> xr.Dataset:
        dims = (*read.dims, *CORE)
        shape = (*read.value.shape[:-1], len(self.labels.components))
        last = found.posteriors[-1]
        if draws:
            samples, seed = draws
            noise = torch.randn(samples, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
            drawn = xr.Dataset({"draws": (("member", *dims), last.sample(noise).numpy())}, read.coords)
            return drawn.assign_coords(member=np.arange(samples))

        def array(x: Tensor, long_name: str, dims=dims):
            return dims, x.numpy(), {"long_name": long_name}

        variables = {}
        if trace:
            steps = [(p.mean.expand(shape), p.std.expand(shape)) for p in found.posteriors]
            mean, std = (torch.stack(x) for x in zip(*steps, strict=True))
            variables["mean"] = array(mean, "posterior mean after each step", ("step", *dims))
            variables["std"] = array(std, "posterior standard deviation after each step", ("step", *dims))
            variables["first_guess"] = array(found.first_guess.expand(shape), "first guess")
        else:
            variables["mean"] = array(last.mean.expand(shape), "posterior mean")
            variables["std"] = array(last.std.expand(shape), "posterior standard deviation")
        for name, values in found.diagnostics.items():
            variables[name] = (read.dims, values.expand(shape[:-2]).numpy())
        result = xr.Dataset(variables, read.coords)
        if trace:
            result = result.assign_coords(
                step=np.arange(1, len(steps) + 1), temperature=("step", np.array(found.temperatures, float))
            )
        return result

    def _lazily(self, obs, first_guess, operator, **how) -> xr.Dataset:
        """Chunk by chunk, by `xr.map_blocks`; one window without observations, run now, says what comes out."""
        chunked = [d for d in obs["value"].dims if len(obs.chunksizes.get(d, (0,))) > 1]
        if set(chunked) & set(CORE):
            raise ValueError(
                f"obs is chunked along {chunked}; a window is solved whole: obs.chunk(time=-1, component=-1)."
            )
        arrays = [obs, first_guess] if first_guess is not None else [obs]
        arrays = list(xr.unify_chunks(*(a.chunk({d: -1 for d in CORE if d in a.dims}) for a in arrays)))
        obs = arrays[0]
        lead = [d for d in obs["value"].dims if d not in CORE]
        probe = obs.isel({d: slice(0, 1) for d in lead})
        blank = probe.assign(
            value=xr.full_like(probe["value"], np.nan, chunks={}).compute(),
            noise_std=xr.ones_like(probe["noise_std"]).compute(),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            small = self._eagerly(blank.compute(), None, operator, **how)
        template = xr.Dataset(
            {k: v.isel({d: 0 for d in lead if d in v.dims}, drop=True) for k, v in small.data_vars.items()}
        ).drop_vars([d for d in lead if d in small.coords], errors="ignore")
        sizes = {d: obs.sizes[d] for d in lead}
        outer = {k: c for k, c in obs["value"].coords.items() if COMPONENT not in c.dims}
        template = xr.Dataset(
            {k: template[k].expand_dims(sizes).transpose(*small[k].dims) for k in template}, attrs=small.attrs
        ).assign_coords(outer)
        template.attrs = {k: v for k, v in small.attrs.items() if k not in ("seconds", "note")}
        template = template.chunk({d: obs.chunksizes.get(d, (sizes[d],)) for d in lead})
        arguments = arrays[1:] if first_guess is not None else [None]
        return xr.map_blocks(self._eagerly, obs, args=[*arguments, operator], kwargs=how, template=template)


class Chain(Method):
    """Methods one after the other, each starting from the mean of the one before.

    `Chain([neural, physics])` is the hybrid. Its diagnostics are those of the last method that gives any.
    """

    def __init__(self, methods):
        methods = list(methods)
        if not methods:
            raise ValueError("A chain needs at least one method.")
        if any(m.labels.components != methods[0].labels.components for m in methods):
            raise ValueError(f"The methods know different states: {[list(m.labels.components) for m in methods]}.")
        steps = {m.dt for m in methods if m.dt is not None}
        if len(steps) > 1:
            raise ValueError(f"The methods work with different time steps: {sorted(steps)}.")
        self.methods = methods
        self.labels = methods[0].labels
        self.dt = steps.pop() if steps else None
        self.settings = {
            f"{i}_{type(m).__name__}_{k}": v for i, m in enumerate(methods, 1) for k, v in m.settings.items()
        } | {"chain": " > ".join(type(m).__name__ for m in methods)}

    def reconstruct(self, observations, dt, first_guess):
        posteriors, temperatures, diagnostics = [], [], {}
        for method in self.methods:
            found = method.reconstruct(observations, dt, first_guess)
            start = found.first_guess if not posteriors else start
            posteriors += found.posteriors
            temperatures += found.temperatures
            diagnostics |= found.diagnostics
            first_guess = found.posteriors[-1].mean
        return replace(
            found, posteriors=posteriors, temperatures=temperatures, first_guess=start, diagnostics=diagnostics
        )
