"""What users give is asked in one place: numpy's numbers serve everywhere, and all errors are ValueErrors."""

import json
import math
from fractions import Fraction
from functools import partial
from inspect import unwrap

import numpy as np
import pytest
import torch
from numpy import float32, int64

import nida_kit as nk
from nida_kit import checks, experiment
from nida_kit.lab.line import LineLab
from nida_kit.lab.simulated import LabModel
from nida_kit.line import LineParameters
from nida_kit.methods.starts import Search
from nida_kit.setups import Cycling, Score, Setup

L63, L96 = nk.Lorenz63(), nk.Lorenz96(sites=6)
EYE = np.eye(3)


class Odd:
    """Nothing that anything asks for."""

    def __repr__(self):
        return "odd"


# Each question by itself

NO_NUMBERS = [None, "1", True, np.True_, 1j, [1], (), {}, Odd(), int, math.nan, np.float32("nan")]
NOT_FINITE = [math.inf, -math.inf, np.float64("inf"), 10**400]
QUESTIONS = {
    "count": (partial(checks.count, "x", least=2), [2, 2**63 - 1, np.int8(3), np.uint64(2)]),
    "count within": (partial(checks.count, "x", least=2, most=3), [2, np.int64(3)]),
    "seed": (lambda x: checks.seed(x), [0, 2**63 - 1, np.uint8(7)]),
    "finite": (partial(checks.finite, "x"), [-1, 0.5, np.float32(2), np.int64(-3), Fraction(1, 2)]),
    "number": (partial(checks.number, "x"), [0, 0.5, np.float16(2), np.int64(3)]),
    "positive": (partial(checks.positive, "x"), [1, 1e-300, np.float32(2), np.int64(3)]),
    "within": (partial(checks.within, "x", low=-1, high=2), [-1, 2, np.float64(0.5)]),
    "share": (partial(checks.share, "x"), [0, 1, np.float32(0.5), np.int64(1)]),
}
BEYOND = {
    "count": [1, -1, 2**63, 2**70, np.int64(1), 2.0, np.float64(3.0), Fraction(2, 1)],
    "count within": [1, 4, np.int64(4), 2.0],
    "seed": [-1, 2**63, np.uint64(2**63), 0.0],
    "number": [-1, np.float32(-1e-9)],
    "positive": [0, -1, np.float64(0.0), Fraction(1, 10**400)],
    "within": [-1.01, 2.01],
    "share": [-0.1, 1.1],
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_answer_is_the_plain_number_whatever_kind_came(question):
    ask, good = QUESTIONS[question]
    for value in good:
        assert ask(value) == value and type(ask(value)) in (int, float)


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_is_no_answer_is_a_value_error_that_names_it(question):
    ask, _ = QUESTIONS[question]
    for value in [*NO_NUMBERS, *NOT_FINITE, *BEYOND.get(question, [])]:
        with pytest.raises(ValueError, match=r"^(x|seed)=.* must be .*\. \S+"):
            ask(value)


@pytest.mark.parametrize("ask", [partial(checks.noise, shape=(3,)), partial(checks.vector, "mean", shape=(3,))])
def test_one_number_or_one_for_each_component_makes_a_vector(ask):
    for value in (0.5, np.float32(0.5), [0.5] * 3, (0.5, 0.5, 0.5), np.full(3, 0.5, ">f4"), torch.full((3,), 0.5)):
        found = ask(value)
        assert found.dtype == torch.float64 and found.tolist() == [0.5] * 3
    assert ask(np.arange(3)).tolist() == [0, 1, 2]
    for value in (*NO_NUMBERS, [0.5] * 2, [[0.5] * 3], [0.5, True, 0.5], [0.5, "a", 1], [1, [2], 3], math.inf):
        with pytest.raises(ValueError, match=r"=.* must be a number or 3 of them, one per component, finite"):
            ask(value)


def test_standard_deviations_are_not_negative_and_are_called_by_their_name():
    with pytest.raises(ValueError, match=r"^model_noise_std=-1 must be .* finite and not negative"):
        checks.noise(-1, (3,))
    with pytest.raises(ValueError, match=r"^start_std="):
        checks.noise([1, 1, -1e-9], (3,), "start_std")
    assert checks.vector("mean", [-1, 0, 1], (3,)).tolist() == [-1, 0, 1]


def test_what_a_field_is_given_may_have_its_shape_and_becomes_a_vector():
    grid = np.arange(1.0, 7).reshape(2, 3)
    for value in (grid, grid.ravel(), torch.from_numpy(grid)):
        assert checks.spread(value, (2, 3), "std").tolist() == [1, 2, 3, 4, 5, 6]
    assert checks.spread(2, (2, 3), "std").tolist() == [2] * 6
    for value in (grid.T, grid[0], -grid, 0 * grid):
        with pytest.raises(ValueError, match=r"^std=.* or an array \(2, 3\) finite and positive"):
            checks.spread(value, (2, 3), "std")


@pytest.mark.parametrize(
    ("matrix", "why"),
    [
        (EYE * np.nan, "holds NaN or infinite"),
        (EYE + np.triu(EYE[::-1], 1), r"is not symmetric: \[0, 2\] is 1 and \[2, 0\] is 0"),
        (np.diag([1.0, -0.5, 2.0]), "is not positive definite: its lowest eigenvalue is -0.5"),
    ],
)
def test_why_a_matrix_is_no_covariance_is_said(matrix, why):
    with pytest.raises(ValueError, match=f"It {why}"):
        checks.covariance(matrix, (3,))


def test_the_gradient_of_a_vector_is_kept():
    std = torch.tensor(0.5, requires_grad=True)
    checks.noise(std, (3,)).sum().backward()
    assert std.grad == 3


def test_a_covariance_is_symmetric_and_positive_definite():
    for value in (EYE, EYE.astype(int), EYE.tolist(), torch.eye(3, dtype=torch.float32)):
        assert torch.equal(checks.covariance(value, (3,)), torch.eye(3, dtype=torch.float64))
    skew = EYE + np.triu(EYE[::-1], 1)
    wrong = [EYE[:2], EYE[:2, :2], EYE * np.nan, EYE * np.inf, -EYE, np.ones((3, 3)), skew, EYE.astype(bool), EYE * 1j]
    for value in [*wrong, [[1, 0, 0], [0, 1], [0]], 1.0, *NO_NUMBERS]:
        with pytest.raises(ValueError, match=r"^background=.* must be a matrix \(3, 3\)"):
            checks.covariance(value, (3,), "background")


def test_true_and_false_are_kept_apart_from_numbers_and_names():
    assert checks.flag("x", np.True_) is True and checks.flag("x", False) is False
    for value in (0, 1, 1.0, "no", None, [True]):
        with pytest.raises(ValueError, match=r"^x=.* must be True or False"):
            checks.flag("x", value)


def test_a_name_is_one_of_those_that_there_are():
    assert type(checks.one_of("x", np.str_("a"), ("a", "b"))) is str
    for value in ("c", "", "A", None, 1, ["a"], {}, np.array(["a"])):
        with pytest.raises(ValueError, match=r"^x=.* must be one of \['a', 'b'\]\. Take b\."):
            checks.one_of("x", value, {"a": 1, "b": 2}, "Take b.")
    assert checks.names("x", np.array(["a", "b"])) == ("a", "b") == checks.names("x", iter("ab"))
    for value in ("ab", None, 3, [1], np.array("a"), torch.tensor(1.0)):
        with pytest.raises(ValueError, match=r"^x=.* must be a list"):
            checks.names("x", value)
    with pytest.raises(ValueError, match=r"no colours \['c'\]; there are \['a', 'b'\]"):
        checks.known("colours", "abc", ["a", "b"])


def test_what_came_is_shown_short():
    with pytest.raises(ValueError) as error:
        checks.count("x", "long" * 1000, 1)
    assert len(str(error.value)) < 300


# Every constructor

WHOLE = [2.5, np.float64(2.0), "3", True, np.True_, math.nan, math.inf, -1, 2**70, [3], 1j, Odd()]
NUMBER = ["a", True, np.True_, math.nan, math.inf, 10**400, 1j, [1.0], Odd()]
NOT_NEGATIVE = [*NUMBER, -1.0, np.float32(-1)]
POSITIVE = [*NOT_NEGATIVE, 0.0, np.int64(0)]
SHARE = [*NOT_NEGATIVE, 1.5]
STD = ["a", True, math.nan, math.inf, -1.0, [0.1] * 5, [0.1, True, 0.1], 1j, Odd(), {}]
MEAN = [x for x in STD if x != -1.0]
COVARIANCE = ["a", 1.0, EYE[:2], EYE * np.nan, -EYE, np.ones((3, 3)), EYE + 1j, Odd()]
FLAG = [0, 1, "no", None, Odd()]
NAME = ["moon", 3, None, ["a"], Odd()]
NAMES = ["ab", 3, [1], Odd()]
SYSTEM = ["lorenz63", nk.Lorenz63, None, Odd()]
METHOD = ["EnKF", nk.EnKF, None, 3, Odd()]

ENSEMBLE = {"system": SYSTEM, "members": [*WHOLE, 1, None], "inflation": POSITIVE, "seed": [*WHOLE, None]}
ENSEMBLE |= {"dtype": ["float32", torch.float16, torch.int64, None]}
SEARCH = {"iterations": [*WHOLE, 0, None], "damping": NOT_NEGATIVE, "starts": [*WHOLE, 0, None], "seed": [*WHOLE, None]}
PHYSICAL = {"system": SYSTEM, "model_noise_std": [*STD, None, 0.0], "start_mean": MEAN, "start_std": [*STD, 0.0]}
PARTICLES = {"system": SYSTEM, "particles": [*WHOLE, 1, None], "seed": [*WHOLE, None]}
CLIMATOLOGY = nk.Climatology.fit(torch.randn(40, 3, 3, generator=torch.Generator().manual_seed(0)).double(), order=1)
RING = nk.Climatology.fit(
    torch.cat([w.roll(k, -1) for k in range(6) for w in [torch.randn(60, 3, 6, generator=torch.Generator())]]).double(),
    order=0,
)


def plain(kind, *args, **how):
    """An object of a class, without the types that the tests put around its constructor."""
    made = kind.__new__(kind)
    unwrap(kind.__init__)(made, *args, **how)
    return made


def setup(**changes):
    base = {"name": "a", "system": L63, "steps": 8, "dt": 0.05, "model_noise_std": 0.1, "noise_std": 0.4}
    rest = {"noise_unit": lambda spread: 1.0, "law": {"every": 2}, "source": "here", "climate": 10}
    return Setup(**(base | rest | changes))


def cycled(**changes):
    base = {"name": "a", "system": L63, "dt": 0.05, "every": 2, "noise_std": 0.4, "burn_in": 1.0, "source": "here"}
    return Cycling(**(base | changes))


def with_(kind, **usual):
    """Makes one of a class, with some of its arguments changed."""
    return lambda **changes: kind(**(usual | changes))


MAKERS = {
    "EnKF": (
        with_(nk.EnKF, system=L63),
        ENSEMBLE | {"model_noise_std": [*STD, None], "perturbed": FLAG, "finite_size": FLAG, "hyperprior": POSITIVE},
    ),
    "EnKS": (
        with_(nk.EnKS, system=L63),
        ENSEMBLE | {"model_noise_std": [*STD, None], "perturbed": FLAG, "finite_size": FLAG, "lag": WHOLE},
    ),
    "LETKF": (
        with_(nk.LETKF, system=L96),
        ENSEMBLE
        | {"model_noise_std": [*STD, None], "radius": POSITIVE, "block": [*WHOLE, 0, 2], "finite_size": FLAG}
        | {"distances": ["a", 1.0, EYE, -np.ones((6, 6)), np.full((6, 6), np.nan), 1j, Odd()]},
    ),
    "IEnKS": (
        with_(nk.IEnKS, system=L63),
        ENSEMBLE | {"lag": [*WHOLE, 0], "iterations": [*WHOLE, 0, None], "tolerance": POSITIVE},
    ),
    "ThreeDVar": (with_(nk.ThreeDVar, system=L63, background=EYE), {"system": SYSTEM, "background": COVARIANCE}),
    "ExtendedKalmanFilter": (
        with_(nk.ExtendedKalmanFilter, system=L63),
        {"system": SYSTEM, "model_noise_std": [*STD, None], "inflation": POSITIVE},
    ),
    "ParticleFilter": (
        with_(nk.ParticleFilter, system=L63),
        PARTICLES | {"model_noise_std": [*STD, None], "jitter": NOT_NEGATIVE, "resample_below": SHARE},
    ),
    "ParticleSmoother": (
        with_(nk.ParticleSmoother, system=L63, model_noise_std=0.1),
        PARTICLES | {"model_noise_std": [*STD, 0.0], "draws": [*WHOLE, 1], "repeats": [*WHOLE, 0]},
    ),
    "ImportanceSampler": (
        with_(nk.ImportanceSampler, system=L63),
        PARTICLES | {"kernels": [*WHOLE, 0], "rounds": [*WHOLE, 0]},
    ),
    "KalmanSmoother": (with_(nk.KalmanSmoother, system=L63, model_noise_std=0.1), PHYSICAL),
    "WeakFourDVar": (
        with_(nk.WeakFourDVar, system=L63, model_noise_std=0.1),
        PHYSICAL | SEARCH | {"tolerance": NOT_NEGATIVE},
    ),
    "StrongFourDVar": (
        with_(nk.StrongFourDVar, system=L63),
        SEARCH | {"system": SYSTEM, "background": COVARIANCE, "lag": [*WHOLE, 0], "tolerance": POSITIVE},
    ),
    "Search": (
        with_(Search, iterations=3, damping=0.0, tolerance=0.0, starts=1, seed=0),
        SEARCH | {"tolerance": NOT_NEGATIVE},
    ),
    "Chain": (nk.Chain, {"methods": [*METHOD, [], ["EnKF"]]}),
    "QuasiStatic": (with_(nk.QuasiStatic, method=nk.EnKF(L63)), {"method": METHOD, "pieces": [*WHOLE, 0, None]}),
    "OptimalInterpolation": (
        with_(nk.OptimalInterpolation, climatology=CLIMATOLOGY, labels=L63.labels, dt=0.1),
        {"climatology": NAME, "labels": [*NAME, L96.labels], "dt": [*POSITIVE, None]},
    ),
    "NeuralIncremental": (
        with_(nk.NeuralIncremental, prior=nk.NeuralPrior(CLIMATOLOGY, width=4), labels=L63.labels, dt=0.1),
        {"prior": NAME, "labels": [*NAME, L96.labels], "dt": [*POSITIVE, None], "schedule": [None, "linear", 3]}
        | {"temperatures": [0, True, 2.5, "4", [], [0.5, 1.0], [1.0, math.nan], [True, 0], Odd(), [[1.0]]]},
    ),
    "NeuralIncremental.pretrained": (
        with_(nk.NeuralIncremental.pretrained, name="pendulum"),
        {"name": ["moon"], "labels": ["moon", 3, Odd()], "temperatures": [0, "4"]},
    ),
    "Settings": (
        nk.Settings,
        {name: [*WHOLE, 0, None] for name in ("steps", "batch", "longest")}
        | {"rate": POSITIVE, "clip": POSITIVE, "one_step": SHARE, "log_score": NOT_NEGATIVE, "decay": NOT_NEGATIVE}
        | {"seed": [*WHOLE, None]},
    ),
    "simulated": (
        with_(nk.simulated, system=L63, steps=4, dt=0.1),
        {"system": SYSTEM, "steps": [*WHOLE, 0], "dt": POSITIVE, "model_noise_std": NOT_NEGATIVE}
        | {"latest": WHOLE, "late": SHARE},
    ),
    "train": (
        with_(nk.train, prior=None, windows=print, law=print),
        {"every": [*WHOLE, 0, None], "windows": [None, 3, torch.zeros(2)], "law": [None, "mixture"]},
    ),
    "NeuralPrior": (
        partial(plain, nk.NeuralPrior, CLIMATOLOGY),
        {
            "width": [*WHOLE, 0],
            "order": WHOLE,
            "dilations": [3, "12", [0], [2.5], [True]],
            "anchored": FLAG,
            "odd": [3, [3], [-1], [0.0]],
        },
    ),
    "RingPrior": (
        partial(plain, nk.RingPrior, RING),
        {"width": [*WHOLE, 0], "reach": WHOLE, "dilations": [3, "12", [0], [2.5], [True]]},
    ),
    "PaperPrior": (
        partial(plain, nk.PaperPrior, CLIMATOLOGY, 4),
        {"rank": [*WHOLE, 0], "width": [*WHOLE, 0]},
    ),
    "Climatology.on_ring": (partial(unwrap(nk.Climatology.on_ring), RING), {"sites": [*WHOLE, 0]}),
    "Climatology.fit": (
        partial(unwrap(nk.Climatology.fit.__func__), nk.Climatology, torch.randn(40, 3, 2).double()),
        {"order": [*WHOLE, 3], "shrinkage": [*SHARE, "much", None]},
    ),
    "Card": (lambda dt: plain_card(dt), {"dt": [*POSITIVE, None]}),
    "schedule.linear": (nk.schedule.linear, {"steps": [*WHOLE, 0, None]}),
    "schedule.cosine": (nk.schedule.cosine, {"steps": [*WHOLE, 0, None]}),
    "schedule.geometric": (nk.schedule.geometric, {"steps": [*WHOLE, 0, None]}),
    "Parameters": (
        experiment.Parameters,
        {name: [*WHOLE, 0, None] for name in ("temperatures", "samples")}
        | {name: [*WHOLE, 1, None] for name in ("members", "particles")}
        | {name: [*WHOLE, 0] for name in ("every", "steps")}
        | {name: [*POSITIVE, None] for name in ("noise_std", "inflation", "radius")}
        | {"system": NAME, "schedule": NAME, "method": NAME, "beside": [*NAMES, None, ("moon",), ("neural",)]}
        | {"components": NAMES, "seed": [*WHOLE, None]},
    ),
    "LabModel": (LabModel, {"system": NAME[:2], "beside": NAMES, "noise_std": POSITIVE, "seed": WHOLE}),
    "LineParameters": (
        LineParameters,
        {name: [*NUMBER, 1e3, None] for name in ("prior_mean", "prior_std", "value", "noise_std")} | {"operator": NAME},
    ),
    "LineLab": (LineLab, {"prior_std": POSITIVE, "operator": NAME}),
    "Setup": (
        setup,
        {"steps": [*WHOLE, 0], "climate": [*WHOLE, 1], "dt": POSITIVE, "noise_std": POSITIVE}
        | {"model_noise_std": NOT_NEGATIVE},
    ),
    "Cycling": (
        cycled,
        {name: [*WHOLE, 0, None] for name in ("every", "cycles", "experiments")}
        | {"dt": POSITIVE, "noise_std": POSITIVE, "burn_in": NOT_NEGATIVE, "model_noise_std": NOT_NEGATIVE},
    ),
    "Score": (
        with_(Score, value=0.1, over=3, what="it"),
        {"value": [*NUMBER, None], "over": [*WHOLE, 0], "experiments": [*WHOLE, 0], "tolerance": POSITIVE},
    ),
    "setups.load": (nk.setups.load, {"name": NAME}),
    "setups.run": (
        with_(nk.setups.run, name="blanke2024-lorenz63", method="optimal interpolation"),
        {"name": NAME, "method": [x for x in NAME if x is not None], "samples": [*WHOLE, 0], "seed": WHOLE},
    ),
    "cycles of setups.run": (
        with_(nk.setups.run, name="sakov2012-lorenz63", method="3D-Var"),
        {"cycles": [*WHOLE, 0], "samples": [*WHOLE, 0], "seed": WHOLE},
    ),
    "ablate_temperature": (
        experiment.ablate_temperature,
        {
            "system": NAME,
            "most": [*WHOLE, 0],
            "samples": [*WHOLE, 0],
            "seed": WHOLE,
            "held": [0.5, ["a"], [1.5], [True]],
        },
    ),
}


def plain_card(dt):
    card = nk.Card.__new__(nk.Card)
    for name, value in (("labels", L63.labels), ("dt", dt), ("about", {})):
        object.__setattr__(card, name, value)
    unwrap(nk.Card.__post_init__)(card)
    return card


@pytest.mark.parametrize(("maker", "name"), [(maker, name) for maker in MAKERS for name in MAKERS[maker][1]])
def test_no_constructor_raises_anything_else_than_a_value_error(maker, name):
    make, table = MAKERS[maker]
    for wrong in table[name]:
        try:
            make(**{name: wrong})
        except ValueError as error:
            assert str(error), (name, wrong)
        else:
            pytest.fail(f"{maker}({name}={wrong!r}) is let through")


# numpy's numbers

NUMPY = {
    "EnKF": {
        "system": L63,
        "model_noise_std": float32(0.5),
        "members": int64(6),
        "inflation": float32(1.5),
        "perturbed": np.True_,
    },
    "EnKS": {"system": L63, "lag": np.uint8(2), "members": int64(6), "seed": np.uint32(3), "finite_size": np.False_},
    "LETKF": {"system": L96, "model_noise_std": np.full(6, 0.5), "radius": int64(2), "members": np.int16(6)},
    "IEnKS": {"system": L63, "lag": int64(2), "members": int64(6), "iterations": int64(3), "tolerance": float32(0.5)},
    "ThreeDVar": {"system": L63, "background": EYE.astype(np.float32)},
    "ExtendedKalmanFilter": {"system": L63, "model_noise_std": int64(1), "inflation": int64(1)},
    "ParticleFilter": {"system": L63, "particles": int64(20), "jitter": int64(1), "resample_below": float32(0.5)},
    "ParticleSmoother": {
        "system": L63,
        "model_noise_std": np.ones(3, int),
        "particles": int64(30),
        "draws": int64(5),
        "repeats": int64(2),
    },
    "ImportanceSampler": {"system": L63, "particles": int64(100), "kernels": int64(10), "rounds": int64(3)},
    "KalmanSmoother": {
        "system": L63,
        "model_noise_std": float32(0.5),
        "start_mean": np.zeros(3),
        "start_std": int64(10),
    },
    "WeakFourDVar": {
        "system": L63,
        "model_noise_std": float32(0.5),
        "iterations": int64(3),
        "starts": int64(2),
        "damping": float32(0.5),
    },
    "StrongFourDVar": {
        "system": L63,
        "iterations": int64(3),
        "starts": int64(2),
        "seed": int64(4),
        "tolerance": float32(0.5),
    },
}


@pytest.mark.parametrize("name", NUMPY)
def test_methods_take_numpys_numbers_and_record_plain_ones(name, tmp_path):
    how = NUMPY[name]
    method = getattr(nk, name)(**how)
    json.dumps(method.settings)
    system = how["system"]
    obs = nk.observe(system.simulate(1, 6, 0.05, seed=1), every=2, noise_std=1.0, seed=2)
    result = method.assimilate(obs)
    assert np.isfinite(result["mean"]).all()
    result.to_netcdf(tmp_path / "result.nc")


def test_everything_else_takes_numpys_numbers_too():
    chain = nk.QuasiStatic(nk.WeakFourDVar(L63, 0.5), int64(2))
    assert type(chain.pieces) is int
    settings = nk.Settings(steps=int64(4), batch=np.uint8(3), rate=float32(0.5), one_step=int64(1), seed=np.uint64(5))
    assert (settings.steps, settings.batch, settings.seed) == (4, 3, 5)
    json.dumps(vars(settings))
    p = experiment.Parameters(
        samples=int64(2), seed=int64(3), every=int64(2), noise_std=float32(0.5), components=np.array(["x"])
    )
    assert p.components == ("x",) and np.isfinite(experiment.run(p)["mean"]).all()
    json.dumps(vars(p))
    for prior in (
        nk.NeuralPrior(CLIMATOLOGY, int64(4), [int64(1)], [int64(0)], int64(1)),
        nk.RingPrior(RING, width=int64(4), dilations=np.array([1, 2]), reach=int64(1)),
        nk.PaperPrior(CLIMATOLOGY, int64(3), rank=int64(2), width=int64(4)),
    ):
        json.dumps(prior.settings)
    assert RING.on_ring(int64(4)).mean.shape[-1] == 4 and nk.RingPrior(RING, width=4).on(np.uint8(5)) is not None
    assert nk.Climatology.fit(torch.randn(40, 3, 2).double(), order=int64(1)).mean.shape == (2, 2)
    card = plain_card(float32(0.5))
    assert type(card.dt) is float
    assert setup(steps=int64(4), dt=float32(0.5)).windows(int64(2), seed=int64(1)).shape == (2, 4, 3)
    assert cycled(every=int64(2), cycles=int64(3)).windows(int64(1)).sizes["time"] == 7
    assert LineParameters(value=int64(2), prior_std=float32(1.5)) == LineParameters(value=2.0)
    assert nk.schedule.linear(int64(2)) == [1, 0.5] == nk.schedule.temperatures(np.array([1, 0.5], float32))
    assert nk.setups.run("blanke2024-lorenz63", "optimal interpolation", int64(3), int64(0)).notna().all().all()
    mean, std, truth = (nk.Lorenz63().simulate(3, 4, 0.1, seed=k) for k in range(3))
    assert nk.spread_error(mean, abs(std), truth, bins=int64(2)).sizes["bin"] == 2


def test_a_matrix_that_rounding_made_unsymmetric_is_judged_as_it_is_used():
    almost = [[1, 1 + 5e-7, 0], [1 - 1e-8, 1, 0], [0, 0, 1]]
    with pytest.raises(ValueError, match="not positive definite"):
        checks.covariance(almost, (3,))
