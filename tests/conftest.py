"""What every test needs before a framework is imported."""

from __future__ import annotations

import os

# Nothing in the tests uses an accelerator or the network (the package index apart).
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
