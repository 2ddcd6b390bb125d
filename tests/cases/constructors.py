"""What the tests of constructors share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from flax import nnx

TARGETS = ["jax", "torch"]


def fresh(port: Any, target: str, **changes: Any) -> Any:
    """The port's class, built from its configuration with some fields changed."""
    known = type(port).__init__.__globals__
    config = next((v for n, v in known.items() if n.endswith("Config")), None)
    values = () if config is None else (config(**changes),)
    return type(port)(*values, **({"rngs": nnx.Rngs(0)} if target == "jax" else {}))


def buffer(model: Any, path: str) -> np.ndarray:
    """A buffer of a port of either target."""
    for part in path.split("."):
        model = getattr(model, part)
    return np.asarray(model if torch.is_tensor(model) else model[...])


def llama(**changes: Any) -> Any:
    """A tiny LlamaModel with plain rotary embeddings, and its example inputs."""
    from transformers import LlamaConfig, LlamaModel

    fields: dict[str, Any] = {
        "vocab_size": 50, "hidden_size": 32, "intermediate_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "use_cache": False,
    }  # fmt: skip
    torch.manual_seed(0)
    return LlamaModel(LlamaConfig(**(fields | changes))).eval()
