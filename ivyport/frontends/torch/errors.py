"""Turns exceptions of torch.export into errors that name the module and the line."""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
)
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from ivyport.core.errors import IvyportError, TraceError, causes
from ivyport.frontends.torch.transforms import Refused

_TORCH = str(Path(torch.__file__).parent)
_NUMPY = str(Path(np.__file__).parent)
_HERE = str(Path(__file__).parent)
_EXPRESSION = re.compile(r"data-dependent expression (.+?)(?: \(unhinted|\.  |\n|$)")
_KEPT_LINES = 4
_DATA_DEPENDENT = (
    GuardOnDataDependentSymNode,
    DataDependentOutputException,
    DynamicOutputShapeException,
)
# Operations whose results are numbers of Python: the code that uses them branches.
_ASKED = ("equal", "allclose", "is_nonzero", "item", "_local_scalar_dense")
# Generated code, and the import system, have no source that a user could look at.
_SKIPPED = (_TORCH, _NUMPY, _HERE, "<frozen", "<string>", "<eval_with_key>")


def is_data_dependent(error: BaseException) -> bool:
    """Whether Python code had to know a value that only exists at run time."""
    return isinstance(error, _DATA_DEPENDENT)


def is_untraced(error: BaseException) -> bool:
    """Whether a tensor came about by what the tracer did not see."""
    return "fake tensor in the exported program" in str(error)


def source_frame(error: BaseException) -> traceback.FrameSummary | None:
    """The innermost frame of the model or of a library between it and torch."""
    for current in causes(error):
        frames = _frames(current.__traceback__)
        ours = [f for f in frames if not f.filename.startswith(_SKIPPED)]
        inside = [f for f in ours if _below_export(frames, f)]
        if inside:
            return inside[-1]
    return None


def _frames(trace: TracebackType | None) -> list[traceback.FrameSummary]:
    return list(traceback.extract_tb(trace))


def _below_export(
    frames: list[traceback.FrameSummary], frame: traceback.FrameSummary
) -> bool:
    """Whether `frame` was called by the export and not the other way round."""
    first = next((i for i, f in enumerate(frames) if f.filename.startswith(_TORCH)), 0)
    return frames.index(frame) > first


def trace_error(
    error: BaseException, *, module: str | None, cls: str, mode: str, inputs: str
) -> TraceError:
    """A TraceError for a failed capture in `mode` ('eval' or 'train').

    `module` is the path of the innermost module whose forward was running (None: none
    was) and `inputs` describes the example inputs.
    """
    where = place(module, cls)
    frame = source_frame(error)
    line = ""
    if frame is not None:
        line = f"\n  at {frame.filename}:{frame.lineno} in {frame.name}"
        if frame.line:
            line += f"\n      {frame.line.strip()}"
    if is_data_dependent(error):
        found = _EXPRESSION.search(str(error))
        expression = found.group(1) if found else str(error).splitlines()[0]
        name = expression.split(".")[1] if expression.startswith("aten.") else ""
        if name and name not in _ASKED:
            return TraceError(
                f"{where}: {name} looks at the values of tensors inside of torch, to choose "
                f"its result or the size of it ({mode} mode).{line}\n  Use an operation whose "
                "result has a known size (torch.where, a mask, a loss or factor written out)."
            )
        return TraceError(
            f"control flow of {where} depends on the values of tensors ({mode} mode)."
            f"{line}\n  expression: {expression} (u0, u1: values read from tensors)\n"
            "  Write the branch with torch.where or torch.cond, decide it with a "
            "Python argument, or bound the value with torch._check."
        )
    advice = _advice(error)
    if advice is not None:
        return TraceError(
            f"{where} could not be captured in {mode} mode.{line}\n  {advice}"
        )
    text = str(error).strip() or type(error).__name__
    kept = [part for part in text.splitlines() if part.strip()][:_KEPT_LINES]
    message = "\n    ".join(kept)
    return TraceError(
        f"{where} could not be captured in {mode} mode.{line}\n"
        f"  {type(error).__name__}: {message}\n  inputs: {inputs}\n"
        "  If the model runs on these inputs in torch, the code at that line is not "
        "traceable; otherwise correct the inputs."
    )


# What torch says where it cannot trace, and what is to be done about it.
_ADVICE = (
    (
        ".numpy() is not supported",
        "A tensor leaves torch there (numpy): what numpy computes is not seen. Write it with "
        "torch's functions, or compute it outside and give it as an input.",
    ),
    (
        "FakeTensor.__format__",
        "The number in a tensor is formatted there, and a tracer has none: print outside of "
        "forward, or remove the line.",
    ),
    (
        "fake tensor in the exported program",
        "A tensor comes about there by what torch does not trace (autograd at work, a tensor "
        "kept from an earlier call). Port the module that computes the value, and differentiate "
        "the port (jax.grad, torch.autograd.grad); or give the tensor as an input.",
    ),
    (
        "meta conversion to view functorch",
        "A transform of torch.func cannot be traced there. Port the function that it is applied "
        "to, and transform the port (jax.vmap, jax.grad, torch.func).",
    ),
    (
        "ending unbacked symbols",
        "A size is made there of the values of tensors, inside of an operation of torch "
        "(combinations, nonzero, a mask as an index): compute the indices outside of forward "
        "(itertools, a buffer), or keep the shape with torch.where.",
    ),
    (
        "failed to unpack the object",
        "A size is read from a tensor there (packed sequences are one case): a port has sizes "
        "that do not depend on values. Run on the padded batch with a mask instead.",
    ),
)


def _advice(error: BaseException) -> str | None:
    if isinstance(error, Refused):
        return str(error)
    for current in causes(error):
        for sign, advice in _ADVICE:
            if sign in str(current):
                return advice
    return None


def for_inference(error: IvyportError) -> IvyportError:
    """An error of train mode, with the way out for those who do not train."""
    return type(error)(f"{error}\n  A port for inference alone is made by train=False.")


def place(module: str | None, cls: str) -> str:
    """A module as messages name it; None where no module is known."""
    if module is None:
        return f"the model ({cls})"
    return f"module '{module}' ({cls})" if module else f"the root module ({cls})"


def brief(error: BaseException) -> str:
    """One line about an error, with the source line where it happened."""
    text = str(error).strip().splitlines()
    first = text[0] if text else ""
    frame = source_frame(error)
    place = f" at {frame.filename}:{frame.lineno}" if frame is not None else ""
    return f"{type(error).__name__}{place}: {first}"
