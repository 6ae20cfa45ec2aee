"""The controls of labs, each with its label: lists, boxes to tick, and sliders beside a number that one can type.

>>> refused = []
>>> row = Row("members", whole(2, 100), "How many there are.", refused.append)
>>> row.number.value = 1000
>>> row.number.value, refused
(2.0, ['members takes whole numbers from 2 to 100, not 1000: it stays 2.'])
>>> row.number.value = 40
>>> row.control.value
40
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from math import isclose, log

import ipywidgets as widgets
from traitlets import Bool, Tuple, observe, validate

from nida_kit.lab.turns import in_turn

LABEL = "108px"  # of the longest label, "noise [clim. std]"
_LABELLED = {"style": {"description_width": LABEL}, "layout": {"width": "auto"}}
_NUMBER = {"style": {"description_width": LABEL}, "layout": {"width": "180px"}}


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


class _Dropdown(_InTurn, widgets.Dropdown):
    pass


class _Checkbox(_InTurn, widgets.Checkbox):
    pass


class _Number(_InTurn, widgets.FloatText):
    """It takes whatever is typed. Bounded ones, and those of whole numbers, make other numbers of it in silence."""


class Choices(_InTurn, widgets.HBox):
    """Any of some: a box to tick for each.

    Attributes:
        value: what is ticked.
        options: what can be.
        disabled: whether nothing can be ticked now.
    """

    value = Tuple()
    options = Tuple()
    disabled = Bool(False)

    def __init__(self, label: str):
        self.label, self._boxes = widgets.HTML(layout={"width": LABEL}), widgets.Box()
        self._setting = False
        super().__init__([self.label, self._boxes])
        self.name(label)
        self.add_class("nida-choices")

    def name(self, label: str, hint: str = "") -> None:
        """Set the label, and what a mouse that rests on it is told."""
        self.label.value = f'<span title="{escape(hint)}">{escape(label)}</span>'

    @observe("options")
    def _offered(self, change) -> None:
        for box in self._boxes.children:
            box.close()
        self._boxes.children = [_Checkbox(description=name, indent=False) for name in self.options]
        for box in self._boxes.children:
            box.layout.width = "auto"
            box.disabled = self.disabled
            box.observe(self._ticked, "value")
        self.value = tuple(name for name in self.options if name in self.value)
        self._tick()

    @observe("value")
    def _tick(self, change=None) -> None:
        self._setting = True
        try:
            for box in self._boxes.children:
                box.value = box.description in self.value
        finally:
            self._setting = False

    @observe("disabled")
    def _switched(self, change) -> None:
        for box in self._boxes.children:
            box.disabled = self.disabled

    def _ticked(self, change) -> None:
        if not self._setting:
            self.value = tuple(box.description for box in self._boxes.children if box.value)


def choice(options: Sequence[str] = ()) -> widgets.Dropdown:
    """One of some."""
    return _Dropdown(options=list(options), **_LABELLED)


def several() -> Choices:
    """Any of some."""
    return Choices("")


class _IntSlider(_InTurn, widgets.IntSlider):
    pass


class _Typed(_IntSlider):
    """Whole numbers so many that a slider would not find one: only the number is shown."""


class _Rounded(_InTurn):
    """A slider of numbers that are rounded here, and not in the page; how, each kind says by `_rounded`."""

    def set_state(self, sync_data):
        """Take what the page sends, rounded: a value that became another one here would be sent back.

        To a slider that has been moved on meanwhile that is an old value: a drag would end there, a key be lost.
        """
        rounded = {"value": self._rounded(sync_data["value"])} if "value" in sync_data else {}
        super().set_state(sync_data | rounded)


class _FloatSlider(_Rounded, widgets.FloatSlider):
    """A slider of which three steps of 0.1 are 0.3.

    The page rounds what it shows to the slider's step, and sends that back. So a value between two steps makes them
    finer while it is there.
    """

    _FINEST = 6  # digits more than the step has

    def __init__(self, low: float, high: float, step: float):
        self._coarse = step
        super().__init__(low, min=low, max=high, step=step, readout=False)

    def _rounded(self, value: float) -> float:
        return float(f"{value:.10g}")

    @validate("value")
    def _validate_value(self, proposal):
        value = self._rounded(super()._validate_value(proposal))
        self.step = next((step for step in self._steps() if _whole((value - self.min) / step)), self.step)
        return value

    def _steps(self) -> list[float]:
        return [float(f"{self._coarse * 10.0**-k:.10g}") for k in range(self._FINEST + 1)]


def _whole(number: float) -> bool:
    return abs(number - round(number)) < 1e-6


class _LogSlider(_Rounded, widgets.FloatLogSlider):
    """A slider of powers of ten that changes only where it is moved, and then in steps of two digits.

    The front end rounds the exponent to the slider's step. Updated continuously it would also send that back when it is
    only shown, or set from Python: 0.05 would become 0.0501187.
    """

    @validate("value")
    def _validate_value(self, proposal):
        return self._rounded(super()._validate_value(proposal))

    def _rounded(self, value: float) -> float:
        step = self.base ** (round(log(value, self.base) / self.step) * self.step)
        return float(f"{value:.2g}") if isclose(value, step, rel_tol=1e-9) else value


def whole(low: int, high: int, step: int = 1) -> widgets.IntSlider:
    """A slider of whole numbers: from the lowest on, every `step`-th."""
    return _IntSlider(low, low, high, step, readout=False)


def typed(low: int, high: int) -> widgets.IntSlider:
    """A whole number that is typed."""
    return _Typed(low, low, high)


def even(low: float, high: float, step: float) -> widgets.FloatSlider:
    """A slider of numbers."""
    return _FloatSlider(low, high, step)


def logarithmic(low: float, high: float) -> widgets.FloatLogSlider:
    """A slider of powers of ten."""
    return _LogSlider(10**low, min=low, max=high, step=0.05, continuous_update=False, readout=False)


class Row(widgets.HBox):
    """A slider, and a number that is linked to it and has the label, for sliders have no accessible name.

    The number shows at most six digits; what an experiment prescribes may have more, and the slider keeps them. A
    number that the slider cannot have is refused in a sentence, and the old one comes back.

    Attributes:
        control: the slider.
        number: that can be typed.
    """

    def __init__(self, label: str, control: widgets.Widget, hint: str, refuse: Callable[[str], None]):
        self.control, self._label, self._refuse = control, label, refuse
        self.number = _Number(description=label, tooltip=hint, **_NUMBER)
        self.number.step = 0.01 if isinstance(control, _LogSlider) else control.step
        self._show()
        control.layout.flex = "1 1 60px"
        control.observe(self._show, "value")
        self.number.observe(self._typed, "value")
        super().__init__([self.number] if isinstance(control, _Typed) else [self.number, control])

    @property
    def _shown(self) -> float:
        return float(f"{self.control.value:.{4 if isinstance(self.control, _LogSlider) else 6}g}")

    def _show(self, change=None) -> None:
        self.number.value = self._shown

    def _typed(self, change) -> None:
        if change.new == self._shown:
            return
        low, high = self._bounds()
        step = self.control.step if isinstance(self.control, _IntSlider) else 0
        if low <= change.new <= high and not (step and (change.new - low) % step):
            self.control.value = type(self.control.value)(change.new)
            return
        self._show()
        numbers = "whole numbers" if step else "numbers"
        bounds = f"from {low:g} to {high:g}" if low < high else f"of {low:g} alone"
        bounds += f" in steps of {step}" if step > 1 else ""
        self._refuse(f"{self._label} takes {numbers} {bounds}, not {change.new:g}: it stays {self._shown:g}.")

    def _bounds(self) -> tuple[float, float]:
        control = self.control
        if isinstance(control, _LogSlider):  # whose bounds are exponents
            return control.base**control.min, control.base**control.max
        return control.min, control.max


def labelled(label: str, control: widgets.Widget, hint: str, refuse: Callable[[str], None]) -> widgets.Widget:
    """What is shown of a control.

    Args:
        label: of it.
        control: that is labelled.
        hint: what a mouse that rests on the label is told.
        refuse: called with a sentence where a number is typed that the control cannot have.
    """
    if isinstance(control, widgets.IntSlider | widgets.FloatSlider | widgets.FloatLogSlider):
        return Row(label, control, hint, refuse)
    if isinstance(control, Choices):
        control.name(label, hint)
    else:
        control.description, control.tooltip = label, hint
    return control


def switch(shown: widgets.Widget, on: bool) -> None:
    """Let a control be used, or not."""
    for part in (shown.control, shown.number) if isinstance(shown, Row) else (shown,):
        part.disabled = not on
