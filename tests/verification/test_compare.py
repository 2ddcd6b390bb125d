"""The comparison of outputs: what passes, and what never does."""

from __future__ import annotations

import dataclasses
import math
import sys
from typing import NamedTuple

import ml_dtypes
import numpy as np
import pytest

from ivyport.verification import aside
from ivyport.verification.compare import (
    Entry,
    aligned,
    compare_arrays,
    compare_outputs,
    difference,
    flatten,
    is_usual,
)
from ivyport.verification.sides import Lazy
from ivyport.verification.tolerance import DEFAULT

X = np.array([[1.0, -2.0], [0.5, 4.0]], np.float32)
MASK = np.finfo(np.float32).min


def limit(dtype: str) -> float:
    return DEFAULT.of(dtype).output


def compare(port, source):
    return compare_arrays("x", port, source, Entry("output"), limit)


def rows(port, source):
    return compare_outputs(flatten(port), flatten(source), Entry("output"), limit)


@dataclasses.dataclass
class Output:
    """A record of the source."""

    logits: object = None
    states: object = None


class Port(NamedTuple):
    """A record of the port: the same names in another order."""

    states: object = None
    logits: object = None


class TestArrays:
    def test_error_is_relative_to_the_sources_largest_magnitude(self):
        row = compare(X + np.float32(3e-5), X)
        assert row.passed
        assert row.max_rel == pytest.approx(3e-5 / 4, rel=1e-2)
        assert not compare(X + np.float32(5e-5), X).passed

    @pytest.mark.parametrize(
        ("port", "source", "note"),
        [
            (X[None], X, "other shape"),
            (X.ravel(), X, "other shape"),
            (X.astype(np.float16), X, "dtype is float16, the source's float32"),
            (X.astype(np.int32), X, "dtype is int32, the source's float32"),
            (np.ones(2, bool), np.ones(2, np.int32), "dtype is bool"),
            (X, X.astype(ml_dtypes.bfloat16), "dtype is float32"),
            (np.full_like(X, np.nan), X, "NaN"),
            (X, np.full_like(X, np.nan), "NaN"),
            (np.where(X > 0, np.nan, X), np.where(X < 0, np.nan, X), "NaN"),
        ],
    )
    def test_never_passes(self, port, source, note):
        row = compare(port, source)
        assert not row.passed
        assert note in row.note

    @pytest.mark.parametrize(
        ("port", "source", "passed"),
        [
            (np.arange(3, dtype=np.int32), np.arange(3), True),
            (np.arange(3, dtype=np.int32) + 1, np.arange(3), False),
            (np.array([True]), np.array([True]), True),
            (np.array([True]), np.array([False]), False),
            (np.array([2**60], np.int64), np.array([2**60 + 1]), False),
        ],
    )
    def test_integers_and_booleans_are_equal(self, port, source, passed):
        assert compare(port, source).passed is passed

    def test_sixty_four_bits_may_be_narrowed(self):
        assert compare(X, X.astype(np.float64)).passed
        assert not compare(X.astype(np.float64), X).passed

    def test_nan_in_the_same_places_is_equal(self):
        source = np.array([[np.nan, 1.0], [2.0, np.nan]], np.float32)
        row = compare(source.copy(), source)
        assert row.passed
        assert row.note == "NaN in the same 2 of 4 places"
        row = compare(source + np.float32(1e-3), source)
        assert not row.passed
        assert row.max_rel == pytest.approx(5e-4, rel=1e-3)

    def test_nan_beside_masks_and_complex_numbers(self):
        source = np.array([np.nan, MASK, 1.0], np.float32)
        port = np.array([np.nan, -np.inf, 1.0], np.float32)
        assert compare(port, source).passed
        both = source.astype(np.complex64) + 1j
        assert compare(both, both.copy()).passed
        assert not compare(both * np.complex64(1j), both).passed

    def test_masks_are_no_magnitudes(self):
        source = np.array([MASK, 1.0, 2.0, -np.inf], np.float32)
        port = np.array([-np.inf, 1.0, 2.0, MASK], np.float32)
        assert compare(port, source).passed
        wrong = port.copy()
        wrong[1] += 1e-3
        row = compare(wrong, source)
        assert not row.passed
        assert row.max_rel == pytest.approx(5e-4, rel=1e-3)

    @pytest.mark.parametrize("value", [0.0, -MASK, np.inf, np.nan])
    def test_masks_must_be_in_the_same_places(self, value):
        source = np.array([MASK, 1.0], np.float32)
        port = np.array([value, 1.0], np.float32)
        assert not compare(port, source).passed
        assert not compare(source, np.array([0.0, 1.0], np.float32)).passed

    def test_zeros_and_empty_tensors(self):
        zero = np.zeros(3, np.float32)
        assert compare(zero, zero).passed
        assert not compare(zero + np.float32(1e-20), zero).passed
        assert compare(zero[:0], zero[:0]).passed

    def test_half_precision_has_its_own_tolerance(self):
        source = X.astype(ml_dtypes.bfloat16)
        port = (X * 1.01).astype(ml_dtypes.bfloat16)
        assert compare(port, source).passed
        assert not compare((X * 1.1).astype(ml_dtypes.bfloat16), source).passed

    def test_usual_places(self):
        assert is_usual(X) is None
        masked = np.array([MASK, 1.0, np.inf, np.nan], np.float32)
        assert is_usual(masked).tolist() == [False, True, False, False]


class TestStructure:
    def test_fields_are_matched_by_name(self):
        found = rows(Port(logits=X, states=(X, X)), Output(X, (X, X)))
        assert [row.name for row in found] == ["logits", "states.0", "states.1"]
        assert all(row.passed for row in found)

    def test_a_single_tensor_is_called_output(self):
        assert [row.name for row in rows(X, X)] == ["output"]

    def test_none_on_both_sides_has_no_row(self):
        assert [row.name for row in rows(Port(logits=X), Output(X))] == ["logits"]

    @pytest.mark.parametrize(
        ("port", "source", "note"),
        [
            (Port(logits=X), Output(X, X), "source returns a tensor, the port None"),
            (Port(logits=X, states=X), Output(X), "returns None, the port a tensor"),
            (
                Port(logits=X, states=(X,)),
                Output(X),
                "returns None, the port a sequence",
            ),
            (Port(logits=X), Output(X, (X,)), "returns a sequence, the port None"),
            (Port(logits=X), Output(X, ()), "returns a sequence, the port None"),
            ({"a": X}, {"a": X, "b": None}, "None here, the port nothing"),
            ({"a": X, "b": None}, {"a": X}, "the source returns nothing here"),
            ({"a": X}, {"a": X, "b": X}, "a tensor here, the port nothing"),
            ({"a": X, "b": X}, {"a": X}, "the source returns nothing here"),
            ({"logits": X}, Output(X), "returns a record, the port a mapping"),
            ((X,), X, "a tensor here, the port nothing"),
            ({"a": 1}, {"a": 2}, "the source returns 2, the port 1"),
            ({"a": 1.0}, {"a": 1}, "the source returns 1, the port 1.0"),
            ({"a": X}, {"a": 1}, "the source returns 1, the port a tensor"),
        ],
    )
    def test_other_structures_fail(self, port, source, note):
        failing = [row for row in rows(port, source) if not row.passed]
        assert failing
        assert note in failing[0].note
        assert math.isinf(failing[0].max_rel)


class TestAligned:
    A = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)

    @pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 2, 3, 1), (0, 2, 1, 3)])
    def test_axes_in_another_order(self, axes):
        assert aligned(self.A.transpose(axes), self.A) == 0.0

    def test_merged_axes(self):
        assert aligned(self.A.reshape(2, 3, 16), self.A) == 0.0

    def test_a_wrong_value_shows_in_every_order(self):
        wrong = self.A.transpose(0, 2, 3, 1).copy()
        wrong[0, 0, 0, 0] += 1
        assert aligned(wrong, self.A) > 0.1

    def test_nothing_to_compare(self):
        assert aligned(self.A[:, :2], self.A) is None
        assert aligned(self.A[::-1].reshape(6, 16), self.A) is None

    def test_nan_is_the_largest_error(self):
        assert aligned(np.full_like(self.A, np.nan), self.A) == math.inf


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int64", "bool"])
def test_tensors_put_aside_read_as_they_were(dtype, monkeypatch):
    monkeypatch.setattr(aside, "LEAST", 0)
    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    arrays = {
        "empty": np.zeros((0, 3), kind),
        "one": np.asarray(7, kind),
        "turned": np.arange(24).reshape(4, 6).astype(kind).T,
    }
    lazy = Lazy(arrays, np.asarray)
    lazy.put_aside()
    assert lazy.is_large()
    assert list(lazy) == list(arrays)
    assert len(lazy) == 3
    assert "one" in lazy
    assert "other" not in lazy
    for name, array in arrays.items():
        assert lazy[name].dtype == kind
        assert lazy[name].shape == array.shape
        assert np.array_equal(lazy[name], array)
    drained = dict(lazy.drain())
    assert list(drained) == list(arrays)
    assert not lazy
    assert np.array_equal(drained["turned"], arrays["turned"])


def test_a_full_disk_leaves_tensors_in_memory(monkeypatch):
    class Full(aside.Aside):
        def write(self, name, array):
            if self._places:
                raise OSError(28, "No space left on device")
            super().write(name, array)

    monkeypatch.setattr(aside, "LEAST", 0)
    monkeypatch.setattr(aside, "Aside", Full)
    arrays = {name: np.full(3, i) for i, name in enumerate("abc")}
    lazy = Lazy(arrays, np.asarray)
    lazy.put_aside()
    assert all(np.array_equal(lazy[name], array) for name, array in arrays.items())
    assert [name for name, _ in lazy.drain()] == ["a", "b", "c"]


def test_small_tensors_stay():
    lazy = Lazy({"a": np.ones(3)}, np.asarray)
    lazy.put_aside()
    assert not lazy.is_large()


@pytest.mark.parametrize("shape", [(7,), (3, 5), (1, 15), (15, 1), (4, 0), ()])
def test_a_difference_is_found_in_every_part(shape, monkeypatch):
    monkeypatch.setattr(sys.modules[difference.__module__], "_PART", 4)
    source = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    for index in np.ndindex(shape):
        port = source.copy()
        port[index] += 0.5
        assert difference(port, source) == (0.5, np.abs(source).max())
        port[index] = np.nan
        assert np.isnan(difference(port, source)[0])
        port[index] = np.inf
        worse, same = source.copy(), port.copy()
        assert difference(port, worse)[0] == np.inf
        assert difference(same, port)[0] == 0
    assert difference(source, source)[0] == 0
