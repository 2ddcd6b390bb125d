"""The passes that prepare a graph for a target, in order: each with what it needs and ensures.

What a pass ensures is a property of graphs (`ivyport.core.passes.properties`). The tests verify the
graph and look at every property that is ensured so far, after each pass.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
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

Run = Callable[[Graph, Policy], list[str] | None]


@dataclasses.dataclass(frozen=True)
class Pass:
    """One step of the preparation, which changes the graph in place.

    Attributes:
        name: for people.
        run: what it does; it may return sentences about what the target cannot keep.
        requires: properties that it needs, which passes before it ensure.
        ensures: properties that hold from here on.
        wanted: whether a target's policy asks for it.
        typed: whether types stay those that the operations infer, so that the graph can be
            verified after it.
    """

    name: str
    run: Run
    requires: tuple[str, ...] = ()
    ensures: tuple[str, ...] = ()
    wanted: Callable[[Policy], bool] = lambda _: True
    typed: bool = True


def _plain(run: Callable[[Graph], object]) -> Run:
    """A pass that asks for no policy and says nothing."""

    def plain(graph: Graph, policy: Policy) -> None:
        run(graph)

    return plain


def _raise(graph: Graph) -> None:
    raise_layers(graph)
    if any(map(bodies, graph.nodes)):
        # Which captured values are weights shows in a graph that is raised.
        raise_layers(graph)


def _within_functions(graph: Graph) -> None:
    within_functions(all_nodes(graph), _tidy)


def _layouts(graph: Graph, policy: Policy) -> None:
    assign_layouts(graph, images=policy.images, attention=policy.attention)


def _narrow(graph: Graph, policy: Policy) -> list[str]:
    return narrow(graph)


PASSES: tuple[Pass, ...] = (
    Pass("dtypes", lambda g, policy: demand_dtypes(g, policy.lacks)),
    Pass("raise layers", _plain(_raise), ensures=("raised",)),
    Pass("drop stops", _plain(drop_stops), requires=("raised",)),
    Pass(
        "inference", _plain(infer), ("raised",), (), lambda policy: not policy.trains,
    ),
    Pass("functions", _plain(_within_functions)),
    Pass(
        "name softmax", lambda g, _: _name_softmax(g), ("raised",), (),
        lambda policy: policy.softmax,
    ),
    Pass("layouts", _layouts, requires=("raised",), ensures=("layouts",)),
    Pass("simplify", _plain(simplify), requires=("layouts",)),
    Pass(
        "statistics", _plain(spell_statistics), ("raised", "layouts"), (),
        lambda policy: policy.trains and not policy.writes,
    ),
    Pass("hoist", _plain(hoist), ensures=("hoisted",)),
    Pass("fold parameters", _plain(fold_params), requires=("hoisted",)),
    Pass(
        "even padding", _plain(split_padding), ("layouts",), ("even padding",),
        lambda policy: policy.even,
    ),
    Pass(
        "pools as means", _plain(pools_to_means), ("layouts",), ("no pool of all space",),
        lambda policy: not policy.pools,
    ),
    Pass("peel layers", _plain(peel_layers), requires=("raised", "layouts")),
    Pass(
        "widen unsigned", _plain(widen_unsigned), (), ("no wide unsigned",),
        lambda policy: not policy.unsigned,
    ),
    Pass(
        "hold factors", _plain(hold_factors), (), (), lambda policy: not policy.factors
    ),
    Pass("localize", _plain(localize), ensures=("local constants",)),
    Pass("share layers", _plain(share_layers), requires=("local constants",)),
    Pass(
        "name differences", _plain(name_differences), (), (),
        lambda policy: policy.fuses,
    ),
    Pass(
        "control flow in Python", lambda g, _: _control_notes(g), (), (),
        lambda policy: policy.statements and policy.trains,
    ),
    Pass(
        "no dropout in loops", lambda g, _: undrop_loops(g), ("raised",),
        ("no draws in bodies",), lambda policy: not policy.statements,
    ),
    Pass(
        "narrow", _narrow, (), ("32 bits",), lambda policy: policy.narrow, typed=False
    ),
)  # fmt: skip

#: Called with the graph, the policy and the pass after each pass, by tests.
Watch = Callable[[Graph, Policy, Pass], None]


def prepare(graph: Graph, policy: Policy, watch: Watch | None = None) -> list[str]:
    """Prepare `graph` for emission in place.

    The graph is verified at first, and once more before its types are narrowed.

    Returns sentences about what the target cannot keep (64-bit floats in JAX).

    Raises:
        GraphError: a pass broke the graph (a defect).
        InputError: it has a dtype that the target lacks.
        UnsupportedOpsError: it draws random numbers where the target draws none.
    """
    verify(graph)
    notes: list[str] = []
    steps = [step for step in PASSES if step.wanted(policy)]
    for step in [s for s in steps if s.typed]:
        _run(step, graph, policy, notes, watch)
    verify(graph)
    for step in [s for s in steps if not s.typed]:
        _run(step, graph, policy, notes, watch)
    return notes


def _run(
    step: Pass, graph: Graph, policy: Policy, notes: list[str], watch: Watch | None
) -> None:
    notes += step.run(graph, policy) or []
    if watch is not None:
        watch(graph, policy, step)


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
