"""Functions that emitted JAX files copy, for what no single JAX call does.

Those of `PARTS` are of this module, too.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ivyport.backends import calls, resizing
from ivyport.backends.calls import check_sizes as check_sizes
from ivyport.backends.calls import matched as matched
from ivyport.backends.jax import _rt_kinks
from ivyport.backends.jax._rt_kinks import *  # noqa: F403 (helpers are looked up here)
from ivyport.backends.resizing import resize_weights

PARTS = (calls, resizing, _rt_kinks)


def attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None = None,
    dropout=None,
) -> jax.Array:
    """softmax(Q K^T / sqrt(hs)) V; Q, K, V are (B, S, nh, hs).

    A query that may attend to nothing gives zeros.
    """
    query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
    wide = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.matmul(query, key.mT, preferred_element_type=wide)
    scores /= query.shape[-1] ** 0.5
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(wide).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    weights = weights if mask is None else jnp.where(mask, weights, 0)
    weights = weights if dropout is None else dropout(weights)
    return (weights @ value).swapaxes(1, 2)


def weighted_sum(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    dropout=None,
    *,
    bias: jax.Array | None = None,
    mask: jax.Array | None = None,
    scale: float | None = None,
    is_causal: bool = False,
    empty: str = "zero",
) -> jax.Array:
    """softmax(Q K^T * scale + bias) V, written out.

    Q is (B, S, nh, hs); K (B, T, nkv, hs) and V (B, T, nkv, vs) serve groups of heads.
    A query that may attend to nothing gives `empty`: zero, the mean of V, or nan.
    """
    query, key, value = (x.swapaxes(-2, -3) for x in (query, key, value))
    groups = query.shape[-3] // key.shape[-3]
    key, value = (jnp.repeat(x, groups, axis=-3) for x in (key, value))
    wide = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.matmul(query, key.mT, preferred_element_type=wide)
    scores *= query.shape[-1] ** -0.5 if scale is None else scale
    weights = softmax_over(scores, bias, mask, is_causal, empty).astype(value.dtype)
    weights = weights if dropout is None else dropout(weights)
    return (weights @ value).swapaxes(-2, -3)


def softmax_over(
    scores: jax.Array,
    bias: jax.Array | None,
    mask: jax.Array | None,
    is_causal: bool,
    empty: str,
) -> jax.Array:
    """softmax(scores + bias) over the keys that may be seen; else zero, mean or nan."""
    seen = None
    if bias is not None:
        scores, seen = scores + bias, bias != -jnp.inf
    if mask is not None:
        seen = mask if seen is None else seen & mask
    closed = -jnp.inf if empty == "nan" else jnp.finfo(scores.dtype).min
    if seen is not None and empty != "softmax":
        scores = jnp.where(seen, scores, closed)
    if is_causal:
        scores = jnp.where(jnp.tri(*scores.shape[-2:], dtype=bool), scores, closed)
    weights = jax.nn.softmax(scores, axis=-1)
    return weights if seen is None or empty != "zero" else jnp.where(seen, weights, 0)


def long_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    dropout=None,
    *,
    bias: jax.Array | None = None,
    mask: jax.Array | None = None,
    scale: float | None = None,
    is_causal: bool = False,
    empty: str = "zero",
) -> jax.Array:
    """`weighted_sum`; on a CPU by heads, so that the scores stay in its cache."""
    query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
    groups = query.shape[1] // key.shape[1]
    key, value = (jnp.repeat(x, groups, axis=1) for x in (key, value))
    lead, wide = query.shape[:2], jnp.promote_types(query.dtype, jnp.float32)

    def attend(q, k, v, bias, mask):
        scores = jnp.matmul(q, k.mT, preferred_element_type=wide)
        scores *= q.shape[-1] ** -0.5 if scale is None else scale
        weights = softmax_over(scores, bias, mask, is_causal, empty).astype(v.dtype)
        return (weights if dropout is None else dropout(weights)) @ v

    def by_head(*arrays):
        def flat(x):
            return jnp.broadcast_to(x, (*lead, *x.shape[2:])).reshape(-1, *x.shape[2:])

        heads = jax.lax.map(lambda head: attend(*head), jax.tree.map(flat, arrays))
        return heads.reshape(*lead, *heads.shape[1:])

    if dropout is not None and not dropout.deterministic:
        x = attend(query, key, value, bias, mask)
    else:
        x = jax.lax.platform_dependent(
            query, key, value, bias, mask, cpu=by_head, default=attend
        )
    return x.swapaxes(1, 2)


def gelu(x: jax.Array) -> jax.Array:
    """0.5 * x * (1 + erf(x / sqrt(2))), the GELU (https://arxiv.org/abs/1606.08415).

    XLA computes erf in half the time of the erfc that `jax.nn.gelu` has.
    """
    y = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (0.5 * y * (1 + jax.lax.erf(y * 0.5**0.5))).astype(x.dtype)


def layer_norm(
    x: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
    eps: float,
) -> jax.Array:
    """(x - mean) / sqrt(var + eps) * scale + bias over trailing axes, in float32."""
    y = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    y -= y.mean(axis, keepdims=True)
    y *= jax.lax.rsqrt(jnp.square(y).mean(axis, keepdims=True) + eps)
    y = y if scale is None else y * scale
    return (y if bias is None else y + bias).astype(x.dtype)


def rms_norm(
    x: jax.Array,
    scale: jax.Array | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
    eps: float,
) -> jax.Array:
    """x / sqrt(mean(x^2) + eps) * scale over trailing axes, in float32."""
    y = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    y *= jax.lax.rsqrt(jnp.square(y).mean(axis, keepdims=True) + eps)
    return (y if scale is None else y * scale).astype(x.dtype)


def group_norm(
    x: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    groups: int,
    axis: int = 1,
    eps: float,
) -> jax.Array:
    """Normalise each group of channels over itself and space, then scale and shift."""
    axis %= x.ndim
    grouped = x.reshape(*x.shape[:axis], groups, -1, *x.shape[axis + 1 :])
    y = grouped.astype(jnp.promote_types(x.dtype, jnp.float32))
    within = [a for a in range(1, y.ndim) if a != axis]
    y -= y.mean(within, keepdims=True)
    y *= jax.lax.rsqrt(jnp.square(y).mean(within, keepdims=True) + eps)
    y = y.reshape(x.shape)
    channels = (-1, *(1,) * (x.ndim - axis - 1))
    y = y if scale is None else y * scale.reshape(channels)
    return (y if bias is None else y + bias.reshape(channels)).astype(x.dtype)


def batch_norm(
    x: jax.Array,
    mean: jax.Array | None = None,
    var: jax.Array | None = None,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    axis: int,
    eps: float,
) -> jax.Array:
    """Normalise by running statistics, or the batch's, then scale and shift."""
    channels = [1] * x.ndim
    channels[axis] = -1
    y = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    if mean is None:
        others = [a for a in range(x.ndim) if a != axis % x.ndim]
        mean, var = y.mean(others), y.var(others)
    y -= mean.reshape(channels)
    y *= jax.lax.rsqrt(var + eps).reshape(channels)
    y = y if scale is None else y * scale.reshape(channels)
    return (y if bias is None else y + bias.reshape(channels)).astype(x.dtype)


def weight_norm(
    v: jax.Array, g: jax.Array, *, axis: int | tuple[int, ...]
) -> jax.Array:
    """g * v / ||v||, the norm over `axis`."""
    return v * (g / jnp.linalg.vector_norm(v, axis=axis, keepdims=True))


def grouped_conv(
    x: jax.Array,
    weight: jax.Array,
    strides: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    *,
    rhs_dilation: tuple[int, ...] | None = None,
    dimension_numbers: tuple[str, str, str],
    groups: int,
) -> jax.Array:
    """Convolution within groups of channels; `weight` is (out, in / groups, *kernel).

    On a CPU it is one convolution a group: XLA takes twice as long for all in one.
    """
    axis = dimension_numbers[0].index("C")
    options = {"rhs_dilation": rhs_dilation, "dimension_numbers": dimension_numbers}

    def conv(x, weight, count=groups):
        return jax.lax.conv_general_dilated(
            x, weight, strides, padding, feature_group_count=count, **options
        )

    def by_group(x, weight):
        parts = zip(jnp.split(x, groups, axis), jnp.split(weight, groups), strict=True)
        return jnp.concatenate([conv(*part, count=1) for part in parts], axis)

    return jax.lax.platform_dependent(x, weight, cpu=by_group, default=conv)


def conv_transpose(
    x: jax.Array,
    weight: jax.Array,
    *,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    output_padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int = 1,
    layout: str,
) -> jax.Array:
    """Gradient of a convolution, whose `padding` this is, with respect to its input.

    `weight` is (in, out / groups, *kernel); `layout` is that of x and y: "NCHW".
    """
    kernel = weight.shape[2:]
    space = tuple(range(2, weight.ndim))
    weight = jnp.flip(weight, space).reshape(groups, -1, *weight.shape[1:])
    weight = weight.swapaxes(1, 2).reshape(-1, *weight.shape[1:2], *kernel)
    edges = [d * (k - 1) - p for d, k, p in zip(dilation, kernel, padding, strict=True)]
    return jax.lax.conv_general_dilated(
        x,
        weight,
        window_strides=(1,) * len(kernel),
        padding=[
            (edge, edge + extra)
            for edge, extra in zip(edges, output_padding, strict=True)
        ],
        lhs_dilation=stride,
        rhs_dilation=dilation,
        dimension_numbers=(layout, "OI" + "DHW"[-len(kernel) :], layout),
        feature_group_count=groups,
    )


def max_pool(
    x: jax.Array,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
) -> jax.Array:
    """Maximum over windows of the trailing axes; the padding is minus infinity."""
    batch = x.ndim - len(kernel)
    return jax.lax.reduce_window(
        x,
        -jnp.inf,
        jax.lax.max,
        window_dimensions=(1,) * batch + kernel,
        window_strides=(1,) * batch + stride,
        padding=((0, 0),) * batch + padding,
    )


def dilated_max_pool(
    x: jax.Array,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
) -> jax.Array:
    """`max_pool` whose windows have holes: XLA's reduction has no gradient for them."""
    batch = x.ndim - len(kernel)
    padding = ((0, 0),) * batch + padding
    x = jnp.pad(x, padding, constant_values=-jnp.inf)
    windows = list(zip(x.shape[batch:], kernel, stride, dilation, strict=True))

    def elements(offset: tuple[int, ...]) -> jax.Array:
        cut = [
            slice(i * d, size - (k - 1 - i) * d, s)
            for i, (size, k, s, d) in zip(offset, windows, strict=True)
        ]
        return x[..., *cut]

    return jnp.stack([elements(offset) for offset in np.ndindex(*kernel)]).max(axis=0)


def avg_pool(
    x: jax.Array,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    count_include_pad: bool = True,
) -> jax.Array:
    """Mean over windows of the trailing axes; the padding counts as zeros or not."""
    batch = x.ndim - len(kernel)
    window, strides = (1,) * batch + kernel, (1,) * batch + stride
    padding = ((0, 0),) * batch + padding
    total = jax.lax.reduce_window(x, 0.0, jax.lax.add, window, strides, padding)
    if count_include_pad:
        return total / np.prod(kernel)
    ones = jnp.ones((1,) * batch + x.shape[batch:], x.dtype)
    return total / jax.lax.reduce_window(
        ones, 0.0, jax.lax.add, window, strides, padding
    )


def adaptive_avg_pool(
    x: jax.Array, output_size: tuple[int, ...], axes: tuple[int, ...]
) -> jax.Array:
    """Mean over windows from floor(i * in / out) to ceil((i + 1) * in / out)."""
    for axis, length in zip(axes, output_size, strict=True):
        i, at = np.arange(length)[:, None], np.arange(x.shape[axis])
        start, stop = i * at.size // length, -(-(i + 1) * at.size // length)
        weights = ((start <= at) & (at < stop)) / (stop - start)
        weights = jnp.asarray(weights.T, x.dtype)
        x = jnp.moveaxis(jnp.moveaxis(x, axis, -1) @ weights, -1, axis)
    return x


def resize_nearest(
    x: jax.Array,
    size: tuple[int, ...],
    axes: tuple[int, ...],
    *,
    offset: float = 0.0,
    scales: tuple[float, ...] | None = None,
) -> jax.Array:
    """Element floor((i + offset) * in / out) of each axis: torch's nearest modes."""
    for k, (axis, length) in enumerate(zip(axes, size, strict=True)):
        old = x.shape[axis]
        step = np.float32(1 / scales[k] if scales else old / length)
        at = np.floor((np.arange(length, dtype=np.float32) + np.float32(offset)) * step)
        x = jnp.take(x, np.minimum(at.astype(int), old - 1), axis=axis)
    return x


def resize(
    x: jax.Array,
    size: tuple[int, ...],
    axes: tuple[int, ...],
    *,
    mode: str,
    align_corners: bool = False,
    antialias: bool = False,
    scales: tuple[float, ...] | None = None,
) -> jax.Array:
    """Resample axes by linear or cubic interpolation in torch's coordinates."""
    for k, (axis, length) in enumerate(zip(axes, size, strict=True)):
        old = x.shape[axis]
        if align_corners:
            step = (old - 1) / max(length - 1, 1)
        else:
            step = 1 / scales[k] if scales else old / length
        weights = resize_weights(
            old, length, np.float32(step), mode, align_corners, antialias
        )
        weights = jnp.asarray(weights.T, x.dtype)
        x = jnp.moveaxis(jnp.moveaxis(x, axis, -1) @ weights, -1, axis)
    return x


def along_axis(indices: jax.Array, axis: int) -> tuple[jax.Array, ...]:
    """Index that takes `indices` along `axis` and each position of the other axes."""
    where = list(jnp.indices(indices.shape, sparse=True))
    where[axis] = indices
    return tuple(where)


def sort(
    x: jax.Array, *, axis: int = -1, descending: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Sorted values and their indices; equal values keep their order."""
    indices = jnp.argsort(x, axis=axis, descending=descending)
    return jnp.take_along_axis(x, indices, axis=axis), indices


def smallest_k(x: jax.Array, k: int, *, axis: int = -1) -> tuple[jax.Array, jax.Array]:
    """The k smallest values in ascending order and their indices."""
    indices = jax.lax.slice_in_dim(jnp.argsort(x, axis=axis), 0, k, axis=axis)
    return jnp.take_along_axis(x, indices, axis=axis), indices


def trunc_divide(x: jax.Array, y: jax.Array) -> jax.Array:
    """The quotient of integers, rounded towards zero."""
    return jax.lax.div(*jnp.broadcast_arrays(x, y))


def check_shapes(
    **arguments: tuple[jax.Array, str] | tuple[jax.Array, str, str],
) -> None:
    """Raise ValueError for an argument whose shape the model was not made for.

    ``x=(x, "B T 4")``: x has three axes, the last of size 4. A letter stands for one
    size in all arguments, 1 or more. ``"int B T"`` is for integers, else TypeError is
    raised. A third item says why a size is due.
    """
    sizes: dict[str, int] = {}
    for name, (array, axes, *why) in arguments.items():
        shape, letters = tuple(getattr(array, "shape", ())), axes.split()
        if letters[:1] == ["int"]:
            letters = letters[1:]
            if not jnp.issubdtype(array.dtype, jnp.integer):
                raise TypeError(f"{name} is {array.dtype}: integers are due")
        for letter, size in zip(letters, shape, strict=False):
            sizes.setdefault(letter, int(letter) if letter.isdigit() else max(size, 1))
        wrong = [
            f"axis {axis} is {size}, not {wanted}" if size else f"axis {axis} is empty"
            for axis, (size, wanted) in enumerate(
                zip(shape, map(sizes.get, letters), strict=False)
            )
            if size != wanted
        ]
        if len(shape) != len(letters):
            wrong = [f"it has {len(shape)} axes"]
        if wrong:
            raise ValueError(
                f"{name}: ({', '.join(letters)}) is due, not {shape}: "
                + "; ".join([*wrong, *why])
            )


def padded_embedding(weight, indices, padding):
    """Rows of `weight`; the row `padding` gets no gradient, as in PyTorch."""
    rows = weight[indices]
    padded = (indices == padding)[..., None]
    return jnp.where(padded, jax.lax.stop_gradient(rows), rows)


def as_array(name, given):
    """`given` as a JAX array; TypeError for what is none."""
    try:
        return jnp.asarray(given)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"{name} is {given!r:.60}: the model was traced with an array for it"
        ) from None


def built_in(name, given, traced):
    """Refuse another value of an argument than the one that the model was traced with."""
    plain = getattr(given, "value", given)  # of an enumeration
    odd = isinstance(plain, jax.core.Tracer) or getattr(plain, "ndim", 0)
    if plain is not traced and (odd or plain != traced):
        raise ValueError(
            f"{name} is {given!r:.60}; {traced!r} alone is built in: port the model again"
        )
    return traced


def grid_sample(x, grid, *, mode="bilinear", padding="zeros", align_corners=False):
    """Images (B, C, H, W) at places (B, h, w, 2), whose (x, y) are -1 ... 1."""
    size = jnp.array(x.shape[:1:-1], grid.dtype)
    at = (grid + 1) * (size - 1) / 2 if align_corners else ((grid + 1) * size - 1) / 2
    if padding == "reflection":
        low, span = (0, jnp.maximum(size - 1, 1)) if align_corners else (-0.5, size)
        at = low + span - jnp.abs(jnp.abs(at - low) % (2 * span) - span)
    if padding != "zeros":  # at the border there is no gradient
        at = jnp.where(at <= 0, 0, jnp.where(at >= size - 1, size - 1, at))

    def pick(at):
        seen = ((at >= 0) & (at < size)).all(-1)[:, None]
        i, j = at[..., 1].astype(jnp.int32), at[..., 0].astype(jnp.int32)
        return jnp.where(seen, jax.vmap(lambda x, i, j: x[:, i, j])(x, i, j), 0)

    if mode == "nearest":
        return pick(jnp.round(at))
    first = jnp.floor(at)
    r, d = jnp.moveaxis(at - first, -1, 0)[:, :, None]
    a, b, c, e = (pick(first + jnp.array([j, i])) for i in (0, 1) for j in (0, 1))
    return (a * (1 - r) + b * r) * (1 - d) + (c * (1 - r) + e * r) * d
