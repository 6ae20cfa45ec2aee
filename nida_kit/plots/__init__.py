"""Figures: of reconstructions, and of scores."""

from nida_kit.plots.field import LARGE, make_field, update_field
from nida_kit.plots.reconstruction import Artists, make, samples, trajectories, update
from nida_kit.plots.scaling import growth
from nida_kit.plots.scores import (
    by_effort,
    error_by_step,
    pareto,
    rank_histogram,
    ranking,
    reliability,
    spread_error,
    temperature_ablation,
)
from nida_kit.plots.style import BAND, BLUE, RED, STYLE, figure, pick, save

__all__ = [
    "BAND",
    "BLUE",
    "LARGE",
    "RED",
    "STYLE",
    "Artists",
    "by_effort",
    "error_by_step",
    "figure",
    "growth",
    "make",
    "make_field",
    "pareto",
    "pick",
    "rank_histogram",
    "ranking",
    "reliability",
    "samples",
    "save",
    "spread_error",
    "temperature_ablation",
    "trajectories",
    "update",
    "update_field",
]
