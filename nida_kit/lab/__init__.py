"""Labs: controls and a figure in a notebook.

    model           what any lab knows and does, without any browser
    view            its controls and its figure, by ipywidgets
    controls        lists, boxes to tick, sliders beside a number, each with its label
    handles         what is laid over a figure, to drag what it shows
    page            where things lie in a page of any width, and what stays without a kernel
    render          the figure as an image
    turns           threads take turns
    line            the lab of Bayes on a line, the one that needs no torch
    reconstruction  the lab of reconstructions
    simulated       what it knows of a system that is simulated
    record          what it knows of observations of one's own, of which some are withheld
    challenge       the labs of three challenges
    minima          the lab of a descent and its minima
    ocean           the lab of an ocean seen by satellites
    training        the lab that trains a prior, and shows how that goes
    worlds          the lab of model error
    spread          the lab of a told spread
    cost            the lab of what a size costs
    speed           how fast labs answer

>>> from nida_kit.lab import Lab
>>> lab = Lab(system="pendulum", temperatures=3)
>>> lab.controls["noise_std"].value = 0.2
>>> lab.model.params.noise_std
0.2
"""

from nida_kit import names

__getattr__, __dir__, __all__ = names.listed(__name__, __file__)
