"""Train mode of a torch source without its randomness, so that it can be compared."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ivyport.verification.compare import Flat, differ
from ivyport.verification.sides import Noise
from ivyport.verification.torch_dropout import seeded

#: Of batch norms: nothing depends on it unless they average cumulatively.
_COUNTER = "num_batches_tracked"


def is_counter(name: str) -> bool:
    """Whether a buffer counts the batches of a norm."""
    return name.rpartition(".")[2] == _COUNTER


class TrainMode:
    """How the modules of `model` are set in train mode.

    Every module trains, but those that only draw (stochastic depth, noise): modules without
    tensors of their own that move a random generator. Where the source draws beside them
    as well, `random` is true, and batch norms alone are set to train.
    """

    def __init__(self, model: nn.Module) -> None:
        self.random = False
        #: What the source raises in train mode, a batch of one position for instance.
        self.fails = ""
        self._model = model
        self._drawing: set[nn.Module] = set()
        self._watching = False

    @property
    def noise(self) -> Noise:
        """Where something draws beside dropout."""
        if self.random:
            return "everywhere"
        return "modules" if self._drawing else ""

    def enter(self) -> None:
        """Set the flags; call it where the model is put back afterwards."""
        for module in self._model.modules():
            module.training = isinstance(module, _BatchNorm) or not self.random
        for module in self._drawing:
            module.training = False
        if self._watching:
            self._watch()

    def find(self, run: Callable[[], Flat]) -> None:
        """Find out what draws, by calls in train mode."""
        self._watching = True
        try:
            with seeded(self._model, 1):
                first = run()
        # Train mode is the source's own affair: a model may be for inference alone.
        except Exception as error:  # noqa: BLE001
            brief = str(error).strip().partition("\n")[0]
            self.fails = f"the source raises {type(error).__name__}: {brief}"
            return
        finally:
            self._watching = False
        if self._drawing:
            with seeded(self._model, 1):
                first = run()
        with seeded(self._model, 2):
            self.random = differ(first, run())

    def _watch(self) -> None:
        """Hooks that are taken off with everything else of the call."""
        before: dict[nn.Module, Any] = {}

        def enter(module: nn.Module, _: Any) -> None:
            before[module] = _generators()

        def leave(module: nn.Module, *_: Any) -> None:
            if before.pop(module, None) != _generators():
                self._drawing.add(module)

        for module in self._model.modules():
            held = [*module.parameters(), *module.buffers(), *module.children()]
            if not held:
                module.register_forward_pre_hook(enter)
                module.register_forward_hook(leave)


def _generators() -> tuple[Any, ...]:
    state = np.random.get_state()
    return (torch.get_rng_state().numpy().tobytes(), repr(state), random.getstate())
