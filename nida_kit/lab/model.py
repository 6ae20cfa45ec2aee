"""What the lab knows and does, without any browser: parameters in, a result or an error out.

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
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import xarray as xr
from traitlets import HasTraits, Instance, Int, Unicode

from nida_kit import setups
from nida_kit.evaluate import coverage
from nida_kit.experiment import SETUPS, Parameters, run


def guarded(model: LabModel, action: Callable[[], None]) -> None:
    """Run what a control asks for; an error becomes the model's, and is raised too if NIDA_STRICT=1.

    Jupyter would swallow it: a test that runs the notebook could not see it.
    """
    try:
        action()
    except Exception as error:
        model.error = str(error) or type(error).__name__
        if os.environ.get("NIDA_STRICT") == "1":
            raise


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
        "dense": paper | {"components": names, "every": law["every"] // 4},
        "noisy": paper | {"noise_std": 0.5},
    }
    return laws | ({"z only": paper | {"components": ("z",)}} if "z" in names else {})


def defaults(system: str = "lorenz63", **params: Any) -> Parameters:
    """The reference experiment's observation law, with whatever else is given; None is what the reference has.

    Raises:
        ValueError: parameters that there are not, or out of range.
    """
    known = list(Parameters.__dataclass_fields__)
    if unknown := sorted(set(params) - set(known)):
        raise ValueError(f"There are no parameters {unknown}; there are {known}.")
    given = {name: value for name, value in params.items() if value is not None}
    return replace(Parameters(system=system), **(presets(system)["paper"] | given))


class LabModel(HasTraits):
    """The state of a lab.

    Attributes:
        params: what the controls say.
        result: of the last run that succeeded, see `experiment.run`.
        step: which step of it is shown, counted from 1.
        status: one line about the result.
        error: why the last wish could not be met, or empty.
        revision: grows whenever there is something else to show (datasets cannot be compared in one word).
    """

    params = Instance(Parameters)
    result = Instance(xr.Dataset, allow_none=True)
    step = Int(1)
    status = Unicode()
    error = Unicode()
    revision = Int()

    def __init__(self, **params):
        super().__init__(params=defaults(**params))
        self._start = self.params
        self._run()

    def set(self, **changes: Any) -> None:
        """Change parameters and run. A new system starts with its own observation law.

        Raises:
            ValueError: parameters out of range, or nothing observed. The last result stays.
        """
        wanted = replace(self.params, **changes)
        if wanted.system != self.params.system:
            wanted = replace(wanted, **(presets(wanted.system)["paper"] | changes))
        self.params = wanted
        self._run()

    def reset(self) -> None:
        """Back to where the lab began."""
        self.params = self._start
        self._run()

    def preset(self, name: str) -> None:
        """Observe by one of the `presets` of the system.

        Raises:
            ValueError: no such preset.
        """
        known = presets(self.params.system)
        if name not in known:
            raise ValueError(f"There is no preset {name!r} for {self.params.system}; there are {list(known)}.")
        self.set(**known[name])

    def show_step(self, step: int) -> None:
        """Show an estimate on the way.

        Raises:
            ValueError: there is no such step.
        """
        if not 1 <= step <= self.result.sizes["step"]:
            raise ValueError(f"step={step}: the result has steps 1 to {self.result.sizes['step']}.")
        self._reveal(step)

    @property
    def shown(self) -> xr.Dataset:
        """The result at the step that is shown, which keeps its dim."""
        return self.result.isel(step=[self.step - 1])

    @property
    def alt_text(self) -> str:
        """What the figure shows, for those who do not see it."""
        p = self._ran
        return (
            f"{p.system}: truth, first guess, reconstruction by {p.method} with its 90% interval, and observations of "
            f"{', '.join(p.components)}: each component against time, and a phase portrait. {self.status}"
        )

    def numbers(self) -> dict[str, Any]:
        """Parameters and scores of the result, for the record of an exported figure."""
        scores = ("rmse", "first_guess_rmse", "coverage_90", "observed", "seconds")
        return asdict(self._ran) | {"step": self.step} | {name: self.result.attrs[name] for name in scores}

    def _run(self) -> None:
        self.result = run(self.params)
        self._ran = self.params
        self.error = ""
        self._reveal(self.result.sizes["step"])

    def _reveal(self, step: int) -> None:
        self.step = step
        self.status = summary(self.shown)
        self.revision += 1


def summary(ds: xr.Dataset) -> str:
    """A line about a dataset of one step."""
    about, last = ds.attrs, ds.isel(step=-1)
    covered = float(coverage(last["mean"], last["std"], ds["truth"]))
    return (
        f"RMSE {float(last['step_rmse']):.3f} against {about['first_guess_rmse']:.3f} for the first guess, in "
        f"climatological standard deviations; {covered:.0%} of the truth lies within the 90% interval; "
        f"{about['observed']} values observed; {about['seconds']:.2f} s."
    )
