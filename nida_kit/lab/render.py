"""A figure as an HTML image, drawn by Agg: no window, no toolkit, no flicker."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from io import BytesIO

import xarray as xr

from nida_kit import plots


class Renderer:
    """One figure that lives as long as the lab; it is laid out anew only where its panels change.

    Attributes:
        figure: of one row.
        width, height: of the image, in pixels.
    """

    def __init__(self):
        self.figure = plots.figure(rows=1)
        self.width, self.height = (int(inches * self.figure.dpi) for inches in self.figure.get_size_inches())
        self._artists: plots.Artists | None = None
        self._layout: tuple | None = None

    def draw(self, ds: xr.Dataset) -> None:
        """Show a dataset of one step."""
        layout = (tuple(ds["component"].values), tuple(ds.data_vars))
        if layout == self._layout:
            plots.update(self._artists, ds)
        else:
            self._artists, self._layout = plots.make(self.figure, ds), layout

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
