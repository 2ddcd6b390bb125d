"""Draws from keys that the source makes itself: they are the same numbers in each call.

A key of a number that is written in the source (``jax.random.key(0)``) gives the same numbers each
time, so that they are constants of the model. What draws from a key that the caller gives, or from
a stream of the module's, draws from the port's own generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.extend.core import JaxprEqn

from ivyport.core.dims import Dim
from ivyport.core.errors import GraphError
from ivyport.core.ir import Scalar
from ivyport.frontends.jax import calls
from ivyport.frontends.jax.lines import line_of
from ivyport.frontends.jax.registry import Found, Key
from ivyport.frontends.jax.rules_random import PLUMBING

if TYPE_CHECKING:
    from ivyport.frontends.jax.lower import Lowering

NOISE = "noise"  # what a constant of drawn numbers is called
_LOOPS = ("cond", "scan", "while")


class FixedDraws:
    """Evaluates what is computed with known keys, while a jaxpr is lowered."""

    def __init__(self, lowering: Lowering) -> None:
        self._lowering = lowering

    def evaluated(self, eqn: JaxprEqn, operands: Sequence[Found]) -> list[Found] | None:
        """The results of an equation that only known keys and numbers go into, else None.

        Raises:
            GraphError: it draws as many numbers as an axis is long that is not constant.
        """
        name = eqn.primitive.name
        known = any(isinstance(x, Key) and x.value is not None for x in operands)
        if not (known or name == "random_seed") or name in _LOOPS:
            return None
        call = calls.body(eqn) is not None
        if call and not calls.known(eqn):
            return None  # the source's own function: its equations are looked at
        given = [
            _concrete(v.aval, x) for v, x in zip(eqn.invars, operands, strict=True)
        ]
        if any(x is None for x in given):
            return None
        for result in eqn.outvars:
            self.demand_constant(result.aval.shape)
        found = calls.bound(eqn, given)
        results = found if eqn.primitive.multiple_results else [found]
        if not call and name in PLUMBING:
            return [Key(tuple(x.shape), x) for x in results]
        return [self.numbers(x) for x in results]

    @staticmethod
    def demand_constant(shape: Sequence[Any]) -> None:
        """Numbers that are the same in each call are as many in each.

        Raises:
            GraphError: an axis has a size that is not constant.
        """
        if not all(isinstance(n, int) for n in shape):
            raise GraphError(
                "a draw from a key that is the same in each call, of as many numbers as an "
                "axis is long: that axis has to be constant"
            )

    def numbers(self, drawn: Any) -> Found:
        """Keys as they are; drawn numbers as a constant of the port, with a note."""
        if jax.dtypes.issubdtype(drawn.dtype, jax.dtypes.prng_key):
            return Key(tuple(drawn.shape), drawn)
        line = line_of(self._lowering.builder.src)
        note = (
            f"The source draws from a key of its own{f' at {line}' if line else ''}, the same "
            "numbers in each call: the port holds them."
        )
        if note not in self._lowering.notes:
            self._lowering.notes.append(note)
        return self._lowering.array(drawn, NOISE)


def _concrete(aval: Any, found: Found) -> Any:
    """What an operand is in each call; None where that is not known."""
    if isinstance(found, Key):
        return found.value
    if isinstance(found, Scalar) and not isinstance(found.value, Dim):
        return np.asarray(found.value, aval.dtype)
    return None
