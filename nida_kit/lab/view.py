"""Labs in Jupyter: controls, a figure, one line about it, and one line that says what went wrong.

Controls only tell the model; the model only tells the view that there is something else to show.
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
from IPython.display import HTML, display

from nida_kit import plots
from nida_kit.lab.controls import labelled, switch
from nida_kit.lab.model import CAUTION, Model, guarded, listed
from nida_kit.lab.page import arranged, line, stage, still
from nida_kit.lab.render import Drawing, Renderer
from nida_kit.lab.turns import in_turn

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
