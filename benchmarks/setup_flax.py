"""Put the last transformers release with Flax classes on a path of its own.

transformers 5 has no Flax classes any more. The wheel of 4.55.4 still imports beside
jax 0.10 and flax 0.12, and without touching the environment's own transformers, when
its files lie in a folder that only one process of the benchmark puts on its path.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / ".cache" / "flax455"
PINS = ("transformers==4.55.4", "tokenizers==0.21.4", "huggingface-hub==0.34.4")
# What huggingface-hub 0.34 imports and 1.x, which the environment has, does not.
REQUESTS = (
    "requests==2.32.5",
    "urllib3<3",
    "idna<4",
    "certifi",
    "charset-normalizer<4",
)


def setup() -> Path:
    """Install the wheels unless they are there; returns the folder for `sys.path`."""
    stamp = FOLDER / "stamp"
    wanted = "\n".join((*PINS, *REQUESTS))
    if stamp.is_file() and stamp.read_text("utf-8") == wanted:
        return FOLDER
    FOLDER.parent.mkdir(exist_ok=True)
    fresh = FOLDER.with_name(f"{FOLDER.name}.{os.getpid()}")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
    command += ["--disable-pip-version-check", "--target", str(fresh)]
    subprocess.run([*command, *PINS, *REQUESTS], check=True)
    shutil.rmtree(fresh / "bin", ignore_errors=True)
    (fresh / "stamp").write_text(wanted, "utf-8")
    shutil.rmtree(FOLDER, ignore_errors=True)
    fresh.replace(FOLDER)
    return FOLDER


if __name__ == "__main__":
    print(setup())
