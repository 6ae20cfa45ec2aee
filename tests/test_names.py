"""Public names where there is no torch, as in JupyterLite: the line lab works, and all else says what it needs."""

import json
import re
import subprocess
import sys
import tomllib
from hashlib import sha256
from pathlib import Path

import pytest

import nida_kit as nk
from nida_kit import lab
from nida_kit.lab import LineLab

ROOT = Path(__file__).parents[1]
MOVES = {"prior_mean": 1.5, "operator": "square"}
# What pyproject.toml asks for, and a browser has not; a module that is None cannot be imported.
WITHOUT = """
import json, sys
sys.modules.update(dict.fromkeys({absent}))
from hashlib import sha256

import nida_kit as nk
from nida_kit import lab

made = lab.LineLab(export="line.png")
pictures = []
for name, value in {moves}.items():
    made.controls[name].value = value
    pictures.append(sha256(made.renderer.png()).hexdigest())
made.buttons["export figure"].click()
said = []
for package, name in ((nk, "Lorenz63"), (nk, "setups"), (lab, "Lab")):
    try:
        getattr(package, name)
    except ModuleNotFoundError as error:
        said.append(str(error))
print(json.dumps([pictures, made.model.status, made.status.value, said]))
"""


def modules_that_a_browser_lacks() -> list[str]:
    """Of all that pip installs with the package, what the lines for JupyterLite do not name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(each for name in ("notebooks", "data", "gpu") for each in extras[name])]
    (install,) = re.findall(r"^%pip install (\w.*)$", (ROOT / "notebooks/teaching.md").read_text(), re.M)
    there = {*install.split(), "ipykernel", "traitlets", "packaging", "pillow"}  # the latter, what is named brings
    names = [re.match(r"[\w-]+", each)[0] for each in wanted]
    return [name.replace("-", "_") for name in names if name not in there]


def test_without_torch_the_line_lab_is_the_same_and_all_else_says_that_it_needs_it(tmp_path):
    absent = modules_that_a_browser_lacks()
    assert {"torch", "jaxtyping", "dask", "h5netcdf", "lightning_fabric"} <= set(absent)
    code = WITHOUT.format(absent=absent, moves=MOVES)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pictures, status, error, said = json.loads(done.stdout)

    own = LineLab(export=tmp_path / "own.png")
    for (name, value), picture in zip(MOVES.items(), pictures, strict=True):
        own.controls[name].value = value
        assert sha256(own.renderer.png()).hexdigest() == picture, name
    assert (status, error) == (own.model.status, "")
    assert json.loads((tmp_path / "line.json").read_text())["mean"] == own.model.result.attrs["mean"]

    names = ("nida_kit.Lorenz63 needs torch", "nida_kit.setups needs", "nida_kit.lab.Lab needs")
    for name, text in zip(names, said, strict=True):
        assert text.startswith(name) and "pip install" in text and "torch" in text and "Binder and Colab" in text


@pytest.mark.parametrize("package", [nk, lab])
def test_a_name_that_there_is_not_is_an_attribute_error(package):
    with pytest.raises(AttributeError, match="Lorenz64"):
        _ = package.Lorenz64


def test_modules_are_there_by_their_names():
    code = "import nida_kit as nk; print(nk.evaluate.rmse is nk.rmse, nk.plots.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "nida_kit.plots"]


def test_a_mistyped_name_hears_the_nearest_one():
    done = subprocess.run(
        [sys.executable, "-c", "import nida_kit as nk; nk.KalmanSmother"], capture_output=True, text=True
    )
    assert done.returncode == 1 and "Did you mean: 'KalmanSmoother'?" in done.stderr
