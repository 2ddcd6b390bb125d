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

        Weights have a variance of one over their fan-in; no parameter is left constant, as
        haiku's initial biases and scales would be. Moving averages are those after one batch
        of training on the example inputs.
        """
        params, state = self.specs()
        rng = np.random.default_rng(seed)
        drawn = {
            module: {name: _draw(rng, name, spec) for name, spec in own.items()}
            for module, own in sorted(params.items())
        }
        return drawn, self._trained_state(drawn, seed) if state else {}

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
    values = rng.standard_normal(spec.shape, dtype=np.float32)
    if name in _NEAR_ONE:
        values = 1 + _SPREAD * values
    elif name in _NEAR_ZERO:
        values *= _SPREAD
    else:
        values /= np.sqrt(np.prod(spec.shape[:-1]))
    return values.astype(spec.dtype)
