"""The listing of a graph: one form, stable from run to run."""

from __future__ import annotations

import pytest

from ivyport.core.dims import symbol
from ivyport.core.ir import Graph, NewAxis, Record, Scope, Slice
from ivyport.core.text import attr_text, render
from tests.graph_run import Draft

B, S = symbol("B"), symbol("S")


def small() -> Graph:
    b = Draft()
    b.scope = (Scope("", "pkg.Net"),)
    ids = b.input("ids", B, S, dtype="int64")
    weight = b.param("embed.weight", 10, 4, aliases=("head.weight",))
    table = b.param("table", 7, kind="buffer")
    b.scope = (Scope("", "pkg.Net"), Scope("embed", "torch.nn.Embedding", 1))
    x = b.embedding(ids, weight)
    b.scope = b.scope[:1]
    left, right = b.split(x, sizes=(1, 3), axis=2)
    y = b.multiply(b.getitem(right, index=(Slice(), 0, NewAxis())), -0.5)
    z = b.reshape(left, shape=(B * S, 1))
    outputs = Record("Out", (("y", y), ("z", (z, None)), ("t", [table, "name"])))
    graph = b.graph({"out": outputs})
    graph.name = "Net"
    graph.dims = {"B": (1, None), "S": (2, 512)}
    return graph


GOLDEN = """\
graph Net
  dim B in [1, inf]
  dim S in [2, 512]
  input %ids: int64[B, S]
  parameter @embed.weight: float32[10, 4] = head.weight
  buffer @table: float32[7]
  %0 = embedding(%ids, @embed.weight, padding=None) : float32[B, S, 4]  # embed@1
  %1.0, %1.1 = split(%0, sizes=(1, 3), axis=2, even=False) : float32[B, S, 1], float32[B, S, 3]  # .
  %2 = getitem(%1.1, index=(:, 0, newaxis)) : float32[B, 1, 3]  # .
  %3 = multiply(%2, -0.5) : float32[B, 1, 3]  # .
  %4 = reshape(%1.0, shape=(B*S, 1)) : float32[B*S, 1]  # .
  return {out: Out(y=%3, z=(%4, None), t=[@table, 'name'])}
"""


def test_golden() -> None:
    assert render(small()) == GOLDEN


def test_stable() -> None:
    assert render(small()) == render(small())


def test_without_types() -> None:
    text = render(small(), types=False)
    assert "%0 = embedding(%ids, @embed.weight, padding=None)  # embed@1" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Slice(), ":"),
        (Slice(1, S), "1:S"),
        (Slice(None, -1), ":-1"),
        (Slice(0, 8, 2), "0:8:2"),
        (NewAxis(), "newaxis"),
        (((0, 1), (2, 3)), "((0, 1), (2, 3))"),
        ("bshd", "'bshd'"),
        (None, "None"),
        (True, "True"),
        (1e-05, "1e-05"),
        (S // 2, "(S//2)"),
    ],
)
def test_attributes(value: object, text: str) -> None:
    assert attr_text(value) == text


def test_what_is_not_defined_is_named_so() -> None:
    graph = small()
    graph.nodes.pop(0)
    assert "%undefined" in render(graph)
