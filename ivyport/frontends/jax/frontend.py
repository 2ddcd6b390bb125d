"""A source written in JAX to a graph: capture, lower in eval and train mode, reconcile."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ivyport.core.checks import Check, assumption
from ivyport.core.errors import TraceError, UnsupportedOpsError
from ivyport.core.fixing import agree
from ivyport.core.ir import Argument, Dtype, Graph, Param, Scope, Value, map_leaves
from ivyport.core.passes.dce import eliminate
from ivyport.core.passes.raising import raise_layers
from ivyport.core.passes.raising.statistics import raise_running
from ivyport.core.proofs import by_mode
from ivyport.core.verify import verify
from ivyport.frontends.jax import dims as dims_
from ivyport.frontends.jax.assigned import NamingLowering
from ivyport.frontends.jax.closures import closed_over
from ivyport.frontends.jax.fixed_draws import NOISE
from ivyport.frontends.jax.places import Places
from ivyport.frontends.jax.reconcile import reconcile
from ivyport.frontends.jax.registry import Found, Key
from ivyport.frontends.jax.sizes import type_of
from ivyport.frontends.jax.sources import (
    TRAIN_ARGUMENTS,
    FunctionSource,
    Source,
    open_source,
)
from ivyport.frontends.jax.structure import describe
from ivyport.frontends.jax.trace import Capture, captures, lowerable
from ivyport.frontends.jax.written import CaptureAgain, demand_state
from ivyport.frontends.nested import Leaf, Opaque, described
from ivyport.frontends.unpacking import name_parts


@dataclasses.dataclass
class Traced:
    """A graph, the source arrays behind its parameters, and what had to be given up.

    `inputs` are the example inputs by name; `places` say where the port holds each array of the
    source, used or not, by the array's own name.
    """

    graph: Graph
    tensors: dict[str, Any]
    notes: list[str]
    inputs: dict[str, Any]
    places: dict[str, str] = dataclasses.field(default_factory=dict)


def to_graph(
    source: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    params: Any = None,
    state: Any = None,
    rng: Any = None,
    dims: dims_.DimsGiven | None = None,
    train: bool = True,
) -> Traced:
    """Trace a haiku transformed function, a Flax module or a plain function.

    Arrays in `args` and `kwargs` are inputs, everything else is a constant of the capture. See
    `sources.open_source` for `params`, `state` and `rng`, and `dims.plan_dims` for `dims`.

    Raises:
        InputError: inputs, parameters or dims do not fit the source, or it lacks a key.
        TraceError: it cannot be captured.
        UnsupportedOpsError: primitives without a rule, all listed.
    """
    opened = open_source(source, args, kwargs, params=params, state=state, rng=rng)
    plan = dims_.plan_dims(opened.inputs, dims)
    opened.check()
    while True:
        evaluated, trained, plan = captures(
            opened, plan, train=train and opened.has_train
        )
        try:
            traced = _traced(opened, evaluated, trained, plan, kwargs or {}, dims)
        except UnsupportedOpsError as error:
            plan = lowerable(plan, error)
        except CaptureAgain as again:
            opened.hold(again.state)
            opened.ignored |= {*again.ignored}
            opened.notes += map(_state_note, again.state)
            opened.notes += map(_ignored_note, again.ignored)
        else:
            opened.hold(())  # all that a call writes is known
            return traced


def _traced(
    opened: Source,
    evaluated: Capture,
    trained: Capture | None,
    plan: dims_.Plan,
    kwargs: Mapping[str, Any],
    dims: dims_.DimsGiven | None,
) -> Traced:
    notes = [*plan.notes, *(_key_note(name) for name in opened.keys)]
    notes += dims_.never_free(opened.inputs, plan, dims)
    both = [evaluated, *([trained] if trained else [])]
    places = _places(opened, both)
    tensors = {**opened.parameters, **opened.buffers}
    lowered = Assembly(opened, evaluated, places, plan)
    graph = lowered.graph()
    updated = dict.fromkeys(path for one in both for path in one.updated)
    written = [path for path in updated if path in opened.parameters]
    if trained is None:
        demand_state(opened, [graph], written)
    notes += [*lowered.notes, *opened.notes]
    if isinstance(opened, FunctionSource):
        constants = lowered.constants.items()
        closed = {p: x for p, x in constants if p.partition(".")[0] != NOISE}
        notes += closed_over(opened.function, closed)
    graph.arguments, found = _arguments(opened, graph)
    name_parts(opened.function, graph.arguments)
    notes += found
    if trained is not None:
        notes += _reconciled(graph, opened, trained, places, plan, lowered, written)
    asked = [*evaluated.checks, *lowered.checks]
    assumed = dims_.assumed(plan, asked)
    wider = dims_.assumed(plan, [*asked, *(trained.checks if trained else [])])
    graph.dims, graph.checks = dict(assumed.bounds), by_mode(assumed, wider)
    graph.fixed = {axis: line for axis, line in plan.fixed.items() if line is not None}
    notes += [assumption(check) for check in graph.checks]
    eliminate(graph)
    verify(graph)
    tensors |= lowered.constants
    notes += [*_unused(graph), *_mode_notes(kwargs)]
    return Traced(
        graph,
        tensors,
        list(dict.fromkeys(notes)),
        dict(opened.inputs),
        dict(places.leaves),
    )


def _unused(graph: Graph) -> list[str]:
    """A note on each input that takes no part."""
    needed = {*graph.uses(), *graph.output_values()}
    return [
        f"Input '{v.name}' is not used by the source."
        for v in graph.inputs
        if v not in needed
    ]


def _arguments(source: Source, graph: Graph) -> tuple[list[Argument], list[str]]:
    """The arguments of the source's own call, and notes about what is no argument."""
    inputs = {str(v.name): v for v in graph.inputs}
    dropped = source.keys.keys() & source.arguments.keys()
    names = iter([name for name in source.names if name not in dropped])

    def leaf(_: Any) -> Any:
        name = next(names)
        return Opaque("random key") if name in source.keys else inputs[name]

    def structure(given: Any) -> Any:
        return map_leaves(_portable, describe(given, leaf))

    return described(source.given(), structure)


def _portable(constant: Any) -> Any:
    return Dtype(constant.name) if isinstance(constant, np.dtype) else constant


def _mode_notes(kwargs: Mapping[str, Any]) -> list[str]:
    """What became of a train flag that the example inputs set."""
    return [
        f"{key}={kwargs[key]!r}: the port computes that in train mode. It starts in eval "
        "mode: call .train() on it."
        for key, value in TRAIN_ARGUMENTS.items()
        if key in kwargs and bool(kwargs[key]) == value
    ]


def _key_note(name: str) -> str:
    return (
        f"Argument '{name}' is a random key: the port has no such argument and draws from "
        "its framework's generator."
    )


def _state_note(path: str) -> str:
    return (
        f"Parameter '{path}' is written by the call, and no output has a gradient by it: the port "
        "holds it as state, which its optimizer does not train."
    )


def _ignored_note(path: str) -> str:
    return (
        f"Parameter '{path}' is written by the call, which changes none of its results: the port "
        "leaves the write out, and trains the tensor as it was before."
    )


def _reconciled(
    graph: Graph,
    source: Source,
    trained: Capture,
    places: Places,
    plan: dims_.Plan,
    evaluated: Assembly,
    written: Sequence[str],
) -> list[str]:
    assembly = Assembly(source, trained, places, plan, evaluated.constants)
    try:
        train = assembly.graph()
    except UnsupportedOpsError as error:
        told = UnsupportedOpsError(
            f"in train mode: {error}\nA port for inference alone is made by train=False."
        )
        told.stuck = error.stuck
        raise told from None
    demand_state(source, [graph, train], written)
    uses = graph.uses()
    read = {path for path, p in graph.params.items() if p.value in uses}
    raise_layers(train, trains=True, read=read)
    raise_layers(graph)
    raise_running(graph, train)
    notes = agree(graph, train)
    reconcile(graph, train)
    evaluated.constants.update(
        (path, array)
        for path, array in assembly.constants.items()
        if path in graph.params
    )
    return notes


def _places(source: Source, captures: Sequence[Capture]) -> Places:
    """Places of all modules, called or not; the tables of the captures learn of them."""
    modules = {p: c for capture in captures for p, c in capture.table.modules.items()}
    places = Places(modules, source.leaves.values())
    for capture_ in captures:
        capture_.table.places = places.modules
    return places


class Assembly:
    """One capture on its way to a graph.

    `constants` are closed-over arrays by the path of their `Param`; `known` are those of the
    other capture, whose paths equal arrays take.
    """

    def __init__(
        self,
        source: Source,
        captured: Capture,
        places: Places,
        plan: dims_.Plan,
        known: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.source = source
        self.captured = captured
        self.places = places
        self.plan = plan
        self.constants: dict[str, np.ndarray] = {}
        self.notes: list[str] = []
        self.checks: list[Check] = []
        self._constant_params: dict[str, Param] = {}
        self._known = dict(known or {})

    def graph(self) -> Graph:
        """Lower the jaxpr; the new state stays as `updates`.

        Raises:
            UnsupportedOpsError: primitives without a rule, all listed.
        """
        source, captured = self.source, self.captured
        invars = iter(captured.closed.jaxpr.invars)
        # The order of the arguments of `trace.capture`.
        params = [
            self._param(path, next(invars))
            for path in [*source.parameters, *source.buffers]
        ]
        inputs = [Value(type_of(next(invars).aval), name) for name in source.inputs]
        keys: list[Found] = [Key(()) for _ in invars]
        lowering = NamingLowering(
            captured.closed,
            [*(p.value for p in params), *inputs, *keys],
            scopes=captured.table,
            constant=self._constant,
            params={p.value: p for p in params},
            sizes=dims_.sizes(source.inputs, self.plan),
        )
        found = zip(
            lowering.run(captured.count), captured.closed.out_avals, strict=True
        )
        flat = [self._tensor(x, aval, lowering) for x, aval in found]
        self.notes += lowering.notes
        self.checks += lowering.checks
        self._localise(lowering)
        results, new = flat[: captured.count], flat[captured.count :]
        held = {p.path: p.value for p in params}
        written = {
            path: value
            for path, value in zip(captured.updated, new, strict=True)
            if value is not held[path]  # a transform (remat) may hand it through
        }
        written = lowering.unrolled.updates(written)
        everything = [*lowering.params.values(), *self._constant_params.values()]
        return Graph(
            inputs=inputs,
            params={p.path: p for p in everything},
            nodes=lowering.builder.nodes,
            outputs=map_leaves(
                lambda x: results[x.index] if isinstance(x, Leaf) else x,
                captured.output,
            ),
            dims=dims_.assumed(self.plan).bounds,
            calls=lowering.calls,
            attrs=self._attrs(),
            classes=self._classes(),
            name=source.name,
            updates=written,
        )

    def _param(self, path: str, var: Any) -> Param:
        leaf = self.source.leaves[path]
        value = Value(type_of(var.aval), path)
        place = self.places.leaves[path]
        kind = "parameter" if leaf.frozen else leaf.kind
        return Param(
            path, value.type, kind, value, place=place, trainable=not leaf.frozen
        )

    def _constant(self, array: np.ndarray, name: str) -> Value:
        path = self._equal(array)
        if path is None:
            path = f"{name}.{len(self.constants) + len(self._known)}"
        value = Value(type_of(array), path)
        place = path.replace(".", "_")
        param = Param(path, value.type, "constant", value, place=place)
        self._constant_params[path] = param
        self.constants[path] = array
        return value

    def _equal(self, array: np.ndarray) -> str | None:
        """The path of the first array of the other capture that is the same; it is taken."""
        for path, other in self._known.items():
            same = (other.dtype, other.shape) == (array.dtype, array.shape)
            if same and other.tobytes() == array.tobytes():
                del self._known[path]
                return path
        return None

    def _localise(self, lowering: NamingLowering) -> None:
        """A constant is held by the innermost module that all its uses are in."""
        stacks: dict[Value, tuple[Scope, ...]] = {}
        for node in lowering.builder.nodes:
            for value in node.values():
                known = stacks.get(value, node.scope)
                stacks[value] = _common(known, node.scope)
        for param in self._constant_params.values():
            stack = stacks.get(param.value, ())
            owner = stack[-1].path if stack else ""
            param.place = f"{owner}.{param.place}" if owner else param.place

    def _tensor(self, found: Found, aval: Any, lowering: NamingLowering) -> Value:
        """An output as a tensor: a number that the source returns is a node."""
        if isinstance(found, Value):
            return found
        if isinstance(found, Key):
            raise TraceError(
                f"{self.source.name} returns a PRNG key: a port returns tensors alone"
            )
        b = lowering.builder
        b.scope, b.src = (self.captured.table.root,), None
        type_ = type_of(aval)
        return b.full(shape=type_.shape, value=found.value, dtype=type_.dtype)

    def _attrs(self) -> dict[str, dict[str, Any]]:
        table, modules = self.captured.table, self.places.modules
        return {modules[path]: dict(own) for path, own in table.attrs.items()}

    def _classes(self) -> dict[str, str]:
        """The class of each module by its place, parents first, in the source's order."""
        table = self.captured.table
        known = {self.places.modules[p]: cls for p, cls in table.modules.items()}
        known.setdefault("", table.root.cls)
        order = [place for place in self.places.modules.values() if place in known]
        return {place: known[place] for place in order}


def _common(one: tuple[Scope, ...], other: tuple[Scope, ...]) -> tuple[Scope, ...]:
    kept = []
    for a, b in zip(one, other, strict=False):
        if a.path != b.path:
            break
        kept.append(a)
    return tuple(kept)
