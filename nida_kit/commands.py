"""What the shell command `nida` does, as functions: files in, files out, and a text about them.

`cli` gives them names and options in the shell; here nothing knows of it.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import xarray as xr

from nida_kit.edge import load_observations, read_file
from nida_kit.evaluate import gaussian_scores
from nida_kit.methods.neural import method_of
from nida_kit.notes import quiet
from nida_kit.observing.grid import grid
from nida_kit.priors.weights import save
from nida_kit.show import plot
from nida_kit.state import TIME
from nida_kit.table import table as table_of
from nida_kit.training.own import learn, load_trajectories

ENDINGS = (".nc", ".zarr", ".csv")


def reconstruct(
    observations: Path,
    output: Path,
    prior: str = "lorenz63",
    temperatures: int = 4,
    figure: Path | None = None,
    window: int = 0,
    flag: tuple[str, ...] = (),
) -> str:
    """Reconstruct the trajectories behind a file of observations; the answer is what to print.

    Args:
        observations: a NetCDF file or Zarr store, as `nk.load_observations` takes it; or a `.csv` table with a row for
            each value, in the columns `time`, `what`, `value` and `error`, as `nk.grid` takes it.
        output: where the result is written: `.nc`, `.zarr`, or `.csv` for a table.
        prior: of shipped weights, or a path of what `nk.save` wrote: a network, or a climatology.
        temperatures: steps of the reconstruction.
        figure: where a figure of one window is written, if anywhere.
        window: which one.
        flag: quality flags of good values, as `nk.load_observations` takes them; none takes all values.

    Raises:
        ValueError: files that cannot be read or written, unknown flags, or observations that do not fit the prior.
    """
    _check_output(output, ENDINGS, observations)
    if figure is not None:
        _check_output(figure, (".png", ".pdf", ".svg"), observations)
    method = method_of(prior, temperatures)
    if observations.suffix.lower() == ".csv":
        obs = grid(_table(observations, flag), method)
    else:
        obs = load_observations(observations, flag=[_number_or_name(each) for each in flag] or None)
    result = method.assimilate(obs)
    # The figure first: a window that there is not is found before anything is written.
    drawn = None if figure is None else plot(result, obs, window=window)
    _write(result, obs, output)
    if drawn is not None:
        drawn.savefig(figure)
    seen = int(obs["value"].notnull().sum())
    return f"{seen} observed values -> {result['mean'].size} reconstructed, in {output}"


def _table(path: Path, flag: tuple[str, ...]) -> pd.DataFrame:
    """A table of text, with its dates as dates."""
    if flag:
        raise ValueError("--flag is for NetCDF files: of a table, leave out the rows that are not good.")
    if not path.is_file():
        raise ValueError(f"{str(path)!r} is no file.")
    try:
        table = pd.read_csv(path)
    except ValueError as error:  # of pandas' reader
        raise ValueError(f"{str(path)!r} cannot be read as a table: {error}") from error
    if TIME not in table or pd.api.types.is_numeric_dtype(table[TIME]):
        return table
    try:
        return table.assign(**{TIME: pd.to_datetime(table[TIME], format="ISO8601", utc=True).dt.tz_localize(None)})
    except ValueError as error:  # 03/01/2021 is in March to some, and in January to others
        raise ValueError(
            f"{str(path)!r}: times are numbers, or dates as 2021-01-31T06:00 (ISO 8601, of UTC where no zone is "
            f"told), not {table[TIME].iloc[0]!r} and the like."
        ) from error


def _number_or_name(text: str) -> int | str:
    """A flag as a shell gives it: 1 is a value, and good a meaning."""
    try:
        return int(text)
    except ValueError:
        return text


def _check_output(path: Path, endings: tuple[str, ...], observations: Path | None = None) -> None:
    """Raises a ValueError if nothing can be written there."""
    if path.suffix not in endings:
        raise ValueError(f"{str(path)!r} must end in {' or '.join(endings)}.")
    if not path.parent.is_dir():
        raise ValueError(f"{str(path)!r}: its folder does not exist. Make it first, or give another path.")
    if observations is not None and path.resolve() == observations.resolve():
        raise ValueError(f"{str(path)!r} would overwrite the observations: give another name.")


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
    save(prior, weights, card)
    about = card.about
    lines = [f"{batches} batches in {about['minutes']} minutes; the prior is in {weights}"]
    if "held_out" in about:
        lines.append(
            f"RMSE on {about['held_out']} trajectories held out: {about['validation'] ** 0.5:.4g} after "
            f"{about['kept_after']} batches, {about['interpolation'] ** 0.5:.4g} of optimal interpolation, in "
            "climatological standard deviations"
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
