"""Compares the gradients of every parameter."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ivyport.core.report import ReportRow
from ivyport.verification import compare
from ivyport.verification.compare import Array, Entry
from ivyport.verification.tolerance import Tolerances
from ivyport.weights.mapping import WeightMap

if TYPE_CHECKING:
    import torch


def compare_gradients(
    actual: Mapping[str, Any],
    expected: Mapping[str, torch.Tensor],
    owner: Mapping[str, str],
    weight_map: WeightMap,
    entry: Entry,
    tolerance: Tolerances,
    *,
    name: Callable[[str], str] = str,
) -> list[ReportRow]:
    """One row a parameter of the port, in the order of the weight map.

    Args:
        actual: gradients by the port's names.
        expected: gradients by the source's names, each tied parameter once.
        owner: the name in `expected` for every name of a source parameter.
        weight_map: leads from the source's parameters to the port's.
        entry: the rows' kind and note.
        tolerance: largest errors, and the floor of the scale.
        name: what a row is called, from the port's name.
    """
    from ivyport.verification.torch_side import to_array

    arrays = {n: to_array(expected[o]) for n, o in owner.items() if o in expected}
    largest = {n: float(np.max(np.abs(a), initial=0)) for n, a in arrays.items()}
    finite = [v for v in largest.values() if math.isfinite(v)]
    floor = tolerance.gradient_floor * max(finite, default=0.0)
    chosen = [r for r in weight_map.rows if r.kind == "parameter"]
    mapped = WeightMap(tuple(r for r in chosen if r.source in arrays))
    rows = []
    for target in dict.fromkeys(row.target for row in mapped.rows):
        if target not in actual:
            problem = "no parameter of the port"
            rows.append(compare.failed(name(target), entry, problem))
            continue
        row = compare.compare_arrays(
            name(target),
            np.asarray(actual[target]),
            mapped.read_target(target, arrays),
            entry,
            lambda dtype: tolerance.of(dtype).gradient,
            floor,
        )
        rows.append(row)
    reached = {owner[row.source] for row in mapped.rows}
    for source in expected:
        if source not in reached and largest[source] > 0:
            rows.append(compare.failed(name(source), entry, "the port lacks it"))
    for target in sorted(set(actual) - {row.target for row in mapped.rows}):
        rows.append(compare.failed(name(target), entry, "no parameter of the source"))
    return rows


def compare_buffers(
    actual: Mapping[str, Any],
    expected: Mapping[str, Array],
    weight_map: WeightMap,
    entry: Entry,
    tolerance: Tolerances,
) -> list[ReportRow]:
    """One row a buffer: running statistics after a forward in train mode, say."""
    chosen = [r for r in weight_map.rows if r.kind == "buffer"]
    mapped = WeightMap(tuple(r for r in chosen if r.source in expected))
    rows = []
    for target in dict.fromkeys(row.target for row in mapped.rows):
        if target not in actual:
            rows.append(compare.failed(target, entry, "no buffer of the port"))
            continue
        row = compare.compare_arrays(
            target,
            np.asarray(actual[target]),
            mapped.read_target(target, expected),
            entry,
            lambda dtype: tolerance.of(dtype).gradient,
        )
        rows.append(row)
    return rows
