"""Parameters with which the notebooks are quick, for the tests that run them and for those that open them."""

SMALL: dict[str, dict] = {
    "00_start_here": {},
    "01_gaussian_assimilation": {"steps": 13, "every": 4, "windows": 60, "few": 30, "lengths": [20, 40]},
    "02_pendulum": {"samples": 2, "temperatures": 2},
    "03_temperature": {"samples": 2, "most": 2, "temperatures": 3},
    "04_any_observation": {"samples": 2, "spacings": [8], "noises": [0.1], "temperatures": 2},
    "05_four_d_var_and_hybrid": {"samples": 2, "most": 2, "starts": 2, "iterations": 2, "window": 1, "particles": 50},
    "06_uncertainty": {"samples": 3, "reference": 2, "particles": 200, "members": 20, "temperatures": 2},
    "07_ensembles_and_particles": {
        "cycles": 80,
        "samples": 2,
        "ring_samples": 2,
        "members": [3],
        "inflations": [1.02],
        "radii": [2.0],
        "particles": [20, 50],
    },
    "08_scaling": {
        "lengths": [8, 16, 32],
        "dense_up_to": 16,
        "sites": [8, 12, 16],
        "cycles": 20,
        "repeats": 1,
        "steps": 16,
    },
    "09_train_your_own": {"batches": 2, "own_batches": 2, "batch": 4, "width": 8, "samples": 4},
    "10_model_error": {"batches": 1, "samples": 2, "window": 1, "starts": 2},
}
