"""The book: `python -m sphinx -W --keep-going notebooks build/book`, from the root of a clone.

Every notebook is run when it is read, once, which takes half an hour in all, and shown with its outputs. Where the
environment variable NIDA_BOOK names a folder, the notebooks there have been run already: `build/notebooks` has those that
tests/test_notebooks.py ran, with small sizes.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import nbformat
import papermill
import xarray as xr
from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

import nida_kit as nk

HERE = Path(__file__).parent
ROOT = HERE.parent

project = "nida_kit"
copyright = "the nida_kit developers"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["README.md", "**.ipynb_checkpoints"]
default_role = "code"  # docstrings have `names` in single backticks
templates_path = ["book/_theme"]
html_theme = "furo"
html_static_path = ["book/_theme/book.css"]
html_css_files = ["book.css"]
html_title = "nida_kit"
html_math_renderer = "mathml"
html_show_sourcelink = False
html_show_copyright = False

nb_execution_mode = "off"  # `executed` below does that
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "substitution"]
myst_heading_anchors = 3


def looked_up(record: dict[str, Any]) -> dict[str, float]:
    """Root mean squared errors of the gallery that lie in a grid, by what was measured there."""
    ablation = xr.Dataset.from_dict(record["temperature_ablation"]["ablation"])["mse"] ** 0.5
    sweep = xr.Dataset.from_dict(record["observation_sweep"]["sweep"])["mse"].sel({"method": "NIDA"}) ** 0.5
    epochs = record["training_epochs"]["study"]
    coarse, *_, sharp = (line[-1] ** 0.5 for line in epochs["mse"])
    return {
        "four_steps": float(ablation.sel(variant="linear", steps=4)),
        "falling": float(ablation.sel(variant="linear", steps=8)),
        "held": float(ablation.sel(variant="s = 0.25 held", steps=8)),
        "dense": float(sweep.sel(spacing=2, noise=0.02)),
        "rare": float(sweep.sel(spacing=16, noise=0.5)),
        "coarse": coarse,
        "sharp": sharp,
    }


# {{ record.NAME.KEY }} in a page is a number of figures/NAME.json, {{ rmse.NAME }} one of `looked_up`.
_record = {path.stem: json.loads(path.read_text()) for path in (ROOT / "figures").glob("*.json")}
myst_substitutions = {"record": _record, "rmse": looked_up(_record)}

napoleon_use_ivar = True
napoleon_attr_annotations = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures with shapes are longer than what the docstrings say of them
autodoc_default_options = {"members": True, "undoc-members": False}

STILL = re.compile('^<div class="nida-still-')  # for JupyterLab: what it shows where a lab was
SECTION = re.compile(r"[A-Z]\w+:$")  # of a docstring
MARKS = re.compile(r"([*|])(?=(?:[^`]*`[^`]*`)*[^`]*$)")  # outside of backticks

log = logging.getLogger(__name__)


# Notebooks


def executed(app: Sphinx, name: str, source: list[str]) -> None:
    """Put its outputs into a notebook that was read."""
    path = HERE / f"{name}.ipynb"
    if path.is_file():
        source[0] = nbformat.writes(shown(run(path)))


def run(path: Path) -> nbformat.NotebookNode:
    """A notebook with its outputs, from a folder of those that were run already or by running it now."""
    if "NIDA_BOOK" in os.environ:
        return nbformat.read(ROOT / os.environ["NIDA_BOOK"] / path.name, as_version=4)
    os.environ["NIDA_STRICT"] = "1"  # errors within labs are raised
    with tempfile.TemporaryDirectory() as folder:
        return papermill.execute_notebook(str(path), None, cwd=folder, progress_bar=False)


def shown(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A notebook as the book shows it.

    Labs are pictures, for no kernel runs them here; what JupyterLab folds away is folded here too; and before the cell
    that draws a figure of the gallery stands a mark.
    """
    notebook.metadata.pop("widgets", None)
    marks = figure_cells(notebook)
    cells = []
    for i, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            cell.outputs = [
                output for output in cell.outputs if not STILL.search(output.get("data", {}).get("text/html", ""))
            ]
        if cell.metadata.get("jupyter", {}).get("source_hidden"):
            cell.metadata.tags = [*cell.metadata.get("tags", []), "hide-input"]
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
        marked = "".join(f'<span id="figure-{figure}"></span>' for figure, at in marks.items() if at == i)
        cells += [nbformat.v4.new_markdown_cell(marked)] if marked else []
        cells.append(cell)
    notebook.cells = cells
    return notebook


def figure_cells(notebook: nbformat.NotebookNode) -> dict[str, int]:
    """Of each figure that a notebook exports, by its file's name, the cell that makes it."""
    code = {i: cell.source for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"}
    saved = re.findall(r'plots\.save\(\s*(\w+)[^,]*, FIGURES / "(\w+)\.png"', "\n".join(code.values()))
    made = {}
    for variable, figure in saved:
        assigned = [i for i, source in code.items() if re.search(rf"^[^(=\n]*\b{variable}\b[^(=\n]* = ", source, re.M)]
        made[figure] = assigned[-1]
    return made


# The reference of the public names, in the groups of `help(nida_kit)`


def groups() -> dict[str, list[str]]:
    """Public names by what one wants to do."""
    listed = nk.__doc__.split("say more:\n")[1].split("In a shell")[0]
    found: dict[str, list[str]] = {}
    for block in re.split(r"\n(?=    \S)", re.sub(r"\([^)]*\)", "", listed)):
        what, _, names = block.strip().partition("  ")
        known = [name for group in found.values() for name in group]
        found[what] = [
            name for name in dict.fromkeys(re.findall(r"\w+", names)) if name in nk.__all__ and name not in known
        ]
    return {what: names for what, names in found.items() if names}


def reference(app: Sphinx, name: str, source: list[str]) -> None:
    """Write the entries of the page that has the reference."""
    if name == "book/api":
        source[0] += "".join(
            f"\n## {what.capitalize()}\n\n{''.join(map(entry, names))}" for what, names in groups().items()
        )


def plain(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Docstrings are plain text with indented formulas: show these as they stand, and each * and | as itself."""
    written: list[str] = []
    formula = example = False
    for line in lines:
        before = next((other for other in reversed(written) if other.strip()), " ")
        starts_block = bool(written) and not written[-1].strip()
        if starts_block and line.startswith(" ") and before[0] != " " and not SECTION.match(before):
            formula = True
            written += ["::", ""]
        formula = formula and line[:1] in ("", " ")
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        written.append(line if formula or example else MARKS.sub(r"\\\1", line))
    lines[:] = written


def entry(name: str) -> str:
    """The directive that documents a public name."""
    thing = getattr(nk, name)
    kind = "class" if isinstance(thing, type) else "function" if callable(thing) else "module"
    return f"```{{eval-rst}}\n.. auto{kind}:: nida_kit.{name}\n```\n\n"


# Formulas, which browsers draw by themselves: no network is needed


def inline(writer: HTML5Translator, node: nodes.math) -> None:
    """A formula within a line."""
    writer.body.append(mathml(node))
    raise nodes.SkipNode


def block(writer: HTML5Translator, node: nodes.math_block) -> None:
    """A formula on lines of its own."""
    writer.body.append(f'<div class="math">{mathml(node, as_block=True)}</div>')
    raise nodes.SkipNode


def mathml(node: nodes.Node, as_block: bool = False) -> str:
    """A formula as MathML; what cannot be translated is a warning, and stands there as it was written."""
    tex = node.astext().replace(r"\dots", r"\ldots").replace(r"\big", "")
    try:
        return tex2mathml(tex, as_block=as_block)
    except MathError as error:
        log.warning("the formula %s: %s", tex, error, location=node)
        return f"<code>{escape(tex)}</code>"


# Slides


def bare(app: Sphinx, name: str, template: str, context: dict, doctree: object) -> str | None:
    """The slides have a page without the book around it."""
    return "slides.html" if name == "slides" else None


# Links


class Page(HTMLParser):
    """The places of a page, and where its links lead."""

    def __init__(self, text: str):
        super().__init__()
        self.places: set[str] = set()
        self.links: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.places |= {given[key] for key in ("id", "name") if given.get(key)}
        self.links |= {given[key] for key in ("href", "src") if given.get(key)}


def check_links(app: Sphinx, failed: Exception | None) -> None:
    """Warn of links within the book that lead nowhere."""
    if failed or app.builder.format != "html":
        return
    out = Path(app.outdir)
    pages = {path: Page(path.read_text()) for path in out.rglob("*.html") if "_static" not in path.parts}
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            place = unquote(parts.fragment)
            if not target.exists() or (place and target in pages and place not in pages[target].places):
                log.warning("%s: the link %s leads nowhere", path.relative_to(out), link)


def setup(app: Sphinx) -> dict[str, bool]:
    """Join all this with sphinx."""
    sys.path.insert(0, str(ROOT))
    app.connect("source-read", executed)
    app.connect("source-read", reference)
    app.connect("autodoc-process-docstring", plain, priority=400)  # before napoleon
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.connect("html-page-context", bare)
    app.connect("build-finished", check_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
