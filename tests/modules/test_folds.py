"""Folds of parameters as transforms: the same arrays, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ivyport.core.errors import GraphError
from ivyport.core.ir import Param, TensorType, Value
from ivyport.modules import folds
from ivyport.weights.mapping import Row, WeightMap
from ivyport.weights.transform import apply

ARRAY = np.arange(120.0).reshape(2, 3, 4, 5)
FOLDS: dict[str, tuple[Any, ...]] = {
    "none": (),
    "permute": (("permute_dims", (3, 0, 2, 1)),),
    "reshape": (("reshape", (2, 3, 4, 5), (6, 20)),),
    "flip": (("flip", (1, 3)),),
    "all": (
        ("permute_dims", (3, 2, 1, 0)),
        ("flip", (0, 1)),
        ("reshape", (5, 4, 3, 2), (20, 6)),
    ),
    "select": (("select", 1, 2),),
    "select twice": (("select", 0, 1), ("select", 1, 2)),
    "select, permute, select": (
        ("select", 1, 1),
        ("permute_dims", (2, 0, 1)),
        ("select", 1, 0),
    ),
    "permute, select": (("permute_dims", (1, 0, 3, 2)), ("select", 0, 2)),
    "select, flip": (("select", 0, 0), ("permute_dims", (2, 1, 0)), ("flip", (0,))),
}


def folded(array: np.ndarray, steps: tuple[Any, ...]) -> np.ndarray:
    """What the folds mean."""
    for kind, *rest in steps:
        match kind:
            case "select":
                array = np.take(array, rest[1], axis=rest[0])
            case "permute_dims":
                array = array.transpose(rest[0])
            case "reshape":
                array = array.reshape(rest[1])
            case "flip":
                array = np.flip(array, rest[0])
    return array


def param(shape: tuple[int, ...], steps: tuple[Any, ...], path: str = "w") -> Param:
    type_ = TensorType("float64", shape)
    return Param(path, type_, "parameter", Value(type_), folds=steps, source="w")


@pytest.mark.parametrize("name", FOLDS)
def test_transforms_do_what_folds_mean(name: str) -> None:
    expected = folded(ARRAY, FOLDS[name])
    found = apply(folds.transforms(param(expected.shape, FOLDS[name])), ARRAY)
    assert found.shape == expected.shape
    assert (found == expected).all()


@pytest.mark.parametrize("after", [(), (("permute_dims", (2, 0, 1)),)])
def test_parts_of_a_stacked_tensor_go_home(after: tuple[Any, ...]) -> None:
    rows = []
    for i in range(3):
        steps = (("select", 1, i), *after)
        shape = folded(ARRAY, steps).shape
        chain = folds.transforms(param(shape, steps, f"w.{i}"))
        rows.append(Row("w", f"layers.{i}.w", chain))
    weights = WeightMap(tuple(rows))
    made = dict(weights.forward({"w": ARRAY}))
    assert list(made) == ["layers.0.w", "layers.1.w", "layers.2.w"]
    assert (made["layers.2.w"] == folded(ARRAY[:, 2], after)).all()
    (home,) = dict(weights.backward(made)).values()
    assert (home == ARRAY).all()
    assert WeightMap.from_json(weights.to_json()) == weights


def test_an_unknown_fold_is_a_defect() -> None:
    with pytest.raises(GraphError, match="shear"):
        folds.transforms(param((2,), (("shear", 1),)))
