"""Every notebook runs, twice, with small sizes; and one as a user's own data would use it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import xarray as xr
from sizes import OTHER, SMALL, WRONG

import nida_kit as nk
from nida_kit.studies import figures

pm = pytest.importorskip("papermill")

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
RUN = ROOT / "build" / "notebooks"  # where the book finds notebooks that were run
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LOOSE = {"ensemble_localisation": 0.3}  # after 20 units of its time, machines see different chaos
CHAOTIC = ("ensemble_localisation", "scaling_state")  # figures of few and long experiments with Lorenz-96
TIMES = ("scaling", "cost", "train_gradients", "gaussian_band")  # figures that draw seconds
# Below the title: on Colab this installs the package, elsewhere it does nothing.
INSTALL = 'import sys\n\nif "google.colab" in sys.modules:\n    %pip install -q "nida_kit[notebooks,data]"'
EXTRA_KEYS = "metadata.papermill cell.metadata.papermill"


def execute(path: Path, folder: Path, parameters: dict):
    """Run a notebook in a folder, refuse parameters that it has not, and find errors that papermill does not see."""
    unknown = set(parameters) - set(pm.inspect_notebook(str(path)))
    if unknown:
        raise ValueError(f"{path.name} has no parameters {sorted(unknown)}.")
    out = folder / "out.ipynb"
    pm.execute_notebook(str(path), str(out), parameters, cwd=str(folder), progress_bar=False)
    notebook = nbformat.read(out, as_version=4)
    assert hidden_errors(notebook) == []
    return notebook


def hidden_errors(notebook) -> list[str]:
    """Errors within outputs and within the saved state of widgets."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    states = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    outputs += [output for state in states.values() for output in state["state"].get("outputs", [])]
    found = [str(output) for output in outputs if output["output_type"] == "error"]
    return found + [o["text"] for o in outputs if o.get("name") == "stderr" and "Traceback" in o["text"]]


def test_errors_that_papermill_does_not_see_are_found():
    raised = nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
    printed = nbformat.v4.new_output("stream", name="stderr", text="Traceback (most recent call last): ...")
    harmless = nbformat.v4.new_output("stream", name="stderr", text="a warning")
    cell = nbformat.v4.new_code_cell(outputs=[harmless, printed])
    state = {"state": {"a": {"state": {"outputs": [raised]}}, "b": {"state": {}}}}
    metadata = {"widgets": {"application/vnd.jupyter.widget-state+json": state}}
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata=nbformat.from_dict(metadata))
    assert len(hidden_errors(notebook)) == 2
    assert hidden_errors(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[harmless])])) == []


@pytest.fixture(autouse=True)
def strict(monkeypatch):
    monkeypatch.setenv("NIDA_STRICT", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def folder_like_the_repository(tmp_path: Path) -> Path:
    (tmp_path / "figures").mkdir()
    return tmp_path


def test_every_notebook_is_run():
    assert {path.stem for path in NOTEBOOKS} == set(SMALL) == set(OTHER) == {stem for stem, _ in WRONG}


def test_every_notebook_is_listed():
    listed = re.findall(r"^\| \[(\w+)\]\((\w+)\.ipynb\)", (FOLDER / "README.md").read_text(), re.M)
    assert listed == [(path.stem, path.stem) for path in NOTEBOOKS]


@pytest.mark.parametrize("which", [SMALL, OTHER], ids=["small", "other"])
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run_and_show_their_labs_without_a_kernel(path, which, tmp_path):
    folder = folder_like_the_repository(tmp_path)
    parameters = which[path.stem]
    notebook = execute(path, folder, parameters)
    for cell in (cell for cell in notebook.cells if re.search(r"\w*Lab\(", cell.source)):
        shown = cell.outputs[0]["data"]
        assert {"application/vnd.jupyter.widget-view+json", "image/png"} < set(shown) and len(shown["text/plain"]) > 50
    outputs = (output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))
    assert all(len(data.get("text/html", "")) < 1_000_000 for data in outputs)  # what moves, above all
    if which is SMALL:
        assert [
            o["text"] for c in notebook.cells for o in c.get("outputs", []) if "Warning:" in o.get("text", "")
        ] == []
        RUN.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, RUN / path.name)
    exported = {file.suffix for file in (folder / "figures").iterdir()} - {".gif"}  # of some, an animation besides
    assert exported == ({".json", ".pdf", ".png"} if parameters.get("export") else set())
    if parameters.get("export"):
        check_numbers(path.stem, folder / "figures")


def held(path: Path) -> dict[str, list[float]]:
    """The numbers on a figure's record that any machine should find."""
    record = json.loads(path.read_text())
    if path.stem.startswith(TIMES):
        record = {key: value for key, value in record.items() if key not in ("panels", "lines")}
    return {place: digest(values) for place, values in figures.numbers(record)}


def digest(values: list[float]) -> list[float]:
    """Of a curve, how many points it has, and their least, mean and largest value; of few numbers, all of them."""
    return values if len(values) <= 8 else [len(values), min(values), sum(values) / len(values), max(values)]


def weather() -> float:
    """Lorenz-96 after 40 units of time, in which rounding grows by more than e^60: it tells how a machine rounds."""
    return float(nk.Lorenz96().simulate(1, 801, 0.05, seed=0)[0, -1, 0])


def check_numbers(stem: str, folder: Path) -> None:
    """Figures of a small run are those that `tests/figures.json` has on record for a notebook, and show its numbers.

    Of chaotic ones that is so where the truths are those on record; on a machine that rounds them otherwise, they are
    other experiments, too few for their means to agree.

    `NIDA_RECORD=1 pytest tests/test_notebooks.py -k other` writes them anew.
    """
    found = {path.stem: held(path) for path in folder.glob("*.json")}
    path = Path(__file__).with_name("figures.json")
    record = json.loads(path.read_text()) if path.is_file() else {}
    if os.environ.get("NIDA_RECORD") == "1":
        path.write_text(json.dumps(record | {stem: found, "weather": weather()}, indent=0, sort_keys=True) + "\n")
        return
    assert set(found) == set(record[stem])
    same = weather() == pytest.approx(record["weather"], rel=1e-6)
    for name, values in found.items():
        assert set(values) == set(record[stem][name]), name
        for place, expected in record[stem][name].items():
            if name in CHAOTIC and not same:
                assert len(values[place]) == len(expected) and np.isfinite(values[place]).all(), f"{name}{place}"
                continue
            loose = LOOSE.get(name, 2e-2)
            # A curve that crosses zero is compared on its own scale.
            near = {"rel": loose, "abs": max(1e-6, 1e-2 * loose * max(map(abs, expected)))}
            assert values[place] == pytest.approx(expected, **near), f"{name}{place}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_clean(path):
    command = [sys.executable, "-m", "nbstripout", "--verify", "--extra-keys", EXTRA_KEYS, str(path)]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_have_the_parts_of_the_series(path):
    cells = nbformat.read(path, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    for part in ("**Objectives**", "**Prerequisites", "**Time to learn", "## Questions", "<details>", "## Summary"):
        assert part in text
    assert cells[1].source == INSTALL
    assert text.startswith("# ") and "## References" in text
    assert "[glossary](book/glossary.md), [symbols](book/symbols.md)" in cells[0].source
    assert "*Errors are root mean squares in climatological standard deviations: 1 is the error" in text
    following = NOTEBOOKS[NOTEBOOKS.index(path) + 1 :]
    assert not following or f"({following[0].name})" in text.partition("## Summary")[2]
    tagged = [i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert "notebook.parameters(\n    globals()," in cells[tagged[0] + 1].source
    lines = cells[tagged[0]].source.splitlines()
    assert all(": " in line and "  # " in line for line in lines)


@pytest.mark.parametrize(
    "path", [path for path in NOTEBOOKS if "challenges" not in path.stem], ids=lambda path: path.stem
)
def test_what_a_lab_asks_to_predict_is_answered_below_it(path):
    """In the games, the score is the answer."""
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    _, *below = re.split(r"^\w+ = \w*Lab\(|^ +lab = Lab\(system", text.partition("## Questions\n\n")[0], flags=re.M)
    assert below and all(re.search("<summary>(What was to be seen|Which priors|Answer)", part) for part in below)


def test_unknown_parameters_are_refused(tmp_path):
    with pytest.raises(ValueError, match="sample_size"):
        execute(NOTEBOOKS[0], tmp_path, {"sample_size": 3})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_misspelt_parameters_are_refused_by_the_cell_after_the_parameters(path):
    cells = nbformat.read(path, as_version=4).cells
    at = next(i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", []))
    scope: dict = {"In": ["", cells[at].source, "# Parameters\nobservation = 'yours.nc'\n"], "observation": "yours.nc"}
    exec(cells[at].source, scope)
    with pytest.raises(ValueError, match="no parameter 'observation'"):
        exec(cells[at + 1].source, scope)


def test_papermill_itself_ends_with_an_error_for_a_misspelt_parameter(tmp_path):
    with pytest.raises(pm.PapermillExecutionError, match="Did you mean observations"):
        pm.execute_notebook(
            str(FOLDER / "00_start_here.ipynb"),
            str(tmp_path / "out.ipynb"),
            {"observation": "yours.nc"},
            cwd=str(tmp_path),
            progress_bar=False,
        )
    assert not (tmp_path / "reconstruction.nc").exists()


@pytest.mark.parametrize(("stem", "wrong"), WRONG)
def test_wrong_values_are_refused_by_the_cell_after_the_parameters(stem, wrong):
    cells = nbformat.read(FOLDER / f"{stem}.ipynb", as_version=4).cells
    at = next(i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", []))
    scope: dict = {}
    exec(cells[at].source, scope)
    exec(cells[at + 1].source, scope)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        exec(cells[at + 1].source, scope | wrong)


# The product's main job, with a file that knows nothing of this package


def lorenz63(state: np.ndarray, steps: int, dt: float) -> np.ndarray:
    """Lorenz (1963) by small Runge-Kutta steps, written out here, in numpy."""

    def tendency(u):
        x, y, z = u
        return np.array([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])

    states, h = [state], dt / 10
    for _ in range(steps - 1):
        for _ in range(10):
            k1 = tendency(state)
            k2 = tendency(state + h / 2 * k1)
            k3 = tendency(state + h / 2 * k2)
            k4 = tendency(state + h * k3)
            state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        states.append(state)
    return np.array(states)


def write_observations(path: Path, truth: np.ndarray, lead: tuple[str, ...]) -> None:
    """x and z at every fourth step, by numpy and xarray alone."""
    noise_std = 0.4
    value = np.full((*truth.shape[:-1], 2), np.nan)
    generator = np.random.default_rng(3)
    value[..., ::4, :] = truth[..., ::4, [0, 2]] + noise_std * generator.normal(size=truth[..., ::4, [0, 2]].shape)
    dims = (*lead, "time", "component")
    coords = {"time": np.arange(truth.shape[-2]) * 0.05, "component": ["x", "z"]}
    xr.Dataset({"value": (dims, value), "noise_std": noise_std}, coords, {"title": "measured elsewhere"}).to_netcdf(
        path
    )


@pytest.mark.parametrize("windows", [None, 3], ids=["one window", "several windows"])
def test_observations_of_another_tool_are_reconstructed(tmp_path, windows):
    starts = np.random.default_rng(5).normal([0, 0, 25], [8, 8, 8], size=(windows or 1, 3))
    truth = np.array([lorenz63(start, 60, 0.05)[28:] for start in starts])
    truth = truth if windows else truth[0]
    write_observations(tmp_path / "mine.nc", truth, ("sample",) if windows else ())
    asked = {"observations": "mine.nc", "output": "found.nc", "figure": "found.png", "window": (windows or 1) - 1}
    notebook = execute(FOLDER / "00_start_here.ipynb", tmp_path, asked)

    found = xr.load_dataset(tmp_path / "found.nc")
    assert found["mean"].dims == found["std"].dims == (("sample",) if windows else ()) + ("time", "component")
    assert found["component"].values.tolist() == ["x", "y", "z"]
    np.testing.assert_allclose(found["time"], np.arange(32) * 0.05)
    assert found.attrs["observations_file"] == "mine.nc" and found.attrs["title"] == "measured elsewhere"
    assert found.attrs["method"] == "NeuralIncremental" and found["mean"].attrs["long_name"]
    assert np.isfinite(found["mean"]).all() and np.isfinite(found["std"]).all() and (found["std"] > 0).all()
    errors = np.sqrt(((found["mean"].values - truth) ** 2).reshape(-1, 3).mean(0))
    climatology = np.array([8.0, 9.0, 8.5])  # standard deviations on the attractor
    assert (errors < 0.5 * climatology).all()
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "found.json").is_file()
    assert "root mean squared error" not in str([cell.get("outputs") for cell in notebook.cells])
