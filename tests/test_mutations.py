"""The product is broken in one place at a time, and the verification must say so.

A mutant is a wrong rule of emission, layer, weight map, guard or pass. It dies where
`ivyport.transpile` raises `ParityError`: at once by its outputs, or by what `verify="full"`
compares beside them. Each source is ported unbroken too, so that no mutant dies of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ivyport
from ivyport.backends.jax import RULES as JAX
from ivyport.backends.torch import RULES as TORCH
from ivyport.core.errors import ParityError
from ivyport.frontends.torch import dims
from ivyport.frontends.torch.guards import Assumed
from ivyport.modules import file, nnx
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


SOURCES: dict[str, tuple[Callable[[], nn.Module], Any]] = {
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
        known = nnx._RULES[op]

        def wrong(node: Any, names: Any) -> Any:
            spec = known(node, names)
            return None if spec is None else change(spec)

        patch.setitem(nnx._RULES, op, wrong)

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
    make, x = SOURCES[source]
    torch.manual_seed(0)
    return ivyport.transpile(make().eval(), to, (x,), verify=verify)


USED = sorted({(mutant.source, mutant.to) for mutant in MUTANTS.values()})


@pytest.mark.parametrize(("source", "to"), USED)
def test_the_unbroken_port_holds(source: str, to: str) -> None:
    assert transpile(source, to, "full") is not None


@pytest.mark.parametrize("name", MUTANTS)
def test_the_mutant_dies(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    mutant.breaks(monkeypatch)
    with pytest.raises(ParityError):
        transpile(mutant.source, mutant.to, "outputs" if mutant.outputs else "full")
