"""Handles over a figure: what is drawn there can be dragged there.

A handle is a slider of ipywidgets, laid over a panel so that it moves along one of the panel's axes. So it works
wherever the controls do, and has the arrow keys as they have.

Along x it is the control's own slider, shown once more. Along y it must be another one, for a slider lies or stands;
that one tells its value only when it is let go. A page that is told a slider's value sends it back, rounded anew: of
two sliders that follow each other while one is dragged, the other would send back what is out of date.

>>> from nida_kit.lab.controls import even
>>> from nida_kit.plots import figure
>>> ax = figure().add_axes((0.1, 0.2, 0.8, 0.6), xlim=(-4, 4), ylim=(-4, 4))
>>> control = even(-2.0, 2.0, 0.1)
>>> grip = handle(ax, "y", control, "drag the value", "measurement")
>>> grip.layout.bottom, grip.layout.height
('35.000%', '30.000%')
>>> grip.children[0].value = 1.5
>>> control.value
1.5
"""

from __future__ import annotations

from html import escape

import ipywidgets as widgets
from matplotlib.axes import Axes

from nida_kit.lab.controls import even
from nida_kit.plots import BLUE
from nida_kit.plots.line import ORANGE

COLOURS = {"prior": BLUE, "measurement": ORANGE}  # of grips, by what they drag
# The origin is the point of a slider where its handle hangs. It gets the size of the panel across the slider, and the
# handle with it: one need not aim. What ipywidgets says of sliders in rows is taken back.
_RULES = """
.nida-stage:has(.nida-handle) .nida-figure { max-width: 100%; }
.nida-lab .nida-handle { position: absolute; display: block; margin: 0; pointer-events: none; overflow: visible;
  min-width: 0; }
.nida-lab .nida-handle > .widget-slider, .nida-lab .nida-handle .slider-container,
.nida-lab .nida-handle .noUi-target { position: absolute; inset: 0;
  margin: 0; width: auto; height: auto; border: none; background: none; box-shadow: none; }
.nida-lab .nida-handle .noUi-connects { visibility: hidden; }
.nida-lab .nida-handle .noUi-horizontal .noUi-origin { height: 100%; }
.nida-lab .nida-handle .noUi-vertical .noUi-origin { width: 100%; }
.nida-lab .nida-handle .noUi-target .noUi-handle { pointer-events: auto; border: none !important; border-radius: 3px;
  background: none !important; box-shadow: none; outline: none; }
.nida-lab .nida-handle .noUi-horizontal .noUi-handle { width: 40px; right: -20px; top: 0; bottom: 0; height: auto;
  cursor: ew-resize; }
.nida-lab .nida-handle .noUi-vertical .noUi-handle { height: 30px; top: -15px; left: 0; right: 0; width: auto;
  cursor: ns-resize; }
.nida-lab .nida-handle .noUi-handle::before { content: ""; position: absolute; display: block; box-sizing: border-box;
  width: 16px; height: 16px; border-radius: 8px; border: 4px solid var(--nida-grip); background: white; }
.nida-lab .nida-handle .noUi-horizontal .noUi-handle::before { left: 12px; top: 2px; }
.nida-lab .nida-handle .noUi-vertical .noUi-handle::before { left: 2px; top: 7px; }
.nida-lab .nida-handle .noUi-handle:hover::before, .nida-lab .nida-handle .noUi-active::before {
  background: var(--nida-grip); }
.nida-lab .nida-handle .noUi-handle:focus-visible { outline: 2px solid var(--nida-grip); }
.nida-lab .nida-handle > .widget-html { position: absolute; left: 6px; top: 4px; width: auto; height: 18px;
  line-height: 18px; padding: 0 5px; margin: 0; border-radius: 3px;
  background: white; color: black; opacity: 0; z-index: 3; }
.nida-lab .nida-handle:hover > .widget-html, .nida-lab .nida-handle:focus-within > .widget-html { opacity: 1; }
.nida-lab.jupyter-widgets-disconnected .nida-handle { display: none; }
"""
_GRIPS = "".join(f".nida-grip-{what} {{ --nida-grip: {colour}; }}\n" for what, colour in COLOURS.items())
STYLE = f"<style>{_RULES}{_GRIPS}</style>"


def handle(ax: Axes, along: str, control: widgets.FloatSlider, label: str, what: str) -> widgets.Box:
    """A handle over a panel that shows the value of a control on one of its axes.

    Args:
        ax: the panel, whose place and limits stay as they are now.
        along: "x" or "y", the axis.
        control: whose value it shows and sets.
        label: shown while the mouse rests on it.
        what: is dragged, one of `COLOURS`.

    Returns:
        A box of the slider and its label.
    """
    box, (low, high) = ax.get_position(), getattr(ax, f"get_{along}lim")()
    share, begin = (control.max - control.min) / (high - low), (control.min - low) / (high - low)
    left, bottom, width, height = box.bounds
    if along == "x":
        left, width = left + begin * width, share * width
    else:
        bottom, height = bottom + begin * height, share * height
    grip = widgets.Box([control if along == "x" else _standing(control), widgets.HTML(escape(label))])
    places = {"left": left, "bottom": bottom, "width": width, "height": height}
    for name, place in places.items():
        setattr(grip.layout, name, f"{100 * place:.3f}%")
    grip.add_class("nida-handle")
    grip.add_class(f"nida-grip-{what}")
    return grip


def _standing(control: widgets.FloatSlider) -> widgets.FloatSlider:
    slider = even(control.min, control.max, control.step)
    slider.orientation, slider.continuous_update = "vertical", False
    widgets.link((control, "value"), (slider, "value"))
    return slider
