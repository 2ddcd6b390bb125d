"""The passes that prepare a graph for a target, in order."""

from __future__ import annotations

from pathlib import Path

from ivyport.core.control import all_nodes, bodies, hoist
from ivyport.core.ir import Graph, Value
from ivyport.core.ops_custom import within_functions
from ivyport.core.passes.dce import eliminate
from ivyport.core.passes.differences import name_differences
from ivyport.core.passes.fold import fold_params
from ivyport.core.passes.inference import demand_dtypes, infer
from ivyport.core.passes.layout import assign_layouts
from ivyport.core.passes.localize import localize
from ivyport.core.passes.narrow import narrow
from ivyport.core.passes.padding import split_padding
from ivyport.core.passes.peel import peel_layers
from ivyport.core.passes.policy import Policy
from ivyport.core.passes.pooling import pools_to_means
from ivyport.core.passes.raising import raise_layers
from ivyport.core.passes.share import share_layers
from ivyport.core.passes.simplify import simplify
from ivyport.core.passes.statistics import spell_statistics
from ivyport.core.passes.stops import drop_stops
from ivyport.core.passes.undropped import undrop_loops
from ivyport.core.passes.unsigned import widen_unsigned
from ivyport.core.passes.wide import hold_factors
from ivyport.core.ranges import is_finite
from ivyport.core.verify import verify


def prepare(graph: Graph, policy: Policy) -> list[str]:
    """Prepare `graph` for emission in place; the graph is verified after every pass.

    Returns sentences about what the target cannot keep (64-bit floats in JAX).

    Raises:
        GraphError: a pass broke the graph (a defect).
        InputError: it has a dtype that the target lacks.
        UnsupportedOpsError: it draws random numbers where the target draws none.
    """
    verify(graph)
    demand_dtypes(graph, policy.lacks)
    raise_layers(graph)
    if any(map(bodies, graph.nodes)):
        # Which captured values are weights shows in a graph that is raised.
        raise_layers(graph)
    drop_stops(graph)
    if not policy.trains:
        infer(graph)
    within_functions(all_nodes(graph), _tidy)
    if policy.softmax:
        _name_softmax(graph)
    verify(graph)
    assign_layouts(graph, images=policy.images, attention=policy.attention)
    verify(graph)
    simplify(graph)
    if policy.trains and not policy.writes:
        spell_statistics(graph)
        verify(graph)
    hoist(graph)
    fold_params(graph)
    if policy.even:
        split_padding(graph)
    if not policy.pools:
        pools_to_means(graph)
    peel_layers(graph)
    if not policy.unsigned:
        widen_unsigned(graph)
    if not policy.factors:
        hold_factors(graph)
    localize(graph)
    share_layers(graph)
    if policy.fuses:
        name_differences(graph)
    verify(graph)
    notes = [] if policy.statements else undrop_loops(graph)
    if policy.statements and policy.trains:
        notes = _control_notes(graph)
    return notes + (narrow(graph) if policy.narrow else [])


def _name_softmax(graph: Graph) -> None:
    """Where no number of a float mask is minus infinity, all that `empty` says is the same."""
    for node in all_nodes(graph):
        if node.op == "attention" and isinstance(node.inputs[3], Value):
            mask = node.inputs[3]
            if mask.type.dtype != "bool" and is_finite(mask):
                node.attrs["empty"] = "softmax"


def _tidy(function: Graph) -> None:
    """A graph of a function with its own derivative: its layout is that of the source."""
    raise_layers(function)
    simplify(function)
    eliminate(function)


def _control_notes(graph: Graph) -> list[str]:
    """What a target that writes control flow as Python cannot do with it."""
    found = [n for n in all_nodes(graph) if n.op in ("cond", "while_loop")]
    if not found:
        return []
    lines = (f"{Path(n.src.file).name}:{n.src.line}" for n in found if n.src)
    places = ", ".join(dict.fromkeys(lines))
    return [
        "Branches and loops that depend on data are Python's if and while in the port, so "
        f"that torch.compile breaks its graph there ({places or 'source unknown'})."
    ]
