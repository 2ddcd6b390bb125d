"""Functions that emitted torch files copy, for what no single torch call does."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ivyport.backends import calls
from ivyport.backends.calls import built_in as built_in
from ivyport.backends.calls import check_sizes as check_sizes
from ivyport.backends.calls import matched as matched

PARTS = (calls,)  # functions of every target


def dropped(x: torch.Tensor, rate: float, broadcast: tuple[int, ...]) -> torch.Tensor:
    """Dropout that draws in eval mode too; one draw serves the `broadcast` axes."""
    shape = [1 if axis in broadcast else n for axis, n in enumerate(x.shape)]
    return x * F.dropout(x.new_ones(shape), rate)


def causal_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    *,
    dropout_p: float = 0.0,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Attention under a mask and under the causal one."""
    causal = query.new_ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
    closed = False if mask.dtype == torch.bool else -torch.inf
    mask = torch.where(causal, mask, closed)
    return F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=dropout_p,
        scale=scale,
        enable_gqa=enable_gqa,
    )


def masked_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    *,
    empty: float = 0.0,
    dropout_p: float = 0.0,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Attention in which a query that may see nothing gives the mean of the values.

    This is what scores give that a mask makes one finite number; NaN if `empty` is NaN.
    """
    closed, opened = (False, True) if mask.dtype == torch.bool else (-torch.inf, 0.0)
    seen = (mask != closed).any(dim=-1, keepdim=True)
    return F.scaled_dot_product_attention(
        torch.where(seen, query, empty),
        key,
        value,
        attn_mask=torch.where(seen, mask, opened),
        dropout_p=dropout_p,
        scale=scale,
        enable_gqa=enable_gqa,
    )


def softmax_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    *,
    dropout_p: float = 0.0,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """softmax(Q K^T * scale + mask) V, written out: exact for masks below -1e9."""
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = (x.repeat_interleave(groups, dim=-3) for x in (key, value))
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    weights = F.softmax(query @ key.mT * scale + mask, dim=-1)
    return F.dropout(weights, dropout_p) @ value


def layer_norm(
    x: torch.Tensor,
    axes: int = 1,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    *,
    eps: float,
) -> torch.Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias over the last `axes` axes."""
    return F.layer_norm(x, x.shape[-axes:], weight, bias, eps)


def rms_norm(
    x: torch.Tensor,
    axes: int = 1,
    weight: torch.Tensor | None = None,
    *,
    eps: float,
) -> torch.Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last `axes` axes."""
    return F.rms_norm(x, x.shape[-axes:], weight, eps)


def batch_norm(
    x: torch.Tensor,
    mean: torch.Tensor,
    var: torch.Tensor,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    *,
    training: bool,
    momentum: float,
    eps: float,
) -> torch.Tensor:
    """`F.batch_norm` whose running variance is biased, as in Flax."""
    if not training:
        return F.batch_norm(x, mean, var, weight, bias, eps=eps)
    with torch.no_grad():
        batch = x.to(mean.dtype).transpose(0, 1).flatten(1)
        mean.lerp_(batch.mean(dim=1), momentum)
        var.lerp_(batch.var(dim=1, correction=0), momentum)
    return F.batch_norm(x, None, None, weight, bias, training=True, eps=eps)


def weight_norm(
    v: torch.Tensor, g: torch.Tensor, *, dim: int | tuple[int, ...]
) -> torch.Tensor:
    """g * v / ||v||, the norm over `dim`."""
    return v * (g / torch.linalg.vector_norm(v, dim=dim, keepdim=True))


def one_hot(
    indices: torch.Tensor, num_classes: int, *, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """1 at the index, 0 elsewhere; zeros alone for an index out of range."""
    classes = torch.arange(num_classes, device=indices.device)
    return (indices[..., None] == classes).to(dtype)


def grouped_matmul(
    x: torch.Tensor, weight: torch.Tensor, ends: torch.Tensor
) -> torch.Tensor:
    """Rows up to `ends[g]` times `weight[g]`; rows beyond the last group are zero."""
    row = torch.arange(x.shape[0], device=x.device)
    group = (row[:, None] >= ends).sum(dim=1)[:, None]
    return sum(
        torch.where(group == g, x, 0) @ matrix for g, matrix in enumerate(weight)
    )


def bincount(x: torch.Tensor, length: int) -> torch.Tensor:
    """Occurrences of 0 ... length - 1; the result's size does not depend on x."""
    counts = x.new_zeros(length + 1, dtype=torch.int64)
    ones = torch.ones_like(x, dtype=torch.int64)
    return counts.scatter_add(0, x.clamp(0, length).long(), ones)[:length]


def pad_edges(
    x: torch.Tensor, padding: tuple[tuple[int, int], ...], mode: str
) -> torch.Tensor:
    """Pad every axis by (before, after) with elements of x: reflect, edge or wrap."""
    for axis, (before, after) in enumerate(padding):
        size = x.shape[axis]
        at = torch.arange(-before, size + after, device=x.device)
        if mode == "edge":
            at = at.clamp(0, size - 1)
        elif mode == "wrap":
            at = at % size
        else:
            period = max(2 * (size - 1), 1)
            at = at % period
            at = torch.minimum(at, period - at) if size > 1 else at
        x = x.index_select(axis, at)
    return x


def with_items(
    x: torch.Tensor, index: object, values: torch.Tensor | float
) -> torch.Tensor:
    """x with ``x[index] = values``, out of place."""
    x = x.clone()
    x[index] = values
    return x


def with_added(
    x: torch.Tensor,
    indices: list[torch.Tensor | None],
    values: torch.Tensor | float,
) -> torch.Tensor:
    """x with ``x[indices] += values``, each time that an index occurs, out of place."""
    values = torch.as_tensor(values, dtype=x.dtype, device=x.device)
    return torch.ops.aten.index_put(x, indices, values, accumulate=True)


def scatter_number(
    x: torch.Tensor, dim: int, index: torch.Tensor, value: float, reduce: str
) -> torch.Tensor:
    """`Tensor.scatter_reduce` of one number."""
    return x.scatter_reduce(dim, index, x.new_full(index.shape, value), reduce)


def mean_pool(
    x: torch.Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
) -> torch.Tensor:
    """Mean over windows of what is no padding; `padding` is that of `F.pad`."""
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel) - 1]
    ones = x.new_ones(1, 1, *x.shape[2:])
    filled = pool(F.pad(ones, padding), kernel, stride)
    return pool(F.pad(x, padding), kernel, stride) / filled


def cbrt(x: torch.Tensor) -> torch.Tensor:
    """The real cube root; negative for negative x."""
    signs = torch.where(x < 0, -1.0, 1.0).to(x.dtype)
    return signs * (signs * x) ** (1 / 3)


def absolute(x: torch.Tensor) -> torch.Tensor:
    """|x| whose slope at 0 is 1, as JAX has it, and not 0."""
    # The sum turns -0.0 into 0.0.
    return torch.where(x >= 0, x + 0.0, -x)


def leaky_relu(x: torch.Tensor, negative_slope: float = 0.01) -> torch.Tensor:
    """x from 0 on, else negative_slope * x: its slope at 0 is 1, as JAX has it."""
    return torch.where(x >= 0, x, negative_slope * x)


def clip(
    x: torch.Tensor, *, min: float | None = None, max: float | None = None
) -> torch.Tensor:
    """x.clamp(min, max) whose slope at a bound is 0.5, as JAX has it, and not 1."""
    if min is not None:
        x = torch.maximum(x, x.new_tensor(min))
    return x if max is None else torch.minimum(x, x.new_tensor(max))


def dynamic_slice(
    x: torch.Tensor,
    starts: tuple[torch.Tensor | int, ...],
    sizes: tuple[int, ...],
) -> torch.Tensor:
    """``x[s0:s0 + n0, ...]``; starts are moved until the slice is inside x."""
    for axis, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        if size != x.shape[axis]:
            at = positions(start, size, x.shape[axis], x.device)
            x = x.index_select(axis, at)
    return x


def dynamic_update_slice(
    x: torch.Tensor, values: torch.Tensor, starts: tuple[torch.Tensor | int, ...]
) -> torch.Tensor:
    """x with `values` written at `starts`, moved like those of `dynamic_slice`."""
    indices = [
        positions(start, size, length, x.device)
        for start, size, length in zip(starts, values.shape, x.shape, strict=True)
    ]
    return x.index_put(torch.meshgrid(*indices, indexing="ij"), values)


def positions(
    start: torch.Tensor | int, size: int, length: int, device: torch.device
) -> torch.Tensor:
    """start, start + 1, ... of a slice of `size` inside an axis of `length`."""
    start = torch.as_tensor(start, device=device).clamp(0, length - size)
    return start + torch.arange(size, device=device)


def index_reduce(
    x: torch.Tensor,
    index: tuple[torch.Tensor | slice, ...],
    values: torch.Tensor | float,
    reduce: str,
) -> torch.Tensor:
    """x with each element that `index` selects combined with its values, a copy."""
    at = torch.arange(x.numel(), device=x.device).reshape(x.shape)[index]
    values = torch.as_tensor(values, dtype=x.dtype, device=x.device).expand(at.shape)
    flat = x.flatten().scatter_reduce(0, at.flatten(), values.flatten(), reduce)
    return flat.reshape(x.shape)


def check_shapes(
    **arguments: tuple[torch.Tensor, str] | tuple[torch.Tensor, str, str],
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
            if array.dtype.is_floating_point or array.dtype == torch.bool:
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


def index_or_fill(
    x: torch.Tensor, index: tuple[torch.Tensor | slice, ...], fill: float = torch.nan
) -> torch.Tensor:
    """x[index] as JAX has it: `fill` where an index is out of bounds."""
    places, inside = within(x, index)
    arrays = [i for i, item in enumerate(index) if not isinstance(item, slice)]
    first = arrays[0] if arrays[-1] - arrays[0] < len(arrays) else 0
    found = x[places]
    trailing = found.ndim - first - inside.ndim
    return torch.where(inside[(..., *(None,) * trailing)], found, fill)


def within(
    x: torch.Tensor, index: tuple[torch.Tensor | slice, ...]
) -> tuple[tuple[torch.Tensor | slice, ...], torch.Tensor]:
    """The index moved into bounds, and where it was there before."""
    places, inside = [], torch.ones((), dtype=torch.bool, device=x.device)
    for item, size in zip(index, x.shape, strict=False):
        if not isinstance(item, slice):
            inside = inside & (item >= -size) & (item < size)
            item = item.clamp(-size, size - 1)
        places.append(item)
    return tuple(places), inside


def gather_or_fill(
    x: torch.Tensor, dim: int, index: torch.Tensor, fill: float = torch.nan
) -> torch.Tensor:
    """x.gather(dim, index) as JAX has it: `fill` where an index is out of bounds."""
    size = x.shape[dim]
    inside = (index >= -size) & (index < size)
    return torch.where(inside, x.gather(dim, index.clamp(-size, size - 1) % size), fill)


def put_inside(
    x: torch.Tensor,
    index: tuple[torch.Tensor | slice, ...],
    values: torch.Tensor | float,
    reduce: str = "",
) -> torch.Tensor:
    """x with `values` set at the index, or reduced there; what is outside goes."""
    places, inside = within(x, index)
    at = torch.arange(x.numel(), device=x.device).reshape(x.shape)[places]
    arrays = [i for i, item in enumerate(index) if not isinstance(item, slice)]
    first = arrays[0] if arrays[-1] - arrays[0] < len(arrays) else 0
    trailing = at.ndim - first - inside.ndim
    # One more element takes what is dropped.
    at = torch.where(inside[(..., *(None,) * trailing)], at, x.numel()).flatten()
    values = torch.as_tensor(values, dtype=x.dtype, device=x.device)
    values = values.expand(x[places].shape).flatten()
    flat = torch.cat([x.flatten(), x.new_zeros(1)])
    if not reduce:
        return flat.scatter(0, at, values)[:-1].reshape(x.shape)
    return flat.scatter_reduce(0, at, values, reduce)[:-1].reshape(x.shape)


def sign(x: torch.Tensor) -> torch.Tensor:
    """-1, 0 or 1; what is not a number stays so, as in JAX."""
    return torch.where(x.isnan(), torch.nan, x.sign())


def saturated(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Floats as the nearest integers of `dtype` towards zero; 0 for NaN."""
    limits = torch.iinfo(dtype)
    wide = x.double().nan_to_num(0.0, torch.inf, -torch.inf)
    whole = wide.clamp(limits.min, limits.max).long().to(dtype)
    # 2**63 is a float, and no int64.
    return torch.where(wide >= limits.max, limits.max, whole)


def stable_topk(
    x: torch.Tensor, k: int, dim: int = -1, largest: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """`torch.topk` in which of equal values those of the lowest indices come first.

    0.0 is larger than -0.0.
    """
    order = x
    if x.is_floating_point():
        whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()]
        bits = x.detach().contiguous().view(whole)
        order = torch.where(bits < 0, bits ^ torch.iinfo(whole).max, bits)
    indices = order.argsort(dim=dim, descending=largest, stable=True).narrow(dim, 0, k)
    return x.gather(dim, indices), indices


def as_array(name, given):
    """`given` as a tensor; TypeError for what is none."""
    try:
        return torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"{name} is {given!r:.60}: the model was traced with a tensor for it"
        ) from None


def lu(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Both triangular factors in one, row exchanges, and the order of rows, from 0 on."""
    factors, exchanges, _ = torch.linalg.lu_factor_ex(x)
    placed, _, _ = torch.lu_unpack(factors, exchanges, unpack_data=False)
    return factors, exchanges - 1, placed.argmax(dim=-2).to(torch.int32)


def bit_count(x: torch.Tensor, bits: int) -> torch.Tensor:
    """How many of the bits of integers are set."""
    places = torch.arange(bits, device=x.device, dtype=x.dtype)
    return ((x[..., None] >> places) & 1).sum(-1, dtype=x.dtype)


def leading_zeros(x: torch.Tensor, bits: int) -> torch.Tensor:
    """How many bits of integers are 0 in front of the first one that is set."""
    places = torch.arange(bits, device=x.device, dtype=x.dtype)
    first = ((x[..., None] >> places) & 1).flip(-1)
    return (first.cumsum(-1) == 0).sum(-1, dtype=x.dtype)
