"""Scopes become a tree of calls: what flows in and out of each."""

from __future__ import annotations

from ivyport.core.dims import symbol
from ivyport.core.ir import Call, Graph, Node, Scope, Value
from ivyport.modules.tree import CallNode, build, under
from tests.graph_run import Draft

B, S = symbol("B"), symbol("S")
ROOT = Scope("", "pkg.Net")


def inner(call: CallNode) -> list[CallNode]:
    return [i for i in call.items if isinstance(i, CallNode)]


def kinds(call: CallNode) -> list[str]:
    return [i.op if isinstance(i, Node) else i.path for i in call.items]


def two_blocks() -> tuple[Graph, dict[str, Value]]:
    """x -> a(x, w) -> tanh -> b(., x); `a` has a child `a.fc`."""
    b = Draft()
    x = b.input("x", B, 4)
    values = {"x": x}
    b.scope = (ROOT, Scope("a", "pkg.A"))
    values["scaled"] = b.multiply(x, b.param("a.w", 4))
    b.scope = (*b.scope, Scope("a.fc", "torch.nn.Linear"))
    values["a"] = b.linear(values["scaled"], b.param("a.fc.weight", 4, 4), None)
    b.scope = (ROOT,)
    values["tanh"] = b.tanh(values["a"])
    b.scope = (ROOT, Scope("b", "pkg.B"))
    values["b"] = b.add(b.multiply(values["tanh"], b.param("b.w", 4)), x)
    b.scope = (ROOT,)
    return b.graph([values["b"], values["a"]]), values


def test_calls_nest_and_keep_their_order() -> None:
    graph, _ = two_blocks()
    root = build(graph)
    assert kinds(root) == ["a", "tanh", "b"]
    a, b = inner(root)
    assert kinds(a) == ["multiply", "a.fc"]
    assert kinds(b) == ["multiply", "add"]
    assert [c.path for c in root.calls()] == ["", "a", "a.fc", "b"]
    assert [n.op for n in root.nodes()] == [n.op for n in graph.nodes]


def test_what_flows_in_and_out() -> None:
    graph, v = two_blocks()
    root = build(graph)
    a, b = inner(root)
    assert a.inputs == [v["x"]]
    assert a.outputs == [v["a"]]
    assert sorted(p.path for p in a.params) == ["a.fc.weight", "a.w"]
    assert set(b.inputs) == {v["tanh"], v["x"]}
    assert b.outputs == [v["b"]]
    assert root.inputs == graph.inputs


def test_arguments_follow_the_source_s_signature() -> None:
    graph, v = two_blocks()
    stack = (ROOT, Scope("b", "pkg.B"))
    graph.calls = [Call(stack, [("residual", v["x"]), ("hidden_states", v["tanh"])])]
    b = inner(build(graph))[1]
    assert b.inputs == [v["x"], v["tanh"]]
    assert [b.names[i] for i in b.inputs] == ["residual", "hidden_states"]


def test_modules_without_state_dissolve_into_their_caller() -> None:
    b = Draft()
    x = b.input("x", B, 4)
    b.scope = (ROOT, Scope("act", "torch.nn.GELU"))
    y = b.gelu(x, approximate=False)
    b.scope = (ROOT, Scope("drop", "torch.nn.Dropout"))
    z = b.dropout(y, rate=0.1)
    b.scope = (ROOT, Scope("off", "torch.nn.Dropout"))
    w = b.tanh(z)
    assert kinds(build(b.graph(w))) == ["gelu", "drop", "tanh"]


def test_sequentials_dissolve_into_their_caller() -> None:
    b = Draft()
    x = b.input("x", B, 4)
    for i in range(2):
        b.scope = (
            ROOT,
            Scope("body", "torch.nn.modules.container.Sequential"),
            Scope(f"body.{i}", "torch.nn.Linear"),
        )
        x = b.linear(x, b.param(f"body.{i}.weight", 4, 4), None)
    assert kinds(build(b.graph(x))) == ["body.0", "body.1"]


def test_a_module_called_twice_is_two_calls() -> None:
    b = Draft()
    x = b.input("x", B, 4)
    weight = b.param("fc.weight", 4, 4)
    for call in range(2):
        b.scope = (ROOT, Scope("fc", "torch.nn.Linear", call))
        x = b.linear(x, weight, None)
    root = build(b.graph(x))
    first, second = inner(root)
    assert (first.path, second.path) == ("fc", "fc")
    assert second.inputs == first.outputs


def test_interleaved_calls_that_need_each_other_are_dissolved() -> None:
    """a -> b -> a again, in one call of each: no order of whole calls exists."""
    b = Draft()
    x = b.input("x", B, 4)
    b.scope = (ROOT, Scope("a", "pkg.A"))
    x = b.multiply(x, b.param("a.w", 4))
    b.scope = (ROOT, Scope("b", "pkg.B"))
    x = b.multiply(x, b.param("b.w", 4))
    b.scope = (ROOT, Scope("a", "pkg.A"))
    x = b.tanh(x)
    b.scope = (ROOT, Scope("b", "pkg.B"))
    root = build(b.graph(b.sin(x)))
    order = [n.op for n in root.nodes()]
    assert order == ["multiply", "multiply", "tanh", "sin"]
    made: set[Value] = set(root.inputs)
    for node in root.nodes():
        assert all(v in made or v.producer is None for v in node.values())
        made |= set(node.outputs)


def test_interleaved_calls_that_do_not_are_put_in_order() -> None:
    b = Draft()
    x = b.input("x", B, 4)
    b.scope = (ROOT, Scope("a", "pkg.A"))
    y = b.multiply(x, b.param("a.w", 4))
    b.scope = (ROOT, Scope("b", "pkg.B"))
    z = b.multiply(x, b.param("b.w", 4))
    b.scope = (ROOT, Scope("a", "pkg.A"))
    y = b.tanh(y)
    b.scope = (ROOT,)
    assert kinds(build(b.graph(b.add(y, z)))) == ["a", "b", "add"]


def test_a_body_that_needs_a_length_gets_a_value_that_has_it() -> None:
    b = Draft()
    ids = b.input("ids", B, S, dtype="int64")
    b.scope = (ROOT, Scope("positions", "pkg.Positions"))
    line = b.arange(start=0, stop=S, step=1, dtype="int64")
    y = b.embedding(line, b.param("positions.weight", 9, 4))
    b.scope = (ROOT,)
    (call,) = inner(build(b.graph([y, b.add(ids, 1)])))
    assert call.inputs == [ids]


def test_under() -> None:
    assert under("a.b", "a")
    assert under("a", "a")
    assert under("a", "")
    assert not under("ab", "a")
    assert not under("a", "a.b")
