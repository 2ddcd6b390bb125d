"""What a port cannot do without: the frameworks' imports and one torch.export.

``python baseline_export.py MODEL`` builds a well-known model at random, or loads it from
a folder, as a port does, and exports it once. ivyport takes no part.
"""

from __future__ import annotations

import sys
from pathlib import Path

import flax.nnx
import jax
import torch
import transformers


def main(model_id: str) -> None:
    """Load or build BertForMaskedLM, and export it."""
    torch.manual_seed(0)
    config = transformers.BertConfig(use_cache=False)  # bert-base-uncased's values
    if Path(model_id).is_dir():
        model = transformers.BertForMaskedLM.from_pretrained(model_id)
    else:
        model = transformers.BertForMaskedLM(config)
    model.eval()
    shape = (2, 16)
    inputs = {
        "input_ids": torch.randint(1000, 20000, shape),
        "attention_mask": torch.ones(shape, dtype=torch.int64),
    }
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    program = torch.export.export(
        model,
        (),
        inputs,
        dynamic_shapes=dict.fromkeys(inputs, free),
        strict=False,
    )
    print(len(program.graph.nodes), jax.__version__, flax.nnx.Module.__name__)


if __name__ == "__main__":
    main(sys.argv[1])
