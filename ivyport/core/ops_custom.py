"""Functions with a derivative of their own: `torch.autograd.Function`, `jax.custom_vjp`.

Both graphs of a function are closed and own nothing. `forward` maps the operands to the results,
`backward` the operands and the gradients of the results to the gradients of the operands, None
for an operand that has none. The backward graph computes again what it needs of the forward one,
so that nothing but operands is kept in between.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Iterable, Iterator

from ivyport.core.ir import Graph, Node, TensorType
from ivyport.core.opdef import OperandType, demand, op
from ivyport.core.text import render

CUSTOM_VJP = "custom_vjp"


@dataclasses.dataclass(frozen=True, eq=False)
class Function:
    """A function with its own derivative; two are equal if their names and graphs are.

    `key` is their text when the function was made: passes change the graphs.
    """

    name: str
    forward: Graph
    backward: Graph
    key: str = ""

    def __post_init__(self) -> None:
        graphs = (self.forward, self.backward)
        key = self.key or "\n".join(render(g) for g in graphs)
        object.__setattr__(self, "key", f"{self.name}\n{key}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Function) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"<function {self.name} {zlib.crc32(self.key.encode()):08x}>"

    @property
    def graphs(self) -> tuple[Graph, Graph]:
        """The forward and the backward graph."""
        return self.forward, self.backward


@op(
    CUSTOM_VJP,
    url="https://docs.jax.dev/en/latest/_autosummary/jax.custom_vjp.html",
    custom=True,
)
def custom_vjp(*operands: OperandType, function: Function) -> tuple[TensorType, ...]:
    """function.forward(*operands), whose gradient is function.backward."""
    given = [x for x in operands if isinstance(x, TensorType)]
    demand(len(given) == len(operands), "operands of a function are tensors")
    wanted = [v.type for v in function.forward.inputs]
    demand(wanted == given, f"{function.name} takes {wanted}, but gets {given}")
    results = [v.type for v in function.forward.outputs]
    handed = [v.type for v in function.backward.inputs]
    demand(
        handed == [*given, *results],
        f"the backward of {function.name} takes operands and gradients of results",
    )
    made = function.backward.outputs
    demand(
        len(made) == len(given)
        and all(v is None or v.type == t for v, t in zip(made, given, strict=True)),
        f"the backward of {function.name} gives a gradient of each operand",
    )
    return tuple(results)


def functions(nodes: Iterable[Node]) -> Iterator[Function]:
    """The functions that nodes call."""
    for node in nodes:
        if node.op == CUSTOM_VJP:
            yield node.attrs["function"]


def within_functions(nodes: Iterable[Node], change: Callable[[Graph], object]) -> None:
    """Apply a pass to both graphs of every function that nodes call."""
    for function in functions(nodes):
        for graph in function.graphs:
            change(graph)
