"""What users hand over beside a plain module: unwrapped where a module is inside, else refused by
name, with what to pass instead.

Sources: https://docs.pytorch.org/docs/stable/fx.html,
https://docs.pytorch.org/docs/stable/generated/torch.compile.html,
https://docs.pytorch.org/docs/stable/export.html.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from ivyport.core.errors import InputError
from ivyport.frontends.nested import qualified_name

_SHOWN = 3
# Wrappers that compute what the module inside of them does, by the attribute that holds it.
_WRAPPERS: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.DataParallel, "module"),
    (nn.parallel.DistributedDataParallel, "module"),
    (torch._dynamo.OptimizedModule, "_orig_mod"),
)
_QUANTIZED = ("torch.ao.nn.", "torch.nn.quantized", "torch.nn.intrinsic.quantized")
_FLOAT = (
    "port the float model that it was made from, and quantise the port with the tools of its "
    "own framework"
)


def unwrapped(source: nn.Module) -> nn.Module:
    """The module that computes: inside of `torch.compile` and data parallel, and as a plain
    module for an `fx.GraphModule` (torch.export runs a GraphModule node by node, without its
    `forward` and its hooks)."""
    for wrapper, name in _WRAPPERS:
        if isinstance(source, wrapper):
            return unwrapped(getattr(source, name))
    if isinstance(source, torch.fx.GraphModule) and not _is_exported(source):
        return _plain(source)
    return source


def _plain(graph_module: torch.fx.GraphModule) -> nn.Module:
    """A module with the same generated `forward` and the same children and tensors."""
    cls = type(graph_module)
    body = {"forward": cls.forward, "__module__": cls.__module__, "__doc__": None}
    made = nn.Module.__new__(type(cls.__name__, (nn.Module,), body))
    vars(made).update(vars(graph_module))
    return made


def _is_exported(module: nn.Module) -> bool:
    """Whether it is what `ExportedProgram.module()` makes: it has a `train` of its own."""
    return isinstance(module, torch.fx.GraphModule) and "train" in vars(module)


def demand_module(model: nn.Module) -> None:
    """Refuse a module that cannot be captured whatever the inputs are.

    Raises:
        InputError: TorchScript, an exported program, quantised layers, weights that are not
            initialised, sparse or on several devices, a module without `forward`.
    """
    name = type(model).__name__
    if _is_exported(model):
        raise InputError(_exported("the module of an ExportedProgram"))
    for path, module in model.named_modules():
        where = f"module '{path}'" if path else "the source"
        kind = qualified_name(type(module))
        if isinstance(module, torch.jit.ScriptModule):
            raise InputError(_scripted(where, module))
        if _is_quantised(module):
            raise InputError(f"{where} ({kind}) is quantised: {_FLOAT}")
    if model.forward.__name__ == "_forward_unimplemented":
        raise InputError(
            f"{name} has no forward: it holds modules and computes nothing. Pass a module that "
            "calls them, nn.Sequential(*modules) for instance"
        )
    _demand_tensors(model)


def _is_quantised(module: nn.Module) -> bool:
    kind = type(module).__module__
    return (kind.startswith(_QUANTIZED) and ".qat" not in kind) or isinstance(
        vars(module).get("_packed_params"), torch.ScriptObject
    )


def _demand_tensors(model: nn.Module) -> None:
    named = [*model.named_parameters(), *model.named_buffers()]
    lazy = nn.parameter.is_lazy
    empty = [n for n, t in named if lazy(t)]
    if empty:
        raise InputError(
            f"{_listed(empty)} of {type(model).__name__} are not initialised yet: call the model "
            "once on the example inputs, then port it"
        )
    sparse = [n for n, t in named if t.layout is not torch.strided]
    if sparse:
        raise InputError(
            f"{_listed(sparse)} of {type(model).__name__} are sparse: make them dense "
            "(tensor.to_dense()) before the port"
        )
    kinds = [n for n, t in named if t.is_quantized]
    if kinds:
        raise InputError(f"{_listed(kinds)} are quantised: {_FLOAT}")


def demand_inputs(model: nn.Module, leaves: Mapping[str, torch.Tensor]) -> None:
    """Refuse tensors that no port has: nested and sparse ones, quantised ones, several devices.

    Raises:
        InputError: naming the input, and how to give it.
    """
    for name, tensor in leaves.items():
        if tensor.is_nested:
            raise InputError(
                f"input '{name}' is a nested tensor: give a padded one "
                "(torch.nested.to_padded_tensor) and a mask"
            )
        if tensor.layout is not torch.strided:
            raise InputError(
                f"input '{name}' is sparse ({tensor.layout}): give {name}.to_dense()"
            )
        if tensor.is_quantized:
            raise InputError(f"input '{name}' is quantised: give {name}.dequantize()")
    _demand_device(model, leaves)


def _demand_device(model: nn.Module, leaves: Mapping[str, torch.Tensor]) -> None:
    """Weights on the meta device beside others are no other device: a trace reads no numbers."""
    weights = dict(model.named_parameters())
    missing = [name for name, tensor in weights.items() if tensor.is_meta]
    if missing and len(missing) < len(weights):
        raise InputError(
            f"{len(missing)} of {len(weights)} weights of {type(model).__name__} are on the meta "
            f"device ({_listed(missing)}), the others hold numbers: load the rest too "
            "(model.load_state_dict(state, assign=True)), or move all of them there, "
            "model.to('meta')"
        )
    held: dict[str, list[str]] = {}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.dim() or tensor.is_meta:
            held.setdefault(str(tensor.device), []).append(name)
    given: dict[str, list[str]] = {}
    for name, tensor in leaves.items():
        given.setdefault(str(tensor.device), []).append(name)
    numbers = {*held, *given} - {"meta"}
    empty = "meta" in given and "meta" not in held and (held or len(given) > 1)
    if len(numbers) < 2 and not empty:
        return
    places = [f"{device}: {_listed(names)}" for device, names in held.items()]
    places += [f"{device}: input {_listed(names)}" for device, names in given.items()]
    advice = f"move all of them to one, model.to({min(numbers)!r})"
    if empty:
        advice = "give inputs with numbers, such as torch.zeros(shape)"
    raise InputError(
        f"{type(model).__name__} and its inputs are on several devices "
        f"({'; '.join(places)}): {advice}"
    )


def placed(
    model: nn.Module, leaves: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The inputs where the weights are, if those are all on the meta device.

    A model on the meta device mixes with no numbers: a graph needs shapes and dtypes alone.
    """
    weights = [*model.parameters()] or [*model.buffers()]
    if not weights or not all(tensor.is_meta for tensor in weights):
        return dict(leaves)
    return {name: tensor.to("meta") for name, tensor in leaves.items()}


def demand_numbers(tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Refuse weights without numbers, where a port wants to copy them.

    Raises:
        InputError: naming those on the meta device.
    """
    empty = [name for name, tensor in tensors if tensor.is_meta]
    if empty:
        raise InputError(
            f"{_listed(empty)} are on the meta device and hold no numbers: load the weights "
            "(model.load_state_dict(state, assign=True)); ivyport.trace needs none"
        )


# ---- sources that are no modules


def refusal(source: Any) -> str | None:
    """Why an object of torch that is no module cannot be ported, and what to pass instead.

    None: it is none of torch's, as far as can be told.
    """
    if isinstance(source, torch.export.ExportedProgram):
        return _exported("an ExportedProgram")
    if isinstance(source, torch.jit.ScriptFunction):
        return (
            "the source is a TorchScript function, which holds no Python code. Put the function "
            "that it was made from into the forward of a torch.nn.Module, and pass that"
        )
    if isinstance(source, torch.Tensor):
        return "the source is a tensor: pass the torch.nn.Module that computes it"
    if isinstance(source, type) and issubclass(source, nn.Module):
        return (
            f"the source is the class {source.__name__}, not an instance: pass a module with its "
            f"weights, {source.__name__}({_arguments(source)})"
        )
    owner = getattr(source, "__self__", None)
    if isinstance(owner, nn.Module):
        return _method(source, owner)
    if isinstance(source, Mapping):
        return _mapping(source)
    if isinstance(source, list | tuple) and any(
        isinstance(x, nn.Module) for x in source
    ):
        return (
            f"the source is a {type(source).__name__} of modules: pass one module, "
            "torch.nn.Sequential(*modules) where each takes what the one before returns"
        )
    held = [n for n, x in _attributes(source) if isinstance(x, nn.Module)]
    if held:
        name = type(source).__name__
        return (
            f"the source is a {name}, which is no torch.nn.Module and holds some: pass the one "
            f"that computes, such as .{held[0]}"
        )
    return None


def _attributes(source: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(source, "__dict__") and not isinstance(source, type):
        yield from vars(source).items()


def _method(source: Any, owner: nn.Module) -> str:
    name, cls = source.__name__, type(owner).__name__
    if name in ("forward", "__call__"):
        return (
            f"the source is the method {cls}.{name}: pass the module itself, which holds its "
            "weights"
        )
    return (
        f"the source is the method {cls}.{name}, and a module is ported by its forward. Pass a "
        f"module that holds this one and calls it: class Port(torch.nn.Module) with "
        f"self.model = model and a forward that returns self.model.{name}(...)"
    )


def _mapping(source: Mapping[Any, Any]) -> str | None:
    tensors = [k for k, v in source.items() if isinstance(v, torch.Tensor)]
    inner = [k for k, v in source.items() if isinstance(v, Mapping | nn.Module)]
    if not tensors and not inner:
        return None
    modules = [k for k in inner if isinstance(source[k], nn.Module)]
    if modules:
        return (
            f"the source is a {type(source).__name__} that holds modules: pass one of them, "
            f"source[{modules[0]!r}] for instance"
        )
    what = "a state dict" if tensors else "a checkpoint"
    return (
        f"the source is a {type(source).__name__} of tensors, {what}: weights alone, which do not "
        "say what is computed. Build the model, model.load_state_dict(source), and pass the model"
    )


def _exported(what: str) -> str:
    return (
        f"the source is {what}: operations without the modules that they came from. Pass the "
        "torch.nn.Module that was exported; its weights are in the program "
        "(model.load_state_dict(program.state_dict))"
    )


def _scripted(where: str, module: torch.jit.ScriptModule) -> str:
    name = getattr(module, "original_name", None) or type(module).__name__
    traced = isinstance(module, torch.jit.TopLevelTracedModule)
    how = "traced by torch.jit.trace" if traced else "TorchScript (torch.jit)"
    return (
        f"{where} ({name}) is {how}, and holds no Python code. Pass the torch.nn.Module that it "
        f"was made from; its weights load into that (model.load_state_dict(source.state_dict()))"
    )


def _arguments(cls: type) -> str:
    try:
        return "..." if inspect.signature(cls).parameters else ""
    except (TypeError, ValueError):
        return "..."


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


__all__ = [
    "demand_inputs",
    "demand_module",
    "demand_numbers",
    "placed",
    "refusal",
    "unwrapped",
]
