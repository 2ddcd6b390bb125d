"""Chains of basic indices, and gathers along ranges."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from ivyport.core.dims import symbol
from ivyport.core.ir import Graph, NewAxis, Slice, Value
from ivyport.core.passes.simplify import simplify
from tests.graph_run import Draft, ops, preserves

B, S = symbol("B"), symbol("S")
FULL, NEW = Slice(), NewAxis()

ITEMS: list[Any] = [
    0, 2, -1, FULL, NEW, Slice(0, 3), Slice(1, None), Slice(1, 3), Slice(None, 3),
    Slice(None, None, 2), Slice(-2, None), Slice(None, -1),
]  # fmt: skip


def chained(b: Draft, x: Value, *indices: tuple[Any, ...]) -> Value | None:
    """x[i][j]...; None where that is out of bounds or empty."""
    for index in indices:
        axis = 0
        for item in index:
            if isinstance(item, NewAxis):
                continue
            if axis >= x.type.rank:
                return None
            size = x.type.shape[axis]
            if isinstance(item, int) and not -size <= item < size:
                return None
            axis += 1
        x = b.getitem(x, index=index)
        if 0 in x.type.shape:
            return None
    return x


def chains(every: list[tuple[tuple[Any, ...], ...]]) -> Graph:
    """Many chains on one (4, 5, 3) tensor."""
    b = Draft()
    x = b.input("x", 4, 5, 3)
    made = [chained(b, x, *indices) for indices in every]
    return b.graph([v for v in made if v is not None])


def test_every_pair_of_single_items() -> None:
    graph = chains([((i,), (j,)) for i, j in itertools.product(ITEMS, repeat=2)])
    assert len(graph.outputs) > 100
    preserves(graph, simplify, rtol=0)


def test_random_chains() -> None:
    rng = np.random.default_rng(0)

    def index() -> tuple[Any, ...]:
        return tuple(ITEMS[i] for i in rng.integers(0, len(ITEMS), rng.integers(1, 4)))

    graph = chains(
        [tuple(index() for _ in range(rng.integers(2, 4))) for _ in range(200)]
    )
    before = len(graph.nodes)
    assert len(preserves(graph, simplify, rtol=0).nodes) < before - 50


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((FULL, 0), (NEW,), (NEW, FULL, 0)),
        ((FULL, NEW), (FULL, 0), (FULL,)),
        ((Slice(0, 3),), (1,), (1,)),
        ((FULL, FULL, 0), (0,), (0, FULL, 0)),
    ],
    ids=str,
)
def test_chains_that_join(first: Any, second: Any, expected: Any) -> None:
    graph = chains([(first, second)])
    preserves(graph, simplify, rtol=0)
    assert [n.attrs["index"] for n in graph.nodes] in ([expected], [])


def line(b: Draft, start: Any, stop: Any, step: int = 1) -> Value:
    """An integer range."""
    return b.arange(start=start, stop=stop, step=step, dtype="int64")


@pytest.mark.parametrize(
    ("cut", "start", "stop"),
    [(Slice(2, 4), 2, 4), (Slice(None, 3), 0, 3), (Slice(1, None), 1, S)],
    ids=str,
)
def test_part_of_a_range(cut: Slice, start: Any, stop: Any) -> None:
    b = Draft()
    x = b.input("x", S)
    out = b.getitem(line(b, 0, S), index=(cut,))
    graph = preserves(b.graph((x, out)), simplify, rtol=0)
    (node,) = graph.nodes
    assert (node.attrs["start"], node.attrs["stop"]) == (start, stop)


@pytest.mark.parametrize(
    "cut", [Slice(-2, None), Slice(None, -1), Slice(None, None, 2)], ids=str
)
def test_part_of_a_range_from_its_end(cut: Slice) -> None:
    b = Draft()
    out = b.getitem(line(b, 0, S), index=(cut,))
    preserves(b.graph((b.input("x", S), out)), simplify, rtol=0)


def test_a_slice_beyond_the_end_of_a_range() -> None:
    b = Draft()
    out = b.getitem(line(b, 0, 4), index=(Slice(1, 9),))
    preserves(b.graph((b.input("x", S), out)), simplify, rtol=0)


@pytest.mark.parametrize("step", [1, 2])
def test_shifted_ranges(step: int) -> None:
    b = Draft()
    x = b.input("x", S)
    out = b.add(line(b, 0, 2 * S, step), 3)
    graph = preserves(b.graph((x, out)), simplify, rtol=0)
    assert ops(graph) == (["arange"] if step == 1 else ["arange", "add"])


def rows_and_columns(b: Draft, order: tuple[int, int]) -> list[Value]:
    """Ranges over B and S, along axes `order` of (., .)."""
    made = []
    for axis, size in zip(order, (B, S), strict=True):
        index = tuple(FULL if i == axis else NEW for i in range(2))
        made.append(b.getitem(line(b, 0, size), index=index))
    return made


def test_gather_along_ranges_is_the_tensor_itself() -> None:
    b = Draft()
    x = b.input("x", B, S)
    graph = b.graph(b.index(x, *rows_and_columns(b, (0, 1))))
    assert ops(preserves(graph, simplify, rtol=0)) == []


def test_gather_along_swapped_ranges_is_a_transpose() -> None:
    b = Draft()
    x = b.input("x", B, S)
    graph = b.graph(b.index(x, *rows_and_columns(b, (1, 0))))
    assert ops(preserves(graph, simplify, rtol=0)) != []


@pytest.mark.parametrize(("start", "stop"), [(1, S), (0, S - 1), (-1, S - 1)], ids=str)
def test_gather_along_another_range_stays(start: Any, stop: Any) -> None:
    b = Draft()
    x = b.input("x", S)
    graph = b.graph(b.index(x, line(b, start, stop)))
    assert "index" in ops(preserves(graph, simplify, rtol=0))


@pytest.mark.parametrize("axis", [0, 1])
def test_picking_from_a_range(axis: int) -> None:
    b = Draft()
    ids = b.input("ids", B, S, dtype="int64")
    index = (NEW, FULL) if axis == 1 else (FULL, NEW)
    source = b.getitem(line(b, 0, 6), index=index)
    wide = b.broadcast_to(source, shape=(B, 6) if axis == 1 else (6, S))
    graph = b.graph(b.take_along_axis(wide, ids, axis=axis))
    preserves(graph, simplify, rtol=0)


def test_picking_from_a_range_across_it_stays() -> None:
    b = Draft()
    ids = b.input("ids", 4, 4, dtype="int64")
    rows = b.broadcast_to(b.getitem(line(b, 0, 4), index=(FULL, NEW)), shape=(4, 4))
    graph = b.graph(b.take_along_axis(rows, ids, axis=1))
    preserves(graph, simplify, rtol=0)


def test_picking_from_a_constant() -> None:
    b = Draft()
    ids = b.input("ids", B, S, dtype="int64")
    table = b.full(shape=(B, 9), value=7, dtype="int64")
    graph = preserves(b.graph(b.take_along_axis(table, ids, axis=1)), simplify, rtol=0)
    assert ops(graph) == ["full"]
