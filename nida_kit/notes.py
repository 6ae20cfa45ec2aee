"""Notes: what users are warned of, and places where nobody is to be; and what the records of a result hold.

`warnings.catch_warnings` changes filters that all threads share, and two threads that overlap leave them changed for
good. Here each thread has its own answer.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import distributions
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # the line lab works without it
    from torch import Tensor

_LONGEST = 50  # numbers that records hold one by one

_quiet: ContextVar[bool] = ContextVar("_quiet", default=False)
_gathered: ContextVar[list[str] | None] = ContextVar("_gathered", default=None)


@contextmanager
def quiet() -> Iterator[None]:
    """Within it, `warn` says nothing in this thread; the filters of the process stay as they are.

    Of `quiet` and `gathered` within each other, the inner one counts.
    """
    tokens = _quiet.set(True), _gathered.set(None)
    try:
        yield
    finally:
        _quiet.reset(tokens[0])
        _gathered.reset(tokens[1])


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


def recorded(values: Tensor) -> list | str:
    """Numbers as the records of a result hold them: each of them, or of many a text, which others do not have.

    It tells numbers that are all alike or evenly spaced; of others, the first digits of the SHA-256 of their bytes in
    double precision. So who has the numbers can tell whether they are those that were used.

    >>> import torch
    >>> recorded(torch.tensor([1.0, 2.0])), recorded(torch.linspace(0, 1, 1089, dtype=torch.float64))
    ([1.0, 2.0], '1089 numbers, evenly from 0 to 1')
    >>> recorded(torch.full((1089,), 0.25))
    '1089 numbers, each 0.25'
    >>> recorded(torch.arange(1089.0) ** 2)
    '1089 numbers from 0 to 1.18374e+06, SHA-256 b63f722b22a1...'
    """
    if values.numel() <= _LONGEST:
        return values.tolist()
    x = values.detach().cpu().double().flatten().numpy() + 0.0  # of two zeros one
    first, last = (repr(float(v)).removesuffix(".0") for v in (x[0], x[-1]))
    if (x == x[0]).all():
        said = f", each {first}"
    elif np.abs(x - np.linspace(x[0], x[-1], x.size)).max() <= 1e-15 * x.size * np.abs(x).max():
        said = f", evenly from {first} to {last}"
    else:
        digest = sha256(x.astype("<f8").tobytes()).hexdigest()[:12]
        said = f" from {x.min():.6g} to {x.max():.6g}, SHA-256 {digest}..."
    return f"{x.size} numbers{said}"


@lru_cache
def versions() -> str:
    """Of the packages that a result depends on, those that are installed."""
    names = ("nida_kit", "torch", "numpy", "xarray")
    found = {name: next(iter(distributions(name=name)), None) for name in names}
    return ", ".join(f"{name} {package.version}" for name, package in found.items() if package)
