"""Which axis of the source's parameters a number of a constructor is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from ivyport.backends import pyast
from ivyport.backends.pyast import Exprs
from ivyport.modules.classes import Library
from ivyport.modules.config import plausible
from ivyport.modules.instances import Instance, LayerSpec
from ivyport.modules.literals import Where
from ivyport.weights.transform import Permute

# By argument of a layer: the parameters, in the layer's own layout, and the axis of that size.
AXES: dict[str, tuple[tuple[str, int], ...]] = {
    "in_features": (("kernel", -2), ("weight", 1)),
    "out_features": (("kernel", -1), ("weight", 0)),
    "in_channels": (("weight", 1),),
    "out_channels": (("weight", 0),),
    "num_embeddings": (("embedding", 0), ("weight", 0)),
    "vocab_size": (("embeddings", 0),),
    "features": (("embedding", 1), ("kernel", -1)),
    "output_size": (("w", -1),),
    "output_channels": (("w", -1),),
    "embed_dim": (("embeddings", 1),),
    "embedding_dim": (("weight", 1),),
    "num_features": (("scale", 0), ("bias", 0), ("weight", 0)),
    "num_channels": (("weight", 0),),
    "normalized_shape": (("weight", 0),),
}


def places(
    instance: Instance, where: Where, value: float, library: Library
) -> Iterator[str | None]:
    """Keys of `core.ir.Graph.sizes` for a number; None for one that is no such axis."""
    kind, path, *rest = where
    if kind == "layer" and len(rest) == 1:
        layer = instance.children[path].layer
        assert layer is not None
        yield _layer(instance.children[path], layer, str(rest[0]), value)
    elif kind == "param":
        param = instance.params[path]
        axis = str(rest[0]).rpartition("_")[2]
        yield None if param.folds else f"{param.path}[{axis}]"
    elif kind == "child":
        child = instance.children[path]
        names = library.of[child].argument_of
        found = [
            key
            for inner in [w for w, name in names.items() if name == rest[0]]
            for key in places(child, inner, value, library)
        ]
        # Numbers of the body have no place but the attribute that they are called by.
        named = f"{child.path}.{rest[0]}"
        inside = set(found) == {None} and plausible(str(rest[0]), "shape")
        yield from [named] if inside else found
    else:
        yield None


def _layer(child: Instance, layer: LayerSpec, name: str, value: float) -> str | None:
    if "Transpose" in layer.kind:
        return None
    for attr, axis in AXES.get(name, ()):
        for relative, spec in layer.params.items():
            param = child.params.get(relative)
            if spec.attr != attr or param is None or param.folds:
                continue
            axes = tuple(range(len(param.type.shape)))
            for transform in spec.transforms:
                if not isinstance(transform, Permute):
                    return None
                axes = tuple(axes[a] for a in transform.axes)
            if param.type.shape[axes[axis]] == value:
                return f"{param.path}[{axes[axis]}]"
    return None


def spelled(exprs: Exprs, formula: tuple[Any, ...]) -> ast.expr:
    """``3 * config.n_embd``, ``(config.hidden_size // config.num_heads) ** -0.5``."""

    def side(x: Any) -> Any:
        if isinstance(x, tuple):
            return spelled(exprs, x)
        return pyast.name(f"config.{x}") if isinstance(x, str) else x

    if len(formula) == 1:
        return exprs.const(side(formula[0]))
    operator, left, right = formula
    return exprs.binary(operator, side(left), side(right))
