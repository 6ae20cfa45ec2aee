"""Typical wrong answers: by exercise, code that takes the place of its cell, and words that the verdict must have."""


def observing(law: str, returned: str = "nk.method_of('lorenz63').assimilate(obs)") -> str:
    """An answer that observes by this law."""
    head = "import nida_kit as nk\n\n\ndef reconstruct(truth):\n"
    return f"{head}    obs = nk.observe(truth, {law}, seed=1)\n    return {returned}"


WRONG: dict[str, list[tuple[str, str]]] = {
    "kalman_update": [
        ("def kalman_update(mean, std, value, noise_std):\n    return value, noise_std", "measurement alone"),
        (
            "def kalman_update(mean, std, value, noise_std):\n"
            "    w = noise_std**2 / (std**2 + noise_std**2)\n"
            "    return mean + w * (value - mean), (1 / std**2 + 1 / noise_std**2) ** -0.5",
            "swapped",
        ),
        (
            "def kalman_update(mean, std, value, noise_std):\n"
            "    w = std**2 / (std**2 + noise_std**2)\n"
            "    return mean + w * (value - mean), (std**2 + noise_std**2) ** 0.5",
            "precisions",
        ),
        ("def kalman_update(mean, std, value, noise_std):\n    return mean", "two numbers"),
        ("def kalman_update(mean, std, value, noise_std):\n    return mena, std", "NameError"),
        ("kalman_update = 3", "A function is asked for"),
    ],
    "solve_gradient": [
        (
            "import numpy as np\ndef solve_gradient(A, b, g):\n"
            "    x, l = np.linalg.solve(A, b), np.linalg.solve(A, g)\n    return -np.outer(l, x), l",
            "transposed",
        ),
        (
            "import numpy as np\ndef solve_gradient(A, b, g):\n"
            "    x, l = np.linalg.solve(A, b), np.linalg.solve(A.T, g)\n    return np.outer(l, x), l",
            "wrong sign",
        ),
        (
            "import numpy as np\ndef solve_gradient(A, b, g):\n"
            "    x, l = np.linalg.solve(A, b), np.linalg.solve(A.T, g)\n    return -np.outer(x, l), l",
            "-lambda_i x_j",
        ),
        (
            "import numpy as np\ndef solve_gradient(A, b, g):\n"
            "    x, l = np.linalg.solve(A, b), np.linalg.solve(A.T, g)\n    return -l * x, l",
            "the shape (2, 2)",
        ),
        (
            "import numpy as np\ndef solve_gradient(A, b, g):\n    return np.outer(g, b), g",
            "Between them lies the solve",
        ),
        ("import numpy as np\ndef solve_gradient(A, b, g):\n    return np.linalg.solve(A.T, g)", "Return two things"),
        ("def solve_gradient(A, b, g):\n    return A, 'b'", "must return numbers"),
        ("solve_gradient = None", "A function is asked for"),
    ],
    "model_error_cost": [
        ("def model_error_cost(x, step, q):\n    return (((x[1:] - step(x[:-1])) / q) ** 2).sum()", "factor 1/2"),
        ("def model_error_cost(x, step, q):\n    return ((x[1:] - step(x[:-1])) ** 2 / q).sum() / 2", "q squared"),
        ("def model_error_cost(x, step, q):\n    return (((x[:-1] - step(x[1:])) / q) ** 2).sum() / 2", "backwards"),
        ("def model_error_cost(x, step, q):\n    return (((x - step(x)) / q) ** 2).sum() / 2", "the next time"),
        ("def model_error_cost(x, step, q):\n    return (((x[1:] - step(x[:-1])) / q) ** 2).sum(0) / 2", "one number"),
        ("def model_error_cost(x, step, q):\n    return ((x[1:] - step(x[:-1])) ** 2).sum() / 2", "count alike"),
        ("def model_error_cost(x, step, q):\n    return (((x[1:] - step(x)) / q) ** 2).sum() / 2", "ValueError"),
    ],
    "withheld_rmse": [
        (
            "def withheld_rmse(method, obs, latitude, longitude):\n"
            "    here = {'latitude': latitude, 'longitude': longitude}\n"
            "    error = (method.assimilate(obs)['mean'] - obs['value']).sel(here)\n"
            "    return float((error**2).mean() ** 0.5)",
            "shown the buoy",
        ),
        (
            "def withheld_rmse(method, obs, latitude, longitude):\n"
            "    here = {'latitude': latitude, 'longitude': longitude}\n"
            "    truth = obs['value'].sel(here).copy()\n"
            "    obs['value'].loc[here] = float('nan')\n"
            "    error = method.assimilate(obs)['mean'].sel(here) - truth\n"
            "    return float((error**2).mean() ** 0.5)",
            "Work on a copy",
        ),
        (
            "def withheld_rmse(method, obs, latitude, longitude):\n"
            "    others = obs['value'].where((obs.latitude != latitude) & (obs.longitude != longitude))\n"
            "    found = method.assimilate(obs.assign(value=others))['mean'] - obs['value']\n"
            "    return float((found.sel(latitude=latitude, longitude=longitude)**2).mean() ** 0.5)",
            "Only that one buoy",
        ),
        (
            "def withheld_rmse(method, obs, latitude, longitude):\n"
            "    others = obs['value'].where((obs.latitude != latitude) | (obs.longitude != longitude))\n"
            "    found = method.assimilate(obs.assign(value=others))['mean'] - obs['value']\n"
            "    return float((found.sel(latitude=latitude, longitude=longitude)**2).mean())",
            "Take its root",
        ),
        (
            "def withheld_rmse(method, obs, latitude, longitude):\n"
            "    others = obs['value'].where((obs.latitude != latitude) | (obs.longitude != longitude))\n"
            "    found = method.assimilate(obs.assign(value=others))['mean'] - obs['value']\n"
            "    return float((found**2).mean() ** 0.5)",
            "at all buoys",
        ),
        ("def withheld_rmse(method, obs, latitude, longitude):\n    return 0.3", "was not asked"),
    ],
    "interpolate_pair": [
        ("def interpolate_pair(c, y, r):\n    return y / (1 + r**2), (1 - 1 / (1 + r**2)) ** 0.5", "This is x1"),
        ("def interpolate_pair(c, y, r):\n    return c * y, (1 - c**2) ** 0.5", "as if it had no error"),
        ("def interpolate_pair(c, y, r):\n    return c * y / (1 + r**2), 1 - c**2 / (1 + r**2)", "square root"),
        ("def interpolate_pair(c, y, r):\n    return c * y / (1 + r**2), (1 - c**2) ** 0.5", "without an error"),
        ("def interpolate_pair(c, y, r):\n    return c * y / (1 + r**2), (1 - abs(c) / (1 + r**2)) ** 0.5", "twice"),
        ("def interpolate_pair(c, y, r):\n    return c * y / (1 + r**2)", "two numbers"),
    ],
    "blend": [
        ("def D(x, s, first_guess):\n    return s * x + (1 - s) * first_guess", "swapped"),
        ("def D(x, s, first_guess):\n    return x", "estimate itself"),
        ("def D(x, s, first_guess):\n    return first_guess", "first guess alone"),
        ("def D(x, s, first_guess):\n    return (x + first_guess) / 2", "every temperature"),
        ("def D(x, s, first_guess):\n    return x + s * first_guess", "add up to one"),
        ("def D(x, s, first_guess):\n    return s", "whole trajectory"),
    ],
    "reconstruct": [
        (observing("components=['x', 'z'], every=4, noise_std=0.5", "obs"), "return the observations"),
        ("def reconstruct(truth):\n    return truth", "nobody knows"),
        (observing("components=['x'], every=4, noise_std=0.5"), "observe x, and x and z"),
        (observing("every=4, noise_std=0.5"), "x and y and z"),
        (observing("components=['x', 'z'], every=8, noise_std=0.5"), "every 4th"),
        (observing("components=['x', 'z'], every=4, noise_std=2.0"), "noise_std=0.5"),
    ],
}
