"""What `ivyport.transpile` does before it hands out a port: one call of each side."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ivyport.core.arguments import Described
from ivyport.core.errors import InputError, IvyportError, ParityError
from ivyport.core.report import Report, ReportRow
from ivyport.verification import compare, drift
from ivyport.verification.choose import port_side, source_side
from ivyport.verification.compare import Entry, Flat
from ivyport.verification.outputs import Outputs
from ivyport.verification.sides import NotFixed, PortFails, PortSide, SourceSide
from ivyport.verification.tolerance import DEFAULT, Tolerances
from ivyport.verification.train_mode import SEEDS, fixed_outputs

ENTRY = Entry("output")
EAGER = Entry("output", note="of a call that is not compiled")
PRECISION = "full precision"
OTHER_DRAWS = (
    "it changes from call to call, by Python's random, numpy's or a clock: the port has what "
    "they gave in the trace as a constant. Draw with the framework's own random functions, or "
    "take the number as an argument"
)

TIES = "The source orders equal values, and torch promises no order of those:"
DISTINCT = "Compare on inputs and weights that make them distinct"


def check(
    source: Any,
    ported: Any,
    modules: Mapping[str, str],
    kwargs: Mapping[str, Any],
    *,
    args: Sequence[Any] = (),
    arguments: Described | None = None,
    params: Any = None,
    state: Any = None,
    rng: Any = None,
    through: Mapping[str, str] | None = None,
    tolerance: Tolerances = DEFAULT,
    eagerly: bool = False,
) -> list[str]:
    """Compare the outputs of a port on the traced inputs with the source's, in eval mode.

    Dropout is off on both sides, also where the source drops in eval mode. Neither is
    changed, and no random generator moves. The arguments are those of `run`. With `eagerly`
    a call that is not compiled is compared too: a compiler may cancel `x + big - big`, which
    32 bits lose.

    Returns:
        What was not compared, and why; the port's notes have it.

    Raises:
        InputError: the source itself raises on the inputs.
        ParityError: outputs differ, or the port raises; it names the first module that
            drifts, the worst output, how far that is off, and what is allowed.
    """
    ours = source_side(source, args, kwargs, params=params, state=state, rng=rng)
    if reason := ours.abstract():
        return [f"the port is not compared with its source: {reason}"]
    theirs, notes = port_side(ported, arguments), list[str]()
    with ours.precise(), theirs.precise():
        expected = accepted(ours, None)
        outside = ours.drew_outside()
        inputs = ours.arrays()
        theirs.silent = ours.drops
        try:
            outputs = Outputs(ours, theirs, tolerance, through or {})
            rows = _rows(outputs, theirs, inputs, expected, eagerly)
        except PortFails as error:
            rows = [compare.failed("forward", ENTRY, str(error))]
        if outside:
            # Both sides may have drawn the same by chance: generators are put back.
            rows = [_suspected(ours, row) for row in rows]
        drawn = [r for r in rows if not r.passed and drawn_anew(ours, r.name)]
        if drawn:
            names = {row.name for row in drawn}
            compared, notes = _drawn(ours, theirs, inputs, names, outputs)
            rows = [row for row in rows if row.name not in names] + compared
        failing = [row for row in rows if not row.passed]
        if failing:
            limit = max(row.tolerance for row in failing)
            limit = limit or tolerance.of("float32").output
            raise _differs(ours, theirs, inputs, modules, rows, limit)
        if not drawn:
            notes = [*notes, *_asked(ours, theirs, inputs, outputs)]
    return notes


def _rows(
    outputs: Outputs,
    port: PortSide,
    inputs: Mapping[str, Any],
    expected: Flat,
    eagerly: bool,
) -> list[ReportRow]:
    actual = port.forward(inputs).outputs
    rows = outputs.rows(actual, expected, ENTRY, None)
    again = port.eagerly(inputs) if eagerly else None
    if again is not None:
        rows += outputs.rows(again.outputs, expected, EAGER, None)
    return rows


def _differs(
    source: SourceSide,
    port: PortSide,
    inputs: Mapping[str, Any],
    modules: Mapping[str, str],
    rows: Sequence[ReportRow],
    limit: float,
) -> ParityError:
    """The error of outputs that differ, with the first module that drifts by more than `limit`."""
    found = drift.first_drift(source, port, inputs, modules, limit)
    ties = tied(source, inputs)
    return parity_error(Report(tuple(rows), found, PRECISION, notes=ties))


def _asked(
    source: SourceSide, port: PortSide, inputs: Mapping[str, Any], outputs: Outputs
) -> list[str]:
    """A note where the source asks for values of integers that the trace does not see.

    transformers looks for packed sequences in positions, and not while a model is traced.
    """
    moved = {
        name: np.roll(array, 1, -1)
        for name, array in inputs.items()
        if array.dtype.kind in "iub" and array.ndim and array.shape[-1] > 1
    }
    if not moved:
        return []
    changed = {**inputs, **moved}
    try:
        expected = source.forward(changed).outputs
        actual = port.forward(changed).outputs
    # The values may be none that the source takes: then nothing is known.
    except Exception:  # noqa: BLE001
        return []
    rows = outputs.rows(actual, expected, ENTRY, changed)
    wrong = [row for row in rows if not row.passed and not drawn_anew(source, row.name)]
    if not wrong:
        return []
    row = max(wrong, key=lambda r: r.severity)
    return [
        f"With the values of {', '.join(moved)} in another order {row.name!r} is off by "
        f"{row.max_rel:.1e}: the source asks for values in a way that its trace does not show. "
        "Give the port values like those of the example alone."
    ]


def _suspected(source: SourceSide, row: ReportRow) -> ReportRow:
    """A row that does not pass where its output is another one in another call."""
    drawn = row.passed and drawn_anew(source, row.name)
    return dataclasses.replace(row, passed=False) if drawn else row


def _drawn(
    source: SourceSide,
    port: PortSide,
    inputs: Mapping[str, Any],
    names: set[str],
    outputs: Outputs,
) -> tuple[list[ReportRow], list[str]]:
    """Outputs that differ from call to call, with every random draw fixed; and what is not."""
    entry = Entry("output", note="with every random draw fixed")
    try:
        found = fixed_outputs(source, port, inputs)
    except PortFails as error:
        return [compare.failed("forward", entry, str(error))], []
    except NotFixed as error:
        return [], [f"output {n!r} is not compared: {error}" for n in sorted(names)]
    if found is None:
        return [compare.failed(n, entry, OTHER_DRAWS) for n in sorted(names)], []
    rows = outputs.compared(*found, entry)
    return [row for row in rows if row.name in names], []


def accepted(source: SourceSide, inputs: Mapping[str, Any] | None) -> Flat:
    """The source's outputs in eval mode.

    Raises:
        InputError: the source raises.
    """
    try:
        return source.forward(inputs).outputs
    except IvyportError:
        raise
    # Whatever the user's model raises, the inputs are what it was given.
    except Exception as error:
        raise not_runnable(source, error) from error


def not_runnable(source: SourceSide, error: Exception) -> InputError:
    """The error of a source that raises on its own inputs."""
    inputs = ", ".join(
        f"{n}={a.dtype}{list(a.shape)}" for n, a in source.arrays().items()
    )
    return InputError(
        f"the source raises {type(error).__name__} on the inputs {inputs}: {error}"
    )


def drawn_anew(source: SourceSide, name: str) -> bool:
    """Whether an output of the source differs from call to call, dropout aside."""
    calls = [source.forward(seed=seed).outputs.arrays() for seed in SEEDS]
    if any(name not in call for call in calls):
        return False
    first, *others = [np.asarray(call[name]) for call in calls]
    return not all(
        np.array_equal(first, other, equal_nan=first.dtype.kind in "fc")
        for other in others
    )


def tied(source: SourceSide, inputs: Mapping[str, Any]) -> tuple[str, ...]:
    """A note where the source orders equal values."""
    lines = source.ties(inputs)
    return (f"{TIES} {'; '.join(lines[:3])}. {DISTINCT}",) if lines else ()


def parity_error(report: Report) -> ParityError:
    """The error of a report that does not pass."""
    failing = [row for row in report.rows if not row.passed]
    row = max(failing, key=lambda r: r.severity)
    count = f"{len(failing)} of {len(report.rows)} comparisons fail"
    place = report.first_drift or "none stands out; the outputs alone differ"
    ties = "".join(f"{note} " for note in report.notes if note.startswith(TIES))
    return ParityError(
        f"the port does not compute what its source computes: {_problem(row)} ({count}). "
        f"The first module that drifts: {place}. {ties}"
        "verify=False returns the port all the same, to be looked into",
        report,
    )


def _problem(row: ReportRow) -> str:
    subject = f"{row.kind.replace('_', ' ')} {row.name!r}"
    if row.inputs == "second":
        subject += " on other inputs"
    if not math.isfinite(row.max_rel):
        return f"{subject}: {row.note or 'not finite'}"
    note = f" ({row.note})" if row.note else ""
    return (
        f"{subject} is off by {row.max_rel:.1e} of its largest magnitude, "
        f"{row.tolerance:.0e} is allowed{note}"
    )
