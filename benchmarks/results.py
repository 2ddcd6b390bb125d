"""Result files: JSON with everything, and Markdown for people beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tables

from ivyport.bench import environment
from ivyport.bench.report import replace


def measured_on() -> dict[str, Any]:
    """Versions, hardware and load before a benchmark, which may use every core."""
    return environment.describe(device="cpu", threads=environment.cores(), tf32=False)


def save(folder: Path, values: dict[str, Any]) -> Path:
    """Write `<benchmark>_<date>.json` and `.md` into a folder; returns the former."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{values['benchmark']}_{values['environment']['date'][:10]}"
    file = folder / f"{stem}.json"
    replace(file, json.dumps(values, indent=1) + "\n")
    replace(folder / f"{stem}.md", tables.page(values))
    return file
