"""A torch module from a factory in the user's own code, with parameters from a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ivyport.core.errors import SourceError, WeightsError
from ivyport.weights.differences import Differences
from ivyport.weights.store import TensorStore
from ivyport.zoo.factory import find_factory, theirs

if TYPE_CHECKING:
    import torch


def build(spec: str, *, seed: int) -> torch.nn.Module:
    """The module that `pkg.module:factory` makes, its random weights drawn from `seed`.

    The factory takes no arguments; a module class is a factory, and a ready module is
    taken as it is. Modules of the working folder are found too. Raises `SourceError`
    where there is no such module or factory, or where it gives something else, and
    `FactoryError` where the factory itself raises.
    """
    import torch

    factory = find_factory(spec)
    torch.manual_seed(seed)
    is_ready = isinstance(factory, torch.nn.Module)
    with theirs(spec):
        made = factory if is_ready or not callable(factory) else factory()
    if not isinstance(made, torch.nn.Module):
        raise SourceError(
            f"{spec} gives {type(made).__name__}, expected a torch.nn.Module or a "
            "function without arguments that returns one."
        )
    return made


def class_name(module: torch.nn.Module) -> str:
    """The name of a module's class as it was written: that of a compiled or scripted one, too."""
    inner = getattr(module, "_orig_mod", module)  # torch.compile
    return str(
        getattr(inner, "original_name", type(inner).__name__)
    )  # torch.jit.script


def load_params(module: torch.nn.Module, path: Path) -> None:
    """Copy the tensors of a safetensors file into `module`, strictly.

    A tied parameter may stand in the file under any of its names. Raises `WeightsError`
    listing every missing, unexpected and mis-shaped tensor; nothing is copied then.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise WeightsError(f"--params {path}: no such file.")
    # Our own reader checks a header first, and says what is wrong in words.
    try:
        TensorStore.open(path).close()
    except WeightsError as error:
        raise WeightsError(f"--params {path} cannot be read: {error}") from error
    try:
        given = load_file(path)
    except SafetensorError as error:
        raise WeightsError(f"--params {path} cannot be read: {error}") from error
    own = module.state_dict(keep_vars=True)
    tied: dict[int, list[str]] = {}
    for name, tensor in own.items():
        tied.setdefault(id(tensor), []).append(name)
    found = Differences()
    for names in tied.values():
        if not any(name in given for name in names):
            found.add("missing from the file", names[0])
    for name, tensor in given.items():
        if name not in own:
            found.add("not in the module", name)
        elif tensor.shape != own[name].shape:
            shapes = f"{tuple(tensor.shape)}, expected {tuple(own[name].shape)}"
            found.add("of another shape", name, shapes)
    found.raise_if_any(f"--params {path} does not fit {type(module).__name__}:")
    with torch.no_grad():
        for name, tensor in given.items():
            own[name].copy_(tensor)
