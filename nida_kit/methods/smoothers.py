"""The methods that are the loop of `incremental` with one prior each."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from nida_kit.gaussian import Gaussian
from nida_kit.loop import incremental
from nida_kit.methods.filters import extended_kalman_filter
from nida_kit.methods.method import Method
from nida_kit.priors.physics import Physics
from nida_kit.reconstruction import Reconstruction
from nida_kit.systems.system import System, as_system


class PhysicalMethod(Method):
    """What methods with a dynamical model share: the model, its error and where it starts."""

    def __init__(self, system: System, model_noise_std, start_mean=None, start_std=None):
        self.system, self.labels = as_system(system), system.labels
        draws = system.start(10_000, torch.Generator().manual_seed(0), torch.float64, torch.device("cpu"))
        self._model_noise_std = self._vector(model_noise_std, "model_noise_std")
        self._start_mean = draws.mean(0) if start_mean is None else self._vector(start_mean, "start_mean")
        self._start_std = draws.std(0) if start_std is None else self._vector(start_std, "start_std")
        self.physics(1.0)  # says now what it would refuse later
        self.settings = {"system": system.name}
        self.settings |= {f"system_{name}": value for name, value in system.parameters().items()}
        self.settings |= {"model_noise_std": self._model_noise_std.tolist()}
        self.settings |= {"start_mean": self._start_mean.tolist(), "start_std": self._start_std.tolist()}

    def _vector(self, value, name: str) -> Tensor:
        n = len(self.labels.components)
        try:
            vector = torch.as_tensor(value, dtype=torch.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}={value!r} must be a number or {n} of them: {error}") from error
        if vector.shape not in ((), (n,)) or not vector.isfinite().all():
            raise ValueError(f"{name}={value!r} must be one finite number or {n} of them, one per component.")
        return vector.expand(n)

    def physics(self, dt: float) -> Physics:
        """The prior for this time step."""
        return Physics(partial(self.system.step, dt=dt), self._model_noise_std, self._start_mean, self._start_std)


class KalmanSmoother(PhysicalMethod):
    """The Kalman (Rauch-Tung-Striebel) smoother: exact for a linear system and h, extended otherwise.

    The extended filter's means are where the dynamics are linearised; then the smoother is one step of the loop.

    Args:
        system: an `nk.System`.
        model_noise_std: of the model error per step, per component or one for all, in state units; positive.
        start_mean, start_std: of the state at the window's start; by default those of the system's own start law.
    """

    def reconstruct(self, observations, dt, first_guess):
        physics = self.physics(dt)
        if first_guess is None:
            filtered = extended_kalman_filter(physics, observations)
        else:
            filtered = first_guess.to(observations.value)
        return Reconstruction(list(incremental(physics, [0.0], observations, Gaussian.flat(filtered))), [0.0], filtered)
