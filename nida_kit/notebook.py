"""What a notebook is given: its parameters are checked here, each by a rule; records and the folder of its figures.

A notebook has a cell of parameters, and papermill writes another one below it with those that a user asks for by
`-p name value`. A misspelt name would be written there and used nowhere. So the cell after them calls `parameters`,
with a rule for each name that there is: a name without a rule is an error.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

from nida_kit import checks

Rule = Callable[[str, Any], object]
"""rule(name, value) raises a ValueError if the parameter cannot have this value."""

_INJECTED = "# Parameters"  # how papermill begins its cell


def parameters(scope: Mapping[str, Any], /, **rules: Rule) -> None:
    """Check the parameters of a notebook: their names and their values.

    >>> parameters({"samples": 20, "export": False}, samples=whole(1, 100), export=switch)

    Args:
        scope: `globals()` of the notebook.
        rules: one for each parameter that the notebook has, by its name.

    Raises:
        ValueError: a name without a rule in the cell of parameters or in that of papermill, a rule for a name that has
            no value, or a value that its rule refuses.
    """
    unknown = sorted(_given(scope.get("In", ()), rules) - set(rules))
    if unknown:
        near = get_close_matches(unknown[0], rules, 1)
        advice = f"Did you mean {near[0]}? " if near else ""
        raise ValueError(f"This notebook has no parameter {unknown[0]!r}. {advice}It has {', '.join(rules)}.")
    for name, rule in rules.items():
        if name not in scope:
            raise ValueError(f"The parameter {name!r} has no value: run the cell of parameters first.")
        rule(name, scope[name])


def _given(cells: Collection[str], rules: Collection[str]) -> set[str]:
    """Names that are set in the cell of parameters, as it was run last, and in the cells of papermill after it.

    Outside a notebook there are no cells, and nothing is written into them.
    """
    names = [_assigned(source) for source in cells]
    own = [k for k, found in enumerate(names) if not cells[k].startswith(_INJECTED) and len(found & set(rules)) > 0]
    if not own:
        return set()
    last = own[-1]
    return names[last].union(*(names[k] for k in range(last, len(names)) if cells[k].startswith(_INJECTED)))


def _assigned(source: str) -> set[str]:
    """Names that a cell gives plain values to; none if the cell does anything else."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return set()
    names = set()
    for line in body:
        targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
        if not isinstance(line, ast.Assign | ast.AnnAssign) or not _is_plain(line.value):
            return set()
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def _is_plain(value: ast.expr | None) -> bool:
    """Whether this is a number, a text, a list of them, and so on: what a parameter can be."""
    try:
        ast.literal_eval(value)
    except (ValueError, TypeError):
        # papermill writes infinity as float('inf')
        return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "float"
    return True


# Files


def record(study: str) -> dict[str, Any]:
    """What `python -m nida_kit.studies.<study>` measured, as this package has it on record.

    >>> record("laws")["windows"]
    1000

    Raises:
        ValueError: there is no such record.
    """
    folder = resources.files("nida_kit") / "studies"
    known = sorted(file.name.removesuffix(".json") for file in folder.iterdir() if file.name.endswith(".json"))
    checks.one_of("study", study, known)
    return json.loads((folder / f"{study}.json").read_text())


def figures() -> Path:
    """The folder that a notebook exports to: `figures` here or one level up, and if there is none, `figures` here."""
    return next((path for path in (Path("figures"), Path("../figures")) if path.is_dir()), Path("figures"))


# Rules


def whole(low: int, high: int) -> Rule:
    """A whole number from `low` to `high`.

    >>> whole(1, 8)("temperatures", 9)
    Traceback (most recent call last):
    ...
    ValueError: temperatures=9 must be a whole number from 1 to 8. Try temperatures=1.
    """
    return lambda name, value: checks.count(name, value, low, high)


def number(low: float, high: float) -> Rule:
    """A number from `low` to `high`."""
    return lambda name, value: checks.within(name, value, low, high)


def each(rule: Rule, least: int = 1, most: int | None = None) -> Rule:
    """A list, each item of which follows the rule.

    >>> each(whole(1, 32))("spacings", [2, 4])
    """

    def check(name: str, values: Any) -> None:
        size = len(values) if isinstance(values, list) else -1
        if size < least or (most is not None and size > most):
            bounds = f"{least} or more" if most is None else f"{least} to {most}"
            raise checks.refused(name, values, f"a list of {bounds} values", f"Try {name}=[...], with square brackets.")
        for value in values:
            rule(name, value)

    return check


def switch(name: str, value: Any) -> None:
    """True or False."""
    if not isinstance(value, bool):
        raise checks.refused(name, value, "true or false", f"Try {name}=False.")


def text(name: str, value: Any) -> None:
    """Any text."""
    if not isinstance(value, str):
        raise checks.refused(name, value, "a text", f'Try {name}="...", with quotes.')


def one_of(allowed: Collection[str]) -> Rule:
    """One of these texts."""
    return lambda name, value: checks.one_of(name, value, list(allowed))


def file_or_none(name: str, value: Any) -> None:
    """The path of a file that there is, or an empty text."""
    text(name, value)
    if value and not Path(value).is_file():
        raise ValueError(f"{name}={value!r} is no file in {Path.cwd()}. Give its path from there, or the whole path.")


def written(suffix: str) -> Rule:
    """A path with this ending, in a folder that there is."""

    def check(name: str, value: Any) -> None:
        text(name, value)
        if not value.endswith(suffix):
            raise ValueError(f"{name}={value!r} must be a path that ends in {suffix}.")
        if not Path(value).parent.is_dir():
            raise ValueError(f"{name}={value!r}: its folder does not exist. Make it first, or give another path.")

    return check
