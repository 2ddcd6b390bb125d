"""The sizes of the nets of `hk.nets`, and example inputs for them."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class ImageSizes:
    """Sizes of a residual network: its depth in layers, its version 1 or 2."""

    depth: int
    version: int = 1
    image_size: tuple[int, int] = (224, 224)
    num_classes: int = 1000

    def inputs(self, batch: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Normalised images, float32 [batch, height, width, 3]."""
        return _images(rng, batch, self.image_size)


@dataclasses.dataclass(frozen=True)
class MobileNetSizes:
    """Sizes of a MobileNet, with batch norm or with biases."""

    image_size: tuple[int, int] = (224, 224)
    num_classes: int = 1000
    batch_norm: bool = True

    def inputs(self, batch: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Normalised images, float32 [batch, height, width, 3]."""
        return _images(rng, batch, self.image_size)


@dataclasses.dataclass(frozen=True)
class MLPSizes:
    """Sizes of a multi-layer perceptron: its input's channels and those of every layer."""

    channels: int = 784
    layers: tuple[int, ...] = (300, 100, 10)
    dropout: float = 0.0

    def inputs(self, batch: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Normal values, float32 [batch, channels]."""
        return {"x": rng.standard_normal((batch, self.channels), dtype=np.float32)}


@dataclasses.dataclass(frozen=True)
class QuantizerSizes:
    """Sizes of a vector quantizer; its input is a grid of vectors."""

    channels: int = 64
    num_embeddings: int = 512
    grid: tuple[int, int] = (8, 8)
    commitment_cost: float = 0.25
    decay: float = 0.99

    def inputs(self, batch: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Normal values, float32 [batch, height, width, channels]."""
        shape = (batch, *self.grid, self.channels)
        return {"x": rng.standard_normal(shape, dtype=np.float32)}


def _images(
    rng: np.random.Generator, batch: int, size: tuple[int, int]
) -> dict[str, np.ndarray]:
    return {"images": rng.standard_normal((batch, *size, 3), dtype=np.float32)}
