"""The weight map: round trips of split, stacked and tied tensors, and its errors."""

from __future__ import annotations

import json
from itertools import pairwise

import ml_dtypes
import numpy as np
import pytest

from ivyport.core.errors import WeightsError
from ivyport.weights.mapping import Row, WeightMap, specs_of
from ivyport.weights.transform import Permute, Reshape, Slice, Transform

T = (Permute((1, 0)),)


def same(one: dict, two: dict) -> bool:
    return one.keys() == two.keys() and all(
        (one[n].dtype, one[n].shape, one[n].tobytes())
        == (two[n].dtype, two[n].shape, two[n].tobytes())
        for n in one
    )


def cuts(rng: np.random.Generator, size: int) -> list[tuple[int, int]]:
    """A random division of range(size) into intervals."""
    inner = [int(n) for n in range(1, size) if rng.random() < 0.4]
    edges = [0, *inner, size]
    return list(pairwise(edges))


def grid(rng: np.random.Generator, shape: tuple) -> list[tuple[Slice, ...]]:
    """Random boxes that tile a shape: a cut of one axis, each part cut on another."""
    if not shape:
        return [()]
    first = int(rng.integers(0, len(shape)))
    boxes = []
    for start, stop in cuts(rng, shape[first]):
        second = int(rng.integers(0, len(shape)))
        if second == first:
            boxes.append((Slice(first, start, stop),))
            continue
        for low, high in cuts(rng, shape[second]):
            boxes.append((Slice(first, start, stop), Slice(second, low, high)))
    return boxes


def random_layout(rng: np.random.Generator, shape: tuple) -> tuple[Transform, ...]:
    kinds = rng.integers(0, 4)
    permute = Permute(tuple(int(a) for a in rng.permutation(len(shape))))
    if kinds == 0:
        return ()
    if kinds == 1:
        return (permute,)
    moved = permute.shape(shape)
    flat = Reshape(moved, (int(np.prod(moved)),))
    if kinds == 2:
        return (permute, flat)
    return (flat_source := Reshape(shape, (1, *shape)), Permute(to_last(flat_source)))


def to_last(reshape: Reshape) -> tuple[int, ...]:
    return (*range(1, len(reshape.target_shape)), 0)


def random_rows(rng: np.random.Generator, number: int) -> tuple[list[Row], dict]:
    """Rows of one kind, and their source tensors."""
    shape = tuple(int(n) for n in rng.integers(1, 6, rng.integers(1, 4)))
    array = rng.integers(0, 1000, shape).astype(ml_dtypes.bfloat16)
    name, before = f"s{number}", random_layout(rng, shape)
    moved = shape
    for item in before:
        moved = item.shape(moved)
    kind = rng.integers(0, 3)
    if kind == 0:
        return [Row(name, f"t{number}", before)], {name: array}
    boxes = grid(rng, moved)
    rows, arrays = [], {}
    for i, box in enumerate(boxes):
        part = moved
        for item in box:
            part = item.shape(part)
        after = random_layout(rng, part)
        if kind == 1:
            rows.append(Row(name, f"t{number}.{i}", (*before, *box, *after)))
            arrays[name] = array
        else:
            rows.append(Row(f"s{number}.{i}", f"t{number}", (), target_slice=box))
            arrays[f"s{number}.{i}"] = rng.standard_normal(part).astype(np.float32)
    return rows, arrays


def test_random_maps_round_trip():
    rng = np.random.default_rng(1)
    for _ in range(150):
        rows, source = [], {}
        for number in range(rng.integers(1, 5)):
            more, arrays = random_rows(rng, number)
            rows += more
            source |= arrays
        weight_map = WeightMap(tuple(rows))
        text = json.dumps(weight_map.to_json())
        assert WeightMap.from_json(json.loads(text)) == weight_map
        target = dict(weight_map.forward(source))
        assert sum(a.nbytes for a in target.values()) == sum(
            a.nbytes for a in source.values()
        )
        weight_map.check(specs_of(source), specs_of(target))
        weight_map.check_target(specs_of(target))
        assert specs_of(target) == weight_map.target_specs(specs_of(source))
        assert specs_of(source) == weight_map.source_specs(specs_of(target))
        assert same(dict(weight_map.backward(target)), source)


def test_fused_attention_is_split_into_known_values():
    """The interleaved heads of GPT-NeoX: [heads, 3, size, model] in one matrix."""
    heads, size, model = 2, 3, 4
    fused = np.arange(heads * 3 * size * model).reshape(heads * 3 * size, model)
    open_heads = Reshape(fused.shape, (heads, 3, size, model))
    rows = tuple(
        Row("qkv", name, (open_heads, Slice(1, i, i + 1), Permute((3, 1, 0, 2))))
        for i, name in enumerate("qkv")
    )
    weight_map = WeightMap(rows)
    target = dict(weight_map.forward({"qkv": fused}))
    parts = fused.reshape(heads, 3, size, model)
    assert np.array_equal(target["k"][:, 0], parts[:, 1].transpose(2, 0, 1))
    assert np.shares_memory(target["k"], fused)
    assert np.array_equal(dict(weight_map.backward(target))["qkv"], fused)


def test_experts_are_stacked():
    stacked = tuple(
        Row(
            f"experts.{i}.w",
            "w",
            (Permute((1, 0)), Reshape((3, 2), (1, 3, 2))),
            target_slice=(Slice(0, i, i + 1),),
        )
        for i in range(4)
    )
    source = {f"experts.{i}.w": np.full((2, 3), i, np.float32) for i in range(4)}
    weight_map = WeightMap(stacked)
    ((name, array),) = weight_map.forward(source)
    assert (name, array.shape) == ("w", (4, 3, 2))
    assert array[:, 0, 0].tolist() == [0, 1, 2, 3]
    assert same(dict(weight_map.backward({"w": array})), source)


def test_one_source_part_in_one_target_part():
    """Rows that split and stack at once: two fused tensors to two others."""
    places = [("a", "x", 0, 2), ("a", "y", 2, 0), ("b", "x", 0, 0), ("b", "y", 2, 2)]
    rows = tuple(
        Row(s, t, (Slice(0, i, i + 2),), target_slice=(Slice(0, j, j + 2),))
        for s, t, i, j in places
    )
    source = {"a": np.arange(4), "b": np.arange(4, 8)}
    weight_map = WeightMap(rows)
    target = dict(weight_map.forward(source))
    assert target["x"].tolist() == [4, 5, 0, 1]
    assert target["y"].tolist() == [2, 3, 6, 7]
    assert same(dict(weight_map.backward(target)), source)


def test_tied_tensors_are_read_from_any_name_and_written_once():
    weight_map = WeightMap((Row("a", "x", T, aliases=("b", "c")),))
    array = np.arange(6).reshape(2, 3)
    for name in ("a", "b", "c"):
        weight_map.check(specs_of({name: array}), {"x": ("int64", (3, 2))})
        ((_, made),) = weight_map.forward({name: array})
        assert np.array_equal(made, array.T)
    assert [n for n, _ in weight_map.backward({"x": array.T})] == ["a"]
    everything = dict(weight_map.backward({"x": array.T}, include_aliases=True))
    assert same(everything, dict.fromkeys("abc", array))


def test_constants_can_stay():
    rows = (Row("a", "x"), Row("c", "y", kind="constant"))
    target = {"x": np.ones(1), "y": np.ones(1)}
    names = [n for n, _ in WeightMap(rows).backward(target, include_constants=False)]
    assert names == ["a"]


def test_forward_is_lazy():
    class Counting(dict):
        reads = 0

        def __getitem__(self, name):
            self.reads += 1
            return super().__getitem__(name)

    source = Counting({f"s{i}": np.ones(2) for i in range(5)})
    pairs = WeightMap(tuple(Row(f"s{i}", f"t{i}") for i in range(5))).forward(source)
    before = source.reads
    next(pairs)
    assert source.reads == before + 1


def test_jax_arrays_are_read():
    jnp = pytest.importorskip("jax.numpy")
    source = {"a": jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3)}
    ((_, array),) = WeightMap((Row("a", "x", T),)).forward(source)
    assert array.dtype == ml_dtypes.bfloat16
    assert array[2, 1] == 5


def test_check_lists_everything_in_one_error():
    weight_map = WeightMap(
        (
            Row("fine", "fine"),
            Row("absent\n", "x", aliases=("other",)),
            Row("kernel", "kernel", T),
            Row("rank", "rank", T),
            Row("ids", "ids"),
            Row("nowhere", "nowhere"),
            Row("t1", "tied", aliases=("t2",)),
        ),
        unused=("head",),
    )
    source = {
        "fine": ("float32", (1,)),
        "kernel": ("float32", (2, 3)),
        "rank": ("float32", (2,)),
        "ids": (np.dtype(np.int64), (4,)),
        "nowhere": ("bool", ()),
        "head": ("float32", (1,)),
        "extra'": ("bfloat16", (7,)),
        "t1": ("float32", (2,)),
        "t2": ("float32", (3,)),
    }
    target = {
        "fine": ("bfloat16", [1]),
        "x": ("float32", (1,)),
        "kernel": ("float32", (2, 3)),
        "rank": ("float32", (2,)),
        "ids": ("float32", (4,)),
        "untold": ("float32", (9,)),
        "tied": ("float32", (2,)),
    }
    with pytest.raises(WeightsError) as caught:
        weight_map.check(source, target)
    assert str(caught.value).splitlines() == [
        "the weights do not fit the port",
        "  unexpected in the source (1):",
        '    "extra\'": bfloat16[7]',
        "  missing from the source (1):",
        "    'absent\\n': nor its aliases ['other']",
        "  tied tensors that differ (1):",
        "    't2': float32[3], tied to 't1' float32[2]",
        "  mis-shaped (2):",
        "    'kernel': the source gives float32[3, 2], the port has float32[2, 3]",
        "    'rank': axes [1, 0] do not permute a tensor of shape [2] "
        "(from 'rank' float32[2])",
        "  missing from the target (1):",
        "    'nowhere'",
        "  of another kind of dtype (1):",
        "    'ids': the source gives int64[4], the port has float32[4]",
        "  unexpected in the target (1):",
        "    'untold': float32[9]",
    ]


def test_long_lists_are_cut():
    weight_map = WeightMap(tuple(Row(f"n{i:03}", f"t{i}") for i in range(120)))
    with pytest.raises(WeightsError) as caught:
        weight_map.check({}, {})
    lines = str(caught.value).splitlines()
    assert "  missing from the source (120):" in lines
    assert lines.count("    ... and 70 more") == 2
    assert len(lines) < 110


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([Slice(0, 0, 2), Slice(0, 3, 5)], "cover 4 of the 5 elements"),
        ([Slice(0, 0, 3), Slice(0, 2, 5)], r"axis 0 0:3 and axis 0 2:5 overlap"),
        ([Slice(0, 0, 2), Slice(0, 2, 4)], "cover 4 of the 5 elements"),
        ([Slice(0, 1, 3), Slice(0, 3, 5)], "cover 4 of the 5 elements"),
        (
            [Slice(0, 0, 2), Slice(0, 3, 5), Slice(0, 1, 2)],
            "0:2 and axis 0 1:2 overlap",
        ),
        ([Slice(0, 0, 2), Slice(0, 2, 6)], "outside of shape"),
        ([Slice(0, 0, 5), Slice(1, 0, 1)], "outside of shape"),
    ],
)
def test_parts_must_tile(rows, message):
    split = WeightMap(tuple(Row("s", f"t{i}", (r,)) for i, r in enumerate(rows)))
    with pytest.raises(WeightsError, match=message):
        split.check_source({"s": ("float32", (5,))})
    stack = WeightMap(
        tuple(Row(f"s{i}", "t", target_slice=(r,)) for i, r in enumerate(rows))
    )
    with pytest.raises(WeightsError, match=message):
        stack.check_target({"t": ("float32", (5,))})


def test_overlap_on_two_axes_is_found():
    boxes = [(Slice(0, 0, 2), Slice(1, 0, 2)), (Slice(0, 1, 3),), (Slice(0, 0, 1),)]
    rows = tuple(Row("s", f"t{i}", box) for i, box in enumerate(boxes))
    with pytest.raises(WeightsError, match="overlap"):
        WeightMap(rows).check_source({"s": ("float32", (3, 2))})


def test_stacked_dtypes_must_agree():
    rows = tuple(
        Row(n, "t", target_slice=(Slice(0, i, i + 1),)) for i, n in enumerate("ab")
    )
    source = {"a": np.ones(1, np.float32), "b": np.ones(1, np.float16)}
    with pytest.raises(WeightsError, match="different dtypes: float16, float32"):
        WeightMap(rows).forward(source)


@pytest.mark.parametrize(
    ("rows", "unused", "message"),
    [
        ([Row("a", "x"), Row("a", "y")], (), "sources of several rows.*\n.*'a'"),
        ([Row("a", "x"), Row("b", "x")], (), "targets of several rows.*\n.*'x'"),
        ([Row("a", "x", aliases=("b",)), Row("b", "y")], (), "'b': also in 'a'"),
        ([Row("a", "x")], ("a",), "'a': also in 'unused'"),
        (
            [Row("a", "x", (*T, Slice(0, 0, 1))), Row("a", "y", (Slice(0, 1, 2),))],
            (),
            "different transforms before a slice",
        ),
    ],
)
def test_maps_that_contradict_themselves(rows, unused, message):
    with pytest.raises(WeightsError, match=message):
        WeightMap(tuple(rows), unused)


def test_rows_that_cannot_be():
    with pytest.raises(WeightsError, match="not a kind of weight"):
        Row("a", "b", kind="code")  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match="row from 'a' to 'b': the slices of a row"):
        Row("a", "b", (Slice(0, 0, 2), *T, Slice(0, 0, 1)))
    with pytest.raises(WeightsError, match="outside of the slice of this axis"):
        Row("a", "b", (Slice(0, 0, 2), Slice(0, 1, 3)))


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"rows": {}},
        {"rows": [], "more": 1},
        {"rows": [{"source": "a"}]},
        {"rows": [{"source": "a", "target": 1}]},
        {"rows": [{"source": "a", "target": "b", "code": "x"}]},
        {"rows": [{"source": "a", "target": "b", "kind": []}]},
        {"rows": [{"source": "a", "target": "b", "aliases": "xyz"}]},
        {"rows": [{"source": "a", "target": "b", "target_slice": [{"permute": [0]}]}]},
        {"rows": [], "unused": [1]},
    ],
)
def test_json_that_is_no_map(value):
    with pytest.raises(WeightsError):
        WeightMap.from_json(value)


def test_tensors_without_a_numpy_dtype_are_refused():
    torch = pytest.importorskip("torch")
    with pytest.raises(WeightsError, match=r"torch\.float32 is not a numpy dtype"):
        WeightMap((Row("a", "x"),)).forward({"a": torch.ones(1)})
