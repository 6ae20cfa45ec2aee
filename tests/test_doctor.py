"""The doctor is well where the tests run, and says what to do about each thing that is not."""

import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

from nida_kit import doctor as looks
from nida_kit.doctor import FRONT_END, PRETRAINED, doctor

psutil = pytest.importorskip("psutil")
pytest.importorskip("ipywidgets")


def failing(report) -> dict:
    found = {finding.what: finding for finding in report.findings if not finding.ok}
    assert all(finding.to_do and f"-> {finding.to_do}" in str(report) for finding in found.values())
    assert all(f"FAIL  {what}: " in str(report) for what in found)
    return found


@pytest.fixture
def prefix(tmp_path, monkeypatch):
    """An empty environment where a server might run."""
    monkeypatch.setattr(looks, "jupyter_folders", lambda: [tmp_path / "user"])
    monkeypatch.setattr(looks, "server_prefix", lambda: tmp_path / "server")
    return tmp_path / "server"


def install(folder: Path, version: str) -> None:
    (folder / FRONT_END).parent.mkdir(parents=True)
    (folder / FRONT_END).write_text(json.dumps({"version": version}))


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A copy of one shipped prior, to be damaged."""
    for ending in ("json", "safetensors"):
        shutil.copy(PRETRAINED / f"lorenz63_small.{ending}", tmp_path)
    monkeypatch.setattr(looks, "PRETRAINED", tmp_path)
    return tmp_path


def test_all_is_well_here(tmp_path):
    report = doctor(tmp_path)
    assert report.ok and failing(report) == {}
    assert len(str(report).splitlines()) == len(report.findings)
    assert repr(report) == str(report) and report._repr_html_().startswith("<details><summary>")
    assert f"torch {metadata.version('torch')}" in str(report)
    whats = {finding.what for finding in report.findings}
    assert {f"weights {path.stem}" for path in PRETRAINED.glob("*.safetensors")} <= whats
    assert {"Python", "front end", "threads", "files", "Chromium"} <= whats


def test_an_old_python(monkeypatch):
    monkeypatch.setattr(looks.platform, "python_version", lambda: "3.10.4")
    assert "3.10.4" in failing(doctor())["Python"].says


def test_old_and_missing_packages(monkeypatch):
    monkeypatch.setattr(looks.metadata, "requires", lambda _: ["torch>=99", "no_such<2", 'other>1; extra == "test"'])
    found = failing(doctor())
    assert set(found) == {"torch", "no_such"}
    assert metadata.version("torch") in found["torch"].says
    assert found["no_such"].says.startswith("not installed")
    assert found["no_such"].to_do == f"{sys.executable} -m pip install 'no_such<2'"


def test_a_server_without_a_front_end(prefix):
    found = failing(doctor())["front end"]
    assert str(prefix) in found.says and str(prefix) in found.to_do and sys.prefix in found.to_do


def test_a_front_end_of_the_user_serves_any_server(prefix):
    install(prefix.parent / "user", "5.0.16")
    assert "front end" not in failing(doctor())


def test_an_old_front_end(prefix):
    install(prefix / "share/jupyter", "3.1.1")
    assert "3.1.1" in failing(doctor())["front end"].says


@pytest.mark.parametrize(
    ("command", "known"),
    [
        (["/opt/lab/bin/python3.12", "-m", "jupyterlab"], True),
        (["/usr/bin/code"], False),
        (["python"], False),
        ([], False),
    ],
)
def test_the_server_is_the_python_that_started_the_kernel(command, known, monkeypatch):
    class Process:
        def __init__(self, pid):
            assert pid == os.getpid()

        def cmdline(self):
            return command

    monkeypatch.setenv("JPY_PARENT_PID", str(os.getpid()))
    monkeypatch.setattr(psutil, "Process", Process)
    assert looks.server_prefix() == Path("/opt/lab" if known else sys.prefix)


def test_without_a_server_the_environment_is_our_own(monkeypatch):
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    assert looks.server_prefix() == Path(sys.prefix)


def test_a_doctor_speaks_where_all_that_notebooks_need_is_missing():
    absent = ["ipywidgets", "jupyter_core", "psutil", "matplotlib", "IPython"]
    without = f"import runpy, sys; sys.modules |= dict.fromkeys({absent}); "
    code = without + "runpy.run_module('nida_kit.doctor', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "weights lorenz63: " in done.stdout, done.stderr


def test_damaged_weights(shipped):
    (shipped / "lorenz63_small.safetensors").write_bytes(b"half a file")
    found = failing(doctor())["weights lorenz63_small"]
    assert "damaged" in found.says and "git checkout" in found.to_do


def test_weights_of_which_only_the_card_is_left(shipped):
    (shipped / "lorenz63_small.safetensors").unlink()
    assert "no weight file" in failing(doctor())["weights lorenz63_small"].says


def test_no_weights_at_all(shipped):
    for path in shipped.iterdir():
        path.unlink()
    assert str(shipped) in failing(doctor())["weights"].says


def test_more_threads_than_cores(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1000)
    found = failing(doctor())["threads"]
    assert "1000" in found.says and "OMP_NUM_THREADS" in found.to_do


def test_a_folder_that_cannot_be_written_to(tmp_path):
    report = doctor(tmp_path / "missing")
    assert str(tmp_path / "missing") in failing(report)["files"].says
    assert report._repr_html_().startswith("<details open><summary>The doctor: look at files<")


def test_chromium_is_only_a_hint(monkeypatch):
    monkeypatch.setattr(looks.shutil, "which", lambda _: None)
    report = doctor()
    assert report.ok and "apt-get install chromium" in str(report)
