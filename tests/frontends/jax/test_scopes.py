from __future__ import annotations

from typing import Any

import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from ivyport.core.ir import Scope
from ivyport.frontends.jax.places import Places, identifier
from ivyport.frontends.jax.scopes import CALL, ScopeTable, bind_names, plain_scalars
from ivyport.frontends.jax.source_haiku import ModulePaths
from ivyport.frontends.jax.sources import Leaf, open_source
from tests.frontends.jax.tiny_sources import KEY, SOURCES, X, tiny


def equations(jaxpr: Any, outer: str = "") -> list[tuple[str, str]]:
    """(primitive, name stack) of every equation, nested ones too."""
    found = []
    for eqn in jaxpr.eqns:
        found.append((eqn.primitive.name, str(eqn.source_info.name_stack)))
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", value)
            if isinstance(inner, jax.extend.core.Jaxpr):
                found += equations(inner)
    return found


def marked(table: ScopeTable, name: str, function: Any, *args: Any) -> Any:
    given = {f"x{i}": x for i, x in enumerate(args)}
    return table.run(object(), (name,), f"lib.{name}", given, lambda: function(*args))


def test_nested_calls_are_read_back_exactly() -> None:
    table = ScopeTable(Scope("", "Root"))

    def function(x: jax.Array) -> jax.Array:
        x = jnp.sin(x)
        x = marked(table, "outer", lambda y: marked(table, "inner", jnp.cos, y) + 1, x)
        return marked(table, "outer", jnp.tanh, x)

    jaxpr = jax.make_jaxpr(function)(1.0).jaxpr
    stacks = {
        name: [(s.path, s.call) for s in table.stack_of(stack)]
        for name, stack in equations(jaxpr)
        if name != CALL.name
    }
    assert stacks == {
        "sin": [("", 0)],
        "cos": [("", 0), ("outer", 0), ("inner", 0)],
        "add": [("", 0), ("outer", 0)],
        "tanh": [("", 0), ("outer", 1)],
    }


@pytest.mark.parametrize("transform", ["jit", "remat", "scan", "vmap", "grad"])
def test_marks_survive(transform: str) -> None:
    table = ScopeTable()

    def layer(x: jax.Array) -> jax.Array:
        return marked(table, "layer", jnp.sin, x)

    functions: dict[str, Any] = {
        "jit": jax.jit(layer),
        "remat": jax.checkpoint(layer),
        "scan": lambda x: jax.lax.scan(lambda c, _: (layer(c), None), x, None, 3)[0],
        "vmap": jax.vmap(layer),
        "grad": jax.grad(lambda x: layer(x).sum()),
    }
    jaxpr = jax.make_jaxpr(functions[transform])(jnp.ones(3)).jaxpr
    wanted = "cos" if transform == "grad" else "sin"
    stacks = [table.stack_of(s) for name, s in equations(jaxpr) if name == wanted]
    assert stacks
    assert all(stack[-1].path == "layer" for stack in stacks)


def test_a_nested_jaxpr_is_inside_its_equation() -> None:
    table = ScopeTable()

    def inner() -> Any:
        return jax.jit(lambda x: marked(table, "b", jnp.sin, x))

    jax.make_jaxpr(lambda x: marked(table, "a", inner(), x))(1.0)
    a, b = table.entered
    outer = table.stack_of(f"ivyport{a}")
    assert [s.path for s in table.stack_of(f"x/ivyport{b}/y", outer)] == ["", "a", "b"]
    assert table.stack_of("", outer) == outer


def test_marks_of_other_captures_say_nothing() -> None:
    first, second = ScopeTable(), ScopeTable()
    jax.make_jaxpr(lambda x: marked(first, "a", jnp.sin, x))(1.0)
    (number,) = first.entered
    assert second.stack_of(f"ivyport{number}") == (second.root,)


def test_the_module_that_raised_is_known() -> None:
    table = ScopeTable()

    def fail() -> None:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        table.run(1, ("a",), "A", {}, lambda: table.run(2, ("a", "b"), "B", {}, fail))
    assert table.failed == "a.b"
    assert not table.running(2)


def test_arguments_are_marked_by_name_and_unchanged() -> None:
    seen = []

    class Module(hk.Module):
        def __call__(self, pair: Any, *rest: Any, flag: bool, **more: Any) -> Any:
            seen.append((pair[0] is pair[1], flag))
            return pair[0] + rest[0] + more["extra"]

    def function(x: jax.Array) -> jax.Array:
        return Module()((x, x), x, flag=True, extra=x)

    source = open_source(hk.transform(function), (X,), params={})
    table = ScopeTable()
    with source.marks(table):
        run = jax.make_jaxpr(lambda x: source.apply({}, {}, {"x": x})[0])
        jaxpr = run(X).jaxpr
    (mark,) = [eqn for eqn in jaxpr.eqns if eqn.primitive is CALL]
    assert mark.params["names"] == ("pair_0", "pair_1", "rest_0", "extra")
    assert not mark.outvars
    assert seen == [(True, True)]  # identical arguments stay identical


def test_names_of_arguments() -> None:
    def function(a: int, *b: int, c: int = 1, **d: int) -> None:
        pass

    found = bind_names(function, (1, 2, 3), {"c": 4, "e": 5})
    assert found == {"a": 1, "b_0": 2, "b_1": 3, "c": 4, "e": 5}
    assert bind_names(function, (), {"c": 2}) == {"c": 2}


def test_plain_scalars() -> None:
    given = {"a": 1, "_b": 2, "c": "x", "d": None, "e": [1], "f": True, "name": "n"}
    assert plain_scalars(given, ("name",)) == {"a": 1, "c": "x", "f": True}


@pytest.mark.parametrize("name", SOURCES)
def test_every_parameter_is_in_a_known_module(name: str) -> None:
    given = tiny(name)
    source = open_source(given.source, (), given.kwargs, **given.given)
    table = ScopeTable()
    with source.marks(table):
        jax.make_jaxpr(lambda i: source.apply({}, {}, i, rng=KEY)[0])(source.inputs)
    if source.kind == "jax":
        return
    paths = {("",), (), *table.modules}
    unknown = {leaf.module for leaf in source.leaves.values()} - paths
    # Layers that are stacked by haiku are no modules of their parents.
    assert all("layer_stack" in path[0] or path == ("~",) for path in unknown), unknown


def test_nnx_classes_are_put_back() -> None:
    given = tiny("nnx_transformer")
    source = open_source(given.source, (), given.kwargs)
    before = nnx.Linear.__call__, type(given.source).__call__
    with source.marks(ScopeTable()):
        assert nnx.Linear.__call__ is not before[0]
    assert (nnx.Linear.__call__, type(given.source).__call__) == before


def test_a_module_of_several_names_and_methods() -> None:
    class Coder(nn.Module):
        def setup(self) -> None:
            self.dense = nn.Dense(3)

        def encode(self, x: jax.Array) -> jax.Array:
            return self.dense(x)

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.encode(x)

    class Model(nn.Module):
        def setup(self) -> None:
            self.coder = Coder()

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.coder(x) + self.coder.encode(x)

    module = Model()
    source = open_source(module, (X,), params=module.init(KEY, X))
    table = ScopeTable()
    with source.marks(table):
        jax.make_jaxpr(lambda i: source.apply({}, {}, i)[0])(source.inputs)
    called = [(".".join(e.path), e.call) for e in table.entered.values()]
    assert called == [
        ("coder", 0),
        ("coder.dense", 0),
        ("coder", 1),
        ("coder.dense", 1),
    ]


# ---- places


def leaf(path: str, module: str, name: str) -> Leaf:
    return Leaf(path, tuple(module.split("/")) if module else (), name, "parameter")


def test_numbered_modules_become_lists() -> None:
    modules = {
        ("block",): "my.Block",
        ("block_1",): "my.Block",
        ("block_2",): "my.Block",
        ("layer_0",): "my.Layer",
        ("layer_1",): "my.Layer",
        ("linear",): "haiku._src.basic.Linear",
        ("linear_1",): "haiku._src.basic.Linear",
        ("attention",): "haiku._src.attention.MultiHeadAttention",
        ("attention_1",): "haiku._src.attention.MultiHeadAttention",
        ("mixed",): "my.A",
        ("mixed_1",): "my.B",
        ("gap_0",): "my.G",
        ("gap_2",): "my.G",
    }
    leaves = [leaf(str(p), f"{p[0]}/linear", "w") for p in modules]
    places = Places(modules, leaves).modules
    assert [places[p] for p in modules] == [
        "block.0", "block.1", "block.2", "layer.0", "layer.1", "linear", "linear_1",
        "attention", "attention_1", "mixed", "mixed_1", "gap_0", "gap_2",
    ]  # fmt: skip
    assert places["block_1", "linear"] == "block.1.linear"
    assert places[()] == ""


def test_names_are_made_identifiers_and_unique() -> None:
    leaves = [
        leaf("a", "conv-1x1", "w"),
        leaf("b", "conv_1x1", "w"),
        leaf("c", "", "scale"),
        leaf("d", "scale", "scale"),
        leaf("e", "list/0", "class"),
    ]
    found = Places({}, leaves).leaves
    assert found == {
        "a": "conv_1x1.w",
        "b": "conv_1x1_.w",
        "c": "scale_",
        "d": "scale.scale",
        "e": "list.0.class_",
    }


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("1x", "_1x"), ("for", "for_"), ("", "_"), ("é", "é"), ("__a", "a")],
)
def test_identifier(name: str, wanted: str) -> None:
    assert identifier(name) == wanted


def test_haiku_paths_of_methods_do_not_collide() -> None:
    paths = ModulePaths()
    assert paths.of("m/~/linear") == ("m", "linear")
    assert paths.of("m/~encode/linear") == ("m", "encode_linear")
    assert paths.of("m/linear") == ("m", "inner_linear")
    assert paths.of("m/~encode/linear") == ("m", "encode_linear")
    assert paths.of("~") == ()
