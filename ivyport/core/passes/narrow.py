"""64-bit types become 32-bit ones, for targets that compute in 32 bits (JAX by default)."""

from __future__ import annotations

from ivyport.core.control import all_nodes, bodies
from ivyport.core.dtype import NARROW
from ivyport.core.ir import Graph, TensorType
from ivyport.core.ops_custom import within_functions
from ivyport.core.passes.wide import fit

#: The note of a source that computes in float64.
LOST = "float64 became float32: this target computes in 32 bits"


def narrow(graph: Graph) -> list[str]:
    """Retype values, parameters and dtype attributes.

    Returns sentences: once if a float lost precision, and on numbers that 32 bits do not hold.

    Raises:
        UnsupportedOpsError: integers of the source that 32 bits cannot say.
    """
    said = fit(graph)
    nodes = list(all_nodes(graph))
    within_functions(nodes, narrow)
    values = [*graph.inputs, *(p.value for p in graph.params.values())]
    values += [v for n in nodes for v in n.outputs]
    values += [v for n in nodes for body in bodies(n) for v in body.inputs]
    floats = any(v.type.dtype in ("float64", "complex128") for v in values)
    for value in values:
        value.type = _narrow(value.type)
    for param in graph.params.values():
        param.type = _narrow(param.type)
    for node in nodes:
        dtype = node.attrs.get("dtype")
        if dtype in NARROW:
            node.attrs["dtype"] = NARROW[dtype]
    return [LOST, *said] if floats else said


def _narrow(type_: TensorType) -> TensorType:
    return type_.with_dtype(NARROW.get(type_.dtype, type_.dtype))
