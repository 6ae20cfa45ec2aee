"""The interactive lab: a model without a browser, a view of ipywidgets, and what turns the figure into an image.

>>> lab = Lab(system="pendulum", temperatures=3)
>>> lab.controls["noise_std"].value = 0.2
>>> lab.model.params.noise_std
0.2
"""

from nida_kit.lab.line import LineLab
from nida_kit.lab.model import LabModel
from nida_kit.lab.view import Lab

__all__ = ["Lab", "LabModel", "LineLab"]
