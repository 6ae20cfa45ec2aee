"""The lab of one's own observations: some are withheld, and show how far a reconstruction can be trusted.

>>> import nida_kit as nk
>>> truth = nk.Lorenz63().simulate(samples=1, steps=32, dt=0.05, seed=0)
>>> obs = nk.observe(truth, every=4, noise_std=0.4, seed=1)
>>> model = RecordModel(obs, prior="lorenz63", share=0.25)
>>> model.result.attrs["withheld"], model.result.attrs["shown"]
(6, 18)
>>> model.preset("a gap")
>>> sorted(set(model.result["hidden"].dropna("time", how="all").time.values.round(2).tolist()))
[0.6, 0.8]
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import xarray as xr

from nida_kit import checks
from nida_kit.lab.model import CAUTION, Model, check_beside, listed
from nida_kit.methods.method import Method
from nida_kit.methods.neural import NeuralIncremental
from nida_kit.notes import quiet
from nida_kit.state import TIME, state_dims
from nida_kit.withheld import NONE, Parameters, read, run


class RecordModel(Model):
    """Reconstructions of a user's own observations, see `withheld.run`.

    Args:
        observations: a NetCDF file, or what `nk.load_observations` and `nk.grid` return.
        prior: shipped weights by name, or a file of one's own.
        methods: more of them, by name.
        steps: of a window; None is the whole record, or 256 of a longer one.
        flag: of good values, as in `nk.load_observations`.
        params: of `withheld.Parameters`.

    Raises:
        ValueError: observations, methods or parameters that cannot be used, or do not fit together.
    """

    kind = Parameters

    def __init__(
        self,
        observations: str | Path | xr.Dataset,
        prior: str | Path | None = None,
        methods: Mapping[str, Method] | None = None,
        steps: int | None = None,
        flag: Hashable | Sequence[Hashable] | None = None,
        **params,
    ):
        self.record = read(observations, prior, methods, steps, flag)
        first = {"method": next(iter(self.record.methods)), "moment": self.record.steps - 1}
        super().__init__(**(first | params))

    def compute(self):
        check_beside(self.params.beside)
        if self.result is not None and replace(self.params, moment=self._ran.moment) == self._ran:
            return self.result  # of which another time is shown
        with quiet():  # the line about the result repeats what is said
            return run(self.record, self.params)

    @property
    def of_plane(self) -> bool:
        """Whether the state is a field on a plane, of which one time is shown."""
        return len(state_dims(self.record.obs["value"])) == 2

    @property
    def shown(self):
        found = super().shown
        return found.isel({TIME: [self.params.moment]}) if self.of_plane else found

    def presets(self):
        steps = self.record.steps
        nothing = {"share": 0.0, "component": NONE, "length": 0}
        found = {
            "at random": nothing | {"share": 0.2},
            "a gap": nothing | {"begin": steps // 3, "length": max(steps // 3, 1), "moment": steps // 2},
        }
        components = self.record.components
        if len(components) > 1:
            found["a component"] = nothing | {"component": components[-1]}
        return found | {"use all": nothing}

    def offers(self):
        record, p = self.record, self.params
        names = tuple(record.methods)
        return {
            "window": record.windows - 1,
            "component": (NONE, *record.components),
            "begin": record.steps - 1,
            "length": record.steps,
            "moment": record.steps - 1,
            "method": names,
            "beside": tuple(name for name in names if name != p.method),
        }

    def unused(self):
        p = self.params
        asked = [self.record.methods.get(name) for name in (p.method, *p.beside)]
        found = set() if any(isinstance(m, NeuralIncremental) for m in asked) else {"temperatures", "schedule"}
        return found | ({"begin"} if not p.length else set()) | ({"seed"} if not p.share else set())

    def changed(self, changes):
        """A method is not beside itself."""
        method = changes.get("method", self.params.method)
        kept = {"beside": tuple(name for name in self.params.beside if name != method)}
        return super().changed(kept | changes)

    def about(self, ds):
        found, last = ds.attrs, ds.isel(step=-1)
        said = (
            f"{checks.counted(found['shown'], 'value')} shown of window {self.params.window} (there "
            f"{'is one' if self.record.windows == 1 else f'are {self.record.windows}'}, from 0). "
        )
        if not found["withheld"]:
            said += "Nothing is withheld, so there is no score. "
        else:
            others = zip(ds["other"].values, ds["beside_rmse"].values, strict=True) if "beside" in ds else ()
            within = round(float(last["step_coverage"]) * found["withheld"])
            said += (
                f"RMSE {float(last['step_rmse']):.3f} at {checks.counted(found['withheld'], 'withheld value')}"
                + "".join(f", {float(error):.3f} for {name}" for name, error in others)
                + f", in standard deviations of the record ({found['noise_rmse']:.3f} is their own error); {within} of "
                f"them ({within / found['withheld']:.0%}) within their 90% interval. "
            )
        return f"{said}{found['seconds']:.2f} s." + (f"{CAUTION}{found['note']}" if "note" in found else "")

    def save(self, path: str | Path) -> None:
        """Write the result, with what was withheld and how, as NetCDF.

        Raises:
            ValueError: the observations lie there.
        """
        source = self.record.obs.attrs.get("observations_file")
        if source is not None and Path(source).resolve() == Path(path).resolve():
            raise ValueError(f"{str(path)!r} would overwrite the observations: give export= another name.")
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self.result.assign_attrs(lab=json.dumps(asdict(self._ran))).to_netcdf(path)

    @property
    def alt_text(self):
        names = self.record.components
        of, by = listed(names) if names else "a field", " and ".join((self._ran.method, *self._ran.beside))
        return (
            f"Observations of {of} that were shown, as crosses, and others that were withheld, as circles, with the "
            f"reconstruction by {by} and its uncertainty. {self.status}"
        )

    @property
    def numbers(self):
        found = self.result.attrs
        about = {name: found[name] for name in ("noise_rmse", "shown", "withheld", "seconds")}
        about["observations"] = self.record.obs.attrs.get("observations_file", "in memory")
        return asdict(self._ran) | {"step": self.step} | self.scores | about
