"""Methods beside the scores that others published: `python -m nida_kit.studies.published`.

Every method on record in the cycled reference experiments, with the settings of the record, on independent experiments
of their full length. A run of 1,000 cycles has a Monte-Carlo error of a few percent, and so has what was published.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nida_kit import setups
from nida_kit.setups import Cycling
from nida_kit.studies.common import command


def of_setup(
    setup: Cycling, samples: int | None = None, seed: int = 0, cycles: int | None = None
) -> dict[str, dict[str, Any]]:
    """Scores by method, and their ratio to the published one."""
    rows = {}
    for title, score in setup.published.items():
        if score.method is None:
            continue
        experiments = samples or score.experiments or setup.experiments
        found = setup.run(score.method(setup), experiments, seed, cycles)
        rows[title] = {k: float(f"{v:.4g}") for k, v in found.items()}
        here = found[score.held]
        rows[title] |= {"published": score.value, "by": score.what, "here": float(f"{here:.4g}")}
        rows[title] |= {"ratio": round(here / score.value, 3), "experiments": experiments}
        print(f"{setup.name:28} {title:45} {here:.3f} published {score.value}", flush=True)
    return rows


def measure(samples: int | None, folder: Path) -> dict[str, Any]:
    """All cycled experiments, `samples` independent runs of each; None is as many as each needs."""
    experiments = [setup for name in setups.names() if isinstance(setup := setups.load(name), Cycling)]
    return {
        "setups": {setup.name: of_setup(setup, samples) for setup in experiments},
        "seeds": "truths of seed 0, observations of seed 1",
        "score": "time mean, after burn-in, of the root mean square over components of analysis minus truth; of it the "
        "mean over the experiments, where Score.held says so the median",
    }


if __name__ == "__main__":
    command("published", measure, samples=None)
