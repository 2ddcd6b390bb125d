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
    replace(file, json.dumps(values, indent=1) + "\n")
    replace(stem.with_name(stem.name + ".md"), tables.page(values))
    return file


def replace(file: Path, text: str) -> None:
    """Write a file whole or not at all."""
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    fresh.write_text(text, "utf-8")
    fresh.replace(file)
