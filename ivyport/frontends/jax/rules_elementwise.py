"""Elementwise primitives.

A literal operand stays a number beside a tensor; where all operands are numbers the result is
computed here.
"""

# ruff: noqa: D103 (a rule means what its primitive means, docs.jax.dev/en/latest/jax.lax.html)

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ivyport.core import dims as dm
from ivyport.core import dtype as dt
from ivyport.core.dims import Dim
from ivyport.core.errors import GraphError
from ivyport.core.ir import Scalar, Value
from ivyport.core.passes.match import constant
from ivyport.frontends.jax.registry import JaxBuilder, lowers
from ivyport.frontends.jax.sizes import dtype_name, number

Number = Value | Scalar

UNARY = {
    "abs": "abs",
    "acos": "acos",
    "acosh": "acosh",
    "asin": "asin",
    "asinh": "asinh",
    "atan": "atan",
    "atanh": "atanh",
    "cbrt": "cbrt",
    "ceil": "ceil",
    "cos": "cos",
    "cosh": "cosh",
    "digamma": "digamma",
    "erf": "erf",
    "erf_inv": "erfinv",
    "erfc": "erfc",
    "exp": "exp",
    "exp2": "exp2",
    "expm1": "expm1",
    "floor": "floor",
    "is_finite": "isfinite",
    "lgamma": "lgamma",
    "log": "log",
    "log1p": "log1p",
    "logistic": "sigmoid",
    "neg": "negative",
    "rsqrt": "rsqrt",
    "sign": "sign",
    "sin": "sin",
    "sinh": "sinh",
    "sqrt": "sqrt",
    "square": "square",
    "tan": "tan",
    "tanh": "tanh",
}
BINARY = {
    "add": "add",
    "add_any": "add",
    "atan2": "atan2",
    "max": "maximum",
    "min": "minimum",
    "mul": "multiply",
    "nextafter": "nextafter",
    "shift_left": "bitwise_left_shift",
    "sub": "subtract",
}
COMPARISONS = {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}
LOGIC = {"and": "and", "or": "or", "xor": "xor"}
ON_BOOL = {"maximum": "logical_or", "minimum": "logical_and"}
# On sizes, so that arithmetic on them stays symbolic.
SIZES: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "maximum": dm.maximum,
    "minimum": dm.minimum,
}
NUMPY: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "negative": np.negative,
    "abs": np.abs,
    "square": np.square,
    "sqrt": np.sqrt,
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
    "logical_not": np.logical_not,
    "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor,
    "bitwise_left_shift": np.left_shift,
    "sign": np.sign,
    "floor": np.floor,
    "ceil": np.ceil,
    "isfinite": np.isfinite,
}


def combine(b: JaxBuilder, op: str, *operands: Number) -> Number:
    """Node `op` of the operands; numbers alone are computed, where that is exact."""
    if any(isinstance(x, Value) for x in operands):
        return b.node(op, operands, _attributes(b, op)).output
    folded = _fold(b, op, [x.value for x in operands if isinstance(x, Scalar)])
    if folded is not None:
        return Scalar(folded)
    tensors = [b.tensor(x, i) for i, x in enumerate(operands)]
    return b.node(op, tuple(tensors), _attributes(b, op)).output


def _attributes(b: JaxBuilder, op: str) -> dict[str, Any]:
    """What of an operation is JAX's own: the derivative of ``abs`` at 0."""
    return {"slope": 1.0} if op == "abs" and dt.is_float(b.ins[0].dtype) else {}


def _fold(b: JaxBuilder, op: str, values: list[Any]) -> Any:
    if any(isinstance(v, Dim) for v in values):
        # A size as a float is not exact above 2**24, but neither is the source's own cast.
        exact = op in SIZES and all(dt.is_int(t.dtype) for t in b.ins)
        return SIZES[op](*values) if exact else None
    if op not in NUMPY:
        return None
    types = [dt.to_numpy(t.dtype) for t in b.ins[: len(values)]]
    arrays = [np.asarray(v, t) for v, t in zip(values, types, strict=True)]
    with np.errstate(all="ignore"):
        return number(NUMPY[op](*arrays), b.outs[0].dtype)


def _unary(op: str) -> Callable[..., Number]:
    def rule(b: JaxBuilder, x: Number) -> Number:
        return combine(b, op, x)

    return rule


def _binary(op: str) -> Callable[..., Number]:
    def rule(b: JaxBuilder, x: Number, y: Number) -> Number:
        if b.ins[0].dtype == "bool" and op in ON_BOOL:
            return combine(b, ON_BOOL[op], x, y)
        if op == "not_equal" and x is y and dt.is_float(b.ins[0].dtype):
            return combine(b, "isnan", x)
        kept = _neutral(b, op, x, y)
        if kept is not None:
            return kept
        return combine(b, op, x, y)

    return rule


def _neutral(b: JaxBuilder, op: str, x: Number, y: Number) -> Value | None:
    """What ``i * 1`` and ``i + 0`` of integers are; ranges of symbolic lengths have both."""
    number = {"add": 0, "multiply": 1, "subtract": 0}.get(op)
    if number is None or not dt.is_int(b.outs[0].dtype):
        return None
    for one, other in ((x, y), (y, x)):
        if other is x and op == "subtract":
            continue
        if isinstance(one, Value) and other == Scalar(number):
            return one
    return None


def _logic(op: str) -> Callable[..., Number]:
    def rule(b: JaxBuilder, x: Number, y: Number) -> Number:
        kind = "logical" if b.ins[0].dtype == "bool" else "bitwise"
        return combine(b, f"{kind}_{op}", x, y)

    return rule


for _primitive, _op in UNARY.items():
    lowers(_primitive)(_unary(_op))
for _primitive, _op in (BINARY | COMPARISONS).items():
    lowers(_primitive)(_binary(_op))
for _primitive, _op in LOGIC.items():
    lowers(_primitive)(_logic(_op))


@lowers("lt_to")
def less_in_order(b: JaxBuilder, x: Number, y: Number) -> Number:
    """`<` of sorted floats: NaN is behind all others, and -0 was made 0 before."""
    plain = combine(b, "less", x, y)
    if not dt.is_float(b.ins[0].dtype):
        return plain
    behind = combine(b, "logical_and", _is_number(b, x), _is_nan(b, y))
    return combine(b, "logical_or", plain, behind)


@lowers("le_to")
def less_equal_in_order(b: JaxBuilder, x: Number, y: Number) -> Number:
    plain = combine(b, "less_equal", x, y)
    if not dt.is_float(b.ins[0].dtype):
        return plain
    return combine(b, "logical_or", plain, _is_nan(b, y))


def _is_nan(b: JaxBuilder, x: Number) -> Value:
    return b.isnan(b.tensor(x))


def _is_number(b: JaxBuilder, x: Number) -> Value:
    return b.logical_not(_is_nan(b, x))


@lowers("not")
def invert(b: JaxBuilder, x: Number) -> Number:
    op = "logical_not" if b.ins[0].dtype == "bool" else "bitwise_invert"
    return combine(b, op, x)


@lowers("copy", "copy_p", "optimization_barrier", "pvary", "sharding_constraint")
@lowers("device_put", "name", "layout_constraint", "reshard")
def identity(b: JaxBuilder, *xs: Number, **hints: Any) -> tuple[Number, ...]:
    return xs


@lowers("stop_gradient")
def stop_gradient(b: JaxBuilder, x: Number) -> Number:
    differentiable = isinstance(x, Value) and dt.is_float(x.type.dtype)
    return b.stop_gradient(x) if differentiable else x


@lowers("reduce_precision")
def reduce_precision(
    b: JaxBuilder, x: Number, *, exponent_bits: int, mantissa_bits: int
) -> Number:
    """Rounding to a narrower format and back."""
    formats = {(8, 23): "float32", (8, 7): "bfloat16", (5, 10): "float16"}
    own = {"float64": (11, 52)} | {v: k for k, v in formats.items()}
    dtype = b.out.dtype
    bits = (exponent_bits, mantissa_bits)
    if all(n >= m for n, m in zip(bits, own[dtype], strict=True)):
        return x
    if bits not in formats:
        raise GraphError(f"no dtype has {bits[0]} exponent and {bits[1]} mantissa bits")
    return b.cast(b.cast(b.tensor(x), formats[bits]), dtype)


@lowers("div")
def div(b: JaxBuilder, x: Number, y: Number) -> Number:
    if not dt.is_int(b.out.dtype):
        if isinstance(x, Scalar) and isinstance(y, Scalar):
            return _quotient(b, x, y)
        return combine(b, "divide", x, y)
    known: list[Any] = [v.value for v in (x, y) if isinstance(v, Scalar)]
    if len(known) == 2 and all(_not_negative(v) for v in known) and known[1] != 0:
        return Scalar(known[0] // known[1])
    return combine(b, "trunc_divide", x, y)


def _quotient(b: JaxBuilder, x: Scalar, y: Scalar) -> Number:
    plain = not isinstance(x.value, Dim) and not isinstance(y.value, Dim)
    if plain and b.out.dtype == "float32":
        with np.errstate(all="ignore"):
            result = np.float32(x.value) / np.float32(y.value)  # type: ignore[arg-type]  # no sizes, says `plain`
        return Scalar(number(result, "float32"))
    return b.divide(b.tensor(x, 0), b.tensor(y, 1))


def _not_negative(value: Any) -> bool:
    return isinstance(value, Dim) or value >= 0


@lowers("rem")
def rem(b: JaxBuilder, x: Number, y: Number) -> Number:
    known: list[Any] = [v.value for v in (x, y) if isinstance(v, Scalar)]
    if len(known) == 2 and dt.is_int(b.out.dtype) and all(map(_not_negative, known)):
        if known[1] == 0:
            raise GraphError("remainder by zero")
        return Scalar(known[0] % known[1])
    return combine(b, "fmod", x, y)


@lowers("pow")
def power(b: JaxBuilder, x: Number, y: Number) -> Number:
    if isinstance(y, Value) and y.type.dtype != b.out.dtype:
        y = b.cast(y, b.out.dtype)
    elif isinstance(y, Scalar) and isinstance(x, Scalar):
        x = b.tensor(x, 0)
    return combine(b, "pow", x, y)


@lowers("integer_pow")
def integer_pow(b: JaxBuilder, x: Number, *, y: int) -> Number:
    x = b.tensor(x)
    if y == 2:
        return b.square(x)
    if y == -1:
        return b.reciprocal(x)
    if y == 1:
        return x
    return b.pow(x, Scalar(y))


@lowers("round")
def round_(b: JaxBuilder, x: Number, *, rounding_method: Any) -> Number:
    x = b.tensor(x)
    if int(rounding_method) == 1:  # to the nearest even number
        return b.round(x)
    whole = b.trunc(x)  # halves away from zero
    far = b.greater_equal(b.abs(b.subtract(x, whole)), Scalar(0.5))
    return b.add(whole, b.where(far, b.sign(x, nan=False), Scalar(0.0)))


@lowers("shift_right_arithmetic")
def shift_right_arithmetic(b: JaxBuilder, x: Number, y: Number) -> Number:
    if b.out.dtype.startswith("u"):
        raise GraphError("an arithmetic shift of unsigned integers")
    return combine(b, "bitwise_right_shift", x, y)


@lowers("shift_right_logical")
def shift_right_logical(b: JaxBuilder, x: Number, y: Number) -> Number:
    dtype = b.out.dtype
    if dtype.startswith("u"):
        return combine(b, "bitwise_right_shift", x, y)
    x, y = (b.cast(b.tensor(v, i), f"u{dtype}") for i, v in enumerate((x, y)))
    return b.cast(b.bitwise_right_shift(x, y), dtype)


@lowers("clamp")
def clamp(b: JaxBuilder, low: Number, x: Number, high: Number) -> Number:
    if b.out.dtype == "bool":
        return combine(b, "logical_and", combine(b, "logical_or", x, low), high)
    bounds = [constant(low), constant(high)]
    if isinstance(x, Value) and not any(
        v is None or isinstance(v, Dim) for v in bounds
    ):
        return b.clip(x, min=bounds[0], max=bounds[1], edge="none")
    x = b.tensor(x, 1)
    found = combine(b, "minimum", combine(b, "maximum", x, low), high)
    if not isinstance(found, Value) or not dt.is_float(b.out.dtype):
        return found
    # Where x equals a bound nothing has a gradient.
    edges = [combine(b, "equal", x, bound) for bound in (low, high)]
    return b.where(b.logical_or(*edges), b.stop_gradient(found), found)


@lowers("select_n")
def select_n(b: JaxBuilder, which: Number, *cases: Number) -> Number:
    kind = b.ins[0].dtype
    if len(cases) == 1:
        return cases[0]
    known = constant(which)
    if known is not None and not isinstance(known, Dim):
        picked = cases[int(known)]
        return picked if isinstance(picked, Scalar) else b.expand(picked, b.out.shape)
    which = b.tensor(which)
    if kind == "bool":
        return _where(b, which, cases[1], cases[0])
    result = cases[-1]
    for i, case in reversed(list(enumerate(cases[:-1]))):
        result = _where(b, b.equal(which, Scalar(i)), case, result)
    return result


def _where(b: JaxBuilder, condition: Value, x: Number, y: Number) -> Value:
    if isinstance(x, Scalar) and isinstance(y, Scalar):
        x = b.full(shape=b.out.shape, value=x.value, dtype=b.out.dtype)
    return b.where(condition, x, y)


@lowers("convert_element_type")
def convert_element_type(
    b: JaxBuilder, x: Number, *, new_dtype: Any, weak_type: bool
) -> Number:
    dtype = dtype_name(new_dtype)
    if isinstance(x, Value):
        if dt.is_float(x.type.dtype) and dt.is_int(dtype):
            return b.astype(x, dtype=dtype, saturate=True)
        return b.cast(x, dtype)
    if isinstance(x.value, Dim):
        exact = dtype not in ("bool", "int8", "uint8", "int16", "uint16")
        return x if exact else b.cast(b.tensor(x), dtype)
    return Scalar(_converted(x.value, b.ins[0].dtype, dtype))


def _converted(value: Any, old: str, new: str) -> Any:
    if dt.is_float(old) and dt.is_int(new):
        if value != value:
            return 0  # XLA: NaN becomes zero, and what does not fit is clamped
        limits = np.iinfo(new)
        return int(min(max(value, limits.min), limits.max))
    with np.errstate(all="ignore"):
        return number(np.asarray(value, dt.to_numpy(old)).astype(dt.to_numpy(new)), new)


@lowers("dim_as_value")
def dim_as_value(b: JaxBuilder, *, dim: Any) -> Number:
    return Scalar(b.size(dim))


@lowers("shape_assertion", "debug_callback", "debug_print")
def nothing(b: JaxBuilder, *operands: Any, **params: Any) -> tuple[()]:
    return ()
