"""The haiku zoo: Perceiver IO and the nets of dm-haiku, with their checkpoints.

`ivyport.zoo.haiku.catalogue` lists the entries without importing haiku;
`ivyport.zoo.haiku.checkpoints` reads their weights. Nothing is imported here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ivyport.zoo.haiku.model import HaikuModel

__all__ = ["perceiver"]


def perceiver(
    variant: str, *, batch: int = 2, seed: int = 0, **sizes: Any
) -> HaikuModel:
    """A Perceiver IO: the transformed function and example inputs for it.

    Args:
        variant: ``imagenet-learned``, ``imagenet-fourier``, ``imagenet-conv``,
            ``language-bytes`` or ``optical-flow``.
        batch: batch size of the example inputs.
        seed: what the example inputs are drawn from.
        sizes: fields of the variant's sizes (`ivyport.zoo.haiku.perceiver_variants`) that
            differ from those of the published checkpoint, such as ``num_latents=12``.

    Raises:
        InputError: no such variant or size.

    >>> model = perceiver("imagenet-fourier", num_latents=8, latent_channels=32)
    >>> sorted(model.inputs)
    ['images']
    """
    from ivyport.zoo.haiku.catalogue import ENTRIES

    return ENTRIES["perceiver"].build(variant, batch=batch, seed=seed, sizes=sizes)
