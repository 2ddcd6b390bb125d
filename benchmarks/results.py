"""Result files: JSON with everything, and Markdown for people beside it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import tables


def save(stem: Path, values: dict[str, Any]) -> Path:
    """Write `stem`.json and `stem`.md; returns the former."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    file = stem.with_name(stem.name + ".json")
    _replace(file, json.dumps(values, indent=1) + "\n")
    _replace(stem.with_name(stem.name + ".md"), tables.page(values))
    return file


def _replace(file: Path, text: str) -> None:
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    fresh.write_text(text, "utf-8")
    fresh.replace(file)
