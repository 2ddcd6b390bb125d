"""What a port does in train mode beside numbers: which tensors train, where dropout draws."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ivyport.core.passes.undropped import rates_left_out
from ivyport.core.report import ReportRow
from ivyport.verification.compare import Array, Entry, failed
from ivyport.verification.sides import PortFails, PortSide, SourceSide
from ivyport.weights.mapping import WeightMap

ENTRY = Entry("train_step")
#: Digits of a rate that count: a source may compute it, as one of many along its depth.
DIGITS = 4


def trained_rows(
    source: SourceSide, port: PortSide, weight_map: WeightMap
) -> list[ReportRow]:
    """Whether the port trains what the source trains: one row, none without parameters."""
    ours, theirs = source.trains(), port.trains()
    wrong, count = [], 0
    rows: dict[str, list[str]] = {}
    for row in weight_map.rows:
        names = rows.setdefault(row.target, [])
        names += [name for name in (row.source, *row.aliases) if name in source.owner]
    for target, names in rows.items():
        expected = any(source.owner[name] in ours for name in names)
        actual = port.owner.get(target) in theirs
        count += actual
        if expected != actual:
            wrong.append(f"{target} {'is not trained' if expected else 'is trained'}")
    total = len({port.owner.get(target, target) for target in rows if rows[target]})
    if not total:
        return []
    if not wrong:
        text = f"{count} of {total}, those of the source"
        return [passed("tensors that train", text)]
    some = f"{'; '.join(wrong[:3])}{'; ...' if len(wrong) > 3 else ''}"
    return [failed("tensors that train", ENTRY, f"in the port {some}")]


def passed(name: str, note: str) -> ReportRow:
    """A row of what is no number and agrees."""
    return ReportRow(name, ENTRY.kind, "", 0.0, 0.0, 0.0, True, note)


def dropout_rows(
    source: SourceSide, port: PortSide, inputs: dict[str, Array], known: Sequence[str]
) -> list[ReportRow]:
    """Whether dropout draws in both modes as the source's does, and at which rates.

    `known` are the port's notes: dropout that they say it lacks, by its rate and line, is not
    missed again.
    """
    rows = []
    lacking = set(_rates(rates_left_out(known)))
    for train in (False, True):
        mode = f"dropout in {'train' if train else 'eval'} mode"
        ours = _rates(source.rates(train=train))
        try:
            theirs = _rates(port.rates(inputs, train=train))
            drawn = bool(theirs) and port.draws(inputs, train=train)
        except PortFails as error:
            rows.append(failed(mode, ENTRY, str(error)))
            continue
        if not ours and not theirs:
            continue
        stated = lacking if train else set()
        rows.append(_row(mode, ours, theirs, drawn=drawn, stated=stated))
    return rows


def noise_rows(
    source: SourceSide, port: PortSide, inputs: dict[str, Array]
) -> list[ReportRow]:
    """Whether a port draws in train mode, of a source that does so beside its dropout."""
    name = "random numbers in train mode"
    try:
        # Stochastic depth is a dropout of the port: only beside it is there noise to miss.
        alike = _rates(source.rates(train=True)) == _rates(
            port.rates(inputs, train=True)
        )
        drawn = port.draws(inputs, train=True, silent=alike)
    except PortFails as error:
        return [failed(name, ENTRY, str(error))]
    if drawn:
        return [passed(name, "two calls of the port differ, as those of the source do")]
    return [
        failed(name, ENTRY, "two calls of the source differ, those of the port do not")
    ]


def _rates(found: Iterable[float]) -> Counter[float]:
    return Counter(round(rate, DIGITS) for rate in found)


def _row(
    mode: str,
    ours: Counter[float],
    theirs: Counter[float],
    *,
    drawn: bool,
    stated: set[float],
) -> ReportRow:
    text = f"at rates {_text(ours)} in the source, {_text(theirs)} in the port"
    if theirs and not drawn:
        return failed(mode, ENTRY, f"{text}; two calls of the port are equal")
    # Stochastic depth is a dropout of the port, and none of torch's.
    missing = {rate for rate, count in ours.items() if theirs[rate] < count}
    if not missing and (ours or "eval" not in mode):
        return passed(mode, f"two calls differ, {text}")
    if missing and missing <= stated:
        return passed(mode, f"{text}, as the port's notes say")
    return failed(mode, ENTRY, text)


def _text(rates: Counter[float]) -> str:
    if not rates:
        return "none"
    return ", ".join(f"{rate:g} ({count}x)" for rate, count in sorted(rates.items()))
