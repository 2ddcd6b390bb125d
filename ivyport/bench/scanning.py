"""Run the repeated layers of an emitted NNX module under jax.lax.scan.

A port's repeated layers are a list, and its `__call__` goes through that list:

    for layer in self.layer:
        hidden_states = layer(hidden_states, attention_mask)

Equal layers of such a list are replaced by one `Scanned` layer that holds their
parameters stacked, so that XLA compiles the layer once. The module's own code stays.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flax import nnx


def scan_layers(model: nnx.Module) -> list[str]:
    """Replace each list of equal layers that is only passed through, in place.

    Returns what was replaced, ``encoder.layer: 12``. Layers with batch statistics stay as
    they are, as do lists that are used in any other way than shown above.
    """
    from flax import nnx

    found = []
    modules = [(path, m) for path, m in nnx.iter_modules(model)]
    for path, module in modules:
        for name in passed_through(type(module)):
            layers = vars(module).get(name)
            if not isinstance(layers, nnx.List):
                continue
            groups = _groups(list(layers))
            if all(len(group) == 1 for group in groups):
                continue
            setattr(
                module,
                name,
                nnx.List([g[0] if len(g) == 1 else _scanned(g) for g in groups]),
            )
            where = ".".join(map(str, (*path, name)))
            found += [f"{where}: {len(g)}" for g in groups if len(g) > 1]
    return found


def passed_through(cls: type) -> list[str]:
    """The attributes that a class's `__call__` uses in one loop as shown above, only."""
    if "__call__" not in vars(cls):
        return []
    try:
        source = textwrap.dedent(inspect.getsource(vars(cls)["__call__"]))
    except (OSError, TypeError):
        return []  # a class without a source file, such as a compiled one
    tree = ast.parse(source)
    names = [
        loop.iter.attr
        for loop in ast.walk(tree)
        if isinstance(loop, ast.For) and _is_fold(loop)
        if isinstance(loop.iter, ast.Attribute)
    ]
    used = [n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)]
    return [name for name in names if used.count(name) == 1]


def _is_fold(loop: ast.For) -> bool:
    """Whether a loop is `for v in self.name: x = v(x, ...)`, x nowhere else in it."""
    match loop:
        case ast.For(
            target=ast.Name(id=layer),
            iter=ast.Attribute(value=ast.Name(id="self")),
            body=[
                ast.Assign(
                    targets=[ast.Name(id=carry)],
                    value=ast.Call(
                        func=ast.Name(id=called),
                        args=[ast.Name(id=first), *rest],
                        keywords=keywords,
                    ),
                )
            ],
            orelse=[],
        ):
            others = [*rest, *(keyword.value for keyword in keywords)]
            names = {
                n.id for o in others for n in ast.walk(o) if isinstance(n, ast.Name)
            }
            return called == layer and first == carry and not names & {carry, layer}
    return False


def _groups(layers: list[Any]) -> list[list[Any]]:
    """Runs of layers that differ in nothing but their arrays' values."""
    groups = itertools.groupby(layers, key=_shape)
    return [group for key, members in groups for group in _split(key, list(members))]


def _split(key: Any, members: list[Any]) -> list[list[Any]]:
    return [[m] for m in members] if key is None else [members]


def _shape(layer: Any) -> Any:
    """What two layers must share to be stacked; None for one that must not be."""
    from flax import nnx

    if not isinstance(layer, nnx.Module):
        return None
    graphdef, state = nnx.split(layer)
    if nnx.to_flat_state(nnx.filter_state(state, nnx.BatchStat)):
        return None
    shapes = [
        (path, value.shape, str(value.dtype))
        for path, value in nnx.to_flat_state(state)
    ]
    return (graphdef, shapes)


def _scanned(layers: list[Any]) -> nnx.Module:
    """One module that does what the layers do one after the other."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    class Scanned(nnx.Module):
        """The first layer, each of whose arrays is the stack of all layers' ones."""

        def __init__(self, stacked: nnx.Module) -> None:
            self.stacked = stacked

        def __call__(self, carry: Any, *rest: Any, **named: Any) -> Any:
            graphdef, state = nnx.split(self.stacked)

            def one(carry: Any, state: Any) -> tuple[Any, None]:
                return nnx.merge(graphdef, state)(carry, *rest, **named), None

            return jax.lax.scan(one, carry, state)[0]

    graphdef = nnx.split(layers[0])[0]
    states = [nnx.split(layer)[1] for layer in layers]
    stacked = jax.tree.map(lambda *values: jnp.stack(values), *states)
    return Scanned(nnx.merge(graphdef, stacked))
