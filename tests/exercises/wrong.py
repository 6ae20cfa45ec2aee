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
}
