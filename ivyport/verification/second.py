"""Fresh inputs of other sizes, where the trace left sizes free.

A batch size or a sequence length that the port has baked in shows only here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from ivyport.core.dims import Dim, DimLike, evaluate, symbol, symbols
from ivyport.verification.compare import Array

#: Axes by input, each a symbol's name or an expression of symbols.
Free = Mapping[str, Mapping[int, DimLike | str]]
#: Smallest and largest size by symbol; None is unbounded.
Bounds = Mapping[str, tuple[int, int | None]]


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes by symbol: of the traced inputs and of second ones."""

    traced: Mapping[str, int]
    second: Mapping[str, int]

    def text(self) -> str:
        """The second sizes: ``batch 3, seq 10``."""
        return ", ".join(f"{name} {size}" for name, size in self.second.items())


def plans(inputs: Mapping[str, Array], free: Free, bounds: Bounds) -> Iterator[Sizes]:
    """Sizes to try, best first: larger ones, smaller ones, then only the batch.

    A source may have limits that its trace does not show (a table of positions), so
    that the caller takes the first plan that the source accepts.
    """
    dims = _dims(free)
    traced = sizes_of(inputs, free)
    if not traced:
        yield Sizes({}, {})
        return
    batch = {name for name in traced if _only_leading(name, dims)}
    larger, smaller = dict(traced), dict(traced)
    for position, (name, size) in enumerate(traced.items()):
        # Another step for each symbol: sizes that agree by chance hide mistakes.
        step = 1 if name in batch else max(2 * position + 1, size // 4)
        larger[name] = _within(size + step, size - step, size, bounds.get(name))
        smaller[name] = _within(size - step, size - 1, size, bounds.get(name))
    only_batch = {n: larger[n] if n in batch else s for n, s in traced.items()}
    seen: list[dict[str, int]] = [traced]
    for second in (larger, smaller, only_batch):
        if second not in seen:
            seen.append(second)
            yield Sizes(traced, second)


def fresh(
    inputs: Mapping[str, Array], free: Free, sizes: Sizes, *, seed: int
) -> dict[str, Array]:
    """New values of the same kinds in the second sizes.

    Floats are normal with the mean and deviation of the traced ones. Integers stay
    between the smallest and the largest traced one, so that indices stay in their
    table. Masks of zeros and ones stay such masks, and keep their first column, so that
    no row is masked whole.
    """
    rng = np.random.default_rng(seed)
    dims = _dims(free)
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
    is_mask = kind == "b" or ("mask" in name and bool(np.isin(values, (0, 1)).all()))
    if kind == "c":
        drawn = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    elif is_mask:
        drawn = rng.integers(0, 2, shape)
        if drawn.ndim > 1:
            drawn[:, 0] = 1
    elif kind in "iu":
        low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
        drawn = rng.integers(low, high, shape, endpoint=True)
    else:
        mean, deviation = (values.mean(), values.std()) if array.size else (0.0, 1.0)
        drawn = rng.standard_normal(shape) * (deviation or 1.0) + mean
    return np.asarray(drawn).astype(array.dtype)


def _dims(free: Free) -> dict[str, dict[int, DimLike]]:
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
    for name, axes in _dims(free).items():
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
