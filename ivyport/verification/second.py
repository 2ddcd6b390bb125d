"""Fresh inputs of other sizes, where the trace left sizes free.

A batch size or a sequence length that the port has baked in shows only here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from ivyport.core.checks import Check
from ivyport.core.dims import Dim, DimLike, evaluate, symbol, symbols
from ivyport.verification.compare import Array

#: Axes by input, each a symbol's name or an expression of symbols.
Free = Mapping[str, Mapping[int, DimLike | str]]
#: Smallest and largest size by symbol; None is unbounded.
Bounds = Mapping[str, tuple[int, int | None]]
# How far from a size another one is looked for that satisfies a check.
_REACH = 64


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes by symbol: of the traced inputs and of second ones.

    `role` says what they are for; `free` are the axes where they are not those of the port:
    axes that it has fixed. `beyond` says that the port may refuse them.
    """

    traced: Mapping[str, int]
    second: Mapping[str, int]
    role: str = "other"
    free: Free | None = None
    beyond: bool = False

    def text(self) -> str:
        """The second sizes: ``batch 3, seq 10``."""
        return ", ".join(f"{name} {size}" for name, size in self.second.items())


def plans(
    inputs: Mapping[str, Array],
    free: Free,
    bounds: Bounds,
    checks: Sequence[Check] = (),
) -> Iterator[list[Sizes]]:
    """Groups of sizes; of each group the first one counts that the source takes.

    Sizes of free axes satisfy `checks`, such as that a length is even.

    Larger sizes, odd for even; smaller ones with a batch of 1. Sizes that the port has to
    refuse, or to be right for, are those of `ivyport.verification.beyond`.
    """
    dims = symbolic(free)
    traced = sizes_of(inputs, free)
    if not traced and not any(a.ndim for a in inputs.values()):
        yield [Sizes({}, {})]
        return
    batch = batches(traced, dims)
    larger, smaller, nearer = dict(traced), dict(traced), dict(traced)
    # As `larger`, for sources that take no other height than width.
    alike = dict(traced)
    steps: set[int] = set()
    for position, (name, size) in enumerate(traced.items()):
        bound = bounds.get(name)
        # Another step for each symbol: sizes that agree by chance hide mistakes.
        step = 1 if name in batch else max(2 * position + 1, size // 4)
        step += 1 - step % 2
        alike[name] = _within(size + step, size - step, size, bound)
        while name not in batch and step in steps:
            step += 2
        steps.add(step)
        larger[name] = _within(size + step, size - step, size, bound)
        nearer[name] = _within(size - step, size - 1, size, bound)
        smaller[name] = nearer[name]
        if name in batch and (bound or (1,))[0] == 1:
            smaller[name] = 1
        elif bound is not None and bound[0] > 2:
            smaller[name] = bound[0]
        elif name not in batch:
            smaller[name] = _within(size - step - 1, size - 1, size, bound)
    larger_batch = {n: larger[n] if n in batch else s for n, s in traced.items()}
    only_batch = {n: smaller[n] if n in batch else s for n, s in traced.items()}
    seen: list[dict[str, int]] = [traced]
    for role, group in (
        ("larger", (larger, alike, {**nearer, **_only(larger, batch)}, larger_batch)),
        ("smaller", (smaller, nearer, only_batch)),
    ):
        near = [_satisfying(second, traced, bounds, checks) for second in group]
        found = [s for i, s in enumerate(near) if s not in [*seen, *near[:i]]]
        seen += found
        if found:
            yield [Sizes(traced, second, role) for second in found]
    if not traced:
        yield [Sizes({}, {})]


def _satisfying(
    wanted: dict[str, int],
    traced: Mapping[str, int],
    bounds: Bounds,
    checks: Sequence[Check],
) -> dict[str, int]:
    """The sizes next to `wanted` that satisfy all checks; the traced ones do."""

    def fits(sizes: Mapping[str, int]) -> bool:
        return all(check.holds(sizes) is not False for check in checks)

    if fits(wanted):
        return wanted
    bound = {name for check in checks for name in check.symbols()} & wanted.keys()
    for distance in range(1, _REACH):
        for name in sorted(bound):
            for size in (wanted[name] + distance, wanted[name] - distance):
                low, high = bounds.get(name, (1, None))
                moved = {**wanted, name: size}
                inside = max(low, 2) <= size and (high is None or size <= high)
                if inside and moved != traced and fits(moved):
                    return moved
    kept = {**wanted, **{name: traced[name] for name in bound}}
    return kept if fits(kept) else dict(traced)


def _only(sizes: Mapping[str, int], names: set[str]) -> dict[str, int]:
    return {name: size for name, size in sizes.items() if name in names}


def fresh(
    inputs: Mapping[str, Array], free: Free, sizes: Sizes, *, seed: int
) -> dict[str, Array]:
    """New values of the same kinds in the second sizes.

    Floats are normal with the mean and deviation of the traced ones. Integers stay
    between the smallest and the largest traced one, so that indices stay in their
    table. Masks of two values stay such masks, with both values in each row of theirs, so
    that no row is masked whole.
    """
    rng = np.random.default_rng(seed)
    dims = symbolic(free)
    made = {}
    for name, array in inputs.items():
        shape = list(array.shape)
        for axis, dim in dims.get(name, {}).items():
            size = evaluate(dim, sizes.second)
            if isinstance(size, int):
                shape[axis] = size
        made[name] = _draw(rng, name, array, tuple(shape))
    return made


def _draw(
    rng: np.random.Generator, name: str, array: Array, shape: tuple[int, ...]
) -> Array:
    kind = array.dtype.kind
    values = array.astype(np.float64) if kind not in "biuc" else array
    marks = _marks(name, array, values)
    if marks is not None:
        drawn = _mask(rng, marks, shape, values)
    elif kind == "c":
        drawn = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    elif kind in "iu":
        low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
        drawn = rng.integers(low, high, shape, endpoint=True)
    else:
        finite = values[np.isfinite(values)]
        mean, deviation = (finite.mean(), finite.std()) if finite.size else (0.0, 1.0)
        drawn = rng.standard_normal(shape) * (deviation or 1.0) + mean
    return np.asarray(drawn).astype(array.dtype)


def _marks(name: str, array: Array, values: Array) -> tuple[float, float] | None:
    """The two values of a mask: of booleans, zeros and ones, or 0 and what hides a score."""
    if array.dtype.kind == "b":
        return 0, 1
    if array.dtype.kind == "c":
        return None
    if "mask" in name and bool(np.isin(values, (0, 1)).all()):
        return 0, 1
    if array.dtype.kind in "iu" or not array.size:
        return None
    hidden = values[values <= HIDDEN]
    if hidden.size and bool(((values == 0) | (values == hidden.min())).all()):
        return float(hidden.min()), 0
    return None


#: Scores that are this much smaller are hidden by a mask of floats.
HIDDEN = -1e4


def _mask(
    rng: np.random.Generator,
    marks: tuple[float, float],
    shape: tuple[int, ...],
    traced: Array,
) -> Array:
    """A mask whose rows all have both values: no row is hidden whole, whichever hides."""
    drawn = rng.integers(0, 2, shape)
    if drawn.ndim > 1 and drawn.shape[-1] == 1:
        drawn[...] = np.mean(traced == marks[1]) >= 0.5
    elif drawn.ndim > 1 and drawn.shape[-1] > 0:
        drawn[..., 0] = 1
        drawn[..., 1:2] = 0
    return np.where(drawn == 1, marks[1], marks[0])


def symbolic(free: Free) -> dict[str, dict[int, DimLike]]:
    """The same, with an expression for each name."""
    return {
        name: {
            axis: symbol(dim) if isinstance(dim, str) else dim
            for axis, dim in axes.items()
        }
        for name, axes in free.items()
    }


def sizes_of(inputs: Mapping[str, Array], free: Free) -> dict[str, int]:
    """The size of each symbol, from the axes that are linear in one symbol."""
    sizes: dict[str, int] = {}
    for name, axes in symbolic(free).items():
        for axis, dim in axes.items():
            if name in inputs and (found := _solve(dim, inputs[name].shape[axis])):
                sizes.setdefault(*found)
    return sizes


def _solve(dim: DimLike, size: int) -> tuple[str, int] | None:
    """(symbol, its value) where `dim` is ``a * symbol + b`` and is `size`."""
    if not isinstance(dim, Dim):
        return None
    constant = sum(c for monomial, c in dim.terms if not monomial)
    varying = [(m, c) for m, c in dim.terms if m]
    if len(varying) != 1 or len(varying[0][0]) != 1:
        return None
    ((atom,), coefficient) = varying[0]
    if not isinstance(atom, str) or (size - constant) % coefficient:
        return None
    return atom, (size - constant) // coefficient


def batches(
    traced: Iterable[str], dims: Mapping[str, Mapping[int, DimLike]]
) -> set[str]:
    """Symbols that are sizes of first axes alone."""
    return {name for name in traced if _only_leading(name, dims)}


def _only_leading(name: str, dims: Mapping[str, Mapping[int, DimLike]]) -> bool:
    used = [
        axis
        for axes in dims.values()
        for axis, dim in axes.items()
        if name in symbols(dim)
    ]
    return all(axis == 0 for axis in used)


def _within(
    wanted: int, other: int, size: int, bound: tuple[int, int | None] | None
) -> int:
    """The first of the sizes within the bounds; `size` itself where none is."""
    low, high = bound or (1, None)
    for candidate in (wanted, other, size + 1, size - 1):
        # A size of 1 broadcasts, which hides what this is to find.
        if max(low, 2) <= candidate and (high is None or candidate <= high):
            return candidate
    return size
