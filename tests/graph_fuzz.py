"""Random graphs, for passes and emitters that must keep values whatever they are given."""

from __future__ import annotations

from typing import Any

import numpy as np

from ivyport.core.dims import product, symbol
from ivyport.core.ir import Graph, NewAxis, Slice, Value
from ivyport.core.passes.layout import inverse
from tests.graph_run import Draft

B, S = symbol("B"), symbol("S")
FULL = Slice()


class Fuzz:
    """A random graph on rank-4 tensors, whose axes keep being permuted and merged."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.b = Draft()
        free = [B, 2, 3, 4] if seed % 2 else [B, S, 3, 4]
        self.live = [self.b.input("x", *free), self.b.input("y", *free)]
        self.count = 0

    def pick(self, *items: Any) -> Any:
        return items[int(self.rng.integers(len(items)))]

    def any(self, rank: int | None = None) -> Value:
        """A live value, the latest more often."""
        values = [v for v in self.live if rank is None or v.type.rank == rank]
        back = min(int(self.rng.geometric(0.5)), len(values))
        return values[-back]

    def permute(self, x: Value) -> Value:
        axes = tuple(map(int, self.rng.permutation(x.type.rank)))
        return self.b.permute_dims(x, axes=axes)

    def unary(self, x: Value) -> Value:
        return self.pick(
            self.b.tanh, self.b.sigmoid, self.b.negative,
            lambda y: self.b.add(y, 0.5), lambda y: self.b.dropout(y, rate=0.3),
            lambda y: self.b.maximum(-0.25, y), lambda y: self.b.gelu(y, approximate=False),
        )(x)  # fmt: skip

    def binary(self, x: Value) -> Value:
        """With a permuted other value of the shape, or a part that broadcasts."""
        others = [v for v in self.live if sorted(map(str, v.type.shape)) == sorted(
            map(str, x.type.shape))]  # fmt: skip
        other = self.pick(*others)
        for _ in range(30):
            if other.type.shape == x.type.shape:
                break
            other = self.permute(other)
        else:
            other = x
        kind = self.pick("same", "keep", "drop", "rank")
        rank = x.type.rank
        if kind == "keep":
            axis = int(self.rng.integers(rank))
            other = self.b.mean(other, axis=(axis,), keepdims=True)
        elif kind == "drop" and rank > 1:
            other = self.b.max(other, axis=(0,), keepdims=False)
        elif kind == "rank":
            index = (NewAxis(), *[FULL] * rank)
            other = self.b.getitem(other, index=index)
            other = self.b.getitem(other, index=(0,))
        pair = (x, other) if self.pick(True, False) else (other, x)
        return self.pick(self.b.add, self.b.multiply, self.b.subtract, self.b.minimum)(
            *pair
        )

    def choose(self, x: Value) -> Value:
        mask = self.b.greater(self.permute_like(x), 0.0)
        return self.b.where(mask, x, self.pick(0.5, x, self.b.tanh(x)))

    def permute_like(self, x: Value) -> Value:
        """The same shape by way of two permutations."""
        axes = tuple(map(int, self.rng.permutation(x.type.rank)))
        y = self.b.tanh(self.b.permute_dims(x, axes=axes))
        return self.b.permute_dims(y, axes=inverse(axes))

    def reduce(self, x: Value) -> Value:
        if x.type.rank < 3:
            return x
        count = int(self.rng.integers(1, 3))
        axes = self.rng.permutation(x.type.rank)[:count] - self.pick(0, x.type.rank)
        op = self.pick(self.b.sum, self.b.mean, self.b.max, self.b.var)
        return op(x, axis=tuple(map(int, axes)), keepdims=self.pick(True, False))

    def softmax(self, x: Value) -> Value:
        rank = x.type.rank
        op = self.pick(self.b.softmax, self.b.log_softmax)
        return op(x, axis=int(self.rng.integers(-rank, rank)))

    def join(self, x: Value) -> Value:
        axis = int(self.rng.integers(x.type.rank))
        others = [v for v in self.live if v.type == x.type]
        return self.b.concat(x, self.pick(*others, self.b.tanh(x)), axis=axis)

    def cut(self, x: Value) -> Value:
        items: list[Any] = [FULL] * x.type.rank
        for axis, size in enumerate(x.type.shape):
            if isinstance(size, int) and size > 1:
                items[axis] = self.pick(FULL, FULL, Slice(1, None), Slice(0, size - 1))
        if x.type.rank > 2 and self.pick(True, False, False):
            axis = int(self.rng.integers(x.type.rank))
            items[axis] = 0
        if self.pick(True, False, False):
            items.insert(int(self.rng.integers(len(items))), NewAxis())
        return self.b.getitem(x, index=tuple(items))

    def reshape(self, x: Value) -> Value:
        """Merge two neighbours, or split one axis."""
        shape = list(x.type.shape)
        axis = int(self.rng.integers(len(shape)))
        size = shape[axis]
        if self.pick(True, False) and axis + 1 < len(shape):
            shape[axis : axis + 2] = [product(shape[axis : axis + 2])]
        elif isinstance(size, int) and size % 2 == 0:
            shape[axis : axis + 1] = self.pick([2, size // 2], [size // 2, 2])
        else:
            shape.insert(axis, 1)
        return self.b.reshape(x, shape=tuple(shape))

    def pad(self, x: Value) -> Value:
        amounts = tuple(
            (self.pick(0, 0, 1), self.pick(0, 0, 2)) for _ in range(x.type.rank)
        )
        return self.b.pad(x, padding=amounts, value=self.pick(0.0, 1.5))

    def norm(self, x: Value) -> Value:
        width = x.type.shape[-1]
        if not isinstance(width, int):
            return self.b.layer_norm(x, None, None, axis=(-1,), eps=1e-2)
        self.count += 1
        scale = self.b.param(f"scale{self.count}", width)
        return self.b.layer_norm(x, scale, None, axis=(-1,), eps=1e-2)

    def widen(self, x: Value) -> Value:
        y = self.b.mean(x, axis=(self.pick(0, 1),), keepdims=True)
        return self.b.broadcast_to(y, shape=x.type.shape)

    def convolve(self, x: Value) -> Value:
        """Of what is (N, C, H, W) with a static C."""
        channels = x.type.shape[1] if x.type.rank == 4 else None
        if not isinstance(channels, int):
            return x
        self.count += 1
        weight = self.b.param(f"w{self.count}", self.pick(2, channels), channels, 1, 1)
        padding = ((0, 0), (0, 0))
        return self.b.conv(
            x, weight, None, stride=(1, 1), padding=padding, dilation=(1, 1)
        )

    def attend(self, x: Value) -> Value:
        if x.type.rank != 4 or not isinstance(x.type.shape[-1], int):
            return x
        return self.b.attention(x, self.permute_like(x), self.b.tanh(x), None)

    def graph(self, length: int) -> Graph:
        steps = [
            self.permute, self.permute, self.permute, self.unary, self.binary,
            self.binary, self.choose, self.reduce, self.softmax, self.join, self.cut,
            self.reshape, self.reshape, self.pad, self.norm, self.widen, self.convolve,
            self.attend,
        ]  # fmt: skip
        for _ in range(length):
            made = self.pick(*steps)(self.any())
            size = sum(isinstance(d, int) for d in made.type.shape)
            small = product(d for d in made.type.shape if isinstance(d, int)) < 600
            if small and 1 < made.type.rank < 7 and size > 0:
                self.live.append(made)
        outputs = [self.live[-1], self.any(), self.any()]
        return self.b.graph(outputs)
