"""What a buffer holds in closed form, so that the constructor of a port can compute it.

A port keeps the buffers of its source in its file, also those that no checkpoint holds: rotary
frequencies, masks, tables. A port that is built from its configuration alone has no file to
read. Where the values are those of a formula, the constructor writes the formula; every other
buffer is made as one that refuses to be read before weights were loaded.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from ivyport.backends import pyast
from ivyport.backends.pyast import Exprs
from ivyport.core.ir import Graph, Param
from ivyport.modules import folds

MOST_VALUES = 1 << 22  # larger buffers are not looked at
# Frequencies are computed in float32, by functions that round differently on each side.
ROUNDING = 1e-6
# What torch and Flax let batch and instance norms start with.
STATISTICS = {"running_mean": 0.0, "running_var": 1.0, "mean": 0.0, "var": 1.0}


@dataclasses.dataclass(frozen=True)
class Formula:
    """Values that follow from a shape.

    Attributes:
        kind: ``full``: one number; ``arange``: 0, 1, 2, ... along `axis`, the only one that is
            longer than 1; ``tril`` and ``triu``: one number in a triangle of the last
            two axes, 0 elsewhere; ``frequencies``: ``1 / number ** (arange(0, 2 n, 2) / 2 n)``
            along `axis`.
        number: see `kind`; unused by ``arange``.
        diagonal: where the triangle begins.
        axis: see `kind`.
    """

    kind: Literal["full", "arange", "tril", "triu", "frequencies"]
    number: float = 0
    diagonal: int = 0
    axis: int = 0


class Formulas:
    """The formulas of a graph's buffers; `tensors` has the source's by `Param.source`."""

    def __init__(self, graph: Graph, tensors: Mapping[str, Any]) -> None:
        self.graph = graph
        self.tensors = tensors

    def of(self, param: Param) -> Formula | None:
        """What the source's constructor puts into a buffer, None where that is not known."""
        cls = self.graph.classes.get(param.owner, "").rpartition(".")[2]
        name = param.place.rpartition(".")[2]
        if ("BatchNorm" in cls or "InstanceNorm" in cls) and name in STATISTICS:
            return Formula("full", STATISTICS[name])
        sizes = [size for size in param.type.shape if isinstance(size, int)]
        if param.source not in self.tensors or np.prod(sizes) > MOST_VALUES:
            return None
        array = np.asarray(self.tensors[param.source])
        for transform in folds.transforms(param):
            array = transform.apply(array)
        found = recognised(array)
        if found is None or found.kind != "full":
            return found if param.path not in self.graph.updates else None
        # Other numbers in a checkpoint's buffer may have been learned, and what the model
        # writes is what it started with only where that is zero.
        plain = (0,) if param.path in self.graph.updates else (0, 1)
        known = param.kind == "constant" or found.number in plain
        return found if known else None


def recognised(array: np.ndarray) -> Formula | None:
    """The formula of an array's values, exact but for the rounding of frequencies.

    >>> recognised(np.tri(3, dtype=bool)).kind
    'tril'
    """
    if (
        not array.size
        or array.dtype.kind not in "biuf"
        or (array.dtype.kind == "f" and np.isnan(array).any())
    ):
        return None
    flat = array.reshape(-1)
    if (flat == flat[0]).all():
        return Formula("full", _number(flat[0]))
    axis = int(np.argmax(array.shape))
    if array.size == array.shape[axis]:
        if (flat == np.arange(flat.size)).all() and array.dtype.kind != "b":
            return Formula("arange", axis=axis)
        return _frequencies(flat, axis) if array.dtype == np.float32 else None
    return _triangle(array)


def _number(value: Any) -> Any:
    """The shortest Python number that the dtype rounds to this value."""
    if value.dtype.kind != "f" or not np.isfinite(value):
        return value.item()
    return float(np.format_float_scientific(value, unique=True))


def _frequencies(flat: np.ndarray, axis: int) -> Formula | None:
    """The base is a whole number, as everywhere; one number is found from the last value."""
    count = flat.size
    if flat[0] != 1 or not 0 < flat[-1] < 1:
        return None
    base = float(f"{float(flat[-1]) ** (-count / (count - 1)):.5g}")
    if base != round(base):
        return None
    values = 1.0 / base ** (np.arange(count) / count)
    close = np.allclose(flat, values, rtol=ROUNDING, atol=0)
    return Formula("frequencies", base, axis=axis) if close else None


def _triangle(array: np.ndarray) -> Formula | None:
    if array.ndim < 2 or array.size != array.shape[-1] * array.shape[-2]:
        return None
    square = array.reshape(array.shape[-2:])
    rows, columns = np.nonzero(square)
    value = square[rows[0], columns[0]]
    offsets = columns - rows
    for kind, triangle, diagonal in (
        ("tril", np.tril, int(offsets.max())),
        ("triu", np.triu, int(offsets.min())),
    ):
        mask = triangle(np.ones(square.shape, bool), diagonal)
        if (square[mask] == value).all() and not square[~mask].any():
            return Formula(kind, _number(value), diagonal)  # type: ignore[arg-type]  # mypy takes `kind` for any str
    return None


def spelled(
    exprs: Exprs, formula: Formula, shape: ast.expr, dtype: ast.expr
) -> ast.expr:
    """The formula as code; ``jnp`` and ``torch`` have these functions in common."""
    module = exprs.dtype_prefix
    if formula.kind in ("arange", "frequencies"):
        assert isinstance(shape, ast.Tuple)
        size = shape.elts[formula.axis]
        if formula.kind == "arange":
            made = exprs.call(f"{module}.arange", size, dtype=dtype)
        else:
            double = _double(exprs, size)
            steps = exprs.call(f"{module}.arange", 0, double, 2)
            power = exprs.binary("/", steps, double)
            made = exprs.binary("/", 1.0, exprs.binary("**", formula.number, power))
        alone = len(shape.elts) == 1
        return made if alone else exprs.method(made, "reshape", shape)
    filled = _filled(exprs, formula.number, shape, dtype)
    if formula.kind == "full":
        return filled
    diagonal = formula.diagonal or pyast.OMIT
    return exprs.call(f"{module}.{formula.kind}", filled, diagonal)


def _filled(exprs: Exprs, number: Any, shape: ast.expr, dtype: ast.expr) -> ast.expr:
    """``torch.zeros((6,))``, ``torch.ones((6,))`` or ``torch.full((6,), 0.5)``.

    Layers of torch have its default dtype, those of Flax float32 whatever JAX's default is.
    """
    module = exprs.dtype_prefix
    usual = module == "torch" and ast.dump(dtype) == ast.dump(exprs.dtype("float32"))
    kind = pyast.OMIT if usual else dtype
    if repr(number) in ("0", "0.0", "1", "1.0"):
        return exprs.call(
            f"{module}.{('zeros', 'ones')[int(number)]}", shape, dtype=kind
        )
    kind = pyast.OMIT if usual and isinstance(number, float) else dtype
    return exprs.call(f"{module}.full", shape, number, dtype=kind)


def _double(exprs: Exprs, size: ast.expr) -> ast.expr:
    if isinstance(size, ast.Constant) and isinstance(size.value, int):
        return ast.Constant(2 * size.value)
    if (
        isinstance(size, ast.BinOp)
        and isinstance(size.op, ast.FloorDiv)
        and ast.dump(size.right) == ast.dump(ast.Constant(2))
    ):
        return size.left
    return exprs.binary("*", 2, size)
