"""The code in README.md and docs/ runs.

Each file's fenced ```python and ```console blocks run in order, in one empty folder.
A python block that starts with `# name.py` is saved under that name and not run itself;
any other one is a script of its own. In a console block, `$ ` starts a command. A block
marked "no-run: reason" after its language is left out.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```$", re.M | re.S)
_NAMED = re.compile(r"# (?P<name>\w+\.py)\n")


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block that is meant to run: its language, text, and line in the page."""

    language: str
    body: str
    line: int


def blocks(text: str) -> list[Block]:
    """The blocks of a page to run; a `no-run` without a reason is a ValueError."""
    found = []
    for match in _FENCE.finditer(text):
        language, _, rest = match["info"].strip().partition(" ")
        line = text.count("\n", 0, match.start()) + 1
        if rest and not re.fullmatch(r"no-run: \S.*", rest):
            raise ValueError(f"line {line}: {rest!r} is not 'no-run: reason'")
        if language in ("python", "console") and not rest:
            found.append(Block(language, match["body"], line))
    return found


def run(block: Block, folder: Path) -> None:
    """Run one block in `folder`; raises AssertionError with what it printed."""
    named = _NAMED.match(block.body) if block.language == "python" else None
    if named:
        (folder / named["name"]).write_text(block.body)
        return
    if block.language == "python":
        script = folder / f"block_{block.line}.py"
        script.write_text(block.body)
        command = [sys.executable, str(script)]
    else:
        lines = block.body.splitlines()
        commands = [line[2:] for line in lines if line.startswith("$ ")]
        assert commands, f"the block at line {block.line} has no command"
        command = ["bash", "-euo", "pipefail", "-c", "\n".join(commands)]
    done = subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True
    )
    shown = f"the block at line {block.line} failed\n{block.body}\n"
    assert done.returncode == 0, shown + done.stdout + done.stderr


def environment(folder: Path) -> dict[str, str]:
    """This interpreter and this checkout first, whether or not it is installed."""
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    ivyport = tools / "ivyport"
    ivyport.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ivyport "$@"\n')
    ivyport.chmod(0o755)
    path = os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.defpath])
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_runs(page, tmp_path):
    for block in blocks(page.read_text(encoding="utf-8")):
        run(block, tmp_path)


def test_a_block_that_fails_is_seen(tmp_path):
    page = (
        "# x\n\n```python\n# m.py\nn = 1\n```\n\n```python\nimport m\nassert m.n\n```\n"
    )
    page += "\n```console\n$ ivyport --version\nivyport 0.1.0\n```\n"
    good = blocks(page)
    assert [(b.language, b.line) for b in good] == [
        ("python", 3),
        ("python", 8),
        ("console", 13),
    ]
    for block in good:
        run(block, tmp_path)
    [bad] = blocks("```python\nassert 1 == 2\n```\n")
    with pytest.raises(AssertionError, match="block at line 1 failed"):
        run(bad, tmp_path)
    [bad] = blocks("```console\n$ false\n$ true\n```\n")
    with pytest.raises(AssertionError, match="block at line 1 failed"):
        run(bad, tmp_path)


def test_what_is_not_run_says_why():
    assert blocks("```python no-run: needs the hub\n1 / 0\n```\n") == []
    assert blocks("```text\n1 / 0\n```\n") == []
    with pytest.raises(ValueError, match="is not 'no-run: reason'"):
        blocks("```python no-run\n1 / 0\n```\n")
