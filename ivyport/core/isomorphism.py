"""Whether two graphs are one graph in other words.

Two graphs are isomorphic if they compute the same structure of outputs by the same operations.
Names of values, scopes, source lines, the order of independent nodes, and the paths of parameters
do not matter; which parameter is used where does.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ivyport.core.dims import Dim, DimLike, as_symbol, evaluate
from ivyport.core.dtype import is_float
from ivyport.core.ir import (
    ByMode,
    Graph,
    Node,
    Record,
    Scalar,
    Slice,
    TensorType,
    Value,
)
from ivyport.core.passes.match import alike, same32
from ivyport.core.text import attr_text

DEPTH = 12
COMMUTATIVE = frozenset(
    {
        "add",
        "multiply",
        "maximum",
        "minimum",
        "equal",
        "not_equal",
        "logical_and",
        "logical_or",
        "logical_xor",
        "bitwise_and",
        "bitwise_or",
        "bitwise_xor",
    }
)
# A -1 in a shape stands for what the type of the result says.
SAID_BY_TYPE = frozenset({("reshape", "shape")})
# What JAX says of cases that torch leaves open.
LEFT_OPEN = frozenset({("astype", "saturate"), ("topk", "stable")})


def difference(
    a: Graph,
    b: Graph,
    *,
    ignore_ops: Collection[str] = (),
    ignore_attrs: Collection[tuple[str, str]] = (),
    ignore_folds: bool = True,
    paths: bool = False,
) -> str | None:
    """The first difference of two graphs, as a sentence; None if they are isomorphic.

    Args:
        ignore_ops: operations that count as their first operand (``dropout``).
        ignore_attrs: (operation, attribute) pairs that may differ (``("attention", "dropout")``).
        ignore_folds: whether the same parameter may be held in different shapes' histories.
        paths: whether parameters must have the same paths, too.
    """
    matching = _Matching(a, b, frozenset(ignore_ops), frozenset(ignore_attrs))
    matching.ignore_folds, matching.paths = ignore_folds, paths
    return matching.run()


class _Matching:
    """Pairs values of two graphs from the outputs backwards; `found` is the first mismatch.

    A mismatch is looked for operands first, so that what is reported is where the graphs begin to
    differ and not what follows from it.
    """

    def __init__(
        self,
        a: Graph,
        b: Graph,
        ignore_ops: frozenset[str],
        ignore_attrs: frozenset[tuple[str, str]],
    ) -> None:
        self.a, self.b = a, b
        self.ignore_ops, self.ignore_attrs = ignore_ops, ignore_attrs
        self.ignore_folds, self.paths = True, False
        self.forward: dict[Value, Value] = {}
        self.backward: dict[Value, Value] = {}
        self.params = [{p.value: p for p in graph.params.values()} for graph in (a, b)]
        self.symbols: dict[str, DimLike] = {}  # of b, as sizes of a

    def run(self) -> str | None:
        if len(self.a.inputs) != len(self.b.inputs):
            return f"{len(self.a.inputs)} inputs and {len(self.b.inputs)}"
        for x, y in zip(self.a.inputs, self.b.inputs, strict=True):
            self._learn(x.type, y.type)
        for x, y in zip(self.a.inputs, self.b.inputs, strict=True):
            if not self._same_type(x.type, y.type):
                return f"input {x.name!r} is {x.type}, input {y.name!r} is {y.type}"
            self._pair(x, y)
        pairs: list[tuple[Value, Value]] = []
        problem = self._structure(self.a.outputs, self.b.outputs, "outputs", pairs)
        if problem is not None:
            return problem
        if set(self.a.updates) != set(self.b.updates):
            odd = sorted(set(self.a.updates) ^ set(self.b.updates))
            return f"only one of the graphs updates {', '.join(odd)}"
        pairs += [(v, self.b.updates[k]) for k, v in self.a.updates.items()]
        for x, y in pairs:
            problem = self._values(x, y)
            if problem is not None:
                return problem
        return None

    # ---- sizes and types

    def _learn(self, x: TensorType, y: TensorType) -> None:
        for one, other in zip(x.shape, y.shape, strict=False):
            name = as_symbol(other)
            if name is not None:
                self.symbols.setdefault(name, one)

    def _same_type(self, x: TensorType, y: TensorType) -> bool:
        shape = tuple(evaluate(d, self.symbols) for d in y.shape)
        return x.dtype == y.dtype and x.shape == shape

    def _renamed(self, item: Any) -> Any:
        """An attribute of b with the sizes of a."""
        if isinstance(item, Dim):
            return evaluate(item, self.symbols)
        if isinstance(item, Slice):
            start, stop = self._renamed(item.start), self._renamed(item.stop)
            return Slice(start, stop, item.step)
        if isinstance(item, tuple | list):
            return tuple(self._renamed(x) for x in item)
        return item

    # ---- structure of outputs

    def _structure(
        self, x: Any, y: Any, where: str, pairs: list[tuple[Value, Value]]
    ) -> str | None:
        if isinstance(x, Value) and isinstance(y, Value):
            pairs.append((x, y))
            return None
        one, other = _items(x), _items(y)
        if one is None or other is None:
            same = (
                type(x) is type(y) and repr(x) == repr(y) and not isinstance(x, Value)
            )
            return None if same else f"{where}: {_text(x)} and {_text(y)}"
        if [k for k, _ in one] != [k for k, _ in other]:
            return f"{where}: {_text(x)} and {_text(y)}"
        for (key, mine), (_, theirs) in zip(one, other, strict=True):
            problem = self._structure(mine, theirs, f"{where}[{key!r}]", pairs)
            if problem is not None:
                return problem
        return None

    # ---- values

    def _pair(self, x: Value, y: Value) -> None:
        self.forward[x] = y
        self.backward[y] = x

    def _real(self, value: Value) -> Value:
        while value.producer is not None and value.producer.op in self.ignore_ops:
            source = value.producer.inputs[0]
            assert isinstance(source, Value)
            value = source
        return value

    def _values(self, x: Value, y: Value) -> str | None:
        """Pair two values and all that they depend on; without recursion, graphs are deep."""
        stack = [(x, y, False)]
        while stack:
            one, other, done = stack.pop()
            one, other = self._real(one), self._real(other)
            if one in self.forward or other in self.backward:
                problem = self._known(one, other)
            elif one.producer is None or other.producer is None:
                problem = self._sources(one, other)
            elif done:
                problem = self._nodes(one.producer, other.producer)
            else:
                problem = _kinds(one.producer, other.producer)
                if problem is None:
                    stack.append((one, other, True))
                    stack += self._operands(one.producer, other.producer)
                    continue
            if problem is not None:
                return problem
        return None

    def _operands(self, one: Node, other: Node) -> list[tuple[Value, Value, bool]]:
        theirs = list(other.inputs)
        if one.op in COMMUTATIVE and self._swapped(one, other):
            theirs.reverse()
        pairs = zip(one.inputs, theirs, strict=True)
        found = [
            (x, y, False)
            for x, y in pairs
            if isinstance(x, Value) and isinstance(y, Value)
        ]
        return found[::-1]

    def _swapped(self, one: Node, other: Node) -> bool:
        """Whether the operands of a commutative node pair better the other way round."""
        x1, x2 = one.inputs
        y1, y2 = other.inputs
        return self._score(x1, y2) + self._score(x2, y1) > self._score(
            x1, y1
        ) + self._score(x2, y2)

    def _score(self, x: Any, y: Any, depth: int = 6) -> int:
        """How alike two operands look, a few operations deep."""
        if not isinstance(x, Value) or not isinstance(y, Value):
            return 4 if type(x) is type(y) and repr(x) == repr(y) else -4
        x, y = self._real(x), self._real(y)
        if x in self.forward or y in self.backward:
            return 8 if self.forward.get(x) is y else -8
        if not self._same_type(x.type, y.type):
            return -4
        one, other = x.producer, y.producer
        if one is None or other is None:
            return 2 if one is other else -4
        if one.op != other.op or len(one.inputs) != len(other.inputs):
            return -4
        if depth == 0:
            return 1
        pairs = zip(one.inputs, other.inputs, strict=True)
        return 1 + sum(self._score(p, q, depth - 1) for p, q in pairs)

    def _known(self, x: Value, y: Value) -> str | None:
        if self._equal(x, y):
            return None
        return f"{self._name(x, 0)} and {self._name(y, 1)} are used in different places"

    def _sources(self, x: Value, y: Value) -> str | None:
        mine, theirs = self.params[0].get(x), self.params[1].get(y)
        if mine is None or theirs is None:
            return f"{self._name(x, 0)} against {self._name(y, 1)}"
        same = mine.kind == theirs.kind and self._same_type(x.type, y.type)
        if self.paths and mine.path != theirs.path:
            same = False
        if not self.ignore_folds and mine.folds != theirs.folds:
            same = False
        if not same:
            return f"{self._name(x, 0)} against {self._name(y, 1)}"
        self._pair(x, y)
        return None

    def _nodes(self, one: Node, other: Node) -> str | None:
        """Compare two nodes whose operands are paired; pair their results."""
        theirs = list(other.inputs)
        if one.op in COMMUTATIVE and not self._paired(one.inputs, theirs):
            theirs.reverse()
        if not self._paired(one.inputs, theirs):
            return f"operands of {_where(one)} and of {_where(other)} differ"
        for key, value in one.attrs.items():
            said = (one.op, key) in SAID_BY_TYPE or (one.op, key) in LEFT_OPEN
            if said or (one.op, key) in self.ignore_attrs:
                continue
            found = self._renamed(other.attrs[key])
            if not self._same_attr(one, key, value, found):
                return (
                    f"{key} of {_where(one)} is {attr_text(value)}, "
                    f"of {_where(other)} {attr_text(other.attrs[key])}"
                )
        for x, y in zip(one.outputs, other.outputs, strict=True):
            if not self._same_type(x.type, y.type):
                return f"{_where(one)} gives {x.type}, {_where(other)} {y.type}"
            self._pair(x, y)
        return None

    def _same_attr(self, node: Node, key: str, x: Any, y: Any) -> bool:
        if isinstance(x, Graph) and isinstance(y, Graph):
            # bodies of control flow
            return difference(x, y) is None
        if key == "branches":
            return len(x) == len(y) and all(
                self._same_attr(node, "", a, b) for a, b in zip(x, y, strict=True)
            )
        if key == "axis" and node.inputs and isinstance(node.inputs[0], Value):
            rank = max(node.inputs[0].type.rank, 1)
            x, y = (_positive(v, rank) for v in (x, y))
        if isinstance(x, int | float) and isinstance(y, int | float):
            return _same_number(x, y, node.outputs[0].type.dtype)
        plain = tuple(x) if isinstance(x, list) else x
        return repr(plain) == repr(y)

    def _equal(self, x: Value, y: Value) -> bool:
        """Whether paired; a value that is computed twice in one graph may be once in the other."""
        mine, theirs = self.backward.get(y), self.forward.get(x)
        if theirs is y:
            return True
        twins = (theirs is not None and alike(theirs, y, DEPTH)) or (
            mine is not None and alike(mine, x, DEPTH)
        )
        return twins and x not in self.params[0] and y not in self.params[1]

    def _paired(self, mine: Any, theirs: Any) -> bool:
        dtypes = [x.type.dtype for x in mine if isinstance(x, Value)]
        dtype = next((name for name in dtypes if is_float(name)), "")
        for x, y in zip(mine, theirs, strict=True):
            if isinstance(x, Value) and isinstance(y, Value):
                if not self._equal(self._real(x), self._real(y)):
                    return False
            elif isinstance(x, Scalar) and isinstance(y, Scalar):
                if not _same_number(x.value, self._renamed(y.value), dtype):
                    return False
            elif x is not y:
                return False
        return True

    def _name(self, value: Value, side: int) -> str:
        param = self.params[side].get(value)
        if param is not None:
            return f"{param.kind} {param.path!r} {value.type}"
        if value.producer is not None:
            return _where(value.producer)
        return f"input {value.name!r} {value.type}"


def _kinds(one: Node, other: Node) -> str | None:
    if one.op != other.op:
        return f"{_where(one)} against {_where(other)}"
    if len(one.inputs) != len(other.inputs) or len(one.outputs) != len(other.outputs):
        return f"{_where(one)} and {_where(other)} have different numbers of operands"
    return None


def _same_number(x: Any, y: Any, dtype: str) -> bool:
    """Whether two numbers beside tensors of `dtype` are one.

    A number beside float32 tensors is rounded to float32 when the operation runs, so that the
    digits beyond it say nothing: JAX's traces lack them, torch's have them.
    """
    if isinstance(x, float) and isinstance(y, float):
        return (x != x and y != y) or x == y or (dtype == "float32" and same32(x, y))
    return isinstance(x, bool) == isinstance(y, bool) and bool(x == y)


def _positive(axis: Any, rank: int) -> Any:
    if isinstance(axis, tuple):
        return tuple(a % rank for a in axis)
    return axis % rank if isinstance(axis, int) else axis


def _where(node: Node) -> str:
    place = (node.scope[-1].path if node.scope else "") or "the model"
    line = f" ({node.src})" if node.src else ""
    types = ", ".join(str(v.type) for v in node.outputs)
    return f"{node.op} {types} in {place}{line}"


def _items(x: Any) -> list[tuple[Any, Any]] | None:
    if isinstance(x, Record):
        # Fields have names: their order, and those that are absent, say nothing.
        fields = [(k, v) for k, v in x.fields if v is not None]
        return sorted(fields, key=lambda field: field[0])
    if isinstance(x, ByMode):
        return [("evaluated", x.evaluated), ("trained", x.trained)]
    if isinstance(x, dict):
        return list(x.items())
    return list(enumerate(x)) if isinstance(x, list | tuple) else None


def _text(x: Any) -> str:
    if isinstance(x, Value):
        return str(x.type)
    if isinstance(x, Record | dict):
        return f"fields {[k for k, _ in _items(x) or []]}"
    return f"{len(x)} items" if isinstance(x, list | tuple) else repr(x)
