"""From an exported torch program to the framework-neutral graph."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Collection
from inspect import isroutine
from typing import Any, cast

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Graph as FxGraph
from torch.fx import Node as FxNode
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from ivyport.core import dims as dm
from ivyport.core.build import Builder
from ivyport.core.errors import GraphError, TraceError, UnsupportedOpsError
from ivyport.core.gaps import NO_RULE, Gap, report
from ivyport.core.ir import Graph, Param, Scope, Source, TensorType, Value
from ivyport.core.naming import Made, assigned_names
from ivyport.core.ops_custom import CUSTOM_VJP, Function
from ivyport.core.passes.dce import eliminate
from ivyport.core.passes.stops import Differentiable, carries
from ivyport.core.proofs import Reduced, reduced
from ivyport.frontends.torch import branches, functions, parts, registry, rules
from ivyport.frontends.torch.naming import frames
from ivyport.frontends.torch.regions import NO_GRAD, unlike
from ivyport.frontends.torch.sizes import dtype_name, number, size
from ivyport.frontends.torch.views import Views

NOISE = {
    torch.ops.aten._assert_tensor_metadata.default,
    torch.ops.aten._assert_scalar.default,
    torch.ops.aten._assert_async.msg,
    torch.ops.aten.sym_constrain_range_for_size.default,
    torch.ops.aten.sym_constrain_range.default,
    torch._check,
}
# Arithmetic that takes a tensor for a number, and where that is as exact as torch's.
_TAKES_FRACTIONS = {
    torch.ops.aten.mul.Tensor,
    torch.ops.aten.div.Tensor,
    torch.ops.aten.add.Tensor,
    torch.ops.aten.sub.Tensor,
    torch.ops.aten.rsub.Scalar,
}
_WIDE = {torch.float32, torch.float64}


@dataclasses.dataclass
class Lowered:
    """A graph's parts before they are put together."""

    inputs: list[Value]
    params: dict[str, Param]
    builder: Builder
    env: dict[FxNode, Any]
    outputs: list[Any]
    mutated: dict[str, Value]  # what state that the program writes holds in the end


def written_state(program: ExportedProgram) -> set[str]:
    """Paths of parameters and buffers that a program writes in place."""
    signature = program.graph_signature
    targets = {s.arg.name: s.target for s in signature.input_specs}
    found = set()
    for node in program.graph.nodes:
        if node.op != "call_function" or rules.functional(node.target) is None:
            continue
        root = node.kwargs.get("out", next(iter(node.args), None))
        while isinstance(root, FxNode) and _shares_memory(root):
            root = next(iter(root.all_input_nodes), None)
        target = targets.get(root.name) if isinstance(root, FxNode) else None
        if target is not None:
            found.add(str(target))
    return found


def _shares_memory(node: FxNode) -> bool:
    """Whether a node's result may be a view of its first operand, or that operand itself."""
    if node.op != "call_function":
        return False
    if not isinstance(node.target, torch._ops.OpOverload):
        return node.target is operator.getitem
    returns = node.target._schema.returns
    return bool(returns) and returns[0].alias_info is not None


def operation_name(target: Any) -> str:
    """An operation as its users know it."""
    return (
        getattr(target, "__name__", str(target)) if isroutine(target) else str(target)
    )


def _live(graph: FxGraph) -> set[FxNode]:
    """Nodes that an output or a write depends on: what else has no rule is no loss."""
    live: set[FxNode] = set()
    for node in reversed(graph.nodes):
        target = node.target
        writes = isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable
        if node.op == "output" or writes or node in live or node.is_impure():
            live |= {node, *node.all_input_nodes}
    return live


class Lowering:
    """Lowers one exported program; gaps are collected, not raised one at a time."""

    def __init__(
        self,
        program: ExportedProgram,
        symbols: dict[str, str],
        tensors: dict[str, torch.Tensor],
        aliases: dict[str, tuple[str, ...]],
        modules: dict[str, str] | None = None,
        *,
        train: bool = False,
        written: Collection[str] = (),
        assumed: Reduced | None = None,
    ) -> None:
        self.program = program
        self.assumed = assumed or reduced([], symbols.values())
        self.symbols = symbols
        self.tensors = tensors
        self.aliases = aliases
        self.modules = modules or {}  # other paths of a shared module: its own one
        self.canonical = {a: name for name, others in aliases.items() for a in others}
        self.builder = Builder()
        self.builder.trains = train
        self.written = {self.canonical.get(path, path) for path in written}
        self.views = Views(self.builder, self._lower_call)
        self.env = self.views.env
        self.gaps: list[Gap] = []
        self.live = _live(program.graph)
        self.missing: set[FxNode] = set()  # numbers that no rule gives
        self.params: dict[str, Param] = {}
        self.inputs: list[Value] = []
        self.given: dict[FxNode, Value] = {}  # what inputs hold before they are written
        self.flows = Differentiable(())
        self.mutated: dict[str, FxNode] = {}  # placeholders that are written, by path
        self.held: dict[FxNode, str] = {}  # the state that a placeholder stands for
        self.traces: list[Made] = []
        self.traced: list[FxNode] = []

    def run(self) -> Lowered:
        """Lower every node.

        Raises:
            UnsupportedOpsError: listing every operation that cannot be lowered.
        """
        kinds = {s.arg.name: s for s in self.program.graph_signature.input_specs}
        outputs: list[Any] = []
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node, kinds[node.name])
            elif node.op == "call_function":
                self._node(node)
            elif node.op == "output":
                outputs = [self._argument(a) for a in node.args[0]]
        if self.gaps:
            raise UnsupportedOpsError(report(self.gaps))
        self._name_values()
        mutated = {path: self.views.read(node) for path, node in self.mutated.items()}
        env = {**self.env, **self.given}
        return Lowered(self.inputs, self.params, self.builder, env, outputs, mutated)

    # ---- placeholders

    def _placeholder(self, node: FxNode, spec: Any) -> None:
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor):
            self.env[node] = (
                spec.arg.value if spec.kind == InputKind.USER_INPUT else None
            )
            return
        type_ = self._type(value)
        if spec.kind == InputKind.USER_INPUT:
            self.env[node] = Value(type_, node.name)
            self.given[node] = self.env[node]
            self.inputs.append(self.env[node])
            self.flows.add(self.env[node])
            return
        path = self.canonical.get(str(spec.target), str(spec.target))
        self.held[node] = path
        constant = self._small_constant(path, spec.kind)
        if constant is not None:
            self.env[node] = constant
            return
        kind = {InputKind.PARAMETER: "parameter", InputKind.BUFFER: "buffer"}.get(
            spec.kind, "constant"
        )
        if kind == "buffer" and path not in self.program.state_dict:
            kind = "constant"  # not persistent: no checkpoint holds it
        if path not in self.params:
            aliases = self.aliases.get(path, ())
            made = Value(type_, path)
            trainable = self._trainable(path)
            self.params[path] = Param(
                path, type_, kind, made, aliases, trainable=trainable
            )
            if self.params[path].trained:
                self.flows.add(made)
        self.env[node] = self.params[path].value

    def _trainable(self, path: str) -> bool:
        """Whether the source trains the tensor, under any of its names."""
        names = (path, *self.aliases.get(path, ()))
        found = [self.tensors[n] for n in names if n in self.tensors]
        parameters = [t for t in found if isinstance(t, torch.nn.Parameter)]
        return not parameters or any(t.requires_grad for t in parameters)

    def _small_constant(self, path: str, kind: InputKind) -> Value | None:
        """A node instead of an array, for buffers that are ranges or one repeated number.

        Only where that is exact and the buffer is no state: not in the checkpoint.
        """
        persistent = set(self.program.state_dict)
        tensor = self.tensors.get(path)
        if path in self.written:
            return None
        if kind == InputKind.PARAMETER or path in persistent or tensor is None:
            return None
        if tensor.is_meta or tensor.numel() == 0 or tensor.is_complex():
            return None
        type_ = self._type(tensor)
        flat = tensor.detach().flatten()
        if bool((flat == flat[0]).all()):
            return self.builder.full(
                shape=type_.shape, value=flat[0].item(), dtype=type_.dtype
            )
        if type_.dtype != "int64" or tensor.numel() != tensor.shape[-1]:
            return None
        if not torch.equal(flat, torch.arange(len(flat), dtype=tensor.dtype)):
            return None
        line = self.builder.arange(start=0, stop=len(flat), step=1, dtype=type_.dtype)
        return self.builder.resize(line, type_.shape)

    # ---- nodes

    def _node(self, node: FxNode) -> None:
        self.builder.scope = self._scope(node)
        stack = frames(node.meta.get("stack_trace") or "")
        self.builder.src = Source(stack[-1].file, stack[-1].line) if stack else None
        item = node.args[1] if node.target is operator.getitem else None
        self.traces.append(Made(self.builder.scope, stack, item))
        self.traced.append(node)
        value = node.meta.get("val")
        if isinstance(value, torch.SymInt | int) and not isinstance(value, bool):
            self._size(node, value)
        elif isinstance(value, torch.SymFloat):
            self._fraction(node, value)
        elif isinstance(value, torch.SymBool) and _computed_with(node):
            self._gap(node, f"{value} is an answer about sizes, used as a number")
        elif node.target in NOISE or isinstance(value, bool | torch.SymBool):
            self.env[node] = None
        elif node.target is operator.getitem:
            container, position = node.args
            self.env[node] = self.views.read(container)[position]
            self.views.alias(node, container)
        elif str(node.target) == "wrap_with_set_grad_enabled":
            self.inline(node, node.args[1], node.args[2:])
        elif str(node.target) == "wrap_with_autocast":
            self.inline(node, node.args[4], node.args[5:])
        else:
            self._operator(node)

    def _size(self, node: FxNode, value: Any) -> None:
        try:
            found = size(value, self.symbols)
        except TraceError as error:
            self._gap(node, str(error))
            return
        unknown = dm.symbols(found) - set(self.symbols.values())
        self.env[node] = found
        if unknown:
            self._gap(
                node,
                "a size or an index depends on the data (a tensor used as a number)",
            )

    def _fraction(self, node: FxNode, value: torch.SymFloat) -> None:
        if any(n in self.missing for n in node.all_input_nodes):
            self._stand_in(node)  # the gap that it follows from is reported
        elif free_unbacked_symbols(value):
            self._gap(
                node,
                "a number is read from a tensor there (.item()), and a port has no "
                "numbers that depend on data: compute with the tensor itself, and choose "
                "with torch.where",
            )
        else:
            self.env[node] = None  # made where a tensor is computed with it

    def _fractions(self, node: FxNode) -> None:
        """The numbers among the operands of an operation that are computed from sizes."""
        result = node.meta.get("val")
        dtype = result.dtype if isinstance(result, torch.Tensor) else None
        for operand in node.all_input_nodes:
            value = operand.meta.get("val")
            if not isinstance(value, torch.SymFloat) or operand in self.missing:
                continue
            if node.target not in _TAKES_FRACTIONS or dtype not in _WIDE:
                self._gap(operand, f"{value} is a fraction, computed from a size")
                continue
            try:
                self.env[operand] = self._number(value.node.expr, dtype_name(dtype))
            except TraceError as error:
                self._gap(operand, str(error))

    def _number(self, expr: Any, dtype: str) -> Value:
        b = self.builder

        def whole(dim: dm.DimLike) -> Value:
            return b.full(shape=(), value=dim, dtype=dtype)

        return cast(Value, number(expr, self.symbols, whole, b))

    def _operator(self, node: FxNode) -> None:
        target = node.target
        self._fractions(node)
        if any(n in self.missing for n in node.all_input_nodes):
            self._stand_in(node)  # the gap that it follows from is reported
            return
        try:
            if (functional := rules.functional(target)) is not None:
                result = self._apply(functional, node)
                mutated = node.kwargs.get("out", next(iter(node.args), None))
                if not isinstance(mutated, FxNode):
                    raise GraphError("an in-place operation on a constant")
                # What is written takes the dtype of the memory it is written to.
                held = self.views.read(mutated).type.dtype
                result = self.builder.cast(result, held)
                if NO_GRAD in node.meta:
                    result = self._written(mutated, result, node.meta[NO_GRAD])
                self.env[node] = result
                self.views.write(mutated, result)
                self.views.alias(node, mutated)
                self._record_mutation(mutated)
            else:
                self._lower_call(node)
                self.views.track(node)
            self._check(node)
        except GraphError as error:
            self._gap(node, str(error))

    def _stop(self, x: Any) -> Any:
        """x without its gradient; x itself where none would flow."""
        stops = isinstance(x, Value) and carries(x) and self.flows(x)
        return self.builder.stop_gradient(x) if stops else x

    def _written(self, mutated: FxNode, result: Value, outside: bool) -> Value:
        """What an in-place operation under `no_grad` leaves in the tensor."""
        if outside and self.flows(self.views.read(mutated)):
            raise GraphError(
                "an in-place write under no_grad, which changes a tensor but not its "
                "gradient: write h = h + (new - h).detach() instead"
            )
        return cast(Value, self._stop(result))

    def _lower_call(self, node: FxNode) -> None:
        if node.target is functions.CALL:
            self.env[node] = self._custom(node)
            return
        self.env[node] = self._apply(node.target, node)

    def _custom(self, node: FxNode) -> tuple[Value, ...]:
        """A call of a `torch.autograd.Function`: both of its passes, closed graphs."""
        operands, number = node.args
        record = functions.record_of(number)
        fakes = [x.meta["val"] for x in operands]
        first, second = functions.passes(record, fakes)
        names = record.argument_names
        forward = self._closed(first, names)
        count = len(forward.outputs)
        grads = ["grad"] if count == 1 else [f"grad_{i}" for i in range(count)]
        backward = self._closed(second, [*names, *grads])
        if any(n.op in ("dropout", "rand") for n in forward.nodes):
            raise GraphError(f"autograd.Function {record.name} draws random numbers")
        function = Function(record.name, forward, backward)
        values = tuple(self._argument(x) for x in operands)
        return self.builder.node(CUSTOM_VJP, values, {"function": function}).outputs

    def _closed(self, module: Any, names: list[str]) -> Graph:
        """A traced function as a graph of its own."""
        outer, src, scope = self.builder.nodes, self.builder.src, self.builder.scope
        traces, traced, gaps = self.traces, self.traced, len(self.gaps)
        self.builder.nodes, self.traces, self.traced = [], [], []
        inputs: list[Value] = []
        outputs: list[Any] = []
        labels = iter(names)
        try:
            for inner in module.graph.nodes:
                if inner.op == "placeholder":
                    made = Value(self._type(inner.meta["val"]), next(labels))
                    self.env[inner] = made
                    inputs.append(made)
                elif inner.op == "call_function":
                    self._node(inner)
                elif inner.op == "output":
                    outputs = [self._argument(a) for a in inner.args[0]]
            if len(self.gaps) > gaps:
                del self.gaps[gaps + 1 :]
            graph = Graph(inputs, {}, self.builder.nodes, outputs, name="function")
        finally:
            self.builder.nodes, self.builder.src = outer, src
            self.builder.scope, self.traces, self.traced = scope, traces, traced
        eliminate(graph)
        return graph

    def _apply(self, target: Any, node: FxNode) -> Any:
        if target is branches.COND:
            return branches.cond(self, node)
        if not isinstance(target, torch._ops.OpOverload):
            raise GraphError(NO_RULE)
        args = tuple(self._argument(a) for a in node.args)
        given = {k: v for k, v in node.kwargs.items() if k != "out"}
        kwargs = {k: self._argument(v) for k, v in given.items()}
        if target is torch.ops.aten.detach.default and not self.flows(args[0]):
            return args[0]
        if target in registry.RENAMED:
            if kwargs:
                raise GraphError(
                    f"{target}: arguments {sorted(kwargs)} are not supported"
                )
            return getattr(self.builder, registry.RENAMED[target])(*args)
        rule = registry.RULES.get(target) or rules.NAMED.get(target._schema.name)
        if rule is None:
            return self._by_parts(node)
        bound = registry.bind(target, args, kwargs, node.target)
        return registry.apply(rule, self.builder, target, bound)

    def _by_parts(self, node: FxNode) -> Any:
        """What an operation without a rule gives, by the operations that torch makes of it."""
        parts.refuse_complex(node)
        found = parts.parts(node) if parts.definition(node.target) else None
        if found is None:
            raise GraphError(NO_RULE)
        module, operands = found
        given, outputs, gaps = iter(operands), (), len(self.gaps)
        for inner in module.graph.nodes:
            if inner.op == "placeholder":
                self.env[inner] = self.views.read(next(given))
            elif inner.op == "call_function":
                self._node(inner)
            elif inner.op == "output":
                outputs = self._argument(inner.args[0])
        if len(self.gaps) > gaps:
            missing = {gap.operation for gap in self.gaps[gaps:]}
            reasons = {g.reason for g in self.gaps[gaps:] if g.reason != NO_RULE}
            del self.gaps[gaps:]
            why = (
                "; ".join([*sorted(reasons)])
                or f"no rule for {', '.join(sorted(missing))}"
            )
            raise GraphError(why)
        for operand in parts.viewed(node, operands):
            self.views.made.add(node)
            self.views.alias(node, operand)
        return outputs

    def inline(self, node: FxNode, submodule: Any, args: Any) -> None:
        """Lower a higher-order operator that only runs its body (no_grad, autocast off)."""
        module = getattr(node.graph.owning_module, submodule.target)
        operands = iter(args)
        outputs: Any = ()
        for inner in module.graph.nodes:
            if inner.op == "placeholder":
                self.env[inner] = self._argument(next(operands))
            elif inner.op == "call_function":
                self._node(inner)
            elif inner.op == "output":
                outputs = tuple(self._argument(a) for a in inner.args[0])
        if str(node.target) == "wrap_with_set_grad_enabled" and not node.args[0]:
            handed = [self._argument(a) for a in args]
            outputs = tuple(
                x if any(x is h for h in handed) else self._stop(x) for x in outputs
            )
        self.env[node] = outputs

    def _record_mutation(self, node: FxNode) -> None:
        root = self.views.root(node)
        if root.op == "placeholder":
            self.mutated[self.held.get(root, str(root.name))] = root

    # ---- translation of arguments

    def _argument(self, arg: Any) -> Any:
        if isinstance(arg, FxNode):
            return self.views.read(arg)
        if isinstance(arg, torch.dtype):
            return dtype_name(arg)
        if isinstance(arg, torch.SymInt):
            return size(arg, self.symbols)
        if isinstance(arg, list | tuple):
            return [self._argument(a) for a in arg]
        return arg

    def _type(self, tensor: torch.Tensor) -> TensorType:
        shape = tuple(size(s, self.symbols) for s in tensor.shape)
        return TensorType(dtype_name(tensor.dtype), shape)

    def _scope(self, node: FxNode) -> tuple[Scope, ...]:
        stack = node.meta.get("nn_module_stack") or {}
        scopes = []
        for key, (path, cls) in stack.items():
            _, _, call = str(key).rpartition("@")
            name = (
                cls if isinstance(cls, str) else f"{cls.__module__}.{cls.__qualname__}"
            )
            if name.startswith("_empty_nn_module_stack"):
                continue
            index = int(call) if "@" in str(key) and call.isdigit() else 0
            own = self.modules.get(str(path), str(path))
            scopes.append(Scope(own, name, index))
        return tuple(scopes) or self.builder.scope[:1]

    # ---- bookkeeping

    def _check(self, node: FxNode) -> None:
        """The rule's result must have the type that torch inferred."""
        expected = node.meta.get("val")
        results = self.env[node]
        pairs = (
            zip(results, expected, strict=False)
            if isinstance(results, tuple | list) and isinstance(expected, tuple | list)
            else [(results, expected)]
        )
        for result, value in pairs:
            if isinstance(result, Value) and isinstance(value, torch.Tensor):
                wanted = self._type(value)
                if result.type != wanted and not self._same(result.type, wanted):
                    raise GraphError(unlike(node, str(result.type), str(wanted)))

    def _same(self, one: TensorType, other: TensorType) -> bool:
        """Whether types are equal for every size that the trace is right for."""
        if one.dtype != other.dtype or one.rank != other.rank:
            return False
        pairs = zip(one.shape, other.shape, strict=True)
        return all(self.assumed.same(a, b) for a, b in pairs)

    def _sizes_at(self, node: FxNode) -> frozenset[str]:
        """The symbolic sizes of a node's result and operands."""
        values = [n.meta.get("val") for n in (node, *node.all_input_nodes)]
        found = {s for v in values for s in _symbols(v)}
        return frozenset(self.symbols[s] for s in found if s in self.symbols)

    def _gap(self, node: FxNode, reason: str) -> None:
        scope = self.builder.scope
        where = (scope[-1].path or "the model") if scope else "the model"
        if self.builder.src:
            where += f" ({self.builder.src})"
        if node in self.live or node.graph is not self.program.graph:
            sizes = self._sizes_at(node)
            self.gaps.append(Gap(operation_name(node.target), where, reason, sizes))
        self._stand_in(node)

    def _stand_in(self, node: FxNode) -> None:
        """Something of the right type where a rule is missing, so that the rest is looked at."""
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor):
            self.env[node] = Value(self._type(value), node.name)
        elif isinstance(value, list | tuple):
            self.env[node] = tuple(
                Value(self._type(v), node.name) if isinstance(v, torch.Tensor) else v
                for v in value
            )
        else:
            self.env[node] = None
            self.missing.add(node)

    def _name_values(self) -> None:
        for node, names in zip(self.traced, assigned_names(self.traces), strict=True):
            value = self.env.get(node)
            if isinstance(value, Value) and value.producer is not None:
                value.names.update(names)


def _computed_with(node: FxNode) -> bool:
    """Whether a tensor is computed from a node's answer."""
    return any(
        user.target not in NOISE and isinstance(user.meta.get("val"), torch.Tensor)
        for user in node.users
    )


def _symbols(value: Any) -> set[str]:
    """torch's symbols in the sizes of tensors, or in a symbolic number."""
    if isinstance(value, torch.Tensor):
        return {s for size in value.shape for s in _symbols(size)}
    if isinstance(value, list | tuple):
        return {s for item in value for s in _symbols(item)}
    if isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
        return {str(s) for s in value.node.expr.free_symbols}
    return set()
