"""Rows of layers: products, normalisation, activations, attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tests.ops.sample import B, Input, S, Sample, f32, fixed, given, half, ints, masked

F = torch.nn.functional

PRODUCTS = [
    Sample(
        "linear",
        (f32(B, S, 3), f32(4, 3), f32(4)),
        lambda b, *x: b.linear(*x),
        F.linear,
    ),
    Sample(
        "linear",
        (f32(B, 3), f32(4, 3)),
        lambda b, x, w: b.linear(x, w, None),
        F.linear,
        "no_bias",
    ),
    Sample(
        "linear",
        (f32(B, 3), f32(3, 4), f32(4)),
        lambda b, *x: b.linear(*x, weight_layout="io"),
        lambda x, w, b: x @ w + b,
        "io",
    ),
    Sample(
        "embedding",
        (ints(7, B, S), f32(7, 3)),
        lambda b, i, w: b.embedding(i, w),
        lambda i, w: F.embedding(i, w),
    ),
    Sample(
        "embedding",
        (ints(7, B, S), f32(7, 3)),
        lambda b, i, w: b.embedding(i, w, padding=2),
        lambda i, w: F.embedding(i, w, padding_idx=2),
        "padding",
    ),
    Sample(
        "one_hot",
        (ints(5, B, S),),
        lambda b, i: b.one_hot(i, num_classes=5, dtype="int64"),
        lambda i: F.one_hot(i, 5),
    ),
    Sample(
        "one_hot",
        (ints(3, B),),
        lambda b, i: b.one_hot(i, num_classes=3, dtype="float32"),
        lambda i: F.one_hot(i, 3).float(),
        "float",
    ),
    Sample(
        "one_hot",
        (given([0, -1, 3, 2], "int32"),),
        lambda b, i: b.one_hot(i, num_classes=3, dtype="float32"),
        lambda i: torch.eye(4)[i.long(), :3],
        "out_of_range",
    ),
    *[
        Sample(
            "grouped_matmul",
            (f32(6, 3), f32(4, 3, 5), given([2, 2, 5, 6], dtype)),
            lambda b, *x: b.grouped_matmul(*x),
            lambda x, w, ends: torch.concat(
                [
                    x[start:stop] @ w[g]
                    for g, (start, stop) in enumerate(
                        zip([0, *ends.tolist()], ends.tolist(), strict=False)
                    )
                ]
            ),
            dtype,
        )
        for dtype in ("int32", "int64")
    ],
    *[
        Sample(
            "weight_norm",
            (f32(4, 3, 5), g),
            lambda b, v, g, axis=axis: b.weight_norm(v, g, axis=axis),
            lambda v, g, axis=axis: torch._weight_norm(v, g, axis),
            f"axis_{axis}",
        )
        for axis, g in ((0, f32(4, 1, 1)), (2, f32(1, 1, 5)))
    ],
]


SDPA = F.scaled_dot_product_attention
STATISTICS = fixed(f32(6)), fixed(f32(6, low=0.5, high=2))


def _norms(scale: bool, bias: bool) -> list[Sample]:
    """Each normalisation with and without scale and bias."""
    with_scale, with_bias = [f32(6)] * scale, [f32(6)] * bias

    def pair(rest: tuple[Any, ...]) -> tuple[Any, Any]:
        following = iter(rest)
        return (next(following) if scale else None, next(following) if bias else None)

    label = "_".join(["scale"] * scale + ["bias"] * bias)
    return [
        Sample(
            "layer_norm",
            (f32(B, S, 6), *with_scale, *with_bias),
            lambda b, x, *rest: b.layer_norm(x, *pair(rest), axis=(-1,), eps=1e-5),
            lambda x, *rest: F.layer_norm(x, (6,), *pair(rest), eps=1e-5),
            label,
        ),
        Sample(
            "group_norm",
            (f32(B, 6, 4, 3), *with_scale, *with_bias),
            lambda b, x, *rest: b.group_norm(x, *pair(rest), groups=2, eps=1e-5),
            lambda x, *rest: F.group_norm(x, 2, *pair(rest), eps=1e-5),
            label,
        ),
        Sample(
            "batch_norm",
            (f32(B, 6, 4), *with_scale, *with_bias, *STATISTICS),
            lambda b, x, *rest: b.batch_norm(
                x, *pair(rest), *rest[-2:], axis=1, eps=1e-5, momentum=0.1
            ),
            lambda x, *rest: F.batch_norm(x, *rest[-2:], *pair(rest), eps=1e-5),
            label,
        ),
    ]


NORMS = [
    *_norms(scale=True, bias=True),
    *_norms(scale=True, bias=False),
    *_norms(scale=False, bias=False),
    Sample(
        "layer_norm",
        (f32(B, S, 6), f32(S, 6), f32(S, 6)),
        lambda b, *x: b.layer_norm(*x, axis=(1, 2), eps=1e-5),
        lambda x, *rest: F.layer_norm(x, x.shape[1:], *rest, eps=1e-5),
        "two_axes",
    ),
    Sample(
        "layer_norm",
        (given([[1000.0, 1000.1, 999.9, 1000.0]]),),
        lambda b, x: b.layer_norm(x, None, None, axis=(-1,), eps=1e-5),
        lambda x: F.layer_norm(x, (4,), eps=1e-5),
        "far_from_zero",  # E[x^2] - E[x]^2 has no correct digit here
        rtol=1e-5,
        grad_rtol=1e-3,
    ),
    Sample(
        "group_norm",
        (f32(B, 4, 3, 6), f32(6), f32(6)),
        lambda b, *x: b.group_norm(*x, groups=3, eps=1e-5, layout="channels_last"),
        lambda x, *rest: F.group_norm(x.movedim(-1, 1), 3, *rest).movedim(1, -1),
        "channels_last",
    ),
    Sample(
        "batch_norm",
        (f32(B, 4, 6), f32(6), f32(6), *STATISTICS),
        lambda b, *x: b.batch_norm(*x, axis=2, eps=1e-3, momentum=None),
        lambda x, s, o, m, v: F.batch_norm(x.mT, m, v, s, o, eps=1e-3).mT,
        "last_axis",
    ),
    Sample(
        "batch_norm",
        (f32(B, 6, 4), f32(6), f32(6)),
        lambda b, x, s, o: b.batch_norm(
            x, s, o, None, None, axis=1, eps=1e-5, momentum=None
        ),
        lambda x, s, o: F.batch_norm(x, None, None, s, o, training=True),
        "batch_statistics",
    ),
    Sample(
        "layer_norm",
        (half(B, 6), half(6), half(6)),
        lambda b, *x: b.layer_norm(*x, axis=(-1,), eps=1e-5),
        lambda x, s, o: F.layer_norm(x, (6,), s, o, eps=1e-5),
        "half",
    ),
    Sample(
        "rms_norm",
        (half(B, 6), half(6)),
        lambda b, x, s: b.rms_norm(x, s, axis=(-1,), eps=1e-6),
        lambda x, s: F.rms_norm(x, (6,), s, 1e-6),
        "half",
    ),
    Sample(
        "attention",
        (half(B, 4, S, 8), half(B, 2, S, 8), half(B, 2, S, 8), half(B, 1, S, S)),
        lambda b, *x: b.attention(*x),
        lambda q, k, v, m: SDPA(q, k, v, m, enable_gqa=True),
        "half",
    ),
    Sample(
        "rms_norm",
        (f32(B, S, 6), f32(6)),
        lambda b, x, s: b.rms_norm(x, s, axis=(-1,), eps=1e-6),
        lambda x, s: F.rms_norm(x, (6,), s, 1e-6),
    ),
    Sample(
        "rms_norm",
        (f32(B, S, 6),),
        lambda b, x: b.rms_norm(x, None, axis=(1, 2), eps=1e-6),
        lambda x: F.rms_norm(x, x.shape[1:], None, 1e-6),
        "two_axes",
    ),
]


def _activation(
    op: str, reference: Callable[..., Any], label: str = "", x: Input | None = None,
    **attrs: Any,
) -> Sample:  # fmt: skip
    return Sample(
        op,
        (x or f32(B, S, 3),),
        lambda b, x: getattr(b, op)(x, **attrs),
        reference,
        label,
    )


HUGE = given([[1e4, 1e4 - 1, -1e4], [-float("inf"), 0.0, 1.0]])

ACTIVATIONS = [
    _activation("softmax", lambda x: x.softmax(-1), axis=-1),
    _activation("softmax", lambda x: x.softmax(-1), "half", half(B, 9), axis=-1),
    _activation("gelu", lambda x: F.gelu(x), "half", half(B, 9), approximate=False),
    _activation("softmax", lambda x: x.softmax(1), "middle", axis=1),
    _activation("softmax", lambda x: x.softmax(-1), "huge", HUGE, axis=-1),
    _activation("log_softmax", lambda x: x.log_softmax(-1), axis=-1),
    _activation("log_softmax", lambda x: x.log_softmax(0), "first", axis=0),
    _activation("gelu", lambda x: F.gelu(x), "erf", approximate=False),
    _activation(
        "gelu", lambda x: F.gelu(x, approximate="tanh"), "tanh", approximate=True
    ),
    _activation("leaky_relu", lambda x: F.leaky_relu(x, 0.2), negative_slope=0.2),
    _activation("elu", lambda x: F.elu(x), alpha=1.0),
    _activation("elu", lambda x: F.elu(x, 0.7), "alpha", alpha=0.7),
    _activation("dropout", lambda x: x, "rate_0", rate=0.0),
    _activation("dropout", lambda x: x, "off", rate=0.5),
]


def _attention(
    label: str, mask: Input | None = None, lead: tuple[Any, ...] = (B,), heads: int = 4,
    shared: int = 4, keys: Any = S, size: int = 8, last: bool = False, **attrs: Any,
) -> Sample:  # fmt: skip
    """`heads` query heads over `shared` key heads; the query is of length S."""

    def operand(count: int, length: Any, width: int = 8) -> Input:
        if last:
            return f32(*lead, length, count, width)
        axes = (count,) if count else ()
        return f32(*lead, *axes, length, width)

    def build(b: Any, q: Any, k: Any, v: Any, *m: Any) -> Any:
        layout = "bshd" if last else "bhsd"
        return b.attention(q, k, v, m[0] if m else None, layout=layout, **attrs)

    def reference(q: Any, k: Any, v: Any, m: Any = None) -> torch.Tensor:
        swap = (lambda x: x.transpose(1, 2)) if last else (lambda x: x)
        options = {k: v for k, v in attrs.items() if k in ("scale", "is_causal")}
        if m is not None and options.pop("is_causal", False):
            later = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).triu(1)
            m = m.masked_fill(later, False if m.dtype == torch.bool else -torch.inf)
        y = SDPA(swap(q), swap(k), swap(v), m, **options, enable_gqa=heads != shared)
        return swap(y)

    inputs = operand(heads, S), operand(shared, keys), operand(shared, keys, size)
    return Sample(
        "attention", (*inputs, *[mask] * (mask is not None)), build, reference, label
    )


ATTENTION = [
    _attention("bhsd"),
    _attention("bshd", last=True),
    _attention("bool_mask", masked(B, 1, 1, S)),
    _attention("bool_mask_bshd", masked(B, 1, 1, S), last=True),
    _attention("heads_mask", masked(B, 4, S, S), last=True),
    _attention("float_mask", f32(1, 1, S, S), last=True),
    _attention("matrix_mask", masked(S, S)),
    _attention("heads_bias", f32(4, S, S)),
    _attention("causal", is_causal=True, last=True),
    _attention("causal_lengths", is_causal=True, keys=9),
    _attention("causal_mask", masked(B, 1, 1, S), is_causal=True),
    _attention("causal_bias", f32(4, S, S), is_causal=True, dropout=0.5),
    _attention("scale", scale=0.3, last=True),
    _attention("grouped", shared=2, last=True),
    _attention("grouped_mask", masked(B, 4, S, S), shared=2, is_causal=False),
    _attention("one_shared", f32(B, 1, S, S), shared=1),
    _attention("lengths", masked(B, 1, S, 3), keys=3, last=True),
    _attention("value_size", masked(B, 1, 1, S), size=5),
    _attention("rank_3", masked(B, S, S), lead=(B,), heads=0, shared=0),
    _attention("rank_2", lead=(), heads=0, shared=0),
    _attention("rank_5", masked(S, S), lead=(2, B)),
    _attention("rank_5_mask", masked(B, 1, 1, S), lead=(2, B)),
    _attention("rank_5_every", f32(2, 1, 4, S, S), lead=(2, B), shared=4),
    _attention("dropout_off", masked(B, 1, 1, S), dropout=0.5, last=True),
    _attention("dropout_off_causal", dropout=0.5, is_causal=True, shared=2),
]

ROWS = [*PRODUCTS, *NORMS, *ACTIVATIONS, *ATTENTION]
