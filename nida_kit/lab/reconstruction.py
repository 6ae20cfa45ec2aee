"""The lab of reconstructions: of a system that is simulated, or of observations of one's own.

It is composed from the controls that a notebook needs:

>>> lab = Lab(method="EnKF", controls=("members", "inflation", "seed"))
>>> list(lab.controls)
['members', 'inflation', 'seed', 'step']
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import xarray as xr

from nida_kit import checks, plots
from nida_kit.experiment import LARGE, SETUPS
from nida_kit.lab.controls import choice, even, logarithmic, several, typed, whole
from nida_kit.lab.model import Model
from nida_kit.lab.record import RecordModel
from nida_kit.lab.render import Drawing
from nida_kit.lab.simulated import LabModel, preset_names
from nida_kit.lab.view import Control, Explorer
from nida_kit.methods.method import Method
from nida_kit.methods.robust import LAWS
from nida_kit.plots.style import colour_of_estimate
from nida_kit.schedule import SCHEDULES
from nida_kit.state import COMPONENT, TIME, state_dims
from nida_kit.withheld import NONE


def _panels(ds: xr.Dataset) -> tuple:
    """What must stay the same for a reconstruction's panels to be updated."""
    others = tuple(ds["other"].values) if "other" in ds else ()
    dims = (TIME, *state_dims(ds["mean"]))
    return colour_of_estimate(ds), *(tuple(ds[dim].values) for dim in dims), tuple(ds.data_vars), others


_TRAJECTORIES = Drawing(plots.make, plots.update, _panels)
_ADDED = Drawing(plots.make_added, plots.update_added, _panels)
_FIELD = Drawing(plots.make_field, plots.update_field, _panels)

CONTROLS: dict[str, Control] = {
    "system": Control("system", "What moves, and is observed.", lambda: choice(SETUPS)),
    "method": Control("method", "Who reconstructs.", choice),
    "beside": Control("beside it", "Other methods, drawn as thin lines and scored, too.", several),
    "temperatures": Control("temperatures", "Steps of the network, from coarse to fine.", lambda: whole(1, 8)),
    "schedule": Control("schedule", "How the temperature falls from step to step.", lambda: choice(SCHEDULES)),
    "members": Control("members", "How many states an ensemble has.", lambda: whole(2, 100)),
    "inflation": Control("inflation", "Factor on an ensemble's deviations.", lambda: even(0.9, 1.5, 0.01)),
    "radius": Control("radius [sites]", "How far an observation reaches.", lambda: even(0.5, 20.0, 0.5)),
    "particles": Control("particles", "How many states a particle filter has.", lambda: whole(10, 5000)),
    "components": Control("observed", "The components that are measured.", several),
    "every": Control("every n-th step", "Steps from one measurement to the next.", lambda: whole(1, 32)),
    "noise_std": Control(
        "noise [clim. std]",
        "Error of a measurement, in climatological standard deviations.",
        lambda: logarithmic(-4, 0),
    ),
    "seed": Control("seed", "Another number, another experiment.", lambda: typed(0, 9999)),
    "window": Control("window", "Which window of the record, counted from 0.", lambda: whole(0, 1)),
    "share": Control("hide share", "Share of the values that are withheld at random.", lambda: even(0.0, 0.9, 0.05)),
    "component": Control("hide all of", "A component that is withheld.", choice),
    "begin": Control("hide from step", "Where a block of withheld steps begins.", lambda: whole(0, 1)),
    "length": Control("hide steps", "How long that block is; 0 is none.", lambda: whole(0, 1)),
    "noise": Control(
        "noise factor", "How much larger the errors are than the record says.", lambda: logarithmic(-1, 1)
    ),
    "robust": Control("robust", "A law of errors that forgives outliers.", lambda: choice((NONE, *LAWS))),
    "moment": Control("map of step", "The time that the maps show.", lambda: whole(0, 1)),
    "step": Control("shown step", "Which estimate on the way is shown.", lambda: whole(1, 1)),
}
"""What labs say of each parameter."""

OF_RECORD = (
    *("window", "method", "beside", "temperatures", "schedule", "robust"),
    *("share", "seed", "begin", "length", "component", "noise"),
)
USUAL = ("system", "method", "beside", "temperatures", "schedule", "components", "every", "noise_std", "seed")


class Lab(Explorer):
    """The lab of reconstructions: of a system that is simulated, or of observations of one's own.

    >>> import nida_kit as nk
    >>> truth = nk.Lorenz63().simulate(samples=2, steps=32, dt=0.05, seed=0)
    >>> lab = Lab(observations=nk.observe(truth, every=4, noise_std=0.4, seed=1), prior="lorenz63")
    >>> lab.controls["length"].value = 12  # these steps are withheld, and score the reconstruction
    >>> lab.model.result.attrs["withheld"]
    13

    Args:
        export: where "export figure" writes its PNG, and PDF and JSON of its numbers beside it; "save result" writes
            the NetCDF file of that name.
        controls: parameters that can be changed, some of `CONTROLS`; those that have none stay as they are.
        observations: a NetCDF file, or what `nk.load_observations` and `nk.grid` return. No truth is known of them:
            some are withheld from the methods, and errors and coverage are those at the withheld values. None simulates
            a system instead.
        prior: for these observations, shipped weights by name, or a file that `nk.save` wrote.
        methods: for these observations, more methods by name, as `{"smoother": nk.KalmanSmoother(system, 0.1)}`.
        added: whether the figure shows below each estimate what the step added, beside what was missing; of systems
            with few components. The lab then begins at the first step, not at the last.
        params: where to start, see `experiment.Parameters`, where the rest is the reference experiment's; with
            observations `withheld.Parameters`, `steps` of a window, and `flag` of good values, as in
            `nk.load_observations`.

    Attributes:
        model: the state.
        controls: by name, and `step`.
        buttons: by name: the presets, "reset", "play the steps", "export figure", and "save result" of observations.

    Raises:
        ValueError: controls, parameters or files that there are not, or that cannot be used.
    """

    def __init__(
        self,
        export: str | Path = "nida_lab.png",
        controls: Sequence[str] | None = None,
        observations: str | Path | xr.Dataset | None = None,
        prior: str | Path | None = None,
        methods: Mapping[str, Method] | None = None,
        added: bool = False,
        **params,
    ):
        if added and observations is not None:
            raise ValueError("added=True shows what was missing, and of observations of your own no truth is known.")
        if observations is None:
            for name, given in (("prior", prior), ("methods", methods)):
                if given is not None:
                    raise ValueError(f"{name}= is for observations of your own: give observations=, or system= alone.")
            model: Model = LabModel(from_first=added, **params)
            names: Sequence[str] = USUAL
        else:
            model = RecordModel(observations, prior, methods, **params)
            names = (*OF_RECORD, *(["moment"] if model.of_plane else []))
        names = names if controls is None else checks.names("controls", controls)
        checks.known("controls", names, CONTROLS)
        made = {name: CONTROLS[name] for name in dict.fromkeys((*names, "step"))}
        presets = _presets_of(model, "system" in names)
        actions = {"save result": self._save} if isinstance(model, RecordModel) else {}
        drawing = _drawing(_ADDED if added else _TRAJECTORIES)
        super().__init__(model, made, presets, drawing, export, rows=1.9, actions=actions)

    def _save(self) -> None:
        path = self.export.with_suffix(".nc")
        self.model.save(path)
        self._written(path)


def _presets_of(model: Model, of_all: bool) -> list[str]:
    """Names of the model's presets, and of those of the other systems that it can change to."""
    names = [*model.presets(), *(name for system in SETUPS if of_all for name in preset_names(system))]
    return list(dict.fromkeys(names))


def _drawing(few: Drawing, many: Drawing = _FIELD) -> Drawing:
    """One drawing for states of few components, and another one for all others."""

    def of(ds: xr.Dataset) -> Drawing:
        return few if state_dims(ds["mean"]) == (COMPONENT,) and ds.sizes[COMPONENT] <= LARGE else many

    return Drawing(
        lambda fig, ds: of(ds).make(fig, ds),
        lambda made, ds: of(ds).update(made, ds),
        lambda ds: (of(ds), of(ds).layout(ds)),
    )
