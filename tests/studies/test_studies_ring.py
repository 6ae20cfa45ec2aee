"""The study of Lorenz-96, small."""

import numpy as np

import nida_kit as nk
from nida_kit.studies import ring


def test_a_ring_of_another_size_is_seen_at_every_second_site():
    setup = ring.ring(12)
    obs = setup.observe(setup.windows(2), seed=1)
    seen = obs["value"].notnull().any(["sample", "time"])
    assert seen["component"][seen].values.tolist() == [f"x{i}" for i in range(0, 12, 2)]
    assert float(obs["noise_std"].max()) == 1.0


def test_the_weights_serve_any_number_of_sites_and_turn_with_them():
    setup = ring.ring(16)
    network, obs = ring.neural(setup), setup.observe(setup.windows(2), seed=1)
    found = network.assimilate(obs)
    turned = obs.assign(value=obs["value"].roll(component=6, roll_coords=False))
    np.testing.assert_allclose(
        network.assimilate(turned)["mean"], found["mean"].roll(component=6, roll_coords=False), atol=1e-4
    )


def test_everyone_takes_part(tmp_path):
    found = ring.measure(2, tmp_path, sizes=(8,), inflations=(1.1,))
    assert {"NIDA", "hybrid", "EnKS", "iEnKS", "LETKF", "weak 4D-Var", "strong 4D-Var"} <= set(found["methods"])
    assert all(np.isfinite(list(row.values())[:3]).all() for row in found["methods"].values())
    assert found["methods"]["LETKF"]["radius"] in ring.RADII
    assert set(found["sites"]) == {"8"} and set(found["sites"]["8"]) == {"NIDA", "optimal interpolation", "weak 4D-Var"}


def test_the_shipped_prior_is_far_better_than_its_first_guess():
    setup = nk.setups.load(ring.LORENZ96)
    truth = setup.windows(8, seed=3)
    obs = setup.observe(truth, seed=4)
    network = ring.neural(setup)
    first = nk.OptimalInterpolation(network.prior.climatology, network.labels, network.dt)
    error, guess = (setup.score(m.assimilate(obs)["mean"], truth) for m in (network, first))
    assert error < 0.06 < 0.3 < guess
