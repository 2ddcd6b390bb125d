"""The composition root: every public call, put together from the parts.

Frameworks are imported inside the calls that need them.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import sys
import textwrap
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ivyport
from ivyport.core.errors import InputError, SourceError
from ivyport.core.ir import Graph
from ivyport.core.report import Report
from ivyport.saving import (
    FORMAT,
    PORT,
    card,
    read_port,
    replace_text,
    staged,
    write_json,
)
from ivyport.targets import require, resolve_target
from ivyport.weights.mapping import Row, WeightMap

if TYPE_CHECKING:
    import torch
    from flax import nnx

    from ivyport.frontends.torch.frontend import Traced
    from ivyport.modules.file import Emitted

Progress = Callable[..., None]
Dims = Mapping[str, Mapping[int, str | None]]
VERSIONED = ("torch", "transformers", "jax", "flax", "numpy", "safetensors")


@dataclasses.dataclass
class Port:
    """What is known of a port beside the live module.

    `inputs` are the example inputs by name; `free` the symbolic axes of each. `record` is what
    ``port.json`` will say.
    """

    source: str
    cls: str
    config: str | None
    config_values: dict[str, Any]
    weights: WeightMap
    modules: dict[str, str]
    notes: list[str]
    record: dict[str, Any]
    inputs: dict[str, Any]
    free: dict[str, dict[int, str]]
    unused: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class PortResult:
    """A port on disk: its folder, its source file, and how it was verified."""

    folder: Path
    source_file: Path
    report: Report | None
    notes: list[str]


_PORTS: weakref.WeakKeyDictionary[Any, Port] = weakref.WeakKeyDictionary()


def trace(
    source: torch.nn.Module,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dims: Dims | None = None,
    train: bool = False,
) -> Graph:
    """The framework-neutral graph of a live model on example inputs.

    Args:
        source: a `torch.nn.Module` with its weights; it is not changed.
        args, kwargs: example inputs; tensors are inputs, everything else is a constant.
        dims: which axes stay symbolic, ``{input: {axis: name or None}}``; by default the
            batch and, for token ids and masks, the sequence length.
        train: also capture train mode (attention dropout shows only there).

    Raises:
        InputError: the inputs do not fit the model's signature.
        TraceError: the model cannot be captured.
        UnsupportedOpsError: operations without a rule, all of them listed.
    """
    return _trace(source, args, kwargs, dims, train).graph


def transpile(
    source: torch.nn.Module,
    to: str,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dims: Dims | None = None,
    train: bool = True,
    name: str | None = None,
    progress: Progress | None = None,
) -> nnx.Module:
    """Port a live model with its weights; see `trace` for the arguments.

    Returns the target's own kind of object, a `flax.nnx.Module` in eval mode, called with the
    source's argument names and returning the source's structure. Call ``.train()`` on it for
    dropout and batch statistics.

    Raises:
        InputError: unknown target, or as `trace` does.
        TraceError, UnsupportedOpsError: as `trace` does.
        DependencyError: the target's framework is not installed.
    """
    require("torch", resolve_target(to))
    from ivyport.frontends.torch.tensors import Arrays

    port, traced = _compile(source, args, kwargs, dims, train, name, progress)
    module = _module(port, name or "model")
    arrays = dict(port.weights.forward(Arrays(traced.tensors)))
    port.unused = Arrays(port.unused, wide=port.unused)
    from ivyport.backends.jax import realize

    model = realize.fill(realize.factory(module, port.cls, port.config), arrays)
    _PORTS[model] = port
    return model


def save(
    ported: nnx.Module, folder: str | Path, *, progress: Progress | None = None
) -> None:
    """Write a port, with its current weights, as a folder that works without ivyport.

    Raises:
        InputError: `ported` was not made by `transpile` or `load`.
        WeightsError: the disk is full or the weights cannot be stored; nothing is written.
    """
    import numpy as np
    from flax import nnx as nnx_

    port = _known(ported)
    state = nnx_.split(ported, nnx_.RngState, ...)[2]
    flat = nnx_.to_flat_state(state)
    arrays = {".".join(map(str, path)): np.asarray(v[...]) for path, v in flat}
    # Tensors that the port does not use are kept, so that all of them can go home.
    arrays |= {name: port.unused[name] for name in port.unused}
    rows = tuple(Row(name, name) for name in arrays if name not in port.unused)
    _write(
        port, Path(folder), arrays, WeightMap(rows, tuple(port.unused)), None, progress
    )


def load(folder: str | Path) -> nnx.Module:
    """The port saved in `folder`, in eval mode; runs the folder's own source file.

    Raises:
        SourceError: the folder holds no port.
        WeightsError: its weights are damaged or do not fit.
    """
    folder = Path(folder)
    record = read_port(folder)
    require(record["target"])
    file = folder / record["file"]
    if not file.is_file():
        raise SourceError(f"{folder}: the emitted source {record['file']} is missing")
    name = f"ivyport_saved_{abs(hash(str(folder.resolve())))}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    from ivyport.weights.store import TensorStore

    TensorStore.open(folder).close()  # a damaged file is one clear error
    model = vars(module)[record["class"]].from_pretrained(folder)
    model.eval()
    _PORTS[model] = Port(
        source=file.read_text(encoding="utf-8"),
        cls=record["class"],
        config=record["config"],
        config_values=json.loads((folder / "config.json").read_text(encoding="utf-8")),
        weights=WeightMap.from_json(record["weights"]),
        modules=record["modules"],
        notes=record["notes"],
        record=record,
        inputs={},
        unused=_unported(folder),
        free={
            i: {int(a): n for a, n in axes.items()}
            for i, axes in record["free"].items()
        },
    )
    return model


def verify(
    source: torch.nn.Module,
    ported: nnx.Module,
    *,
    kwargs: Mapping[str, Any] | None = None,
    second: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Compare a port with its source: outputs, gradients, a train step, other sizes.

    Args:
        source: the model that was ported.
        ported: made by `transpile` or `load`.
        kwargs: inputs; by default those that the port was traced with.
        second: inputs of another batch size and length; drawn if not given.

    Raises:
        InputError: no inputs are known for a loaded port, or `ported` is no port.
    """
    from ivyport import verification

    port = _known(ported)
    inputs = dict(kwargs) if kwargs is not None else port.inputs
    if not inputs:
        raise InputError("a loaded port does not keep its example inputs: pass kwargs=")
    return verification.run(
        source,
        ported,
        port.weights,
        port.modules,
        inputs,
        second=None if second is None else dict(second),
        free=port.free,
        bounds={k: tuple(v) for k, v in port.record["dims"].items()},
        progress=progress,
    )


def port(
    source: torch.nn.Module,
    to: str,
    folder: str | Path,
    *,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    dims: Dims | None = None,
    name: str | None = None,
    origin: Mapping[str, Any] | None = None,
    verify: bool = True,
    progress: Progress | None = None,
) -> PortResult:
    """Port a model to a folder: trace, emit, convert the weights, save, verify.

    What is verified is what was saved: the folder is loaded again by its own code. A port that
    does not hold is written too, with its report, so that it can be looked into.

    Raises:
        IvyportError: as `transpile` and `save` do; nothing is written then.
    """
    require("torch", resolve_target(to))
    folder = Path(folder)
    from ivyport.frontends.torch.tensors import Arrays

    made, traced = _compile(source, args, kwargs, dims, verify or True, name, progress)
    if origin is not None:
        made.record["source"] |= dict(origin)
    arrays = Arrays(traced.tensors, wide=made.unused)
    _write(made, folder, arrays, made.weights, name, progress)
    file = folder / made.record["file"]
    report = None
    if verify:
        ported = load(folder)
        _PORTS[ported].inputs = made.inputs
        report = ivyport.verify(source, ported, progress=progress)
        write_json(folder / "parity.json", report.to_json())
        replace_text(folder / "README.md", card(made.record, file.name, report))
        replace_text(file, _with_verdict(made.source, report))
    return PortResult(folder, file, report, made.notes)


# ---- parts


def _unported(folder: Path) -> dict[str, Any]:
    """Source tensors that a saved port keeps without using them."""
    from ivyport.weights.convert import UNPORTED
    from ivyport.weights.store import TensorStore

    if not (folder / UNPORTED).is_file():
        return {}
    store = TensorStore.open(folder / UNPORTED)
    return {name: store.read(name) for name in store.names()}


def _tell(progress: Progress | None, stage: str) -> None:
    if progress is not None:
        progress(stage)


def _trace(
    source: Any, args: Any, kwargs: Any, dims: Dims | None, train: bool
) -> Traced:
    import torch

    if not isinstance(source, torch.nn.Module):
        raise InputError(
            f"the source is {type(source).__name__}; this version ports live instances of "
            "torch.nn.Module"
        )
    from ivyport.frontends.torch.frontend import to_graph

    return to_graph(source, tuple(args), kwargs, dims=dims, train=train)


def _compile(
    source: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None,
    dims: Dims | None,
    train: bool,
    name: str | None,
    progress: Progress | None,
) -> tuple[Port, Traced]:
    from ivyport.core.passes.pipeline import for_target

    _tell(progress, "trace")
    traced = _trace(source, args, kwargs, dims, train)
    graph = traced.graph
    _tell(progress, "lower")
    notes = [*traced.notes, *for_target(graph, "jax")]
    _tell(progress, "emit")
    from ivyport.modules.file import emit

    values = _config_values(source)
    emitted = emit(graph, values, _docstring(source, graph))
    rows = _settled(emitted, name or "model")
    mapped = {n for row in rows for n in (row.source, *row.aliases)}
    unused = {n: t for n, t in _state(source).items() if n not in mapped}
    if unused:
        notes.append(
            f"{len(unused)} tensors of the source take no part in the traced computation and "
            f"are kept aside ({', '.join(sorted(unused)[:3])}{', ...' if len(unused) > 3 else ''})"
        )
        traced.tensors.update(unused)
    # Buffers that became expressions (ranges, zeros) have no place in the port.
    kept = {*mapped, *unused}
    traced.tensors = {n: t for n, t in traced.tensors.items() if n in kept}
    weights = WeightMap(tuple(rows), tuple(unused))
    made = Port(
        emitted.source, emitted.cls, emitted.config, values, weights, emitted.modules, notes,
        {}, _named_inputs(source, args, kwargs), _free(graph), unused,
    )  # fmt: skip
    made.record = _record(source, graph, made, name)
    return made, traced


def _settled(emitted: Emitted, name: str) -> list[Row]:
    from ivyport.backends.jax import realize

    module = realize.compile_source(emitted.source, name)
    make = realize.factory(module, emitted.cls, emitted.config)
    names = realize.settle_names([r.target for r in emitted.rows], make)
    return [dataclasses.replace(row, target=names[row.target]) for row in emitted.rows]


def _module(port: Port, name: str) -> Any:
    from ivyport.backends.jax import realize

    return realize.compile_source(port.source, name)


def _state(source: torch.nn.Module) -> dict[str, Any]:
    """Tensors of the source's checkpoint, each tied one once."""
    seen: dict[int, str] = {}
    result = {}
    for key, value in source.state_dict(keep_vars=True).items():
        if id(value) not in seen:
            seen[id(value)] = key
            result[key] = value
    return result


def _config_values(source: torch.nn.Module) -> dict[str, Any]:
    """A Hugging Face configuration as JSON data, {} for models without one."""
    config = vars(source).get("config")
    to_dict = getattr(config, "to_dict", None)
    if to_dict is None:
        return {}
    values = {}
    for key, value in to_dict().items():
        try:
            json.dumps(value)
        except TypeError:
            continue
        values[str(key)] = value
    return values


def _named_inputs(source: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    from ivyport.frontends.torch.trace import bind_inputs

    return bind_inputs(source, args, kwargs or {}).arguments


def _free(graph: Graph) -> dict[str, dict[int, str]]:
    from ivyport.core.dims import as_symbol

    return {
        str(v.name): {a: s for a, d in enumerate(v.type.shape) if (s := as_symbol(d))}
        for v in graph.inputs
    }


def _docstring(source: Any, graph: Graph) -> str:
    cls = type(source).__name__
    packages = [type(source).__module__.partition(".")[0], "torch"]
    versions = [
        f"{p} {importlib.metadata.version(p)}"
        for p in dict.fromkeys(packages)
        if p in VERSIONED
    ]
    inputs = ", ".join(
        f"{v.name} {v.type.dtype} {_shape(v.type)}" for v in graph.inputs
    )
    entries = [
        _entry("source", f"{type(source).__module__}.{cls}"),
        _entry("versions", ", ".join(versions)),
        _entry("inputs", inputs),
    ]
    title = f"{cls} for Flax NNX, ported from PyTorch by ivyport {ivyport.__version__}."
    return "\n".join([title, "", *entries, ""])


def _entry(key: str, text: str) -> str:
    """A line of the docstring, wrapped under its key."""
    return textwrap.fill(
        text,
        88,
        initial_indent=f"{key:<10}",
        subsequent_indent=" " * 10,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _shape(type_: Any) -> str:
    from ivyport.modules.body import SYMBOL_NAMES

    names = [SYMBOL_NAMES.get(str(d), str(d)) for d in type_.shape]
    return f"({', '.join(names)}{',' if len(names) == 1 else ''})"


def _with_verdict(source: str, report: Report) -> str:
    """The emitted file with a line in its docstring on how it was verified."""
    worst = max((r.max_rel for r in report.rows if r.kind == "output"), default=0.0)
    verdict = "verified " if report.passed else "NOT EQUAL"
    line = f"{verdict} outputs {worst:.1e} (relative, {report.precision})\n"
    head, mark, rest = source.partition("\ninputs    ")
    return f"{head}\n{line}{mark[1:]}{rest}"


def _record(source: Any, graph: Graph, made: Port, name: str | None) -> dict[str, Any]:
    versions = {
        p: importlib.metadata.version(p)
        for p in VERSIONED
        if importlib.util.find_spec(p)
    }
    return {
        "format": FORMAT,
        "ivyport": ivyport.__version__,
        "target": "jax",
        "file": f"modeling_{name or 'model'}.py",
        "class": made.cls,
        "config": made.config,
        "source": {
            "framework": f"torch {versions.get('torch')}",
            "name": f"{type(source).__module__}.{type(source).__qualname__}",
        },
        "versions": versions,
        "inputs": [
            {"name": v.name, "dtype": v.type.dtype, "shape": _shape(v.type)}
            for v in graph.inputs
        ],
        "free": {i: {str(a): n for a, n in x.items()} for i, x in made.free.items()},
        "dims": {k: list(v) for k, v in graph.dims.items()},
        "modules": made.modules,
        "notes": made.notes,
        "weights": made.weights.to_json(),
    }


def _known(ported: Any) -> Port:
    try:
        return _PORTS[ported]
    except (KeyError, TypeError):
        raise InputError(
            f"this {type(ported).__name__} was not made by ivyport.transpile or ivyport.load"
        ) from None


def _write(
    port: Port,
    folder: Path,
    arrays: Any,
    weights: WeightMap,
    name: str | None,
    progress: Progress | None,
) -> None:
    from ivyport.weights.convert import convert

    done = 0

    def count(written: int) -> None:
        nonlocal done
        done += written
        if progress is not None:
            progress("weights", done, None)

    if name is None:
        name = folder.resolve().name
        name = name if name.isidentifier() else "model"
        port.record["file"] = f"modeling_{name}.py"
    with staged(folder) as stage:
        convert(arrays, weights, stage, keep_unused=True, progress=count)
        (stage / port.record["file"]).write_text(port.source, encoding="utf-8")
        write_json(stage / "config.json", port.config_values)
        write_json(stage / PORT, port.record)
        text = card(port.record, port.record["file"], None)
        (stage / "README.md").write_text(text, encoding="utf-8")
