"""Results as tables: a row for each value, as pandas, R or a spreadsheet want it."""

from __future__ import annotations

import pandas as pd
import xarray as xr

from nida_kit import checks
from nida_kit.edge import in_units_of
from nida_kit.evaluate import BAND
from nida_kit.state import COMPONENT, TIME, labels_of, state_dims


def table(result: xr.Dataset, obs: xr.Dataset | None = None) -> pd.DataFrame:
    """A reconstruction as a long table.

    >>> import nida_kit as nk
    >>> truth = nk.Lorenz63().simulate(samples=2, steps=9, dt=0.05, seed=0)
    >>> obs = nk.observe(truth, components=["x"], every=4, noise_std=0.4, seed=1)
    >>> result = nk.NeuralIncremental.pretrained("lorenz63", temperatures=1).assimilate(obs)
    >>> rows = nk.table(result, obs)
    >>> list(rows)
    ['sample', 'time', 'component', 'unit', 'mean', 'std', 'low_90', 'high_90', 'value']
    >>> len(rows), int(rows["value"].count())
    (54, 6)

    Args:
        result: of `assimilate`; of a trace, the last step.
        obs: the observations, for a column with what was measured.

    Returns:
        A row for each value of `mean`: a column for each of its dims, for a state of components the `unit`, then
        `mean`, `std`, the ends `low_90` and `high_90` of the 90% interval of a normal distribution, and with `obs` the
        observed `value` in the result's unit, NaN where there is none. A result without `std` has neither that nor an
        interval.

    Raises:
        ValueError: no result, or observations of another window, or of an operator.
    """
    columns = _columns(result, obs)
    frame = xr.Dataset(columns).to_dataframe(dim_order=list(columns["mean"].dims)).reset_index()
    unit = ["unit"] if "unit" in frame else []
    return frame[[*columns["mean"].dims, *unit, *columns]]


def _columns(result: xr.Dataset, obs: xr.Dataset | None) -> dict[str, xr.DataArray]:
    """What is said of each value, by column."""
    checks.instance("result", result, xr.Dataset, "an xr.Dataset", "It is what method.assimilate(obs) returns.")
    if "mean" not in result or TIME not in result["mean"].dims:
        raise ValueError(f"The result has {list(result.data_vars)}, and no mean along time: pass what assimilate gave.")
    shown = result.isel(step=-1, drop=True) if "step" in result.dims else result
    mean = _bare(shown["mean"])
    columns = {"mean": mean}
    if "std" in shown:
        std = _bare(shown["std"])
        columns |= {"std": std, "low_90": mean - BAND * std, "high_90": mean + BAND * std}
    return columns if obs is None else columns | {"value": observed_value(shown, obs)}


def _bare(array: xr.DataArray) -> xr.DataArray:
    """The array with the labels of its own dims, and the unit of each component."""
    units = array["units"] if "units" in array.coords and array["units"].dims == (COMPONENT,) else None
    array = array.drop_vars([name for name in array.coords if name not in array.dims])
    return array if units is None else array.assign_coords(unit=(COMPONENT, units.values))


def observed_value(result: xr.Dataset, obs: xr.Dataset) -> xr.DataArray:
    """What was observed on the labels of a result, NaN where nothing was.

    Raises:
        ValueError: the observations are of an operator, or of another window or state.
    """
    checks.instance("obs", obs, xr.Dataset, "an xr.Dataset of observations", "Pass what assimilate was given.")
    if "value" not in obs:
        raise ValueError(
            f"obs has {list(obs.data_vars)}, and no value: pass the observations that assimilate was given."
        )
    mean = result["mean"]
    value = in_units_of(labels_of(mean), obs["value"], "obs.value")
    if set(value.dims) != set(mean.dims):
        raise ValueError(
            f"obs.value has the dims {value.dims}, the result {mean.dims}: select the same windows of both. Values "
            "behind an operator are not the state's own, and have no place here."
        )
    for dim in mean.dims:
        names = state_dims(mean) if dim in mean.coords and dim in value.coords else ()
        foreign = [x for x in value[dim].values if x not in mean[dim].values] if dim in names else []
        if foreign:
            raise ValueError(f"obs has along {dim!r} the labels {foreign[:5]}, which the result has not.")
        if dim not in state_dims(mean) and not value[dim].equals(mean[dim]):
            raise ValueError(f"obs has along {dim!r} other labels or sizes than the result: select the same of both.")
    own = {dim: mean[dim].values for dim in state_dims(mean)}
    return _bare(value.reindex(own)).transpose(*mean.dims).drop_vars("unit", errors="ignore")
