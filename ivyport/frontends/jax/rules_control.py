"""Control flow: branches that are known, scans over stacked layers, loops and branches on data."""

# ruff: noqa: D103 (a rule means what its primitive means, docs.jax.dev/en/latest/jax.lax.html)

from __future__ import annotations

from typing import Any

from ivyport.core.dims import Dim
from ivyport.core.errors import GraphError
from ivyport.core.ir import Scalar
from ivyport.core.passes.match import constant
from ivyport.frontends.jax import loops
from ivyport.frontends.jax.registry import Found, JaxBuilder, lowers


@lowers("platform_index")
def platform_index(b: JaxBuilder, *, platforms: Any) -> Scalar:
    """The branch of `lax.platform_dependent` for any platform, or that for the CPU."""
    for wanted in (None, "cpu"):
        for position, names in enumerate(platforms):
            found = names is None if wanted is None else names and wanted in names
            if found:
                return Scalar(position)
    raise GraphError(f"code for the platforms {platforms} alone")


@lowers("cond")
def cond(
    b: JaxBuilder, which: Found, *operands: Found, branches: Any, **hints: Any
) -> Any:
    known = constant(which)
    if known is None or isinstance(known, Dim):
        return branch(b, which, operands, branches)
    position = min(max(int(known), 0), len(branches) - 1)
    return b.lowering.inline(branches[position], operands)


def branch(b: JaxBuilder, which: Found, operands: Any, branches: Any) -> Any:
    """A branch that data decides."""
    return loops.choose(b, b.tensor(which), operands, branches)  # type: ignore[arg-type]  # no key chooses


@lowers("scan")
def scan(
    b: JaxBuilder,
    *operands: Found,
    reverse: bool,
    length: Any,
    jaxpr: Any,
    num_consts: int,
    num_carry: int,
    unroll: Any,
) -> Any:
    """`unroll` says how XLA should compile the loop."""
    consts, rest = operands[:num_consts], operands[num_consts:]
    carry, xs = rest[:num_carry], rest[num_carry:]
    unrolled = b.lowering.unrolled
    steps = b.size(length)
    stacked = unrolled.stacked(jaxpr, consts, xs)
    if isinstance(steps, int) and (steps <= 1 or stacked):
        return unrolled.scan(jaxpr, consts, carry, xs, steps, bool(reverse))
    return loops.scan(b, jaxpr, consts, carry, xs, steps, bool(reverse))


@lowers("while")
def while_loop(
    b: JaxBuilder,
    *operands: Found,
    cond_nconsts: int,
    cond_jaxpr: Any,
    body_nconsts: int,
    body_jaxpr: Any,
) -> Any:
    """The constants of the test come first, then those of the body, then what is carried."""
    first = cond_nconsts + body_nconsts
    test_consts, body_consts = operands[:cond_nconsts], operands[cond_nconsts:first]
    carry = operands[first:]
    return loops.while_loop(b, cond_jaxpr, test_consts, body_jaxpr, body_consts, carry)
