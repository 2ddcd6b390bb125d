"""Lowers one torch function node by node, as the frontend's driver does, and runs it.

Running means emitting each node with the JAX backend's rules, one statement a node.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import operator
from typing import Any

import torch
from torch.export import Dim, export

from ivyport.core.build import Builder
from ivyport.core.dims import DimLike, as_symbol, evaluate, symbols
from ivyport.core.ir import Graph, Node, Param, Scalar, TensorType, Value, leaves
from ivyport.core.passes.pipeline import prepare
from ivyport.core.passes.stops import Differentiable
from ivyport.frontends.torch import rules
from ivyport.frontends.torch.sizes import dtype_name, size
from ivyport.targets import TARGETS
from tests.frontends.torch.sample import TRACED, Sample, Sizes


class Wrapped(torch.nn.Module):
    """A function as a module."""

    def __init__(self, fn: Any) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, *args: Any) -> Any:
        return self.fn(*args)


@dataclasses.dataclass
class Lowered:
    """The graph of a sample: inputs, constants by name, nodes, results."""

    inputs: list[Value]
    constants: dict[Value, torch.Tensor]
    nodes: list[Node]
    outputs: list[Any]
    targets: set[Any]

    def ops(self) -> tuple[str, ...]:
        """Names of the operations in order."""
        return tuple(node.op for node in self.nodes)


@functools.cache
def export_sample(sample: Sample) -> Any:
    """The exported program, with every axis that the sample calls symbolic kept so."""
    names = {name for axes in sample.dynamic() for name in axes.values()}
    dims = {name: Dim(name, min=3, max=64) for name in names}
    shapes = tuple({a: dims[n] for a, n in axes.items()} for axes in sample.dynamic())
    return export(
        Wrapped(sample.fn),
        sample.tensors(TRACED),
        dynamic_shapes=(shapes,),
        strict=False,
    )


class Driver:
    """What the frontend does with one exported program, without scopes and views."""

    def __init__(self, program: Any) -> None:
        self.program = program
        self.builder = Builder()
        self.env: dict[Any, Any] = {}
        self.result = Lowered([], {}, self.builder.nodes, [], set())
        self.flows = Differentiable(())

    def run(self) -> Lowered:
        kinds = {s.arg.name: s for s in self.program.graph_signature.input_specs}
        constants = {**self.program.constants, **self.program.state_dict}
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                value = Value(type_of(node.meta["val"]), node.name)
                self.env[node] = value
                spec = kinds[node.name]
                if spec.kind.name == "USER_INPUT":
                    self.result.inputs.append(value)
                    self.flows.add(value)
                else:
                    self.result.constants[value] = constants[spec.target]
            elif node.op == "call_function":
                self.call(node)
            elif node.op == "output":
                self.result.outputs = [self.argument(a) for a in node.args[0]]
        return self.result

    def call(self, node: Any) -> None:
        value = node.meta.get("val")
        if isinstance(value, torch.SymInt | int):
            self.env[node] = size(value, {})
        elif node.target is operator.getitem:
            self.env[node] = self.env[node.args[0]][node.args[1]]
        else:
            self.result.targets.add(node.target)
            self.env[node] = self.apply(node)
            if rules.functional(node.target) is not None:
                # torch casts back to the dtype of what is written to.
                dtype = self.env[node.args[0]].type.dtype
                self.env[node] = self.builder.cast(self.env[node], dtype)
                self.env[node.args[0]] = self.env[node]
            check(node, self.env[node])

    def apply(self, node: Any) -> Any:
        target = rules.functional(node.target) or node.target
        args = tuple(self.argument(a) for a in node.args)
        kwargs = {k: self.argument(v) for k, v in node.kwargs.items()}
        if target is torch.ops.aten.detach.default and not self.flows(args[0]):
            return args[0]  # a constant: there is no gradient to stop
        if target in rules.RENAMED:
            return getattr(self.builder, rules.RENAMED[target])(*args)
        rule = rules.RULES.get(target) or rules.NAMED.get(target._schema.name)
        assert rule is not None, f"no rule for {target}"
        bound = rules.bind(target, args, kwargs, node.target)
        return rules.apply(rule, self.builder, target, bound)

    def argument(self, arg: Any) -> Any:
        if isinstance(arg, torch.fx.Node):
            return self.env[arg]
        if isinstance(arg, torch.dtype):
            return dtype_name(arg)
        if isinstance(arg, torch.SymInt):
            return size(arg, {})
        if isinstance(arg, list | tuple):
            return [self.argument(a) for a in arg]
        return arg


def type_of(tensor: torch.Tensor) -> TensorType:
    """The type that torch inferred."""
    shape = tuple(size(s, {}) for s in tensor.shape)
    return TensorType(dtype_name(tensor.dtype), shape)


def check(node: Any, result: Any) -> None:
    """Demand the types that torch inferred; a result that has no value is None."""
    expected = node.meta.get("val")
    if isinstance(expected, torch.Tensor):
        expected, result = (expected,), (result,)
    for position, value in enumerate(expected or ()):
        found = result[position]
        if found is not None:
            assert found.type == type_of(value), (
                f"{node.target}[{position}]: lowered to {found.type},"
                f" torch has {type_of(value)}"
            )


def lower(sample: Sample) -> Lowered:
    """The graph of a sample, types checked against torch's."""
    return Driver(export_sample(sample)).run()


def for_jax(lowered: Lowered) -> None:
    """Run the passes for JAX in place; the graph is verified after each."""
    params = {
        f"constant{i}": Param(f"constant{i}", value.type, "constant", value)
        for i, value in enumerate(lowered.constants)
    }
    names = {s for v in lowered.inputs for d in v.type.shape for s in symbols(d)}
    bounds: dict[str, tuple[int, int | None]] = dict.fromkeys(names, (3, 64))
    outputs = tuple(lowered.outputs)
    graph = Graph(lowered.inputs, params, lowered.nodes, outputs, bounds)
    prepare(graph, TARGETS["jax"].policy)
    lowered.nodes, lowered.outputs = graph.nodes, list(graph.outputs)


def sizes_of(inputs: list[Value], tensors: tuple[torch.Tensor, ...]) -> Sizes:
    """What the symbols in the types of inputs are for these tensors."""
    found: Sizes = {}
    for value, tensor in zip(inputs, tensors, strict=True):
        for dim, length in zip(value.type.shape, tensor.shape, strict=True):
            name = as_symbol(dim)
            if name is not None:
                found[name] = length
    return found


def run_jax(lowered: Lowered, tensors: tuple[torch.Tensor, ...]) -> list[Any]:
    """The outputs of a graph that `for_jax` has prepared, as arrays of JAX."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from flax import nnx

    from ivyport.backends.jax import LANGUAGE, _rt
    from ivyport.backends.pyast import Exprs

    sizes = sizes_of(lowered.inputs, tensors)

    def spell(dim: DimLike) -> ast.expr:
        return ast.Constant(evaluate(dim, sizes))

    exprs = Exprs(LANGUAGE, spell)
    scope: dict[str, Any] = {
        **vars(_rt),
        "jax": jax,
        "jnp": jnp,
        "np": np,
        "nnx": nnx,
    }
    names: dict[Value, str] = {}

    def define(value: Value, array: Any) -> None:
        names[value] = f"v{len(names)}"
        scope[names[value]] = array

    for value, tensor in zip(lowered.inputs, tensors, strict=True):
        define(value, to_jax(tensor))
    for value, tensor in lowered.constants.items():
        define(value, to_jax(tensor))
    for node in lowered.nodes:
        operands = [operand(exprs, names, x) for x in node.inputs]
        expression = ast.Expression(exprs.emit(node, operands))
        code = compile(ast.fix_missing_locations(expression), f"<{node.op}>", "eval")
        result = eval(code, scope)
        results = [result] if len(node.outputs) == 1 else result
        for value, array in zip(node.outputs, results, strict=True):
            define(value, array)
    return [scope[names[v]] for v in leaves(lowered.outputs)]


def operand(exprs: Any, names: dict[Value, str], x: Any) -> Any:
    """An operand of a node as an expression."""
    if isinstance(x, Value):
        return ast.Name(names[x], ast.Load())
    return exprs.const(x.value) if isinstance(x, Scalar) else None


def to_jax(tensor: torch.Tensor) -> Any:
    """A torch tensor as an array of JAX."""
    import jax.numpy as jnp

    if tensor.dtype == torch.bfloat16:
        return jnp.asarray(tensor.float().numpy()).astype(jnp.bfloat16)
    return jnp.asarray(tensor.detach().numpy())
