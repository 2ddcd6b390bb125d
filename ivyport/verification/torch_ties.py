"""Whether a torch model orders equal values, which torch does in no order that it promises."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from torch.overrides import TorchFunctionMode

from ivyport.core.checks import Line

ORDERING = {"topk", "sort", "argsort"}
OWN = ("/torch/", "/ivyport/")


class Ties(TorchFunctionMode):
    """Notes the lines at which a model orders values of which some are equal."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, None] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if (
            name in ORDERING
            and not kwargs.get("stable")
            and self._ties(name, args, kwargs)
        ):
            self.lines[_line()] = None
        return func(*args, **kwargs)

    def _ties(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        sorts = ("input", "dim", "descending")
        names = ("input", "k", "dim", "largest") if name == "topk" else sorts
        given = dict(zip(names, args, strict=False)) | kwargs
        x, dim = given["input"].detach(), given.get("dim", -1)
        if not x.ndim or x.shape[dim] < 2 or x.is_meta or x.is_complex():
            return False
        ordered = x.sort(dim, descending=bool(given.get("largest", True))).values
        # The last that is taken may equal the first that is not.
        count = min(given.get("k", x.shape[dim]) + 1, x.shape[dim])
        return bool((ordered.narrow(dim, 0, count).diff(dim=dim) == 0).any())


def _line() -> str:
    frame = sys._getframe(2)
    while frame.f_back and any(p in frame.f_code.co_filename for p in OWN):
        frame = frame.f_back
    return Line.at(frame.f_code.co_filename, frame.f_lineno).short(100)
