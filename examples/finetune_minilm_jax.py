"""Fine-tune the ported MiniLM in JAX with optax, then send it home to PyTorch.

    python examples/finetune_minilm_jax.py

The task (see `_verdicts.py`) is to tell praise from blame where half of the sentences
deny what they say. It takes about two minutes on two cores. Every claim that the
script prints is checked; it exits with an error where one does not hold.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _minilm import model_folder, run_ivyport, tokenize
from _verdicts import HELD_OUT, TRAIN, sentences
from flax import nnx

import ivyport

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

LEARNING_RATE = 5e-5
WEIGHT_DECAY = 0.01
PARITY_STEPS = 20
Inputs = dict[str, np.ndarray]


@dataclass(frozen=True)
class Examples:
    """Token ids and masks, int32 (N, S), and labels, int32 (N,)."""

    inputs: Inputs
    labels: np.ndarray

    def __getitem__(self, rows: np.ndarray | slice) -> Examples:
        taken = {name: values[rows] for name, values in self.inputs.items()}
        return Examples(taken, self.labels[rows])


class Classifier(nnx.Module):
    """A port is an ordinary `nnx.Module`, so it can be a part of one of your own."""

    def __init__(self, encoder: nnx.Module, *, rngs: nnx.Rngs):
        self.encoder = encoder
        width = encoder.embeddings.word_embeddings.features
        self.head = nnx.Linear(width, 2, rngs=rngs)

    def embed(self, input_ids: jax.Array, attention_mask: jax.Array) -> jax.Array:
        """The mean over the tokens that are not padding, (B, C)."""
        hidden = self.encoder(input_ids, attention_mask).last_hidden_state
        weights = attention_mask[:, :, None].astype(hidden.dtype)
        return (hidden * weights).sum(1) / weights.sum(1)

    def __call__(self, input_ids: jax.Array, attention_mask: jax.Array) -> jax.Array:
        """Logits, (B, 2)."""
        return self.head(self.embed(input_ids, attention_mask))


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean over the batch, a scalar."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean()


@nnx.jit
def train_step(
    model: Classifier, optimizer: nnx.Optimizer, inputs: Inputs, labels: np.ndarray
) -> jax.Array:
    """One step on all parameters; returns the loss before it."""
    loss, gradients = nnx.value_and_grad(
        lambda model: cross_entropy(model(**inputs), labels)
    )(model)
    optimizer.update(model, gradients)
    return loss


@nnx.jit
def embed(model: Classifier, inputs: Inputs) -> jax.Array:
    """Sentence embeddings, (B, C)."""
    return model.embed(**inputs)


def load_classifier(folder: Path, seed: int) -> Classifier:
    """The port in `folder`, in eval mode, under a new linear layer.

    `ivyport.load` remembers where the weights came from, so that `ivyport.save` can
    write them back. To train only, no ivyport is needed: put `folder` on the path and
    `from modeling_minilm import BertModel`, `BertModel.from_pretrained(folder)`.
    """
    return Classifier(ivyport.load(folder), rngs=nnx.Rngs(seed))


def make_optimizer(model: nnx.Module) -> nnx.Optimizer:
    """AdamW on every parameter; buffers and dropout keys are not `nnx.Param`.

    `optax.adamw` and `torch.optim.AdamW` have the same formula and the same betas and
    eps by default; only their weight decays differ (1e-4 and 1e-2).
    """
    transform = optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    return nnx.Optimizer(model, transform, wrt=nnx.Param)


def make_data(source: Path, count: int, seed: int) -> tuple[Examples, Examples]:
    """Training and held-out examples, padded alike so that each step compiles once."""
    texts, labels = sentences(TRAIN, count, seed)
    held_texts, held_labels = sentences(HELD_OUT, 240, seed)
    inputs = tokenize(source, texts + held_texts)
    examples = Examples(inputs, np.array(labels + held_labels, np.int32))
    return examples[: len(texts)], examples[len(texts) :]


def batches(data: Examples, size: int, steps: int, seed: int) -> Iterator[Examples]:
    """`steps` batches: the data in a new order each time through."""
    rng = np.random.default_rng(seed)
    rows = np.empty(0, np.int64)
    for _ in range(steps):
        if len(rows) < size:
            rows = rng.permutation(len(data.labels))
        yield data[rows[:size]]
        rows = rows[size:]


# ---- claim 1: it trains as it does in torch


def losses_in_jax(model: Classifier, steps: list[Examples]) -> np.ndarray:
    """The loss at each step with dropout off, float32 (steps,)."""
    model.eval()
    optimizer = make_optimizer(model)
    losses = [train_step(model, optimizer, b.inputs, b.labels) for b in steps]
    return np.array(losses)


def losses_in_torch(
    source: Path, kernel: np.ndarray, bias: np.ndarray, steps: list[Examples]
) -> np.ndarray:
    """The same training of the source model, from the same head, float32 (steps,)."""
    import torch

    encoder = torch_encoder(source)
    head = torch.nn.Linear(*kernel.shape)
    with torch.no_grad():
        head.weight.copy_(torch.tensor(kernel.T))
        head.bias.copy_(torch.tensor(bias))
    optimizer = torch.optim.AdamW(
        [*encoder.parameters(), *head.parameters()],
        lr=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        fused=True,  # the same formula in one pass over memory
    )
    losses = []
    for batch in steps:
        logits = head(torch_embed(encoder, batch.inputs))
        labels = torch.from_numpy(batch.labels).long()
        loss = torch.nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses, np.float32)


def torch_encoder(folder: Path) -> PreTrainedModel:
    """The torch model in `folder`, in eval mode."""
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    return AutoModel.from_pretrained(folder).eval()


def torch_embed(encoder: PreTrainedModel, inputs: Inputs) -> torch.Tensor:
    """What `Classifier.embed` does, in torch: float32 (B, C)."""
    import torch

    tensors = {name: torch.from_numpy(values) for name, values in inputs.items()}
    weights = tensors["attention_mask"][:, :, None].float()
    hidden = encoder(**tensors).last_hidden_state
    return (hidden * weights).sum(1) / weights.sum(1)


def compare_training(
    source: Path, port: Path, data: Examples, size: int, seed: int
) -> None:
    """Train twenty steps on either side and compare the losses."""
    steps = list(batches(data, size, PARITY_STEPS, seed))
    model = load_classifier(port, seed)
    kernel, bias = np.array(model.head.kernel[...]), np.array(model.head.bias[...])
    in_jax = losses_in_jax(model, steps)
    in_torch = losses_in_torch(source, kernel, bias, steps)
    print(f"\nloss over {PARITY_STEPS} steps without dropout")
    for name, losses in (("torch", in_torch), ("jax", in_jax)):
        print(f"  {name:<5}", *(f"{loss:.4f}" for loss in losses))
    difference = float((abs(in_jax - in_torch) / abs(in_torch)).max())
    claim(f"largest relative difference {difference:.1e} < 1e-4", difference < 1e-4)


# ---- claim 2: dropout is on in train mode, with new randomness at each call


def compare_modes(model: Classifier, batch: Examples) -> None:
    """Embed one batch twice in train mode and twice in eval mode."""
    print("\ndropout")
    model.train()
    first, second = embed(model, batch.inputs), embed(model, batch.inputs)
    claim("two calls in train mode differ", not jnp.allclose(first, second, atol=1e-2))
    model.eval()
    first, second = embed(model, batch.inputs), embed(model, batch.inputs)
    claim("two calls in eval mode are equal", bool(jnp.array_equal(first, second)))


# ---- claim 3: fine-tuning beats the frozen encoder


def frozen_accuracy(model: Classifier, train: Examples, held_out: Examples) -> float:
    """Held-out accuracy of a linear layer that is trained on the frozen embeddings."""
    model.eval()
    embedded = np.array(embed(model, train.inputs))
    # Centred and scaled, so that the linear layer converges: a fair opponent.
    mean, scale = embedded.mean(0), embedded.std()
    head = nnx.Linear(embedded.shape[1], 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(head, optax.adamw(1e-2, weight_decay=0.1), wrt=nnx.Param)

    @nnx.jit
    def step(head: nnx.Linear, optimizer: nnx.Optimizer, x: jax.Array) -> None:
        gradients = nnx.grad(lambda head: cross_entropy(head(x), train.labels))(head)
        optimizer.update(head, gradients)

    for _ in range(300):
        step(head, optimizer, (embedded - mean) / scale)
    logits = head((embed(model, held_out.inputs) - mean) / scale)
    return float((logits.argmax(-1) == held_out.labels).mean())


def accuracy(model: Classifier, data: Examples) -> float:
    """The share of examples that the model gets right, dropout off."""
    model.eval()
    logits = model.head(embed(model, data.inputs))
    return float((logits.argmax(-1) == data.labels).mean())


def finetune(model: Classifier, steps: Iterator[Examples]) -> None:
    """Train encoder and head together, dropout on."""
    model.train()
    optimizer = make_optimizer(model)
    start, recent = time.perf_counter(), []
    for number, batch in enumerate(steps, 1):
        recent.append(float(train_step(model, optimizer, batch.inputs, batch.labels)))
        if number % 20 == 0:
            seconds = time.perf_counter() - start
            mean = np.mean(recent)
            print(f"  step {number:<4} loss {mean:.3f}  {seconds:.0f} s", flush=True)
            recent.clear()
    model.eval()


# ---- claim 4: the fine-tuned weights go home


def send_home(model: Classifier, source: Path, out: Path, data: Examples) -> None:
    """Save the encoder, give it back to transformers, and compare what both say."""
    tuned, home = out / "tuned", out / "tuned_torch"
    ivyport.save(model.encoder, tuned)
    print()
    run_ivyport("weights", "home", str(tuned), "-o", str(home))
    # The weights are home; transformers also wants the configuration beside them.
    shutil.copy(source / "config.json", home)

    import torch

    with torch.no_grad():
        in_torch = torch_embed(torch_encoder(home), data.inputs).numpy()
        untrained = torch_embed(torch_encoder(source), data.inputs).numpy()
    in_jax = np.array(embed(model, data.inputs))
    size = np.abs(in_jax).max()
    difference = float(np.abs(in_jax - in_torch).max() / size)
    moved = float(np.abs(in_jax - untrained).max() / size)
    claim(f"embeddings moved in training, by {moved:.1e}", moved > 1e-3)
    claim(f"torch and jax differ by {difference:.1e} < 1e-5", difference < 1e-5)


def claim(text: str, holds: bool) -> None:
    """Print what was found; end the script where it is not what was promised."""
    print(f"  {text}: {'yes' if holds else 'NO'}", flush=True)
    if not holds:
        sys.exit(f"the claim does not hold: {text}")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Fine-tune the ported MiniLM in JAX.")
    parser.add_argument("--steps", type=int, default=120, help="fine-tuning steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("ported/finetune"))
    parser.add_argument(
        "--quick", action="store_true", help="small batches, and no claim on accuracy"
    )
    return parser.parse_args()


def main() -> None:
    """Port, train on both sides, fine-tune, and send the result home."""
    chosen = arguments()
    steps, size = (5, 4) if chosen.quick else (chosen.steps, 16)
    source, port = model_folder(), chosen.out / "minilm"
    run_ivyport("hf", str(source), "--to", "jax", "-o", str(port), "--no-verify")
    train, held_out = make_data(source, 720, chosen.seed)

    compare_training(source, port, train, size, chosen.seed)
    model = load_classifier(port, chosen.seed)
    compare_modes(model, train[:size])
    if not chosen.quick:
        frozen = frozen_accuracy(model, train, held_out)
    print(f"\nfine-tuning, {steps} steps of {size} sentences", flush=True)
    finetune(model, batches(train, size, steps, chosen.seed))
    if not chosen.quick:
        tuned = accuracy(model, held_out)
        print(f"\naccuracy on {len(held_out.labels)} held-out sentences")
        print(f"  frozen encoder  {frozen:.1%}\n  fine-tuned      {tuned:.1%}")
        claim("at least ten points better", tuned >= frozen + 0.1)
    send_home(model, source, chosen.out, held_out[:32])


if __name__ == "__main__":
    main()
