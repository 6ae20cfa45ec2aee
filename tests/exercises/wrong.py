"""Typical wrong answers: by exercise, code that takes the place of its cell, and words that the verdict must have."""

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
