"""What a model is that a configuration gives: its numbers, its words and its tables.

Models are built to be looked at, so large tensors that torch makes without values stay on the
meta device: a model of any size costs little.
"""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

Number = int | float
Numbers = dict[str, Number]

MOST_VALUES = 1 << 14  # larger tensors that are made without values, or drawn, get none
MOST_KEPT = 1 << 20  # larger tables are cut, or not kept
CUT = 64
EMPTY = {torch.empty, torch.rand, torch.randn, torch.randint, torch.normal}
SET = {torch.Tensor.zero_: 0.0, torch.Tensor.fill_: None}
LISTS = torch.nn.ModuleList | torch.nn.Sequential
OWN = {*vars(torch.nn.Module())} - {"training"}


class Light(TorchFunctionMode):
    """Large tensors without values of their own are made on the meta device."""

    def __init__(self) -> None:
        super().__init__()
        # One number that all elements of a tensor on the meta device were set to, by storage.
        self.numbers: dict[int, float] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in EMPTY and kwargs.get("device") is None:
            kwargs["device"] = "meta"
            made = func(*args, **kwargs)
            if made.numel() > MOST_VALUES:
                return made
            kwargs["device"] = "cpu"
            made = func(*args, **kwargs)
            # Memory that nobody sets must not look like a choice.
            return made.fill_(torch.nan) if func is torch.empty else made
        result = func(*args, **kwargs)
        written = args[0] if args and torch.is_tensor(args[0]) else None
        if written is not None and written.is_meta and result is written:
            self._note(func, written, args)
        return result

    def _note(self, func: Any, written: torch.Tensor, args: tuple[Any, ...]) -> None:
        """What an operation in place leaves in a tensor on the meta device."""
        storage = written.untyped_storage()
        self.numbers.pop(storage._cdata, None)
        number = SET.get(func, torch.nan)
        number = args[1] if number is None and len(args) > 1 else number
        whole = written.numel() * written.element_size() == storage.nbytes()
        if whole and type(number) in (int, float) and number == number:
            self.numbers[storage._cdata] = float(number)


def fresh(
    cls: type[torch.nn.Module], config: Any, seed: int = 0
) -> tuple[torch.nn.Module, Light] | None:
    """A model of the configuration, from these random numbers; None if there is none."""
    light = Light()
    try:
        with torch.random.fork_rng([]), light, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            return cls(copy.deepcopy(config)), light
    # A class that needs more than a configuration, or refuses a change, proves nothing.
    except Exception:  # noqa: BLE001
        return None


def _on_meta(cls: type[torch.nn.Module], config: Any) -> torch.nn.Module | None:
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return cls(config)
    # As above.
    except Exception:  # noqa: BLE001
        return None


@dataclasses.dataclass
class Made:
    """What a model is, by place.

    Attributes:
        numbers: ``path.weight[0]`` (an axis of a tensor), ``path.attribute``,
            ``path.attribute[0]`` and ``path[]`` (the length of a list).
        words: flags, strings, functions and None by ``path.attribute``, the class of a module by
            its path, dtype and rank of a tensor by its name.
        tables: tensors that are no parameters, by name; those without values are left out.
    """

    numbers: Numbers = dataclasses.field(default_factory=dict)
    words: dict[str, Any] = dataclasses.field(default_factory=dict)
    tables: dict[str, torch.Tensor] = dataclasses.field(default_factory=dict)


def made(
    cls: type[torch.nn.Module],
    config: Any,
    changes: Mapping[str, Number],
    values: bool = False,
    fixed: Collection[str] = (),
) -> Made | None:
    """The model that a changed configuration gives, None if it gives none.

    With `values` its tables are computed; parameters in `fixed` are among them.
    """
    changed = copy.deepcopy(config)
    for name, value in changes.items():
        try:
            setattr(changed, name, value)
        except (TypeError, ValueError, AttributeError):  # the configuration refuses
            return None
    found = fresh(cls, changed) if values else None
    model = found[0] if found else _on_meta(cls, changed)
    return None if model is None else look(model, fixed)


def look(model: torch.nn.Module, fixed: Collection[str] = ()) -> Made:
    """What a model is; parameters in `fixed` are tables."""
    found = Made()
    for name, tensor in model.named_parameters(remove_duplicate=False):
        _tensor(found, name, tensor)
        if name in fixed:
            found.tables[name] = tensor
    for name, tensor in model.named_buffers(remove_duplicate=False):
        _tensor(found, name, tensor)
        found.tables[name] = tensor
    for path, module in model.named_modules(remove_duplicate=False):
        found.words[path] = f"{type(module).__module__}.{type(module).__qualname__}"
        prefix = f"{path}." if path else ""
        for name, value in vars(module).items():
            if name in OWN:
                continue
            if torch.is_tensor(value):
                _tensor(found, f"{prefix}{name}", value)
                found.tables[f"{prefix}{name}"] = value
            for place, item in _scalars(f"{prefix}{name}", value):
                kind = type(item) in (int, float)
                (found.numbers if kind else found.words)[place] = item
        if isinstance(module, LISTS):
            found.numbers[f"{path}[]"] = len(module)
    found.tables = {n: t for n, t in found.tables.items() if not t.is_meta}
    return found


def _tensor(found: Made, name: str, tensor: torch.Tensor) -> None:
    found.words[name] = f"{tensor.dtype} of {tensor.ndim} axes"
    found.numbers |= {f"{name}[{axis}]": size for axis, size in enumerate(tensor.shape)}


def _scalars(place: str, value: Any, depth: int = 2) -> Iterator[tuple[str, Any]]:
    """Numbers and words of an attribute, those in tuples, lists and dicts too."""
    if value is None or type(value) in (bool, int, float, str):
        yield place, value
    elif type(value) in (tuple, list) and depth:
        for i, item in enumerate(value):
            yield from _scalars(f"{place}[{i}]", item, depth - 1)
    elif type(value) is dict and depth:
        for key, item in value.items():
            yield from _scalars(f"{place}[{key!r}]", item, depth - 1)
    elif callable(value) and not isinstance(value, torch.nn.Module):
        name = getattr(value, "__qualname__", None)
        if isinstance(name, str):
            yield place, f"{getattr(value, '__module__', '')}.{name}"


# ---- how two models differ


def rebuilt(base: Made, other: Made) -> str | None:
    """Where another model is more than one of other sizes; None where it is not.

    The elements by which a list is longer have to be what its last one is.
    """
    lists = _resized(base, other)
    for place, word in base.words.items():
        grown = _element(place, lists)
        gone = grown is not None and grown[1] >= other.numbers[f"{grown[0]}[]"]
        if not gone and (place not in other.words or other.words[place] != word):
            return place
    for path in lists:
        found = _added(path, base, other)
        if found is not None:
            return found
    return next(
        (
            place
            for place in other.words
            if place not in base.words and _element(place, lists) is None
        ),
        None,
    )


def _resized(base: Made, other: Made) -> set[str]:
    """Lists of modules of another length."""
    return {
        place[:-2]
        for place, length in base.numbers.items()
        if place.endswith("[]") and other.numbers.get(place, length) != length
    }


def _element(place: str, lists: set[str]) -> tuple[str, int] | None:
    """The list and the index of its element that a place is in."""
    parts = place.split(".")
    for at in range(len(parts) - 1):
        path = ".".join(parts[: at + 1])
        if path in lists and parts[at + 1].isdigit():
            return path, int(parts[at + 1])
    return None


def _added(path: str, base: Made, other: Made) -> str | None:
    """Where an element that a list has more differs from its last one."""
    before, after = base.numbers[f"{path}[]"], other.numbers[f"{path}[]"]
    lists = {path}
    elements: dict[int, dict[str, Any]] = {}
    for place, value in (*other.words.items(), *other.numbers.items()):
        found = _element(place, lists)
        if found is not None:
            own = place[len(f"{path}.{found[1]}") :]
            elements.setdefault(found[1], {})[own] = value
    kept = [elements.get(i, {}) for i in range(int(min(before, after)))]
    if not kept:
        return path
    for index in range(len(kept), int(after)):
        new, last = elements.get(index, {}), kept[-1]
        for place in dict.fromkeys([*last, *new]):
            value = last.get(place)
            same = len({repr(element.get(place)) for element in kept}) == 1
            varies = type(value) in (int, float) and not same
            if (place in last) != (place in new) or (
                new[place] != value and not varies
            ):
                return f"{path}.{index}{place}"
    return None


def differing(base: Made, other: Made) -> dict[str, torch.Tensor | None]:
    """Tables of another model that are not those of the first one; None for one not at hand."""
    found: dict[str, torch.Tensor | None] = {}
    for name, table in base.tables.items():
        twin = other.tables.get(name)
        if twin is None:
            found[name] = None
        elif twin.shape != table.shape or not torch.equal(twin, table):
            found[name] = _cut(twin.detach())
    return found


def _cut(table: torch.Tensor) -> torch.Tensor | None:
    """A large table without its end, where that is one of the same kind (a mask)."""
    if table.numel() <= MOST_KEPT:
        return table
    square = table.ndim >= 2 and table.shape[-1] == table.shape[-2]
    small = table[..., :CUT, :CUT] if square else table
    return small.clone() if small.numel() <= MOST_KEPT else None
