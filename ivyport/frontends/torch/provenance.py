"""Which configuration field sets which number of a module, found by experiment.

The model is built once more on the meta device with every float of its configuration marked, and
once for each integer field with that field alone changed. A number that followed a field comes
from it. Nothing is guessed: where an experiment fails, there is no answer.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import inspect
import textwrap
import warnings
from collections.abc import Mapping
from typing import Any

import torch


def _built(cls: type[torch.nn.Module], config: Any) -> torch.nn.Module | None:
    """The model on the meta device, None where it cannot be built."""
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return cls(config)
    # A class that needs more than a configuration, or refuses a change, proves nothing.
    except Exception:  # noqa: BLE001
        return None


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
Number = int | float
Numbers = dict[str, Number]


@dataclasses.dataclass
class Proofs:
    """What the experiments show.

    Attributes:
        floats: ``module.path.attribute`` to the field that sets it.
        sizes: how integers follow from fields (see `core.ir.Graph.sizes`); None for a model
            without a configuration, nothing for one that is not built from it.
        moved: for each field what changes with it, by place: the number, and the changed one.
    """

    floats: dict[str, str] = dataclasses.field(default_factory=dict)
    sizes: dict[str, Formula] | None = None
    moved: dict[str, dict[str, tuple[Number, Number]]] = dataclasses.field(
        default_factory=dict
    )


_FOUND: dict[tuple[type, str], Proofs] = {}


def prove(model: torch.nn.Module) -> Proofs:
    """How numbers of a model follow from fields of its configuration.

    A number is a formula of fields (``("*", 3, "n_embd")``) only if the formula gives the number
    in every model that was built. Places are ``path.weight[0]`` (an axis of a parameter or
    buffer), ``path.attribute``, ``path.attribute[0]`` and ``path[]`` (the length of a list).
    """
    config = vars(model).get("config")
    if config is None or not callable(getattr(config, "to_dict", None)):
        return Proofs()
    values = config.to_dict()
    key = (type(model), repr(sorted(values.items(), key=lambda item: str(item[0]))))
    if key not in _FOUND:
        _FOUND[key] = _experiment(type(model), config, values)
    return _FOUND[key]


def _experiment(
    cls: type[torch.nn.Module], config: Any, values: dict[str, Any]
) -> Proofs:
    base = _numbers(cls, config, {})
    if base is None:
        return Proofs(sizes={})
    fields = {
        k: v
        for k, v in values.items()
        if type(v) is int and v > 0 and not k.endswith("token_id")
        and getattr(config, k, None) == v
    }  # fmt: skip
    known = {n for n in base.values() if type(n) is int}
    twins: dict[str, tuple[Number, Numbers]] = {}
    for name, value in fields.items():
        if not any(n % value == 0 or n * 2 == value for n in known if n > 1):
            continue
        for changed in (2 * value, value + 1):
            numbers = _numbers(cls, config, {name: changed})
            if numbers is not None:
                twins[name] = changed, numbers
                break
    proofs = Proofs(sizes={}, moved={f: _moved(base, n) for f, (_, n) in twins.items()})
    _mark(cls, config, base, proofs)
    _solve(base, twins, fields, proofs)
    return proofs


def _moved(base: Numbers, numbers: Numbers) -> dict[str, tuple[Number, Number]]:
    return {p: (n, numbers[p]) for p, n in base.items() if numbers.get(p, n) != n}


def _mark(
    cls: type[torch.nn.Module], config: Any, base: Numbers, proofs: Proofs
) -> None:
    """Find the floats that fields set, with all floats changed at once.

    Where something else than a mark changed too, each float is changed by itself.
    """
    numbers: Numbers | None = None
    marks: dict[float, str] = {}
    for above in (True, False):
        changed, marks = marked(config, above)
        numbers = _numbers(cls, changed, {}) if marks else None
        if numbers is not None:
            break
    if numbers is None:
        return
    moved = _moved(base, numbers)
    for place, (old, new) in moved.items():
        if new in marks:
            proofs.floats[place] = marks[new]
            proofs.moved.setdefault(marks[new], {})[place] = old, new
    if all(new in marks for _, new in moved.values()):
        return
    for mark, name in marks.items():
        numbers = _numbers(cls, config, {name: mark})
        if numbers is not None:
            proofs.moved.setdefault(name, {}).update(_moved(base, numbers))


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


def _numbers(
    cls: type[torch.nn.Module], config: Any, changes: Mapping[str, Number]
) -> Numbers | None:
    """The numbers of the model that a changed configuration gives, None if it gives none."""
    changed = copy.deepcopy(config)
    for name, value in changes.items():
        try:
            setattr(changed, name, value)
        except (TypeError, ValueError, AttributeError):  # the configuration refuses
            return None
    twin = _built(cls, changed)
    if twin is None:
        return None
    found: Numbers = {}
    tensors = [
        *twin.named_parameters(remove_duplicate=False),
        *twin.named_buffers(remove_duplicate=False),
    ]
    for name, tensor in tensors:
        found |= {f"{name}[{axis}]": size for axis, size in enumerate(tensor.shape)}
    for path, module in twin.named_modules(remove_duplicate=False):
        prefix = f"{path}." if path else ""
        for name, value in vars(module).items():
            if type(value) in (int, float):
                found[f"{prefix}{name}"] = value
            elif type(value) in (tuple, list):
                items = enumerate(value)
                found |= {
                    f"{prefix}{name}[{i}]": v
                    for i, v in items
                    if type(v) in (int, float)
                }
        if isinstance(module, torch.nn.ModuleList | torch.nn.Sequential):
            found[f"{path}[]"] = len(module)
    return found


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
            found[name] = _reads(cls)
    return found


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
