"""Exercises of notebook 13: where to measure next."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nida_kit.exercises.verdict import NotYet, exercise, tried

_PLACES = 8
_SEED = 3681  # by which each of the wrong rules below differs from the right one somewhere


def _cases() -> list[tuple[np.ndarray, float]]:
    """Covariances of some places, and an error's std. The first place varies most, and tells nothing of the others."""
    generator = np.random.default_rng(_SEED)
    found = []
    for noise_std in (0.3, 1.0, 0.5, 1.5):
        spread = generator.uniform(0.3, 1.5, _PLACES)
        patterns = generator.normal(size=(_PLACES, 2))  # neighbours and opposites
        correlation = patterns @ patterns.T + 0.1 * np.eye(_PLACES)
        correlation /= np.sqrt(np.outer(correlation.diagonal(), correlation.diagonal()))
        covariance = spread[:, None] * correlation * spread
        covariance[0, :] = covariance[:, 0] = 0.0
        covariance[0, 0] = 1.6**2
        found.append((covariance, noise_std))
    return found


def _gains(covariance: np.ndarray, noise_std: float) -> np.ndarray:
    """By how much a value at each place lowers the sum of all variances."""
    return (covariance**2).sum(0) / (covariance.diagonal() + noise_std**2)


_RULES: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "That is the place of largest spread. The first one here varies most, and tells nothing of the others: count what "
    "a value tells of all places.": lambda C, r: C.diagonal(),
    "You forget the error of the value: it is surprising by C[i, i] + noise_std**2, not by C[i, i].": lambda C, r: (
        (C**2).sum(0) / C.diagonal()
    ),
    "The variance of an error is its std squared: C[i, i] + noise_std**2.": lambda C, r: (
        (C**2).sum(0) / (C.diagonal() + r)
    ),
    "Covariances of opposite sign cancel in your sum, though each tells something: square them first.": lambda C, r: (
        C.sum(0) / (C.diagonal() + r**2)
    ),
    "Divide by C[i, i] + noise_std**2: a place that varies much gives a large covariance, and a noisy value little.": (
        lambda C, r: (C**2).sum(0)
    ),
    "That is the place that tells least: take argmax.": lambda C, r: -_gains(C, r),
}


@exercise
def best_place(answer: Callable) -> str:
    """A function (covariance (n, n), noise_std) -> the place whose value lowers the sum of all variances most."""
    cases, chosen = _cases(), []
    for covariance, noise_std in cases:
        found = tried(answer, covariance.copy(), noise_std)
        if found.shape == (_PLACES,):
            raise NotYet("You return a number for each place. Return the place itself: gains.argmax() is its index.")
        if found.shape != () or found not in range(_PLACES):
            raise NotYet(f"Return the index of one place, from 0 to {_PLACES - 1}; yours is {found.tolist()}.")
        chosen.append(int(found))
    best = [int(_gains(*case).argmax()) for case in cases]
    if chosen != best:
        for words, rule in _RULES.items():
            if chosen == [int(rule(*case).argmax()) for case in cases]:
                raise NotYet(words)
        k = next(k for k in range(len(cases)) if chosen[k] != best[k])
        wanted, got = (_gains(*cases[k])[place] for place in (best[k], chosen[k]))
        raise NotYet(
            f"For an error of {cases[k][1]:g} a value at place {chosen[k]} lowers the sum of variances by {got:.2f}, "
            f"and one at place {best[k]} by {wanted:.2f}."
        )
    gained, spread = (
        sum(_gains(*case)[place] for case, place in zip(cases, of, strict=True)) for of in (best, [0] * 4)
    )
    return (
        f"In four trials it lowers the sum of variances by {gained:.1f}, the place of largest spread by {spread:.1f}. "
        "No value had to be known for that: where to measure can be planned."
    )
