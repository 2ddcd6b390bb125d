"""The composition root: every public call, put together from the parts.

Frameworks are imported inside the calls that need them.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import ivyport
from ivyport.card import card
from ivyport.core import memory
from ivyport.core.checks import Check
from ivyport.core.errors import InputError, SourceError, WeightsError
from ivyport.core.ir import Graph
from ivyport.core.passes.narrow import LOST
from ivyport.core.report import Report
from ivyport.folder import Draft, demand_trust, replacing, steady
from ivyport.folder import remember as remember_emitted
from ivyport.folder.manifest import parsed, weights_files
from ivyport.guard import guarded
from ivyport.home import send_home as send_home
from ivyport.made import PORTS, port_of, port_of_folder, remember
from ivyport.porting import (
    Port,
    Progress,
    compile_port,
    counter,
    current,
    tell,
    with_verdict,
    without_verdict,
)
from ivyport.saving import (
    COMPARED,
    CONFIG,
    bytes_of,
    demand_unchanged,
    file_of,
    open_record,
    weights_digest,
    write_json,
    written_config,
)
from ivyport.sources import Dims, demand_source, open_source
from ivyport.structure import said_trained, with_source_weights
from ivyport.targets import TARGETS, require, resolve_target
from ivyport.weights.mapping import Row, WeightMap

if TYPE_CHECKING:
    import torch
    from flax import nnx

    Ported: TypeAlias = nnx.Module | torch.nn.Module


@dataclasses.dataclass
class PortResult:
    """A port on disk: its folder, its source file, and how it was verified.

    `written` is False where parity does not hold and the port was not kept: the folder is then as
    it was.
    """

    folder: Path
    source_file: Path
    report: Report | None
    notes: list[str]
    written: bool = True


#: How much `transpile` compares: True is "outputs", False nothing.
Checked: TypeAlias = Literal["outputs", "full"] | bool

_PORTS, _known = PORTS, port_of


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
    statistics. It is `(module, variables)` for ``linen`` and `(transformed, params, state)` for
    ``haiku``. Its weights are copies: training it leaves the source as it is.

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
    require(target.extra)
    opened = open_source(source, args, kwargs, params=params, state=state, rng=rng)
    port, arrays = compile_port(opened, target, dims, train, name, progress)
    backend = target.open_live()
    module = backend.compile_source(port.source, name or "model")
    backend.on_save(module, port.record.cls, save)
    make = backend.factory(module, port.record.cls, port.record.config)
    model = backend.fill(make, dict(port.record.weights.forward(arrays)))
    remember(model, port)
    given = {"params": params, "state": state, "rng": rng}
    if verify == "full":
        report = ivyport.verify(source, model, progress=progress, **given)
        if not report.passed:
            from ivyport.verification import parity_error

            raise parity_error(report)
        port.checked = report
    elif verify:
        _check(source, model, port, given, progress)
    backend.train_modules(model, port.trains, set(port.record.modules.values()))
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
        port.record.modules,
        port.kwargs,
        args=port.args,
        arguments=port.record.arguments,
        **given,
        through=port.record.rounded,
        eagerly=LOST in port.record.notes,
    )
    port.update(notes=(*port.record.notes, *notes))
    if not any("not compared" in note for note in notes):
        port.checked = COMPARED
        port.update(compared=COMPARED)


@guarded
def save(
    ported: Ported,
    folder: str | Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write a port, with its current weights, as a folder that works without ivyport.

    The folder is replaced as a whole: whoever reads it, whatever stops this call, finds the old one
    or the new one. What else is kept in it stays. Files under the port's names that ivyport did not
    write, or that were changed since, are replaced with `overwrite` only. `ported` was made by
    `transpile` or `load`, or by the `from_pretrained` of a saved port's own class.

    Raises:
        InputError: nothing is known of `ported`; the folder cannot be written, or holds files of
            the user's under the port's names.
        WeightsError: the disk is full or the weights cannot be stored; nothing is written.
    """
    port = port_of(ported)
    folder = Path(folder)
    file = _file_name(None, folder)
    with replacing(folder, names={file}, overwrite=overwrite) as draft:
        port.update(file=file)
        arrays = current(port, ported)
        # Tensors that the port does not use are kept, so that all of them can go home.
        arrays |= {name: port.unused[name] for name in port.unused}
        rows = tuple(Row(name, name) for name in arrays if name not in port.unused)
        weights = WeightMap(rows, tuple(port.unused))
        _write(port, draft, arrays, weights, progress)
        _commit(port, draft)


@guarded
def load(folder: str | Path, *, trust: bool = False, changed: bool = False) -> Any:
    """The port saved in `folder`, in eval mode; runs the folder's own source file.

    That file runs where this machine's ivyport wrote the folder, or with `trust`. With `changed`,
    weights and configuration may be other ones than those that were saved.

    Raises:
        SourceError: the folder holds no port, or one that is not trusted.
        WeightsError: its weights are damaged, changed, or do not fit.
    """
    folder = Path(folder)
    return steady(folder, lambda: _read(folder, trust, changed))


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
    structure: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Compare a port with its source: outputs, gradients, a train step, other sizes.

    Args:
        source: the model that was ported, with `params`, `state` and `rng` as `trace` takes
            them.
        ported: made by `transpile`, `load` or a saved port's own class.
        args, kwargs: inputs; by default those that the port was traced with.
        second: inputs of another batch size and length; drawn if not given.
        structure: compare the port's code alone, with the source's weights in it.

    Raises:
        InputError: no inputs are known for a loaded port, or `ported` is no port.
    """
    from ivyport import verification

    port = port_of(ported)
    demand_source(source)
    if not args and kwargs is None:
        args, kwargs = port.args, port.kwargs
    if not args and not kwargs:
        raise InputError("a loaded port does not keep its example inputs: pass kwargs=")
    record, notes = port.record, said_trained(ported)
    if structure:
        given = {"params": params, "state": state, "rng": rng}
        opened = open_source(source, tuple(args), kwargs, **given)
        ported, more = with_source_weights(ported, opened)
        notes += more
    found = verification.run(
        source,
        ported,
        record.weights,
        record.modules,
        dict(kwargs or {}),
        args=args,
        params=params,
        state=state,
        rng=rng,
        second=None if second is None else dict(second),
        free=record.free,
        bounds=record.dims,
        known=record.notes,
        through=record.rounded,
        checks=[Check.from_json(c) for c in record.checks],
        arguments=record.arguments,
        progress=progress,
    )
    return dataclasses.replace(found, notes=(*notes, *found.notes))


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
    beside: Sequence[Path] = (),
    verify: bool = True,
    keep: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PortResult:
    """Port a model to a folder: trace, emit, convert the weights, save, verify.

    What is verified is what is saved: it is loaded again by its own code, and put in the folder's
    place afterwards. A port that does not hold is written with `keep` only, and says so. `name` is
    that of the emitted file, ``modeling_<name>.py``; `overwrite` is that of `save`. `beside` are
    files that the folder gets too, such as those of a tokenizer. `progress` is told 'memory', what
    verification needs about and what there is, before it begins.

    Raises:
        InputError: `name` is no Python identifier, the folder cannot be written, or as `transpile`
            does.
        IvyportError: as `transpile` and `save` do; nothing is written then.
    """
    target = resolve_target(to)
    require(target.extra)
    folder = Path(folder)
    file = _file_name(name, folder)
    with replacing(folder, names={file}, overwrite=overwrite) as draft:
        opened = open_source(source, args, kwargs, params=params, state=state, rng=rng)
        draft.demand_space(opened.nbytes)
        made, arrays = compile_port(opened, target, dims, True, name, progress)
        told = {**made.record.source, **(origin or {})}
        made.update(file=file, source=told)
        made.beside = tuple(beside)
        _write(made, draft, arrays, made.record.weights, progress)
        report = None
        if verify:
            _tell_memory(opened.nbytes, progress)
            report = ivyport.verify(
                source, _read(draft.stage, True, True), args=made.args,
                kwargs=made.kwargs, params=params, state=state, rng=rng,
                progress=progress,
            )  # fmt: skip
            write_json(draft.stage / "parity.json", report.to_json())
        written = report is None or report.passed or keep
        if written:
            _commit(made, draft, report)
    return PortResult(folder, folder / file, report, list(made.record.notes), written)


# ---- parts


def _read(folder: Path, trust: bool, changed: bool) -> Any:
    record = open_record(folder)
    target = TARGETS[record.target]
    require(target.extra)
    code = file_of(folder, record)
    demand_trust(folder / record.file, code, record.digest, trust=trust)
    if not changed:
        demand_unchanged(folder, record)
    values = parsed(folder / CONFIG, bytes_of(folder / CONFIG))
    name = f"ivyport_saved_{abs(hash(str(folder.resolve())))}"
    backend = target.open_live()
    module = backend.load_source(folder / record.file, name, code)
    opened = backend.opener(module, record.cls)
    if opened is None:
        raise SourceError(f"{record.file} has no model {record.cls}")
    from ivyport.weights.store import TensorStore

    TensorStore.of_files(folder, weights_files(folder, record.files)).close()
    try:
        model = opened(folder, changed=True)
    except (ValueError, KeyError, RuntimeError) as error:
        raise WeightsError(
            f"{folder} does not fit {record.file}: {error}. Port the source "
            "again, or put back what was changed"
        ) from error
    remember(model, port_of_folder(folder, record, code, values))
    return model


def _file_name(name: str | None, folder: Path) -> str:
    """The name of the emitted file, by default after the folder.

    Raises:
        InputError: `name` is no Python identifier.
    """
    if name is not None and not name.isidentifier():
        raise InputError(
            f"name={name!r} names the emitted file modeling_<name>.py and its module: give "
            "a Python identifier"
        )
    if name is None:
        name = Path(os.path.realpath(folder)).name
        name = name if name.isidentifier() else "model"
    return f"modeling_{name}.py"


def _tell_memory(weights: int, progress: Progress | None) -> None:
    """What verification needs about, and what there is."""
    if progress is not None:
        progress("memory", memory.needed(weights), memory.available())


def _write(
    port: Port,
    draft: Draft,
    arrays: Any,
    weights: WeightMap,
    progress: Progress | None,
) -> None:
    """All files of a port that is not verified."""
    from ivyport.weights.convert import convert

    stage = draft.stage
    convert(arrays, weights, stage, keep_unused=True, progress=counter(progress))
    for file in port.beside:
        shutil.copyfile(file, stage / file.name)
    (stage / port.record.file).write_text(port.source, encoding="utf-8")
    written = written_config(port.config_values, port.record.target)
    write_json(stage / CONFIG, written)
    _describe(port, draft)


def _describe(port: Port, draft: Draft) -> None:
    """Write ``port.json``; the record says then what the folder holds."""
    told = port.record.to_json()
    draft.describe(told)
    port.update(files=told["files"], digest=told["digest"])


def _commit(port: Port, draft: Draft, report: Report | None = None) -> None:
    """Put a port in its folder's place, with what its verification says."""
    file = draft.stage / port.record.file
    weights = weights_digest(port.record)
    ported = port.record.ported_weights or weights
    port.update(ported_weights=ported)
    if ported != weights:
        # Trained since: what was verified is another model.
        port.update(verified=None)
    source = port.source
    if report is not None:
        port.update(verified=report.passed)
        source = with_verdict(source, report)
    elif port.record.verified is None:
        source = without_verdict(source)
    file.write_text(source, encoding="utf-8")
    known = report or (port.checked if ported == weights else None)
    if isinstance(known, Report):
        write_json(draft.stage / "parity.json", known.to_json())
    text = card(port.record, known)
    (draft.stage / "README.md").write_bytes(
        text.encode("utf-8", errors="backslashreplace")
    )
    _describe(port, draft)
    code = source.encode("utf-8")
    remember_emitted(code, port.record.digest)
    draft.commit()
