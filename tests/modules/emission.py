"""Emitting graphs and torch modules, and running what was emitted."""

from __future__ import annotations

import ast
import dataclasses
import functools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from ivyport.core.ir import Graph
from ivyport.core.passes.pipeline import prepare
from ivyport.modules.file import Emitted, emit
from ivyport.targets import TARGETS
from ivyport.weights.mapping import WeightMap
from tests.passes import Watch


def emit_graph(
    graph: Graph, config: dict[str, Any] | None = None, target: str = "jax"
) -> Emitted:
    """Run the target's passes on `graph` and emit it."""
    prepare(graph, TARGETS[target].policy, Watch())
    return emit(graph, TARGETS[target].open_form(), config or {}, "A port.\n")


def emit_module(
    source: Any,
    inputs: dict[str, Any],
    dims: Any = None,
    config: dict[str, Any] | None = None,
    target: str = "jax",
) -> Emitted:
    """Trace a torch module in both modes and emit it."""
    import ivyport

    graph = ivyport.trace(source, kwargs=inputs, dims=dims, train=True)
    return emit_graph(graph, config, target)


def live(emitted: Emitted, arrays: dict[str, np.ndarray], target: str = "jax") -> Any:
    """The emitted model with the source's tensors, in eval mode."""
    realize = TARGETS[target].open_live()
    module = realize.compile_source(emitted.source, "test")
    make = realize.factory(module, emitted.cls, emitted.config)
    names = realize.settle_names([r.target for r in emitted.rows], make)
    rows = [dataclasses.replace(r, target=names[r.target]) for r in emitted.rows]
    used = {r.source for r in rows}
    held = {k: v for k, v in arrays.items() if k in used}
    return realize.fill(make, dict(WeightMap(tuple(rows)).forward(held)))


@functools.cache
def family(model_type: str, cls: str | None = None, target: str = "jax") -> Emitted:
    """A tiny model of a family, emitted."""
    from ivyport.zoo import hf, hf_configs, hf_inputs

    config = hf_configs.tiny_config(model_type)
    model = hf.build(config, cls=cls)
    inputs = hf_inputs.example_inputs(model)
    dims = hf_inputs.dims(model, inputs)
    return emit_module(model, inputs, dims, fields(model), target)


def fields(model: Any) -> dict[str, Any]:
    """The configuration of a Hugging Face model, as far as it is JSON."""
    found = {}
    for key, value in model.config.to_dict().items():
        try:
            json.dumps(value)
        except TypeError:
            continue
        found[str(key)] = value
    return found


def classes(source: str) -> dict[str, ast.ClassDef]:
    """Classes of a file that are modules, by name."""
    found = [n for n in ast.parse(source).body if isinstance(n, ast.ClassDef)]
    return {c.name: c for c in found if any("Module" in ast.dump(b) for b in c.bases)}


def method(cls: ast.ClassDef, name: str = "__call__") -> str:
    """The source of a method."""
    (found,) = [
        n for n in cls.body if isinstance(n, ast.FunctionDef) and n.name == name
    ]
    return ast.unparse(found)


def methods(cls: ast.ClassDef) -> list[str]:
    """Names of a class's methods."""
    return [n.name for n in cls.body if isinstance(n, ast.FunctionDef)]


def statements(source: str, without: Sequence[str] = ()) -> int:
    """How many statements a file has.

    Those of the functions `without` are left out, with the imports that they alone need.
    """
    tree = ast.parse(source)
    left_out = [
        n
        for n in ast.walk(tree)
        if isinstance(n, ast.FunctionDef) and n.name in without
    ]
    inner = {id(n) for node in left_out for n in ast.walk(node)}
    kept = [n for n in ast.walk(tree) if id(n) not in inner]
    names = {n.id for n in kept if isinstance(n, ast.Name)}
    return sum(
        isinstance(n, ast.stmt) and not (left_out and _is_idle(n, names)) for n in kept
    )


def _is_idle(node: ast.AST, names: set[str]) -> bool:
    """Whether a statement imports nothing of those names."""
    if not isinstance(node, ast.Import | ast.ImportFrom):
        return False
    bound = {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return not bound & names
