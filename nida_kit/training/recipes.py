"""How each shipped prior is made: its windows, observation laws, network and settings, one `Recipe` each.

`python -m nida_kit.pretrained lorenz63 --checkpoint lorenz63.ckpt` trains, scores and saves one. The windows that its
card is scored on come from a seed of their own, which no training uses.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit import setups
from nida_kit.methods.interpolation import OptimalInterpolation
from nida_kit.methods.method import Method
from nida_kit.methods.neural import NeuralIncremental
from nida_kit.observing.laws import Law, combinations, either, mixture, regular
from nida_kit.priors.climatology import Climatology
from nida_kit.priors.paper import Network, PaperPrior
from nida_kit.priors.parts import Seeded
from nida_kit.priors.ring import RingPrior
from nida_kit.priors.temporal import NeuralPrior
from nida_kit.priors.weights import Card, save
from nida_kit.systems.lorenz import Lorenz63
from nida_kit.systems.system import System
from nida_kit.training.train import Settings, Windows, fixed, simulated, train

SAMPLES, SEED = 1000, 20241  # of the windows that the card is scored on; no training seed comes near


@dataclass(frozen=True)
class Refinement:
    """A further training, which goes on from the one before.

    Attributes:
        settings: of the training.
        late: share of late windows.
        own: share of windows that the setup's own law observes.
        combined: share of batches that see linear combinations of the components.
    """

    settings: Settings
    late: float = 0.2
    own: float = 0.0
    combined: float = 0.0


def itself(x: Float[Tensor, "N T n"]) -> list[Tensor]:
    """No symmetry."""
    return [x]


def mirrored(x: Float[Tensor, "N T n"]) -> list[Tensor]:
    """The first two components change sign in the mirror, as of Lorenz-63 and the pendulum."""
    return [x, x * torch.tensor([-1.0 if i < 2 else 1.0 for i in range(x.shape[-1])]).to(x)]


def around_the_ring(x: Float[Tensor, "N T n"]) -> list[Tensor]:
    """Every site takes the first place once."""
    return [x.roll(k, -1) for k in range(x.shape[-1])]


@dataclass(frozen=True)
class Recipe:
    """How a shipped prior is made.

    Attributes:
        setup: gives system, window and the law it is scored on.
        settings: of the training.
        network: keywords of the network.
        law: keywords of the mixture of observation laws that it is trained on; None is the setup's own law alone.
        order: of the climatology; None is the full covariance of a window.
        latest: windows start up to this many steps after their trajectory.
        kind: of network.
        budget: windows that there are, for ever the same; None is fresh ones for every batch.
        refinements: further trainings.
        images: of windows that are as likely as the windows themselves; the climatology counts them all.
        climate: windows of its climatology.
        system: that is simulated; None is the setup's own. Another one is a wrong belief about what it is scored on.
    """

    setup: str
    settings: Settings
    network: dict
    law: dict | None = None
    order: int | None = None
    latest: int = 0
    kind: type[Network] = NeuralPrior
    budget: int | None = None
    refinements: tuple[Refinement, ...] = ()
    images: Callable[[Tensor], list[Tensor]] = itself
    climate: int = 10_000
    system: System | None = None

    def windows(self, late: float = 0.5) -> Windows:
        """What it is trained on; the share `late` starts up to `latest` steps after its trajectory."""
        setup = setups.load(self.setup)
        if self.budget is not None:
            return fixed(self._all())
        return simulated(self.system or setup.system, setup.steps, setup.dt, setup.model_noise_std, self.latest, late)

    def _all(self) -> Tensor:
        """The budget's windows."""
        return torch.from_numpy(setups.load(self.setup).windows(self.budget, seed=1).values)

    def observing(self, prior: Network, own: float = 0.0, combined: float = 0.0) -> Law:
        """How that is observed: the share `own` by the setup's own law; of batches, the share `combined` in sums."""
        if self.law is None:
            return self._law_of_setup()
        law = partial(mixture, scale=prior.climatology.spread, **self.law)
        if own:
            law = partial(either, law=self._law_of_setup(), other=law, share=own)
        if combined:
            law = partial(combinations, law=law, scale=prior.climatology.spread.flatten().double(), share=combined)
        return law

    def _law_of_setup(self) -> Law:
        setup = setups.load(self.setup)
        components = [setup.system.labels.components.index(c) for c in setup.law["components"]]
        noise_std = torch.as_tensor(setup.noise if isinstance(setup.noise, float) else setup.noise.values)
        return partial(regular, components=components, every=setup.law["every"], noise_std=noise_std)

    def begin(self) -> Network:
        """The untrained network, around the climatology of fresh windows, or of the budget's."""
        generator = torch.Generator().manual_seed(self.settings.seed)
        x = self._all() if self.budget else self.windows()(self.climate, generator)
        climatology = Climatology.fit(torch.cat(self.images(x)), self.order)
        with Seeded(self.settings.seed):
            return self.kind(climatology, **self.network)


_LORENZ63 = Recipe(
    "blanke2024-lorenz63",
    Settings(steps=10_000, batch=64, rate=5e-3, log_score=0.1),
    {"width": 96, "dilations": (1, 2, 4, 8, 1, 2), "odd": (0, 1)},
    law={"noise": (0.02, 0.2), "spacing": (2, 12), "count": (4, 20)},
    order=4,
    latest=16,
    images=mirrored,
    refinements=(
        Refinement(Settings(steps=4500, batch=64, rate=2.5e-3, log_score=0.1, seed=1)),
        Refinement(Settings(steps=12_000, batch=64, rate=3e-3, log_score=0.1, seed=2), own=0.3),
        Refinement(Settings(steps=12_000, batch=64, rate=3e-3, log_score=0.1, seed=3), own=0.3, combined=0.4),
    ),
)


# Ten minutes on two cores, and faster to use.
_SMALL = replace(
    _LORENZ63,
    network=_LORENZ63.network | {"width": 48},
    settings=replace(_LORENZ63.settings, steps=1500),
    refinements=(),
)


RECIPES = {
    "lorenz63": _LORENZ63,
    "lorenz63_small": _SMALL,
    # The same training in a world whose rho is a fifth too low: what wrong physics does, and haste does not.
    "lorenz63_rho22": replace(_SMALL, system=Lorenz63(rho=22.4)),
    # Network, law, 1,800 windows and 300 epochs of Blanke et al. (2024), through two unrolled steps.
    "lorenz63_paper": Recipe(
        "blanke2024-lorenz63",
        Settings(steps=300 * 1800 // 128, batch=128, one_step=0.0, longest=2, log_score=0.0, decay=0.0),
        {"steps": 32},
        kind=PaperPrior,
        budget=1800,
    ),
    "pendulum": Recipe(
        "blanke2024-pendulum",
        Settings(steps=2000, batch=32, rate=5e-3, log_score=0.1),
        {"width": 64, "dilations": (1, 2, 4, 8, 16, 4, 1), "odd": (0, 1)},
        law={"noise": (1e-3, 0.7), "spacing": (5, 50), "count": (4, 20)},
        order=1,
        latest=40,
        images=mirrored,
        refinements=(
            Refinement(Settings(steps=3000, batch=32, rate=3e-3, log_score=0.1, seed=1), own=0.15),
            Refinement(Settings(steps=6000, batch=32, rate=3e-3, log_score=0.3, seed=2), own=0.15),
        ),
    ),
    "lorenz96": Recipe(
        "half-lorenz96",
        Settings(steps=2000, batch=8, rate=4e-3, one_step=0.1, longest=4, log_score=0.1),
        {"width": 48, "dilations": (1, 2, 4, 1, 2)},
        law={"noise": (0.05, 0.5), "spacing": (1, 8), "count": (80, 400), "least": 20},
        order=2,
        kind=RingPrior,
        refinements=(
            Refinement(
                Settings(steps=1500, batch=8, rate=3e-3, one_step=0.1, longest=4, log_score=0.1, seed=1), own=0.3
            ),
        ),
        images=around_the_ring,
        climate=250,
    ),
}


def make(name: str, checkpoint: Path | None, out: Path, device: str) -> None:
    """Train one shipped prior and write it to `out` with its card."""
    recipe = RECIPES[name]
    setup = setups.load(recipe.setup)
    prior = recipe.begin()
    law = recipe.observing(prior)
    history = train(prior, recipe.windows(), law, recipe.settings, device=device, checkpoint=checkpoint)
    seconds = history.attrs["seconds"]
    for i, more in enumerate(recipe.refinements, 1):
        path = checkpoint and checkpoint.with_name(f"{checkpoint.stem}_{i}{checkpoint.suffix}")
        windows, law = recipe.windows(more.late), recipe.observing(prior, more.own, more.combined)
        history = train(prior, windows, law, more.settings, device=device, checkpoint=path)
        seconds += history.attrs["seconds"]

    prior.cpu()
    labels = setup.system.labels
    truth = setup.windows(SAMPLES, SEED)
    obs = setup.observe(truth, SEED + 1)
    methods: dict[str, Method] = {"first guess": OptimalInterpolation(prior.climatology, labels, setup.dt)}
    for temperatures in (1, 2, 4, 8):
        methods[f"{temperatures} temperatures"] = NeuralIncremental(prior, labels, setup.dt, temperatures)
    scores = {}
    for title, method in methods.items():
        found = setup.scores(method.assimilate(obs), truth)
        scores[title] = {key: float(f"{value:.4g}") for key, value in found.items()}
        print(f"{name:16} {title:16} {scores[title]}")
    about = {
        "setup": recipe.setup,
        "command": f"python -m nida_kit.pretrained {name}",
        "data": f"{recipe.budget or 'fresh'} simulated windows, starting up to {recipe.latest} steps late",
        **({"system": repr(recipe.system)} if recipe.system else {}),
        "law": {"name": "nida_kit.mixture", **recipe.law} if recipe.law else recipe.setup,
        "settings": asdict(recipe.settings),
        "refinements": [asdict(more) for more in recipe.refinements],
        "minutes": round(seconds / 60, 1),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads of {os.cpu_count()} cores, {device}",
        "scored_on": f"{SAMPLES} fresh windows of {recipe.setup}, seed {SEED}, observed with seed {SEED + 1}",
        "scores": scores,
    }
    save(prior, out / f"{name}.safetensors", Card(labels, setup.dt, about))
