"""The nets of `hk.nets` as transformed functions.

https://dm-haiku.readthedocs.io/en/latest/api.html#common-models
"""

from __future__ import annotations

from collections.abc import Callable

import haiku as hk
import jax

from ivyport.zoo.haiku.nets_sizes import (
    ImageSizes,
    MLPSizes,
    MobileNetSizes,
    QuantizerSizes,
)

RESNETS: dict[int, Callable[..., hk.nets.ResNet]] = {
    18: hk.nets.ResNet18,
    34: hk.nets.ResNet34,
    50: hk.nets.ResNet50,
    101: hk.nets.ResNet101,
    152: hk.nets.ResNet152,
    200: hk.nets.ResNet200,
}


def resnet(sizes: ImageSizes) -> hk.TransformedWithState:
    """A residual network, of `sizes.depth` layers and version 1 or 2."""
    cls = RESNETS[sizes.depth]

    def classifier(images: jax.Array, is_training: bool = False) -> jax.Array:
        net = cls(sizes.num_classes, resnet_v2=sizes.version == 2)
        return net(images, is_training)

    return hk.transform_with_state(classifier)


def mobilenet(sizes: MobileNetSizes) -> hk.TransformedWithState:
    """MobileNet version 1."""

    def classifier(images: jax.Array, is_training: bool = False) -> jax.Array:
        net = hk.nets.MobileNetV1(
            num_classes=sizes.num_classes, use_bn=sizes.batch_norm
        )
        return net(images, is_training)

    return hk.transform_with_state(classifier)


def mlp(sizes: MLPSizes) -> hk.TransformedWithState:
    """A multi-layer perceptron with ReLU and, where it is trained, dropout."""

    def perceptron(x: jax.Array, is_training: bool = False) -> jax.Array:
        net = hk.nets.MLP(sizes.layers)
        if is_training and sizes.dropout:
            return net(x, sizes.dropout, hk.next_rng_key())
        return net(x)

    return hk.transform_with_state(perceptron)


def vector_quantizer(sizes: QuantizerSizes) -> hk.TransformedWithState:
    """The quantizer of a VQ-VAE, trained by its loss."""

    def quantizer(x: jax.Array, is_training: bool = False) -> dict[str, jax.Array]:
        net = hk.nets.VectorQuantizer(
            sizes.channels, sizes.num_embeddings, sizes.commitment_cost
        )
        return net(x, is_training)

    return hk.transform_with_state(quantizer)


def vector_quantizer_ema(sizes: QuantizerSizes) -> hk.TransformedWithState:
    """The quantizer of a VQ-VAE, trained by moving averages."""

    def quantizer(x: jax.Array, is_training: bool = False) -> dict[str, jax.Array]:
        net = hk.nets.VectorQuantizerEMA(
            sizes.channels, sizes.num_embeddings, sizes.commitment_cost, sizes.decay
        )
        return net(x, is_training)

    return hk.transform_with_state(quantizer)
