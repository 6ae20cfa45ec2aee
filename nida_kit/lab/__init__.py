"""Labs: controls and a figure in a notebook.

    model     what a lab knows and does, without any browser
    record    the same of observations of one's own, of which some are withheld
    view      its controls and its figure, by ipywidgets
    controls  lists, boxes to tick, sliders beside a number, each with its label
    page      where things lie in a page of any width, and what stays without a kernel
    render    the figure as an image
    line      the lab of Bayes on a line
    minima    the lab of a descent and its minima
    ocean     the lab of an ocean seen by satellites
    turns     threads take turns
    speed     how fast labs answer

>>> lab = Lab(system="pendulum", temperatures=3)
>>> lab.controls["noise_std"].value = 0.2
>>> lab.model.params.noise_std
0.2
"""

from nida_kit.lab.line import LineLab
from nida_kit.lab.minima import MinimaLab
from nida_kit.lab.model import LabModel
from nida_kit.lab.ocean import OceanLab, OceanModel
from nida_kit.lab.record import RecordModel
from nida_kit.lab.view import Lab

__all__ = ["Lab", "LabModel", "LineLab", "MinimaLab", "OceanLab", "OceanModel", "RecordModel"]
