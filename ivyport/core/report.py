"""What a verification found, as data: one row a comparison, and the verdict.

A report is stored as `parity.json`, so that its JSON form has numbers only where JSON
has them: NaN and the infinities are the strings "NaN", "Infinity" and "-Infinity".
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from ivyport.core.errors import InputError

Kind = Literal["output", "gradient", "train_step"]
Inputs = Literal["traced", "second"]

_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclasses.dataclass(frozen=True)
class ReportRow:
    """One tensor of the port against the source's.

    Attributes:
        name: of the output, the parameter or the buffer.
        kind: 'output', 'gradient' (of a seeded scalar of the outputs) or 'train_step'.
        shapes: the shape, or both where they differ.
        max_abs: the largest absolute difference.
        max_rel: that difference over the largest magnitude of the source's tensor.
        tolerance: what `max_rel` may be at most; 0 for integers and booleans.
        passed: whether dtype, shape and values agree.
        note: what else there is to say, such as why the row does not pass.
        inputs: 'traced' for the example inputs, 'second' for fresh ones of other sizes.
    """

    name: str
    kind: Kind
    shapes: str
    max_abs: float
    max_rel: float
    tolerance: float
    passed: bool
    note: str = ""
    inputs: Inputs = "traced"

    @property
    def severity(self) -> tuple[bool, float, float]:
        """A key that sorts rows from the best to the worst; NaN is the worst error."""
        relative = math.inf if math.isnan(self.max_rel) else self.max_rel
        # Integers must be equal, which is no tolerance to divide by.
        share = relative / self.tolerance if self.tolerance else relative
        return not self.passed, share, relative

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return {k: _number(v) for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_json(cls, value: object) -> ReportRow:
        """A row from its JSON form; InputError for anything else."""
        types = {field.name: str(field.type) for field in dataclasses.fields(cls)}
        if not isinstance(value, Mapping) or value.keys() != types.keys():
            raise InputError(f"not a row of a parity report: {value!r}")
        made = {name: _read(types[name], name, value[name]) for name in types}
        return cls(**made)


@dataclasses.dataclass(frozen=True)
class Report:
    """The comparison of a port with its source.

    Attributes:
        rows: every comparison that was made.
        first_drift: the source's first module, in the order of execution, whose output
            drifts, and by how much; None where all is well or no module stands out.
        precision: in which precision both sides computed.
        dims: sizes of each free dimension, of the traced and of the second inputs.
        notes: what else there is to know, such as gradients that differ by intention.
        not_checked: what was not compared, and why.
    """

    rows: tuple[ReportRow, ...]
    first_drift: str | None = None
    precision: str = ""
    dims: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    not_checked: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every row passes; a report without rows has verified nothing."""
        return bool(self.rows) and all(row.passed for row in self.rows)

    def summary(self) -> tuple[ReportRow, ...]:
        """The worst row of each kind and inputs, in the order of the report.

        The note of each tells how many rows it stands for, and how many of them fail.
        """
        groups: dict[tuple[str, str], list[ReportRow]] = {}
        for row in self.rows:
            groups.setdefault((row.kind, row.inputs), []).append(row)
        return tuple(worst(rows) for rows in groups.values())

    def to_json(self) -> dict[str, Any]:
        """A JSON object; `json.dumps(..., allow_nan=False)` takes it."""
        return {
            "passed": self.passed,
            "precision": self.precision,
            "first_drift": self.first_drift,
            "dims": {name: list(sizes) for name, sizes in self.dims.items()},
            "notes": list(self.notes),
            "not_checked": list(self.not_checked),
            "rows": [row.to_json() for row in self.rows],
        }

    @classmethod
    def from_json(cls, value: object) -> Report:
        """A report from its JSON form; InputError for anything else."""
        known = {"passed", "precision", "first_drift", "dims", "notes", "rows"}
        # Reports of earlier versions have everything in their notes.
        if not isinstance(value, Mapping) or value.keys() - {"not_checked"} != known:
            raise InputError(f"not a parity report, which has the keys {sorted(known)}")
        drift, dims = value["first_drift"], value["dims"]
        if not isinstance(dims, Mapping) or not all(map(_is_ints, dims.values())):
            raise InputError(f"'dims' of a parity report holds sizes: {dims!r}")
        unchecked = value.get("not_checked", [])
        if not all(
            isinstance(x, list) for x in (value["rows"], value["notes"], unchecked)
        ):
            raise InputError(
                "'rows', 'notes' and 'not_checked' of a parity report are lists"
            )
        return cls(
            rows=tuple(ReportRow.from_json(row) for row in value["rows"]),
            first_drift=None if drift is None else _read("str", "first_drift", drift),
            precision=_read("str", "precision", value["precision"]),
            dims={str(name): tuple(sizes) for name, sizes in dims.items()},
            notes=tuple(_read("str", "notes", note) for note in value["notes"]),
            not_checked=tuple(_read("str", "not_checked", text) for text in unchecked),
        )


def worst(rows: Sequence[ReportRow]) -> ReportRow:
    """The worst of at least one row; its note tells how many it stands for, if others."""
    if len(rows) == 1:
        return rows[0]
    row = max(rows, key=lambda row: row.severity)
    failing = sum(not row.passed for row in rows)
    count = f"worst of {len(rows)}" + (f", {failing} fail" if failing else "")
    note = f"{row.note}; {count}" if row.note else count
    return dataclasses.replace(row, note=note)


def _number(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _read(kind: str, name: str, value: Any) -> Any:
    """A field's value from JSON, checked against its annotation."""
    match kind:
        case "float" if type(value) in (int, float):
            return float(value)
        case "float" if isinstance(value, str) and value in _SPECIAL:
            return _SPECIAL[value]
        case "bool" if isinstance(value, bool):
            return value
        case "str" if isinstance(value, str):
            return value
        case "Kind" if value in get_args(Kind):
            return value
        case "Inputs" if value in get_args(Inputs):
            return value
    raise InputError(f"{name!r} of a parity report is no {kind}: {value!r}")


def _is_ints(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in value)
