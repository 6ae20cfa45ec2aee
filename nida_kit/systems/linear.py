"""A linear model of given steps, x_{t+1} = m + A (x_t - m): what is fitted where no equations are known.

In climate research it is called a linear inverse model (Penland and Sardeshmukh 1995, J. Climate 8, 1999-2024).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from nida_kit import checks
from nida_kit.edge import fold, unfold
from nida_kit.state import Labels
from nida_kit.systems.system import System


class LinearModel(System):
    """A linear model of given steps, x_{t+1} = mean + A (x_t - mean), that starts from N(mean, covariance).

    `nk.KalmanSmoother.fit(windows)` makes one of past trajectories, with the covariance of its errors.

    >>> import nida_kit as nk
    >>> labels = nk.StateLabels(("sst",), ("K",), ("anomaly",), time_units="months")
    >>> model = nk.LinearModel([[0.9]], labels, dt=1.0)
    >>> model.simulate(samples=2, steps=4, dt=1.0, model_noise_std=0.4).sizes
    Frozen({'sample': 2, 'time': 4, 'component': 1})

    Args:
        matrix: A `(n, n)`, of states as vectors; a labelled one has the columns `other_component`.
        labels: of the state.
        dt: how long a step is, in the labels' unit of time; the model is stepped by whole multiples of it.
        mean: what it is linear about, per component or one for all, in state units.
        covariance: of the start `(n, n)`; by default independent, of variance 1.

    Raises:
        ValueError: shapes that do not fit, a dt that is not positive, or a matrix that is no covariance.
    """

    def __init__(self, matrix, labels: Labels, dt: float, mean=0.0, covariance=None):
        self.labels, self.dt = labels, checks.positive("dt", dt)
        self._check_parts()
        self.longest_substep = self.dt
        n = labels.size
        given = {"matrix": matrix, "mean": mean, "covariance": covariance}
        matrix, mean, covariance = (labels.ordered(name, value) for name, value in given.items())
        expected = f"a matrix ({n}, {n}) of finite numbers"
        found = checks.numbers("matrix", matrix, expected)
        found = found.reshape(n, n) if found.shape == (*labels.shape, *labels.shape) else found
        if found.shape != (n, n) or not found.isfinite().all():
            advice = (
                f"Its shape is {tuple(found.shape)}. Row i says how each component now makes component i a step later."
            )
            raise checks.refused("matrix", matrix, expected, advice)
        self.matrix = found
        self.mean = checks.vector("mean", mean, labels.shape)
        own = torch.eye(n, dtype=torch.float64) if covariance is None else covariance
        self.covariance = checks.covariance(own, labels.shape, "covariance")

    def tendency(self, x):
        raise ValueError("A linear model of given steps has no tendency: it is known by step(x, dt) alone.")

    def step(self, x, dt, t=None):
        count = round(dt / self.dt)
        if count < 1 or not math.isclose(dt, count * self.dt, rel_tol=1e-6):
            raise ValueError(f"The model steps by {self.dt:g}, and dt={dt:g} is no whole multiple of it.")
        away = fold(x, self.shape) - self.mean.to(x)
        matrix = torch.linalg.matrix_power(self.matrix, count).to(x)
        return unfold(self.mean.to(x) + away @ matrix.mT, self.shape)

    def check(self):
        """Nothing is left to try: the matrix has been checked, and there is no tendency."""

    def check_slopes(self):
        """Those of a matrix are known."""

    def _try_tendency(self, x):
        pass

    def start(self, samples, generator, dtype, device):
        noise = torch.randn(samples, self.labels.size, generator=generator, dtype=dtype, device=device)
        root = torch.linalg.cholesky(self.covariance).to(noise)
        return unfold(self.mean.to(noise) + noise @ root.mT, self.shape)

    def log_start(self, x) -> Tensor:
        x = fold(x, self.shape)
        return MultivariateNormal(self.mean.to(x), self.covariance.to(x), validate_args=False).log_prob(x)

    def start_moments(self):
        return self.mean, self.covariance
