"""A verdict on a learner's answer: right, or what to think about next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Verdict:
    """What a check found. A notebook shows it as a sentence, `bool` tells whether the answer is right.

    Attributes:
        right: whether it is.
        text: one or two sentences: what was learnt, or what is wrong and what to think about.
    """

    right: bool
    text: str

    def __bool__(self) -> bool:
        return self.right

    def __str__(self) -> str:
        return f"{'Right.' if self.right else 'Not yet.'} {self.text}"

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        return f"**{'Right.' if self.right else 'Not yet.'}** {self.text}"


class NotYet(Exception):
    """An answer is not right; its text says why, and what to think about."""


def exercise(check: Callable[[Any], str]) -> Callable[[Any], Verdict]:
    """Make a check out of a function of an answer that returns a sentence about it, or raises `NotYet`."""

    @wraps(check)
    def judged(answer: Any) -> Verdict:
        try:
            return Verdict(True, check(answer))
        except NotYet as reason:
            return Verdict(False, str(reason))

    return judged


def called(answer: Callable, *given: Any) -> Any:
    """What an answer makes of this.

    Raises:
        NotYet: it is no function, it stops with an error, or it returns nothing.
    """
    if not callable(answer):
        raise NotYet(
            f"A function is asked for, and this is a {type(answer).__name__}. Keep the line that begins with def."
        )
    try:
        found = answer(*given)
    except NotYet:  # of what a check has handed to it
        raise
    except Exception as error:  # whatever a learner's code may do
        raise NotYet(f"Your function stops with {type(error).__name__}: {str(error).rstrip('.')}.") from error
    if found is None or found is Ellipsis:
        raise NotYet("Your function returns nothing. Replace the dots, and end with return.")
    return found


def tried(answer: Callable, *given: Any) -> np.ndarray:
    """The same as an array of numbers.

    Raises:
        NotYet: as `called`, or it returns no numbers.
    """
    found = called(answer, *given)
    try:
        return np.asarray(found, dtype=float)
    except (TypeError, ValueError):
        raise NotYet(f"Your function must return numbers, and returns a {type(found).__name__}.") from None
