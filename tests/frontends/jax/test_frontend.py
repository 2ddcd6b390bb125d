from __future__ import annotations

from typing import Any

import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ivyport.core.control import bodies
from ivyport.core.errors import TraceError, UnsupportedOpsError
from ivyport.core.ir import Graph, Record, Value
from ivyport.core.verify import verify
from ivyport.frontends.jax.frontend import Traced, to_graph
from ivyport.frontends.jax.sources import Source, open_source
from tests.frontends.jax.tiny_sources import KEY, SOURCES, X, tiny
from tests.graph_run import ops, run
from tests.support import assert_close


def traced(name: str, **options: Any) -> tuple[Source, Traced]:
    given = tiny(name)
    source = open_source(given.source, (), given.kwargs, **given.given)
    return source, to_graph(given.source, (), given.kwargs, **given.given, **options)


def folded(array: np.ndarray, folds: tuple[tuple[Any, ...], ...]) -> np.ndarray:
    """A parameter of the graph from the source's array."""
    for kind, *rest in folds:
        if kind == "select":
            array = array.take(rest[1], axis=rest[0])
        elif kind == "permute_dims":
            array = array.transpose(rest[0])
        else:
            assert kind == "reshape", kind
            array = array.reshape(rest[1])
    return array


def arrays(found: Traced) -> dict[str, np.ndarray]:
    params = found.graph.params.values()
    return {
        p.path: folded(np.asarray(found.tensors[p.source]), p.folds) for p in params
    }


def compare(source: Source, found: Traced, inputs: dict[str, Any]) -> None:
    wanted = jax.tree.leaves(jax.jit(source.call)({}, inputs))
    got = run(found.graph, {**arrays(found), **inputs})
    for ours, theirs in zip(got, wanted, strict=True):
        assert_close(ours, np.asarray(theirs), rtol=1e-5)


@pytest.mark.parametrize("name", SOURCES)
def test_graphs_compute_what_their_sources_do(name: str) -> None:
    source, found = traced(name)
    verify(found.graph)
    notes = [n for n in found.notes if not n.startswith("Sizes of ")]
    # The plain function reads a weight that is none of its arguments, and is told so.
    assert ["params=" in n for n in notes] == [True] * (name == "plain_function")
    compare(source, found, found.inputs)
    three = {k: np.concatenate([x, x[:1]]) for k, x in found.inputs.items()}
    compare(source, found, three)
    assert found.graph.dims == {"batch": (1, None)}


def paths(graph: Graph) -> list[str]:
    return sorted({n.scope[-1].path for n in graph.nodes})


def named(graph: Graph, op: str, position: int = 0) -> list[str]:
    """Names of the results of the operations called `op`, innermost last."""
    node = [n for n in graph.nodes if n.op == op][position]
    return [node.output.names[depth] for depth in sorted(node.output.names)]


# ---- scopes, places, attributes


def test_haiku_scopes_and_places() -> None:
    _, found = traced("hk_transformer", train=False)
    graph = found.graph
    assert graph.name == "LanguageModel"
    assert {n.scope[0].path for n in graph.nodes} == {""}
    assert "block.1.multi_head_attention.query" in paths(graph)
    places = {p.path: p.place for p in graph.params.values()}
    assert places["~:positions"] == "positions"
    assert places["block/linear:w"] == "block.0.linear.w"
    assert places["block_2/~norm/layer_norm:scale"] == "block.2.layer_norm.scale"
    assert places["head:b"] == "head.b"
    assert graph.classes["block.0"] == f"{hk_block()}"
    assert graph.classes["head"] == "haiku._src.basic.Linear"
    assert graph.attrs["block.0"] == {"heads": 4, "rate": 0.1}
    assert list(graph.classes)[:2] == ["", "embed"]
    order = [p for p in graph.classes if p.startswith("block.")]
    assert order.index("block.0") < order.index("block.0.linear")
    assert order.index("block.0.linear_1") < order.index("block.1")


def hk_block() -> str:
    from tests.frontends.jax.tiny_sources import Block

    return f"{Block.__module__}.{Block.__qualname__}"


def test_linen_scopes_and_places() -> None:
    _, found = traced("linen_transformer", train=False)
    places = {p.path: p.place for p in found.graph.params.values()}
    assert places["LinenBlock_1.Dense_0.kernel"] == "LinenBlock.1.Dense_0.kernel"
    assert found.graph.attrs["LinenBlock.0"] == {"heads": 4, "rate": 0.1}
    assert found.graph.name == "LinenTransformer"
    _, net = traced("linen_net", train=False)
    held = {p.path: (p.place, p.kind) for p in net.graph.params.values()}
    assert held["norm.mean"] == ("norm.mean", "buffer")
    assert held["heads_0.kernel"] == ("heads_0.kernel", "parameter")
    assert net.graph.attrs[""] == {"features": 4}


def test_nnx_scopes_and_places() -> None:
    _, found = traced("nnx_transformer", train=False)
    graph = found.graph
    assert {p.place for p in graph.params.values()} == set(graph.params)
    assert "blocks.1.attention.query" in paths(graph)
    assert graph.attrs["blocks.0.attention"]["num_heads"] == 4
    embed = [n for n in graph.nodes if n.scope[-1].path == "embed"]
    assert {n.scope[-1].call for n in embed} == {0, 1}  # embed(ids), embed.attend(h)


def test_calls_have_the_names_of_arguments() -> None:
    _, found = traced("hk_transformer", train=False)
    calls = {c.stack[-1].path: [name for name, _ in c.args] for c in found.graph.calls}
    assert calls["block.0"] == ["h", "mask"]
    assert calls["block.0.multi_head_attention"] == ["query", "key", "value", "mask"]


def test_a_rematerialised_module_is_itself() -> None:
    _, plain = traced("nnx_transformer", train=False)
    _, remat = traced("nnx_remat", train=False)
    assert paths(plain.graph) == paths(remat.graph)
    assert ops(plain.graph) == ops(remat.graph)


def test_scanned_layers_are_a_list() -> None:
    _, found = traced("linen_scanned")
    params = found.graph.params.values()
    parts = [p for p in params if p.source == "LinenBlock_0.Dense_0.kernel"]
    assert [p.place for p in parts] == [
        f"LinenBlock_0.{i}.Dense_0.kernel" for i in range(2)
    ]
    assert [p.folds for p in parts] == [(("select", 0, i),) for i in range(2)]
    assert ops(found.graph) == ops(traced("linen_transformer")[1].graph)


# ---- names of values


def test_values_are_named_by_their_lines() -> None:
    _, found = traced("hk_transformer", train=False)
    graph = found.graph
    assert named(graph, "tril") == ["mask"]
    last = graph.output_values()[0]
    assert last.names[0] == "logits"
    assert named(graph, "square") == []  # in the middle of a statement
    query = [n for n in graph.nodes if n.scope[-1].path.endswith("attention.query")]
    assert query[-1].output.names == {2: "y", 3: "out"}
    assert "normed" in [n.output.names.get(1) for n in graph.nodes]


def test_names_in_helpers_branches_and_tuples() -> None:
    def helper(x: jax.Array) -> jax.Array:
        doubled = x * 2
        return doubled

    def function(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        shifted = helper(x) + 1
        left, right = jnp.split(shifted, 2, axis=-1)
        return left, jnp.tanh(right)

    graph = to_graph(function, (X,)).graph
    assert named(graph, "multiply") == ["doubled"]
    assert named(graph, "add") == ["shifted"]
    left = graph.output_values()[0]
    assert left.names == {0: "left"}


def test_names_of_an_inner_function_that_jax_has_traced_before() -> None:
    @jax.jit
    def inner(x: jax.Array) -> jax.Array:
        local = jnp.sin(x)
        return local

    def first(x: jax.Array) -> jax.Array:
        one = inner(x)
        return one

    def second(x: jax.Array) -> jax.Array:
        other = inner(x)
        return other

    assert to_graph(first, (X,)).graph.output_values()[0].names == {0: "one"}
    assert to_graph(second, (X,)).graph.output_values()[0].names == {0: "other"}


# ---- train and eval


def test_dropouts_of_the_train_trace_are_in_the_graph() -> None:
    for name, count in [("hk_transformer", 6), ("linen_transformer", 4)]:
        _, found = traced(name)
        assert not [n for n in found.notes if not n.startswith("Sizes of ")]
        dropouts = [n for n in found.graph.nodes if n.op == "dropout"]
        assert [n.attrs["rate"] for n in dropouts] == [0.1] * count
        assert "dropout" not in ops(traced(name, train=False)[1].graph)


def test_rates_of_attention_come_from_the_train_trace() -> None:
    for name in ("linen_transformer", "nnx_transformer"):
        _, found = traced(name)
        attentions = [n for n in found.graph.nodes if n.op == "attention"]
        assert [n.attrs["dropout"] for n in attentions] == [0.1] * 2


def test_flax_batch_norm_has_its_momentum() -> None:
    _, found = traced("linen_net")
    (norm,) = [n for n in found.graph.nodes if n.op == "batch_norm"]
    assert norm.attrs["momentum"] == pytest.approx(0.01)
    assert (norm.attrs["unbiased"], norm.attrs["debias"]) == (False, False)
    assert not found.graph.updates


def test_haiku_batch_norm_is_debiased() -> None:
    _, found = traced("hk_resnet")
    norms = [n for n in found.graph.nodes if n.op == "batch_norm"]
    assert len(norms) == 1 + 4 * 3
    assert {(n.attrs["momentum"], n.attrs["debias"]) for n in norms} == {(0.1, True)}


def test_a_train_mode_that_computes_something_else_is_ported_beside() -> None:
    def function(x: jax.Array, is_training: bool = False) -> jax.Array:
        if is_training:
            return jnp.sin(x)
        return jnp.cos(x)

    graph = to_graph(function, (X,)).graph
    assert ops(graph) == ["mode"]
    assert [ops(body) for body in bodies(graph.nodes[0])] == [["cos"], ["sin"]]


def test_a_train_mode_that_cannot_be_captured_is_refused() -> None:
    def function(x: jax.Array, train: bool = False) -> jax.Array:
        if train:
            raise NotImplementedError("inference only")
        return jnp.cos(x)

    with pytest.raises(TraceError, match="inference only") as caught:
        to_graph(function, (X,))
    assert "train=False" in str(caught.value)
    assert ops(to_graph(function, (X,), train=False).graph) == ["cos"]


def test_dropout_after_dropout_and_on_an_output() -> None:
    def function(x: jax.Array, is_training: bool = False) -> Any:
        def drop(h: jax.Array, rate: float) -> jax.Array:
            return hk.dropout(hk.next_rng_key(), rate, h) if is_training else h

        inner = drop(drop(jnp.sin(x), 0.1), 0.2)
        return {"a": drop(jnp.cos(inner), 0.3), "b": inner, "c": x}

    graph = to_graph(hk.transform(function), (X,), params={}).graph
    assert [n.attrs["rate"] for n in graph.nodes if n.op == "dropout"] == [
        0.1,
        0.2,
        0.3,
    ]
    assert graph.outputs["a"].producer.attrs["rate"] == 0.3
    assert graph.outputs["b"].producer.attrs["rate"] == 0.2
    verify(graph)


def test_state_that_a_source_without_modes_writes_is_an_update() -> None:
    def function(x: jax.Array) -> jax.Array:
        count = hk.get_state("count", [], init=jnp.zeros)
        hk.set_state("count", count + 1)
        return x * count

    state = {"~": {"count": np.zeros((), np.float32)}}
    found = to_graph(hk.transform_with_state(function), (X,), params={}, state=state)
    assert list(found.graph.updates) == ["~:count"]


def test_state_that_a_transform_hands_through_is_not_written() -> None:
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
            return nn.remat(nn.BatchNorm)(use_running_average=not train)(x)

    variables = jax.eval_shape(Model().init, KEY, X)
    found = to_graph(Model(), (X,), params=variables)
    assert not [n for n in found.notes if not n.startswith("Sizes of ")]
    assert ops(found.graph) == ["batch_norm"]


# ---- constants, outputs, keys


def test_closed_over_arrays_are_constants_of_their_module() -> None:
    table = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)

    class Mixer(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return nn.Dense(8)(x) @ table

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return Mixer()(x) * np.full(8, 3.0, np.float32)

    params = Model().init(KEY, X)
    found = to_graph(Model(), (X,), params=params)
    constants = [p for p in found.graph.params.values() if p.kind == "constant"]
    assert [p.owner for p in constants] == ["Mixer_0"]
    np.testing.assert_array_equal(found.tensors[constants[0].path], table)
    compare(open_source(Model(), (X,), params=params), found, found.inputs)


def test_constants_are_the_same_in_both_modes() -> None:
    tables = [np.random.default_rng(i).standard_normal(8).astype("f4") for i in (0, 1)]

    def function(x: jax.Array, is_training: bool = False) -> jax.Array:
        x = x * tables[0] if is_training else tables[0] * x
        return x + tables[1]

    swapped = to_graph(function, (X,))
    assert len([p for p in swapped.graph.params.values() if p.kind == "constant"]) == 2


def test_outputs_keep_numbers_and_structure() -> None:
    def function(x: jax.Array) -> Any:
        return {"x": (x, None), "n": 3, "one": jnp.ones(()), "size": x.shape[0]}

    found = to_graph(function, (X,))
    outputs = found.graph.outputs
    assert outputs["n"] == 3
    assert outputs["x"][1] is None
    assert isinstance(outputs["one"], Value)
    assert str(outputs["size"]) == "batch"
    assert not isinstance(outputs, Record)


def test_key_arguments_are_no_inputs() -> None:
    def function(x: jax.Array, key: jax.Array) -> jax.Array:
        return x + jax.random.normal(key, x.shape)

    found = to_graph(function, (X, KEY))
    assert [v.name for v in found.graph.inputs] == ["x"]
    assert "'key' is a random key" in found.notes[0]
    with pytest.raises(TraceError, match="returns a PRNG key"):
        to_graph(lambda x, key: (x, jax.random.split(key)), (X, KEY))


def test_unsupported_primitives_are_listed_together() -> None:
    class Inner(hk.Module):
        def __call__(self, x: jax.Array) -> jax.Array:
            return jax.lax.linalg.eigh(x)[0]

    def function(x: jax.Array) -> jax.Array:
        return Inner()(x) + jnp.linalg.svd(x)[0]

    square = np.ones((3, 3), np.float32)
    with pytest.raises(UnsupportedOpsError) as error:
        to_graph(hk.transform(function), (square,), params={}, dims={"x": {0: None}})
    text = str(error.value)
    assert "1 x eigh" in text
    assert "in inner (" in text
    assert "1 x svd" in text


def test_unused_inputs_are_noted() -> None:
    found = to_graph(lambda x, y: x * 2, (X, X))
    assert found.notes == ["Input 'y' is not used by the source."]
    assert [v.name for v in found.graph.inputs] == ["x", "y"]


def test_parameters_may_be_shapes_alone() -> None:
    pair = hk.transform(lambda x: hk.nets.MLP([4])(x))
    params = jax.eval_shape(pair.init, KEY, X)
    assert len(to_graph(pair, (X,), params=params).graph.params) == 2


def test_a_shared_module_is_called_twice() -> None:
    class Twice(nnx.Module):
        def __init__(self) -> None:
            self.layer = nnx.Linear(8, 8, rngs=nnx.Rngs(0))

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.layer(self.layer(x))

    graph = to_graph(Twice(), (X,)).graph
    assert {n.scope[-1].call for n in graph.nodes if n.op == "matmul"} <= {0, 1}
    assert [c.stack[-1].call for c in graph.calls] == [0, 1]
    assert len(graph.params) == 2
