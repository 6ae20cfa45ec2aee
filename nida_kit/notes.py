"""Notes: what users are warned of, and places where nobody is to be.

`warnings.catch_warnings` changes filters that all threads share, and two threads that overlap leave them changed for
good. Here each thread has its own answer.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_quiet: ContextVar[bool] = ContextVar("_quiet", default=False)
_gathered: ContextVar[list[str] | None] = ContextVar("_gathered", default=None)


@contextmanager
def quiet() -> Iterator[None]:
    """Within it, `warn` says nothing in this thread; the filters of the process stay as they are."""
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


@contextmanager
def gathered() -> Iterator[list[str]]:
    """Within it, `warn` adds to this list what is not in it yet, for who asks to say it."""
    notes: list[str] = []
    token = _gathered.set(notes)
    try:
        yield notes
    finally:
        _gathered.reset(token)


def warn(note: str, stacklevel: int = 1) -> None:
    """As `warnings.warn`, unless it is quiet, or notes are gathered."""
    notes = _gathered.get()
    if notes is None:
        if not _quiet.get():
            warnings.warn(note, stacklevel=stacklevel + 1)
    elif note not in notes:
        notes.append(note)
