"""Views, joins and rearrangements of torch. What changes nothing adds no node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ivyport.core.build import Builder
from ivyport.core.dims import DimLike, product
from ivyport.core.errors import GraphError
from ivyport.core.ir import NewAxis, Slice, Value
from ivyport.core.ops import broadcast, normalize
from ivyport.frontends.torch.promote import Number, number_as, promoted
from ivyport.frontends.torch.registry import lowers

aten = torch.ops.aten

Sizes = Sequence[DimLike]
WHOLE = Slice()


def resized(b: Builder, x: Value, shape: Sizes) -> Value:
    """x reshaped; x itself if that is its shape once -1 is resolved.

    The -1 that the source wrote stays in the graph, for it reads better.
    """
    shape = tuple(shape)
    free = [i for i, size in enumerate(shape) if size == -1]
    resolved = shape
    if len(free) == 1 and len(shape) == x.type.rank:
        resolved = (*shape[: free[0]], x.type.shape[free[0]], *shape[free[0] + 1 :])
    if resolved == x.type.shape:
        return x
    return b.reshape(x, shape=shape)


@lowers(aten.view.default, aten._unsafe_view.default)
def view(b: Builder, input: Value, size: Sizes) -> Value:
    """Reshape."""
    return resized(b, input, size)


@lowers(aten.reshape.default)
def reshape(b: Builder, input: Value, shape: Sizes) -> Value:
    """Reshape."""
    return resized(b, input, shape)


@lowers(aten.view_as.default, aten.reshape_as.default)
def reshape_as(b: Builder, input: Value, other: Value) -> Value:
    """Reshape to another tensor's shape."""
    return resized(b, input, other.type.shape)


@lowers(aten.flatten.using_ints, aten.ravel.default)
def flatten(b: Builder, input: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    """Join neighbouring axes."""
    sizes = input.type.shape
    if not sizes:
        return b.reshape(input, shape=(1,))
    first, last = normalize(start_dim, len(sizes)), normalize(end_dim, len(sizes))
    if first >= last:
        return input
    # -1 is shorter and holds for every size; with an empty axis it would be ambiguous.
    joined = product(sizes[first : last + 1]) if 0 in sizes else -1
    return b.reshape(input, shape=(*sizes[:first], joined, *sizes[last + 1 :]))


@lowers(aten.unflatten.int)
def unflatten(b: Builder, input: Value, dim: int, sizes: Sizes) -> Value:
    """Cut one axis into several."""
    shape = input.type.shape
    axis = normalize(dim, len(shape))
    return resized(b, input, (*shape[:axis], *sizes, *shape[axis + 1 :]))


@lowers(aten.unsqueeze.default)
def unsqueeze(b: Builder, input: Value, dim: int) -> Value:
    """A new axis of size 1."""
    axis = normalize(dim, input.type.rank + 1)
    return b.getitem(input, index=((WHOLE,) * axis + (NewAxis(),)))


def squeezed(b: Builder, x: Value, axes: Sequence[int]) -> Value:
    """x without those of the axes that have size 1."""
    drop = {normalize(a, x.type.rank) for a in axes} if x.type.rank else set()
    drop = {a for a in drop if x.type.shape[a] == 1}
    if not drop:
        return x
    index = tuple(0 if a in drop else WHOLE for a in range(max(drop) + 1))
    return b.getitem(x, index=index)


@lowers(aten.squeeze.default)
def squeeze(b: Builder, input: Value) -> Value:
    """Drop every axis of size 1."""
    return squeezed(b, input, range(input.type.rank))


@lowers(aten.squeeze.dim)
def squeeze_dim(b: Builder, input: Value, dim: int) -> Value:
    """Drop an axis if its size is 1."""
    return squeezed(b, input, (dim,))


@lowers(aten.squeeze.dims)
def squeeze_dims(b: Builder, input: Value, dim: Sequence[int]) -> Value:
    """Drop those of the axes whose size is 1."""
    return squeezed(b, input, dim)


@lowers(aten.expand.default)
def expand(b: Builder, input: Value, size: Sizes, implicit: bool = False) -> Value:
    """Broadcast to a shape; -1 keeps an axis."""
    shape = input.type.shape
    lead = len(size) - len(shape)
    target = tuple(shape[i - lead] if s == -1 else s for i, s in enumerate(size))
    return b.expand(input, target)


@lowers(aten.broadcast_to.default)
def broadcast_to(b: Builder, input: Value, size: Sizes) -> Value:
    """Broadcast to a shape; -1 keeps an axis."""
    return expand(b, input, size)


@lowers(aten.expand_as.default)
def expand_as(b: Builder, input: Value, other: Value) -> Value:
    """Broadcast to another tensor's shape."""
    return b.expand(input, other.type.shape)


@lowers(aten.broadcast_tensors.default)
def broadcast_tensors(b: Builder, tensors: list[Value]) -> tuple[Value, ...]:
    """Every tensor broadcast to the joint shape."""
    joint = broadcast(*(t.type.shape for t in tensors))
    return tuple(b.expand(t, joint) for t in tensors)


@lowers(aten.permute.default)
def permute(b: Builder, input: Value, dims: Sequence[int]) -> Value:
    """Reorder the axes."""
    rank = input.type.rank
    return b.transpose(input, tuple(normalize(d, rank) for d in dims))


@lowers(aten.transpose.int, aten.swapdims.default)
def transpose(b: Builder, input: Value, dim0: int, dim1: int) -> Value:
    """Swap two axes."""
    rank = input.type.rank
    axes = list(range(rank))
    if rank:
        first, second = normalize(dim0, rank), normalize(dim1, rank)
        axes[first], axes[second] = second, first
    return b.transpose(input, tuple(axes))


@lowers(aten.swapaxes.default)
def swapaxes(b: Builder, input: Value, axis0: int, axis1: int) -> Value:
    """Swap two axes."""
    return transpose(b, input, axis0, axis1)


@lowers(aten.t.default, aten.numpy_T.default)
def reversed_axes(b: Builder, input: Value) -> Value:
    """The axes in reverse order."""
    return b.transpose(input, tuple(range(input.type.rank))[::-1])


@lowers(aten.mT.default, aten.adjoint.default, aten.matrix_H.default)
def matrix_transpose(b: Builder, input: Value) -> Value:
    """Swap the last two axes."""
    return transpose(b, input, -2, -1)


@lowers(
    aten.movedim.int, aten.moveaxis.int, aten.movedim.intlist, aten.moveaxis.intlist
)
def movedim(
    b: Builder,
    input: Value,
    source: int | Sequence[int],
    destination: int | Sequence[int],
) -> Value:
    """Move axes to other places, the rest in order."""
    rank = input.type.rank
    sources = [source] if isinstance(source, int) else list(source)
    targets = [destination] if isinstance(destination, int) else list(destination)
    sources = [normalize(a, rank) for a in sources]
    targets = [normalize(a, rank) for a in targets]
    placed = dict(zip(targets, sources, strict=True))
    rest = iter(a for a in range(rank) if a not in sources)
    axes = tuple(placed[a] if a in placed else next(rest) for a in range(rank))
    return b.transpose(input, axes)


def cut(b: Builder, x: Value, sizes: Sizes, dim: int) -> tuple[Value, ...]:
    """Consecutive pieces of an axis; one piece is x itself."""
    if len(sizes) == 1:
        return (x,)
    pieces: tuple[Value, ...] = b.split(x, sizes=tuple(sizes), axis=dim)
    return pieces


def even_sizes(total: DimLike, size: DimLike) -> tuple[DimLike, ...]:
    """Pieces of `size` that make up `total`, the last one perhaps shorter.

    Raises:
        GraphError: how many they are depends on a symbolic size.
    """
    count = -((-total) // size)
    if not isinstance(count, int):
        raise GraphError(
            f"an axis of symbolic size {total} cut into pieces of {size}: how many"
            " pieces there are is not known; make that axis static"
        )
    last = total - (count - 1) * size
    return (*(size for _ in range(count - 1)), last)


@lowers(aten.split.Tensor)
def split(
    b: Builder, input: Value, split_size: DimLike, dim: int = 0
) -> tuple[Value, ...]:
    """Pieces of one size, the last one perhaps shorter."""
    total = input.type.shape[normalize(dim, input.type.rank)]
    return cut(b, input, even_sizes(total, split_size), dim)


@lowers(aten.split_with_sizes.default)
def split_with_sizes(
    b: Builder, input: Value, split_sizes: Sizes, dim: int = 0
) -> tuple[Value, ...]:
    """Pieces of given sizes."""
    return cut(b, input, split_sizes, dim)


@lowers(aten.split.sizes)
def split_sizes(
    b: Builder, input: Value, split_size: Sizes, dim: int = 0
) -> tuple[Value, ...]:
    """Pieces of given sizes."""
    return cut(b, input, split_size, dim)


@lowers(aten.chunk.default)
def chunk(b: Builder, input: Value, chunks: int, dim: int = 0) -> tuple[Value, ...]:
    """At most `chunks` pieces of one size, the last one perhaps shorter."""
    total = input.type.shape[normalize(dim, input.type.rank)]
    size = -((-total) // chunks)
    if isinstance(total, int):
        return cut(b, input, even_sizes(total, size), dim)
    last = total - size * (chunks - 1)
    return cut(b, input, (*(size for _ in range(chunks - 1)), last), dim)


@lowers(aten.tensor_split.sections)
def tensor_split(
    b: Builder, input: Value, sections: int, dim: int = 0
) -> tuple[Value, ...]:
    """`sections` pieces, the first ones longer by one where they do not fit evenly."""
    total = input.type.shape[normalize(dim, input.type.rank)]
    size, extra = total // sections, total % sections
    if not isinstance(extra, int):
        raise GraphError(f"tensor_split of a symbolic size {total} into {sections}")
    return cut(b, input, tuple(size + (i < extra) for i in range(sections)), dim)


@lowers(aten.unbind.int)
def unbind(b: Builder, input: Value, dim: int = 0) -> tuple[Value, ...]:
    """Slices of an axis, without that axis."""
    axis = normalize(dim, input.type.rank)
    count = input.type.shape[axis]
    if not isinstance(count, int):
        raise GraphError(f"unbind of an axis of symbolic size {count}: make it static")
    return tuple(b.getitem(input, index=(WHOLE,) * axis + (i,)) for i in range(count))


@lowers(aten.cat.default, aten.concat.default, aten.concatenate.default)
def cat(b: Builder, tensors: list[Value], dim: int = 0) -> Value:
    """Join along an axis, promoted."""
    dtype, joined = promoted(b, *tensors)
    # torch still skips vectors of length 0, whatever the rank of the others.
    kept = [x for x in joined if isinstance(x, Value) and x.type.shape != (0,)]
    if not kept:
        return b.full(shape=(0,), value=number_as(0, dtype), dtype=dtype)
    return kept[0] if len(kept) == 1 else b.concat(*kept, axis=dim)


@lowers(aten.hstack.default)
def hstack(b: Builder, tensors: list[Value]) -> Value:
    """Join along the second axis, vectors along their only one."""
    rows = [t if t.type.rank else b.reshape(t, shape=(1,)) for t in tensors]
    return cat(b, rows, 0 if rows[0].type.rank == 1 else 1)


@lowers(aten.vstack.default)
def vstack(b: Builder, tensors: list[Value]) -> Value:
    """Join along the first axis, vectors as rows."""
    rows = [
        t if t.type.rank > 1 else b.reshape(t, shape=(1, *(t.type.shape or (1,))))
        for t in tensors
    ]
    return cat(b, rows, 0)


@lowers(aten.stack.default)
def stack(b: Builder, tensors: list[Value], dim: int = 0) -> Value:
    """Join along a new axis, promoted."""
    _, joined = promoted(b, *tensors)
    return b.stack(*joined, axis=dim)


@lowers(aten.repeat.default)
def repeat(b: Builder, input: Value, repeats: Sizes) -> Value:
    """Repeat the whole tensor."""
    if len(repeats) == input.type.rank and all(r == 1 for r in repeats):
        return input
    return b.tile(input, repetitions=tuple(repeats))


@lowers(aten.tile.default)
def tile(b: Builder, input: Value, dims: Sizes) -> Value:
    """Repeat the whole tensor; missing leading repetitions are 1."""
    missing = input.type.rank - len(dims)
    return repeat(b, input, (*((1,) * missing), *dims))


@lowers(aten.repeat_interleave.self_int)
def repeat_interleave(
    b: Builder,
    input: Value,
    repeats: DimLike,
    dim: int | None = None,
    output_size: DimLike | None = None,
) -> Value:
    """Repeat each element of an axis, or of the flattened tensor."""
    if dim is None:
        flat = input if input.type.rank == 1 else b.reshape(input, shape=(-1,))
        return flat if repeats == 1 else b.repeat(flat, repeats=repeats, axis=0)
    return input if repeats == 1 else b.repeat(input, repeats=repeats, axis=dim)


@lowers(aten.flip.default)
def flip(b: Builder, input: Value, dims: Sequence[int]) -> Value:
    """Reverse the axes."""
    return b.flip(input, axis=tuple(dims)) if dims else input


@lowers(aten.fliplr.default)
def fliplr(b: Builder, input: Value) -> Value:
    """Reverse the second axis."""
    return flip(b, input, (1,))


@lowers(aten.flipud.default)
def flipud(b: Builder, input: Value) -> Value:
    """Reverse the first axis."""
    return flip(b, input, (0,))


@lowers(aten.roll.default)
def roll(
    b: Builder, input: Value, shifts: Any, dims: int | Sequence[int] = ()
) -> Value:
    """Rotate axes, or the flattened tensor where no axes are given."""
    shift = tuple(shifts) if isinstance(shifts, list | tuple) else (shifts,)
    axis = (dims,) if isinstance(dims, int) else tuple(dims)
    if axis:
        return b.roll(input, shift=shift, axis=axis)
    flat = resized(b, input, (-1,))
    return resized(b, b.roll(flat, shift=shift, axis=(0,)), input.type.shape)


PAD_MODES = {
    "constant": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
}


@lowers(aten.pad.default)
def pad(
    b: Builder, input: Value, pad: Sizes, mode: str = "constant", value: Any = None
) -> Value:
    """Pad; torch lists (before, after) from the last axis to the first."""
    if all(amount == 0 for amount in pad):
        return input
    pairs = list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    padding = ((0, 0),) * (input.type.rank - len(pairs)) + tuple(pairs)
    fill: Number = number_as(0 if value is None else value, input.type.dtype)
    if mode not in PAD_MODES:
        raise GraphError(f"pad mode {mode!r}: one of {', '.join(PAD_MODES)} is due")
    return b.pad(input, padding=padding, mode=PAD_MODES[mode], value=fill)


@lowers(aten.constant_pad_nd.default)
def constant_pad_nd(b: Builder, input: Value, pad: Sizes, value: Number = 0) -> Value:
    """Pad with a number."""
    return _pad(b, input, pad, "constant", value)


@lowers(
    aten.reflection_pad1d.default,
    aten.reflection_pad2d.default,
    aten.reflection_pad3d.default,
)
def reflection_pad(b: Builder, input: Value, padding: Sizes) -> Value:
    """Pad by mirroring without the edge."""
    return _pad(b, input, padding, "reflect")


@lowers(
    aten.replication_pad1d.default,
    aten.replication_pad2d.default,
    aten.replication_pad3d.default,
)
def replication_pad(b: Builder, input: Value, padding: Sizes) -> Value:
    """Pad by repeating the edge."""
    return _pad(b, input, padding, "replicate")


_pad = pad  # the rules above have an argument of that name


@lowers(aten.pixel_shuffle.default)
def pixel_shuffle(b: Builder, input: Value, upscale_factor: int) -> Value:
    """(*, C r^2, H, W) to (*, C, H r, W r)."""
    r = upscale_factor
    *lead, channels, height, width = input.type.shape
    n = len(lead)
    blocks = b.reshape(input, shape=(*lead, channels // (r * r), r, r, height, width))
    order = (*range(n), n, n + 3, n + 1, n + 4, n + 2)
    spread = b.permute_dims(blocks, axes=order)
    return b.reshape(spread, shape=(*lead, channels // (r * r), height * r, width * r))


@lowers(aten.pixel_unshuffle.default)
def pixel_unshuffle(b: Builder, input: Value, downscale_factor: int) -> Value:
    """(*, C, H r, W r) to (*, C r^2, H, W)."""
    r = downscale_factor
    *lead, channels, height, width = input.type.shape
    n, low, short = len(lead), height // r, width // r
    blocks = b.reshape(input, shape=(*lead, channels, low, r, short, r))
    order = (*range(n), n, n + 2, n + 4, n + 1, n + 3)
    gathered = b.permute_dims(blocks, axes=order)
    return b.reshape(gathered, shape=(*lead, channels * r * r, low, short))


@lowers(aten.channel_shuffle.default)
def channel_shuffle(b: Builder, input: Value, groups: int) -> Value:
    """Interleave groups of channels (axis 1)."""
    batch, channels, *space = input.type.shape
    rank = len(space) + 3
    cells = b.reshape(input, shape=(batch, groups, channels // groups, *space))
    swapped = b.permute_dims(cells, axes=(0, 2, 1, *range(3, rank)))
    return b.reshape(swapped, shape=input.type.shape)
