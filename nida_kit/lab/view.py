"""Labs in Jupyter: controls, a figure, one line about it, and one line that says what went wrong.

Controls only tell the model; the model only tells the view that there is something else to show. A lab is composed from
the controls that a notebook needs:

>>> lab = Lab(method="EnKF", controls=("members", "inflation", "seed"))
>>> list(lab.controls)
['members', 'inflation', 'seed', 'step']
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from math import isclose, log
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import xarray as xr
from traitlets import validate

from nida_kit import checks, plots
from nida_kit.experiment import LARGE, SETUPS
from nida_kit.lab.model import LabModel, Model, guarded, preset_names
from nida_kit.lab.record import RecordModel
from nida_kit.lab.render import Drawing, Renderer
from nida_kit.lab.turns import in_turn
from nida_kit.methods.method import Method
from nida_kit.methods.robust import LAWS
from nida_kit.schedule import SCHEDULES
from nida_kit.state import COMPONENT, TIME, state_dims
from nida_kit.withheld import NONE

_LABELLED = {"style": {"description_width": "110px"}}
_ALONE, _NUMBER, _SLIDER = {"width": "420px"}, {"width": "210px"}, {"width": "210px"}
PLAY = "play the steps"
PAUSE = 0.7  # seconds between steps


class _InTurn(widgets.Widget):
    """A control of which each change is one turn, from the new value to the new picture, whoever makes it.

    A change that came while a lab sets its controls would be taken for the lab's own, and get lost; or it would break
    the link of a slider to its number.
    """

    @in_turn
    def __setattr__(self, name, value):
        super().__setattr__(name, value)

    @in_turn
    def set_state(self, sync_data):  # what the page sends
        super().set_state(sync_data)


def _in_turn(kind: type[widgets.Widget]) -> type[widgets.Widget]:
    return type(kind.__name__, (_InTurn, kind), {})


Dropdown, SelectMultiple = _in_turn(widgets.Dropdown), _in_turn(widgets.SelectMultiple)
IntSlider, FloatSlider = _in_turn(widgets.IntSlider), _in_turn(widgets.FloatSlider)
BoundedIntText, BoundedFloatText = _in_turn(widgets.BoundedIntText), _in_turn(widgets.BoundedFloatText)


def choice(label: str, options: Sequence[str] = ()) -> widgets.Dropdown:
    """One of some."""
    return Dropdown(options=list(options), description=label, layout=_ALONE, **_LABELLED)


def several(label: str, rows: int) -> widgets.SelectMultiple:
    """Any of some."""
    return SelectMultiple(rows=rows, description=label, layout=_ALONE, **_LABELLED)


def whole(low: int, high: int) -> widgets.IntSlider:
    """A slider of whole numbers."""
    return IntSlider(low, low, high, readout=False, layout=_SLIDER)


def even(low: float, high: float, step: float) -> widgets.FloatSlider:
    """A slider of numbers."""
    return FloatSlider(low, min=low, max=high, step=step, readout=False, layout=_SLIDER)


class LogSlider(_InTurn, widgets.FloatLogSlider):
    """A slider of powers of ten that changes only where it is moved, and then in steps of two digits.

    The front end rounds the exponent to the slider's step. Updated continuously it would also send that back when it is
    only shown, or set from Python: 0.05 would become 0.0501187.
    """

    @validate("value")
    def _validate_value(self, proposal):
        value = super()._validate_value(proposal)
        step = self.base ** (round(log(value, self.base) / self.step) * self.step)
        return float(f"{value:.2g}") if isclose(value, step, rel_tol=1e-9) else value


def logarithmic(low: float, high: float) -> widgets.FloatLogSlider:
    """A slider of powers of ten."""
    return LogSlider(10**low, min=low, max=high, step=0.05, continuous_update=False, readout=False, layout=_SLIDER)


def paired(label: str, control: widgets.Widget) -> widgets.Widget:
    """A slider beside a number that is linked to it and has the label, for sliders have no accessible name.

    Any other control has a label of its own.
    """
    if not isinstance(control, widgets.IntSlider | widgets.FloatSlider | widgets.FloatLogSlider):
        return control
    kind = BoundedIntText if isinstance(control, widgets.IntSlider) else BoundedFloatText
    number = kind(description=label, layout=_NUMBER, **_LABELLED)
    if isinstance(control, widgets.FloatLogSlider):  # whose bounds are exponents
        number.min, number.max, number.step = control.base**control.min, control.base**control.max, 0.01
        # What an experiment prescribes may have more digits than anyone reads; the slider keeps them.
        widgets.link((control, "value"), (number, "value"), (lambda value: float(f"{value:.4g}"), float))
        return widgets.HBox([number, control])
    number.step = control.step
    for trait in ("max", "min", "value"):
        widgets.link((control, trait), (number, trait))
    return widgets.HBox([number, control])


class Explorer(widgets.VBox):
    """A lab of any model.

    Args:
        model: the state.
        controls: by the name of their parameter, with a label; `step`, if there is one, moves through the result, and
            can be played.
        presets: names of buttons.
        drawing: how a dataset is drawn.
        export: where "export figure" writes its PNG, and PDF and JSON of its numbers beside it.
        rows: of panels that the figure has room for.
        actions: of further buttons, by their names.

    Attributes:
        model: the state.
        controls: by name.
        buttons: by name: the presets, "reset", "play the steps" if there are steps, "export figure", and the actions.

    Raises:
        ValueError: the controls cannot show what the model starts with.
    """

    @in_turn
    def __init__(
        self,
        model: Model,
        controls: dict[str, tuple[str, widgets.Widget]],
        presets: Sequence[str],
        drawing: Callable[[xr.Dataset], Drawing],
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
        self.controls = {name: control for name, (_, control) in controls.items()}
        names = (*presets, *self._actions)
        self.buttons = {name: widgets.Button(description=name, layout={"width": "auto"}) for name in names}
        self.image, self.summary, self.status = _line("nida-image"), _line("nida-summary", 3), _line("nida-status")
        self._lines = {name: paired(label, control) for name, (label, control) in controls.items()}
        super().__init__([*self._arranged(list(self._lines.values())), self.image, self.summary, self.status])
        self.add_class("nida-lab")
        self._connect()
        self._sync()
        self._check()
        self._show()

    @property
    def figure(self):
        """The figure as it is shown, for `display` where no widget can live."""
        return self.renderer.figure

    def _arranged(self, lines: list[widgets.Widget]) -> list[widgets.Widget]:
        """The controls in two columns, or one where the page is narrow, then the buttons."""
        half = (len(lines) + 1) // 2
        wrapped = widgets.Layout(flex_flow="row wrap", width="100%")
        columns = [widgets.VBox(some) for some in (lines[:half], lines[half:]) if some]
        return [widgets.Box(columns, layout=wrapped), widgets.Box(list(self.buttons.values()), layout=wrapped)]

    def _connect(self) -> None:
        for name, control in self.controls.items():
            control.add_class(f"nida-{name.replace('_', '-')}")
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
            self._playing = asyncio.get_running_loop().create_task(self._steps())
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
        usable = {*self.model.presets(), *self._actions} - ({PLAY} if self.model.steps == 1 else set())
        for name, button in self.buttons.items():
            button.disabled = name not in usable

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
        unused = self.model.unused()
        for name, line in self._lines.items():
            for part in (line, *getattr(line, "children", ())):
                part.disabled = name in unused

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
        error, before = escape(self.model.error), "Still shown, the result before: " if self.model.failure else ""
        self.summary.value = f"{before}{escape(self.model.status)}"
        self.status.value = f'<span role="alert" style="color: #b00020">{error}</span>' if error else ""


def _line(css_class: str, lines: int = 1) -> widgets.HTML:
    """Text with room for some lines: what is below does not move as long as they suffice."""
    line = widgets.HTML(layout={"min_height": f"{28 * lines}px"})
    line.add_class(css_class)
    return line


def _panels(ds: xr.Dataset) -> tuple:
    """What must stay the same for a reconstruction's panels to be updated."""
    others = tuple(ds["other"].values) if "other" in ds else ()
    return *(tuple(ds[dim].values) for dim in (TIME, *state_dims(ds["mean"]))), tuple(ds.data_vars), others


_TRAJECTORIES = Drawing(plots.make, plots.update, _panels)
_FIELD = Drawing(plots.make_field, plots.update_field, _panels)

CONTROLS: dict[str, tuple[str, Callable[[], widgets.Widget]]] = {
    "system": ("system", lambda: choice("system", SETUPS)),
    "method": ("method", lambda: choice("method")),
    "beside": ("beside it", lambda: several("beside it", rows=3)),
    "temperatures": ("temperatures", lambda: whole(1, 8)),
    "schedule": ("schedule", lambda: choice("schedule", SCHEDULES)),
    "members": ("members", lambda: whole(2, 100)),
    "inflation": ("inflation", lambda: even(0.9, 1.5, 0.01)),
    "radius": ("radius [sites]", lambda: even(0.5, 20.0, 0.5)),
    "particles": ("particles", lambda: whole(10, 5000)),
    "components": ("observed", lambda: several("observed", rows=3)),
    "every": ("every n-th step", lambda: whole(1, 32)),
    "noise_std": ("noise [spread]", lambda: logarithmic(-4, 0)),
    "seed": (
        "seed",
        lambda: BoundedIntText(min=0, max=9999, description="seed", layout=_NUMBER, **_LABELLED),
    ),
    "window": ("window", lambda: whole(0, 1)),
    "share": ("hide share", lambda: even(0.0, 0.9, 0.05)),
    "component": ("hide all of", lambda: choice("hide all of")),
    "begin": ("hide from step", lambda: whole(0, 1)),
    "length": ("hide steps", lambda: whole(0, 1)),
    "noise": ("noise factor", lambda: logarithmic(-1, 1)),
    "robust": ("robust", lambda: choice("robust", (NONE, *LAWS))),
    "moment": ("map of step", lambda: whole(0, 1)),
    "step": ("shown step", lambda: whole(1, 1)),
}
"""Label and maker of each control, by the parameter that it sets."""

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
        **params,
    ):
        if observations is None:
            for name, given in (("prior", prior), ("methods", methods)):
                if given is not None:
                    raise ValueError(f"{name}= is for observations of your own: give observations=, or system= alone.")
            model: Model = LabModel(**params)
            names: Sequence[str] = USUAL
        else:
            model = RecordModel(observations, prior, methods, **params)
            names = (*OF_RECORD, *(["moment"] if model.of_plane else []))
        names = names if controls is None else checks.names("controls", controls)
        checks.known("controls", names, CONTROLS)
        made = {name: (CONTROLS[name][0], CONTROLS[name][1]()) for name in dict.fromkeys((*names, "step"))}
        presets = _presets_of(model, "system" in names)
        actions = {"save result": self._save} if isinstance(model, RecordModel) else {}
        super().__init__(model, made, presets, _drawing, export, actions=actions)

    def _save(self) -> None:
        path = self.export.with_suffix(".nc")
        self.model.save(path)
        self._written(path)


def _presets_of(model: Model, of_all: bool) -> list[str]:
    """Names of the model's presets, and of those of the other systems that it can change to."""
    names = [*model.presets(), *(name for system in SETUPS if of_all for name in preset_names(system))]
    return list(dict.fromkeys(names))


def _drawing(ds: xr.Dataset) -> Drawing:
    few = state_dims(ds["mean"]) == (COMPONENT,) and ds.sizes[COMPONENT] <= LARGE
    return _TRAJECTORIES if few else _FIELD
