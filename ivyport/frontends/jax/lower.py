"""From a jaxpr to nodes of the framework-neutral graph.

`Lowering` walks the equations in order. Calls (jit, remat, custom derivatives) are inlined, module
marks become scopes, PRNG keys vanish, and every primitive without a rule is reported at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

from ivyport.core import dims as dm
from ivyport.core.checks import Check, Line
from ivyport.core.errors import GraphError, UnsupportedOpsError
from ivyport.core.gaps import NO_RULE, Gap, blamed, report, stuck
from ivyport.core.ir import (
    Call,
    Graph,
    Param,
    Scalar,
    Scope,
    Source,
    TensorType,
    Value,
)
from ivyport.core.proofs import equal_from
from ivyport.core.ranges import Interval, Ranges
from ivyport.frontends.jax import calls, derivatives, rules
from ivyport.frontends.jax.absent import ABSENT
from ivyport.frontends.jax.constants import as_nodes
from ivyport.frontends.jax.fixed_draws import FixedDraws
from ivyport.frontends.jax.lines import line_of, source_of
from ivyport.frontends.jax.registry import Found, JaxBuilder, Key, apply
from ivyport.frontends.jax.sizes import KEY, number, to_dim, type_of
from ivyport.frontends.jax.unroll import Unrolled

Env = dict[Var, Found]
MARK = "ivyport_call"


class Scopes(Protocol):
    """What the engine asks of a `ivyport.frontends.jax.scopes.ScopeTable`."""

    def stack(self, call_id: int) -> tuple[Scope, ...]:
        """Scopes of a module call."""
        ...

    def stack_of(
        self, name_stack: str, outer: tuple[Scope, ...] = ()
    ) -> tuple[Scope, ...]:
        """Scopes of an equation with that name stack, inside of `outer`."""
        ...


class NoScopes:
    """The scopes of a function that calls no modules."""

    def __init__(self, cls: str = "Model") -> None:
        self.root = (Scope("", cls),)

    def stack(self, call_id: int) -> tuple[Scope, ...]:
        raise GraphError(f"call {call_id} of a module in a function without modules")

    def stack_of(
        self, name_stack: str, outer: tuple[Scope, ...] = ()
    ) -> tuple[Scope, ...]:
        return outer or self.root


class Lowering:
    """Lowers one closed jaxpr; gaps are collected, not raised one at a time.

    Args:
        closed: the jaxpr.
        invars: what its arguments are: `Value`, `Scalar`, or `Key` for PRNG keys and their data.
        scopes: module calls by their marks.
        constant: makes a value of a closed-over array (array, suggested name).
        dims: names of JAX's symbolic sizes in the graph, where they differ.
        params: parameters by their values; a stacked one may be taken apart by `run`.
        sizes: the example's size of each symbol.

    Attributes:
        checks: what was taken for granted of sizes, where a rule and JAX spell them differently.
        builder: its `nodes` are the graph's.
        calls: module calls, with their arguments.
        stack: scopes of the current equation, before iterations are numbered.
        notes: sentences about what the graph does not keep (custom gradients).
        params: after `run`, the parameters by value; layers that a scan ran over have their own.
        ranges: what integer values are known to hold.
    """

    def __init__(
        self,
        closed: ClosedJaxpr,
        invars: Sequence[Found],
        *,
        scopes: Scopes,
        constant: Callable[[np.ndarray, str], Value],
        dims: Mapping[str, str] | None = None,
        params: Mapping[Value, Param] | None = None,
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        self.closed = closed
        self.sizes = dict(sizes or {})
        self.checks: list[Check] = []
        self.invars = list(invars)
        self.scopes = scopes
        self.constant = constant
        self.dims = dict(dims or {})
        self.params = dict(params or {})
        self.builder = JaxBuilder(self)
        self.calls: list[Call] = []
        self.notes: list[str] = []
        self.unrolled = Unrolled(self)
        self.gaps: list[Gap] = []
        self.plain = False  # in a graph that nothing differentiates
        self.draws = FixedDraws(self)
        self.stack: tuple[Scope, ...] = ()
        self._outer: tuple[Scope, ...] = ()  # of the enclosing equation
        self._src: Source | None = None
        self._arrays: dict[int, tuple[Any, Found]] = {}
        self.ranges = Ranges({})

    def run(self, count: int | None = None) -> list[Found]:
        """Lower every equation; the flat outputs.

        The first `count` are results. Those behind them are new values of parameters: one that
        is a parameter itself is as it was.

        Raises:
            UnsupportedOpsError: listing every primitive that cannot be lowered.
        """
        outputs = self.jaxpr(self.closed, self.invars)
        if self.gaps:
            error = UnsupportedOpsError(report(self.gaps))
            size = stuck(self.gaps, self.sizes)
            if size is not None:
                error.stuck = (size, *blamed(self.gaps, size))
            raise error
        kept = len(outputs) if count is None else count
        new = [x for x in outputs[kept:] if x not in self.params]
        self.unrolled.settle([*outputs[:kept], *new])
        return outputs

    # ---- for rules whose equation holds a jaxpr

    def jaxpr(self, closed: ClosedJaxpr, operands: Iterable[Found]) -> list[Found]:
        """Lower the equations of a closed jaxpr in place; its outputs.

        An output that is an unused literal stays a `Scalar`.
        """
        jaxpr: Jaxpr = closed.jaxpr
        env: Env = {}
        for var, array in zip(jaxpr.constvars, closed.consts, strict=True):
            env[var] = self.array(array)
        env.update(zip(jaxpr.invars, operands, strict=True))
        for eqn in jaxpr.eqns:
            self._equation(eqn, env)
        return [self._read(x, env) for x in jaxpr.outvars]

    def inline(self, closed: ClosedJaxpr, operands: Iterable[Found]) -> list[Found]:
        """`jaxpr` for the body of the current equation: its marks are inside of this one's."""
        outer, stack, src = self._outer, self.stack, self._src
        b = self.builder
        ins, outs, scope = b.ins, b.outs, b.scope
        self._outer, self._src = stack, b.src
        try:
            return self.jaxpr(closed, operands)
        finally:
            self._outer, self.stack, self._src = outer, stack, src
            b.ins, b.outs, b.scope = ins, outs, scope

    def apart(
        self, closed: ClosedJaxpr, operands: Iterable[Found]
    ) -> tuple[Graph, list[Found]]:
        """`inline`, into a graph of its own without inputs and outputs; and the results."""
        b = self.builder
        nodes, calls, arrays = b.nodes, self.calls, dict(self._arrays)
        b.nodes, self.calls = [], []
        try:
            outputs = self.inline(closed, operands)
            return Graph([], {}, b.nodes, [], calls=self.calls, name="body"), outputs
        finally:
            made = {v for n in b.nodes for v in n.outputs}
            b.nodes, self.calls = nodes, calls
            # Arrays that the body spells as nodes are the body's alone.
            self._arrays = {
                key: (array, found)
                for key, (array, found) in self._arrays.items()
                if key in arrays or found not in made
            }

    # ---- equations

    def _equation(self, eqn: JaxprEqn, env: Env) -> None:
        name = eqn.primitive.name
        stack = str(eqn.source_info.name_stack)
        self.stack = self.scopes.stack_of(stack, self._outer)
        self.builder.scope = self.unrolled.placed(self.stack)
        self.builder.src = source_of(eqn.source_info.traceback) or self._src
        try:
            operands = [self._read(x, env) for x in eqn.invars]
        except GraphError as error:
            # A constant that has no form here is one more line of the report.
            env.update(zip(eqn.outvars, self._gap(eqn, name, str(error)), strict=True))
            return
        if name == MARK:
            self._mark(eqn, operands)
            env.update(zip(eqn.outvars, operands, strict=False))
            return
        try:
            results = self._results(eqn, name, operands)
        except GraphError as error:
            results = self._gap(eqn, name, str(error))
        env.update(zip(eqn.outvars, results, strict=True))

    def _results(
        self, eqn: JaxprEqn, name: str, operands: list[Found]
    ) -> Sequence[Found]:
        b = self.builder
        known = self.draws.evaluated(eqn, operands)
        if known is not None:
            return known
        body = calls.body(eqn)
        b.ins = tuple(type_of(x.aval, self.dims) for x in eqn.invars)
        b.outs = tuple(type_of(x.aval, self.dims) for x in eqn.outvars)
        if body is not None:
            named = self._named(calls.known(eqn), body, operands)
            if named is not None:
                return self._checked(named)
            made = None if self.plain else derivatives.custom(self, eqn, operands)
            if made is not None:
                return self._checked(made)
            if not self.plain:
                self._note_gradient(eqn)
            return self.inline(body, operands)
        if any(isinstance(x, Key) for x in operands) and name not in rules.DRAWS:
            return self._plumbing(name, operands)
        rule = rules.RULES.get(name)
        if rule is None:
            raise GraphError(ABSENT.get(name, NO_RULE))
        return self._checked(apply(rule, b, operands, eqn.params))

    def _named(
        self, name: str, body: ClosedJaxpr, operands: list[Found]
    ) -> Sequence[Found] | None:
        rule = rules.NAMED.get(name)
        if rule is None or len(self.builder.outs) != 1:
            return None
        if name not in rules.DRAWN and not calls.as_written(body):
            return None  # a derivative of the function has its name too
        at = len(self.builder.nodes)
        result = rule(self.builder, body, *operands)
        if result is None:
            del self.builder.nodes[at:]
        return result

    def _plumbing(self, name: str, operands: list[Found]) -> Sequence[Found]:
        """Splitting, folding, wrapping and slicing of keys: more keys."""
        if name not in rules.PLUMBING:
            raise GraphError(ABSENT.get(name, "PRNG keys are used as numbers"))
        keys = [x.derived(()) for x in operands if isinstance(x, Key)]
        own = any(key.own for key in keys)
        return [Key(type_.shape, own=own) for type_ in self.builder.outs]

    def _checked(self, results: Any) -> Sequence[Found]:
        """What a rule returned, if it has the types that JAX inferred."""
        listed = results if isinstance(results, tuple | list) else (results,)
        expected = self.builder.outs
        if len(listed) != len(expected):
            raise GraphError(f"lowered to {len(listed)} results of {len(expected)}")
        for found, type_ in zip(listed, expected, strict=True):
            if isinstance(found, Value) and not self._same(found.type, type_):
                raise GraphError(f"lowered to {found.type}, JAX has {type_}")
            if isinstance(found, Scalar) and type_.shape != ():
                raise GraphError(f"lowered to a number, JAX has {type_}")
        return listed

    def _same(self, one: TensorType, other: TensorType) -> bool:
        """Whether types are equal, at least for sizes that satisfy `checks`."""
        if one.dtype != other.dtype or one.rank != other.rank:
            return False
        for a, b in zip(one.shape, other.shape, strict=True):
            due = equal_from(a, b, self.sizes)
            if due is None:
                return False
            src = self.builder.src
            line = Line(src.file, src.line) if src else None
            self.checks += [dataclasses.replace(check, line=line) for check in due]
        return True

    def _mark(self, eqn: JaxprEqn, operands: list[Found]) -> None:
        raw = self.scopes.stack(eqn.params["call_id"])
        named = zip(eqn.params["names"], operands, strict=True)
        args = [(key, x) for key, x in named if isinstance(x, Value)]
        self.calls.append(Call(self.unrolled.placed(raw), args))

    def _note_gradient(self, eqn: JaxprEqn) -> None:
        function = calls.custom_gradient(eqn)
        if function is not None:
            where = f" ({self.builder.src})" if self.builder.src else ""
            note = (
                f"The gradient that {function}{where} defines for itself is not kept: "
                "the port differentiates what the function computes."
            )
            if note not in self.notes:
                self.notes.append(note)

    # ---- variables

    def _read(self, x: Any, env: Env) -> Found:
        if not isinstance(x, Literal):
            return env[x]
        if np.ndim(x.val):
            return self.array(x.val)
        return Scalar(number(x.val, type_of(x.aval).dtype))

    def array(self, array: Any, name: str = "constant") -> Found:
        """A closed-over array: nodes where they say the same, else a constant of the model."""
        if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
            return Key(tuple(array.shape), array)
        if id(array) not in self._arrays:
            host = np.asarray(array)
            found = as_nodes(self.builder, host, self.unrolled.placed(self._outer))
            made = self.constant(host, name) if found is None else found
            if found is None and host.dtype.kind in "iub" and host.size:
                span = Interval(int(host.min()), int(host.max()))
                self.ranges.known[made] = span  # type: ignore[index]  # a constant is a tensor
            self._arrays[id(array)] = (
                array,
                made,
            )  # the array is kept for its id's sake
        return self._arrays[id(array)][1]

    def _gap(self, eqn: JaxprEqn, name: str, reason: str) -> list[Found]:
        scope = self.builder.scope
        where = (scope[-1].path or "the model") if scope else "the model"
        if self.builder.src:
            where += f" ({self.builder.src})"
        # No size makes up for a rule that is not there.
        sizes = frozenset[str]() if name in ABSENT else _sizes(eqn, self.dims)
        self.gaps.append(Gap(name, where, reason, sizes, line_of(self.builder.src)))
        return [stand_in(x.aval, self.dims) for x in eqn.outvars]


def _sizes(eqn: JaxprEqn, dims: Mapping[str, str]) -> frozenset[str]:
    """The symbolic sizes that an equation has to do with."""
    found: set[str] = set()
    for x in (*eqn.invars, *eqn.outvars):
        for size in getattr(x.aval, "shape", ()):
            found |= dm.symbols(to_dim(size, dims))
    return frozenset(found)


def stand_in(aval: Any, dims: Mapping[str, str]) -> Found:
    """Something of the right type where a rule is missing, so that the rest is looked at too."""
    try:
        type_ = type_of(aval, dims)
    except (GraphError, AttributeError):
        return Value(TensorType("float32", ()), "gap")
    return Key(type_.shape) if type_.dtype == KEY else Value(type_, "gap")


@dataclasses.dataclass
class Lowered:
    """A lowered function: its graph, the closed-over arrays by `Param.path`, notes."""

    graph: Graph
    constants: dict[str, np.ndarray]
    notes: list[str]


def lower_traced(
    closed: ClosedJaxpr,
    names: Sequence[str] | None = None,
    dims: Mapping[str, tuple[int, int | None]] | None = None,
) -> Lowered:
    """The graph of a jaxpr whose arguments are inputs, outputs a flat list.

    Arguments: names are ``x0, x1, ...`` unless given; PRNG keys become `Key` and no inputs.

    Raises:
        UnsupportedOpsError: a primitive has no rule.
    """
    inputs: list[Value] = []
    invars: list[Found] = []
    for position, var in enumerate(closed.jaxpr.invars):
        type_ = type_of(var.aval)
        if type_.dtype == KEY:
            invars.append(Key(type_.shape))
            continue
        name = names[position] if names else f"x{position}"
        inputs.append(Value(type_, name))
        invars.append(inputs[-1])
    params: dict[str, Param] = {}
    arrays: dict[str, np.ndarray] = {}

    def constant(array: np.ndarray, name: str) -> Value:
        path = f"{name}.{len(params)}"
        value = Value(type_of(array), path)
        params[path] = Param(path, value.type, "constant", value)
        arrays[path] = array
        return value

    engine = Lowering(closed, invars, scopes=NoScopes(), constant=constant)
    outputs = engine.run()
    held = [
        engine.builder.full(shape=(), value=x.value, dtype=type_of(v.aval).dtype)
        if isinstance(x, Scalar)
        else x
        for x, v in zip(outputs, closed.jaxpr.outvars, strict=True)
    ]
    kept = [x for x in held if isinstance(x, Value)]
    symbols = {s for v in inputs for d in v.type.shape for s in dm.symbols(d)}
    bounds = {s: (dims or {}).get(s, (1, None)) for s in sorted(symbols)}
    graph = Graph(
        inputs, params, engine.builder.nodes, kept, bounds, calls=engine.calls
    )
    return Lowered(graph, arrays, engine.notes)


def lower_function(
    function: Callable[..., Any], *args: Any, names: Sequence[str] | None = None
) -> Graph:
    """The graph of a plain function; every array leaf of the arguments is an input.

    Args:
        function: a function of arrays (or pytrees of them).
        args: arrays or `jax.ShapeDtypeStruct` (whose sizes may be symbolic).
        names: of the flat arguments; ``x0, x1, ...`` if not given.

    Raises:
        UnsupportedOpsError: a primitive has no rule.
    """
    return lower_traced(jax.make_jaxpr(function)(*args), names).graph
