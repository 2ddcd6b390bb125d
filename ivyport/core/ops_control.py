"""Control flow: loops and branches, whose bodies are graphs in attributes.

A body is closed: its inputs are first what the operation hands it (the carried values, a slice of
each sequence), then one for each *captured* value of the enclosing graph, parameters included.
Captured values are the operation's last operands, and every body takes all of them, in order.
Bodies have no parameters; their outputs are lists of values. `core.control` walks them.

``mode`` chooses by what no tensor says: whether the module trains. It is Python's own ``if`` in
every target.
"""

from __future__ import annotations

from typing import Any

from ivyport.core import dtype as dt
from ivyport.core.dims import DimLike
from ivyport.core.ir import Graph, TensorType
from ivyport.core.opdef import OperandType, demand, op


def _types(operands: tuple[OperandType, ...]) -> list[TensorType]:
    found = [x for x in operands if isinstance(x, TensorType)]
    demand(len(found) == len(operands), "operands of control flow are tensors")
    return found


def _fits(body: Graph, given: list[TensorType], what: str) -> None:
    wanted = [v.type for v in body.inputs]
    demand(
        wanted == given,
        f"{what} takes {', '.join(map(str, wanted))}, "
        f"but gets {', '.join(map(str, given))}",
    )


def _results(body: Graph) -> list[TensorType]:
    return [v.type for v in body.outputs]


@op(
    "scan",
    url="https://docs.jax.dev/en/latest/_autosummary/jax.lax.scan.html",
    control=True,
)
def scan(
    *operands: OperandType,
    body: Graph,
    num_carry: int,
    num_xs: int,
    length: DimLike,
    reverse: bool = False,
) -> tuple[TensorType, ...]:
    """carry, y[t] = body(carry, xs[t], captured) for each t; final carry and stacked y.

    Operands: `num_carry` initial values, `num_xs` sequences of `length` entries on axis 0,
    captured values. `reverse` starts at the last entry; y[t] stays at position t.
    """
    types = _types(operands)
    carry, rest = types[:num_carry], types[num_carry:]
    xs, captured = rest[:num_xs], rest[num_xs:]
    demand(
        all(x.rank > 0 and x.shape[0] == length for x in xs),
        f"sequences of {length} entries are due, not {', '.join(map(str, xs))}",
    )
    items = [x.with_shape(x.shape[1:]) for x in xs]
    _fits(body, [*carry, *items, *captured], "the body")
    made = _results(body)
    demand(
        made[:num_carry] == carry,
        f"a loop that carries {', '.join(map(str, carry))} goes on with "
        f"{', '.join(map(str, made[:num_carry]))}",
    )
    stacked = [y.with_shape((length, *y.shape)) for y in made[num_carry:]]
    return (*carry, *stacked)


@op(
    "while_loop",
    url="https://docs.jax.dev/en/latest/_autosummary/jax.lax.while_loop.html",
    control=True,
)
def while_loop(
    *operands: OperandType, test: Graph, body: Graph, num_carry: int
) -> tuple[TensorType, ...]:
    """carry = body(carry, captured) as long as test(carry, captured); the final carry."""
    types = _types(operands)
    carry = types[:num_carry]
    _fits(test, types, "the test")
    _fits(body, types, "the body")
    demand(_results(test) == [TensorType("bool", ())], "a test gives one bool")
    demand(_results(body) == carry, "the body gives what the loop carries")
    return tuple(carry)


@op(
    "cond",
    url="https://docs.jax.dev/en/latest/_autosummary/jax.lax.switch.html",
    control=True,
)
def cond(
    which: OperandType, *operands: OperandType, branches: tuple[Graph, ...]
) -> tuple[TensorType, ...]:
    """branches[which](captured); `which` is an integer, clamped to the branches there are."""
    known = isinstance(which, TensorType) and which.shape == ()
    demand(known, "the branch is chosen by an integer tensor without axes")
    assert isinstance(which, TensorType)
    demand(dt.is_int(which.dtype), f"the branch is chosen by an integer, not {which}")
    types = _types(operands)
    for branch in branches:
        _fits(branch, types, "a branch")
    results = [_results(branch) for branch in branches]
    demand(all(r == results[0] for r in results), "branches give the same types")
    return tuple(results[0])


@op("mode", control=True)
def mode(
    *operands: OperandType, branches: tuple[Graph, Graph]
) -> tuple[TensorType, ...]:
    """branches[0](captured) in eval mode, branches[1](captured) in train mode.

    A branch gives None for what only the other one has; that is read in the other mode alone.
    """
    types = _types(operands)
    for branch in branches:
        _fits(branch, types, "a mode")
    evaluated, trained = (branch.outputs for branch in branches)
    demand(len(evaluated) == len(trained), "both modes give as many results")
    results = []
    for one, other in zip(evaluated, trained, strict=True):
        known = [v.type for v in (one, other) if v is not None]
        demand(bool(known), "a result that neither mode gives")
        demand(all(t == known[0] for t in known), "both modes give the same types")
        results.append(known[0])
    return tuple(results)


def region_inputs(op_name: str, attrs: dict[str, Any]) -> int:
    """How many inputs of its bodies an operation hands in itself; captured ones follow."""
    if op_name == "scan":
        return int(attrs["num_carry"] + attrs["num_xs"])
    return int(attrs["num_carry"]) if op_name == "while_loop" else 0
