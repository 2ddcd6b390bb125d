"""Rows of convolutions, pooling and resizing, in both layouts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from ivyport.core.ir import TensorType
from tests.ops.sample import B, Input, S, Sample, f32, half, ints

F = torch.nn.functional
CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVG_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _last(sample: Sample) -> Sample:
    """The same sample of channels_last activations."""
    x, *rest = sample.inputs
    first, channels, *space = x.type.shape
    moved = Input(TensorType(x.type.dtype, (first, *space, channels)), x.make)

    def build(b: Any, *values: Any) -> Any:
        return sample.build(_Last(b), *values)

    def reference(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        return sample.torch(x.movedim(-1, 1), *rest).movedim(1, -1)

    return dataclasses.replace(
        sample,
        inputs=(moved, *rest),
        build=build,
        torch=reference,
        label=f"{sample.label}_last",
    )


class _Last:
    """A builder that adds ``layout="channels_last"``."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def __getattr__(self, op: str) -> Callable[..., Any]:
        add = getattr(self.builder, op)
        return lambda *xs, **attrs: add(*xs, **attrs, layout="channels_last")


def _conv(
    label: str, *inputs: Input, stride: int = 1, padding: int = 0, dilation: int = 1,
    groups: int = 1,
) -> Sample:  # fmt: skip
    rank = inputs[0].type.rank - 2

    def build(b: Any, x: Any, w: Any, bias: Any = None) -> Any:
        return b.conv(
            x,
            w,
            bias,
            stride=(stride,) * rank,
            padding=((padding, padding),) * rank,
            dilation=(dilation,) * rank,
            groups=groups,
        )

    def reference(x: Any, w: Any, bias: Any = None) -> torch.Tensor:
        return CONV[rank](x, w, bias, stride, padding, dilation, groups)

    return Sample("conv", inputs, build, reference, label)


def _uneven(op: str, reference: Callable[..., Any], **attrs: Any) -> Sample:
    """A pool or convolution with padding that torch's functions do not take."""
    pads = {"stride": (2, 2), "padding": ((0, 1), (2, 2)), **attrs}
    weight = [f32(6, 3, 3, 3)] * (op == "conv")
    if op == "conv":
        pads |= {"dilation": (1, 1), "groups": 1}

    def build(b: Any, x: Any, *w: Any) -> Any:
        return getattr(b, op)(x, *w, *[None] * len(w), **pads)

    value = -torch.inf if op == "max_pool" else 0.0

    def of_padded(x: torch.Tensor, *w: torch.Tensor) -> torch.Tensor:
        return reference(F.pad(x, (2, 2, 0, 1), value=value), *w)

    label = "uneven" + "_uncounted" * (not attrs.get("count_include_pad", True))
    return Sample(op, (IMAGE, *weight), build, of_padded, label)


def _mean_of_image(x: torch.Tensor) -> torch.Tensor:
    """Mean over windows, the padding of `_uneven` left out."""
    inside = F.pad(torch.ones(x.shape[-2] - 1, x.shape[-1] - 4), (2, 2, 0, 1))
    return F.avg_pool2d(x, 3, 2) / F.avg_pool2d(inside[None, None], 3, 2)


def _conv_transpose(
    label: str, *inputs: Input, stride: int = 1, padding: int = 0,
    output_padding: int = 0, dilation: int = 1, groups: int = 1,
) -> Sample:  # fmt: skip
    rank = inputs[0].type.rank - 2

    def build(b: Any, x: Any, w: Any, bias: Any = None) -> Any:
        return b.conv_transpose(
            x,
            w,
            bias,
            stride=(stride,) * rank,
            padding=(padding,) * rank,
            output_padding=(output_padding,) * rank,
            dilation=(dilation,) * rank,
            groups=groups,
        )

    def reference(x: Any, w: Any, bias: Any = None) -> torch.Tensor:
        return CONV_TRANSPOSE[rank](
            x, w, bias, stride, padding, output_padding, groups, dilation
        )

    return Sample("conv_transpose", inputs, build, reference, label)


CONVS = [
    _conv("half", half(B, 4, S), half(6, 4, 3), half(6), padding=1),
    _conv("line", f32(B, 4, S), f32(6, 4, 3), f32(6), padding=1),
    _conv("plane", f32(B, 4, 7, 6), f32(6, 4, 3, 2), f32(6), stride=2, padding=1),
    _conv("no_bias", f32(B, 4, 7, 6), f32(6, 4, 3, 3)),
    _conv("dilated", f32(B, 4, 9, 8), f32(6, 4, 3, 3), f32(6), dilation=2, padding=2),
    _conv("groups", f32(B, 4, 5, 5), f32(6, 2, 3, 3), f32(6), groups=2),
    _conv("wide_groups", f32(B, 32, 5), f32(6, 16, 3), f32(6), groups=2),
    _conv("depthwise", f32(B, 4, 5, 5), f32(4, 1, 3, 3), f32(4), groups=4),
    _conv("volume", f32(B, 2, 4, 5, 3), f32(3, 2, 2, 2, 2), f32(3)),
    _conv_transpose("line", f32(B, 4, S), f32(4, 6, 3), f32(6), stride=2),
    _conv_transpose(
        "plane", f32(B, 4, 5, 4), f32(4, 6, 3, 2), f32(6), stride=2, padding=1
    ),
    _conv_transpose(
        "output_padding", f32(B, 4, 5, 4), f32(4, 6, 3, 3), stride=2, padding=1,
        output_padding=1,
    ),
    _conv_transpose(
        "groups", f32(B, 4, 5, 4), f32(4, 3, 3, 3), f32(6), groups=2, dilation=2,
        padding=1,
    ),
    _conv_transpose("much_padding", f32(B, 4, 9, 9), f32(4, 2, 2, 2), padding=2),
    _conv_transpose("volume", f32(B, 2, 3, 4, 2), f32(2, 3, 2, 2, 2), f32(3), stride=2),
]  # fmt: skip


def _max_pool(
    label: str, x: Input, kernel: int, stride: int, padding: int = 0, dilation: int = 1,
    ceil_mode: bool = False,
) -> Sample:  # fmt: skip
    rank = x.type.rank - 2
    return Sample(
        "max_pool",
        (x,),
        lambda b, x: b.max_pool(
            x,
            kernel=(kernel,) * rank,
            stride=(stride,) * rank,
            padding=((padding, padding),) * rank,
            dilation=(dilation,) * rank,
            ceil_mode=ceil_mode,
        ),
        lambda x: MAX_POOL[rank](x, kernel, stride, padding, dilation, ceil_mode),
        label,
    )


def _avg_pool(
    label: str, x: Input, kernel: int, stride: int, padding: int = 0,
    ceil_mode: bool = False, count_include_pad: bool = True,
) -> Sample:  # fmt: skip
    rank = x.type.rank - 2
    return Sample(
        "avg_pool",
        (x,),
        lambda b, x: b.avg_pool(
            x,
            kernel=(kernel,) * rank,
            stride=(stride,) * rank,
            padding=((padding, padding),) * rank,
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
        ),
        lambda x: AVG_POOL[rank](
            x, kernel, stride, padding, ceil_mode, count_include_pad
        ),
        label,
    )


def _adaptive(label: str, x: Input, size: tuple[int, ...]) -> Sample:
    pool = {
        1: F.adaptive_avg_pool1d,
        2: F.adaptive_avg_pool2d,
        3: F.adaptive_avg_pool3d,
    }
    return Sample(
        "adaptive_avg_pool",
        (x,),
        lambda b, x: b.adaptive_avg_pool(x, output_size=size),
        lambda x: pool[len(size)](x, size),
        label,
    )


IMAGE = f32(B, 3, 8, 7)
TIED = ints(2, B, 3, 8, 7)
ZEROS_AND_ONES = Input(TensorType("float32", TIED.type.shape), TIED.make)
POOLS = [
    _max_pool("plain", IMAGE, 2, 2),
    _max_pool("half", half(B, 3, 8, 7), 2, 2),
    _avg_pool("half", half(B, 3, 8, 7), 3, 2, 1, count_include_pad=False),
    _adaptive("half", half(B, 3, 8, 7), (3, 5)),
    _max_pool("padded", IMAGE, 3, 2, 1),
    _max_pool("ties", ZEROS_AND_ONES, 3, 2, 1),
    _max_pool("dilated", IMAGE, 2, 1, 1, 2),
    _max_pool("ceil", IMAGE, 3, 2, 0, ceil_mode=True),
    _max_pool("ceil_padded", IMAGE, 2, 3, 1, ceil_mode=True),
    _max_pool("line", f32(B, 3, S), 2, 2),
    _max_pool("volume", f32(B, 2, 4, 5, 3), 2, 1),
    _avg_pool("plain", IMAGE, 2, 2),
    _avg_pool("padded", IMAGE, 3, 2, 1),
    _avg_pool("uncounted", IMAGE, 3, 2, 1, count_include_pad=False),
    _avg_pool("ceil", IMAGE, 3, 2, 1, ceil_mode=True),
    _avg_pool(
        "ceil_uncounted", IMAGE, 2, 3, 1, ceil_mode=True, count_include_pad=False
    ),
    _avg_pool("ceil_even", f32(B, 3, 8, 8), 2, 2, ceil_mode=True),
    _avg_pool("line", f32(B, 3, S), 2, 1),
    _uneven("conv", lambda x, w: F.conv2d(x, w, stride=2)),
    _uneven(
        "max_pool", lambda x: F.max_pool2d(x, 3, 2), kernel=(3, 3), dilation=(1, 1)
    ),
    _uneven("avg_pool", lambda x: F.avg_pool2d(x, 3, 2), kernel=(3, 3)),
    _uneven("avg_pool", _mean_of_image, kernel=(3, 3), count_include_pad=False),
    _adaptive("one", IMAGE, (1, 1)),
    _adaptive("divides", IMAGE, (4, 1)),
    _adaptive("overlaps", IMAGE, (3, 5)),
    _adaptive("grows", IMAGE, (11, 7)),
    _adaptive("line", f32(B, 3, S), (3,)),
]


def _resize(
    label: str, x: Input, size: tuple[int, ...], mode: str,
    scales: tuple[float, ...] | None = None, **attrs: bool,
) -> Sample:  # fmt: skip
    named = {"linear": {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]}
    theirs = named.get(mode, {"cubic": "bicubic"}.get(mode, mode))
    target = {"size": size} if scales is None else {"scale_factor": scales}
    return Sample(
        "interpolate",
        (x,),
        lambda b, x: b.interpolate(x, size=size, mode=mode, scales=scales, **attrs),
        lambda x: F.interpolate(
            x, mode=theirs, **target, **{k: v for k, v in attrs.items() if v}
        ),
        label,
        rtol=2e-6,
    )


UP, DOWN = (13, 10), (5, 3)
RESIZES = [
    *[
        _resize(f"{mode}_{name}{suffix}", IMAGE, size, mode, **attrs)
        for mode, variants in [
            ("nearest", [("", {})]),
            ("nearest-exact", [("", {})]),
            *[
                (mode, [("", {}), ("_corners", {"align_corners": True}),
                        ("_antialias", {"antialias": True}),
                        ("_both", {"align_corners": True, "antialias": True})])
                for mode in ("linear", "cubic")
            ],
        ]
        for suffix, attrs in variants
        for name, size in (("up", UP), ("down", DOWN))
    ],
    _resize("linear_to_one", IMAGE, (1, 1), "linear", align_corners=True),
    _resize("linear_line", f32(B, 3, 6), (11,), "linear"),
    _resize("linear_volume", f32(B, 2, 3, 4, 5), (5, 3, 7), "linear"),
    _resize("linear_scales", IMAGE, (13, 11), "linear", (1.7, 1.7)),
    _resize("cubic_scales", IMAGE, (13, 11), "cubic", (1.7, 1.7)),
    _resize("nearest_scales", IMAGE, (13, 11), "nearest", (1.7, 1.7)),
    _resize("nearest_line", f32(B, 3, 49), (17,), "nearest"),
]  # fmt: skip


def _unfold(label: str, kernel: tuple[int, int], *rest: int) -> Sample:
    stride, padding, dilation = rest or (1, 0, 1)
    return Sample(
        "unfold",
        (IMAGE,),
        lambda b, x: b.unfold(
            x,
            kernel=kernel,
            stride=(stride,) * 2,
            padding=(padding,) * 2,
            dilation=(dilation,) * 2,
        ),
        lambda x: F.unfold(x, kernel, dilation, padding, stride),
        label,
    )


ROWS = [
    *[row for first in (*CONVS, *POOLS, *RESIZES) for row in (first, _last(first))],
    _unfold("plain", (3, 2)),
    _unfold("all", (2, 3), 2, 1, 2),
]
