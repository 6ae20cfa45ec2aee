"""Which scales of a field are recovered: power against wavelength, of the truth, of estimates and of their errors.

An estimate resolves a scale where the power of its error is below half of the truth's. A map that is too smooth loses
power at short wavelengths first: there its own spectrum falls below the truth's, and that of its error meets it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nida_kit.evaluate import resolved_scales, spectrum
from nida_kit.plots.style import STYLES, looks_of, one_panel, styled, with_unit
from nida_kit.state import state_dims


@styled
def spectra(fig: Figure, estimates: Mapping[str, xr.DataArray], truth: xr.DataArray) -> Axes:
    """Power spectra along x: of the truth, of each estimate (solid) and of its error (dotted).

    Vertical lines are the shortest wavelengths that estimates resolve, lambda_x of `nk.resolved_scales`. That one also
    looks at periods, so it lies near the crossing of an error with half of the truth, and not quite on it.

    >>> import nida_kit as nk
    >>> from nida_kit import plots
    >>> truth = nk.QuasiGeostrophic(cells=17).simulate(samples=2, steps=4, dt=5.0, seed=0)
    >>> ax = plots.spectra(plots.figure(), {"half": truth / 2}, truth)
    >>> [line.get_label() for line in ax.lines][:3]
    ['truth', 'half of the truth', 'half']

    Args:
        fig: from `figure`.
        estimates: fields `(..., time, y, x)` by name.
        truth: that they estimate.

    Returns:
        The axes.

    Raises:
        ValueError: no fields, or others than the truth's, see `nk.resolved_scales`.
    """
    scales = {name: float(resolved_scales(estimate, truth)["lambda_x"]) for name, estimate in estimates.items()}
    ax = one_panel(fig)
    x = state_dims(truth)[-1]
    whole = spectrum(truth)
    waves = 1 / whole[f"freq_{x}"].values
    ax.plot(waves, whole, color="black", linestyle="-", label="truth")
    ax.plot(waves, whole / 2, color="black", linewidth=0.8, linestyle=STYLES[1], label="half of the truth")
    looks = looks_of(list(estimates))
    for name, estimate in estimates.items():
        colour = looks[name]["color"]
        own, error = spectrum(estimate), spectrum(estimate - truth)
        ax.plot(waves, own, color=colour, linestyle="-", label=name)
        ax.plot(waves, error, color=colour, linestyle=STYLES[2], label=f"error of {name}")
        if np.isfinite(scales[name]):
            label = f"resolved by {name}: {scales[name]:.2g}"
            ax.axvline(scales[name], color=colour, linewidth=0.9, linestyle=STYLES[3], label=label)
    # What has less power than the least of the truth's waves, a smooth map's short ones, leaves the panel.
    ax.set(xscale="log", yscale="log", ylim=(0.1 * float(whole.min()), 3 * float(whole.max())), ylabel="power")
    ax.invert_xaxis()
    ax.set_xlabel(with_unit(f"wavelength along {x}", truth[x].attrs.get("units")))
    ax.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.01, 0.5))
    return ax
