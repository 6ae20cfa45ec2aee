"""Training the network of a field, tiny."""

from functools import partial

import numpy as np
import pytest
import torch
from drifting import drifting

import nida_kit as nk
from nida_kit.training import ocean
from nida_kit.training.fields import FieldSettings, Interpolated, calibrate, train_field

PAST = torch.from_numpy(drifting(20, 40, seed=0).values).float()
CLIMATE = nk.FieldClimatology.fit(PAST, 8, 60)
LAW = partial(nk.field_mixture, grid=(17, 17), counts={"random": (20, 40)}, noise_std=0.3)
SETTINGS = FieldSettings(regression=6, one=4, several=4, batch=4, drawn=0.5)


def pool(count, seed, past=PAST):
    return Interpolated.of(
        CLIMATE, partial(ocean.windows, past), LAW, count, torch.Generator().manual_seed(seed), alike=4, progress=False
    )


def network():
    torch.manual_seed(0)
    return nk.FieldPrior(CLIMATE, width=8, deep=8, temperatures=3)


def test_what_is_kept_of_windows_is_what_they_were():
    kept = pool(8, seed=1)
    x, observations, start = kept.batch(torch.tensor([5, 2]))
    seen = observations.seen
    assert seen.sum((1, 2)).tolist() == [int(n) for n in (~kept.value[[5, 2]].isnan()).sum((1, 2))]
    off = (observations.value - x)[seen]
    assert 0.25 < off.std() < 0.35
    assert (start.mean - x).square().mean() < 0.5 * x.square().mean()
    again = CLIMATE.given(observations.around(CLIMATE.mean.expand_as(x)))
    torch.testing.assert_close(again.mean, start.mean, rtol=0, atol=0.05)
    torch.testing.assert_close(again.std, start.std, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("fresh", [None, lambda turn: pool(4, seed=100 + turn)], ids=["the same", "renewed"])
def test_training_makes_the_error_smaller_and_goes_on_from_a_checkpoint_bit_for_bit(tmp_path, fresh):
    whole, parts = network(), network()
    more = {"fresh": fresh, "progress": False}
    history = train_field(whole, pool(16, seed=1), SETTINGS, **more)
    assert history.sizes["batch"] == 14
    path = tmp_path / "field.ckpt"

    class Stop(Exception):
        pass

    with pytest.MonkeyPatch.context() as patch:
        real = torch.save

        def save_and_stop(*given):
            real(*given)
            path.with_suffix(".part").replace(path)
            raise Stop

        patch.setattr(torch, "save", save_and_stop)
        with pytest.raises(Stop):
            train_field(parts, pool(16, seed=1), SETTINGS, checkpoint=path, every=9, **more)
    saved, older = torch.load(path), tmp_path / "older.ckpt"
    del saved["prior"]["climate.told"]
    torch.save(saved, older)
    for checkpoint in (path, older):
        train_field(parts, pool(16, seed=1), SETTINGS, checkpoint=checkpoint, every=9, **more)
        for (name, one), other in zip(whole.state_dict().items(), parts.state_dict().values(), strict=True):
            assert torch.equal(one, other), name
        parts = network()
    with pytest.raises(ValueError, match="another training"):
        train_field(network(), pool(16, seed=1), FieldSettings(regression=1), checkpoint=path, progress=False)


def test_fresh_windows_take_the_place_of_the_oldest():
    windows, others = pool(8, seed=1), [pool(4, seed=s) for s in (5, 6, 7)]
    for turn, fresh in enumerate(others):
        windows.renew(fresh, turn)
    for name in ("x", "value", "noise_std", "guess", "std"):
        expected = torch.cat([getattr(others[2], name), getattr(others[1], name)])
        torch.testing.assert_close(getattr(windows, name), expected, rtol=0, atol=0, equal_nan=True)


def test_a_longer_training_learns():
    windows, settings = pool(64, seed=2), FieldSettings(regression=150, one=0, several=0, batch=8, rate=3e-3)
    history = train_field(network(), windows, settings, progress=False)
    assert history["ratio"][-15:].mean() < 0.985 * history["ratio"][:3].mean()


def test_calibrated_intervals_cover():
    held_out = pool(16, seed=3, past=torch.from_numpy(drifting(4, 40, seed=9).values).float())
    prior = network().eval()
    wider = calibrate(prior, held_out)
    assert wider == pytest.approx(float(prior.wider))
    method = nk.NeuralIncremental(prior, nk.QuasiGeostrophic(cells=17).labels, 5.0)
    assert len(method.temperatures) == 3
    truth = drifting(6, 8, seed=11)
    seen = np.random.default_rng(0).random(truth.shape) < 0.1
    obs = nk.observe(truth, noise_std=0.3, seed=2).assign(value=lambda ds: ds["value"].where(seen))
    result = method.assimilate(obs)
    assert 0.8 < float(nk.coverage(result["mean"], result["std"], truth)) < 0.97


def test_the_recipe_of_the_ocean_runs_from_end_to_end(tmp_path):
    settings = FieldSettings(regression=2, one=1, several=1, batch=2)
    ocean.make(
        tmp_path / "ocean.ckpt",
        tmp_path,
        33,
        trajectories=4,
        length=32,
        modes=20,
        radius=None,
        pool=8,
        settings=settings,
        width=8,
        deep=8,
    )
    method = nk.NeuralIncremental.pretrained(tmp_path / "ocean.safetensors")
    assert method.labels == nk.QuasiGeostrophic(cells=33).labels
    assert method.prior.wider > 0


def test_half_of_its_laws_are_as_published():
    seen, noise_std = ocean.law(6.0)((400, 8, 65 * 65), torch.Generator().manual_seed(0))
    count = seen.sum(-1).float().mean(1)
    usual = (noise_std[:, 0, 0] - 0.6).abs() < 1e-9
    assert 0.4 < usual.float().mean() < 0.6
    assert ((count[usual] - 75).abs() < 2).float().mean() == pytest.approx(2 / 3, abs=0.1)
    assert ((count[usual] - 30).abs() < 2).float().mean() == pytest.approx(1 / 3, abs=0.1)
    assert noise_std.min() >= 0.3 - 1e-9 and noise_std.max() <= 1.2 + 1e-9


def test_windows_of_another_recipe_are_not_taken(tmp_path):
    settings = FieldSettings(regression=1, one=0, several=0, batch=2)
    small = {"trajectories": 4, "length": 32, "modes": 20, "settings": settings, "width": 8, "deep": 8}
    ocean.make(tmp_path / "ocean.ckpt", tmp_path, 33, pool=8, **small)
    with pytest.raises(ValueError, match="belongs to another training"):
        ocean.make(tmp_path / "ocean.ckpt", tmp_path, 33, pool=16, **small)


def test_what_cannot_be_trained_or_read_is_refused(tmp_path):
    with pytest.raises(ValueError, match="all 0"):
        FieldSettings(regression=0, one=0, several=0)
    with pytest.raises(ValueError, match="no multiple of alike=4"):
        pool(10, seed=1)
    (tmp_path / "broken.ckpt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="damaged or no checkpoint"):
        train_field(network(), pool(4, seed=1), SETTINGS, checkpoint=tmp_path / "broken.ckpt", progress=False)


def test_windows_are_kept_in_any_unit():
    far = 101_325 + 1e3 * PAST  # Pa, beyond what half precision holds
    climate = nk.FieldClimatology.fit(far, 8, 60)
    law = partial(nk.field_mixture, grid=(17, 17), counts={"random": (20, 40)}, noise_std=300.0)
    generator = torch.Generator().manual_seed(1)
    kept = Interpolated.of(climate, partial(windows_of, far), law, 4, generator, alike=4, progress=False)
    x, observations, start = kept.batch(torch.arange(4))
    assert (x - 101_325).std() == pytest.approx(1e3 * float(PAST.std()), rel=0.3)
    assert 200 < (observations.value - x)[observations.seen].std() < 400
    assert (start.mean - x).square().mean() < 0.5 * (x - climate.mean).square().mean()


def windows_of(records, count, generator):
    """Windows without mirror images, which fields of such a mean have not."""
    return records[torch.randint(len(records), (count,), generator=generator), :8].flatten(2)
