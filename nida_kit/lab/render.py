"""A figure as an HTML image, drawn by Agg: no window, no toolkit, no flicker."""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nida_kit import plots
from nida_kit.lab.turns import in_turn

_WIDTH, _ROW = 7.2, 2.2  # inches
_DPI = 144  # enough for a page of 1920 pixels; the page makes narrower ones of it, which costs no redraw


@dataclass(frozen=True)
class Drawing:
    """How datasets of one kind are drawn.

    Attributes:
        make: into an emptied figure; returns what `update` takes.
        update: shows another dataset in what was made.
        layout: what must be the same for that.
    """

    make: Callable[[Figure, xr.Dataset], Any]
    update: Callable[[Any, xr.Dataset], None]
    layout: Callable[[xr.Dataset], Any]


class _Canvas(FigureCanvasAgg):
    """Of a figure that a cell may save or display while its lab is used."""

    print_figure = in_turn(FigureCanvasAgg.print_figure)


class Renderer:
    """One figure that lives as long as the lab; it is laid out anew only where its panels change.

    Axes with their ticks and labels take most of the time to draw, and rarely change: they are kept as pixels, and
    what lies within them is drawn on top.

    Attributes:
        figure: that it draws into.
        width, height: of the image, in pixels.
    """

    def __init__(self, drawing: Drawing, rows: float = 1):
        self.drawing = drawing
        self.figure = plots.figure(rows, _WIDTH, _ROW, _DPI)
        self.width, self.height = (int(inches * self.figure.dpi) for inches in self.figure.get_size_inches())
        self._canvas = _Canvas(self.figure)
        self._artists: Any = None
        self._layout: Any = None
        self._frame: Any = None
        self._background: Any = None

    def draw(self, ds: xr.Dataset) -> None:
        """Show a dataset of one step."""
        layout = (self.drawing.layout(ds),)  # which may be None
        if layout == self._layout:
            self.drawing.update(self._artists, ds)
        else:
            self._layout = self._frame = None  # whatever happens meanwhile
            self._artists = self.drawing.make(self.figure, ds)
            self._layout = layout

    def png(self) -> bytes:
        """The figure as it is now."""
        within = [artist for ax in self.figure.axes for artist in _within(ax) if artist.get_visible()]
        frame = [(*ax.viewLim.bounds, ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) for ax in self.figure.axes]
        if frame != self._frame:
            try:
                for artist in within:
                    artist.set_visible(False)
                self._canvas.draw()
            finally:
                for artist in within:
                    artist.set_visible(True)
            self._frame, self._background = frame, self._canvas.copy_from_bbox(self.figure.bbox)
        self._canvas.restore_region(self._background)
        for artist in sorted(within, key=Artist.get_zorder):
            artist.draw(self._canvas.get_renderer())
        return png_of(np.asarray(self._canvas.buffer_rgba())[..., :3])

    def html(self, alt: str) -> str:
        """An `<img>` of fixed proportions, which the page shows as large as there is room."""
        data = b64encode(self.png()).decode()
        return (
            f'<img class="nida-figure" alt="{escape(alt)}" width="{self.width}" height="{self.height}" '
            f'src="data:image/png;base64,{data}">'
        )


def png_of(pixels: np.ndarray) -> bytes:
    """An image, red, green and blue in bytes `(height, width, 3)`, as a PNG file (ISO/IEC 15948).

    Drawing must keep up with a slider. Pillow's encoder tries five filters on each row, which takes longer than to
    compress it, and of lines and even colours saves nothing.
    """
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # the first byte of each says that there is no filter
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # bits of a colour, three of which are a pixel
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows, level=1)), (b"IEND", b"")
    written = [struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def _within(ax: Axes) -> list[Artist]:
    """What an axes shows, and its spines, which lie above some of that."""
    return [*ax.lines, *ax.patches, *ax.images, *ax.collections, *ax.texts, *ax.spines.values()]
