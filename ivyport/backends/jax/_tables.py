"""Tables that constructors of emitted files compute: copied into them, in every form in JAX."""

from __future__ import annotations

import jax.numpy as jnp


def sinusoids(length, width, base=10000.0, halves=False, last=False):
    """Sines and cosines of positions, (length, width), of frequencies from 1 to 1 / base.

    They take turns, or are the two `halves`. `last` says that 1 / base is one of them.
    """
    count = width // 2
    steps = jnp.arange(count) / (count - last)
    angles = jnp.arange(length)[:, None] * base**-steps
    waves = [jnp.sin(angles), jnp.cos(angles)]
    return (
        jnp.concatenate(waves, 1)
        if halves
        else jnp.stack(waves, -1).reshape(length, width)
    )


def llama3_frequencies(width, base, factor, low, high, length):
    """Rotary frequencies whose long waves are stretched by `factor`, as in Llama 3."""
    rates = 1.0 / base ** (jnp.arange(0, width, 2) / width)
    kept = (length * rates / (2 * jnp.pi) - low) / (high - low)
    kept = jnp.clip(kept, 0, 1)
    return kept * rates + (1 - kept) * rates / factor


__all__ = ["llama3_frequencies", "sinusoids"]
