"""What a lab knows and does, without any browser: parameters in, a result or an error out.

>>> model = LabModel(samples=1)
>>> model.set(noise_std=0.3)
>>> model.result.attrs["observed"]
4
>>> model.preset("dense")
>>> model.result.attrs["observed"]
48
"""

from __future__ import annotations

import os
import re
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any

import xarray as xr
from traitlets import HasTraits, Instance, Int, MetaHasTraits, Unicode

from nida_kit import checks, setups
from nida_kit.experiment import LARGE, SETTINGS, SETUPS, Parameters, methods_of, run, settings_of
from nida_kit.lab.turns import in_turn
from nida_kit.notes import quiet
from nida_kit.state import COMPONENT

MOST_BESIDE = 3
CAUTION = " Caution: "  # before what is to be known of a result besides its scores


def cautioned(found: dict[str, Any]) -> str:
    r"""The first two sentences of each of a method's notes, if it left any: what is wrong, and what to do.

    >>> cautioned({"note": "It is 0.5 off. Try more iterations. It may be a bias.\nNothing is seen."})
    ' Caution: It is 0.5 off. Try more iterations. Nothing is seen.'
    """
    short = [" ".join(re.split(r"(?<=\.) ", note)[:2]) for note in found.get("note", "").splitlines()]
    return CAUTION + " ".join(short) if short else ""


@in_turn
def guarded(model: Model, action: Callable[[], None]) -> bool:
    """Run what a control asks for; an error becomes the model's, and is raised too if NIDA_STRICT=1.

    Jupyter would swallow it: a test that runs the notebook could not see it. The next action clears the error of this
    one. The error of parameters without a result stays until other parameters have one.

    Returns:
        Whether it went well.
    """
    model.error = model.failure
    try:
        action()
    except Exception as error:
        model.error = _text_of(error)
        if os.environ.get("NIDA_STRICT") == "1":
            raise
        return False
    return True


def _text_of(error: Exception) -> str:
    return str(error) or type(error).__name__


class _Meta(ABCMeta, MetaHasTraits):
    pass


class Model(HasTraits, metaclass=_Meta):
    """The state of a lab.

    Attributes:
        kind: of the parameters, a frozen dataclass.
        params: what the controls say, one of that kind.
        result: of the last run that succeeded.
        step: which step of it is shown, counted from 1.
        status: one line about the result.
        failure: why the parameters that were last asked for have no result, or empty.
        error: that, or why the last action failed, or empty.
        revision: grows whenever there is something else to show (datasets cannot be compared in one word).
    """

    kind: type
    params = Instance(object)
    result = Instance(xr.Dataset, allow_none=True)
    step = Int(1)
    status = Unicode()
    failure = Unicode()
    error = Unicode()
    revision = Int()

    def __init__(self, **params):
        self._start = self.started(params)
        super().__init__(params=self._start)
        self._run(lambda: self._start)

    def started(self, given: dict[str, Any]) -> Any:
        """The parameters to start with, of which some are given.

        Raises:
            ValueError: parameters that there are not, or out of range.
        """
        checks.known("parameters", given, self.kind.__dataclass_fields__)
        return self.kind(**given)

    @abstractmethod
    def compute(self) -> xr.Dataset:
        """The result of the parameters."""

    @abstractmethod
    def presets(self) -> dict[str, dict[str, Any]]:
        """Changes of parameters that have a name."""

    @abstractmethod
    def about(self, ds: xr.Dataset) -> str:
        """A line about what is shown."""

    @property
    @abstractmethod
    def alt_text(self) -> str:
        """What the figure shows, for those who do not see it."""

    @property
    @abstractmethod
    def numbers(self) -> dict[str, Any]:
        """Parameters and scores of the result, for the record of an exported figure."""

    def offers(self) -> dict[str, tuple | int]:
        """What controls can be set to, where that depends on the state, by parameter: choices or the largest number."""
        return {}

    def unused(self) -> set[str]:
        """Parameters that make no difference to what is asked for."""
        return set()

    def idle(self) -> set[str]:
        """Buttons that can do nothing now, by their names."""
        return set()

    @property
    def steps(self) -> int:
        """How many steps the result has."""
        return self.result.sizes.get("step", 1)

    @property
    def opening(self) -> int:
        """The step at which a new result is shown."""
        return self.steps

    @property
    def shown(self) -> xr.Dataset:
        """The result at the step that is shown, which keeps its dim."""
        return self.result.isel(step=[self.step - 1], missing_dims="ignore")

    @property
    def scores(self) -> dict[str, Any]:
        """Errors and coverage of what is shown, of results that have such, by name."""
        shown = self.shown.isel(step=0)
        found = {"rmse": float(shown["step_rmse"]), "coverage_90": float(shown["step_coverage"])}
        if "beside" not in shown:
            return found
        errors = map(float, shown["beside_rmse"])
        return found | {"beside_rmse": dict(zip(map(str, shown["other"].values), errors, strict=True))}

    def set(self, **changes: Any) -> None:
        """Change parameters and run.

        Raises:
            ValueError: parameters out of range, or with which there is no result. The last result stays.
        """
        self._run(lambda: self.changed(changes))

    def changed(self, changes: dict[str, Any]):
        """The parameters after a change; a model may let one change bring others."""
        return replace(self.params, **changes)

    def reset(self) -> None:
        """Back to where the lab began."""
        self._run(lambda: self._start)

    @in_turn
    def preset(self, name: str) -> None:
        """Make the changes of one of the `presets`.

        Raises:
            ValueError: no such preset.
        """
        known = self.presets()
        self.set(**known[checks.one_of("preset", name, known)])

    @in_turn
    def show_step(self, step: int) -> None:
        """Show an estimate on the way.

        Raises:
            ValueError: there is no such step.
        """
        self._reveal(checks.count("step", step, 1, self.steps))

    @in_turn
    def _run(self, wish: Callable[[], Any]) -> None:
        try:
            self.params = wish()
            self.result = self.compute()
        except Exception as error:
            self.failure = _text_of(error)
            raise
        self._ran = self.params
        self.failure = self.error = ""
        self._reveal(self.opening)

    def _reveal(self, step: int) -> None:
        self.step = step
        self.status = self.about(self.shown)
        self.revision += 1


def check_beside(names: Sequence[str]) -> None:
    """Raises a ValueError where there are more than can be told apart."""
    if len(names) > MOST_BESIDE:
        raise ValueError(f"More than {MOST_BESIDE} methods beside another cannot be told apart: untick some.")


def preset_names(system: str) -> list[str]:
    """Of the `presets` of a system."""
    components = setups.load(SETUPS[system]).system.labels.components
    return ["paper", "sparse", "dense", "noisy", *(["z only"] if "z" in components else [])]


@lru_cache(maxsize=8)
def presets(system: str) -> dict[str, dict[str, Any]]:
    """Observation laws by name, as changes of `Parameters`; "paper" is the reference experiment's own."""
    setup = setups.load(SETUPS[system])
    names, law = setup.system.labels.components, setup.law
    observed = tuple(law["components"])
    relative = (setup.noise / setup.spread.mean("time")).sel(component=list(observed))  # as `run` takes it
    paper = {"components": observed, "every": law["every"], "noise_std": round(float(relative.mean()), 12)}
    laws = {
        "paper": paper,
        "sparse": paper | {"every": 2 * law["every"]},
        "dense": paper | {"components": names, "every": max(law["every"] // 4, 1)},
        "noisy": paper | {"noise_std": 0.5},
        "z only": paper | {"components": ("z",)},
    }
    return {name: laws[name] for name in preset_names(system)}


def defaults(system: str = "lorenz63", **params: Any) -> Parameters:
    """The reference experiment's observation law, with whatever else is given; None is what the reference has.

    Raises:
        ValueError: parameters that there are not, or out of range.
    """
    checks.known("parameters", params, Parameters.__dataclass_fields__)
    given = {name: value for name, value in params.items() if value is not None}
    return replace(Parameters(system=system), **(presets(system)["paper"] | given))


class LabModel(Model):
    """Reconstructions of a shipped reference experiment, see `experiment.run`.

    Args:
        from_first: whether the lab begins at the first step of its result, and not at the last.
        params: of `experiment.Parameters`; the rest is the reference experiment's.
    """

    kind = Parameters

    def __init__(self, from_first: bool = False, **params):
        self._from_first = from_first
        super().__init__(**params)

    @property
    def opening(self):
        # What a control changes may be seen at the last step only, as how many steps there are.
        return 1 if self._from_first and self.params == self._start else self.steps

    def started(self, given):
        return defaults(**given)

    def compute(self):
        check_beside(self.params.beside)
        if not self.params.components:
            raise ValueError("Nothing is observed: tick at least one component.")
        with quiet():  # the line about the result repeats what is said
            return run(self.params)

    def presets(self):
        return presets(self.params.system)

    def offers(self):
        p = self.params
        setup, methods = setups.load(SETUPS[p.system]), tuple(methods_of(p.system))
        return {
            "components": setup.system.labels.components,
            "method": methods,
            "beside": tuple(name for name in methods if name != p.method),
            "every": p.steps or setup.steps,
        }

    def unused(self):
        p = self.params
        return set(SETTINGS).difference(*(settings_of(p.system, name) for name in (p.method, *p.beside)))

    def changed(self, changes):
        """A new system starts with its own observation law, and without the methods that do not serve it.

        A method is not beside itself.
        """
        p, kept = self.params, {}
        system = checks.one_of("system", changes.get("system", p.system), SETUPS)
        method = changes.get("method", p.method)
        serve = methods_of(system)
        if system != p.system:
            method = method if method in serve else serve[0]
            kept = presets(system)["paper"] | {"method": method}
        kept["beside"] = tuple(name for name in p.beside if name in serve and name != method)
        return super().changed(kept | changes)

    def about(self, ds):
        found, last = ds.attrs, ds.isel(step=-1)
        others = zip(ds["other"].values, ds["beside_rmse"].values, strict=True) if "beside" in ds else ()
        each = last["component_rmse"].to_series().items() if last.sizes[COMPONENT] <= LARGE else ()
        by_component = ", ".join(f"{name} {error:.3f}" for name, error in each)
        return (
            f"RMSE {float(last['step_rmse']):.3f} {f'({by_component}) ' if by_component else ''}against "
            f"{found['first_guess_rmse']:.3f} for the first guess"
            + "".join(f", {float(error):.3f} for {name}" for name, error in others)
            + f", in climatological standard deviations; {float(last['step_coverage']):.0%} of the truth lies within "
            f"the 90% interval; observed values: {found['observed']}; {found['seconds']:.2f} s." + cautioned(found)
        )

    @property
    def alt_text(self):
        p = self._ran
        if self.result.sizes["component"] > LARGE:
            return (
                f"{p.system}: images over components and time of the truth, the reconstruction by {p.method}, and its "
                f"error in posterior standard deviations, with crosses where {listed(p.components)} are observed. "
                f"{self.status}"
            )
        shows = "each component against time, and a phase portrait"
        return (
            f"{p.system}: truth, first guess, reconstruction by {' and '.join((p.method, *p.beside))} with the 90% "
            f"interval, and observations of {listed(p.components)}: {shows}. {self.status}"
        )

    @property
    def numbers(self):
        found = self.result.attrs
        about = {name: found[name] for name in ("first_guess_rmse", "observed", "seconds")}
        return asdict(self._ran) | {"step": self.step} | self.scores | about


def listed(names: tuple[str, ...]) -> str:
    """Names, or how many there are."""
    return ", ".join(names) if len(names) <= 6 else f"{len(names)} components"
