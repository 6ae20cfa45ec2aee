"""One of each is added by the lines of CONTRIBUTING.md alone, and seen in the lab where it belongs there."""

import importlib
import math
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nbformat
import numpy as np
import pytest
import sizes
import torch
import xarray as xr
from torch import Tensor, nn

import nida_kit as nk
from nida_kit import experiment
from nida_kit.lab import Lab
from nida_kit.linalg.rows import Diagonal
from nida_kit.loop import linearised
from nida_kit.methods import method as method_module
from nida_kit.observing.errors import Errors, root_of, solve_lower
from nida_kit.observing.observations import Observations
from nida_kit.priors.parts import LocalPrior, embed, temperature_features
from nida_kit.reconstruction import Reconstruction

ROOT = Path(__file__).parents[1]
SECTIONS = ("A method", "A network", "A system", "An error law", "A notebook")


def lines_of(section: str) -> list[str]:
    text = (ROOT / "CONTRIBUTING.md").read_text().split(f"## {section}\n")[1].split("\n## ")[0]
    return text.strip().splitlines()


@pytest.mark.parametrize("section", SECTIONS)
def test_each_section_has_five_lines_that_name_what_there_is(section):
    lines = lines_of(section)
    assert [line[:3] for line in lines] == ["1. ", "2. ", "3. ", "4. ", "5. "]
    code = "".join(path.read_text() for path in [*(ROOT / "nida_kit").rglob("*.py"), ROOT / "tests" / "sizes.py"])
    for name in re.findall(r"`([^`]+)`", "\n".join(lines)):
        assert (ROOT / name).exists() if "/" in name else name in code, name


def test_each_command_names_a_file_that_there_is():
    named = re.findall(r"(?:tests|notebooks)/[\w/]+\.\w+", (ROOT / "CONTRIBUTING.md").read_text())
    assert named and all((ROOT / name).exists() for name in named)


# A method


class White(nk.Method):
    """Every value of a trajectory is N(mean, std^2), and knows nothing of the others."""

    def __init__(self, labels: nk.StateLabels, mean: Tensor, std: Tensor):
        self.labels, self.mean, self.std = labels, mean, std
        self.settings = {"std": std.tolist()}

    def reconstruct(self, observations, dt, first_guess):
        centre = self.mean.expand(*observations.value.shape[:-1], -1)
        prior = nk.Gaussian.of(centre, Diagonal((1 / self.std).expand_as(centre)))
        return Reconstruction([linearised(prior, observations)], [math.nan], centre)


def test_a_method_is_added_and_seen_in_the_lab(monkeypatch, tmp_path):
    mean, std = torch.tensor([1.0, 2.0, 20.0]).double(), torch.tensor([8.0, 9.0, 7.0]).double()
    monkeypatch.setitem(experiment.METHODS, "white", lambda p: White(nk.Lorenz63.labels, mean, std))
    lab = Lab(export=tmp_path / "lab.png", temperatures=1)
    assert "white" in lab.controls["method"].options and "white" in lab.controls["beside"].options
    lab.controls["method"].value = "white"
    assert lab.model.error == "" and "RMSE" in lab.summary.value and "white" in lab.image.value

    found = lab.model.result
    y, r = found["value"].values, found["noise_std"].broadcast_like(found["value"]).values
    seen, m, s = ~np.isnan(y), mean.numpy(), std.numpy()
    precision = 1 / s**2 + seen / r**2
    np.testing.assert_allclose(found["mean"].isel(step=-1), (m / s**2 + np.where(seen, y, 0) / r**2) / precision)
    np.testing.assert_allclose(found["std"].isel(step=-1), precision**-0.5)


# A network


class Shrinking(LocalPrior):
    """The estimate is moved along itself, and each component is on its own; how much, the temperature says."""

    def __init__(self, climatology: nk.Climatology, width: int = 4):
        super().__init__(climatology)
        self.settings = {"width": width}
        self.temperature = temperature_features(width)
        self.out = nn.Linear(width, 2 * climatology.mean.shape[-1])

    def local_model(self, scaled, log_std, s):
        factor, log_scale = self.out(self.temperature(embed(s, scaled))).expand(*scaled.shape[:-1], -1).chunk(2, -1)
        return (factor * scaled).double(), torch.diag_embed(log_scale.exp()).unsqueeze(-3).double()


def test_a_network_is_added_trained_saved_and_loaded(tmp_path):
    system = nk.Lorenz63()
    windows = nk.simulated(system, steps=8, dt=0.05)
    climatology = nk.Climatology.fit(windows(200, torch.Generator().manual_seed(0)), order=1)
    prior = Shrinking(climatology)
    before = {name: p.detach().clone() for name, p in prior.named_parameters()}
    law = partial(nk.mixture, scale=climatology.spread, spacing=(2, 4), count=(2, 6))
    history = nk.train(prior, windows, law, nk.Settings(steps=1, batch=4), progress=False)
    assert np.isfinite(history["loss"]).all()
    assert all(not torch.equal(p, before[name]) for name, p in prior.named_parameters())

    path = tmp_path / "mine.safetensors"
    nk.save(prior, path, nk.Card(system.labels, 0.05))
    again, _ = nk.load(path)
    assert type(again) is Shrinking and again.settings == {"width": 4}
    obs = nk.observe(system.simulate(2, 8, 0.05), components=["x"], every=4, noise_std=0.4)
    mine = nk.NeuralIncremental(prior, system.labels, 0.05, temperatures=2).assimilate(obs)
    loaded = nk.NeuralIncremental.pretrained(str(path), temperatures=2).assimilate(obs)
    xr.testing.assert_identical(mine["mean"].drop_attrs(), loaded["mean"].drop_attrs())


def test_a_network_may_not_take_the_name_of_another_one():
    with pytest.raises(ValueError, match=r"nida_kit\.priors\.temporal already"):
        type("NeuralPrior", (LocalPrior,), {})
    assert LocalPrior.kinds["NeuralPrior"] is nk.NeuralPrior


def test_a_file_of_a_network_that_was_not_imported_is_refused_with_words(tmp_path, monkeypatch):
    climatology = nk.Climatology.fit(torch.randn(50, 4, 3, generator=torch.Generator().manual_seed(0)), order=0)
    nk.save(Shrinking(climatology), tmp_path / "mine.safetensors", nk.Card(nk.Lorenz63.labels, 0.05))
    monkeypatch.delitem(LocalPrior.kinds, "Shrinking")
    with pytest.raises(ValueError, match=r"no network Shrinking.*import the module"):
        nk.load(tmp_path / "mine.safetensors")


# A system


class VanDerPol(nk.System):
    """Van der Pol (1926, doi:10.1080/14786442608564127): x'' = damping (1 - x^2) x' - x."""

    labels = nk.StateLabels(("x", "v"), ("1", "1"), ("x", "v"))
    longest_substep = 0.05
    damping = 1.0

    def tendency(self, x):
        x, v = x.unbind(-1)
        return torch.stack([v, self.damping * (1 - x**2) * v - x], -1)

    def start(self, samples, generator, dtype, device):
        return 2 * torch.randn(samples, 2, generator=generator, dtype=dtype, device=device)


SETUP = '''"""Windows of Van der Pol's oscillator."""

from test_contributing import VanDerPol

from nida_kit.reference.setup import Setup, in_spreads

setup = Setup(
    name="toy-oscillator",
    system=VanDerPol(),
    steps=20,
    dt=0.2,
    model_noise_std=0.0,
    noise_std=0.1,
    noise_unit=in_spreads,
    law={"components": ["x"], "every": 4},
    source="doi:10.1080/14786442608564127",
    climate=300,
)
'''


@pytest.fixture
def toy_setup(monkeypatch, tmp_path):
    """The folder of setups with one more file in it."""
    (tmp_path / "toy_oscillator.py").write_text(SETUP)
    monkeypatch.setattr(nk.setups, "__path__", [*nk.setups.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    yield
    sys.modules.pop("nida_kit.setups.toy_oscillator", None)
    vars(nk.setups).pop("toy_oscillator", None)


def test_a_system_is_added_and_seen_in_the_lab(toy_setup, monkeypatch, tmp_path):
    monkeypatch.setitem(experiment.SETUPS, "oscillator", "toy-oscillator")
    assert "toy-oscillator" in nk.setups.list().index
    lab = Lab(export=tmp_path / "lab.png", temperatures=1)
    assert "oscillator" in lab.controls["system"].options
    lab.controls["system"].value = "oscillator"
    assert lab.model.error == "" and "oscillator" in lab.image.value
    methods = lab.controls["method"].options  # no network was trained for it, and its components have no places
    assert set(methods) == set(experiment.METHODS) - {"neural", "neural + 4D-Var", "LETKF"}
    first = lab.model.result.attrs["rmse"]
    lab.controls["method"].value = "4D-Var"
    assert lab.model.error == "" and lab.model.result.attrs["rmse"] < first < 1
    lab.buttons["dense"].click()
    assert lab.model.error == "" and lab.controls["components"].value == ("x", "v")


# An error law


@dataclass(frozen=True)
class Shared(Errors):
    """Errors of one time have a part in common: R_ij = std_i std_j (share + (1 - share) [i = j])."""

    deviations: Tensor
    share: float = 0.6
    correlated_in_time = False

    @property
    def std(self):
        return self.deviations

    @property
    def _covariance(self):
        alike = self.share + (1 - self.share) * torch.eye(self.std.shape[-1]).to(self.std)
        return self.std.unsqueeze(-1) * alike * self.std.unsqueeze(-2)

    def whiten(self, v, seen):
        return solve_lower(root_of(self._covariance, seen), torch.where(seen, v, 0.0).unsqueeze(-1)).squeeze(-1)

    def colour(self, noise):
        return (torch.linalg.cholesky(self._covariance) @ noise.unsqueeze(-1)).squeeze(-1)

    def logdet(self, seen):
        return 2 * root_of(self._covariance, seen).diagonal(dim1=-2, dim2=-1).log().sum((-2, -1))

    def among(self, steps, values):
        together = self._covariance[..., steps[:, None], values[:, None], values]
        return together * (steps[:, None] == steps)

    def at(self, t):
        return Shared(self.std[..., t, :], self.share)

    def windows(self, function):
        return Shared(function(self.std, 2), self.share)


T, N = 4, 3
OPERATORS = {
    "components": (None, np.eye(N)),
    "a matrix": (np.array([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0]]), None),
    "the window": (nk.over_window(lambda x: x.cumsum(-2)), None),
}


def observed(operator, generator) -> tuple[xr.Dataset, np.ndarray, np.ndarray]:
    """Observations with gaps, h as a matrix of the whole window, and R of all its values."""
    given, H = OPERATORS[operator]
    if operator == "the window":
        H = np.kron(np.tril(np.ones((T, T))), np.eye(N))
    else:
        H = np.kron(np.eye(T), H if H is not None else given)
    p = len(H) // T
    names = ["a", "b", "c"] if operator == "components" else [f"h{i}" for i in range(p)]
    y, std = generator.normal(size=(T, p)), generator.uniform(0.2, 0.9, (T, p))
    y[1], y[2, 0] = np.nan, np.nan
    coords = {"time": np.arange(T) * 0.5, "component": names}
    obs = xr.Dataset({"value": (("time", "component"), y), "noise_std": (("time", "component"), std)}, coords)
    alike = np.kron(np.eye(T), 0.6 + 0.4 * np.eye(p))
    return obs, H, std.reshape(-1, 1) * alike * std.reshape(-1)


@pytest.mark.parametrize("operator", OPERATORS)
def test_an_error_law_is_added_and_gives_the_dense_posterior(operator, monkeypatch):
    monkeypatch.setattr(method_module, "errors_of", lambda noise_std, *_: Shared(noise_std))
    generator = np.random.default_rng(3)
    root = generator.normal(size=(T * N, T * N))
    C, mu = root @ root.T + np.eye(T * N), generator.normal(size=T * N)
    climatology = nk.Climatology.from_covariance(
        torch.from_numpy(mu.reshape(T, N)), torch.from_numpy(C), torch.ones(N).double()
    )
    labels = nk.StateLabels(("a", "b", "c"), ("1",) * N, ("a", "b", "c"))
    obs, H, R = observed(operator, generator)
    found = nk.OptimalInterpolation(climatology, labels, 0.5).assimilate(obs, operator=OPERATORS[operator][0])

    y = obs["value"].values.ravel()
    seen = ~np.isnan(y)
    H, R = H[seen], R[np.ix_(seen, seen)]
    gain = C @ H.T @ np.linalg.inv(H @ C @ H.T + R)
    mean, covariance = mu + gain @ (y[seen] - H @ mu), C - gain @ H @ C
    np.testing.assert_allclose(found["mean"].values.ravel(), mean, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found["std"].values.ravel(), covariance.diagonal() ** 0.5, rtol=1e-8)


def test_the_error_law_colours_and_weighs_as_its_covariance():
    obs, _, R = observed("components", np.random.default_rng(4))
    value, std = (torch.from_numpy(obs[name].values) for name in ("value", "noise_std"))
    observations = Observations(value, Shared(std))
    L = observations.colour(torch.eye(T * N).double().view(-1, T, N)).reshape(T * N, -1).T
    np.testing.assert_allclose(L @ L.T, R, atol=1e-12)
    seen = observations.seen.ravel().numpy()
    log_det = np.linalg.slogdet(2 * np.pi * R[np.ix_(seen, seen)])[1]
    assert float(observations.log_normaliser()) == pytest.approx(log_det / 2)
    for t in (0, 2):
        at, alone = observations.at(t), observations.seen[t]
        np.testing.assert_allclose(at.whiten(at.value.nan_to_num())[0], observations.whiten(value.nan_to_num())[t])
        assert torch.equal(at.seen[0], alone)


# A notebook

CELLS = [
    (
        "markdown",
        "# A toy\n\n**Objectives**\n\n- see that it runs.\n\n**Prerequisites:** none.\n\n"
        "**Words and symbols:** [glossary](book/glossary.md), [symbols](book/symbols.md).\n\n**Time to learn:** 1 min.",
    ),
    ("code", 'import sys\n\nif "google.colab" in sys.modules:\n    %pip install -q "nida_kit[notebooks,data]"'),
    ("parameters", "noise_std: float = 1.0  # 0.3 to 3: of the measurement"),
    (
        "code",
        "from nida_kit import notebook\n\n"
        "notebook.parameters(\n    globals(),\n    noise_std=notebook.number(0.3, 3),\n)",
    ),
    ("code", "%matplotlib inline\nfrom nida_kit.lab import LineLab"),
    ("code", "lab = LineLab(noise_std=noise_std)\nlab"),
    ("markdown", "## Questions\n\n1. Does it run?\n\n<details><summary>Solutions</summary>\n\n1. Yes.\n\n</details>"),
    (
        "markdown",
        "*Errors are root mean squares in climatological standard deviations: 1 is the error of the mean of the past.*",
    ),
    ("markdown", "## Summary\n\n- It runs.\n\n## References\n\n- None."),
]


def notebook() -> nbformat.NotebookNode:
    made = nbformat.v4.new_notebook()
    for i, (kind, source) in enumerate(CELLS):
        new = nbformat.v4.new_markdown_cell if kind == "markdown" else nbformat.v4.new_code_cell
        metadata = {"tags": ["parameters"]} if kind == "parameters" else {}
        made.cells.append(new(source, metadata=metadata, id=f"toy-{i}"))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    made.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    return made


def test_a_notebook_is_added_and_passes_the_checks_of_notebooks(monkeypatch, tmp_path):
    checks = pytest.importorskip("test_notebooks")
    folder, stem = tmp_path / "notebooks", "11_toy"
    folder.mkdir()
    path = folder / f"{stem}.ipynb"
    nbformat.write(notebook(), path)
    subprocess.run([sys.executable, "-m", "nbstripout", "--extra-keys", checks.EXTRA_KEYS, str(path)], check=True)
    table = (ROOT / "notebooks" / "README.md").read_text()
    row = f"| [{stem}]({stem}.ipynb) | nothing | 1 min |\n"
    (folder / "README.md").write_text(table.replace("\n\nA workshop", f"\n{row}\nA workshop"))
    monkeypatch.setattr(checks, "FOLDER", folder)
    monkeypatch.setattr(checks, "NOTEBOOKS", [*checks.NOTEBOOKS, path])
    for name, entry in (("SMALL", {}), ("OTHER", {"noise_std": 0.5})):
        monkeypatch.setitem(getattr(sizes, name), stem, entry)
    monkeypatch.setattr(checks, "WRONG", [*sizes.WRONG, (stem, {"noise_std": 9.0})])
    monkeypatch.setenv("NIDA_STRICT", "1")

    checks.test_every_notebook_is_run()
    checks.test_every_notebook_is_listed()
    checks.test_notebooks_are_committed_clean(path)
    checks.test_notebooks_have_the_parts_of_the_series(path)
    checks.test_wrong_values_are_refused_by_the_cell_after_the_parameters(*checks.WRONG[-1])
    for name in ("SMALL", "OTHER"):
        (tmp_path / name).mkdir()
        checks.test_notebooks_run_and_show_their_labs_without_a_kernel(path, getattr(sizes, name), tmp_path / name)
