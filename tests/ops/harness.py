"""What the tests of all backends do with the samples table: emit a row and run it."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ivyport.backends.language import Language
from ivyport.backends.pyast import Exprs, call, helper_sources, hole, name
from ivyport.core import opdef
from ivyport.core.build import Builder
from ivyport.core.dims import symbols
from ivyport.core.dtype import NARROW, is_float
from ivyport.core.ir import Node, Scalar, TensorType, Value
from ivyport.modules.tree import draws
from tests.ops.sample import SIZES, Sample
from tests.ops.samples import SAMPLES
from tests.support import as_numpy, as_torch, assert_close


@dataclasses.dataclass(frozen=True)
class Backend:
    """One target's rules and what its expressions need to run.

    `narrow` is whether its passes make 32-bit types of 64-bit ones. `dropout` makes the
    layer that rows with dropout draw from, switched off. `stream` makes the stream of
    random keys, for a target that has such streams. `device` is what tensors are
    created on, the target's default where it is empty.
    """

    language: Language
    narrow: bool
    dropout: Callable[[], Any]
    stream: Callable[[], Any] | None = None
    device: str = ""

    def node_of(self, sample: Sample) -> Node:
        """The sample's node, operands named, types as the target's passes leave them."""
        builder = Builder()
        values = sample.values()
        for i, value in enumerate(values):
            value.type, value.name = self._narrow(value.type), f"x{i}"
        sample.build(builder, *values)
        (node,) = builder.nodes
        if self.narrow and "dtype" in node.attrs:
            node.attrs["dtype"] = NARROW.get(node.attrs["dtype"], node.attrs["dtype"])
        for value in node.outputs:
            value.type = self._narrow(value.type)
        return node

    def _narrow(self, type: TensorType) -> TensorType:
        narrowed = NARROW.get(type.dtype, type.dtype) if self.narrow else type.dtype
        return type.with_dtype(narrowed)

    def exprs(self, node: Node) -> Exprs:
        """What emits the node; its dropout layer is ``dropout``, its keys ``stream``."""
        drops = any(node.attrs.get(k) for k in ("rate", "dropout"))
        return Exprs(
            self.language,
            dropout_module=name("dropout") if drops else None,
            stream=call(name("stream")) if draws(node) and self.stream else None,
            spell_device=(lambda: name(self.device)) if self.device else None,
        )

    def emitted(self, node: Node) -> tuple[ast.expr, Exprs]:
        """The node's expression over x0, x1, ... and what it needs."""
        e = self.exprs(node)
        operands = [
            name(x.name or "") if isinstance(x, Value)
            else e.const(x.value) if isinstance(x, Scalar)
            else None
            for x in node.inputs
        ]  # fmt: skip
        return e.emit(node, operands), e

    def text(self, sample: Sample) -> str:
        """The expression of a row as people read it."""
        expr, _ = self.emitted(self.node_of(sample))
        return ast.unparse(expr)

    def function_of(self, sample: Sample) -> Callable[..., Any]:
        """The emitted expression as a function of the sample's inputs."""
        expr, e = self.emitted(self.node_of(sample))
        names = [f"x{i}" for i in range(len(sample.inputs))]
        body: list[ast.stmt] = [*_bind_symbols(sample), ast.Return(expr)]
        arguments = [ast.arg(n) for n in names]
        signature = ast.arguments([], arguments, None, [], [], None, [])
        function = ast.FunctionDef("f", signature, body, [], None, None, type_params=[])
        imports = ast.parse("\n".join(self.language.imports.values())).body
        helpers = helper_sources(self.language.runtime(), e.helpers)
        module = ast.Module([*imports, *helpers, function], [])
        namespace: dict[str, Any] = {"dropout": self.dropout()}
        if self.stream:
            namespace["stream"] = self.stream()
        exec(compile(ast.fix_missing_locations(module), "<emitted>", "exec"), namespace)
        return namespace["f"]

    def has_gradient(self, sample: Sample) -> bool:
        """Whether some input and some result of the row are floats."""
        results = self.node_of(sample).outputs
        return bool(sample.floats()) and any(is_float(v.type.dtype) for v in results)

    def repeated(self, sample: Sample) -> set[str]:
        """Operands that the expression of a row computes more than once.

        A shape or a device may be read beside the value: that computes nothing.
        """
        expr, _ = self.emitted(self.node_of(sample))
        free = {
            id(n.value)
            for n in ast.walk(expr)
            if isinstance(n, ast.Attribute) and n.attr in ("shape", "device")
        }
        names = [
            n.id
            for n in ast.walk(expr)
            if isinstance(n, ast.Name) and id(n) not in free
        ]
        return {n for n in names if n.startswith("x") and names.count(n) > 1}

    def spells_hole(self, sample: Sample, attr: str) -> bool:
        """Whether an attribute that differs between instances is spelled by its hole."""
        node = self.node_of(sample)
        node.attrs[attr] = _with_holes(node.attrs[attr])
        expr, _ = self.emitted(node)
        return "hole" in {n.id for n in ast.walk(expr) if isinstance(n, ast.Name)}


def _bind_symbols(sample: Sample) -> list[ast.stmt]:
    """``B = x0.shape[0]`` for each symbol."""
    lines, bound = [], set()
    for i, x in enumerate(sample.inputs):
        for axis, dim in enumerate(x.type.shape):
            for symbol in symbols(dim) - bound:
                bound.add(symbol)
                lines.append(f"{symbol} = x{i}.shape[{axis}]")
    return ast.parse("\n".join(lines)).body


def results(outputs: Any) -> list[Any]:
    """The results of a function that returns one or several."""
    return list(outputs) if isinstance(outputs, tuple | list) else [outputs]


def torch_gradients(
    function: Callable[..., Any], sample: Sample
) -> tuple[tuple[torch.Tensor, ...], list[np.ndarray]]:
    """Gradients of a weighted sum of a function's results, and the weights."""
    tensors = [as_torch(a) for a in sample.arrays(SIZES[0])]
    inputs = [tensors[i].requires_grad_() for i in sample.floats()]
    outputs = [y for y in results(function(*tensors)) if y.is_floating_point()]
    rng = np.random.default_rng(1)
    weights = [rng.standard_normal(tuple(y.shape)).astype(np.float32) for y in outputs]
    loss = sum(
        (y.float() * torch.as_tensor(w)).sum()
        for y, w in zip(outputs, weights, strict=True)
    )
    return torch.autograd.grad(loss, inputs), weights


def assert_random(
    function: Callable[..., Any], operands: list[Any], sample: Sample, *,
    narrow: bool = False,
) -> None:  # fmt: skip
    """Demand that each call draws anew, with the dtype, shape and mean of the row."""
    first, second = (as_numpy(function(*operands)) for _ in range(2))
    expected = sample.torch(*map(as_torch, sample.arrays(SIZES[0])))
    assert_close(np.zeros_like(first), torch.zeros_like(expected), narrow=narrow)
    assert (first != second).any()
    mean = first.astype(np.float64).mean()
    assert abs(mean - sample.mean) < 5 / first.size**0.5


def row(name: str) -> Sample:
    """The row of that name."""
    (sample,) = (s for s in SAMPLES if s.name == name)
    return sample


def _with_holes(value: Any) -> Any:
    """An attribute whose numbers are spelled ``hole``."""
    if isinstance(value, tuple):
        return tuple(_with_holes(v) for v in value)
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return hole(value, name("hole")) if plain else value


def tunable() -> list[tuple[Sample, str]]:
    """The first row of each operation, once for each tunable attribute."""
    first = {s.op: s for s in reversed(SAMPLES)}
    unused = {("batch_norm", "momentum")}  # the function is that of eval
    return [
        (first[op], attr)
        for op, definition in opdef.REGISTRY.items()
        for attr in definition.tunable
        if (op, attr) not in unused
    ]
