"""The position encodings of Perceiver IO: learned vectors and Fourier features.

A position encoding says where an element of the input lies, since attention itself does
not: arXiv:2107.14795, section "Position encodings" of the appendix.
"""

from __future__ import annotations

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np


class TrainablePositionEncoding(hk.Module):
    """A learned vector for each position.

    Args:
        length: N, the number of positions.
        channels: C, of each vector.
        init_scale: standard deviation of the vectors at first.
    """

    def __init__(
        self,
        length: int,
        channels: int,
        init_scale: float = 0.02,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.length = length
        self.channels = channels
        self.init_scale = init_scale

    def __call__(self, like: jax.Array) -> jax.Array:
        """The vectors for a batch as large as that of `like`: float [B, N, C]."""
        init = hk.initializers.TruncatedNormal(stddev=self.init_scale)
        shape = (self.length, self.channels)
        vectors = hk.get_parameter("pos_embs", shape, init=init)
        return jnp.broadcast_to(vectors[None], (like.shape[0], *shape))


class PositionEncodingProjector(hk.Module):
    """A dense layer on top of a position encoding.

    Args:
        channels: of the result.
    """

    def __init__(self, channels: int, name: str | None = None) -> None:
        super().__init__(name=name)
        self.channels = channels

    def __call__(self, encoding: jax.Array) -> jax.Array:
        """Map float [B, N, C] to float [B, N, channels]."""
        return hk.Linear(self.channels)(encoding)


class FourierPositionEncoding(hk.Module):
    """Sines and cosines of the two coordinates of an image's pixels, and the coordinates.

    Coordinates run from -1 to 1. The frequencies of an axis are spread evenly from 1 to
    half of its resolution, the highest that it can tell apart.

    Args:
        image_size: height and width, N = height * width positions.
        num_bands: frequencies an axis.
        max_resolution: the resolution of each axis that the highest frequency is for.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        num_bands: int,
        max_resolution: tuple[int, int],
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.image_size = image_size
        self.num_bands = num_bands
        self.max_resolution = max_resolution

    def __call__(self, like: jax.Array) -> jax.Array:
        """The features for a batch as large as that of `like`: float [B, N, C].

        C is 2 + 4 * num_bands: both coordinates, the sines of both, the cosines of both.
        """
        height, width = self.image_size
        shape = (height, width, 1 + 2 * self.num_bands)
        rows = jnp.broadcast_to(self._waves(0)[:, None], shape)
        columns = jnp.broadcast_to(self._waves(1)[None], shape)
        kinds = (1, 1 + self.num_bands)
        pairs = zip(
            jnp.split(rows, kinds, -1), jnp.split(columns, kinds, -1), strict=True
        )
        features = jnp.concatenate([part for pair in pairs for part in pair], axis=-1)
        flat = features.reshape(1, height * width, 2 * shape[-1])
        return jnp.broadcast_to(flat, (like.shape[0], *flat.shape[1:]))

    def _waves(self, axis: int) -> np.ndarray:
        """Coordinate, sines and cosines of every place on an axis: [L, 1 + 2 * num_bands].

        Only one axis is ever tabulated, and in double precision: the whole grid would
        make the constants of a port larger than its parameters.
        """
        positions = np.linspace(-1.0, 1.0, self.image_size[axis])[:, None]
        highest = self.max_resolution[axis] / 2
        phases = np.pi * positions * np.linspace(1.0, highest, self.num_bands)
        waves = np.concatenate([positions, np.sin(phases), np.cos(phases)], axis=-1)
        return waves.astype(np.float32)
