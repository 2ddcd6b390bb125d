"""Attribute names of a class: where each child, parameter and list entry lives on ``self``."""

from __future__ import annotations

import ast
import dataclasses
import keyword
import re

from ivyport.backends import pyast
from ivyport.modules.instances import Instance

RESERVED = {"training", "rngs", "config"}


@dataclasses.dataclass(frozen=True)
class Slot:
    """An attribute, and the index in it if the attribute is a list."""

    attr: str
    index: int | None = None

    def on(self, owner: ast.expr) -> ast.expr:
        """``owner.attr`` or ``owner.attr[index]``."""
        expr = pyast.attribute(owner, self.attr)
        if self.index is None:
            return expr
        return pyast.subscript(expr, ast.Constant(self.index))

    @property
    def path(self) -> str:
        """The slot as part of a flat weight name."""
        return self.attr if self.index is None else f"{self.attr}.{self.index}"


class Layout:
    """Slots of one instance's children and own parameters, by relative source path."""

    def __init__(self, instance: Instance) -> None:
        self.slots: dict[str, Slot] = {}
        self.lists: dict[str, list[str]] = {}
        self.names: dict[str, str] = {}  # other attributes, by what they are for
        taken: set[str] = set(RESERVED)
        indexed: dict[str, list[int]] = {}
        for path in instance.children:
            container, _, last = path.rpartition(".")
            if container and last.isdigit():
                indexed.setdefault(container, []).append(int(last))
        for path in instance.children:
            container, _, last = path.rpartition(".")
            whole = indexed.get(container) if last.isdigit() else None
            if whole is not None and sorted(whole) == list(range(len(whole))):
                if container not in self.lists:
                    self.lists[container] = [
                        f"{container}.{i}" for i in range(len(whole))
                    ]
                    attr = _free(container, taken)
                    for i in range(len(whole)):
                        self.slots[f"{container}.{i}"] = Slot(attr, i)
            else:
                self.slots[path] = Slot(_free(path, taken))
        for path in instance.params:
            self.slots[path] = Slot(_free(path, taken))
        for name in instance.shared:
            self.slots[f"shared {name}"] = Slot(_free(name, taken))
        self.taken = taken

    def free(self, name: str) -> str:
        """A new attribute name like `name`."""
        return _free(name, self.taken)


def _free(path: str, taken: set[str]) -> str:
    base = re.sub(r"\W", "_", path)
    if base.startswith("__"):  # Python mangles such names, and has methods of them
        base = base.strip("_")
    if not base.isidentifier() or keyword.iskeyword(base):
        base = f"m_{base}"
    name, count = base, 2
    while name in taken:
        name, count = f"{base}_{count}", count + 1
    taken.add(name)
    return name
