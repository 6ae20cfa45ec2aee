"""The lab of model error: the parameters of the truth, those that are believed in, and what that costs.

>>> lab = WorldsLab(rho=28.0)
>>> lab.buttons["rho 20% low"].click()
>>> lab.model.params.rho, lab.controls["rho"].value
(22.4, 22.4)
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from nida_kit import plots
from nida_kit.lab.controls import choice, even, logarithmic, typed, whole
from nida_kit.lab.model import Model, cautioned
from nida_kit.lab.render import Drawing
from nida_kit.lab.view import Control, Explorer
from nida_kit.notes import quiet
from nida_kit.plots.style import colour_of_estimate
from nida_kit.worlds import METHODS, NETWORKS, RANGES, RIGHT, WorldParameters, run_worlds

PRESETS = ("right physics", "rho 20% low", "sigma 20% low", "more doubt")


class WorldsModel(Model):
    """A truth and a belief, see `worlds.run_worlds`.

    Args:
        params: of `worlds.WorldParameters`.
    """

    kind = WorldParameters

    def compute(self):
        with quiet():
            return run_worlds(self.params)

    def presets(self) -> dict[str, dict[str, Any]]:
        p = self.params
        right = {"rho": p.true_rho, "sigma": p.true_sigma, "noise": p.true_noise}
        low_rho, low_sigma = max(0.8 * p.true_rho, RANGES["rho"][0]), max(0.8 * p.true_sigma, RANGES["sigma"][0])
        found = (
            right,
            right | {"rho": round(low_rho, 1)},
            right | {"sigma": round(low_sigma, 1)},
            {"noise": min(4 * p.noise, 2.8)},
        )
        heard = {"method": "4D-Var"} if p.method in NETWORKS else {}  # networks have a belief of their own
        return {name: changes | heard for name, changes in zip(PRESETS, found, strict=True)}

    def unused(self):
        return {"rho", "sigma", "noise"} if self.params.method in NETWORKS else set()

    def about(self, ds):
        a, p = ds.attrs, self.params
        left = ", ".join(f"{name} {value:.2f}" for name, value in a["unexplained"].items())
        said = (
            f"{p.method}: RMSE {a['rmse']:.3f} against {a['beside_rmse']:.3f} for {RIGHT}, in climatological standard "
            f"deviations; {a['coverage_90']:.0%} of the truth lies within the 90% interval. "
        )
        if p.method in NETWORKS:
            said += "Its belief is that of its training."
        else:
            said += f"The believed model leaves per step {left}, and {p.noise:.2g} is believed."
        return said + cautioned(a)

    @property
    def alt_text(self):
        p = self._ran
        return (
            f"Each component against time, and a phase portrait: a truth with rho {p.true_rho:g} and sigma "
            f"{p.true_sigma:g}, observations of x, the reconstruction by {p.method}, which believes in rho {p.rho:g} "
            f"and sigma {p.sigma:g}, with its 90% interval, and {RIGHT}. {self.status}"
        )

    @property
    def numbers(self):
        return asdict(self._ran) | dict(self.result.attrs)


class WorldsLab(Explorer):
    """The lab of model error.

    Args:
        export: where "export figure" writes its PNG, and PDF and JSON of its numbers beside it.
        params: where to start, see `worlds.WorldParameters`.

    Attributes:
        model: the state.
        controls: by the name of the parameter.
        buttons: by name: the presets, "reset", "export figure".

    Raises:
        ValueError: parameters that there are not, or out of range.
    """

    def __init__(self, export: str | Path = "nida_worlds.png", **params):
        controls = {
            "true_rho": Control("true rho", "Rayleigh number of the truth.", lambda: even(*RANGES["rho"], 0.1)),
            "true_sigma": Control("true sigma", "Prandtl number of the truth.", lambda: even(*RANGES["sigma"], 0.1)),
            "true_noise": Control(
                "true noise", "Model noise of the truth, per step, in state units.", lambda: logarithmic(-1.35, 0.45)
            ),
            "method": Control("method", "Who reconstructs, knowing the belief alone.", lambda: choice(tuple(METHODS))),
            "rho": Control("believed rho", "Rayleigh number of the model.", lambda: even(*RANGES["rho"], 0.1)),
            "sigma": Control("believed sigma", "Prandtl number of the model.", lambda: even(*RANGES["sigma"], 0.1)),
            "noise": Control(
                "believed sqrt Q",
                "Model error that is believed in, per step, in state units.",
                lambda: logarithmic(-1.35, 0.45),
            ),
            "every": Control("every n-th step", "Steps from one measurement of x to the next.", lambda: whole(1, 32)),
            "seed": Control("seed", "Another number, another truth.", lambda: typed(0, 9999)),
        }
        super().__init__(WorldsModel(**params), controls, PRESETS, _WORLDS, export, rows=1.9)


_WORLDS = Drawing(plots.make, plots.update, colour_of_estimate)
