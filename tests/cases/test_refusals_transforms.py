"""Derivatives, `vmap` and branches inside of a torch forward: ported with their values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("flax")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

import ivyport  # noqa: E402
from ivyport.core.errors import TraceError, UnsupportedOpsError  # noqa: E402
from tests.plain_models import seeded  # noqa: E402
from tests.support import assert_close  # noqa: E402

X = torch.linspace(-1, 1.5, 8).reshape(2, 4)


def model(forward_: Callable[..., Any]) -> nn.Module:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(4, 4)
            self.norm = nn.LayerNorm(4)
            self.energy = nn.Sequential(nn.Linear(4, 6), nn.SiLU(), nn.Linear(6, 1))
            self.weights = nn.Parameter(torch.randn(3, 5, 4))
            self.biases = nn.Parameter(torch.randn(3, 5))

        def forward(self, x):
            return forward_(self, x)

    return seeded(Model).eval()


def forces(self: Any, x: Any) -> Any:
    x = x.clone().requires_grad_(True)
    energy = self.energy(x).sum()
    (gradient,) = torch.autograd.grad(energy, x, create_graph=True)
    return {"energy": energy, "forces": -gradient}


def detached_forces(self: Any, x: Any) -> Any:
    x = x.detach().requires_grad_(True)
    energy = F.softmax(F.gelu(self.lin(x)), -1).pow(2).sum()
    return torch.autograd.grad(energy, x)[0]


def weight_gradient(self: Any, x: Any) -> Any:
    return torch.autograd.grad(self.lin(x).tanh().sum(), self.lin.weight)[0]


CASES: dict[str, Callable[..., Any]] = {
    "vmap of a module": lambda m, x: torch.vmap(lambda r: m.norm(m.lin(r)))(x),
    "vmap of vmap": lambda m, x: torch.vmap(
        torch.vmap(lambda a, b: a * b, (None, 0)), (0, None)
    )(x, x),
    "an ensemble": lambda m, x: torch.vmap(lambda w, b: F.linear(x, w, b))(
        m.weights, m.biases
    ),
    "func.grad": lambda m, x: torch.func.grad(
        lambda y: m.energy(m.norm(y)).pow(2).sum()
    )(x),
    "func.grad_and_value": lambda m, x: torch.func.grad_and_value(
        lambda y: m.lin(y).sigmoid().sum()
    )(x),
    "grad of grad": lambda m, x: torch.func.grad(
        lambda z: torch.func.grad(lambda y: m.lin(y).tanh().sum())(z).pow(2).sum()
    )(x),
    "gradients of each sample": lambda m, x: torch.vmap(
        torch.func.grad(lambda w, y: (y @ w.T).tanh().sum()), (None, 0)
    )(m.lin.weight, x),
    "func.functional_call": lambda m, x: torch.func.functional_call(
        m.lin, {"weight": m.lin.weight * 2, "bias": m.lin.bias}, (x,)
    ),
    "jvp": lambda m, x: torch.func.jvp(lambda y: m.lin(y).tanh(), (x,), (x + 1,)),
    "vjp": lambda m, x: torch.func.vjp(m.lin, x)[1](x + 1)[0],
    "jacrev": lambda m, x: torch.func.jacrev(lambda y: m.lin(y).tanh())(x[0]),
    "jacfwd": lambda m, x: torch.func.jacfwd(lambda y: m.lin(y).tanh())(x[0]),
    "hessian": lambda m, x: torch.func.hessian(lambda y: m.lin(y).tanh().sum())(x[0]),
    "autograd.grad, forces": forces,
    "autograd.grad of a detached input": detached_forces,
    "autograd.grad of a weight": weight_gradient,
    "cond": lambda m, x: torch.cond(
        x.sum() > 0, lambda y: m.lin(y), lambda y: y - 1, (x,)
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_transforms_inside_of_a_forward_port(case: str) -> None:
    source = model(CASES[case])
    port = ivyport.transpile(source, "jax", (X,))
    for x in (X, -X):
        wanted = torch.utils._pytree.tree_leaves(source(x))
        found = torch.utils._pytree.tree_leaves(port(x.numpy()))
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_close(one, other.detach().numpy())


def test_forces_keep_their_modules_and_train() -> None:
    source = model(forces)
    port = ivyport.transpile(source, "jax", (X,))
    assert port.energy_0.weight.shape == (6, 4)
    assert ivyport.verify(source, port).passed


def test_transforms_are_put_back() -> None:
    before = (torch._functorch.apis.vmap_impl, torch.autograd._engine_run_backward)
    with pytest.raises(TraceError):
        ivyport.transpile(model(lambda m, x: 1 / 0), "jax", (X,))
    now = (torch._functorch.apis.vmap_impl, torch.autograd._engine_run_backward)
    assert now == before


def _printed(m: Any, x: Any) -> Any:
    print(f"{x.mean():.3f}")
    return m.lin(x)


def _packed(m: Any, x: Any) -> Any:
    packed = nn.utils.rnn.pack_padded_sequence(
        x[None], torch.tensor([2]), batch_first=True
    )
    return m.lin(packed.data)


REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "backward": (
        lambda m, x: (m.lin(x).sum().backward(), m.lin.weight.grad)[1], "autograd.grad",
    ),
    "numpy": (lambda m, x: torch.from_numpy(x.numpy()) + m.lin(x), "torch's functions"),
    "a printed number": (_printed, "print outside of forward"),
    "item": (lambda m, x: m.lin(x) * x.sum().item(), "torch.where"),
    "nonzero": (lambda m, x: x[x.sum(-1).nonzero()[:, 0]], "torch.where"),
    "a test of values": (lambda m, x: m.lin(x) if x.sum() > 0 else x, "torch.where"),
    "unique": (lambda m, x: torch.unique(x), "other operations"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_depends_on_values_is_refused_with_a_way_out(case: str) -> None:
    function, step = REFUSED[case]
    with pytest.raises((TraceError, UnsupportedOpsError)) as caught:
        ivyport.transpile(model(function), "jax", (X,))
    text = str(caught.value)
    assert step in text
    assert "ivyport/frontends" not in text
    assert "github" not in text


def test_what_follows_from_a_gap_is_not_listed() -> None:
    with pytest.raises(UnsupportedOpsError, match=r"^1 operation ") as caught:
        ivyport.transpile(
            model(lambda m, x: m.lin(x) * x.sum().item() + 1), "jax", (X,)
        )
    assert "mul" not in str(caught.value)
