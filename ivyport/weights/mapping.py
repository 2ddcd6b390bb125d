"""The reversible weight map: which source tensor becomes which target tensor, and how.

A map is data. It converts source weights to the target one tensor at a time, converts
(fine-tuned) target weights back, and tells everything that does not fit in one error.

Several rows with one source and `Slice` transforms split it; several rows with one
target and `target_slice` stack into it. In both cases the parts must tile the whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol, get_args

import numpy as np

from ivyport.core.errors import WeightsError
from ivyport.weights import tiling, transform
from ivyport.weights.differences import Differences
from ivyport.weights.safetensors import Array, Shape, dtype_kind, dtype_name
from ivyport.weights.store import TensorStore
from ivyport.weights.transform import Slice, Transform, invert, transform_shape

Kind = Literal["parameter", "frozen", "buffer", "constant"]
TensorSpec = tuple[str, Shape]  # dtype name, shape


class TensorLike(Protocol):
    """What numpy reads exactly, with a numpy dtype: numpy and JAX arrays."""

    @property
    def shape(self) -> Any: ...

    @property
    def dtype(self) -> Any: ...


Tensors = Mapping[str, TensorLike] | TensorStore
# dtype (a name or a numpy dtype) and shape by tensor name
Specs = Mapping[str, tuple[Any, Sequence[int]]]


@dataclass(frozen=True)
class Row:
    """One source tensor (or, with slices, a part of it) and its place in the target.

    `transforms` lead from the source to the target; those before and after its slices
    are invertible. `aliases` are other source names of the same tied tensor: any one of
    them may be the one that a checkpoint holds. `target_slice` is the part of the
    target that the row fills. A row of kind 'frozen' is a parameter that the source does
    not train, one of kind 'constant' a value of the source program that its checkpoints do
    not hold.
    """

    source: str
    target: str
    transforms: tuple[Transform, ...] = ()
    kind: Kind = "parameter"
    aliases: tuple[str, ...] = ()
    target_slice: tuple[Slice, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise WeightsError(f"{self.kind!r} is not a kind of weight")
        try:
            tiling.split_chain(self.transforms)
            tiling.make_box(self.target_slice)
        except WeightsError as error:
            raise WeightsError(
                f"row from {self.source!r} to {self.target!r}: {error}"
            ) from error

    @cached_property
    def chain(self) -> tiling.Chain:
        """The transforms around the row's part of the source."""
        return tiling.split_chain(self.transforms)

    @cached_property
    def box(self) -> tiling.Box:
        """The row's part of the target; empty for all of it."""
        return tiling.make_box(self.target_slice)

    def to_json(self) -> dict[str, object]:
        """A JSON object; fields at their defaults are left out."""
        result: dict[str, object] = {"source": self.source, "target": self.target}
        if self.transforms:
            result["transforms"] = transform.to_json(self.transforms)
        if self.kind != "parameter":
            result["kind"] = self.kind
        if self.aliases:
            result["aliases"] = list(self.aliases)
        if self.target_slice:
            result["target_slice"] = transform.to_json(self.target_slice)
        return result

    @classmethod
    def from_json(cls, value: object) -> Row:
        """A row from its JSON form; WeightsError for anything else."""
        known = {"source", "target", "transforms", "kind", "aliases", "target_slice"}
        if (
            not isinstance(value, dict)
            or not {"source", "target"} <= value.keys() <= known
        ):
            raise WeightsError(f"not a row of a weight map: {value!r}")
        source, target = value["source"], value["target"]
        if not isinstance(source, str) or not isinstance(target, str):
            raise WeightsError(f"source and target must be names: {value!r}")
        slices = []
        for item in transform.from_json(value.get("target_slice", [])):
            if not isinstance(item, Slice):
                raise WeightsError(f"target_slice holds slices only: {value!r}")
            slices.append(item)
        return cls(
            source,
            target,
            transform.from_json(value.get("transforms", [])),
            value.get("kind", "parameter"),
            _names(value.get("aliases", []), "aliases"),
            tuple(slices),
        )


@dataclass(frozen=True)
class WeightMap:
    """Rows of a port, and the source tensors that it leaves out on purpose (`unused`).

    Raises WeightsError, naming all of them, for names that two rows claim whole.
    """

    rows: tuple[Row, ...]
    unused: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        found = Differences()
        for source, rows in self._by_source.items():
            if len(rows) > 1 and not all(row.chain.box for row in rows):
                found.add("sources of several rows that are not sliced", source)
            elif len({row.chain.before for row in rows}) > 1:
                found.add("sources with different transforms before a slice", source)
        for target, rows in self._by_target.items():
            if len(rows) > 1 and not all(row.box for row in rows):
                found.add("targets of several rows without target_slice", target)
        owner = dict.fromkeys(self.unused, "unused")
        for source in self._by_source:
            for name in self.spellings(source):
                first = owner.setdefault(name, source)
                if first != source:
                    found.add("source names used twice", name, f"also in {first!r}")
        found.raise_if_any("the weight map contradicts itself")

    @cached_property
    def _by_source(self) -> dict[str, list[Row]]:
        groups: dict[str, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(row.source, []).append(row)
        return groups

    @cached_property
    def _by_target(self) -> dict[str, list[Row]]:
        groups: dict[str, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(row.target, []).append(row)
        return groups

    def to_json(self) -> dict[str, object]:
        """A JSON object, for `port.json`."""
        return {
            "rows": [row.to_json() for row in self.rows],
            "unused": list(self.unused),
        }

    @classmethod
    def from_json(cls, value: object) -> WeightMap:
        """A map from its JSON form; WeightsError for anything else."""
        if (
            not isinstance(value, dict)
            or not {"rows"} <= value.keys() <= {"rows", "unused"}
            or not isinstance(value["rows"], list)
        ):
            raise WeightsError("a weight map is an object with a list of rows")
        rows = tuple(Row.from_json(item) for item in value["rows"])
        return cls(rows, _names(value.get("unused", []), "unused"))

    def spellings(self, source: str) -> list[str]:
        """The name of a row's source and those of its aliases, each once."""
        aliases = [name for row in self._by_source[source] for name in row.aliases]
        return list(dict.fromkeys([source, *aliases]))

    def sources_of(self, target: str, source: Tensors | Specs) -> list[str]:
        """The names in `source` that a target is made of; of tied ones the first."""
        rows = self._by_target[target]
        return [name for row in rows if (name := self._find(row.source, source))]

    def targets_of(self, source: str) -> list[str]:
        """The target names that a row's source is made of on the way home."""
        return [row.target for row in self._by_source[source]]

    def forward(self, source: Tensors) -> Iterator[tuple[str, Array]]:
        """Yield (target name, array) one at a time, in the order of the rows.

        Arrays are views of the source unless rows stack them or a reshape must copy.
        Raises one WeightsError, at once, for all missing and mis-shaped tensors;
        unexpected ones are ignored (`check` tells them).
        """
        wanted = [name for base in self._by_source for name in self.spellings(base)]
        names = list(self.target_specs(specs_of(source, wanted)))
        return ((name, self.read_target(name, source)) for name in names)

    def backward(
        self,
        target: Tensors,
        *,
        include_aliases: bool = False,
        include_constants: bool = True,
    ) -> Iterator[tuple[str, Array]]:
        """Yield (source name, array) one at a time: the inverse of `forward`.

        A tied tensor comes once, under its row's source name, and with
        `include_aliases` under each name. Constants are not in source checkpoints:
        `include_constants` can leave them out. Raises as `forward` does.
        """
        self.source_specs(specs_of(target, self._by_target))
        names = self.home_names(
            include_aliases=include_aliases, include_constants=include_constants
        )
        return ((name, self.read_source(base, target)) for name, base in names)

    def home_names(
        self, *, include_aliases: bool = False, include_constants: bool = True
    ) -> list[tuple[str, str]]:
        """(name to write, row's source name) of what goes home, in row order."""
        return [
            (name, base)
            for base, rows in self._by_source.items()
            if include_constants or rows[0].kind != "constant"
            for name in (self.spellings(base) if include_aliases else [base])
        ]

    def check(self, source: Specs, target: Specs) -> None:
        """Compare names, shapes and kinds of dtype of both sides with the map.

        Raises one WeightsError that lists all missing, unexpected and mis-shaped
        tensors, and those whose dtypes are of another kind (floating, integer, boolean,
        complex).
        """
        found = Differences()
        self._find_unexpected(source, found)
        made = self._target_specs(source, found)
        _compare(made, self._by_target, target, found)
        found.raise_if_any("the weights do not fit the port")

    def check_source(self, source: Specs) -> None:
        """`check` where only the source's side is known."""
        found = Differences()
        self._find_unexpected(source, found)
        self._target_specs(source, found)
        found.raise_if_any("the source's weights do not fit the weight map")

    def check_target(self, target: Specs) -> None:
        """`check` where only the target's side is known."""
        found = Differences()
        self._source_specs(target, found)
        for name in target:
            if name not in self._by_target:
                found.add("unexpected in the target", name, _text(target[name]))
        found.raise_if_any("the port's weights do not fit its weight map")

    def target_specs(self, source: Specs) -> dict[str, TensorSpec]:
        """Name to (dtype, shape) of every target, from those of the source.

        Raises one WeightsError for all missing and mis-shaped tensors.
        """
        found = Differences()
        specs = self._target_specs(source, found)
        found.raise_if_any("the source's weights do not fit the weight map")
        return specs

    def source_specs(self, target: Specs) -> dict[str, TensorSpec]:
        """Name to (dtype, shape) of every source, from those of the target.

        Raises one WeightsError for all missing and mis-shaped tensors.
        """
        found = Differences()
        specs = self._source_specs(target, found)
        found.raise_if_any("the port's weights do not fit its weight map")
        return specs

    def read_target(self, target: str, source: Tensors) -> Array:
        """One target tensor; a view of the source where no rows stack it."""
        rows = self._by_target[target]
        names = self.sources_of(target, source)
        if not rows[0].box:
            return transform.apply(rows[0].transforms, read_tensor(source, names[0]))

        def parts() -> Iterator[tuple[tiling.Box, Array]]:
            for row, name in zip(rows, names, strict=True):
                yield (
                    row.box,
                    transform.apply(row.transforms, read_tensor(source, name)),
                )
                release(source, name)

        _, shape = self._target_spec(target, specs_of(source, names))
        return tiling.gather(shape, parts(), f"target {target!r}")

    def read_source(self, source: str, target: Tensors) -> Array:
        """One source tensor; a view of the target where no rows split it."""
        rows = self._by_source[source]

        def part(row: Row) -> Array:
            array = tiling.window(read_tensor(target, row.target), row.box)
            return transform.apply(invert(row.chain.after), array)

        def parts() -> Iterator[tuple[tiling.Box, Array]]:
            for row in rows:
                yield row.chain.box, part(row)
                release(target, row.target)

        before = rows[0].chain.before
        if not rows[0].chain.box:
            return transform.apply(invert(before), part(rows[0]))
        _, shape = self._source_spec(source, specs_of(target, self.targets_of(source)))
        space = transform_shape(before, shape)
        whole = tiling.gather(space, parts(), f"source {source!r}")
        return transform.apply(invert(before), whole)

    def _find(self, source: str, names: Tensors | Specs) -> str | None:
        return next((name for name in self.spellings(source) if name in names), None)

    def _find_unexpected(self, source: Specs, found: Differences) -> None:
        expected = set(self.unused)
        for base in self._by_source:
            expected.update(self.spellings(base))
        for name in source:
            if name not in expected:
                found.add("unexpected in the source", name, _text(source[name]))

    def _target_spec(self, target: str, source: Specs) -> TensorSpec:
        rows = self._by_target[target]
        inputs = [source[name] for name in self.sources_of(target, source)]
        parts = [
            (row.box, transform_shape(row.transforms, shape))
            for row, (_, shape) in zip(rows, inputs, strict=True)
        ]
        return _one_dtype(inputs), tiling.whole_shape(parts)

    def _source_spec(self, source: str, target: Specs) -> TensorSpec:
        rows = self._by_source[source]
        inputs = [target[row.target] for row in rows]
        parts = []
        for row, (_, shape) in zip(rows, inputs, strict=True):
            inner = tiling.window_shape(tuple(shape), row.box)
            shape = transform_shape(invert(row.chain.after), inner)
            parts.append((row.chain.box, shape))
        space = tiling.whole_shape(parts)
        return _one_dtype(inputs), transform_shape(invert(rows[0].chain.before), space)

    def _target_specs(self, source: Specs, found: Differences) -> dict[str, TensorSpec]:
        absent = set()
        for base, rows in self._by_source.items():
            spellings = self.spellings(base)
            present = [name for name in spellings if name in source]
            if not present:
                absent.add(base)
                others = f"nor its aliases {spellings[1:]}" if spellings[1:] else ""
                found.add("missing from the source", base, others)
                continue
            _check_ties(source, present, found)
            # The map is reversible only if the rows use all of a source.
            boxes = [row.chain.box for row in rows]
            shape = tuple(source[present[0]][1])
            _check_parts(boxes, rows[0].chain.before, shape, base, found)
        specs = {}
        for target, rows in self._by_target.items():
            if any(row.source in absent for row in rows):
                continue
            try:
                specs[target] = self._target_spec(target, source)
            except WeightsError as error:
                origin = {n: source[n] for n in self.sources_of(target, source)}
                found.add("mis-shaped", target, f"{error} (from {_origin(origin)})")
        return specs

    def _source_specs(self, target: Specs, found: Differences) -> dict[str, TensorSpec]:
        for name, rows in self._by_target.items():
            if name not in target:
                found.add("missing from the target", name)
                continue
            boxes = [row.box for row in rows]
            _check_parts(boxes, (), tuple(target[name][1]), name, found)
        specs = {}
        for source, rows in self._by_source.items():
            if not all(row.target in target for row in rows):
                continue
            try:
                specs[source] = self._source_spec(source, target)
            except WeightsError as error:
                origin = {n: target[n] for n in self.targets_of(source)}
                found.add("mis-shaped", source, f"{error} (from {_origin(origin)})")
        return specs


def specs_of(
    tensors: Tensors, names: Iterable[str] | None = None
) -> dict[str, TensorSpec]:
    """(dtype name, shape) by name: of all tensors, or of those `names` that exist."""
    if isinstance(tensors, TensorStore):
        found = tensors.names() if names is None else [n for n in names if n in tensors]
        return {n: (tensors.info(n).dtype, tensors.info(n).shape) for n in found}
    found = list(tensors) if names is None else [n for n in names if n in tensors]
    specs = {}
    for name in found:
        tensor = tensors[name]
        specs[name] = (dtype_name(tensor.dtype), tuple(tensor.shape))
    return specs


def release(tensors: Tensors, *names: str) -> None:
    """Let the system drop the pages of tensors that are read from a store."""
    if isinstance(tensors, TensorStore):
        for name in names:
            tensors.release(name)


def read_tensor(tensors: Tensors, name: str) -> Array:
    """One tensor as a numpy array, without a copy where it is one already."""
    if isinstance(tensors, TensorStore):
        return tensors.read(name)
    array: Array = np.asarray(tensors[name])
    return array


def _check_ties(source: Specs, names: Sequence[str], found: Differences) -> None:
    first = _text(source[names[0]])
    for name in names[1:]:
        if _text(source[name]) != first:
            detail = f"{_text(source[name])}, tied to {names[0]!r} {first}"
            found.add("tied tensors that differ", name, detail)


def _check_parts(
    boxes: Sequence[tiling.Box],
    before: Sequence[Transform],
    shape: Shape,
    name: str,
    found: Differences,
) -> None:
    """Note where the parts of a tensor do not tile it."""
    if not boxes[0]:
        return
    try:
        tiling.check_tiling(boxes, transform_shape(before, shape))
    except WeightsError as error:
        found.add("not split exactly", name, str(error))


def _compare(
    made: Mapping[str, TensorSpec],
    names: Collection[str],
    target: Specs,
    found: Differences,
) -> None:
    for name in names:
        if name not in target:
            found.add("missing from the target", name)
    for name, spec in target.items():
        if name not in names:
            found.add("unexpected in the target", name, _text(spec))
        elif name in made and made[name][1] != tuple(spec[1]):
            detail = f"the source gives {_text(made[name])}, the port has {_text(spec)}"
            found.add("mis-shaped", name, detail)
        elif name in made and not _same_kind(made[name][0], dtype_name(spec[0])):
            detail = f"the source gives {_text(made[name])}, the port has {_text(spec)}"
            found.add("of another kind of dtype", name, detail)


def _same_kind(one: str, two: str) -> bool:
    return dtype_kind(one) == dtype_kind(two)


def _one_dtype(specs: Sequence[tuple[Any, Sequence[int]]]) -> str:
    names = sorted({dtype_name(dtype) for dtype, _ in specs})
    if len(names) > 1:
        raise WeightsError(f"its parts have different dtypes: {', '.join(names)}")
    return names[0]


def _text(spec: tuple[Any, Sequence[int]]) -> str:
    return f"{dtype_name(spec[0])}{list(spec[1])}"


def _origin(specs: Specs) -> str:
    shown = [f"{name!r} {_text(spec)}" for name, spec in list(specs.items())[:4]]
    return ", ".join(shown) + (", ..." if len(specs) > 4 else "")


def _names(value: object, what: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise WeightsError(f"{what} must be a list of names, got {value!r}")
    return tuple(value)
