"""A live torch module to a graph: capture, lower in eval and train mode, reconcile."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch.export import ExportedProgram

from ivyport.core.checks import assumption
from ivyport.core.errors import UnsupportedOpsError
from ivyport.core.gaps import blamed, stuck
from ivyport.core.ir import (
    Argument,
    Call,
    Dtype,
    Graph,
    Record,
    Value,
    map_leaves,
    walk,
)
from ivyport.core.modes import refuse_drawing
from ivyport.core.passes.dce import eliminate
from ivyport.core.positions import table_checks
from ivyport.core.proofs import Reduced, by_mode, reduced
from ivyport.core.starts import Starts
from ivyport.frontends.nested import Leaf, Opaque, described
from ivyport.frontends.torch.fresh import Initial, initial_values
from ivyport.frontends.torch.lower import Lowered, Lowering
from ivyport.frontends.torch.optional import with_defaults
from ivyport.frontends.torch.provenance import Proofs, config_reads, prove
from ivyport.frontends.torch.reconcile import (
    forget_counters,
    reconcile,
    stacks,
    written,
)
from ivyport.frontends.torch.sizes import dtype_name
from ivyport.frontends.torch.structure import Size, describe
from ivyport.frontends.torch.tensors import tensor_aliases, to_numpy
from ivyport.frontends.torch.trace import TorchTrace, trace
from ivyport.frontends.unpacking import name_parts

Names = dict[str, str]


@dataclasses.dataclass
class Traced:
    """A graph, the source tensors behind its parameters, and what had to be given up.

    `starts` has what fresh models hold.
    """

    graph: Graph
    tensors: dict[str, torch.Tensor]
    notes: list[str]
    starts: Starts


def to_graph(
    model: torch.nn.Module,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dims: Mapping[str, Mapping[int, str | None]] | None = None,
    train: bool = True,
) -> Traced:
    """Trace `model` on example inputs.

    Raises:
        InputError: the inputs do not fit `forward`.
        TraceError: the model cannot be captured.
        UnsupportedOpsError: operations without a rule, all listed.
    """
    modules, aliases = _shared_modules(model), tensor_aliases(model)

    def fixed(
        program: ExportedProgram, symbols: Mapping[str, str], assumed: Reduced
    ) -> dict[str, str]:
        tensors = _tensors(model, program)
        trial = Lowering(
            program, dict(symbols), tensors, aliases, modules, assumed=assumed
        )
        return _guilty(trial, symbols)

    native = trace(model, args, kwargs, dims=dims, train=train, probe=fixed)
    tensors = _tensors(model, native.program)
    symbols = {symbol: name for symbol, (name, _, _) in native.dims.items()}
    changed = written(native)
    lowering = Lowering(
        native.program,
        symbols,
        tensors,
        aliases,
        modules,
        assumed=native.assumed,
        written=changed,
    )
    lowered = lowering.run()
    notes = list(native.notes)
    graph = _assemble(model, native, lowered, symbols)
    initial = initial_values(model)
    proofs = prove(model, initial.tables)
    graph.initial, graph.built = initial.found, proofs.built
    graph.fields, graph.sizes = proofs.floats | initial.fields, proofs.sizes
    graph.moved, graph.reads = proofs.moved, config_reads(model)
    graph.arguments, found = _arguments(native, lowered)
    notes += found
    graph.arguments, found = with_defaults(model, args, kwargs, graph)
    name_parts(model.forward, graph.arguments)
    notes += found
    notes += _argument_notes(graph, lowered)
    refuse_drawing(graph)
    forget_counters(graph)
    eliminate(graph)
    notes = _demand_rows(graph, native, notes)
    if native.train_program is not None:
        notes += _train_too(model, native, graph, lowered, changed, tensors)
    return Traced(graph, tensors, list(dict.fromkeys(notes)), _starts(initial, proofs))


def _starts(initial: Initial, proofs: Proofs) -> Starts:
    """Tables of fresh models as arrays."""
    values = {n: to_numpy(t) for n, t in initial.tables.items()}
    changed = {
        field: {n: None if t is None else to_numpy(t) for n, t in tables.items()}
        for field, tables in proofs.changed.items()
    }
    return Starts(values, changed)


def _demand_rows(graph: Graph, native: TorchTrace, notes: list[str]) -> list[str]:
    """Let the graph's checks keep sequences within the tables of positions; the notes then."""
    more = table_checks(graph)
    if not more:
        return notes
    before = {assumption(check) for check in graph.checks}
    evaluated, both = (
        reduced([*found.checks, *more], found.bounds)
        for found in (native.assumed, native.assumed_in_training)
    )
    graph.dims.update(evaluated.bounds)
    graph.checks = by_mode(evaluated, both)
    kept = [note for note in notes if note not in before]
    return kept + [assumption(check) for check in graph.checks]


def _train_too(
    model: torch.nn.Module,
    native: TorchTrace,
    graph: Graph,
    lowered: Lowered,
    changed: set[str],
    tensors: dict[str, torch.Tensor],
) -> list[str]:
    """Complete the eval graph with what train mode does, and `tensors` with its constants."""
    other = native.in_training()
    # Each capture counts its constants from 0: one name may stand for two of them.
    own = {
        name: f"{name}_in_training"
        for name, constant in other.program.constants.items()
        if torch.is_tensor(constant)
        and not (name in tensors and torch.equal(constant, tensors[name]))
    }
    tensors |= {own[name]: other.program.constants[name] for name in own}
    symbols = {symbol: name for symbol, (name, _, _) in other.dims.items()}
    lowering = Lowering(
        other.program, symbols, tensors, native.param_aliases, _shared_modules(model),
        train=True, written=changed, assumed=other.assumed,
    )  # fmt: skip
    lowering.canonical |= own
    trained = _lower_training(lowering)
    train_graph = _assemble(model, other, trained, symbols)
    notes = _argument_notes(train_graph, trained)
    forget_counters(train_graph)
    eliminate(train_graph)
    notes += reconcile(graph, lowered, train_graph, trained, native)
    eliminate(graph)
    # What nothing trains and a forward writes (a momentum encoder) is state, as buffers are.
    for param in (graph.params[path] for path in graph.updates):
        if not param.trainable:
            param.kind = "buffer"
    return notes


def _guilty(trial: Lowering, symbols: Mapping[str, str]) -> dict[str, str]:
    """The dimension that has to be constant for the program to be lowered, and why.

    None where an operation has no rule at all, or where every one has its rule.
    """
    try:
        trial.run()
    except UnsupportedOpsError:
        name = stuck(trial.gaps, symbols.values())
        return {} if name is None else {name: blamed(trial.gaps, name)[0]}
    return {}


def _lower_training(lowering: Lowering) -> Lowered:
    try:
        return lowering.run()
    except UnsupportedOpsError as error:
        raise UnsupportedOpsError(
            f"in train mode: {error}\nA port for inference alone is made by train=False."
        ) from None


def _argument_notes(graph: Graph, lowered: Lowered) -> list[str]:
    return [
        f"The forward pass writes to its argument '{name}'{_written_at(value)}; the port leaves it "
        "as it is, and computes with what was written."
        for name, value in lowered.mutated.items()
        if name not in graph.params
    ]


def _written_at(value: Value) -> str:
    """The line that made what is written, if it is known."""
    source = value.producer.src if value.producer else None
    if source is None:
        return ""
    code = f": {source.code.strip()}" if source.code else ""
    return f" ({'/'.join(source.file.split('/')[-2:])}:{source.line}{code})"


def _shared_modules(model: torch.nn.Module) -> Names:
    """Second and later paths of modules that several parents share, to the first one."""
    first: dict[int, str] = {}
    return {
        path: first[id(module)]
        for path, module in model.named_modules(remove_duplicate=False)
        if first.setdefault(id(module), path) != path
    }


def _tensors(
    model: torch.nn.Module, program: ExportedProgram
) -> dict[str, torch.Tensor]:
    """Every tensor that the program may name: parameters, buffers, lifted constants."""
    found: dict[str, torch.Tensor] = {}
    found.update((k, v) for k, v in program.constants.items() if torch.is_tensor(v))
    found.update(model.named_buffers(remove_duplicate=False))
    found.update(model.named_parameters(remove_duplicate=False))
    return found


def _assemble(
    model: torch.nn.Module, native: TorchTrace, lowered: Lowered, symbols: Names
) -> Graph:
    env = lowered.env
    outputs = _outputs(native.output_spec, lowered.outputs)
    for name, node in native.input_nodes.items():
        if isinstance(env.get(node), Value):
            env[node].name = name
    _forget_shared_names(native, env)
    calls = _calls(native, env)
    bounds = {
        symbols[s]: (lower, upper) for s, (_, lower, upper) in native.dims.items()
    }
    return Graph(
        inputs=lowered.inputs,
        params=lowered.params,
        nodes=lowered.builder.nodes,
        outputs=outputs,
        dims=bounds | native.assumed.bounds,
        checks=by_mode(native.assumed, native.assumed_in_training),
        fixed={axis: line for axis, line in native.fixed.items() if line is not None},
        calls=calls,
        attrs=dict(native.module_attrs),
        classes=dict(native.module_classes),
        name=type(model).__name__,
        updates={
            path: value
            for path, value in lowered.mutated.items()
            if path in lowered.params and value is not lowered.params[path].value
        },
    )


def _arguments(
    native: TorchTrace, lowered: Lowered
) -> tuple[list[Argument], list[str]]:
    """The arguments of the model's own call, and notes about what is no argument."""
    named = iter(native.input_names)

    def value(_: Any) -> Value:
        return lowered.env[native.input_nodes[next(named)]]

    def structure(given: Any) -> Any:
        return map_leaves(_portable, describe(given, value))

    return described(native.given, structure)


def _portable(constant: Any) -> Any:
    """Torch's own constants as the graph's."""
    if isinstance(constant, torch.dtype):
        return Dtype(dtype_name(constant))
    return str(constant) if isinstance(constant, torch.device) else constant


def _outputs(spec: Any, flat: list[Any]) -> Any:
    def value(leaf: Any) -> Any:
        if isinstance(leaf, Leaf):
            return flat[leaf.index]
        return None if isinstance(leaf, Opaque | Size) else leaf

    return map_leaves(value, spec)


def _forget_shared_names(native: TorchTrace, env: Mapping[Any, Any]) -> None:
    """What a call returns in a tuple is not called like the variable that gets the tuple."""
    for stack, call in stacks(native.calls):
        found = [env.get(n) for n in walk(call.outputs) if isinstance(n, torch.fx.Node)]
        values = [v for v in found if isinstance(v, Value)]
        for value in values if len(values) > 1 else ():
            made = value.producer.scope if value.producer else ()
            if made[: len(stack)] == stack:
                value.names.pop(len(stack) - 2, None)


def _calls(native: TorchTrace, env: Mapping[Any, Any]) -> list[Call]:
    """Arguments of every module call, as values of the graph."""
    result = []
    for stack, call in stacks(native.calls):
        args = [pair for name, arg in call.args for pair in _flatten(name, arg, env)]
        result.append(Call(stack, args, call.alias))
    return result


def _flatten(name: str, arg: Any, env: Mapping[Any, Any]) -> list[tuple[str, Value]]:
    if isinstance(arg, torch.fx.Node):
        value = env.get(arg)
        return [(name, value)] if isinstance(value, Value) else []
    items: list[tuple[str, Any]] = []
    if isinstance(arg, Record):
        items = list(arg.fields)
    elif isinstance(arg, dict):
        items = [(str(k), v) for k, v in arg.items()]
    elif isinstance(arg, list | tuple):
        items = [(_item_name(name, i, v, env), v) for i, v in enumerate(arg)]
    return [pair for key, item in items for pair in _flatten(key, item, env)]


def _item_name(name: str, position: int, item: Any, env: Mapping[Any, Any]) -> str:
    """An item of a tuple argument is called what the source called it when it was made."""
    value = env.get(item) if isinstance(item, torch.fx.Node) else None
    own = value.names if isinstance(value, Value) else {}
    return own[max(own)] if own else f"{name}_{position}"


__all__ = ["Traced", "to_graph"]
