"""Long records, window by window.

    window k    steps b_k ... b_k + window - 1,      b_{k+1} = b_k + window - overlap,      the last one ends the record
    start       p(x_b | y before b): the forecast from the window before, whose own observations from b on are left out

So no observation counts twice. A method with a model gives each step b_k <= t < b_{k+1} what it knows in window k: all
that was observed before, in the window, and for at least `overlap` steps after t. For a linear system this is the
smoother with that lag, exactly; without overlap it is the filter at each window's last step.

A method of a climatology carries nothing from window to window: each is reconstructed by itself, so what was observed
in an overlap is used in both. The middle of the overlap is where the one answer ends and the other begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from nida_kit import checks
from nida_kit.edge import read_next
from nida_kit.methods.compose import Chain, Composed
from nida_kit.methods.interpolation import OptimalInterpolation
from nida_kit.methods.method import Method
from nida_kit.methods.neural import NeuralIncremental
from nida_kit.methods.robust import Law
from nida_kit.methods.sequential import Sequential
from nida_kit.methods.smoothers import PhysicalMethod
from nida_kit.observing.observations import Observations
from nida_kit.observing.operators import OverWindow, takes_time
from nida_kit.reconstruction import Moments, Reconstruction, State

# What is said of the worst window, `(..., windows)`.
WORST: dict[str, Callable[[Tensor], Tensor]] = {"converged": lambda x: x.all(-1), "distance": lambda x: x.amax(-1)}

AT_ONCE = 2**14  # values of windows that are reconstructed side by side

_ADVICE = "Try nk.Cycled(nk.KalmanSmoother(system, 0.1), window=100)."


@dataclass(frozen=True)
class Window:
    """One window of a record.

    Attributes:
        steps: of the window.
        kept: those whose answer it gives.
    """

    steps: range
    kept: range


Found = tuple[Sequence[Window], Reconstruction, State | None]
"""Some windows, what was found there, and the state that the next one starts from."""


def cut(steps: int, window: int, overlap: int, share: float) -> list[Window]:
    """A record's windows; the last one ends where the record does, and a short record is one window.

    >>> [(w.steps, w.kept) for w in cut(10, window=6, overlap=2, share=0.5)]
    [(range(0, 6), range(0, 5)), (range(4, 10), range(5, 10))]

    Args:
        steps: of the record.
        window: steps of each window.
        overlap: steps that two share, at least.
        share: of an overlap whose answers the earlier window gives.
    """
    last = max(steps - window, 0)
    begins = [*range(0, last, window - overlap), last]
    bounds = [0, *(b + int(share * (a + window - b)) for a, b in pairwise(begins)), steps]
    return [
        Window(range(b, min(b + window, steps)), range(*kept)) for b, kept in zip(begins, pairwise(bounds), strict=True)
    ]


class Cycled(Composed):
    """A method for long records, which it reconstructs window by window, each started from the one before.

    >>> import nida_kit as nk
    >>> system = nk.LinearOscillator()
    >>> truth = system.simulate(samples=1, steps=200, dt=0.1, model_noise_std=0.05, seed=0)
    >>> obs = nk.observe(truth, components=["angle"], every=10, noise_std=0.1, seed=1)
    >>> cycled = nk.Cycled(nk.KalmanSmoother(system, model_noise_std=0.05), window=40, overlap=20)
    >>> whole = cycled.assimilate(obs)
    >>> earlier = cycled.assimilate(obs.isel(time=slice(100)))  # .to_netcdf(...) keeps it
    >>> going_on = cycled.assimilate(obs.isel(time=slice(100, None)), start=earlier)
    >>> bool(abs(going_on["mean"] - whole["mean"]).max() < 1e-9)
    True

    With a model (`nk.KalmanSmoother`, `nk.WeakFourDVar`, or an `nk.Chain` that ends with one), no observation counts
    twice, and the overlap is how many later steps, at least, each answer has seen. The result says in `next_mean`,
    `next_covariance` and `next_time` what is known of the step after the record; start from there when there are new
    data. A method of a climatology (`nk.OptimalInterpolation`, `nk.NeuralIncremental`) reconstructs each window by
    itself; the answer changes from one to the next in the middle of what they share, and there is nothing to start
    from: give it the last `window` steps of the old record with the new ones. So it is inside `nk.Seasonal`, too, which
    goes around the whole.

    A system that is not linear is walked through step by step; windows of 1,000 steps and more are walked side by side,
    and so take far less time. Memory does not grow with the number of windows. Two runs equal one over both records
    where the first one's length is a multiple of window - overlap; else they differ in how far the answers look ahead.

    `converged` and `distance`, where the method gives them, are those of the worst window.

    Args:
        method: of whole windows.
        window: steps of each, 2 or more. A shorter record is one window.
        overlap: steps that two windows share; None is half a window.

    Raises:
        ValueError: a method that is no such one, or windows that cannot move on.
    """

    template_steps = 2

    def __init__(self, method: Method, window: int, overlap: int | None = None):
        checks.instance("method", method, Method, "a method of whole windows", _ADVICE)
        self.method = method
        self.window = checks.count("window", window, 2)
        self.overlap = self.window // 2 if overlap is None else checks.count("overlap", overlap, 0)
        if self.overlap >= self.window:
            raise checks.refused("overlap", overlap, f"less than the window, {self.window} steps", "Try half of it.")
        last = method.methods[-1] if isinstance(method, Chain) else method
        self.carries = isinstance(last, PhysicalMethod)
        if not self.carries and not isinstance(last, OptimalInterpolation | NeuralIncremental):
            raise _unfit(last)
        if self.carries and last.system.transformed:
            raise ValueError(
                "nk.Cycled hands a Gaussian of what is observed from window to window, and that of nk.Transformed is "
                "one of other variables: give the long record as one window, or to a method that walks through time, "
                "nk.EnKS or nk.EnKF."
            )
        about = {"of": type(method).__name__, "window": self.window, "overlap": self.overlap}
        about |= {"system": last.settings["system"]} if self.carries else {}
        super().__init__([method], method.settings | about)
        self._start: tuple[Tensor, Tensor] | None = None  # mean and covariance of each record's first state
        self._progress = False

    def assimilate(
        self,
        obs: xr.Dataset,
        first_guess: xr.DataArray | None = None,
        *,
        start: xr.Dataset | None = None,
        progress: bool = False,
        operator=None,
        robust: str | Law | None = None,
        trace: bool = False,
    ) -> xr.Dataset:
        """Reconstruct long records.

        Args:
            obs: as for any method; further dims count records.
            first_guess: likewise.
            start: what is known of the first step before it is observed: the result of `assimilate` on the record that
                ended one step before, or from its file; None is the method's own start.
            progress: show a bar.
            operator: as for any method, of the states of one time.
            robust: as for any method.
            trace: as for any method; there is one step.

        Returns:
            As any method; with a model also `next_mean (..., component)`, `next_covariance` and `next_time`.

        Raises:
            ValueError: input that cannot be used; it says which and what to try.
        """
        run = copy(self)
        run._progress = checks.flag("progress", progress)
        if start is not None:
            run._start = self._read(start, obs)
            own = {k: v for k, v in self.settings.items() if not k.startswith("start_")}
            run.settings = own | {"start": "next_mean and next_covariance of an earlier result"}
        return run._labelled(obs, first_guess, operator, robust=robust, trace=trace)

    def _read(self, start: xr.Dataset, obs: xr.Dataset) -> tuple[Tensor, Tensor]:
        """The law of the first state; errors as in `read_next`."""
        if not self.carries:
            raise ValueError(
                f"start= is for methods with a model, and {self.settings['of']} begins each window anew: give it the "
                f"last {self.window} steps of the old record with the new ones."
            )
        if obs.chunks:
            raise ValueError("start= needs observations in memory: obs.compute().")
        earlier = getattr(start, "attrs", {}).get("system", self.settings["system"])
        if earlier != self.settings["system"]:
            raise ValueError(f"start is a state of {earlier}, the method's system is {self.settings['system']}.")
        return read_next(start, obs, self.labels)

    def draw(self, observations, dt, first_guess, noise):
        raise ValueError(
            "The windows of a long record know the mean and the spread of each value, but not how those of different "
            "windows vary together: draw from one window, method.sample(obs.isel(time=slice(...)), samples)."
        )

    def implausibility(self, x, observations, dt):
        if self._start is None:
            return super().implausibility(x, observations, dt)
        each = [started(self.method, m, P) for m, P in zip(*self._start, strict=True)]
        return torch.stack([method.implausibility(x[k], observations, dt) for k, method in enumerate(each)])

    def reconstruct(self, observations, dt, first_guess):
        _check_in_time(observations)
        records, (*lead, steps, _), n = observations.flattened(), observations.value.shape, self.labels.size
        windows = cut(steps, self.window, self.overlap, share=0.0 if self.carries else 0.5)
        whole = observations.value.new_empty(3, len(records.value), steps, n)  # mean, std and first guess
        guess = None if first_guess is None else first_guess.expand(*lead, steps, n).reshape(-1, steps, n)
        ends: list[State | None] = []
        worst: list[dict[str, Tensor]] = []
        with tqdm(total=len(windows) * len(records.value), unit="window", disable=not self._progress) as bar:
            for k in range(len(records.value)):
                record = Record(records.select(k), dt, None if guess is None else guess[k])
                method = self.method if self._start is None else started(self.method, *(x[k] for x in self._start))
                for some, found, state in self._along(record, method, windows):  # noqa: B007 (the last is kept)
                    _write(whole[:, k], some, found)
                    worst.append({name: found.diagnostics[name] for name in WORST if name in found.diagnostics})
                    bar.update(len(some))
                ends.append(state)
        mean, std, began = whole.view(3, *lead, steps, n)
        said = {name: WORST[name](torch.stack([x[name] for x in worst]).view(*lead, -1)) for name in worst[0]}
        following = _together(ends, lead) if self.carries else None
        return Reconstruction([Moments(mean, std)], [0.0], began, said, following)

    def _along(self, record: Record, method: Method, windows: Sequence[Window]) -> Iterator[Found]:
        """One window after the other, or some side by side where neither start nor time matters."""
        if self.carries:
            yield from _carried(record, method, windows)
            return
        interpolation = isinstance(method, OptimalInterpolation) and method.begins is None
        timeless = isinstance(method, NeuralIncremental) or interpolation
        alone = not timeless or takes_time(record.observations.operator)
        few = 1 if alone else max(1, AT_ONCE // (self.window * self.labels.size))
        for k in range(0, len(windows), few):
            some = windows[k : k + few]
            part = record.part(some[0].steps) if len(some) == 1 else record.parts([w.steps for w in some])
            yield some, part.reconstructed(method), None


def _carried(record: Record, method: Method, windows: Sequence[Window]) -> Iterator[Found]:
    """Each window of a record, from the state that the one before it ends with."""
    following = [w.steps.start for w in windows[1:]] + [windows[-1].steps.stop]
    for window, until in zip(windows, following, strict=True):
        part = record.part(window.steps)
        found = part.reconstructed(method)
        if isinstance(method, PhysicalMethod):
            # A filter's means, where it is linearised, are the same up to there: one walk does for both.
            part = replace(part, first_guess=found.first_guess)
        state = part.forecast(method, until - window.steps.start)
        yield [window], found, state
        method = started(method, state.mean, state.covariance)


@dataclass(frozen=True)
class Record:
    """One record, or a part of it.

    Attributes:
        observations: `(T, p)`.
        dt: time step.
        first_guess: `(T, n)`, or None.
    """

    observations: Observations
    dt: float
    first_guess: Float[Tensor, "T n"] | None

    def part(self, steps: range) -> Record:
        """Some of its steps."""
        some = slice(steps.start, steps.stop)
        guess = None if self.first_guess is None else self.first_guess[some]
        return Record(self.observations.at(some), self.dt, guess)

    def parts(self, windows: Sequence[range]) -> Record:
        """Several parts of one length as a batch, without their times."""
        index = torch.tensor(windows)
        guess = None if self.first_guess is None else self.first_guess[index]
        return Record(replace(self.observations.at(index), times=None), self.dt, guess)

    def reconstructed(self, method: Method) -> Reconstruction:
        """What a method finds."""
        return method.reconstruct(self.observations, self.dt, self.first_guess)

    def forecast(self, method: Method, until: int) -> State:
        """The state at the step `until`, which may be the one after the end, from what was observed before it."""
        index = torch.arange(until + 1).clamp(max=until - 1)  # the last step again, as one that is not observed
        known = self.observations.at(index)
        value, times = known.value.clone(), known.times.clone()
        value[-1], times[-1] = torch.nan, times[-1] + self.dt
        guess = None if self.first_guess is None else self.first_guess[index]
        found = Record(replace(known, value=value, times=times), self.dt, guess).reconstructed(method).posteriors[-1]
        return State(found.mean[-1], found.covariance_at(-1))


def _write(whole: Float[Tensor, "three T n"], windows: Sequence[Window], found: Reconstruction) -> None:
    """Write the answer of some windows into the record's, and forget the rest."""
    last, shape = found.posteriors[-1], (len(windows), len(windows[0].steps), whole.shape[-1])
    for row, x in zip(whole, (last.mean, last.std, found.first_guess), strict=True):
        for w, each in zip(windows, x.expand(shape), strict=True):
            begin, kept = w.steps.start, w.kept
            row[kept.start : kept.stop] = each[kept.start - begin : kept.stop - begin]


def _together(states: Sequence[State], lead: Sequence[int]) -> State:
    """Those of all records."""
    mean, P = torch.stack([s.mean for s in states]), torch.stack([s.covariance for s in states])
    return State(mean.view(*lead, *mean.shape[1:]), P.view(*lead, *P.shape[1:]))


def started(method: Method, mean: Tensor, covariance: Tensor) -> Method:
    """The method, its model from another first state on."""
    if isinstance(method, Chain):
        return Chain([started(m, mean, covariance) for m in method.methods])
    return method.started(mean, covariance) if isinstance(method, PhysicalMethod) else method


def _unfit(method: Method) -> ValueError:
    name = type(method).__name__
    if isinstance(method, Sequential):
        return ValueError(
            f"nk.{name} walks through time by itself, from one step to the next: give it the long record as one window."
        )
    return checks.refused(
        "method",
        method,
        "nk.KalmanSmoother, nk.WeakFourDVar, nk.OptimalInterpolation or nk.NeuralIncremental, or an nk.Chain that ends "
        "with one of them",
        "A season goes around the whole: nk.Seasonal(nk.Cycled(method, window=100), season).",
    )


def _check_in_time(observations: Observations) -> None:
    """Raises a ValueError for what cannot be cut along time."""
    if isinstance(observations.operator, OverWindow) or observations.errors.correlated_in_time:
        raise ValueError(
            "A record is cut into windows, and here an operator (nk.over_window, or of nk.grid with exact=True) or "
            "the errors (noise_covariance with other_time, or noise_length) go over all of it: reconstruct it as one "
            "window, without nk.Cycled, or use nk.grid without exact=True."
        )
