"""Outputs of a port against its source's, and what float64 says where they nearly agree.

Float32 does not settle an output that the source itself computes with few digits: a
codec that sums thousands of samples is 1.5e-5 from its own result in float64. So what fails
by no more than the source's own rounding is computed again in float64, on both sides.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from ivyport.core.report import ReportRow
from ivyport.verification.compare import Array, Entry, Flat, compare_outputs, difference
from ivyport.verification.sides import PortFails, PortSide, SourceSide
from ivyport.verification.tolerance import EXACT, Tolerances

#: How often the source's own rounding a port may be off: both round, at other places.
OWN_ROUNDING = 10


@dataclasses.dataclass(frozen=True)
class Outputs:
    """How outputs are compared.

    Attributes:
        source, port: the two sides.
        tolerance: largest errors by dtype.
        through: by output, the narrowest dtype that its values were rounded to.
    """

    source: SourceSide
    port: PortSide
    tolerance: Tolerances
    through: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def rows(
        self,
        actual: Flat,
        expected: Flat,
        entry: Entry,
        inputs: Mapping[str, Array] | None,
    ) -> list[ReportRow]:
        """One row an output of eval mode; `inputs` are None for the traced ones."""
        rows = self.compared(actual, expected, entry)
        return self._settled(rows, expected, entry, inputs)

    def compared(self, actual: Flat, expected: Flat, entry: Entry) -> list[ReportRow]:
        """The same, in the precision that both sides have."""
        return compare_outputs(
            actual,
            expected,
            entry,
            lambda dtype: self.tolerance.of(dtype).output,
            narrow=self.port.narrows,
            through=self.through,
        )

    def _settled(
        self,
        rows: list[ReportRow],
        expected: Flat,
        entry: Entry,
        inputs: Mapping[str, Array] | None,
    ) -> list[ReportRow]:
        failing = [row for row in rows if not row.passed]
        # Integers, another shape and NaN are no matter of rounding.
        if not failing or not all(_nearly(row, expected) for row in failing):
            return rows
        try:
            wide = self.source.widened().forward(inputs).outputs
            rounding = _rounding(expected, wide)
            if any(row.max_rel > OWN_ROUNDING * rounding[row.name] for row in failing):
                return rows
            given = self.source.arrays() if inputs is None else inputs
            port = self.port.widened().forward(given).outputs
        # A module may demand float32, on either side: then nothing is excused.
        except (RuntimeError, TypeError, ValueError, PortFails):
            return rows
        exact = compare_outputs(
            port, wide, entry, lambda dtype: EXACT.of(dtype).output, narrow=True
        )
        failed = {row.name: row for row in failing}
        decided = {
            row.name: beside
            for row in exact
            if (beside := _beside(row, failed.get(row.name), rounding)).passed
        }
        return [
            row
            if row.passed or row.name not in decided
            else _excused(row, decided[row.name], rounding[row.name])
            for row in rows
        ]


def _beside(
    exact: ReportRow, row: ReportRow | None, rounding: Mapping[str, float]
) -> ReportRow:
    """A row in float64; its error is taken over the output's size in float32 where that is
    rounding alone: what is 0 in exact arithmetic has no size of its own.
    """
    if row is None or exact.passed or rounding[row.name] < 1 or not row.max_abs:
        return exact
    error = exact.max_abs * row.max_rel / row.max_abs
    return dataclasses.replace(exact, max_rel=error, passed=error <= exact.tolerance)


def _nearly(row: ReportRow, expected: Flat) -> bool:
    floats = expected.leaves.get(row.name)
    return (
        floats is not None
        and np.asarray(floats).dtype.kind not in "biu"
        and row.tolerance > 0
        and row.max_rel < math.inf
    )


def _rounding(narrow: Flat, wide: Flat) -> dict[str, float]:
    """How far the source's outputs are from its own in float64, by output."""
    found = {}
    exact = wide.arrays()
    for name, array in narrow.arrays().items():
        if name not in exact or exact[name].shape != array.shape:
            found[name] = 0.0
            continue
        largest, scale = difference(np.asarray(array), np.asarray(exact[name]))
        # Where the exact result is 0, all of it is rounding.
        alone = math.inf if largest else 0.0
        own = largest / scale if scale else alone
        found[name] = 0.0 if math.isnan(own) else own
    return found


def _excused(row: ReportRow, exact: ReportRow, own: float) -> ReportRow:
    note = (
        f"in float64; in float32 {row.max_rel:.1e}, the source's own rounding {own:.1e}"
    )
    return dataclasses.replace(exact, note=f"{row.note}; {note}" if row.note else note)
