"""Which configuration field sets which number of a module, found by experiment.

The model is built once more, on the meta device, from a configuration whose floats are all
different from each other and from the original. A module's number that followed a field comes
from it. Nothing is guessed: where the experiment fails, there is no answer.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch


def proven_fields(model: torch.nn.Module) -> dict[str, str]:
    """``module.path.attribute`` to configuration field, for floats (rates, epsilons, scales).

    Empty for models that are not built from one ``config`` argument.
    """
    config = vars(model).get("config")
    if config is None or not callable(getattr(config, "to_dict", None)):
        return {}
    changed, marks = _marked(config)
    if not marks:
        return {}
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            twin = type(model)(changed)
    # A class that needs more than a configuration, or refuses the marks, proves nothing.
    except Exception:  # noqa: BLE001
        return {}
    found = {}
    for path, module in twin.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, float) and value in marks:
                found[f"{path}.{name}" if path else name] = marks[value]
    return found


def _marked(config: Any) -> tuple[Any, dict[float, str]]:
    """A copy of the configuration with a mark in each float, and the field of each mark."""
    changed = copy.deepcopy(config)
    marks: dict[float, str] = {}
    floats = [
        (k, v) for k, v in vars(config).items() if isinstance(v, float) and 0 < v < 1
    ]
    for position, (name, value) in enumerate(floats):
        mark = value * (1 + 1e-3 * (position + 1))
        if 0 < mark < 1 and mark not in marks:
            setattr(changed, name, mark)
            marks[mark] = name
    return changed, marks


# ---- integers

Formula = tuple[Any, ...]  # ("field",), ("*", 3, "field"), ("//", "field", "other")
_FOUND: dict[tuple[type, str], dict[str, Formula]] = {}


def proven_sizes(model: torch.nn.Module) -> dict[str, Formula] | None:
    """How integers of a model follow from integer fields of its configuration.

    The model is built on the meta device once for each field, with that field alone changed. A
    number is a formula of fields (``("*", 3, "n_embd")``, see `core.ir.Graph.sizes`) only if the
    formula gives the number in every one of these models. Keys are ``path.weight[0]`` (an axis of
    a parameter or buffer), ``path.attribute`` and ``path[]`` (the length of a list).

    None for models without a configuration, and nothing for those that are not built from it.
    """
    config = vars(model).get("config")
    if config is None or not callable(getattr(config, "to_dict", None)):
        return None
    values = config.to_dict()
    key = (type(model), repr(sorted(values.items(), key=lambda item: str(item[0]))))
    if key not in _FOUND:
        fields = {
            k: v
            for k, v in values.items()
            if type(v) is int and v > 0 and not k.endswith("token_id")
            and getattr(config, k, None) == v
        }  # fmt: skip
        _FOUND[key] = _experiment(type(model), config, fields)
    return _FOUND[key]


def _experiment(
    cls: type[torch.nn.Module], config: Any, fields: dict[str, int]
) -> dict[str, Formula]:
    base = _numbers(cls, config, {})
    if base is None:
        return {}
    known = set(base.values())
    twins: dict[str, tuple[int, dict[str, int]]] = {}
    for name, value in fields.items():
        if not any(n % value == 0 or n * 2 == value for n in known if n > 1):
            continue
        for changed in (2 * value, value + 1):
            numbers = _numbers(cls, config, {name: changed})
            if numbers is not None:
                twins[name] = changed, numbers
                break
    found: dict[str, Formula] = {}
    for place, number in base.items():
        moved = [f for f, (_, n) in twins.items() if n.get(place, number) != number]
        for formula in _candidates(place, number, moved, fields):
            if all(
                _value(formula, fields | {f: changed}) == n.get(place, number)
                for f, (changed, n) in twins.items()
            ):
                found[place] = formula
                break
    return found


def _candidates(
    place: str, number: int, moved: list[str], fields: dict[str, int]
) -> list[Formula]:
    if len(moved) == 1:
        (one,) = moved
        times = number // fields[one]
        if number == fields[one]:
            return [(one,)]
        if times:
            return [("*", times, one)]
        # A half is one of two equal parts of a tensor; as an attribute it may be a quotient by
        # a number that no field holds by itself (the heads of one stage).
        return [("//", one, 2)] if place.endswith("]") else []
    if len(moved) == 2:
        one, two = moved
        return [("*", one, two), ("//", one, two), ("//", two, one)]
    return []


def _value(formula: Formula, fields: dict[str, int]) -> int:
    if len(formula) == 1:
        return fields[formula[0]]
    operator, left, right = formula
    a, b = (fields[x] if isinstance(x, str) else x for x in (left, right))
    return int(a * b) if operator == "*" else int(a // b)


def _numbers(
    cls: type[torch.nn.Module], config: Any, changes: dict[str, int]
) -> dict[str, int] | None:
    """The integers of the model that a changed configuration gives, None if it gives none."""
    changed = copy.deepcopy(config)
    try:
        for name, value in changes.items():
            setattr(changed, name, value)
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            twin = cls(changed)
    # A class that needs more than a configuration, or refuses the change, proves nothing.
    except Exception:  # noqa: BLE001
        return None
    found: dict[str, Any] = {}
    tensors = [
        *twin.named_parameters(remove_duplicate=False),
        *twin.named_buffers(remove_duplicate=False),
    ]
    for name, tensor in tensors:
        found |= {f"{name}[{axis}]": size for axis, size in enumerate(tensor.shape)}
    for path, module in twin.named_modules(remove_duplicate=False):
        for name, value in vars(module).items():
            if type(value) is int:
                found[f"{path}.{name}" if path else name] = value
        if isinstance(module, torch.nn.ModuleList | torch.nn.Sequential):
            found[f"{path}[]"] = len(module)
    return found
