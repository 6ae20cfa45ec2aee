"""Animations: of a field in time, and of an estimate from step to step. They play in a notebook without a kernel, too.

In a page all frames are one picture, of which a box shows one after the other by CSS alone. A box to tick stops it
where it is. Who has asked their system for less motion sees the last frame, and so do all where styles are not allowed.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import zlib
from base64 import b64encode
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from nida_kit import checks
from nida_kit.plots.minima import make_minima, update_minima
from nida_kit.plots.plane import MEAN, Point, make_plane, rows_of, update_plane
from nida_kit.plots.reconstruction import make, update
from nida_kit.plots.style import figure, pick, styled
from nida_kit.state import COMPONENT, TIME

_COLOURS = 128  # of a picture: its size grows with them
HELD = 6  # frames for which the last one stays
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

    @cached_property
    def sheet(self) -> tuple[bytes, int, int]:
        """All frames in one WebP, with its columns and rows; the last frame fills what is left."""
        columns = math.ceil(math.sqrt(len(self.frames)))
        rows = -(-len(self.frames) // columns)
        width, height = self.frames[0].size
        sheet = Image.new("RGB", (columns * width, rows * height))
        for k in range(columns * rows):
            frame = self.frames[min(k, len(self.frames) - 1)].quantize(_COLOURS, dither=Image.Dither.NONE)
            sheet.paste(frame.convert("RGB"), (k % columns * width, k // columns * height))
        # Lines are smaller without losses, maps with some.
        return min((_webp(sheet, lossless=True, quality=60), _webp(sheet, quality=75)), key=len), columns, rows

    def _repr_html_(self) -> str:
        still = f"data:image/png;base64,{b64encode(self.still).decode()}"
        alt, (width, height) = escape(self.alt, quote=True), self.frames[0].size
        if len(self.frames) == 1:
            return f'<img alt="{alt}" src="{still}" width="{width}" style="max-width: 100%; height: auto">'
        sheet, columns, rows = self.sheet
        key = f"nida-{zlib.crc32(sheet):08x}"
        across, down = columns / self.per_second, columns * rows / self.per_second
        # "jump-none" shows the first and the last column for as long as any other; of one row there is nothing to move.
        moves = [f"{key}-across {across:.3f}s steps({columns}, jump-none) infinite"]
        moves += [f"{key}-down {down:.3f}s steps({rows}, jump-none) infinite"] if rows > 1 else []
        moving = (
            f"background: url(data:image/webp;base64,{b64encode(sheet).decode()}) "
            f"0 0 / {100 * columns}% {100 * rows}%; "
            f"animation: {', '.join(moves)}"
        )
        return (
            f"<style>.{key} {{ max-width: {width}px }} .{key} div {{ aspect-ratio: {width} / {height}; {moving} }} "
            f".{key} input:checked ~ div {{ animation-play-state: paused }} .{key} img {{ display: none }} "
            f"@keyframes {key}-across {{ to {{ background-position-x: 100% }} }} "
            f"@keyframes {key}-down {{ to {{ background-position-y: 100% }} }} "
            f"@media (prefers-reduced-motion: reduce) {{ .{key} div, .{key} input, .{key} label {{ display: none }} "
            f".{key} img {{ display: block; max-width: 100%; height: auto }} }}</style>"
            f'<div class="nida-animation {key}"><input type="checkbox" id="{key}"> <label for="{key}">pause</label>'
            f'<div role="img" aria-label="{alt}"></div><img alt="{alt}" src="{still}" width="{width}"></div>'
        )

    def save(self, path: str | Path) -> None:
        """Write it as a file that ends in .html (a page with a pause), .gif, .mp4 (by ffmpeg), or, still, in .png.

        Raises:
            ValueError: another ending, or no ffmpeg.
        """
        path = Path(path)
        if path.suffix == ".mp4":
            self._film(path)
        elif path.suffix == ".html":
            title = escape(self.alt)
            head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
            path.write_text(f"{head}{self._repr_html_()}</html>\n")
        elif path.suffix in (".gif", ".png"):
            path.write_bytes(self.gif if path.suffix == ".gif" else self.still)
        else:
            raise ValueError(f"An animation is written as .html, .gif, .mp4 or, still, as .png; not as {path.name!r}.")

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
        title: of the map of the reconstruction, before the time.

    Raises:
        ValueError: a number of frames that is not positive.
    """
    per_second = checks.positive("per_second", per_second)
    fig = figure(rows_of(ds, along is not None), _WIDTH, _ROW)
    times = ds["mean"][TIME].values
    made = make_plane(fig, ds, 0, along, at)
    panel = made.images[MEAN].axes

    def show(k: int) -> None:
        update_plane(made, ds, k, along, at)
        panel.set_title(f"{title or MEAN}, time {_said(times[k])}", fontsize="medium")

    frames = frames_of(fig, show, range(len(times)))
    shown = " and ".join(made.images)
    what = f"{title}: " if title else ""
    return Animation(frames, per_second, f"{what}maps of {shown}, from time {_said(times[0])} to {_said(times[-1])}.")


@styled
def morph(ds: xr.Dataset, between: int = 6, per_second: float = 8.0) -> Animation:
    """A reconstruction from the first guess over all its steps, coarse to fine.

    >>> from nida_kit.experiment import Parameters, run
    >>> len(morph(run(Parameters(temperatures=2)), between=3).frames) - HELD
    7

    Args:
        ds: as `make` takes it, of which the first window is drawn, with `mean`, `std` and `first_guess`.
        between: frames from one step to the next.
        per_second: frames.

    Raises:
        ValueError: numbers that are not positive.
    """
    one = pick(ds).transpose("step", ...)
    guess = one["first_guess"].reindex_like(one["mean"].isel(step=0)).values
    means = np.concatenate([guess[None], one["mean"].values])
    stds = np.concatenate([one["std"].values[:1], one["std"].values])
    fig = figure(1, _WIDTH, _ROW)
    # The widest of all steps has the limits, so that only lines move.
    widest = int(abs(one["mean"]).max((TIME, COMPONENT)).argmax("step"))
    artists = make(fig, one.isel(step=[widest]))

    def show(at: tuple[int, float]) -> None:
        k, w = at
        mean, std = ((1 - w) * x[k - 1] + w * x[k] for x in (means, stds))
        here = one.isel(step=[k - 1])
        blend = {"mean": here["mean"].copy(data=mean[None]), "std": here["std"].copy(data=std[None])}
        update(artists, here.assign(blend), limits=False)

    frames = frames_of(fig, show, _glide(one.sizes["step"], between))
    said = "A reconstruction of each component sharpens from the first guess, step by step, as the temperature falls."
    return Animation(frames + frames[-1:] * HELD, checks.positive("per_second", per_second), said)


@styled
def descend(ds: xr.Dataset, between: int = 3, per_second: float = 8.0) -> Animation:
    """4D-Var from its start to its minimum, over the cost between these and the truth.

    >>> from nida_kit.minima import MinimaParameters, run_minima
    >>> len(descend(run_minima(MinimaParameters(iterations=4)), between=3).frames) - HELD
    7

    Args:
        ds: from `nida_kit.minima`.
        between: frames from one step to the next.
        per_second: frames.

    Raises:
        ValueError: numbers that are not positive.
    """
    costs = ds["step_cost"].values
    moved = [0, *(k for k in range(1, len(costs)) if costs[k] < 0.999 * costs[k - 1])]  # others were refused, or rest
    ds = ds.isel(step=moved, descent=moved)
    fig = figure(1.9, _WIDTH, _ROW)
    artists = make_minima(fig, ds)
    names = [name for name in ds if "step" in ds[name].dims]

    def show(at: tuple[int, float]) -> None:
        k, w = at
        a, b = ds[names].isel(step=k - 1, drop=True), ds[names].isel(step=k, drop=True)
        here = (1 - w) * a + w * b
        cost = a["step_cost"] ** (1 - w) * b["step_cost"] ** w  # as its axis is logarithmic
        update_minima(artists, ds.drop_vars(names).assign(here).assign(step_cost=cost))

    frames = frames_of(fig, show, _glide(ds.sizes["step"] - 1, between))
    said = (
        f"4D-Var descends from its start to a minimum of cost {ds.attrs['minimum_cost']:.1f}; from there to the truth "
        f"the cost has to rise by {ds.attrs['barrier']:.0f} above both."
    )
    return Animation(frames + frames[-1:] * HELD, checks.positive("per_second", per_second), said)


def _glide(steps: int, between: int) -> list[tuple[int, float]]:
    """The step that a frame is on its way to, and how much of it is done; it lingers where a step ends."""
    between = checks.count("between", between, 1)
    ways = [(1 - math.cos(math.pi * i / between)) / 2 for i in range(1, between + 1)]
    return [(1, 0.0), *((k, w) for k in range(1, steps + 1) for w in ways)]


def frames_of(fig: Figure, show: Callable[[Any], None], moments: Iterable[Any]) -> list[Image.Image]:
    """What a figure shows at some moments, each of which `show` sets."""
    canvas, frames = FigureCanvasAgg(fig), []
    for moment in moments:
        show(moment)
        canvas.draw()
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    return frames


def _webp(image: Image.Image, **how) -> bytes:
    out = BytesIO()
    image.save(out, "webp", **how)
    return out.getvalue()


def _said(time) -> str:
    return f"{time:g}" if isinstance(time, np.integer | np.floating) else str(time)[:16]
