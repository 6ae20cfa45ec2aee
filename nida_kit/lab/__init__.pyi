"""The labs and their modules, which are imported when a name is asked for first: see `nida_kit.names`."""

from .challenge import FourLab as FourLab
from .challenge import SeedsLab as SeedsLab
from .challenge import TenLab as TenLab
from .cost import CostLab as CostLab
from .line import LineLab as LineLab
from .minima import MinimaLab as MinimaLab
from .ocean import OceanLab as OceanLab
from .ocean import OceanModel as OceanModel
from .reconstruction import Lab as Lab
from .record import RecordModel as RecordModel
from .simulated import LabModel as LabModel
from .spread import SpreadLab as SpreadLab
from .training import TrainingLab as TrainingLab
from .training import TrainingModel as TrainingModel
from .worlds import WorldsLab as WorldsLab
from .worlds import WorldsModel as WorldsModel
