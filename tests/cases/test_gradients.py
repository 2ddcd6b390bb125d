"""What the source stops, the port stops: detach, no_grad, .data; hooks are refused."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import ivyport
from ivyport.core.errors import TraceError, UnsupportedOpsError
from tests.cases.gradients import example, ports, text_of


class Two(nn.Module):
    """Two layers, put together by a function."""

    def __init__(self, body: Callable[[Two, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(self, x)


def detach(m: Two, x: torch.Tensor) -> torch.Tensor:
    return m.b(m.a(x).detach())


def no_grad(m: Two, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        h = m.a(x)
    return m.b(h)


@torch.no_grad()
def _decorated(m: Two, x: torch.Tensor) -> torch.Tensor:
    return m.a(x)


def no_grad_as_decorator(m: Two, x: torch.Tensor) -> torch.Tensor:
    return m.b(_decorated(m, x))


def data(m: Two, x: torch.Tensor) -> torch.Tensor:
    return m.b(m.a(x).data)


def data_of_a_weight(m: Two, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, m.a.weight.data) + m.b(x)


def detached_weight(m: Two, x: torch.Tensor) -> torch.Tensor:
    # Its transpose is folded into the weights of the port; the stop has to stay.
    return x @ m.a.weight.detach().t() + m.b(x)


def weight_used_twice(m: Two, x: torch.Tensor) -> torch.Tensor:
    return F.linear(m.a(x), m.a.weight.detach(), m.a.bias)


def enable_grad_inside(m: Two, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        h = m.a(x)
        with torch.enable_grad():
            h = h + m.b(x)
    return h


def set_grad_enabled(m: Two, x: torch.Tensor) -> torch.Tensor:
    with torch.set_grad_enabled(m.training):
        h = m.a(x)
    return m.b(h)


def where_of_detached(m: Two, x: torch.Tensor) -> torch.Tensor:
    h = m.a(x)
    return m.b(torch.where(h > 0, h.detach(), h))


def straight_through(m: Two, x: torch.Tensor) -> torch.Tensor:
    h = m.a(x)
    return m.b(h + (torch.round(h) - h).detach())


def inplace_detach(m: Two, x: torch.Tensor) -> torch.Tensor:
    h = m.a(x)
    h.detach_()
    return m.b(h)


def requires_grad_again(m: Two, x: torch.Tensor) -> torch.Tensor:
    return m.b(m.a(x).detach().requires_grad_())


def write_inside_no_grad(m: Two, x: torch.Tensor) -> torch.Tensor:
    h, total = m.a(x), torch.zeros(4)
    with torch.no_grad():
        total.add_(h.mean(0))
        scale = h.exp()
        scale.mul_(2)
    return m.b(h) * scale + total


def quantized(m: Two, x: torch.Tensor) -> torch.Tensor:
    z = m.a(x)
    distances = (z[:, None] - m.b.weight).square().sum(-1)
    nearest = distances.argmin(-1)
    q = m.b.weight[nearest]
    commitment = (z - q.detach()).square().mean(-1, keepdim=True)
    codebook = (q - z.detach()).square().mean(-1, keepdim=True)
    return (z + (q - z).detach()) + 0.25 * commitment + codebook


def checkpointed(m: Two, x: torch.Tensor) -> torch.Tensor:
    return m.b(checkpoint(m.a, x, use_reentrant=False))


def checkpointed_reentrant(m: Two, x: torch.Tensor) -> torch.Tensor:
    return m.b(checkpoint(m.a, x, use_reentrant=True))


STOPPED = [
    detach, no_grad, no_grad_as_decorator, data, data_of_a_weight, detached_weight,
    weight_used_twice, enable_grad_inside, set_grad_enabled, where_of_detached,
    straight_through, inplace_detach, requires_grad_again, write_inside_no_grad,
    quantized, checkpointed, checkpointed_reentrant,
]  # fmt: skip


@pytest.mark.parametrize("body", STOPPED, ids=lambda f: f.__name__)
def test_stops_where_the_source_stops(body: Any) -> None:
    ports(Two(body), example(3, 4), train=False)


def test_a_layer_under_no_grad_stays_a_layer() -> None:
    text = text_of(ports(Two(no_grad), example(3, 4), train=False)["jax"])
    assert "self.b(jax.lax.stop_gradient(self.a(x)))" in text


def test_inference_mode_stops() -> None:
    def body(m: Two, x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            h = m.a(x)
        return m.b(h)

    # The source itself cannot be differentiated; `no_grad` is what it means.
    ported = ivyport.transpile(Two(body).eval(), "torch", (example(3, 4),), train=False)
    assert "self.b(self.a(x).detach())" in text_of(ported)


def test_what_has_no_gradient_is_not_stopped() -> None:
    class Rotary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(4, 4)
            self.register_buffer("inv_freq", torch.tensor([1.0, 0.1, 0.5, 0.01]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                angles = torch.arange(x.shape[1])[:, None] * self.inv_freq
                cos = angles.cos()
            best = self.lin(x).detach().argmax(-1)
            return (
                self.lin(x * cos) + torch.tensor([1.0, 2.0, 3.0, 4.0]) + best[..., None]
            )

    for ported in ports(Rotary(), example(2, 3, 4), train=False).values():
        assert {"lin", "arange"} <= called_in_models(text_of(ported))
        assert not {"stop_gradient", "detach"} & called_in_models(text_of(ported))


def test_calls_in_models_are_found() -> None:
    source = "class Unset:\n    def f(self): return self.detach()\n"
    model = "class Net(nn.Module):\n    def forward(self, x): return {}\n"
    for call in ("x.detach()", "jax.lax.stop_gradient(x)"):
        found = called_in_models(source + model.format(call))
        assert found == {call.partition("(")[0].rpartition(".")[2]}


def called_in_models(text: str) -> set[str]:
    """The last names of what the model's own classes call, helpers left out."""
    classes = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(base) in ("nn.Module", "nnx.Module") for base in node.bases)
    ]
    assert classes
    calls = [n.func for c in classes for n in ast.walk(c) if isinstance(n, ast.Call)]
    return {ast.unparse(call).rpartition(".")[2] for call in calls}


def hook(m: Two, x: torch.Tensor) -> torch.Tensor:
    h = m.a(x)
    h.register_hook(lambda g: 2 * g)
    return m.b(h)


def hook_of_a_weight(m: Two, x: torch.Tensor) -> torch.Tensor:
    m.a.weight.register_hook(lambda g: 2 * g)
    return m.b(m.a(x))


def assigned_data(m: Two, x: torch.Tensor) -> torch.Tensor:
    h = m.a(x)
    h.data = h.data.clamp(-1, 1)
    return m.b(h)


def write_through_data(m: Two, x: torch.Tensor) -> torch.Tensor:
    h = m.a(x)
    h.data.clamp_(-1, 1)
    return m.b(h)


def write_under_no_grad(m: Two, x: torch.Tensor) -> torch.Tensor:
    h = m.a(x)
    with torch.no_grad():
        h.clamp_(-1, 1)
    return m.b(h)


REFUSED = {
    hook: "a gradient hook",
    hook_of_a_weight: "a gradient hook",
    assigned_data: r"assigns to \.data",
    write_through_data: r"in-place write through detach\(\) or \.data",
    write_under_no_grad: "in-place write under no_grad",
}


@pytest.mark.parametrize("body", REFUSED, ids=lambda f: f.__name__)
def test_refused_at_the_line(body: Any) -> None:
    with pytest.raises((TraceError, UnsupportedOpsError), match=REFUSED[body]) as error:
        ivyport.transpile(Two(body), "jax", (example(3, 4),))
    first = body.__code__.co_firstlineno
    # Of what torch.export records, the line of the innermost module's forward is known.
    known = [Two.forward.__code__.co_firstlineno + 1, *range(first + 1, first + 5)]
    lines = [f"{__file__}:{line}" for line in known]
    assert any(line in str(error.value) for line in lines)


def _on_a_module(m: Two) -> None:
    m.a.register_full_backward_hook(lambda *_: None)


def _before_a_module(m: Two) -> None:
    m.a.register_full_backward_pre_hook(lambda *_: None)


def _on_a_parameter(m: Two) -> None:
    m.a.weight.register_hook(lambda g: g)


def _after_accumulation(m: Two) -> None:
    m.a.weight.register_post_accumulate_grad_hook(lambda p: None)


HOOKED = [_on_a_module, _before_a_module, _on_a_parameter, _after_accumulation]


@pytest.mark.parametrize("register", HOOKED, ids=lambda f: f.__name__)
def test_registered_backward_hooks_are_refused(register: Any) -> None:
    model = Two(detach)
    register(model)
    with pytest.raises(
        TraceError, match=r"(module a|parameter a\.weight).*has a .*hook"
    ):
        ivyport.transpile(model, "jax", (example(3, 4),))


def test_forward_hooks_run_in_the_capture() -> None:
    model = Two(lambda m, x: m.b(m.a(x)))
    model.a.register_forward_hook(lambda m, args, out: out.detach() * 2)
    model.b.register_forward_pre_hook(lambda m, args: (torch.relu(args[0]),))
    ports(model, example(3, 4), train=False)
