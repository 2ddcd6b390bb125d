"""What trains in the source trains in the port, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import nnx
from torch import nn

import ivyport
from ivyport import api
from tests.cases.gradients import example, ports, text_of


class Lora(nn.Module):
    """A layer that is frozen, and what is trained beside it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.base = nn.Linear(size, size).requires_grad_(False)
        self.down = nn.Linear(size, 2, bias=False)
        self.up = nn.Linear(2, size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + 2 * self.up(self.down(x))


class Block(nn.Module):
    """A norm and an adapted layer."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.query, self.norm = Lora(size), nn.LayerNorm(size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.query(self.norm(x))


class Model(nn.Module):
    """Six blocks; the first four norms, a kernel and a parameter of its own are frozen."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList([Block(4) for _ in range(6)])
        self.head = nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.rand(4), requires_grad=False)
        self.shift = nn.Parameter(torch.rand(4))
        self.head.weight.requires_grad_(False)
        for block in self.blocks[:4]:
            block.norm.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x) * self.scale + self.shift


class Backbone(nn.Module):
    """A frozen body under `no_grad`, in eval mode, and a head that trains."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
        self.head = nn.Linear(4, 4)
        self.body.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            h = self.body(x)
        return self.head(h)


class Teacher(nn.Module):
    """A student, and its moving average, which no gradient reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.student, self.teacher = nn.Linear(4, 4), nn.Linear(4, 4)
        self.teacher.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            target = self.teacher(x)
        return (self.student(x) - target).square()


class Tied(nn.Module):
    """Two layers of one frozen weight, and one that trains."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 4, bias=False).requires_grad_(False)
        self.mix = nn.Linear(4, 4)
        self.out = nn.Linear(4, 4, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.mix(self.embed(x))))


def trained(ported: Any) -> set[str]:
    """Names of what an optimizer of the target would train, as the source calls it."""
    rows = api._known(ported).weights.rows
    if isinstance(ported, nn.Module):
        return {n for n, p in ported.named_parameters() if p.requires_grad}
    held = {
        ".".join(map(str, p))
        for p, _ in nnx.to_flat_state(nnx.state(ported, nnx.Param))
    }
    return {row.source for row in rows if row.target in held}


def test_adapters_train_and_their_base_does_not() -> None:
    model = Model()
    found = ports(model, example(3, 4), train=False)
    wanted = {n for n, p in model.named_parameters() if p.requires_grad}
    assert len(wanted) == 18
    for to, ported in found.items():
        assert trained(ported) == wanted, to
    text = text_of(found["jax"])
    # Each is said once, where all modules of the class agree.
    assert text.count("freeze(self.base)") == 1
    assert "for layer in self.blocks[:4]:\n            freeze(layer.norm)" in text
    assert "self.head.kernel = Frozen(self.head.kernel[...])" in text
    # Nothing says what it starts as.
    assert "self.scale = Unset(" in text
    text = text_of(found["torch"])
    assert "self.head.weight.requires_grad_(False)" in text
    assert "requires_grad=False" in text


def test_the_usual_optimizer_leaves_frozen_weights_alone(tmp_path: Path) -> None:
    ported = ivyport.transpile(Model().eval(), "jax", (example(3, 4),), train=False)
    ivyport.save(ported, tmp_path / "out")
    model = ivyport.load(tmp_path / "out")
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
    before = jax.tree.map(np.asarray, nnx.state(model))
    gradients = nnx.grad(lambda m, x: jnp.sum(m(x)))(
        model, jnp.asarray(example(2, 4).numpy())
    )
    optimizer.update(model, gradients)
    after = dict(nnx.to_flat_state(nnx.state(model)))
    moved = {
        ".".join(map(str, path))
        for path, old in nnx.to_flat_state(before)
        if not np.array_equal(old.get_value(), after[path].get_value())
    }
    params = {
        ".".join(map(str, p)) for p, _ in nnx.to_flat_state(nnx.state(model, nnx.Param))
    }
    assert moved == params
    assert len(moved) == 18


def test_frozen_weights_go_home() -> None:
    model = Model().eval()
    port = ivyport.transpile(model, "jax", (example(3, 4),), train=False)
    known = api._known(port)
    arrays = {n: np.asarray(a) for n, a in api.current(known, port).items()}
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(known.weights.read_source(name, arrays), tensor)


def test_a_frozen_body_under_no_grad() -> None:
    found = ports(Backbone(), example(3, 4), train=False)
    for ported in found.values():
        assert trained(ported) == {"head.weight", "head.bias"}


def test_a_teacher() -> None:
    for ported in ports(Teacher(), example(3, 4), train=False).values():
        assert trained(ported) == {"student.weight", "student.bias"}


def test_a_tensor_tied_with_a_frozen_one() -> None:
    for ported in ports(Tied(), example(3, 4), train=False).values():
        assert trained(ported) == {"mix.weight", "mix.bias"}


def test_everything_is_frozen() -> None:
    model = Backbone().requires_grad_(False)
    for ported in ports(model, example(3, 4), train=False).values():
        assert trained(ported) == set()
        assert "self.head.requires_grad_" not in text_of(ported)


def test_parity_tells_a_frozen_weight_that_trains() -> None:
    model = Backbone().eval()
    ported = ivyport.transpile(model, "jax", (example(3, 4),), train=False)
    assert ivyport.verify(model, ported).passed
    ported.body_0.kernel = nnx.Param(ported.body_0.kernel[...])
    report = ivyport.verify(model, ported)
    assert not report.passed
    assert any("kernel" in row.name for row in report.rows if not row.passed)


def test_parity_tells_a_weight_that_does_not_train() -> None:
    model = Backbone().eval()
    ported = ivyport.transpile(model, "torch", (example(3, 4),), train=False)
    assert ivyport.verify(model, ported).passed
    ported.head.bias.requires_grad_(False)
    report = ivyport.verify(model, ported)
    assert any(row.name == "head.bias" for row in report.rows if not row.passed)
