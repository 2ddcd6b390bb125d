"""The sizes of the five published Perceiver IO models, and example inputs for them.

arXiv:2107.14795, appendix. The defaults are those of the published checkpoints.
"""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class EncoderSizes:
    """Sizes of the encoder, which every variant has."""

    num_latents: int
    latent_channels: int
    num_blocks: int
    self_attends_per_block: int
    self_attention_heads: int
    cross_attention_heads: int


@dataclasses.dataclass(frozen=True)
class ImageNetSizes(EncoderSizes):
    """Sizes of the image classifiers.

    Attributes:
        channels: of the pixels and of the learned position encoding, or of the convolution.
        num_bands: frequencies an axis of the Fourier features.
    """

    num_latents: int = 512
    latent_channels: int = 1024
    num_blocks: int = 8
    self_attends_per_block: int = 6
    self_attention_heads: int = 8
    cross_attention_heads: int = 1
    image_size: tuple[int, int] = (224, 224)
    num_classes: int = 1000
    channels: int = 256
    num_bands: int = 64

    def inputs(self, batch: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Normalised images, float32 [batch, height, width, 3]."""
        return {"images": _normal(rng, batch, *self.image_size, 3)}


@dataclasses.dataclass(frozen=True)
class LanguageSizes(EncoderSizes):
    """Sizes of the masked language model over bytes.

    Attributes:
        qk_channels: width of queries and keys in every attention.
        vocabulary: 256 bytes after 6 special tokens.
        width: channels of a token's embedding, and of the decoder's queries.
    """

    num_latents: int = 256
    latent_channels: int = 1280
    num_blocks: int = 1
    self_attends_per_block: int = 26
    self_attention_heads: int = 8
    cross_attention_heads: int = 8
    qk_channels: int = 256
    sequence_length: int = 2048
    vocabulary: int = 262
    width: int = 768

    def inputs(self, batch: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Token ids and a mask that leaves out the end of all texts but the first.

        Both int32 [batch, sequence_length].
        """
        shape = (batch, self.sequence_length)
        tokens = rng.integers(0, self.vocabulary, shape, dtype=np.int32)
        kept = self.sequence_length - np.arange(batch) % 4 * (self.sequence_length // 4)
        mask = np.arange(self.sequence_length) < kept[:, None]
        return {"inputs": tokens, "input_mask": mask.astype(np.int32)}


@dataclasses.dataclass(frozen=True)
class FlowSizes(EncoderSizes):
    """Sizes of the optical flow model.

    Attributes:
        channels: that the patches of both frames are projected to.
        num_bands: frequencies an axis of the Fourier features.
    """

    num_latents: int = 2048
    latent_channels: int = 512
    num_blocks: int = 1
    self_attends_per_block: int = 24
    self_attention_heads: int = 16
    cross_attention_heads: int = 1
    image_size: tuple[int, int] = (368, 496)
    channels: int = 64
    num_bands: int = 64

    def inputs(self, batch: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Two normalised frames, float32 [batch, 2, height, width, 3]."""
        return {"images": _normal(rng, batch, 2, *self.image_size, 3)}


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)
