"""Result files: JSON for programs, a Markdown page, every call as CSV, and plots."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ivyport.bench.case import FIELDS, KEY, OK, Row
from ivyport.bench.doubts import MARK, doubts, is_disturbed
from ivyport.bench.engines import COMPARED, FLAX
from ivyport.bench.runner import Results, Rounds
from ivyport.bench.timer import geometric_mean, quartiles_of_ratios
from ivyport.core.errors import InputError

Key = tuple[Any, ...]


def to_json(results: Results) -> dict[str, Any]:
    """``{"environment": {...}, "rows": [...]}``.

    What is not in a row is in the environment: `engines` (device and flags as each engine
    saw them) and `details` (why a row has no latency).
    """
    details = [
        dict(zip(KEY, key, strict=True)) | {"detail": text}
        for key, text in results.details.items()
    ]
    found = results.environment | {"engines": results.about, "details": details}
    return {"environment": found, "rows": [row.to_json() for row in results.rows]}


def write(results: Results, stem: Path) -> list[Path]:
    """Write `stem`.json, .csv and .md, each whole or not at all; returns the files."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    texts = {
        ".json": json.dumps(to_json(results), indent=1) + "\n",
        ".csv": samples_csv(results.samples),
        ".md": page(results),
    }
    files = [stem.with_name(stem.name + suffix) for suffix in texts]
    for file, text in zip(files, texts.values(), strict=True):
        replace(file, text)
    return files


def write_plots(results: Results, stem: Path) -> list[Path]:
    """The plots that the rows allow; none where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return []
    from ivyport.bench import plots

    files = []
    for name, draw in (("speedup", plots.speedup), ("latency", plots.latency)):
        data = draw(results)
        if data is not None:
            files.append(stem.with_name(f"{stem.name}_{name}.png"))
            replace(files[-1], data)
    return files


def replace(file: Path, content: str | bytes) -> None:
    """Write a file whole or not at all."""
    data = content.encode() if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    with os.fdopen(handle, "wb") as out:
        out.write(data)
    Path(name).chmod(0o644)
    Path(name).replace(file)


def read(file: Path) -> tuple[dict[str, Any], list[Row], dict[Key, Rounds]]:
    """Environment, rows and, where the .csv beside it is there, samples of a file.

    Raises InputError for a file that is none of ours.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file. Give the .json of a benchmark run.")
    try:
        data = json.loads(file.read_text("utf-8"))
        rows = [_row(row) for row in data["rows"]]
        environment = dict(data["environment"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file} is no result of `ivyport bench` ({type(error).__name__}: {error})."
        ) from error
    return environment, rows, read_samples(file.with_suffix(".csv"))


def _row(held: dict[str, Any]) -> Row:
    """A row of a file; those of earlier versions have no `others`."""
    held = {"others": None} | held
    return Row(**{name: held[name] for name in FIELDS})


def results_of(file: Path) -> Results:
    """A result file and the samples beside it, as they were when it was written.

    Raises InputError for a file that is none of ours.
    """
    environment, rows, samples = read(file)
    about, details = environment.pop("engines", {}), environment.pop("details", [])
    texts = {tuple(d[name] for name in KEY): d["detail"] for d in details}
    return Results(environment, rows, samples, texts, about)


def samples_csv(samples: dict[Key, Rounds]) -> str:
    """Every timed call, a line each."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*KEY, "round", "ms"])
    for key, rounds in samples.items():
        for index, times in enumerate(rounds):
            writer.writerows([*key, index, f"{1000 * t:.5g}"] for t in times)
    return out.getvalue()


def read_samples(file: Path) -> dict[Key, Rounds]:
    """What `samples_csv` wrote, {} where there is no such file."""
    if not file.is_file():
        return {}
    found: dict[Key, dict[int, list[float]]] = {}
    with file.open(encoding="utf-8", newline="") as lines:
        for line in csv.DictReader(lines):
            sizes = {"batch": int(line["batch"])}
            length = line["seq_len"]
            values: dict[str, Any] = line | sizes
            values["seq_len"] = int(length) if length else None
            rounds = found.setdefault(tuple(values[n] for n in KEY), {})
            rounds.setdefault(int(line["round"]), []).append(float(line["ms"]) / 1000)
    return {key: [rounds[i] for i in sorted(rounds)] for key, rounds in found.items()}


# ---- tables


def cases(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows case by case, in their order."""
    grouped: dict[Key, list[Row]] = {}
    for row in rows:
        grouped.setdefault(_case_key(row), []).append(row)
    return list(grouped.values())


def _case_key(row: Row) -> Key:
    return tuple(getattr(row, name) for name in KEY if name != "engine")


def shown_baselines(rows: Iterable[Row]) -> list[str]:
    """What the rows compare ports with, in the order of `COMPARED`."""
    there = {row.engine for row in rows}
    return [name for name in COMPARED if name in there]


def header(baselines: Sequence[str]) -> list[str]:
    """The columns of `cells`."""
    return [
        "case",
        "engine",
        "median ms",
        "mean",
        "p10",
        "p90",
        *(f"over {name}" for name in baselines),
        "compile s",
        "peak MB",
        "max rel diff",
    ]


def cells(row: Row, of_case: Sequence[Row], baselines: Sequence[str]) -> list[str]:
    """A row as text; a baseline's own row has no speed-ups over the others."""
    difference = "" if row.max_rel_diff is None else f"{row.max_rel_diff:.1e}"
    head = [case_name(row), row.engine]
    if row.status != OK:
        blank = [""] * (3 + len(baselines) + 2)
        return [*head, row.status.replace("_", " "), *blank, difference]
    by_engine = {r.engine: r for r in of_case if r.status == OK}
    over = []
    for name in baselines:
        other = by_engine.get(name)
        if row.engine in COMPARED or other is None:
            over.append("")
        else:
            over.append(f"{(other.median_ms or 0) / (row.median_ms or 1):.2f}")
    times = [_ms(row.median_ms), _ms(row.mean_ms), _ms(row.p10_ms), _ms(row.p90_ms)]
    if is_disturbed(row):
        times[0] += MARK
    compiled = "" if row.compile_s is None else f"{row.compile_s:.1f}"
    peak = "" if row.peak_memory_mb is None else f"{row.peak_memory_mb:.0f}"
    return [*head, *times, *over, compiled, peak, difference]


def case_name(row: Row) -> str:
    """The case in few words."""
    length = "" if row.seq_len is None else f" x{row.seq_len}"
    mode = "" if row.mode == "forward" else f" {row.mode}"
    dtype = "" if row.dtype == "float32" else f" {row.dtype}"
    return f"{row.model}{mode}, {row.batch}{length}{dtype}"


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if value < 100 else f"{value:.1f}"


def overall(rows: Sequence[Row]) -> list[str]:
    """Geometric means of the speed-up over the best torch mode, a line each setting.

    Where hand-written Flax was measured, a second line is about that. Cases that only one
    side finished have no part in it, and are counted.
    """
    lines = []
    flax = {_case_key(r): r.median_ms for r in rows if r.engine == FLAX and r.median_ms}
    settings = dict.fromkeys(_setting(r) for r in rows if r.engine not in COMPARED)
    for setting in settings:
        own = [r for r in rows if _setting(r) == setting]
        engine, device, mode, dtype, batch = setting
        head = f"{engine}, {device}, {mode}, {dtype}, batch {batch}"
        if any(is_disturbed(r) for r in own):
            head += " (on a loaded machine)"
        torch = [r.speedup_vs_best_torch for r in own]
        lines += _mean(head, "the best torch mode", torch)
        if flax:
            ratios = [
                flax[_case_key(r)] / r.median_ms
                if _case_key(r) in flax and r.median_ms
                else None
                for r in own
            ]
            lines += _mean(head, "hand-written Flax", ratios)
    return lines


def _setting(row: Row) -> tuple[str, str, str, str, int]:
    return (row.engine, row.device, row.mode, row.dtype, row.batch)


def _mean(head: str, over: str, ratios: Sequence[float | None]) -> list[str]:
    """The line of one comparison; none where no case has a ratio."""
    known = [r for r in ratios if r is not None]
    mean = geometric_mean(known)
    if mean is None:
        return []
    return [
        f"{head}: {mean:.2f} times as fast as {over} (geometric mean of {len(known)} "
        f"of {len(ratios)} cases, {min(known):.2f} to {max(known):.2f})"
    ]


def page(results: Results) -> str:
    """The Markdown page: overall, the table, what failed, what it was measured on."""
    rows = results.rows
    baselines = shown_baselines(rows)
    lines = ["# Latency of ports", ""]
    for text in doubts(results.environment, rows):
        lines += [f"**Warning:** {text}.", ""]
    lines += [*(f"- {line}" for line in overall(rows)), ""]
    body = [cells(row, group, baselines) for group in cases(rows) for row in group]
    lines += [markdown_table(header(baselines), body, left=2), ""]
    spread = _spread(results)
    if spread:
        lines += ["## Ratios within rounds", "", *_SPREAD, "", spread, ""]
    if results.details:
        lines += ["## Without a latency", ""]
        lines += [
            f"- {case_name(row)}, {row.engine}: {row.status}. {results.details[row.key]}"
            for row in rows
            if row.key in results.details
        ]
        lines.append("")
    lines += ["## Measured on", "", *describe(results.environment), ""]
    return "\n".join(lines)


_SPREAD = (
    "Torch's time over the port's in the same round: median, and quartiles. A difference",
    "from 1 that is smaller than the quartiles' distance means nothing.",
)


def _spread(results: Results) -> str:
    baselines = shown_baselines(results.rows)
    body = []
    for group in cases(results.rows):
        known = {r.engine: results.samples.get(r.key) for r in group}
        for row in group:
            own = known[row.engine]
            if row.engine in COMPARED or not own:
                continue
            texts = []
            for name in baselines:
                other = known.get(name)
                if not other or len(other) != len(own):
                    texts.append("")
                    continue
                low, middle, high = quartiles_of_ratios(other, own)
                texts.append(f"{middle:.3f} ({low:.2f}-{high:.2f})")
            body.append([case_name(row), row.engine, *texts])
    head = ["case", "engine", *baselines]
    return markdown_table(head, body, left=2) if body and baselines else ""


def markdown_table(
    head: Sequence[str], body: Iterable[Sequence[str]], *, left: int = 1
) -> str:
    """A Markdown table whose first `left` columns are text and the others numbers."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *body])


def describe(environment: dict[str, Any]) -> list[str]:
    """The environment as lines of Markdown."""
    versions = ", ".join(f"{k} {v}" for k, v in environment["versions"].items())
    clock = environment.get("clock_mhz")
    lines = [
        f"- {environment['date']}; {environment['processor']}, {environment['cores']} "
        f"cores{f' at {clock} MHz' if clock else ''}, {environment['memory_gb']} GB; "
        f"load {environment['load_before'][0]:.1f} before",
        f"- Python {environment['python']}, {versions}",
        f"- {environment['threads']} threads an engine; TF32 "
        f"{'on' if environment['tf32'] else 'off'} on both sides",
    ]
    for gpu in environment.get("gpus", []):
        lines.append(f"- {', '.join(f'{k} {v}' for k, v in gpu.items())}")
    lines += [f"- left out: {text}" for text in environment.get("left_out", [])]
    return lines
