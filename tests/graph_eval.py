"""What a graph means, in numpy: node by node, without names, classes or emitted code.

The reference of `tests.emission_fuzz`. It knows the operations that the fuzz draws.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ivyport.core.dims import Dim, as_symbol, evaluate
from ivyport.core.dtype import to_numpy
from ivyport.core.ir import Graph, NewAxis, Node, Scalar, Slice, Value, map_structure


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes by name, and whether floats are computed in float64."""

    by_name: dict[str, int]
    wide: bool

    def array(self, made: Any, dtype: str) -> np.ndarray:
        """What an operation made, in its dtype."""
        wide = self.wide and dtype == "float32"
        return np.asarray(made, to_numpy("float64" if wide else dtype))


def evaluate_graph(
    graph: Graph, arrays: dict[str, np.ndarray], *, wide: bool = False
) -> tuple[Any, dict[str, np.ndarray]]:
    """The outputs, in their structure, and the new values of updated buffers by path.

    With `wide` everything is computed in float64.
    """
    if wide:
        arrays = {
            k: v.astype("f8") if v.dtype == "f4" else v for k, v in arrays.items()
        }
    known: dict[Value, Any] = {v: arrays[str(v.name)] for v in graph.inputs}
    known |= {p.value: arrays[path] for path, p in graph.params.items()}
    by_name = {
        str(as_symbol(dim)): size
        for value in graph.inputs
        for dim, size in zip(value.type.shape, known[value].shape, strict=True)
        if as_symbol(dim)
    }
    _nodes(graph, known, Sizes(by_name, wide))
    updates = {path: known[value] for path, value in graph.updates.items()}
    return map_structure(lambda v: known[v], graph.outputs), updates


def _nodes(graph: Graph, known: dict[Value, Any], sizes: Sizes) -> None:
    for node in graph.nodes:
        operands = [
            known[x] if isinstance(x, Value)
            else _number(x.value, sizes) if isinstance(x, Scalar)
            else None
            for x in node.inputs
        ]  # fmt: skip
        attrs = {k: _number(v, sizes) for k, v in node.attrs.items()}
        rule = CONTROL.get(node.op)
        if rule is not None:
            made = rule(attrs, operands, sizes)
        else:
            found = RULES[node.op](*operands, **attrs)
            made = found if len(node.outputs) > 1 else [found]
        for value, array in zip(node.outputs, made, strict=True):
            known[value] = sizes.array(array, value.type.dtype)
            _demand_shape(node, value, known[value], sizes)


def _demand_shape(node: Node, value: Value, array: np.ndarray, sizes: Sizes) -> None:
    shape = tuple(evaluate(d, sizes.by_name) for d in value.type.shape)
    assert array.shape == shape, f"{node.op}: {value.type}, {array.shape}"


def _number(value: Any, sizes: Sizes) -> Any:
    """Attributes and scalars with symbolic sizes as numbers."""
    if isinstance(value, Dim):
        return evaluate(value, sizes.by_name)
    if isinstance(value, tuple):
        return tuple(_number(v, sizes) for v in value)
    return value


# ---- control flow


def _region(body: Graph, given: list[Any], sizes: Sizes) -> list[Any]:
    known = dict(zip(body.inputs, given, strict=True))
    _nodes(body, known, sizes)
    return [known[v] for v in body.outputs]


def _scan(attrs: dict[str, Any], operands: list[Any], sizes: Sizes) -> list[Any]:
    carried, count = attrs["num_carry"], attrs["num_carry"] + attrs["num_xs"]
    carry, xs, rest = operands[:carried], operands[carried:count], operands[count:]
    steps = list(range(attrs["length"]))
    made: dict[int, list[Any]] = {}
    for t in reversed(steps) if attrs["reverse"] else steps:
        found = _region(attrs["body"], [*carry, *(x[t] for x in xs), *rest], sizes)
        carry, made[t] = found[:carried], found[carried:]
    stacked = [
        np.stack(list(rows)) for rows in zip(*(made[t] for t in steps), strict=True)
    ]
    return [*carry, *stacked]


def _while(attrs: dict[str, Any], operands: list[Any], sizes: Sizes) -> list[Any]:
    carry, rest = operands[: attrs["num_carry"]], operands[attrs["num_carry"] :]
    while _region(attrs["test"], [*carry, *rest], sizes)[0]:
        carry = _region(attrs["body"], [*carry, *rest], sizes)
    return carry


def _cond(attrs: dict[str, Any], operands: list[Any], sizes: Sizes) -> list[Any]:
    branches = attrs["branches"]
    which = min(max(int(operands[0]), 0), len(branches) - 1)
    return _region(branches[which], operands[1:], sizes)


CONTROL = {"scan": _scan, "while_loop": _while, "cond": _cond}


# ---- operations


def _getitem(x: Any, *, index: tuple[Any, ...]) -> Any:
    items = [
        slice(i.start, i.stop, i.step) if isinstance(i, Slice)
        else None if isinstance(i, NewAxis)
        else i
        for i in index
    ]  # fmt: skip
    return x[tuple(items)]


def _sort(x: Any, *, axis: int, descending: bool, stable: bool) -> Any:
    order = np.argsort(-x if descending else x, axis=axis, kind="stable")
    return np.take_along_axis(x, order, axis), order


def _topk(x: Any, *, k: int, axis: int, largest: bool, stable: bool) -> Any:
    values, order = _sort(x, axis=axis, descending=largest, stable=True)
    return values.take(range(k), axis), order.take(range(k), axis)


def _split(x: Any, *, sizes: tuple[int, ...], axis: int, even: bool = False) -> Any:
    return np.split(x, np.cumsum(sizes)[:-1], axis)


def _softmax(x: Any, *, axis: int) -> Any:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def _linear(x: Any, weight: Any, bias: Any, *, weight_layout: str) -> Any:
    made = x @ (weight.T if weight_layout == "oi" else weight)
    return made if bias is None else made + bias


def _full(*, shape: Any, value: Any, dtype: str) -> Any:
    return np.full(shape, value, to_numpy(dtype))


def _arange(*, start: Any, stop: Any, step: Any, dtype: str) -> Any:
    return np.arange(start, stop, step, to_numpy(dtype))


RULES: dict[str, Callable[..., Any]] = {
    "tanh": np.tanh,
    "sin": np.sin,
    "cos": np.cos,
    "negative": np.negative,
    "abs": np.abs,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "greater": np.greater,
    "less": np.less,
    "where": np.where,
    "astype": lambda x, dtype, saturate: x.astype(to_numpy(dtype)),
    "sum": np.sum,
    "mean": np.mean,
    "max": np.max,
    "softmax": _softmax,
    "linear": _linear,
    "matmul": np.matmul,
    "sort": _sort,
    "topk": _topk,
    "split": _split,
    "concat": lambda *xs, axis: np.concatenate(xs, axis),
    "stack": lambda *xs, axis: np.stack(xs, axis),
    "getitem": _getitem,
    "take_along_axis": lambda x, indices, axis, fill: np.take_along_axis(
        x, indices, axis
    ),
    "broadcast_to": np.broadcast_to,
    "reshape": np.reshape,
    "permute_dims": np.transpose,
    "full": _full,
    "arange": _arange,
}
