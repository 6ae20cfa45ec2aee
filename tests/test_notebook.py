"""The parameters of notebooks: names that are unknown, and values that are refused."""

from pathlib import Path

import numpy as np
import pytest

from nida_kit import notebook

CELL = 'path: str = ""  # a file\nsamples: int = 3  # how many'
RULES = {"path": notebook.text, "samples": notebook.whole(1, 9)}
VALUES = {"path": "", "samples": 3}


def given(*cells: str) -> dict:
    """The globals of a notebook in which these cells were run, after an empty entry that IPython begins with."""
    return VALUES | {"In": ["", *cells, "notebook.parameters(globals(), ...)"]}


def test_known_names_of_papermill_pass():
    notebook.parameters(given(CELL, '# Parameters\nsamples = 3\npath = "a.nc"\n'), **RULES)


@pytest.mark.parametrize("value", ['"a.nc"', "3", "[1, 2]", "None", "-1.5", "float('nan')"])
def test_a_misspelt_name_of_papermill_is_refused_and_the_right_one_named(value):
    with pytest.raises(ValueError, match=r"no parameter 'sample'\. Did you mean samples"):
        notebook.parameters(given(CELL, f"# Parameters\nsample = {value}\n"), **RULES)


def test_a_misspelt_name_in_the_cell_itself_is_refused():
    with pytest.raises(ValueError, match="no parameter 'pth'"):
        notebook.parameters(given(f'{CELL}\npth = "a.nc"'), **RULES)


def test_cells_of_a_users_own_and_corrected_ones_are_none_of_its_business():
    wrong = '# Parameters\npth = "a.nc"\n'
    notebook.parameters(given(CELL, wrong, CELL, "scratch = 3", "import os\nother = 4"), **RULES)


def test_a_parameter_without_a_value_or_a_rule_is_refused():
    with pytest.raises(ValueError, match="'samples' has no value"):
        notebook.parameters({"path": ""}, **RULES)
    with pytest.raises(ValueError, match="no parameter 'samples'"):
        notebook.parameters(given(CELL), path=notebook.text)


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (notebook.whole(1, 8), [1, 8, np.int64(3)], [0, 9, 2.0, True, "3", None]),
        (notebook.number(0.0, 2.0), [0, 2.0], [-0.1, 2.1, float("nan"), True, "1"]),
        (notebook.each(notebook.whole(1, 3)), [[1], [3, 2]], [[], [4], 1, "12", (1,)]),
        (notebook.each(notebook.text, least=0, most=1), [[], ["a"]], [["a", "b"], [1]]),
        (notebook.switch, [True, False], [0, 1, "true", None]),
        (notebook.one_of(["a", "b"]), ["a"], ["c", 1]),
        (notebook.file_or_none, ["", __file__], ["missing.nc", 3]),
        (notebook.written(".nc"), ["a.nc"], ["a.png", "missing/a.nc", 3]),
    ],
)
def test_rules(rule, good, bad):
    for value in good:
        rule("it", value)
    for value in bad:
        with pytest.raises(ValueError, match=r"^it"):
            rule("it", value)


def test_figures_go_to_the_folder_that_there_is(tmp_path, monkeypatch):
    inner = tmp_path / "notebooks"
    inner.mkdir()
    monkeypatch.chdir(inner)
    assert notebook.figures() == Path("figures")  # there is none yet: an export makes it here
    (tmp_path / "figures").mkdir()
    assert notebook.figures() == Path("../figures")
    (inner / "figures").mkdir()
    assert notebook.figures() == Path("figures")


def test_a_study_that_is_not_on_record_is_refused():
    with pytest.raises(ValueError, match=r"study='law'.*'laws'"):
        notebook.record("law")
