"""Put a ported haiku Perceiver inside a PyTorch classifier of one's own, and train it.

    python examples/perceiver_classifier_torch.py

The backbone is a haiku function: Perceiver IO's pixels with Fourier features, and its
encoder (see `ivyport.zoo.haiku`). It becomes a `torch.nn.Module` with the same weights,
which a classifier written by hand holds like any other layer. The task is to tell which
corner of a noisy image is lit. It takes about two minutes on two cores. Every claim that
the script prints is checked; it exits with an error where one does not hold.

With `--weights FILE`, a published `imagenet_fourier_position_encoding.pystate`, the
backbone has the published size and weights.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import haiku as hk
import jax
import numpy as np
import torch
from torch import nn

import ivyport
from ivyport.zoo.haiku import checkpoints, perceiver
from ivyport.zoo.haiku.perceiver_io import ImagePreprocessor, PerceiverEncoder
from ivyport.zoo.haiku.perceiver_sizes import ImageNetSizes

CORNERS = 4
SMALL = ImageNetSizes(
    num_latents=16,
    latent_channels=64,
    num_blocks=2,
    self_attends_per_block=2,
    self_attention_heads=4,
    image_size=(24, 24),
    num_bands=6,
)


# ---- the source: a haiku function and its parameters


def make_backbone(sizes: ImageNetSizes) -> hk.Transformed:
    """Latents float32 [B, L, C] of images float32 [B, H, W, 3]."""

    def perceiver_backbone(images: jax.Array) -> jax.Array:
        pixels = ImagePreprocessor(
            "pixels", sizes.image_size, num_bands=sizes.num_bands
        )
        encoder = PerceiverEncoder(
            sizes.num_latents,
            sizes.latent_channels,
            sizes.num_blocks,
            sizes.self_attends_per_block,
            sizes.self_attention_heads,
            sizes.cross_attention_heads,
        )
        return encoder(pixels(images))

    return hk.without_apply_rng(hk.transform(perceiver_backbone))


def make_params(
    backbone: hk.Transformed, images: np.ndarray, weights: Path | None, seed: int
) -> Any:
    """Random parameters, or those of the backbone in a published checkpoint."""
    random = backbone.init(jax.random.key(seed), images)
    if weights is None:
        return random
    specs = perceiver("imagenet-fourier").specs()
    published, _ = checkpoints.load(weights, *specs, what="perceiver imagenet-fourier")
    return {module: published[module] for module in random}


# ---- the target: a module as a torch user would write it


class PerceiverClassifier(nn.Module):
    """A port is an ordinary `nn.Module`, so it can be a part of one of your own."""

    def __init__(self, backbone: nn.Module, channels: int, num_classes: int):
        super().__init__()
        self.backbone = backbone
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, K) of images (B, H, W, 3)."""
        latents = self.backbone(images=images)
        return self.head(self.norm(latents.mean(dim=1)))


def make_images(
    count: int, size: tuple[int, int], seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise with one corner lit: images (N, H, W, 3), and which corner, (N,)."""
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((count, *size, 3), dtype=np.float32)
    labels = rng.integers(0, CORNERS, count)
    height, width = size[0] // 2, size[1] // 2
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        rows = slice(row * height, (row + 1) * height)
        columns = slice(column * width, (column + 1) * width)
        image[rows, columns] += rng.uniform(0.6, 1.2)
    return torch.from_numpy(images), torch.from_numpy(labels)


def train(
    model: nn.Module, images: torch.Tensor, labels: torch.Tensor, steps: int, size: int
) -> list[float]:
    """Train every parameter with AdamW; the loss at each step."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    losses = []
    for step in range(steps):
        rows = torch.arange(step * size, (step + 1) * size) % len(labels)
        loss = nn.functional.cross_entropy(model(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % 20 == 0:
            print(f"  step {step + 1:<4} loss {np.mean(losses[-20:]):.3f}", flush=True)
    model.eval()
    return losses


# ---- the claims


def compare_outputs(
    backbone: hk.Transformed, params: Any, ported: nn.Module, images: torch.Tensor
) -> None:
    """The port says what haiku says."""
    print("\nhaiku and torch, from the same weights")
    expected = np.asarray(jax.jit(backbone.apply)(params, images.numpy()))
    with torch.no_grad():
        found = ported(images=images).numpy()
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    claim(f"latents differ by {difference:.1e} < 1e-5", difference < 1e-5)


def compare_names(params: Any, model: nn.Module) -> None:
    """`.parameters()` lists haiku's weights under names that mirror haiku's modules."""
    print("\nnames")
    named = dict(model.named_parameters())
    for name in list(named)[:: len(named) // 5]:
        print(f"  {name} {tuple(named[name].shape)}")
    prefixes = {module: namesake(module) for module in params}
    claim(
        "every haiku module has its namesake",
        all(any(n.startswith(p) for n in named) for p in prefixes.values()),
    )
    of_haiku = sum(x.size for x in jax.tree.leaves(params))
    of_torch = sum(x.numel() for x in model.backbone.parameters())
    claim(f"{of_torch:,} parameters on both sides", of_haiku == of_torch)


def namesake(module: str) -> str:
    """What the parameters of a haiku module are called here, up to their own names.

    ``perceiver_encoder/~/self_attention_1/mlp/linear`` is
    ``backbone.perceiver_encoder.self_attention.1.mlp.linear.``: modules that haiku numbers
    are a list, and ``~`` only says that one was made in another's `__init__`.
    """
    numbered = re.sub(
        r"self_attention(?:_(\d+))?/",
        lambda match: f"self_attention/{match[1] or 0}/",
        module,
    )
    parts = [part for part in numbered.split("/") if part != "~"]
    return ".".join(["backbone", *parts, ""])


def compare_copies(model: PerceiverClassifier, images: torch.Tensor, out: Path) -> None:
    """Saved and loaded, compiled, moved and cast, it is the same model."""
    print("\nan ordinary module")
    with torch.no_grad():
        expected = model(images)

    torch.save(model.state_dict(), out / "classifier.pt")
    ivyport.save(model.backbone, out / "backbone")
    fresh = PerceiverClassifier(
        ivyport.load(out / "backbone"), model.head.in_features, CORNERS
    ).eval()
    state = torch.load(out / "classifier.pt", weights_only=True)
    fresh.load_state_dict(state, strict=True)
    with torch.no_grad():
        claim(
            "saved and loaded, it says the same", torch.equal(fresh(images), expected)
        )

    compiled = torch.compile(model, fullgraph=True)
    with torch.no_grad():
        claim(
            "compiled as one graph, it says the same", near(compiled(images), expected)
        )

    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    with torch.no_grad():
        moved = fresh.to(device)(images.to(device)).cpu()
        claim(f"moved to {device}, it says the same", near(moved, expected, 1e-3))
        half = fresh.to("cpu", torch.bfloat16)(images.bfloat16())
    agree = (half.argmax(-1) == expected.argmax(-1)).float().mean().item()
    claim("cast to bfloat16, its logits are bfloat16", half.dtype == torch.bfloat16)
    claim(f"and {agree:.0%} of its answers are those of float32", agree >= 0.95)


def near(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-4) -> bool:
    """Whether the largest difference is small beside the largest value."""
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max())


def claim(text: str, holds: bool) -> None:
    """Print what was found; end the script where it is not what was promised."""
    print(f"  {text}: {'yes' if holds else 'NO'}", flush=True)
    if not holds:
        sys.exit(f"the claim does not hold: {text}")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train a ported Perceiver in torch.")
    parser.add_argument("--weights", type=Path, help="a published checkpoint")
    parser.add_argument("--steps", type=int, default=80, help="training steps")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("ported/perceiver_classifier"))
    return parser.parse_args()


def main() -> None:
    """Port the backbone, build the classifier, train it, and put it to use."""
    chosen = arguments()
    chosen.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(chosen.seed)
    sizes = SMALL if chosen.weights is None else ImageNetSizes()
    images, labels = make_images(1024, sizes.image_size, chosen.seed)
    held_images, held_labels = make_images(128, sizes.image_size, chosen.seed + 1)

    backbone = make_backbone(sizes)
    example = images[:2].numpy()
    params = make_params(backbone, example, chosen.weights, chosen.seed)
    ported = ivyport.transpile(
        backbone, to="torch", params=params, kwargs={"images": example}
    )
    compare_outputs(backbone, params, ported, images[:4])
    model = PerceiverClassifier(ported, sizes.latent_channels, CORNERS)
    compare_names(params, model)

    print(f"\ntraining, {chosen.steps} steps of {chosen.batch} images", flush=True)
    losses = train(model, images, labels, chosen.steps, chosen.batch)
    claim("the loss falls to less than half", np.mean(losses[-10:]) < losses[0] / 2)
    with torch.no_grad():
        right = (model(held_images).argmax(-1) == held_labels).float().mean().item()
    claim(f"{right:.1%} right on held-out images, at least 90%", right >= 0.9)
    compare_copies(model, held_images, chosen.out)


if __name__ == "__main__":
    main()
