"""Custom derivatives of the user's own: `jax.custom_vjp` and `jax.custom_jvp`.

The equation alone makes a function that JAX differentiates by the user's rule: `jax.vjp` of it
gives the backward pass, of a `custom_jvp` by transposing its linear part. Both passes are lowered
to graphs of their own (`core.ops_custom`).

https://docs.jax.dev/en/latest/notebooks/Custom_derivative_rules_for_Python_code.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import jax
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal
from jax.interpreters import partial_eval

from ivyport.core.control import free_values
from ivyport.core.errors import GraphError, UnsupportedOpsError
from ivyport.core.ir import Graph, Scalar, Value
from ivyport.core.ops_custom import CUSTOM_VJP, Function
from ivyport.core.passes.dce import eliminate
from ivyport.core.passes.stops import carries
from ivyport.frontends.jax import calls
from ivyport.frontends.jax.registry import Found
from ivyport.frontends.jax.sizes import type_of

if TYPE_CHECKING:
    from ivyport.frontends.jax.lower import Lowering


def custom(
    lowering: Lowering, eqn: JaxprEqn, operands: list[Found]
) -> list[Found] | None:
    """The results of an equation with a derivative of the user's own; None if it has none.

    Raises:
        GraphError: the backward pass cannot be captured.
    """
    name = calls.custom_gradient(eqn)
    if name is None or not all(isinstance(x, Value | Scalar) for x in operands):
        return None
    held = {
        var: found
        for var, found in zip(eqn.invars, operands, strict=True)
        if not isinstance(var, Literal)
    }
    b = lowering.builder
    given: list[Any] = [
        b.full(shape=(), value=x.value, dtype=type_of(var.aval).dtype)
        if isinstance(x, Scalar)
        else x
        for var, x in held.items()
    ]
    variables = list(held)
    if not any(isinstance(v, Value) and carries(v) for v in given):
        return None
    try:
        alone, backward = _passes(eqn, variables)
        names = _names(eqn, variables)
        forward = _graph(lowering, alone, names)
        count = len(eqn.outvars)
        grads = ["grad"] if count == 1 else [f"grad_{i}" for i in range(count)]
        back = _graph(lowering, backward, [*names, *grads])
    except UnsupportedOpsError:
        raise
    # The user's rule runs here: whatever it raises says that it cannot be captured.
    except Exception as error:  # noqa: BLE001
        raise GraphError(
            f"the derivative that {name} defines cannot be captured: {error}"
        ) from None
    flags = [_inexact(var) for var in variables]
    made = iter(back.outputs)
    back.outputs = [next(made) if flag else None for flag in flags]
    function = Function(_identifier(name), forward, back)
    return list(b.node(CUSTOM_VJP, tuple(given), {"function": function}).outputs)


def _passes(eqn: JaxprEqn, variables: list[Any]) -> tuple[ClosedJaxpr, ClosedJaxpr]:
    """The function of an equation's variables, and the gradients of the float ones.

    The latter takes the variables and the gradients of the results.
    """

    def function(*xs: Any) -> Any:
        held = dict(zip(variables, xs, strict=True))
        values = [v.val if isinstance(v, Literal) else held[v] for v in eqn.invars]
        return calls.bound(eqn, values)

    def run(*arguments: Any) -> Any:
        xs, gradients = arguments[: len(variables)], arguments[len(variables) :]
        floats = [i for i, var in enumerate(variables) if _inexact(var)]

        def results(*changed: Any) -> list[Any]:
            full = list(xs)
            for i, x in zip(floats, changed, strict=True):
                full[i] = x
            found = zip(function(*full), eqn.outvars, strict=True)
            return [y for y, v in found if _inexact(v)]

        _, pull = jax.vjp(results, *(xs[i] for i in floats))
        found = zip(gradients, eqn.outvars, strict=True)
        return pull([g for g, v in found if _inexact(v)])

    def shapes(held: Any) -> list[jax.ShapeDtypeStruct]:
        return [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in held]

    inputs, results = shapes(variables), shapes(eqn.outvars)
    closed = jax.make_jaxpr(run)(*inputs, *results)
    # The call itself stands in it, unused: it would be lowered forever.
    jaxpr, _ = partial_eval.dce_jaxpr(
        closed.jaxpr, [True] * len(closed.jaxpr.outvars), instantiate=True
    )
    return jax.make_jaxpr(function)(*inputs), ClosedJaxpr(jaxpr, closed.consts)


def _inexact(var: Any) -> bool:
    return bool(jax.dtypes.issubdtype(var.aval.dtype, jax.numpy.inexact))


def _names(eqn: JaxprEqn, variables: list[Any]) -> list[str]:
    """What the function calls its arguments, ``x_0`` where it does not say."""
    held = calls.body(eqn)
    info = held.jaxpr.debug_info if held is not None else None
    names = list(info.arg_names or ()) if info is not None else []
    if len(names) != len(eqn.invars):
        names = [None] * len(eqn.invars)
    found: dict[Any, str] = {}
    for position, (var, name) in enumerate(zip(eqn.invars, names, strict=True)):
        if not isinstance(var, Literal):
            plain = name is not None and str(name).isidentifier()
            found.setdefault(var, str(name) if plain else f"x_{position}")
    return [found[var] for var in variables]


def _graph(lowering: Lowering, closed: ClosedJaxpr, names: list[str]) -> Graph:
    """A closed graph of a jaxpr; calls in it need no derivative any more."""
    b = lowering.builder
    named = zip(closed.jaxpr.invars, names, strict=True)
    inputs = [Value(type_of(v.aval, lowering.dims), name) for v, name in named]
    plain, lowering.plain = lowering.plain, True
    try:
        graph, results = lowering.apart(closed, inputs)
        nodes, b.nodes = b.nodes, graph.nodes
        try:
            graph.outputs = [
                b.full(shape=(), value=x.value, dtype=type_of(v.aval).dtype)
                if isinstance(x, Scalar)
                else x
                for x, v in zip(results, closed.jaxpr.outvars, strict=True)
            ]
        finally:
            b.nodes = nodes
    finally:
        lowering.plain = plain
    graph.inputs, graph.calls = inputs, []
    graph.name = "function"
    eliminate(graph)
    if free_values(graph):
        raise GraphError("it closes over an array: hand that array in as an argument")
    return graph


def _identifier(name: str) -> str:
    """A function's name as one of Python; `<lambda>` has none."""
    found = re.sub(r"\W", "_", name.rpartition(".")[2]).strip("_").lower()
    return found if found.isidentifier() else "function"
