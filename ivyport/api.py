"""The composition root: every public call, put together from the parts.

Frameworks are imported inside the calls that need them.
"""

from __future__ import annotations

import dataclasses
import json
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import ivyport
from ivyport.core.checks import Check
from ivyport.core.errors import InputError, SourceError, WeightsError
from ivyport.core.ir import Graph
from ivyport.core.report import Report
from ivyport.guard import guarded
from ivyport.porting import (
    Port,
    Progress,
    compile_port,
    current,
    realize,
    tell,
    with_verdict,
)
from ivyport.saving import (
    COMPARED,
    PORT,
    card,
    read_port,
    replace_text,
    staged,
    write_json,
)
from ivyport.sources import Dims, demand_source, open_source
from ivyport.targets import require, resolve_target
from ivyport.weights.mapping import Row, WeightMap

if TYPE_CHECKING:
    import torch
    from flax import nnx

    Ported: TypeAlias = nnx.Module | torch.nn.Module


@dataclasses.dataclass
class PortResult:
    """A port on disk: its folder, its source file, and how it was verified."""

    folder: Path
    source_file: Path
    report: Report | None
    notes: list[str]


#: How much `transpile` compares: True is "outputs", False nothing.
Checked: TypeAlias = Literal["outputs", "full"] | bool

_PORTS: weakref.WeakKeyDictionary[Any, Port] = weakref.WeakKeyDictionary()


@guarded
def trace(
    source: Any,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    params: Any = None,
    state: Any = None,
    rng: Any = None,
    dims: Dims | None = None,
    train: bool = False,
) -> Graph:
    """The framework-neutral graph of a live model on example inputs.

    Args:
        source: a `torch.nn.Module`, a `flax.nnx.Module`, a `flax.linen.Module`, what
            `haiku.transform` or `haiku.transform_with_state` returns, or a function of JAX
            arrays; it is not changed.
        args, kwargs: example inputs; tensors are inputs, everything else is a constant.
        params: the parameters of a haiku function or linen module (or all its variables);
            for a function, the pytree that is its first argument.
        state: haiku's state, or linen's other collections.
        rng: the key (or seed) that a haiku function takes, where it takes one.
        dims: which axes stay symbolic, ``{input: {axis: name or None}}``; by default the
            batch and, for token ids and masks of a torch model, the sequence length.
        train: also capture train mode (attention dropout shows only there).

    Raises:
        InputError: the source is of no kind that can be ported, or its inputs or
            parameters do not fit it.
        TraceError: the model cannot be captured.
        UnsupportedOpsError: operations without a rule, all of them listed.
    """
    opened = open_source(source, args, kwargs, params=params, state=state, rng=rng)
    return opened.capture(dims, train).graph


@guarded
def transpile(
    source: Any,
    to: str,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    params: Any = None,
    state: Any = None,
    rng: Any = None,
    dims: Dims | None = None,
    train: bool = True,
    name: str | None = None,
    verify: Checked = "outputs",
    progress: Progress | None = None,
) -> Any:
    """Port a live model with its weights; see `trace` for the arguments.

    Before it is returned, the port is run once on the example inputs and its outputs are
    compared with the source's. `verify` says how much is compared: ``"outputs"`` (True is
    the same), ``"full"`` for all that `ivyport.verify` compares, False for nothing.

    Returns the target's own kind of object, a `flax.nnx.Module` (``jax``) or a
    `torch.nn.Module` (``torch``) in eval mode, called with the source's argument names and
    returning the source's structure. Call ``.train()`` on it for dropout and batch
    statistics. Its weights are copies: training it leaves the source as it is.

    Raises:
        InputError: unknown target, the source does not run on its example inputs, or as
            `trace` does.
        TraceError, UnsupportedOpsError: as `trace` does.
        ParityError: the port does not compute what its source computes.
        DependencyError: the target's framework is not installed.
    """
    if verify not in (True, False, "outputs", "full"):
        raise InputError(
            f"verify={verify!r} says how much is compared: give 'outputs', 'full' or False"
        )
    target = resolve_target(to)
    require(target)
    opened = open_source(source, args, kwargs, params=params, state=state, rng=rng)
    port, arrays = compile_port(opened, target, dims, train, name, progress)
    backend = realize(target)
    module = backend.compile_source(port.source, name or "model")
    make = backend.factory(module, port.cls, port.config)
    model = backend.fill(make, dict(port.weights.forward(arrays)))
    _PORTS[model] = port
    given = {"params": params, "state": state, "rng": rng}
    if verify == "full":
        report = ivyport.verify(source, model, progress=progress, **given)
        if not report.passed:
            from ivyport.verification import parity_error

            raise parity_error(report)
        port.checked = report
    elif verify:
        _check(source, model, port, given, progress)
    backend.train_modules(model, port.trains, set(port.modules.values()))
    return model


def _check(
    source: Any,
    model: Ported,
    port: Port,
    given: Mapping[str, Any],
    progress: Progress | None,
) -> None:
    """Compare the outputs on the example inputs; what cannot be compared is a note."""
    from ivyport import verification

    tell(progress, "check")
    notes = verification.check(
        source,
        model,
        port.modules,
        port.kwargs,
        args=port.args,
        arguments=port.record["arguments"],
        **given,
        through=port.record.get("rounded"),
    )
    port.notes += notes
    if not any("not compared" in note for note in notes):
        port.checked = port.record["compared"] = COMPARED


@guarded
def save(
    ported: Ported, folder: str | Path, *, progress: Progress | None = None
) -> None:
    """Write a port, with its current weights, as a folder that works without ivyport.

    Raises:
        InputError: `ported` was not made by `transpile` or `load`.
        WeightsError: the disk is full or the weights cannot be stored; nothing is written.
    """
    port = _known(ported)
    arrays = current(port, ported)
    # Tensors that the port does not use are kept, so that all of them can go home.
    arrays |= {name: port.unused[name] for name in port.unused}
    rows = tuple(Row(name, name) for name in arrays if name not in port.unused)
    weights = WeightMap(rows, tuple(port.unused))
    _write(port, Path(folder), arrays, weights, None, progress)


@guarded
def load(folder: str | Path) -> Any:
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
    module = realize(record["target"]).load_source(file, name)
    from ivyport.weights.store import TensorStore

    TensorStore.open(folder).close()  # a damaged file is one clear error
    try:
        model = vars(module)[record["class"]].from_pretrained(folder)
    except (ValueError, KeyError, RuntimeError) as error:
        raise WeightsError(
            f"the weights in {folder} do not fit {record['file']}: {error}. Port the source "
            "again, or put back what was changed"
        ) from error
    model.eval()
    _PORTS[model] = Port(
        target=record["target"],
        source=file.read_text(encoding="utf-8"),
        cls=record["class"],
        config=record["config"],
        config_values=json.loads((folder / "config.json").read_text(encoding="utf-8")),
        weights=WeightMap.from_json(record["weights"]),
        modules=record["modules"],
        notes=record["notes"],
        record=record,
        unused=_unported(folder),
        free={
            i: {int(a): n for a, n in axes.items()}
            for i, axes in record["free"].items()
        },
        checked=record.get("compared"),
    )
    return model


@guarded
def verify(
    source: Any,
    ported: Ported,
    *,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    params: Any = None,
    state: Any = None,
    rng: Any = None,
    second: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Compare a port with its source: outputs, gradients, a train step, other sizes.

    Args:
        source: the model that was ported, with `params`, `state` and `rng` as `trace` takes
            them.
        ported: made by `transpile` or `load`.
        args, kwargs: inputs; by default those that the port was traced with.
        second: inputs of another batch size and length; drawn if not given.

    Raises:
        InputError: no inputs are known for a loaded port, or `ported` is no port.
    """
    from ivyport import verification

    port = _known(ported)
    demand_source(source)
    if not args and kwargs is None:
        args, kwargs = port.args, port.kwargs
    if not args and not kwargs:
        raise InputError("a loaded port does not keep its example inputs: pass kwargs=")
    return verification.run(
        source,
        ported,
        port.weights,
        port.modules,
        dict(kwargs or {}),
        args=args,
        params=params,
        state=state,
        rng=rng,
        second=None if second is None else dict(second),
        free=port.free,
        bounds={k: tuple(v) for k, v in port.record["dims"].items()},
        known=port.notes,
        through=port.record.get("rounded"),
        checks=[Check.from_json(c) for c in port.record.get("checks", ())],
        arguments=port.record.get("arguments"),
        progress=progress,
    )


@guarded
def port(
    source: Any,
    to: str,
    folder: str | Path,
    *,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    params: Any = None,
    state: Any = None,
    rng: Any = None,
    dims: Dims | None = None,
    name: str | None = None,
    origin: Mapping[str, Any] | None = None,
    verify: bool = True,
    progress: Progress | None = None,
) -> PortResult:
    """Port a model to a folder: trace, emit, convert the weights, save, verify.

    What is verified is what was saved: the folder is loaded again by its own code. A port that
    does not hold is written too, with its report, so that it can be looked into. `name` is that
    of the emitted file, ``modeling_<name>.py``.

    Raises:
        InputError: `name` is no Python identifier, or as `transpile` does.
        IvyportError: as `transpile` and `save` do; nothing is written then.
    """
    target = resolve_target(to)
    require(target)
    if name is not None and not name.isidentifier():
        raise InputError(
            f"name={name!r} names the emitted file modeling_<name>.py and its module: give "
            "a Python identifier"
        )
    folder = Path(folder)
    opened = open_source(source, args, kwargs, params=params, state=state, rng=rng)
    made, arrays = compile_port(opened, target, dims, True, name, progress)
    if origin is not None:
        made.record["source"] |= dict(origin)
    _write(made, folder, arrays, made.weights, name, progress)
    file = folder / made.record["file"]
    report = None
    if verify:
        report = ivyport.verify(
            source, load(folder), args=made.args, kwargs=made.kwargs,
            params=params, state=state, rng=rng, progress=progress,
        )  # fmt: skip
        write_json(folder / "parity.json", report.to_json())
        replace_text(folder / "README.md", card(made.record, file.name, report))
        replace_text(file, with_verdict(made.source, report))
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
        if isinstance(port.checked, Report):
            write_json(stage / "parity.json", port.checked.to_json())
        text = card(port.record, port.record["file"], port.checked)
        (stage / "README.md").write_text(text, encoding="utf-8")
