"""Values that a method is not shown: how well does it know them?

Of a record of the real world no truth is known. So some of what was observed is hidden, the method reconstructs from
the rest, and what it says of the hidden values is held against them. They are cut away before anything else happens:
no method, climatology or note sees them.

>>> import nida_kit as nk
>>> truth = nk.Lorenz63().simulate(samples=1, steps=32, dt=0.05, seed=0)
>>> record = read(nk.observe(truth, components=["x", "z"], every=2, noise_std=0.4, seed=1), prior="lorenz63")
>>> result = run(record, Parameters(share=0.25, seed=3))
>>> result.attrs["withheld"], result.attrs["shown"]
(8, 24)
>>> bool(result.attrs["rmse"] < 0.5)  # in standard deviations of the record
True
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import xarray as xr

from nida_kit import checks
from nida_kit.edge import COVARIANCE, NOISE, in_state_units, label, load_observations, read_observations
from nida_kit.evaluate import BAND
from nida_kit.methods.cycled import cut
from nida_kit.methods.interpolation import ClimatologicalForecast, OptimalInterpolation
from nida_kit.methods.method import Method, unused
from nida_kit.methods.neural import NeuralIncremental
from nida_kit.methods.robust import LAWS
from nida_kit.priors.climatology import Climatology
from nida_kit.priors.weights import load
from nida_kit.schedule import SCHEDULES
from nida_kit.state import COMPONENT, TIME

NONE = "none"  # a choice: no component, no law
MOST = 256  # steps of a window of a longer record


@dataclass(frozen=True)
class Parameters:
    """What is hidden, and who reconstructs it.

    Attributes:
        window: which one of the record, counted from 0.
        share: of the observed values that are hidden at random, 0 to 0.9; those of a smaller share are among those of a
            larger one.
        component: all values of it are hidden; "none" hides none so.
        begin: step at which a block of time is hidden, counted from 0.
        length: steps of that block; 0 is no block.
        noise: the factor by which the errors are said to be larger than the record says.
        method: one of the record's; empty is the first.
        beside: more of them, to compare with.
        temperatures: steps of a network.
        schedule: how they fall, one of `schedule.SCHEDULES`.
        robust: "student" or "huber", or "none" for normal errors.
        seed: of what is hidden at random.
        moment: step at which a field on a plane is drawn.
    """

    window: int = 0
    share: float = 0.2
    component: str = NONE
    begin: int = 0
    length: int = 0
    noise: float = 1.0
    method: str = ""
    beside: tuple[str, ...] = ()
    temperatures: int = 4
    schedule: str = "linear"
    robust: str = NONE
    seed: int = 0
    moment: int = 0

    def __post_init__(self):
        for name, least in (("window", 0), ("begin", 0), ("length", 0), ("moment", 0), ("temperatures", 1)):
            checks.store(self, **{name: checks.count(name, getattr(self, name), least)})
        checks.store(self, share=checks.within("share", self.share, 0.0, 0.9))
        checks.store(self, noise=checks.positive("noise", self.noise), seed=checks.seed(self.seed))
        for name, allowed in (("schedule", SCHEDULES), ("robust", (NONE, *LAWS))):
            checks.store(self, **{name: checks.one_of(name, getattr(self, name), allowed)})
        for name in ("method", "component"):
            checks.text(name, getattr(self, name))
        checks.store(self, beside=checks.names("beside", self.beside))


@dataclass(frozen=True, eq=False)
class Record:
    """A user's own observations, and the methods that can reconstruct them.

    Attributes:
        obs: all of them, in the state's units and along its labels: `value`, and `noise_std` or `noise_covariance`.
        noise: standard deviation of the error of each value.
        methods: by name.
        steps: of a window; a longer record is cut into windows of so many.
        notes: what to say of what was read.
    """

    obs: xr.Dataset
    noise: xr.DataArray
    methods: Mapping[str, Method]
    steps: int
    notes: Sequence[str]

    @property
    def _sizes(self) -> dict:
        """Of the dims along which the windows lie, and how many pieces each has along time."""
        value, own = self.obs["value"], next(iter(self.methods.values())).labels.dims
        return {d: n for d, n in value.sizes.items() if d not in (TIME, *own)} | {TIME: len(self._pieces)}

    @property
    def _pieces(self) -> list[range]:
        """Steps of each window along time; the last one ends where the record does."""
        return [piece.steps for piece in cut(self.obs.sizes[TIME], self.steps, overlap=0, share=0.0)]

    @property
    def windows(self) -> int:
        """How many there are."""
        return math.prod(self._sizes.values())

    @property
    def components(self) -> tuple[str, ...]:
        """What was observed; none of a field."""
        value = self.obs["value"]
        if COMPONENT not in value.dims:
            return ()
        seen = value.notnull().any([d for d in value.dims if d != COMPONENT])
        return tuple(value[COMPONENT].values[seen.values].tolist())

    def window(self, number: int) -> tuple[xr.Dataset, xr.DataArray]:
        """One of them, and the standard deviations of its errors.

        Raises:
            ValueError: there is no such window.
        """
        checks.count("window", number, 0, self.windows - 1)
        places = dict(zip(self._sizes, np.unravel_index(number, tuple(self._sizes.values())), strict=True))
        steps = self._pieces[places[TIME]]
        at = places | {TIME: slice(steps.start, steps.stop)}
        labels = [d for d in places if d != TIME and d in self.obs.coords]  # of the window, which files may not hold
        return self.obs.isel(at).drop_vars(labels), self.noise.isel(at).drop_vars(labels)

    @cached_property
    def spread(self) -> xr.DataArray:
        """The standard deviation of all values, of each component: the unit of errors.

        A component whose values do not vary counts in standard deviations of their errors.
        """
        value = self.obs["value"]
        over = [d for d in value.dims if d != COMPONENT]
        varies = value.std(over) > 1e-9 * abs(value).max(over)
        return value.std(over).where(varies, self.noise.where(value.notnull()).mean(over))


def read(
    observations: str | Path | xr.Dataset,
    prior: str | Path | None = None,
    methods: Mapping[str, Method] | None = None,
    steps: int | None = None,
    flag: Hashable | Sequence[Hashable] | None = None,
) -> Record:
    """A record, and the methods that a prior and the user give.

    Args:
        observations: a file, or what `nk.load_observations` and `nk.grid` return.
        prior: shipped weights by name, or what `nk.save` wrote: a network serves itself, and its climatology optimal
            interpolation; a climatology serves the latter.
        methods: more of them, by name, as `{"smoother": nk.KalmanSmoother(system, 0.1)}`.
        steps: of a window; None is the whole record, or 256 of a longer one.
        flag: of good values, as in `nk.load_observations`.

    Raises:
        ValueError: no file of observations, no prior and no method, or observations that do not fit them.
    """
    found = _served(prior) | _given(methods)
    if not found:
        raise ValueError('Nothing can reconstruct these observations: give prior="mine.safetensors", or methods={...}.')
    first = next(iter(found))
    labels = found[first].labels
    for name, method in found.items():
        if method.labels != labels:
            raise ValueError(
                f"A lab compares methods of one state; {first!r} knows {labels}, {name!r} knows {method.labels}."
            )
    obs = load_observations(observations, flag).compute()
    for step in {method.dt for method in found.values()}:  # each is tried; what is read is the same
        tensors = read_observations(obs, labels, step)
    said = label({"value": (tensors.value, "observed value"), NOISE: (tensors.noise_std, "")}, tensors)
    about = obs.attrs | ({"converted": tensors.converted} if tensors.converted else {})
    values = xr.Dataset(said, tensors.coords, about)
    noise = values[NOISE]
    if COVARIANCE in obs:
        values = values.drop_vars(NOISE).assign({COVARIANCE: in_state_units(obs, labels)[COVARIANCE]})
    most = obs.sizes[TIME]
    steps = min(most, MOST) if steps is None else checks.count("steps", steps, 2, most)
    return Record(values, noise, found, steps, unused(obs))


def _served(prior: str | Path | None) -> dict[str, Method]:
    """What a file of weights serves."""
    if prior is None:
        return {}
    found, _ = load(prior)
    by_climate = {
        "optimal interpolation": OptimalInterpolation.load(prior),
        "climatology": ClimatologicalForecast.load(prior),
    }
    return (
        by_climate if isinstance(found, Climatology) else {"neural": NeuralIncremental.pretrained(prior)} | by_climate
    )


def _given(methods: Mapping[str, Method] | None) -> dict[str, Method]:
    """What the user names."""
    example = 'Try methods={"smoother": nk.KalmanSmoother(system, 0.1)}.'
    checks.instance("methods", methods, Mapping | None, "a mapping from names to methods", example)
    for name, method in (methods or {}).items():
        checks.text("a method's name", name)
        checks.instance(f"methods[{name!r}]", method, Method, "a method of nida_kit", example)
    return dict(methods or {})


def hide(value: xr.DataArray, p: Parameters) -> xr.DataArray:
    """Which of the observed values of a window are hidden, as true and false."""
    seen = value.notnull()
    where = np.flatnonzero(seen.values)
    chosen = np.random.default_rng(p.seed).permutation(where)[: round(p.share * where.size)]
    flat = np.zeros(seen.size, bool)
    flat[chosen] = True
    hidden = seen.copy(data=flat.reshape(seen.shape))
    step = xr.DataArray(np.arange(value.sizes[TIME]), dims=TIME)
    hidden = hidden | ((step >= p.begin) & (step < p.begin + p.length))
    if p.component != NONE:
        hidden = hidden | (value[COMPONENT] == p.component)
    return (hidden & seen).transpose(*value.dims)


def run(record: Record, parameters: Parameters) -> xr.Dataset:
    """Hide values, reconstruct from the others, and compare.

    Returns:
        One window: `value`, what was shown; `hidden`, what was not; `first_guess`, and `mean`, `std`, `step_rmse` and
        `step_coverage` along `step`; if asked, `beside` and `beside_rmse` along `other`. Errors are those at hidden
        values, in standard deviations of the whole record; coverage is how many of them lie in their 90% interval,
        errors of measurement included, as large as `noise` says. Both are NaN where nothing is hidden. In `attrs` the
        method's records, the last step's `rmse` and `coverage_90`, how many values were `shown` and `withheld`, and
        `noise_rmse`, the error that a perfect reconstruction would have, since hidden values have errors themselves.

    Raises:
        ValueError: a window, component, time or method that the record has not.
    """
    p = _fitting(parameters, record)
    obs, noise = record.window(p.window)
    value, noise = obs["value"], noise * p.noise
    hidden = hide(value, p)
    told, withheld = _scaled(obs, p.noise).assign(value=value.where(~hidden)), value.where(hidden)
    robust = None if p.robust == NONE else p.robust
    result = _at_temperatures(record.methods[p.method], p).assimilate(told, robust=robust, trace=True)

    def errors(estimate: xr.DataArray) -> xr.DataArray:
        return _root_mean((estimate - withheld) / record.spread, value.dims)

    within = abs(result["mean"] - withheld) <= BAND * (result["std"] ** 2 + noise**2) ** 0.5
    coverage = within.where(hidden).mean(value.dims)
    kept = {"mean", "std", "first_guess", "observed", "misfit", "residual", "weight"}
    found = result.drop_vars(set(result) - kept).assign(
        value=told["value"], hidden=withheld, step_rmse=errors(result["mean"]), step_coverage=coverage
    )
    if p.beside:
        others = [
            _at_temperatures(record.methods[name], p).assimilate(told, robust=robust)["mean"] for name in p.beside
        ]
        beside = xr.concat(others, xr.Variable("other", list(p.beside)))
        found = found.assign(beside=beside, beside_rmse=errors(beside))
    notes = [*record.notes, *([result.attrs["note"]] if "note" in result.attrs else [])]
    return found.assign_attrs(
        {"note": "\n".join(notes)} if notes else {},
        rmse=float(found["step_rmse"][-1]),
        coverage_90=float(coverage[-1]),
        noise_rmse=float(_root_mean((noise / record.spread).where(hidden), value.dims)),
        shown=int(told["value"].notnull().sum()),
        withheld=int(hidden.sum()),
    )


def _fitting(p: Parameters, record: Record) -> Parameters:
    """The parameters, with a method of the record; an error where they are not of it."""
    names = list(record.methods)
    p = replace(p, method=p.method or names[0])
    for name in (p.method, *p.beside):
        checks.one_of("method", name, names, "These are the methods that this record has.")
    if len({p.method, *p.beside}) < 1 + len(p.beside):
        raise ValueError(f"method={p.method!r}, beside={p.beside} name a method twice: name each once.")
    checks.one_of("component", p.component, (NONE, *record.components), "These were observed.")
    for name in ("begin", "moment"):
        checks.count(name, getattr(p, name), 0, record.steps - 1)
    checks.count("length", p.length, 0, record.steps)
    return p


def _at_temperatures(method: Method, p: Parameters) -> Method:
    if isinstance(method, NeuralIncremental):
        return method.with_temperatures(p.temperatures, SCHEDULES[p.schedule])
    return method


def _scaled(obs: xr.Dataset, factor: float) -> xr.Dataset:
    """Observations whose errors are so many times larger."""
    if COVARIANCE in obs:
        return obs.assign({COVARIANCE: obs[COVARIANCE] * factor**2})
    return obs.assign({NOISE: obs[NOISE] * factor})


def _root_mean(x: xr.DataArray, over: tuple) -> xr.DataArray:
    return (x**2).mean(over) ** 0.5
