"""Convolutions, pooling and resizing of torch; images are channels first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import torch

from ivyport.core.build import Builder
from ivyport.core.dims import DimLike
from ivyport.core.errors import GraphError
from ivyport.core.ir import NewAxis, Value
from ivyport.core.ops_nn import Pads
from ivyport.frontends.torch.registry import lowers

aten = torch.ops.aten

Ints = int | Sequence[int]


def sizes_of(value: Ints, count: int) -> tuple[int, ...]:
    """A number for each spatial axis; torch lets one stand for all.

    >>> sizes_of(3, 2), sizes_of([3], 2), sizes_of([3, 5], 2)
    ((3, 3), (3, 3), (3, 5))
    """
    items = (value,) if isinstance(value, int) else tuple(value)
    return items * count if len(items) == 1 else items


def both_sides(padding: Sequence[int]) -> Pads:
    """The same padding before and after."""
    return tuple((p, p) for p in padding)


def batched(
    b: Builder, x: Value, spatial: int, apply: Callable[[Value], Value]
) -> Value:
    """`apply` of x with a batch axis, which is added and dropped where x has none."""
    if x.type.rank == spatial + 2:
        return apply(x)
    result = apply(b.getitem(x, index=(NewAxis(),)))
    return b.getitem(result, index=(0,))


# Convolutions.


def convolved(
    b: Builder,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Ints,
    padding: Ints | str,
    dilation: Ints,
    groups: int,
) -> Value:
    """A convolution with explicit padding, `same` and `valid` spelled out."""
    spatial = weight.type.rank - 2
    steps, spread = sizes_of(stride, spatial), sizes_of(dilation, spatial)
    if isinstance(padding, str):
        pads = _named_padding(padding, weight, spread)
    else:
        pads = both_sides(sizes_of(padding, spatial))
    attrs: dict[str, Any] = {
        "stride": steps,
        "padding": pads,
        "dilation": spread,
        "groups": groups,
    }
    return batched(b, x, spatial, lambda v: b.conv(v, weight, bias, **attrs))


def _named_padding(name: str, weight: Value, dilation: tuple[int, ...]) -> Pads:
    kernel = weight.type.shape[2:]
    if name == "valid":
        return ((0, 0),) * len(kernel)
    if name != "same":
        raise GraphError(f"convolution padding {name!r}: 'same' or 'valid' is due")
    pads: list[tuple[int, int]] = []
    for size, step in zip(kernel, dilation, strict=True):
        assert isinstance(size, int)
        total = step * (size - 1)
        # torch puts the odd one after.
        pads.append((total // 2, total - total // 2))
    return tuple(pads)


for _n in (1, 2, 3):
    _packet = getattr(aten, f"conv{_n}d")

    @lowers(_packet.default, _packet.padding)
    def conv(
        b: Builder,
        input: Value,
        weight: Value,
        bias: Value | None = None,
        stride: Ints = 1,
        padding: Ints | str = 0,
        dilation: Ints = 1,
        groups: int = 1,
    ) -> Value:
        """Convolution."""
        return convolved(b, input, weight, bias, stride, padding, dilation, groups)


@lowers(
    aten.conv_transpose1d.default,
    aten.conv_transpose2d.input,
    aten.conv_transpose3d.input,
)
def conv_transpose(
    b: Builder,
    input: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
) -> Value:
    """Transposed convolution."""
    spatial = weight.type.rank - 2
    attrs: dict[str, Any] = {
        "stride": sizes_of(stride, spatial),
        "padding": sizes_of(padding, spatial),
        "output_padding": sizes_of(output_padding, spatial),
        "dilation": sizes_of(dilation, spatial),
        "groups": groups,
    }
    return batched(
        b, input, spatial, lambda v: b.conv_transpose(v, weight, bias, **attrs)
    )


@lowers(aten.convolution.default)
def convolution(
    b: Builder,
    input: Value,
    weight: Value,
    bias: Value | None,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    transposed: bool,
    output_padding: Ints,
    groups: int,
) -> Value:
    """Convolution, transposed or not."""
    if transposed:
        return conv_transpose(
            b, input, weight, bias, stride, padding, output_padding, groups, dilation
        )
    return convolved(b, input, weight, bias, stride, padding, dilation, groups)


@lowers(aten.im2col.default)
def im2col(
    b: Builder,
    input: Value,
    kernel_size: Ints,
    dilation: Ints,
    padding: Ints,
    stride: Ints,
) -> Value:
    """Patches as columns."""
    attrs: dict[str, Any] = {
        "kernel": sizes_of(kernel_size, 2),
        "stride": sizes_of(stride, 2),
        "padding": sizes_of(padding, 2),
        "dilation": sizes_of(dilation, 2),
    }
    return batched(b, input, 2, lambda v: b.unfold(v, **attrs))


# Pooling.


def _max_pool(spatial: int) -> Callable[..., Value]:
    def rule(
        b: Builder,
        input: Value,
        kernel_size: Ints,
        stride: Ints = (),
        padding: Ints = 0,
        dilation: Ints = 1,
        ceil_mode: bool = False,
    ) -> Value:
        kernel = sizes_of(kernel_size, spatial)
        attrs: dict[str, Any] = {
            "kernel": kernel,
            "stride": sizes_of(stride, spatial) or kernel,
            "padding": both_sides(sizes_of(padding, spatial)),
            "dilation": sizes_of(dilation, spatial),
            "ceil_mode": ceil_mode,
        }
        return batched(b, input, spatial, lambda v: b.max_pool(v, **attrs))

    return rule


def _avg_pool(spatial: int) -> Callable[..., Value]:
    def rule(
        b: Builder,
        input: Value,
        kernel_size: Ints,
        stride: Ints = (),
        padding: Ints = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Value:
        kernel = sizes_of(kernel_size, spatial)
        attrs: dict[str, Any] = {
            "kernel": kernel,
            "stride": sizes_of(stride, spatial) or kernel,
            "padding": both_sides(sizes_of(padding, spatial)),
            "ceil_mode": ceil_mode,
            "count_include_pad": count_include_pad or divisor_override is not None,
        }
        pooled = batched(b, input, spatial, lambda v: b.avg_pool(v, **attrs))
        if divisor_override is None:
            return pooled
        if ceil_mode:
            raise GraphError("avg_pool with divisor_override and ceil_mode at once")
        size = 1
        for length in kernel:
            size *= length
        return b.multiply(pooled, size / divisor_override)

    return rule


def _adaptive_avg(spatial: int) -> Callable[..., Value]:
    def rule(b: Builder, input: Value, output_size: Ints) -> Value:
        size = sizes_of(output_size, spatial)
        return batched(
            b, input, spatial, lambda v: b.adaptive_avg_pool(v, output_size=size)
        )

    return rule


def _adaptive_max(spatial: int) -> Callable[..., tuple[Value, Value | None]]:
    def rule(b: Builder, input: Value, output_size: Ints) -> tuple[Value, Value | None]:
        size = sizes_of(output_size, spatial)
        space = input.type.shape[-spatial:]
        if all(s == 1 for s in size):
            lead = input.type.shape[:-spatial]
            flat = b.reshape(input, shape=(*lead, -1))
            place = b.argmax(flat, axis=-1)
            peak = b.max(flat, axis=(-1,), first=True)
            return tuple(b.reshape(v, shape=(*lead, *size)) for v in (peak, place))
        kernel = _even_windows(space, size)
        attrs: dict[str, Any] = {
            "kernel": kernel,
            "stride": kernel,
            "padding": ((0, 0),) * spatial,
            "dilation": (1,) * spatial,
        }
        return batched(b, input, spatial, lambda v: b.max_pool(v, **attrs)), None

    return rule


def _even_windows(space: tuple[DimLike, ...], size: tuple[int, ...]) -> tuple[int, ...]:
    kernel = []
    for length, count in zip(space, size, strict=True):
        if not isinstance(length, int) or length % count:
            raise GraphError(
                f"adaptive_max_pool of {space} to {size}: windows of one size are due"
            )
        kernel.append(length // count)
    return tuple(kernel)


for _n in (1, 2, 3):
    lowers(getattr(aten, f"max_pool{_n}d").default)(_max_pool(_n))
    lowers(getattr(aten, f"avg_pool{_n}d").default)(_avg_pool(_n))
    lowers(getattr(aten, f"adaptive_avg_pool{_n}d").default)(_adaptive_avg(_n))
    lowers(getattr(aten, f"adaptive_max_pool{_n}d").default)(_adaptive_max(_n))


# Resizing.

RESIZES = {
    aten.upsample_nearest1d.vec: ("nearest", False),
    aten.upsample_nearest2d.vec: ("nearest", False),
    aten.upsample_nearest3d.vec: ("nearest", False),
    aten._upsample_nearest_exact1d.vec: ("nearest-exact", False),
    aten._upsample_nearest_exact2d.vec: ("nearest-exact", False),
    aten._upsample_nearest_exact3d.vec: ("nearest-exact", False),
    aten.upsample_linear1d.vec: ("linear", False),
    aten.upsample_bilinear2d.vec: ("linear", False),
    aten.upsample_trilinear3d.vec: ("linear", False),
    aten.upsample_bicubic2d.vec: ("cubic", False),
    aten._upsample_bilinear2d_aa.vec: ("linear", True),
    aten._upsample_bicubic2d_aa.vec: ("cubic", True),
}


def _resize(mode: str, antialias: bool) -> Callable[..., Value]:
    def rule(
        b: Builder,
        input: Value,
        output_size: Sequence[DimLike] | None = None,
        align_corners: bool = False,
        scale_factors: Sequence[float] | None = None,
    ) -> Value:
        space = input.type.shape[2:]
        scales: tuple[float, ...] | None = None
        if output_size is not None:
            size = tuple(output_size)
        else:
            assert scale_factors is not None
            factors = tuple(scale_factors)
            size = tuple(map(_scaled_size, space, factors))
            # Where the sizes are exactly the factors apart, they say the same already.
            exact = all(map(_exact, space, factors, size))
            scales = None if exact or align_corners else factors
        return b.interpolate(
            input,
            size=size,
            mode=mode,
            align_corners=align_corners,
            antialias=antialias,
            scales=scales,
        )

    return rule


def _exact(length: DimLike, factor: float, size: DimLike) -> bool:
    """Whether the sizes are exactly the factor apart."""
    if float(factor).is_integer():
        return True
    return isinstance(length, int) and length * factor == size


def _scaled_size(length: DimLike, factor: float) -> DimLike:
    """floor(length * factor)."""
    if isinstance(length, int):
        return int(length * factor)
    ratio = Fraction(factor).limit_denominator(1024)
    if float(ratio) != factor:
        raise GraphError(
            f"interpolate of a symbolic size {length} by {factor}, which is no simple"
            " fraction: give an output size, or make that axis static"
        )
    return length * ratio.numerator // ratio.denominator


for _target, (_mode, _antialias) in RESIZES.items():
    lowers(_target)(_resize(_mode, _antialias))


@lowers(aten.grid_sampler.default, aten.grid_sampler_2d.default)
def grid_sampler(
    b: Builder,
    input: Value,
    grid: Value,
    interpolation_mode: int,
    padding_mode: int,
    align_corners: bool,
) -> Value:
    """Images at computed places."""
    if interpolation_mode == 2 or input.type.rank != 4:
        raise GraphError(
            f"grid_sample of {input.type}: images (B, C, H, W) with mode 'bilinear' or "
            "'nearest' are supported"
        )
    return b.grid_sample(
        input,
        grid,
        mode=("bilinear", "nearest")[interpolation_mode],
        padding=("zeros", "border", "reflection")[padding_mode],
        align_corners=align_corners,
    )
