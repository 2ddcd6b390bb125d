"""The product is broken in one place at a time, and the verification must say so.

A mutant is a wrong rule of emission, layer, weight map, guard or pass. It dies where
`ivyport.transpile` raises `ParityError`: at once by its outputs, or by what `verify="full"`
compares beside them. Each source is ported unbroken too, so that no mutant dies of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flax import nnx
from torch import nn

import ivyport
from ivyport.backends.jax import RULES as JAX
from ivyport.backends.torch import RULES as TORCH
from ivyport.core.errors import ParityError
from ivyport.core.ir import Graph
from ivyport.frontends.jax import derivatives, rules_gather, rules_scatter
from ivyport.frontends.jax import frontend as jax_frontend
from ivyport.frontends.torch import dims
from ivyport.frontends.torch import frontend as torch_frontend
from ivyport.frontends.torch.guards import Assumed
from ivyport.modules import file
from ivyport.modules import nnx as nnx_layers
from ivyport.modules.variables import Variables
from ivyport.weights.transform import Permute

X = torch.randn(4, 6, generator=torch.manual_seed(0))
IDS = torch.tensor([[1, 2, 0, 5, 3, 4, 6, 2], [6, 1, 2, 3, 4, 5, 0, 0]])
IMAGES = torch.randn(3, 2, 5, 5, generator=torch.manual_seed(1))


class Line(nn.Module):
    """A square layer, and a function of what it gives."""

    def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.lin = nn.Linear(6, 6)
        self.function = function

    def forward(self, x):
        return self.function(self.lin(x))


class Stopped(Line):
    """A function of a layer and of the layer before it, whose gradient is stopped."""

    def __init__(self) -> None:
        super().__init__(torch.tanh)
        self.first = nn.Linear(6, 6)

    def forward(self, x):
        return self.lin(self.first(x).detach()) + self.first(x)


class Guarded(nn.Module):
    """Twice what it is given, if a question about its sizes is answered with yes."""

    def __init__(self, asks: Callable[[int, int], bool]) -> None:
        super().__init__()
        self.emb = nn.Embedding(7, 4)
        self.asks = asks

    def forward(self, ids):
        h = self.emb(ids)
        return h * 2 if self.asks(*ids.shape) else h


class Rooted(Line):
    """Divides by the root of an axis, which a port fixes."""

    def forward(self, x):
        return self.lin(x.sum(2)) / int(x.shape[2] ** 0.5)


class Moving(nn.Module):
    """A mean that moves in train mode, dropout and noise of the call's own; each alone."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.lin = nn.Linear(6, 6)
        self.register_buffer("mean", torch.zeros(6))
        self.kind = kind

    def forward(self, x):
        y = self.lin(x) - self.mean
        if self.kind == "count":
            self.mean.add_(1)
        if self.training and self.kind == "mean":
            self.mean.mul_(0.9).add_(x.mean(0), alpha=0.1)
        if self.training and self.kind == "dropout":
            y = F.dropout(y, 0.5)
        if self.training and self.kind == "noise":
            y = y + torch.randn_like(y)
        return y


class Beside(Line):
    """Gives two values to names of which one is read by both."""

    def forward(self, x):
        h = self.lin(x)
        x, order = F.relu(x), torch.argsort(-x)
        return x, order, h


class Steep(torch.autograd.Function):
    """Rounds, with three times the gradient of what it is given."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, grad):
        return 3 * grad


@jax.custom_vjp
def steep(x: jax.Array) -> jax.Array:
    return jnp.round(x)


steep.defvjp(lambda x: (jnp.round(x), None), lambda _, grad: (3 * grad,))


class Flax(nnx.Module):
    """A square layer, and a function of what it gives and of the module."""

    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        self.lin = nnx.Linear(6, 6, rngs=nnx.Rngs(0))
        self.drop = nnx.Dropout(0.5, rngs=nnx.Rngs(1))
        self.mean = nnx.BatchStat(jnp.zeros(6))
        self.function = function

    def __call__(self, x: Any) -> Any:
        return self.function(self, self.lin(x))


def centred(module: Any, h: Any) -> Any:
    """A mean that moves in train mode."""
    mean = module.mean[...]
    if not module.drop.deterministic:
        module.mean[...] = 0.9 * mean + 0.1 * h.mean(0)
    return h - mean


def flax(function: Callable[[Any, Any], Any]) -> Callable[[], nnx.Module]:
    return lambda: nnx.view(Flax(function), deterministic=True)


class Images(nn.Module):
    """A convolution, batch norm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4, momentum=0.3)
        self.drop = nn.Dropout(0.25)

    def forward(self, x):
        return self.drop(torch.relu(self.norm(self.conv(x))))


def line(function: Callable[[torch.Tensor], Any]) -> Callable[[], nn.Module]:
    return lambda: Line(function)


def frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    model[0].requires_grad_(False)
    return model


XJ = jnp.asarray(X.numpy())
FAR = np.int32([0, -1, 7, 2, -9])

#: How a source is made, and its inputs.
SOURCES: dict[str, tuple[Callable[[], Any], Any]] = {
    "mean": (lambda: Moving("mean"), X),
    "count": (lambda: Moving("count"), X),
    "dropout": (lambda: Moving("dropout"), X),
    "noise": (lambda: Moving("noise"), X),
    "custom": (line(Steep.apply), X),
    "beside": (lambda: Beside(torch.tanh), X),
    "custom in JAX": (flax(lambda _, h: steep(h)), XJ),
    "stopped in JAX": (flax(lambda _, h: h * jax.lax.stop_gradient(h)), XJ),
    "dropout in JAX": (flax(lambda m, h: m.drop(h)), XJ),
    "mean in JAX": (flax(centred), XJ),
    "filled": (lambda: lambda x, i: jnp.take(x, i, axis=0), (XJ, FAR)),
    "clipped index": (
        lambda: lambda x, i: jnp.take(x, i, axis=0, mode="clip"),
        (XJ, FAR),
    ),
    "dropped": (lambda: lambda x, i: x.at[i].add(2.0), (XJ, FAR)),
    "gelu": (line(F.gelu), X),
    "softmax": (line(lambda h: h.softmax(-1)), X),
    "attention": (
        line(
            lambda h: F.scaled_dot_product_attention(
                h[:, None, None], h[None, None], h[None, None]
            )
        ),
        X,
    ),
    "attention to nothing": (
        line(
            lambda h: F.scaled_dot_product_attention(
                h[:, None, None],
                h[None, None],
                h[None, None],
                torch.arange(4)[:, None, None, None] > 0,
            )
        ),
        X,
    ),
    "sorted": (line(lambda h: (*h.sort(-1), *h.topk(2, -1))), X),
    "sums": (line(lambda h: (h.cumsum(-1), h.var(-1), h.argmax(-1))), X),
    "parts": (
        line(
            lambda h: torch.cat([h[:, :2], torch.where(h > 0.1, h.cos(), h.sin())], 1)
        ),
        X,
    ),
    "clipped": (line(lambda h: F.leaky_relu(h.clamp(-0.5, 0.5), 0.3)), X),
    "half": (line(lambda h: h.to(torch.bfloat16)), X),
    "images": (Images, IMAGES),
    "normed": (lambda: nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6)), X),
    "stopped": (Stopped, X),
    "frozen": (frozen, X),
    "even": (lambda: Guarded(lambda b, t: t % 2 == 0), IDS),
    "several": (lambda: Guarded(lambda b, t: b > 1), IDS),
    "long": (lambda: Guarded(lambda b, t: b * t > 12), IDS),
    "rooted": (lambda: Rooted(torch.tanh), torch.randn(2, 3, 9, 6)),
    "padded": (lambda: nn.Sequential(nn.Embedding(7, 4, padding_idx=0)), IDS),
}


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One mistake: where it is, in a port of which source, and whether outputs show it."""

    source: str
    breaks: Callable[[pytest.MonkeyPatch], None]
    outputs: bool = True
    to: str = "jax"


def rule(table: dict[str, Any], op: str, **changed: Callable[[Any], Any]) -> Any:
    """The emission of `op` with other attributes."""

    def put(patch: pytest.MonkeyPatch) -> None:
        known = table[op]

        def wrong(*args: Any, **attrs: Any) -> Any:
            return known(*args, **attrs | {n: f(attrs[n]) for n, f in changed.items()})

        patch.setitem(table, op, wrong)

    return put


def same(table: dict[str, Any], op: str) -> Any:
    """The emission of `op` is its operand."""
    return lambda patch: patch.setitem(table, op, lambda e, x, *_, **__: x)


def operands(op: str, order: Callable[..., Any]) -> Any:
    """The emission of `op` with its operands in another order."""

    def put(patch: pytest.MonkeyPatch) -> None:
        known = JAX[op]
        patch.setitem(
            JAX, op, lambda e, *args, **attrs: known(e, *order(*args), **attrs)
        )

    return put


def layer(op: str, change: Callable[[Any], Any]) -> Any:
    """The layer that `op` becomes in NNX is another one."""

    def put(patch: pytest.MonkeyPatch) -> None:
        known = nnx_layers._RULES[op]

        def wrong(node: Any, names: Any) -> Any:
            spec = known(node, names)
            return None if spec is None else change(spec)

        patch.setitem(nnx_layers._RULES, op, wrong)

    return put


def numbers(**changed: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def change(spec: Any) -> Any:
        new = {n: changed[n](v) if n in changed else v for n, v in spec.numbers.items()}
        return dataclasses.replace(spec, numbers=new)

    return change


def kernel(axes: tuple[int, ...]) -> Callable[[Any], Any]:
    """The kernel's weights with their axes in another order."""

    def change(spec: Any) -> Any:
        params = {
            n: dataclasses.replace(p, transforms=(Permute(axes),))
            if p.attr == "kernel"
            else p
            for n, p in spec.params.items()
        }
        return dataclasses.replace(spec, params=params)

    return change


def attribute(module: Any, name: str, value: Any) -> Any:
    return lambda patch: patch.setattr(module, name, value)


def in_bounds(b: Any, start: Any, *_: Any) -> Any:
    """JAX's index as torch takes it: negative ones count from the end."""
    return start, False


def unclipped(b: Any, index: Any, last: Any) -> Any:
    return index


def plain(patch: pytest.MonkeyPatch) -> None:
    """The forward pass of a custom derivative alone."""
    known = nnx_layers.NNX.function

    def wrong(*args: Any) -> Any:
        main = known(*args)[0]
        main.decorator_list = []
        return [main]

    patch.setattr(nnx_layers.NNX, "function", wrong)


def overwritten(patch: pytest.MonkeyPatch) -> None:
    """Pending expressions are not bound before a variable that they read changes."""
    patch.setattr(Variables, "_bind_readers", lambda *_: False)


#: The graph of train mode is not looked at.
EVAL = attribute(torch_frontend, "reconcile", lambda *_: [])
EVAL_JAX = attribute(jax_frontend, "reconcile", lambda *_: [])
UNWRITTEN = attribute(
    torch_frontend, "Graph", lambda **given: Graph(**given | {"updates": {}})
)
#: No guard of a trace becomes a check.
UNGUARDED = attribute(dims, "assumptions", lambda *_: Assumed((), {}))
NO_SIZES = attribute(file, "sizes_checks", lambda *_: [])
NO_SHAPES = attribute(file, "shapes_check", lambda *_: [])

MUTANTS: dict[str, Mutant] = {
    "gelu by tanh": Mutant("gelu", rule(JAX, "gelu", approximate=lambda a: not a)),
    "softmax over the batch": Mutant("softmax", rule(JAX, "softmax", axis=lambda _: 0)),
    "attention's scale": Mutant(
        "attention", rule(JAX, "attention", scale=lambda _: 1.0)
    ),
    "queries that see no key": Mutant(
        "attention to nothing", rule(JAX, "attention", empty=lambda _: "mean")
    ),
    "largest for smallest": Mutant(
        "sorted", rule(JAX, "topk", largest=lambda a: not a)
    ),
    "sorted backwards": Mutant("sorted", rule(JAX, "sort", descending=lambda a: not a)),
    "sums along another axis": Mutant(
        "sums", rule(JAX, "cumulative_sum", axis=lambda _: 0)
    ),
    "biased variance": Mutant("sums", rule(JAX, "var", correction=lambda c: 1 - c)),
    "parts in another order": Mutant("parts", operands("concat", lambda a, b: (b, a))),
    "branches exchanged": Mutant("parts", operands("where", lambda c, a, b: (c, b, a))),
    "a bound left out": Mutant("clipped", rule(JAX, "clip", max=lambda _: None)),
    "another slope": Mutant(
        "clipped", rule(JAX, "leaky_relu", negative_slope=lambda s: s / 3)
    ),
    "a cast left out": Mutant("half", same(JAX, "astype")),
    "a cast left out in torch": Mutant("half", same(TORCH, "astype"), to="torch"),
    "softmax over the batch in torch": Mutant(
        "softmax", rule(TORCH, "softmax", axis=lambda _: 0), to="torch"
    ),
    "a weight not transposed": Mutant("gelu", layer("linear", kernel((0, 1)))),
    "a kernel turned": Mutant("images", layer("conv", kernel((3, 2, 1, 0)))),
    "padding on one side": Mutant(
        "images", layer("conv", numbers(padding=lambda _: ((2, 0), (1, 1))))
    ),
    "another epsilon": Mutant(
        "normed", layer("layer_norm", numbers(epsilon=lambda e: e * 1e3))
    ),
    "momentum for 1 - momentum": Mutant(
        "images", layer("batch_norm", numbers(momentum=lambda m: 1 - m)), outputs=False
    ),
    "statistics never updated": Mutant(
        "images", layer("batch_norm", numbers(momentum=lambda _: 1.0)), outputs=False
    ),
    "another dropout rate": Mutant(
        "images", layer("dropout", numbers(rate=lambda r: r * 2)), outputs=False
    ),
    "no dropout": Mutant(
        "images", layer("dropout", numbers(rate=lambda _: 0.0)), outputs=False
    ),
    "a gradient not stopped": Mutant(
        "stopped", same(JAX, "stop_gradient"), outputs=False
    ),
    "a gradient not stopped in torch": Mutant(
        "stopped", same(TORCH, "stop_gradient"), outputs=False, to="torch"
    ),
    "frozen weights that train": Mutant(
        "frozen", attribute(file, "frozen_by_class", lambda *_: {}), outputs=False
    ),
    "the padding row trains": Mutant(
        "padded",
        layer(
            "embedding", lambda s: dataclasses.replace(s, kind="nnx.Embed", flags={})
        ),
        outputs=False,
    ),
    "train mode is eval mode, a mean": Mutant("mean", EVAL, False),
    "train mode is eval mode, a mean in torch": Mutant("mean", EVAL, False, "torch"),
    "train mode is eval mode, dropout": Mutant("dropout", EVAL, False),
    "train mode is eval mode, dropout in torch": Mutant(
        "dropout", EVAL, False, "torch"
    ),
    "train mode is eval mode, noise": Mutant("noise", EVAL, False),
    "train mode is eval mode, noise in torch": Mutant("noise", EVAL, False, "torch"),
    "train mode is eval mode, dropout of JAX": Mutant(
        "dropout in JAX", EVAL_JAX, False, "torch"
    ),
    "train mode is eval mode, a mean of JAX": Mutant(
        "mean in JAX", EVAL_JAX, False, "torch"
    ),
    "buffers are not written": Mutant("count", UNWRITTEN, False),
    "buffers are not written in torch": Mutant("count", UNWRITTEN, False, "torch"),
    "buffers are not written in train mode": Mutant("mean", UNWRITTEN, False),
    "a fill is taken for in bounds": Mutant(
        "filled", attribute(rules_gather, "counted", in_bounds), to="torch"
    ),
    "a drop is taken for in bounds": Mutant(
        "dropped", attribute(rules_scatter, "counted", in_bounds), to="torch"
    ),
    "an index is not clipped": Mutant(
        "clipped index", attribute(rules_gather, "clamped", unclipped), to="torch"
    ),
    "a derivative of its own lost": Mutant("custom", plain, False),
    "a derivative of its own lost in torch": Mutant(
        "custom in JAX",
        attribute(derivatives, "custom", lambda *_: None),
        False,
        "torch",
    ),
    "a stop of JAX lost in torch": Mutant(
        "stopped in JAX", same(TORCH, "stop_gradient"), False, "torch"
    ),
    "a variable overwritten": Mutant("beside", overwritten),
    "a variable overwritten in torch": Mutant("beside", overwritten, to="torch"),
    "an even length not checked": Mutant("even", NO_SIZES, False),
    "a batch of several not checked": Mutant("several", NO_SIZES, False, "torch"),
    "a number of tokens not checked": Mutant("long", NO_SIZES, False, "torch"),
    "a fixed size not checked": Mutant("rooted", NO_SHAPES, False),
    "a fixed size not checked in torch": Mutant("rooted", NO_SHAPES, False, "torch"),
    "the guard of an even length lost": Mutant("even", UNGUARDED, False),
    "the guard of a batch lost": Mutant("several", UNGUARDED, False, "torch"),
    "the guard of a number of tokens lost": Mutant("long", UNGUARDED, False, "torch"),
}


def transpile(source: str, to: str, verify: Any) -> Any:
    make, given = SOURCES[source]
    torch.manual_seed(0)
    made = make()
    args = given if isinstance(given, tuple) else (given,)
    if isinstance(made, nn.Module):
        made.eval()
    return ivyport.transpile(made, to, args, verify=verify)


USED = sorted({(mutant.source, mutant.to) for mutant in MUTANTS.values()})


@pytest.mark.parametrize(("source", "to"), USED)
def test_the_unbroken_port_holds(source: str, to: str) -> None:
    assert transpile(source, to, "full") is not None


#: Each has a neighbour in the same source that dies of the same comparison.
SLOW = {
    "statistics never updated",
    "another dropout rate",
    "padding on one side",
    "the guard of an even length lost",
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in MUTANTS],
)
def test_the_mutant_dies(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    mutant.breaks(monkeypatch)
    with pytest.raises(ParityError):
        transpile(mutant.source, mutant.to, "outputs" if mutant.outputs else "full")
