"""What the commands that port a model share: their options, and the port itself."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import ivyport
from ivyport.cli_render import DRIFT, OK, Screen, Stages
from ivyport.core.errors import InputError, SourceError
from ivyport.folder import replacing
from ivyport.targets import TARGETS, require, resolve_target
from ivyport.zoo.hf_hub import safe_name

if TYPE_CHECKING:
    from ivyport.core.report import Report
    from ivyport.zoo.built import Built
    from ivyport.zoo.origin import Origin

_TARGETS = "Target: " + ", ".join(f"{t.name} ({t.title})" for t in TARGETS.values())
To = Annotated[
    str,
    typer.Option("--to", help=_TARGETS, metavar="TARGET"),
]
Out = Annotated[
    Path | None,
    typer.Option("-o", "--out", help="Folder to write. Default: ported/<name>."),
]
Factory = Annotated[str, typer.Argument(help="pkg.module:factory")]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", help=r"name=dtype\[dims], integers <bound. Repeatable."),
]
DimsGiven = Annotated[
    list[str] | None,
    typer.Option(
        "--dims",
        metavar="NAME=DIM,...",
        help="Names of free axes of an input, None for the example's size. Repeatable.",
    ),
]
Static = Annotated[
    bool, typer.Option("--static", help="Every size stays that of the example.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="An argument that is no tensor, such as use_cache=False. Repeatable.",
    ),
]
Push = Annotated[
    str | None,
    typer.Option(
        "--push-to-hub",
        metavar="REPO",
        help="Upload the port to this repository of the Hugging Face hub, if it holds.",
    ),
]
Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", help="Whole names, however long.")
]
Batch = Annotated[int, typer.Option(min=1, help="Example batch size.")]
Verify = Annotated[bool, typer.Option(help="Compare the port with its source.")]
Keep = Annotated[
    bool, typer.Option("--keep", help="Write a port that does not hold, too.")
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace files in OUT that are yours."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@dataclasses.dataclass(frozen=True)
class Asked:
    """What all commands that port are asked: target, folder, sizes, what follows."""

    to: str
    out: Path | None
    dims: list[str] | None = None
    static: bool = False
    push: str | None = None
    verify: bool = True
    keep: bool = False
    overwrite: bool = False


def port(origin: Origin, asked: Asked, screen: Screen) -> None:
    """Build the source, port it, show the result, and exit with its code."""
    pushed = None
    with screen.work(f"{asked.out or 'the folder'} is as it was") as progress:
        built, result = _made(origin, asked, progress)
        if asked.push and result.written and passed(result.report):
            from ivyport.zoo.hf_push import push

            progress("push")
            pushed = push(result.folder, asked.push)
    report, notes = result.report, [*built.notes, *result.notes]
    if screen.as_json:
        found = {
            "folder": str(result.folder),
            "source_file": str(result.source_file),
            "target": resolve_target(asked.to).name,
            "written": result.written,
            "notes": notes,
        }
        if asked.push:
            found["pushed"] = pushed
        screen.json(found | verdict(report))
        raise typer.Exit(code(report))
    if report is not None:
        screen.parity(report)
    for note in notes:
        screen.line(f"note: {note}")
    screen.line(f"source:  {said_source(built.record)}")
    if result.written:
        screen.line(f"port:    {result.source_file}")
        screen.line(f"folder:  {result.folder}")
    else:
        screen.line(f"nothing written to {result.folder}: --keep writes it as it is")
    if asked.push:
        screen.line(f"pushed:  {pushed or 'not, for parity does not hold'}")
    raise typer.Exit(code(report))


def _made(origin: Origin, asked: Asked, progress: Stages) -> tuple[Built, Any]:
    """Build the source and port it, after everything that is refused without it."""
    from ivyport.zoo.hf_push import demand_repo
    from ivyport.zoo.inputs import given_dims

    target = resolve_target(asked.to)
    require(target.extra)
    given = given_dims(asked.dims or [])
    if asked.static and given:
        raise InputError("--static fixes every size and --dims frees some: give one.")
    if asked.push is not None:
        demand_repo(asked.push)
    if asked.out is not None:
        check_out(asked.out, asked.overwrite)
    progress("load")
    built = origin.build(progress.counter("download", begin=False))
    folder = asked.out if asked.out is not None else Path("ported") / built.name
    check_out(folder, asked.overwrite)
    free = {**(built.dims or {}), **given} or None
    result = ivyport.port(
        built.model,
        target.name,
        folder,
        kwargs=built.inputs,
        **built.weights(),
        dims=_fixed(built) if asked.static else free,
        name=safe_name(folder.resolve().name),
        origin=built.record | {"from": _from(folder)},
        beside=built.beside,
        verify=asked.verify,
        keep=asked.keep,
        overwrite=asked.overwrite,
        progress=progress,
    )
    return built, result


def _fixed(built: Built) -> dict[str, dict[int, str | None]]:
    """No axis of any input is free."""
    shapes = {n: x.shape for n, x in built.inputs.items() if hasattr(x, "shape")}
    return {n: dict.fromkeys(range(len(shape))) for n, shape in shapes.items()}


def said_source(record: Mapping[str, Any]) -> str:
    """What was ported, as the user named it: ``BertModel of org/name (revision)``."""
    rebuild = record.get("rebuild") or {}
    name = str(rebuild.get("model") or record.get("id") or "")
    cls, revision = record.get("class"), record.get("revision")
    said = f"{cls} of {name}" if cls else name
    return f"{said} ({str(revision)[:12]})" if revision else said


def _from(folder: Path) -> str:
    """Where the command ran, seen from the port's folder: names of sources start there."""
    return os.path.relpath(Path.cwd(), os.path.realpath(folder))


def rebuilt(folder: Path, record: Mapping[str, Any], source: str | None) -> Built:
    """The source of a saved port again, whatever the working folder is.

    Names of files and modules start where the port was made, or else here. `source` names it where
    it has moved.

    Raises `SourceError`, `WeightsError`, `InputError` or `DependencyError`.
    """
    from ivyport.zoo.origin import origin_from_json

    origin = origin_from_json({k: v for k, v in record.items() if k != "from"})
    places = [Path.cwd()]
    if source is not None:
        given = str(Path(source).resolve()) if Path(source).exists() else source
        origin = dataclasses.replace(origin, model=given)
    first = Path(os.path.realpath(folder), str(record.get("from") or "."))
    if record.get("from") and first.is_dir() and not first.samefile(places[0]):
        places.insert(0, first)
    for place in places[:-1]:
        with contextlib.chdir(place), contextlib.suppress(SourceError):
            return origin.build()
    return origin.build()


def passed(report: Report | None) -> bool:
    """Whether nothing speaks against a port; one that was not verified is none at fault."""
    return report is None or report.passed


def code(report: Report | None) -> int:
    """The exit code of a report."""
    return OK if passed(report) else DRIFT


def verdict(report: Report | None) -> dict[str, Any]:
    """A report as JSON data."""
    if report is None:
        return {"passed": None, "report": None}
    return {"passed": report.passed, "report": report.to_json()}


def check_out(folder: Path, overwrite: bool) -> None:
    """Refuse a folder that holds something else than an earlier port, or cannot be written.

    This is before the source is fetched and built, which may take long.
    """
    filled = folder.is_dir() and any(folder.iterdir())
    if filled and not overwrite and not is_port(folder):
        raise InputError(
            f"-o {folder}: the folder is not empty and holds no earlier port "
            "(no port.json). Choose another one, or empty it; --overwrite writes to it."
        )
    names = {f"modeling_{safe_name(folder.resolve().name)}.py"}
    with replacing(folder, names=names, overwrite=overwrite):
        pass


def is_port(folder: Path) -> bool:
    """Whether a folder holds a saved port."""
    return (folder / "port.json").is_file()


def check_port(folder: Path) -> None:
    """Refuse a folder without a saved port."""
    if not is_port(folder):
        raise InputError(f"{folder}: no ported model there (no port.json).")
