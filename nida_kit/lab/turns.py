"""Threads take turns: one at a time changes a lab, computes and draws.

JupyterLab serves the widgets of a page on more than one thread. So a moved slider and a clicked button are handled at
the same time, and without turns their states would be drawn over one another.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from threading import RLock

# One for all labs of a process: computing and drawing change for a while what belongs to the process, the filters of
# warnings and the settings of matplotlib. Wishes need no queue: a thread takes its next one when its last one is drawn.
_TURN = RLock()


def in_turn(function: Callable) -> Callable:
    """The same function, which first waits until no other thread is within this one or another that takes turns."""

    @wraps(function)
    def waits(*args, **kwargs):
        with _TURN:
            return function(*args, **kwargs)

    return waits
