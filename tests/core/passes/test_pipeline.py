"""The list of passes: what each requires comes before it, and what it ensures is looked at."""

from __future__ import annotations

import pytest

from ivyport.core.ir import Graph
from ivyport.core.passes.pipeline import PASSES, Pass, prepare
from ivyport.core.passes.policy import NUMPY, TORCH, XLA, Policy
from ivyport.core.passes.properties import PASSING, PROPERTIES
from tests.graph_run import Draft
from tests.passes import Watch


def test_every_property_has_what_finds_its_lack() -> None:
    ensured = {name for step in PASSES for name in step.ensures}
    assert ensured == {*PROPERTIES, *PASSING}
    assert {name for step in PASSES for name in step.requires} <= ensured
    names = [step.name for step in PASSES]
    assert len(names) == len(set(names))


def uneven() -> Graph:
    """A convolution with uneven padding, a pool of all space, and unsigned integers."""
    draft = Draft()
    x, weight = draft.input("x", 2, 3, 8, 8), draft.param("w", 4, 3, 3, 3)
    sizes = {"stride": (1, 1), "dilation": (1, 1), "padding": ((1, 0), (0, 1))}
    made = draft.conv(x, weight, None, **sizes)
    pooled = draft.adaptive_avg_pool(made, output_size=(1, 1), layout="channels_first")
    counted = draft.input("n", 2, dtype="uint32")
    counted = draft.astype(draft.add(counted, counted), dtype="int64")
    return draft.graph((pooled, counted))


@pytest.mark.parametrize("policy", [XLA, TORCH, NUMPY], ids=["xla", "torch", "numpy"])
def test_passes_run_in_order_and_keep_what_they_ensure(policy: Policy) -> None:
    watch, ran = Watch(), []

    def after(graph: Graph, policy: Policy, step: Pass) -> None:
        ran.append(step.name)
        watch(graph, policy, step)

    prepare(uneven(), policy, after)
    assert ran == [step.name for step in PASSES if step.wanted(policy)]
    assert watch.ensured == {
        name for step in PASSES if step.wanted(policy) for name in step.ensures
    }


@pytest.mark.parametrize("name", sorted(PROPERTIES))
def test_a_pass_that_does_nothing_is_found(name: str) -> None:
    """Each property is lacking in some graph: what finds it can fail."""
    graph = uneven()
    if name == "no draws in bodies":
        graph = _dropout_in_a_branch()
    lazy = Pass("lazy", lambda graph, policy: None, ensures=(name,))
    with pytest.raises(AssertionError, match="after lazy"):
        Watch()(graph, XLA, lazy)


def _dropout_in_a_branch() -> Graph:
    draft = Draft()
    value = draft.input("x", 3)
    index = draft.astype(draft.input("t", dtype="bool"), dtype="int32")
    branches = (_branch(dropped=True), _branch(dropped=False))
    return draft.graph(draft.cond(index, value, branches=branches))


def _branch(*, dropped: bool) -> Graph:
    draft = Draft()
    held = draft.input("h", 3)
    made = draft.dropout(held, rate=0.5) if dropped else draft.negative(held)
    return draft.graph([made])
