"""Random draws inside of loops and branches go, for targets that cannot draw there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ivyport.core.build import Builder
from ivyport.core.control import all_nodes, bodies, within
from ivyport.core.errors import UnsupportedOpsError
from ivyport.core.ir import Graph, Node, Value
from ivyport.core.passes.rewrite import apply_rules

LEFT_OUT = "Dropout inside of loops and branches is left out of the port"


def undrop_loops(graph: Graph) -> list[str]:
    """Take dropout out of every body in place; a sentence about where it was.

    A stream of random numbers is state, and JAX's loops carry no state but their own.
    """
    found = list(_inside(graph))
    drawn = next((n for n in found if n.op.startswith("random_")), None)
    if drawn is not None:
        raise UnsupportedOpsError(
            f"{drawn.op} inside of a loop or branch of JAX ({drawn.src}): a stream of random "
            "numbers is state, which JAX's loops do not carry; draw before the loop"
        )
    if not found:
        return []
    _each(graph, undrop)
    places = ", ".join(dict.fromkeys(map(_place, found)))
    return [f"{LEFT_OUT} ({places})."]


def rates_left_out(notes: Iterable[str]) -> set[float]:
    """The rates of the dropouts that notes of `undrop_loops` name.

    >>> rates_left_out([f"{LEFT_OUT} (rate 0.1 at model.py:3)."])
    {0.1}
    """
    told = (note for note in notes if note.startswith(LEFT_OUT))
    return {float(rate) for note in told for rate in re.findall(r"rate (\S+) at", note)}


def _place(node: Node) -> str:
    rate = node.attrs["dropout" if node.op == "attention" else "rate"]
    src = node.src
    where = f"{Path(src.file).name}:{src.line}" if src else "an unknown line"
    return f"rate {rate:g} at {where}"


def _inside(graph: Graph) -> Iterator[Node]:
    """What draws in loops and branches; those of a mode are Python's own."""
    for node in graph.nodes:
        for body in bodies(node):
            drawn = _inside(body) if node.op == "mode" else all_nodes(body)
            yield from (n for n in drawn if _drops(n))


def _each(graph: Graph, change: Callable[[Graph], None]) -> None:
    """Change the bodies of loops and branches, wherever they are."""
    for node in graph.nodes:
        for body in bodies(node):
            if node.op == "mode":
                _each(body, change)
            else:
                change(body)


def undrop(body: Graph) -> None:
    """Take dropout out of a graph and the bodies in it, in place."""
    apply_rules(body, {"dropout": [_operand]})
    for node in _attentions(body):
        node.attrs = {**node.attrs, "dropout": 0.0}
    within(body, undrop)


def _operand(builder: Builder, node: Node) -> Value | None:
    x = node.inputs[0]
    return x if isinstance(x, Value) else None


def _attentions(graph: Graph) -> Iterator[Node]:
    return (node for node in graph.nodes if node.op == "attention")


def _drops(node: Node) -> bool:
    if node.op == "dropout" or node.op.startswith("random_"):
        return True
    return node.op == "attention" and bool(node.attrs["dropout"])
