"""What a lab of simulated windows knows: a shipped reference experiment, reconstructed by several methods.

>>> model = LabModel(samples=1)
>>> model.set(noise_std=0.3)
>>> model.result.attrs["observed"]
4
>>> model.preset("dense")
>>> model.result.attrs["observed"]
48
"""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any

from nida_kit import checks, setups
from nida_kit.experiment import LARGE, SETTINGS, SETUPS, Parameters, methods_of, run, settings_of
from nida_kit.lab.model import Model, cautioned, check_beside, listed
from nida_kit.notes import quiet
from nida_kit.state import COMPONENT


def preset_names(system: str) -> list[str]:
    """Of the `presets` of a system."""
    components = setups.load(SETUPS[system]).system.labels.components
    return ["paper", "sparse", "dense", "noisy", *(["z only"] if "z" in components else [])]


@lru_cache(maxsize=8)
def presets(system: str) -> dict[str, dict[str, Any]]:
    """Observation laws by name, as changes of `Parameters`; "paper" is the reference experiment's own."""
    setup = setups.load(SETUPS[system])
    names, law = setup.system.labels.components, setup.law
    observed = tuple(law["components"])
    relative = (setup.noise / setup.spread.mean("time")).sel(component=list(observed))  # as `run` takes it
    paper = {"components": observed, "every": law["every"], "noise_std": round(float(relative.mean()), 12)}
    laws = {
        "paper": paper,
        "sparse": paper | {"every": 2 * law["every"]},
        "dense": paper | {"components": names, "every": max(law["every"] // 4, 1)},
        "noisy": paper | {"noise_std": 0.5},
        "z only": paper | {"components": ("z",)},
    }
    return {name: laws[name] for name in preset_names(system)}


def defaults(system: str = "lorenz63", **params: Any) -> Parameters:
    """The reference experiment's observation law, with whatever else is given; None is what the reference has.

    Raises:
        ValueError: parameters that there are not, or out of range.
    """
    checks.known("parameters", params, Parameters.__dataclass_fields__)
    given = {name: value for name, value in params.items() if value is not None}
    return replace(Parameters(system=system), **(presets(system)["paper"] | given))


class LabModel(Model):
    """Reconstructions of a shipped reference experiment, see `experiment.run`.

    Args:
        from_first: whether the lab begins at the first step of its result, and not at the last.
        params: of `experiment.Parameters`; the rest is the reference experiment's.
    """

    kind = Parameters

    def __init__(self, from_first: bool = False, **params):
        self._from_first = from_first
        super().__init__(**params)

    @property
    def opening(self):
        # What a control changes may be seen at the last step only, as how many steps there are.
        return 1 if self._from_first and self.params == self._start else self.steps

    def started(self, given):
        return defaults(**given)

    def compute(self):
        check_beside(self.params.beside)
        if not self.params.components:
            raise ValueError("Nothing is observed: tick at least one component.")
        with quiet():  # the line about the result repeats what is said
            return run(self.params)

    def presets(self):
        return presets(self.params.system)

    def offers(self):
        p = self.params
        setup, methods = setups.load(SETUPS[p.system]), tuple(methods_of(p.system))
        return {
            "components": setup.system.labels.components,
            "method": methods,
            "beside": tuple(name for name in methods if name != p.method),
            "every": p.steps or setup.steps,
        }

    def unused(self):
        p = self.params
        return set(SETTINGS).difference(*(settings_of(p.system, name) for name in (p.method, *p.beside)))

    def changed(self, changes):
        """A new system starts with its own observation law, and without the methods that do not serve it.

        A method is not beside itself.
        """
        p, kept = self.params, {}
        system = checks.one_of("system", changes.get("system", p.system), SETUPS)
        method = changes.get("method", p.method)
        serve = methods_of(system)
        if system != p.system:
            method = method if method in serve else serve[0]
            kept = presets(system)["paper"] | {"method": method}
        kept["beside"] = tuple(name for name in p.beside if name in serve and name != method)
        return super().changed(kept | changes)

    def about(self, ds):
        found, last = ds.attrs, ds.isel(step=-1)
        others = zip(ds["other"].values, ds["beside_rmse"].values, strict=True) if "beside" in ds else ()
        each = last["component_rmse"].to_series().items() if last.sizes[COMPONENT] <= LARGE else ()
        by_component = ", ".join(f"{name} {error:.3f}" for name, error in each)
        return (
            f"RMSE {float(last['step_rmse']):.3f} {f'({by_component}) ' if by_component else ''}against "
            f"{found['first_guess_rmse']:.3f} for the first guess"
            + "".join(f", {float(error):.3f} for {name}" for name, error in others)
            + f", in climatological standard deviations; {float(last['step_coverage']):.0%} of the truth lies within "
            f"the 90% interval; observed values: {found['observed']}; {found['seconds']:.2f} s." + cautioned(found)
        )

    @property
    def alt_text(self):
        p = self._ran
        if self.result.sizes["component"] > LARGE:
            return (
                f"{p.system}: images over components and time of the truth, the reconstruction by {p.method}, and its "
                f"error in posterior standard deviations, with crosses where {listed(p.components)} are observed. "
                f"{self.status}"
            )
        shows = "each component against time, and a phase portrait"
        return (
            f"{p.system}: truth, first guess, reconstruction by {' and '.join((p.method, *p.beside))} with the 90% "
            f"interval, and observations of {listed(p.components)}: {shows}. {self.status}"
        )

    @property
    def numbers(self):
        found = self.result.attrs
        about = {name: found[name] for name in ("first_guess_rmse", "observed", "seconds")}
        return asdict(self._ran) | {"step": self.step} | self.scores | about
