"""One emitted class for several instances: what rules write from types is right for each.

Every module here is used at two sizes, where its first use alone would lead to other code: a
number of its size, or a form that another size does not have.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("flax")

import jax.numpy as jnp
import torch
from torch import nn
from torch.nn import functional as F

import ivyport
from ivyport.core.errors import IvyportError
from ivyport.core.passes.pipeline import prepare
from ivyport.modules.classes import _Describe
from ivyport.modules.file import emit
from ivyport.modules.literals import Written
from ivyport.targets import resolve_target
from tests.plain_models import seeded
from tests.support import as_numpy

TARGETS = ("torch", "jax")
Shape = tuple[int, ...]


class Part(nn.Module):
    """A function as a module with a weight, so that it is emitted as a class."""

    def __init__(self, function: Callable[..., Any], **numbers: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(()))
        self.function = function
        self.numbers = numbers

    def forward(self, x: Any) -> Any:
        return self.function(x * self.weight, **self.numbers)


class Parts(nn.Module):
    """Parts, each with an input of fixed sizes of its own."""

    def __init__(self, parts: list[nn.Module], shapes: list[Shape]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.shapes = shapes

    def forward(self, x: Any) -> Any:
        count = [int(np.prod(shape)) for shape in self.shapes]
        return [
            part(x[:n].reshape(shape))
            for part, n, shape in zip(self.parts, count, self.shapes, strict=True)
        ]


def crop(x: Any) -> Any:
    return F.pad(x, (-1, 1, 0, -1))


def head(x: Any, stop: int = 4) -> Any:
    return x[:, :stop] + 1


def step(x: Any) -> Any:
    return x[:, :4][:, ::2]


def write(x: Any) -> Any:
    x = x.clone()
    x[:, :4] = 0
    return x


def write_row(x: Any) -> Any:
    x = x.clone()
    x[:, 1:2] = x[:1, :1]
    return x


def gather(x: Any) -> Any:
    return x.gather(1, torch.tensor([[2, 0, 1], [0, 1, 2]]))


def scatter(x: Any) -> Any:
    index = torch.tensor([[2, 0, 1], [0, 1, 2]])
    return torch.zeros(2, 9).scatter(1, index, x)


def unfold(x: Any) -> Any:
    return F.unfold(x, (2, 2), stride=2)


def fold(x: Any) -> Any:
    return F.pixel_unshuffle(x, 2).flatten(1)


def pool(x: Any) -> Any:
    return F.max_pool2d(x, 3, 2, ceil_mode=True)


def mean_pool(x: Any) -> Any:
    return F.avg_pool2d(x, 3, 2, padding=1, ceil_mode=True)


def adaptive(x: Any) -> Any:
    return F.adaptive_avg_pool2d(x, 3)


def resize(x: Any) -> Any:
    return F.interpolate(x, size=(6, 6), mode="bilinear")


def upsample(x: Any) -> Any:
    return F.interpolate(x, scale_factor=2.0, mode="bicubic")


def normalize(x: Any) -> Any:
    return F.layer_norm(x, x.shape[1:])


def spread(x: Any) -> Any:
    return x.std(1) + x.var((0, 1), correction=0) + x.numel()


def grid(x: Any) -> Any:
    rows, columns = x.shape[1:]
    return x + torch.arange(rows)[:, None] * columns + torch.linspace(0, 1, columns)


def roll(x: Any) -> Any:
    return torch.roll(x, (x.shape[1] // 2, -1), (1, 2))


def tri(x: Any) -> Any:
    n = x.shape[-1]
    return x.masked_fill(torch.ones(n, n).triu(1).bool(), -1.0)


def chunks(x: Any) -> Any:
    a, b = x.chunk(2, -1)
    return a * 2 - b


def windows(x: Any) -> Any:
    return F.scaled_dot_product_attention(x, x + 1, x - 1)


def masked(x: Any) -> Any:
    mask = torch.ones(x.shape[-2], x.shape[-2]).tril().bool()
    return F.scaled_dot_product_attention(x, x, x - 1, attn_mask=mask)


def biased(x: Any) -> Any:
    bias = x.mean(-1, keepdim=True)
    return F.scaled_dot_product_attention(
        x, x, x, attn_mask=bias.expand(*bias.shape[:-1], x.shape[-2])
    )


def shared_heads(x: Any, heads: int = 2) -> Any:
    key = x[:, :heads]
    return F.scaled_dot_product_attention(x, key, key, enable_gqa=True)


def uneven(x: Any, width: int = 4) -> Any:
    return F.scaled_dot_product_attention(x, x, x[..., :width])


CASES: dict[str, tuple[Callable[..., Any], list[Shape], list[dict[str, int]]]] = {
    "crop": (crop, [(2, 4, 5), (2, 6, 7)], []),
    "head": (head, [(2, 4, 3), (2, 6, 3)], []),
    "head longer first": (head, [(2, 6, 3), (2, 4, 3)], []),
    "head by attribute": (head, [(2, 4, 3), (2, 6, 3)], [{"stop": 4}, {"stop": 5}]),
    "step": (step, [(2, 4), (2, 8)], []),
    "write": (write, [(2, 4), (2, 6)], []),
    "write row": (write_row, [(1, 3), (3, 3)], []),
    "gather": (gather, [(2, 3), (3, 3)], []),
    "scatter": (scatter, [(2, 3), (3, 4)], []),
    "unfold": (unfold, [(2, 3, 4, 4), (2, 5, 4, 6)], []),
    "fold": (fold, [(2, 3, 4, 4), (2, 1, 4, 8)], []),
    "pool": (pool, [(1, 2, 7, 7), (1, 2, 8, 6)], []),
    "mean pool": (mean_pool, [(1, 2, 7, 7), (1, 2, 8, 6)], []),
    "adaptive": (adaptive, [(1, 2, 6, 6), (1, 2, 9, 7)], []),
    "resize": (resize, [(1, 2, 6, 6), (1, 2, 3, 5)], []),
    "upsample": (upsample, [(1, 2, 3, 3), (1, 2, 4, 5)], []),
    "normalize": (normalize, [(2, 3, 4), (2, 5, 6)], []),
    "spread": (spread, [(2, 3, 4), (3, 5, 4)], []),
    "grid": (grid, [(2, 3, 4), (2, 5, 6)], []),
    "roll": (roll, [(2, 4, 4), (2, 6, 5)], []),
    "tri": (tri, [(2, 3, 3), (2, 5, 5)], []),
    "chunks": (chunks, [(2, 4), (2, 6)], []),
    "windows": (windows, [(2, 3, 2, 4, 8), (1, 2, 4, 6, 4)], []),
    "masked windows": (masked, [(2, 3, 2, 4, 8), (1, 2, 4, 6, 4)], []),
    "biased windows": (biased, [(2, 3, 2, 4, 8), (1, 2, 4, 6, 4)], []),
    "biased": (biased, [(2, 2, 4, 8), (1, 4, 6, 4)], []),
    "shared heads": (shared_heads, [(2, 2, 5, 4), (2, 4, 5, 4)], []),
    "uneven": (uneven, [(2, 2, 5, 4), (2, 2, 5, 8)], []),
}  # fmt: skip


X = torch.randn(400, generator=torch.Generator().manual_seed(3))


def made(name: str) -> nn.Module:
    function, shapes, numbers = CASES[name]
    numbers = numbers or [{} for _ in shapes]
    return seeded(lambda: Parts([Part(function, **n) for n in numbers], shapes))


def twice(function: Any, *shapes: Shape) -> nn.Module:
    return seeded(lambda: Twice(Part(function), list(shapes)))


class Each(nn.Module):
    """Several models of one input."""

    def __init__(self, models: dict[str, nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models.values())

    def forward(self, x: Any) -> Any:
        return [model(x) for model in self.models]


class Twice(nn.Module):
    """One module for several sizes, like a detector's head on each level."""

    def __init__(self, part: nn.Module, shapes: list[Shape]) -> None:
        super().__init__()
        self.part = part
        self.shapes = shapes

    def forward(self, x: Any) -> Any:
        count = [int(np.prod(shape)) for shape in self.shapes]
        pairs = zip(count, self.shapes, strict=True)
        return [self.part(x[:n].reshape(shape)) for n, shape in pairs]


def halves(x: Any) -> Any:
    return x.reshape(x.shape[0], 2, x.shape[1] // 2).transpose(1, 2)


MODELS = {
    **{name: made(name) for name in CASES},
    "twice: halves": twice(halves, (2, 4), (2, 6)),
    "twice: head": twice(head, (2, 4, 3), (2, 6, 3), (2, 4, 3)),
    "twice: windows": twice(windows, (2, 3, 2, 4, 8), (1, 2, 4, 6, 4)),
    "twice: unfold": twice(unfold, (2, 3, 4, 4), (2, 5, 4, 6)),
    "twice: grid": twice(grid, (2, 3, 4), (2, 5, 6), (2, 5, 6), (2, 3, 4)),
    "twice: pool": twice(pool, (1, 2, 7, 7), (1, 2, 8, 6)),
}


def check(source: nn.Module, to: str, *given: Any) -> list[tuple[Any, Any]]:
    """Port a module without comparing: the port's outputs and the source's."""
    port = ivyport.transpile(source, to=to, args=given, verify=False)
    with torch.no_grad():
        expected = source(*given)
    take = (lambda x: x) if to == "torch" else (lambda x: jnp.asarray(as_numpy(x)))
    return list(zip(port(*map(take, given)), expected, strict=True))


def assert_equal(pairs: list[tuple[Any, Any]]) -> None:
    for ours, theirs in pairs:
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(
            as_numpy(ours), as_numpy(theirs), rtol=2e-5, atol=2e-6
        )


@pytest.fixture(scope="module", params=TARGETS)
def outputs(request: pytest.FixtureRequest) -> dict[str, tuple[Any, Any]]:
    """Outputs of all models in one port: ours and the source's."""
    return dict(zip(MODELS, check(Each(MODELS).eval(), request.param, X), strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_a_class_at_two_sizes(name: str, outputs: dict[str, tuple[Any, Any]]) -> None:
    assert_equal(list(zip(*outputs[name], strict=True)))


class Half(nn.Module):
    """The first entries of one argument, as many as half of another one has."""

    def __init__(self, swap: bool) -> None:
        super().__init__()
        self.swap = swap
        self.weight = nn.Parameter(torch.randn(()))

    def forward(self, x: Any, y: Any) -> Any:
        a, b = (y, x) if self.swap else (x, y)
        return (x + self.weight)[: a.shape[0] // 2], (y - self.weight)[: b.shape[0]]


class Halves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = Half(False), Half(True)

    def forward(self, x: Any, y: Any) -> Any:
        return *self.one(x, y), *self.two(y, x)


@pytest.mark.parametrize("to", TARGETS)
def test_a_part_of_a_size_is_of_the_argument_that_has_it(to: str) -> None:
    source = seeded(Halves)
    assert_equal(check(source, to, torch.randn(8), torch.randn(12)))


def class_names(source: nn.Module, to: str) -> list[str]:
    graph = ivyport.trace(source, args=(X,))
    prepare(graph, resolve_target(to).policy)
    tree = ast.parse(emit(graph, resolve_target(to).open_form()).source)
    names = [n.name for n in tree.body if isinstance(n, ast.ClassDef)]
    return [n for n in names if n.startswith("Part")]


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("name", ["normalize", "grid", "roll", "tri", "chunks"])
def test_sizes_that_are_not_written_leave_one_class(name: str, to: str) -> None:
    assert class_names(made(name), to) == ["Part", "Parts"]


def test_a_size_that_is_written_makes_classes() -> None:
    assert class_names(made("windows"), "jax") == ["Part", "Part2", "Parts"]
    assert class_names(made("windows"), "torch") == ["Part", "Parts"]


@pytest.mark.parametrize(
    "name", ["windows", "biased windows", "crop", "twice: unfold", "pool"]
)
def test_without_asking_the_rules_the_first_size_is_taken(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Written, "form", lambda *_, **__: ())
    with pytest.raises((AssertionError, TypeError, ValueError, IvyportError)):
        assert_equal(check(MODELS[name], "jax", X))


def test_calls_with_other_numbers_are_other_methods(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_Describe, "_exact", lambda *_: None)
    with pytest.raises((AssertionError, TypeError, ValueError, IvyportError)):
        assert_equal(check(MODELS["twice: halves"], "jax", X))
