"""The shell command: files in, files out, exit codes, and nothing heavy for its help."""

import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner

import nida_kit as nk
from nida_kit import cli
from nida_kit.studies import figures

ROOT = Path(__file__).parents[1]
TRUTH = nk.Pendulum().simulate(samples=2, steps=20, dt=0.1, seed=0)
OBS = nk.observe(TRUTH, components=["angle"], every=4, noise_std=0.1, seed=1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with observations and their truth, in which commands run."""
    OBS.to_netcdf(tmp_path / "obs.nc")
    TRUTH.to_dataset(name="truth").to_netcdf(tmp_path / "truth.nc")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> str:
    done = CliRunner().invoke(cli.app, words)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def nida(*words: str) -> subprocess.CompletedProcess:
    """As from a shell."""
    return subprocess.run([sys.executable, "-m", "nida_kit.cli", *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in ("reconstruct", "train", "score"))])
def test_help_imports_no_torch_and_nothing_that_commands_do(words):
    heavy = ["torch", "xarray", "numpy", "nida_kit.commands"]
    code = (
        f"import sys\nfrom nida_kit import cli\nsys.argv = {['nida', *words]}\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n"
    )
    code += f"    print(end.code, [m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []" and "Usage" in done.stdout


def test_the_command_is_an_entry_point():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"nida": "nida_kit.cli:main"}
    assert {"py.typed", "*.pyi", "lab/*.pyi"} <= set(project["tool"]["setuptools"]["package-data"]["nida_kit"])
    assert (ROOT / "nida_kit" / "py.typed").is_file()


def test_a_reconstruction_is_that_of_the_package_in_each_format(folder):
    said = run("reconstruct", "obs.nc", "found.nc", "--prior", "pendulum", "--figure", "f.png", "--window", "1")
    assert said.startswith("10 observed values -> 80 reconstructed")
    expected = nk.NeuralIncremental.pretrained("pendulum").assimilate(nk.load_observations("obs.nc"))
    found = xr.load_dataset("found.nc")
    np.testing.assert_array_equal(found["mean"], expected["mean"])
    assert found.attrs["observations_file"] == "obs.nc"
    assert (folder / "f.png").read_bytes().startswith(b"\x89PNG")
    for name in ("found.zarr", "found.csv"):
        run("reconstruct", "obs.nc", name, "--prior", "pendulum")
    np.testing.assert_array_equal(xr.open_zarr("found.zarr", consolidated=False)["mean"], expected["mean"])
    np.testing.assert_allclose(pd.read_csv("found.csv")["mean"], expected["mean"].values.ravel())


@pytest.mark.parametrize(
    ("flags", "kept"), [(["good"], [1]), (["good", "probably_good"], [1, 2]), (["2"], [2]), ([], [1, 2, 4])]
)
def test_only_values_with_these_flags_are_used(folder, flags, kept):
    number = np.resize([1, 2, 4], OBS["value"].shape)
    about = {"flag_values": np.array([1, 2, 4]), "flag_meanings": "good probably_good bad"}
    OBS.assign(value_qc=(OBS["value"].dims, number, about)).to_netcdf("flagged.nc")
    options = [word for flag in flags for word in ("--flag", flag)]
    said = run("reconstruct", "flagged.nc", "found.nc", "--prior", "pendulum", *options)
    good = OBS["value"].where(np.isin(number, kept))
    assert said.startswith(f"{int(good.notnull().sum())} observed values")
    expected = nk.NeuralIncremental.pretrained("pendulum").assimilate(OBS.assign(value=good))
    np.testing.assert_array_equal(xr.load_dataset("found.nc")["mean"], expected["mean"])


def test_scores_are_those_of_the_package(folder):
    run("reconstruct", "obs.nc", "found.nc", "--prior", "pendulum")
    found = xr.load_dataset("found.nc")
    scores = dict(line.split() for line in run("score", "found.nc", "truth.nc").splitlines())
    assert float(scores["mse"]) == pytest.approx(float(nk.mse(found["mean"], TRUTH)), rel=1e-5)
    assert set(scores) == {"mse", "crps", "coverage_90", "coverage_50", "spread_error_ratio"}


def test_a_prior_is_trained_and_reconstructs(folder):
    said = run(
        *("train", "truth.nc", "mine.safetensors", "--batches", "1", "--batch", "2", "--width", "8", "--order", "1"),
        *("--odd", "angle", "--odd", "momentum"),
    )
    assert "none was held out" in said
    assert nk.load("mine.safetensors")[0].settings["odd"] == [0, 1]
    run("reconstruct", "obs.nc", "found.nc", "--prior", "mine.safetensors", "--temperatures", "1")
    assert np.isfinite(xr.load_dataset("found.nc")["mean"]).all()


def test_a_training_says_its_error_on_trajectories_held_out(folder):
    nk.Pendulum().simulate(samples=20, steps=9, dt=0.1, seed=2).to_netcdf("many.nc")
    small = ("--batches", "1", "--batch", "2", "--width", "8", "--order", "1")
    said = run("train", "many.nc", "mine.safetensors", *small).splitlines()
    about = nk.load("mine.safetensors")[1].about
    error, interpolation = (f"{about[name] ** 0.5:.4g}" for name in ("validation", "interpolation"))
    assert f"2 trajectories held out: {error} after 1 batch, {interpolation} of" in said[1]
    assert said[2] == about["note"] and "the trained prior" in said[2]  # one batch makes no difference


@pytest.mark.parametrize("dated", [False, True])
def test_a_table_is_reconstructed_as_nk_grid_takes_it(folder, dated):
    seconds = [0.0, 0.4, 0.9]
    times = pd.Timestamp("2024-01-01") + pd.to_timedelta(seconds, unit="s") if dated else seconds
    table = pd.DataFrame({"time": times, "what": "angle", "value": [1.0, 0.5, -0.2], "error": 0.1})
    table.to_csv("rows.csv", index=False)
    run("reconstruct", "rows.csv", "out.nc", "--prior", "pendulum")
    method = nk.NeuralIncremental.pretrained("pendulum", temperatures=4)
    xr.testing.assert_allclose(xr.load_dataset("out.nc")["mean"], method.assimilate(nk.grid(table, method))["mean"])


ROWS = pd.DataFrame({"time": [0.0, 0.4, 0.9], "what": "angle", "value": [1.0, 0.5, -0.2], "error": 0.1})


@pytest.mark.parametrize(
    ("change", "options", "same"),
    [
        ({"error": None}, ["--error", "0.1"], {}),
        ({"error": 0.3, "sigma": 0.1}, ["--error", "sigma"], {}),
        ({}, ["--start", "0.2", "--steps", "9"], {"start": 0.2, "steps": 9}),
        ({"qc": [1, 4, 2]}, ["--flag", "1", "--flag", "2"], {"flag": [1, 2], "qc": [1, 4, 2]}),
        ({"name": "angle", "what": None}, ["--what", "name"], {}),
    ],
)
@pytest.mark.filterwarnings("ignore:.*lies outside the grid")
def test_options_are_the_arguments_of_nk_grid_that_are_called_so(folder, change, options, same):
    table = ROWS.assign(**change).dropna(axis="columns")
    table.to_csv("rows.csv", index=False)
    run("reconstruct", "rows.csv", "out.nc", "--prior", "pendulum", *options)
    method, columns = nk.NeuralIncremental.pretrained("pendulum"), {k: same[k] for k in same if k == "qc"}
    obs = nk.grid(ROWS.assign(**columns), method, **{k: same[k] for k in same if k != "qc"})
    found = xr.load_dataset("out.nc")
    xr.testing.assert_allclose(found["mean"], method.assimilate(obs)["mean"])
    assert found.attrs["observations_file"] == "rows.csv"


def test_a_netcdf_file_takes_the_same_options(folder):
    OBS.drop_vars("noise_std").rename(value="theta").to_netcdf("bare.nc")
    run("reconstruct", "bare.nc", "a.nc", "--prior", "pendulum", "--value", "theta", "--error", "0.1")
    run("reconstruct", "obs.nc", "b.nc", "--prior", "pendulum")
    xr.testing.assert_equal(*(xr.load_dataset(name)["mean"] for name in ("a.nc", "b.nc")))
    uneven = OBS.isel(time=[0, 4, 8, 16, 19]).assign_coords(time=[0.0, 0.4, 0.8, 1.6, 1.9])
    uneven.to_netcdf("uneven.nc")
    with pytest.raises(ValueError, match=r"not evenly increasing.*nk.grid\(obs, method, dt="):
        run("reconstruct", "uneven.nc", "c.nc", "--prior", "pendulum")
    run("reconstruct", "uneven.nc", "c.nc", "--prior", "pendulum", "--dt", "0.1")
    assert xr.load_dataset("c.nc").sizes["time"] == 17  # up to the last value


def test_a_netcdf_file_of_irregular_values_is_told_the_option_that_grids_it(folder):
    values = {"value": (("obs", "component"), [[1.0], [0.9], [0.5]]), "noise_std": 0.5}
    at = {"time": ("obs", [0.0, 0.11, 0.2]), "component": ["angle"]}
    xr.Dataset(values, at).to_netcdf("irregular.nc")
    words = "reconstruct", "irregular.nc", "out.nc", "--prior", "pendulum"
    with pytest.raises(ValueError, match=r"own, along \['obs', 'component'\].* dt=0.1, ") as error:
        run(*words)
    assert cli.in_a_shell(error.value).endswith("start= is --start, dt=0.1 is --dt 0.1, steps= is --steps.")
    with pytest.raises(ValueError, match=r"works with 0.1: give dt=0.1\.") as error:
        run(*words, "--dt", "3")
    assert cli.in_a_shell(error.value).endswith("In a shell dt=0.1 is --dt 0.1.")
    assert "3 observed values" in run(*words, "--dt", "0.1")


def test_dates_count_the_steps_of_equations_without_a_unit_and_come_back(folder):
    ROWS.assign(what="x", time=[0, 2, 4]).to_csv("steps.csv", index=False)
    days = ["2021-01-01", "2021-01-03T00:00Z", "2021-01-05T02:00+02:00"]
    ROWS.assign(what="x", time=days).to_csv("days.csv", index=False)
    ROWS.assign(what="x", time=[0.0, 0.1, 0.2]).to_csv("times.csv", index=False)
    with pytest.raises(ValueError, match="say how long one of its steps is, dt="):
        run("reconstruct", "days.csv", "out.nc", "--prior", "lorenz63_small")
    with pytest.warns(UserWarning, match=r"1 time is told in another zone, 2021-01-05T02:00\+02:00 first"):
        run("reconstruct", "days.csv", "out.nc", "--prior", "lorenz63_small", "--dt", "1D")
    run("reconstruct", "times.csv", "same.nc", "--prior", "lorenz63_small")
    found, same = xr.load_dataset("out.nc"), xr.load_dataset("same.nc")
    np.testing.assert_allclose(found["mean"], same["mean"])
    np.testing.assert_array_equal(found["time"], np.arange("2021-01-01", "2021-01-06", dtype="M8[D]"))


def test_texts_of_arguments_say_which_options_these_are_in_a_shell():
    heard = cli.in_a_shell("Cut the table by start= and steps=. nk.Cycled(f(x), model_steps=3, window=8) cuts.")
    assert heard.endswith("cuts. In a shell start= is --start, steps= is --steps.")
    assert cli.in_a_shell("dt='MS' is none: try dt='6h'.").endswith(" In a shell dt='6h' is --dt 6h.")
    assert cli.in_a_shell("df.assign(what='x').") == "df.assign(what='x')."


def test_a_zarr_store_is_reconstructed_as_the_file_is(folder):
    OBS.to_zarr("obs.zarr", consolidated=False)
    for name in ("obs.nc", "obs.zarr"):
        run("reconstruct", name, f"{name}.out.nc", "--prior", "pendulum")
    xr.testing.assert_equal(*(xr.load_dataset(f"{name}.out.nc")["mean"] for name in ("obs.nc", "obs.zarr")))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["reconstruct", "none.nc", "a.nc"], "no file"),
        (["reconstruct", "none.csv", "a.nc"], "no file"),
        (["reconstruct", "empty.csv", "a.nc"], "cannot be read as a table"),
        (["reconstruct", "words.csv", "a.nc"], "2021-01-31T06:00.*not 'noon', in row 2 of the file"),
        (["reconstruct", "semicolons.csv", "a.nc"], "one column.*put commas between"),
        (["reconstruct", "far.csv", "a.nc", "--prior", "pendulum"], "1 of 6 values lies far.*steps=40001"),
        (["reconstruct", "obs.nc", "folder.nc"], "is a folder"),
        (["reconstruct", "obs.nc", "a.nc", "--window", "1"], "window=1 says which one is drawn: give figure="),
        (["reconstruct", "obs.nc", "a.nc", "--error", "sigma"], "has no 'sigma'; there are"),
        (["reconstruct", "words.txt", "a.nc"], r"another format.*nk.grid\(pd.read_csv\(path\), method\).*makes one\.$"),
        (["train", "words.txt", "a.safetensors"], "another format"),
        (["score", "words.txt", "truth.nc"], "another format"),
        (["reconstruct", "obs.nc", "obs.nc"], "overwrite the observations"),
        (["reconstruct", "obs.nc", "a.txt"], "must end in .nc"),
        (["reconstruct", "obs.nc", "none/a.nc"], "folder does not exist"),
        (["reconstruct", "obs.nc", "a.nc", "--prior", "pendulum", "--figure", "f.png", "--window", "2"], "there are 2"),
        (["reconstruct", "obs.nc", "a.nc", "--flag", "good"], "needs one variable of quality flags"),
        (["train", "obs.nc", "a.safetensors"], "one variable"),
        (["train", "truth.nc", "a.safetensors", "--odd", "spin"], "spin"),
        (["score", "obs.nc", "truth.nc"], "mean and std"),
        (["figures"], "export"),
    ],
)
def test_wrong_input_is_a_value_error_and_writes_nothing(folder, words, said):
    (folder / "empty.csv").write_text("")
    (folder / "folder.nc").mkdir()
    (folder / "semicolons.csv").write_text("time;what;value\n0,5;angle;1,0\n")
    far = "".join(f"{t},angle,1.0,0.1\n" for t in (0.0, 0.1, 0.2, 0.3, 0.4, 4000.0))
    (folder / "far.csv").write_text(f"time,what,value,error\n{far}")
    for name in ("words.csv", "words.txt"):
        (folder / name).write_text("time,what,value\nnoon,angle,1.0\n")
    before = set(folder.iterdir())
    with pytest.raises(ValueError, match=said):
        run(*words)
    assert set(folder.iterdir()) == before


def test_in_a_shell_wrong_input_is_a_line_on_the_error_stream_and_the_code_2(folder):
    done = nida("reconstruct", "none.nc", "a.nc")
    assert done.returncode == 2 and done.stderr.startswith("nida: 'none.nc' is no file") and not done.stdout
    assert "Traceback" not in done.stderr
    (folder / "bare.csv").write_text("time,what,value\n0.0,angle,1.0\n")
    assert "error=0.4 is --error 0.4" in nida("reconstruct", "bare.csv", "a.nc", "--prior", "pendulum").stderr
    assert nida("reconstruct").returncode == 2


def test_the_doctor_says_by_its_code_whether_all_is_well(monkeypatch, tmp_path):
    done = CliRunner().invoke(cli.app, ["doctor", str(tmp_path)])
    assert "Python" in done.stdout and done.exit_code == int("FAIL" in done.stdout)
    done = CliRunner().invoke(cli.app, ["doctor", str(tmp_path / "none")])
    assert done.exit_code == 1


def test_figures_are_those_whose_names_begin_so(monkeypatch):
    monkeypatch.chdir(ROOT)
    drawn = []
    monkeypatch.setattr(figures, "regenerate", lambda notebooks, root: drawn.extend(notebooks))
    run("figures", "03", "06")
    assert [path.stem for path in drawn] == ["03_temperature", "06_uncertainty"]


def test_dates_that_some_read_as_march_and_others_as_january_are_refused(tmp_path):
    rows = "time,component,value,error\n{0},x,1.0,0.4\n{1},x,2.0,0.4\n"
    (tmp_path / "either.csv").write_text(rows.format("03/01/2021 00:00", "04/01/2021 00:00"))
    with pytest.raises(ValueError, match=r"2021-01-31T06:00.*not '03/01/2021"):
        run("reconstruct", str(tmp_path / "either.csv"), str(tmp_path / "out.nc"))
