"""Gaussians of fields by their generator, against dense algebra."""

import warnings
from functools import partial

import numpy as np
import pytest
import torch

from nida_kit.gaussian import Gaussian
from nida_kit.linalg.fields import Ensemble, Modes, Propagated, Pyramid, Scaled, Sum, averaged, memory
from nida_kit.linalg.pyramid import shapes
from nida_kit.linalg.rows import Diagonal, Differential, Sparse
from nida_kit.linalg.solvers import Iterative, Truncated, to_a_tolerance

STEPS, SHAPE = 3, (9, 10)
N = SHAPE[0] * SHAPE[1]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pyramid(batch=2, scales=3, octaves=1):
    grids = shapes(SHAPE, octaves + scales - 1)[octaves:]
    amplitude = [0.5 + normal(batch, STEPS, *grid, seed=k).abs() for k, grid in enumerate(grids)]
    inside = torch.ones(SHAPE, dtype=torch.float64)
    inside[0], inside[-2, 3] = 0, 0
    times = torch.tensor([0.7, 1.2, 2.0], dtype=torch.float64)
    return Pyramid(tuple(amplitude), tuple(memory(STEPS, t) for t in times), inside)


def dense(generator):
    """L as a matrix, `(batch, T n, N)`."""
    size = generator.noise[-1]
    units = torch.eye(size, dtype=torch.float64).view(size, 1, 1, size)
    return generator.push(units).flatten(-2).movedim(0, -1)


def observed(batch=2):
    weight = 3 * (normal(batch, STEPS, N, seed=7) > 1).double()
    return Diagonal(weight), weight * normal(batch, STEPS, N, seed=8)


@pytest.mark.parametrize("octaves", [0, 1, 2])
def test_pull_is_the_adjoint_of_push(octaves):
    generator = pyramid(octaves=octaves)
    z, x = normal(*generator.noise, seed=3), normal(2, STEPS, N, seed=4)
    pushed, pulled = (generator.push(z) * x).sum((-2, -1)), (z * generator.pull(x)).sum((-2, -1))
    torch.testing.assert_close(pushed, pulled, rtol=1e-12, atol=1e-12)
    assert (generator.push(z).unflatten(-1, SHAPE)[..., 0, :] == 0).all()  # land


def posterior(generator, solver, rows=None):
    rows, residual = observed() if rows is None else rows
    centre = torch.zeros(2, STEPS, N, dtype=torch.float64)
    prior = Gaussian.generated(centre, generator, generator.noise)
    return Gaussian(prior.centre, prior.rows, prior.residual, generator, solver).condition(
        Gaussian.of(centre, rows, residual)
    )


def dense_posterior(generator, J, residual):
    L = dense(generator)
    C = L @ L.mT
    K = torch.linalg.solve(J @ C @ J.mT + torch.eye(J.shape[-2], dtype=J.dtype), J @ C).mT
    return -(K @ residual.unsqueeze(-1)).squeeze(-1), C - K @ J @ C


def test_conditioned_by_conjugate_gradients_it_equals_dense_algebra_to_1e_8():
    generator, (rows, residual) = pyramid(), observed()
    mean, _ = dense_posterior(generator, torch.diag_embed(rows.weight.flatten(-2)), residual.flatten(-2))
    found = posterior(generator, Iterative).mean
    torch.testing.assert_close(found.flatten(-2), mean, rtol=0, atol=1e-8)


def test_values_between_points_too():
    generator = pyramid()
    index = torch.tensor([[3, 4, 13, 14], [100, 101, 110, 111]])
    rows = Sparse(index, torch.tensor([[1.0, 2, 3, 4], [2, 2, 2, 2]], dtype=torch.float64), (STEPS, N))
    residual = normal(2, 1, 2, seed=9)
    mean, _ = dense_posterior(generator, rows.flat, residual.flatten(-2))
    found = posterior(generator, Iterative, (rows, residual)).mean
    torch.testing.assert_close(found.flatten(-2), mean, rtol=0, atol=1e-8)


def test_draws_have_the_covariance_of_dense_algebra():
    generator, (rows, residual) = pyramid(), observed()
    _, covariance = dense_posterior(generator, torch.diag_embed(rows.weight.flatten(-2)), residual.flatten(-2))
    found = posterior(generator, partial(Iterative, tolerance=1e-6))
    drawn = found.draw(4000, torch.Generator().manual_seed(0))
    away = (drawn - found.mean).flatten(-2)
    sampled = torch.einsum("mbi,mbj->bij", away, away) / len(away)
    scale = covariance.diagonal(dim1=1, dim2=2).clamp(min=1e-12).sqrt()
    error = (sampled - covariance) / (scale.unsqueeze(-1) * scale.unsqueeze(-2))
    inside = generator.inside.flatten().repeat(STEPS) > 0
    error = error[:, inside][:, :, inside]
    # A sampled correlation is off by (1 + rho^2)^(1/2) / sqrt(4000), 0.022 at most.
    assert error.square().mean().sqrt() < 0.02
    assert error.abs().max() < 0.13


def test_draws_alike_do_not_depend_on_the_windows_beside_them():
    both = posterior(pyramid(), Iterative).draw(3, torch.Generator().manual_seed(1), alike=True)
    generator, (rows, residual) = pyramid(), observed()
    one = Pyramid(tuple(a[1:] for a in generator.amplitude), generator.mixing, generator.inside)
    centre = torch.zeros(1, STEPS, N, dtype=torch.float64)
    alone = Gaussian.generated(centre, one, one.noise).condition(
        Gaussian.of(centre, Diagonal(rows.weight[1:]), residual[1:])
    )
    drawn = alone.draw(3, torch.Generator().manual_seed(1), alike=True)
    torch.testing.assert_close(drawn[:, 0], both[:, 1], rtol=0, atol=1e-8)


def loss(logs, solver):
    generator = pyramid()
    amplitude = tuple(a * log.exp() for a, log in zip(generator.amplitude, logs, strict=True))
    x = posterior(Pyramid(amplitude, generator.mixing, generator.inside), solver).estimate
    return (x - normal(2, STEPS, N, seed=11)).square().sum()


def slopes(solver):
    logs = [torch.zeros_like(a, requires_grad=True) for a in pyramid().amplitude]
    loss(logs, solver).backward()
    return torch.cat([log.grad.flatten() for log in logs])


def slope_along(direction, solver, by=1e-3):
    sizes = [a.shape for a in pyramid().amplitude]

    def at(step):
        parts = (step * direction).split([s.numel() for s in sizes])
        return loss([p.view(s) for p, s in zip(parts, sizes, strict=True)], solver).item()

    return (at(by) - at(-by)) / (2 * by)


def test_the_implicit_gradient_is_wrong_by_no_more_than_five_times_the_tolerance():
    right = slopes(Iterative)
    assert slope_along(right / right.norm(), Iterative) == pytest.approx(float(right.norm()), rel=1e-4)
    for tolerance in (1e-2, 1e-3, 1e-4):
        found = slopes(partial(to_a_tolerance, tolerance=tolerance))
        assert (found - right).norm() < 5 * tolerance * right.norm()


def test_the_gradient_of_truncated_steps_is_exact():
    solver = partial(Truncated, iterations=3)
    found = slopes(solver)
    assert slope_along(found / found.norm(), solver) == pytest.approx(float(found.norm()), rel=1e-4)
    assert (found - slopes(Iterative)).norm() > 1e-2 * found.norm()


def test_truncated_steps_stand_still_where_nothing_is_left_to_do():
    generator = pyramid()
    rows = (Diagonal(torch.zeros(2, STEPS, N, dtype=torch.float64)), torch.zeros(2, STEPS, N, dtype=torch.float64))
    assert (posterior(generator, partial(Truncated, iterations=4), rows).estimate == 0).all()


def test_single_precision_is_enough_for_the_tolerance():
    generator, (rows, residual) = pyramid(), observed()
    right = posterior(generator, Iterative).mean
    half = Pyramid(
        tuple(a.float() for a in generator.amplitude),
        tuple(m.float() for m in generator.mixing),
        generator.inside.float(),
    )
    centre = torch.zeros(2, STEPS, N)
    prior = Gaussian.generated(centre, half, half.noise)
    found = Gaussian(centre, prior.rows, prior.residual, half, to_a_tolerance).condition(
        Gaussian.of(centre, Diagonal(rows.weight.float()), residual.float())
    )
    assert found.mean.dtype == torch.float32
    assert (found.mean.double() - right).norm() < 1e-2 * right.norm()
    assert np.isfinite(found.draw(2, torch.Generator().manual_seed(0)).numpy()).all()


def in_single_precision(generator, rows, residual):
    centre, single = torch.zeros(2, STEPS, N), generator.to(torch.float32)
    prior = Gaussian.generated(centre, single, single.noise)
    statement = Gaussian.of(centre, rows.to(torch.float32), residual.float())
    return Gaussian(centre, prior.rows, prior.residual, single, to_a_tolerance).condition(statement)


@pytest.mark.parametrize("exact", [1e4, 1e9])  # the squares of the latter overflow in single precision
def test_very_exact_observations_are_solved_for_in_double_precision(exact):
    generator, (rows, residual) = pyramid(), observed()
    rows, residual = Diagonal(exact * rows.weight), exact * residual
    mean, _ = dense_posterior(generator, torch.diag_embed(rows.weight.flatten(-2)), residual.flatten(-2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = in_single_precision(generator, rows, residual)
        off = found.mean.double().flatten(-2) - mean
        assert found.draw(2, torch.Generator().manual_seed(0)).isfinite().all()
    assert off.norm() < 1e-2 * mean.norm()
    left, _ = found.reached
    assert (left <= 1e-3).all()


def test_observations_that_double_precision_cannot_tell_are_refused_with_the_remedy():
    generator, (rows, residual) = pyramid(), observed()
    rows = Diagonal(rows.weight * 1e200)
    with pytest.raises(ValueError, match=r"so exact that double precision cannot tell.*raise noise_std"):
        posterior(generator, to_a_tolerance, (rows, residual)).mean  # noqa: B018


def test_residual_and_iterations_are_those_of_the_answer():
    found = posterior(pyramid(), partial(to_a_tolerance, tolerance=1e-4))
    assert found.reached is None  # nothing is solved yet
    b, J = -found.rows.pull(found.residual), found.rows
    dz = found._solver.minimise(found.residual)
    left, taken = found.reached
    expected = (b - J.pull(J.push(dz))).norm(dim=(-2, -1)) / b.norm(dim=(-2, -1))
    torch.testing.assert_close(left, expected, rtol=1e-6, atol=0)
    for n, close in ((int(taken.max()), True), (int(taken.max()) - 1, False)):
        truncated = posterior(pyramid(), partial(Truncated, iterations=n))
        truncated.estimate  # noqa: B018
        assert bool((truncated.reached[0] <= 1e-4).all()) == close and (truncated.reached[1] == n).all()


def members(count=6):
    return normal(count, STEPS, N, seed=20) * torch.linspace(0.5, 2, N)


def modes(scale=(1.0, 0.3, 0.4)):
    return Modes(normal(N, 7, seed=21), 0.1 + normal(N, seed=22).abs(), torch.tensor(scale, dtype=torch.float64))


def bend(x):
    """A step of a model that is not linear and mixes neighbours, `(..., n)`."""
    return 0.7 * x.roll(1, -1) + 0.3 * (x * x.roll(2, -1)).sin()


def test_what_modes_hold_of_a_field_is_the_mean_given_it_with_its_errors():
    errors, x, std = modes(), normal(2, STEPS, N, seed=24), 0.3 + normal(N, seed=25).abs()
    B = errors.patterns @ errors.patterns.mT + errors.rest.square().diag()
    expected = x @ torch.linalg.inv(B + std.square().diag()) @ B
    torch.testing.assert_close(errors.nearest(x, std), expected, rtol=0, atol=1e-12)


TRAJECTORY = normal(2, STEPS, N, seed=23)


def propagated(errors=None):
    states = TRAJECTORY.split(1, -2)[:-1]
    return Propagated(tuple(Differential(bend, x) for x in states), modes() if errors is None else errors)


GENERATORS = {
    "ensemble": lambda octaves=2: Ensemble(members(), SHAPE, octaves),
    "modes": modes,
    "propagated modes": propagated,
    "propagated pyramid": lambda: propagated(pyramid()),
    "sum": lambda: Sum((propagated(), pyramid(), Ensemble(members(), SHAPE, 1))),
}


def noise_of(generator):
    """Of two windows."""
    return (2, *generator.noise[-2:])


def dense_of(generator):
    """L as a matrix of each of two windows, `(2, T n, N)`."""
    size = generator.noise[-1]
    units = torch.eye(size, dtype=torch.float64).view(size, 1, 1, size).expand(size, 2, 1, size)
    return generator.push(units).flatten(-2).movedim(0, -1)


@pytest.mark.parametrize("name", GENERATORS)
def test_every_generator_has_its_adjoint(name):
    generator = GENERATORS[name]()
    for lead in ((), (3,)):
        z, x = normal(*lead, *noise_of(generator), seed=3), normal(*lead, 2, STEPS, N, seed=4)
        pushed, pulled = (generator.push(z) * x).sum((-2, -1)), (z * generator.pull(x)).sum((-2, -1))
        assert pushed.shape == (*lead, 2)
        torch.testing.assert_close(pushed, pulled, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", GENERATORS)
def test_the_posterior_of_every_generator_equals_dense_algebra_to_1e_8(name):
    generator, (rows, residual) = GENERATORS[name](), observed()
    L = dense_of(generator)
    J = torch.diag_embed(rows.weight.flatten(-2))
    gain = torch.linalg.solve(J @ L @ L.mT @ J.mT + torch.eye(STEPS * N, dtype=torch.float64), J @ L @ L.mT).mT
    centre = torch.zeros(2, STEPS, N, dtype=torch.float64)
    prior = Gaussian.generated(centre, generator, noise_of(generator))
    found = prior.condition(Gaussian.of(centre, rows, residual)).mean
    expected = -(gain @ residual.flatten(-2).unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(found.flatten(-2), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("octaves", [0, 1, 2])
def test_an_ensemble_has_the_covariance_of_its_members_near_by_and_none_far_away(octaves):
    generator = GENERATORS["ensemble"](octaves)
    E = members().flatten(1)
    sampled = (E.mT @ E / len(E)).view(STEPS, N, STEPS, N)
    y, x = (dense_splines(n, octaves) for n in SHAPE)
    weights = torch.einsum("ya,xb->yxab", y, x).flatten(2).flatten(0, 1)
    rho = weights @ weights.mT
    rho = rho / rho.diagonal().sqrt() / rho.diagonal().sqrt()[:, None]
    expected = (sampled * rho[:, None, :]).reshape(STEPS * N, STEPS * N)
    L = dense_of(generator)[0]
    torch.testing.assert_close(L @ L.mT, expected, rtol=1e-10, atol=1e-10)
    apart = (torch.arange(SHAPE[0])[:, None] - torch.arange(SHAPE[0])).abs()
    assert (rho.view(*SHAPE, *SHAPE)[:, 0, :, 0][apart >= 4 * 2**octaves] == 0).all()


def dense_splines(n, octaves):
    """Cubic B-splines on n points, refined by octaves, by convolving with themselves what each octave adds."""
    sizes = [n]
    for _ in range(octaves):
        sizes.append(sizes[-1] // 2 + 1)
    out = np.eye(sizes[-1])
    for size in reversed(sizes[:-1]):
        wide = np.zeros((2 * len(out) + 1, out.shape[1]))
        wide[1::2] = out
        out = np.stack([np.convolve(column, [1 / 8, 4 / 8, 6 / 8, 4 / 8, 1 / 8]) for column in wide.T], 1)
        out = out[3 : 3 + size]
    return torch.from_numpy(out)


def test_whitened_modes_give_the_field_back_and_its_density():
    generator, x = modes(), normal(2, STEPS, N, seed=30)
    z = generator.whiten(x)
    torch.testing.assert_close(generator.push(z), x, rtol=1e-10, atol=1e-10)
    E, D = generator.patterns, generator.rest
    B = E @ E.mT + torch.diag(D.square())
    expected = (x * torch.linalg.solve(B, x.mT).mT).sum(-1) / generator.scale.square()
    torch.testing.assert_close(z.square().sum((-2, -1)), expected.sum(-1), rtol=1e-9, atol=0)


def test_a_model_carries_errors_as_its_jacobians_do():
    generator, e = propagated(), normal(2, STEPS, N, seed=31)
    z = modes().whiten(e)
    slopes = torch.func.vmap(torch.func.vmap(torch.func.jacrev(bend)))(TRAJECTORY)
    x = [e[:, 0]]
    for t in range(STEPS - 1):
        x.append((slopes[:, t] @ x[-1].unsqueeze(-1)).squeeze(-1) + e[:, t + 1])
    torch.testing.assert_close(generator.push(z), torch.stack(x, 1), rtol=1e-9, atol=1e-9)


def test_independent_fields_add_their_covariances():
    parts = (pyramid(), Ensemble(members(), SHAPE, 1))
    L, own = dense_of(Sum(parts)), [dense_of(part) for part in parts]
    torch.testing.assert_close(L @ L.mT, sum(k @ k.mT for k in own), rtol=1e-10, atol=1e-10)


def test_noise_of_other_sizes_scales_the_columns():
    generator = pyramid()
    scale = 0.5 + normal(*generator.noise, seed=5).abs()
    scaled = Scaled(generator, scale)
    torch.testing.assert_close(dense_of(scaled), dense_of(generator) * scale, rtol=1e-12, atol=1e-12)
    x = normal(2, STEPS, N, seed=6)
    pulled = (dense_of(scaled).mT @ x.flatten(1).unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(scaled.pull(x).squeeze(-2), pulled, rtol=1e-10, atol=1e-10)


def test_means_over_neighbours_leave_land_out():
    inside = torch.ones(3, 4, dtype=torch.float64)
    inside[1, 1] = 0
    field = torch.arange(12.0, dtype=torch.float64)
    found = averaged(field, inside).view(3, 4)
    assert found[1, 1] == 0
    assert found[0, 0] == pytest.approx((0 + 1 + 4) / 3)
    assert found[2, 3] == pytest.approx((6 + 7 + 10 + 11) / 4)
    wider = averaged(field, inside, reach=2).view(3, 4)
    assert wider[0, 0] == pytest.approx((0 + 1 + 2 + 4 + 6 + 8 + 9 + 10) / 8)
