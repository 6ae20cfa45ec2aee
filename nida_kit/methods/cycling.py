"""Smoothers with a lag: windows that overlap, each of which uses the observations of one time.

    window k: from the observed time t_{k-lag} to t_k, where its observations are; window k + 1 starts from its answer

So every observation is used once, and a state is corrected by those of the next `lag` observed times. Without a lag
there is one window, which uses all observations at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True)
class Cycle:
    """A window of a smoother with a lag.

    Attributes:
        begin: its first step.
        used: the steps whose observations it uses.
        end: its last step.
        following: the first step of the next window; of the last one, the number of steps.
    """

    begin: int
    used: list[int]
    end: int
    following: int


def cycles(times: list[int], lag: int | None, steps: int) -> list[Cycle]:
    """Windows that begin `lag` observed times before the one whose observations they use, and end there.

    Args:
        times: that are observed.
        lag: None is one window that uses all of them.
        steps: of the whole; the last window goes on to the last step.
    """
    if lag is None or not times:
        return [Cycle(0, times, steps - 1, steps)]
    starts = [0] * lag + times
    found = [Cycle(starts[k], [t], t, starts[k + 1]) for k, t in enumerate(times)]
    return [*found[:-1], replace(found[-1], end=steps - 1, following=steps)]


def analyse_windows(
    windows: list[Cycle], whole: bool, analyse: Callable[[Cycle], tuple[list[Tensor], list[Tensor]]]
) -> dict[str, list]:
    """One window after the other.

    Args:
        windows: from `cycles`.
        whole: whether it is a single one, which uses all observations at once.
        analyse: what is kept of each step of a window, before and after the analysis of what it uses.

    Returns:
        Of all steps: `forecast`, `analysis` and `smoothed`; of a whole window only the last, which is all there is.
    """
    found: dict[str, list] = {"forecast": [], "analysis": [], "smoothed": []}
    for window in windows:
        before, after = analyse(window)
        new = slice(len(found["forecast"]) - window.begin, None)
        split = (window.used or [window.end])[-1] - window.begin
        found["forecast"] += [*before[: split + 1], *after[split + 1 :]][new]
        found["analysis"] += [*before[:split], *after[split:]][new]
        found["smoothed"] += after[: window.following - window.begin]
    return {"smoothed": found["smoothed"]} if whole else found
