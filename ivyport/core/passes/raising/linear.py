"""Linear layers, embeddings and biases, out of products with parameters."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from ivyport.core import dtype as dt
from ivyport.core.build import Builder
from ivyport.core.dims import product
from ivyport.core.ir import Node, Value
from ivyport.core.ops_nn import channel_axis
from ivyport.core.passes.contraction import Labelled, arranged, contraction
from ivyport.core.passes.match import (
    alike,
    constant,
    made_by,
    number,
    pairs,
    split,
    view,
)
from ivyport.core.passes.raising.norm import along
from ivyport.core.passes.rewrite import Rule

SHAPE_OPS = ("reshape", "permute_dims", "getitem", "flip", "broadcast_to", "astype")


def owned(value: Any, weights: Set[Value]) -> bool:
    """Whether `value` is a parameter whose elements were only moved."""
    while isinstance(value, Value) and value not in weights:
        node = made_by(value, *SHAPE_OPS)
        if node is None:
            return False
        value = node.inputs[0]
    return isinstance(value, Value)


class Linears:
    """The rules; they need to know which values are parameters."""

    def __init__(self, weights: Set[Value]) -> None:
        self.weights = weights

    def linear(self, b: Builder, node: Node) -> Value | None:
        """x @ W for a parameter W, contracted over any axes of both."""
        found = contraction(node)
        if found is None or not dt.is_float(node.output.type.dtype):
            return None
        sides = ((found.left, found.right), (found.right, found.left))
        chosen = None
        for x, weight in sides:
            if owned(weight.value, self.weights) and not owned(x.value, self.weights):
                chosen = (x, weight)
        if chosen is None:
            if not owned(found.right.value, self.weights):
                return None
            chosen = (found.left, found.right)
        return _linear(b, *chosen, found.result)

    def embedding(self, b: Builder, node: Node) -> Value | None:
        """Rows of a parameter by integers."""
        table, indices = node.inputs
        if not isinstance(table, Value) or not isinstance(indices, Value):
            return None
        if table.type.rank != 2 or node.attrs["axis"] % 2 != 0:
            return None
        if not owned(table, self.weights) or not dt.is_float(table.type.dtype):
            return None
        return b.embedding(_unwrapped(indices, table.type.shape[0]), table)

    def coded(self, b: Builder, node: Node) -> Value | None:
        """one_hot(i) @ W for indices that are known to be rows of W."""
        x, weight, bias = node.inputs
        codes = made_by(x, "one_hot")
        if codes is None or bias is not None or not isinstance(weight, Value):
            return None
        if (
            node.attrs["weight_layout"] != "io"
            or weight.type.shape[0] != (codes.attrs["num_classes"])
        ):
            return None
        if not _within(codes.inputs[0], codes.attrs["num_classes"]):
            return None
        return b.embedding(codes.inputs[0], weight)

    def bias(self, b: Builder, node: Node) -> Value | None:
        """A linear or a convolution of the same module plus a parameter along the channels."""
        for made, term in pairs(node):
            if not isinstance(term, Value) or not owned(term, self.weights):
                continue
            answer = _biased(b, node, made, term)
            if answer is not None:
                return answer
        return None

    def table(self) -> dict[str, list[Rule]]:
        """The rules by the operation that they look at."""
        return {
            "matmul": [self.linear],
            "einsum": [self.linear],
            "take": [self.embedding],
            "linear": [self.coded],
            "add": [self.bias],
            "where": [padded],
        }


def padded(b: Builder, node: Node) -> Value | None:
    """``where((indices == padding)[..., None], stop_gradient(rows), rows)``."""
    stop, rows = (
        made_by(node.inputs[1], "stop_gradient"),
        made_by(node.inputs[2], "embedding"),
    )
    if stop is None or rows is None or stop.inputs[0] is not rows.output:
        return None
    condition = node.inputs[0]
    seen = view(condition) if isinstance(condition, Value) else None
    asked = made_by(seen.base, "equal") if seen is not None else None
    if seen is None or asked is None or rows.attrs["padding"] is not None:
        return None
    indices, weight = rows.inputs
    axes = (*range(len(seen.axes) - 1), None)
    for one, other in pairs(asked):
        value = constant(other)
        if alike(one, indices) and type(value) is int and seen.axes == axes:
            return b.embedding(indices, weight, padding=value)
    return None


def _linear(b: Builder, x: Labelled, weight: Labelled, out: Labelled) -> Value | None:
    shared = x.letters & weight.letters
    summed = shared - out.letters
    if shared & out.letters or not summed:
        return None  # a product for each of a batch
    if x.letters - summed - out.letters or weight.letters - summed - out.letters:
        return None  # an axis that is summed alone
    if None in weight.labels or None in x.labels:
        return None
    free = [a for a in weight.labels if a not in summed]
    rest = [a for a in x.labels if a not in summed]
    inner = [a for a in x.labels if a in summed]
    order = "".join(map(str, (*rest, *inner)))
    rows = arranged(b, x, order)
    lead = rows.type.shape[: len(rest)]
    width = product(x.size(str(a)) for a in inner)
    depth = product(weight.size(str(a)) for a in free)
    if not isinstance(width, int) or not isinstance(depth, int):
        return None
    rows = b.resize(rows, (*lead, width))
    matrix, layout = _matrix(
        b, weight, "".join(map(str, inner)), "".join(map(str, free))
    )
    made = b.linear(rows, matrix, None, weight_layout=layout)
    sizes = [weight.size(str(a)) for a in free]
    made = b.resize(made, (*lead, *sizes))
    named = Labelled(made, (*rest, *free))
    if None in out.labels:
        return None
    return arranged(b, named, "".join(map(str, out.labels)))


def _matrix(b: Builder, weight: Labelled, inner: str, free: str) -> tuple[Value, str]:
    """The weight as a matrix, and whether that is (in, out) or (out, in).

    A plain transpose of a parameter is looked through: the layout says it.
    """
    base = weight.behind()
    if len(inner) == 1 and len(free) == 1 and base.labels == (free, inner):
        return base.value, "oi"
    if len(inner) == 1 and len(free) == 1 and base.labels == (inner, free):
        return base.value, "io"
    count = product(weight.size(a) for a in inner)
    flat = arranged(b, weight, inner + free)
    return b.resize(flat, (count, product(weight.size(a) for a in free))), "io"


def _biased(b: Builder, node: Node, made: Any, term: Value) -> Value | None:
    direct = made_by(made, "linear", "conv", "conv_transpose")
    if direct is not None and direct.scope == node.scope:
        if direct.inputs[2] is not None or direct.output.type != node.output.type:
            return None
        y = direct.output
        axis = y.type.rank - 1
        if direct.op != "linear":
            axis = channel_axis(direct.attrs["layout"], y.type.rank)
        bias = along(b, view(term), y, (axis,))
        if bias is None:
            return None
        x, weight, _ = direct.inputs
        return b.node(direct.op, (x, weight, bias), direct.attrs).output
    wide = made_by(made, "reshape")
    inner = made_by(wide.inputs[0], "linear") if wide is not None else None
    if inner is None or wide is None or inner.scope != node.scope:
        return None
    if inner.inputs[2] is not None or wide.output.type != node.output.type:
        return None
    return _split_bias(b, inner, wide.output, term)


def _split_bias(b: Builder, inner: Node, y: Value, term: Value) -> Value | None:
    """The bias of a linear whose channels were cut into several axes."""
    lead = inner.output.type.shape[:-1]
    count = y.type.rank - len(lead)
    if count < 1 or y.type.shape[: len(lead)] != lead:
        return None
    axes = tuple(range(len(lead), y.type.rank))
    bias = along(b, view(term), y, axes)
    if bias is None:
        return None
    bias = b.resize(bias, (inner.output.type.shape[-1],))
    x, weight, _ = inner.inputs
    made = b.linear(x, weight, bias, **inner.attrs)
    return b.resize(made, y.type.shape)


def _unwrapped(indices: Value, rows: Any) -> Value:
    """Indices as the source gives them: JAX counts negative ones from the end of the table.

    A lookup of rows is not defined for them here, so that ``where(i < 0, i + n, i)`` says
    nothing more.
    """
    seen = made_by(indices, "where")
    if seen is None:
        return indices
    test, moved, plain = seen.inputs
    less = made_by(test, "less")
    shifted = split(made_by(moved, "add"))
    if less is None or shifted is None or not isinstance(plain, Value):
        return indices
    same = alike(less.inputs[0], plain) and alike(shifted[0], plain)
    if same and number(less.inputs[1]) == 0 and shifted[1] == rows:
        return plain
    return indices


def _within(indices: Any, count: Any) -> bool:
    """Whether integers are known to be in [0, count)."""
    if not isinstance(indices, Value) or not isinstance(count, int):
        return False
    node = view(indices).base.producer
    if node is None:
        return False
    if node.op == "astype":
        inner = node.inputs[0]
        integer = isinstance(inner, Value) and dt.is_int(inner.type.dtype)
        return integer and _within(inner, count)
    if node.op == "full":
        value = constant(node.output)
        return isinstance(value, int) and 0 <= value < count
    if node.op == "arange":
        start, stop, step = (node.attrs[k] for k in ("start", "stop", "step"))
        known = all(isinstance(n, int) for n in (start, stop, step))
        return known and step > 0 and start >= 0 and stop <= count
    if node.op in ("argmax", "argmin"):
        x = node.inputs[0]
        axis = node.attrs["axis"]
        return isinstance(x, Value) and axis is not None and x.type.shape[axis] == count
    if node.op == "clip":
        low, high = node.attrs["min"], node.attrs["max"]
        return low is not None and high is not None and 0 <= low <= high < count
    return False


def flattened_linear(b: Builder, node: Node) -> Value | None:
    """A linear between two reshapes that only merge leading axes and split them again."""
    linear = made_by(node.inputs[0], "linear")
    if linear is None:
        return None
    flat = made_by(linear.inputs[0], "reshape")
    source = flat.inputs[0] if flat is not None else None
    if not isinstance(source, Value) or source.type.rank < 2:
        return None
    inner = linear.inputs[0]
    assert isinstance(inner, Value)
    kept = source.type.shape[-1] == inner.type.shape[-1]
    expected = (*source.type.shape[:-1], linear.output.type.shape[-1])
    if not kept or node.output.type.shape != expected:
        return None
    return b.linear(source, *linear.inputs[1:], **linear.attrs)


RULES: dict[str, list[Rule]] = {"reshape": [flattened_linear]}
