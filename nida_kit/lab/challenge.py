"""The labs of three challenges, each with a score that is always in sight and can be taken along.

>>> lab = FourLab(player="Ada")
>>> lab.controls["first"].value = 3
>>> lab.model.params.first, lab.model.numbers["player"]
(3, 'Ada')
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import xarray as xr

from nida_kit import challenges, ocean, plots, setups
from nida_kit.challenges import EVERYONE, PLACES, TEN, TRIES, Four, Seeds, Ten
from nida_kit.lab.controls import choice, even, typed, whole
from nida_kit.lab.model import Model
from nida_kit.lab.render import Drawing
from nida_kit.lab.turns import in_turn
from nida_kit.lab.view import Control, Explorer
from nida_kit.notes import quiet
from nida_kit.plots.plane import shared
from nida_kit.plots.style import colour_of_estimate
from nida_kit.state import COMPONENT, TIME


class _Challenge(Model):
    """A challenge, with its name among those of `challenges.NAMES`."""

    name: str

    def presets(self):
        return {}

    @property
    def alt_text(self):
        return f"Challenge: {self.name}. {self.status}"

    @property
    def numbers(self):
        found = {
            name: self.result.attrs.get(name) for name in ("score", "rmse", "hybrid_rmse", "by_chance", "best_seed")
        }
        return (
            {"challenge": self.name, "seed": challenges.SEED}
            | asdict(self._ran)
            | {k: v for k, v in found.items() if v is not None}
        )


class FourModel(_Challenge):
    """Beat the hybrid, see `challenges.run_four`.

    Args:
        params: of `challenges.Four`.
    """

    name, kind = challenges.NAMES[0], Four

    def compute(self):
        with quiet():
            return challenges.run_four(self.params)

    def about(self, ds):
        found = ds.attrs
        verdict = "you have won" if found["score"] > 1 else "not yet won"
        return (
            f"{self.params.player}: score {found['score']:.2f}, {verdict}. With your four values NIDA has an RMSE of "
            f"{found['rmse']:.3f} in climatological standard deviations, the hybrid with x at the steps 4, 12, "
            f"20 and 28 {found['hybrid_rmse']:.3f}, over the same 50 windows."
        )


class TenModel(_Challenge):
    """Spend ten observations on an ocean, see `challenges.run_ten`.

    Args:
        params: of `challenges.Ten`.
    """

    name, kind = challenges.NAMES[1], Ten

    def compute(self):
        p = self.params
        with quiet():
            return challenges.run_ten(p).assign_attrs(moment=p.moment, at=_at(p))

    def changed(self, changes):
        """Another ocean is a new game."""
        return super().changed(({"spent": ()} if "seed" in changes else {}) | changes)

    @in_turn
    def buy(self) -> None:
        """Observe the place that is looked at.

        Raises:
            ValueError: it is observed already, or all ten are spent.
        """
        self.set(spent=(*self.params.spent, self.params.next))

    @in_turn
    def take_back(self) -> None:
        """Undo the last observation.

        Raises:
            ValueError: there is none, or the truth was shown.
        """
        if not self.params.spent:
            raise ValueError("Nothing is observed yet: there is nothing to take back.")
        if len(self.params.spent) == TEN:
            raise ValueError("The truth is out: start anew, with 'reset' or another seed.")
        self.set(spent=self.params.spent[:-1])

    def about(self, ds):
        player, found = self.params.player, ds.attrs
        if found["left"]:
            here = float(ds["std"].isel(time=self.params.moment).sel(_at(self.params), method="nearest"))
            return (
                f"{player}: {found['left']} of {TEN} observations left. Here the spread is {here / ocean.spread():.2f} "
                "standard deviations of the ocean. The truth is shown when all are spent."
            )
        return (
            f"{player}: score {found['score']:.0%} of this ocean explained by ten values. Ten at random places explain "
            f"{found['by_chance']:.0%}."
        )


def _at(params: Ten) -> dict[str, float]:
    """The place that is looked at, without its time."""
    return {"y": params.y, "x": params.x}


class SeedsModel(_Challenge):
    """Find the seed where everyone fails, see `challenges.run_seeds`.

    Args:
        params: of `challenges.Seeds`.
    """

    name, kind = challenges.NAMES[2], Seeds

    def compute(self):
        with quiet():
            return challenges.run_seeds(self.params)

    @in_turn
    def bet(self) -> None:
        """Reveal the window that is looked at.

        Raises:
            ValueError: it is revealed already, or all bets are made.
        """
        self.set(revealed=(*self.params.revealed, self.params.seed))

    def about(self, ds):
        found, player = ds.attrs, self.params.player
        best = f"score {found['score']:.2f}, from seed {found['best_seed']}" if "best_seed" in found else "no score yet"
        here = (
            f"Here even the best of {len(EVERYONE)} methods has an RMSE of {found['least']:.2f}."
            if "least" in found
            else "Only what is observed and its optimal interpolation are shown: bet if you think that all will fail."
        )
        return f"{player}: {best}; {found['left']} of {TRIES} bets left. {here}"


class FourLab(Explorer):
    """Beat the hybrid by choosing where to observe.

    Args:
        export: where "export figure" writes its PNG, and PDF and JSON of the score beside it.
        params: where to start, see `challenges.Four`.

    Attributes:
        model: the state.
        controls: by the name of the parameter.
        buttons: "reset", "export figure".

    Raises:
        ValueError: parameters that there are not, or out of range.
    """

    def __init__(self, export: str | Path = "nida_challenge_hybrid.png", **params):
        system = setups.load("blanke2024-lorenz63")
        names = system.system.labels.components
        controls = {}
        for place in PLACES:
            step = Control(f"{place} at step", "When it is measured.", lambda: whole(0, system.steps - 1))
            controls |= {place: step, f"{place}_sees": Control("sees", "Which component.", lambda: choice(names))}
        controls["window"] = Control("shown window", "The score is of all fifty.", lambda: whole(0, 49))
        super().__init__(FourModel(**params), controls, [], _LINES, export, rows=1.9)


class TenLab(Explorer):
    """Spend ten observations on an ocean.

    Args:
        export: where "export figure" writes its PNG, and PDF and JSON of the score beside it.
        params: where to start, see `challenges.Ten`.

    Attributes:
        model: the state.
        controls: by the name of the parameter.
        buttons: "reset", "export figure", "observe here", "take back".

    Raises:
        ValueError: parameters that there are not, or out of range.
    """

    def __init__(self, export: str | Path = "nida_challenge_ocean.png", **params):
        controls = {
            "moment": Control(
                "at step", "When to observe; the maps show this time.", lambda: whole(0, ocean.STEPS - 1)
            ),
            "y": Control("y", "Where to observe: 0 is the southern wall.", lambda: even(0.0, 1.0, 1 / 64)),
            "x": Control("x", "Where to observe: 0 is the western wall.", lambda: even(0.0, 1.0, 1 / 64)),
            "seed": Control("seed", "Another number, another ocean and a new game.", lambda: typed(0, 9999)),
        }
        model = TenModel(**params)
        actions = {"observe here": model.buy, "take back": model.take_back}
        super().__init__(model, controls, [], _PLANE, export, rows=1.6, actions=actions)


class SeedsLab(Explorer):
    """Find the seed where everyone fails.

    Args:
        export: where "export figure" writes its PNG, and PDF and JSON of the score beside it.
        params: where to start, see `challenges.Seeds`.

    Attributes:
        model: the state.
        controls: seed.
        buttons: "reset", "export figure", "bet and reveal".

    Raises:
        ValueError: parameters that there are not, or out of range.
    """

    def __init__(self, export: str | Path = "nida_challenge_seed.png", **params):
        controls = {"seed": Control("seed", "Another number, another window.", lambda: whole(0, 999))}
        model = SeedsModel(**params)
        super().__init__(model, controls, [], _LINES, export, rows=1.9, actions={"bet and reveal": model.bet})


def _panels(ds: xr.Dataset) -> tuple:
    return colour_of_estimate(ds), tuple(ds.data_vars), ds.sizes[TIME], ds.sizes[COMPONENT]


_LINES = Drawing(plots.make, plots.update, _panels)
_PLANE = Drawing(
    lambda fig, ds: plots.make_plane(fig, ds, ds.attrs["moment"], "time", ds.attrs["at"]),
    lambda made, ds: plots.update_plane(made, ds, ds.attrs["moment"], "time", ds.attrs["at"]),
    shared,
)
