"""Scopes become classes: one a source class, whose instances differ in arguments."""

from __future__ import annotations

import ast
import re

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("flax")

from torch import nn  # noqa: E402

from tests.modules.emission import (  # noqa: E402
    classes,
    emit_module,
    live,
    method,
    methods,
)
from tests.plain_models import seeded  # noqa: E402
from tests.porting import assert_same  # noqa: E402
from tests.support import as_numpy  # noqa: E402


def ported(source: nn.Module, inputs: dict, config: dict | None = None) -> str:
    """The emitted file of a module, after its values were compared."""
    emitted = emit_module(source, inputs, config=config)
    tensors = [*source.named_parameters(), *source.named_buffers()]
    arrays = {name: as_numpy(tensor) for name, tensor in tensors}
    assert_same(source, live(emitted, arrays), inputs)
    return emitted.source


X = {"x": torch.randn(2, 6, generator=torch.Generator().manual_seed(0))}


class Block(nn.Module):
    def __init__(self, width: int = 8, scale: float = 1.0, norm: bool = False) -> None:
        super().__init__()
        self.up = nn.Linear(6, width)
        self.down = nn.Linear(width, 6)
        self.norm = nn.LayerNorm(6, eps=1e-3 * scale) if norm else None
        self.drop = nn.Dropout(0.1 * scale)
        self.scale = scale

    def forward(self, x):
        y = self.drop(self.down(torch.relu(self.up(x)))) * self.scale
        return x + y if self.norm is None else self.norm(x + y)


class Stack(nn.Module):
    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def test_equal_layers_are_one_class() -> None:
    source = ported(seeded(lambda: Stack(*(Block() for _ in range(3)))), X)
    found = classes(source)
    assert sorted(found) == ["Block", "Stack"]
    assert len(found["Block"].body) == 2
    assert re.search(r"Block\(.*rngs=rngs\) for _ in range\(3\)", source)
    assert "for block in self.blocks:" in method(found["Stack"])


def test_layers_that_differ_in_constants_share_a_class_with_arguments() -> None:
    blocks = [(8, 3.0), (10, 0.5), (12, 0.25)]
    source = ported(
        seeded(lambda: Stack(*(Block(w, s, norm=True) for w, s in blocks))), X
    )
    found = classes(source)
    assert sorted(found) == ["Block", "Stack"]
    (init,) = [n for n in found["Block"].body if n.name == "__init__"]
    arguments = [a.arg for a in init.args.args]
    assert arguments[0] == "self"
    assert 3 <= len(arguments) <= 5, arguments
    assert "scale" in arguments
    made = method(found["Stack"], "__init__")
    assert made.count("Block(") == 3
    for number in ("0.5", "0.25", "10", "12"):
        assert number in made


def test_what_does_not_vary_is_no_argument() -> None:
    source = ported(seeded(lambda: Stack(Block(8, 1.0), Block(8, 0.5))), X)
    (init,) = [n for n in classes(source)["Block"].body if n.name == "__init__"]
    assert "8" in ast.unparse(init)


def test_layers_of_another_structure_are_another_class() -> None:
    source = ported(seeded(lambda: Stack(Block(), Block(norm=True), Block())), X)
    found = classes(source)
    assert sorted(found) == ["Block", "Block2", "Stack"]
    assert "norm" in ast.unparse(found["Block2"])
    assert "norm" not in ast.unparse(found["Block"])


class Twice(nn.Module):
    """One block called with and without a second input."""

    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.randn(6))

        def forward(self, x, y=None):
            x = x * self.scale
            return x if y is None else x + torch.tanh(y)

    def __init__(self) -> None:
        super().__init__()
        self.part = self.Part()

    def forward(self, x):
        return self.part(self.part(x), x)


def test_two_bodies_of_one_module_are_two_methods() -> None:
    source = ported(seeded(Twice), X)
    assert methods(classes(source)["Part"]) == ["__init__", "__call__", "call_2"]


def test_a_layer_with_a_parameter_of_the_parent() -> None:
    class Inner(nn.Module):
        def __init__(self, table: nn.Parameter) -> None:
            super().__init__()
            self.table = table

        def forward(self, x):
            return x @ self.table

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(6, 6))
            self.one = Inner(self.table)
            self.two = Inner(self.table)

        def forward(self, x):
            return self.two(torch.tanh(self.one(x))) + self.table.sum()

    source = ported(seeded(Outer), X)
    assert source.count("nnx.Param(") + source.count("nnx.Linear(") == 1


def test_known_layers_are_the_target_s() -> None:
    class Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(9, 6)
            self.conv = nn.Conv2d(3, 6, 3, padding=1)
            self.group = nn.GroupNorm(2, 6)
            self.norm = nn.LayerNorm(6)
            self.linear = nn.Linear(6, 6, bias=False)
            self.drop = nn.Dropout(0.1)

        def forward(self, ids, x):
            x = self.group(self.conv(x)).mean((2, 3))[:, None]
            return self.drop(self.linear(self.norm(self.embed(ids) + x)))

    inputs = {"ids": torch.tensor([[1, 2], [3, 4]]), "x": torch.randn(2, 3, 4, 4)}
    source = ported(seeded(Layers), inputs)
    made = method(classes(source)["Layers"], "__init__")
    for layer in ("Embed", "Conv", "GroupNorm", "LayerNorm", "Linear", "Dropout"):
        assert f"nnx.{layer}(" in made
    assert "nnx.Param" not in made
    assert list(classes(source)) == ["Layers"]


def test_a_dead_child_is_not_emitted() -> None:
    class Dead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used = nn.Linear(6, 6)
            self.unused = nn.Linear(6, 6)

        def forward(self, x):
            self.unused(x)
            return self.used(x)

    source = ported(seeded(Dead), X)
    named = [
        n.attr for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Attribute)
    ]
    assert "used" in named
    assert "unused" not in named


def test_classes_of_one_name_are_told_apart() -> None:
    def made(power: int) -> type[nn.Module]:
        class Part(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.w = nn.Parameter(torch.randn(6))

            def forward(self, x):
                return x * self.w if power == 1 else x * self.w + torch.sin(self.w)

        return Part

    source = ported(seeded(lambda: Stack(made(1)(), made(2)())), X)
    assert sorted(classes(source)) == ["Part", "Part2", "Stack"]


def test_numbers_get_their_names_from_the_configuration() -> None:
    config = {"hidden_size": 6, "intermediate_size": 8, "num_layers": 3}
    source = ported(seeded(lambda: Stack(*(Block() for _ in range(3)))), X, config)
    assert "class StackConfig:" in source
    assert "hidden_size: int = 6" in source
    block = method(classes(source)["Block"], "__init__")
    assert "nnx.Linear(config.hidden_size, config.intermediate_size" in block
    assert "range(config.num_layers)" in source
