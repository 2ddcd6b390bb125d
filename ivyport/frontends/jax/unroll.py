"""Scans over stacked layers are unrolled: each iteration gets its own parameters and scope.

`hk.layer_stack`, `nn.scan` and `nnx.scan` over layers stack the layers' parameters on one axis and
run one body over it; linen moves another axis to the front first, and AlphaFold's `layer_stack`
scans over numbers and slices each parameter in the body. The port has a list of layers: iteration
i has the scope `block.i` if all stacked parameters are those of one module `block`, else
`layers.i` of the module that scans.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jax.extend.core import ClosedJaxpr

from ivyport.core.errors import GraphError
from ivyport.core.ir import Node, Param, Scalar, Scope, Slice, TensorType, Value
from ivyport.frontends.jax import calls
from ivyport.frontends.jax.registry import Found, Key

if TYPE_CHECKING:
    from ivyport.frontends.jax.lower import Lowering

MARK = "ivyport_call"


@dataclasses.dataclass(frozen=True)
class Iteration:
    """One iteration: `prefix` is the place that gets the number, `depth` the scan's stack's.

    `inserted` is what follows the prefix: ``3``, or ``layers.3`` beside other children. `cls` is
    the iterations' class where they are no module of the source. `places` are those of the
    stacked parameters.
    """

    prefix: str
    inserted: str
    depth: int
    cls: str
    places: tuple[str, ...]

    def of_module(self, path: str, others: Iterable[str]) -> str:
        """The place of a module that the body calls, from its path in the source.

        haiku's `layer_stack` transforms its body anew, so that paths start at the body: they are
        below the prefix if parameters say so, or if no parameter is at that path.
        """
        if _below(path, self.prefix):
            return path
        inner = _join(self.prefix, path)
        if any(_below(place, inner) for place in self.places):
            return inner
        return path if any(_below(place, path) for place in others) else inner

    def of_tensor(self, place: str) -> str:
        """A place at or below the prefix with the iteration's number."""
        if not _below(place, self.prefix):
            return place
        rest = place[len(self.prefix) :].lstrip(".")
        return _join(self.prefix, self.inserted, rest)


def _below(path: str, prefix: str) -> bool:
    return not prefix or path == prefix or path.startswith(f"{prefix}.")


def _join(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def _child(place: str, path: str) -> str | None:
    """The child of a module that holds a tensor, None where it is the module itself."""
    if not _below(place, path):
        return None
    child, _, rest = place[len(path) :].lstrip(".").partition(".")
    return child if rest else None


class Unrolled:
    """The iterations that are being lowered, and the parameters that they took apart."""

    def __init__(self, lowering: Lowering) -> None:
        self.lowering = lowering
        self._raw = {v: p.place for v, p in lowering.params.items()}  # without numbers
        self._places = tuple(self._raw.values())
        self._paths = {v: p.path for v, p in lowering.params.items()}
        self._open: list[Iteration] = []
        self._parts: dict[Value, dict[int, Value]] = {}
        self._axes: dict[Value, int] = {}  # of the layers, of those that have parts

    # ---- scopes

    def place(self, place: str, depth: int | None = None) -> str:
        """A place with the numbers of the open iterations, the inner ones first."""
        for item in reversed(self._open[:depth]):
            place = item.of_tensor(place)
        return place

    def placed(self, stack: tuple[Scope, ...]) -> tuple[Scope, ...]:
        """A stack of scopes with the iterations' numbers in its paths."""
        if not self._open:
            return stack
        result: list[Scope] = []
        for depth, scope in enumerate(stack):
            result += self._entered(depth)
            count = sum(1 for item in self._open if item.depth <= depth)
            path = scope.path
            for item in reversed(self._open[:count]):
                path = item.of_module(path, self._places)
            result.append(dataclasses.replace(scope, path=self.place(path, count)))
        return (*result, *self._entered(len(stack)))

    def _entered(self, depth: int) -> Iterator[Scope]:
        """Scopes of the iterations that are no module of the source, begun at that depth."""
        for position, item in enumerate(self._open):
            if item.depth == depth and item.cls:
                own = _join(item.prefix, item.inserted)
                yield Scope(self.place(own, position), item.cls)

    # ---- scans

    def stacked(
        self, body: ClosedJaxpr, consts: Sequence[Found], xs: Sequence[Found]
    ) -> bool:
        """Whether a scan is over parameters, or over numbers of layers that it cuts from them."""
        return any(self._param(x) is not None for x in xs) or bool(
            self._cut(body, consts, xs)
        )

    def _cut(
        self, body: ClosedJaxpr, consts: Sequence[Found], xs: Sequence[Found]
    ) -> list[Value]:
        """Parameters among the constants that a body slices, if it counts its iterations."""
        if not any(_counts(x) for x in xs):
            return []
        params = [self._param(x) for x in consts]
        return [
            p
            for p, var in zip(params, body.jaxpr.invars, strict=False)
            if p is not None and _slices(body, var)
        ]

    def _param(self, x: Found) -> Value | None:
        """The parameter that x is, casts and the order of its axes aside."""
        while isinstance(x, Value) and x.producer is not None:
            node = x.producer
            if node.op not in ("astype", "permute_dims"):
                return None
            (x,) = node.inputs  # type: ignore[assignment]  # their operand is a value
        return x if isinstance(x, Value) and x in self.lowering.params else None

    def slice(self, x: Value, axis: int, i: int) -> Value | None:
        """``x[..., i:i + 1, ...]`` of a stacked parameter in an iteration, None for others."""
        if not self._open or self._param(x) is None:
            return None
        b = self.lowering.builder
        item = self._tensor(x, i, axis)
        return b.reshape(
            item, shape=(*x.type.shape[:axis], 1, *x.type.shape[axis + 1 :])
        )

    def scan(
        self,
        body: ClosedJaxpr,
        consts: Sequence[Found],
        carry: Sequence[Found],
        xs: Sequence[Found],
        length: int,
        reverse: bool,
    ) -> list[Found]:
        """The iterations one after the other; final carry and stacked results."""
        engine, b = self.lowering, self.lowering.builder
        outs, count = b.outs, len(carry)
        layer = self._layer(body, [*self._cut(body, consts, xs), *xs])
        state = list(carry)
        results: list[list[Found]] = [[] for _ in outs[count:]]
        order = range(length)
        for i in reversed(order) if reverse else order:
            inserted = _join(layer.inserted, str(i))
            self._open.append(dataclasses.replace(layer, inserted=inserted))
            try:
                b.scope = self.placed(engine.stack)
                items = [self._item(x, i) for x in xs]
                found = engine.inline(body, [*consts, *state, *items])
            finally:
                self._open.pop()
            state = found[:count]
            for column, y in zip(results, found[count:], strict=True):
                column.append(y)
        b.scope = self.placed(engine.stack)
        if reverse:
            results = [column[::-1] for column in results]
        stacks = [
            self._stacked(column, type_)
            for column, type_ in zip(results, outs[count:], strict=True)
        ]
        return [*state, *stacks]

    def _stacked(self, column: list[Found], type_: TensorType) -> Found:
        if any(isinstance(y, Key) for y in column):
            own = any(y.derived(()).own for y in column if isinstance(y, Key))
            return Key(type_.shape, own=own)
        b = self.lowering.builder
        items = [
            b.full(shape=(), value=y.value, dtype=type_.dtype)
            if isinstance(y, Scalar)
            else y
            for y in column
        ]
        if not items:
            return b.full(shape=type_.shape, value=0, dtype=type_.dtype)
        return b.stack(*items, axis=0)

    def _layer(self, body: ClosedJaxpr, xs: Sequence[Found]) -> Iteration:
        """Where the iterations are; their numbers are still to be appended."""
        outer = self.lowering.stack
        above, depth = (outer[-1] if outer else Scope("", "Model")), len(outer)
        places = tuple(self._raw[p] for p in map(self._param, xs) if p is not None)
        inner = {_child(place, above.path) for place in places}
        if len(inner) == 1 and None not in inner:
            block = _join(above.path, str(inner.pop()))
            called = {stack[depth].path for stack in self._called(body, depth)}
            cls = "" if block in called else f"{above.cls}Layer"
            return Iteration(block, "", depth, cls, places)
        return Iteration(above.path, "layers", depth, f"{above.cls}Layer", places)

    def _called(self, body: ClosedJaxpr, depth: int) -> Iterator[tuple[Scope, ...]]:
        """Scopes of the module calls in a body that are deeper than `depth`."""
        for eqn in body.jaxpr.eqns:
            if eqn.primitive.name == MARK:
                stack = self.lowering.scopes.stack(eqn.params["call_id"])
                if len(stack) > depth:
                    yield stack
            else:
                stack = self.lowering.scopes.stack_of(
                    str(eqn.source_info.name_stack), self.lowering.stack
                )
                if len(stack) > depth:
                    yield stack
            inner = calls.body(eqn)
            if inner is not None:
                yield from self._called(inner, depth)

    # ---- parameters

    def _tensor(self, x: Value, i: int, axis: int) -> Value:
        """The item of a tensor, which is no key."""
        item = self._item(x, i, axis)
        assert not isinstance(item, Key)
        return self.lowering.builder.tensor(item)

    def _item(self, x: Found, i: int, axis: int = 0) -> Found:
        """``x[..., i, ...]``; of a stacked parameter, a parameter of its own."""
        b = self.lowering.builder
        if isinstance(x, Key):
            value = None if x.value is None else x.value[i]
            return Key(x.shape[1:], value, x.own)
        if isinstance(x, Scalar):
            raise GraphError("a scan over a number")
        if _counts(x):
            return Scalar(i)
        index = (*(Slice(),) * axis, i)
        if self._param(x) is None:
            return b.getitem(x, index=index)
        node = x.producer
        if node is None:
            if self._axes.setdefault(x, axis) != axis:
                return b.getitem(x, index=index)
            return self._part(x, i, axis)
        (inner,) = node.inputs
        assert isinstance(inner, Value)
        if node.op == "astype":
            return b.cast(self._tensor(inner, i, axis), x.type.dtype)
        axes = [a % inner.type.rank for a in node.attrs["axes"]]
        item = self._tensor(inner, i, axes.pop(axis))
        return b.transpose(item, tuple(sorted(axes).index(a) for a in axes))

    def _part(self, x: Value, i: int, axis: int) -> Value:
        parts = self._parts.setdefault(x, {})
        if i in parts:
            return parts[i]
        param = self.lowering.params[x]
        shape = param.type.shape
        type_ = param.type.with_shape(shape[:axis] + shape[axis + 1 :])
        path = f"{param.path}[{i}]"
        made = Value(type_, path)
        parts[i] = made
        self._raw[made], self._paths[made] = self._raw[x], path
        self.lowering.params[made] = Param(
            path,
            type_,
            param.kind,
            made,
            aliases=param.aliases,
            place=self.place(self._raw[x]),
            folds=(*param.folds, ("select", axis, i)),
            source=param.source,
            trainable=param.trainable,
        )
        return made

    def updates(self, written: Mapping[str, Value]) -> dict[str, Value]:
        """New values by the paths of their parameters, of parts where those were taken apart."""
        whole = {p.path for p in self.lowering.params.values()}
        found = dict(written)
        for value, parts in self._parts.items():  # outer scans come before inner ones
            path = self._paths[value]
            if path not in found or path in whole:
                continue
            new = found.pop(path)
            for i, part in parts.items():
                found[self._paths[part]] = self._layer_of(new, i, self._axes[value])
        return found

    def _layer_of(self, stacked: Value, i: int, axis: int) -> Value:
        """``stacked[..., i, ...]``, from before it was stacked where that is known."""
        b, node = self.lowering.builder, stacked.producer
        if node is not None and node.op == "stack" and node.attrs["axis"] == axis:
            item = node.inputs[i]
            assert isinstance(item, Value)
            return item
        if node is not None and node.op == "permute_dims":
            (inner,) = node.inputs
            assert isinstance(inner, Value)
            axes = [a % inner.type.rank for a in node.attrs["axes"]]
            item = self._layer_of(inner, i, axes.pop(axis))
            return b.transpose(item, tuple(sorted(axes).index(a) for a in axes))
        return b.getitem(stacked, index=(*(Slice(),) * axis, i))

    def settle(self, outputs: Sequence[Found]) -> None:
        """Forget the stacked parameters; one that is also used whole keeps its parts as slices.

        So does one of which no output needs some layer (the last one of a stream that is not
        returned): whole, that layer goes home too.
        """
        nodes, params = self.lowering.builder.nodes, self.lowering.params
        live = _live(nodes, outputs)
        # The whole is moved and cast before it is taken apart: that is no use of it.
        running = [n for n in nodes if not set(n.outputs).isdisjoint(live)]
        used: set[Any] = {x for node in running for x in node.values()}
        used |= {x for x in outputs if isinstance(x, Value)}
        slices: list[Node] = []
        for value, parts in self._parts.items():  # outer scans come before inner ones
            needed = all(p in live for p in parts.values() if p not in self._parts)
            if value in params and value not in used and needed:
                del params[value]
                continue
            if value in params and not needed:
                # The layers have its rows, and none of them has all: it is held above them.
                params[value].place = params[value].place.replace(".", "_")
            for i, part in parts.items():
                del params[part]
                index = (*(Slice(),) * self._axes[value], i)
                node = Node("getitem", (value,), {"index": index}, (part,))
                part.producer = node
                slices.append(node)
        nodes[:0] = slices


def _counts(x: Found) -> bool:
    """Whether x is ``arange(n)``: the numbers of the iterations."""
    node = x.producer if isinstance(x, Value) else None
    if node is None or node.op != "arange":
        return False
    return (node.attrs["start"], node.attrs["step"]) == (0, 1)


def _slices(body: ClosedJaxpr, var: Any) -> bool:
    """Whether a body, or what it calls, takes one item along an axis of a variable."""
    names = {id(var)}
    for eqn in body.jaxpr.eqns:
        if not any(id(x) in names for x in eqn.invars):
            continue
        name, inner = eqn.primitive.name, calls.body(eqn)
        if name == "dynamic_slice" and id(eqn.invars[0]) in names:
            sizes = zip(
                eqn.params["slice_sizes"], eqn.invars[0].aval.shape, strict=True
            )
            if sum(size != whole for size, whole in sizes) == 1:
                return True
        if name in ("convert_element_type", MARK):
            both = zip(eqn.invars, eqn.outvars, strict=False)
            names |= {id(out) for x, out in both if id(x) in names}
        if inner is not None and any(
            id(x) in names and _slices(inner, own)
            for x, own in zip(eqn.invars, inner.jaxpr.invars, strict=True)
        ):
            return True
    return False


def _live(nodes: Sequence[Node], outputs: Sequence[Found]) -> set[Value]:
    """Values that an output depends on."""
    live = {x for x in outputs if isinstance(x, Value)}
    for node in reversed(nodes):
        if any(v in live for v in node.outputs):
            live |= {x for x in node.values() if isinstance(x, Value)}
    return live
