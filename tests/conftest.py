"""What every test needs before a framework is imported."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import tempfile

# What ports were emitted is kept apart from the user's own, also by processes of tests.
if "IVYPORT_TESTS_STATE" not in os.environ:
    os.environ["IVYPORT_TESTS_STATE"] = tempfile.mkdtemp(prefix="ivyport-state-")
    atexit.register(shutil.rmtree, os.environ["IVYPORT_TESTS_STATE"], True)
os.environ["XDG_STATE_HOME"] = os.environ["IVYPORT_TESTS_STATE"]
# Nothing in the tests uses an accelerator or the network (the package index apart).
# Two workers with two threads each on two cores wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile many programs and run each once: half of their time was LLVM's optimisation.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Frameworks make millions of objects that stay: looking through them again and again for
# cycles took a twentieth of the time, and JAX does work of its own each time.
gc.set_threshold(50_000, 20, 50)


def pytest_collection_finish() -> None:
    """What was imported stays, so that no collection looks at it."""
    gc.collect()
    gc.freeze()
