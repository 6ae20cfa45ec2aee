"""The lab of Bayes on a line: prior and measurement are dragged in the picture.

>>> lab = LineLab(prior_mean=0.0, value=2.0, prior_std=1.0, noise_std=1.0)
>>> round(lab.model.result.attrs["mean"], 6)
1.0
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from nida_kit import plots
from nida_kit.lab.controls import choice, even
from nida_kit.lab.handles import handle
from nida_kit.lab.model import Model
from nida_kit.lab.render import Drawing
from nida_kit.lab.view import Control, Explorer
from nida_kit.line import OPERATORS, LineParameters, run_line

PRESETS: dict[str, dict[str, Any]] = {
    "sure prior": {"prior_std": 0.5, "noise_std": 2.0},
    "sure measurement": {"prior_std": 2.0, "noise_std": 0.3},
    "two peaks": {"operator": "square", "prior_mean": 0.3, "prior_std": 1.5, "value": 4.0, "noise_std": 1.0},
}
_SCORES = ("mean", "std", "mode", "gaussian_mean", "gaussian_std", "weight", "misplaced")


class LineModel(Model):
    """One number and one measurement of it, see `line.run_line`.

    Args:
        params: of `line.LineParameters`.
    """

    kind = LineParameters

    def compute(self):
        return run_line(self.params)

    def presets(self):
        return PRESETS

    def about(self, ds):
        a = ds.attrs
        return (
            f"Posterior mean {a['mean']:.2f} and standard deviation {a['std']:.2f}, highest at {a['mode']:.2f}; the "
            f"measurement has the weight {a['weight']:.2f}. The Gaussian update says {a['gaussian_mean']:.2f} and "
            f"{a['gaussian_std']:.2f}, and puts {a['misplaced']:.0%} of the probability in the wrong place."
        )

    @property
    def alt_text(self):
        p = self._ran
        return (
            f"Densities of x: the prior around {p.prior_mean:g}, the likelihood of the value {p.value:g} under "
            f"h = {p.operator}, the exact posterior and the Gaussian update; below them h(x) against x. {self.status}"
        )

    @property
    def numbers(self):
        scores = {name: self.result.attrs[name] for name in _SCORES}
        return asdict(self._ran) | scores | {"seed": "none, nothing is random"}


class LineLab(Explorer):
    """The lab of one number.

    Args:
        export: where "export figure" writes its PNG, and PDF and JSON of its numbers beside it.
        params: where to start, see `line.LineParameters`.

    Attributes:
        model: the state.
        controls: by name: prior_mean, prior_std, value, noise_std, operator.
        handles: in the figure, by name: prior, likelihood (where x itself is measured), value.
        buttons: by name: the presets, "reset", "export figure".

    Raises:
        ValueError: parameters that there are not, or out of range.
    """

    def __init__(self, export: str | Path = "nida_line.png", **params):
        controls = {
            "prior_mean": Control("prior mean", "What is expected of x.", lambda: even(-3.0, 3.0, 0.1)),
            "prior_std": Control("prior std", "How unsure that is.", lambda: even(0.1, 2.5, 0.1)),
            "operator": Control("measured", "What the instrument shows of x.", lambda: choice(OPERATORS)),
            "value": Control("value", "What it has shown.", lambda: even(-4.0, 9.0, 0.1)),
            "noise_std": Control("error std", "How unsure the instrument is.", lambda: even(0.1, 3.0, 0.1)),
        }
        super().__init__(LineModel(**params), controls, list(PRESETS), _LINE, export, rows=2)
        below, above = self.figure.axes
        self.handles = {
            "prior": handle(above, "x", self.controls["prior_mean"], "drag the prior", "prior"),
            "likelihood": handle(above, "x", self.controls["value"], "drag the measurement", "measurement"),
            "value": handle(below, "y", self.controls["value"], "drag the measurement", "measurement"),
        }
        self.stage.children += tuple(self.handles.values())
        self.model.observe(lambda _: self._place(), "revision")
        self._place()

    def _place(self) -> None:
        """The likelihood of x has its peak at the value where x itself is measured, and can be dragged there only."""
        measured = self.model.params.operator == "identity"
        self.handles["likelihood"].layout.display = None if measured else "none"


_LINE = Drawing(plots.make_line, plots.update_line, lambda ds: None)
