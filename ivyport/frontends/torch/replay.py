"""A capture against its source at other sizes, where what the source asked left no guard.

Questions about a size of 1 leave none: torch takes every free size for 2 or more. The code of
torch and transformers asks them all the time, mostly for a shortcut to the same numbers. Where it
did, both run at sizes with another answer and have to agree. Nor does ``isinstance(size, int)``,
which a symbolic size answers with no: `asks_for_types` finds that in the code.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.utils import _pytree

from ivyport.core.checks import Check
from ivyport.core.proofs import Reduced
from ivyport.frontends.torch.hooks import flatten_output
from ivyport.frontends.torch.session import preserved

# Both run the same operations: a difference is none of rounding.
_TOLERANCE = 1e-3


def differs(
    model: torch.nn.Module, program: ExportedProgram, given: Mapping[str, Any]
) -> bool:
    """Whether `program` computes something else than `model` for the arguments `given`.

    False where the source raises for them or does not give the same result twice, and where the
    capture cannot be run at all. Model, buffers and random generators are left as they were.
    """
    tensors = [*model.parameters(), *model.buffers()]
    if any(t.is_meta for t in tensors):
        return False
    expected = _source(model, given)
    if expected is None:
        return False
    found = _captured(program, given)
    if found is None and not _runs(program):
        return False
    if _alike(expected, found):
        return False
    again = _source(model, given)
    return again is not None and _alike(expected, again)


def asks_for_types(model: torch.nn.Module) -> bool:
    """Whether a forward of the user's own modules asks whether something is an integer."""
    kinds = {type(module) for module in model.modules()}
    own = [k for k in kinds if k.__module__.partition(".")[0] not in _LIBRARIES]
    return any(_asks(code) for kind in own for code in _code(kind))


_LIBRARIES = ("torch", "transformers")


def _asks(code: CodeType) -> bool:
    return {"isinstance", "int"} <= {*code.co_names} or "type" in code.co_names


def _code(kind: type[torch.nn.Module]) -> Iterator[CodeType]:
    """The code of a class's forward, and of what it calls by the names of its own file."""
    known: set[CodeType] = set()
    queue: list[Any] = [kind.forward]
    while queue:
        function = queue.pop()
        function = inspect.unwrap(function) if callable(function) else function
        code = getattr(function, "__code__", function)
        if not isinstance(code, CodeType) or code in known:
            continue
        known.add(code)
        yield code
        names = getattr(function, "__globals__", {})
        called = [getattr(kind, n, names.get(n)) for n in code.co_names]
        own = [f for f in called if getattr(f, "__module__", "") == kind.__module__]
        queue += [*own, *code.co_consts]


def breaking(
    check: Check, assumed: Reduced, example: Mapping[str, int]
) -> dict[str, int] | None:
    """Sizes near those of the example, or small ones, that keep `assumed` and break `check`."""
    if not check.symbols() <= example.keys():
        return None
    least = {name: assumed.bounds.get(name, (1, None))[0] for name in example}
    for start in (example, least):
        for name in sorted(check.symbols()):
            for size in range(1, _REACH):
                sizes = {**start, name: size}
                kept = all(c.holds(sizes) is not False for c in assumed.checks)
                if kept and check.holds(sizes) is False:
                    return sizes
    return None


_REACH = 64


def resized(value: torch.Tensor, axis: int, size: int) -> torch.Tensor:
    """A tensor with another size of an axis: its own values, cut or repeated."""
    places = torch.arange(size, device=value.device) % value.shape[axis]
    return value.index_select(axis, places)


def _source(
    model: torch.nn.Module, given: Mapping[str, Any]
) -> list[torch.Tensor] | None:
    """The tensors that the source returns, None where it raises."""
    kept = [(b, b._version, b.clone()) for b in model.buffers()]
    with preserved(model), torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        try:
            return [t.clone() for t in flatten_output(model(**_copies(given)))[1]]
        # The source's own code, of which anything may come.
        except Exception:  # noqa: BLE001
            return None
        finally:
            for buffer, version, value in kept:
                if buffer._version != version:
                    buffer.copy_(value)


def _captured(
    program: ExportedProgram, given: Mapping[str, Any]
) -> list[torch.Tensor] | None:
    """The tensors that the capture computes, None where it raises: a size is built into it."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        try:
            found = fx.Interpreter(program.graph_module).run(*_operands(program, given))
        # Operations of the source's own may be among them.
        except Exception:  # noqa: BLE001
            return None
    return list(found)


def _runs(program: ExportedProgram) -> bool:
    """Whether the capture runs on the inputs that it was made with."""
    if program.example_inputs is None:
        return False
    return _captured(program, program.example_inputs[1]) is not None


def _operands(program: ExportedProgram, given: Mapping[str, Any]) -> Iterator[Any]:
    inputs = iter(_pytree.tree_leaves(_copies(given)))
    for spec in program.graph_signature.input_specs:
        if spec.kind == InputKind.USER_INPUT:
            yield next(inputs)
            continue
        held = program.state_dict.get(spec.target)
        if held is None:
            held = program.constants[spec.target]
        written = spec.kind != InputKind.PARAMETER and torch.is_tensor(held)
        yield held.clone() if written else held


def _copies(given: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v.clone() if torch.is_tensor(v) else v for k, v in given.items()}


def _alike(expected: list[torch.Tensor], found: list[torch.Tensor] | None) -> bool:
    return (
        found is not None
        and len(expected) == len(found)
        and all(map(_close, expected, found))
    )


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not (a.is_floating_point() or a.is_complex()):
        return torch.equal(a, b)
    scale = a.nan_to_num(0, 0, 0).abs().amax().item() if a.numel() else 0
    return torch.allclose(
        a, b, rtol=_TOLERANCE, atol=_TOLERANCE * scale, equal_nan=True
    )
