"""The golden files: which model each is of, and how to write them anew.

    python -m tests.modules.goldens        (from the root of the repository)

or run `test_golden.py` with IVYPORT_UPDATE_GOLDEN=1. Their diffs are reviewed like code:
they are what users read.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "golden"
GOLDEN = {"bert": "BertModel", "gpt2": "GPT2LMHeadModel", "resnet": "ResNetModel"}
FOLDERS = {"jax": FOLDER, "torch": FOLDER / "torch"}
CASES = [(target, name) for target in FOLDERS for name in GOLDEN]


def text(target: str, name: str) -> str:
    """What is emitted now."""
    from tests.modules.emission import family

    return family(name, GOLDEN[name], target).source


def update() -> list[str]:
    """Write every golden file that is not up to date; their names."""
    changed = []
    for target, name in CASES:
        FOLDERS[target].mkdir(exist_ok=True)
        file, now = FOLDERS[target] / f"{name}.py", text(target, name)
        if not file.exists() or file.read_text(encoding="utf-8") != now:
            file.write_text(now, encoding="utf-8")
            changed.append(f"{target}/{name}")
    return changed


if __name__ == "__main__":
    print("changed:", ", ".join(update()) or "none")
