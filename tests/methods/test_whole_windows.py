"""Correlated errors, full covariances, means over time and models of time, in the methods of whole windows.

Each is held against one dense least-squares problem, written in numpy.
"""

import numpy as np
import pytest
import torch
import xarray as xr

import nida_kit as nk

T, N, DT = 9, 2, 0.5
A = np.array([[0.9, 0.3], [-0.2, 0.8]])
B = np.array([[1.0, 0.4], [0.4, 0.7]])
Q = np.array([[0.09, -0.04], [-0.04, 0.05]])
MEAN = np.array([0.3, -0.5])


class Forced(nk.System):
    """x_{t+1} = A x_t + sin(t), exactly: a map, so that dense algebra has the same model."""

    labels = nk.StateLabels(("a", "b"), ("1", "1"), ("a", "b"))
    longest_substep = 1.0

    def tendency(self, x, t):
        return 0 * x + 0 * t

    def start(self, samples, generator, dtype, device):
        return torch.randn(samples, N, generator=generator, dtype=dtype, device=device)

    def step(self, x, dt, t=None):
        return x @ torch.from_numpy(A.T).to(x) + torch.sin(self.times_of(x, t))


def dense(rows, right):
    """Mean and standard deviations of whitened rows r = rows x - right."""
    covariance = np.linalg.inv(rows.T @ rows)
    return (covariance @ rows.T @ right).reshape(T, N), np.sqrt(covariance.diagonal()).reshape(T, N)


def model_rows(start=B, noise=Q):
    """Start and steps of `Forced`, whitened."""
    rows, right = np.zeros((T * N, T * N)), np.zeros(T * N)
    for t in range(T):
        L = np.linalg.inv(np.linalg.cholesky(noise if t else start))
        here = slice(t * N, (t + 1) * N)
        rows[here, here] = L
        if t:
            rows[here, (t - 1) * N : t * N] = -L @ A
        right[here] = L @ (np.full(N, np.sin((t - 1) * DT)) if t else MEAN)
    return rows, right


def observed_rows(H, R, y):
    """Measurements y = H x + N(0, R) of what is no NaN, whitened."""
    seen = ~np.isnan(y)
    L = np.linalg.inv(np.linalg.cholesky(R[np.ix_(seen, seen)]))
    return L @ H[seen], L @ y[seen]


def observations(seed=0, p=N, missing=(3, 8, 9, 10)):
    """Values with gaps, as the numbers of a whole window."""
    y = np.random.default_rng(seed).normal(size=T * p)
    y[list(missing)] = np.nan
    return y


def dataset(y, covariance=None, std=None, names=("a", "b")):
    """The same as users write it."""
    names = list(names)
    value = xr.DataArray(
        y.reshape(T, len(names)), {"time": np.arange(T) * DT, "component": names}, ("time", "component")
    )
    if covariance is None:
        return xr.Dataset({"value": value, "noise_std": std})
    dims = ("time", "component", "other_time", "other_component")[4 - covariance.ndim :]
    dims = ("time", "component", "other_component") if covariance.ndim == 3 else dims
    dims = ("component", "other_component") if covariance.ndim == 2 else dims
    return xr.Dataset({"value": value, "noise_covariance": (dims, covariance)})


def positive(size, seed):
    root = np.random.default_rng(seed).normal(size=(size, size)) / size**0.5 + np.eye(size)
    return root @ root.T


METHODS = {
    "Kalman smoother": lambda **how: nk.KalmanSmoother(Forced(), **how),
    "weak 4D-Var": lambda **how: nk.WeakFourDVar(Forced(), **how, damping=0.0),
}
HOW = {"model_noise_covariance": Q, "start_mean": MEAN, "start_covariance": B}


def assert_same(result, expected):
    mean, std = expected
    np.testing.assert_allclose(result["mean"], mean, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(result["std"], std, rtol=1e-8)


def both(*parts):
    rows, right = zip(*parts, strict=True)
    return dense(np.concatenate(rows), np.concatenate(right))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["at all times", "at each time", "over the window"])
def test_correlated_errors_of_observations_start_and_model_are_the_dense_solution(method, kind):
    y = observations()
    if kind == "at all times":
        given = positive(N, 1)
        R = np.kron(np.eye(T), given)
    elif kind == "at each time":
        given, R = np.stack([positive(N, t) for t in range(T)]), np.zeros((T * N, T * N))
        for t in range(T):
            R[t * N : (t + 1) * N, t * N : (t + 1) * N] = given[t]
    else:
        R = positive(T * N, 2)
        given = R.reshape(T, N, T, N)
    result = METHODS[method](**HOW).assimilate(dataset(y, given))
    assert_same(result, both(model_rows(), observed_rows(np.eye(T * N), R, y)))
    error = (
        np.linalg.cholesky(np.linalg.inv(R[np.ix_(~np.isnan(y), ~np.isnan(y))])).T
        @ (y - result["mean"].values.ravel())[~np.isnan(y)]
    )
    np.testing.assert_allclose(result["misfit"], np.sqrt((error**2).mean()))


@pytest.mark.parametrize("method", METHODS)
def test_diagonal_covariances_are_standard_deviations(method):
    y = observations()
    plain = METHODS[method](model_noise_std=[0.3, 0.2], start_mean=MEAN, start_std=[1.0, 0.5])
    full = METHODS[method](
        model_noise_covariance=np.diag([0.09, 0.04]), start_mean=MEAN, start_covariance=np.diag([1.0, 0.25])
    )
    expected = plain.assimilate(dataset(y, std=0.4))
    for obs in (dataset(y, np.diag([0.16, 0.16])), dataset(y, (0.16 * np.eye(T * N)).reshape(T, N, T, N))):
        found = full.assimilate(obs)
        np.testing.assert_allclose(found["mean"], expected["mean"], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found["std"], expected["std"], rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_an_operator_of_time_sees_the_times_of_its_states(method):
    y = observations(p=1, missing=(0, 4))
    H = np.zeros((T, T * N))
    for t in range(T):
        H[t, t * N : (t + 1) * N] = np.cos(t * DT), t * DT

    def h(x, t):
        return torch.cos(t) * x[..., :1] + t * x[..., 1:]

    result = METHODS[method](**HOW).assimilate(dataset(y, std=0.2, names=["h0"]), operator=h)
    assert_same(result, both(model_rows(), observed_rows(H, 0.04 * np.eye(T), y)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("errors", ["independent", "at all times", "over the window"])
def test_a_mean_over_time_and_a_value_between_steps_are_the_dense_solution(method, errors):
    y = observations(p=2, missing=(0, 1, 2, 3, 6, 9))
    H = np.zeros((T * 2, T * N))
    for t in range(T):
        for back in range(3):
            H[t * 2, ((t - back) % T) * N] += 1 / 3
        H[t * 2 + 1, t * N + 1] += 0.75
        H[t * 2 + 1, ((t + 1) % T) * N + 1] += 0.25

    def h(x):
        mean = (x + x.roll(1, -2) + x.roll(2, -2)) / 3
        return torch.stack([mean[..., 0], 0.75 * x[..., 1] + 0.25 * x.roll(-1, -2)[..., 1]], -1)

    if errors == "over the window":
        R = positive(T * 2, 3)
        obs = dataset(y, R.reshape(T, 2, T, 2), names=["h0", "h1"])
    elif errors == "at all times":
        R = np.kron(np.eye(T), positive(2, 4))
        obs = dataset(y, positive(2, 4), names=["h0", "h1"])
    else:
        R, obs = 0.09 * np.eye(T * 2), dataset(y, std=0.3, names=["h0", "h1"])
    result = METHODS[method](**HOW).assimilate(obs, operator=nk.over_window(h))
    assert_same(result, both(model_rows(), observed_rows(H, R, y)))


def test_a_nonlinear_mean_over_time_is_descended_to_where_the_cost_has_no_slope():
    system, h = nk.Pendulum(), nk.over_window(lambda x: x.square().cumsum(-2)[..., :1])
    truth = system.simulate(3, 12, 0.2, seed=1)
    obs = nk.observe(truth, every=3, noise_std=0.1, operator=h, seed=2)
    result = nk.WeakFourDVar(system, 0.05, iterations=60, tolerance=1e-12).assimilate(obs, truth, operator=h)
    x = torch.from_numpy(result["mean"].values).requires_grad_()
    physics = nk.WeakFourDVar(system, 0.05).physics(0.2)
    y = torch.from_numpy(obs["value"].values)
    cost = physics.misfit(x).sum() + ((h(x) - y) / 0.1).where(~y.isnan(), 0.0).square().sum() / 2
    (slope,) = torch.autograd.grad(cost, x)
    assert (slope.abs() * torch.from_numpy(result["std"].values) < 1e-3).all()


def test_windows_with_gaps_of_their_own_do_not_influence_each_other():
    both_windows = [dataset(observations(s, missing=m), std=1.0)["value"] for s, m in enumerate([(1, 2), ()])]
    obs = dataset(observations(), positive(T * N, 2).reshape(T, N, T, N))
    obs = obs.drop_vars("value").assign(value=xr.concat(both_windows, "sample"))
    method = METHODS["weak 4D-Var"](**HOW)
    together = method.assimilate(obs)
    for k in range(2):
        alone = method.assimilate(obs.isel(sample=[k]))
        np.testing.assert_allclose(together["mean"][k], alone["mean"][0], rtol=1e-9, atol=1e-9)
    lazy = method.assimilate(obs.chunk(sample=1)).compute()
    np.testing.assert_allclose(lazy["mean"], together["mean"], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(lazy["std"], together["std"], rtol=1e-9)


def test_a_climatology_and_a_network_take_correlated_errors_too():
    system = nk.Lorenz63()
    neural = nk.NeuralIncremental.pretrained("lorenz63")
    truth = system.simulate(2, 16, 0.05, seed=3)
    R = np.array([[1.0, 0.6, 0.0], [0.6, 1.0, 0.0], [0.0, 0.0, 4.0]])
    obs = nk.observe(truth, every=4, noise_covariance=R, seed=1)
    interpolation = nk.OptimalInterpolation(neural.prior.climatology, neural.labels, neural.dt)
    result = interpolation.assimilate(obs)
    prior = neural.prior.climatology.over(16)
    P, mean = prior.precision.dense().numpy(), prior.mean.numpy().ravel()
    for k in range(2):
        y = obs["value"].values[k].ravel()
        H, white = observed_rows(np.eye(48), np.kron(np.eye(16), R), y)
        expected = np.linalg.solve(P + H.T @ H, P @ mean + H.T @ white)
        np.testing.assert_allclose(result["mean"][k].values.ravel(), expected, rtol=1e-6, atol=1e-6)
    plain = neural.assimilate(nk.observe(truth, every=4, noise_std=1.0, seed=1))
    diagonal = neural.assimilate(nk.observe(truth, every=4, noise_covariance=np.eye(3), seed=1))
    np.testing.assert_allclose(diagonal["mean"], plain["mean"], rtol=1e-9, atol=1e-8)


def test_a_long_window_keeps_its_few_means_over_time_beside_the_band():
    class Walk(nk.System):
        labels = nk.StateLabels(("a", "b"), ("1", "1"), ("a", "b"))
        longest_substep = 1.0

        def tendency(self, x):
            return -0.1 * x

        def start(self, samples, generator, dtype, device):
            return torch.randn(samples, 2, generator=generator, dtype=dtype)

    def monthly(x):
        return x.unflatten(-2, (-1, 30)).mean(-2).repeat_interleave(30, -2)[..., :1]

    steps, system, h = 600, Walk(), nk.over_window(monthly)
    obs = nk.observe(system.simulate(1, steps, 1.0, model_noise_std=0.3), every=30, noise_std=0.05, operator=h)
    method = nk.KalmanSmoother(system, 0.3)
    posterior = method.reconstruct(*_as_tensors(method, obs, h)).posteriors[-1]
    assert type(posterior._solver).__name__ == "Bordered"
    J, r = posterior.rows.dense()[0].numpy(), torch.cat([r.flatten(1) for r in posterior.residual], 1)[0].numpy()
    covariance = np.linalg.inv(J.T @ J)
    expected = posterior.centre.flatten().numpy() - covariance @ J.T @ r
    np.testing.assert_allclose(posterior.mean.flatten(), expected, atol=1e-9)
    np.testing.assert_allclose(posterior.std.flatten(), np.sqrt(covariance.diagonal()), rtol=1e-9)
    noise = torch.randn(3000, 1, steps, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draws = posterior.sample(noise)[:, 0]
    months = monthly(draws)[:, ::30, 0]
    W = np.zeros((20, steps * 2))
    for k in range(20):
        W[k, 60 * k : 60 * (k + 1) : 2] = 1 / 30
    spread = W @ covariance @ W.T
    np.testing.assert_allclose(np.cov(months.T.numpy()), spread, atol=0.1 * spread.diagonal().max())


def _as_tensors(method, obs, operator):
    from nida_kit.edge import read_observations
    from nida_kit.observing.errors import errors_of
    from nida_kit.observing.observations import Observations

    read = read_observations(obs, method.labels, None, direct=False)
    errors = errors_of(read.noise_std, read.noise_covariance)
    return Observations(read.value, errors, operator, read.times), read.dt, None


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"model_noise_covariance": np.array([[1.0, 2.0], [2.0, 1.0]])}, "model_noise_covariance.*positive definite"),
        ({"model_noise_covariance": np.array([[1.0, 0.5], [0.0, 1.0]])}, "model_noise_covariance.*symmetric"),
        ({"model_noise_covariance": np.eye(3)}, r"model_noise_covariance.*\(2, 2\)"),
        ({"model_noise_covariance": Q, "start_covariance": -B}, "start_covariance.*positive definite"),
        ({"model_noise_covariance": Q, "model_noise_std": 0.1}, "both say how large"),
        ({"model_noise_covariance": Q, "start_covariance": B, "start_std": 1.0}, "both say how large"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_covariances_that_are_none_are_refused_by_name(method, how, said):
    with pytest.raises(ValueError, match=said):
        METHODS[method](**how)


@pytest.mark.parametrize("R", [np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([[1.0, 0.5], [0.0, 1.0]])])
def test_errors_whose_covariance_is_none_are_refused(R):
    with pytest.raises(ValueError, match="noise_covariance"):
        METHODS["weak 4D-Var"](**HOW).assimilate(dataset(observations(), R))


def test_operators_that_mix_times_or_windows_or_work_in_place_are_refused():
    obs = nk.observe(nk.Pendulum().simulate(3, 10, 0.1), every=2, noise_std=0.1)
    method = nk.WeakFourDVar(nk.Pendulum(), 0.05)
    for operator, said in [
        (lambda x: x.cumsum(-2), "nk.over_window"),
        (lambda x: x + x.mean(-2, keepdim=True).detach(), "nk.over_window"),
        (lambda x: x - x.mean(0, keepdim=True), "other windows"),
        (nk.over_window(lambda x: x - x.mean(0, keepdim=True)), "other windows"),
        (lambda x: x.mul_(2.0), "changes the states"),
    ]:
        with pytest.raises(ValueError, match=said):
            method.assimilate(obs, operator=operator)


def test_a_linear_model_seen_through_a_bent_operator_is_linearised_along_the_filter():
    system = nk.LinearOscillator()
    truth = system.simulate(5, 30, 0.2, model_noise_std=0.02, seed=1)
    obs = nk.observe(truth, every=2, noise_std=0.05, operator=torch.sin, seed=2)
    smoother = nk.KalmanSmoother(system, 0.02)
    found = smoother.assimilate(obs, operator=torch.sin)
    start = nk.Started(system, smoother._start_mean, covariance=smoother._start.matrix)
    filtered = nk.ExtendedKalmanFilter(start, 0.02).assimilate(obs, operator=torch.sin)["mean"]
    along = smoother.assimilate(obs, filtered, operator=torch.sin)
    np.testing.assert_allclose(found["mean"], along["mean"], rtol=1e-9, atol=1e-9)


def test_a_matrix_that_is_not_symmetric_is_refused_in_any_unit():
    for unit in (1e-12, 1.0, 1e12):
        with pytest.raises(ValueError, match="symmetric"):
            nk.EnKF(Forced(), model_noise_covariance=unit * np.array([[1.0, 0.9], [0.0, 1.0]]))
        nk.EnKF(Forced(), model_noise_covariance=unit * np.array([[1.0, 0.9], [0.9, 1.0]]))


@pytest.mark.parametrize("noise", [1e-8, 1e-9])
def test_means_over_a_long_window_of_a_nearly_exact_model_are_right_or_refused(noise):
    class Constant(nk.System):
        labels = nk.StateLabels(("a",), ("1",), ("a",))
        longest_substep = 1.0

        def tendency(self, x):
            return 0 * x

        def start(self, samples, generator, dtype, device):
            return torch.randn(samples, 1, generator=generator, dtype=dtype)

    h = nk.over_window(lambda x: x.mean(-2, keepdim=True).expand_as(x))
    obs = nk.observe(Constant().simulate(1, 1002, 1.0), every=334, noise_std=0.1, operator=h)
    try:
        result = nk.KalmanSmoother(Constant(), noise, start_mean=0.0, start_std=1.0).assimilate(obs, operator=h)
    except ValueError as refused:
        assert "double precision" in str(refused)
        return
    np.testing.assert_allclose(result["std"], (1 + 3 / 0.01) ** -0.5, rtol=0.01)


def test_an_operator_that_mixes_times_at_a_few_steps_only_is_found():
    def mix(x):
        share = torch.zeros(x.shape[-2], 1).to(x)
        share[5::10] = 0.5
        return (x * (1 - share) + x.roll(1, -2) * share)[..., :1]

    with pytest.raises(ValueError, match=r"nk\.over_window"):
        nk.observe(nk.Pendulum().simulate(2, 24, 0.1), every=10, offset=5, noise_std=0.01, operator=mix)


@pytest.mark.parametrize("operator", [lambda x: x > 0, lambda x: torch.complex(x, x), lambda x: x[..., :0]])
def test_an_operator_that_gives_no_real_numbers_is_refused(operator):
    with pytest.raises(ValueError, match="one real number or more"):
        nk.observe(nk.Pendulum().simulate(2, 4, 0.1), noise_std=0.01, operator=operator)


def test_records_of_many_numbers_are_short_and_tell_them_from_others():
    ocean = nk.QuasiGeostrophic(cells=9)
    spread = torch.linspace(0.1, 0.2, 81, dtype=torch.float64)
    method = nk.WeakFourDVar(nk.Started(ocean, 0.0, 1.0), model_noise_std=spread)
    assert method.settings["model_noise_std"] == "81 numbers, evenly from 0.1 to 0.2"
    assert method.settings["system_start_std"] == "81 numbers, each 1"
    assert len(repr(method)) < 1000
    truth = ocean.simulate(samples=1, steps=2, dt=5.0, model_noise_std=spread, seed=0)
    assert truth.attrs["model_noise_std"] == "81 numbers, evenly from 0.1 to 0.2"
