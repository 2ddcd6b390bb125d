"""Sizes for which a port was not made: it has to refuse them, or to be right.

Sizes that keep all that the port's record says (`ivyport.verification.second`) do not show that
the emitted code checks it: these break it, one condition after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ivyport.core.checks import Check
from ivyport.core.dims import DimLike
from ivyport.verification.compare import Array
from ivyport.verification.second import (
    Bounds,
    Free,
    Sizes,
    batches,
    sizes_of,
    symbolic,
)

#: Sizes of fixed axes that are tried: all of them would be many.
FIXED = 4
# How far from a traced size another one is looked for that breaks a check.
_REACH = 64
# Sizes above are not tried: a source may run for minutes on them.
_LARGEST = 2048


def beyond(
    inputs: Mapping[str, Array],
    free: Free,
    bounds: Bounds,
    checks: Sequence[Check] = (),
) -> Iterator[Sizes]:
    """Sizes that are all tried, on axes that are free and then on those that are fixed.

    Free axes: those that break one of `checks`, those outside of `bounds`, and 1 for all but
    the batch, of which `plans` has 1. Fixed axes: sizes next to theirs and 1, axes of one size
    together and each for itself.
    """
    traced = sizes_of(inputs, free)
    seen = [traced]
    batch = batches(traced, symbolic(free))
    for role, second in _free(traced, batch, bounds, checks):
        if second not in seen:
            seen.append(second)
            yield Sizes(traced, second, role, beyond=True)
    yield from _fixed(inputs, symbolic(free))


def _free(
    traced: Mapping[str, int],
    batch: set[str],
    bounds: Bounds,
    checks: Sequence[Check],
) -> Iterator[tuple[str, dict[str, int]]]:
    for check in checks:
        for second in _breaking(check, traced):
            yield f"not {check}", second
    for name in traced:
        low, high = bounds.get(name, (1, None))
        for other in (low - 1, *([] if high is None else [high + 1])):
            if 1 <= other <= _LARGEST:
                yield f"{name} {other}", {**traced, name: other}
    yield "size 1", {n: s if n in batch else 1 for n, s in traced.items()}


def _breaking(check: Check, traced: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """For each of the sizes that a check is about, the nearest one that breaks it."""
    for name in sorted(check.symbols() & traced.keys()):
        size = traced[name]
        near = (size + s * d for d in range(1, _REACH) for s in (1, -1))
        for other in near:
            second = {**traced, name: other}
            if other > 0 and check.holds(second) is False:
                yield second
                break


def _fixed(
    inputs: Mapping[str, Array], dims: Mapping[str, Mapping[int, DimLike]]
) -> Iterator[Sizes]:
    """Other sizes for the axes that the port has fixed."""
    axes: dict[int, list[tuple[str, int]]] = {}
    for name, array in inputs.items():
        for axis, size in enumerate(array.shape):
            if axis not in dims.get(name, {}):
                axes.setdefault(size, []).append((name, axis))
    for size, found in list(axes.items())[:FIXED]:
        alone = [[one] for one in found] if len(found) > 1 else []
        for chosen in (found, *alone[:FIXED]):
            for other in dict.fromkeys((size + 1, size - 1, 1)):
                if 1 <= other <= _LARGEST and other != size:
                    yield _other(inputs, dims, chosen, size, other)


def _other(
    inputs: Mapping[str, Array],
    dims: Mapping[str, Mapping[int, DimLike]],
    chosen: Sequence[tuple[str, int]],
    size: int,
    other: int,
) -> Sizes:
    label = f"size {size}"
    free: dict[str, dict[int, DimLike | str]] = {
        n: dict(dims.get(n, {})) for n in inputs
    }
    for name, axis in chosen:
        free[name][axis] = label
    traced = sizes_of(inputs, free)
    second = {**traced, label: other}
    return Sizes(traced, second, f"other than {size}", free, beyond=True)
