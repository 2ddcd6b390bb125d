"""Emitted files, byte for byte; `tests/modules/goldens.py` says how to update them."""

from __future__ import annotations

import difflib
import os

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("flax")

from tests.modules import goldens


@pytest.fixture(scope="module", autouse=True)
def update() -> None:
    if os.environ.get("IVYPORT_UPDATE_GOLDEN") == "1":
        goldens.update()


@pytest.mark.parametrize(("target", "name"), goldens.CASES)
def test_golden(target: str, name: str) -> None:
    file = goldens.FOLDERS[target] / f"{name}.py"
    expected, found = file.read_text(encoding="utf-8"), goldens.text(target, name)
    if found == expected:
        return
    diff = difflib.unified_diff(
        expected.splitlines(), found.splitlines(), f"{target}/{name}.py", "emitted now",
        lineterm="", n=2,
    )  # fmt: skip
    lines = list(diff)
    shown = "\n".join(lines[:120])
    more = f"\n... {len(lines) - 120} lines more" if len(lines) > 120 else ""
    pytest.fail(
        f"what is emitted for {name} to {target} has changed:\n{shown}{more}\n\n"
        "If the change is meant, run `python -m tests.modules.goldens` and review the "
        "diff like code.",
        pytrace=False,
    )


def test_nothing_else_is_golden() -> None:
    for folder in goldens.FOLDERS.values():
        assert {f.stem for f in folder.glob("*.py")} == set(goldens.GOLDEN)
