"""Neural-network operations: high-level, because nothing is decomposed that both sides can say.

Axis layout is an attribute. `layout` of images is ``channels_first`` (N, C, *spatial) or
``channels_last`` (N, *spatial, C); weights of convolutions keep torch's layout (out, in / groups,
*kernel), transposed ones (in, out / groups, *kernel), whatever the layout of the activations.
"""

from __future__ import annotations

from ivyport.core import dtype as dt
from ivyport.core.dims import DimLike
from ivyport.core.ir import TensorType
from ivyport.core.opdef import demand, op
from ivyport.core.ops import broadcast, normalize

Pads = tuple[tuple[int, int], ...]
LAYOUTS = ("channels_first", "channels_last")
EMPTY = ("zero", "mean", "nan", "softmax")


def channel_axis(layout: str, rank: int) -> int:
    """Axis of the channels."""
    demand(layout in LAYOUTS, f"layout {layout!r}")
    return 1 if layout == "channels_first" else rank - 1


def spatial_axes(layout: str, rank: int) -> tuple[int, ...]:
    """Axes that are neither batch nor channels."""
    channels = channel_axis(layout, rank)
    return tuple(a for a in range(1, rank) if a != channels)


@op("linear")
def linear(
    x: TensorType,
    weight: TensorType,
    bias: TensorType | None,
    *,
    weight_layout: str = "oi",
) -> TensorType:
    """x @ W.T + b for weight layout ``oi`` (out, in), x @ W + b for ``io``."""
    demand(weight_layout in ("oi", "io"), f"weight_layout {weight_layout!r}")
    demand(weight.rank == 2 and x.dtype == weight.dtype, f"linear of {x} and {weight}")
    out, inner = weight.shape if weight_layout == "oi" else weight.shape[::-1]
    demand(x.shape[-1] == inner, f"linear of {x} and {weight} ({weight_layout})")
    return x.with_shape((*x.shape[:-1], out))


@op("embedding")
def embedding(
    indices: TensorType, weight: TensorType, *, padding: int | None = None
) -> TensorType:
    """Rows of `weight` (V, C) by integer indices: (..., C).

    The row `padding` gets no gradient from here.
    """
    demand(dt.is_int(indices.dtype), f"embedding indices are {indices.dtype}")
    return TensorType(weight.dtype, (*indices.shape, weight.shape[1]))


@op("conv", tunable=("stride", "padding", "dilation", "groups"))
def conv(
    x: TensorType,
    weight: TensorType,
    bias: TensorType | None,
    *,
    stride: tuple[int, ...],
    padding: Pads,
    dilation: tuple[int, ...],
    groups: int = 1,
    layout: str = "channels_first",
) -> TensorType:
    """Cross-correlation over 1 to 3 spatial axes, explicit (before, after) zero padding."""
    spatial = spatial_axes(layout, x.rank)
    demand(x.rank == weight.rank, f"conv of {x} by {weight}")
    channels = x.shape[channel_axis(layout, x.rank)]
    demand(
        channels == weight.shape[1] * groups,
        f"conv of {x} by {weight}, {groups} groups",
    )
    shape = list(x.shape)
    shape[channel_axis(layout, x.rank)] = weight.shape[0]
    for i, axis in enumerate(spatial):
        lo, hi = padding[i]
        extent = dilation[i] * (weight.shape[2 + i] - 1) + 1
        shape[axis] = (x.shape[axis] + lo + hi - extent) // stride[i] + 1
    return x.with_shape(tuple(shape))


@op(
    "conv_transpose",
    tunable=("stride", "padding", "output_padding", "dilation", "groups"),
)
def conv_transpose(
    x: TensorType,
    weight: TensorType,
    bias: TensorType | None,
    *,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    output_padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int = 1,
    layout: str = "channels_first",
) -> TensorType:
    """Gradient of `conv` with respect to its input (torch.nn.ConvTranspose)."""
    spatial = spatial_axes(layout, x.rank)
    shape = list(x.shape)
    shape[channel_axis(layout, x.rank)] = weight.shape[1] * groups
    for i, axis in enumerate(spatial):
        shape[axis] = (
            (x.shape[axis] - 1) * stride[i]
            - 2 * padding[i]
            + dilation[i] * (weight.shape[2 + i] - 1)
            + output_padding[i]
            + 1
        )
    return x.with_shape(tuple(shape))


@op("layer_norm", url="https://arxiv.org/abs/1607.06450", tunable=("eps",))
def layer_norm(
    x: TensorType,
    scale: TensorType | None,
    bias: TensorType | None,
    *,
    axis: tuple[int, ...],
    eps: float,
) -> TensorType:
    """(x - mean) / sqrt(var + eps) * scale + bias over trailing axes; variance is biased."""
    demand(
        sorted(normalize(a, x.rank) for a in axis)
        == list(range(x.rank - len(axis), x.rank)),
        f"layer_norm axes {axis} of {x} are not trailing",
    )
    return x


@op("rms_norm", url="https://arxiv.org/abs/1910.07467", tunable=("eps",))
def rms_norm(
    x: TensorType, scale: TensorType | None, *, axis: tuple[int, ...], eps: float
) -> TensorType:
    """x / sqrt(mean(x^2) + eps) * scale over trailing axes."""
    return x


@op("group_norm", url="https://arxiv.org/abs/1803.08494", tunable=("groups", "eps"))
def group_norm(
    x: TensorType,
    scale: TensorType | None,
    bias: TensorType | None,
    *,
    groups: int,
    eps: float,
    layout: str = "channels_first",
) -> TensorType:
    """Normalise each group of channels over itself and space, then scale and shift."""
    return x


@op("batch_norm", url="https://arxiv.org/abs/1502.03167", tunable=("eps", "momentum"))
def batch_norm(
    x: TensorType,
    scale: TensorType | None,
    bias: TensorType | None,
    mean: TensorType | None,
    var: TensorType | None,
    *,
    axis: int,
    eps: float,
    momentum: float | None,
    unbiased: bool = True,
    debias: bool = False,
) -> TensorType:
    """Normalise channel `axis` by the running statistics in eval, by the batch's in training.

    In training running = (1 - momentum) * running + momentum * batch (torch's convention), the
    running variance with Bessel's correction if `unbiased` (torch; not Flax and haiku), the
    normalising one without. Without `mean` and `var` the batch's statistics serve in eval too;
    momentum None never updates.

    `debias` is haiku's `ExponentialMovingAverage`: the layer also holds two hidden averages that
    start at zero and a counter t, and mean and var are hidden / (1 - (1 - momentum) ** t).
    """
    return x


@op("softmax")
def softmax(x: TensorType, *, axis: int) -> TensorType:
    """exp(x) / sum(exp(x)) along an axis."""
    return x


@op("log_softmax")
def log_softmax(x: TensorType, *, axis: int) -> TensorType:
    """log of softmax along an axis."""
    return x


@op("gelu", url="https://arxiv.org/abs/1606.08415", elementwise=True)
def gelu(x: TensorType, *, approximate: bool) -> TensorType:
    """x * Phi(x); `approximate` is the tanh formula, else erf."""
    return x


@op("leaky_relu", elementwise=True, tunable=("negative_slope",))
def leaky_relu(
    x: TensorType, *, negative_slope: float, closed: bool = False
) -> TensorType:
    """x where positive, else negative_slope * x.

    The derivative at 0 is negative_slope (torch), or 1 where `closed` (JAX).
    """
    return x


@op("elu", elementwise=True, tunable=("alpha",))
def elu(x: TensorType, *, alpha: float) -> TensorType:
    """x where positive, else alpha * (exp(x) - 1)."""
    return x


@op("dropout", url="https://jmlr.org/papers/v15/srivastava14a.html", random=True)
def dropout(
    x: TensorType,
    *,
    rate: float,
    broadcast: tuple[int, ...] = (),
    always: bool = False,
) -> TensorType:
    """In training zero elements with probability `rate`, scale the rest by 1 / (1 - rate).

    `always` draws in eval mode too (Monte Carlo dropout).

    One draw serves all elements along the `broadcast` axes: with every axis but the batch this is
    stochastic depth (arXiv:1603.09382).
    """
    demand(0.0 <= rate <= 1.0, f"dropout rate {rate}")
    demand(all(0 <= a < x.rank for a in broadcast), f"broadcast {broadcast} of {x}")
    return x


@op("attention", url="https://arxiv.org/abs/1706.03762", random=True)
def attention(
    query: TensorType,
    key: TensorType,
    value: TensorType,
    mask: TensorType | None,
    *,
    scale: float | None = None,
    is_causal: bool = False,
    dropout: float = 0.0,
    layout: str = "bhsd",
    empty: str = "zero",
) -> TensorType:
    """softmax(Q K^T * scale + mask) V with dropout on the weights in training.

    `layout` is ``bhsd`` (..., heads, length, size) or ``bshd`` (batch, length, heads, size) of
    query, key, value and result. A bool mask keeps where true, a float one is added; it
    broadcasts to (batch, heads, query length, key length) whatever the layout. Key and value may
    have fewer heads than the query (grouped-query attention, arXiv:2305.13245). Scale None is
    1 / sqrt(size).

    `empty` says what a query gives that may attend to nothing, because its mask is false, or
    minus infinity, everywhere: ``zero`` (torch's rule), ``mean`` of all values, with no gradient
    to query and key (logits that `where` replaced by one finite number), ``nan``, or what the
    ``softmax`` makes of a float mask whose huge numbers are not minus infinity.
    """
    demand(layout in ("bhsd", "bshd"), f"attention layout {layout!r}")
    demand(empty in EMPTY, f"attention of nothing gives {empty!r}")
    demand(
        query.dtype == key.dtype == value.dtype, "attention operands differ in dtype"
    )
    demand(query.shape[-1] == key.shape[-1], f"attention of {query} and {key}")
    return query.with_shape((*query.shape[:-1], value.shape[-1]))


@op("max_pool", tunable=("kernel", "stride", "padding", "dilation"))
def max_pool(
    x: TensorType,
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: Pads,
    dilation: tuple[int, ...],
    ceil_mode: bool = False,
    layout: str = "channels_first",
) -> TensorType:
    """Maximum over windows; padding is minus infinity."""
    return _pooled(x, kernel, stride, padding, dilation, ceil_mode, layout)


@op("avg_pool", tunable=("kernel", "stride", "padding"))
def avg_pool(
    x: TensorType,
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: Pads,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    layout: str = "channels_first",
) -> TensorType:
    """Mean over windows; `count_include_pad` counts the zeros of the padding."""
    return _pooled(x, kernel, stride, padding, (1,) * len(kernel), ceil_mode, layout)


def _pooled(
    x: TensorType,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: Pads,
    dilation: tuple[int, ...],
    ceil_mode: bool,
    layout: str,
) -> TensorType:
    shape = list(x.shape)
    for i, axis in enumerate(spatial_axes(layout, x.rank)):
        lo, hi = padding[i]
        span = x.shape[axis] + lo + hi - dilation[i] * (kernel[i] - 1) - 1
        if ceil_mode:
            size: DimLike = -((-span) // stride[i]) + 1
            # torch drops a last window that would start in the padding on the right.
            length = x.shape[axis] + lo
            known = isinstance(size, int) and isinstance(length, int)
            if known and (size - 1) * stride[i] >= length:  # type: ignore[operator]  # ints, says `known`
                size = size - 1
            shape[axis] = size
        else:
            shape[axis] = span // stride[i] + 1
    return x.with_shape(tuple(shape))


@op("adaptive_avg_pool", tunable=("output_size",))
def adaptive_avg_pool(
    x: TensorType, *, output_size: tuple[int, ...], layout: str = "channels_first"
) -> TensorType:
    """Mean over windows from floor(i * in / out) to ceil((i + 1) * in / out)."""
    shape = list(x.shape)
    for axis, size in zip(spatial_axes(layout, x.rank), output_size, strict=True):
        shape[axis] = size
    return x.with_shape(tuple(shape))


@op("interpolate")
def interpolate(
    x: TensorType,
    *,
    size: tuple[DimLike, ...],
    mode: str,
    align_corners: bool = False,
    antialias: bool = False,
    scales: tuple[float, ...] | None = None,
    layout: str = "channels_first",
) -> TensorType:
    """Resize the spatial axes as torch.nn.functional.interpolate: nearest, nearest-exact,
    linear (any number of axes) or cubic (coefficient -0.75). `scales`, if given, are the factors
    that map coordinates; else output size / input size."""
    demand(mode in ("nearest", "nearest-exact", "linear", "cubic"), f"mode {mode!r}")
    shape = list(x.shape)
    for axis, length in zip(spatial_axes(layout, x.rank), size, strict=True):
        shape[axis] = length
    return x.with_shape(tuple(shape))


@op("grid_sample", url="https://arxiv.org/abs/1506.02025")
def grid_sample(
    x: TensorType,
    grid: TensorType,
    *,
    mode: str = "bilinear",
    padding: str = "zeros",
    align_corners: bool = False,
) -> TensorType:
    """Images (B, C, H, W) at places (B, h, w, 2), whose (x, y) are -1 ... 1, as torch's
    `grid_sample`: modes bilinear and nearest; outside are zeros, the border or its reflection.
    """
    demand(mode in ("bilinear", "nearest"), f"grid_sample mode {mode!r}")
    demand(padding in ("zeros", "border", "reflection"), f"padding {padding!r}")
    demand(x.rank == 4 and grid.rank == 4, f"grid_sample of {x} at {grid}")
    return x.with_shape((*x.shape[:2], *grid.shape[1:3]))


@op("one_hot")
def one_hot(indices: TensorType, *, num_classes: DimLike, dtype: str) -> TensorType:
    """1 at the index, 0 elsewhere, on a new last axis."""
    return TensorType(dtype, (*indices.shape, num_classes))


@op("weight_norm", url="https://arxiv.org/abs/1602.07868")
def weight_norm(v: TensorType, g: TensorType, *, axis: int) -> TensorType:
    """g * v / ||v||, the norm over all axes but `axis`."""
    return v.with_shape(broadcast(v.shape, g.shape))


@op("grouped_matmul")
def grouped_matmul(x: TensorType, weight: TensorType, ends: TensorType) -> TensorType:
    """Rows of x (T, K) are cut into consecutive groups; group g is multiplied by weight[g] (K, N).

    `ends` (G,) int32 or int64 holds the cumulative end of each group, as torch's grouped_mm.
    """
    demand(weight.rank == 3 and x.shape[-1] == weight.shape[1], f"{x} by {weight}")
    return x.with_shape((*x.shape[:-1], weight.shape[2]))


@op("unfold", tunable=("kernel", "stride", "padding", "dilation"))
def unfold(
    x: TensorType,
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> TensorType:
    """im2col of (N, C, H, W): (N, C * prod(kernel), positions)."""
    positions: DimLike = 1
    channels = x.shape[1]
    for i, size in enumerate(kernel):
        span = x.shape[2 + i] + 2 * padding[i] - dilation[i] * (size - 1) - 1
        positions = positions * (span // stride[i] + 1)
        channels = channels * size
    return x.with_shape((x.shape[0], channels, positions))
