"""A model of the haiku zoo: its function, example inputs, and seeded weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import haiku as hk

#: Parameters or state as haiku has them: module path, name, array.
Tree = dict[str, dict[str, np.ndarray]]
#: The same of anything that has a shape and a dtype.
Specs = Mapping[str, Mapping[str, Any]]

# Parameters whose initial values are constant in haiku; here they are drawn around one
# and zero, so that a comparison sees every one of them.
_NEAR_ONE = frozenset({"scale"})
_NEAR_ZERO = frozenset({"b", "bias", "offset"})
_SPREAD = 0.1


@dataclasses.dataclass(frozen=True)
class HaikuModel:
    """A haiku model and what to call it with.

    Attributes:
        transformed: `hk.transform_with_state` of the forward function.
        inputs: example arrays by argument name; they are the function's keyword arguments.
        flags: arguments that `init` needs beside them, such as ``is_training``.
    """

    transformed: hk.TransformedWithState
    inputs: dict[str, np.ndarray]
    flags: dict[str, bool]

    def specs(self) -> tuple[Specs, Specs]:
        """Shape and dtype of every parameter and of the state, by module and name.

        Nothing is allocated.
        """
        import jax

        # Closed over: under eval_shape, arguments would become traced.
        def init(key: jax.Array) -> tuple[Any, Any]:
            return self.transformed.init(key, **self.inputs, **self.flags)

        return jax.eval_shape(init, jax.random.key(0))

    def draw(self, seed: int) -> tuple[Tree, Tree]:
        """Random parameters from a seed, and a state to go with them.

        Weights have a variance of one over their fan-in, two for convolutions; no parameter
        is left constant, as haiku's initial biases and scales would be. The state is that after
        one batch of training on the example inputs, but for the means and variances of batch
        norm: those are drawn around zero and one. (The batch's own would have means far larger
        than deviations, and a comparison would see little but the rounding of their
        difference.)
        """
        params, state = self.specs()
        rng = np.random.default_rng(seed)
        drawn = {
            module: {name: _draw(rng, name, spec) for name, spec in own.items()}
            for module, own in sorted(params.items())
        }
        trained = self._trained_state(drawn, seed) if state else {}
        for module, averages in trained.items():
            if module.endswith(("/mean_ema", "/var_ema")):
                _set_average(rng, averages, near=float(module.endswith("/var_ema")))
        return drawn, trained

    def _trained_state(self, params: Tree, seed: int) -> Tree:
        import jax

        init_key, key = jax.random.split(jax.random.key(seed))

        def state(params: Tree) -> Any:
            _, initial = self.transformed.init(init_key, **self.inputs, **self.flags)
            _, after = self.transformed.apply(
                params, initial, key, **self.inputs, **self.flags
            )
            return after

        return jax.tree.map(np.asarray, jax.jit(state)(params))


def _draw(rng: np.random.Generator, name: str, spec: Any) -> np.ndarray:
    if name in _NEAR_ONE | _NEAR_ZERO:
        values = _around(rng, spec.shape, float(name in _NEAR_ONE))
    else:
        values = rng.standard_normal(spec.shape, dtype=np.float32)
        gain = (
            2.0 if len(spec.shape) >= 4 else 1.0
        )  # of a convolution; a ReLU takes half
        values *= np.sqrt(gain / np.prod(spec.shape[:-1]))
    return values.astype(spec.dtype)


def _set_average(
    rng: np.random.Generator, held: dict[str, np.ndarray], *, near: float
) -> None:
    """Replace a debiased moving average by a random one of as many updates."""
    before, after = held["average"], _around(rng, held["average"].shape, near)
    # The average is the hidden one over a number that all channels share.
    bias = np.abs(held["hidden"]).sum() / np.abs(before).sum()
    held |= {"average": after, "hidden": after * bias}


def _around(
    rng: np.random.Generator, shape: tuple[int, ...], near: float
) -> np.ndarray:
    drawn = rng.standard_normal(shape, dtype=np.float32)
    return (near + _SPREAD * drawn).astype(np.float32)
