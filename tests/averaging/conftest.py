"""Settings of these tests: one thread (tensors are tiny, threads would only wait for each other), fixed examples."""

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("fixed", derandomize=True, database=None, deadline=None)
settings.load_profile("fixed")
