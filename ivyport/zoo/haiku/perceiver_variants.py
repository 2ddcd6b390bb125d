"""The forward functions of the five published Perceiver IO models.

Processing of arXiv:2107.14795, appendix; the sizes are in `perceiver_sizes`.
"""

from __future__ import annotations

import haiku as hk
import jax

from ivyport.zoo.haiku.perceiver_io import (
    BasicDecoder,
    ClassificationDecoder,
    EmbeddingDecoder,
    FlowDecoder,
    ImagePreprocessor,
    PerceiverEncoder,
)
from ivyport.zoo.haiku.perceiver_positions import TrainablePositionEncoding
from ivyport.zoo.haiku.perceiver_sizes import (
    EncoderSizes,
    FlowSizes,
    ImageNetSizes,
    LanguageSizes,
)

#: Flow vectors are decoded in units of a hundredth, and that of this many pixels.
FLOW_RESCALE, FLOW_SCALE = 100.0, 20.0


def _encoder(
    sizes: EncoderSizes, qk_channels: int | None = None, v_channels: int | None = None
) -> PerceiverEncoder:
    return PerceiverEncoder(
        sizes.num_latents,
        sizes.latent_channels,
        sizes.num_blocks,
        sizes.self_attends_per_block,
        sizes.self_attention_heads,
        sizes.cross_attention_heads,
        qk_channels,
        v_channels,
    )


def imagenet_learned(sizes: ImageNetSizes) -> hk.TransformedWithState:
    """Classifier of pixels with learned position encodings."""

    def perceiver_classifier(images: jax.Array) -> jax.Array:
        prep = ImagePreprocessor("conv1x1", sizes.image_size, channels=sizes.channels)
        return _classify(sizes, prep(images), query_residual=False)

    return hk.transform_with_state(perceiver_classifier)


def imagenet_fourier(sizes: ImageNetSizes) -> hk.TransformedWithState:
    """Classifier of pixels with Fourier features for positions."""

    def perceiver_classifier(images: jax.Array) -> jax.Array:
        prep = ImagePreprocessor("pixels", sizes.image_size, num_bands=sizes.num_bands)
        return _classify(sizes, prep(images), query_residual=True)

    return hk.transform_with_state(perceiver_classifier)


def imagenet_conv(sizes: ImageNetSizes) -> hk.TransformedWithState:
    """Classifier of convolved and downsampled images."""

    def perceiver_classifier(images: jax.Array, is_training: bool = False) -> jax.Array:
        prep = ImagePreprocessor(
            "conv",
            sizes.image_size,
            channels=sizes.channels,
            num_bands=sizes.num_bands,
        )
        return _classify(sizes, prep(images, is_training), query_residual=True)

    return hk.transform_with_state(perceiver_classifier)


def _classify(
    sizes: ImageNetSizes, elements: jax.Array, *, query_residual: bool
) -> jax.Array:
    decoder = ClassificationDecoder(
        sizes.num_classes, sizes.latent_channels, 1, query_residual=query_residual
    )
    return decoder(_encoder(sizes)(elements))


def language_bytes(sizes: LanguageSizes) -> hk.TransformedWithState:
    """Masked language model over the bytes of a text."""

    def perceiver_language_model(inputs: jax.Array, input_mask: jax.Array) -> jax.Array:
        embed = hk.Embed(sizes.vocabulary, sizes.width)
        tokens = embed(inputs)
        positions = TrainablePositionEncoding(sizes.sequence_length, sizes.width)
        encoder = _encoder(sizes, sizes.qk_channels, sizes.latent_channels)
        decoder = BasicDecoder(
            sizes.cross_attention_heads,
            sizes.qk_channels,
            sizes.width,
            query_residual=False,
            queries=(sizes.sequence_length, sizes.width),
        )
        mask = input_mask.astype(bool)
        latents = encoder(tokens + positions(tokens), mask)
        hidden = decoder(latents, query_mask=mask)
        return EmbeddingDecoder()(hidden, embed.embeddings)

    return hk.transform_with_state(perceiver_language_model)


def optical_flow(sizes: FlowSizes) -> hk.TransformedWithState:
    """Motion of every pixel of a frame to the next one, in pixels."""

    def perceiver_flow(images: jax.Array) -> jax.Array:
        prep = ImagePreprocessor(
            "patches",
            sizes.image_size,
            channels=sizes.channels,
            num_bands=sizes.num_bands,
        )
        pixels = prep(images)
        decoder = FlowDecoder(
            sizes.image_size, sizes.cross_attention_heads, FLOW_RESCALE
        )
        return decoder(_encoder(sizes)(pixels), pixels) * FLOW_SCALE

    return hk.transform_with_state(perceiver_flow)
