"""Batch norms: by the batch, by running statistics, and which of them move."""

from __future__ import annotations

from typing import Any

import haiku as hk
import jax
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from ivyport.core.ir import Graph
from ivyport.core.passes.fold import fold_params
from ivyport.core.passes.raising import raise_layers
from ivyport.core.passes.raising.statistics import raise_running
from tests.core.passes.jax_graphs import B, Case, case, draw, random_like, spec
from tests.graph_run import ops

IMAGE = spec(B, 4, 6, 8)


def positive(state: Any) -> Any:
    """Running statistics as they may be: variances above zero, counters as they are."""
    return jax.tree.map(
        lambda x: np.abs(x) + np.float32(0.1) if np.ndim(x) else np.asarray(x), state
    )


def of_haiku(train: bool) -> Case:
    transformed = hk.transform_with_state(
        lambda x, mode: hk.BatchNorm(True, True, 0.9)(x, is_training=mode)
    )
    params, state = transformed.init(None, draw(IMAGE, 2, 0), True)

    def function(p: Any, s: Any, x: Any) -> Any:
        out, new = transformed.apply(p, s, None, x, train)
        return (out, new) if train else out

    state = positive(random_like(state))
    return case(function, IMAGE, params=random_like(params), state=state, updates=train)


def of_linen(train: bool, *, frozen: bool = False, axis: int = -1) -> Case:
    running = not train or frozen
    module = nn.BatchNorm(use_running_average=running, momentum=0.9, axis=axis)
    variables = module.init(jax.random.key(0), draw(IMAGE, 2, 0))
    params, state = variables["params"], variables["batch_stats"]

    def function(p: Any, s: Any, x: Any) -> Any:
        given = {"params": p, "batch_stats": s}
        out, new = module.apply(given, x, mutable=["batch_stats"])
        return (out, new["batch_stats"] if new else s) if train else out

    state = positive(random_like(state))
    return case(function, IMAGE, params=random_like(params), state=state, updates=train)


def of_nnx(train: bool) -> Case:
    module = nnx.BatchNorm(
        8, momentum=0.9, use_running_average=not train, rngs=nnx.Rngs(0)
    )
    definition, params, stats = nnx.split(module, nnx.Param, nnx.BatchStat)

    def function(p: Any, s: Any, x: Any) -> Any:
        given, held = jax.tree.map(lambda v: v, (params, stats))
        nnx.replace_by_pure_dict(given, p)
        nnx.replace_by_pure_dict(held, s)
        live = nnx.merge(definition, given, held)
        out = live(x)
        new = nnx.to_pure_dict(nnx.state(live, nnx.BatchStat))
        return (out, new) if train else out

    pure = [random_like(nnx.to_pure_dict(t)) for t in (params, stats)]
    return case(function, IMAGE, params=pure[0], state=positive(pure[1]), updates=train)


LIBRARIES = {"haiku": of_haiku, "linen": of_linen, "nnx": of_nnx}


def both(library: str, **kwargs: Any) -> tuple[Graph, Case]:
    """The raised train graph, and the eval case with its graph raised after it."""
    make: Any = LIBRARIES[library]
    train = make(True, **kwargs).graph
    raise_layers(train, trains=True)
    made = make(False, **kwargs)
    raise_layers(made.graph)
    raise_running(made.graph, train)
    return train, made


@pytest.mark.parametrize("library", LIBRARIES)
def test_batch_norm_of_both_modes(library: str) -> None:
    train, made = both(library)
    for graph in (train, made.graph):
        fold_params(graph)
        (node,) = graph.nodes
        assert node.op == "batch_norm"
        assert node.attrs == {
            "axis": 3,
            "eps": 1e-5,
            "momentum": 0.1,
            "unbiased": False,
            "debias": library == "haiku",
        }
        paths = {p.value: p.path for p in graph.params.values()}
        names = [paths[v].rpartition("s.")[2] for v in node.inputs[3:]]  # type: ignore[index]
        assert "mean" in names[0]
        assert "var" in names[1]
        assert all(p.type.shape == (8,) for p in graph.params.values())
    assert train.updates == {}
    made.holds()


def test_channels_first() -> None:
    train, made = both("linen", axis=1)
    assert train.updates == {}
    (node,) = made.graph.nodes
    assert node.attrs["axis"] == 1
    made.holds()


def test_a_frozen_norm_is_no_batch_norm() -> None:
    train, made = both("linen", frozen=True)
    assert "batch_norm" not in ops(train) + ops(made.graph)
    made.holds()


def test_without_a_train_graph_nothing_moves() -> None:
    made = of_linen(False)
    raise_layers(made.graph)
    assert "batch_norm" not in ops(made.graph)
    raise_running(made.graph)
    (node,) = made.graph.nodes
    assert node.attrs["momentum"] is None
    made.holds()


FIXED = spec(3, 4, 6, 8)


@pytest.mark.parametrize(
    ("way", "shape"),
    [
        ("ddof", FIXED),
        ("after", IMAGE),
        ("after", FIXED),
        ("before", IMAGE),
        ("before", FIXED),
    ],
)
def test_unbiased_variance(way: str, shape: Any) -> None:
    def function(p: Any, s: Any, x: Any) -> Any:
        count = x.size // x.shape[-1]
        mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
        out = (x - mean) * jax.lax.rsqrt(var + 1e-5)
        new = {"mean": 0.9 * s["mean"] + 0.1 * mean}
        if way == "ddof":
            taken = 0.1 * x.var((0, 1, 2), ddof=1)
        elif way == "after":
            taken = 0.1 * var * count / (count - 1)
        else:
            taken = (var * count / (count - 1)) * 0.1
        return out, {**new, "var": 0.9 * s["var"] + taken}

    state = {"mean": np.zeros(8, np.float32), "var": np.ones(8, np.float32)}
    graph = case(function, shape, state=state, updates=True).graph
    raise_layers(graph, trains=True)
    (node,) = graph.nodes
    assert node.attrs["unbiased"]
    assert node.attrs["momentum"] == 0.1
    assert graph.updates == {}


@pytest.mark.parametrize("what", ["sum", "unequal", "trained", "scaled", "uncounted"])
def test_other_updates_stay(what: str) -> None:
    def function(p: Any, s: Any, x: Any) -> Any:
        mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
        count = x.size // x.shape[-1]
        if what == "scaled":
            var = var * (count + 1) / count
        if what == "uncounted":
            var = var / (count - 1)
        out = (x - mean) * jax.lax.rsqrt(x.var((0, 1, 2)) + 1e-5)
        keep = 0.8 if what == "unequal" else 0.9
        new = {"mean": 0.9 * s["mean"] + 0.1 * mean, "var": keep * s["var"]}
        new["var"] = new["var"] + (0.2 if what == "sum" else 1 - keep) * var
        return out, new

    state = {"mean": np.zeros(8, np.float32), "var": np.ones(8, np.float32)}
    made = case(function, IMAGE, state=state, updates=True)
    if what == "trained":
        for param in made.graph.params.values():
            param.kind = "parameter"
    raise_layers(made.graph, trains=True)
    assert set(made.graph.updates) == {"s.mean", "s.var"}
    (node,) = [n for n in made.graph.nodes if n.op == "batch_norm"]
    assert node.inputs[3] is None
    assert node.attrs["momentum"] is None
