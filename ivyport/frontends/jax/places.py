"""Where the port holds what the source holds: dotted paths of identifiers and indices.

Siblings of one class that the source numbers by itself (``block, block_1, block_2`` of haiku,
``Block_0, Block_1`` of Flax) become a list, ``block.0, block.1, block.2``, unless they are layers.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Mapping

from ivyport.frontends.jax.scopes import Path
from ivyport.frontends.jax.sources import Leaf

_NUMBERED = re.compile(r"(?P<base>.*?)_(?P<number>\d+)")


class Places:
    """The places of modules and of their tensors.

    Attributes:
        modules: dotted path of each module of the source, the root's is empty.
        leaves: dotted path of each tensor, by the tensor's own name.
    """

    def __init__(self, modules: Mapping[Path, str], leaves: Iterable[Leaf]) -> None:
        held = list(leaves)
        self.classes = dict(modules)
        self.modules: dict[Path, str] = {(): ""}
        self.leaves: dict[str, str] = {}
        self._children: dict[Path, dict[str, None]] = {}
        for path in [*modules, *(leaf.module for leaf in held)]:
            for depth, name in enumerate(path):
                self._children.setdefault(path[:depth], {})[name] = None
        self._own: dict[Path, list[Leaf]] = {}
        for leaf in held:
            self._own.setdefault(leaf.module, []).append(leaf)
        self._place((), "")

    def _place(self, path: Path, place: str) -> None:
        prefix = f"{place}." if place else ""
        names = self._names(path)
        for name, own in names.items():
            inner = (*path, name)
            self.modules[inner] = prefix + own
            self._place(inner, prefix + own)
        taken = {own.partition(".")[0] for own in names.values()}
        for leaf in self._own.get(path, []):
            own = _free(identifier(leaf.name), taken)
            taken.add(own)
            self.leaves[leaf.path] = prefix + own

    def _names(self, path: Path) -> dict[str, str]:
        """What each child of a module is called, ``base.number`` in a list."""
        children = list(self._children.get(path, {}))
        names: dict[str, str] = {}
        taken: set[str] = set()
        for base, members in self._lists(path, children).items():
            taken.add(base)
            names |= {name: f"{base}.{i}" for i, name in enumerate(members)}
        for name in children:
            if name not in names:
                own = _free(identifier(name), taken)
                taken.add(own)
                names[name] = own
        return {name: names[name] for name in children}

    def _composed(self, path: Path) -> bool:
        """Whether a module is of a known class and made of modules, and no library's layer."""
        cls = self.classes.get(path)
        return bool(self._children.get(path)) and cls is not None and not _is_layer(cls)

    def _lists(self, path: Path, children: list[str]) -> dict[str, list[str]]:
        """Numbered siblings, in order, by what comes before their numbers."""
        found: dict[str, dict[int, str]] = {}
        for name in children:
            match = _NUMBERED.fullmatch(name)
            if match is not None and str(int(match["number"])) == match["number"]:
                found.setdefault(match["base"], {})[int(match["number"])] = name
        lists: dict[str, list[str]] = {}
        leaves = {leaf.name for leaf in self._own.get(path, [])}
        for base, numbered in found.items():
            if base in children and 0 not in numbered:
                numbered[0] = base
            members = [numbered[i] for i in sorted(numbered)]
            whole = sorted(numbered) == list(range(len(numbered))) and len(members) > 1
            alone = base not in leaves and (base not in children or base in members)
            paths = [(*path, name) for name in members]
            classes = {self.classes.get(p) for p in paths}
            composed = all(self._composed(p) for p in paths)
            usable = alone and identifier(base) == base
            if whole and usable and composed and len(classes) == 1:
                lists[base] = members
        return lists


# Layers of the libraries, whole as they are; haiku's nets are models and no layers.
_LAYERS = ("haiku._src.", "flax.linen.", "flax.nnx.")
_NETS = "haiku._src.nets."


def _is_layer(cls: str) -> bool:
    return cls.startswith(_LAYERS) and not cls.startswith(_NETS)


def identifier(name: str) -> str:
    """`name` as an attribute or an index.

    >>> identifier("3"), identifier("conv-1x1"), identifier("lambda"), identifier("__x")
    ('3', 'conv_1x1', 'lambda_', 'x')
    """
    if name.isdecimal():
        return name
    plain = re.sub(r"\W", "_", name) or "_"
    if plain.startswith("__"):
        plain = plain.lstrip("_") or "_"  # Python gives other names to such attributes
    if plain[0].isdigit():
        plain = f"_{plain}"
    return f"{plain}_" if keyword.iskeyword(plain) else plain


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name
