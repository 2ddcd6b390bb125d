"""Build one case's files: weights, inputs, torch's own output, and the port.

Run as a process: ``python prepare.py CASE FOLDER``. The folder gets

- ``torch/``: config.json and model.safetensors, as transformers saves them;
- ``port/``: what ``ivyport.port`` writes;
- ``inputs.npz`` and ``reference.npz``: inputs by argument name, torch's output fields.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cases import CASES, Case

if TYPE_CHECKING:
    import torch


def inputs_of(case: Case) -> dict[str, torch.Tensor]:
    """Seeded inputs; the last eighth of the tokens is padding."""
    import torch

    generator = torch.Generator().manual_seed(0)
    if case.pixels:
        images = (case.batch, 3, case.pixels, case.pixels)
        return {"pixel_values": torch.randn(images, generator=generator)}
    assert case.seq_len is not None
    shape = (case.batch, case.seq_len)
    ids = torch.randint(1000, 20000, shape, generator=generator)
    mask = torch.ones(shape, dtype=torch.int64)
    mask[:, -case.seq_len // 8 :] = 0
    return {"input_ids": ids, "attention_mask": mask}


def prepare(case: Case, folder: Path) -> None:
    """Write everything that the workers of a case read."""
    import numpy as np
    import torch

    import ivyport
    from ivyport.zoo import hf, hf_configs

    config = hf_configs.published_config(case.model)
    assert config is not None
    # Perturbed, so that no bias is zero and no scale one: parity then tests those too.
    model = hf.build(config, cls=case.cls, perturb=True)
    inputs = inputs_of(case)
    with torch.inference_mode():
        output = model(**inputs)
    np.savez(folder / "inputs.npz", **{k: v.numpy() for k, v in inputs.items()})
    np.savez(folder / "reference.npz", **{k: output[k].numpy() for k in case.outputs})
    model.save_pretrained(folder / "torch")
    # Ported as the command line does it: from example inputs of another size.
    example = hf.example_inputs(model)
    dims = hf.dims(model, example)
    ivyport.port(model, "jax", folder / "port", kwargs=example, dims=dims, verify=False)


if __name__ == "__main__":
    prepare(CASES[sys.argv[1]], Path(sys.argv[2]))
