"""The command line runs from a checkout."""

from __future__ import annotations

import runpy
from pathlib import Path

from ivyport import cli

ROOT = Path(__file__).parent.parent


def test_the_file_at_the_root_is_the_command_line() -> None:
    found = runpy.run_path(str(ROOT / "cli.py"))
    assert found["main"] is cli.main
