"""Checks of the notebooks' exercises: each takes a learner's answer and says whether it is right, or what is wrong.

    verdict                     what a check returns
    gaussian_assimilation       notebook 01
    uncertainty                 notebook 06
    ensembles_and_particles     notebook 07
    scaling                     notebook 08

An exercise is three cells of a notebook, tagged `exercise`, `check` and `solution`: a function to complete, a call of
its check, and a solution that unfolds. `tests/exercises` runs every solution, every empty cell, and typical mistakes.

>>> from nida_kit import exercises
>>> exercises.kalman_update(lambda mean, std, value, noise_std: (value, noise_std))
Not yet. You return the measurement alone. The prior knows something too: weigh both by their precisions.
"""

from nida_kit.exercises.ensembles_and_particles import inflation
from nida_kit.exercises.gaussian_assimilation import kalman_update
from nida_kit.exercises.scaling import one_tile
from nida_kit.exercises.uncertainty import gaussian_crps
from nida_kit.exercises.verdict import Verdict

__all__ = ["Verdict", "gaussian_crps", "inflation", "kalman_update", "one_tile"]
