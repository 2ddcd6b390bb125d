"""Graphs of JAX functions and layers, with parameters as such, to be raised and run.

A layer is initialised, lowered with a symbolic batch, raised, and run against itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import export

from ivyport.core.ir import Graph, Param
from ivyport.core.passes.fold import fold_params
from ivyport.core.passes.raising import raise_layers
from ivyport.core.passes.simplify import simplify
from ivyport.core.text import render
from ivyport.core.verify import verify
from ivyport.frontends.jax.lower import lower_function
from tests.graph_run import run
from tests.support import assert_close

Tree = Any
(B,) = export.symbolic_shape("B")


def spec(*shape: Any, dtype: Any = np.float32) -> jax.ShapeDtypeStruct:
    """An argument; ``B`` is the symbolic batch."""
    return jax.ShapeDtypeStruct(shape, dtype)


def draw(type_: jax.ShapeDtypeStruct, batch: int, seed: int) -> np.ndarray:
    """Random values; integers are 0, 1 or 2."""
    rng = np.random.default_rng(seed)
    shape = tuple(d if isinstance(d, int) else batch for d in type_.shape)
    if type_.dtype == bool:
        return rng.random(shape) < 0.6
    if np.issubdtype(type_.dtype, np.integer):
        return rng.integers(0, 3, shape).astype(type_.dtype)
    return rng.standard_normal(shape).astype(type_.dtype)


@dataclasses.dataclass
class Case:
    """``function(params, state, *args)`` and its graph; names are ``p.<path>``, ``s.<path>``."""

    function: Callable[..., Any]
    params: Tree
    state: Tree
    args: tuple[jax.ShapeDtypeStruct, ...]
    graph: Graph

    def raised(self, *, trains: bool = False) -> Graph:
        """The graph after raising and folding, verified."""
        raise_layers(self.graph, trains=trains)
        verify(self.graph)
        simplify(self.graph)
        fold_params(self.graph)
        verify(self.graph)
        return self.graph

    def holds(self, rtol: float = 1e-5, *, batch: int = 3) -> None:
        """The graph as it is computes what the function computes."""
        args = [draw(a, batch, i) for i, a in enumerate(self.args)]
        expected = self.function(self.params, self.state, *args)
        arrays = {f"a{i}": a for i, a in enumerate(args)}
        tensors = {**named(self.params, "p."), **named(self.state, "s.")}
        for path, param in self.graph.params.items():
            tensor = tensors.get(path)
            assert tensor is not None, path
            arrays[path] = folded(np.asarray(tensor), param)
        found = run(self.graph, arrays)
        leaves = jax.tree.leaves(expected)
        for ours, theirs in zip(found, leaves, strict=True):
            assert_close(ours, np.asarray(theirs), rtol=rtol)

    def becomes(self, *operations: str, rtol: float = 1e-5) -> Graph:
        """Raise; demand these operations in order, and the same values at two batch sizes."""
        graph = self.raised()
        found = [n.op for n in graph.nodes]
        assert found == list(operations), render(graph)
        self.holds(rtol, batch=3)
        self.holds(rtol, batch=2)
        return graph


def folded(array: np.ndarray, param: Param) -> np.ndarray:
    """A source tensor as the port holds it."""
    for kind, *rest in param.folds:
        if kind == "permute_dims":
            array = array.transpose(rest[0])
        elif kind == "reshape":
            assert array.shape == rest[0]
            array = array.reshape(rest[1])
        elif kind == "select":
            array = np.take(array, rest[1], axis=rest[0])
        else:
            assert kind == "flip"
            array = np.flip(array, rest[0])
    assert array.shape == param.type.shape
    return np.ascontiguousarray(array)


def named(tree: Tree, prefix: str) -> dict[str, Any]:
    """Leaves of a tree by their dotted paths."""
    found = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {prefix + ".".join(map(_key, path)): leaf for path, leaf in found}


def _key(item: Any) -> str:
    for name in ("key", "name", "idx"):
        value = getattr(item, name, None)
        if value is not None:
            return str(value)
    return str(item)


def case(
    function: Callable[..., Any],
    *args: jax.ShapeDtypeStruct,
    params: Tree = (),
    state: Tree = (),
    updates: bool = False,
) -> Case:
    """The case of ``function(params, state, *args)``.

    With `updates` the function returns (output, new state), and the state goes into
    `Graph.updates`.
    """
    types = [
        jax.tree.map(lambda x: spec(*np.shape(x), dtype=x.dtype), t)
        for t in (params, state)
    ]
    names = [*named(params, "p."), *named(state, "s.")]
    wanted = [*names, *(f"a{i}" for i in range(len(args)))]
    graph = lower_function(function, *types, *args, names=wanted)
    by_name = {str(v.name): v for v in graph.inputs}
    graph.inputs = [by_name[n] for n in wanted[len(names) :] if n in by_name]
    for name in names:
        value = by_name[name]
        kind = "parameter" if name.startswith("p.") else "buffer"
        graph.params[name] = Param(name, value.type, kind, value)
    if updates:
        count = len(named(state, "s."))
        values = graph.outputs
        graph.outputs = values[: len(values) - count]
        graph.updates = dict(
            zip(named(state, "s."), values[len(values) - count :], strict=True)
        )
    return Case(function, params, state, args, graph)


def plain(function: Callable[..., Any], *args: jax.ShapeDtypeStruct) -> Case:
    """A function of its arguments alone."""
    return case(lambda params, state, *xs: function(*xs), *args)


def key_of(x: jax.Array) -> jax.Array:
    """A key as a caller gives it, raw: numbers of a key that is the same are constants."""
    part = x.ravel()[0].astype(np.uint32)
    return jax.random.wrap_key_data(jax.numpy.stack([part, part]))


def random_like(tree: Tree, seed: int = 5) -> Tree:
    """The tree with random numbers instead of its initial ones (zeros, ones)."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: (
            (rng.standard_normal(np.shape(x)) * 0.5 + 0.7).astype(x.dtype)
            if np.issubdtype(x.dtype, np.floating)
            else np.asarray(x)
        ),
        tree,
    )


def haiku(function: Callable[..., Any], *args: jax.ShapeDtypeStruct) -> Case:
    """A haiku function without state."""
    import haiku as hk

    transformed = hk.transform(function)
    examples = [draw(a, 2, i) for i, a in enumerate(args)]
    params = random_like(transformed.init(jax.random.PRNGKey(0), *examples))
    return case(
        lambda p, s, *xs: transformed.apply(p, key_of(xs[0]), *xs),
        *args,
        params=params,
    )


def linen(module: Any, *args: jax.ShapeDtypeStruct, **kwargs: Any) -> Case:
    """A flax linen module without state."""
    examples = [draw(a, 2, i) for i, a in enumerate(args)]
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    params = random_like(module.init(keys, *examples))["params"]

    def function(p: Tree, s: Tree, *xs: jax.Array) -> Any:
        rngs = {"dropout": key_of(xs[0])}
        return module.apply({"params": p}, *xs, rngs=rngs, **kwargs)

    return case(function, *args, params=params)


def live(module: Any, *args: jax.ShapeDtypeStruct, **kwargs: Any) -> Case:
    """A flax nnx module without state."""
    from flax import nnx

    definition, params, rest = nnx.split(module, nnx.Param, ...)
    pure = random_like(nnx.to_pure_dict(params))

    def function(p: Any, s: Any, *xs: Any) -> Any:
        given = jax.tree.map(lambda x: x, params)
        nnx.replace_by_pure_dict(given, p)
        return nnx.merge(definition, given, rest)(*xs, **kwargs)

    return case(function, *args, params=pure)
