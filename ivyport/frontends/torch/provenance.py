"""Which configuration field sets which number of a module, found by experiment.

The model is built once more on the meta device with every float of its configuration marked, and
once for each integer field with that field alone changed. A number that followed a field comes
from it. Nothing is guessed: where an experiment fails, there is no answer.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import functools
import inspect
import textwrap
from collections.abc import Collection, Mapping
from typing import Any

import torch

from ivyport.frontends.torch.built import (
    Made,
    Number,
    Numbers,
    differing,
    look,
    made,
    rebuilt,
)


def marked(config: Any, above: bool = True) -> tuple[Any, dict[float, str]]:
    """A copy of the configuration with a mark in each float, and the field of each mark.

    Floats of 1 and more are marked only if `above`: a class may compute sizes from them.
    """
    changed = copy.deepcopy(config)
    marks: dict[float, str] = {}
    floats = [(k, v) for k, v in vars(config).items() if isinstance(v, float) and v > 0]
    for position, (name, value) in enumerate(floats):
        mark = value * (1 + 1e-3 * (position + 1))
        usable = mark < 1 if value < 1 else above and value > 1
        if usable and mark not in marks:
            setattr(changed, name, mark)
            marks[mark] = name
    return changed, marks


# ("field",), ("*", 3, "field"), ("//", "field", "other"), ("**", ("//", ...), -0.5)
Formula = tuple[Any, ...]


@dataclasses.dataclass
class Proofs:
    """What the experiments show.

    Attributes:
        floats: ``module.path.attribute`` to the field that sets it.
        sizes: how integers follow from fields (see `core.ir.Graph.sizes`); None for a model
            without a configuration, nothing for one that is not built from it.
        moved: for each field what changes with it, by place: the number, and the changed one.
        built: fields with which the model becomes another one than other sizes make of it (another
            class, a flag, a module more), and the place where that shows.
        changed: for each field the tables that it changes (see `core.starts.Starts`).
        base: the numbers of the model that its configuration gives, by place.
    """

    floats: dict[str, str] = dataclasses.field(default_factory=dict)
    sizes: dict[str, Formula] | None = None
    moved: dict[str, dict[str, tuple[Number, Number]]] = dataclasses.field(
        default_factory=dict
    )
    built: dict[str, str] = dataclasses.field(default_factory=dict)
    changed: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    base: Numbers = dataclasses.field(default_factory=dict)


_FOUND: dict[tuple[Any, ...], Proofs] = {}


@dataclasses.dataclass(frozen=True)
class _Maker:
    """Builds the model from its configuration, some fields changed."""

    cls: type[torch.nn.Module]
    config: Any
    tables: frozenset[str]  # parameters that are always the same
    values: bool

    def __call__(self, changes: Mapping[str, Number]) -> Made | None:
        return made(self.cls, self.config, changes, self.values, self.tables)


def prove(model: torch.nn.Module, fixed: Collection[str] = ()) -> Proofs:
    """How numbers of a model follow from fields of its configuration.

    A number is a formula of fields (``("*", 3, "n_embd")``) only if the formula gives the number
    in every model that was built. Places are those of `built.Made`. Parameters of which `fixed`
    has the name are tables: they are always the same.
    """
    config = vars(model).get("config")
    if config is None or not callable(getattr(config, "to_dict", None)):
        return Proofs()
    fields = config.to_dict()
    known = repr(sorted(fields.items(), key=lambda item: str(item[0])))
    own = look(model)
    learned = {"running_mean", "running_var", "num_batches_tracked"}
    values = bool(fixed) or any(
        name.rpartition(".")[2] not in learned for name in own.tables
    )
    key = (type(model), known, frozenset(fixed), values)
    if key not in _FOUND:
        make = _Maker(type(model), config, frozenset(fixed), values)
        _FOUND[key] = _experiment(make, fields)
    return _held(_FOUND[key], own.numbers)


def _held(proofs: Proofs, own: Numbers) -> Proofs:
    """What the proofs say of a model whose parts may have been exchanged since it was made."""
    other = {p for p, n in proofs.base.items() if own.get(p, n) != n}
    if not other:
        return proofs
    floats = {p: f for p, f in proofs.floats.items() if p not in other}
    sizes = {p: f for p, f in (proofs.sizes or {}).items() if p not in other}
    return dataclasses.replace(proofs, sizes=sizes, floats=floats)


def _experiment(make: _Maker, values: dict[str, Any]) -> Proofs:
    base = make({})
    if base is None:
        return Proofs(sizes={})
    fields = {
        k: v
        for k, v in values.items()
        if type(v) is int and v > 0 and not k.endswith("token_id")
        and getattr(make.config, k, None) == v
    }  # fmt: skip
    known = {n for n in base.numbers.values() if type(n) is int}
    proofs = Proofs(sizes={}, base=base.numbers)
    twins: dict[str, tuple[Number, Numbers]] = {}
    for name, value in fields.items():
        if not any(n % value == 0 or n * 2 == value for n in known if n > 1):
            continue
        for changed in (2 * value, value + 1):
            twin = make({name: changed})
            if twin is not None:
                twins[name] = changed, twin.numbers
                _compare(name, base, twin, proofs)
                break
    _mark(make, base, proofs)
    _solve(base.numbers, twins, fields, proofs)
    return proofs


def _compare(name: str, base: Made, twin: Made, proofs: Proofs) -> None:
    """Note what one field changes."""
    proofs.moved.setdefault(name, {}).update(_moved(base.numbers, twin.numbers))
    place = rebuilt(base, twin)
    if place is not None:
        proofs.built[name] = place
    proofs.changed[name] = differing(base, twin)


def _moved(base: Numbers, numbers: Numbers) -> dict[str, tuple[Number, Number]]:
    return {p: (n, numbers[p]) for p, n in base.items() if numbers.get(p, n) != n}


def _mark(make: _Maker, base: Made, proofs: Proofs) -> None:
    """Find the floats that fields set, with all floats changed at once.

    Where something else than a mark changed too, each float is changed by itself.
    """
    twin: Made | None = None
    marks: dict[float, str] = {}
    for above in (True, False):
        changed, marks = marked(make.config, above)
        twin = dataclasses.replace(make, config=changed)({}) if marks else None
        if twin is not None:
            break
    if twin is None:
        return
    moved = _moved(base.numbers, twin.numbers)
    for place, (old, new) in moved.items():
        if new in marks:
            proofs.floats[place] = marks[new]
            proofs.moved.setdefault(marks[new], {})[place] = old, new
    plain = all(new in marks for _, new in moved.values())
    if plain and rebuilt(base, twin) is None and not differing(base, twin):
        return
    for mark, name in marks.items():
        twin = make({name: mark})
        if twin is not None:
            _compare(name, base, twin, proofs)


def _solve(
    base: Numbers,
    twins: dict[str, tuple[Number, Numbers]],
    fields: dict[str, int],
    proofs: Proofs,
) -> None:
    """Find the formulas of integers."""
    assert proofs.sizes is not None
    floats = {f for f, m in proofs.moved.items() if f not in twins}
    follows = {p for f in floats for p in proofs.moved[f]}
    for place, number in base.items():
        moved = [f for f, (_, n) in twins.items() if n.get(place, number) != number]
        if not moved or place in follows:
            continue
        for formula in _candidates(place, number, moved, fields):
            if _value(formula, fields) == number and all(
                _value(formula, fields | {f: changed}) == n.get(place, number)
                for f, (changed, n) in twins.items()
            ):
                proofs.sizes[place] = formula
                break


def _candidates(
    place: str, number: Number, moved: list[str], fields: dict[str, int]
) -> list[Formula]:
    if isinstance(number, float):
        whole = round(number**-2) if 0 < number < 1 else 0
        roots = _candidates(place, whole, moved, fields) if whole > 1 else []
        return [("**", root if len(root) > 1 else root[0], -0.5) for root in roots]
    if len(moved) == 1:
        (one,) = moved
        times = number // fields[one]
        if number == fields[one]:
            return [(one,)]
        if times:
            return [("*", times, one), ("+", one, number - fields[one])]
        # A half is one of two equal parts of a tensor; as an attribute it may be a quotient by
        # a number that no field holds by itself (the heads of one stage).
        return [("//", one, 2)] if place.endswith("]") else []
    if len(moved) == 2:
        one, two = moved
        return [("*", one, two), ("//", one, two), ("//", two, one)]
    return []


def _value(formula: Formula, fields: Mapping[str, Any]) -> Number:
    if len(formula) == 1:
        return fields[formula[0]]
    operator, *sides = formula
    a, b = (
        _value(x, fields) if isinstance(x, tuple) else fields.get(x, x) for x in sides
    )
    if operator == "**":
        return float(a**b) if a else 0.0
    if operator == "+":
        return int(a + b)
    return int(a * b) if operator == "*" else int(a // b)


def config_reads(model: torch.nn.Module) -> dict[str, frozenset[str] | None]:
    """The configuration fields that the methods of each class of modules read, by class.

    None for a class that hands its configuration on as a whole, or whose code is not at hand.
    The constructor does not count.
    """
    found: dict[str, frozenset[str] | None] = {}
    for module in model.modules():
        cls = type(module)
        name = f"{cls.__module__}.{cls.__qualname__}"
        if name not in found and not cls.__module__.startswith("torch."):
            found[name] = _reads(cls)  # type: ignore[arg-type]  # classes have a hash
    return found


@functools.lru_cache(maxsize=256)
def _reads(cls: type) -> frozenset[str] | None:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):
        return None
    read: set[str] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef) or node.name == "__init__":
            continue
        inner: set[ast.AST] = set()
        for part in ast.walk(node):
            if isinstance(part, ast.Attribute) and _is_config(part.value):
                read.add(part.attr)
                inner.add(part.value)
        if any(_is_config(part) and part not in inner for part in ast.walk(node)):
            return None
    return frozenset(read)


def _is_config(node: ast.AST) -> bool:
    named = isinstance(node, ast.Name) and node.id == "config"
    return named or (isinstance(node, ast.Attribute) and node.attr == "config")
