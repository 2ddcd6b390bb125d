"""The golden files: which model each is of, and how to write them anew.

    python -m tests.modules.goldens        (from the root of the repository)

or run `test_golden.py` with IVYPORT_UPDATE_GOLDEN=1. Their diffs are reviewed like code:
they are what users read.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "golden"
GOLDEN = {"bert": "BertModel", "gpt2": "GPT2LMHeadModel", "resnet": "ResNetModel"}


def text(name: str) -> str:
    """What is emitted now."""
    from tests.modules.emission import family

    return family(name, GOLDEN[name]).source


def update() -> list[str]:
    """Write every golden file that is not up to date; their names."""
    FOLDER.mkdir(exist_ok=True)
    changed = []
    for name in GOLDEN:
        file, now = FOLDER / f"{name}.py", text(name)
        if not file.exists() or file.read_text(encoding="utf-8") != now:
            file.write_text(now, encoding="utf-8")
            changed.append(name)
    return changed


if __name__ == "__main__":
    print("changed:", ", ".join(update()) or "none")
