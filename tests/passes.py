"""What must hold of a graph after each pass: it is one, and keeps what was ensured so far."""

from __future__ import annotations

from ivyport.core.ir import Graph
from ivyport.core.passes.pipeline import Pass
from ivyport.core.passes.policy import Policy
from ivyport.core.passes.properties import PASSING, PROPERTIES
from ivyport.core.verify import verify


class Watch:
    """Called after each pass of `prepare`."""

    def __init__(self) -> None:
        self.ensured: set[str] = set()

    def __call__(self, graph: Graph, policy: Policy, step: Pass) -> None:
        if step.typed:
            verify(graph)
        missing = set(step.requires) - self.ensured
        assert not missing, (
            f"{step.name} requires {missing}, which no pass before ensures"
        )
        self.ensured |= set(step.ensures)
        for name in self.ensured - set(PASSING):
            lacking = list(PROPERTIES[name](graph, policy))
            assert not lacking, (
                f"after {step.name}, {name!r} does not hold of {lacking}"
            )
