"""Figures: each is made once from labelled data, and those of labs are then updated.

    style           what all share: lines, panels, files
    reconstruction  trajectories against time, and a phase portrait
    result          what `nk.plot` draws: one window of any result
    field           a large state as images
    maps            fields on a plane, with the places of instruments
    plane           a field on a plane at one time: truth, observations, estimate, error and std, and a cut
    ensemble        an ensemble that spreads and contracts, as an animation
    moving          animations: of a field in time, of an estimate from step to step
    spectra         which scales of a field are recovered
    line            Bayes on a line, ellipses, matrices
    added           what one step adds, beside what was missing
    minima          a descent, and the cost between its start, its minimum and the truth
    scores          errors, costs and calibration
    spread          what a stretched spread does to draws, ranks, coverage and score
    scaling         how a cost grows with a size, an error falls with training
    training        a training as it goes
    cost            what a size costs, measured size by size
    model_error     scores of several methods, case by case

Figures are drawn with matplotlib alone; no module here knows widgets.
"""

from nida_kit.evaluate import BAND, ERROR
from nida_kit.plots.added import make_added, update_added
from nida_kit.plots.cost import Cost, make_cost, update_cost
from nida_kit.plots.ensemble import animate_members
from nida_kit.plots.field import make_field, update_field
from nida_kit.plots.line import LineArtists, ellipses, make_line, matrices, update_line
from nida_kit.plots.maps import maps
from nida_kit.plots.minima import make_minima, update_minima
from nida_kit.plots.model_error import by_case
from nida_kit.plots.moving import Animation, animate, descend, morph
from nida_kit.plots.plane import Plane, make_plane, rows_of, update_plane
from nida_kit.plots.reconstruction import Artists, make, samples, shown, trajectories, update
from nida_kit.plots.scaling import growth, learning
from nida_kit.plots.scores import (
    against,
    by_effort,
    epochs,
    error_by_step,
    pareto,
    rank_histogram,
    ranking,
    reliability,
    spread_error,
    temperature_ablation,
    time_to_accuracy,
)
from nida_kit.plots.spectra import spectra
from nida_kit.plots.spread import Spread, make_spread, update_spread
from nida_kit.plots.style import BLUE, RED, STYLE, figure, pick, save
from nida_kit.plots.training import Training, make_training, update_training

__all__ = [
    "BAND",
    "BLUE",
    "ERROR",
    "RED",
    "STYLE",
    "Animation",
    "Artists",
    "Cost",
    "LineArtists",
    "Plane",
    "Spread",
    "Training",
    "against",
    "animate",
    "animate_members",
    "by_case",
    "by_effort",
    "descend",
    "ellipses",
    "epochs",
    "error_by_step",
    "figure",
    "growth",
    "learning",
    "make",
    "make_added",
    "make_cost",
    "make_field",
    "make_line",
    "make_minima",
    "make_plane",
    "make_spread",
    "make_training",
    "maps",
    "matrices",
    "morph",
    "pareto",
    "pick",
    "rank_histogram",
    "ranking",
    "reliability",
    "rows_of",
    "samples",
    "save",
    "shown",
    "spectra",
    "spread_error",
    "temperature_ablation",
    "time_to_accuracy",
    "trajectories",
    "update",
    "update_added",
    "update_cost",
    "update_field",
    "update_line",
    "update_minima",
    "update_plane",
    "update_spread",
    "update_training",
]
