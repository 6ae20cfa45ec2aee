"""The lab in Jupyter: controls, a figure, one line about it, and one line that says what went wrong.

Controls only tell the model; the model only tells the view that there is something else to show.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from nida_kit import plots, setups
from nida_kit.experiment import METHODS, SCHEDULES, SETUPS
from nida_kit.lab.model import LabModel, guarded, presets
from nida_kit.lab.render import Renderer

_LABELLED = {"style": {"description_width": "110px"}}
_ALONE, _NUMBER, _SLIDER = {"width": "420px"}, {"width": "210px"}, {"width": "210px"}
_SET = ("system", "method", "temperatures", "schedule", "every", "components", "noise_std", "seed")  # parameters


def _paired(label: str, slider: widgets.Widget) -> widgets.HBox:
    """A slider beside a number that is linked to it and has the label: sliders have no accessible name."""
    kind = widgets.BoundedIntText if isinstance(slider, widgets.IntSlider) else widgets.BoundedFloatText
    number = kind(description=label, layout=_NUMBER, **_LABELLED)
    if kind is widgets.BoundedIntText:
        for bound in ("max", "min"):
            widgets.link((slider, bound), (number, bound))
    else:  # a logarithmic slider's bounds are exponents
        number.min, number.max, number.step = slider.base**slider.min, slider.base**slider.max, 0.01
    widgets.link((slider, "value"), (number, "value"))
    return widgets.HBox([number, slider])


class Lab(widgets.VBox):
    """The lab.

    Args:
        export: where "export figure" writes its PNG, and the JSON of its numbers beside it.
        params: where to start, see `experiment.Parameters`; the rest is the reference experiment's.

    Attributes:
        model: the state.
        controls: by name: system, method, temperatures, schedule, every, components, noise_std, seed, step.
        buttons: by name: the presets, "reset", "export figure".

    Raises:
        ValueError: parameters that there are not, or out of range.
    """

    def __init__(self, export: str | Path = "nida_lab.png", **params):
        self.model = LabModel(**params)
        self.export = Path(export)
        self.renderer = Renderer()
        self._syncing = False
        self.controls = _controls()
        self.buttons = {name: widgets.Button(description=name) for name in _button_names()}
        self.image, self.summary, self.status = _line("nida-image"), _line("nida-summary"), _line("nida-status")
        self.image.layout.height = f"{self.renderer.height + 8}px"
        super().__init__(_arranged(self))
        self.add_class("nida-lab")
        self._connect()
        self._sync()
        self._check()
        self._show()

    @property
    def figure(self):
        """The figure as it is shown, for `display` where no widget can live."""
        return self.renderer.figure

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
        actions = {"reset": self.model.reset, "export figure": self._export}
        action = actions.get(name, lambda: self.model.preset(name))
        return lambda _: guarded(self.model, action)

    def _export(self) -> None:
        plots.save(self.figure, self.export, self.model.numbers())
        self.summary.value = f"{escape(self.model.status)} Written to {escape(str(self.export))}."

    @contextmanager
    def _quietly(self):
        self._syncing = True
        try:
            yield
        finally:
            self._syncing = False

    def _sync(self) -> None:
        """Set the controls to the model's state."""
        p, c = self.model.params, self.controls
        setup = setups.load(SETUPS[p.system])
        with self._quietly():
            if c["components"].options != setup.system.labels.components:
                c["components"].options = setup.system.labels.components
            c["every"].max = p.steps or setup.steps
            c["step"].max = self.model.result.sizes["step"]
            c["step"].value = self.model.step
            for name in _SET:
                c[name].value = getattr(p, name)
        for name, button in self.buttons.items():
            button.disabled = name in _all_presets() and name not in presets(p.system)

    def _check(self) -> None:
        """Raises ValueError where the controls cannot show what the lab was asked to start with."""
        for name in _SET:
            asked, shown = getattr(self.model.params, name), self.controls[name].value
            if asked != shown:
                raise ValueError(
                    f"{name}={asked!r} is beyond what the lab's controls can show (it would be {shown!r})."
                )

    def _show(self) -> None:
        self.renderer.draw(self.model.shown)
        self.image.value = self.renderer.html(self.model.alt_text)
        self.summary.value = escape(self.model.status)
        self._report()

    def _report(self) -> None:
        error = escape(self.model.error)
        if error:
            self.summary.value = f"Still shown, the result before: {escape(self.model.status)}"
        self.status.value = f'<span role="alert" style="color: #b00020">{error}</span>' if error else ""


def _all_presets() -> list[str]:
    return list(dict.fromkeys(name for system in SETUPS for name in presets(system)))


def _button_names() -> list[str]:
    return [*_all_presets(), "reset", "export figure"]


def _line(css_class: str) -> widgets.HTML:
    """A line of text whose height does not change with it."""
    line = widgets.HTML(layout={"min_height": "32px"})
    line.add_class(css_class)
    return line


def _controls() -> dict[str, widgets.Widget]:
    def choice(label: str, options) -> widgets.Dropdown:
        return widgets.Dropdown(options=list(options), description=label, layout=_ALONE, **_LABELLED)

    def slider(kind=widgets.IntSlider, **bounds) -> widgets.Widget:
        return kind(readout=False, layout=_SLIDER, **bounds)

    return {
        "system": choice("system", SETUPS),
        "method": choice("method", METHODS),
        "temperatures": slider(min=1, max=8),
        "schedule": choice("schedule", SCHEDULES),
        "every": slider(min=1, max=32),
        "components": widgets.SelectMultiple(rows=3, description="observed", layout=_ALONE, **_LABELLED),
        "noise_std": slider(widgets.FloatLogSlider, min=-4, max=0, step=0.05),
        "seed": widgets.BoundedIntText(min=0, max=9999, description="seed", layout=_NUMBER, **_LABELLED),
        "step": slider(min=1, max=1),
    }


def _arranged(lab: Lab) -> list[widgets.Widget]:
    """The controls in two columns, then buttons, figure and lines."""
    c = lab.controls
    play = widgets.Play(min=1, max=1, interval=700, description="play the steps")
    for name in ("max", "value"):
        widgets.link((c["step"], name), (play, name))
    temperatures, step = _paired("temperatures", c["temperatures"]), _paired("shown step", c["step"])
    every, noise = _paired("every n-th step", c["every"]), _paired("noise [spread]", c["noise_std"])
    left = widgets.VBox([c["system"], c["method"], temperatures, c["schedule"], step])
    right = widgets.VBox([c["components"], every, noise, widgets.HBox([c["seed"], play])])
    return [widgets.HBox([left, right]), widgets.HBox(list(lab.buttons.values())), lab.image, lab.summary, lab.status]
