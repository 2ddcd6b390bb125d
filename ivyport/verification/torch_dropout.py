"""Runs a torch module with or without its dropout, and leaves torch's random numbers alone.

A model may drop in eval mode too (Monte Carlo dropout, a layer left in train mode), so that
this holds in both modes. No code of the model is changed.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from ivyport.verification.sides import NotFixed

_FUNCTIONAL = {
    F.dropout,
    F.dropout1d,
    F.dropout2d,
    F.dropout3d,
}
_FUNCTIONAL_ALPHA = {F.alpha_dropout, F.feature_alpha_dropout}
_ALPHA = {*_FUNCTIONAL_ALPHA, torch.alpha_dropout, torch.feature_alpha_dropout}
_SELU = (
    1.7580993408473766  # scale * alpha of the self-normalising ELU, arXiv:1706.02515
)
_DROPOUTS = {
    *_FUNCTIONAL,
    torch.dropout,
    torch.dropout_,
    torch.native_dropout,
    torch.feature_dropout,
}
#: Functions that drop inside: the position and name of their rate, and of their flag.
_INSIDE: Mapping[Any, tuple[tuple[int, str], tuple[int, str] | None]] = {
    F.scaled_dot_product_attention: ((4, "dropout_p"), None),
    F.multi_head_attention_forward: ((10, "dropout_p"), (13, "training")),
}


class Dropout(TorchFunctionMode):
    """Records the rate of every dropout that draws, and switches it off where `silent`.

    Where `kept`, every dropout keeps all that it is given: what it scales by is left, which
    tells a network with a dropout from one without. `rates` are in the order of the calls.

    Raises:
        NotFixed: a recurrent module drops between its layers where `kept`.
    """

    def __init__(self, *, silent: bool, kept: bool = False) -> None:
        super().__init__()
        self.silent = silent
        self.kept = kept
        self.rates: list[float] = []

    def recurrent(self, model: nn.Module) -> None:
        """The same for the dropout between the layers of torch's recurrent modules.

        Call it where the attributes of the model are put back.
        """
        for module in model.modules():
            if isinstance(module, nn.RNNBase):
                if module.training and module.dropout:
                    self.rates += [float(module.dropout)] * (module.num_layers - 1)
                    if self.kept and module.num_layers > 1:
                        kind = type(module).__name__
                        raise NotFixed(f"torch's {kind} drops between its layers")
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
        if func in _ALPHA:
            # A port draws and computes it, so that it is noise and no dropout.
            return self._alpha(func, args, kwargs)
        if func in _DROPOUTS:
            return self._dropout(func, args, kwargs)
        if func in _INSIDE:
            (position, name), switch = _INSIDE[func]
            rate = _argument(args, kwargs, position, name, 0.0)
            drops = rate and (switch is None or _argument(args, kwargs, *switch, True))
            if drops:
                self.rates.append(float(rate))
            if drops and self.kept and func is F.multi_head_attention_forward:
                with _attention_keeps():
                    return func(*args, **kwargs)
            if self.silent or self.kept:
                if len(args) > position:
                    args = (*args[:position], 0.0, *args[position + 1 :])
                else:
                    kwargs[name] = 0.0
            if drops and self.kept:
                return func(*args, **kwargs) * _scale(rate)
        return func(*args, **kwargs)

    def _dropout(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        flag = "training" if func in _FUNCTIONAL else "train"
        rate = _argument(args, kwargs, 1, "p", 0.5)
        drops = bool(_argument(args, kwargs, 2, flag, True) and rate)
        if drops:
            self.rates.append(float(rate))
        if not self.silent and not self.kept:
            return func(*args, **kwargs)
        same = args[0] if args else kwargs["input"]
        if drops and self.kept:
            made = same * _scale(rate)
            inplace = func is torch.dropout_ or (
                func in _FUNCTIONAL and _argument(args, kwargs, 3, "inplace", False)
            )
            same = same.copy_(made) if inplace else made
        return (same, None) if func is torch.native_dropout else same

    def _alpha(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        flag = "training" if func in _FUNCTIONAL_ALPHA else "train"
        rate = _argument(args, kwargs, 1, "p", 0.5)
        if not self.kept or not rate or not _argument(args, kwargs, 2, flag, False):
            return func(*args, **kwargs)
        x = args[0] if args else kwargs["input"]
        made = _kept_alpha(x, rate)
        inplace = func in _FUNCTIONAL_ALPHA and _argument(
            args, kwargs, 3, "inplace", False
        )
        return x.copy_(made) if inplace else made


def _scale(rate: float) -> float:
    return 1 / (1 - rate) if rate < 1 else 0.0


def _kept_alpha(x: torch.Tensor, rate: float) -> torch.Tensor:
    """What the dropout that keeps mean and variance makes of what it keeps."""
    if rate >= 1:
        return torch.zeros_like(x)
    a = 1 / math.sqrt((_SELU**2 * rate + 1) * (1 - rate))
    return x * a + _SELU * a * rate


@contextlib.contextmanager
def _attention_keeps() -> Iterator[None]:
    """The functions that torch's own multi-head attention drops with keep everything."""
    whole, own = F.scaled_dot_product_attention, F.dropout

    def attention(q: Any, k: Any, v: Any, mask: Any, rate: float, *rest: Any) -> Any:
        return whole(q, k, v, mask, 0.0, *rest) * _scale(rate)

    def dropout(x: torch.Tensor, p: float = 0.5, *_: Any) -> torch.Tensor:
        return x * _scale(p)

    try:
        vars(F).update(scaled_dot_product_attention=attention, dropout=dropout)
        yield
    finally:
        vars(F).update(scaled_dot_product_attention=whole, dropout=own)


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


class Outside:
    """Whether a stretch of code draws by Python's `random` or numpy's."""

    def __init__(self) -> None:
        self.drew = False

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """The stretch of code."""
        numpy_state, python_state = np.random.get_state(), random.getstate()
        try:
            yield
        finally:
            moved = repr(np.random.get_state()) != repr(numpy_state)
            self.drew = moved or random.getstate() != python_state


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
