"""Products of two tensors with their axes named: `matmul` and `einsum` read alike.

Axes that both operands share have one letter; an axis of size one that broadcasts has none.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ivyport.core.build import Builder
from ivyport.core.dims import DimLike, product
from ivyport.core.ir import Node, Value
from ivyport.core.passes.match import view

Labels = tuple[str | None, ...]


@dataclasses.dataclass(frozen=True)
class Labelled:
    """A tensor and the letters of its axes; None is an axis of size one without a letter."""

    value: Value
    labels: Labels

    @property
    def letters(self) -> set[str]:
        """Letters of the axes."""
        return {a for a in self.labels if a is not None}

    def size(self, letter: str) -> DimLike:
        """Size of the axis with that letter."""
        return self.value.type.shape[self.labels.index(letter)]

    def behind(self, through: tuple[str, ...] = ()) -> Labelled:
        """The tensor behind transposes and axes of size one.

        An axis that a broadcast repeats stays where it is: the result has every letter.
        """
        seen = view(self.value, through=through)
        labels: list[str | None] = [None] * seen.base.type.rank
        for letter, axis in zip(self.labels, seen.axes, strict=True):
            if axis is not None:
                labels[axis] = letter
        found = Labelled(seen.base, tuple(labels))
        return found if found.letters == self.letters and seen.whole else self

    def renamed(self, names: dict[str, str]) -> Labelled:
        """With other letters; those that `names` lacks stay."""
        labels = (None if a is None else names.get(a, a) for a in self.labels)
        return Labelled(self.value, tuple(labels))


@dataclasses.dataclass(frozen=True)
class Contraction:
    """``left * right`` summed over the letters that `result` lacks."""

    left: Labelled
    right: Labelled
    result: Labelled


def contraction(node: Node | None, *, units: bool = True) -> Contraction | None:
    """Read a `matmul` or an `einsum` of two operands.

    Without `units` axes of size one have no letter at all.
    """
    if node is None or node.op not in ("matmul", "einsum") or len(node.inputs) != 2:
        return None
    x, y = node.inputs
    if not isinstance(x, Value) or not isinstance(y, Value):
        return None
    if node.op == "einsum":
        left, _, out = node.attrs["equation"].partition("->")
        one, _, other = left.partition(",")
    else:
        if x.type.rank < 2 or y.type.rank < 2:
            return None
        one, other, out = _matmul(x.type.rank, y.type.rank)
    if any(len(set(term)) != len(term) for term in (one, other, out)):
        return None
    terms = (_unit(x, one, y, other), _unit(y, other, x, one))
    letters = terms[0].letters | terms[1].letters
    labels = tuple(a if a in letters else None for a in out)
    sizes = node.output.type.shape
    if any(a is None and d != 1 for a, d in zip(labels, sizes, strict=True)):
        return None
    found = Contraction(*terms, Labelled(node.output, labels))
    if units:
        return found
    return Contraction(*map(unitless, (found.left, found.right, found.result)))


def unitless(item: Labelled) -> Labelled:
    """Without letters for axes of size one."""
    sizes = zip(item.value.type.shape, item.labels, strict=True)
    return Labelled(item.value, tuple(None if d == 1 else a for d, a in sizes))


def _matmul(left: int, right: int) -> tuple[str, str, str]:
    batch = "abcdefghijklmnopqrstuvw"[: max(left, right) - 2]
    one = batch[len(batch) - left + 2 :] + "xy"
    other = batch[len(batch) - right + 2 :] + "yz"
    return one, other, batch + "xz"


def _unit(x: Value, term: str, y: Value, others: str) -> Labelled:
    """An axis of size one has no letter where the other operand's axis is longer."""
    labels: list[str | None] = list(term)
    for axis, letter in enumerate(term):
        if x.type.shape[axis] != 1 or letter not in others:
            continue
        if y.type.shape[others.index(letter)] != 1:
            labels[axis] = None
    return Labelled(x, tuple(labels))


def arranged(b: Builder, item: Labelled, order: str) -> Value:
    """The tensor with its axes in that order; axes that it lacks are of size one."""
    kept = [a for a in item.labels if a is not None]
    wanted = [a for a in order if a in kept]
    base = item.value
    if len(kept) != base.type.rank:
        sizes = zip(base.type.shape, item.labels, strict=True)
        base = b.resize(base, tuple(d for d, a in sizes if a is not None))
    turned = b.transpose(base, tuple(kept.index(a) for a in wanted))
    sizes_of = dict(zip(wanted, turned.type.shape, strict=True))
    return b.resize(turned, tuple(sizes_of.get(a, 1) for a in order))


def merged(b: Builder, item: Labelled, groups: list[str]) -> Value:
    """The tensor with one axis for each group of letters; an empty group is of size one."""
    if [a or "" for a in item.labels] == groups:
        return item.value
    flat = arranged(b, item, "".join(groups))
    sizes = dict(zip("".join(groups), flat.type.shape, strict=True))
    return b.resize(flat, tuple(product(sizes[a] for a in g) for g in groups))


def placed(
    b: Builder, value: Value, groups: list[str], like: Labelled, sizes: Any
) -> Value:
    """The inverse of `merged`: a tensor with one axis a group as the labels of `like`."""
    letters = "".join(groups)
    split = b.resize(value, tuple(sizes[a] for a in letters))
    kept = [a for a in like.labels if a is not None]
    axes = tuple(letters.index(a) for a in kept)
    dropped = [i for i in range(len(letters)) if i not in axes]
    if dropped:
        left = [i for i in range(len(letters)) if i in axes]
        split = b.resize(split, tuple(split.type.shape[i] for i in left))
        axes = tuple(left.index(i) for i in axes)
    return b.resize(b.transpose(split, axes), like.value.type.shape)
