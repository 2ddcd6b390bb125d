"""How the constructor of an emitted class freezes what the source freezes (see `frozen`)."""

from __future__ import annotations

import ast
from collections.abc import Collection
from typing import TYPE_CHECKING

from ivyport.backends import pyast
from ivyport.modules.frozen import first_index

if TYPE_CHECKING:
    from ivyport.modules.emit import ClassEmitter
    from ivyport.modules.instances import Instance


def freezing(emitter: ClassEmitter, made: Collection[str]) -> list[ast.stmt]:
    """What the source freezes; a run of modules in a list is a loop.

    `made` are parameters of layers that the constructor makes frozen by itself.
    """
    statements: list[ast.stmt] = []
    lists: dict[tuple[str, str], list[int]] = {}
    for item in emitter.frozen:
        child = emitter.me.children.get(item.path)
        held = child.params if child is not None else {}
        if held and all(f"{item.path}.{name}" in made for name in held):
            continue
        if item.param:
            # A parameter of its own is made frozen.
            if item.path not in emitter.me.params:
                statements.append(_freeze_param(emitter, item.path))
            continue
        head, index, tail = first_index(item.path)
        if head in emitter.layout.lists and f"{head}.{index}" in emitter.me.children:
            lists.setdefault((head, tail), []).append(int(index))
            continue
        path = f"{emitter.me.path}.{item.path}".strip(".")
        target = pyast.name("self")
        if item.path:
            target = emitter.reach(emitter.me, path, target)
        statements.append(emitter.target.freeze(target))
    for (head, tail), indices in lists.items():
        statements += _freeze_list(emitter, head, tail, indices)
    return statements


def _freeze_param(emitter: ClassEmitter, path: str) -> ast.stmt:
    absolute = f"{emitter.me.path}.{path}".strip(".")
    owner, relative = _place(emitter, absolute)
    return emitter.target.freeze_param(emitter.attribute_of(owner, relative))


def _place(emitter: ClassEmitter, absolute: str) -> tuple[Instance, str]:
    """The owner of a parameter, and its path below it."""
    return next(
        (o, r)
        for o, r in emitter.owners.values()
        if f"{o.path}.{r}".strip(".") == absolute
    )


def _freeze_list(
    emitter: ClassEmitter, head: str, tail: str, indices: list[int]
) -> list[ast.stmt]:
    """``for layer in self.layers[:6]: freeze(layer.attention)``."""
    count = len(emitter.layout.lists[head])
    first, last = indices[0], indices[-1] + 1
    whole = emitter.layout.slots[f"{head}.{first}"].container.on(pyast.name("self"))
    if indices != list(range(first, last)) or len(indices) < 3:
        paths = (".".join(p for p in (head, str(i), tail) if p) for i in indices)
        full = (f"{emitter.me.path}.{path}".strip(".") for path in paths)
        found = (emitter.reach(emitter.me, p, pyast.name("self")) for p in full)
        return [emitter.target.freeze(expr) for expr in found]
    if len(indices) < count:
        lower = ast.Constant(first) if first else None
        upper = ast.Constant(last) if last < count else None
        whole = pyast.subscript(whole, ast.Slice(lower, upper, None))
    elif not tail:
        return [emitter.target.freeze(whole)]
    child = emitter.me.children[f"{head}.{first}"]
    item = pyast.name("layer")
    if tail:
        item = emitter.reach(child, f"{child.path}.{tail}", item)
    name = ast.Name("layer", ast.Store())
    return [ast.For(name, whole, [emitter.target.freeze(item)], [], lineno=0)]


def parts_below(emitter: ClassEmitter, path: str) -> list[tuple[str, ...]] | None:
    """What of the child at `path` is frozen: names that lead to each part, [] for all of it.

    None where nothing of it is.
    """
    found = []
    for item in emitter.frozen:
        if item.path in ("", path):
            return []
        if not item.path.startswith(f"{path}."):
            continue
        child = emitter.me.children[path]
        absolute = f"{emitter.me.path}.{item.path}".strip(".")
        if not item.param:
            expr = emitter.reach(child, absolute, pyast.name("_"))
        else:
            owner, relative = _place(emitter, absolute)
            expr = emitter.reach(child, owner.path, pyast.name("_"))
            names = (
                emitter.layouts[owner].slots[relative].path.split(".")
                if owner.layer is None
                else owner.layer.params[relative].attr.split(".")
            )
            expr = pyast.attribute(expr, *names)
        found.append(tuple(names_of(expr)))
    return found or None


def names_of(expr: ast.expr) -> list[str]:
    """The names of linen and haiku of what ``_.layer[0].attention`` reaches."""
    if isinstance(expr, ast.Attribute):
        return [*names_of(expr.value), expr.attr]
    if isinstance(expr, ast.Subscript) and isinstance(expr.slice, ast.Constant):
        *above, last = names_of(expr.value)
        return [*above, f"{last}_{expr.slice.value!s}"]
    return []
