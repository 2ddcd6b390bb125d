"""One port in the making: from an opened source to emitted code, weight map and record."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import re
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import ivyport
from ivyport.core.arguments import labels, shapes, to_json
from ivyport.core.dims import as_symbol
from ivyport.core.errors import InputError
from ivyport.core.ir import Graph
from ivyport.core.report import Report
from ivyport.core.rounding import roundings
from ivyport.core.shown import listed
from ivyport.core.tables import table_sizes
from ivyport.record import InputRecord, PortRecord
from ivyport.saving import built_in, written_config
from ivyport.sources import KINDS, Captured, Dims, Source
from ivyport.targets import TARGETS, Target
from ivyport.weights.checksums import checksums
from ivyport.weights.mapping import Row, WeightMap

if TYPE_CHECKING:
    from ivyport.modules.file import Emitted

Progress = Callable[..., None]
# Packages by the name of their distribution, and the module that tells whether they are there.
VERSIONED = {
    "torch": "torch",
    "transformers": "transformers",
    "jax": "jax",
    "flax": "flax",
    "dm-haiku": "haiku",
    "numpy": "numpy",
    "safetensors": "safetensors",
}
COUNTER = "num_batches_tracked"  # of torch's batch norm; nothing depends on it


@dataclasses.dataclass
class Port:
    """What is known of a port beside the live module.

    Attributes:
        record: what ``port.json`` says.
        source: the text of the emitted file.
        config_values: the source's configuration.
        args, kwargs: the example inputs.
        unused: source tensors that the port keeps without using them.
        trains: the modules, by their paths in the port, that start in train mode.
        beside: files that its folder gets too.
        checked: what was compared when it was made: a report, or the same in words.
    """

    record: PortRecord
    source: str
    config_values: dict[str, Any]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)
    unused: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    trains: tuple[str, ...] = ()
    beside: tuple[Path, ...] = ()
    checked: Report | str | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What had to be given up, as the record says it."""
        return self.record.notes

    @property
    def weights(self) -> WeightMap:
        """How its tensors are made of the source's, as the record says it."""
        return self.record.weights

    def update(self, **changes: Any) -> None:
        """Say something else in the record."""
        self.record = dataclasses.replace(self.record, **changes)


def compile_port(
    source: Source,
    target: Target,
    dims: Dims | None,
    train: bool,
    name: str | None,
    progress: Progress | None,
) -> tuple[Port, Mapping[str, Any]]:
    """Trace, run the passes, emit; the port and the arrays that its weight map reads.

    Raises:
        InputError, TraceError, UnsupportedOpsError: as `ivyport.trace` does.
    """
    from ivyport.core.passes.pipeline import prepare
    from ivyport.modules.file import emit

    tell(progress, "trace")
    captured = source.capture(dims, train and target.policy.trains)
    graph = captured.graph
    _demand_fits(captured, target)
    tell(progress, "lower")
    notes = [*captured.notes, *prepare(graph, target.policy)]
    tell(progress, "emit")
    values = source.config()
    narrow = target.policy.narrow
    buffers = {p.source for p in graph.params.values() if p.kind != "parameter"}
    held = {n: t for n, t in captured.tensors.items() if n in buffers or _has_values(t)}
    emitted = emit(
        graph, target.open_form(), values, _docstring(source, target, graph),
        tensors=source.arrays(held, narrow=narrow), starts=captured.starts,
    )  # fmt: skip
    rows = settled(emitted, captured, target, name or "model")
    tensors, unused = _kept(captured, rows)
    if unused:
        more = f" and {len(unused) - 3} more" if len(unused) > 3 else ""
        notes.append(
            "Kept aside, for the traced computation does not use them: "
            f"{', '.join(sorted(unused)[:3])}{more}."
        )
    weights = WeightMap(tuple(rows), tuple(unused))
    arrays = source.arrays(tensors, narrow=narrow, wide=unused)
    notes += not_finite(rows, arrays)
    trains, odd = other_modes(captured.trains, emitted.modules)
    notes += [*odd, *_built_in(graph, captured.kwargs)]
    record = PortRecord(
        ivyport=ivyport.__version__,
        target=target.name,
        file=f"modeling_{name or 'model'}.py",
        cls=emitted.cls,
        config=emitted.config,
        weights=weights,
        modules=emitted.modules,
        notes=tuple(notes),
        built_in=built_in(written_config(values, target.name), emitted.fields),
        as_ported=checksums(weights.forward(arrays)),
        **_told(source, graph, captured),
    )
    kept = source.arrays(unused, narrow=False)
    args, kwargs = captured.args, captured.kwargs
    return Port(record, emitted.source, values, args, kwargs, kept, trains), arrays


def _kept(
    captured: Captured, rows: Collection[Row]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tensors that a port gets, and those among them that it does not use.

    Buffers that became expressions (ranges, zeros) have no place in it.
    """
    mapped = {n for row in rows for n in (row.source, *row.aliases)}
    unused = {n: t for n, t in captured.state.items() if n not in mapped}
    tensors = {n: t for n, t in captured.tensors.items() if n in mapped} | unused
    missing = mapped - tensors.keys()
    tensors |= {n: captured.state[n] for n in missing if n in captured.state}
    return tensors, unused


def _demand_fits(captured: Captured, target: Target) -> None:
    """Refuse what a target's models cannot be: as they are called, and in which mode.

    Raises:
        InputError: an argument has a name that a call has for itself, or modules of a source in
            eval mode are in train mode, where the target has none.
    """
    _demand_names(captured.graph, target)
    if target.policy.trains:
        return
    trains = captured.trains
    odd = [path for path, mode in trains.items() if mode]
    if odd and not trains.get("", len(odd) == len(trains)):
        raise InputError(
            f"{listed(odd)} of the source, which is in eval mode, in train mode: a port to "
            f"{target.title} computes eval mode alone. Call .eval() on the whole source"
        )


def _demand_names(graph: Graph, target: Target) -> None:
    """Refuse arguments whose names the target's way to call a model has for itself.

    Raises:
        InputError: naming them.
    """
    taken = target.open_form().refused
    names = [a.name for a in graph.signature() if a.name in taken]
    if names:
        raise InputError(
            f"the model has an argument {', '.join(names)}, and a call of a port to "
            f"{target.title} takes one of that name for itself: port to jax (NNX), or rename it"
        )


def not_finite(rows: Collection[Row], arrays: Mapping[str, Any]) -> list[str]:
    """A note of the weights that hold NaN or infinity; a buffer may hold infinity (masks)."""
    found = []
    for row in rows:
        name = next((n for n in (row.source, *row.aliases) if n in arrays), None)
        if name is None or name in found:
            continue
        array = np.asarray(arrays[name])
        if array.dtype.kind in "biuSUO":
            continue
        wrong = np.isnan if row.kind == "buffer" else _is_not_finite
        # TypeError: a dtype that has no such numbers.
        with contextlib.suppress(TypeError):
            if any(wrong(part).any() for part in _parts(array)):
                found.append(name)
    if not found:
        return []
    return [
        f"NaN or infinity is in {len(found)} of the source's weights: {listed(found)}. "
        "What is computed from them is NaN in the source and in the port."
    ]


def _is_not_finite(array: np.ndarray) -> np.ndarray:
    return ~np.isfinite(array)


def _parts(array: np.ndarray) -> Iterator[np.ndarray]:
    """An array in pieces, so that what is asked of it takes little memory."""
    flat = array.reshape(-1) if array.flags.c_contiguous else array.ravel()
    for start in range(0, flat.size, 2**22):
        yield flat[start : start + 2**22]


def _has_values(tensor: Any) -> bool:
    """Whether an array holds numbers and no shape alone."""
    return hasattr(tensor, "__array__") and not getattr(tensor, "is_meta", False)


def other_modes(
    trains: Mapping[str, bool], modules: Mapping[str, str]
) -> tuple[tuple[str, ...], list[str]]:
    """Modules that were left in another mode than the model, and a note about them.

    The port starts in eval mode, with the modules in train mode that the source has so.
    """
    count = sum(trains.values())
    whole = trains.get("", 2 * count > len(trains))
    odd = [
        modules[path]
        for path, mode in trains.items()
        if mode != whole and path in modules
    ]
    if not odd:
        return (), []
    calls = ", ".join(
        f"port.{path}.{'eval' if whole else 'train'}()" for path in odd[:3]
    )
    more = ", ..." if len(odd) > 3 else ""
    if whole:
        return (), [
            f"The source is in train mode with {len(odd)} of its modules in eval mode. The port "
            "starts in eval mode, and port.train() puts every module in train mode, as in "
            f"torch: call {calls}{more} after it."
        ]
    return tuple(odd), [
        f"The source is in eval mode with {len(odd)} of its modules in train mode, and so is the "
        "port. port.train() and port.eval() set every module, and a saved port is loaded in "
        f"eval mode: call {calls}{more} after them."
    ]


def _built_in(graph: Graph, given: Mapping[str, Any]) -> list[str]:
    """Notes about what the trace has built in of what the caller gave: constants and sizes."""
    constants = [
        f"{a.name}={textwrap.shorten(repr(a.structure), 60)}"
        for a in graph.signature()
        if a.is_constant and a.structure is not None and a.name in given
    ]
    found = []
    if constants:
        found.append(
            f"Built in: {', '.join(constants)}. Another value is refused: port again for it."
        )
    fixed = [
        f"{label} {_shape(value.type)}"
        for value, label in labels(graph.signature()).items()
        if value.type.shape and not any(map(as_symbol, value.type.shape))
    ]
    if fixed:
        found.append(f"Of one size alone: {', '.join(fixed)}.")
    return found


def settled(
    emitted: Emitted, captured: Captured, target: Target, name: str
) -> list[Row]:
    """The rows under the names that the port's own state has."""
    backend = target.open_live()
    module = backend.compile_source(emitted.source, name)
    make = backend.factory(module, emitted.cls, emitted.config)
    names = backend.settle_names([r.target for r in emitted.rows], make)
    rows = [dataclasses.replace(r, target=names[r.target]) for r in emitted.rows]
    targets = {row.target for row in rows}
    missing = backend.names(make, targets) - targets
    return [*rows, *_others(rows, captured, sorted(missing))]


def _others(rows: list[Row], captured: Captured, missing: Collection[str]) -> list[Row]:
    """Rows for state of the port that no operation reads, such as the counters of averages.

    It lies beside state that is read, under the source's own name. What the model reads by itself
    (a counter that it returns) has its row already.
    """
    paths = {place: path for path, place in captured.places.items()}
    sides: dict[str, Row] = {}
    for row in rows:
        sides.setdefault(_holder(row.target)[0], row)
    read = {row.source for row in rows}
    found = []
    for target in missing:
        module, name = _holder(target)
        side = sides.get(module)
        held = captured.places.get(side.source, "") if side else ""
        path = paths.get(f"{held.rpartition('.')[0]}.{name}".lstrip("."))
        if side is None or path is None or path not in captured.state or path in read:
            continue
        alike = captured.state[path].shape == captured.state[side.source].shape
        transforms = side.transforms if alike else ()
        found.append(Row(path, target, transforms, "buffer"))
    return found


def _holder(name: str) -> tuple[str, str]:
    """The module of a tensor's name in the port, and the rest: ``.`` or ``/`` parts them."""
    at = max(name.rfind("."), name.rfind("/"))
    return name[: max(at, 0)], name[at + 1 :]


def current(port: Port, ported: Any) -> dict[str, Any]:
    """The arrays of a live port as they are now, by the names of its file."""
    arrays = dict(TARGETS[port.record.target].open_live().state(ported))
    held = {row.target for row in port.record.weights.rows}
    return {
        name: array
        for name, array in arrays.items()
        if name in held or name.rpartition(".")[2] != COUNTER
    }


def tell(progress: Progress | None, stage: str) -> None:
    """Report that a stage begins."""
    if progress is not None:
        progress(stage)


def counter(progress: Progress | None) -> Callable[[int], None]:
    """What is told the bytes of each block of weights that is written."""
    done = 0

    def count(written: int) -> None:
        nonlocal done
        done += written
        if progress is not None:
            progress("weights", done, None)

    return count


# ---- what the file and the record say


def _free(graph: Graph) -> dict[str, dict[int, str]]:
    return {
        str(v.name): {a: s for a, d in enumerate(v.type.shape) if (s := as_symbol(d))}
        for v in graph.inputs
    }


def _docstring(source: Source, target: Target, graph: Graph) -> str:
    title, packages = KINDS[source.kind]
    packages = (source.qualified.partition(".")[0], *packages)
    versions = [
        f"{p} {importlib.metadata.version(p)}"
        for p in dict.fromkeys(packages)
        if p in VERSIONED
    ]
    inputs = ", ".join(
        f"{label} {v.type.dtype} {_shape(v.type)}"
        for v, label in labels(graph.signature()).items()
    )
    entries = [
        _entry("source", source.qualified),
        _entry("versions", ", ".join(versions)),
        _entry("inputs", inputs),
    ]
    if source.kind == target.kind:
        made = f"in plain {title}, taken out of {packages[0]}"
    else:
        made = f"for {target.title}, ported from {title}"
    first = f"{source.name} {made} by ivyport {ivyport.__version__}."
    return "\n".join([first, "", *entries, ""])


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
    from ivyport.modules.checks import SYMBOL_NAMES

    names = [SYMBOL_NAMES.get(str(d), str(d)) for d in type_.shape]
    return f"({', '.join(names)}{',' if len(names) == 1 else ''})"


def with_verdict(source: str, report: Report) -> str:
    """The emitted file with a line in its docstring on how it was verified."""
    worst = max((r.max_rel for r in report.rows if r.kind == "output"), default=0.0)
    verdict = "verified " if report.passed else "NOT EQUAL"
    line = f"{verdict} outputs {worst:.1e} (relative, {report.precision})\n"
    head, mark, rest = source.partition("\ninputs    ")
    return f"{head}\n{line}{mark[1:]}{rest}"


def without_verdict(source: str) -> str:
    """The emitted file as it is before `with_verdict`."""
    return re.sub(
        r"\n(verified |NOT EQUAL) outputs .*(?=\ninputs    )", "", source, count=1
    )


def _told(source: Source, graph: Graph, captured: Captured) -> dict[str, Any]:
    """Those parts of the record that the source and its graph say."""
    versions = {
        p: importlib.metadata.version(p)
        for p, module in VERSIONED.items()
        if importlib.util.find_spec(module)
    }
    package = KINDS[source.kind][1][0]
    tables = table_sizes(graph)
    sizes = shapes(graph.signature(), captured.args, captured.kwargs)
    return {
        "source": {
            "framework": f"{source.kind} {versions.get(package)}",
            "name": source.qualified,
        },
        "versions": versions,
        "inputs": tuple(
            InputRecord(
                str(v.name),
                v.type.dtype,
                _shape(v.type),
                label,
                None if sizes.get(v) is None else tuple(sizes[v]),
                tables.get(v),
            )
            for v, label in labels(graph.signature()).items()
        ),
        "arguments": to_json(graph.signature()),
        "free": _free(graph),
        "dims": {k: tuple(v) for k, v in graph.dims.items()},
        "rounded": roundings(graph),
        "checks": tuple(check.to_json() for check in graph.checks),
    }
