"""What the labs need, looked up where they run; each line that is not well says what to do.

In a notebook `doctor()`, which unfolds; where not even notebooks run, `python -m nida_kit.doctor` in a terminal.

>>> report = doctor()
>>> [finding.what for finding in report.findings if finding.what.startswith("weights")][0]
'weights lorenz63'
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from html import escape
from importlib import metadata
from pathlib import Path

import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from nida_kit.priors import weights

PACKAGE = "nida_kit"
PRETRAINED = Path(weights.__file__).parents[1] / "pretrained"
FRONT_END = Path("labextensions/@jupyter-widgets/jupyterlab-manager/package.json")
_OLDEST_FRONT_END = 5  # which ipywidgets 8 speaks to


@dataclass(frozen=True)
class Finding:
    """About one thing.

    Attributes:
        what: was looked at.
        ok: whether the labs can work with it.
        says: what was found.
        to_do: if it is not well.
    """

    what: str
    ok: bool
    says: str
    to_do: str = ""

    def __str__(self) -> str:
        line = f"{'ok  ' if self.ok else 'FAIL'}  {self.what}: {self.says}"
        return line if self.ok else f"{line}\n      -> {self.to_do}"


@dataclass(frozen=True, repr=False)
class Report:
    """All findings; printed, a line each. A notebook folds them where all is well."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is in the way of the labs."""
        return all(finding.ok for finding in self.findings)

    def __str__(self) -> str:
        return "\n".join(map(str, self.findings))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        bad = [finding.what for finding in self.findings if not finding.ok]
        said = f"The doctor: look at {', '.join(bad)}" if bad else "The doctor: the labs have all that they need"
        opened = " open" if bad else ""
        return f"<details{opened}><summary>{escape(said)}</summary><pre>{escape(str(self))}</pre></details>"


def doctor(folder: str | Path = ".") -> Report:
    """Look at Python, packages, front end, weights, threads and files.

    Args:
        folder: where the notebook is to write.
    """
    looked = [python(), *packages(), front_end(), *priors(), threads(), writing(Path(folder)), chromium()]
    return Report(tuple(looked))


def python() -> Finding:
    """Its version."""
    wanted, version = metadata.metadata(PACKAGE)["Requires-Python"], platform.python_version()
    ok = SpecifierSet(wanted).contains(version, prereleases=True)
    to_do = f"Make an environment with Python {wanted} and install {PACKAGE} there."
    return Finding("Python", ok, f"{version} in {sys.prefix}, {wanted} is needed", to_do)


def packages() -> list[Finding]:
    """A line for those that the labs can work with, and one for each of the others."""
    needed = [Requirement(line) for line in metadata.requires(PACKAGE) or []]
    needed = [r for r in needed if r.marker is None or r.marker.evaluate({"extra": "notebooks"})]
    found = {r: _version(r.name) for r in needed}
    bad = [r for r, version in found.items() if not version or not r.specifier.contains(version, prereleases=True)]
    good = ", ".join(f"{r.name} {version}" for r, version in found.items() if r not in bad)
    return [Finding("packages", True, good), *(_unfit(r, found[r]) for r in bad)]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _unfit(needed: Requirement, version: str) -> Finding:
    says = f"{version or 'not installed'}, {needed.specifier} is needed"
    return Finding(needed.name, False, says, f"{sys.executable} -m pip install '{needed.name}{needed.specifier}'")


def front_end() -> Finding:
    """Whether the page can draw widgets: that is up to the server's environment, which need not be the kernel's."""
    server = server_prefix()
    elsewhere = [path for path in jupyter_folders() if not path.is_relative_to(sys.prefix)]
    found = next((p / FRONT_END for p in (server / "share/jupyter", *elsewhere) if (p / FRONT_END).is_file()), None)
    install = f"Install it where the server runs, {server}: `pip install 'jupyterlab_widgets>=3'`; then reload the page"
    if server != Path(sys.prefix):
        install += f", or start JupyterLab from {sys.prefix}"
    if found is None:
        return Finding("front end", False, f"jupyterlab_widgets is not installed in {server}", f"{install}.")
    version = json.loads(found.read_text())["version"]
    ok = int(version.split(".")[0]) >= _OLDEST_FRONT_END
    return Finding("front end", ok, f"widget manager {version} in {found.parents[4]}", f"{install}.")


def jupyter_folders() -> list[Path]:
    """Where Jupyter looks for front ends; a doctor must speak where it is missing, too."""
    try:
        from jupyter_core.paths import jupyter_path
    except ImportError:
        return []
    return [Path(path) for path in jupyter_path()]


def server_prefix() -> Path:
    """The environment of the process that started this kernel, if that is known to be Python; else our own."""
    try:
        import psutil
    except ImportError:
        return Path(sys.prefix)
    try:
        command = psutil.Process(int(os.environ["JPY_PARENT_PID"])).cmdline()[0]
    except (KeyError, ValueError, IndexError, psutil.Error):
        return Path(sys.prefix)
    program = Path(command)
    known = program.is_absolute() and program.name.lower().startswith("python")
    return program.parent.parent if known else Path(sys.prefix)


def priors() -> list[Finding]:
    """Whether the shipped weights can be read; they are files of the package, no network is needed."""
    to_do = f"Install {PACKAGE} anew; in a clone, `git checkout -- nida_kit/pretrained`."
    names = sorted({path.stem for ending in ("json", "safetensors") for path in PRETRAINED.glob(f"*.{ending}")})
    if not names:
        return [Finding("weights", False, f"there are none in {PRETRAINED}", to_do)]
    return [_prior(name, to_do) for name in names]


def _prior(name: str, to_do: str) -> Finding:
    try:
        prior, _ = weights.load(PRETRAINED / f"{name}.safetensors")
    except (ValueError, OSError) as error:
        return Finding(f"weights {name}", False, str(error), to_do)
    return Finding(f"weights {name}", True, f"{sum(p.numel() for p in prior.parameters()):,} numbers")


def threads() -> Finding:
    """More threads than cores make everything slow."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    used = torch.get_num_threads()
    to_do = f"Set OMP_NUM_THREADS={cores} before you start Jupyter, or `torch.set_num_threads({cores})` here."
    return Finding("threads", used <= cores, f"{used} of PyTorch on {cores} cores", to_do)


def writing(folder: Path) -> Finding:
    """Whether results and figures can be written."""
    to_do = "Start Jupyter in a folder of yours, or give paths in one to the parameters of the notebook."
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return Finding("files", False, f"{folder.absolute()} cannot be written to: {error.strerror}", to_do)
    return Finding("files", True, f"{folder.absolute()} can be written to")


def chromium() -> Finding:
    """Only the tests in a browser want it."""
    found = shutil.which("chromium")
    return Finding(
        "Chromium", True, found or "not found; only tests/lab/test_browser.py needs it: apt-get install chromium"
    )


if __name__ == "__main__":
    report = doctor()
    print(report)
    sys.exit(not report.ok)
