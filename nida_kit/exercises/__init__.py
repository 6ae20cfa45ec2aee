"""Checks of the notebooks' exercises: each takes a learner's answer and says whether it is right, or what is wrong.

    verdict                 what a check returns
    gaussian_assimilation   notebook 01
    temperature             notebook 03
    any_observation         notebook 04
    four_d_var_and_hybrid   notebook 05

An exercise is three cells of a notebook, tagged `exercise`, `check` and `solution`: a function to complete, a call of
its check, and a solution that unfolds. `tests/exercises` runs every solution, every empty cell, and typical mistakes.

>>> from nida_kit import exercises
>>> exercises.kalman_update(lambda mean, std, value, noise_std: (value, noise_std))
Not yet. You return the measurement alone. The prior knows something too: weigh both by their precisions.
"""

from nida_kit.exercises.any_observation import operator
from nida_kit.exercises.four_d_var_and_hybrid import gauss_newton_step
from nida_kit.exercises.gaussian_assimilation import kalman_update
from nida_kit.exercises.temperature import schedule
from nida_kit.exercises.verdict import Verdict

__all__ = ["Verdict", "gauss_newton_step", "kalman_update", "operator", "schedule"]
