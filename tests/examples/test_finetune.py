"""The fine-tuning example: it checks its own claims, so here it only has to succeed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run_example(out: Path, *flags: str) -> str:
    """What the example prints; fails with all of it where the example does."""
    # Torch's threads wait by spinning: beside other tests, one of them is far faster.
    done = subprocess.run(
        [sys.executable, EXAMPLES / "finetune_minilm_jax.py", "--out", out, *flags],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=550,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_trains_as_in_torch_and_goes_home(tmp_path: Path) -> None:
    printed = run_example(tmp_path, "--quick")
    assert "largest relative difference" in printed
    assert "two calls in train mode differ: yes" in printed
    assert "torch and jax differ by" in printed
    assert (tmp_path / "tuned" / "modeling_tuned.py").is_file()
    assert (tmp_path / "tuned_torch" / "model.safetensors").is_file()


@pytest.mark.slow
def test_beats_the_frozen_encoder(tmp_path: Path) -> None:
    assert "at least ten points better: yes" in run_example(tmp_path, "--seed", "1")


def test_held_out_sentences_share_no_template_adjective_or_noun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    from _verdicts import HELD_OUT, TRAIN

    for field in ("affirmed", "denied", "good", "bad", "nouns"):
        assert not set(getattr(TRAIN, field)) & set(getattr(HELD_OUT, field))
    assert len(TRAIN.affirmed) == len(TRAIN.denied)
    assert len(HELD_OUT.affirmed) == len(HELD_OUT.denied)


def test_sentences_are_balanced_and_reproducible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    from _verdicts import TRAIN, sentences

    texts, labels = sentences(TRAIN, 720, seed=0)
    assert len(set(texts)) == len(texts) == 720
    assert sum(labels) == 360
    assert (texts, labels) == sentences(TRAIN, 720, seed=0)
    assert texts != sentences(TRAIN, 720, seed=1)[0]
    # The words alone do not give the answer: each polarity is good half of the time.
    positive = [
        label
        for text, label in zip(texts, labels, strict=True)
        if any(word in text.strip(".").split() for word in TRAIN.good)
    ]
    assert len(positive) == 360
    assert sum(positive) == 180
