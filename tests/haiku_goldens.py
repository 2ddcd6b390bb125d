"""The goldens of Perceiver IO: their sizes, weights, inputs and outputs.

`tests/data/perceiver/golden_*.npz` were made with the authors' implementation at small sizes, every
parameter drawn from a normal. Keys: params:MODULE:NAME, state:MODULE:NAME, in:ARGUMENT, out.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from ivyport.zoo.haiku import checkpoints, perceiver
from ivyport.zoo.haiku.model import HaikuModel, Tree

DATA = Path(__file__).parent / "data" / "perceiver"

_ENCODER = {"self_attends_per_block": 2, "latent_channels": 32}
_IMAGE = {
    **_ENCODER,
    "num_blocks": 2,
    "num_latents": 12,
    "self_attention_heads": 4,
    "image_size": (32, 32),
    "num_bands": 4,
    "num_classes": 10,
}
SIZES: dict[str, dict[str, Any]] = {
    "imagenet-learned": {**_IMAGE, "channels": 16},
    "imagenet-fourier": _IMAGE,
    "imagenet-conv": _IMAGE,
    "language-bytes": {
        **_ENCODER,
        "num_latents": 8,
        "self_attention_heads": 4,
        "cross_attention_heads": 4,
        "qk_channels": 16,
        "sequence_length": 40,
        "width": 24,
    },
    "optical-flow": {
        **_ENCODER,
        "num_latents": 8,
        "self_attention_heads": 4,
        "image_size": (16, 24),
        "num_bands": 4,
    },
}


@dataclasses.dataclass(frozen=True)
class Golden:
    """A small model with the golden's weights, inputs and output."""

    model: HaikuModel
    params: Tree
    state: Tree
    inputs: dict[str, np.ndarray]
    output: np.ndarray


def golden_file(variant: str) -> Path:
    return DATA / f"golden_{variant.replace('-', '_')}.npz"


def golden(variant: str) -> Golden:
    """The golden of a variant, such as ``imagenet-fourier``."""
    file = golden_file(variant)
    model = perceiver(variant, **SIZES[variant])
    params, state = checkpoints.load(file, *model.specs())
    with np.load(file) as archive:
        inputs = {n[3:]: archive[n] for n in archive.files if n.startswith("in:")}
        output = archive["out"]
    return Golden(model, params, state, inputs, output)
