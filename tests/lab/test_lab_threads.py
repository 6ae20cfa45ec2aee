"""Labs whose controls are moved on several threads at once, as they are in JupyterLab."""

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import cache, partial
from html import escape
from io import BytesIO
from threading import Barrier, Thread, current_thread

import pytest

from nida_kit.lab import Lab, LineLab, view
from nida_kit.lab.model import CAUTION
from nida_kit.lab.render import Renderer
from nida_kit.lab.simulated import presets

BURSTS = 10
MOVES = {"temperatures": (1, 2, 3, 4, 5), "noise_std": (0.1, 0.2, 0.3, 0.4, 1.0)}


@pytest.fixture(autouse=True)
def threads_that_often_meet(monkeypatch):
    monkeypatch.setenv("NIDA_STRICT", "1")
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(usual)


def at_once(*bursts: list[Callable[[], None]]) -> None:
    """Do what the lists say, each on a thread of its own."""
    start = Barrier(len(bursts))

    def work(burst: list[Callable[[], None]]) -> None:
        start.wait()
        for act in burst:
            act()

    with ThreadPoolExecutor(len(bursts)) as threads:
        list(threads.map(work, bursts))


def moves(lab, name: str, values) -> list[Callable[[], None]]:
    return [partial(setattr, lab.controls[name], "value", value) for value in values]


@cache
def new(kind: type, params):
    return kind(**asdict(params))


def assert_as_if_new(lab) -> None:
    """It shows what a lab shows that is made with its parameters."""
    fresh = new(type(lab), lab.model.params)
    assert picture(lab) == picture(fresh)
    assert controls(lab) == controls(fresh)
    assert lab.summary.value == escape(lab.model.status.partition(CAUTION)[0]) and lab.status.value == ""


def picture(lab) -> str:
    return lab.image.value.partition("src=")[2]


def controls(lab) -> dict:
    return {name: control.value for name, control in lab.controls.items()}


def test_bursts_from_two_threads_end_with_the_picture_of_the_last_wishes():
    lab, law = Lab(temperatures=2), presets("lorenz63")["sparse"]
    clicks = [lab.buttons[name].click for name in ("dense", "noisy", "z only", "sparse")]
    for i in range(BURSTS):
        name, values = list(MOVES.items())[i % 2]
        at_once(moves(lab, name, values), clicks)
        assert_as_if_new(lab)
        last = law | {name: values[-1]}
        # Presets set the noise too: either wish may be the last.
        assert all(getattr(lab.model.params, key) in (last[key], law.get(key)) for key in last)


def test_a_slider_moved_while_the_steps_play_ends_with_its_picture(monkeypatch):
    monkeypatch.setattr(view, "PAUSE", 0.0)
    lab = Lab(temperatures=4)

    async def play() -> None:
        lab.buttons[view.PLAY].click()
        while lab.buttons[view.PLAY].description != view.PLAY:
            await asyncio.sleep(0.01)

    for _ in range(5):
        at_once([lambda: asyncio.run(play())], moves(lab, "noise_std", (0.1, 0.2, 0.3)))
        assert lab.model.params.noise_std == 0.3
        assert_as_if_new(lab)


def test_a_wish_that_comes_while_the_controls_are_set_is_not_lost(monkeypatch):
    lab = Lab(temperatures=2)
    other = Thread(target=setattr, args=(lab.controls["seed"], "value", 7))

    def meanwhile() -> None:
        if current_thread() is not other and not other.ident:
            other.start()
            other.join(0.5)

    monkeypatch.setattr(lab, "_offer", meanwhile)
    lab.buttons["sparse"].click()
    other.join()
    assert (lab.model.params.seed, lab.model.params.every) == (7, 16)
    assert_as_if_new(lab)


def test_of_all_labs_one_draws_at_a_time(monkeypatch):
    labs, seen, png = [LineLab(), LineLab()], [], Renderer.png

    def watched(renderer) -> bytes:
        seen.append("begins")
        image = png(renderer)
        seen.append("ends")
        return image

    monkeypatch.setattr(Renderer, "png", watched)
    at_once(*(moves(lab, "value", range(5)) for lab in labs))
    assert seen == ["begins", "ends"] * 10


def test_a_figure_can_be_displayed_while_it_changes():
    lab = LineLab()
    for _ in range(3):
        shown = [partial(lab.figure.savefig, BytesIO(), bbox_inches="tight")] * 3
        at_once(moves(lab, "operator", ("square", "saturating", "identity")), shown)
        assert_as_if_new(lab)
