"""A figure as an HTML image, drawn by Agg: no window, no toolkit, no flicker."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from io import BytesIO
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from nida_kit import plots


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


class Renderer:
    """One figure that lives as long as the lab; it is laid out anew only where its panels change.

    Attributes:
        figure: that it draws into.
        width, height: of the image, in pixels.
    """

    def __init__(self, drawing: Callable[[xr.Dataset], Drawing], rows: int = 1):
        self.drawing = drawing
        self.figure = plots.figure(rows=rows)
        self.width, self.height = (int(inches * self.figure.dpi) for inches in self.figure.get_size_inches())
        self._artists: Any = None
        self._layout: Any = None

    def draw(self, ds: xr.Dataset) -> None:
        """Show a dataset of one step."""
        how = self.drawing(ds)
        layout = (how, how.layout(ds))
        if layout == self._layout:
            how.update(self._artists, ds)
        else:
            self._artists, self._layout = how.make(self.figure, ds), layout

    def png(self) -> bytes:
        """The figure as it is now."""
        buffer = BytesIO()
        # Drawing must keep up with a slider: speed before size.
        self.figure.savefig(buffer, format="png", pil_kwargs={"compress_level": 1})
        return buffer.getvalue()

    def html(self, alt: str) -> str:
        """An `<img>` of fixed size, but never wider than the page."""
        data = b64encode(self.png()).decode()
        return (
            f'<img class="nida-figure" alt="{escape(alt)}" width="{self.width}" height="{self.height}" '
            'style="max-width: 100%; height: auto" '
            f'src="data:image/png;base64,{data}">'
        )
