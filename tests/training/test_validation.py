"""Validation changes nothing of a training but its end: which weights are kept, and what is said of them."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

import nida_kit as nk
from nida_kit.observing.laws import regular
from nida_kit.training.train import Settings, fixed, train
from nida_kit.training.validation import Validation

STEPS = 6
WINDOWS = torch.from_numpy(nk.Lorenz63().simulate(samples=230, steps=STEPS, dt=0.1, spinup=20, seed=0).values)
PAST, HELD_OUT = WINDOWS[:200], WINDOWS[200:]
SETTINGS = Settings(steps=12, batch=8, rate=2e-2, longest=3, seed=1, look=2)
CPU = torch.device("cpu")


def law(shape, generator):
    """x at every second step."""
    return regular(shape, generator, components=[0], every=2, noise_std=0.5)


def small_prior():
    torch.manual_seed(0)
    return nk.NeuralPrior(nk.Climatology.fit(PAST), width=8, dilations=(1, 2))


def run(prior, settings=SETTINGS, validation=(HELD_OUT, law), windows=None, **how):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return train(prior, windows or fixed(PAST), law, settings, validation=validation, progress=False, **how)


def weights_of(prior):
    return torch.cat([p.detach().flatten() for p in prior.parameters()])


def error_of(prior, settings=SETTINGS):
    return Validation.of((HELD_OUT, law), prior, settings, CPU).error(prior)


def test_a_training_with_validation_draws_the_same_batches_as_one_without():
    watched, alone = run(small_prior()), run(small_prior(), validation=None)
    assert watched["loss"].equals(alone["loss"]) and watched["mse"].equals(alone["mse"])
    assert "validation" not in alone
    assert watched["after"].values.tolist() == [0, 2, 4, 6, 8, 10, 12]


def test_the_kept_weights_are_those_with_the_smallest_error_bit_for_bit():
    wild = replace(SETTINGS, rate=0.3, steps=20, look=1)
    prior = small_prior()
    history = run(prior, wild)
    best = int(history["validation"].argmin())
    assert 0 < best < 20 and history.attrs["kept_after"] == best
    assert error_of(prior, wild) == history["validation"].values.min() < history["validation"].values[-1]

    class Enough(Exception):
        pass

    def until(batches):
        draw, drawn = fixed(PAST), []

        def windows(batch, generator):
            drawn.append(1)
            if len(drawn) > batches:
                raise Enough
            return draw(batch, generator)

        return windows

    there = small_prior()
    with pytest.raises(Enough):
        run(there, wild, None, until(best))
    assert torch.equal(weights_of(prior), weights_of(there))


@pytest.mark.parametrize("breaks", [3, 7, 11])
@pytest.mark.parametrize("patience", [None, 2])
def test_a_training_that_was_broken_off_keeps_the_same_weights(breaks, patience, tmp_path):
    settings, drawn = replace(SETTINGS, rate=0.2, patience=patience), []

    class Broken(Exception):
        pass

    def breaking(batch, generator):
        drawn.append(1)
        if len(drawn) > breaks:
            raise Broken
        return fixed(PAST)(batch, generator)

    whole, resumed, again = small_prior(), small_prior(), small_prior()
    history = run(whole, settings)
    how = {"checkpoint": tmp_path / "c.ckpt", "every": 3}
    try:
        run(small_prior(), settings, windows=breaking, **how)
    except Broken:
        pass
    else:
        assert patience and history.sizes["batch"] <= breaks
    assert run(resumed, settings, **how).equals(history)
    assert run(again, settings, windows=breaking, **how).equals(history)  # it is over, and draws nothing
    for prior in (resumed, again):
        assert torch.equal(weights_of(prior), weights_of(whole))


def test_patience_ends_a_training_that_no_longer_helps(monkeypatch):
    errors = iter([1.0, 0.8, 0.9, 0.7, 0.75, 0.71, 0.6, 0.5])
    monkeypatch.setattr(Validation, "error", lambda self, prior: next(errors))
    history = run(small_prior(), replace(SETTINGS, steps=100, patience=2))
    assert history["validation"].values.tolist() == [1.0, 0.8, 0.9, 0.7, 0.75, 0.71]
    assert (history.sizes["batch"], history.attrs["kept_after"], history.attrs["patience"]) == (10, 6, 2)


def test_the_last_batch_is_looked_at_too():
    assert run(small_prior(), replace(SETTINGS, steps=5, look=3))["after"].values.tolist() == [0, 3, 5]


def test_optimal_interpolation_is_told_where_it_is_better():
    """On Gaussian windows nothing is better."""
    generator = torch.Generator().manual_seed(0)
    gaussian = torch.randn(800, STEPS, 1, generator=generator, dtype=torch.float64).cumsum(1)
    past, held_out = gaussian[:400], gaussian[400:]

    def half(shape, generator):
        return regular(shape, generator, components=[0], every=2, noise_std=0.1)

    torch.manual_seed(0)
    prior = nk.NeuralPrior(nk.Climatology.fit(past), width=4, dilations=(1,))
    with pytest.warns(UserWarning, match=r"optimal interpolation is .* the trained prior.* Use nk\.Optimal"):
        history = train(prior, fixed(past), half, SETTINGS, validation=(held_out, half), progress=False)
    assert history.attrs["interpolation"] < float(history["validation"].min())


def falling(*errors):
    """In place of the errors that are found, one for each look."""
    left = iter(errors)
    return lambda self, prior: next(left)


def test_nothing_is_said_where_the_prior_is_better(monkeypatch, capsys):
    monkeypatch.setattr(Validation, "error", falling(1e-2, *[1e-3] * 6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history = train(small_prior(), fixed(PAST), law, SETTINGS, validation=(HELD_OUT, law))
    assert "note" not in history.attrs and history.attrs["kept_after"] == 2
    last = capsys.readouterr().err.split("\r")[-1]
    assert "held_out=0.001, interpolation=" in last and "mse=" in last


def test_a_training_without_effect_is_said(monkeypatch):
    """The first weights are kept, or others that are less than 1% better than optimal interpolation."""
    interpolation = Validation.of((HELD_OUT, law), small_prior(), SETTINGS, CPU).interpolation

    def said_of(first, later):
        monkeypatch.setattr(Validation, "error", falling(first, *[later] * 6))
        with pytest.warns(UserWarning) as said:
            history = train(small_prior(), fixed(PAST), law, SETTINGS, validation=(HELD_OUT, law), progress=False)
        note = history.attrs["note"]
        assert note == str(said[0].message)
        assert f"{interpolation**0.5:.4g}" in note and f"{min(first, later) ** 0.5:.4g}" in note
        return note

    unmoved = said_of(interpolation / 2, 1.0)
    assert unmoved.startswith("No batch made") and "nk.OptimalInterpolation" not in unmoved
    for later, better in ((0.995, "as good as"), (1.5, "better than")):
        note = said_of(2 * interpolation, later * interpolation)
        assert note.startswith(f"On the validation windows optimal interpolation is {better} the trained prior")
        assert "Use nk.OptimalInterpolation" in note


def test_the_error_of_interpolation_is_that_of_the_method():
    prior = small_prior()
    found = Validation.of((HELD_OUT, law), prior, SETTINGS, CPU)
    method = nk.OptimalInterpolation(prior.climatology, nk.Lorenz63().labels, 0.1)
    total = 0.0
    for x, observations, _ in found.batches:
        mean = method.reconstruct(observations, 0.1, None).posteriors[-1].mean
        total += float(((mean - x) / prior.climatology.spread).square().sum())
    assert found.interpolation == pytest.approx(total / HELD_OUT.numel(), rel=1e-9)
    assert sum(len(x) for x, _, _ in found.batches) == len(HELD_OUT)


def test_the_seed_and_not_the_batch_size_says_what_is_observed():
    def values(**changes):
        found = Validation.of((HELD_OUT, law), small_prior(), replace(SETTINGS, **changes), CPU)
        return torch.cat([seen.value for _, seen, _ in found.batches]).numpy()

    np.testing.assert_array_equal(values(), values(batch=30))
    assert not np.array_equal(values(), values(seed=2), equal_nan=True)


def test_a_checkpoint_without_the_same_validation_is_another_training(tmp_path):
    run(small_prior(), validation=None, checkpoint=tmp_path / "c.ckpt")
    with pytest.raises(ValueError, match="belongs to another training"):
        run(small_prior(), checkpoint=tmp_path / "c.ckpt")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (HELD_OUT, "must be windows and a law"),
        ((HELD_OUT, "law"), "law='law' must be a function"),
        (
            (HELD_OUT, nk.mixture),
            r"law=nk.mixture lacks \['scale'\].*functools.partial\(nk.mixture, scale=prior.climatology.spread\)",
        ),
        ((HELD_OUT.numpy(), law), r"ndarray, must be a tensor \(N, T, 3\)"),
        ((HELD_OUT[..., :2], law), r"\(30, 6, 2\), must be a tensor \(N, T, 3\)"),
        ((HELD_OUT[:0], law), "of finite values"),
        ((HELD_OUT.where(HELD_OUT > 0, torch.nan), law), "of finite values"),
    ],
)
def test_what_cannot_be_validated_on_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        run(small_prior(), validation=wrong)


def test_who_watches_sees_every_batch_and_can_end_it_with_the_best_weights_so_far(tmp_path):
    seen = []

    def watch(history):
        seen.append(history.sizes["batch"])
        return len(seen) < 5

    whole, prior = run(small_prior()), small_prior()
    history = run(prior, watch=watch, checkpoint=tmp_path / "c.ckpt")
    assert seen == [1, 2, 3, 4, 5] and history["mse"].equals(whole["mse"][:5])
    assert history["after"].values.tolist() == [0, 2, 4, 5]
    assert error_of(prior) == history["validation"].values.min()
    assert run(small_prior(), checkpoint=tmp_path / "c.ckpt")["loss"].equals(whole["loss"])  # it goes on from there
