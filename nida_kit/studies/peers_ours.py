"""What a user of this package writes for the same tasks; see `peers_theirs.py`."""

# ruff: noqa: D103


def enkf(data):
    import nida_kit as nk

    system = nk.setups.load("sakov2012-lorenz63").system
    return _cycled(nk.EnKF(system, members=10, inflation=1.02), 2**0.5, data)


def ienks(data):
    import nida_kit as nk

    system = nk.setups.load("sakov2012-lorenz63").system
    return _cycled(nk.IEnKS(system, lag=1, members=10, inflation=1.02), 2**0.5, data)


def particles(data):
    import nida_kit as nk

    system = nk.setups.load("sakov2012-lorenz63").system
    return _cycled(nk.ParticleFilter(system, particles=100, jitter=2.4, resample_below=0.3), 2**0.5, data)


def letkf(data):
    import nida_kit as nk

    system = nk.setups.load("sakov2008-lorenz96").system
    return _cycled(nk.LETKF(system, members=7, inflation=1.04, radius=4), 1.0, data)


def _cycled(method, noise_std, data):
    obs = _dataset(method.labels.indexes["component"], data["times"], data["value"]).assign(noise_std=noise_std)

    def work():
        found = method.assimilate(obs)
        return found.get("analysis", found["mean"]).values[:, data["observed"]]

    return work


def smoother(data):
    import numpy as np

    import nida_kit as nk

    labels = nk.StateLabels(("x", "y", "z"), ("1",) * 3, ("x", "y", "z"))
    model = nk.LinearModel(data["model"], labels, dt=1.0, covariance=data["start"])
    method = nk.KalmanSmoother(model, model_noise_covariance=data["noise"])
    obs = _dataset("xyz", data["times"], data["value"]).assign(
        noise_std=("component", np.sqrt(np.diag(data["errors"])))
    )
    return lambda: method.assimilate(obs)["mean"].values


def interpolation(data):
    import numpy as np
    import xarray as xr

    import nida_kit as nk

    dims, axes = ("sample", "time", "y", "x"), {"y": np.arange(65), "x": np.arange(65)}
    past = xr.DataArray(data["past"], {"time": np.arange(20.0), **axes}, dims)
    method = nk.OptimalInterpolation.fit_scales(past, steps=1)
    value = data["value"].reshape(-1, 1, 65, 65)
    obs = xr.Dataset({"value": (dims, value), "noise_std": float(data["noise"])}, {"time": [0.0], **axes})
    return lambda: method.assimilate(obs)["mean"].values.reshape(data["value"].shape)


def gyre(data):
    import torch

    import nida_kit as nk

    ocean, start = nk.QuasiGeostrophic(cells=129), torch.from_numpy(data["value"]).unflatten(-1, (129, 129))
    return lambda: ocean.step(start, 5.0).flatten(1).unsqueeze(1).numpy()


def gyre_letkf(data):
    import torch
    import xarray as xr

    import nida_kit as nk

    ocean = nk.Continued(nk.QuasiGeostrophic(cells=129), data["members"])
    method = nk.LETKF(ocean, members=25, inflation=1.04, radius=10, block=2, dtype=torch.float32)
    value = data["value"].reshape(*data["value"].shape[:2], 129, 129)
    coords = {"time": data["times"], **ocean.labels.coordinates()}
    obs = xr.Dataset({"value": (("sample", "time", "y", "x"), value), "noise_std": 2.0}, coords)
    return lambda: method.assimilate(obs)["mean"].values.reshape(data["value"].shape)[:, data["observed"]]


def _dataset(components, times, value):
    import xarray as xr

    dims = ("sample", "time", "component")
    return xr.Dataset({"value": (dims, value)}, {"time": times, "component": list(components)})
