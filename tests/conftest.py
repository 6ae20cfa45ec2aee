"""One thread and the same examples in every run."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when scipy is imported

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("nida_kit", deadline=None, derandomize=True, max_examples=20)
settings.load_profile("nida_kit")
