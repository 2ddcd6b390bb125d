"""The engine: calls, marks, constants, scans over stacked layers, and the report of gaps."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

from ivyport.core.dims import maximum as dim_max
from ivyport.core.dims import symbol
from ivyport.core.errors import GraphError, UnsupportedOpsError
from ivyport.core.ir import Graph, Param, Scope, TensorType, Value
from ivyport.core.verify import verify
from ivyport.frontends.jax import rules
from ivyport.frontends.jax.lower import Lowering, NoScopes, lower_function
from ivyport.frontends.jax.registry import Key, apply, lowers
from ivyport.frontends.jax.scopes import ScopeTable
from ivyport.frontends.jax.sizes import number, to_dim
from tests.frontends.jax.lowered import check, lower, normal
from tests.graph_run import ops, run

X = normal(2, 3)


# ---- calls


def test_lower_function_names_inputs() -> None:
    graph = lower_function(lambda x, y: x + y, X, X, names=["left", "right"])
    assert [v.name for v in graph.inputs] == ["left", "right"]
    assert ops(graph) == ["add"]


def test_calls_are_inlined() -> None:
    @jax.jit
    def inner(x: jax.Array) -> jax.Array:
        return jnp.sin(x)

    check(jax.checkpoint(lambda x: inner(x) + inner(x * 2)), X,
          expect=["sin", "multiply", "sin", "add"])  # fmt: skip


def test_a_composite_is_its_decomposition() -> None:
    check(lax.composite(lambda x: x * 2, "my.double"), X, expect=["multiply"])


def test_custom_gradients_are_kept() -> None:
    @jax.custom_vjp
    def clipped(x: jax.Array) -> jax.Array:
        return x * 2

    clipped.defvjp(lambda x: (x * 2, None), lambda _, g: (jnp.clip(g, -1, 1),))
    lowered = lower(lambda x: clipped(x) + jax.nn.relu(x), X)
    assert ops(lowered.graph) == ["custom_vjp", "relu", "add"]
    assert not lowered.notes


def test_outputs_that_are_inputs_or_numbers() -> None:
    graph = check(lambda x: (x, jnp.float32(2)), X)
    assert graph.outputs[0] is graph.inputs[0]


def test_source_lines() -> None:
    graph = lower(lambda x: jnp.tanh(x), X).graph
    (node,) = graph.nodes
    assert node.src is not None
    assert node.src.file == __file__


def test_branches_that_are_known() -> None:
    def function(x: jax.Array) -> jax.Array:
        return lax.platform_dependent(x, tpu=lambda x: x * 2, default=lambda x: x + 1)

    check(function, X, expect=["add"])


# ---- constants


def test_closed_over_arrays() -> None:
    table = normal(3, 4)
    lowered = lower(lambda x: x @ table, X)
    (param,) = lowered.graph.params.values()
    assert (param.kind, param.type) == ("constant", TensorType("float32", (3, 4)))
    np.testing.assert_array_equal(lowered.constants[param.path], table)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.full((2, 3), 0.1, np.float32), "full"),
        (np.arange(3, 9, dtype=np.int32), "arange"),
        (np.eye(3, 4, dtype=np.float32), "eye"),
        (np.ones((4, 4), bool), "full"),
    ],
)
def test_arrays_that_nodes_can_say(array: np.ndarray, expected: str) -> None:
    held = jnp.asarray(array)
    graph = (
        check(lambda x: (x, held + jnp.zeros_like(held)), X)
        if (array.dtype != bool)
        else check(lambda x: (x, ~held), X)
    )
    assert not graph.params
    assert expected in ops(graph)


def test_one_constant_that_is_used_twice() -> None:
    table = jnp.asarray(normal(3, 4))
    graph = lower(lambda x: (x @ table) * jnp.sum(table), X).graph
    assert len(graph.params) == 1


# ---- sizes


def test_to_dim() -> None:
    b, s = export.symbolic_shape("b, s")
    want_b, want_s = symbol("B"), symbol("s")
    names = {"b": "B"}
    assert to_dim(7) == 7
    assert to_dim(b * s * 2 + 1, names) == 2 * want_b * want_s + 1
    assert to_dim((b + 1) // 2, names) == (want_b + 1) // 2
    assert to_dim(b % 3, names) == want_b % 3
    assert to_dim(jax.core.max_dim(b, s), names) == dim_max(want_b, want_s)
    with pytest.raises(GraphError, match="no size"):
        to_dim("b")


@pytest.mark.parametrize("value", [0.1, 1e-5, 1 / 3, 3.0, 1e30, float("inf")])
def test_numbers_read_back(value: float) -> None:
    assert np.float32(number(np.float32(value), "float32")) == np.float32(value)


# ---- the registry


def test_parameters_must_be_taken() -> None:
    def rule(b: Any, x: Any, *, axis: int) -> Any:
        return x, axis

    assert apply(rule, None, [1], {"axis": 2}) == (1, 2)  # type: ignore[arg-type]
    assert apply(rule, None, [1], {"axis": 2, "sharding": None}) == (1, 2)  # type: ignore[arg-type]
    with pytest.raises(GraphError, match="parameter mode='x' is not supported"):
        apply(rule, None, [1], {"axis": 2, "mode": "x"})  # type: ignore[arg-type]
    with pytest.raises(GraphError, match="missing"):
        apply(rule, None, [1], {})  # type: ignore[arg-type]


def test_one_rule_a_primitive() -> None:
    with pytest.raises(GraphError, match="two rules"):
        lowers("add")(lambda b, x: x)


def test_gaps_are_reported_at_once() -> None:
    def function(x: jax.Array) -> jax.Array:
        y = jnp.fft.fft(x).real
        z = jnp.linalg.eigh(x @ x.T)[0].sum()
        return y + z + jnp.linalg.svd(x, compute_uv=False).sum()

    with pytest.raises(UnsupportedOpsError) as caught:
        lower(function, X)
    text = str(caught.value)
    for name in ("fft", "eigh", "svd"):
        assert name in text
    assert "test_lower.py" in text
    assert "operations of this model cannot be ported yet" in text


def test_dtypes_that_the_graph_lacks() -> None:
    with pytest.raises(UnsupportedOpsError, match="float8_e4m3fn"):
        lower(lambda x: x.astype(jnp.float8_e4m3fn).astype(jnp.float32), X)


def test_rules_have_names() -> None:
    assert all(callable(rule) for rule in rules.RULES.values())
    assert {"dot_general", "conv_general_dilated", "gather"} <= set(rules.RULES)


# ---- scopes and scans over stacked layers


class Model:
    """A function with marks and parameters, lowered by hand."""

    def __init__(self, function: Any, shapes: dict[str, tuple[int, ...]]) -> None:
        self.table = ScopeTable(Scope("", "Net"))
        self.arrays = {
            place: normal(*shape, seed=i)
            for i, (place, shape) in enumerate(shapes.items())
        }
        self.function = function

    def lower(self, x: np.ndarray) -> Graph:
        closed = jax.make_jaxpr(lambda p, x: self.function(self.table, p, x))(
            self.arrays, x
        )
        params = {}
        for place in sorted(self.arrays):
            type_ = TensorType("float32", self.arrays[place].shape)
            value = Value(type_, place)
            params[value] = Param(place.replace(".", "/"), type_, "parameter", value,
                                  place=place)  # fmt: skip
        given = Value(TensorType("float32", x.shape), "x")
        self.engine = Lowering(
            closed,
            [*params, given],
            scopes=self.table,
            constant=_no_constant,
            params=params,
        )
        outputs = self.engine.run()
        found = {p.path: p for p in self.engine.params.values()}
        graph = Graph([given], found, self.engine.builder.nodes, outputs)
        graph.calls = self.engine.calls
        verify(graph)
        return graph

    def compare(self, graph: Graph, x: np.ndarray) -> None:
        arrays = {"x": x}
        for param in graph.params.values():
            array = self.arrays[param.source.replace("/", ".")]
            for kind, axis, i in param.folds:
                assert kind == "select"
                array = array.take(i, axis)
            arrays[param.path] = array
        (found,) = run(graph, arrays, jit=False)
        wanted = self.function(ScopeTable(), self.arrays, x)
        np.testing.assert_allclose(found, wanted, 1e-5, 1e-6)


def _no_constant(array: np.ndarray, name: str) -> Value:
    raise AssertionError(f"constant {name} of shape {array.shape}")


def _call(table: ScopeTable, path: str, function: Any, *args: Any) -> Any:
    named = {f"x{i}": a for i, a in enumerate(args)}
    where = tuple(path.split("."))
    return table.run(object(), where, where[-1].title(), named, lambda: function(*args))


def _stacked(table: ScopeTable, p: dict[str, Any], x: Any) -> Any:
    def body(x: Any, w: Any) -> Any:
        def block(x: Any) -> Any:
            return _call(table, "block.linear", lambda x: jnp.tanh(x @ w), x)

        return _call(table, "block", block, x), None

    return lax.scan(body, x, p["block.linear.w"])[0]


def test_a_scan_over_layers_is_a_list_of_layers() -> None:
    model = Model(_stacked, {"block.linear.w": (3, 4, 4)})
    x = normal(2, 4)
    graph = model.lower(x)
    assert ops(graph) == ["matmul", "tanh"] * 3
    assert [p.place for p in graph.params.values()] == [
        f"block.{i}.linear.w" for i in range(3)
    ]
    assert [p.folds for p in graph.params.values()] == [
        (("select", 0, i),) for i in range(3)
    ]
    assert {p.source for p in graph.params.values()} == {"block/linear/w"}
    paths = [[s.path for s in n.scope] for n in graph.nodes[::2]]
    assert paths == [["", f"block.{i}", f"block.{i}.linear"] for i in range(3)]
    assert [c.stack[-1].path for c in graph.calls[:2]] == ["block.0", "block.0.linear"]
    model.compare(graph, x)


def _loose(table: ScopeTable, p: dict[str, Any], x: Any) -> Any:
    """A module `net` whose own code scans over its linear and its scale."""

    def net(x: Any) -> Any:
        def body(x: Any, leaves: Any) -> Any:
            w, scale = leaves
            y = _call(table, "net.linear", lambda x: x @ w, x)
            return y * scale, y.sum()

        xs = (p["net.linear.w"], p["net.scale"])
        y, sums = lax.scan(body, x, xs, reverse=True)
        return y + sums.sum()

    return _call(table, "net", net, x)


def test_iterations_without_a_module_are_layers() -> None:
    model = Model(_loose, {"net.linear.w": (3, 4, 4), "net.scale": (3, 4)})
    x = normal(2, 4)
    graph = model.lower(x)
    places = {p.place for p in graph.params.values()}
    assert places == {f"net.layers.{i}.linear.w" for i in range(3)} | {
        f"net.layers.{i}.scale" for i in range(3)
    }
    first = graph.nodes[0]
    assert [s.path for s in first.scope] == [
        "", "net", "net.layers.2", "net.layers.2.linear"
    ]  # fmt: skip
    assert first.scope[2].cls == "NetLayer"
    assert graph.nodes[-1].scope[-1].path == "net"
    model.compare(graph, x)


def _twice(table: ScopeTable, p: dict[str, Any], x: Any) -> Any:
    stacked = p["block.linear.w"]
    return _stacked(table, p, x) + _stacked(table, p, x * 2) + stacked.sum()


def test_a_stacked_parameter_that_is_used_whole_stays() -> None:
    model = Model(_twice, {"block.linear.w": (3, 4, 4)})
    x = normal(2, 4)
    graph = model.lower(x)
    assert [p.place for p in graph.params.values()] == ["block.linear.w"]
    model.compare(graph, x)


def _relative(table: ScopeTable, p: dict[str, Any], x: Any) -> Any:
    """As haiku's layer_stack: the body's modules are named from the body on."""

    def body(x: Any, leaves: Any) -> Any:
        w, v = leaves
        y = _call(table, "linear", lambda x: x @ w, x)
        return _call(table, "gate", lambda x: jax.nn.relu(x) * v, y), None

    xs = (p["stack.linear.w"], p["stack.gate.v"])
    return lax.scan(body, x, xs)[0]


def test_modules_named_from_the_body_on() -> None:
    model = Model(_relative, {"stack.linear.w": (2, 4, 4), "stack.gate.v": (2, 4)})
    x = normal(2, 4)
    graph = model.lower(x)
    paths = [[s.path for s in n.scope] for n in graph.nodes]
    assert paths[0] == ["", "stack.0", "stack.0.linear"]
    assert paths[1] == ["", "stack.0", "stack.0.gate"]
    assert paths[-1] == ["", "stack.1", "stack.1.gate"]
    model.compare(graph, x)


def _nested(table: ScopeTable, p: dict[str, Any], x: Any) -> Any:
    def inner(x: Any, w: Any) -> Any:
        return _call(table, "outer.inner", lambda x: x @ w, x), None

    def outer(x: Any, w: Any) -> Any:
        return _call(table, "outer", lambda x: lax.scan(inner, x, w)[0], x), None

    return lax.scan(outer, x, p["outer.inner.w"])[0]


def test_scans_in_scans() -> None:
    model = Model(_nested, {"outer.inner.w": (2, 3, 4, 4)})
    x = normal(2, 4)
    graph = model.lower(x)
    assert ops(graph) == ["matmul"] * 6
    assert [p.place for p in graph.params.values()] == [
        f"outer.{i}.inner.{j}.w" for i in range(2) for j in range(3)
    ]
    assert [s.path for s in graph.nodes[4].scope] == ["", "outer.1", "outer.1.inner.1"]
    model.compare(graph, x)


def _counting(table: ScopeTable, p: dict[str, Any], x: Any) -> Any:
    """Each layer has a running average, which the scan gives stacked."""

    def body(x: Any, leaves: Any) -> Any:
        w, mean = leaves

        def block(x: Any) -> Any:
            return x @ w - mean, 0.9 * mean + 0.1 * x.mean(0)

        return _call(table, "block", block, x)

    return lax.scan(body, x, (p["block.w"], p["block.mean"]))


def test_updates_of_stacked_state_are_those_of_the_layers() -> None:
    model = Model(_counting, {"block.w": (3, 4, 4), "block.mean": (3, 4)})
    graph = model.lower(normal(2, 4))
    _, means = graph.outputs
    found = model.engine.unrolled.updates({"block/mean": means, "other": means})
    assert set(found) == {*(f"block/mean[{i}]" for i in range(3)), "other"}
    for i in range(3):
        new = found[f"block/mean[{i}]"]
        assert new.type.shape == (4,)
        assert new.producer.scope[-1].path == f"block.{i}"


def test_functions_have_no_module_calls() -> None:
    with pytest.raises(GraphError, match="without modules"):
        NoScopes().stack(3)


def test_keys_are_no_inputs() -> None:
    graph = lower(lambda key, x: x * 2, jax.random.key(0), X).graph
    assert [v.name for v in graph.inputs] == ["x1"]
    assert Key() == Key(())
