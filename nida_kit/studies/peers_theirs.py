"""What a user of other packages writes, in the settings that their own documentation recommends.

Each function takes the arrays of a task and gives the call that is timed; its own lines are what is counted. It runs in
the peers' environment. Values are `(windows, steps, components)`, NaN where nothing was observed.
"""

# ruff: noqa: D103


# DAPPER: the settings beside "Suggested tuning" in its own files of these experiments, without plots and progress bars


def dapper_enkf(data):
    import dapper.da_methods as da
    from dapper.mods.Lorenz63.sakov2012 import HMM

    return _dapper(HMM, da.EnKF("Sqrt", N=10, infl=1.02, rot=True), data)


def dapper_ienks(data):
    import dapper.da_methods as da
    from dapper.mods.Lorenz63.sakov2012 import HMM

    return _dapper(HMM, da.iEnKS("Sqrt", N=10, infl=1.02, rot=True), data)


def dapper_particles(data):
    import dapper.da_methods as da
    from dapper.mods.Lorenz63.sakov2012 import HMM

    return _dapper(HMM, da.PartFilt(N=100, reg=2.4, NER=0.3), data)


def dapper_letkf(data):
    import dapper.da_methods as da
    from dapper.mods.Lorenz96.sakov2008 import HMM

    return _dapper(HMM, da.LETKF(N=7, rot=True, infl=1.04, loc_rad=4), data)


def _dapper(HMM, xp, data):
    from dapper.mods import GaussRV

    HMM.X0 = GaussRV(mu=data["mean"], C=HMM.X0.C)
    HMM.tseq.Ko, HMM.tseq.BurnIn = len(data["observed"]) - 1, 0
    return _in_turn(HMM, xp, data["truth"], data["value"][:, data["observed"]])


def _in_turn(HMM, xp, truths, values):
    import dapper as dpr
    from dapper.tools import progressbar

    progressbar.disable_progbar = True

    def assimilate(truth, y):
        dpr.set_seed(1)
        xp.assimilate(HMM, truth, y, liveplots=False)
        return xp.stats.mu.a

    return lambda: [assimilate(*each) for each in zip(truths, values, strict=True)]


def dapper_gyre(data):
    import numpy as np
    from dapper.mods.QG import model_config

    model = model_config("sakov2008", {}, mp=False)
    return lambda: np.stack([model.step(x, 0.0, 5.0)[None] for x in data["value"]])


def dapper_gyre_letkf(data):
    import dapper.da_methods as da
    import numpy as np
    from dapper import mods
    from dapper.mods.QG import model_config, shape
    from dapper.tools.localization import nd_Id_localization

    def seen(ko):
        cells = data["cells"][ko + 1]
        places = nd_Id_localization(shape[::-1], [2, 2], cells, periodic=False)
        h = mods.ens_compatible(lambda E: E[cells])
        noise = mods.GaussRV(C=4 * np.eye(len(cells)))
        return mods.Operator(M=len(cells), model=h, noise=noise, localizer=places)

    members, steps = data["members"].reshape(len(data["members"]), -1), len(data["observed"])
    dynamics = {"M": members.shape[1], "model": model_config("sakov2008", {}, mp=False).step, "noise": 0}
    times = mods.Chronology(dt=5.0, dko=1, Ko=steps - 1, BurnIn=0)
    start = mods.RV(M=members.shape[1], func=lambda count: members[:count].copy())
    model = mods.HiddenMarkovModel(dynamics, {"time_dependent": seen}, times, start)
    method = da.LETKF(mp=False, N=25, infl=1.04, loc_rad=10)
    values = [np.stack([y[t, data["cells"][t]] for t in data["observed"]]) for y in data["value"]]
    return _in_turn(model, method, data["truth"], values)


# Kalman smoothers


def filterpy_smoother(data):
    import numpy as np
    from filterpy.kalman import KalmanFilter

    y = data["value"][0]

    def work():
        kf = KalmanFilter(dim_x=3, dim_z=3)
        kf.x, kf.P = np.zeros(3), data["start"]
        kf.F, kf.H, kf.Q, kf.R = data["model"], np.eye(3), data["noise"], data["errors"]
        zs = [None if np.isnan(z).any() else z for z in y]
        means, covariances, _, _ = kf.batch_filter(zs, update_first=True)
        return kf.rts_smoother(means, covariances)[0][None]

    return work


def pykalman_smoother(data):
    import numpy as np
    from pykalman import KalmanFilter

    kf = KalmanFilter(data["model"], np.eye(3), data["noise"], data["errors"], initial_state_covariance=data["start"])
    y = np.ma.masked_invalid(data["value"][0])
    return lambda: kf.smooth(y)[0][None]


def simdkalman_smoother(data):
    import numpy as np
    import simdkalman

    kf = simdkalman.KalmanFilter(data["model"], data["noise"], np.eye(3), data["errors"])
    start = {"initial_value": np.zeros(3), "initial_covariance": data["start"]}
    return lambda: kf.smooth(data["value"], observations=False, **start).states.mean


def statsmodels_smoother(data):
    import numpy as np
    from statsmodels.tsa.statespace.kalman_smoother import SMOOTHER_STATE, SMOOTHER_STATE_COV, KalmanSmoother

    def smooth(y):  # each series needs one of its own: bound to a second one, it would keep state of the first
        ks = KalmanSmoother(k_endog=3, k_states=3, smoother_output=SMOOTHER_STATE | SMOOTHER_STATE_COV)
        ks["design"], ks["selection"], ks["transition"] = np.eye(3), np.eye(3), data["model"]
        ks["state_cov"], ks["obs_cov"] = data["noise"], data["errors"]
        ks.initialize_known(np.zeros(3), data["start"])
        ks.bind(y.copy())
        return ks.smooth().smoothed_state.T

    return lambda: np.stack([smooth(y) for y in data["value"]])


def dynamax_smoother(data):
    import jax
    import jax.numpy as jnp
    import numpy as np
    from dynamax.linear_gaussian_ssm import lgssm_smoother
    from dynamax.linear_gaussian_ssm.inference import make_lgssm_params

    jax.config.update("jax_enable_x64", True)
    params = make_lgssm_params(np.zeros(3), data["start"], data["model"], data["noise"], np.eye(3), data["errors"])

    def smooth(y):  # it knows no missing values: they are given errors so large that they count for nothing
        seen = ~jnp.isnan(y).any(-1)
        R = jnp.where(seen[:, None, None], data["errors"], 1e10 * np.eye(3))
        own = params._replace(emissions=params.emissions._replace(cov=R))
        return lgssm_smoother(own, jnp.nan_to_num(y)).smoothed_means

    smooth = jax.jit(jax.vmap(smooth))
    return lambda: smooth(data["value"]).block_until_ready()


# Fields: neither knows a past; what each has to know of the field it fits to the values


def sklearn_process(data):
    import numpy as np
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel

    points = np.stack(np.divmod(np.arange(65 * 65), 65), -1)

    def mapped(value):
        seen = np.isfinite(value)
        kernel = ConstantKernel(np.var(value[seen])) * RBF(5.0)
        process = GaussianProcessRegressor(kernel, alpha=data["noise"] ** 2).fit(points[seen], value[seen])
        return process.predict(points, return_std=True)[0]

    return lambda: [[mapped(value)] for value in data["value"][:, 0]]


def pykrige_kriging(data):
    import numpy as np
    from pykrige.ok import OrdinaryKriging

    y, x = np.divmod(np.arange(65.0 * 65), 65)

    def mapped(value):
        seen = np.isfinite(value)
        # The best of its variograms, with so many lags; values are known with an error, so it need not meet them.
        how = {"variogram_model": "exponential", "nlags": 20, "exact_values": False}
        kriging = OrdinaryKriging(x[seen], y[seen], value[seen], **how)
        return kriging.execute("grid", np.arange(65.0), np.arange(65.0))[0].ravel()

    return lambda: [[mapped(value)] for value in data["value"][:, 0]]
