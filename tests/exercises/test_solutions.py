"""Every exercise of a notebook: its solution is right; its empty cell and typical mistakes are refused helpfully."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
from wrong import WRONG

from nida_kit import exercises

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def triples(path: Path) -> list[tuple[str, str, str]]:
    """Source of each exercise of a notebook: its cell, its check and its solution."""
    cells = nbformat.read(path, 4).cells
    tagged = [
        (tag, cell.source)
        for cell in cells
        for tag in cell.metadata.get("tags", ())
        if tag in ("exercise", "check", "solution")
    ]
    assert [tag for tag, _ in tagged] == ["exercise", "check", "solution"] * (len(tagged) // 3), path.name
    sources = [source for _, source in tagged]
    return list(zip(sources[::3], sources[1::3], map(unfolded, sources[2::3]), strict=True))


def unfolded(text: str) -> str:
    """The code of a solution that unfolds."""
    found = re.fullmatch(r"<details><summary>[^<]+</summary>\s+```python\n(.+?)```.*</details>\s*", text, re.S)
    assert found, text
    return found[1]


def verdict(answer: str, check: str) -> exercises.Verdict:
    """Run both cells in an empty notebook: an exercise imports what it needs."""
    scope: dict = {}
    exec(answer, scope)
    *first, last = ast.parse(check).body
    exec(compile(ast.Module(first, []), "check", "exec"), scope)
    return eval(compile(ast.Expression(last.value), "check", "eval"), scope)


def name_of(check: str) -> str:
    return re.search(r"exercises\.(\w+)\(", check)[1]


EXERCISES = {name_of(check): (cell, check, solution) for path in NOTEBOOKS for cell, check, solution in triples(path)}


@pytest.mark.parametrize("name", EXERCISES)
def test_solutions_are_right_and_empty_answers_are_not(name):
    cell, check, solution = EXERCISES[name]
    right = verdict(solution, check)
    assert isinstance(right, exercises.Verdict) and right, str(right)
    empty = verdict(cell, check)
    assert not empty and "returns nothing" in empty.text and str(empty).startswith("Not yet")


@pytest.mark.parametrize(("name", "answer", "words"), [(name, *wrong) for name in WRONG for wrong in WRONG[name]])
def test_typical_wrong_answers_are_refused_with_what_is_wrong(name, answer, words):
    found = verdict(answer, EXERCISES[name][1])
    assert not found and words in found.text, str(found)


def test_every_check_has_its_exercise_and_its_wrong_answers():
    assert set(EXERCISES) == set(WRONG) == set(exercises.__all__) - {"Verdict"}
