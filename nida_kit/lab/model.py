"""What any lab knows and does, without any browser: parameters in, a result or an error out."""

from __future__ import annotations

import os
import re
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import xarray as xr
from traitlets import HasTraits, Instance, Int, MetaHasTraits, Unicode

from nida_kit import checks
from nida_kit.lab.turns import in_turn
from nida_kit.notes import gathered

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
            with gathered() as said:
                self.result = self.compute()
        except Exception as error:
            self.failure = _text_of(error)
            raise
        self._ran, self._said = self.params, "\n".join(said)
        self.failure = self.error = ""
        self._reveal(self.opening)

    def _reveal(self, step: int) -> None:
        self.step = step
        self.status = self.about(self.shown) + cautioned({"note": self._said} if self._said else {})
        self.revision += 1


def check_beside(names: Sequence[str]) -> None:
    """Raises a ValueError where there are more than can be told apart."""
    if len(names) > MOST_BESIDE:
        raise ValueError(f"More than {MOST_BESIDE} methods beside another cannot be told apart: untick some.")


def listed(names: tuple[str, ...]) -> str:
    """Names, or how many there are."""
    return ", ".join(names) if len(names) <= 6 else f"{len(names)} components"
