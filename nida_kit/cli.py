"""The shell command `nida`: names and options of what `nida_kit` does.

Each command is one function, and imports what it needs itself, so that `nida --help` answers at once. Wrong input ends
with its text on the error stream and the exit code 2, as wrong options do.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Reconstruct trajectories from sparse, noisy observations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def reconstruct(
    observations: Annotated[Path, typer.Argument(help="NetCDF with value and noise_std, or a table: .csv.")],
    output: Annotated[Path, typer.Argument(help="Where the result goes: .nc, .zarr, or .csv for a table.")],
    prior: Annotated[str, typer.Option(help="Shipped weights, or the path of a file.")] = "lorenz63",
    temperatures: Annotated[int, typer.Option(help="Steps of the reconstruction.")] = 4,
    figure: Annotated[Path | None, typer.Option(help="Draw one window into this .png, .pdf or .svg.")] = None,
    window: Annotated[int, typer.Option(help="Which window is drawn, from 0.")] = 0,
    flag: Annotated[list[str] | None, typer.Option(help="A quality flag of good values, 1 or good.")] = None,
) -> None:
    """Reconstruct the trajectories behind a file of observations."""
    from nida_kit import commands

    print(commands.reconstruct(observations, output, prior, temperatures, figure, window, tuple(flag or ())))


@app.command()
def train(
    trajectories: Annotated[Path, typer.Argument(help="NetCDF file of one variable (sample, time, component).")],
    weights: Annotated[Path, typer.Argument(help="Where the prior goes, .safetensors.")],
    batches: Annotated[int, typer.Option(help="Batches of the training.")] = 500,
    batch: Annotated[int, typer.Option(help="Windows per batch.")] = 64,
    width: Annotated[int, typer.Option(help="Features of the network per time step, even.")] = 32,
    order: Annotated[int, typer.Option(help="Steps that the climatology looks back.")] = 4,
    odd: Annotated[list[str] | None, typer.Option(help="A component that a mirror changes the sign of.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything that is random.")] = 0,
) -> None:
    """Train a prior on trajectories of a system of your own."""
    from nida_kit import commands

    print(commands.train(trajectories, weights, batches, batch, width, order, tuple(odd or ()), seed))


@app.command()
def score(
    result: Annotated[Path, typer.Argument(help="What reconstruct wrote, .nc or .zarr.")],
    truth: Annotated[Path, typer.Argument(help="The true trajectories, a file of one variable.")],
) -> None:
    """Compare a result with the truth: error and calibration."""
    from nida_kit import commands

    print(commands.score(result, truth))


@app.command()
def doctor(folder: Annotated[Path, typer.Argument(help="Where notebooks are to write.")] = Path()) -> None:
    """Look at what the labs need; the exit code is 1 if something is missing."""
    from nida_kit.doctor import doctor as look

    report = look(folder)
    print(report)
    raise typer.Exit(not report.ok)


@app.command()
def figures(
    only: Annotated[list[str] | None, typer.Argument(help="Beginnings of notebook names, 03 06; none is all.")] = None,
) -> None:
    """Draw the figures of the notebooks anew, from the root of the repository."""
    from nida_kit.studies.figures import redraw

    redraw(only or ())


def main() -> None:
    """The entry point."""
    warnings.showwarning = lambda message, *where, **more: print(f"Caution: {message}", file=sys.stderr)
    try:
        app()
    except ValueError as error:
        print(f"nida: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
