"""What every method has in common: labelled observations in, a labelled reconstruction out.

A method implements `reconstruct`, on tensors, and `draw` if its posterior is no Gaussian. The rest is here: checking
the input, labels, records, lazy Dask samples.
"""

from __future__ import annotations

import math
from dataclasses import replace
from numbers import Integral

import torch

from nida_kit.methods.method import Method
from nida_kit.reconstruction import Reconstruction


class Chain(Method):
    """Methods one after the other, each starting from the mean of the one before.

    `Chain([neural, physics])` is the hybrid. Its diagnostics are those of the last method that gives any.
    """

    def __init__(self, methods):
        methods = [methods] if isinstance(methods, Method) else list(methods)
        if not methods or not all(isinstance(m, Method) for m in methods):
            raise ValueError(f"A chain needs at least one method, and nothing else: {methods}.")
        if any(m.labels.components != methods[0].labels.components for m in methods):
            raise ValueError(f"The methods know different states: {[list(m.labels.components) for m in methods]}.")
        steps = {m.dt for m in methods if m.dt is not None}
        if len(steps) > 1:
            raise ValueError(f"The methods work with different time steps: {sorted(steps)}.")
        self.methods = methods
        self.stops_early = any(m.stops_early for m in methods)
        self.fits = methods[-1].fits
        self.noise_layers = methods[-1].noise_layers
        self.labels = methods[0].labels
        self.dt = steps.pop() if steps else None
        self.settings = {
            f"{i}_{type(m).__name__}_{k}": v for i, m in enumerate(methods, 1) for k, v in m.settings.items()
        } | {"chain": " > ".join(type(m).__name__ for m in methods)}

    def doubts(self, observations):
        return list(dict.fromkeys(doubt for method in self.methods for doubt in method.doubts(observations)))

    def reconstruct(self, observations, dt, first_guess):
        runs: list[Reconstruction] = []
        for method in self.methods:
            runs.append(method.reconstruct(observations, dt, first_guess))
            first_guess = runs[-1].posteriors[-1].mean
        return Reconstruction(
            [posterior for run in runs for posterior in run.posteriors],
            [s for run in runs for s in run.temperatures],
            runs[0].first_guess,
            {name: values for run in runs for name, values in run.diagnostics.items()},
        )

    def draw(self, observations, dt, first_guess, noise):
        for method in self.methods[:-1]:
            first_guess = method.reconstruct(observations, dt, first_guess).posteriors[-1].mean
        return self.methods[-1].draw(observations, dt, first_guess, noise)


class QuasiStatic(Method):
    """A descent whose window is lengthened piece by piece (Pires, Vautard & Talagrand 1996).

    Each piece starts from the answer of the one before, whose model has forecast the rest. So the cost, which has more
    minima the longer the window, is followed from where it has few.

    Args:
        method: that starts from a first guess, as 4D-Var does.
        pieces: how many, of equal length.
    """

    stops_early = True

    def __init__(self, method: Method, pieces: int = 4):
        if not isinstance(method, Method):
            raise ValueError(f"{method!r} is no method: give one that starts from a first guess, nk.WeakFourDVar(...).")
        if not isinstance(pieces, Integral) or pieces < 1:
            raise ValueError(f"pieces={pieces!r} must be a whole number of at least 1.")
        self.method, self.pieces, self.labels, self.dt = method, int(pieces), method.labels, method.dt
        self.settings = {"of": type(method).__name__} | method.settings | {"pieces": self.pieces}
        self.noise_layers, self.fits = method.noise_layers, method.fits

    def doubts(self, observations):
        return self.method.doubts(observations)

    def draw(self, observations, dt, first_guess, noise):
        found = self.reconstruct(observations, dt, first_guess)
        return self.method.draw(observations, dt, found.posteriors[-1].mean, noise)

    def reconstruct(self, observations, dt, first_guess):
        steps = observations.value.shape[-2]
        for k in range(1, self.pieces + 1):
            later = torch.arange(steps)[:, None] >= math.ceil(steps * k / self.pieces)
            known = replace(observations, value=observations.value.masked_fill(later, math.nan))
            found = self.method.reconstruct(known, dt, first_guess)
            first_guess = found.posteriors[-1].mean
        return found
