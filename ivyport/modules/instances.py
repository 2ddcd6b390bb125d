"""Module instances of a call tree: who owns what, and which are the target's own layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from ivyport.core.ir import Graph, Param
from ivyport.modules.tree import CallNode, is_random, under
from ivyport.weights.transform import Transform


@dataclasses.dataclass
class ParamSpec:
    """Where a source tensor lives in the target's layer, and how it gets there.

    `attr` may lead into a part of the layer (``mean_ema.average``).
    """

    attr: str
    transforms: tuple[Transform, ...] = ()


@dataclasses.dataclass
class LayerSpec:
    """A leaf module that is one of the target's own layers.

    Attributes:
        kind: the target's class as written (`nnx.Linear`), or a runtime class (`BatchNorm`).
        numbers: hyperparameters by constructor argument; numbers may differ between instances.
        flags: constructor arguments that are part of the layer's identity (`use_bias`).
        params: for each source parameter name its place in the layer.
        random: whether the layer draws random numbers.
        rngs: whether the constructor takes `rngs`.
        positional: how many of `numbers` are given by position.
    """

    kind: str
    numbers: dict[str, Any]
    flags: dict[str, Any]
    params: dict[str, ParamSpec]
    positional: int = 0
    random: bool = False
    rngs: bool = True
    identity: bool = False


@dataclasses.dataclass(eq=False)
class Instance:
    """One module object of the source that the trace called."""

    path: str
    cls: str
    calls: list[CallNode]
    layer: LayerSpec | None = None
    children: dict[str, Instance] = dataclasses.field(default_factory=dict)
    shared: dict[str, Instance] = dataclasses.field(default_factory=dict)
    params: dict[str, Param] = dataclasses.field(default_factory=dict)
    height: int = 0

    def relative(self, path: str) -> str:
        """`path` below this module."""
        return path[len(self.path) + 1 :] if self.path else path


LeafRule = Callable[[CallNode, list[Param]], LayerSpec | None]


def collect(root: CallNode, graph: Graph, leaf: LeafRule) -> Instance:
    """Instances with their children, own parameters and shared modules; the root's instance."""
    found: dict[str, Instance] = {}
    owned: dict[str, list[Param]] = {}  # by module, what its parts own included
    for param in graph.params.values():
        for owner in _owners(param):
            owned.setdefault(owner, []).append(param)
    for call in root.calls():
        instance = found.setdefault(call.path, Instance(call.path, call.cls, []))
        instance.calls.append(call)
    used = {p.value for p in graph.params.values()} & {
        v for n in root.nodes() for v in n.values()
    }
    written = {p.value for call in root.calls() for p, _ in call.updates}
    used |= written
    used |= {p.value for p in graph.params.values()} & set(graph.output_values())
    for instance in found.values():
        mine = [p for p in owned.get(instance.path, []) if p.value in used]
        # What others write is no layer's: layers keep their weights to themselves.
        if instance.path and not any(p.value in written for p in mine):
            instance.layer = _layer(instance, mine, leaf)
    order = list(graph.classes)
    rank = {path: i for i, path in enumerate(order)}
    for path in sorted(found, key=lambda p: rank.get(p, len(rank))):
        if path:
            parent = _parent(path, found)
            parent.children[parent.relative(path)] = found[path]
    for param in graph.params.values():
        if param.value in used:
            holder = _holder(param, found)
            holder.params[holder.relative(param.place)] = param
    top = found[root.path]
    _share(root, found)
    _measure(top)
    return top


def _owners(param: Param) -> Iterator[str]:
    """Paths of the modules that a parameter lies in, the innermost first."""
    path = param.owner
    while path:
        yield path
        path = path.rpartition(".")[0]
    yield ""


def _holder(param: Param, found: dict[str, Instance]) -> Instance:
    """The innermost module that can hold a parameter: a layer holds what its spec places."""
    for path in _owners(param):
        instance = found.get(path)
        layer = instance.layer if instance else None
        if instance and (
            layer is None or instance.relative(param.place) in layer.params
        ):
            return instance
    return found[""]


def _layer(instance: Instance, params: list[Param], leaf: LeafRule) -> LayerSpec | None:
    specs = [leaf(call, params) for call in instance.calls]
    first = specs[0]
    if first is None or any(spec != first for spec in specs):
        return None
    return first


def _parent(path: str, found: dict[str, Instance]) -> Instance:
    while True:
        path = path.rpartition(".")[0]
        if path in found and found[path].layer is None:
            return found[path]
        if not path:
            return found[""]


def _share(call: CallNode, found: dict[str, Instance]) -> None:
    """A module called from outside its owner is handed down to the caller.

    Every module on the way gets it under the name that the source's caller uses.
    """
    for item in call.items:
        if not isinstance(item, CallNode):
            continue
        _share(item, found)
        holder = found[call.path]
        named = under(item.alias, call.path) and item.alias != call.path
        key = holder.relative(item.alias) if named else item.path
        while not under(item.path, holder.path):
            if found[item.path] not in holder.shared.values():
                holder.shared[key.replace(".", "_")] = found[item.path]
            holder = _parent(holder.path, found)


def _measure(instance: Instance) -> int:
    heights = [_measure(child) for child in instance.children.values()]
    instance.height = 1 + max(heights, default=0) if instance.layer is None else 0
    return instance.height


def all_instances(top: Instance) -> list[Instance]:
    """The instance and everything below it, parents first."""
    return [top, *(i for child in top.children.values() for i in all_instances(child))]


def random_nodes(call: CallNode) -> list[int]:
    """Positions of the items of a body that draw random numbers themselves."""
    return [
        i
        for i, item in enumerate(call.items)
        if not isinstance(item, CallNode) and is_random(item)
    ]
