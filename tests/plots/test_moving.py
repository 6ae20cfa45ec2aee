"""Animations of an estimate from step to step, and how they play in a page."""

import re
from base64 import b64decode
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from nida_kit import plots
from nida_kit.experiment import Parameters, run
from nida_kit.minima import MinimaParameters, run_minima
from nida_kit.plots.moving import HELD
from nida_kit.plots.style import METHODS

FIGURES = Path(__file__).parents[2] / "figures"
# What moves in the notebooks, and the kinds of methods that it shows; maps have colours of their own.
MOVING = {
    "minima_descent": {"4D-Var", "interpolation"},  # its start is an interpolation
    "temperature_morph": {"NIDA", "interpolation"},
    "ensemble_members": {"ensembles"},
    "fields_filling": None,
}


@pytest.fixture(scope="module")
def sharpening():
    return plots.morph(run(Parameters(temperatures=2)), between=2)


def differ(one, other) -> float:
    return np.abs(np.asarray(one, int) - np.asarray(other, int)).mean()


def test_a_morph_leads_from_the_first_guess_over_all_steps_and_stays_at_the_last(sharpening):
    frames = sharpening.frames
    assert len(frames) == 1 + 2 * 2 + HELD
    assert all(differ(*pair) > 0 for pair in pairwise(frames[:5]))
    assert all(differ(frames[4], frame) == 0 for frame in frames[5:])
    ds = run(Parameters(temperatures=1))
    fig = plots.figure(1, 8.0, 2.2)
    plots.make(fig, ds)
    canvas = FigureCanvasAgg(fig)
    with matplotlib.style.context(plots.STYLE):  # ticks are chosen when a figure is drawn
        canvas.draw()
    assert differ(plots.morph(ds, between=1).frames[-1], np.asarray(canvas.buffer_rgba())[..., :3]) == 0


def test_a_page_has_all_frames_in_one_picture_and_a_pause(sharpening, tmp_path):
    sharpening.save(tmp_path / "a.html")
    html = (tmp_path / "a.html").read_text()
    assert html.startswith("<!doctype html>") and len(html) < 1_000_000
    sheet = Image.open(BytesIO(b64decode(re.search(r"background: url\(data:image/webp;base64,([^)]+)\)", html)[1])))
    width, height = sharpening.frames[0].size
    columns, rows = sheet.width // width, sheet.height // height
    assert sheet.size == (columns * width, rows * height) and columns * rows >= len(sharpening.frames)
    for k in range(columns * rows):
        left, top = k % columns * width, k // columns * height
        frame = sharpening.frames[min(k, len(sharpening.frames) - 1)]
        assert differ(sheet.crop((left, top, left + width, top + height)).convert("RGB"), frame) < 4  # 128 colours
    assert 'type="checkbox"' in html and "input:checked ~ div { animation-play-state: paused }" in html
    assert f"steps({columns}, jump-none)" in html and f"/ {100 * columns}% {100 * rows}%" in html
    assert html.count(f'alt="{sharpening.alt}"') == 1 and html.count(f'aria-label="{sharpening.alt}"') == 1


def test_a_single_frame_is_a_picture(sharpening):
    html = plots.Animation(sharpening.frames[:1], 1.0, "one")._repr_html_()
    assert html.startswith("<img") and "animation" not in html


def test_a_descent_falls_and_leaves_out_steps_that_were_refused():
    ds = run_minima(MinimaParameters(iterations=4))
    assert ds["step_cost"][2] == ds["step_cost"][1]  # refused
    moving = plots.descend(ds, between=1)
    assert len(moving.frames) == 1 + 3 - 1 + HELD
    assert all(differ(*pair) > 0 for pair in pairwise(moving.frames[:3]))


@pytest.mark.parametrize("wrong", [{"between": 0}, {"per_second": 0.0}])
def test_numbers_that_are_not_positive_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        plots.morph(run(Parameters(temperatures=1)), **wrong)


@pytest.mark.parametrize("name", MOVING)
def test_what_moves_is_committed_as_a_small_film_and_a_still(name):
    path = FIGURES / f"{name}.gif"
    film, still = Image.open(path), Image.open(path.with_suffix(".png")).convert("RGB")
    assert path.stat().st_size < 1_000_000 and film.n_frames > 1 and film.info["loop"] == 0
    first = film.convert("RGB")
    film.seek(film.n_frames - 1)
    assert film.size == still.size and differ(film.convert("RGB"), still) < 0.1 < differ(first, still)
    text = (FIGURES / "README.md").read_text()
    before, _, after = text.partition(f"]({name}.png)\n\n<details><summary>play</summary>\n\n")
    assert before and re.match(rf"!\[.{{30,}}\]\({name}\.gif\)\n\n</details>", after)


@pytest.mark.parametrize("name", [name for name, kinds in MOVING.items() if kinds])
def test_what_moves_has_the_colours_of_its_methods_and_of_no_others(name):
    pixels = np.asarray(Image.open(FIGURES / f"{name}.png").convert("RGB"), int)
    found = {kind for kind, (_, colour) in METHODS.items() if near(pixels, colour).sum() > 20}
    assert found - {"truth"} == MOVING[name]


def near(pixels: np.ndarray, colour: str) -> np.ndarray:
    """Which pixels have a colour, but for what a palette of 128 changes."""
    return np.abs(pixels - 255 * np.array(matplotlib.colors.to_rgb(colour))).max(-1) < 8
