"""Runs a graph: emits it flat through the JAX rules, and calls the result.

A test that changes a graph runs it before and after, on the same inputs.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ivyport.backends import pyast
from ivyport.backends.jax import IMPORTS, LANGUAGE
from ivyport.backends.pyast import Exprs, helper_sources
from ivyport.core.build import Builder
from ivyport.core.dims import DimLike, as_symbol, evaluate
from ivyport.core.dtype import NARROW, is_float, to_numpy
from ivyport.core.ir import Graph, Param, Scalar, TensorType, Value, map_structure
from ivyport.core.passes.narrow import narrow
from ivyport.core.verify import verify
from tests.support import assert_close

Arrays = dict[str, np.ndarray]


class Draft(Builder):
    """A builder with inputs and parameters; `graph` ends it.

    Symbols get their bounds from the inputs' shapes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[Value] = []
        self.params: dict[str, Param] = {}

    def input(self, name: str, *shape: DimLike, dtype: str = "float32") -> Value:
        """A new input."""
        value = Value(TensorType(dtype, shape), name)
        self.inputs.append(value)
        return value

    def param(
        self,
        path: str,
        *shape: DimLike,
        dtype: str = "float32",
        kind: str = "parameter",
        aliases: tuple[str, ...] = (),
    ) -> Value:
        """A new parameter or buffer."""
        type_ = TensorType(dtype, shape)
        value = Value(type_, path)
        self.params[path] = Param(path, type_, kind, value, aliases)
        return value

    def graph(self, outputs: Any) -> Graph:
        """The graph, verified."""
        names = {as_symbol(d) for v in self.inputs for d in v.type.shape}
        bounds = {str(n): (1, None) for n in sorted(filter(None, names))}
        made = Graph(self.inputs, self.params, self.nodes, outputs, dims=bounds)
        verify(made)
        return made


def ops(graph: Graph) -> list[str]:
    """Operations in order."""
    return [node.op for node in graph.nodes]


def compiled(graph: Graph) -> Callable[..., Any]:
    """A function of the graph's inputs and parameters, by position, in 32 bits."""
    from ivyport.backends.jax import _rt

    graph = copy.deepcopy(graph)
    narrow(graph)
    e = Exprs(LANGUAGE)
    names: dict[Value, str] = {}
    arguments = [*graph.inputs, *(p.value for p in graph.params.values())]
    for i, value in enumerate(arguments):
        names[value] = f"a{i}"
    body: list[ast.stmt] = []
    for symbol in graph.dims:
        body.append(pyast.assign(symbol, _size(symbol, graph, names)))
    for count, node in enumerate(graph.nodes):
        operands = [
            pyast.name(names[x]) if isinstance(x, Value)
            else e.const(x.value) if isinstance(x, Scalar)
            else None
            for x in node.inputs
        ]  # fmt: skip
        random = any(node.attrs.get(k) for k in ("rate", "dropout"))
        layer = pyast.name("dropout") if random else None
        expr = e.within(dropout_module=layer).emit(node, operands)
        for i, value in enumerate(node.outputs):
            names[value] = f"v{count}_{i}"
        targets = [pyast.name(names[v]) for v in node.outputs]
        left = targets[0] if len(targets) == 1 else pyast.tuple_of(targets)
        body.append(pyast.assign(left, expr))
    results = [pyast.name(names[v]) for v in graph.output_values()]
    body.append(ast.Return(ast.List(results, ast.Load())))
    args = [ast.arg(names[v]) for v in arguments]
    signature = ast.arguments([], args, None, [], [], None, [])
    function = ast.FunctionDef("f", signature, body, [], None, None, type_params=[])
    imports = ast.parse("\n".join(IMPORTS.values())).body
    module = ast.Module([*imports, *helper_sources(_rt, e.helpers), function], [])
    namespace: dict[str, Any] = {"dropout": _dropout_off()}
    code = compile(ast.fix_missing_locations(module), "<graph>", "exec")
    exec(code, namespace)
    return namespace["f"]


def _dropout_off() -> Any:
    from flax import nnx

    return nnx.Dropout(0.5, deterministic=True)


def _size(symbol: str, graph: Graph, names: dict[Value, str]) -> ast.expr:
    for value in graph.inputs:
        for axis, dim in enumerate(value.type.shape):
            if as_symbol(dim) == symbol:
                shape = pyast.attribute(pyast.name(names[value]), "shape")
                return pyast.subscript(shape, ast.Constant(axis))
    raise AssertionError(f"{symbol} is no axis of an input")


# Compiling is what takes the time here; the values do not depend on these.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def run(graph: Graph, arrays: Arrays, *, jit: bool = True) -> list[np.ndarray]:
    """Every tensor of the outputs; `arrays` holds inputs and parameters by name.

    Without `jit` each operation runs alone, so that XLA folds nothing away.
    """
    import jax
    import jax.numpy as jnp

    values = [(str(v.name), v) for v in graph.inputs]
    values += [(path, p.value) for path, p in graph.params.items()]
    given = [jnp.asarray(arrays[name]) for name, _ in values]
    function = compiled(graph)
    if jit:
        function = jax.jit(function).lower(*given).compile(compiler_options=QUICK)
    found = [np.asarray(x) for x in function(*given)]
    sizes = {
        str(as_symbol(d)): arrays[name].shape[axis]
        for name, value in values
        for axis, d in enumerate(value.type.shape)
        if as_symbol(d)
    }
    for array, value in zip(found, graph.output_values(), strict=True):
        _demand_type(array, value.type, sizes)
    return found


def _demand_type(array: np.ndarray, type_: TensorType, sizes: dict[str, int]) -> None:
    """What the graph says about an output must be what comes out."""
    shape = tuple(evaluate(d, sizes) for d in type_.shape)
    assert array.shape == shape, f"{type_}: {array.shape}"
    dtype = NARROW.get(type_.dtype, type_.dtype)
    assert array.dtype == to_numpy(dtype), f"{type_}: {array.dtype}"


def draw(graph: Graph, sizes: Mapping[str, int], seed: int = 0) -> Arrays:
    """Random inputs and parameters; integers are small and not negative."""
    rng = np.random.default_rng(seed)
    values = [(str(v.name), v.type) for v in graph.inputs]
    values += [(path, p.type) for path, p in graph.params.items()]
    made = {}
    for name, type_ in values:
        shape = tuple(int(evaluate(d, sizes)) for d in type_.shape)
        dtype = to_numpy(NARROW.get(type_.dtype, type_.dtype))
        if type_.dtype == "bool":
            made[name] = rng.random(shape) < 0.6
        elif is_float(type_.dtype):
            made[name] = rng.standard_normal(shape).astype(dtype)
        else:
            made[name] = rng.integers(0, 3, shape).astype(dtype)
    return made


SIZES = ({"B": 2, "S": 5, "H": 4, "W": 6}, {"B": 3, "S": 7, "H": 6, "W": 4})


def preserves(
    graph: Graph,
    change: Callable[[Graph], Any],
    *,
    rtol: float = 1e-6,
    arrays: list[Arrays] | None = None,
    jit: bool = True,
) -> Graph:
    """Apply `change` in place; demand a valid graph of the same types and values.

    Values are compared at two settings of the symbols, bit for bit if `rtol` is 0.
    """
    settings = SIZES if graph.dims else SIZES[:1]
    inputs = arrays or [draw(graph, sizes, i) for i, sizes in enumerate(settings)]
    before = [run(graph, given, jit=jit) for given in inputs]
    types: list[TensorType] = []
    map_structure(lambda v: types.append(v.type), graph.outputs)
    change(graph)
    verify(graph)
    assert [v.type for v in graph.output_values()] == types
    for given, expected in zip(inputs, before, strict=True):
        found = run(graph, given, jit=jit)
        for i, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
            if rtol:
                assert_close(ours, theirs, rtol=rtol)
            else:
                assert ours.tobytes() == theirs.tobytes(), (i, ours, theirs)
    return graph
