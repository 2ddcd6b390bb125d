"""Result files: JSON with everything, and Markdown for people beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tables

from ivyport.bench.report import replace


def save(stem: Path, values: dict[str, Any]) -> Path:
    """Write `stem`.json and `stem`.md; returns the former."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    file = stem.with_name(stem.name + ".json")
    replace(file, json.dumps(values, indent=1) + "\n")
    replace(stem.with_name(stem.name + ".md"), tables.page(values))
    return file
