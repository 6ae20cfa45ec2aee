"""Labs in Jupyter: controls, a figure, one line about it, and one line that says what went wrong.

Controls only tell the model; the model only tells the view that there is something else to show. A lab is composed from
the controls that a notebook needs:

>>> lab = Lab(method="EnKF", controls=("members", "inflation", "seed"))
>>> list(lab.controls)
['members', 'inflation', 'seed', 'step']
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import xarray as xr
from IPython.display import HTML, display

from nida_kit import checks, plots
from nida_kit.experiment import LARGE, SETUPS
from nida_kit.lab.controls import choice, even, labelled, logarithmic, several, switch, typed, whole
from nida_kit.lab.model import CAUTION, LabModel, Model, guarded, listed, preset_names
from nida_kit.lab.page import arranged, line, stage, still
from nida_kit.lab.record import RecordModel
from nida_kit.lab.render import Drawing, Renderer
from nida_kit.lab.turns import in_turn
from nida_kit.methods.method import Method
from nida_kit.methods.robust import LAWS
from nida_kit.plots.style import colour_of_estimate
from nida_kit.schedule import SCHEDULES
from nida_kit.state import COMPONENT, TIME, state_dims
from nida_kit.withheld import NONE

PLAY = "play the steps"
PAUSE = 0.7  # seconds between steps
_HINTS = {
    "reset": "Back to where the lab began.",
    PLAY: "The estimates on the way, from the first step to the last.",
    "export figure": "Writes the figure as PNG and PDF, and its numbers as JSON.",
    "save result": "Writes what is shown, and what was withheld, as NetCDF.",
    "train": "From the first batch on; the notebook goes on meanwhile.",
    "forget": "Drops all that was measured, and measures this size anew.",
    "stop": "Ends the training after this batch; the best weights so far are kept.",
    "save weights": "Writes the weights and their card.",
}


@dataclass(frozen=True)
class Control:
    """What a lab says of a parameter, and how it is set.

    Attributes:
        label: in the page.
        hint: a sentence about it.
        make: a new control.
    """

    label: str
    hint: str
    make: Callable[[], widgets.Widget]


class Explorer(widgets.VBox):
    """A lab of any model.

    Args:
        model: the state.
        controls: by the name of their parameter; `step`, if there is one, moves through the result, and can be played.
        presets: names of buttons.
        drawing: how a dataset is drawn.
        export: where "export figure" writes its PNG, and PDF and JSON of its numbers beside it.
        rows: of panels that the figure has room for.
        actions: of further buttons, by their names.

    Attributes:
        model: the state.
        controls: by name.
        buttons: by name: the presets, "reset", "play the steps" if there are steps, "export figure", and the actions.
        stage: the figure, and what is laid over it.

    Raises:
        ValueError: the controls cannot show what the model starts with.
    """

    @in_turn
    def __init__(
        self,
        model: Model,
        controls: Mapping[str, Control],
        presets: Sequence[str],
        drawing: Drawing,
        export: str | Path,
        rows: float = 1,
        actions: Mapping[str, Callable[[], None]] | None = None,
    ):
        self._actions = {"reset": model.reset, "export figure": self._export, **(actions or {})}
        self._actions |= {PLAY: self._play} if "step" in controls else {}
        if Path(export).suffix != ".png":
            raise ValueError(f"export={str(export)!r} must end in .png; PDF, JSON and results have the same name.")
        self.model, self.export, self.renderer = model, Path(export), Renderer(drawing, rows)
        self._syncing = False
        self._playing: asyncio.Task | None = None
        self._labels = {name: control.label for name, control in controls.items()}
        self.controls = {name: control.make() for name, control in controls.items()}
        self._rows = {
            name: labelled(about.label, self.controls[name], about.hint, self._refuse)
            for name, about in controls.items()
        }
        self.buttons = {
            name: widgets.Button(description=name, tooltip=_HINTS.get(name, ""), layout={"width": "auto"})
            for name in (*presets, *self._actions)
        }
        self.image, self.summary, self.status = map(line, ("nida-image", "nida-summary", "nida-status"))
        self.caution = line("nida-caution")
        self.stage = stage(self.image)
        shown = [self.summary, self.status, self.stage, self.caution]
        super().__init__(arranged(shown, list(self._rows.values()), list(self.buttons.values())))
        self.add_class("nida-lab")
        self._connect()
        self._sync()
        self._check()
        self._show()

    @in_turn
    def _repr_mimebundle_(self, **kwargs):
        """The lab, and for all that cannot show one its picture and a line of text."""
        png = b64encode(self.renderer.png()).decode()
        data = super()._repr_mimebundle_(**kwargs) | {"image/png": png, "text/plain": self.model.alt_text}
        return data, {"image/png": {"width": self.renderer.width, "height": self.renderer.height}}

    def _ipython_display_(self, **kwargs) -> None:
        data, metadata = self._repr_mimebundle_()
        display(data, metadata=metadata, raw=True)
        renderer = self.renderer
        display(HTML(still(self.model_id, renderer.png(), renderer.width, renderer.height, self.model.status)))

    @property
    def figure(self):
        """The figure as it is shown, for `display` where no widget can live."""
        return self.renderer.figure

    def _connect(self) -> None:
        for name, control in self.controls.items():
            self._rows[name].add_class(f"nida-{name.replace('_', '-')}")
            control.observe(self._on_change(name), "value")
        for name, button in self.buttons.items():
            button.on_click(self._on_click(name))
        self.model.observe(lambda _: self._sync(), ["params", "revision"])
        self.model.observe(lambda _: self._show(), "revision")
        self.model.observe(lambda _: self._report(), "error")

    def _on_change(self, name: str) -> Callable[[Any], None]:
        def changed(change) -> None:
            if self._syncing:
                return
            if name == "step":
                guarded(self.model, lambda: self.model.show_step(change.new))
            else:
                guarded(self.model, lambda: self.model.set(**{name: change.new}))

        return changed

    def _refuse(self, why: str) -> None:
        def refuse() -> None:
            raise ValueError(why)

        guarded(self.model, refuse)

    def _on_click(self, name: str) -> Callable[[Any], None]:
        action = self._actions.get(name, lambda: self.model.preset(name))
        return lambda _: guarded(self.model, action)

    def _export(self) -> None:
        plots.save(self.figure, self.export, self.model.numbers)
        self._written(self.export)

    def _written(self, path: Path) -> None:
        self._report()
        self.summary.value += f" Written to {escape(str(path))}."

    def _play(self) -> None:
        """Show the steps one after the other, or stop that. Our own, for the buttons of `Play` have no names."""
        if self._playing:
            # The button may be served by another thread now than when it was pressed first.
            self._playing.get_loop().call_soon_threadsafe(self._playing.cancel)
        else:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                raise ValueError('Steps play in a notebook; here set lab.controls["step"].value.') from None
            self._playing = loop.create_task(self._steps())
            self._playing.add_done_callback(lambda _: self._played())
            self.buttons[PLAY].description = "stop playing"

    async def _steps(self) -> None:
        well = guarded(self.model, lambda: self.model.show_step(1))
        # Whatever is changed meanwhile is shown at its last step, and ends this.
        while well and self.model.step < self.model.steps:
            await asyncio.sleep(PAUSE)
            well = guarded(self.model, lambda: self.model.show_step(min(self.model.step + 1, self.model.steps)))

    @in_turn
    def _played(self) -> None:
        self._playing, self.buttons[PLAY].description = None, PLAY

    @contextmanager
    def _quietly(self):
        self._syncing = True
        try:
            yield
        finally:
            self._syncing = False

    def _sync(self) -> None:
        """Set the controls to the model's state."""
        with self._quietly():
            self._offer()
            for name, control in self.controls.items():
                if name == "step":
                    control.max = self.model.steps
                    control.value = self.model.step
                else:
                    control.value = getattr(self.model.params, name)
        presets = self.model.presets()
        usable = {*presets, *self._actions} - self.model.idle() - ({PLAY} if self.model.steps == 1 else set())
        for name, button in self.buttons.items():
            button.disabled = name not in usable
            button.tooltip = _HINTS.get(name) or self._told(presets.get(name, {}))

    def _told(self, changes: Mapping[str, Any]) -> str:
        """What a preset sets, by the labels of the controls."""
        shown = {self._labels[name]: value for name, value in changes.items() if name in self._labels}
        return ", ".join(f"{label}: {_text(value)}" for label, value in shown.items())

    def _offer(self) -> None:
        """Set what the controls can be set to, where that depends on the model's state."""
        for name, offered in self.model.offers().items():
            control = self.controls.get(name)
            if control is None:
                continue
            if isinstance(offered, int):
                control.max = offered
            elif control.options != offered:
                control.options = offered
        unused = self.model.unused() | ({"step"} if self.model.steps == 1 else set())
        for name, row in self._rows.items():
            switch(row, name not in unused)

    def _check(self) -> None:
        """Raises ValueError where the controls cannot show what the lab was asked to start with."""
        for name in set(self.controls) - {"step"}:
            asked, shown = getattr(self.model.params, name), self.controls[name].value
            if asked != shown:
                raise ValueError(
                    f"{name}={asked!r} is beyond what the lab's controls can show (it would be {shown!r})."
                )

    def _show(self) -> None:
        self.renderer.draw(self.model.shown)
        self.image.value = self.renderer.html(self.model.alt_text)
        self._report()

    def _report(self) -> None:
        error, before = escape(self._by_labels(self.model.error)), ""
        if self.model.failure:
            before = "Still shown, the result before: "
        said, caution, why = self.model.status.partition(CAUTION)
        self.summary.value = f"{before}{escape(said)}"
        self.caution.value = escape(self._by_labels(f"{caution}{why}".strip()))
        self.status.value = f'<span role="alert">{error}</span>' if error else ""

    def _by_labels(self, text: str) -> str:
        """What is said about parameters, with the labels of their controls in place of their names."""
        for name, label in self._labels.items():
            text = re.sub(rf"\b{name}=", f"{label} = ", text)
            text = re.sub(rf"\b{name}\b", label, text) if "_" in name else text  # others are words of English, too
        return text


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return listed(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


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
