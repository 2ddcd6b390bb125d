"""Compares the gradients of every parameter."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ivyport.core.report import ReportRow
from ivyport.verification import compare
from ivyport.verification.compare import Array, Entry
from ivyport.verification.tolerance import Tolerances
from ivyport.weights.mapping import WeightMap

if TYPE_CHECKING:
    import torch

    from ivyport.verification.torch_side import TorchSide

#: A gradient below this share of the model's largest may be rounding and nothing else.
SMALL = 1e-2
#: Two sides round independently, and the largest of many errors scatters.
ROUNDING = 10.0


@dataclasses.dataclass(frozen=True)
class GradientCheck:
    """Leads the source's gradients through the weight map and compares."""

    source: TorchSide
    weight_map: WeightMap
    tolerance: Tolerances

    def rows(
        self,
        actual: Mapping[str, Any],
        expected: Mapping[str, torch.Tensor],
        weights: Mapping[str, Array],
        entry: Entry,
        *,
        train: bool = False,
    ) -> list[ReportRow]:
        """One row a parameter of the port, in the order of the weight map.

        `actual` are gradients by the port's names, `expected` by the source's, both of
        the scalar with these `weights` of the outputs.
        """
        arrays = self._spelled(expected)
        largest = {n: float(np.max(np.abs(a), initial=0)) for n, a in arrays.items()}
        finite = [v for v in largest.values() if math.isfinite(v)]
        whole = max(finite, default=0.0)
        mapped = self._mapped(arrays)
        rows = []
        for target in dict.fromkeys(row.target for row in mapped.rows):
            if target not in actual:
                rows.append(compare.failed(target, entry, "no parameter of the port"))
                continue
            row = compare.compare_arrays(
                target,
                np.asarray(actual[target]),
                mapped.read_target(target, arrays),
                entry,
                self._limit,
                self.tolerance.gradient_floor * whole,
            )
            rows.append(row)
        rows = self._allow_rounding(rows, arrays, mapped, weights, whole, train)
        return rows + self._left_over(actual, expected, mapped, largest, entry)

    def _limit(self, dtype: str) -> float:
        return self.tolerance.of(dtype).gradient

    def _spelled(self, gradients: Mapping[str, Any]) -> dict[str, Array]:
        """Gradients under each name of their parameter."""
        from ivyport.verification.torch_side import to_array

        owners = self.source.owner.items()
        return {n: to_array(gradients[o]) for n, o in owners if o in gradients}

    def _mapped(self, arrays: Mapping[str, Array]) -> WeightMap:
        rows = [r for r in self.weight_map.rows if r.kind == "parameter"]
        return WeightMap(tuple(r for r in rows if r.source in arrays))

    def _allow_rounding(
        self,
        rows: list[ReportRow],
        arrays: Mapping[str, Array],
        mapped: WeightMap,
        weights: Mapping[str, Array],
        whole: float,
        train: bool,
    ) -> list[ReportRow]:
        """Pass small gradients that differ by no more than the source's own rounding.

        That is told by the source itself, run again in float64. What it cannot tell,
        because it demands float32 somewhere, stays as it is.
        """

        def suspect(row: ReportRow) -> bool:
            if row.passed or not math.isfinite(row.max_abs):
                return False
            source = mapped.read_target(row.name, arrays)
            return float(np.max(np.abs(source), initial=0)) < SMALL * whole

        suspects = [row.name for row in rows if suspect(row)]
        if not suspects:
            return rows
        owners = {
            self.source.owner[name]
            for target in suspects
            for name in mapped.sources_of(target, compare.specs(arrays))
        }
        exact = self.source.exact_gradients(weights, owners, train=train)
        if exact is None:
            return rows
        wide = self._spelled(exact)
        tensors = {**arrays, **wide}
        rounding = {}
        for target in suspects:
            source = mapped.read_target(target, arrays).astype(np.float64)
            error = np.abs(mapped.read_target(target, tensors) - source)
            rounding[target] = float(np.max(error, initial=0))
        return [
            _with_rounding(r, rounding[r.name]) if r.name in rounding else r
            for r in rows
        ]

    def _left_over(
        self,
        actual: Mapping[str, Any],
        expected: Mapping[str, Any],
        mapped: WeightMap,
        largest: Mapping[str, float],
        entry: Entry,
    ) -> list[ReportRow]:
        """Parameters that one side has alone; on the source's side, if they matter."""
        owners = self.source.owner
        reached = {owners[row.source] for row in mapped.rows}
        alone = [n for n in expected if n not in reached and largest[n] > 0]
        extra: Sequence[str] = sorted(set(actual) - {r.target for r in mapped.rows})
        return [
            *(compare.failed(name, entry, "the port lacks it") for name in alone),
            *(compare.failed(n, entry, "no parameter of the source") for n in extra),
        ]


def _with_rounding(row: ReportRow, rounding: float) -> ReportRow:
    if not row.max_abs <= ROUNDING * rounding:
        return row
    scale = row.max_abs / row.max_rel
    note = f"rounding: in float64 the source's own gradient differs by {rounding:.1e}"
    return dataclasses.replace(
        row,
        tolerance=ROUNDING * rounding / scale,
        passed=True,
        note=f"{row.note}; {note}" if row.note else note,
    )
