"""Sources written in JAX: haiku, Flax linen, Flax NNX and plain functions."""
