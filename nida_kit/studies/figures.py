"""Every figure of the notebooks, anew: `python -m nida_kit.studies.figures`, from the repository's root.

Runs each notebook that can export, with `export` on and its parameters as committed, and leaves what it writes in
`figures/`: PNG, PDF, and the JSON of the numbers; of what moves, a GIF and its last frame as PNG. The studies' own JSON
files are read, not measured again.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

# Keys whose numbers depend on the machine.
TIMED = {"seconds", "milliseconds", "minutes", "timing", "timings", "exponents"}


def exporting(folder: Path) -> list[Path]:
    """The notebooks of a folder that have the parameter `export`.

    Raises:
        ValueError: there are none.
    """
    import papermill

    found = [path for path in sorted(folder.glob("*.ipynb")) if "export" in papermill.inspect_notebook(str(path))]
    if not found:
        raise ValueError(f"No notebook in {folder.resolve()} has the parameter export: run this in the root.")
    return found


def regenerate(notebooks: list[Path], root: Path, progress: Callable = tqdm, **parameters: Any) -> None:
    """Run notebooks in `root`, which has the folder `figures`; errors within labs are raised."""
    import papermill

    os.environ["NIDA_STRICT"] = "1"
    for path in (bar := progress(notebooks)):
        bar.set_description(path.stem)
        with tempfile.TemporaryDirectory() as scratch:
            out = str(Path(scratch) / path.name)
            asked = parameters | {"export": True}
            papermill.execute_notebook(str(path), out, asked, cwd=str(root), progress_bar=False)


def redraw(only: Sequence[str] = ()) -> None:
    """Draw the figures of the notebooks of this folder anew, of those whose names begin so, or of all.

    Raises:
        ValueError: no such notebook.
    """
    known = exporting(Path("notebooks"))
    chosen = [path for path in known if path.name.startswith(tuple(only) or "")]
    if not chosen:
        raise ValueError(f"No notebook begins with {list(only)}; there are {[path.stem for path in known]}.")
    Path("figures").mkdir(exist_ok=True)
    regenerate(chosen, Path.cwd())


def numbers(record: Any, name: str = "") -> Iterator[tuple[str, list[float]]]:
    """All numbers of a figure's record by their place in it, but for those that depend on the machine.

    What is a list of numbers there is one here; any other number is alone.
    """
    if isinstance(record, list) and record and all(map(_is_number, record)):
        yield name, [float(value) for value in record]
    elif isinstance(record, dict | list):
        items = record.items() if isinstance(record, dict) else enumerate(record)
        for key, value in items:
            if key not in TIMED:
                yield from numbers(value, f"{name}/{key}")
    elif _is_number(record):
        yield name, [float(record)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m nida_kit.studies.figures")
    parser.add_argument("only", nargs="*", help="beginnings of notebook names, 03 06; none is all")
    redraw(parser.parse_args().only)
