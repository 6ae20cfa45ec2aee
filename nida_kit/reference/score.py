"""A score that somebody published, with where it comes from and how closely a test holds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nida_kit import checks
from nida_kit.methods.method import Method


@dataclass(frozen=True)
class Score:
    """What somebody measured, in the unit of the setup's own scores.

    Attributes:
        value: the number: of windows a mean squared error in climatological variances, of cycled experiments the time
            mean of the root mean squared error of the analysis.
        over: how many windows or cycles it is the mean of; None is unknown.
        what: which method, trained, tuned or started how, and who says so.
        tolerance: relative, within which a test holds it; None where no test can.
        method: makes that method for the setup; None where it cannot be made here.
        held: which of the setup's scores is held to it.
        experiments: that it takes, if not as many as the setup's others.
    """

    value: float
    over: int | None
    what: str
    tolerance: float | None = None
    method: Callable[[Any], Method] | None = None
    held: str = "analysis"
    experiments: int | None = None

    def __post_init__(self):
        checks.store(self, value=checks.finite("value", self.value))
        for name in ("over", "experiments"):
            if getattr(self, name) is not None:
                checks.store(self, **{name: checks.count(name, getattr(self, name), 1)})
        if self.tolerance is not None:
            checks.store(self, tolerance=checks.positive("tolerance", self.tolerance))
