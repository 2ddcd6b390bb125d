"""What the commands that port a model share: their options, and the port itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import ivyport
from ivyport.cli_render import DRIFT, OK, Screen
from ivyport.core.errors import InputError
from ivyport.folder import replacing
from ivyport.targets import require, resolve_target
from ivyport.zoo.hf_hub import safe_name

if TYPE_CHECKING:
    from ivyport.api import PortResult
    from ivyport.core.report import Report
    from ivyport.zoo.origin import Origin

To = Annotated[
    str,
    typer.Option("--to", help="Target: torch, or jax (Flax NNX).", metavar="TARGET"),
]
Out = Annotated[
    Path | None,
    typer.Option("-o", "--out", help="Folder to write. Default: ported/<name>."),
]
Factory = Annotated[str, typer.Argument(help="pkg.module:factory")]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", help="name=dtype[dims], integers <bound. Repeatable."),
]
DimsGiven = Annotated[
    list[str] | None,
    typer.Option(
        "--dims",
        metavar="NAME=DIM,...",
        help="Names of free axes of an input, None for the example's size. Repeatable.",
    ),
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


def port(
    origin: Origin,
    to: str,
    out: Path | None,
    *,
    verify: bool,
    screen: Screen,
    dims: list[str] | None = None,
    keep: bool = False,
    overwrite: bool = False,
) -> None:
    """Build the source, port it, show the result, and exit with its code."""
    from ivyport.zoo.inputs import given_dims

    with screen.work() as progress:
        target = resolve_target(to)
        require(target)
        given = given_dims(dims or [])
        if out is not None:
            check_out(out, overwrite)
        progress("load")
        fetched = 0

        def fetch(size: int) -> None:
            nonlocal fetched
            fetched += size
            progress("download", fetched)

        built = origin.build(fetch)
        folder = out if out is not None else Path("ported") / built.name
        check_out(folder, overwrite)
        result = ivyport.port(
            built.model,
            target,
            folder,
            kwargs=built.inputs,
            **built.weights(),
            dims={**(built.dims or {}), **given} or None,
            name=safe_name(folder.resolve().name),
            origin=built.record,
            verify=verify,
            keep=keep,
            overwrite=overwrite,
            progress=progress,
        )
    _show(screen, target, result, [*built.notes, *result.notes])
    raise typer.Exit(code(result.report))


def _show(screen: Screen, target: str, result: PortResult, notes: list[str]) -> None:
    report = result.report
    if screen.as_json:
        found = {
            "folder": str(result.folder),
            "source_file": str(result.source_file),
            "target": target,
            "written": result.written,
            "notes": notes,
        }
        screen.json(found | verdict(report))
        return
    if report is not None:
        screen.parity(report)
    for note in notes:
        screen.line(f"note: {note}")
    if result.written:
        screen.line(f"source:  {result.source_file}\nfolder:  {result.folder}")
    else:
        screen.line(f"nothing written to {result.folder}: --keep writes it as it is")


def code(report: Report | None) -> int:
    """The exit code of a report; a port that was not verified is none at fault."""
    return OK if report is None or report.passed else DRIFT


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
