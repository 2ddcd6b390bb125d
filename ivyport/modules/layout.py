"""Attribute names of a class: where each child, parameter and list entry lives on ``self``."""

from __future__ import annotations

import ast
import dataclasses
import keyword
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from ivyport.backends import pyast
from ivyport.modules.instances import Instance

RESERVED = frozenset(
    {"training", "rngs", "config", "from_pretrained", "save_pretrained"}
)
Key = int | str


@dataclasses.dataclass(frozen=True)
class Slot:
    """An attribute, and the keys that lead into it if it is a container."""

    attr: str
    keys: tuple[Key, ...] = ()

    def on(self, owner: ast.expr) -> ast.expr:
        """``owner.attr`` or ``owner.attr[index]``."""
        expr = pyast.attribute(owner, self.attr)
        for key in self.keys:
            expr = pyast.subscript(expr, ast.Constant(key))
        return expr

    @property
    def path(self) -> str:
        """The slot as part of a flat weight name."""
        return ".".join([self.attr, *map(str, self.keys)])

    @property
    def container(self) -> Slot:
        """The list or dictionary that holds the entry."""
        return Slot(self.attr, self.keys[:-1])


@dataclasses.dataclass
class Group:
    """A container: for each key a source path, an inner group, or None for a gap.

    A list's keys are its indices in order. `trained` says that the entries are parameters.
    """

    items: dict[Key, str | Group | None]
    is_list: bool
    trained: bool = False

    def paths(self) -> Iterator[str]:
        """Source paths of all entries."""
        for item in self.items.values():
            if isinstance(item, Group):
                yield from item.paths()
            elif item is not None:
                yield item


@dataclasses.dataclass(frozen=True)
class Naming:
    """How a framework names what modules hold.

    Attributes:
        reserved: attributes that its module class has for itself.
        numbered: whether entries of a list are named after it, ``layer_0``: no other attribute may
            have such a name, and a list's own has no number at its end.
        ascii: whether names have plain letters alone.
        keys: keys that its containers refuse; None if modules that are never called, and the
            dictionaries and gaps of the source, are not kept as containers at all.
    """

    reserved: frozenset[str] = RESERVED
    keys: frozenset[str] | None = None
    numbered: bool = False
    ascii: bool = False


class Layout:
    """Slots of one instance's children and own parameters, by relative source path.

    `groups` are the containers by attribute, `lists` the entries of each list by its source path.
    """

    def __init__(self, instance: Instance, naming: Naming | None = None) -> None:
        naming = self._naming = naming or Naming()
        self.slots: dict[str, Slot] = {}
        self.groups: dict[str, Group] = {}
        self.lists: dict[str, list[str | None]] = {}
        self.names: dict[str, str] = {}  # other attributes, by what they are for
        self.taken: set[str] = set(naming.reserved)
        nested = {} if naming.keys is None else _nest(instance, naming.keys)
        plain = _lists(list(instance.children))
        for path in (*instance.children, *instance.params):
            top = path.partition(".")[0]
            container = path.rpartition(".")[0]
            if path in self.slots:
                continue
            if path in nested.get(top, {}):
                self._add(top, _group(nested[top], naming))
            elif container in plain and path in plain[container].paths():
                self._add(container, plain[container])
            else:
                self.slots[path] = Slot(self.free(path))
        for name in instance.shared:
            self.slots[f"shared {name}"] = Slot(self.free(name))

    def free(self, name: str) -> str:
        """A new attribute name like `name`."""
        if self._naming.ascii:
            name = re.sub(r"[^\x00-\x7f]", "_", unicodedata.normalize("NFKD", name))
        return _free(name, self.taken)

    def _free_list(self, name: str, count: int) -> str:
        """A new name for a list, whose entries' names are free, too."""
        if not self._naming.numbered:
            return self.free(name)
        if re.search(r"_\d+$", name.replace(".", "_")):
            name = f"{name}_items"
        while True:
            attr = self.free(name)
            entries = {f"{attr}_{i}" for i in range(count)}
            if not entries & self.taken:
                self.taken |= entries
                return attr
            name = f"{name}_items"

    def _add(self, path: str, group: Group) -> None:
        """Give every entry of a container at `path` its slot."""
        attr = (
            self._free_list(path, len(group.items))
            if group.is_list
            else self.free(path)
        )
        self.groups[attr] = group
        self._place(group, path, Slot(attr))

    def _place(self, group: Group, path: str, slot: Slot) -> None:
        if group.is_list:
            self.lists[path] = [
                item if isinstance(item, str) else None for item in group.items.values()
            ]
        for key, item in group.items.items():
            inner = Slot(slot.attr, (*slot.keys, key))
            if isinstance(item, Group):
                self._place(item, f"{path}.{key}", inner)
            elif item is not None:
                self.slots[item] = inner


def _lists(paths: list[str]) -> dict[str, Group]:
    """Complete lists of children, by the path of the list."""
    indexed: dict[str, list[int]] = {}
    for path in paths:
        container, _, last = path.rpartition(".")
        if container and last.isdigit():
            indexed.setdefault(container, []).append(int(last))
    return {
        container: Group({i: f"{container}.{i}" for i in range(len(found))}, True)
        for container, found in indexed.items()
        if sorted(found) == list(range(len(found)))
    }


def _nest(instance: Instance, refused: frozenset[str]) -> dict[str, dict[str, str]]:
    """Entries below each attribute that is a container: by path "module" or "parameter".

    An attribute that is a module of its own, that holds a buffer, or that mixes parameters
    with modules at one place, is none.
    """
    found: dict[str, dict[str, str]] = {}
    broken: set[str] = set()
    for path in (*instance.children, *instance.params):
        top, dot, rest = path.partition(".")
        kind = "module" if path in instance.children else "parameter"
        if not dot:
            broken.add(top)
            continue
        param = instance.params.get(path)
        if param is not None and param.kind != "parameter":
            broken.add(top)
        if any(part in refused for part in rest.split(".")):
            broken.add(top)
        found.setdefault(top, {})[path] = kind
    for top, entries in found.items():
        for path in entries:
            inside = [p for p in entries if p.startswith(path + ".")]
            holder = path.rpartition(".")[0]
            beside = [p for p in entries if p.startswith(holder + ".") and p != path]
            mixed = entries[path] == "parameter" and any(
                entries[p] != "parameter" or p.rpartition(".")[0] != holder
                for p in beside
            )
            if inside or mixed:
                broken.add(top)
    return {top: entries for top, entries in found.items() if top not in broken}


def _group(entries: dict[str, str], naming: Naming) -> Group:
    """The containers of the entries below one attribute, outermost first."""
    tree: dict[str, Any] = {}
    for path in entries:
        node = tree
        *parts, last = path.split(".")[1:]
        for part in parts:
            node = node.setdefault(part, {})
        node[last] = path

    def make(node: dict[str, Any]) -> Group:
        trained = any(
            entries.get(v) == "parameter" for v in node.values() if isinstance(v, str)
        )
        made: dict[Key, str | Group | None] = {
            k: make(v) if isinstance(v, dict) else v for k, v in node.items()
        }
        length = _length(list(node), trained)
        if length is None:
            return Group(made, False, trained)
        return Group({i: made.get(str(i)) for i in range(length)}, True, trained)

    return make(tree)


def _length(keys: list[str], trained: bool) -> int | None:
    """The length of the list with entries at `keys`; None for what is better a dictionary."""
    if not all(key.isdigit() and str(int(key)) == key for key in keys):
        return None
    length = 1 + max(map(int, keys))
    complete = length == len(keys)
    return length if complete or (not trained and length <= 3 * len(keys) + 1) else None


def _free(path: str, taken: set[str]) -> str:
    # Python reads names in this form: two that it folds together would be one attribute.
    base = re.sub(r"\W", "_", unicodedata.normalize("NFKC", path))
    if base.startswith("__"):  # Python mangles such names, and has methods of them
        base = base.strip("_")
    if not base.isidentifier() or keyword.iskeyword(base):
        base = f"m_{base}"
    name, count = base, 2
    while name in taken:
        name, count = f"{base}_{count}", count + 1
    taken.add(name)
    return name
