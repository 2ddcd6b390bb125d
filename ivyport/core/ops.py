"""Array operations, by their Array API names (https://data-apis.org/array-api/2024.12/).

Operands are tensors of equal dtype; a `Scalar` takes the dtype of the tensor beside it. Nothing
is promoted: frontends insert `astype`.
"""

from __future__ import annotations

from typing import Any

from ivyport.core import dtype as dt
from ivyport.core.dims import Dim, DimLike, product, symbols
from ivyport.core.ir import NewAxis, Scalar, Slice, TensorType
from ivyport.core.opdef import OperandType, demand, op

API = "https://data-apis.org/array-api/2024.12/API_specification/"

# fmt: off
FLOAT_UNARY = [
    "acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "erf", "erfinv", "exp",
    "expm1", "log", "log1p", "log2", "log10", "reciprocal", "rsqrt", "sigmoid", "sin", "sinh",
    "softplus", "sqrt", "tan", "tanh", "silu", "relu", "relu6", "log_sigmoid",
    "hard_swish", "hard_sigmoid", "mish",
]
ANY_UNARY = ["negative", "square", "floor", "ceil", "round", "trunc"]
PREDICATES = ["isfinite", "isinf", "isnan"]
ARITHMETIC = [
    "add", "subtract", "multiply", "divide", "floor_divide", "remainder", "pow", "maximum",
    "minimum", "atan2",
]
COMPARISONS = ["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"]
EDGES = ("full", "half", "none")
BITWISE = [
    "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift",
]
LOGICAL = ["logical_and", "logical_or", "logical_xor"]
# fmt: on


def broadcast(*shapes: tuple[DimLike, ...]) -> tuple[DimLike, ...]:
    """The broadcast shape.

    >>> broadcast((3, 1), (4,))
    (3, 4)
    """
    rank = max(map(len, shapes), default=0)
    result: list[DimLike] = []
    for axis in range(rank):
        size: DimLike = 1
        for shape in shapes:
            i = axis - rank + len(shape)
            if i < 0 or shape[i] == 1:
                continue
            demand(
                size == 1 or size == shape[i],
                f"shapes {', '.join(map(str, shapes))} do not broadcast",
            )
            size = shape[i]
        result.append(size)
    return tuple(result)


def normalize(axis: int, rank: int) -> int:
    """A non-negative axis; raises `GraphError` when out of range."""
    demand(-rank <= axis < max(rank, 1), f"axis {axis} is out of range for rank {rank}")
    return axis % rank if rank else 0


def _same_dtype(*xs: OperandType) -> str:
    dtypes = {x.dtype for x in xs if isinstance(x, TensorType)}
    demand(len(dtypes) == 1, f"operands differ in dtype: {sorted(dtypes)}")
    return dtypes.pop()


def _join(*xs: OperandType) -> TensorType:
    dtype = _same_dtype(*xs)
    return TensorType(
        dtype, broadcast(*(x.shape for x in xs if isinstance(x, TensorType)))
    )


def _define() -> None:
    def same(x: TensorType) -> TensorType:
        return x

    def floating(x: TensorType) -> TensorType:
        demand(dt.is_float(x.dtype) or x.dtype in dt.COMPLEX, f"not a float: {x}")
        return x

    def predicate(x: TensorType) -> TensorType:
        return x.with_dtype("bool")

    def arithmetic(x: OperandType, y: OperandType) -> TensorType:
        joined = _join(x, y)
        demand(joined.dtype != "bool", f"arithmetic on bool: {x}, {y}")
        for scalar in (x, y):
            if isinstance(scalar, Scalar) and isinstance(scalar.value, float):
                demand(not dt.is_int(joined.dtype), f"float scalar with {joined.dtype}")
        return joined

    def comparison(x: OperandType, y: OperandType) -> TensorType:
        return _join(x, y).with_dtype("bool")

    def bitwise(x: OperandType, y: OperandType) -> TensorType:
        joined = _join(x, y)
        demand(not dt.is_float(joined.dtype), f"bitwise on floats: {x}, {y}")
        return joined

    groups = (
        (FLOAT_UNARY, floating),
        (ANY_UNARY, same),
        (PREDICATES, predicate),
        (ARITHMETIC, arithmetic),
        (COMPARISONS, comparison),
        (BITWISE, bitwise),
        (LOGICAL, bitwise),
    )
    for names, rule in groups:
        for name in names:
            op(name, url=f"{API}elementwise_functions.html", elementwise=True)(rule)
    for name in ("logical_not", "bitwise_invert"):
        op(name, url=f"{API}elementwise_functions.html", elementwise=True)(same)


_define()


@op("sign", url=f"{API}elementwise_functions.html", elementwise=True)
def sign(x: TensorType, *, nan: bool = True) -> TensorType:
    """-1, 0 or 1; what is not a number stays so, or with `nan` false is 0 (torch)."""
    return x


@op("abs", url=f"{API}elementwise_functions.html", elementwise=True)
def absolute(x: TensorType, *, slope: float = 0.0) -> TensorType:
    """The magnitude; `slope` is the derivative at 0 (torch: 0, JAX: 1)."""
    demand(slope in (0.0, 1.0), f"slope {slope} of abs at 0")
    return x


@op("astype", url=f"{API}data_type_functions.html", elementwise=True)
def astype(x: TensorType, *, dtype: str, saturate: bool = False) -> TensorType:
    """Convert the elements; float to int truncates towards zero.

    A float that the integer type does not hold may become any integer, or with `saturate` the
    nearest one, and 0 if it is not a number (XLA's rule).
    """
    demand(dtype in dt.ALL, f"unknown dtype {dtype!r}")
    return x.with_dtype(dtype)


@op("where", url=f"{API}searching_functions.html", elementwise=True)
def where(condition: TensorType, x: OperandType, y: OperandType) -> TensorType:
    """x where condition, else y. One of x and y may be a scalar."""
    demand(condition.dtype == "bool", f"condition is {condition.dtype}, not bool")
    joined = _join(x, y)
    return joined.with_shape(broadcast(condition.shape, joined.shape))


@op("clip", elementwise=True, tunable=("min", "max"))
def clip(
    x: TensorType, *, min: Any = None, max: Any = None, edge: str = "full"
) -> TensorType:
    """min(max(x, min), max); None is no bound.

    `edge` says how much of the gradient passes where x equals a bound: ``full`` (torch.clamp),
    ``half`` (jnp.clip; a quarter where both bounds are x) or ``none`` (jax.lax.clamp, hardtanh).
    """
    demand(edge in EDGES, f"edge {edge!r} of clip")
    return x


def _reduced(
    x: TensorType,
    axis: tuple[int, ...] | None,
    keepdims: bool,
    dtype: str | None = None,
) -> TensorType:
    if axis is None:
        axis = tuple(range(x.rank))
    axes = {normalize(a, x.rank) for a in axis}
    demand(len(axes) == len(axis), f"repeated axis in {axis}")
    shape = tuple(
        1 if i in axes else d
        for i, d in enumerate(x.shape)
        if keepdims or i not in axes
    )
    return TensorType(dtype or x.dtype, shape)


def _define_reductions() -> None:
    url = f"{API}statistical_functions.html"

    def reduction(
        x: TensorType, *, axis: tuple[int, ...] | None = None, keepdims: bool = False
    ) -> TensorType:
        return _reduced(x, axis, keepdims)

    def extremum(
        x: TensorType,
        *,
        axis: tuple[int, ...] | None = None,
        keepdims: bool = False,
        first: bool = False,
    ) -> TensorType:
        """Equal elements share the gradient, or with `first` the first of one axis has it."""
        demand(not first or (axis is not None and len(axis) == 1), "first of one axis")
        return _reduced(x, axis, keepdims)

    def boolean(
        x: TensorType, *, axis: tuple[int, ...] | None = None, keepdims: bool = False
    ) -> TensorType:
        return _reduced(x, axis, keepdims, "bool")

    def moment(
        x: TensorType,
        *,
        axis: tuple[int, ...] | None = None,
        correction: float = 0,
        keepdims: bool = False,
    ) -> TensorType:
        return _reduced(x, axis, keepdims)

    def index(
        x: TensorType, *, axis: int | None = None, keepdims: bool = False
    ) -> TensorType:
        return _reduced(x, None if axis is None else (axis,), keepdims, "int64")

    for name in ("sum", "prod", "mean", "logsumexp"):
        op(name, url=url)(reduction)
    for name in ("max", "min"):
        op(name, url=url)(extremum)
    for name in ("any", "all"):
        op(name, url=url)(boolean)
    for name in ("var", "std"):
        op(name, url=url)(moment)
    for name in ("argmax", "argmin"):
        op(name, url=f"{API}searching_functions.html")(index)


_define_reductions()


@op("vector_norm", url=f"{API}linear_algebra_functions.html")
def vector_norm(
    x: TensorType,
    *,
    axis: tuple[int, ...] | None = None,
    keepdims: bool = False,
    ord: float = 2.0,
) -> TensorType:
    """(sum |x|^ord)^(1/ord) over the axes."""
    return _reduced(x, axis, keepdims)


@op("cumulative_sum", url=f"{API}statistical_functions.html")
def cumulative_sum(x: TensorType, *, axis: int) -> TensorType:
    """Running sum along an axis, inclusive."""
    normalize(axis, x.rank)
    return x


@op("reshape", url=f"{API}manipulation_functions.html", tunable=("shape",))
def reshape(x: TensorType, *, shape: tuple[DimLike, ...]) -> TensorType:
    """Row-major reshape; at most one -1 takes what remains."""
    free = [i for i, d in enumerate(shape) if d == -1]
    total = product(x.shape)
    if free:
        demand(len(free) == 1, f"several -1 in {shape}")
        known = product(d for d in shape if d != -1)
        rest = total // known
        demand(rest * known == total, f"cannot reshape {x} to {shape}")
        shape = tuple(rest if d == -1 else d for d in shape)
    demand(product(shape) == total, f"cannot reshape {x} to {shape}")
    return x.with_shape(shape)


@op("permute_dims", url=f"{API}manipulation_functions.html")
def permute_dims(x: TensorType, *, axes: tuple[int, ...]) -> TensorType:
    """Reorder the axes."""
    demand(sorted(axes) == list(range(x.rank)), f"{axes} does not permute {x}")
    return x.with_shape(tuple(x.shape[a] for a in axes))


@op("broadcast_to", url=f"{API}manipulation_functions.html")
def broadcast_to(x: TensorType, *, shape: tuple[DimLike, ...]) -> TensorType:
    """Repeat axes of size 1 (and new leading axes) to a shape."""
    demand(
        broadcast(x.shape, shape) == tuple(shape), f"cannot broadcast {x} to {shape}"
    )
    return x.with_shape(shape)


@op("getitem", url=f"{API}indexing.html")
def getitem(x: TensorType, *, index: tuple[Any, ...]) -> TensorType:
    """Basic indexing: integers drop an axis, `Slice` keeps it, `NewAxis` adds one.

    Bounds are within the axis and non-negative; negative integers count from the end.
    """
    shape: list[DimLike] = []
    axis = 0
    for item in index:
        if isinstance(item, NewAxis):
            shape.append(1)
            continue
        demand(axis < x.rank, f"too many indices {index} for {x}")
        if isinstance(item, Slice):
            shape.append(slice_size(item, x.shape[axis]))
        axis += 1
    return x.with_shape((*shape, *x.shape[axis:]))


def slice_size(item: Slice, size: DimLike) -> DimLike:
    """Length of ``x[start:stop:step]`` along an axis of `size`."""
    demand(item.step > 0, f"slice step {item.step} is not positive")
    start = 0 if item.start is None else _bound(item.start, size)
    stop = size if item.stop is None else _bound(item.stop, size)
    length = stop - start
    return -((-length) // item.step) if item.step != 1 else length


def _bound(bound: DimLike, size: DimLike) -> DimLike:
    if isinstance(bound, int) and bound < 0:
        bound = bound + size
    if isinstance(bound, int) and isinstance(size, int):
        return max(0, min(bound, size))
    return bound


@op("index")
def index(
    x: TensorType, *indices: TensorType | None, fill: float | None = None
) -> TensorType:
    """Integer-array indexing as numpy does it; None keeps an axis, trailing axes are kept.

    Integer indices may be negative. Boolean masks are not allowed (their size depends on data).
    An index out of bounds is an error where `fill` is None, and gives `fill` otherwise.
    """
    arrays = [i for i in indices if i is not None]
    demand(all(dt.is_int(i.dtype) for i in arrays), "index by non-integers")
    demand(len(indices) <= x.rank, f"too many indices for {x}")
    joint = broadcast(*(i.shape for i in arrays))
    positions = [k for k, i in enumerate(indices) if i is not None]
    kept = [d for k, d in enumerate(x.shape) if k >= len(indices) or indices[k] is None]
    adjacent = positions == list(range(positions[0], positions[-1] + 1))
    at = positions[0] if adjacent else 0
    return x.with_shape((*kept[:at], *joint, *kept[at:]))


@op("index_update")
def index_update(
    x: TensorType,
    values: OperandType,
    *indices: TensorType | None,
    accumulate: bool = False,
    drop: bool = False,
) -> TensorType:
    """x with ``x[indices] = values`` (or ``+=``), out of place. A bool mask may index alone.

    An index out of bounds is an error, or with `drop` its value is dropped.
    """
    return x


@op("slice_update")
def slice_update(
    x: TensorType, values: OperandType, *, index: tuple[Any, ...]
) -> TensorType:
    """x with ``x[index] = values``, out of place; `index` as in `getitem`."""
    return x


@op("scatter")
def scatter(
    x: TensorType,
    index: TensorType,
    values: OperandType,
    *,
    axis: int,
    mode: str = "set",
) -> TensorType:
    """x with ``x[..., index, ...] = values`` along an axis; mode: set, add, max, min, mul."""
    demand(mode in ("set", "add", "max", "min", "mul"), f"scatter mode {mode!r}")
    return x


@op("take", url=f"{API}indexing_functions.html")
def take(
    x: TensorType, indices: TensorType, *, axis: int, fill: float | None = None
) -> TensorType:
    """Select along an axis; `indices` of any rank replaces that axis.

    Negative indices count from the end; those out of bounds are an error, or give `fill`.
    """
    a = normalize(axis, x.rank)
    return x.with_shape((*x.shape[:a], *indices.shape, *x.shape[a + 1 :]))


@op("take_along_axis", url=f"{API}indexing_functions.html")
def take_along_axis(
    x: TensorType, indices: TensorType, *, axis: int, fill: float | None = None
) -> TensorType:
    """Gather: result[i, j] = x[i, indices[i, j]] for axis 1.

    Other axes of `indices` are at most as long as those of x, and no index is negative (the torch
    rules). With `fill` negative ones count from the end, and those out of bounds give `fill`.
    """
    demand(x.rank == indices.rank, f"take_along_axis of {x} by {indices}")
    return x.with_shape(indices.shape)


@op("concat", url=f"{API}manipulation_functions.html")
def concat(*xs: TensorType, axis: int) -> TensorType:
    """Join along an axis."""
    a = normalize(axis, xs[0].rank)
    _same_dtype(*xs)
    total: DimLike = 0
    for x in xs:
        others = (*x.shape[:a], *x.shape[a + 1 :])
        demand(
            others == (*xs[0].shape[:a], *xs[0].shape[a + 1 :]),
            f"cannot concat {', '.join(map(str, xs))} on axis {axis}",
        )
        total = total + x.shape[a]
    return xs[0].with_shape((*xs[0].shape[:a], total, *xs[0].shape[a + 1 :]))


@op("stack", url=f"{API}manipulation_functions.html")
def stack(*xs: TensorType, axis: int) -> TensorType:
    """Join along a new axis."""
    _same_dtype(*xs)
    demand(len({x.shape for x in xs}) == 1, f"cannot stack {', '.join(map(str, xs))}")
    a = normalize(axis, xs[0].rank + 1)
    return xs[0].with_shape((*xs[0].shape[:a], len(xs), *xs[0].shape[a:]))


@op("split", tunable=("sizes",))
def split(
    x: TensorType, *, sizes: tuple[DimLike, ...], axis: int, even: bool = False
) -> tuple[TensorType, ...]:
    """Cut an axis into consecutive pieces of the given sizes; `even` ones are equal for good."""
    a = normalize(axis, x.rank)
    total: DimLike = 0
    for size in sizes:
        total = total + size
    demand(total == x.shape[a], f"split {x} on axis {axis} into {sizes}")
    return tuple(x.with_shape((*x.shape[:a], s, *x.shape[a + 1 :])) for s in sizes)


@op("flip", url=f"{API}manipulation_functions.html")
def flip(x: TensorType, *, axis: tuple[int, ...]) -> TensorType:
    """Reverse the axes."""
    return x


@op("roll", url=f"{API}manipulation_functions.html", tunable=("shift",))
def roll(
    x: TensorType, *, shift: tuple[DimLike, ...], axis: tuple[int, ...]
) -> TensorType:
    """Rotate the axes by `shift` places."""
    demand(len(shift) == len(axis), f"roll by {shift} on {axis}")
    return x


@op("pad", tunable=("padding", "value"))
def pad(
    x: TensorType,
    *,
    padding: tuple[tuple[DimLike, DimLike], ...],
    mode: str = "constant",
    value: float = 0.0,
) -> TensorType:
    """Pad every axis by (before, after); modes constant, reflect, edge, wrap.

    Negative amounts crop (constant mode alone).
    """
    demand(mode in ("constant", "reflect", "edge", "wrap"), f"pad mode {mode!r}")
    demand(len(padding) == x.rank, f"pad {x} by {padding}")
    return x.with_shape(
        tuple(lo + d + hi for d, (lo, hi) in zip(x.shape, padding, strict=True))
    )


@op("tile", url=f"{API}manipulation_functions.html")
def tile(x: TensorType, *, repetitions: tuple[DimLike, ...]) -> TensorType:
    """Repeat the whole tensor; `repetitions` has one entry an axis (at least the rank)."""
    shape = (1,) * (len(repetitions) - x.rank) + x.shape
    demand(len(repetitions) == len(shape), f"tile {x} by {repetitions}")
    return x.with_shape(tuple(d * r for d, r in zip(shape, repetitions, strict=True)))


@op("repeat", url=f"{API}manipulation_functions.html", tunable=("repeats",))
def repeat(x: TensorType, *, repeats: DimLike, axis: int) -> TensorType:
    """Repeat each element of an axis."""
    a = normalize(axis, x.rank)
    return x.with_shape((*x.shape[:a], x.shape[a] * repeats, *x.shape[a + 1 :]))


def _triangle(x: TensorType, *, k: int = 0) -> TensorType:
    demand(x.rank >= 2, f"triangle of {x}")
    return x


op("tril", url=f"{API}creation_functions.html")(_triangle)
op("triu", url=f"{API}creation_functions.html")(_triangle)


@op("sort", url=f"{API}sorting_functions.html")
def sort(
    x: TensorType, *, axis: int, descending: bool = False, stable: bool = False
) -> tuple[TensorType, TensorType]:
    """Sorted values and their int64 indices."""
    return x, x.with_dtype("int64")


@op("topk", tunable=("k",))
def topk(
    x: TensorType,
    *,
    k: DimLike,
    axis: int = -1,
    largest: bool = True,
    stable: bool = False,
) -> tuple[TensorType, TensorType]:
    """The k largest (or smallest) values, sorted, and their int64 indices.

    Of equal values those of the lowest indices come first if `stable`, else any.
    """
    a = normalize(axis, x.rank)
    out = x.with_shape((*x.shape[:a], k, *x.shape[a + 1 :]))
    return out, out.with_dtype("int64")


@op("bincount", tunable=("length",))
def bincount(x: TensorType, *, length: int) -> TensorType:
    """Occurrences of 0 ... length - 1 in a 1-D integer tensor, as int64."""
    demand(x.rank == 1 and dt.is_int(x.dtype), f"bincount of {x}")
    return TensorType("int64", (length,))


@op("matmul", url=f"{API}linear_algebra_functions.html")
def matmul(x: TensorType, y: TensorType) -> TensorType:
    """Matrix product over the last two axes, leading axes broadcast; vectors as numpy."""
    dtype = _same_dtype(x, y)
    demand(x.rank >= 1 and y.rank >= 1, f"matmul of {x} and {y}")
    inner = y.shape[-2] if y.rank > 1 else y.shape[0]
    demand(x.shape[-1] == inner, f"matmul of {x} and {y}")
    batch = broadcast(x.shape[:-2], y.shape[:-2])
    rows = x.shape[-2:-1] if x.rank > 1 else ()
    columns = y.shape[-1:] if y.rank > 1 else ()
    return TensorType(dtype, (*batch, *rows, *columns))


@op("einsum", url="https://numpy.org/doc/stable/reference/generated/numpy.einsum.html")
def einsum(*xs: TensorType, equation: str) -> TensorType:
    """Sum of products; the equation is explicit (has ``->``) and has no ellipsis."""
    demand("->" in equation, f"einsum {equation!r} does not say its result")
    left, _, right = equation.partition("->")
    terms = left.split(",")
    demand(len(terms) == len(xs) and "." not in equation, f"einsum {equation!r}")
    sizes: dict[str, DimLike] = {}
    for term, x in zip(terms, xs, strict=True):
        demand(len(term) == x.rank, f"einsum {equation!r} with {x}")
        for letter, size in zip(term, x.shape, strict=True):
            if sizes.get(letter, 1) == 1:
                sizes[letter] = size
            demand(
                size in (1, sizes[letter]), f"einsum {equation!r}: sizes of {letter}"
            )
    return TensorType(_same_dtype(*xs), tuple(sizes[letter] for letter in right))


def attr_sizes(attrs: dict[str, Any]) -> set[Dim]:
    """Every symbolic size inside attributes."""
    found: set[Dim] = set()

    def visit(item: Any) -> None:
        if isinstance(item, Dim):
            found.add(item)
        elif isinstance(item, Slice):
            visit(item.start)
            visit(item.stop)
        elif isinstance(item, tuple | list):
            for part in item:
                visit(part)

    for value in attrs.values():
        visit(value)
    return found


def used_symbols(attrs: dict[str, Any]) -> set[str]:
    """Symbols of every size inside attributes."""
    return {name for dim in attr_sizes(attrs) for name in symbols(dim)}
