"""The labs as a user meets them: JupyterLab and Voilà in Chromium, by keyboard.

What a control does in Python says little about the page: front end and kernel may not fit together, a control may be
out of reach, a picture may not be painted again. So all notebooks are opened and run here, and each of their labs is
used.

`NIDA_BROWSER=required` fails where these tests would be skipped. `NIDA_SCREENSHOTS=folder` keeps what was seen and the
milliseconds from a key press to new pixels.
"""

import json
import os
import re
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
from chromium import LAPTOP, PHONE, launched, need
from PIL import Image
from sizes import SMALL

import nida_kit as nk
from nida_kit import plots
from nida_kit.lab import LineLab
from nida_kit.lab.view import PLAY
from nida_kit.plots.line import ACROSS, UP

FOLDER = Path(__file__).parents[2] / "notebooks"
PATIENCE = 120  # seconds; other work may share the machine
LARGE = (1920, 1080)  # pixels
SIZES = (LAPTOP, LARGE, (820, 1100), PHONE)
SEEN = 600  # pixels of a notebook that a laptop shows, below the bars of browser and JupyterLab


# Every lab of every notebook, and the slider that is moved in it: a notebook's second lab has a 2. pytest runs tests
# one after the other whose labs have the same place in their lists. So first come those that have tests of their own.
LABS = {
    "00_start_here": "noise-std",
    "01_gaussian_assimilation": "value",
    "03_temperature": "temperatures",
    "00_own_file": "share",
    "01_gaussian_assimilation 2": "value",
    "02_pendulum": "every",
    "04_any_observation": "noise-std",
    "05_four_d_var_and_hybrid": "every",
    "05_four_d_var_and_hybrid 2": "noise-std",
    "06_uncertainty": "stretch",
    "07_ensembles_and_particles": "members",
    "08_scaling": "steps",
    "09_train_your_own": "window",
    "09_train_your_own 2": "window",
    "10_model_error": "rho",
    "11_real_data": "share",
    "12_fields": "satellites",
    "13_challenges": "first",
    "13_challenges 2": "x",
    "13_challenges 3": "seed",
}
OWN = {"00_own_file": "00_start_here"}  # the notebook, given a file of observations
# What the line says is of all windows, or of none: moved by their sliders, these labs show another picture alone.
SAME_WORDS = ("09_train_your_own", "13_challenges 3")
MEASURED = r"[\d.e+-]+ (ms|s|times)\b"  # in the line of a lab that measures: numbers that never come again


# Servers and pages


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with launched("jupyterlab", "papermill") as chromium:
        yield chromium


@contextmanager
def new_page(browser) -> Iterator:
    context = browser.new_context(viewport={"width": LARGE[0], "height": 1400})
    context.set_default_timeout(1000 * PATIENCE)
    yield context.new_page()
    context.close()


def part_of(lab: str) -> tuple[str, int]:
    """The notebook of a lab, and how many of its labs come before."""
    stem, _, number = lab.partition(" ")
    return stem, int(number or 1) - 1


def labs_of(notebook) -> list[int]:
    """The cells of a notebook that end with a lab."""
    return [k for k, cell in enumerate(notebook.cells) if cell.cell_type == "code" and "Lab(" in cell.source]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The notebooks up to their last lab, with small sizes, in a folder like the repository's.

    What comes after it is left to the tests that run all notebooks without a browser.
    """
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    folder = tmp_path_factory.mktemp("lab") / "root"
    (folder / "figures").mkdir(parents=True)
    truth = nk.Lorenz63().simulate(samples=2, steps=32, dt=0.05, seed=0)
    nk.observe(truth, components=["x", "z"], every=2, noise_std=0.5, seed=1).to_netcdf(folder / "mine.nc")
    for stem in {part_of(lab)[0] for lab in LABS}:
        source, given = OWN.get(stem, stem), {"observations": "mine.nc"} if stem in OWN else {}
        path = FOLDER / f"{source}.ipynb"
        notebook = parameterize_notebook(load_notebook_node(str(path)), SMALL[source] | given)
        notebook.cells = notebook.cells[: labs_of(notebook)[-1] + 1]
        nbformat.write(notebook, folder / f"{stem}.ipynb")
    return folder


def environment(private: Path) -> dict[str, str]:
    """Of a user without any settings but one: no question whether to fetch news."""
    names = ("HOME", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    folders = {name: private / name for name in (*names, "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    news = folders["JUPYTERLAB_SETTINGS_DIR"] / "@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}))
    # Not strict: what goes wrong must reach the user, as it does outside of tests.
    usual = {name: value for name, value in os.environ.items() if name != "NIDA_STRICT"}
    return usual | {name: str(folder) for name, folder in folders.items()} | {"OMP_NUM_THREADS": "1"}


@contextmanager
def serving(folder: Path, private: Path, command: Callable[[int], list[str]]) -> Iterator[str]:
    """The address of a server, which has ended with all its kernels when this ends."""
    env, log = environment(private), private / "log"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("w") as out:
        whole = [sys.executable, "-m", *command(port)]
        server = subprocess.Popen(whole, cwd=folder, env=env, stdout=out, stderr=out, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(address, server, log)
        yield address
    finally:
        server.terminate()  # a server shuts its kernels down first
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < until:
        try:
            # No page: to ask Voilà for one runs its notebook, and two that run at once write the same files.
            urllib.request.urlopen(f"{address}/favicon.ico", timeout=5).close()
        except urllib.error.HTTPError:
            return  # it answers, if only to ask who we are
        except OSError:
            time.sleep(0.2)
        else:
            return
    pytest.fail(f"The server did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def jupyterlab(folder) -> Iterator[str]:
    """The address of a JupyterLab, with {} for what comes after /lab."""
    token = secrets.token_hex()

    def command(port: int) -> list[str]:
        return [
            "jupyterlab",
            "--no-browser",
            "--allow-root",
            "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.port={port}",
            "--ServerApp.port_retries=0",
            f"--IdentityProvider.token={token}",
            f"--ServerApp.root_dir={folder}",
            "--LabApp.expose_app_in_browser=True",
            "--LabApp.extension_manager=readonly",
        ]

    with serving(folder, folder.parent / "private", command) as address:
        yield f"{address}/lab{{}}?token={token}"


@pytest.fixture(scope="module")
def desk(browser, jupyterlab) -> Iterator:
    """A page with JupyterLab, in which one notebook is open at a time.

    All run on one kernel: in each of its own the same packages would be loaded once more.
    """
    with new_page(browser) as page:
        page.goto(jupyterlab.format(""))
        page.wait_for_function("() => window.jupyterapp?.shell", polling=200)
        yield page


@dataclass(frozen=True)
class Shown:
    """A lab in a page.

    Attributes:
        name: in the table of labs.
        page: where it is.
        first: what it showed at first.
        views: how it lies in windows, by their size and whether JupyterLab's list of files is there.
        later: what it showed after these, untouched.
        folder: where the notebook runs.
    """

    name: str
    page: Any
    first: "Seen"
    views: dict[tuple, "View"]
    later: "Seen"
    folder: Path


@pytest.fixture(scope="module", params=LABS)
def shown(request, desk, folder) -> Shown:
    """A lab, after all cells of its notebook have run."""
    stem, before = part_of(request.param)
    if desk.evaluate("() => window.jupyterapp.shell.currentWidget?.context?.path") != f"{stem}.ipynb":
        run_all(desk, f"{stem}.ipynb")
    desk.evaluate(WITHOUT_LABS, before)
    wait_for_lab(desk)
    first, windows = seen(desk), [*((size, size[0] > 1000) for size in SIZES), (LAPTOP, False)]
    views = {(size, files): view(desk, size, files, request.param) for size, files in windows}
    return Shown(request.param, desk, first, views, seen(desk), folder)


RUN_ALL = """path => {
    const app = window.jupyterapp
    const run = async () => {
        await app.restored
        const last = app.shell.currentWidget, kernel = last?.sessionContext?.session?.kernel, model = kernel?.model
        // Or the next notebook would ask the kernel for the labs of this one.
        if (kernel) await kernel.requestExecute({code: 'import ipywidgets; ipywidgets.Widget.close_all()'}).done
        last?.dispose()
        const next = await app.commands.execute('docmanager:open', {path, kernel: model})
        await next.sessionContext.ready
        return app.commands.execute('notebook:run-all-cells')
    }
    window.nidaLabs = () => app.shell.currentWidget.content.widgets.filter(
        cell => cell.model.type === 'code' && cell.model.sharedModel.source.includes('Lab(')
    )
    window.nidaBefore = 0
    window.nidaRan = undefined
    run().then(all => { window.nidaRan = [all] }, error => { window.nidaRan = [String(error)] })
}"""
WITHOUT_LABS = """before => {
    window.nidaBefore = before
    window.nidaLabs().slice(0, before).forEach(cell => cell.model.outputs.clear())
}"""


def run_all(page, path: str) -> None:
    """Open a notebook in JupyterLab and run its cells, on the kernel of the one before, which is closed."""
    page.evaluate(RUN_ALL, path)
    page.wait_for_function("() => window.nidaRan", polling=200)
    assert page.evaluate("() => window.nidaRan") == [True], page.locator("[data-mime-type$=stderr]").all_inner_texts()


@pytest.fixture
def lab(shown) -> Shown:
    """The same, as it was at first."""
    page = shown.page
    page.set_viewport_size({"width": LARGE[0], "height": 1400})
    if seen(page).picture != shown.first.picture:
        reset(shown)
    return shown


def reset(shown: Shown) -> None:
    click(shown.page, "reset")
    as_at_first(shown)


def as_at_first(shown: Shown) -> None:
    """Wait until a lab shows again what it did at first; of one that measures, the words but for what was measured."""
    (the_words_again if shown.name == "08_scaling" else the_picture_again)(shown.page, shown.first)


USUAL = ("00_start_here", "03_temperature")  # whose labs have all the usual controls
with_usual_controls = pytest.mark.parametrize("shown", USUAL, indirect=True)


BRING_INTO_VIEW = """() => {
    const notebook = window.jupyterapp?.shell.currentWidget.content
    if (notebook) notebook.scrollToItem(notebook.widgets.indexOf(window.nidaLabs()[window.nidaBefore]), 'start')
    else document.querySelector('.nida-lab').scrollIntoView()
}"""


def wait_for_lab(page) -> None:
    part(page, "img.nida-figure").wait_for(state="attached")
    bring_into_view(page)
    settle(page)


def bring_into_view(page) -> None:
    """JupyterLab hides the cells that are far away; so the cell is looked up, where there are cells."""
    page.evaluate(BRING_INTO_VIEW)
    part(page, "img.nida-figure").wait_for(state="visible")


# What a page shows


@dataclass(frozen=True)
class Seen:
    """What a lab shows: its picture, the line about it, and which step, if it has steps."""

    picture: str
    summary: str
    step: str


def part(page, selector: str):
    """A part of the first lab of a page."""
    return page.locator(".nida-lab").first.locator(selector)


def seen(page) -> Seen:
    return Seen(
        part(page, "img.nida-figure").get_attribute("src"),
        part(page, ".nida-summary").inner_text(),
        number_beside(page, "step").input_value() if part(page, ".nida-step").count() else "",
    )


def number_beside(page, name: str):
    """The labelled number that is linked to a slider."""
    return part(page, f".nida-{name} input[type=number]")


def numbers(page) -> list[str]:
    """That the controls show."""
    return part(page, "input[type=number]").evaluate_all("all => all.map(one => one.value)")


def type_number(page, name: str, text: str) -> None:
    number = number_beside(page, name)
    number.fill(text)
    number.press("Enter")


def new_picture(page, before: Seen) -> Seen:
    """What is shown as soon as the picture is another one."""
    page.wait_for_function(
        "old => { const i = document.querySelector('img.nida-figure'); return i.complete && i.src !== old }",
        arg=before.picture,
    )
    settle(page)
    return seen(page)


def the_picture_again(page, before: Seen) -> None:
    page.wait_for_function("old => document.querySelector('img.nida-figure').src === old", arg=before.picture)
    settle(page)


def words(view: Seen) -> str:
    """The line about a lab, but for what was measured."""
    return re.sub(MEASURED, "", view.summary)


def the_words_again(page, before: Seen) -> None:
    """Of a lab that measures: the line about it is the same but for what was measured."""
    page.wait_for_function(
        """([old, measured]) =>
            document.querySelector('.nida-summary').innerText.replace(RegExp(measured, 'g'), '') === old""",
        arg=[words(before), MEASURED],
    )
    settle(page)


def settle(page) -> None:
    """Wait until the lab has told all it has to tell: picture and line come in several messages."""
    page.wait_for_function(
        """() => {
            const lab = document.querySelector('.nida-lab')
            const now = lab.querySelector('img.nida-figure').src + lab.innerText
            if (now !== window.nidaLast) { window.nidaLast = now; window.nidaSince = performance.now() }
            return performance.now() - window.nidaSince > 300
        }"""
    )


def watch(page, enough: Callable[[list[Seen]], bool]) -> list[Seen]:
    """All that is shown, one after the other, until it is enough."""
    views: list[Seen] = []
    until = time.monotonic() + PATIENCE
    while not enough(views) and time.monotonic() < until:
        page.wait_for_timeout(50)
        if not views or seen(page) != views[-1]:
            views.append(seen(page))
    assert enough(views), views
    return views


def press(page, slider: str, key: str) -> None:
    part(page, f".nida-{slider} [role=slider]").focus()
    page.keyboard.press(key)


def click(page, text: str) -> None:
    """Without the moment that a mouse needs."""
    part(page, "button").filter(has_text=text).evaluate("button => button.click()")


def press_button(page, text: str) -> None:
    """Walk to a button by Tab, from wherever the focus is in the lab, and press it by Enter."""
    for _ in range(100):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.innerText.trim()") == text:
            page.keyboard.press("Enter")
            return
    pytest.fail(f"Tab does not reach the button {text!r}.")


TIMER = """() => {
    window.nidaTimes = []
    document.querySelector('.nida-lab').addEventListener('keydown', () => {
        const start = performance.now(), old = document.querySelector('img.nida-figure').src
        const look = () => {
            const image = document.querySelector('img.nida-figure')
            if (image.src !== old && image.complete) window.nidaTimes.push(performance.now() - start)
            else if (performance.now() - start < 10000) requestAnimationFrame(look)
        }
        requestAnimationFrame(look)
    }, true)
}"""


def milliseconds_to_new_pixels(page, slider: str, presses: int = 5) -> list[float]:
    page.evaluate(TIMER)
    for i in range(presses):
        before = seen(page)
        press(page, slider, ("ArrowLeft", "ArrowRight")[i % 2])
        new_picture(page, before)
    return page.evaluate("() => window.nidaTimes")


FAULTS = """() => {
    const lab = document.querySelector('.nida-lab'), edge = lab.getBoundingClientRect(), faults = []
    if (lab.scrollWidth > lab.clientWidth) faults.push(`the lab is ${lab.scrollWidth - lab.clientWidth} px too wide`)
    const name = e => e.className.match(/nida-[\\w-]+/)?.[0] || e.innerText.trim() || e.className
    const here = e => e.getClientRects().length && !e.closest('.nida-handle')  // which lie over the picture
    const all = [...lab.querySelectorAll('.jupyter-widgets')].filter(here)
    const box = e => {  // of what is seen of it, for long lists of boxes and wide pictures scroll
        const a = e.getBoundingClientRect(), list = e.closest('.nida-choices > .widget-box')?.getBoundingClientRect()
        const bottom = Math.min(a.bottom, list?.bottom ?? Infinity), top = Math.max(a.top, list?.top ?? -Infinity)
        return {left: a.left, right: a.right, top, bottom}
    }
    const leaves = all.filter(e => !e.querySelector('.jupyter-widgets'))
    leaves.forEach((one, i) => {
        const a = box(one)
        if (a.right > edge.right + 1 || a.left < edge.left - 1) faults.push(`${name(one)} leaves the lab`)
        for (const other of leaves.slice(i + 1)) {
            const b = box(other)
            const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left)
            const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top)
            if (wide > 1 && high > 1) faults.push(`${name(one)} and ${name(other)} overlap`)
        }
    })
    const texts = '.widget-label, .jupyter-button, .nida-summary, .nida-status, .nida-caution'
    for (const text of lab.querySelectorAll(texts)) {
        const all = document.createRange()  // its width has fractions: half a pixel too much, and the end is dots
        all.selectNodeContents(text)
        const wide = Math.max(all.getBoundingClientRect().width, text.scrollWidth - 1)
        if (wide > text.clientWidth + 0.1) faults.push(`"${text.innerText.trim()}" is cut off`)
    }
    const image = lab.querySelector('img.nida-figure').getBoundingClientRect()
    if (image.right > edge.right + 1 && edge.width > 420) faults.push('the picture leaves the lab')
    return faults
}"""

BOXES = """() => Object.fromEntries(['lab', 'side', 'main', 'summary', 'figure'].map(name => {
    const b = document.querySelector(`.nida-${name}`).getBoundingClientRect()
    return [name, [b.left, b.top, b.right, b.bottom]]
}))"""

LAID_OUT = """() => {
    const boxes = [...document.querySelectorAll('.nida-lab, .nida-lab .jupyter-widgets, .nida-lab img')].map(one => {
        const b = one.getBoundingClientRect()
        return [b.left, b.top, b.right, b.bottom]
    })
    if (String(boxes) !== window.nidaBoxes) { window.nidaBoxes = String(boxes); window.nidaMoved = performance.now() }
    return performance.now() - window.nidaMoved > 200
}"""


def resize(page, size: tuple[int, int], files: bool = True) -> None:
    """Give the window a size; JupyterLab's list of files takes some of it."""
    page.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
    page.evaluate("files => window.jupyterapp?.shell[files ? 'expandLeft' : 'collapseLeft']?.()", files)
    bring_into_view(page)
    page.evaluate("() => { window.nidaBoxes = undefined }")
    page.wait_for_function(LAID_OUT)  # JupyterLab lays out a little later
    bring_into_view(page)


@dataclass(frozen=True)
class View:
    """How a lab lies in a window: what is cut off or overlaps, and where its parts are, as left, top, right, bottom."""

    faults: list[str]
    boxes: dict[str, list[float]]


def view(page, size: tuple[int, int], files: bool, name: str) -> View:
    resize(page, size, files)
    found = View(page.evaluate(FAULTS), page.evaluate(BOXES))
    keep_screenshot(page, f"{name}-{size[0]}" if files or size[0] < 1000 else f"{name}-{size[0]}-without-files")
    return found


def keep_screenshot(page, name: str) -> None:
    if folder := os.environ.get("NIDA_SCREENSHOTS"):
        keep_page(page, name)
        page.locator(".nida-lab").first.screenshot(path=Path(folder) / f"{name}.png")


def keep_page(page, name: str) -> None:
    if folder := os.environ.get("NIDA_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}-page.png")


def unnamed(page) -> list[str]:
    """Roles of the controls that a screen reader could not name."""
    roles = {"button", "checkbox", "combobox", "listbox", "slider", "spinbutton", "textbox"}
    devtools = page.context.new_cdp_session(page)
    root = devtools.send("DOM.getDocument")["root"]["nodeId"]
    lab = devtools.send("DOM.querySelector", {"nodeId": root, "selector": ".nida-lab"})["nodeId"]
    nodes = devtools.send("Accessibility.queryAXTree", {"nodeId": lab})["nodes"]
    controls = [node for node in nodes if not node["ignored"] and node["role"]["value"] in roles]
    there = part(page, ":is(button, input, select, [role=slider]):visible").count()
    assert len(controls) >= there > 2
    return [node["role"]["value"] for node in controls if not node.get("name", {}).get("value")]


WITHOUT_A_LABELLED_NUMBER = """sliders => sliders.filter(
    slider => !slider.closest('.jupyter-widgets').parentElement.querySelector('input')?.labels[0]?.innerText
        && !slider.closest('.nida-handle')?.innerText
).length"""


# Tests


def test_every_lab_of_the_notebooks_is_seen():
    there = {path.stem: len(labs_of(nbformat.read(path, as_version=4))) for path in FOLDER.glob("*.ipynb")}
    assert Counter(part_of(lab)[0] for lab in LABS if lab not in OWN) == there


def test_a_lab_that_is_only_shown_keeps_what_the_notebook_asked_for(lab):
    # The views in between took longer than a slider that sends back what it has rounded.
    assert lab.later == lab.first
    for value in numbers(lab.page):
        assert len(value) < 8, "more digits than anyone asked for"


def test_nothing_in_a_lab_overlaps_or_is_cut_off(shown):
    assert {window: view.faults for window, view in shown.views.items() if view.faults} == {}


@pytest.mark.parametrize("files", [True, False], ids=["with files", "without files"])
def test_a_laptop_shows_figure_controls_and_score_at_once(shown, files):
    boxes = shown.views[LAPTOP, files].boxes
    left, top, right, _ = boxes["lab"]
    assert max(boxes[name][3] for name in ("side", "summary", "figure")) - top <= SEEN
    assert boxes["side"][2] <= boxes["main"][0] and boxes["summary"][3] <= boxes["figure"][1]
    assert boxes["figure"][2] - boxes["figure"][0] > 0.6 * (right - left - 336)


def test_a_large_screen_is_used_and_a_narrow_one_has_the_figure_first(shown):
    boxes = {size: shown.views[size, size[0] > 1000].boxes for size in SIZES}
    widths = {size: parts["figure"][2] - parts["figure"][0] for size, parts in boxes.items()}
    narrow = 820, 1100
    assert widths[LARGE] > 1.5 * widths[LAPTOP]
    assert boxes[narrow]["figure"][3] <= boxes[narrow]["side"][1] and widths[narrow] > 600


def test_a_lab_has_text_for_what_it_shows_and_names_for_its_controls(lab):
    alts = part(lab.page, "img.nida-figure").evaluate_all("images => images.map(image => image.alt)")
    assert alts and all(len(alt) > 20 for alt in alts)
    # ipywidgets does not name the handles of sliders, and offers no way to.
    assert set(unnamed(lab.page)) <= {"slider"}
    assert part(lab.page, "[role=slider]").evaluate_all(WITHOUT_A_LABELLED_NUMBER) == 0


def test_a_lab_follows_the_keys_and_is_reset_by_keyboard(lab):
    page, slider = lab.page, LABS[lab.name]
    start = number_beside(page, slider).input_value()
    press(page, slider, "ArrowRight")
    changed = words(new_picture(page, lab.first)) != words(lab.first)
    assert changed != (lab.name in SAME_WORDS)
    assert number_beside(page, slider).input_value() != start
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "ArrowLeft", "ArrowLeft"):
        press(page, slider, key)
    as_at_first(lab)  # which none of the others on the way is
    assert number_beside(page, slider).input_value() == start
    before = seen(page)
    press(page, slider, "ArrowRight")
    new_picture(page, before)
    press_button(page, "reset")
    as_at_first(lab)
    assert number_beside(page, slider).input_value() == start


def test_text_can_be_read_in_the_dark(lab):
    page, theme = lab.page, "window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab %s'})"
    page.evaluate(theme % "Dark")
    page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")
    try:
        selectors = (".nida-summary .widget-html-content", ".widget-label", "input[type=number]")
        seen = [part(page, selector).first.evaluate("e => getComputedStyle(e).color") for selector in selectors]
        assert part(page, ".nida-figure").evaluate("e => getComputedStyle(e).backgroundColor") == "rgb(255, 255, 255)"
        keep_screenshot(page, f"{lab.name}-dark")
    finally:
        page.evaluate(theme % "Light")
        page.wait_for_function("() => document.body.dataset.jpThemeLight === 'true'")
    for colour in seen:
        assert min(map(int, re.findall(r"\d+", colour)[:3])) > 150, seen


@with_usual_controls
@pytest.mark.parametrize(
    ("typed", "said"), [("1000", "from 1 to 32, not 1000"), ("7.5", "whole numbers"), ("-3", "not -3")]
)
def test_a_number_that_cannot_be_is_refused_and_the_old_one_comes_back(lab, typed, said):
    page = lab.page
    old = number_beside(page, "every").input_value()
    type_number(page, "every", typed)
    part(page, ".nida-status [role=alert]").filter(has_text=said).wait_for()
    assert "every n-th step" in part(page, ".nida-status").inner_text()
    settle(page)
    assert number_beside(page, "every").input_value() == old and seen(page).picture == lab.first.picture
    type_number(page, "every", "5")
    new_picture(page, lab.first)
    assert number_beside(page, "every").input_value() == "5" and part(page, ".nida-status [role=alert]").count() == 0


@with_usual_controls
def test_new_pixels_follow_a_key_press(lab):
    times = milliseconds_to_new_pixels(lab.page, "noise-std")
    if folder := os.environ.get("NIDA_SCREENSHOTS"):
        (Path(folder) / f"{lab.name}-milliseconds.json").write_text(json.dumps([round(t) for t in times]))
    assert statistics.median(times) < 2000  # 300 and less where nothing else runs


@with_usual_controls
def test_the_steps_play(lab):
    part(lab.page, ".nida-system select").focus()
    press_button(lab.page, "play the steps")
    most = number_beside(lab.page, "temperatures").input_value()
    again = part(lab.page, "button").filter(has_text=PLAY)
    played = watch(lab.page, lambda views: len(views) > 2 and views[-1].step == most and again.count())
    settle(lab.page)  # the last step's number comes before its picture
    played.append(seen(lab.page))
    steps = [int(view.step) for view in played]
    steps = steps[steps.index(1) :]  # it begins anew where the last one is shown at first
    assert steps == sorted(steps) and len(set(steps)) > 2
    assert len({view.picture for view in played}) > 2  # on a busy machine one may be late, and left out
    press_button(lab.page, "reset")
    the_picture_again(lab.page, lab.first)


@pytest.mark.parametrize("shown", USUAL[:1], indirect=True)
def test_a_key_press_and_a_click_that_meet_end_with_the_picture_of_both(lab):
    page = lab.page
    press(page, "temperatures", "ArrowRight")
    between = new_picture(page, lab.first)
    click(page, "sparse")
    both, values = new_picture(page, between), numbers(page)
    for _ in range(10):
        reset(lab)
        press(page, "temperatures", "ArrowRight")
        click(page, "sparse")
        the_picture_again(page, both)
        assert (seen(page).picture, numbers(page)) == (both.picture, values)


@pytest.mark.parametrize("shown", USUAL[:1], indirect=True)
def test_a_slider_moved_while_the_steps_play_ends_with_its_picture(lab):
    page = lab.page
    press(page, "temperatures", "ArrowRight")
    moved, values = new_picture(page, lab.first), numbers(page)
    reset(lab)
    click(page, PLAY)
    watch(page, lambda views: len(views) > 1)
    press(page, "temperatures", "ArrowRight")
    part(page, "button").filter(has_text=PLAY).wait_for()
    the_picture_again(page, moved)
    assert (seen(page).picture, numbers(page)) == (moved.picture, values)


@with_usual_controls
def test_presets_export_and_errors(lab):
    page = lab.page
    part(page, ".nida-system select").focus()
    press_button(page, "sparse")
    sparse = new_picture(page, lab.first)
    assert number_beside(page, "every").input_value() == "16"
    assert "observed values: 2" in sparse.summary

    press_button(page, "export figure")
    page.wait_for_function("() => document.querySelector('.nida-summary').innerText.includes('Written to')")
    written = lab.folder / re.search(r"Written to (\S+\.png)", seen(page).summary)[1]
    assert written.read_bytes().startswith(b"\x89PNG")
    assert json.loads(written.with_suffix(".json").read_text())["every"] == 16

    part(page, ".nida-components input:checked").evaluate_all("all => all.forEach(one => one.click())")
    alert = part(page, ".nida-status [role=alert]")
    alert.wait_for(state="visible")
    assert "observed" in alert.inner_text()
    red, green, blue = map(int, re.findall(r"\d+", alert.evaluate("e => getComputedStyle(e).color"))[:3])
    assert red > 150 and green < 90 and blue < 90
    settle(page)
    assert seen(page).picture == sparse.picture
    keep_screenshot(page, "error")

    part(page, ".nida-system select").focus()
    press_button(page, "reset")
    the_picture_again(page, lab.first)
    assert alert.count() == 0
    assert number_beside(page, "every").input_value() == "8"


@pytest.mark.parametrize("shown", ["01_gaussian_assimilation"], indirect=True)
@pytest.mark.parametrize(("grip", "across", "up"), [(0, 60, 0), (1, -60, 0), (2, 0, 40)])
def test_prior_and_measurement_are_dragged_in_the_picture(lab, grip, across, up):
    page, number = lab.page, "prior-mean" if grip == 0 else "value"
    handle = part(page, ".nida-handle .noUi-handle").nth(grip)
    before, start = float(number_beside(page, number).input_value()), handle.bounding_box()
    image = part(page, "img.nida-figure").bounding_box()
    below, above = LineLab().figure.axes
    units = (ACROSS[1] - ACROSS[0]) / above.get_position().width, (UP[1] - UP[0]) / below.get_position().height
    there = before + units[0] * across / image["width"] + units[1] * up / image["height"]
    x, y = start["x"] + start["width"] / 2, start["y"] + start["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + across, y - up, steps=5)
    page.mouse.up()
    page.wait_for_function(
        "([name, there]) => Math.abs(document.querySelector(`.nida-${name} input`).value - there) < 0.15",
        arg=[number, there],
    )
    assert new_picture(page, lab.first).summary != lab.first.summary


@pytest.fixture(scope="module")
def voila(browser, folder, tmp_path_factory) -> Iterator[str]:
    """The address of a Voilà that serves all notebooks."""
    need("voila")

    def command(port: int) -> list[str]:
        return ["voila", "--no-browser", "--Voila.ip=127.0.0.1", f"--port={port}", "--Voila.port_retries=0"]

    with serving(folder, tmp_path_factory.mktemp("voila"), command) as address:
        yield address


@pytest.mark.parametrize("stem", USUAL)
def test_voila_shows_the_lab_without_code(browser, voila, stem):
    with new_page(browser) as page:
        page.goto(f"{voila}/voila/render/{stem}.ipynb")
        wait_for_lab(page)
        assert page.locator("text=%matplotlib inline").count() == 0
        before = seen(page)
        press(page, "noise-std", "ArrowRight")
        assert new_picture(page, before).summary != before.summary
        for size in SIZES:
            assert view(page, size, True, f"voila-{stem}").faults == []


ONE_LAB = """from nida_kit.lab import LineLab
lab = LineLab()
lab"""


def test_a_lab_without_its_kernel_says_so_and_reopens_as_its_picture(desk, jupyterlab, folder):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(ONE_LAB)])
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(notebook, folder / "one.ipynb")
    run_all(desk, "one.ipynb")
    wait_for_lab(desk)
    gone = desk.locator(".nida-gone")
    assert not gone.is_visible()
    desk.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    desk.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")
    desk.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    gone.wait_for(state="visible")
    assert "Run the cell again" in gone.inner_text()

    saved = nbformat.read(folder / "one.ipynb", as_version=4).cells[0].outputs
    assert len(saved) == 2 and "Densities of x" in saved[0]["data"]["text/plain"]
    page = desk.context.new_page()
    page.goto(jupyterlab.format("/workspaces/again/tree/one.ipynb"))
    lost = page.locator(".jp-OutputArea-output.jupyter-widgets")
    lost.wait_for(state="visible")
    style = lost.evaluate(
        """e => [getComputedStyle(e), getComputedStyle(e, '::before'), getComputedStyle(e, '::after')].map(
            s => [s.fontSize, s.content, s.backgroundImage, s.width, s.height])"""
    )
    keep_page(page, "reopened")
    error, note, picture = style
    assert error[0] == "0px" and "Run the cell again" in note[1] and "Posterior mean" in note[1]
    assert picture[2].startswith('url("data:image/png') and float(picture[3][:-2]) > 500 < float(picture[4][:-2]) + 200

    exporter = pytest.importorskip("nbconvert").HTMLExporter()
    page, _ = exporter.from_filename(str(folder / "one.ipynb"))
    assert page.count("<img") == 1 and "LineLab(" not in page.partition("</head>")[2].replace(ONE_LAB, "")


def test_what_moves_can_be_held_and_rests_for_who_asks_for_less_motion(browser, tmp_path):
    frames = [Image.new("RGB", (40, 20), (20 * k, 0, 0)) for k in range(9)]
    plots.Animation(frames, per_second=20.0, alt="it gets lighter").save(tmp_path / "a.html")
    with new_page(browser) as page:
        page.goto((tmp_path / "a.html").as_uri())
        box, moving, still = page.get_by_label("pause"), page.locator("div[role=img]"), page.locator("img")
        place = "() => getComputedStyle(document.querySelector('div[role=img]')).backgroundPosition"
        page.wait_for_function(f"old => ({place})() !== old", arg=page.evaluate(place))
        assert not still.is_visible()
        box.press("Space")
        # A browser holds an animation at its next frame, which a busy machine draws late.
        page.evaluate("() => Promise.all(document.getAnimations().map(moving => moving.ready))")
        held = page.evaluate(place)
        page.wait_for_timeout(200)  # four frames
        assert page.evaluate(place) == held
        box.press("Space")
        page.wait_for_function(f"old => ({place})() !== old", arg=held)
        page.emulate_media(reduced_motion="reduce")
        assert still.is_visible() and not moving.is_visible() and not box.is_visible()
