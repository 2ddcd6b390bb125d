"""Convolutions: any order of axes; a dilated input is a transposed convolution."""

from __future__ import annotations

from typing import Any

from ivyport.core.dims import DimLike
from ivyport.core.errors import GraphError
from ivyport.core.ir import Slice, Value
from ivyport.core.ops_nn import spatial_axes
from ivyport.frontends.jax.registry import JaxBuilder, lowers
from ivyport.frontends.jax.sizes import dtype_name

Pads = tuple[tuple[DimLike, DimLike], ...]


@lowers("conv_general_dilated")
def conv_general_dilated(
    b: JaxBuilder,
    x: Value,
    weight: Value,
    *,
    window_strides: Any,
    padding: Any,
    lhs_dilation: Any,
    rhs_dilation: Any,
    dimension_numbers: Any,
    feature_group_count: int,
    batch_group_count: int,
    precision: Any,
    preferred_element_type: Any,
) -> Value:
    """Specs are the axes of (batch, channels, *space), or (out, in, *space) of the weight."""
    if batch_group_count != 1:
        raise GraphError(f"batch_group_count={batch_group_count} is not supported")
    if not 1 <= b.tensor(x).type.rank - 2 <= 3:
        raise GraphError(f"a convolution over {b.tensor(x).type.rank - 2} axes")
    wanted = (
        b.out.dtype
        if preferred_element_type is None
        else dtype_name(preferred_element_type)
    )
    x, weight = b.cast(b.tensor(x), wanted), b.cast(b.tensor(weight, 1), wanted)
    x, layout = _canonical(b, x, dimension_numbers.lhs_spec)
    weight = b.transpose(weight, _ints(dimension_numbers.rhs_spec))
    pads: Pads = tuple((b.size(lo), b.size(hi)) for lo, hi in padding)
    stride, spread = _ints(window_strides), _ints(lhs_dilation)
    dilation, groups = _ints(rhs_dilation), int(feature_group_count)
    if all(s == 1 for s in spread):
        x, edges = _fixed_edges(b, x, pads, layout)
        y = b.conv(
            x, weight, None, stride=stride, padding=edges, dilation=dilation,
            groups=groups, layout=layout,
        )  # fmt: skip
    else:
        y = _transposed(b, x, weight, spread, pads, dilation, groups, layout)
        y = _strided(b, y, stride, layout)
    return b.cast(_restored(b, y, layout, dimension_numbers.out_spec), b.out.dtype)


def _ints(items: Any) -> tuple[int, ...]:
    return tuple(int(i) for i in items)


def _canonical(b: JaxBuilder, x: Value, spec: Any) -> tuple[Value, str]:
    """x in a layout that the graph knows; channels last if it is that."""
    rank = x.type.rank
    if _ints(spec) == (0, rank - 1, *range(1, rank - 1)):
        return x, "channels_last"
    return b.transpose(x, _ints(spec)), "channels_first"


def _restored(b: JaxBuilder, y: Value, layout: str, spec: Any) -> Value:
    rank = y.type.rank
    last = layout == "channels_last"
    place = (0, rank - 1, *range(1, rank - 1)) if last else tuple(range(rank))
    axes = [0] * rank
    for ours, theirs in zip(place, _ints(spec), strict=True):
        axes[theirs] = ours
    return b.transpose(y, tuple(axes))


def _fixed_edges(b: JaxBuilder, x: Value, pads: Pads, layout: str) -> tuple[Value, Any]:
    """Padding for the convolution itself; crops and symbolic amounts are a `pad` before it."""
    if all(isinstance(n, int) and n >= 0 for pair in pads for n in pair):
        return x, pads
    return _edged(b, x, pads, layout), ((0, 0),) * len(pads)


def _edged(b: JaxBuilder, x: Value, pads: Pads, layout: str) -> Value:
    """x with zeros around space, or cropped where the amounts are negative."""
    amounts: list[tuple[DimLike, DimLike]] = [(0, 0)] * x.type.rank
    for axis, pair in zip(spatial_axes(layout, x.type.rank), pads, strict=True):
        amounts[axis] = pair
    if all(pair == (0, 0) for pair in amounts):
        return x
    return b.pad(x, padding=tuple(amounts), mode="constant", value=0.0)


def _transposed(
    b: JaxBuilder,
    x: Value,
    weight: Value,
    spread: tuple[int, ...],
    pads: Pads,
    dilation: tuple[int, ...],
    groups: int,
    layout: str,
) -> Value:
    """The convolution of an input that has ``spread - 1`` zeros between its elements.

    `conv_transpose` with padding p is one whose edges are ``dilation * (kernel - 1) - p`` on both
    sides; what that gives too much is cut off, what it gives too little is zeros.
    """
    kernel = weight.type.shape[2:]
    padding, output_padding, crops = [], [], []
    for (lo, hi), k, d, s in zip(pads, kernel, dilation, spread, strict=True):
        if not (isinstance(lo, int) and isinstance(hi, int) and isinstance(k, int)):
            raise GraphError("a transposed convolution with symbolic padding")
        reach = d * (k - 1)
        extra = hi - lo if 0 < hi - lo < s and lo <= reach else 0
        edge = min(reach, max(lo, hi - extra))
        padding.append(reach - edge)
        output_padding.append(extra)
        crops.append((lo - edge, hi - extra - edge))
    y = b.conv_transpose(
        x, _flipped(b, weight, groups), None, stride=spread, padding=tuple(padding),
        output_padding=tuple(output_padding), dilation=dilation, groups=groups,
        layout=layout,
    )  # fmt: skip
    return _edged(b, y, tuple(crops), layout)


def _flipped(b: JaxBuilder, weight: Value, groups: int) -> Value:
    """(out, in / groups, *kernel) as `conv_transpose` has it: (in, out / groups, *kernel)."""
    rank = weight.type.rank
    weight = b.flip(weight, axis=tuple(range(2, rank)))
    swapped = (1, 0, *range(2, rank))
    if groups == 1:
        return b.transpose(weight, swapped)
    out, inner, *kernel = weight.type.shape
    weight = b.reshape(weight, shape=(groups, out // groups, inner, *kernel))
    weight = b.transpose(weight, (0, 2, 1, *range(3, rank + 1)))
    return b.reshape(weight, shape=(groups * inner, out // groups, *kernel))


def _strided(b: JaxBuilder, y: Value, stride: tuple[int, ...], layout: str) -> Value:
    if all(s == 1 for s in stride):
        return y
    index = [Slice()] * y.type.rank
    for axis, step in zip(spatial_axes(layout, y.type.rank), stride, strict=True):
        index[axis] = Slice(None, None, step)
    return b.getitem(y, index=tuple(index))
