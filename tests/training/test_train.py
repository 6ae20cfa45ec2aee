"""Training: repeatable to the bit, downhill, and with the gradients of what it minimises."""

import functools
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

import nida_kit as nk
from nida_kit.observing.laws import combinations, either, mixture, regular
from nida_kit.priors.climatology import Climatology
from nida_kit.priors.paper import PaperPrior
from nida_kit.priors.temporal import NeuralPrior
from nida_kit.training.train import Settings, _posteriors, draw_schedule, draw_use, fixed, loss_of, simulated, train
from nida_kit.training.validation import observe_law

SYSTEM, STEPS, DT = nk.Lorenz63(), 6, 0.1
WINDOWS = torch.from_numpy(SYSTEM.simulate(samples=200, steps=STEPS, dt=DT, spinup=20, seed=0).values)
SMALL = Settings(steps=6, batch=4, longest=3, seed=1)


def small_prior(kind=NeuralPrior):
    torch.manual_seed(0)
    climatology = Climatology.fit(WINDOWS)
    return kind(climatology, width=8, **({"steps": STEPS, "rank": 2} if kind is PaperPrior else {"dilations": (1, 2)}))


def law(shape, generator):
    """x at every second step."""
    return regular(shape, generator, components=[0], every=2, noise_std=0.5)


def run(prior, settings=SMALL, windows=None, **how):
    return train(prior, windows or fixed(WINDOWS), law, settings, progress=False, **how)


def weights_of(prior):
    return torch.cat([p.detach().flatten() for p in prior.parameters()])


class Broken(Exception):
    pass


def breaking_after(batches):
    """The same windows, until the machine stops."""
    draw, drawn = fixed(WINDOWS), []

    def windows(batch, generator):
        if len(drawn) == batches:
            raise Broken
        drawn.append(1)
        return draw(batch, generator)

    return windows


@pytest.mark.parametrize("kind", [NeuralPrior, PaperPrior])
@pytest.mark.parametrize("one_step", [0.0, 1.0])
@pytest.mark.parametrize("breaks", [2, 5])
def test_a_training_that_was_broken_off_ends_at_the_same_weights(kind, one_step, breaks, tmp_path):
    settings = replace(SMALL, one_step=one_step)
    whole = small_prior(kind)
    history = run(whole, settings)
    with pytest.raises(Broken):
        run(small_prior(kind), settings, breaking_after(breaks), checkpoint=tmp_path / "c.ckpt", every=2)
    resumed = small_prior(kind)
    again = run(resumed, settings, checkpoint=tmp_path / "c.ckpt", every=2)
    assert torch.equal(weights_of(resumed), weights_of(whole))
    assert not torch.equal(weights_of(resumed), weights_of(small_prior(kind)))
    assert again.equals(history)


def test_a_finished_training_is_read_and_not_repeated(tmp_path):
    first, second = small_prior(), small_prior()
    history = run(first, checkpoint=tmp_path / "c.ckpt")
    assert run(second, windows=breaking_after(0), checkpoint=tmp_path / "c.ckpt").equals(history)
    assert torch.equal(weights_of(first), weights_of(second))


def test_the_seed_says_everything():
    priors = [small_prior() for _ in range(3)]
    for prior, seed in zip(priors, (1, 1, 2), strict=True):
        run(prior, replace(SMALL, seed=seed))
    one, same, other = map(weights_of, priors)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    run(small_prior(), checkpoint=tmp_path / "c.ckpt")
    with pytest.raises(ValueError, match=r"belongs to another training.*'steps': 6.*'steps': 7"):
        run(small_prior(), replace(SMALL, steps=7), checkpoint=tmp_path / "c.ckpt")
    with pytest.raises(ValueError, match=r"belongs to another training.*NeuralPrior.*PaperPrior"):
        run(small_prior(PaperPrior), checkpoint=tmp_path / "c.ckpt")
    other = small_prior()
    other.climate.mean += 1
    with pytest.raises(ValueError, match="another climatology"):
        run(other, checkpoint=tmp_path / "c.ckpt")
    (tmp_path / "c.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="damaged or no checkpoint"):
        run(small_prior(), checkpoint=tmp_path / "c.ckpt")


@pytest.mark.parametrize("steps", range(1, 12))
def test_trainings_of_any_length_run(steps):
    assert run(small_prior(), replace(SMALL, steps=steps)).sizes["batch"] == steps


@pytest.mark.parametrize("one_step", [0.0, 1.0])
def test_training_lowers_the_error_that_it_minimises(one_step):
    settings = Settings(steps=100, batch=32, rate=2e-2, one_step=one_step, longest=2, log_score=0.0)

    def error(prior):
        """Of all windows, with the same observations and temperatures each time."""
        generator = torch.Generator().manual_seed(0)
        observations = observe_law(WINDOWS, law, generator)
        posteriors = _posteriors(prior, observations, WINDOWS, draw_use(WINDOWS, settings, generator))
        return float(torch.stack([loss_of(p, WINDOWS, prior.climatology.spread, 0.0)[1] for p in posteriors]).mean())

    prior = small_prior()
    run(prior, settings)
    assert error(prior) < 0.5 * error(small_prior())


def test_the_history_is_a_dataset_with_its_settings():
    history = run(small_prior())
    assert history.sizes == {"batch": 6}
    np.testing.assert_array_equal(history["batch"], np.arange(1, 7))
    assert np.isfinite(history["loss"]).all() and (history["mse"] > 0).all()
    assert (history.attrs["seed"], history.attrs["steps"], history.attrs["one_step"]) == (1, 6, 0.2)
    assert history.attrs["seconds"] > 0


def test_some_batches_take_one_step_and_the_others_unroll_the_loop():
    prior, seen = small_prior(), observe_law(WINDOWS[:3], law, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    settings = replace(SMALL, one_step=0.3)
    uses = [draw_use(WINDOWS[:3], settings, generator) for _ in range(200)]
    lengths = [len(list(_posteriors(prior, seen, WINDOWS[:3], use))) for use in uses]
    assert lengths.count(1) / 200 == pytest.approx(0.3, abs=5 * (0.3 * 0.7 / 200) ** 0.5)


@pytest.mark.parametrize("one_step", [0.0, 1.0])
@pytest.mark.parametrize("log_score", [0.0, 0.1])
def test_gradients_through_the_solves_equal_finite_differences(one_step, log_score):
    prior = small_prior().double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in prior.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
        # The network's view of the current spread is cut from the graph on purpose: silence it.
        prior.inside.maps[0].weight[:, 3:6] = 0
    x = WINDOWS[:3]
    seen = observe_law(x, law, generator)
    settings, lengths = replace(SMALL, one_step=one_step, longest=6), []

    def loss():
        posteriors = list(_posteriors(prior, seen, x, draw_use(x, settings, torch.Generator().manual_seed(1))))
        lengths.append(len(posteriors))
        terms = [loss_of(p, x, prior.climatology.spread, log_score)[0] for p in posteriors]
        return torch.stack(terms).mean()

    loss().backward()
    for name, p in prior.named_parameters():
        direction = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        if name == "inside.maps.0.weight":
            direction[:, 3:6] = 0
        with torch.no_grad():
            p.add_(1e-5 * direction)
            above = loss()
            p.sub_(2e-5 * direction)
            slope = (above - loss()) / 2e-5
            p.add_(1e-5 * direction)
        assert len(set(lengths)) == 1 and (lengths[0] > 1) == (one_step == 0)
        torch.testing.assert_close((p.grad * direction).sum(), slope, rtol=1e-6, atol=1e-8)


def test_the_loss_is_the_squared_error_and_the_log_score():
    prior, x = small_prior(), WINDOWS[:3]
    posterior = prior.climatology.over(STEPS)
    spread, std = prior.climatology.spread, posterior.std
    error = posterior.mean - x
    loss, mse = loss_of(posterior, x, spread, 0.1)
    torch.testing.assert_close(mse, ((error / spread) ** 2).mean())
    log_score = (std / spread).log() + error**2 / (2 * std**2)
    torch.testing.assert_close(loss, mse + 0.1 * log_score.mean())


def test_fixed_windows_are_drawn_from_the_set():
    drawn = fixed(WINDOWS)(50, torch.Generator().manual_seed(0))
    assert all((window == WINDOWS).flatten(1).all(1).any() for window in drawn)
    assert len({tuple(window.flatten().tolist()) for window in drawn}) > 25


def test_jittered_windows_are_larger_and_smaller_images_of_those_of_the_set():
    drawn = fixed(WINDOWS, jitter=0.3)(400, torch.Generator().manual_seed(0))
    centre = WINDOWS.mean((0, 1))
    directions = [
        ((x - centre) / (x - centre).flatten(-2).norm(dim=-1)[:, None, None]).flatten(1) for x in (drawn, WINDOWS)
    ]
    along, which = (directions[0] @ directions[1].mT).abs().max(1)
    torch.testing.assert_close(along, torch.ones_like(along))
    factor = (drawn - centre).flatten(1).norm(dim=1) / (WINDOWS[which] - centre).flatten(1).norm(dim=1)
    assert float(factor.mean()) == pytest.approx(1, abs=5 * 0.3 / 20)
    assert float(factor.std()) == pytest.approx(0.3, abs=5 * 0.3 / 800**0.5)
    with pytest.raises(ValueError, match="jitter=-1"):
        fixed(WINDOWS, jitter=-1)


def test_simulated_windows_follow_the_dynamics_from_early_or_late_starts():
    draw = simulated(SYSTEM, STEPS, DT, latest=40)
    x = draw(200, torch.Generator().manual_seed(0))
    torch.testing.assert_close(SYSTEM.step(x[:, :-1], DT), x[:, 1:], rtol=1e-9, atol=1e-9)
    assert torch.equal(x, draw(200, torch.Generator().manual_seed(0)))
    starts = SYSTEM.start(200, torch.Generator().manual_seed(0), torch.float64, torch.device("cpu"))
    early = (x[:, 0] == starts).all(-1).double().mean()
    assert float(early) == pytest.approx(0.5, abs=5 * 0.5 / 200**0.5)


def test_observations_of_a_law_are_noisy_values_of_what_it_sees():
    seen = observe_law(WINDOWS, law, torch.Generator().manual_seed(0))
    where = ~seen.value.isnan()
    assert not where[..., 1:].any() and (where[..., 0].sum(-1) == STEPS / 2).all()
    error = (seen.value - WINDOWS)[where] / 0.5
    assert float(error.std()) == pytest.approx(1, abs=5 / (2 * error.numel()) ** 0.5)


def test_combinations_are_seen_in_a_share_of_the_batches_with_the_noise_of_their_law():
    scale, alone = torch.tensor([2.0, 5.0], dtype=torch.float64), partial(regular, components=[0, 1], every=2)
    for_sure = partial(combinations, law=partial(alone, noise_std=scale / 10), scale=scale, share=1.0)
    x = torch.randn(500, 8, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * scale
    seen = observe_law(x, for_sure, torch.Generator().manual_seed(0))
    expected = seen.operator(x)
    # A rotation of what is in units of its spread: its size stays, and each is a sum of both.
    torch.testing.assert_close(expected.square().sum(-1), (x / scale).square().sum(-1))
    assert not torch.allclose(expected, x / scale)
    error = (seen.value - expected)[seen.seen]
    assert float(error.std()) == pytest.approx(0.1, rel=5 * (2 * len(error)) ** -0.5)
    law, generator = partial(for_sure, share=0.25), torch.Generator().manual_seed(2)
    drawn = sum(not observe_law(x[:1], law, generator).direct for _ in range(400))
    assert drawn == pytest.approx(100, abs=5 * (400 * 0.25 * 0.75) ** 0.5)


def test_combinations_of_what_an_operator_sees_are_refused_in_every_batch():
    def summed(shape, generator):
        seen = torch.ones(*shape[:2], 1, dtype=torch.bool)
        return seen, torch.ones(seen.shape, dtype=torch.float64), lambda x: x.sum(-1, keepdim=True)

    for seed in range(4):  # of which some batches would combine and some would not
        with pytest.raises(ValueError, match="an operator of its own"):
            combinations((2, 3, 3), torch.Generator().manual_seed(seed), law=summed, scale=torch.ones(3).double())


def test_an_operator_without_a_value_where_the_law_sees_is_refused():
    def rooted(shape, generator):
        seen = torch.ones(shape, dtype=torch.bool)
        return seen, torch.ones(shape, dtype=torch.float64), lambda x: x.sqrt()

    x = torch.ones(2, 3, 2, dtype=torch.float64)
    assert observe_law(x, rooted, torch.Generator().manual_seed(0)).value.isfinite().all()
    with pytest.raises(ValueError, match="NaN or infinite at 12 of 12 places"):
        observe_law(-x, rooted, torch.Generator().manual_seed(0))


SCALE = torch.ones(2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (partial(combinations, scale=SCALE), r"nk.combinations lacks \['law'\]"),
        (partial(combinations, law=mixture, scale=SCALE), r"nk.mixture lacks \['scale'\]"),
        (partial(regular, components=[0]), r"nk.regular lacks \['every', 'noise_std'\].*every=..., noise_std=..."),
        (partial(mixture, scale=SCALE, spacings=(2, 3)), r"does not have, \['spacings'\]\. It has \['shape'"),
        (partial(mixture, 1, 2, 3), r"given wrong ones: too many positional arguments\. It has \['shape'"),
        (partial(max, default=1), r"law=max is a built-in function, and a law is one of a shape"),
        (partial(either, law=law, other=mixture, share=0.5), r"nk.mixture lacks \['scale'\]"),
        (lambda shape: shape, r"called with a shape \(B, T, n\) and a generator.*too many positional arguments"),
    ],
)
def test_a_law_that_lacks_arguments_is_refused_in_words(wrong, said):
    with pytest.raises(ValueError, match=said):
        train(small_prior(), fixed(WINDOWS), wrong, SMALL, progress=False)


@pytest.mark.parametrize(
    "wrong",
    [
        mixture,
        combinations,
        partial(combinations, scale=torch.ones(3, dtype=torch.float64), share=0.25),
        partial(combinations, law=law),
    ],
)
def test_the_line_that_a_law_is_told_works_as_it_is(wrong):
    prior = small_prior()
    with pytest.raises(ValueError, match="lacks") as error:
        train(prior, fixed(WINDOWS), wrong, SMALL, progress=False)
    line = str(error.value).split("give law=")[1].rstrip(".")
    found = eval(line, {"functools": functools, "nk": nk, "prior": prior, "law": law})
    assert (
        found.func is wrong
        or found.keywords.items() >= {name: value for name, value in wrong.keywords.items() if name != "scale"}.items()
    )
    assert train(prior, fixed(WINDOWS), found, SMALL, progress=False)["loss"].notnull().all()


SPREAD = torch.tensor([8.0, 9.0, 8.6], dtype=torch.float64)
NAN = float("nan")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (partial(mixture, scale=SPREAD * NAN), "scale=.*must be 3 positive, finite numbers.*prior.climatology.spread"),
        (partial(mixture, scale=-SPREAD), "scale=.*must be 3 positive, finite"),
        (partial(mixture, scale=1.0), "scale=1.0 must be 3 positive, finite"),
        (partial(mixture, scale=SPREAD[:2]), "scale=.*must be 3 positive, finite"),
        (partial(mixture, scale=SPREAD, noise=(-0.2, -0.02)), r"noise=\(-0.2, -0.02\) must be two positive"),
        (partial(mixture, scale=SPREAD, noise=(0.2, 0.02)), "the least first"),
        (partial(mixture, scale=SPREAD, noise=0.2), "noise=0.2 must be two positive"),
        (partial(mixture, scale=SPREAD, spacing=(0, 2)), "spacing=0 must be a whole number"),
        (partial(mixture, scale=SPREAD, count=(4, 2)), "count=.*the least and the most"),
        (partial(mixture, scale=SPREAD, least=4), "least=4 must be a whole number from 1 to 3"),
        (partial(regular, components=[0], every=4, noise_std=NAN), "noise_std=nan must be a number or 3 of them"),
        (partial(regular, components=[0], every=4, noise_std=SPREAD[:2]), "noise_std=.* must be a number or 3"),
        (partial(regular, components=[5], every=4, noise_std=0.1), r"components=\[5\] must be .* from 0 to 2.*\[0\]"),
        (partial(regular, components=[], every=4, noise_std=0.1), "one or more of the 3 components"),
        (partial(regular, components=[0], every=0, noise_std=0.1), "every=0 must be a whole number of at least 1"),
        (partial(combinations, law=law, scale=-SPREAD), "nk.combinations fails: scale=.*must be 3 positive"),
        (partial(combinations, law=lambda shape, generator: None, scale=SPREAD, share=1.0), "gave a NoneType"),
        (partial(either, law=law, other=law, share=2.0), "share=2.0"),
        (lambda shape, generator: None, "gave a NoneType.*a pair of tensors.*nk.mixture"),
        (lambda shape, generator: (torch.ones(shape),) * 4, "gave 4 things"),
        (lambda shape, generator: shape[5], "fails: IndexError"),
        (lambda shape, generator: (torch.ones(shape), torch.ones(shape)), "where there are values of torch.float32"),
        (lambda shape, generator: (torch.ones(shape) > 0, 0.1), "gave noise_std as a float"),
        (
            lambda shape, generator: (torch.ones(shape) > 0, torch.ones(3)),
            r"and \(3,\) for windows of \(4, 6, 3\).*expand",
        ),
        (lambda shape, generator: (torch.ones(2) > 0, torch.ones(2), torch.sin), r"shapes \(2,\) and \(2,\)"),
        (
            lambda shape, generator: (torch.ones(shape) > 0, 0 * torch.ones(shape)),
            "noise_std=0 where it sees, as 72 errors",
        ),
        (lambda shape, generator: (*law(shape, generator), torch.eye(3)), "an operator that is a Tensor.* H.mT"),
        (lambda shape, generator: (*law(shape, generator), lambda x: x[..., :2]), "operator of 2 values.*says of 3"),
    ],
)
def test_a_law_of_nonsense_is_refused_in_words(wrong, said):
    with pytest.raises(ValueError, match=said):
        train(small_prior(), fixed(WINDOWS), wrong, SMALL, progress=False)


def test_what_a_law_says_of_errors_where_it_does_not_see_does_not_matter():
    def gaps(shape, generator):
        seen, noise_std = law(shape, generator)
        return seen, noise_std.where(seen, NAN)

    some, alike = (observe_law(WINDOWS, each, torch.Generator().manual_seed(0)) for each in (gaps, law))
    torch.testing.assert_close(some.value, alike.value, rtol=0, atol=0, equal_nan=True)
    std = torch.tensor([0.5, NAN, NAN])
    _, noise_std = regular((2, 4, 3), torch.Generator(), components=[0], every=2, noise_std=std)
    assert (noise_std[..., 0] == 0.5).all()


def test_a_prior_is_trained_on_combinations_too():
    prior = small_prior()
    scale = prior.climatology.spread.flatten().double()
    before = weights_of(prior)
    train(prior, fixed(WINDOWS), partial(combinations, law=law, scale=scale, share=1.0), SMALL, progress=False)
    assert weights_of(prior).isfinite().all() and not torch.equal(weights_of(prior), before)


def test_drawn_schedules_fall_from_one_with_every_length():
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_schedule(4, generator) for _ in range(200)]
    assert {len(s) for s in drawn} == {2, 3, 4}
    assert draw_schedule(1, generator) == [1.0]
    assert all(s[0] == 1 and s == sorted(s, reverse=True) and s[-1] > 0 for s in drawn)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"batch": 0},
        {"longest": 0},
        {"rate": 0.0},
        {"rate": float("nan")},
        {"clip": -1.0},
        {"log_score": -1.0},
        {"one_step": 1.5},
        {"look": 0},
        {"patience": 0},
    ],
)
def test_settings_that_cannot_train_are_an_error(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}=.* must be"):
        Settings(**wrong)


def test_a_loss_that_is_not_finite_stops_the_training():
    settings, broken = replace(SMALL, one_step=0.0, longest=1), small_prior()
    torch.nn.init.constant_(broken.outside.maps[0].bias[:3], torch.inf)  # the correction of the mean
    with pytest.raises(ValueError, match=r"loss of batch 0 is nan: lower the rate, now 0.002"):
        run(broken, settings)


def test_windows_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="windows of batch 0 hold NaN or infinite values"):
        run(small_prior(), windows=fixed(WINDOWS.where(WINDOWS < 10, torch.nan)))


def test_a_field_is_trained_on_under_a_mixture_of_laws():
    generator = torch.Generator().manual_seed(0)
    y, x = (a.flatten() for a in torch.meshgrid(torch.arange(4.0), torch.arange(5.0), indexing="ij"))
    root = torch.linalg.cholesky((-0.1 * ((y[:, None] - y) ** 2 + (x[:, None] - x) ** 2)).exp().double())
    windows = torch.randn(400, 3, 20, generator=generator, dtype=torch.float64) @ root.mT
    counts = {"tracks": (3, 6), "random": (3, 6), "lines": (5, 10)}
    mixed = partial(nk.field_mixture, grid=(4, 5), counts=counts, noise_std=(0.1, 0.3))
    prior = NeuralPrior(Climatology.fit(windows), width=8, dilations=(1,))
    held_out = torch.randn(20, 3, 20, generator=generator, dtype=torch.float64) @ root.mT
    history = train(prior, fixed(windows), mixed, SMALL, validation=(held_out, mixed), progress=False)
    assert history["loss"].size == 6 and 0 < history.attrs["interpolation"] < 0.8
    with pytest.raises(ValueError, match=r"functools.partial\(nk.field_mixture, grid=..., counts=..., noise_std=...\)"):
        train(prior, fixed(windows), mixed, SMALL, validation=(held_out, nk.field_mixture), progress=False)
