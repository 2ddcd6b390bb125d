"""Layer drop and SpecAugment, which draw in Python or numpy, switched off in a train capture.

Some models branch in Python on `torch.rand([])`, or draw from `random` or `numpy.random`, while
they train. A capture would keep one draw for good, or fail. Where the module that runs has a rate
for it (`layerdrop`, `mask_time_prob`), the rate is 0 for the capture, and a note says so; at that
rate its draws decide nothing, which `pinned` makes sure of. Any other such draw is refused: a port
that trains with the arithmetic of eval mode would be another model.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import random
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
import torch

from ivyport.core.checks import Line
from ivyport.core.errors import TraceError
from ivyport.frontends.nested import qualified_name
from ivyport.frontends.torch.guards import is_source, source_line
from ivyport.frontends.torch.session import hf_configs

# Rates that switch such a mechanism off when they are 0: attributes of the module or
# of its config. Each with what it does.
_DROPS = "drops whole layers at random in Python"
_MASKS = "masks features at random in numpy (SpecAugment)"
_RATES = {"layerdrop": _DROPS, "mask_time_prob": _MASKS, "mask_feature_prob": _MASKS}
_NEVER = {_DROPS: "the port never drops a layer", _MASKS: "the port masks nothing"}
_TORCH = str(Path(torch.__file__).parent)
_HERE = str(Path(__file__).parent)
# What torch computes symbolic sizes with: no source draws numbers there.
_SYMBOLIC = tuple(str(Path(_TORCH).parent / name) for name in ("sympy", "mpmath"))


@dataclasses.dataclass
class _Quieted:
    path: str
    rates: dict[str, float]  # those above 0 that its code reads


class Quieting:
    """The modules of one model that were switched off so far."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self._done: dict[str, _Quieted] = {}

    def add(self, path: str | None) -> bool:
        """Switch off the module at `path`; False where it has no rate, or is off already."""
        if path is None or path in self._done:
            return False
        module = self._module(path)
        read = _rates_read(module)
        if not module.training or not read:
            return False
        self._done[path] = _Quieted(path, _above_zero(module, read))
        return True

    def apply(self) -> None:
        """Set the rates; the caller puts them back."""
        for done in self._done.values():
            for state in _states(self._module(done.path)):
                state.update({n: 0.0 for n in done.rates if n in state})

    @contextlib.contextmanager
    def pinned(self, where: Callable[[], str | None]) -> Iterator[None]:
        """Single draws of the modules that are switched off can only be compared with 0.

        `where` tells which module runs.
        """
        with contextlib.ExitStack() as undo:
            for holder, name in _DRAWS:
                draw = getattr(holder, name)

                def pinned(*args: Any, _draw: Any = draw, **kwargs: Any) -> Any:
                    if where() in self._done and args in _SINGLE and not kwargs:
                        return _Draw(where() or "")
                    return _draw(*args, **kwargs)

                undo.callback(setattr, holder, name, draw)
                setattr(holder, name, pinned)
            yield

    def notes(self) -> list[str]:
        """Sentences for each module: what the port will not do in train mode."""
        return [note for done in self._done.values() for note in self._notes(done)]

    def _notes(self, done: _Quieted) -> Iterator[str]:
        where = f"'{done.path}'" if done.path else "the root"
        start = f"Train mode: {where} ({qualified_name(type(self._module(done.path)))})"
        if not done.rates:
            yield f"{start}: its layer drop rate is 0, so nothing of it is lost."
        for what in dict.fromkeys(_RATES[name] for name in done.rates):
            rate = max(r for name, r in done.rates.items() if _RATES[name] == what)
            yield (
                f"{start} {what} (rate {rate:g}), which a capture cannot keep: "
                f"{_NEVER[what]}. Everything else of it trains as in the source."
            )

    def _module(self, path: str) -> torch.nn.Module:
        return self._model.get_submodule(path) if path else self._model


def _rates_read(module: torch.nn.Module) -> set[str]:
    """The rates that its `forward` reads, or a method that it calls: any config may have one."""
    kind, found = type(module), set[str]()
    codes = [_code(kind.forward)]
    codes += [
        _code(vars(k).get(n))
        for c in codes
        if c
        for n in c.co_names
        for k in kind.__mro__
    ]
    for code in codes:
        found |= {name for name in _RATES if code is not None and name in code.co_names}
    return found


def _code(function: Any) -> CodeType | None:
    if not callable(function):
        return None
    return getattr(inspect.unwrap(function), "__code__", None)


def _above_zero(module: torch.nn.Module, names: Collection[str]) -> dict[str, float]:
    return {
        name: state[name]
        for state in reversed(_states(module))
        for name in names
        if isinstance(state.get(name), float) and state[name] > 0
    }


def _states(module: torch.nn.Module) -> list[dict[str, Any]]:
    config = vars(module).get("config")
    known = [c for c in hf_configs(module) if c is config]
    return [vars(module), *(vars(c) for c in known)]


# ---- draws


_DRAWS = (
    (torch, "rand"),
    (np.random, "random"),
    (np.random, "rand"),
    (np.random, "uniform"),
    (random, "random"),
    (random, "uniform"),
)


# Arguments with which they draw one number of [0, 1).
_SINGLE: tuple[tuple[Any, ...], ...] = ((), ([],), ((),), (0, 1), (0.0, 1.0))


class _Draw:
    """A number of [0, 1) that nobody drew: it is above 0, and nothing else is known."""

    def __init__(self, path: str) -> None:
        self._path = path

    def item(self) -> _Draw:
        return self

    def __lt__(self, rate: Any) -> bool:
        return self._above(rate, False)

    def __le__(self, rate: Any) -> bool:
        return self._above(rate, False)

    def __gt__(self, rate: Any) -> bool:
        return self._above(rate, True)

    def __ge__(self, rate: Any) -> bool:
        return self._above(rate, True)

    def _above(self, rate: Any, answer: bool) -> bool:
        if isinstance(rate, int | float) and rate == 0:
            return answer
        raise self._refused()

    def __getattr__(self, name: str) -> Any:
        raise self._refused()

    def _refused(self) -> TraceError:
        where = f"module '{self._path}'" if self._path else "the root module"
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and frame.f_code.co_filename == __file__:
            frame = frame.f_back
        return refused(where, source_line(frame))


def refused(where: str, line: Line | None) -> TraceError:
    """What is said of a draw that decides what train mode computes."""
    at = f"\n  at {line.file}:{line.line}\n      {line.code}" if line else ""
    return TraceError(
        f"{where} draws a number outside of torch's operations in train mode, from Python's or "
        f"numpy's generator or to decide a branch: a capture would keep one draw for good.{at}\n"
        "  Draw a tensor and compute with it (torch.rand(()), torch.where), or set the rate to 0."
    )


@functools.cache
def _may_draw(file: str) -> bool:
    """Whether lines of a file are looked at one by one; others count for those that call them."""
    return is_source(file) and not file.startswith((_TORCH, _HERE, *_SYMBOLIC))


@contextlib.contextmanager
def watched(state: Callable[[], Any]) -> Iterator[list[Line]]:
    """The lines of the source after which `state()` is another one."""
    found: list[Line] = []
    last: list[Any] = [state(), None]

    def look(frame: FrameType, event: str, _: Any) -> Any:
        if not _may_draw(frame.f_code.co_filename):
            return None
        now = state()
        if now != last[0] and last[1] is not None:
            found.append(last[1])
        last[0] = now
        if event == "line":
            last[1] = source_line(frame)
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        yield found
    finally:
        sys.settrace(before)


__all__ = ["Quieting", "refused", "watched"]
