"""A variable is never overwritten while something still reads it; what is given is returned.

Each test is one small input that went wrong, or its neighbour.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("flax")
pytest.importorskip("haiku")

import haiku as hk
import jax
import jax.numpy as jnp
import torch
from torch import nn

import ivyport
from tests.support import as_numpy

TARGETS = ("torch", "jax")
X = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)


def arrays(structure: Any) -> list[np.ndarray]:
    return [as_numpy(x) for x in jax.tree.leaves(structure)]


def compare(
    source: Any, expected: Any, to: str, *args: np.ndarray, **given: Any
) -> Any:
    """Port `source` and demand `expected` of the port; the port."""
    torch_source = isinstance(source, nn.Module)
    example = tuple(map(torch.from_numpy, args)) if torch_source else args
    ported = ivyport.transpile(source, to=to, args=example, **given)
    take = torch.from_numpy if to == "torch" else jnp.asarray
    found = ported(*(take(np.array(a)) for a in args))
    for ours, theirs in zip(arrays(found), arrays(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-6)
    return ported


def port_function(function: Any, to: str, *args: np.ndarray) -> None:
    compare(function, function(*args), to, *args)


def port_module(module: nn.Module, to: str, *args: np.ndarray) -> None:
    module.eval()
    with torch.no_grad():
        expected = module(*(torch.from_numpy(a.copy()) for a in args))
    compare(module, expected, to, *args)


FUNCTIONS = {
    "a returned input beside its standardized form": lambda x: {
        "y": (x - x.mean(0)) / x.std(0),
        "x": x,
    },
    "a returned input behind a sort": lambda x: (jnp.sort(x) + 1, x),
    "relu beside argsort": lambda x: (jax.nn.relu(x), jnp.argsort(-x, -1)),
    "relu beside split": lambda h: (jax.nn.relu(h), *jnp.split(h, 2, -1)),
    "relu beside top_k": lambda x: (jax.nn.relu(x), *jax.lax.top_k(x * 2, 2), x),
    "an input returned twice, changed between": lambda x: (x, jnp.tanh(x) * 2 + x, x),
}


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str, to: str) -> None:
    port_function(FUNCTIONS[name], to, X)


@pytest.mark.parametrize("to", TARGETS)
def test_parameters_are_returned(to: str) -> None:
    params = {"w": np.ones((6, 3), np.float32), "t": np.float32([2, 3])}

    def function(params: Any, x: Any) -> Any:
        return x @ params["w"], params["t"]

    compare(function, function(params, X), to, X, params=params)


@pytest.mark.parametrize("to", TARGETS)
def test_a_table_is_returned_beside_its_rows(to: str) -> None:
    def embed(ids: Any) -> Any:
        table = hk.Embed(10, 4)
        return table(ids), table.embeddings

    source = hk.without_apply_rng(hk.transform(embed))
    ids = np.array([[1, 2], [3, 4]], np.int32)
    params = source.init(jax.random.key(0), ids)
    compare(source, source.apply(params, ids), to, ids, params=params)


class TwoTowers(nn.Module):
    """Returns its temperature and bias, and an input."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(2.0))
        self.bias = nn.Parameter(torch.ones(3))
        self.left, self.right = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: Any, y: Any) -> Any:
        return self.left(x) @ self.right(y).T, self.temperature, self.bias, x


class Holder(nn.Module):
    """A buffer of an inner module is returned, by a module that calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(6)

    def forward(self, x: Any) -> Any:
        return self.norm(x), self.norm.running_mean


class Ordered(nn.Module):
    def forward(self, x: Any) -> Any:
        x, order = torch.relu(x), (-x).argsort()
        return x, order


class Sorted(nn.Module):
    def forward(self, x: Any) -> Any:
        a = x.argmax(-1)
        v, i = x.sort(-1)
        return a, v, i


class Add(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6))

    def forward(self, a: Any, x: Any) -> Any:
        return a + x * self.weight


class Attend(nn.Module):
    """Returns two values."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, a: Any, x: Any) -> Any:
        x = self.linear(x).softmax(-1)
        return x * a, x.sum(-1, keepdim=True) - a


class Collects(nn.Module):
    """A list collects what modules return."""

    def __init__(self) -> None:
        super().__init__()
        self.add, self.attend = Add(), Attend()
        self.last, self.last2 = nn.Linear(6, 2), nn.Linear(6, 3)

    def forward(self, a: Any, x: Any) -> Any:
        mask = a > 0
        first = [self.add(a, x)]
        first.extend(self.attend(a, x))
        return self.last(first[2]), self.last2(first[0]), first[1], mask


class Aliased(nn.Module):
    """An argument that nothing reads, beside one of its name inside."""

    def __init__(self) -> None:
        super().__init__()
        self.add = Add()

    def forward(self, x: Any, unused: Any) -> Any:
        x, unused = x.max(-1, keepdim=True).values + x, x
        return self.add(x, unused), unused


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize(
    "module", [TwoTowers, Holder, Ordered, Sorted, Collects, Aliased]
)
def test_modules(module: type[nn.Module], to: str) -> None:
    torch.manual_seed(0)
    two = module in (TwoTowers, Collects, Aliased)
    port_module(module(), to, *([X, X[::-1].copy()] if two else [X]))


class Flat(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.flatten(1)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.scale = nn.Parameter(torch.ones(6))

    def forward(self, x: Any) -> Any:
        return x + self.linear(x) * self.scale


class Kinds(nn.Module):
    """A Sequential whose items are of several kinds, some without parameters."""

    def __init__(self) -> None:
        super().__init__()
        items = [Flat(), Block(), Block(), Flat(), Add2(), Add2()]
        self.blocks = nn.Sequential(*items)

    def forward(self, x: Any) -> Any:
        return self.blocks(x)


class Add2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Any) -> Any:
        return x.tanh() @ self.linear.weight + self.linear(x)


class Windows(nn.Module):
    """Attention in windows of an image: products with five axes."""

    def __init__(self, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(8, 24), nn.Linear(8, 8)
        self.position = nn.Parameter(torch.randn(1, 4, 4, 8))

    def forward(self, x: Any) -> Any:
        b, h, w, c = x.shape
        x = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(2, 3)
        x = x.reshape(b, (h // 2) * (w // 2), -1, c) + self.position
        b, t, n, c = x.shape
        qkv = self.qkv(x).reshape(b, t, n, 3, self.heads, c // self.heads)
        qkv = qkv.permute(3, 0, 4, 1, 2, 5)
        q, k, v = qkv.unbind(0)
        x = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.proj(x.permute(0, 2, 3, 4, 1).reshape(b, t, n, c))


class Levels(nn.Module):
    """One class of windows, with other sizes in each of its instances."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.Sequential(Windows(2), Windows(4))

    def forward(self, x: Any) -> Any:
        b, h, w, c = x.shape
        return self.levels[1](self.levels[0](x).reshape(b, h, w, c))


@pytest.mark.parametrize("to", TARGETS)
def test_a_sequential_of_several_kinds(to: str) -> None:
    port_module(Kinds(), to, X)


@pytest.mark.parametrize("to", TARGETS)
def test_attention_in_windows(to: str) -> None:
    image = np.random.default_rng(1).standard_normal((2, 4, 4, 8)).astype(np.float32)
    port_module(Windows(), to, image)
    port_module(Levels(), to, image)


class Blended(nn.Module):
    """Attention of what has no name in the source, and a mean that train mode moves."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(6, 6) for _ in range(3))
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x):
        h = nn.functional.scaled_dot_product_attention(
            self.q(x).relu().reshape(2, 2, 1, 6),
            self.k(x).relu().reshape(2, 2, 1, 6),
            self.v(x).relu().reshape(2, 2, 1, 6),
        )
        h = h.reshape(4, 6)
        if self.training:
            center = h.mean(0)
            self.mean.mul_(0.9).add_(center, alpha=0.1)
            h = h - center
        else:
            h = h - self.mean
        return torch.tanh(h)


def test_what_is_written_reads_well() -> None:
    source = Blended().eval()
    ported = ivyport.transpile(source, "torch", (torch.from_numpy(X),))
    text = inspect.getsource(type(ported))
    assert 'self.register_buffer("mean", torch.zeros((6,)))' in text
    assert ", None\n" not in text
    assert "center" in text
    for name in ("query", "key", "value"):
        assert (
            f"{name} = self.{name[0]}(x)" in text
            or f"F.relu(self.{name[0]}(x))" in text
        )
