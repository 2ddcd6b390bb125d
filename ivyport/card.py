"""The model card of a port: what it is, how it is called, how it was checked.

Whatever comes from a checkpoint or a configuration is text here: it is escaped for Markdown, HTML
and YAML, and the example is built as a syntax tree.
https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import ast
import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ivyport.core.report import Report, ReportRow
from ivyport.record import PortRecord
from ivyport.targets import TARGETS, Target

#: Keys of a source's card that hold for its port too.
KEPT = ("license", "license_name", "license_link", "language", "pipeline_tag")
_KINDS = {
    "output": "outputs",
    "gradient": "gradients",
    "train_step": "training",
}
_MOST_TEXT = 2000


def card(record: PortRecord, report: Report | str | None) -> str:
    """The text of a port's ``README.md``.

    `report` is what was compared when the port was made, in numbers or in words.
    """
    cls, target = record.cls, TARGETS[record.target]
    needs = f"{', '.join(target.packages[:-1])} and {target.packages[-1]}"
    lines = [
        *header(record),
        "",
        f"# {text(cls)} for {target.title}",
        "",
        f"{_origin(record)} The code is {code(record.file)}, the weights are in safetensors. "
        f"Both need {needs}, and not ivyport.",
        "",
        "## Use",
        "",
        "In this folder:",
        "",
        "```python",
        *example(record),
        "```",
        "",
        f"{target.trains} `{target.saves}` writes the weights "
        "as they are, and `ivyport weights home folder -o out` sends it to the source's names and "
        "layouts.",
        "",
        "| input | dtype | shape |",
        "|---|---|---|",
        *(
            f"| {code(i.at)} | {text(i.dtype)} | {text(i.shape)} |"
            for i in record.inputs
        ),
        *_ids(record),
        "",
        "## Parity with the source",
        "",
        *_parity(report),
    ]
    if record.notes:
        lines += ["", "## Notes", "", *(f"- {text(note)}" for note in record.notes)]
    return "\n".join(lines) + "\n"


# ---- the header


def header(record: PortRecord) -> list[str]:
    """The YAML header; strings are written as JSON has them, which YAML reads alike."""
    source = record.source
    target = TARGETS[record.target]
    told = source.get("card")
    kept = {k: told[k] for k in KEPT if k in told} if isinstance(told, Mapping) else {}
    # A folder without a commit is no model of the hub, whatever its name is.
    if source.get("revision") and source.get("id"):
        kept["base_model"] = source["id"]
    kept["library_name"] = target.library
    model_type = source.get("model_type")
    kept["tags"] = [*target.tags, "ivyport", *([model_type] if model_type else [])]
    lines = ["---"]
    for key, value in kept.items():
        if isinstance(value, list | tuple):
            lines += [f"{key}:", *(f"- {_scalar(item)}" for item in value)]
        else:
            lines.append(f"{key}: {_scalar(value)}")
    return [*lines, "---"]


def _scalar(value: Any) -> str:
    """Plain words as they are, everything else in quotes."""
    plain = isinstance(value, str) and re.fullmatch(
        r"[a-z][a-z0-9]*([-_./][A-Za-z0-9]+)*", value
    )
    if plain and value not in ("true", "false", "null", "yes", "no", "on", "off"):
        return str(value)
    return json.dumps(str(value)[:_MOST_TEXT])


# ---- the text


def text(value: Any) -> str:
    """A value as one line of Markdown that shows it and does nothing else."""
    shown = _one_line(value)
    # An underscore between letters is one in Markdown, too.
    special = r"([\\`*\[\]|~#!$]|(?<![^\W_])_|_(?![^\W_]))"
    escaped = re.sub(special, r"\\\1", html.escape(shown, quote=False))
    # GitHub makes emoji of `:x:`, a link of a bare address, and names of `@name`.
    return escaped.replace(":", "&#58;") if _is_special(shown) else escaped


def _is_special(shown: str) -> bool:
    return bool(re.search(r":[\w+-]+:|://", shown))


def code(value: Any) -> str:
    """A value as code, in a table too."""
    shown = _one_line(value).replace("|", "\\|")
    if "`" in shown:
        return text(value)
    return f"`{shown}`" if shown.strip() else "` `"


def _one_line(value: Any) -> str:
    shown = str(value)[:_MOST_TEXT]
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)


def _origin(record: PortRecord) -> str:
    source = record.source
    name = source.get("id") or source.get("name") or record.cls
    where = [source.get("framework")]
    if source.get("revision"):
        where.append(f"revision {str(source['revision'])[:12]}")
    if source.get("weights") and source["weights"] != "pretrained":
        where.append(f"{source['weights']} weights")
    told = ", ".join(text(part) for part in where if part)
    return f"Ported from {code(name)} ({told}) by ivyport {text(record.ivyport)}."


# ---- the example


def example(record: PortRecord) -> list[str]:
    """Lines of Python that load the port and, where sizes are known, call it."""
    target = TARGETS[record.target]
    module = record.file.removesuffix(".py")
    sizes = {i.name: (i.example, i.dtype) for i in record.inputs}
    known = {n: (size, dtype) for n, (size, dtype) in sizes.items() if size is not None}
    named = target.loader or record.cls
    lines = [f"from {module} import {named}", ""]
    opened = target.loader or f"{named}.from_pretrained"
    lines += [f'{target.result} = {opened}(".")']
    if not sizes or len(known) < len(sizes):
        return lines
    arrays = {name: _ones(target, *told) for name, told in known.items()}
    given = _arguments(record.arguments, arrays)
    imports = [target.example]
    if any("SimpleNamespace" in argument for argument in given):
        imports.insert(0, "from types import SimpleNamespace")
    call = [f"output = {target.call.format(', '.join(given))}"]
    if len(call[0]) > 88:
        head, tail = target.call.split("{}")
        first, _, more = head.partition("(")
        given = [*([more.strip(" ,")] if more else []), *given]
        call = [f"output = {first}(", *(f"    {argument}," for argument in given), tail]
    return [*imports, *lines, *call]


def _arguments(
    described: Sequence[Mapping[str, Any]], arrays: Mapping[str, ast.expr]
) -> list[str]:
    """The arguments of a call, as code; constants are left to their defaults."""
    if not described:
        return [f"{name}={ast.unparse(made)}" for name, made in arrays.items()]
    variadic = any(a["kind"] == "variadic" for a in described)
    positional, named = [], []
    for argument in described:
        structure = argument["structure"]
        if argument["kind"] == "variadic":
            items = structure.get("tuple") or structure.get("list") or []
            positional += [ast.unparse(_structure(item, arrays)) for item in items]
        elif variadic and argument["kind"] == "positional":
            positional.append(ast.unparse(_structure(structure, arrays)))
        elif _has_input(structure):
            made = _structure(structure, arrays)
            named.append(f"{argument['name']}={ast.unparse(made)}")
    return [*positional, *named]


def _has_input(structure: Any) -> bool:
    if isinstance(structure, Mapping):
        return "input" in structure or any(map(_has_input, structure.values()))
    return isinstance(structure, list | tuple) and any(map(_has_input, structure))


def _structure(item: Mapping[str, Any], arrays: Mapping[str, ast.expr]) -> ast.expr:
    if "input" in item:
        return arrays[item["input"]]
    if "record" in item:
        fields = [ast.keyword(n, _structure(v, arrays)) for n, v in item["fields"]]
        return ast.Call(ast.Name("SimpleNamespace"), [], fields)
    if "dict" in item:
        keys: list[ast.expr | None] = [ast.Constant(key) for key, _ in item["dict"]]
        return ast.Dict(keys, [_structure(value, arrays) for _, value in item["dict"]])
    if "tuple" in item or "list" in item:
        kind = ast.Tuple if "tuple" in item else ast.List
        held = [_structure(i, arrays) for i in item.get("tuple", item.get("list"))]
        return kind(held, ast.Load())
    return ast.Constant(item["constant"])


def _ones(target: Target, shape: Sequence[int], dtype: str) -> ast.expr:
    """``jnp.ones((2, 12), jnp.int32)``, ``torch.ones((2, 12), dtype=torch.int64)``."""
    library, _, function = target.ones.partition(".")
    sizes: list[ast.expr] = [ast.Constant(int(n)) for n in shape]
    given: list[ast.expr] = [ast.Tuple(sizes, ast.Load())]
    kind = _attribute(library, "bool_" if dtype == "bool" else dtype)
    if target.dtype_keyword:
        kind = _attribute(library, dtype)
        return ast.Call(
            _attribute(library, function), given, [ast.keyword("dtype", kind)]
        )
    return ast.Call(_attribute(library, function), [*given, kind], [])


def _attribute(root: str, name: str) -> ast.expr:
    return ast.Attribute(ast.Name(root), name)


def _ids(record: PortRecord) -> list[str]:
    """What JAX makes of ids that are in no table, where the source may raise."""
    limits = [(i.at, i.below) for i in record.inputs if i.below is not None]
    if TARGETS[record.target].checks_ids or not limits:
        return []
    ranges = ", ".join(f"{code(name)} from 0 to {below - 1}" for name, below in limits)
    return [
        "",
        f"Ids are rows of tables: {ranges}. JAX raises no error for others, which give NaN or "
        "another row; check them before the model.",
    ]


# ---- parity


def _parity(report: Report | str | None) -> list[str]:
    if report is None:
        return ["Not verified: `ivyport verify` compares this folder with its source."]
    if isinstance(report, str):
        return [report]
    verdict = (
        "Parity with the source holds"
        if report.passed
        else "**Parity with the source DOES NOT HOLD**"
    )
    lines = [
        f"{verdict} ({text(report.precision)}). The error is the largest difference as a part of "
        "the source's largest value, of the worst tensor.",
        "",
        "| what | inputs | tensors | worst | error | tolerance | |",
        "|---|---|---:|---|---:|---:|---|",
        *_rows(report.rows),
    ]
    if report.first_drift:
        lines += ["", f"The first module that drifts: {text(report.first_drift)}."]
    if report.not_checked:
        told = (f"- {text(item)}" for item in report.not_checked)
        lines += ["", "Not checked:", "", *told]
    return lines


def _rows(rows: Iterable[ReportRow]) -> list[str]:
    groups: dict[tuple[str, str], list[ReportRow]] = {}
    for row in rows:
        groups.setdefault((row.kind, row.inputs), []).append(row)
    lines = []
    for (kind, inputs), held in groups.items():
        worst = max(held, key=lambda row: row.severity)
        failing = sum(not row.passed for row in held)
        verdict = "holds" if not failing else f"{failing} differ"
        lines.append(
            f"| {_KINDS.get(kind, kind)} | {'as traced' if inputs == 'traced' else 'other sizes'} "
            f"| {len(held)} | {code(worst.name)} | {worst.max_rel:.1e} | {worst.tolerance:.0e} "
            f"| {verdict} |"
        )
    return lines


__all__ = ["KEPT", "card", "code", "example", "header", "text"]
