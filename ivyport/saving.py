"""The saved folder: what `ivyport.save` writes and `ivyport.load` reads."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ivyport.core.errors import SourceError
from ivyport.core.report import Report, ReportRow
from ivyport.targets import DESCRIBED

PORT = "port.json"
#: What the card says of a port whose outputs alone were compared.
COMPARED = (
    "When the port was made, its outputs on the example inputs were those of the source. "
    "Gradients, other sizes and train mode were not compared: `ivyport.verify` does that."
)
FORMAT = 1
#: What a record must have for its port to be loaded.
KEYS = ("target", "file", "class", "config", "weights", "modules", "notes", "free")
# What an earlier port may have left that the new one does not overwrite.
OWN_FILES = (
    "model*.safetensors*",
    "unported.safetensors",
    "modeling_*.py",
    "parity.json",
)


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A temporary folder whose files move to `folder` at the end, or vanish on an error."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield stage
        if folder.exists():
            for pattern in OWN_FILES:
                for stale in folder.glob(pattern):
                    if not (stage / stale.name).exists():
                        stale.unlink()
            for file in sorted(stage.iterdir()):
                os.replace(file, folder / file.name)
        else:
            stage.chmod(0o755)
            os.replace(stage, folder)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Indented JSON with a final newline, in place of what was there."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    replace_text(path, text)


def replace_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(name, 0o644)
    os.replace(name, path)


def read_port(folder: Path) -> dict[str, Any]:
    """``port.json`` of a saved port.

    Raises:
        SourceError: the folder is no port, or one of a newer ivyport.
    """
    path = folder / PORT
    if not path.is_file():
        raise SourceError(f"{folder} holds no saved port: there is no {PORT} in it")
    damaged = f"{path} is damaged ({{}}): port the source again"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SourceError(damaged.format(error)) from error
    if not isinstance(record, dict):
        raise SourceError(damaged.format("it holds no record"))
    if record.get("format") != FORMAT:
        raise SourceError(
            f"{path} has format {record.get('format')!r}; this ivyport reads {FORMAT}"
        )
    missing = [name for name in KEYS if name not in record]
    if missing:
        raise SourceError(damaged.format(f"without {', '.join(missing)}"))
    return record


def card(record: dict[str, Any], source_file: str, report: Report | str | None) -> str:
    """The model card: what was ported, how to load it, how it was checked.

    `report` is what was compared when the port was made, in numbers or in words.
    """
    module = source_file.removesuffix(".py")
    cls = record["class"]
    source, target = record["source"], DESCRIBED[record["target"]]
    name = source.get("id") or source.get("name") or cls
    lines = [
        f"# {cls} for {target.title}",
        "",
        f"Ported from {name} ({source['framework']}) by ivyport {record['ivyport']}.",
        "",
        "```python",
        f"from {module} import {cls}",
        "",
        f'model = {cls}.from_pretrained(".")',
        "```",
        "",
        f"The file needs {', '.join(target.packages[:-1])} and {target.packages[-1]}; "
        "ivyport is not needed.",
        "",
        "| input | dtype | shape |",
        "|---|---|---|",
        *(
            f"| `{i.get('at', i['name'])}` | {i['dtype']} | {i['shape']} |"
            for i in record["inputs"]
        ),
        *_ids(record),
        "",
        "## Parity",
        "",
        *_parity(report),
    ]
    if record["notes"]:
        lines += ["", "## Notes", "", *(f"- {note}" for note in record["notes"])]
    return "\n".join(lines) + "\n"


def _ids(record: dict[str, Any]) -> list[str]:
    """What JAX makes of ids that are in no table, where the source may raise."""
    limits = [
        (i.get("at", i["name"]), i["below"]) for i in record["inputs"] if "below" in i
    ]
    if record["target"] == "torch" or not limits:
        return []
    ranges = ", ".join(f"`{name}` from 0 to {below - 1}" for name, below in limits)
    return [
        "",
        f"Ids are rows of tables: {ranges}. JAX raises no error for others, which give NaN or "
        "another row; check them before the model.",
    ]


def _parity(report: Report | str | None) -> list[str]:
    if report is None:
        return ["Not verified."]
    if isinstance(report, str):
        return [report]
    verdict = "holds" if report.passed else "DOES NOT HOLD"
    lines = [
        f"Parity with the source {verdict} ({report.precision}).",
        "",
        "| kind | compared | largest absolute error | largest relative error | tolerance |",
        "|---|---|---|---|---|",
    ]
    for row in report.summary():
        lines.append(
            f"| {_kind(row)} | {row.name} | {row.max_abs:.1e} | {row.max_rel:.1e} | "
            f"{row.tolerance:.0e} |"
        )
    if report.not_checked:
        lines += ["", "Not checked:", "", *(f"- {text}" for text in report.not_checked)]
    return lines


def _kind(row: ReportRow) -> str:
    """``output``, ``train step``, and whether the inputs were other ones than the traced."""
    other = ", other inputs" if row.inputs == "second" else ""
    return f"{row.kind.replace('_', ' ')}{other}"
