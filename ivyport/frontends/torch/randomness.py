"""Keeps randomness of Python and numpy out of a train capture.

Some models draw from `numpy.random`, or branch in Python on `torch.rand([])`, while
they train: LayerDrop, SpecAugment. A capture would bake one draw in, or fail. The
module whose own forward does it is switched off: by its own rate where it has one, else
by its own `training` flag. Its children stay in train mode.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import torch
from torch.export import ExportedProgram

from ivyport.frontends.nested import qualified_name
from ivyport.frontends.torch.session import hf_configs

# Rates that switch such a mechanism off when they are 0: attributes of the module or
# of its config.
_RATES = ("layerdrop",)
_DROPOUTS = (torch.ops.aten.dropout.default, torch.ops.aten.dropout_.default)


@dataclasses.dataclass
class _Quieted:
    path: str
    why: str
    rate: float | None
    own_flag: bool


class Quieting:
    """The modules of one model that were switched off so far; at most twice each."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self._done: dict[str, _Quieted] = {}

    def add(self, path: str | None, why: str) -> bool:
        """Switch off the module at `path`; False when there nothing is left to try.

        `why` becomes a part of the note.
        """
        if path is None:
            return False
        known = self._done.get(path)
        if known is not None:
            if known.own_flag:
                return False
            known.own_flag = True
            return True
        module = self._model.get_submodule(path) if path else self._model
        if not module.training:
            return False
        rate = _rate(module) if _reads_rate(module) else None
        self._done[path] = _Quieted(path, why, rate, own_flag=rate is None)
        return True

    def apply(self) -> None:
        """Set flags and rates; the caller has put the model in train mode before."""
        for done in self._done.values():
            module = self._model.get_submodule(done.path) if done.path else self._model
            if done.own_flag:
                module.training = False
            if done.rate is not None:
                _silence(module)

    def switched_off(self) -> frozenset[str]:
        """Modules whose own code runs as in eval mode; their dropouts are put back later."""
        return frozenset(path for path, done in self._done.items() if done.own_flag)

    def notes(self, trained: ExportedProgram) -> list[str]:
        """One sentence for each module: what the port will not do in train mode."""
        return [self._note(done, trained) for done in self._done.values()]

    def _note(self, done: _Quieted, trained: ExportedProgram) -> str:
        module = self._model.get_submodule(done.path) if done.path else self._model
        where = f"'{done.path}'" if done.path else "the root"
        start = f"Train mode: {where} ({qualified_name(type(module))})"
        if not done.own_flag:
            return (
                f"{start} drops whole layers at random in Python (rate {done.rate:g}), "
                "which a capture cannot keep: the port never drops a layer. Everything "
                "else of it trains as in the source."
            )
        lost = _own_dropouts(trained, done.path)
        if not lost and done.rate is None and _reads_rate(module):
            return f"{start}: its layer drop rate is 0, so nothing of it is lost."
        rest = f"; its own {lost} functional dropout(s) are kept" if lost else ""
        return (
            f"{start} has its own code captured as in eval mode, because {done.why}"
            f"{rest}. Its submodules are in train mode."
        )


def _reads_rate(module: torch.nn.Module) -> bool:
    """Whether its own `forward` reads such a rate: any config may have one."""
    forward = inspect.unwrap(type(module).forward)
    code = getattr(forward, "__code__", None)
    return code is not None and any(name in code.co_names for name in _RATES)


def _rate(module: torch.nn.Module) -> float | None:
    for state in _states(module):
        for name in _RATES:
            value = state.get(name)
            if isinstance(value, float) and value > 0:
                return value
    return None


def _states(module: torch.nn.Module) -> list[dict[str, Any]]:
    config = vars(module).get("config")
    known = [c for c in hf_configs(module) if c is config]
    return [vars(module), *(vars(c) for c in known)]


def _silence(module: torch.nn.Module) -> None:
    for state in _states(module):
        for name in _RATES:
            if isinstance(state.get(name), float):
                state[name] = 0.0


def _own_dropouts(trained: ExportedProgram, path: str) -> int:
    """Dropouts with a rate in the module's own code, which its flag turned off."""
    lost = 0
    for node in trained.graph.nodes:
        if node.target not in _DROPOUTS or node.args[1] == 0 or node.args[2]:
            continue
        stack = list(node.meta.get("nn_module_stack", {}).values())
        lost += bool(stack) and stack[-1][0] == path
    return lost
