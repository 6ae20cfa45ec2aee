"""The book's own parts: what it takes from notebooks and docstrings, and that links which lead nowhere are found.

That it builds, `.ci/run` tests.
"""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

import nida_kit as nk
from nida_kit.notebook import record as record_of

pytest.importorskip("sphinx", reason="pip install -e '.[docs]'")
FOLDER = Path(__file__).parents[1] / "notebooks"


@pytest.fixture
def conf(monkeypatch):
    """The book's configuration, as a module."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import conf

    yield conf
    sys.modules.pop("conf", None)


def test_the_reference_has_every_public_name_once(conf):
    assert sorted(name for names in conf.groups().values() for name in names) == sorted(nk.__all__)


def test_the_gallery_names_the_notebook_whose_cell_makes_the_figure(conf):
    shown = re.findall(r"\.\./(\w+)\.html#figure-(\w+)", (FOLDER / "book" / "gallery.md").read_text())
    assert len(shown) >= 10
    for stem, figure in shown:
        notebook = nbformat.read(FOLDER / f"{stem}.ipynb", as_version=4)
        at = conf.figure_cells(notebook)[figure]
        assert "plots." in notebook.cells[at].source, figure


def test_the_gallery_says_root_mean_squared_errors_of_what_it_names(conf):
    record, rmse = conf._record, conf.looked_up(conf._record)
    drawn = record["temperature_ablation"]["panels"][0]["shows"]
    for name, variant in (("falling", "linear"), ("held", "s = 0.25 held")):
        assert rmse[name] == pytest.approx(drawn[variant]["y"][drawn[variant]["x"].index(8)], rel=1e-3)
    assert rmse["dense"] < rmse["rare"] < 1 and rmse["sharp"] < rmse["coarse"]
    # The figure of errors against work is in root mean squares already.
    study = {row["name"]: row["mse"] for row in record_of("cost")["rows"]}
    pareto = record["cost_pareto"]["lines"]
    assert pareto["NIDA (shipped)"][-1][1] == pytest.approx(study["NIDA (shipped), 8 temperatures"] ** 0.5, rel=1e-3)
    text = (FOLDER / "book" / "gallery.md").read_text()
    assert not re.search(r"(cost_pareto|cost_steps)[^}]*\*\* 0\.5", text)


def test_a_notebook_is_shown_with_pictures_in_place_of_labs(conf):
    lab = nbformat.v4.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}, "image/png": "a"})
    still = nbformat.v4.new_output("display_data", {"text/html": '<div class="nida-still-1"></div>'})
    cells = [
        nbformat.v4.new_code_cell(
            "fig = plots.figure()", outputs=[lab, still], metadata={"jupyter": {"source_hidden": True}}
        ),
        nbformat.v4.new_code_cell('plots.save(fig, FIGURES / "one.png", {})'),
    ]
    notebook = conf.shown(nbformat.v4.new_notebook(cells=cells, metadata={"widgets": {}}))
    nbformat.validate(notebook)
    assert notebook.cells[0].source == '<span id="figure-one"></span>'
    assert [list(output["data"]) for output in notebook.cells[1].outputs] == [["image/png"]]
    assert notebook.cells[1].metadata.tags == ["hide-input"] and "tags" not in notebook.cells[2].metadata
    assert "widgets" not in notebook.metadata


def test_links_that_lead_nowhere_are_found(conf, tmp_path, monkeypatch):
    (tmp_path / "a.html").write_text(
        '<p id="here"><a href="#here"></a><a href="b.html#there"></a><a href="https://x.org"></a></p>'
    )
    (tmp_path / "b.html").write_text('<a href="a.html#here"></a><img src="c.png">')
    found = []
    monkeypatch.setattr(conf.log, "warning", lambda text, *parts: found.append(text % parts))
    conf.check_links(SimpleNamespace(builder=SimpleNamespace(format="html"), outdir=tmp_path), None)
    assert sorted(found) == ["a.html: the link b.html#there leads nowhere", "b.html: the link c.png leads nowhere"]


def test_formulas_of_docstrings_stay_as_they_are(conf):
    lines = ["A * b and `c * d`:", "", "    x * y", "", ">>> 2 * 2", "4", "", "Args:", "    k: |k| of it."]
    conf.plain(None, "function", "f", None, None, lines)
    assert lines == [
        "A \\* b and `c * d`:",
        "",
        "::",
        "",
        "    x * y",
        "",
        ">>> 2 * 2",
        "4",
        "",
        "Args:",
        "    k: \\|k\\| of it.",
    ]
