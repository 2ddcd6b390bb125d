"""Samples of products, norms, attention, activations, convolutions, pools, resizing."""

from __future__ import annotations

import torch

from tests.frontends.torch.sample import (
    A,
    F,
    Input,
    Sample,
    ints,
    normal,
    row,
    uniform,
)

f16, bf16 = torch.float16, torch.bfloat16

x = normal("B", 4)
cube = normal("B", "S", 8)
signal = normal("B", 4, 9)
image = normal("B", 4, 9, 8)
volume = normal("B", 2, 5, 6, 4)


def masked(*shape) -> Input:
    """Masks with no row that is false everywhere."""

    def make(g: torch.Generator, s: tuple[int, ...]) -> torch.Tensor:
        mask = torch.rand(s, generator=g) < 0.6
        mask[..., 0] = True
        return mask

    return Input(shape, make)


PRODUCTS: list[Sample] = [
    row("linear", F.linear, cube, normal(5, 8), normal(5), ops="linear"),
    row("linear-no-bias", F.linear, cube, normal(5, 8)),
    row("linear-vector", F.linear, normal(8), normal(5, 8)),
    row("linear-1d-weight", F.linear, cube, normal(8)),
    row("addmm", torch.addmm, normal(5), x, normal(4, 5), ops="linear"),
    row("addmm-matrix", torch.addmm, normal("B", 5), x, normal(4, 5), ops="matmul add"),
    row(
        "addmm-scaled",
        lambda c, x, w: torch.addmm(c, x, w, beta=0.5, alpha=2),
        normal(5),
        x,
        normal(4, 5),
    ),
    row(
        "addmm-beta-0",
        lambda c, x, w: torch.addmm(c, x, w, beta=0),
        normal(5),
        x,
        normal(4, 5),
        ops="matmul",
    ),
    row(
        "addmm_",
        lambda c, x, w: A.addmm_.default(c.clone(), x, w),
        normal("B", 5),
        x,
        normal(4, 5),
    ),
    row(
        "baddbmm",
        lambda c, x, y: torch.baddbmm(c, x, y, beta=0.5),
        normal("B", "S", 3),
        cube,
        normal("B", 8, 3),
    ),
    row(
        "baddbmm_",
        lambda c, x, y: A.baddbmm_.default(c.clone(), x, y),
        normal("B", "S", 3),
        cube,
        normal("B", 8, 3),
    ),
    row("addmv", torch.addmv, normal("B"), x, normal(4)),
    row(
        "addmv_",
        lambda c, x, v: A.addmv_.default(c.clone(), x, v),
        normal("B"),
        x,
        normal(4),
    ),
    row("matmul", torch.matmul, cube, normal(8, 3), ops="matmul"),
    row("matmul-batch", torch.matmul, normal("B", 2, "S", 4), normal(2, 4, 3)),
    row("matmul-vector", torch.matmul, cube, normal(8)),
    row("mm", torch.mm, x, normal(4, 3), ops="matmul"),
    row("bmm", torch.bmm, cube, normal("B", 8, 3), ops="matmul"),
    row("mv", torch.mv, x, normal(4)),
    row("dot", torch.dot, normal("B"), normal("B")),
    row("vdot", torch.vdot, normal("B"), normal("B")),
    row("outer", torch.outer, normal("B"), normal(4)),
    row("ger", A.ger.default, normal("B"), normal(4)),
    row(
        "einsum",
        lambda x, y: torch.einsum("bsc,dc->bsd", x, y),
        cube,
        normal(3, 8),
        ops="einsum",
    ),
    row(
        "einsum-implicit",
        lambda x, y: torch.einsum("b s c, d c", x, y),
        cube,
        normal(3, 8),
    ),
    row(
        "einsum-ellipsis",
        lambda x, y: torch.einsum("...c,cd->...d", x, y),
        cube,
        normal(8, 3),
    ),
    row(
        "einsum-ellipsis-implicit",
        lambda x, y: torch.einsum("...ac,...cb", x, y),
        cube,
        normal(8, 3),
    ),
    row("einsum-upper", lambda x, y: torch.einsum("bC,dC->Cbd", x, y), x, normal(3, 4)),
    row(
        "einsum-broadcast",
        lambda x, y: torch.einsum("bsc,bsd->bcd", x, y),
        cube,
        normal("B", 1, 3),
    ),
    row("einsum-sum", lambda x: torch.einsum("bsc->c", x), cube),
    row(
        "einsum-three",
        lambda x, y, z: torch.einsum("bi,ij,j->b", x, y, z),
        normal(3, 4),
        normal(4, 3),
        normal(3),
    ),
    row(
        "_grouped_mm",
        lambda x, w, o: A._grouped_mm.default(x, w, o),
        normal(6, 8, dtype=bf16),
        normal(2, 8, 8, dtype=bf16),
        ints(7, 2, low=6, dtype=torch.int32),
        rtol=2e-2,
    ),
    row(
        "_grouped_mm-2d",
        lambda x, w, o: A._grouped_mm.default(x, w, o),
        normal(8, 8, dtype=bf16),
        normal(8, 8, dtype=bf16),
        ints(9, 2, low=8, dtype=torch.int32),
        refuses="grouped_mm",
    ),
]

NORMS: list[Sample] = [
    row(
        "layer_norm",
        lambda x, w, c: F.layer_norm(x, (8,), w, c, 1e-6),
        cube,
        normal(8),
        normal(8),
        ops="layer_norm",
    ),
    row("layer_norm-plain", lambda x: F.layer_norm(x, (8,)), cube),
    row(
        "layer_norm-two",
        lambda x, w: F.layer_norm(x, (4, 8), w),
        normal("B", 4, 8),
        normal(4, 8),
    ),
    row(
        "rms_norm",
        lambda x, w: F.rms_norm(x, (8,), w, 1e-6),
        cube,
        normal(8),
        ops="rms_norm",
    ),
    row("rms_norm-eps", lambda x: F.rms_norm(x, (8,)), cube),
    row(
        "group_norm",
        lambda x, w, c: F.group_norm(x, 2, w, c),
        image,
        normal(4),
        normal(4),
        ops="group_norm",
    ),
    row("group_norm-2d", lambda x: F.group_norm(x, 2, eps=1e-3), normal("B", 4)),
    row(
        "instance_norm",
        lambda x, w, c: F.instance_norm(x, weight=w, bias=c),
        image,
        normal(4),
        normal(4),
        ops="group_norm",
    ),
    row(
        "instance_norm-running",
        lambda x, m, v: F.instance_norm(x, m, v),
        image,
        normal(4),
        uniform(1, 2, 4),
        refuses="running statistics",
    ),
    row(
        "batch_norm",
        lambda x, m, v, w, c: F.batch_norm(x, m, v, w, c),
        image,
        normal(4),
        uniform(1, 2, 4),
        normal(4),
        normal(4),
        ops="batch_norm",
        random=True,
    ),
    row(
        "batch_norm-2d",
        lambda x, m, v: F.batch_norm(x, m, v),
        x,
        normal(4),
        uniform(1, 2, 4),
        random=True,
    ),
    row(
        "_weight_norm",
        lambda v, g: torch._weight_norm(v, g),
        normal(5, 4, 3),
        uniform(1, 2, 5, 1, 1),
        ops="weight_norm",
    ),
    row(
        "_weight_norm-2",
        lambda v, g: torch._weight_norm(v, g, 2),
        normal(5, 4, 3),
        uniform(1, 2, 1, 1, 3),
    ),
    row("softmax", lambda x: x.softmax(-1), cube, ops="softmax"),
    row(
        "softmax-dtype",
        lambda x: F.softmax(x, 1, dtype=torch.float32),
        normal("B", 4, dtype=bf16),
        ops="astype softmax",
    ),
    row("softmax-int", lambda x: F.softmax(x, 1, dtype=torch.float32), ints(4, "B", 4)),
    row("log_softmax", lambda x: F.log_softmax(x, 1), cube, ops="log_softmax"),
    row("log_softmax-dtype", lambda x: F.log_softmax(x, 1, dtype=torch.float64), cube),
    row("_softmax", lambda x: A._softmax.default(x, -1, False), cube),
    row("_log_softmax", lambda x: A._log_softmax.default(x, -1, False), cube),
    row(
        "cosine_similarity",
        lambda x, y: F.cosine_similarity(x, y, dim=-1),
        cube,
        normal(8),
    ),
]

q, k = normal("B", 4, "S", 8), normal("B", 4, 7, 8)
sdpa = F.scaled_dot_product_attention

ATTENTION: list[Sample] = [
    row("sdpa", sdpa, q, k, normal("B", 4, 7, 5), ops="attention"),
    row("sdpa-scale", lambda q, k: sdpa(q, k, k, scale=0.3), q, k),
    row("sdpa-causal", lambda q: sdpa(q, q, q, is_causal=True), q),
    row(
        "sdpa-causal-wide",
        lambda q, k: sdpa(q, k, k, is_causal=True),
        normal("B", 4, 5, 8),
        k,
    ),
    row("sdpa-bool", lambda q, k, m: sdpa(q, k, k, m), q, k, masked("B", 1, "S", 7)),
    row("sdpa-bool-2d", lambda q, k, m: sdpa(q, k, k, m), q, k, masked("S", 7)),
    row("sdpa-float", lambda q, k, m: sdpa(q, k, k, m), q, k, normal("B", 4, "S", 7)),
    row(
        "sdpa-float-expand",
        lambda q, k, m: sdpa(q, k, k, m.expand(-1, -1, q.shape[2], -1)),
        q,
        k,
        normal("B", 1, 1, 7),
    ),
    row(
        "sdpa-gqa", lambda q, k: sdpa(q, k, k, enable_gqa=True), q, normal("B", 2, 7, 8)
    ),
    row("sdpa-3d", lambda q, k: sdpa(q, k, k), cube, normal("B", 7, 8)),
    row("sdpa-dropout", lambda q, k: sdpa(q, k, k, dropout_p=0.1), q, k, random=True),
    row(
        "dropout", lambda x: F.dropout(x, 0.1, False), cube, ops="dropout", random=True
    ),
    row("dropout-train", lambda x: F.dropout(x, 0.1, True), cube, random=True),
    row("dropout_", lambda x: A.dropout_.default(x.clone(), 0.1, True), x, random=True),
    row(
        "native_dropout",
        lambda x: A.native_dropout.default(x, 0.1, True)[0],
        x,
        random=True,
    ),
    row(
        "feature_dropout",
        lambda x: A.feature_dropout.default(x, 0.1, True),
        image,
        random=True,
    ),
    row(
        "feature_dropout_",
        lambda x: A.feature_dropout_.default(x.clone(), 0.1, True),
        image,
        random=True,
    ),
]

ACTIVATIONS: list[Sample] = [
    row("gelu", F.gelu, x, ops="gelu"),
    row("gelu-tanh", lambda x: F.gelu(x, approximate="tanh"), x),
    row("softplus", F.softplus, normal("B", 4), ops="softplus"),
    row("softplus-beta", lambda x: F.softplus(20 * x, 2.0, 15), x),
    row("leaky_relu", lambda x: F.leaky_relu(x, 0.2), x, ops="leaky_relu"),
    row("elu", lambda x: F.elu(x, 0.5), x, ops="elu"),
    row("elu-scales", lambda x: A.elu.default(x, 0.5, 2.0, 0.3), x),
    row("celu", lambda x: F.celu(x, 1.5), x),
    row("glu", F.glu, cube),
    row("glu-dim", lambda x: F.glu(x, 1), image),
    row("prelu", F.prelu, image, normal(4)),
    row("prelu-one", F.prelu, image, normal(1)),
    row("prelu-2d", F.prelu, x, normal(4)),
    row("hardshrink", F.hardshrink, x),
    row("softshrink", F.softshrink, x),
    row("threshold", lambda x: F.threshold(x, 0.1, 7.0), x),
    row("tanhshrink", F.tanhshrink, x),
    row("softsign", F.softsign, x),
    row("softmin", lambda x: F.softmin(x, -1), x),
]

CONVOLUTIONS: list[Sample] = [
    row("conv1d", F.conv1d, signal, normal(6, 4, 3), normal(6), ops="conv"),
    row(
        "conv1d-symbolic",
        lambda x, w: F.conv1d(x, w, stride=2, padding=1),
        normal("B", 4, "S"),
        normal(6, 4, 3),
    ),
    row("conv1d-unbatched", F.conv1d, normal(4, 9), normal(6, 4, 3)),
    row(
        "conv2d",
        lambda x, w: F.conv2d(x, w, stride=2, padding=(1, 2), dilation=(1, 2)),
        image,
        normal(6, 4, 3, 3),
    ),
    row(
        "conv2d-groups",
        lambda x, w: F.conv2d(x, w, groups=4),
        image,
        normal(8, 1, 3, 3),
    ),
    row(
        "conv3d", lambda x, w: F.conv3d(x, w, padding=1), volume, normal(3, 2, 3, 3, 3)
    ),
    row(
        "conv1d-same",
        lambda x, w: F.conv1d(x, w, padding="same"),
        signal,
        normal(6, 4, 4),
    ),
    row(
        "conv2d-same",
        lambda x, w: F.conv2d(x, w, padding="same", dilation=(2, 1)),
        image,
        normal(6, 4, 3, 4),
    ),
    row(
        "conv2d-valid",
        lambda x, w: F.conv2d(x, w, padding="valid", stride=2),
        image,
        normal(6, 4, 3, 3),
    ),
    row(
        "conv3d-valid",
        lambda x, w: F.conv3d(x, w, padding="valid"),
        volume,
        normal(3, 2, 3, 3, 3),
    ),
    row(
        "conv_transpose1d",
        lambda x, w: F.conv_transpose1d(x, w, stride=2),
        signal,
        normal(4, 6, 3),
    ),
    row(
        "conv_transpose2d",
        lambda x, w, c: F.conv_transpose2d(x, w, c, 2, 1, 1, 2, (1, 2)),
        image,
        normal(4, 3, 3, 3),
        normal(6),
        ops="conv_transpose",
    ),
    row(
        "conv_transpose3d",
        lambda x, w: F.conv_transpose3d(x, w, stride=(1, 2, 1)),
        volume,
        normal(2, 3, 2, 2, 2),
    ),
    row(
        "convolution",
        lambda x, w: A.convolution.default(
            x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1
        ),
        image,
        normal(6, 4, 3, 3),
    ),
    row(
        "convolution-transposed",
        lambda x, w: A.convolution.default(
            x, w, None, [2, 2], [1, 1], [1, 1], True, [1, 1], 1
        ),
        image,
        normal(4, 6, 3, 3),
    ),
    row(
        "im2col",
        lambda x: F.unfold(x, (3, 2), dilation=(1, 2), padding=1, stride=(2, 1)),
        image,
        ops="unfold",
    ),
]

POOLS: list[Sample] = [
    row("max_pool1d", lambda x: F.max_pool1d(x, 2), signal, ops="max_pool"),
    row("max_pool2d", lambda x: F.max_pool2d(x, 3, 2, 1), image),
    row("max_pool2d-ceil", lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True), image),
    row(
        "max_pool2d-ceil-pad", lambda x: F.max_pool2d(x, 2, 2, 1, ceil_mode=True), image
    ),
    row("max_pool2d-dilated", lambda x: F.max_pool2d(x, 2, 1, dilation=2), image),
    row("max_pool2d-unbatched", lambda x: F.max_pool2d(x, 2), normal(4, 9, 8)),
    row("max_pool3d", lambda x: F.max_pool3d(x, (1, 2, 2)), volume),
    row("avg_pool1d", lambda x: F.avg_pool1d(x, 3, 2, 1), signal, ops="avg_pool"),
    row("avg_pool1d-symbolic", lambda x: F.avg_pool1d(x, 2, 1), normal("B", 4, "S")),
    row("avg_pool2d", lambda x: F.avg_pool2d(x, (3, 2), 2, 1), image),
    row(
        "avg_pool2d-exclude",
        lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
        image,
    ),
    row("avg_pool2d-ceil", lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True), image),
    row(
        "avg_pool2d-ceil-exclude",
        lambda x: F.avg_pool2d(x, 3, 2, 1, True, False),
        image,
    ),
    row("avg_pool2d-divisor", lambda x: F.avg_pool2d(x, 2, divisor_override=3), image),
    row(
        "avg_pool2d-divisor-ceil",
        lambda x: F.avg_pool2d(x, 2, ceil_mode=True, divisor_override=3),
        image,
        refuses="divisor_override",
    ),
    row("avg_pool3d", lambda x: F.avg_pool3d(x, 2), volume),
    row(
        "adaptive_avg_pool1d",
        lambda x: F.adaptive_avg_pool1d(x, 1),
        signal,
        ops="adaptive_avg_pool",
    ),
    row("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, (4, 3)), image),
    row(
        "adaptive_avg_pool2d-none", lambda x: F.adaptive_avg_pool2d(x, (None, 1)), image
    ),
    row("adaptive_avg_pool3d", lambda x: F.adaptive_avg_pool3d(x, 2), volume),
    row("adaptive_max_pool1d", lambda x: A.adaptive_max_pool1d.default(x, [1]), signal),
    row(
        "adaptive_max_pool2d", lambda x: A.adaptive_max_pool2d.default(x, [1, 1]), image
    ),
    row(
        "adaptive_max_pool2d-even",
        lambda x: A.adaptive_max_pool2d.default(x, [3, 4])[0],
        image,
    ),
    row(
        "adaptive_max_pool2d-uneven",
        lambda x: A.adaptive_max_pool2d.default(x, [4, 4])[0],
        image,
        refuses="windows of one size",
    ),
    row(
        "adaptive_max_pool3d",
        lambda x: A.adaptive_max_pool3d.default(x, [1, 1, 1])[0],
        volume,
    ),
]


def resize(name: str, source: Input, mode: str, **options) -> Sample:
    return row(
        f"resize-{name}",
        lambda x: F.interpolate(x, mode=mode, **options),
        source,
        ops="interpolate",
    )


RESIZES: list[Sample] = [
    resize("nearest1d", signal, "nearest", scale_factor=2),
    resize("nearest2d", image, "nearest", size=(13, 5)),
    resize("nearest2d-scale", image, "nearest", scale_factor=1.7),
    resize("nearest3d", volume, "nearest", scale_factor=2),
    resize("exact1d", signal, "nearest-exact", size=5),
    resize("exact2d", image, "nearest-exact", scale_factor=(0.5, 1.5)),
    resize("exact3d", volume, "nearest-exact", size=(3, 4, 5)),
    resize("linear", signal, "linear", size=14),
    resize("linear-corners", signal, "linear", size=14, align_corners=True),
    resize("linear-symbolic", normal("B", 4, "S"), "linear", scale_factor=2.0),
    resize("bilinear", image, "bilinear", scale_factor=2),
    resize("bilinear-scale", image, "bilinear", scale_factor=1.3),
    resize(
        "bilinear-recompute",
        image,
        "bilinear",
        scale_factor=1.3,
        recompute_scale_factor=True,
    ),
    resize("bilinear-corners", image, "bilinear", size=(5, 11), align_corners=True),
    resize(
        "bilinear-corners-scale",
        image,
        "bilinear",
        scale_factor=1.3,
        align_corners=True,
    ),
    resize("bilinear-aa", image, "bilinear", size=(5, 4), antialias=True),
    resize("bicubic", image, "bicubic", size=(12, 11)),
    resize("bicubic-corners", image, "bicubic", size=(12, 11), align_corners=True),
    resize("bicubic-scale", image, "bicubic", scale_factor=(1.5, 0.7)),
    resize("bicubic-aa", image, "bicubic", size=(5, 4), antialias=True),
    resize("trilinear", volume, "trilinear", size=(4, 4, 7)),
]

ROWS = [*PRODUCTS, *NORMS, *ATTENTION, *ACTIVATIONS, *CONVOLUTIONS, *POOLS, *RESIZES]
