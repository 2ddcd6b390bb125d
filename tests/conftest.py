"""What every test needs before a framework is imported."""

from __future__ import annotations

import os

# Nothing in the tests uses an accelerator or the network (the package index apart).
# Two workers with two threads each on two cores wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
