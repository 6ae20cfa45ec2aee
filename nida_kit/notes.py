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


@contextmanager
def quiet() -> Iterator[None]:
    """Within it, `warn` says nothing in this thread; the filters of the process stay as they are."""
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


def warn(note: str, stacklevel: int = 1) -> None:
    """As `warnings.warn`, unless it is quiet."""
    if not _quiet.get():
        warnings.warn(note, stacklevel=stacklevel + 1)
