"""A field on a plane as an animation, which plays wherever a picture is shown: in a notebook without a kernel, too.

The frames are those of `plane.make_plane`, a GIF within a page of HTML. Who has asked their system for less motion sees
the still instead, and so does everyone who unfolds it below.
"""

from __future__ import annotations

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

    def _repr_png_(self) -> bytes:
        return self.still

    def _repr_html_(self) -> str:
        still = f"data:image/png;base64,{b64encode(self.still).decode()}"
        moving = f"data:image/gif;base64,{b64encode(self.gif).decode()}"
        width, alt = self.frames[0].width, escape(self.alt, quote=True)
        size = f'width="{width}" style="max-width: 100%; height: auto"'
        return (
            f'<picture><source media="(prefers-reduced-motion: reduce)" srcset="{still}">'
            f'<img class="nida-animation" alt="{alt}" src="{moving}" {size}></picture>'
            f'<details><summary>The last picture, still</summary><img alt="{alt}" src="{still}" {size}></details>'
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
        canvas.draw()
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    shown = " and ".join(made.images)
    what = f"{title}: " if title else ""
    return Animation(frames, per_second, f"{what}maps of {shown}, from time {_said(times[0])} to {_said(times[-1])}.")


def _said(time) -> str:
    return f"{time:g}" if isinstance(time, np.integer | np.floating) else str(time)[:16]
