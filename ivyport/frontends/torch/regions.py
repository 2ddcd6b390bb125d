"""Inlines the `no_grad` regions that torch.export wraps in sub-graphs.

`with torch.no_grad():` inside a forward becomes a call of the higher-order op
`wrap_with_set_grad_enabled` on a sub-graph. The nodes are put back in line; a value
that leaves such a region and depends on something differentiable passes through
`aten.detach`, which is what the region means. So does what an in-place operation of such a
region writes: it is marked (`NO_GRAD`), and the lowering stops it. Autocast regions that are
switched off are inlined as they are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from ivyport.frontends.torch.views import VIEWS

aten = torch.ops.aten
#: In the metadata of a stop at the end of a region, until all regions are inlined.
STOPS_REGION = "ivyport region"
#: In the metadata of an in-place operation of a `no_grad` region: whether the tensor that it
#: writes to was made outside of the region.
NO_GRAD = "ivyport no_grad"
#: In the metadata of a node of an autocast region: the dtype that it casts to.
_CAST = "ivyport autocast"
_GRAD = torch.ops.higher_order.wrap_with_set_grad_enabled
_AUTOCAST = torch.ops.higher_order.wrap_with_autocast


def tidy(program: ExportedProgram) -> None:
    """Inline the regions of `program` in place and drop metadata assertions."""
    module = program.graph_module
    changed = False
    while region := _next_region(module.graph):
        _inline(module, region, _differentiable(program))
        changed = True
    for node in list(module.graph.nodes):
        if node.target is _AUTOCAST:
            for inner in getattr(module, node.args[4].target).graph.nodes:
                inner.meta[_CAST] = node.args[1]
        if node.target is aten._assert_tensor_metadata.default:
            module.graph.erase_node(node)
            changed = True
    if not changed:
        return
    for node in module.graph.nodes:
        if node.meta.pop(STOPS_REGION, False):
            _move_out(node)
    _update_outputs(program)
    module.graph.lint()
    module.recompile()


def unlike(node: fx.Node, found: str, expected: str) -> str:
    """What is said of an operation that is lowered to another type than torch gives it."""
    if (dtype := node.meta.get(_CAST)) is None:
        return f"lowered to {found}, torch has {expected}"
    short = str(dtype).removeprefix("torch.")
    return (
        f"torch.autocast computes this in {short}, and autocast is not ported: cast by hand "
        f"(x.to(torch.{short})), or take the region out of forward and port in {short}"
    )


def _next_region(graph: fx.Graph) -> fx.Node | None:
    for node in graph.nodes:
        if node.op == "call_function" and node.target is _GRAD:
            return node
        # (device, dtype, enabled, cache_enabled, sub-graph, *inputs)
        if node.op == "call_function" and node.target is _AUTOCAST and not node.args[2]:
            return node
    return None


def _differentiable(program: ExportedProgram) -> set[fx.Node]:
    """Nodes whose value depends on a parameter or on a float input."""
    specs = program.graph_signature.input_specs
    sources = (InputKind.PARAMETER, InputKind.USER_INPUT)
    tainted: set[fx.Node] = set()
    for node in program.graph_module.graph.nodes:
        if node.op == "placeholder":
            kinds = [s.kind for s in specs if _argument_name(s.arg) == node.name]
            if any(kind in sources for kind in kinds) and _is_float(node):
                tainted.add(node)
        elif node.target is not aten.detach.default and any(
            i in tainted for i in node.all_input_nodes
        ):
            tainted.add(node)
    return tainted


def _argument_name(argument: Any) -> str:
    return str(argument.name)


def _is_float(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _inline(module: fx.GraphModule, region: fx.Node, tainted: set[fx.Node]) -> None:
    stops = region.target is _GRAD and not region.args[0]
    first = 1 if region.target is _GRAD else 4
    body_node, inputs = region.args[first], region.args[first + 1 :]
    body = getattr(module, body_node.target)
    graph = module.graph
    made: dict[fx.Node, Any] = {}
    results: Any = None
    holders = iter(inputs)
    with graph.inserting_before(region):
        for node in body.graph.nodes:
            if node.op == "placeholder":
                made[node] = next(holders)
            elif node.op == "output":
                results = fx.map_arg(node.args[0], lambda n: made[n])
            else:
                copy = graph.node_copy(node, lambda n: made[n])
                if node.op == "get_attr":
                    _adopt(module, body, copy)
                made[node] = copy
                if stops and _writes(node):
                    copy.meta[NO_GRAD] = _from_outside(node)
                if any(i in tainted for i in copy.all_input_nodes):
                    tainted.add(copy)
        inner = {v for v in made.values() if isinstance(v, fx.Node)} - set(inputs)
        if stops:
            results = fx.map_arg(results, lambda n: _stop(graph, n, inner, tainted))
    _replace_uses(graph, region, results)
    if not body_node.users:
        graph.erase_node(body_node)
        delattr(module, body_node.target)


def _writes(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and (
        node.target._schema.is_mutable
    )


def _from_outside(node: fx.Node) -> bool:
    """Whether an in-place operation writes to memory that its region was handed."""
    while (
        node.op == "call_function" and node.args and isinstance(node.args[0], fx.Node)
    ):
        if node.target not in VIEWS and not _writes(node):
            return False
        node = node.args[0]
    return node.op == "placeholder"


def _stop(
    graph: fx.Graph, value: fx.Node, inner: set[fx.Node], tainted: set[fx.Node]
) -> fx.Node:
    """The value behind a stop of the gradient, where one would flow."""
    if value not in inner or value not in tainted or not _is_float(value):
        return value
    detached = graph.call_function(aten.detach.default, (value,))
    detached.meta = {**value.meta, STOPS_REGION: True}
    # The tag of a recorded tensor moves to what the rest of the model sees.
    value.meta = {k: v for k, v in value.meta.items() if k != "custom"}
    return detached


def _move_out(stop: fx.Node) -> None:
    """A stop belongs to the module that holds both the region and what reads its result."""
    stacks = [_stack(stop), *(_stack(use) for use in stop.users)]
    shared = [
        entry
        for position, entry in enumerate(stacks[0])
        if all(stack[: position + 1] == stacks[0][: position + 1] for stack in stacks)
    ]
    if shared:
        stop.meta["nn_module_stack"] = dict(shared)


def _stack(node: fx.Node) -> list[tuple[str, Any]]:
    return list((node.meta.get("nn_module_stack") or {}).items())


def _adopt(module: fx.GraphModule, body: fx.GraphModule, copy: fx.Node) -> None:
    """Give the outer module the attribute that a copied `get_attr` node reads."""
    value = getattr(body, str(copy.target))
    name, count = str(copy.target), 0
    while hasattr(module, name) and getattr(module, name) is not value:
        name, count = f"{copy.target}_{count}", count + 1
    setattr(module, name, value)
    copy.target = name


def _replace_uses(graph: fx.Graph, region: fx.Node, results: Any) -> None:
    if isinstance(results, fx.Node):
        region.replace_all_uses_with(results)
    else:
        for use in list(region.users):
            # The only users of a call with several results are `getitem` nodes.
            picked = results[use.args[1]]
            if "custom" in use.meta and "custom" not in picked.meta:
                picked.meta["custom"] = use.meta["custom"]
            use.replace_all_uses_with(picked)
            graph.erase_node(use)
    graph.erase_node(region)


def _update_outputs(program: ExportedProgram) -> None:
    output = next(n for n in program.graph_module.graph.nodes if n.op == "output")
    for spec, node in zip(
        program.graph_signature.output_specs, output.args[0], strict=True
    ):
        if isinstance(node, fx.Node):
            spec.arg.name = node.name
