"""What an operation is: its signature, its type rule, its formula and where it is specified.

An operation is declared by its type rule, a function from operand types to result types::

    @op("layer_norm", url="https://arxiv.org/abs/1607.06450", tunable=("eps",))
    def layer_norm(x, scale, bias, *, axis, eps): ...

Positional parameters are tensor operands (``None`` default: may be absent; ``*xs``: any number),
keyword-only parameters are attributes. `tunable` attributes are hyperparameters: two module
instances that differ only there share one emitted class.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ivyport.core.errors import GraphError
from ivyport.core.ir import Operand, Scalar, TensorType, Value

OperandType = TensorType | Scalar | None
REGISTRY: dict[str, OpDef] = {}
CONTROL: dict[str, OpDef] = {}  # operations that hold graphs; emitted as statements
CUSTOM: dict[str, OpDef] = {}  # calls of functions with a derivative of their own


@dataclasses.dataclass(frozen=True)
class OpDef:
    """One operation. `infer` maps operand types and attributes to the result types."""

    name: str
    infer: Callable[..., TensorType | tuple[TensorType, ...]]
    signature: inspect.Signature
    doc: str
    url: str
    tunable: tuple[str, ...]
    elementwise: bool
    random: bool

    @property
    def operands(self) -> list[inspect.Parameter]:
        """Tensor operands in order."""
        return [
            p
            for p in self.signature.parameters.values()
            if p.kind is not inspect.Parameter.KEYWORD_ONLY
        ]

    @property
    def variadic(self) -> bool:
        """Whether the last operand is ``*xs``."""
        kinds = [p.kind for p in self.operands]
        return inspect.Parameter.VAR_POSITIONAL in kinds

    def bind(
        self, operands: tuple[Operand, ...], attrs: Mapping[str, Any]
    ) -> tuple[tuple[Operand, ...], dict[str, Any]]:
        """Check names and arity and fill in defaults.

        Raises:
            GraphError: an operand or attribute is missing or unknown.
        """
        try:
            bound = self.signature.bind(*operands, **attrs)
        except TypeError as error:
            raise GraphError(f"op {self.name!r}{self.signature}: {error}") from None
        bound.apply_defaults()
        return tuple(bound.args), dict(bound.kwargs)

    def types(
        self, operands: tuple[Operand, ...], attrs: Mapping[str, Any]
    ) -> tuple[TensorType, ...]:
        """Result types of bound operands; raises `GraphError` where they are illegal."""
        types = [x.type if isinstance(x, Value) else x for x in operands]
        result = self.infer(*types, **attrs)
        return result if isinstance(result, tuple) else (result,)


def op(
    name: str,
    *,
    url: str = "",
    tunable: tuple[str, ...] = (),
    elementwise: bool = False,
    random: bool = False,
    control: bool = False,
    custom: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated type rule as operation `name`.

    Operations of `control` flow hold graphs in attributes and have a table of their own, and
    so do `custom` ones, which call a function that the emitted file defines.
    """
    table = CONTROL if control else CUSTOM if custom else REGISTRY

    def register(infer: Callable[..., Any]) -> Callable[..., Any]:
        if any(name in known for known in (REGISTRY, CONTROL, CUSTOM)):
            raise GraphError(f"operation {name!r} is defined twice")
        table[name] = OpDef(
            name,
            infer,
            inspect.signature(infer),
            inspect.getdoc(infer) or "",
            url,
            tunable,
            elementwise,
            random,
        )
        return infer

    return register


def get(name: str) -> OpDef:
    """The operation called `name`; raises `GraphError` if there is none."""
    found = REGISTRY.get(name) or CONTROL.get(name) or CUSTOM.get(name)
    if found is None:
        raise GraphError(f"there is no operation {name!r}")
    return found


def demand(condition: bool, message: str) -> None:
    """Raise `GraphError` with `message` unless `condition` holds."""
    if not condition:
        raise GraphError(message)
