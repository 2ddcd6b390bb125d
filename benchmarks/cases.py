"""What the latency benchmark measures: models, input sizes, engines.

Imports no framework, so that the driver and every worker can read it.
"""

from __future__ import annotations

from dataclasses import dataclass

PARITY = 1e-4  # of the reference output's largest magnitude; a worse row is not timed


@dataclass(frozen=True)
class Case:
    """One model on inputs of one size. `cls` is a transformers class, and the hand
    written class is that name with `Flax` before it; `outputs` are the compared
    fields."""

    model: str
    cls: str
    batch: int
    outputs: tuple[str, ...]
    seq_len: int | None = None
    pixels: int | None = None

    @property
    def size(self) -> str:
        """The input's size in words."""
        what = f"{self.pixels} px" if self.pixels else f"{self.seq_len} tokens"
        return f"batch {self.batch}, {what}"


_HIDDEN = ("last_hidden_state",)
_LOGITS = ("logits",)

CASES: dict[str, Case] = {
    "bert-base-b1": Case("bert-base-uncased", "BertModel", 1, _HIDDEN, seq_len=128),
    "bert-base-b8": Case("bert-base-uncased", "BertModel", 8, _HIDDEN, seq_len=128),
    "gpt2-b1": Case("gpt2", "GPT2Model", 1, _HIDDEN, seq_len=128),
    "vit-base-b1": Case(
        "google/vit-base-patch16-224",
        "ViTForImageClassification",
        1,
        _LOGITS,
        pixels=224,
    ),
    "resnet-50-b1": Case(
        "microsoft/resnet-50", "ResNetForImageClassification", 1, _LOGITS, pixels=224
    ),
}

# The port is called in three ways: as a pure function of its state (the row that is
# compared), with the module as an argument of jax.jit, and through nnx.jit, which
# returns the module's state from each call, and so copies its weights.
PORT = "port"
FLAX = "flax"
COMPILED = ("compile-default", "compile-reduce-overhead", "compile-max-autotune")
ENGINES: dict[str, str] = {
    PORT: "ivyport, jax.jit",
    "port-module": "ivyport, jax.jit of the module",
    "port-nnx": "ivyport, nnx.jit",
    FLAX: "hand-written Flax (transformers 4.55.4), jax.jit",
    "eager": "torch eager",
    "compile-default": "torch.compile",
    "compile-reduce-overhead": "torch.compile, reduce-overhead",
    "compile-max-autotune": "torch.compile, max-autotune",
}
