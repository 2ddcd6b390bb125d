from __future__ import annotations

import pytest

from ivyport.core.dims import symbol
from ivyport.core.dtype import NARROW
from ivyport.core.ir import Graph
from ivyport.core.passes.narrow import narrow
from ivyport.core.verify import verify
from tests.graph_run import Draft

B = symbol("B")


def dtypes(graph: Graph) -> set[str]:
    """Of everything, attributes included."""
    values = [*graph.inputs, *(p.value for p in graph.params.values())]
    values += [v for n in graph.nodes for v in n.outputs]
    found = {v.type.dtype for v in values} | {
        p.type.dtype for p in graph.params.values()
    }
    return found | {n.attrs["dtype"] for n in graph.nodes if "dtype" in n.attrs}


def test_integers_become_32_bits_without_a_word() -> None:
    b = Draft()
    ids = b.input("ids", B, 4, dtype="int64")
    table = b.param("table", 4, dtype="int64", kind="buffer")
    line = b.arange(start=0, stop=4, step=1, dtype="int64")
    out = b.astype(b.add(b.add(ids, table), line), dtype="int64")
    best = b.argmax(b.astype(out, dtype="float32"), axis=-1)
    graph = b.graph((out, best))
    assert narrow(graph) == []
    verify_but_indices(graph)
    assert dtypes(graph) == {"int32", "float32"}


def verify_but_indices(graph: Graph) -> None:
    """`argmax` is int64 by the specification, and int32 once it is narrowed."""
    graph.nodes = [n for n in graph.nodes if n.op != "argmax"]
    graph.outputs = graph.outputs[:1]
    verify(graph)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_floats_that_lose_precision_are_told_once(dtype: str) -> None:
    b = Draft()
    x = b.input("x", B, dtype=dtype)
    graph = b.graph(b.exp(b.add(x, b.param("w", 1, dtype=dtype))))
    notes = narrow(graph)
    assert len(notes) == 1
    assert "float64" in notes[0]
    assert dtypes(graph) == {NARROW[dtype]}
    verify(graph)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "uint8", "bool"])
def test_what_is_narrow_stays(dtype: str) -> None:
    b = Draft()
    graph = b.graph(b.reshape(b.input("x", B, 4, dtype=dtype), shape=(4 * B,)))
    assert narrow(graph) == []
    assert dtypes(graph) == {dtype}
