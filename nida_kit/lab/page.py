"""How a lab lies in its page: controls beside the figure, or below it where the page is narrow; and what stays of it.

A lab needs a kernel. While its page is open and the kernel has ended, the lab says so. Opened again from a file it is a
picture and a line of text, wherever there is no widget to show; JupyterLab alone shows an error in its place, and gets
the picture and what to do as the style of that error.
"""

from __future__ import annotations

from base64 import b64encode
from html import escape

import ipywidgets as widgets

from nida_kit.lab.handles import STYLE as HANDLES

GONE = "The kernel of this lab has ended or was restarted, so the controls do nothing. Run the cell again."
STILL = "This lab is a picture now, for no kernel runs it. Run the cell again to use it."

_SMALLER = 0.7  # of a picture's pixels: as large as it is beside the controls

# All sizes follow the width that the lab has, not that of the window: beside JupyterLab's file browser there is less.
# Colours are those of JupyterLab's theme; a figure has a white ground of its own in each.
STYLE = """<style>
.nida-lab { container-type: inline-size; --jp-widgets-inline-height: 26px; --jp-widgets-margin: 1px;
  color: var(--jp-ui-font-color1, #212121); }
.nida-lab > *, .nida-main > *, .nida-side > * { margin: 0; }
.nida-body { display: flex; flex-flow: row nowrap; align-items: flex-start; gap: 16px; overflow: visible; }
.nida-side { flex: 0 0 320px; min-width: 0; overflow: visible; }
.nida-main { flex: 1 1 0; min-width: 0; overflow: visible; }
.nida-controls { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 290px), 1fr));
  column-gap: 16px; align-items: start; padding-right: 2px; overflow: visible; }
.nida-controls > * { min-width: 0; margin: 1px 0; overflow: visible; }
.nida-buttons { display: flex; flex-flow: row wrap; gap: 4px; padding-top: 6px; overflow: visible; }
.nida-buttons .jupyter-button { margin: 0; }
.nida-choices > .widget-html { flex: 0 0 108px; text-align: right; margin-right: 8px; }
.nida-choices > .widget-box { flex: 1 1 0; min-width: 0; display: flex; flex-flow: row wrap; column-gap: 10px;
  max-height: 92px; overflow: hidden auto; }
.nida-choices .widget-checkbox, .nida-choices .widget-checkbox label { height: 22px; line-height: 22px; margin: 0; }
.nida-choices .widget-checkbox label { display: flex; align-items: center; }
.nida-choices .widget-checkbox input { margin: 0 5px 0 0; }
.nida-lab .widget-html-content { line-height: 18px; font-size: 13px; }
.nida-choices > .widget-html .widget-html-content { line-height: 22px; }
.nida-image .widget-html-content { line-height: 0; overflow-x: auto; }
.nida-stage { position: relative; display: block; width: fit-content; max-width: 100%; overflow: visible; }
.nida-stage > .nida-image { display: block; margin: 0; }
.nida-summary { min-height: 54px; }
.nida-status { min-height: 20px; }
.nida-status .widget-html-content { color: var(--jp-error-color1, #b00020); font-weight: 600; }
.nida-figure { display: block; max-width: 100%; height: auto; max-height: max(300px, 100vh - 300px); width: auto;
  background: white; }
.nida-gone { display: none; }
.nida-lab.jupyter-widgets-disconnected .nida-gone { display: block; margin: 0 0 6px; padding: 6px 10px;
  border-left: 4px solid var(--jp-warn-color1, #ef6c00); background: var(--jp-layout-color2, #eeeeee);
  color: var(--jp-ui-font-color1, #212121); }
.nida-lab.jupyter-widgets-disconnected .nida-side { opacity: 0.5; pointer-events: none; }
.nida-lab.jupyter-widgets-disconnected::before,
.nida-lab .jupyter-widgets-disconnected::before { content: none !important; }
@container (min-width: 1000px) {
  .nida-summary { min-height: 36px; }
}
@container (max-width: 760px) {
  .nida-body { flex-flow: column nowrap; align-items: stretch; gap: 6px; }
  .nida-main { order: -1; flex: none; }
  .nida-side { flex: none; }
  .nida-figure { max-height: none; }
}
@container (max-width: 420px) {
  .nida-figure { max-width: 420px; }
}
</style>"""


def arranged(
    shown: list[widgets.Widget], controls: list[widgets.Widget], buttons: list[widgets.Widget]
) -> list[widgets.Widget]:
    """The children of a lab.

    Args:
        shown: score, messages and figure, from above.
        controls: with their labels.
        buttons: below the controls.
    """
    note = widgets.HTML(f'{STYLE}{HANDLES}<p class="nida-gone" role="alert">{escape(GONE)}</p>')
    side = [_of_class("nida-controls", widgets.Box(controls)), _of_class("nida-buttons", widgets.Box(buttons))]
    parts = [_of_class("nida-side", widgets.VBox(side)), _of_class("nida-main", widgets.VBox(shown))]
    return [note, _of_class("nida-body", widgets.Box(parts))]


def _of_class(name: str, widget: widgets.Widget) -> widgets.Widget:
    widget.add_class(name)
    return widget


def stage(image: widgets.Widget) -> widgets.Box:
    """The figure, and room for what is laid over it: it is as large as the figure."""
    return _of_class("nida-stage", widgets.Box([image]))


def line(name: str) -> widgets.HTML:
    """Text with room for some lines: what is below does not move as long as they suffice."""
    return _of_class(name, widgets.HTML())


def still(key: str, png: bytes, width: int, height: int, said: str) -> str:
    """The style of the error that JupyterLab shows where a lab was, in the output before this one.

    Args:
        key: by which this output finds that one, another for each lab.
        png: what the lab showed at first.
        width: of the picture in pixels,
        height: likewise.
        said: the line about it.
    """
    mark = f"nida-still-{key}"
    lost = f".jp-OutputArea-child:has(+ .jp-OutputArea-child .{mark}) > .jupyter-widgets:not(:has(*))"
    data = b64encode(png).decode()
    return (
        f'<div class="{mark}"></div><style>.jp-OutputArea-child:has(.{mark}) {{ display: none }} '
        f"{lost} {{ font-size: 0; height: auto; overflow: visible; display: block }} "
        f"{lost}::before {{ content: {_quoted(STILL)} '\\A' {_quoted(said)}; white-space: pre-line; font-size: 13px; "
        "line-height: 18px; display: block; margin-bottom: 6px; color: var(--jp-ui-font-color1, #212121) } "
        f'{lost}::after {{ content: ""; display: block; max-width: {width * _SMALLER:.0f}px; '
        f"aspect-ratio: {width} / {height}; "
        f"background: white url(data:image/png;base64,{data}) center / contain no-repeat }}</style>"
    )


def _quoted(text: str) -> str:
    """A string as CSS within HTML has it."""
    return '"' + "".join(c if c.isalnum() or c in " .,:;%()" else f"\\{ord(c):x} " for c in text) + '"'
