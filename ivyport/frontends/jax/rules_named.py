"""Functions of JAX that keep their name in a jaxpr: they become the operation of that name.

A rule is called for functions that JAX itself defines; it reads static arguments off the body and
gives None where it does not know the body's form, which is then lowered equation by equation.
"""

# ruff: noqa: D103 (a rule means what its function means, docs.jax.dev/en/latest/jax.nn.html)

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

from ivyport.core import dtype as dt
from ivyport.core.ir import Scalar, Value
from ivyport.core.passes.match import constant
from ivyport.frontends.jax import calls
from ivyport.frontends.jax.registry import Found, JaxBuilder, names
from ivyport.frontends.jax.sizes import dtype_name, number

UNARY = {
    "relu": "relu",
    "relu6": "relu6",
    "silu": "silu",
    "swish": "silu",
    "softplus": "softplus",
    "mish": "mish",
    "log_sigmoid": "log_sigmoid",
    "hard_silu": "hard_swish",
    "hard_swish": "hard_swish",
    "hard_sigmoid": "hard_sigmoid",
    "trunc": "trunc",
    "isinf": "isinf",
}


def equations(body: ClosedJaxpr) -> Iterator[JaxprEqn]:
    """Equations of a body and of the bodies that it calls."""
    for eqn in body.jaxpr.eqns:
        inner = calls.body(eqn)
        if inner is None:
            yield eqn
        else:
            yield from equations(inner)


def find(body: ClosedJaxpr, primitive: str) -> JaxprEqn | None:
    """The first equation of that primitive."""
    return next((e for e in equations(body) if e.primitive.name == primitive), None)


def _literals(eqn: JaxprEqn | None) -> list[float]:
    held = [] if eqn is None else [x for x in eqn.invars if isinstance(x, Literal)]
    return [number(x.val, dtype_name(x.aval.dtype)) for x in held]


def _float(operands: tuple[Found, ...], count: int = 1) -> bool:
    """Whether the operands are `count` tensors of floats."""
    return len(operands) == count and all(
        isinstance(x, Value) and dt.is_float(x.type.dtype) for x in operands
    )


def _unary(op: str) -> Callable[..., Value | None]:
    def rule(b: JaxBuilder, body: ClosedJaxpr, *operands: Found) -> Value | None:
        if not _float(operands):
            return None
        return b.node(op, operands, {}).output  # type: ignore[arg-type]  # no keys, says `_float`

    return rule


for _function, _op in UNARY.items():
    names(_function)(_unary(_op))


@names("leaky_relu")
def leaky_relu(b: JaxBuilder, body: ClosedJaxpr, *operands: Found) -> Value | None:
    slopes = _parameter(body, operands, "mul")
    if slopes is None:
        return None
    return b.leaky_relu(operands[0], negative_slope=slopes, closed=True)


@names("elu")
def elu(b: JaxBuilder, body: ClosedJaxpr, *operands: Found) -> Value | None:
    alpha = _parameter(body, operands, "mul")
    return None if alpha is None else b.elu(operands[0], alpha=alpha)


def _parameter(
    body: ClosedJaxpr, operands: tuple[Found, ...], primitive: str
) -> float | None:
    """The number that an activation multiplies by: a literal of the body, or an operand."""
    if not operands or not _float(operands[:1]):
        return None
    if len(operands) == 2:
        known = constant(operands[1])
        return float(known) if isinstance(known, int | float) else None
    found = _literals(find(body, primitive))
    return float(found[0]) if len(operands) == 1 and len(found) == 1 else None


@names("log_softmax")
def log_softmax(b: JaxBuilder, body: ClosedJaxpr, *operands: Found) -> Value | None:
    top = find(body, "reduce_max")
    if not _float(operands) or top is None or len(top.params["axes"]) != 1:
        return None
    return b.log_softmax(operands[0], axis=int(top.params["axes"][0]))


@names("_one_hot")
def one_hot(b: JaxBuilder, body: ClosedJaxpr, *operands: Found) -> Value | None:
    """Classes on the last axis; another axis is lowered as a comparison."""
    line = find(body, "iota")
    if len(operands) != 1 or not isinstance(operands[0], Value) or line is None:
        return None
    if not dt.is_int(operands[0].type.dtype):
        return None
    if line.params["dimension"] != b.out.rank - 1:
        return None
    shape = b.out.shape
    return b.one_hot(operands[0], num_classes=shape[-1], dtype=b.out.dtype)


@names("remainder")
def remainder(b: JaxBuilder, body: ClosedJaxpr, *operands: Found) -> Value | None:
    return _division(b, "remainder", operands)


@names("floor_divide")
def floor_divide(b: JaxBuilder, body: ClosedJaxpr, *operands: Found) -> Value | None:
    return _division(b, "floor_divide", operands)


def _division(b: JaxBuilder, op: str, operands: tuple[Found, ...]) -> Value | None:
    """Division that rounds down; operands have been cast to the result's dtype."""
    if len(operands) != 2 or not any(isinstance(x, Value) for x in operands):
        return None
    cast: list[Any] = []
    for x in operands:
        if isinstance(x, Value):
            cast.append(b.cast(x, b.out.dtype))
        elif isinstance(x, Scalar) and isinstance(x.value, int | float):
            plain = float if dt.is_float(b.out.dtype) else int
            cast.append(Scalar(plain(x.value)))
        else:
            cast.append(x)
    return b.node(op, tuple(cast), {}).output


@names("clip")
def clip(b: JaxBuilder, body: ClosedJaxpr, *operands: Found) -> Value | None:
    """``clip(x, low, high)`` with numbers for bounds."""
    if len(operands) != 3 or not isinstance(operands[0], Value):
        return None
    x = operands[0]
    bounds = [constant(x) for x in operands[1:]]
    if x.type != b.out or any(not isinstance(v, int | float) for v in bounds):
        return None
    plain = float if dt.is_float(x.type.dtype) else int
    low, high = (plain(v) for v in bounds)  # type: ignore[arg-type]  # numbers, says the test above
    return b.clip(x, min=low, max=high, edge="half")


@names("logaddexp")
def logaddexp(b: JaxBuilder, body: ClosedJaxpr, *operands: Found) -> Value | None:
    """Its own derivative is smooth: |x - y| has no slope where both are equal."""
    if not _float(operands, 2):
        return None
    x, y = operands
    if x.type != y.type:  # type: ignore[union-attr]  # _float says that both are values
        return None
    difference = b.subtract(x, y)
    small = b.log1p(b.exp(b.negative(b.abs(difference))))
    total = b.add(b.maximum(x, y), small)
    return b.where(b.isnan(difference), b.add(x, y), total)


@names("signbit")
def signbit(b: JaxBuilder, body: ClosedJaxpr, *operands: Found) -> Value | None:
    if len(operands) != 1 or not dt.is_float(b.ins[0].dtype):
        return None
    return b.signbit(b.tensor(operands[0]))  # type: ignore[arg-type]  # a float is no key


@names("ldexp")
def ldexp(b: JaxBuilder, body: ClosedJaxpr, *operands: Found) -> Value | None:
    """``x * 2**n`` in two steps, as 2**n alone may be beyond the dtype; 0 and infinity as is."""
    x, n = operands
    if not _float((x,)) or not isinstance(n, Value) or not dt.is_int(n.type.dtype):
        return None
    dtype = b.out.dtype
    if x.type.dtype != dtype:  # type: ignore[union-attr]  # _float says that it is a value
        return None
    half = b.floor_divide(n, Scalar(2))
    steps = [b.exp2(b.cast(k, dtype)) for k in (half, b.subtract(n, half))]
    scaled = b.multiply(b.multiply(x, steps[0]), steps[1])
    same = b.logical_or(b.isinf(x), b.equal(x, Scalar(0.0)))
    return b.where(same, x, scaled)


@names("tril")
def tril(b: JaxBuilder, body: ClosedJaxpr, *operands: Found) -> Value | None:
    """``row + k >= column``."""
    return _triangle(b, body, "tril", operands, 0)


@names("triu")
def triu(b: JaxBuilder, body: ClosedJaxpr, *operands: Found) -> Value | None:
    """Not ``row + (k - 1) >= column``."""
    return _triangle(b, body, "triu", operands, 1)


def _triangle(
    b: JaxBuilder, body: ClosedJaxpr, op: str, operands: tuple[Found, ...], more: int
) -> Value | None:
    """The diagonal is what the body adds to the rows' numbers."""
    if len(operands) != 1 or not isinstance(operands[0], Value):
        return None
    adds = [e for e in equations(body) if e.primitive.name == "add"]
    if len(adds) > 1 or operands[0].type.rank < 2:
        return None
    shift = _literals(adds[0]) if adds else [0]
    if len(shift) != 1:
        return None
    return b.node(op, (operands[0],), {"k": int(shift[0]) + more}).output
