"""What the shell command `nida` does, as functions: files in, files out, and a text about them.

`cli` gives them names and options in the shell; here nothing knows of it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from nida_kit.checks import counted, positive
from nida_kit.edge import NOISE, load_observations, read_file
from nida_kit.evaluate import gaussian_scores
from nida_kit.methods.method import Method
from nida_kit.methods.neural import method_of
from nida_kit.notes import quiet
from nida_kit.observing.grid import grid
from nida_kit.priors.weights import save
from nida_kit.show import plot
from nida_kit.state import COMPONENT, TIME
from nida_kit.table import table as table_of
from nida_kit.training.own import learn, load_trajectories
from nida_kit.units import NONE

ENDINGS = (".nc", ".zarr", ".csv")


def reconstruct(
    observations: Path,
    output: Path,
    prior: str = "lorenz63",
    temperatures: int | None = None,
    figure: Path | None = None,
    window: int = 0,
    flag: tuple[str, ...] = (),
    robust: str | None = None,
    **how: str | int | None,
) -> str:
    """Reconstruct the trajectories behind a file of observations; the answer is what to print.

    Args:
        observations: a NetCDF file or Zarr store, as `nk.load_observations` takes it; or a `.csv` table with a row for
            each value, in the columns `time`, `what`, `value` and `error`, as `nk.grid` takes it.
        output: where the result is written: `.nc`, `.zarr`, or `.csv` for a table.
        prior: of shipped weights, or a path of what `nk.save` wrote: a network, or a climatology.
        temperatures: steps of the reconstruction, as in `nk.NeuralIncremental`.
        figure: where a figure of one window is written, if anywhere.
        window: which one.
        flag: quality flags of good values, as `nk.load_observations` takes them; none takes all values.
        robust: as in `assimilate`.
        **how: of `nk.grid`: start, dt, steps, error, time, what and value, as a shell gives them; None is its own.

    Raises:
        ValueError: files that cannot be read or written, unknown flags, or observations that do not fit the prior.
    """
    _check_output(output, ENDINGS, observations)
    if figure is not None:
        _check_output(figure, (".png", ".pdf", ".svg"), observations)
    elif window:
        raise ValueError(f"window={window} says which one is drawn: give figure= as well.")
    method = method_of(prior, temperatures)
    obs, on_grid = _observations(observations, method, flag, {k: v for k, v in how.items() if v is not None})
    result = _assimilated(method, obs, on_grid, robust)
    # The figure first: a window that there is not is found before anything is written.
    drawn = None if figure is None else plot(result, obs, window=window)
    with _writing(output):
        _write(result, obs, output)
    if drawn is not None:
        with _writing(figure):
            drawn.savefig(figure)
    seen = counted(int(obs["value"].notnull().sum()), "observed value")
    return f"{seen} -> {result['mean'].size:,} reconstructed, in {output}"


def _observations(path: Path, method: Method, flag: tuple[str, ...], how: dict) -> tuple[xr.Dataset, bool]:
    """What was observed, and whether it was put on the method's steps: a table always, another file if asked for."""
    good = [_number_or_name(each) for each in flag] or None
    how |= {name: _number_or_name(how[name]) for name in ("start", "dt", "error") if name in how}
    if path.suffix.lower() == ".csv":
        table = _table(path, how.get("time", TIME))
        return grid(table, method, flag=good, **how).assign_attrs(observations_file=str(path)), True
    names = {"time": TIME, "what": COMPONENT, "value": "value", "error": NOISE}
    given = {name: how.pop(name) for name in names if name in how}
    obs = read_file(path).assign_attrs(observations_file=str(path))
    if isinstance(given.get("error"), int | float):
        obs = obs.assign({NOISE: positive("error", given.pop("error"))})
    if lacking := [name for name in given.values() if name not in obs.variables and name not in obs.dims]:
        raise ValueError(f"{str(path)!r} has no {lacking[0]!r}; there are {list(map(str, obs.variables))}.")
    new = {name: names[role] for role, name in given.items() if name != names[role]}
    obs = obs.drop_vars([name for name in new.values() if name in obs.variables]).rename(new)
    if not how:
        if "value" in obs and TIME in obs.variables and TIME not in obs["value"].dims:
            raise ValueError(
                f"{str(path)!r} has values with times and places of their own, along {list(obs['value'].dims)}. One "
                f"option puts each at the nearest step and point that the prior knows: dt={method.dt:g}, or of dates a "
                "span; start= and steps= choose a window. (In Python nk.grid(obs, method, exact=True) keeps true times "
                "and places.)"
            )
        return load_observations(obs, flag=good), False
    return grid(obs, method, flag=good, **how), True


def _assimilated(method: Method, obs: xr.Dataset, on_grid: bool, robust: str | None) -> xr.Dataset:
    """The result; dates on steps of equations whose unit of time has no name are counted in these, and come back."""
    time = obs.get(TIME)
    if not on_grid or time.dtype.kind in "iuf" or method.labels.time_units not in NONE:
        return method.assimilate(obs, robust=robust)
    steps = obs.assign_coords({TIME: method.dt * np.arange(time.size)})
    return method.assimilate(steps, robust=robust).assign_coords({TIME: time})


def _table(path: Path, time: str) -> pd.DataFrame:
    """A table of text, with its dates as dates."""
    if not path.is_file():
        raise ValueError(f"{str(path)!r} is no file.")
    try:
        table = pd.read_csv(path, skipinitialspace=True).rename(columns=str.strip)
    except ValueError as error:  # of pandas' reader
        said = f"{str(path)!r} cannot be read as a table, of texts in UTF-8 with commas between"
        raise ValueError(f"{said}: {' '.join(str(error).split())}") from error
    if len(table.columns) == 1 and re.search("[;\t]", table.columns[0]):
        raise ValueError(
            f"{str(path)!r} has one column, {table.columns[0]!r}: put commas between columns, and points into numbers."
        )
    if time not in table or pd.api.types.is_numeric_dtype(table[time]):
        return table
    return table.assign(**{time: _dates(table[time].astype("string").str.strip(), path)})


def _dates(texts: pd.Series, path: Path) -> pd.Series:
    """Dates of ISO 8601, in UTC."""
    dates = pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce")
    wrong = texts[dates.isna() & texts.notna()]
    if len(wrong):  # 03/01/2021 is in March to some, and in January to others
        raise ValueError(
            f"{str(path)!r}: times are numbers, or dates as 2021-01-31T06:00 (ISO 8601, of UTC where no zone is "
            f"told), not {wrong.iloc[0]!r}, in row {wrong.index[0] + 2} of the file."
        )
    elsewhere = texts[texts.str.contains(r"[+-]\d{2}:?\d{2}$", na=False) & ~texts.str.contains("[+-]00:?00$", na=False)]
    if len(elsewhere):
        warnings.warn(
            f"{counted(len(elsewhere), 'time is', 'times are')} told in another zone, {elsewhere.iloc[0]} first, and "
            "brought to UTC; so the result is in UTC.",
            stacklevel=2,
        )
    return dates.dt.tz_localize(None)


def _number_or_name(text: str) -> float | int | str:
    """A word as a shell gives it: 1 is a number, and good a name."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _check_output(path: Path, endings: tuple[str, ...], observations: Path | None = None) -> None:
    """Raises a ValueError if nothing can be written there."""
    if path.suffix not in endings:
        raise ValueError(f"{str(path)!r} must end in {' or '.join(endings)}.")
    if path.is_dir() and path.suffix != ".zarr":
        raise ValueError(f"{str(path)!r} is a folder: give another name.")
    if not path.parent.is_dir():
        raise ValueError(f"{str(path)!r}: its folder does not exist. Make it first, or give another path.")
    if observations is not None and path.resolve() == observations.resolve():
        raise ValueError(f"{str(path)!r} would overwrite the observations: give another name.")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Within it, what a system says of a file that cannot be written is a ValueError."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"{str(path)!r} cannot be written: {error.strerror or error}. Give another path.") from error


def _write(result: xr.Dataset, obs: xr.Dataset, output: Path) -> None:
    if output.suffix == ".csv":
        table_of(result, obs).to_csv(output, index=False)
    elif output.suffix == ".zarr":
        result.to_zarr(output, mode="w", consolidated=False)  # Zarr 3 has no consolidated metadata
    else:
        result.to_netcdf(output)


def train(
    trajectories: Path,
    weights: Path,
    batches: int = 500,
    batch: int = 64,
    width: int = 32,
    order: int = 4,
    odd: tuple[str, ...] = (),
    seed: int = 0,
) -> str:
    """Train a prior on a file of trajectories, and write its weights; arguments are those of `learn`.

    Raises:
        ValueError: as `learn`, or files that cannot be read or written.
    """
    _check_output(weights, (".safetensors",))
    with quiet():  # the note is in the answer
        prior, card = learn(load_trajectories(trajectories), batches, batch, width, order, odd, seed)
    with _writing(weights):
        save(prior, weights, card)
    about = card.about
    minutes = about["minutes"]
    lines = [f"{counted(batches, 'batch', 'batches')} in {minutes} minutes; the prior is in {weights}"]
    if "held_out" in about:
        lines.append(
            f"RMSE on {about['held_out']} trajectories held out: {about['validation'] ** 0.5:.4g} after "
            f"{counted(about['kept_after'], 'batch', 'batches')}, {about['interpolation'] ** 0.5:.4g} of optimal "
            "interpolation, in climatological standard deviations"
        )
    return "\n".join([*lines, *([about["note"]] if "note" in about else [])])


def score(result: Path, truth: Path) -> str:
    """Error and calibration of a result against the truth, a line each, in the units of the state.

    Raises:
        ValueError: files that cannot be read, or that do not fit together.
    """
    found = read_file(result)
    if not {"mean", "std"} <= set(found):
        raise ValueError(f"{str(result)!r} has {list(found)}; a result has mean and std: nida reconstruct writes one.")
    true = read_file(truth)
    if len(true) != 1:
        raise ValueError(f"{str(truth)!r} has {list(true)}; the truth is one variable.")
    scores = gaussian_scores(found["mean"], found["std"], next(iter(true.values())))
    return "\n".join(f"{name:20} {value:.6g}" for name, value in scores.items())
