"""Runs a torch module with or without its dropout, and leaves torch's random numbers alone.

A model may drop in eval mode too (Monte Carlo dropout, a layer left in train mode), so that
this holds in both modes. No code of the model is changed.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

_FUNCTIONAL = {
    F.dropout,
    F.dropout1d,
    F.dropout2d,
    F.dropout3d,
    F.alpha_dropout,
    F.feature_alpha_dropout,
}
_DROPOUTS = {
    *_FUNCTIONAL,
    torch.dropout,
    torch.dropout_,
    torch.native_dropout,
    torch.alpha_dropout,
    torch.feature_dropout,
    torch.feature_alpha_dropout,
}
#: Functions that drop inside: the position and name of their rate, and of their flag.
_INSIDE: Mapping[Any, tuple[tuple[int, str], tuple[int, str] | None]] = {
    F.scaled_dot_product_attention: ((4, "dropout_p"), None),
    F.multi_head_attention_forward: ((10, "dropout_p"), (13, "training")),
}


class Dropout(TorchFunctionMode):  # type: ignore[misc]  # torch has no types
    """Records the rate of every dropout that draws, and switches it off where `silent`.

    `rates` are in the order of the calls.
    """

    def __init__(self, *, silent: bool) -> None:
        super().__init__()
        self.silent = silent
        self.rates: list[float] = []

    def recurrent(self, model: nn.Module) -> None:
        """The same for the dropout between the layers of torch's recurrent modules.

        Call it where the attributes of the model are put back.
        """
        for module in model.modules():
            if isinstance(module, nn.RNNBase):
                if module.training and module.dropout:
                    self.rates += [float(module.dropout)] * (module.num_layers - 1)
                if self.silent:
                    module.dropout = 0.0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _DROPOUTS:
            flag = "training" if func in _FUNCTIONAL else "train"
            rate = _argument(args, kwargs, 1, "p", 0.5)
            if _argument(args, kwargs, 2, flag, True) and rate:
                self.rates.append(float(rate))
            if self.silent:
                same = args[0] if args else kwargs["input"]
                return (same, None) if func is torch.native_dropout else same
        elif func in _INSIDE:
            (position, name), switch = _INSIDE[func]
            rate = _argument(args, kwargs, position, name, 0.0)
            if rate and (switch is None or _argument(args, kwargs, *switch, True)):
                self.rates.append(float(rate))
            if self.silent:
                if len(args) > position:
                    args = (*args[:position], 0.0, *args[position + 1 :])
                else:
                    kwargs[name] = 0.0
        return func(*args, **kwargs)


def _argument(
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    position: int,
    name: str,
    default: Any,
) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, default)


@contextlib.contextmanager
def same_random(model: nn.Module) -> Iterator[None]:
    """Put torch's random generators back afterwards, those of the model's devices too."""
    tensors = [*model.parameters(), *model.buffers()]
    devices = {t.device.index for t in tensors if t.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(d for d in devices if d is not None)):
        yield


@contextlib.contextmanager
def seeded(model: nn.Module, seed: int | None) -> Iterator[None]:
    """Draw from `seed` on, and put the generators back; None leaves all as it is."""
    if seed is None:
        yield
        return
    numpy_state, python_state = np.random.get_state(), random.getstate()
    try:
        with same_random(model):
            torch.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
