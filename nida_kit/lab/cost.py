"""The lab of costs: a window's solve is timed, here and now, whenever its size is changed.

Each size is solved twice: its precision as a band, and as the full matrix that the same numbers fill. What was measured
stays in the figure, so moving through the sizes draws how the cost grows, beside the law that it should follow.

>>> lab = CostLab(steps=16)
>>> lab.buttons["twice the steps"].click()
>>> lab.model.params.steps, lab.model.result.sizes["point"]
(32, 2)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import log
from pathlib import Path

import numpy as np
import xarray as xr

from nida_kit import checks, plots
from nida_kit.lab.controls import whole
from nida_kit.lab.model import Model
from nida_kit.lab.render import Drawing
from nida_kit.lab.turns import in_turn
from nida_kit.lab.view import Control, Explorer
from nida_kit.studies.cost import one_thread
from nida_kit.studies.scaling import Call, dense_solve, exponent, in_turns, problem

MOST_STEPS, MOST_COMPONENTS = 8192, 128
MOST_DENSE = 1536  # numbers of a window whose full matrix is factorised: a larger one would keep the lab waiting
MOST_BAND = 140_000_000  # of T n^3, to which the work of the band is in proportion, for the same reason
TURNS, LEAST = 3, 0.002  # of each measurement: how often, and how many seconds at least
WAYS = ("band", "full matrix")
POWERS = {"steps": {"band": 1, "full matrix": 3}, "components": {"band": 3, "full matrix": 3}}
"""Of the seconds, by what grows."""


@dataclass(frozen=True)
class CostParameters:
    """The size of a window.

    Attributes:
        steps: T.
        components: n.
    """

    steps: int = 64
    components: int = 3

    def __post_init__(self):
        checks.store(
            self,
            steps=checks.count("steps", self.steps, 2, MOST_STEPS),
            components=checks.count("components", self.components, 1, MOST_COMPONENTS),
        )
        if self.steps * self.components**3 > MOST_BAND:
            raise ValueError(
                f"steps={self.steps} of components={self.components} would take this lab seconds: T n^3 must be at "
                f"most {MOST_BAND:,}. Try fewer of either, and let the law tell you the rest."
            )


def measured(steps: int, components: int) -> dict[str, float]:
    """Processor seconds of one solve, by way; of the full matrix NaN where it is too large to wait for."""
    A, b = problem(steps, components)
    calls: dict[str, Call] = {"band": lambda: A.solve(b)}
    if steps * components <= MOST_DENSE:
        full = A.dense()
        calls["full matrix"] = lambda: dense_solve(full, b)
    with one_thread():
        return dict.fromkeys(WAYS, float("nan")) | in_turns(calls, TURNS, LEAST)


def kept_bytes(steps: int, components: int) -> dict[str, int]:
    """What a matrix takes in double precision, by way."""
    return {"band": 16 * steps * components**2, "full matrix": 8 * (steps * components) ** 2}


def power(sizes: np.ndarray, seconds: np.ndarray) -> float:
    """The power that the four largest sizes grow with; NaN of sizes that are no factor of two apart."""
    fine = np.isfinite(seconds)
    line = sorted(zip(sizes[fine], seconds[fine], strict=True))[-4:]
    return exponent(line) if len(line) > 1 and line[-1][0] >= 2 * line[0][0] else float("nan")


class CostModel(Model):
    """What was measured so far, a point for each size that was asked for.

    Args:
        params: of `CostParameters`.
    """

    kind = CostParameters

    def __init__(self, **params):
        self._found: dict[CostParameters, dict[str, float]] = {}
        super().__init__(**params)

    def compute(self):
        p = self.params
        self._found[p] = measured(p.steps, p.components)
        sizes = list(self._found)
        ds = xr.Dataset(
            {"seconds": (("point", "way"), [[self._found[size][way] for way in WAYS] for size in sizes])},
            {"way": list(WAYS), **{name: ("point", [getattr(s, name) for s in sizes]) for name in POWERS}},
        )
        here = {name: getattr(p, name) for name in POWERS}
        return ds.assign_attrs(here, powers=_powers(ds, here))

    @in_turn
    def forget(self) -> None:
        """Begin anew at the size that is shown."""
        self._found.clear()
        self.set()

    def reset(self):
        self._found.clear()
        super().reset()

    def presets(self):
        p = self.params
        sizes = {
            "twice the steps": {"steps": 2 * p.steps},
            "half the steps": {"steps": p.steps // 2},
            "twice the components": {"components": 2 * p.components},
            "half the components": {"components": p.components // 2},
        }
        return {name: change for name, change in sizes.items() if _possible(asdict(p) | change)}

    def about(self, ds):
        a, found = ds.attrs, self._found[self.params]
        size = a["steps"] * a["components"]
        kept = kept_bytes(**{name: a[name] for name in POWERS})
        text = f"T = {a['steps']}, n = {a['components']}: the band takes {_seconds(found['band'])}"
        if np.isfinite(found["full matrix"]):
            text += (
                f", the full matrix {_seconds(found['full matrix'])}, {found['full matrix'] / found['band']:.2g} times "
            )
            text += "as long"
        else:
            text += f"; a full matrix of {size:,} rows would keep you waiting, see the dotted line"
        text += f". They keep {_bytes(kept['band'])} and {_bytes(kept['full matrix'])}."
        found = [
            f"of {symbol} {a['powers'][name][way]:.2f} for the {way} (law: {POWERS[name][way]})"
            for name, symbol in (("steps", "T"), ("components", "n"))
            for way in WAYS
            if np.isfinite(a["powers"][name][way])
        ]
        return text + (f" Measured powers: {', '.join(found)}." if found else " Move a size to measure a power.")

    @property
    def alt_text(self):
        return (
            "Two panels: processor seconds of a solve against the steps T of a window, and against its components n, "
            f"measured as a band and as a full matrix, with dotted lines of the powers expected. {self.status}"
        )

    @property
    def numbers(self):
        found = self.result
        points = {name: found[name].values.tolist() for name in POWERS}
        seconds = {way: [s for s in found["seconds"].sel(way=way).values.tolist() if s == s] for way in WAYS}
        return asdict(self._ran) | {"points": points, "seconds": seconds, "seed": 0}


def _possible(size: dict[str, int]) -> bool:
    try:
        CostParameters(**size)
    except ValueError:
        return False
    return True


def _powers(ds: xr.Dataset, here: dict[str, int]) -> dict[str, dict[str, float]]:
    """Along each size, of the points that share the other one with the point that is shown."""
    found = {}
    for name, other in (("steps", "components"), ("components", "steps")):
        line = ds.isel(point=np.flatnonzero(ds[other].values == here[other]))
        found[name] = {way: power(line[name].values, line["seconds"].sel(way=way).values) for way in WAYS}
    return found


def _seconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _bytes(count: int) -> str:
    step = min(int(log(count, 1000)), 4)
    return f"{count / 1000**step:.3g} {('bytes', 'kB', 'MB', 'GB', 'TB')[step]}"


class CostLab(Explorer):
    """The lab of costs.

    Args:
        export: where "export figure" writes its PNG, and PDF and JSON of its numbers beside it.
        params: where to start, see `CostParameters`.

    Attributes:
        model: the state.
        controls: by the name of the parameter.
        buttons: by name: the presets, "forget", "reset", "export figure".

    Raises:
        ValueError: parameters that there are not, or out of range.
    """

    def __init__(self, export: str | Path = "nida_cost.png", **params):
        controls = {
            "steps": Control("steps T", "How long the window is.", lambda: whole(2, MOST_STEPS)),
            "components": Control("components n", "How large a state is.", lambda: whole(1, MOST_COMPONENTS)),
        }
        model = CostModel(**params)
        presets = ["twice the steps", "half the steps", "twice the components", "half the components"]
        super().__init__(model, controls, presets, _COST, export, rows=1.4, actions={"forget": model.forget})


_COST = Drawing(plots.make_cost, plots.update_cost, lambda ds: tuple(ds["way"].values))
