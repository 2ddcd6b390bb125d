"""Two modules that hold one tensor become one module, called twice."""

from __future__ import annotations

from typing import Any

from ivyport.core.dims import symbol
from ivyport.core.ir import Call, Graph, Scope, Value
from ivyport.core.passes.share import share_layers
from tests.graph_run import Draft, preserves

B, S = symbol("B"), symbol("S")
ROOT = Scope("", "Net")


def leaf(b: Draft, path: str, cls: str, add: Any) -> Value:
    """A node in a leaf module of its own."""
    b.scope = (ROOT, Scope(path, cls))
    made = add()
    b.scope = (ROOT,)
    return made


def embeddings(second: str = "Embedding", *, aliases: bool = True) -> Graph:
    """Two embeddings of one weight: the first called is `encoder`."""
    b = Draft()
    ids, other = (b.input(n, B, S, dtype="int64") for n in ("ids", "other"))
    names = ("encoder.weight", "decoder.weight") if aliases else ()
    weight = b.param("shared.weight", 9, 4, aliases=names)
    x = leaf(b, "encoder", "Embedding", lambda: b.embedding(ids, weight))
    y = leaf(b, "decoder", second, lambda: b.embedding(other, weight))
    return b.graph(b.add(x, y))


def scopes(graph: Graph) -> list[tuple[str, int]]:
    return [(n.scope[-1].path, n.scope[-1].call) for n in graph.nodes]


def test_tied_layers_become_one() -> None:
    graph = embeddings()
    stack = graph.nodes[1].scope
    graph.calls = [Call(stack, [("input", graph.inputs[1])])]
    preserves(graph, share_layers, rtol=0)
    assert scopes(graph) == [("encoder", 0), ("encoder", 1), ("", 0)]
    assert graph.params["shared.weight"].place == "encoder.weight"
    assert graph.params["shared.weight"].owner == "encoder"
    (call,) = graph.calls
    assert call.stack == graph.nodes[1].scope
    assert call.alias == "decoder"


def test_layers_of_two_classes_stay_two() -> None:
    graph = preserves(embeddings("Scaled"), share_layers, rtol=0)
    assert scopes(graph) == [("encoder", 0), ("decoder", 0), ("", 0)]


def test_a_weight_that_is_not_tied_is_left_alone() -> None:
    graph = preserves(embeddings(aliases=False), share_layers, rtol=0)
    assert graph.params["shared.weight"].place == "shared.weight"
    assert scopes(graph) == [("encoder", 0), ("decoder", 0), ("", 0)]


def linears(*, bias: bool, tied_bias: bool) -> Graph:
    b = Draft()
    x = b.input("x", B, 4)
    weight = b.param("a.weight", 4, 4, aliases=("b.weight",))
    aliases = ("b.bias",) if tied_bias else ()
    first = b.param("a.bias", 4, aliases=aliases) if bias else None
    second = first if tied_bias else b.param("b.bias", 4) if bias else None
    y = leaf(b, "a", "Linear", lambda: b.linear(x, weight, first))
    z = leaf(b, "b", "Linear", lambda: b.linear(y, weight, second))
    return b.graph(z)


def test_linears_that_share_everything() -> None:
    for graph in (
        linears(bias=False, tied_bias=False),
        linears(bias=True, tied_bias=True),
    ):
        assert scopes(preserves(graph, share_layers, rtol=0)) == [("a", 0), ("a", 1)]


def test_linears_with_biases_of_their_own_stay_two() -> None:
    graph = preserves(linears(bias=True, tied_bias=False), share_layers, rtol=0)
    assert scopes(graph) == [("a", 0), ("b", 0)]


def test_an_embedding_and_a_head_of_one_weight_stay_two() -> None:
    b = Draft()
    ids = b.input("ids", B, S, dtype="int64")
    weight = b.param("embed.weight", 9, 4, aliases=("head.weight",))
    x = leaf(b, "embed", "Embedding", lambda: b.embedding(ids, weight))
    y = leaf(b, "head", "Linear", lambda: b.linear(x, weight, None))
    graph = preserves(b.graph(y), share_layers, rtol=0)
    assert scopes(graph) == [("embed", 0), ("head", 0)]


def test_a_layer_called_twice_and_its_twin() -> None:
    """Calls are counted on, however many there were before."""
    b = Draft()
    x = b.input("x", B, 4)
    weight = b.param("a.weight", 4, 4, aliases=("b.weight",))
    for call in (0, 1):
        b.scope = (ROOT, Scope("a", "Linear", call))
        x = b.linear(x, weight, None)
    b.scope = (ROOT, Scope("b", "Linear"))
    x = b.linear(x, weight, None)
    graph = preserves(b.graph(x), share_layers, rtol=0)
    assert len(set(scopes(graph))) == 3, scopes(graph)
