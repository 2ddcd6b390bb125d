"""Names the first module whose output drifts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from ivyport.core.report import ReportRow
from ivyport.verification.compare import Array, aligned, same_dtype
from ivyport.verification.sides import Activation, PortSide, SourceSide
from ivyport.weights.mapping import WeightMap


@dataclasses.dataclass(frozen=True)
class _Match:
    """How one call of the port compares with the source's."""

    error: float
    shape: tuple[int, ...]
    dtype: str
    same_dtype: bool


#: Inside a model errors exceed those of its outputs without harm: a large activation
#: that is normalised next, say. Only where nothing exceeds this, the outputs' own
#: tolerance decides.
MODULE_TOLERANCE = 1e-4


def first_drift(
    source: SourceSide,
    port: PortSide,
    inputs: Mapping[str, Array],
    modules: Mapping[str, str],
    tolerance: float,
) -> str | None:
    """The source's first module, in the order in which calls end, that drifts.

    Both sides run once, eagerly, on `inputs`. Calls are matched by module path and
    count; a module of the port may return more tensors than the source's, and order
    their axes otherwise. None where no module's output differs by more than
    `tolerance`.
    """
    activations = source.activations(inputs)
    expected = {(a.path, a.call): a for a in activations}
    found: dict[tuple[str, int], _Match] = {}

    def record(path: str, call: int, arrays: list[Array]) -> None:
        activation = expected.get((path, call))
        if activation is None:
            return
        wanted, narrow = activation.array, port.narrows
        matches = [
            _Match(
                error,
                array.shape,
                array.dtype.name,
                same_dtype(array, wanted, narrow=narrow),
            )
            for array in arrays
            if (error := aligned(array, wanted)) is not None
        ]
        if matches:
            found[path, call] = min(matches, key=lambda match: match.error)

    failure = port.watch(inputs, modules, record)
    drifting = [a for a in activations if (a.path, a.call) in found]
    limits = (max(MODULE_TOLERANCE, tolerance), tolerance)
    for wrong in (
        lambda match: match.error > limits[0],
        lambda match: not match.same_dtype,
        lambda match: match.error > limits[1],
    ):
        for activation in drifting:
            match = found[activation.path, activation.call]
            if wrong(match):
                return _text(activation, match)
    if failure is not None:
        path, error_text = failure
        return f"{path or 'the model itself'}: the port raises {error_text}"
    return None


def _text(activation: Activation, match: _Match) -> str:
    call = f", call {activation.call + 1}" if activation.call else ""
    amount = "is not finite" if math.isinf(match.error) else f"is {match.error:.1e}"
    source = activation.array
    return (
        f"{activation.path or 'the model itself'} ({activation.cls}{call}): its "
        f"relative error {amount}, {match.dtype}{list(match.shape)} in the port and "
        f"{source.dtype.name}{list(source.shape)} in the source"
    )


def first_gradient_drift(
    rows: Sequence[ReportRow], weight_map: WeightMap
) -> str | None:
    """Where gradients go wrong though outputs agree.

    The backward pass meets the model's last parameters first, so that the last wrong
    gradient is the nearest to the mistake.
    """
    wrong = [row for row in rows if row.kind == "gradient" and not row.passed]
    if not wrong:
        return None
    row = wrong[-1]
    sources = [r.source for r in weight_map.rows if r.target == row.name]
    module = module_of(sources[0]) if sources else row.name
    return (
        f"{module or 'the model itself'}: outputs agree, but the gradient of "
        f"{row.name} has a relative error of {row.max_rel:.1e}; it is the last wrong "
        f"one of {len(wrong)}"
    )


def module_of(parameter: str) -> str:
    """The module's part of a parameter's name: ``a.b.weight``, ``mlp/~/linear:w``."""
    mark = ":" if ":" in parameter else "."
    return parameter.rpartition(mark)[0]
