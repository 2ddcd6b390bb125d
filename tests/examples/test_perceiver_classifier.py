"""The Perceiver example: it checks its own claims, so here it only has to succeed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples/perceiver_classifier_torch.py"


@pytest.mark.slow
def test_trains_and_is_an_ordinary_module(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLE, "--out", tmp_path],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=550,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "compiled as one graph, it says the same: yes" in done.stdout
    assert (tmp_path / "backbone" / "modeling_backbone.py").is_file()
    assert (tmp_path / "classifier.pt").is_file()
