"""PRNG keys vanish; draws become operations of the target's own streams."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random

from ivyport.core.errors import UnsupportedOpsError
from ivyport.core.ir import Scalar, Value
from ivyport.frontends.jax.registry import Key
from tests.frontends.jax.lowered import lower, normal
from tests.graph_run import ops

KEY = random.key(0)
X = normal(2, 3)


@pytest.mark.parametrize("op", ["uniform", "normal"])
def test_draw(op: str) -> None:
    graph = lower(lambda key: getattr(random, op)(key, (2, 3)), KEY).graph
    (node,) = graph.nodes
    assert node.op == f"random_{op}"
    assert node.attrs == {"shape": (2, 3), "dtype": "float32"}
    assert graph.inputs == []


def test_uniform_between_bounds() -> None:
    graph = lower(lambda key: random.uniform(key, (4,), minval=-1, maxval=2), KEY).graph
    assert ops(graph) == ["random_uniform", "multiply", "add"]
    assert graph.nodes[1].inputs[1] == Scalar(3.0)
    assert graph.nodes[2].inputs[1] == Scalar(-1.0)


def test_bernoulli() -> None:
    graph = lower(lambda key: random.bernoulli(key, 0.9, (2, 3)), KEY).graph
    (node,) = graph.nodes
    assert (node.op, node.inputs) == ("random_bernoulli", (Scalar(0.9),))
    assert node.output.type.dtype == "bool"


def test_probability_that_is_computed() -> None:
    graph = lower(lambda key, p: random.bernoulli(key, p), KEY, X).graph
    assert graph.nodes[-1].inputs == (graph.inputs[0],)


PLUMBING: dict[str, tuple[Any, Any]] = {
    "split": (lambda key: random.normal(random.split(key, 3)[1], (2,)), KEY),
    "fold_in": (lambda key: random.normal(random.fold_in(key, 7), (2,)), KEY),
    "clone": (lambda key: random.normal(random.clone(key), (2,)), KEY),
    "raw": (
        lambda key: random.normal(random.split(key)[0], (2,)),
        random.PRNGKey(0),
    ),
}


@pytest.mark.parametrize("form", PLUMBING)
def test_plumbing_vanishes(form: str) -> None:
    function, arg = PLUMBING[form]
    graph = lower(function, arg).graph
    assert ops(graph).count("random_normal") == 1
    assert not any(v.type.dtype == "key" for n in graph.nodes for v in n.outputs)


def test_a_key_of_the_function_itself_draws_constants() -> None:
    lowered = lower(lambda x: x[0, :2] + random.normal(random.key(3), (2,)), X)
    assert "random_normal" not in ops(lowered.graph)
    (drawn,) = lowered.constants.values()
    np.testing.assert_array_equal(drawn, random.normal(random.key(3), (2,)))


def test_a_number_that_is_drawn_keeps_what_is_computed_with_it() -> None:
    graph = lower(lambda key: random.truncated_normal(key, -2, 2, (3,)), KEY).graph
    assert "random_uniform" in ops(graph)
    assert "erfinv" in ops(graph)
    graph = lower(lambda key: random.gumbel(key, (3,)), KEY).graph
    assert ops(graph).count("random_uniform") == 1


def test_dropout() -> None:
    def dropout(key: jax.Array, x: jax.Array) -> jax.Array:
        keep = random.bernoulli(key, 0.9, x.shape)
        return jnp.where(keep, x / 0.9, 0.0)

    graph = lower(dropout, KEY, X).graph
    assert ops(graph)[0] == "random_bernoulli"


def test_what_needs_the_bits_is_refused() -> None:
    with pytest.raises(UnsupportedOpsError, match="random bits"):
        lower(lambda key: random.bits(key, (2,)), KEY)
    with pytest.raises(UnsupportedOpsError, match="keys are used as numbers"):
        lower(lambda key: random.key_data(key) + 1, KEY)


def test_the_user_s_uniform_is_not_jax_s() -> None:
    @jax.jit
    def _uniform(key: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
        return random.normal(key, (2,)) * low + high

    graph = lower(lambda key: _uniform(key, 1.0, 2.0), KEY).graph
    assert "random_uniform" not in ops(graph)


def test_keys_have_shapes() -> None:
    assert Key((2,)) == Key((2,))
    assert not isinstance(Key(), Value)
