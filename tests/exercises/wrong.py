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
}
