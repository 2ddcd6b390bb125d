"""Reshapes of permuted tensors: which axes a reshape merges and splits."""

from __future__ import annotations

from ivyport.core.dims import DimLike

Shape = tuple[DimLike, ...]


def groups(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]] | None:
    """Axes of `old` and `new` in corresponding groups of equal product.

    >>> groups((2, 3, 4, 5), (2, 3, 20))
    [([0], [0]), ([1], [1]), ([2, 3], [2])]
    """
    result: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        left, right = [], []
        a: DimLike = 1
        b: DimLike = 1
        if i < len(old):
            left.append(i)
            a, i = old[i], i + 1
        if j < len(new):
            right.append(j)
            b, j = new[j], j + 1
        while a != b:
            grow_left = _smaller(a, b) and i < len(old)
            if not grow_left and j >= len(new):
                if i >= len(old):
                    return None
                grow_left = True
            if grow_left:
                left.append(i)
                a, i = a * old[i], i + 1
            else:
                right.append(j)
                b, j = b * new[j], j + 1
        result.append((left, right))
    return result


def _smaller(a: DimLike, b: DimLike) -> bool:
    """Whether `a` must still grow: `b` is a multiple of it."""
    if isinstance(a, int) and isinstance(b, int):
        return a < b
    return (b // a) * a == b if a != 0 else False


def regroup(
    old: Shape, new: Shape, perm: tuple[int, ...]
) -> tuple[Shape, tuple[int, ...]] | None:
    """How to reshape the base of ``old = permute_dims(base, perm)`` into `new`.

    Returns the base's new shape and the permutation that leads from it to `new`; None if a
    group of merged axes is not adjacent and in order in the base.
    """
    found = groups(old, new)
    if found is None or any(not left for left, _ in found):
        return None
    for left, _ in found:
        axes = [perm[a] for a in left]
        if axes != list(range(axes[0], axes[0] + len(axes))):
            return None
    order = sorted(found, key=lambda g: perm[g[0][0]])
    flat = [j for _, right in order for j in right]
    shape = tuple(new[j] for j in flat)
    return shape, tuple(flat.index(j) for j in range(len(new)))
