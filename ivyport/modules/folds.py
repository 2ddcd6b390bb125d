"""The folds of a parameter as transforms of a weight map (see `core.ir.Param.folds`)."""

from __future__ import annotations

from typing import Any

from ivyport.core.errors import GraphError
from ivyport.core.ir import Param
from ivyport.weights.transform import Flip, Permute, Reshape, Slice, Transform

Shape = tuple[int, ...]
Fold = tuple[Any, ...]


def transforms(param: Param) -> tuple[Transform, ...]:
    """What leads from the source's tensor to the one that the graph knows.

    Raises `GraphError` for a fold of no known kind (a defect).
    """
    # Folds are read backwards: the last one gives the type, which has static sizes.
    shape = tuple(int(d) for d in param.type.shape)  # type: ignore[arg-type]  # weights have no symbols
    found: list[Transform] = []
    pending = _selects_first(list(param.folds))
    while pending:
        fold = pending.pop()
        if fold[0] == "select":
            selects = [fold]
            while pending and pending[-1][0] == "select":
                selects.insert(0, pending.pop())
            made, shape = _select(selects, shape)
        else:
            made, shape = _transform(fold, shape)
        found[:0] = made
    return tuple(found)


def _selects_first(folds: list[Fold]) -> list[Fold]:
    """The same steps with later selections moved up to the first, past permutations.

    A weight map wants the slices of a row beside each other.
    """
    done: list[Fold] = []
    for fold in folds:
        place = len(done)
        moved = fold
        selected = any(f[0] == "select" for f in done)
        while selected and moved[0] == "select" and done[place - 1][0] != "select":
            kind, *rest = done[place - 1]
            if kind != "permute_dims":
                raise GraphError(f"a selection after {kind!r} of a selection")
            _, axis, index = moved
            (axes,) = rest
            left = [a for i, a in enumerate(axes) if i != axis]
            ranks = tuple(sorted(left).index(a) for a in left)
            done[place - 1] = ("permute_dims", ranks)
            moved = ("select", axes[axis], index)
            place -= 1
        done.insert(place, moved)
    return done


def _select(selects: list[Fold], shape: Shape) -> tuple[list[Transform], Shape]:
    """One item along each of some axes, and the shape before with 1 in their places.

    How long these axes are is not needed: the rows of all parts tile them.
    """
    axes = list(range(len(shape) + len(selects)))
    slices: list[Transform] = []
    for _, axis, index in selects:
        slices.append(Slice(axes.pop(axis), index, index + 1))
    sizes = dict(zip(axes, shape, strict=True))
    kept = tuple(sizes.get(a, 1) for a in range(len(shape) + len(selects)))
    return [*slices, Reshape(kept, shape)], kept


def _transform(fold: Fold, shape: Shape) -> tuple[list[Transform], Shape]:
    """Transforms of one fold whose result has `shape`, and the shape before it."""
    kind, *rest = fold
    if kind == "permute_dims":
        permute = Permute(tuple(rest[0]))
        return [permute], permute.inverse().shape(shape)
    if kind == "reshape":
        before, after = (tuple(map(int, s)) for s in rest)
        return [Reshape(before, after)], before
    if kind == "flip":
        return [Flip(tuple(rest[0]))], shape
    raise GraphError(f"unknown fold {fold!r}")
