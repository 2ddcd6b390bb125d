"""Sizes: a port is right at every size that it takes, and refuses the others."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ivyport

IDS = (4, 8)


class Net(nn.Module):
    """`f(net, x)`, with an embedding and a layer to work with."""

    def __init__(self, f: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.f = f
        self.emb = nn.Embedding(10, 8)
        self.lin = nn.Linear(8, 8)

    def forward(self, x):
        return self.f(self, x)


def even(m, x):
    h = m.emb(x)
    return m.lin(h * 2 if h.shape[1] % 2 == 0 else h)


def batched(m, x):
    h = m.emb(x)
    if h.shape[0] > 1:
        h = h * 2
    return h


def long(m, x):
    h = m.emb(x)
    return h * 2 if h.shape[1] > 4 else h


def large(m, x):
    h = m.emb(x)
    return h * 2 if h.shape[0] * h.shape[1] > 20 else h


def odd_or_short(m, x):
    """A neighbour: another answer, and a condition on a remainder of 3."""
    h = m.emb(x)
    return h * 2 if h.shape[1] % 3 == 2 else h


def squeezed(m, x):
    """A neighbour: what is dropped depends on which axes are 1."""
    return m.emb(x).sum(-1, keepdim=True).squeeze()


def drawn(shape: tuple[int, ...], kind: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    if kind == "ids":
        return torch.randint(0, 10, shape, generator=generator)
    return torch.randn(shape, generator=generator)


def ported(f: Any, shape: tuple[int, ...], kind: str, target: str = "jax", **more: Any):
    net = Net(f).eval()
    x = drawn(shape, kind)
    port = ivyport.transpile(net, target, kwargs={"x": x}, train=False, **more)
    return net, port, ivyport.api._PORTS[port]


def outcome(net: nn.Module, port: Any, shape: tuple[int, ...], kind: str) -> str:
    """'equal', 'refused' (in the port's words) or 'wrong'."""
    x = drawn(shape, kind)
    given = x if isinstance(port, nn.Module) else jnp.asarray(x.numpy())
    try:
        found = port(given)
    except ValueError as error:
        return "refused" if "due" in str(error) else f"unclear: {error}"
    found = found.detach().numpy() if torch.is_tensor(found) else np.asarray(found)
    expected = net(x).detach().numpy()
    same = found.shape == expected.shape and np.allclose(found, expected, atol=1e-4)
    return "equal" if same else "wrong"


FREE, FIXED = "equal", "refused"
# model, example, kind, {another size: what happens there}
ROWS = [
    (even, IDS, "ids", {(3, 8): FREE, (4, 6): FREE, (3, 7): FIXED, (1, 8): FREE}),
    (batched, IDS, "ids", {(2, 5): FREE, (1, 8): FIXED}),
    (long, IDS, "ids", {(1, 5): FREE, (4, 4): FIXED}),
    (large, IDS, "ids", {(3, 7): FREE, (7, 3): FREE, (4, 5): FIXED}),
    (odd_or_short, IDS, "ids", {(4, 5): FREE, (4, 11): FREE, (4, 9): FIXED}),
    (squeezed, IDS, "ids", {(3, 9): FREE, (1, 8): FIXED, (4, 1): FIXED}),
    (
        lambda m, x: m.emb(x)[:, : int(x.shape[1] * 0.5)].mean(1),
        IDS, "ids", {(2, 8): FREE, (4, 7): FIXED, (4, 12): FIXED},
    ),
    (
        lambda m, x: m.emb(x)[:, : int(x.shape[1] / 2)].mean(1),
        IDS, "ids", {(2, 8): FREE, (4, 7): FIXED, (4, 12): FIXED},
    ),
    (
        lambda m, x: m.emb(x).topk(int(x.shape[1] * 0.25), 1)[0],
        IDS, "ids", {(2, 8): FREE, (4, 12): FIXED, (4, 4): FIXED},
    ),
    (
        lambda m, x: m.emb(x)[: int(x.shape[0] * 0.5)],
        IDS, "ids", {(4, 9): FREE, (6, 8): FIXED, (2, 8): FIXED},
    ),
    (
        lambda m, x: x[:, : x.shape[1] // 2].mean(1),
        (2, 7, 4), "floats", {(3, 7, 4): FREE, (2, 7, 5): FIXED},
    ),
    (
        lambda m, x: m.emb(x)[torch.arange(x.shape[0]), x.shape[1] - 1],
        IDS, "ids", {(5, 8): FREE, (4, 9): FIXED},
    ),
    (
        lambda m, x: torch.roll(x, x.shape[-1] // 2, -1),
        (2, 3, 8, 8), "floats", {(3, 3, 8, 8): FREE, (2, 3, 8, 6): FIXED},
    ),
    (
        lambda m, x: m.emb(x) / math.sqrt(x.shape[1]),
        IDS, "ids", {(5, 8): FREE, (4, 9): FREE, (4, 1): FREE},
    ),
    (lambda m, x: x.view(-1, 3).sum(0), (2, 6), "floats", {(3, 6): FREE, (2, 9): FIXED}),
    (
        lambda m, x: x.view(-1, 1, 8, 8),
        (4, 64), "floats", {(1, 64): FREE, (4, 128): FIXED, (4, 60): FIXED},
    ),
    (lambda m, x: x.chunk(2, 1)[1], (2, 6), "floats", {(3, 7): FREE, (2, 5): FREE}),
    (lambda m, x: m.emb(x)[:, ::2], IDS, "ids", {(4, 9): FREE, (2, 5): FREE}),
    (lambda m, x: m.emb(x).chunk(2, 1)[1], IDS, "ids", {(4, 9): FREE, (2, 5): FREE}),
    (
        lambda m, x: m.emb(x).view(x.shape[0], -1, 4, 8),
        IDS, "ids", {(2, 8): FREE, (4, 7): FIXED},
    ),
    (lambda m, x: m.emb(x).split(2, 1)[1], IDS, "ids", {(2, 8): FREE, (4, 11): FIXED}),
    (lambda m, x: m.emb(x) / x.shape[1] ** 0.5, IDS, "ids", {(2, 7): FREE}),
    (lambda m, x: m.emb(x) * (1 / x.shape[1]), IDS, "ids", {(2, 11): FREE, (4, 1): FREE}),
    (lambda m, x: m.emb(x) + x.shape[1] / x.shape[0], IDS, "ids", {(3, 7): FREE}),
    (lambda m, x: (x.shape[1] / 2 - 0.3) - m.emb(x), IDS, "ids", {(3, 7): FREE}),
    (lambda m, x: x * (2.5 * x.shape[1] + 1), IDS, "ids", {(3, 7): FREE}),
    (
        lambda m, x: m.emb(x)[:, : round(x.shape[1] / 3)],
        IDS, "ids", {(2, 7): FREE, (4, 10): FREE, (4, 11): FREE},
    ),
    (
        lambda m, x: m.emb(x)[:, : round(x.shape[1] / 2)],
        IDS, "ids", {(2, 7): FREE, (4, 5): FREE, (4, 11): FREE},
    ),
    (
        lambda m, x: m.emb(x)[:, : math.ceil(x.shape[1] / 3)],
        IDS, "ids", {(2, 7): FREE, (4, 9): FREE, (4, 10): FREE},
    ),
    (
        lambda m, x: m.emb(x)[:, math.floor(x.shape[1] / 3) :],
        IDS, "ids", {(2, 7): FREE, (4, 9): FREE, (4, 10): FREE},
    ),
]  # fmt: skip


@pytest.mark.parametrize("row", range(len(ROWS)))
def test_right_or_refused(row: int) -> None:
    """At the example, at the sizes of the row and around them; never a wrong number."""
    f, shape, kind, others = ROWS[row]
    net, port, _ = ported(f, shape, kind)
    assert outcome(net, port, shape, kind) == "equal"
    for other, due in others.items():
        assert outcome(net, port, other, kind) == due, other
    around = [(shape[0], shape[1] + step, *shape[2:]) for step in (-2, -1, 1, 2)]
    for other in [*around, (shape[0] + 1, *shape[1:])]:
        try:
            net(drawn(other, kind))
        except (RuntimeError, IndexError):
            continue
        assert outcome(net, port, other, kind) != "wrong", other


BY_SIZE = {8: 2.0, 6: 3.0}
BY_TEXT = {"6": 3.0}
# What leaves no guard of torch's own.
LOST_ROWS = [
    (lambda m, x: m.emb(x) * int(x.shape[1] > 1), {(4, 5): FREE, (4, 1): FIXED}),
    (
        lambda m, x: m.emb(x) * 2 if x.shape[1] - 1 else m.emb(x),
        {(4, 5): FREE, (1, 8): FREE, (4, 1): FIXED},
    ),
    (
        lambda m, x: m.emb(x) * 2 if x.shape[1] in (1, 2) else m.emb(x),
        {(4, 3): FREE, (4, 2): FIXED, (4, 1): FIXED},
    ),
    (
        lambda m, x: m.emb(x) * torch.tensor(x.shape[1] > 1),
        {(1, 8): FREE, (4, 1): FIXED},
    ),
    (lambda m, x: m.emb(x) * (x.shape[1] > 5), {(1, 8): FREE, (4, 5): FIXED}),
    (
        lambda m, x: m.emb(x) * BY_SIZE.get(x.shape[1], 1.0),
        {(2, 8): FREE, (4, 6): FIXED},
    ),
    (lambda m, x: m.emb(x) * BY_TEXT.get(str(x.shape[1]), 1.0), {(4, 6): FIXED}),
    (lambda m, x: m.emb(x) * BY_TEXT.get(f"{x.shape[1]}", 1.0), {(4, 6): FIXED}),
    (lambda m, x: m.emb(x) * (2 if str(x.shape[1]) == "8" else 3), {(4, 6): FIXED}),
    (lambda m, x: m.emb(x) * len(x), {(4, 6): FREE, (3, 8): FREE}),
    (lambda m, x: m.emb(x) / np.sqrt(x.shape[1]), {(2, 8): FREE, (4, 6): FREE}),
]


@pytest.mark.parametrize("row", range(len(LOST_ROWS)))
def test_questions_without_a_guard(row: int) -> None:
    f, others = LOST_ROWS[row]
    net, port, _ = ported(f, IDS, "ids", "torch")
    for other, due in {IDS: FREE, **others}.items():
        assert outcome(net, port, other, "ids") == due, other


def printing(m, x):
    print(f"sizes {x.shape}")
    assert x.shape[1] < 100, f"{x.shape[1]} is long"
    return m.emb(x)


def test_text_that_is_thrown_away_fixes_nothing() -> None:
    net, port, record = ported(printing, IDS, "ids", "torch")
    assert outcome(net, port, (3, 5), "ids") == FREE
    assert record.record.checks[0]["right"] == "99"


def pair(size):
    return 2 if isinstance(size, int) else 3


class Typed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(8, 8)

    def forward(self, x):
        return self.lin(x) * pair(x.shape[0])


def test_size_that_is_asked_for_its_type() -> None:
    net = Typed().eval()
    x = drawn(IDS, "floats")
    port = ivyport.transpile(net, "torch", kwargs={"x": x}, train=False)
    assert outcome(net, port, IDS, "floats") == FREE
    assert outcome(net, port, (3, 8), "floats") == FIXED
    assert any("asks for its type" in n for n in ivyport.api._PORTS[port].notes)


def test_shortcuts_of_libraries_at_one_are_tried() -> None:
    """A library's `length > 1` is harmless, or a bound: both sides run at 1."""
    from ivyport.frontends.torch.replay import differs

    net = Net(lambda m, x: m.emb(x) * (1 if x.shape[1] > 1 else 2)).eval()
    auto = {"x": {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}}
    program = torch.export.export(
        net, (), {"x": drawn(IDS, "ids")}, dynamic_shapes=auto, strict=False
    )
    given = [{"x": drawn((4, size), "ids")} for size in (8, 3, 1)]
    assert [differs(net, program, one) for one in given] == [False, False, True]


@pytest.mark.parametrize("f", [even, batched])
def test_the_same_in_torch(f: Any) -> None:
    net, port, _ = ported(f, IDS, "ids", "torch")
    assert outcome(net, port, (3, 8), "ids") == "equal"
    refused = (3, 7) if f is even else (1, 8)
    assert outcome(net, port, refused, "ids") == "refused"


def test_the_note_and_the_error_quote_the_line() -> None:
    _, port, record = ported(even, IDS, "ids")
    line = "return m.lin(h * 2 if h.shape[1] % 2 == 0 else h)"
    assert any(line in note and "test_sizes.py" in note for note in record.notes)
    with pytest.raises(ValueError, match=r"S % 2 == 0 .*S = 7") as error:
        port(jnp.zeros((3, 7), jnp.int32))
    assert "h.shape[1] % 2 == 0" in str(error.value)


def test_rank_and_equal_names_are_checked() -> None:
    class Two(nn.Module):
        def forward(self, a, b):
            return a + b.mean(-1)

    x, y = torch.randn(3, 5), torch.randn(3, 5, 2)
    port = ivyport.transpile(Two(), "jax", kwargs={"a": x, "b": y}, train=False)
    assert port(jnp.ones((4, 5)), jnp.ones((4, 5, 2))).shape == (4, 5)
    with pytest.raises(ValueError, match=r"b: .* axis 0 is 3, not 4"):
        port(jnp.ones((4, 5)), jnp.ones((3, 5, 2)))
    with pytest.raises(ValueError, match=r"a: .* it has 3 axes"):
        port(jnp.ones((4, 5, 1)), jnp.ones((4, 5, 2)))
    with pytest.raises(ValueError, match=r"axis 0 is empty"):
        port(jnp.ones((0, 5)), jnp.ones((0, 5, 2)))


def test_time_first_attention_is_free_in_both_axes() -> None:
    class Time(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attend = nn.MultiheadAttention(8, 2, batch_first=False)

        def forward(self, x):
            return self.attend(x, x, x)[0]

    net = Time().eval()
    x = torch.randn(5, 2, 8)
    port = ivyport.transpile(net, "jax", kwargs={"x": x}, train=False)
    free = ivyport.api._PORTS[port].record.free
    assert free == {"x": {0: "length", 1: "batch"}}
    for shape in [(5, 2, 8), (7, 3, 8), (3, 1, 8)]:
        assert outcome(net, port, shape, "floats") == "equal"


def test_another_resolution_on_request() -> None:
    def upsampled(m, x):
        return F.interpolate(F.avg_pool2d(x, 2), size=x.shape[-2:])

    shape = (2, 3, 8, 8)
    net, port, _ = ported(upsampled, shape, "floats")
    assert outcome(net, port, (2, 3, 12, 8), "floats") == "refused"
    dims = {"x": {2: "height", 3: "width"}}
    net, port, _ = ported(upsampled, shape, "floats", dims=dims)
    for other in [(2, 3, 12, 8), (3, 3, 6, 10)]:
        assert outcome(net, port, other, "floats") in ("equal", "refused")


def test_checks_cost_no_capture() -> None:
    """`torch.compile` without a break, and `torch.export` with the axes free."""
    net, port, _ = ported(even, IDS, "ids", "torch")
    x = drawn((3, 6), "ids")
    compiled = torch.compile(port, fullgraph=True, backend="eager", dynamic=True)
    torch.testing.assert_close(compiled(x), net(x))
    auto = {"x": {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}}
    exported = torch.export.export(port, (), {"x": x}, dynamic_shapes=auto)
    torch.testing.assert_close(exported.module()(x=x), net(x))


def test_exported_jax_port_with_a_free_batch() -> None:
    net, port, _ = ported(long, IDS, "ids")
    from flax import nnx

    graphdef, state = nnx.split(port)

    def call(ids):
        return nnx.merge(graphdef, state)(ids)

    (batch,) = jax.export.symbolic_shape("b")
    given = jax.ShapeDtypeStruct((batch, 8), jnp.int32)
    exported = jax.export.export(jax.jit(call))(given)
    x = drawn((3, 8), "ids")
    found = exported.call(jnp.asarray(x.numpy(), jnp.int32))
    np.testing.assert_allclose(found, net(x).detach().numpy(), atol=1e-5)


# ---- sources in JAX

TABLE = np.linspace(-1, 1, 64, dtype=np.float32).reshape(16, 4)


def jax_even(x):
    return x * 2 if x.shape[1] % 2 == 0 else x + 1


def jax_batched(x):
    return x * 2 if x.shape[0] > 1 else x


def jax_root(x):
    return x / np.sqrt(x.shape[0])


def jax_eight(x):
    return x * 2 if x.shape[1] == 8 else x


def jax_large(x):
    return x * 2 if x.shape[0] * x.shape[1] > 20 else x


@jax.jit
def inner(x):
    """A neighbour: a call that JAX looks up by the sizes is no question of the source."""
    return jnp.tanh(x)


ROWS_OF_NINE = jnp.asarray(np.linspace(-1, 1, 72, dtype=np.float32).reshape(9, 8))
BOTH = {"x": {0: "batch", 1: "t"}}
JAX_ROWS = [
    (jax_even, (4, 8), BOTH, {(3, 6): FREE, (4, 7): FIXED}),
    (jax_even, (4, 7), BOTH, {(3, 5): FREE, (4, 8): FIXED}),
    (jax_batched, (4, 8), None, {(2, 8): FREE, (1, 8): FIXED, (4, 9): FIXED}),
    (jax_root, (4, 8), None, {(5, 8): FIXED}),
    (jax_eight, (4, 8), BOTH, {(3, 8): FREE, (4, 9): FIXED}),
    (jax_eight, (4, 9), BOTH, {(3, 10): FREE, (4, 8): FIXED}),
    (jax_large, (4, 8), BOTH, {(7, 3): FREE, (4, 5): FIXED}),
    (lambda x: x + ROWS_OF_NINE[: x.shape[0]], (4, 8), None, {(9, 8): FREE, (10, 8): FIXED}),
    (
        lambda x: x + ROWS_OF_NINE[: x.shape[0]].sum(1, keepdims=True),
        (4, 8), BOTH, {(2, 5): FREE, (9, 8): FREE, (10, 8): FIXED},
    ),
    (lambda x: x.reshape(-1, 2, 4).sum(0), (4, 8), None, {(3, 8): FREE, (4, 16): FIXED}),
    (lambda x: x / x.shape[1] ** 0.5, (4, 8), BOTH, {(3, 7): FREE, (1, 1): FREE}),
    (lambda x: x * (1 / x.shape[1]), (4, 8), BOTH, {(3, 7): FREE, (1, 1): FREE}),
    (lambda x: x * (2 if x.shape[1] - 9 else 3), (4, 8), BOTH, {(3, 7): FREE, (4, 9): FIXED}),
    (lambda x: x * (2 if x.shape[1] - 8 else 3), (4, 8), BOTH, {(3, 8): FREE, (4, 7): FIXED}),
    (lambda x: x * BY_SIZE.get(x.shape[1], 1.0), (4, 8), BOTH, {(3, 8): FREE, (4, 6): FIXED}),
    (lambda x: x * BY_TEXT.get(str(x.shape[0]), 1.0), (4, 8), None, {(6, 8): FIXED}),
    (lambda x: x * BY_TEXT.get(f"{x.shape[0]}", 1.0), (4, 8), None, {(6, 8): FIXED}),
    (lambda x: inner(x) + jax.nn.gelu(x), (4, 8), BOTH, {(3, 7): FREE, (1, 1): FREE}),
]  # fmt: skip


@pytest.mark.parametrize("row", range(len(JAX_ROWS)))
def test_jax_right_or_refused(row: int) -> None:
    f, shape, dims, others = JAX_ROWS[row]
    x = drawn(shape, "floats").numpy()
    port = ivyport.transpile(f, "torch", args=(x,), dims=dims)
    for other, due in {shape: FREE, **others}.items():
        y = drawn(other, "floats")
        if due == FIXED:
            with pytest.raises(ValueError, match="due"):
                port(y)
        else:
            np.testing.assert_allclose(port(y), f(y.numpy()), atol=1e-6)


def test_jax_size_that_was_asked_for_is_fixed_and_noted() -> None:
    x = np.ones((4, 8), np.float32)
    port = ivyport.transpile(jax_root, "torch", args=(x,), dims={"x": {0: "n"}})
    with pytest.raises(ValueError, match=r"axis 0 is 3, not 4.*np\.sqrt"):
        port(torch.ones(3, 8))


def test_jax_lengths_that_are_equal_from_a_bound_on() -> None:
    """Halved and doubled again: JAX writes ``max(2*(t//2)-1, 0)+1`` for ``2*(t//2)``."""

    def halved(x):
        window = (1, 2, 1)
        y = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")
        return jax.lax.conv_transpose(y, jnp.ones((2, 4, 4)), (2,), "VALID")

    x = drawn((2, 8, 4), "floats").numpy()
    port = ivyport.transpile(halved, "torch", args=(x,), dims=BOTH)
    for shape in [(2, 8, 4), (3, 9, 4), (1, 2, 4)]:
        y = drawn(shape, "floats")
        np.testing.assert_allclose(port(y), halved(y.numpy()), atol=1e-4)
    with pytest.raises(ValueError, match="due"):
        port(drawn((2, 1, 4), "floats"))


def test_second_sizes_satisfy_the_checks() -> None:
    net, port, record = ported(even, IDS, "ids")
    assert [c["left"] for c in record.record.checks] == ["(seq%2)"]
    report = ivyport.verify(net, port)
    assert report.passed, report.rows
    assert report.dims["seq"][1] % 2 == 0


class Positions(nn.Module):
    """A table of 12 positions, read from the second row on."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tokens, self.places = nn.Embedding(10, 8), nn.Embedding(12, 8)

    def forward(self, ids):
        places = torch.arange(1, ids.shape[1] + 1, device=ids.device)
        return self.tokens(ids) + self.places(places)[None]


def test_longer_than_the_table_of_positions() -> None:
    """torch raises there; JAX would take the last row again."""
    ids = drawn(IDS, "ids")
    net = Positions().eval()
    port = ivyport.transpile(net, "jax", kwargs={"ids": ids}, train=False)
    longest = drawn((3, 11), "ids")
    expected = net(longest).detach().numpy()
    np.testing.assert_allclose(port(longest.numpy()), expected, atol=1e-6)
    with pytest.raises(ValueError, match="S <= 11 are due, not S = 12"):
        port(drawn((3, 12), "ids").numpy())


def test_arguments_of_the_wrong_kind() -> None:
    ids = drawn(IDS, "ids")
    net = Positions().eval()
    port = ivyport.transpile(net, "torch", kwargs={"ids": ids}, train=False)
    np.testing.assert_allclose(port(ids.numpy()).detach(), net(ids).detach())
    np.testing.assert_allclose(port(ids.int()).detach(), net(ids).detach())
    with pytest.raises(TypeError, match=r"ids is torch.float32: integers are due"):
        port(ids.float())
    port = ivyport.transpile(net, "jax", kwargs={"ids": ids}, train=False)
    with pytest.raises(TypeError, match=r"ids is float32: integers are due"):
        port(ids.float().numpy())
    with pytest.raises(ValueError, match="axis 1 is empty"):
        port(ids.numpy()[:, :0])


class Joined(nn.Module):
    def forward(self, left, right):
        return torch.cat([left, right], 1) * torch.arange(12)


def test_size_that_others_give_is_added_up() -> None:
    given = {"left": torch.randn(3, 5), "right": torch.randn(3, 7)}
    port = ivyport.transpile(Joined(), "torch", kwargs=given, train=False)
    assert port(torch.randn(2, 4), torch.randn(2, 8)).shape == (2, 12)
    due = r"right.shape\[1\] \+ L == 12 are due, not L = 4, right_1 = 7"
    with pytest.raises(ValueError, match=due):
        port(torch.randn(2, 4), torch.randn(2, 7))


class Trains(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(8, 8)

    def forward(self, x):
        if self.training and x.shape[0] < 3:
            raise ValueError("three are due")
        return self.lin(x)


@pytest.mark.parametrize("target", ["torch", "jax"])
def test_what_train_mode_asks_binds_train_mode_alone(target: str) -> None:
    net = Trains()
    port = ivyport.transpile(net, target, kwargs={"x": drawn((4, 8), "floats")})
    small = drawn((2, 8), "floats").numpy()
    found = np.asarray(port(small).detach() if target == "torch" else port(small))
    np.testing.assert_allclose(
        found, net.eval()(torch.from_numpy(small)).detach(), atol=1e-5
    )
    port.train()
    with pytest.raises(ValueError, match="B >= 3 are due"):
        port(small)
    assert port(drawn((5, 8), "floats").numpy()).shape == (5, 8)
