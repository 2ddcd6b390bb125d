"""What the rules of this target share: dtypes, devices, scalars, sizes that are alike."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from ivyport.backends.pyast import OMIT, Exprs, HoleFloat, HoleInt
from ivyport.backends.spelling import is_hole
from ivyport.core import dtype as dt
from ivyport.core.errors import GraphError
from ivyport.core.ir import Scalar, Value
from ivyport.core.ops_nn import channel_axis

CASTS = {"float32": "float", "int64": "long", "int32": "int", "bool": "bool"}
INDICES = ("int64", "int32")  # what brackets and embeddings take


def dtype(e: Exprs, dtype: str) -> ast.expr:
    """``torch.float32``."""
    return e.name(f"torch.{dtype}")


def dtype_unless(e: Exprs, dtype_: str, default: str) -> Any:
    """A dtype as an argument, left out where it is the callee's default."""
    return OMIT if dtype_ == default else dtype(e, dtype_)


def narrow(e: Exprs) -> Any:
    """The dtype of sums and products: torch makes int64 of all integers."""
    exact = dt.is_float(e.out.dtype) or e.out.dtype in (*dt.COMPLEX, "int64")
    return OMIT if exact else dtype(e, e.out.dtype)


def cast(e: Exprs, x: ast.expr, to: str) -> ast.expr:
    """``x.long()``, ``x.to(torch.bfloat16)``."""
    if to in CASTS:
        return e.method(x, CASTS[to])
    return e.method(x, "to", dtype(e, to))


def long(e: Exprs, x: ast.expr, position: int) -> ast.expr:
    """The integer operand at `position`, as int64."""
    return x if e.type(position).dtype == "int64" else cast(e, x, "int64")


def index_of(e: Exprs, x: ast.expr, position: int) -> ast.expr:
    """The integer operand at `position`, as what brackets take for indices."""
    return x if e.type(position).dtype in INDICES else cast(e, x, "int64")


def as_dtype_of_input(e: Exprs, x: ast.expr, position: int) -> ast.expr:
    """The operand at `position` with the dtype of the first one."""
    wanted = e.type(0).dtype
    return x if e.type(position).dtype == wanted else cast(e, x, wanted)


def scalar_of(e: Exprs, position: int) -> bool:
    """Whether the operand at `position` is a number and no tensor."""
    return isinstance(e.node.inputs[position], Scalar)


def tensor(e: Exprs, x: ast.expr, position: int) -> ast.expr:
    """The operand at `position` as a tensor, for functions that take no numbers."""
    if not scalar_of(e, position):
        return x
    (like,) = {v.type.dtype for v in e.node.inputs[:2] if isinstance(v, Value)}
    return e.call(
        "torch.tensor", x, dtype=dtype_unless(e, like, "float32"), device=e.device()
    )


def trivial(x: ast.expr | None) -> bool:
    """Whether an expression may be written twice: ``x``, ``self.weight``."""
    while isinstance(x, ast.Attribute):
        x = x.value
    return isinstance(x, ast.Name)


def alike(values: Sequence[Any]) -> Any:
    """One number where all are spelled alike, as torch takes it, else all of them."""
    values = tuple(values)
    return values[0] if len({_spelling(v) for v in values}) == 1 else values


def symmetric(padding: Sequence[Sequence[Any]]) -> bool:
    """Whether each axis is padded alike before and after it."""
    return all(_spelling(lo) == _spelling(hi) for lo, hi in padding)


def _spelling(value: Any) -> Any:
    if isinstance(value, HoleInt | HoleFloat):
        return ast.dump(value.expr)
    return ast.dump(value) if isinstance(value, ast.expr) else value


def flat_padding(padding: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
    """Padding of all axes as `F.pad` takes it: the last axis first, no zeros at the end."""
    pairs = [tuple(pair) for pair in padding]
    while pairs and not is_hole(pairs[0]) and pairs[0] == (0, 0):
        pairs.pop(0)
    return tuple(n for pair in reversed(pairs) for n in pair)


def channels_first(e: Exprs, x: ast.expr, layout: str) -> ast.expr:
    """An image with its channels on axis 1."""
    last = channel_axis(layout, e.type(0).rank) != 1
    return e.method(x, "movedim", -1, 1) if last else x


def back(e: Exprs, y: ast.expr, layout: str) -> ast.expr:
    """The inverse of `channels_first`, for the result."""
    last = channel_axis(layout, e.out.rank) != 1
    return e.method(y, "movedim", 1, -1) if last else y


def spatial(e: Exprs, function: str) -> str:
    """``F.conv2d`` for ``conv`` of images with two spatial axes."""
    rank = e.type(0).rank - 2
    if rank not in (1, 2, 3):
        raise GraphError(f"{e.node.op} over {rank} axes: torch has 1 to 3")
    return f"F.{function}{rank}d"
