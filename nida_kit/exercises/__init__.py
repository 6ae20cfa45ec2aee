"""Checks of the notebooks' exercises: each takes a learner's answer and says whether it is right, or what is wrong.

    verdict                    what a check returns
    start_here                 notebook 00
    gaussian_assimilation      notebook 01
    pendulum                   notebook 02
    temperature                notebook 03
    any_observation            notebook 04
    four_d_var_and_hybrid      notebook 05
    uncertainty                notebook 06
    ensembles_and_particles    notebook 07
    scaling                    notebook 08
    train_your_own             notebook 09
    model_error                notebook 10
    real_data                  notebook 11
    fields                     notebook 12
    challenges                 notebook 13

An exercise is three cells of a notebook, tagged `exercise`, `check` and `solution`: a function to complete, a call of
its check, and a solution that unfolds. `tests/exercises` runs every solution, every empty cell, and typical mistakes.

>>> from nida_kit import exercises
>>> exercises.kalman_update(lambda mean, std, value, noise_std: (value, noise_std))
Not yet. You return the measurement alone. The prior knows something too: weigh both by their precisions.
"""

from nida_kit.exercises.any_observation import operator
from nida_kit.exercises.challenges import best_place
from nida_kit.exercises.ensembles_and_particles import inflation
from nida_kit.exercises.fields import map_at
from nida_kit.exercises.four_d_var_and_hybrid import gauss_newton_step
from nida_kit.exercises.gaussian_assimilation import interpolate_pair, kalman_update
from nida_kit.exercises.model_error import model_error_cost
from nida_kit.exercises.pendulum import blend
from nida_kit.exercises.real_data import withheld_rmse
from nida_kit.exercises.scaling import one_tile
from nida_kit.exercises.start_here import reconstruct
from nida_kit.exercises.temperature import schedule
from nida_kit.exercises.train_your_own import solve_gradient
from nida_kit.exercises.uncertainty import gaussian_crps
from nida_kit.exercises.verdict import Verdict

__all__ = [
    "Verdict",
    "best_place",
    "blend",
    "gauss_newton_step",
    "gaussian_crps",
    "inflation",
    "interpolate_pair",
    "kalman_update",
    "map_at",
    "model_error_cost",
    "one_tile",
    "operator",
    "reconstruct",
    "schedule",
    "solve_gradient",
    "withheld_rmse",
]
