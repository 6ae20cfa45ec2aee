"""Whether anything has become slower than the record says: `python tests/benchmarks/guard.py`.

Ratios are compared, not seconds, so another machine may ask: of the banded solve to scipy's, and of a hundred
experiments at once to one alone (`RECORDS`). It fails where a ratio is more than `WORSE` times the recorded one.
"""

import json
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "figures" / "banded_speed.json", ROOT / "nida_kit" / "studies" / "speed.json"
WORSE = 1.5


def slower(now: dict[str, float], recorded: dict[str, float], worse: float = WORSE) -> list[str]:
    """What is to be said of each ratio that has grown too much, or that one of the two does not have."""
    missing = [f"{what}: measured {'now' if what in now else 'before'} only" for what in now.keys() ^ recorded.keys()]
    return sorted(missing) + [
        f"{what}: {now[what]:.2f}, recorded {recorded[what]:.2f}"
        for what in now.keys() & recorded.keys()
        if now[what] > worse * recorded[what]
    ]


def of_algebra(rows: list[dict]) -> dict[str, float]:
    """The ratios in the rows of the banded solve."""
    return {row["what"]: row["ratio"] for row in rows}


def of_methods(found: dict) -> dict[str, float]:
    """The ratios in what `nida_kit.studies.speed` finds."""
    return {f"{row['method']}, a batch / one": row["times_as_long"] for row in found["methods"]}


def main() -> None:
    """The command."""
    from test_banded_benchmark import measure

    from nida_kit.studies import speed

    torch.set_num_threads(1)
    before = [json.loads(path.read_text()) for path in RECORDS]
    now = of_algebra(measure()) | of_methods(speed.measure(before[1]["batch"], RECORDS[1].parent))
    found = slower(now, of_algebra(before[0]["rows"]) | of_methods(before[1]))
    print(*(f"{what:45s} {ratio:6.2f}" for what, ratio in now.items()), sep="\n")
    sys.exit("\n".join(["Slower than recorded:", *found]) if found else 0)


if __name__ == "__main__":
    main()
