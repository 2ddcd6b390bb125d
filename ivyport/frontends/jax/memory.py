"""What an NNX module keeps between calls in plain attributes of Python: no port has them.

Counters and earlier results that are no variables are constants of a trace. Attributes that nothing
reads, and caches that are made once, change nothing and are left out without a word.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from copy import copy
from typing import Any

import jax
import numpy as np

from ivyport.frontends.jax.structure import flatten

_SCALARS = (int, float, str, bool, type(None))
_CONTAINERS = (list, dict, set, deque)
_ARRAYS = (jax.Array, np.ndarray)

#: The attributes of each module, by its path.
Attributes = dict[str, dict[str, Any]]


def attributes(modules: Mapping[tuple[str, ...], Any]) -> Attributes:
    """The plain attributes of all modules; containers are copied, with the same items."""
    return {
        ".".join(path): {
            name: copy(value) if type(value) in _CONTAINERS else value
            for name, value in vars(module).items()
            if isinstance(value, (*_SCALARS, *_CONTAINERS, tuple, *_ARRAYS))
        }
        for path, module in modules.items()
    }


def assigned(before: Attributes, after: Attributes) -> list[str]:
    """Full names of the attributes that are new, or hold something else than before.

    An array in place of an array is none: NNX has both as state of the module.
    """
    absent = object()
    return [
        f"{path}.{name}" if path else name
        for path, found in after.items()
        for name, value in found.items()
        if not _same(before.get(path, {}).get(name, absent), value)
    ]


def _same(old: Any, new: Any) -> bool:
    if old is new or (isinstance(old, _ARRAYS) and isinstance(new, _ARRAYS)):
        return True
    if type(old) is not type(new):
        return False
    if isinstance(new, dict):
        return list(old) == list(new) and all(
            _item(old[key], value) for key, value in new.items()
        )
    if isinstance(new, (list, tuple, deque)):
        return len(old) == len(new) and all(map(_item, old, new))
    return bool(old == new)


def _item(old: Any, new: Any) -> bool:
    plain = (*_SCALARS, *_CONTAINERS, tuple)
    return old is new or (isinstance(new, plain) and _same(old, new))


def memory(name: str, mode: str, names: Iterable[str]) -> str:
    """What is wrong with a module whose results depend on attributes that its call assigns."""
    listed = ", ".join(f"'{name}'" for name in names)
    return (
        f"{name} remembers earlier calls ({mode} mode): a second call on the same inputs does not "
        f"give the same result, for its call assigns {listed}, and a port has no such attributes. "
        "Keep it in a variable (class State(nnx.Variable): ...; a counter is "
        "State(jnp.zeros(()))) and write to that, or take it as an argument and return it"
    )


def alike(first: Any, second: Any) -> bool:
    """Whether the results of two calls are the same, rounding aside."""
    one, other = (flatten(out)[1] for out in (first, second))
    return len(one) == len(other) and all(map(_close, one, other))


def _close(a: Any, b: Any) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
        return True
    one, other = (np.asarray(x, np.float64) for x in (a, b))
    return np.allclose(one, other, rtol=1e-5, atol=1e-7, equal_nan=True)
