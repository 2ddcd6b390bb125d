"""``@lowers("dot_general")``: how one JAX primitive becomes nodes of the graph.

A rule gets a `JaxBuilder`, the operands by position, and the equation's parameters by name. Its
keyword-only arguments must be those parameters: one that it does not take is an error. Operands are
`Value`, `Scalar` (a literal, or a size) or `Key`.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ivyport.core.build import Builder
from ivyport.core.checks import Check, Line
from ivyport.core.dims import DimLike
from ivyport.core.errors import GraphError
from ivyport.core.ir import Scalar, TensorType, Value
from ivyport.core.ranges import Interval
from ivyport.frontends.jax.sizes import to_dim

if TYPE_CHECKING:
    from ivyport.frontends.jax.lower import Lowering

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}
NAMED: dict[str, Rule] = {}  # functions that keep their name in a jaxpr: jit[name=silu]


@dataclasses.dataclass(frozen=True)
class Key:
    """PRNG keys, or raw data of keys: what a jaxpr computes with them never becomes nodes.

    The target draws from its own streams, so that splitting and folding of keys vanish. `value` is
    what the keys are where the source makes the same ones in each call (`fixed_draws`). `own`
    keys are made of the source's numbers too, though of ones that only a call knows: of data, of a
    counter, of the iterations of a loop.
    """

    shape: tuple[DimLike, ...] = ()
    value: Any = dataclasses.field(default=None, compare=False, repr=False)
    own: bool = dataclasses.field(default=False, compare=False, repr=False)

    def derived(self, shape: tuple[DimLike, ...]) -> Key:
        """Other keys that are made of this one; what they are is not known."""
        return Key(shape, own=self.own or self.value is not None)


Found = Value | Scalar | Key  # what a variable of a jaxpr stands for


class JaxBuilder(Builder):
    """A builder that knows the equation which is being lowered.

    Attributes:
        ins: types of the equation's operands (dtype ``key`` for PRNG keys).
        outs: types of its results; a rule must return values of these types.
        lowering: the engine, for rules that lower a jaxpr inside their equation.
    """

    def __init__(self, lowering: Lowering) -> None:
        super().__init__()
        self.lowering = lowering
        self.ins: tuple[TensorType, ...] = ()
        self.outs: tuple[TensorType, ...] = ()

    @property
    def out(self) -> TensorType:
        """The type of the only result."""
        (type_,) = self.outs
        return type_

    def tensor(self, x: Value | Scalar, position: int = 0) -> Value:
        """Operand `position` as a tensor; a literal becomes a constant of its dtype."""
        if isinstance(x, Value):
            return x
        type_ = self.ins[position]
        return self.full(shape=type_.shape, value=x.value, dtype=type_.dtype)

    def interval(self, x: Value) -> Interval:
        """What integers x is known to hold."""
        return self.lowering.ranges.of(x)

    def size(self, size: Any) -> DimLike:
        """A size in an equation's parameters as a size of the graph."""
        return to_dim(size, self.lowering.dims)

    def takes(self, length: DimLike, least: DimLike) -> bool:
        """Take for granted that an axis is not shorter; False if the example's is."""
        line = Line(self.src.file, self.src.line) if self.src else None
        check = Check(length, ">=", least, line)
        if not check.symbols():
            return bool(check.holds({}))
        if check.holds(self.lowering.sizes) is False:
            return False
        self.lowering.checks.append(check)
        return True

    def sizes(self, sizes: Sequence[Any]) -> tuple[DimLike, ...]:
        """Several of them."""
        return tuple(self.size(s) for s in sizes)


def lowers(*primitives: str) -> Callable[[Rule], Rule]:
    """Register a rule for primitives."""
    return _registers(RULES, primitives)


def names(*functions: str) -> Callable[[Rule], Rule]:
    """Register a rule for functions that a jaxpr names.

    It gets ``(b, jaxpr, *operands)`` and gives None where the jaxpr is not what it takes it for.
    """
    return _registers(NAMED, functions)


def _registers(table: dict[str, Rule], keys: Sequence[str]) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        for key in keys:
            if key in table:
                raise GraphError(f"two rules lower {key}")
            table[key] = rule
        return rule

    return register


# They say how XLA should compute, never what.
HINTS = ("accuracy",)


def _unsharded(value: Any) -> bool:
    """Whether a parameter is a sharding over no devices, which says nothing."""
    return bool(getattr(getattr(value, "mesh", None), "empty", False))


def apply(
    rule: Rule, b: JaxBuilder, operands: Sequence[Any], params: Mapping[str, Any]
) -> Any:
    """Call `rule`.

    Raises:
        GraphError: a parameter that the rule does not take, and that is not None.
    """
    parameters = inspect.signature(rule).parameters.values()
    kinds = inspect.Parameter
    taken = {p.name for p in parameters if p.kind is kinds.KEYWORD_ONLY}
    takes_all = any(p.kind is kinds.VAR_KEYWORD for p in parameters)
    passed = {}
    for key, value in params.items():
        if key in taken or takes_all:
            passed[key] = value
        elif key not in HINTS and value is not None and not _unsharded(value):
            raise GraphError(f"parameter {key}={value!r} is not supported")
    missing = taken - set(passed)
    if missing:
        raise GraphError(f"parameters {sorted(missing)} are missing in this JAX")
    return rule(b, *operands, **passed)
