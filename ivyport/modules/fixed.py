"""Fields of the configuration that a port cannot change, for numbers in its code come from them.

Every number that the emitter writes as it is, instead of as an expression of the configuration, is
noted here with the modules that it belongs to. A field is fixed if a change of it in the source
(`core.ir.Graph.moved`) may change one of these numbers. Where a number comes from is settled in
this order: it stands in the source's own line; the class reads a field of that value while it
runs; an attribute or a size of the modules around has that value, and changes with the field or
not. A number of which none of this is known may come from all fields that change these modules.
"""

from __future__ import annotations

import itertools
import linecache
import re
from collections.abc import Iterable, Iterator, Mapping

from ivyport.core.ir import Graph, Node, Param, Source
from ivyport.modules.classes import ClassDef
from ivyport.modules.config import words
from ivyport.modules.origin import read_at
from ivyport.modules.places import AXES

Number = int | float
# What passes and rules write by themselves.
OWN = {0, 1, -1}
SMALL = {0, 1, 2, -1}
RATES = {"p", "eps", "epsilon", "variance_epsilon", "momentum"}
LIBRARY = "/torch/nn/modules/"
HUGE = 1e30  # masks
LIMITS = words("position positions length max ctx context seq")
AROUND = 4  # lines of one statement
TOKEN = re.compile(r"(?<![\w.])\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")


class Fixed:
    """Numbers that are written as they are, and the fields that they fix."""

    def __init__(self, graph: Graph, fields: Mapping[str, Number]) -> None:
        """`fields` are the numbers of the configuration."""
        self.graph = graph
        self.fields = fields
        # Of each fixed field where its number is: a line, or a place of the source.
        self.lines: dict[str, str] = {}
        self.read: set[str] = set()  # fields that the source reads while it runs
        self._near: dict[str, dict[str, dict[str, tuple[Number, Number]]]] = {}
        for field, place in graph.built.items():
            self._fix(field, place or "the model")
        for field, moved in graph.moved.items():
            for place, change in moved.items():
                for path in _modules(place):
                    near = self._near.setdefault(path, {})
                    near.setdefault(field, {})[place] = change

    def constant(self, keys: Iterable[str | None]) -> None:
        """A number of a constructor that is at all these places of the source."""
        for key in keys:
            for field, moved in self.graph.moved.items():
                if key in moved:
                    self._fix(field, str(key))

    def attribute(self, value: Number, paths: Iterable[str]) -> None:
        """A number of a constructor that some attribute of these modules has."""
        for path in paths:
            for field, changes in self._near.get(path, {}).items():
                for place, (old, _) in changes.items():
                    if old == value and not self._is_size(place, path):
                        self._fix(field, place)

    def _is_size(self, place: str, path: str) -> bool:
        """Whether a place is a size of a tensor, or of a layer by its name for it."""
        name = place.rpartition(".")[2].partition("[")[0]
        transposed = "Transpose" in self.graph.classes.get(path, "")
        return place.partition("[")[0] in self.graph.params or (
            name in AXES and not transposed
        )

    def tensor(self, param: Param) -> None:
        """A size of a parameter of which the source's axis is not known."""
        for field, moved in self.graph.moved.items():
            for place in moved:
                if place.rpartition("[")[0] == param.source:
                    self._fix(field, place)

    def table(self, field: str, place: str) -> None:
        """Values of a tensor that the constructor computes otherwise than the field asks."""
        self._fix(field, place)

    def limit(self, value: int, line: str) -> str | None:
        """The field that a check's number is; fields that it may come from are fixed."""
        moving = {f for f, m in self.graph.moved.items() if m}
        same = [f for f in moving if self.fields.get(f) == value]
        if len(same) == 1 and words(same[0]) & LIMITS and value not in SMALL:
            return same[0]
        for field in moving:
            olds = {old for old, _ in self.graph.moved[field].values()}
            if value not in SMALL and (field in same or value in olds):
                self._fix(field, line)
        return None

    def body(self, definition: ClassDef, value: Number, node: Node | None) -> None:
        """A number of a method, in the expression of an operation."""
        source = node.src if node is not None else None
        if abs(value) > HUGE or value != value:
            return
        line = _short(source)
        reads = self.graph.reads.get(definition.cls, frozenset())
        same = [
            f for f, v in self.fields.items() if v == value and type(v) is type(value)
        ]
        read = {f for f in same if reads and f in reads and value not in OWN}
        near = [self._near.get(i.path, {}) for i in definition.instances]
        found = read | {
            field
            for instance, changes in zip(definition.instances, near, strict=True)
            for field, places in changes.items()
            if any(
                old == value and place.rpartition(".")[0] == instance.path
                for place, (old, _) in places.items()
            )
        }
        if source is not None and LIBRARY in source.file:
            found = self._of_layers(definition, value)
        elif not found and not _stands_in(source, value):
            found = self._around(definition, near, value, same if reads is None else [])
        if source is not None and LIBRARY not in source.file:
            found |= self._computed(definition, value, source)
        if reads is None:
            read |= found & {*same}
        self.read |= read
        for field in found:
            self._fix(field, line)

    def _computed(
        self, definition: ClassDef, value: Number, source: Source
    ) -> set[str]:
        """Fields from which the source's line computes a number.

        Where an attribute or a field that is read has just that value, it is that one.
        """
        if value in OWN or _stands_in(source, value):
            return set()
        cls = definition.cls.rpartition(".")[2]
        every: set[str] = set()
        for chains in read_at(source.file, source.line, cls):
            exact: set[str] = set()
            known = False
            for chain in chains:
                for number, fields in self._reads(definition, chain):
                    own = {f for f in fields if self.fields.get(f) == number}
                    every |= {f for f in fields if not self._elsewhere(f, value)} | own
                    if number == value:
                        known, exact = True, exact | fields
            if known:
                return exact
        return every

    def _reads(
        self, definition: ClassDef, chain: tuple[str, ...]
    ) -> Iterator[tuple[Number, set[str]]]:
        """The number behind a chain of attributes, and the fields that change it."""
        for parent, name in itertools.pairwise(chain):
            if parent == "config" and name in self.fields:
                yield self.fields[name], {name}
        if "config" in chain:
            return
        for instance in definition.instances:
            path = ".".join(p for p in (instance.path, *chain[1:-1]) if p)
            number = self.graph.attrs.get(path, {}).get(chain[-1])
            if isinstance(number, int | float) and type(number) is not bool:
                place = f"{path}.{chain[-1]}".lstrip(".")
                yield number, {f for f, m in self.graph.moved.items() if place in m}

    def _of_layers(self, definition: ClassDef, value: Number) -> set[str]:
        """Fields that change a number of a layer of the library, which has no others."""
        paths = {i.path for i in definition.instances}
        layers = [
            path
            for path, cls in self.graph.classes.items()
            if cls.startswith("torch.nn.") and paths & {path, path.rpartition(".")[0]}
        ]
        return {
            field
            for layer in layers
            for field, places in self._near.get(layer, {}).items()
            if any(old == value for old, _ in places.values())
        }

    def _around(
        self,
        definition: ClassDef,
        near: list[dict[str, dict[str, tuple[Number, Number]]]],
        value: Number,
        same: list[str],
    ) -> set[str]:
        """Fields that a number may come from of which the source's line does not tell.

        `same` are fields of that value that the class may read.
        """
        found = {
            field
            for changes in near
            for field, places in changes.items()
            if any(old == value for old, _ in places.values())
        }
        if value not in OWN:
            found |= {*same}
        if found or value in OWN or self._held(definition, value):
            return found
        moving = {f for changes in near for f in changes if self._enters(f)}
        return {f for f in moving if not self._elsewhere(f, value)}

    def _enters(self, field: str) -> bool:
        """Whether a field may enter into arithmetic: rates and epsilons of layers do not."""
        changes = self.graph.moved[field].items()
        own = self.fields.get(field)
        return not all(
            old == own and (name := place.rpartition(".")[2]) and
            ("drop" in name or name in RATES)
            for place, (old, _) in changes
        )  # fmt: skip

    def _elsewhere(self, field: str, value: Number) -> bool:
        """Whether a size of the model has that value, and does not change with the field.

        Of a field with which the model could not be built that is not known.
        """
        moved = self.graph.moved.get(field)
        return (
            moved is not None
            and value not in SMALL
            and any(
                size == value and f"{param.path}[{axis}]" not in moved
                for param in self.graph.params.values()
                for axis, size in enumerate(param.type.shape)
            )
        )

    def _held(self, definition: ClassDef, value: Number) -> bool:
        """Whether an attribute of the module, which no field changes, has that value."""
        return all(
            any(type(v) is type(value) and v == value for v in held.values())
            for i in definition.instances
            for held in (self.graph.attrs.get(i.path, {}),)
        )

    def _fix(self, field: str, line: str) -> None:
        if ":" not in self.lines.get(field, "") and (
            ":" in line or field not in self.lines
        ):
            self.lines[field] = line


def _modules(place: str) -> Iterator[str]:
    """The module of a place, and the one that holds that module."""
    path = place[:-2] if place.endswith("[]") else place.rpartition(".")[0]
    yield path
    if path:
        yield path.rpartition(".")[0]


def _stands_in(source: Source | None, value: Number) -> bool:
    """Whether the number is written in the source's statement."""
    if source is None:
        return False
    lines = (linecache.getline(source.file, source.line + i) for i in range(AROUND))
    text = " ".join([source.code, *_statement(lines)])
    return any(float(token) == abs(value) for token in TOKEN.findall(text))


def _statement(lines: Iterable[str]) -> Iterator[str]:
    """The lines up to the one that closes the first one's brackets."""
    depth = 0
    for line in lines:
        yield line
        depth += sum(map(line.count, "([{")) - sum(map(line.count, ")]}"))
        if depth <= 0:
            return


def _short(source: Source | None) -> str:
    if source is None:
        return "the code"
    parts = source.file.replace("\\", "/").split("/")
    return f"{'/'.join(parts[-2:])}:{source.line}"
