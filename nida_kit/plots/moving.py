"""Animations, which play in a page without a kernel and without a script, and can be paused at any frame.

All frames are one picture, a sheet of which the page's style shows one frame after the other; a box to tick pauses it.
Who has asked their system for less motion sees the still instead, as do pages that take styles away, and everyone who
unfolds it below. `Animation.save` writes the same as a file: GIF, film or still.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from nida_kit import checks
from nida_kit.plots.plane import Point, make_plane, rows_of, update_plane
from nida_kit.plots.style import figure, styled
from nida_kit.state import TIME

_COLOURS = 128  # of a picture: its size grows with them
_WIDTH, _ROW = 8.0, 2.2  # inches, as in labs


@dataclass(frozen=True)
class Animation:
    """Frames of one size, one after the other.

    Attributes:
        frames: images.
        per_second: how many of them.
        alt: what they show, for those who do not see them.
    """

    frames: Sequence[Image.Image]
    per_second: float
    alt: str

    def __repr__(self) -> str:
        return f"Animation({len(self.frames)} frames, {len(self.gif) / 1e6:.2f} MB: {self.alt})"

    @cached_property
    def gif(self) -> bytes:
        """The animation, which begins anew at its end."""
        first, *others = (frame.quantize(_COLOURS, dither=Image.Dither.NONE) for frame in self.frames)
        out = BytesIO()
        pause = round(1000 / self.per_second)
        first.save(out, "gif", save_all=True, append_images=others, duration=pause, loop=0, optimize=True)
        return out.getvalue()

    @cached_property
    def still(self) -> bytes:
        """The last frame, a PNG."""
        out = BytesIO()
        self.frames[-1].quantize(_COLOURS, dither=Image.Dither.NONE).save(out, "png", optimize=True)
        return out.getvalue()

    @cached_property
    def sheet(self) -> tuple[bytes, int, int]:
        """All frames in rows, a WebP; how many are in a row; and how many rows. The last frame fills the last row."""
        across = max(2, math.ceil(math.sqrt(len(self.frames))))
        down = max(2, math.ceil(len(self.frames) / across))
        width, height = self.frames[0].size
        sheet = Image.new("RGB", (across * width, down * height))
        for k in range(across * down):
            frame = self.frames[min(k, len(self.frames) - 1)].quantize(_COLOURS, dither=Image.Dither.NONE)
            sheet.paste(frame.convert("RGB"), (k % across * width, k // across * height))
        # Lines are smaller without losses, maps with some.
        return min((_webp(sheet, lossless=True, quality=60), _webp(sheet, quality=75)), key=len), across, down

    def _repr_png_(self) -> bytes:
        return self.still

    def _repr_html_(self) -> str:
        still = f"data:image/png;base64,{b64encode(self.still).decode()}"
        width, alt = self.frames[0].width, escape(self.alt, quote=True)
        picture = f'alt="{alt}" src="{still}" width="{width}" style="max-width: 100%; height: auto"'
        key = f"nida-film-{hashlib.sha256(self.sheet[0]).hexdigest()[:12]}"
        return (
            f'<div class="nida-animation {key}"><style>{self._style(key)}</style>'
            f'<label class="{key}-pause" hidden><input type="checkbox"> pause</label>'
            f'<div class="{key}-film" role="img" aria-label="{alt}" hidden></div><img class="{key}-still" {picture}>'
            f"<details><summary>The last picture, still</summary><img {picture}></details></div>"
        )

    def _style(self, key: str) -> str:
        """What makes a sheet of frames play: a step to the right for each frame, and one down for each row."""
        (width, height), (data, across, down) = self.frames[0].size, self.sheet
        row = across / self.per_second
        return (
            f".{key}-still {{ display: none }} .{key}-pause {{ display: inline-block; cursor: pointer }} "
            f".{key}-film {{ display: block; width: min(100%, {width}px); aspect-ratio: {width} / {height}; "
            f"background: url(data:image/webp;base64,{b64encode(data).decode()}) 0 0 / {100 * across}% {100 * down}%; "
            f"animation: {key}-right {row:.4g}s steps({across}) infinite, "
            f"{key}-down {down * row:.4g}s steps({down}) infinite }} "
            f"@keyframes {key}-right {{ to {{ background-position-x: {100 * across / (across - 1):.6g}% }} }} "
            f"@keyframes {key}-down {{ to {{ background-position-y: {100 * down / (down - 1):.6g}% }} }} "
            f".{key}-pause:has(:checked) + .{key}-film {{ animation-play-state: paused }} "
            f"@media (prefers-reduced-motion: reduce) {{ .{key}-pause {{ display: none }} "
            f".{key}-film {{ animation: none; background-position: 100% 100% }} }}"
        )

    def save(self, path: str | Path) -> None:
        """Write it as a file that ends in .gif, in .mp4 (by ffmpeg), or, still, in .png.

        Raises:
            ValueError: another ending, or no ffmpeg.
        """
        path = Path(path)
        if path.suffix == ".mp4":
            self._film(path)
        elif path.suffix in (".gif", ".png"):
            path.write_bytes(self.gif if path.suffix == ".gif" else self.still)
        else:
            raise ValueError(f"An animation is written as .gif, .mp4 or, still, as .png; not as {path.name!r}.")

    def _film(self, path: Path) -> None:
        ffmpeg = shutil.which("ffmpeg")
        if ffmpeg is None:
            raise ValueError(
                f"{path.name!r} needs ffmpeg, which is not installed: apt-get install ffmpeg, or save a .gif."
            )
        pictures = BytesIO()
        for frame in self.frames:
            frame.save(pictures, "png")
        # Players want sides of an even length, and colours as television has them.
        look = ["-vf", "crop=trunc(iw/2)*2:trunc(ih/2)*2", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
        given = ["-f", "image2pipe", "-c:v", "png", "-framerate", str(self.per_second), "-i", "-"]
        done = subprocess.run(
            [ffmpeg, "-y", *given, *look, str(path)], input=pictures.getvalue(), capture_output=True, check=False
        )
        if done.returncode:
            raise ValueError(f"ffmpeg did not write {path.name!r}: {done.stderr.decode()[-300:]}")


@styled
def animate(
    ds: xr.Dataset,
    *,
    along: Hashable | None = None,
    at: Point = (),
    per_second: float = 2.0,
    title: str = "",
) -> Animation:
    """A field on a plane, a frame for each time; display it in a notebook, or `.save` it.

    >>> import nida_kit as nk
    >>> from nida_kit import plots
    >>> truth = nk.QuasiGeostrophic(cells=17).simulate(samples=1, steps=3, dt=5.0, seed=0)
    >>> moving = plots.animate(truth.to_dataset(name="truth").assign(mean=0.9 * truth))
    >>> len(moving.frames)
    3
    >>> moving.save("ocean.gif")  # doctest: +SKIP

    Args:
        ds: as `make_plane` takes it, `mean` and where there are any `truth`, `value` and `std`.
        along: a dim, of which a cut is shown as well; None is no cut.
        at: the point that the cut goes through.
        per_second: frames.
        title: begins the line above each frame, which says the time.

    Raises:
        ValueError: a number of frames that is not positive.
    """
    per_second = checks.positive("per_second", per_second)
    fig = figure(rows_of(ds, along is not None), _WIDTH, _ROW)
    canvas = FigureCanvasAgg(fig)
    times = ds["mean"][TIME].values
    made = make_plane(fig, ds, 0, along, at)
    line = fig.text(0.995, 0.995, "", ha="right", va="top", fontsize="small")
    frames = []
    for k, time in enumerate(times):
        update_plane(made, ds, k, along, at)
        line.set_text(", ".join(filter(None, [title, f"time {_said(time)}"])))
        frames.append(frame_of(canvas))
    shown = " and ".join(made.images)
    what = f"{title}: " if title else ""
    return Animation(frames, per_second, f"{what}maps of {shown}, from time {_said(times[0])} to {_said(times[-1])}.")


def _webp(image: Image.Image, **how) -> bytes:
    out = BytesIO()
    image.save(out, "webp", **how)
    return out.getvalue()


def frame_of(canvas: FigureCanvasAgg) -> Image.Image:
    """A figure as it is now."""
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _said(time) -> str:
    return f"{time:g}" if isinstance(time, np.integer | np.floating) else str(time)[:16]
