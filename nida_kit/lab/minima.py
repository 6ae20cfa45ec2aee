"""The lab of minima: move the start of a descent, and see where it ends and what lies between there and the truth.

>>> lab = MinimaLab(place=0.8)
>>> round(lab.model.result.attrs["barrier"])
0
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from nida_kit import checks, plots
from nida_kit.lab.controls import even
from nida_kit.lab.model import Model
from nida_kit.lab.reconstruction import CONTROLS
from nida_kit.lab.render import Drawing
from nida_kit.lab.view import Control, Explorer
from nida_kit.minima import MinimaParameters, run_minima

PRESETS: dict[str, dict[str, Any]] = {
    "wrong minimum": {"place": 0.0, "every": 8, "noise_std": 0.05, "seed": 34},
    "a better start": {"place": 0.5, "every": 8, "noise_std": 0.05, "seed": 34},
    "more to see": {"place": 0.0, "every": 4, "noise_std": 0.05, "seed": 34},
}


class MinimaModel(Model):
    """One descent, see `minima.run_minima`.

    Args:
        params: of `minima.MinimaParameters`.
    """

    kind = MinimaParameters

    def compute(self):
        return run_minima(self.params)

    def presets(self):
        return PRESETS

    def about(self, ds):
        a, here = ds.attrs, ds.isel(step=-1)
        between = (
            f"From there to the truth the cost has to rise by {a['barrier']:.0f} above both: another valley"
            if a["barrier"] > 1
            else "From there to the truth the cost passes no barrier: the same valley"
        )
        return (
            f"After {checks.counted(here['step'], 'physics step')}: cost {float(here['step_cost']):.1f}, RMSE "
            f"{float(here['step_rmse']):.3f} in climatological standard deviations. The end has the cost "
            f"{a['minimum_cost']:.1f} and the RMSE {a['rmse']:.3f}, the truth the cost {a['true_cost']:.1f}. {between}."
        )

    @property
    def alt_text(self):
        p = self._ran
        return (
            f"Lorenz-63: truth, observations, start and estimate of x against time, and on the attractor; below them "
            f"4D-Var's cost from the start at {p.place:g} over its end to the truth. {self.status}"
        )

    @property
    def scores(self):
        here = self.shown.isel(step=-1)
        return {"rmse": float(here["step_rmse"]), "cost": float(here["step_cost"])}

    @property
    def numbers(self):
        return asdict(self._ran) | {"step": self.step} | self.scores | {"end": dict(self.result.attrs)}


class MinimaLab(Explorer):
    """The lab of minima.

    Args:
        export: where "export figure" writes its PNG, and PDF and JSON of its numbers beside it.
        params: where to start, see `minima.MinimaParameters`.

    Attributes:
        model: the state.
        controls: by name: place, every, noise_std, seed, step.
        buttons: by name: the presets, "reset", "play the steps", "export figure".

    Raises:
        ValueError: parameters that there are not, or out of range.
    """

    def __init__(self, export: str | Path = "nida_minima.png", **params):
        controls = {
            "place": Control("start", "0 is the first guess, 1 the truth.", lambda: even(-0.5, 1.0, 0.05)),
            **{name: CONTROLS[name] for name in ("every", "noise_std", "seed", "step")},
        }
        super().__init__(MinimaModel(**params), controls, list(PRESETS), _MINIMA, export, rows=1.9)


_MINIMA = Drawing(plots.make_minima, plots.update_minima, lambda ds: None)
