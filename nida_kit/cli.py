"""The shell command `nida`: names and options of what `nida_kit` does.

Each command is one function, and imports what it needs itself, so that `nida --help` answers at once. Wrong input ends
with its text on the error stream and the exit code 2, as wrong options do.
"""

from __future__ import annotations

import re
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
    observations: Annotated[
        Path,
        typer.Argument(
            help="NetCDF with value and noise_std, or a table, .csv: the columns time, component, value, error (of a "
            "field places, y and x, and no component). Times are numbers, or dates as 2021-01-31T06:00, in UTC; Z and "
            "offsets as +02:00 are brought to UTC."
        ),
    ],
    output: Annotated[Path, typer.Argument(help="Where the result goes: .nc, .zarr, or .csv for a table.")],
    prior: Annotated[str, typer.Option(help="Shipped weights, or the path of a file.")] = "lorenz63",
    temperatures: Annotated[
        int | None, typer.Option(help="Steps of the reconstruction. [default: 4, of a field what its network learnt]")
    ] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw one window into this .png, .pdf or .svg.")] = None,
    window: Annotated[int, typer.Option(help="Which window is drawn, from 0.")] = 0,
    flag: Annotated[list[str] | None, typer.Option(help="A quality flag of good values, 1 or good.")] = None,
    robust: Annotated[str | None, typer.Option(help="student: gross errors count less.")] = None,
    start: Annotated[str | None, typer.Option(help="The first time. [default: the first in the table]")] = None,
    dt: Annotated[
        str | None,
        typer.Option(help="The time step: the prior's; or, of dates, how long it is, as 6h, 1D, MS (calendar months)."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="How many there are. [default: up to the last value]")] = None,
    error: Annotated[
        str | None, typer.Option(help="Standard deviation of the errors: a number, or the column of it.")
    ] = None,
    time: Annotated[str | None, typer.Option(help="The column of times. [default: time]")] = None,
    what: Annotated[
        str | None, typer.Option(help="The column of components' names. [default: what, component]")
    ] = None,
    value: Annotated[str | None, typer.Option(help="The column of what was measured. [default: value]")] = None,
) -> None:
    """Reconstruct the trajectories behind a file of observations."""
    from nida_kit import commands

    how = {"start": start, "dt": dt, "steps": steps, "error": error, "time": time, "what": what, "value": value}
    flags = tuple(flag or ())
    print(commands.reconstruct(observations, output, prior, temperatures, figure, window, flags, robust, **how))


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
    told = in_a_shell if sys.argv[1:2] == ["reconstruct"] else str  # whose options are named so
    warnings.showwarning = lambda message, *where, **more: print(f"Caution: {told(message)}", file=sys.stderr)
    try:
        app()
    except ValueError as error:
        print(f"nida: {told(error)}", file=sys.stderr)
        sys.exit(2)


OPTIONS = {"noise_std": "error"} | {name: name for name in ("start", "dt", "steps", "error", "flag", "robust")}
"""By the argument of Python that texts of the package name."""

GIVEN = r"(?<!^)\b{}=('\w+'|-?\d[\d.e+-]*\b)"
"""What a text gives to an argument. What it begins with came from the user, and is no advice."""


def in_a_shell(said: object) -> str:
    """A text, and which options the arguments are that it names, with the last value that it gives them.

    >>> in_a_shell("How large are the errors? obs.assign(noise_std=0.4).")
    'How large are the errors? obs.assign(noise_std=0.4). In a shell noise_std=0.4 is --error 0.4.'
    >>> in_a_shell("dt=3 is no step of the prior: give dt=5, and a start=.")
    'dt=3 is no step of the prior: give dt=5, and a start=. In a shell start= is --start, dt=5 is --dt 5.'
    """
    named = []
    for argument, option in OPTIONS.items():
        if re.search(rf"\b{argument}=", str(said)):
            value = found[-1] if (found := re.findall(GIVEN.format(argument), str(said))) else ""
            option = f"{option} {value}".replace("'", "").strip()
            named.append(f"{argument}={value} is --{option}")
    return f"{said} In a shell {', '.join(named)}." if named else str(said)


if __name__ == "__main__":
    main()
