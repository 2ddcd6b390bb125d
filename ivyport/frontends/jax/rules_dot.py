"""Products: `matmul` where it is one, `einsum` otherwise."""

from __future__ import annotations

import string
from typing import Any

from ivyport.core.ir import Value
from ivyport.frontends.jax.registry import JaxBuilder, lowers
from ivyport.frontends.jax.sizes import dtype_name

Axes = tuple[int, ...]


@lowers("dot_general")
def dot_general(
    b: JaxBuilder,
    x: Value,
    y: Value,
    *,
    dimension_numbers: Any,
    precision: Any,
    preferred_element_type: Any,
) -> Value:
    """Batch axes first, then the free axes of x, then those of y.

    `precision` says how exact the hardware is to be; the target has its own switch for that.
    """
    (cx, cy), (bx, by) = dimension_numbers
    wanted = (
        b.out.dtype
        if preferred_element_type is None
        else dtype_name(preferred_element_type)
    )
    x, y = b.cast(b.tensor(x, 0), wanted), b.cast(b.tensor(y, 1), wanted)
    found = _matmul(b, x, y, (_ints(cx), _ints(cy)), (_ints(bx), _ints(by)))
    return b.cast(found, b.out.dtype)


def _ints(axes: Any) -> Axes:
    return tuple(int(a) for a in axes)


def _matmul(
    b: JaxBuilder,
    x: Value,
    y: Value,
    contract: tuple[Axes, Axes],
    batch: tuple[Axes, Axes],
) -> Value:
    (cx, cy), (bx, by) = contract, batch
    count = len(bx)
    if len(cx) == 1 and (bx, by) == (tuple(range(count)), tuple(range(count))):
        free = (x.type.rank - count - 1, y.type.rank - count - 1)
        x_last = cx[0] == x.type.rank - 1
        if count == 0 and x_last and free[1] <= 1:
            y = b.transpose(y, (1, 0)) if cy[0] == 1 else y
            return b.matmul(x, y)
        if free == (1, 1):
            last = (*range(count), count + 1, count)
            x = x if x_last else b.transpose(x, last)
            y = b.transpose(y, last) if cy[0] == count + 1 else y
            return b.matmul(x, y)
    return b.einsum(x, y, equation=_equation(x, y, contract, batch))


def _equation(
    x: Value, y: Value, contract: tuple[Axes, Axes], batch: tuple[Axes, Axes]
) -> str:
    """Letters in the order of x's axes, so that the equation reads from the left."""
    letters = iter(string.ascii_lowercase)
    left = [next(letters) for _ in range(x.type.rank)]
    right = [""] * y.type.rank
    for ours, theirs in ((contract[0], contract[1]), (batch[0], batch[1])):
        for i, j in zip(ours, theirs, strict=True):
            right[j] = left[i]
    right = [letter or next(letters) for letter in right]
    shared = {*(left[i] for i in contract[0]), *(left[i] for i in batch[0])}
    result = [left[i] for i in batch[0]]
    result += [c for c in left if c not in shared]
    result += [c for c in right if c not in shared]
    return f"{''.join(left)},{''.join(right)}->{''.join(result)}"
