"""Typical wrong answers: by exercise, code that takes the place of its cell, and words that the verdict must have."""


def observing(law: str, returned: str = "nk.method_of('lorenz63').assimilate(obs)") -> str:
    """An answer that observes by this law."""
    head = "import nida_kit as nk\n\n\ndef reconstruct(truth):\n"
    return f"{head}    obs = nk.observe(truth, {law}, seed=1)\n    return {returned}"


def mapping(
    noise: str, returned: str = "c @ np.linalg.solve(S, values), (1 - c @ np.linalg.solve(S, c)) ** 0.5"
) -> str:
    """An answer that adds this to the covariances of the measurements."""
    return (
        "import numpy as np\n\n\ndef map_at(place, places, values, noise_std):\n"
        "    def near(a, b):\n        return np.exp(-((a - b) ** 2).sum(-1) / (2 * 0.1**2))\n\n"
        "    c, C = near(place, places), near(places[:, None], places)\n"
        f"    S = {noise}\n    return {returned}"
    )


def buying(returned: str) -> str:
    """An answer that buys a value there, of the covariance C and an error's std r."""
    return f"import numpy as np\n\n\ndef best_place(C, r):\n    return {returned}"


WRONG: dict[str, list[tuple[str, str]]] = {
    "best_place": [
        (buying("np.argmax(np.diag(C))"), "largest spread"),
        (buying("np.argmax((C**2).sum(0) / np.diag(C))"), "forget the error"),
        (buying("np.argmax((C**2).sum(0) / (np.diag(C) + r))"), "std squared"),
        (buying("np.argmax(C.sum(0) / (np.diag(C) + r**2))"), "opposite sign"),
        (buying("np.argmax((C**2).sum(0))"), "Divide by"),
        (buying("np.argmin((C**2).sum(0) / (np.diag(C) + r**2))"), "tells least"),
        (buying("(C**2).sum(0) / (np.diag(C) + r**2)"), "the place itself"),
        (buying("3"), "lowers the sum of variances by"),
        (buying("2.5"), "index of one place"),
        ("best_place = 3", "A function is asked for"),
    ],
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
    "map_at": [
        (mapping("C"), "had no errors"),
        (mapping("C + noise_std * np.eye(2)"), "square it"),
        (mapping("(1 + noise_std**2) * np.eye(2)"), "share their weight"),
        (mapping("C + noise_std**2 * np.eye(2)", "c @ values / c.sum(), 0.5"), "average by nearness"),
        (
            mapping("C + noise_std**2 * np.eye(2)", "c @ np.linalg.solve(S, values), 1 - c @ np.linalg.solve(S, c)"),
            "You return a variance",
        ),
        (
            mapping(
                "C + noise_std**2 * np.eye(2)", "c @ np.linalg.solve(S, values), (c @ np.linalg.solve(S, c)) ** 0.5"
            ),
            "what became known",
        ),
        (mapping("C + noise_std**2 * np.eye(2)", "c @ np.linalg.solve(S, values), 1.0"), "The std is"),
        (mapping("C + noise_std**2 * np.eye(2)", "c @ values, 1.0"), "between them"),
        (mapping("C + noise_std**2 * np.eye(2)", "c @ np.linalg.solve(S, values)"), "two numbers"),
        ("map_at = 0.3", "A function is asked for"),
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
        (observing("components='xz', every=4, noise_std=0.5"), "some of ['x', 'y', 'z']."),
        (observing("every=4, noise_std=0.5"), "x and y and z"),
        (observing("components=['x', 'z'], every=8, noise_std=0.5"), "every 4th"),
        (observing("components=['x', 'z'], every=4, noise_std=2.0"), "noise_std=0.5"),
    ],
    "gaussian_crps": [
        (
            "import numpy as np\nfrom scipy.stats import norm\n"
            "def gaussian_crps(mean, std, truth):\n"
            "    return abs(truth - mean)",
            "absolute error",
        ),
        (
            "import numpy as np\nfrom scipy.stats import norm\n"
            "def gaussian_crps(mean, std, truth):\n"
            "    return -norm.logpdf(truth, mean, std)",
            "log score",
        ),
        (
            "import numpy as np\nfrom scipy.stats import norm\n"
            "def gaussian_crps(mean, std, truth):\n"
            "    z = (truth - mean) / std\n"
            "    return z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - np.pi**-0.5",
            "multiply by std",
        ),
        (
            "import numpy as np\nfrom scipy.stats import norm\n"
            "def gaussian_crps(mean, std, truth):\n"
            "    z = (truth - mean) / std\n"
            "    return std * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z))",
            "mean distance of two draws",
        ),
        (
            "import numpy as np\nfrom scipy.stats import norm\n"
            "def gaussian_crps(mean, std, truth):\n"
            "    z = (truth - mean) / std\n"
            "    return -std * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - np.pi**-0.5)",
            "sign is turned",
        ),
        (
            "import numpy as np\nfrom scipy.stats import norm\n"
            "def gaussian_crps(mean, std, truth):\n"
            "    u = np.linspace(-20, 20, 8001)\n"
            "    return np.abs(norm.cdf(u, mean, std) - (u >= truth)).sum() * 0.005",
            "mean distance of two draws",
        ),
        (
            "import numpy as np\nfrom scipy.stats import norm\n"
            "def gaussian_crps(mean, std, truth):\n"
            "    u = np.linspace(-20, 20, 8001)\n"
            "    return (norm.cdf(u, mean, std) - (u >= truth)).sum() * 0.005",
            "with its sign",
        ),
        (
            "import numpy as np\nfrom scipy.stats import norm\n"
            "def gaussian_crps(mean, std, truth):\n"
            "    u = np.linspace(-20, 20, 8001)\n"
            "    return ((norm.cdf(u, mean, std) - (u >= truth)) ** 2).sum()",
            "its du",
        ),
        (
            "import numpy as np\nfrom scipy.stats import norm\n"
            "def gaussian_crps(mean, std, truth):\n"
            "    u = np.linspace(-20, 20, 8001)\n"
            "    return (norm.cdf(u, mean, std) - (u >= truth)) ** 2",
            "one number",
        ),
        (
            "import numpy as np\nfrom scipy.stats import norm\n"
            "def gaussian_crps(mean, std, truth):\n"
            "    z = (truth - mean) / std\n"
            "    return std * (z * (2 * norm.cdf(z) - 1) + norm.pdf(z) - np.pi**-0.5)",
            "count twice",
        ),
        (
            "import numpy as np\nfrom scipy.stats import norm\n"
            "def gaussian_crps(mean, std, truth):\n"
            "    z = (truth - mean) / std**2\n"
            "    return std**2 * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - np.pi**-0.5)",
            "variance as a standard",
        ),
    ],
    "inflation": [
        (
            "def inflation(members, factor):\n    return factor * members",
            "Only deviations may grow",
        ),
        (
            "def inflation(members, factor):\n    return factor * (members - members.mean(0))",
            "add the mean again",
        ),
        (
            "def inflation(members, factor):\n    return members",
            "Nothing has changed",
        ),
        (
            "def inflation(members, factor):\n    return members.mean(0) + factor**2 * (members - members.mean(0))",
            "factor squared",
        ),
        (
            "def inflation(members, factor):\n    return members.mean(0) + factor**0.5 * (members - members.mean(0))",
            "take no root",
        ),
        (
            "def inflation(members, factor):\n"
            "    m = members.mean(1, keepdims=True)\n"
            "    return m + factor * (members - m)",
            "over the members, the first axis",
        ),
        (
            "def inflation(members, factor):\n    return members.mean() + factor * (members - members.mean())",
            "a mean of its own",
        ),
        (
            "def inflation(members, factor):\n    return members.mean(0) + factor",
            "must be (5, 3)",
        ),
    ],
    "one_tile": [
        (
            "def one_tile(solve, values, start, stop, halo):\n    return solve(values[start:stop])",
            "halo is not used",
        ),
        (
            "def one_tile(solve, values, start, stop, halo):\n"
            "    return solve(values[max(0, start - halo) : stop + halo])",
            "return the halo as well",
        ),
        (
            "def one_tile(solve, values, start, stop, halo):\n    return solve(values)[start:stop]",
            "whole line",
        ),
        (
            "def one_tile(solve, values, start, stop, halo):\n"
            "    return solve(values[start - halo : stop + halo])[halo : halo + stop - start]",
            "max(0, start - halo)",
        ),
        (
            "def one_tile(solve, values, start, stop, halo):\n"
            "    return solve(values[max(0, start - halo) : stop + halo])[halo : halo + stop - start]",
            "begins at place",
        ),
        (
            "def one_tile(solve, values, start, stop, halo):\n    return values[start:stop]",
            "do not call solve",
        ),
    ],
    "schedule": [
        ("def schedule(steps):\n    return [(k + 1) / steps for k in range(steps)]", "it rises"),
        ("def schedule(steps):\n    return [1.0] * steps", "held at 1"),
        ("def schedule(steps):\n    return [1 - k / max(steps - 1, 1) for k in range(steps)]", "steps - 1"),
        ("def schedule(steps):\n    return [1 - k / steps for k in range(steps)]", "nk.schedule.linear"),
        ("def schedule(steps):\n    return [0.9**(k + 1) for k in range(steps)]", "begins at 0.9"),
        ("def schedule(steps):\n    return [1, 0.5, 0.25, 0.125]", "return 1 numbers"),
        ("def schedule(steps):\n    return [2 - k for k in range(steps)]", "from 0 to 1"),
    ],
    "operator": [
        ("def operator(state):\n    return (state[..., :1]**2 + state[..., 1:2]**2)", "take the root"),
        ("def operator(state):\n    return state.norm(dim=-1, keepdim=True)", "leave z out"),
        ("def operator(state):\n    return (state[..., 0]**2 + state[..., 1]**2).sqrt()", "(..., 1)"),
        ("def operator(state):\n    return (state[0:1]**2 + state[1:2]**2).sqrt()", "along the last"),
        ("def operator(state):\n    return state[..., :2].square().sqrt()", "one reading"),
        ("def operator(state):\n    return state[..., :2].abs().sum(-1, keepdim=True)", "no sum"),
        (
            "import numpy as np\ndef operator(state):\n"
            "    s = state.detach().numpy()\n    return np.hypot(s[..., :1], s[..., 1:2])",
            "needs slopes",
        ),
    ],
    "gauss_newton_step": [
        (
            "def gauss_newton_step(x, mean, std, value, noise_std, h, slope):\n"
            "    down = (mean - x) / std**2 + slope * (value - h) / noise_std**2\n"
            "    return x - down / (1 / std**2 + slope**2 / noise_std**2)",
            "uphill",
        ),
        (
            "def gauss_newton_step(x, mean, std, value, noise_std, h, slope):\n"
            "    down = (x - mean) / std**2 + slope * (value - h) / noise_std**2\n"
            "    return x + down / (1 / std**2 + slope**2 / noise_std**2)",
            "not (x - mean)",
        ),
        (
            "def gauss_newton_step(x, mean, std, value, noise_std, h, slope):\n"
            "    down = (mean - x) / std**2 + slope * (h - value) / noise_std**2\n"
            "    return x + down / (1 / std**2 + slope**2 / noise_std**2)",
            "not (h - value)",
        ),
        (
            "def gauss_newton_step(x, mean, std, value, noise_std, h, slope):\n"
            "    w = std**2 * slope / (slope**2 * std**2 + noise_std**2)\n    return mean + w * (value - h)",
            "begins at the prior's mean",
        ),
        (
            "def gauss_newton_step(x, mean, std, value, noise_std, h, slope):\n"
            "    w = std**2 * slope / (slope**2 * std**2 + noise_std**2)\n    return x + w * (value - h)",
            "does not pull",
        ),
        (
            "def gauss_newton_step(x, mean, std, value, noise_std, h, slope):\n"
            "    down = (mean - x) / std + slope * (value - h) / noise_std\n"
            "    return x + down / (1 / std + slope**2 / noise_std)",
            "Weigh them by variances",
        ),
        (
            "def gauss_newton_step(x, mean, std, value, noise_std, h, slope):\n"
            "    down = (mean - x) / std**2 + slope * (value - h) / noise_std**2\n"
            "    return down / (1 / std**2 + slope**2 / noise_std**2)",
            "Add it to x",
        ),
    ],
}
