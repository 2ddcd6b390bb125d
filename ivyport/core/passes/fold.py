"""Shape-only chains on parameters move into the weight map, where they cost nothing.

``reshape(permute_dims(w))`` of a checkpoint's tensor is done once, when the port is filled:
`Param.folds` says how. A parameter that is used in several ways keeps its own shape.
"""

from __future__ import annotations

from typing import Any

from ivyport.core.ir import Graph, NewAxis, Node, Param, Slice, Value
from ivyport.core.passes.dce import eliminate
from ivyport.core.passes.rewrite import substitute

Fold = tuple[Any, ...]


def fold_params(graph: Graph) -> None:
    """Fold what every use of a parameter does to its shape, step by step, in place."""
    while _fold_once(graph):
        eliminate(graph)


def _fold_once(graph: Graph) -> bool:
    uses = graph.uses()
    kept = set(graph.output_values())
    replaced: dict[Value, Value] = {}
    for param in graph.params.values():
        nodes = uses.get(param.value, [])
        if not nodes or param.value in kept or param.path in graph.updates:
            continue
        steps = [_step(node, param) for node in nodes]
        first = steps[0]
        if first is None or any(step != first for step in steps):
            continue
        type_ = nodes[0].output.type
        value = Value(type_, param.value.name)
        value.names = dict(param.value.names)
        replaced |= {node.output: value for node in nodes} | {param.value: value}
        param.value, param.type = value, type_
        param.folds = shortened((*param.folds, *first))
    if not replaced:
        return False
    nodes = [n for n in graph.nodes if not any(v in replaced for v in n.outputs)]
    for node in nodes:
        node.inputs = tuple(
            replaced.get(x, x) if isinstance(x, Value) else x for x in node.inputs
        )
    substitute(graph, nodes, replaced)
    return True


def _step(node: Node, param: Param) -> tuple[Fold, ...] | None:
    """The folds that a node is, as the only operation on a parameter; None if it is not."""
    if node.inputs[0] is not param.value or len(node.inputs) != 1:
        return None
    old, new = param.type.shape, node.outputs[0].type.shape
    if node.op == "permute_dims":
        axes = tuple(a % len(old) for a in node.attrs["axes"])
        return (("permute_dims", axes),)
    if node.op == "reshape":
        return (("reshape", old, new),)
    if node.op == "flip":
        return (("flip", tuple(sorted(a % len(old) for a in node.attrs["axis"]))),)
    if node.op == "getitem":
        return _indexed(old, new, node.attrs["index"])
    return None


def _indexed(old: Any, new: Any, index: tuple[Any, ...]) -> tuple[Fold, ...] | None:
    """New axes are a reshape; integers select; anything that cuts stays in the graph.

    A tensor of which a part alone is used stays whole, so that all of it goes home.
    """
    steps: list[Fold] = []
    shape = list(old)
    axis = 0
    for item in index:
        if isinstance(item, NewAxis):
            continue
        if isinstance(item, int) and not isinstance(item, bool):
            if shape[axis] != 1:
                return None
            steps.append(("select", axis, item % shape[axis]))
            del shape[axis]
        elif item == Slice():
            axis += 1
        else:
            return None
    if tuple(shape) != new:
        steps.append(("reshape", tuple(shape), new))
    return tuple(steps)


def shortened(folds: tuple[Fold, ...]) -> tuple[Fold, ...]:
    """Chains of one kind as one step; what changes nothing goes.

    >>> shortened((("reshape", (4,), (1, 4)), ("reshape", (1, 4), (2, 2))))
    (('reshape', (4,), (2, 2)),)
    >>> shortened((("permute_dims", (1, 0)), ("permute_dims", (1, 0))))
    ()
    """
    result: list[Fold] = []
    for fold in folds:
        if result and result[-1][0] == fold[0] == "reshape":
            fold = ("reshape", result.pop()[1], fold[2])
        elif result and result[-1][0] == fold[0] == "permute_dims":
            inner = result.pop()[1]
            fold = ("permute_dims", tuple(inner[a] for a in fold[1]))
        elif result and result[-1] == fold and fold[0] == "flip":
            result.pop()
            continue
        if fold[0] == "reshape" and fold[1] == fold[2]:
            continue
        if fold[0] == "permute_dims" and fold[1] == tuple(range(len(fold[1]))):
            continue
        result.append(fold)
    return tuple(result)
