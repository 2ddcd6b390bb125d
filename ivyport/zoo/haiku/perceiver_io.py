"""Encoder, decoders and input processors of Perceiver IO, as haiku modules.

arXiv:2107.14795. Attention layers are in `perceiver_layers`, position encodings in
`perceiver_positions`, the published sizes in `perceiver_variants`.

Shapes below: B batch, N elements of the input, L latents, Q output queries, C channels.
"""

from __future__ import annotations

from typing import Literal

import haiku as hk
import jax
import jax.numpy as jnp

from ivyport.zoo.haiku.perceiver_layers import CrossAttention, SelfAttention
from ivyport.zoo.haiku.perceiver_positions import (
    FourierPositionEncoding,
    PositionEncodingProjector,
    TrainablePositionEncoding,
)

#: Rows and columns of the neighbourhood that stands for a pixel in optical flow.
PATCH = 3


class PerceiverEncoder(hk.Module):
    """Reads an input into latents and works on them.

    Args:
        num_latents, latent_channels: L and C of the latents.
        num_blocks: how often the self-attentions are gone through, with shared weights.
        self_attends_per_block: self-attentions in a block.
        self_attention_heads, cross_attention_heads: heads of either kind.
        qk_channels, v_channels: widths of every attention, by default the inputs' own.
    """

    def __init__(
        self,
        num_latents: int,
        latent_channels: int,
        num_blocks: int,
        self_attends_per_block: int,
        self_attention_heads: int,
        cross_attention_heads: int,
        qk_channels: int | None = None,
        v_channels: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.num_blocks = num_blocks
        self.latents = TrainablePositionEncoding(num_latents, latent_channels)
        self.cross_attention = CrossAttention(
            cross_attention_heads, qk_channels, v_channels
        )
        self.self_attentions = [
            SelfAttention(self_attention_heads, qk_channels, v_channels)
            for _ in range(self_attends_per_block)
        ]

    def __call__(
        self, inputs: jax.Array, input_mask: jax.Array | None = None
    ) -> jax.Array:
        """Encode float [B, N, D] as float [B, L, C].

        `input_mask` is boolean [B, N], True for the elements to read.
        """
        latents = self.cross_attention(
            self.latents(inputs), inputs, key_mask=input_mask
        )
        for _ in range(self.num_blocks):
            for self_attention in self.self_attentions:
                latents = self_attention(latents)
        return latents


class BasicDecoder(hk.Module):
    """Reads an output off the latents, one element a query.

    Args:
        num_heads, qk_channels, v_channels, query_residual: as in `CrossAttention`.
        queries: positions and channels of learned queries, for a decoder that has some.
        output_channels: of a last dense layer, None for none.
    """

    def __init__(
        self,
        num_heads: int,
        qk_channels: int | None = None,
        v_channels: int | None = None,
        *,
        query_residual: bool = True,
        queries: tuple[int, int] | None = None,
        output_channels: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.num_heads = num_heads
        self.qk_channels = qk_channels
        self.v_channels = v_channels
        self.query_residual = query_residual
        self.output_channels = output_channels
        self.queries = None if queries is None else TrainablePositionEncoding(*queries)

    def __call__(
        self,
        latents: jax.Array,
        queries: jax.Array | None = None,
        *,
        query_mask: jax.Array | None = None,
    ) -> jax.Array:
        """Decode float [B, L, C] to float [B, Q, output_channels].

        `queries` is float [B, Q, D]; without it the learned ones are used. `query_mask` is
        boolean [B, Q], True for the queries to answer. Without a last layer, the result has
        the queries' channels.
        """
        if queries is None:
            assert self.queries is not None, "a decoder without learned queries"
            queries = self.queries(latents)
        cross_attention = CrossAttention(
            self.num_heads,
            self.qk_channels,
            self.v_channels,
            query_residual=self.query_residual,
        )
        output = cross_attention(queries, latents, query_mask=query_mask)
        if self.output_channels is None:
            return output
        return hk.Linear(self.output_channels, name="output")(output)


class ClassificationDecoder(hk.Module):
    """Reads the logits of classes off the latents with a single learned query.

    Args:
        num_classes: K.
        channels: of the query.
        num_heads, query_residual: as in `CrossAttention`.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int,
        num_heads: int,
        *,
        query_residual: bool,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.decoder = BasicDecoder(
            num_heads,
            query_residual=query_residual,
            queries=(1, channels),
            output_channels=num_classes,
        )

    def __call__(self, latents: jax.Array) -> jax.Array:
        """Classify float [B, L, C]: logits float [B, K]."""
        return self.decoder(latents)[:, 0]


class FlowDecoder(hk.Module):
    """Reads a flow vector off the latents for every pixel of the first frame.

    Args:
        image_size: height H and width W of a frame.
        num_heads: as in `CrossAttention`.
        rescale: what the vectors are divided by.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        num_heads: int,
        rescale: float,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.image_size = image_size
        self.rescale = rescale
        self.decoder = BasicDecoder(num_heads, query_residual=False, output_channels=2)

    def __call__(self, latents: jax.Array, pixels: jax.Array) -> jax.Array:
        """Decode float [B, L, C] at pixels float [B, H * W, D]: float [B, H, W, 2]."""
        flow = self.decoder(latents, pixels) / self.rescale
        return flow.reshape(flow.shape[0], *self.image_size, 2)


class EmbeddingDecoder(hk.Module):
    """Logits of tokens: the likeness to each token's embedding, and a bias."""

    def __call__(self, hidden: jax.Array, embeddings: jax.Array) -> jax.Array:
        """Compare float [B, Q, C] with embeddings float [V, C]: float [B, Q, V]."""
        bias = hk.get_parameter("bias", embeddings.shape[:1], init=jnp.zeros)
        return hidden @ embeddings.T + bias


class Conv2DDownsample(hk.Module):
    """A strided convolution, batch norm, ReLU and max pooling: a quarter of each side.

    Args:
        channels: of the result.
    """

    def __init__(self, channels: int = 64, name: str | None = None) -> None:
        super().__init__(name=name)
        self.conv = hk.Conv2D(channels, 7, stride=2, with_bias=False, name="conv")
        self.norm = hk.BatchNorm(
            create_scale=True, create_offset=True, decay_rate=0.9, name="batchnorm"
        )

    def __call__(self, images: jax.Array, is_training: bool) -> jax.Array:
        """Map float [B, H, W, D] to float [B, H / 4, W / 4, channels]."""
        x = jax.nn.relu(self.norm(self.conv(images), is_training))
        return hk.max_pool(x, (1, 3, 3, 1), (1, 2, 2, 1), "SAME", channel_axis=None)


class ImagePreprocessor(hk.Module):
    """Turns images or pairs of frames into elements with their positions.

    Args:
        prep: what is made of the pixels: a ``conv1x1``, a ``conv`` with downsampling,
            ``patches`` of two frames, or the bare ``pixels``.
        image_size: height H and width W of the images.
        channels: of what the convolutions make of the pixels.
        num_bands: of the Fourier features, None for learned position encodings.
        max_resolution: of the Fourier features, by default that of the elements.
    """

    def __init__(
        self,
        prep: Literal["pixels", "conv1x1", "conv", "patches"],
        image_size: tuple[int, int],
        *,
        channels: int = 64,
        num_bands: int | None = None,
        max_resolution: tuple[int, int] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.prep = prep
        self.image_size = image_size
        self.channels = channels
        self.num_bands = num_bands
        self.max_resolution = max_resolution
        if prep == "conv1x1":
            self.conv = hk.Conv2D(channels, 1)
        elif prep == "conv":
            self.downsample = Conv2DDownsample(channels)
            self.image_size = (-(-image_size[0] // 4), -(-image_size[1] // 4))

    def __call__(self, images: jax.Array, is_training: bool = False) -> jax.Array:
        """Elements float [B, N, C] of images float [B, H, W, 3], N = H * W.

        With ``patches``, `images` are two frames, float [B, 2, H, W, 3]; with ``conv``, the
        elements are a quarter of the height by a quarter of the width.
        """
        if self.prep == "conv1x1":
            images = self.conv(images)
        elif self.prep == "conv":
            images = self.downsample(images, is_training)
        elif self.prep == "patches":
            images = neighbourhoods(images)
            images = hk.Linear(self.channels, name="patches_linear")(images)
        return self._build_network_inputs(images)

    def _build_network_inputs(self, images: jax.Array) -> jax.Array:
        """Lay float [B, H, W, C] out as elements and append their positions."""
        height, width = self.image_size
        elements = images.reshape(images.shape[0], height * width, images.shape[-1])
        if self.num_bands is None:
            encode = TrainablePositionEncoding(height * width, self.channels)
            positions = PositionEncodingProjector(self.channels)(encode(elements))
        else:
            fourier = FourierPositionEncoding(
                self.image_size, self.num_bands, self.max_resolution or self.image_size
            )
            positions = fourier(elements)
        return jnp.concatenate([elements, positions], axis=-1)


def neighbourhoods(frames: jax.Array) -> jax.Array:
    """The surroundings of every pixel in all frames: [B, H, W, T * PATCH * PATCH * C].

    `frames` is float [B, T, H, W, C]; zeros lie around it.
    """
    height, width = frames.shape[2:4]
    margin = (PATCH // 2, PATCH // 2)
    padded = jnp.pad(frames, [(0, 0), (0, 0), margin, margin, (0, 0)])
    shifted = [
        padded[:, frame, row : row + height, column : column + width]
        for frame in range(frames.shape[1])
        for row in range(PATCH)
        for column in range(PATCH)
    ]
    return jnp.concatenate(shifted, axis=-1)
