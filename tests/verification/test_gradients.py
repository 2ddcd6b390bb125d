"""The comparison of gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ivyport.verification.compare import Entry
from ivyport.verification.gradients import compare_gradients
from ivyport.verification.tolerance import DEFAULT
from ivyport.verification.torch_side import TorchSide
from ivyport.verification.training import draw_weights
from ivyport.weights.mapping import Row, WeightMap
from ivyport.weights.transform import Permute


class Scales(nn.Module):
    """Parameters with gradients of 1, of `scale`, and of 0 but for rounding."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.large = nn.Parameter(torch.rand(3, 4))
        self.small = nn.Parameter(torch.rand(3, 4))
        self.none = nn.Parameter(torch.rand(4))
        self.unused = nn.Parameter(torch.rand(2))

    def forward(self, x):
        centred = (x[:, :, None] + self.none).softmax(1)
        return x @ self.large + self.scale * (x @ self.small) + 0.01 * centred.sum(1)


ROWS = (
    Row("large", "a", (Permute((1, 0)),)),
    Row("small", "b", (Permute((1, 0)),)),
    Row("none", "c"),
)


def compare(actual, expected, side, rows):
    return compare_gradients(
        actual,
        expected,
        WeightMap(rows),
        Entry("gradient"),
        DEFAULT,
        sources=side.owner,
        targets={name: name for name in actual},
    )


def check(scale: float, change):
    """Rows by name, where the port has the source's gradients after `change`."""
    torch.manual_seed(0)
    side = TorchSide(Scales(scale), {"x": torch.randn(50, 3)})
    expected = side.gradients(draw_weights).gradients
    actual = {
        "a": expected["large"].T.copy(),
        "b": expected["small"].T.copy(),
        "c": expected["none"].copy(),
    }
    change(actual)
    rows = compare(actual, expected, side, ROWS)
    return {row.name: row for row in rows}


def test_equal_gradients_pass_and_unused_parameters_need_no_place():
    rows = check(1.0, lambda actual: None)
    assert list(rows) == ["a", "b", "c"]
    assert all(row.passed for row in rows.values())


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-5, 1e-6])
def test_a_lost_gradient_is_found_however_small(scale):
    rows = check(scale, lambda actual: actual["b"].fill(0))
    assert rows["a"].passed
    assert not rows["b"].passed


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_a_gradient_that_is_slightly_wrong_is_found(scale):
    def change(actual):
        actual["b"] *= 1.001

    assert not check(scale, change)["b"].passed


@pytest.mark.parametrize(("change", "passed"), [(1e-8, True), (1e-4, False)])
def test_a_gradient_of_zero_is_compared_with_the_largest_one(change, passed):
    def wrong(actual):
        actual["c"] += change

    assert check(1.0, wrong)["c"].passed is passed


def test_a_transposed_gradient_is_found():
    def change(actual):
        actual["a"] = actual["a"].T.copy()

    row = check(1.0, change)["a"]
    assert (row.passed, row.note) == (False, "other shape")


def test_both_alone_are_found():
    rows = check(1.0, lambda actual: actual.update(d=actual.pop("a")))
    assert rows["a"].note == "no parameter of the port"
    assert rows["d"].note == "no parameter of the source"


def test_a_parameter_without_a_place_must_not_matter():
    side = TorchSide(Scales(1.0), {"x": torch.randn(50, 3)})
    expected = side.gradients(draw_weights).gradients
    actual = {"a": expected["large"].T, "b": expected["small"].T}
    rows = compare(actual, expected, side, ROWS[:2])
    assert [(r.name, r.note) for r in rows if not r.passed] == [
        ("none", "the port lacks it")
    ]


def test_padding_rows_have_no_gradient():
    class Scaled(nn.Embedding):
        """As some models have it: a subclass that reads its own padding index."""

        def forward(self, ids):
            return super().forward(ids) * (self.padding_idx + 1)

    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = Scaled(5, 3, padding_idx=1)
            self.plain = nn.Embedding(5, 3)

        def forward(self, ids):
            return self.embed(ids) + self.plain(ids)

    source = Tokens()
    side = TorchSide(source, {"ids": torch.tensor([[0, 1, 1]])})
    weights = {"output": torch.ones(1, 3, 3).numpy()}
    gradients = side.gradients(lambda outputs: weights).gradients
    assert gradients["embed.weight"][1].tolist() == [0.0, 0.0, 0.0]
    assert gradients["embed.weight"][0].tolist() == [2.0, 2.0, 2.0]
    assert source.embed.padding_idx == 1
