"""Reductions over windows: pools."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from jax.extend.core import ClosedJaxpr

from ivyport.core import dtype as dt
from ivyport.core.dims import DimLike, product
from ivyport.core.errors import GraphError
from ivyport.core.ir import Value
from ivyport.core.ops_nn import spatial_axes
from ivyport.core.passes.match import constant
from ivyport.frontends.jax.registry import (
    RULES,
    Found,
    JaxBuilder,
    Key,
    lowers,
)
from ivyport.frontends.jax.rules_array import padded
from ivyport.frontends.jax.rules_reduce import monoid

Pair = tuple[DimLike, DimLike]


@dataclasses.dataclass(frozen=True)
class Window:
    """A window along one axis."""

    size: int
    stride: int
    padding: Pair
    dilation: int

    @property
    def trivial(self) -> bool:
        """Whether it changes nothing."""
        return (self.size, self.stride, self.padding) == (1, 1, (0, 0))


def _pool(op: str, neutral: float) -> Callable[..., Value]:
    def rule(
        b: JaxBuilder,
        x: Value,
        *,
        window_dimensions: Any,
        window_strides: Any,
        padding: Any,
        base_dilation: Any,
        window_dilation: Any,
    ) -> Value:
        x = b.tensor(x)
        if not dt.is_float(x.type.dtype):
            raise GraphError(f"a pool of {x.type.dtype}")
        if any(d != 1 for d in base_dilation):
            config = [(0, 0, int(d) - 1) for d in base_dilation]
            x = padded(b, x, config, neutral)
        pads = [(b.size(lo), b.size(hi)) for lo, hi in padding]
        sizes = (window_dimensions, window_strides, pads, window_dilation)
        windows = [
            Window(int(n), int(s), p, int(d)) for n, s, p, d in zip(*sizes, strict=True)
        ]
        if all(w.trivial for w in windows):
            return x
        return _pooled(b, op, neutral, x, windows)

    return rule


lowers("reduce_window_max")(_pool("max_pool", float("-inf")))
lowers("reduce_window_sum")(_pool("sum_pool", 0.0))
lowers("reduce_window_min")(_pool("min_pool", float("inf")))


@lowers("reduce_window")
def reduce_window(
    b: JaxBuilder, *operands: Found, jaxpr: Any, consts: Any, **window: Any
) -> Value:
    """Windows reduced with a computation and a first value, which is the padding too."""
    if len(operands) != 2 or consts:
        raise GraphError("windows of several operands at once")
    x, first = operands
    if isinstance(first, Key):
        raise GraphError("windows of PRNG keys")
    start = constant(first)
    name = monoid(jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr)
    if name == "add" and start == 0:
        return RULES["reduce_window_sum"](b, x, **window)
    if name not in ("max", "min"):
        raise GraphError(f"windows combined by {name} from {start}")
    found = RULES[f"reduce_window_{name}"](b, x, **window)
    if start == {"max": float("-inf"), "min": float("inf")}[name]:
        return found
    return b.node(f"{name}imum", (found, first), {}).output


def _pooled(
    b: JaxBuilder, op: str, neutral: float, x: Value, windows: list[Window]
) -> Value:
    """Pool in a layout that has all windows in space, or with the others joined to the batch."""
    rank = x.type.rank
    moved = {i for i, w in enumerate(windows) if not w.trivial}
    x, windows = _edged(b, neutral, x, windows)
    for layout in ("channels_last", "channels_first"):
        if 3 <= rank <= 5 and moved <= set(spatial_axes(layout, rank)):
            return _call(
                b, op, x, [windows[a] for a in spatial_axes(layout, rank)], layout
            )
    if len(moved) > 3:
        raise GraphError(f"a pool over {len(moved)} axes")
    space = sorted(moved)
    order = (*(i for i in range(rank) if i not in moved), *space)
    x = b.transpose(x, order)
    kept = x.type.shape[: rank - len(space)]
    x = b.resize(x, (product(kept), 1, *x.type.shape[len(kept) :]))
    y = _call(b, op, x, [windows[a] for a in space], "channels_first")
    y = b.resize(y, (*kept, *y.type.shape[2:]))
    return b.transpose(y, tuple(order.index(i) for i in range(rank)))


def _edged(
    b: JaxBuilder, neutral: float, x: Value, windows: list[Window]
) -> tuple[Value, list[Window]]:
    """Symbolic padding, crops and padding wider than half a window become a `pad`."""

    def plain(w: Window) -> bool:
        half = (w.dilation * (w.size - 1) + 1) // 2
        return all(isinstance(n, int) and 0 <= n <= half for n in w.padding)

    if all(plain(w) for w in windows):
        return x, windows
    config = [(0, 0, 0) if plain(w) else (*w.padding, 0) for w in windows]
    edged = [w if plain(w) else dataclasses.replace(w, padding=(0, 0)) for w in windows]
    return padded(b, x, config, neutral), edged


def _call(
    b: JaxBuilder, op: str, x: Value, windows: list[Window], layout: str
) -> Value:
    attrs: dict[str, Any] = {
        "kernel": tuple(w.size for w in windows),
        "stride": tuple(w.stride for w in windows),
        "padding": tuple(w.padding for w in windows),
        "layout": layout,
    }
    dilation = tuple(w.dilation for w in windows)
    if op == "sum_pool":
        if any(d != 1 for d in dilation):
            raise GraphError(f"a sum over windows with dilation {dilation}")
        return b.sum_pool(x, **attrs)
    if op == "min_pool":
        return b.negative(b.max_pool(b.negative(x), dilation=dilation, **attrs))
    return b.max_pool(x, dilation=dilation, **attrs)
