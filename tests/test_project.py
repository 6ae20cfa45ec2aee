"""The project's files agree with each other."""

import inspect
import json
import math
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import nida_kit as nk
from nida_kit import notebook, studies
from nida_kit.studies import faster, fields_scale, peers
from nida_kit.training.recipes import RECIPES

ROOT = Path(__file__).parents[1]
CONDA_NAMES = {
    "torch": "pytorch",
    "cf-xarray": "cf_xarray",
    "matplotlib": "matplotlib-base",
    "dask[array]": "dask-core",
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_conda_and_pip_install_the_same_for_users():
    extras = PROJECT["optional-dependencies"]
    wanted = {"pip", f"python{PROJECT['requires-python']}"}
    for requirement in PROJECT["dependencies"] + extras["notebooks"] + extras["dashboard"] + extras["data"]:
        name, bounds = re.fullmatch(r"([\w.\[\]-]+?)([<>=].*)", requirement).groups()
        wanted.add(CONDA_NAMES.get(name, name) + bounds)
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge"]
    *conda, pip = environment["dependencies"]
    assert set(conda) == wanted
    assert pip == {"pip": ["-e ."]}


def test_badges_that_teachers_copy_open_a_notebook_that_there_is():
    text = (ROOT / "notebooks" / "teaching.md").read_text()
    opened = re.findall(
        r"\]\(https://(mybinder|colab)\S+OWNER/REPOSITORY/(?:main\?urlpath=lab/tree|blob/main)/(\S+)\)", text
    )
    assert [site for site, _ in opened] == ["mybinder", "colab"]
    assert all((ROOT / path).is_file() for _, path in opened)


def test_ci_runs_the_test_command_of_the_readme():
    commands = re.findall(r"```bash\n(.*?)\n```", (ROOT / "README.md").read_text(), re.S)
    assert len(commands) == 2
    assert "papermill notebooks/00_start_here.ipynb" in commands[0]
    assert f"{commands[1]} || exit 1" in (ROOT / ".ci/run").read_text().splitlines()


def test_the_code_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for code in re.findall(r"```python\n(.*?)\n```", (ROOT / "README.md").read_text(), re.S):
        exec(code, names)
    assert names["nk"].load("mine.safetensors")[1].dt == 0.05
    assert names["result"]["mean"].sizes == names["truth"].sizes
    assert names["lazy"]["mean"].chunks is not None
    assert 0 < float(names["score"]) < 10


def test_importing_the_package_loads_nothing_heavy_and_its_names_neither_widgets_nor_plotting_nor_scores():
    code = """
import sys
import nida_kit as nk
print([name for name in ("torch", "numpy", "pandas", "xarray") if name in sys.modules])
import nida_kit.table  # a module that has the name of its function
names = {name: getattr(nk, name) for name in dir(nk)}
print(sorted(names) == nk.__all__ and callable(names["table"]))
heavy = ("ipywidgets", "matplotlib", "IPython", "xskillscore", "distributed", "typer")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["[]", "True", "[]", ""]


def test_help_begins_with_every_public_name_by_what_it_is_for():
    start = nk.__doc__.split("What there is")[1].split("The package reads")[0]
    assert sorted(set(nk.__all__) - set(re.findall(r"\w+", start))) == []


def examples_of(name: str) -> list[str]:
    """The docstrings of a public name and of what it has, that hold an example."""
    thing = getattr(nk, name)
    own = vars(thing).values() if isinstance(thing, type) or inspect.ismodule(thing) else ()
    parts = [thing, *(part for part in own if callable(part) or isinstance(part, classmethod))]
    return [part.__doc__ for part in parts if ">>> " in (part.__doc__ or "")]


@pytest.mark.parametrize("name", nk.__all__)
def test_every_public_name_has_an_example(name):
    texts = examples_of(name)
    assert texts and (inspect.ismodule(getattr(nk, name)) or re.search(rf"\b{name}\b", "".join(texts)))


WRITTEN = [f"notebooks/mine{suffix}" for suffix in (".nc", ".png", ".pdf", ".json", ".safetensors")]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no clone")
def test_git_ignores_what_notebooks_write_and_nothing_that_is_kept():
    ignored = ["git", "check-ignore", "--no-index", *WRITTEN, "figures/line_lab.png", "build/book"]
    assert len(subprocess.run(ignored, cwd=ROOT, capture_output=True, text=True).stdout.split()) == len(WRITTEN) + 2
    kept = subprocess.run(["git", "ls-files", "-ci", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    assert kept.stdout == ""


def test_records_that_are_shown_are_installed_with_the_package():
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "studies/*.json" in setup["package-data"]["nida_kit"]
    assert notebook.record("laws")["windows"] == 1000
    files = {path.stem for path in (ROOT / "nida_kit" / "studies").glob("*.py")}
    # No notebook shows that of the peers.
    assert {path.stem for path in (ROOT / "figures").glob("*.json")} & files == {"peers"}


def test_every_study_is_listed_where_contributors_look():
    files = (ROOT / "nida_kit" / "studies").glob("*.py")
    there = {path.stem for path in files if f"python -m nida_kit.studies.{path.stem}`" in path.read_text()}
    assert len(there) > 20
    assert set(re.findall(r"^    (\w+)  +\w", studies.__doc__, re.M)) == there
    (measured,) = re.findall(r"^\| measure what README.*$", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
    assert set(re.findall(r"[`.](\w+)`", measured)) == there - {"figures"}  # which has a line of its own


def test_the_readme_says_that_nothing_was_measured_on_a_gpu_and_no_record_is_of_one():
    assert "No number or figure here was measured on a GPU" in (ROOT / "README.md").read_text()
    records = [path for folder in ("figures", "nida_kit") for path in (ROOT / folder).rglob("*.json")]
    assert len(records) > 50 and not [path for path in records if re.search("cuda|gpu", path.read_text(), re.I)]


@pytest.mark.parametrize("path", ["nida_kit/pretrained"])
def test_shipped_weights_stay_small(path):
    sizes = [f.stat().st_size for f in (ROOT / path).glob("*.safetensors")]
    assert sum(sizes) < 10e6
    assert max(sizes) < 5e6


def test_the_readme_shows_the_errors_on_record():
    readme = (ROOT / "README.md").read_text()
    rows = notebook.record("laws")["lorenz63"]
    lorenz, ocean = readme.split("| ocean, observed |")
    shown = re.findall(r"^\|.*\| (?:yes|no) \|(.*)\|$", lorenz, re.M)
    names = (
        "optimal interpolation",
        "4D-Var from optimal interpolation",
        "paper's network, 2 temperatures",
        "shipped prior, 4 temperatures",
        "hybrid: shipped prior, then 3 steps of 4D-Var",
    )
    assert len(shown) == len(rows)
    for line, row in zip(shown, rows.values(), strict=True):
        assert [float(x) for x in re.findall(r"[\d.]+", line)] == [round(row[name]["mse"] ** 0.5, 3) for name in names]
    ratios = notebook.record("laws")["paper_beyond_limit"]["shipped prior, 4 temperatures"]
    told = re.search(r"has ([\d.]+) times that \(([\d.]+) times in expectation", lorenz).groups()
    assert told == tuple(f"{ratios[key] ** 0.5:.2f}" for key in ("mse_over_limit", "expected_over_limit"))
    shown = re.findall(r"^\|.*\| (?:yes|no) \|(.*)\|$", ocean, re.M)
    for line, row in zip(shown, notebook.record("ocean")["laws"].values(), strict=True):
        first, neural, covers = (float(x) for x in re.findall(r"[\d.]+", line))
        errors = [row[name]["error"] for name in ("optimal interpolation", "NIDA")]
        assert [first, neural] == [round(error**0.5, 3) for error in errors]
        assert covers == round(100 * row["NIDA"]["coverage"])
    trained = [row for law, row in notebook.record("ocean")["laws"].items() if "swath" not in law]
    more = [(row["weak 4D-Var"]["error"] / row["NIDA, on those windows"]["error"]) ** 0.5 for row in trained]
    assert f"{min(more):.2f} to {max(more):.2f} times the prior's error" in ocean


def section(heading: str) -> str:
    """What stands under a heading of figures/README.md."""
    return (ROOT / "figures" / "README.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]


def cells_of(heading: str) -> list[list[str]]:
    """The rows below the head of the table there."""
    lines = re.findall(r"^\|(.*)\|$", section(heading), re.M)[2:]
    return [[cell.strip(" *%") for cell in line.split("|")] for line in lines]


def ocean_name(shown: str, windows: str = "") -> str:
    """What the record calls a method of the ocean's tables."""
    names = {"NIDA's own first guess": "first guess of NIDA", "weak 4D-Var from optimal interpolation": "weak 4D-Var"}
    alike = shown in ("NIDA", "optimal interpolation") and windows == "16"
    return f"{shown}, on those windows" if alike else names.get(shown, shown)


def test_the_errors_of_the_ocean_that_are_shown_are_on_record():
    laws = notebook.record("ocean")["laws"].values()
    for shown, windows, *cells in cells_of("An ocean seen along tracks"):
        name = ocean_name(shown, windows)
        assert any(name in law for law in laws)
        for cell, row in zip(cells[:-1], [law[name] for law in laws], strict=True):
            if "runs apart" in row:
                assert cell == "runs apart"
                continue
            error, covers = re.findall(r"[\d.]+", cell)
            assert error == f"{row['error'] ** 0.5:.3f}", (shown, cell)
            assert float(covers) == round(100 * row["coverage"])
    text = " ".join(section("An ocean seen along tracks").split())
    past, alone = "localised ensemble of 400 past windows", "optimal interpolation, on those windows"
    for said, over, under, power in (
        ("times the error of optimal interpolation. Ensembles", past, alone, 0.5),
        ("times the error of optimal interpolation,", "NIDA", "optimal interpolation", 0.5),
        ("times its squared error", "NIDA", "optimal interpolation", 1.0),
        ("times its error. NIDA, which", "regression", "optimal interpolation", 0.5),
        ("times the error of the regression", "NIDA", "regression", 0.5),
    ):
        ratios = [(law[over]["error"] / law[under]["error"]) ** power for law in laws]
        assert re.findall(r"\d\.\d+", text.split(said)[0])[-4:] == [f"{ratio:.2f}" for ratio in ratios]


def test_the_crps_the_model_runs_and_the_memory_of_the_ocean_that_are_shown_are_on_record():
    study, heading = notebook.record("ocean"), "CRPS, model runs and memory on the ocean"
    laws, few = study["laws"].values(), {}
    assert [row[:2] for row in cells_of(heading)] == [row[:2] for row in cells_of("An ocean seen along tracks")]
    for shown, windows, *cells in cells_of(heading):
        name = ocean_name(shown, windows)
        rows = [law.get(name, {}) for law in laws]
        scores = ["runs apart" if "runs apart" in row else f"{row['crps']:.3f}" if row else "" for row in rows]
        runs = [f"{rows[0][key]:.0f}" if key in rows[0] else "" for key in ("model runs forth", "model runs back")]
        took = study["memory of four windows, GB"]
        assert cells == [*scores, *runs, f"{took[name]:.2f}" if name in took else ""], (shown, windows)
        if windows == "16":
            few[shown] = [row.get("crps", math.inf) for row in rows]
    best = [min(few, key=lambda name: few[name][k]) for k in range(4)]
    assert best == ["NIDA"] * 3 + ["weak 4D-Var from optimal interpolation"]


def test_the_errors_on_two_layers_that_are_shown_are_on_record():
    rows, shown = notebook.record("ocean")["two layers"], cells_of("An ocean of two layers")
    assert sorted(ocean_name(name) for name, _ in shown) == sorted(rows)
    for name, cell in shown:
        row = rows[ocean_name(name)]
        assert cell == f"{row['error'] ** 0.5:.3f} ({100 * row['coverage']:.0f}%)"
    (_, least), (second, error) = ((name, float(cell.split()[0])) for name, cell in shown[:2])
    assert {name for name, row in rows.items() if row["coverage"] > 0.9} == {
        "climatology",
        "localised ensemble of 400 past windows",
    }
    assert second == "NIDA" and f"by {100 - 100 * least / error:.0f}%" in section("An ocean of two layers")


def test_the_scales_that_maps_of_the_ocean_resolve_are_on_record():
    study, heading = notebook.record("ocean")["scales"], "Scales that maps of the ocean resolve"
    digits = {"mu": 3, "sigma": 4, "lambda_x": 3, "lambda_t": 0}
    assert cells_of(heading) == [
        [setup, name, *("" if row[key] is None else f"{row[key]:.{n}f}" for key, n in digits.items())]
        for setup, rows in study.items()
        for name, row in rows.items()
    ]
    whole, tracks, _ = study.values()
    pairs = [(rows["NIDA"], rows["optimal interpolation"]) for rows in (whole, tracks)]
    told = [f"{ours[key] / theirs[key]:.2f}" for key in ("lambda_x", "lambda_t") for ours, theirs in pairs]
    said = "lambda_x is {} and {} times that of optimal interpolation, its lambda_t {} and {} times."
    assert said.format(*told) in section(heading)
    varies = [rows["NIDA"]["sigma"] > rows["optimal interpolation"]["sigma"] for rows in study.values()]
    assert varies == [False, True, True]


def test_the_errors_of_4d_var_by_its_iterations_are_on_record():
    study, heading = notebook.record("ocean"), "4D-Var of the ocean by its iterations"
    laws, rows = study["4D-Var, by iterations"].values(), cells_of(heading)
    starts = next(iter(laws))
    assert [row[:2] for row in rows] == [[start.removeprefix("from "), n] for start in starts for n in starts[start]]
    for name, n, *errors in rows:
        assert errors == [f"{law[f'from {name}'][n] ** 0.5:.3f}" for law in laws], (name, n)
    said = section(heading).split("windows NIDA has")[1].split(". After")[0]
    alone = [law["NIDA, on those windows"]["error"] ** 0.5 for law in study["laws"].values()]
    assert re.findall(r"\d\.\d+", said) == [f"{error:.3f}" for error in alone]


def test_what_history_is_worth_is_on_record():
    methods = notebook.record("history")["methods"]
    for name, *cells in cells_of("The ocean over 300 cycles"):
        row = methods[name]
        digits = {"analysis": 2, "middle": 2, "cpu_seconds": 0}
        shown = [f"{row[key]:.{n}f}" if key in row else "" for key, n in digits.items()]
        assert cells == (["runs apart", "", ""] if "runs apart" in row else shown), name


def test_the_calibration_that_is_shown_is_on_record():
    laws = notebook.record("calibration")["laws"].values()
    for (_, *numbers), law in zip(cells_of("Calibration"), laws, strict=True):
        neural, first = (law["methods"][name]["scores"] for name in ("NIDA", "OI"))
        assert numbers == [
            *(f"{100 * neural[key]:.1f}" for key in ("coverage_90", "coverage_50")),
            f"{neural['spread_error_ratio']:.2f}",
            *(f"{row['crps']:.3f}" for row in (neural, first)),
        ]


def test_how_much_intervals_cover_that_the_readme_tells_is_on_record():
    laws = notebook.record("calibration")["laws"]
    covers = {name: 100 * law["methods"]["NIDA"]["scores"]["coverage_90"] for name, law in laws.items()}
    of_sum = covers.pop("sum")
    least, *_, most = sorted(covers.values())
    said = f"covers {least:.1f} to {most:.1f}% under six laws, and {of_sum:.1f}% under that of the sum"
    assert len(covers) == 6 and said in " ".join((ROOT / "README.md").read_text().split())


def test_the_score_beside_the_posterior_that_is_told_is_on_record():
    found = notebook.record("calibration")["paper_beside_particles"]["methods"]["NIDA"]["crps_over_particles"]
    assert f"the CRPS is {found:.2f} times that of the exact posterior" in section("Calibration")


def test_the_errors_on_the_same_windows_that_are_shown_are_on_record():
    laws = notebook.record("classical")["laws"].values()
    assert len(cells_of("All methods on the same windows: Lorenz-63")) == 13
    assert len(cells_of("All methods on the same windows: Lorenz-96")) == 11
    for name, *numbers in cells_of("All methods on the same windows: Lorenz-63"):
        assert numbers == [f"{law['methods'][name]['mse'] ** 0.5:.3f}" for law in laws], name
    methods = notebook.record("ring")["methods"]
    for name, error, crps, covered, _ in cells_of("All methods on the same windows: Lorenz-96"):
        row = methods[name]
        shares = [f"{row['mse'] ** 0.5:.3f}", f"{row['crps']:.3f}", f"{100 * row['coverage_90']:.0f}"]
        assert [error, crps, covered] == shares, name


def test_the_errors_from_few_windows_that_are_shown_are_on_record():
    rows = notebook.record("few")["blocks"]
    for (years, *numbers), row in zip(cells_of("Few windows of a real record"), rows, strict=True):
        assert years == "{} to {}".format(*row["test"])
        means = [row["optimal interpolation"], *(sum(row[k]) / len(row[k]) for k in ("corrected", "plain"))]
        assert numbers == [f"{mean:.3f}" for mean in means]
        assert means[1] <= means[0] + 1e-9 and means[0] < means[2]


def test_the_scores_of_real_records_that_are_shown_are_on_record():
    study = notebook.record("real")
    shown = cells_of("Two real records")
    assert len(shown) == sum(len(study[name]["methods"]) for name in ("Pacific", "El Nino"))
    for name, method, *numbers in shown:
        row = study[name]["methods"][method]
        every = row["all"]
        assert numbers == [
            f"{every['rmse']:.3f}",
            f"{row['points']['rmse']:.3f}" if "points" in row else "",
            f"{every['crps']:.3f}",
            f"{100 * every['coverage_90']:.0f}",
        ], (name, method)


def test_the_published_scores_that_are_shown_are_on_record():
    setups = notebook.record("published")["setups"]
    shown = cells_of("Classical methods and their published scores")
    assert f"their {len(shown)} published scores" in " ".join((ROOT / "README.md").read_text().split())
    for setup, method, _, here in shown:
        row = setups[setup][method]
        assert here == f"{row['here']:.2f}", (setup, method)


def test_the_costs_of_large_fields_that_are_shown_are_on_record_and_grow_as_the_values():
    study = notebook.record("fields_scale")
    for (_, *numbers), row in zip(cells_of("Fields of millions of values"), study["cells"], strict=True):
        assert numbers == [f"{row['values']:,}", f"{row['seconds']:.1f}", f"{row['memory']:.2f}"]
    assert study["cells"][-1]["values"] > 10**7 and study["cells"][-1]["memory"] < 3.5
    assert study["exponent in values"] < 1.2 and study["exponent in steps"] < 1.2
    assert study["larger than memory"]["memory"] < 6.0
    assert study["tiles against the whole"]["halo"]["16"]["error"] < 1.005


def test_the_time_of_a_field_larger_than_memory_that_is_told_is_on_record():
    study, said = notebook.record("fields_scale"), " ".join(section("Fields of millions of values").split())
    run, worked = study["larger than memory"], study["a billion values, worked out"]
    assert f"on two workers in {run['seconds']:.0f} CPU seconds" in said and run["workers"] == 2
    assert f"never held more than {run['memory']:.1f} GB together" in said
    assert f"would take {worked['core hours']:.1f} core hours, about a minute" in said
    assert f"with {worked['memory of a core, GB']:.1f} GB each" in said and 0.5 < 60 * worked["hours"] < 1.5
    waited = 100 - 50 * run["seconds"] / run["wall"]
    assert f"On the clock that run took {run['wall']:,.0f} s: for {waited:.0f}% of it the workers waited" in said
    by_clock = fields_scale.billion(run | {"seconds": run["workers"] * run["wall"]})
    told = f"would take {by_clock['core hours']:.1f} core hours, {60 * by_clock['hours']:.0f} minutes on"
    assert told in said and f"{by_clock['cores']} cores. In" in said
    ((name, smaller),) = notebook.record("growth")["sweeps"]["workers"].items()
    assert name == "tiles of a field of 1024 x 1024 x 8"
    seconds = dict(smaller["seconds"])[2]
    less = run["wall"] / run["values"] / (seconds / (1024**2 * 8))
    assert f"took {seconds:.0f} s for" in said and f"{less:.1f} times less for each value" in said


def test_the_growth_of_costs_that_is_shown_is_on_record():
    sweeps = notebook.record("growth")["sweeps"]
    shown = cells_of("How the cost grows with the work")
    assert len(shown) == sum(len(rows) for rows in sweeps.values())
    for of, method, sizes, took, power in shown:
        row = sweeps[of][method]
        (least, first), (most, last) = row["seconds"][0], row["seconds"][-1]
        low, middle, high = row["exponents"]
        assert [sizes, took] == [f"{least:,} to {most:,}", f"{first:.3g} to {last:.3g}"], (of, method)
        assert power == f"{middle:.2f} ({low:.2f} to {high:.2f})"
    seconds = dict(sweeps["sites"]["NIDA, one temperature"]["seconds"])
    told = re.findall(r"([\d.]+) s for ([\d,]+\d)", section("How the cost grows with the work"))
    assert told == [(f"{seconds[n]:.2g}", f"{n:,}") for n in (400, 4000, 100_000)]


def test_what_would_make_nida_faster_is_on_record():
    study, said = notebook.record("faster"), section("What would make NIDA faster")
    assert faster.table(study) in said
    rows = study["ways"]
    assert faster.COMPILED in rows and study["processor"]["amx_bf16"] and study["windows"].startswith("200 of each")
    kept = {name for name, row in rows.items() if row["worst"] < 1.01}
    assert kept == {faster.SHIPPED, "three temperatures", faster.STOPPED, faster.HALF, faster.COMPILED}
    timed = kept - {faster.STOPPED}
    assert min(rows[name][how] for name in timed for how in ("batch", "alone")) > 0.5
    assert rows[faster.STOPPED]["steps_saved"] < 0.5
    small, full = (
        RECIPES[name].settings.steps + sum(more.settings.steps for more in RECIPES[name].refinements)
        for name in ("lorenz63_small", "lorenz63")
    )
    assert f"{small:,} batches of training instead of {full:,}" in said


def test_the_errors_on_fresh_windows_that_are_shown_are_on_record():
    study = notebook.record("fresh")
    rows = [row for system in ("lorenz63", "pendulum") for row in study[system].values()]
    assert len(rows) == 12
    for (_, *shown), row in zip(cells_of("On fresh windows"), rows, strict=True):
        covered = [f"{100 * row[key]:.0f}" for key in ("coverage_90", "coverage_50")]
        ratio = f"{row['expected_over_limit'] ** 0.5:.2f}"
        assert shown == [f"{row['mse'] ** 0.5:.4f}", f"{row['limit'] ** 0.5:.4f}", ratio, *covered]


def test_the_draws_and_the_starts_that_are_told_are_on_record():
    laws = notebook.record("sampling")["laws"]
    order = ("NIDA, last Gaussian", "NIDA, incremental, 4 temperatures", "particles, other random numbers")
    found = [laws[law]["forecasts"][name]["wasserstein"] for law in ("paper", "z only") for name in order]
    assert re.findall(r"\d+\.\d+", section("Draws")) == [f"{x:.2f}" for x in found]
    rows = [law["methods"]["NIDA"]["incremental_sampling"] for law in notebook.record("calibration")["laws"].values()]
    held = sorted(round(100 * row["coverage_90"]) for row in rows)
    assert f"middle 90% hold {held[0]} to {held[-1]}% of the truth" in section("Draws")
    cost = notebook.record("cost")["time_to_accuracy"]["shipped"]
    said = " ".join(section("4D-Var from many starts").split())
    assert f"error of {cost['reached_mse'] ** 0.5:.3f} beside {cost['mse'] ** 0.5:.3f}" in said
    assert f"for {cost['ratio_batch']:.0f} times the seconds in a batch and {cost['ratio_alone']:.0f} times" in said


def test_how_long_a_training_takes_is_on_record():
    seeds, said = notebook.record("until")["seeds"], section("Beside other packages")
    first, second = ([each["seconds"][error] for each in seeds] for error in ("0.15", "0.1"))
    told = [f"{min(seconds):.0f} to {max(seconds):.0f} s" for seconds in (first, second)]
    assert f"takes {told[0]} of a core" in said and f"and {told[1]} until" in said


def test_the_peers_that_are_shown_are_on_record():
    found = json.loads((ROOT / "figures" / "peers.json").read_text())["tasks"]
    said = section("Beside other packages")
    assert peers.table(found) in said

    def alone(task):
        """Our milliseconds beside DAPPER's."""
        (rows,) = (each["contenders"] for each in found if each["task"].startswith(task))
        ours, theirs = (next(row for row in rows if row["name"] == name) for name in ("nida_kit", "dapper"))
        assert ours["at_once"] == 1
        return f"{ours['milliseconds_per_unit'] / theirs['milliseconds_per_unit']:.2g}"

    words = r"EnKF \((.*) times its milliseconds.*particles \((.*)\), for the iEnKS \((.*)\) and .*\((.*), and (.*) on"
    told = re.search(words, said)
    assert list(told.groups()) == [alone(x) for x in ("EnKF", "particle", "iEnKS", "LETKF, 7", "LETKF, 25")]


def test_where_another_package_is_faster_is_on_record_and_told_in_full():
    faster, batches = [], {}
    for task in json.loads((ROOT / "figures" / "peers.json").read_text())["tasks"]:
        took = {(row["name"], row["at_once"]): row["milliseconds_per_unit"] for row in task["contenders"]}
        ours = {n: took[name, n] for name, n in took if name == "nida_kit"}
        alone, batch = ({n: x for n, x in ours.items() if (n > 1) is many} for many in (False, True))
        if 100 in batch:
            batches[task["task"].split(",")[0]] = f"{100 * batch[100] / alone[1]:.1f}"
        for (name, _), theirs in took.items():
            cells = ["".join(f"{x / theirs:.2f}" for x in some.values() if x > theirs) for some in (alone, batch)]
            if name != "nida_kit" and any(cells):
                faster.append([task["task"], name, *cells])
    assert cells_of("Where another package is faster") == faster
    told = "A hundred experiments at once take {EnKF}, {iEnKS}, {LETKF} and {particle filter} times as long as one"
    said = section("Beside other packages")
    assert told.format(**batches) in said
    ratios = {row["method"].split(",")[0]: f"{row['times_as_long']:.1f}" for row in notebook.record("speed")["methods"]}
    assert "finds {EnKF}, {iEnKS}, {LETKF} and {particle filter}: its".format(**ratios) in said


def test_the_figure_of_errors_against_seconds_has_the_errors_on_record():
    points = notebook.record("accuracy")["points"]
    rows = notebook.record("classical")["laws"]["x every 8th step, noise 0.05"]["methods"]
    for kind, name in {"NIDA": "NIDA", "NIDA, then 4D-Var": "hybrid, 3 steps"}.items():
        ((_, error),) = points["Lorenz-63, 3 x 32 values"][kind]
        assert error == pytest.approx(rows[name]["mse"] ** 0.5, abs=1e-4)
    ocean = notebook.record("ocean")["laws"]["tracks, 75 a step"]
    errors = sorted(error for _, error in points["ocean, 65 x 65 x 8 values"]["NIDA, then 4D-Var"])
    assert errors == [pytest.approx(ocean["hybrid, 3 iterations"]["error"] ** 0.5, abs=1e-4)]


def test_the_pendulum_that_is_shown_is_on_record():
    rows = notebook.record("laws")["pendulum"]
    assert len(cells_of("Pendulum")) == 4
    for name, error, covered, _ in cells_of("Pendulum"):
        row = rows[name]
        assert [error, covered] == [f"{row['mse'] ** 0.5:.4f}", f"{100 * row['coverage_90']:.0f}"], name


@pytest.mark.parametrize("figure", ["pendulum_reconstruction", "temperature_steps"])
def test_each_row_of_a_reconstruction_says_its_error_and_the_errors_fall_in_the_end(figure):
    record = json.loads((ROOT / "figures" / f"{figure}.json").read_text())
    said = [
        float(text.partition("RMSE ")[2]) for panel in record["panels"] for text in panel["texts"] if "RMSE" in text
    ]
    assert len(said) == len({text for panel in record["panels"] for text in panel["texts"]}) > 3
    assert said[1:] == sorted(said[1:], reverse=True) and said[0] > 2 * said[-1]  # the pendulum's second errs more
