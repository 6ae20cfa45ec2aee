"""Methods made of other methods.

chain           x^(0) -> method 1 -> x^(1) -> method 2 -> x^(2) ...,      each starts from the mean of the one before
quasi-static    one method on a window that grows, each time from its last answer
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from nida_kit import checks
from nida_kit.methods.method import Method
from nida_kit.reconstruction import Reconstruction

_METHOD = "Try an instance of one, nk.WeakFourDVar(system, 0.1)."


class Composed(Method):
    """A method around others, all of one state. The last one gives the answer.

    It promises what they promise: it stops early if any of them does, and its draws and its agreement with the
    observations are those of the last one.

    Args:
        methods: in the order of their use, at least one.
        settings: for the records.
    """

    def __init__(self, methods: Sequence[Method], settings: dict[str, Any]):
        self.methods, self.settings = list(methods), settings
        self.labels, self.dt = methods[0].labels, _time_step(methods)
        self.stops_early = any(m.stops_early for m in methods)
        self.fits, self.noise_layers = methods[-1].fits, methods[-1].noise_layers
        self.takes_first_guess = methods[0].takes_first_guess
        self.land = next((m.land for m in methods if m.land is not None), None)

    def doubts(self, observations):
        return list(dict.fromkeys(doubt for method in self.methods for doubt in method.doubts(observations)))

    def calibrated(self, found, observations):
        return self.methods[-1].calibrated(found, observations)

    def implausibility(self, x, observations, dt):
        return self.methods[-1].implausibility(x, observations, dt)


def _time_step(methods: Sequence[Method]) -> float | None:
    """The one that all methods work with; None if any will do."""
    steps = {m.dt for m in methods if m.dt is not None}
    if len(steps) > 1:
        raise ValueError(f"The methods work with different time steps: {sorted(steps)}. Give methods of one time step.")
    return steps.pop() if steps else None


class Chain(Composed):
    """Methods one after the other, each starting from the mean of the one before.

    >>> import nida_kit as nk
    >>> truth = nk.Lorenz63().simulate(samples=1, steps=32, dt=0.05, seed=0)
    >>> obs = nk.observe(truth, components=["x"], every=4, noise_std=0.4, seed=1)
    >>> neural = nk.NeuralIncremental.pretrained("lorenz63", temperatures=2)
    >>> hybrid = nk.Chain([neural, nk.WeakFourDVar(nk.Lorenz63(), model_noise_std=0.05, iterations=3)])
    >>> bool(nk.rmse(hybrid.assimilate(obs)["mean"], truth) < 1.0)
    True

    `Chain([neural, physics])` is the hybrid. Its diagnostics are those of the last method that gives any.
    """

    remedy = "Give its last method more iterations, or put a better one before it."

    def __init__(self, methods):
        methods = [methods] if isinstance(methods, Method) else checks.several("methods", methods)
        if not methods or not all(isinstance(m, Method) for m in methods):
            raise checks.refused("methods", methods, "a list of at least one method, and of nothing else", _METHOD)
        if any(m.labels.indexes != methods[0].labels.indexes for m in methods):
            raise ValueError(f"The methods know different states: {[m.labels.indexes for m in methods]}.")
        settings = {f"{i}_{type(m).__name__}_{k}": v for i, m in enumerate(methods, 1) for k, v in m.settings.items()}
        super().__init__(methods, settings | {"chain": " > ".join(type(m).__name__ for m in methods)})

    def doubts(self, observations):
        deaf = [type(method).__name__ for method in self.methods[1:] if not method.takes_first_guess]
        lost = [
            f"In the chain, {name} has one answer wherever it starts: what stands before it is lost." for name in deaf
        ]
        return super().doubts(observations) + lost

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


class QuasiStatic(Composed):
    """A descent whose window is lengthened piece by piece (Pires, Vautard & Talagrand 1996).

    >>> import nida_kit as nk
    >>> system = nk.Pendulum()
    >>> truth = system.simulate(samples=1, steps=30, dt=0.1, seed=0)
    >>> obs = nk.observe(truth, components=["angle"], every=5, noise_std=0.1, seed=1)
    >>> result = nk.QuasiStatic(nk.StrongFourDVar(system), pieces=3).assimilate(obs)
    >>> bool(nk.rmse(result["mean"], truth) < 0.2)
    True

    Each piece starts from the answer of the one before, whose model has forecast the rest. So the cost, which has more
    minima the longer the window, is followed from where it has few.

    Args:
        method: that starts from a first guess, as 4D-Var does.
        pieces: how many, of equal length.
    """

    def __init__(self, method: Method, pieces: int = 4):
        checks.instance("method", method, Method, "a method that starts from a first guess", _METHOD)
        if not method.takes_first_guess:
            raise checks.refused("method", method, "a method that starts from a first guess", _METHOD)
        self.method, self.pieces = method, checks.count("pieces", pieces, 1)
        super().__init__([method], {"of": type(method).__name__} | method.settings | {"pieces": self.pieces})

    def reconstruct(self, observations, dt, first_guess):
        steps = observations.value.shape[-2]
        for k in range(1, self.pieces + 1):
            later = torch.arange(steps)[:, None] >= math.ceil(steps * k / self.pieces)
            known = replace(observations, value=observations.value.masked_fill(later, math.nan))
            found = self.method.reconstruct(known, dt, first_guess)
            first_guess = found.posteriors[-1].mean
        return found

    def draw(self, observations, dt, first_guess, noise):
        found = self.reconstruct(observations, dt, first_guess)
        return self.method.draw(observations, dt, found.posteriors[-1].mean, noise)
