"""nida_kit"""
from nida_kit import schedule, setups
from nida_kit.assimilate.method import Chain, Method
from nida_kit.assimilate.methods import KalmanSmoother, NeuralIncremental, OptimalInterpolation, WeakFourDVar
from nida_kit.labels import StateLabels
from nida_kit.simulate import LinearOscillator, Lorenz63, Lorenz96, Pendulum, System
from nida_kit.observe import observe
