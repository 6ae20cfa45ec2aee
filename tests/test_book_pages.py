"""The pages of the book as a reader meets them in a browser, on a laptop and on a phone.

They need the book: `python -m sphinx notebooks build/book`. Without it they are skipped, or fail where NIDA_BOOK is
set, as it is when a book was to be made of notebooks that were run already.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import LAPTOP, PHONE, launched

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "build" / "book"
WRITTEN = [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("notebooks/book/*.md"), *ROOT.glob("notebooks/[a-z]*.md")]

# What a reader would see of a page: whether it is wider than the window, and pictures that did not come.
FAULTS = """() => {
    const wide = document.scrollingElement.scrollWidth - document.documentElement.clientWidth, faults = []
    const box = e => e.getBoundingClientRect()
    const scrolls = e => ['auto', 'scroll'].includes(getComputedStyle(e).overflowX)
    if (wide > 1) {
        const all = [...document.querySelectorAll('body *')].filter(e => box(e).right > innerWidth + 1 && box(e).width)
        const held = e => { for (let p = e.parentElement; p; p = p.parentElement) if (scrolls(p)) return true }
        const out = all.filter(e => !held(e)).map(e => `${e.tagName}.${e.className} ${e.innerText?.slice(0, 40)}`)
        faults.push(`${wide} px too wide: ${out.slice(0, 3)}`)
    }
    // On a laptop, what a cell says is read without scrolling.
    for (const said of innerWidth > 1000 ? document.querySelectorAll('.cell_output pre, .cell_output table') : []) {
        const room = said.tagName === 'PRE' ? said.clientWidth : said.closest('.cell_output').clientWidth
        const past = said.scrollWidth - room
        if (past > 2 && said.innerText) faults.push(`${past} px past its edge: ${said.innerText.slice(0, 60)}`)
    }
    for (const image of document.images) image.loading = 'eager'
    return Promise.all([...document.images].map(image => image.decode().catch(() => {
        faults.push(`no picture: ${image.src.slice(0, 80)}`)
    }))).then(() => faults)
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator:
    if not (BOOK / "index.html").is_file():
        (pytest.fail if "NIDA_BOOK" in os.environ else pytest.skip)(
            "python -m sphinx notebooks build/book makes the book"
        )
    with launched() as chromium:
        yield chromium


@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_no_page_is_wider_than_the_window_and_all_pictures_come(browser, size):
    pages = sorted(path for path in BOOK.rglob("*.html") if "_static" not in path.parts)
    assert {path.stem for path in WRITTEN} - {"README"} <= {path.stem for path in pages}
    page = browser.new_page(viewport=dict(zip(("width", "height"), size, strict=True)))
    found: dict[str, list[str]] = {}
    said: list[str] = []
    page.on("pageerror", lambda error: said.append(str(error)))
    for path in pages:
        said.clear()
        page.goto(path.as_uri())
        if faults := page.evaluate(FAULTS) + said:
            found[path.name] = faults
        if folder := os.environ.get("NIDA_SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"book-{path.stem}-{size[0]}.png")
    page.close()
    assert found == {}


def test_the_book_is_searched(browser):
    page = browser.new_page()
    page.goto(f"{(BOOK / 'search.html').as_uri()}?q=inflation")
    page.locator("#search-results a", has_text="Ensembles and particles").first.wait_for()
    page.close()


def test_a_figure_of_the_gallery_leads_to_the_cell_that_makes_it(browser):
    page = browser.new_page(viewport={"width": LAPTOP[0], "height": LAPTOP[1]})
    page.goto((BOOK / "book" / "gallery.html").as_uri())
    page.locator("a[href$='#figure-temperature_steps']").click()
    page.wait_for_url("**/03_temperature.html#figure-temperature_steps")
    below = "document.getElementById('figure-temperature_steps').getBoundingClientRect().top"
    page.wait_for_function(f"() => {below} >= 0 && {below} < innerHeight")
    page.close()


def test_arrow_keys_turn_the_slides(browser):
    page = browser.new_page(viewport={"width": LAPTOP[0], "height": LAPTOP[1]})
    page.goto((BOOK / "slides.html").as_uri())
    second = page.locator("section > section").nth(1)
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
        page.wait_for_timeout(300)  # a page turns smoothly
    assert abs(second.bounding_box()["y"]) < LAPTOP[1] / 4
    page.close()
