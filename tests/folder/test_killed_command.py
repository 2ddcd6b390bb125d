"""A whole `ivyport hf` that is killed: its folder is the old port or the new one."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ivyport.folder.manifest import changed, read_port
from ivyport.folder.replace import settled

ROOT = Path(__file__).resolve().parents[2]
KILLS = 12


def started(here: Path, source: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ivyport", "hf", source, "--to", "torch"]
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [*command, "-o", "ported/out", "--seq-len", "4"],
        cwd=here,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "XDG_STATE_HOME": str(here / "state"),
            "HF_HUB_OFFLINE": "1",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def held(folder: Path) -> str:
    """The digest of the weights of a port, all of whose files are as it says."""
    assert settled(folder)
    record = read_port(folder)
    assert not changed(folder, record["files"], record["files"])
    return str(record["files"]["model.safetensors"]["sha256"])


def writes(here: Path, process: subprocess.Popen[bytes]) -> bool:
    """Wait until a run has a file of its port; whether there was such a moment."""
    while process.poll() is None:
        if any(here.glob("ported/.out.*.ivyport/new/*")):
            return True
        time.sleep(0.001)
    return False


@pytest.mark.slow
def test_ivyport_hf_is_killed_while_it_replaces_a_port(tmp_path):
    import torch
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=50, num_hidden_layers=1, **sizes)
    known, folder = {}, tmp_path / "ported/out"
    for source in ("one", "two"):
        torch.manual_seed(len(known))
        BertModel(config).save_pretrained(tmp_path / source)
        begun = time.monotonic()
        with started(tmp_path, source) as process:
            assert writes(tmp_path, process)
            writing = time.monotonic()
        assert process.returncode == 0
        took, wrote = time.monotonic() - begun, time.monotonic() - writing
        known[source] = held(folder)
    assert len(set(known.values())) == 2
    rng, met, last = random.Random(0), [], "two"
    for number, source in zip(range(KILLS), itertools.cycle(known), strict=False):
        with started(tmp_path, source) as process:
            # Every second one about when it is done, at the end of what is verified.
            if number % 2 == 0:
                time.sleep(rng.uniform(0, took))
            elif writes(tmp_path, process):
                time.sleep(rng.uniform(0.7, 1.2) * wrote)
            process.kill()
        found = held(folder)
        assert found in (known[last], known[source])
        met.append(found == known[source] != known[last])
        last = source if found == known[source] else last
    print(f"ivyport hf: {KILLS} kills, the new port was there after {sum(met)} of them")
    assert started(tmp_path, "one").wait() == 0
    assert held(folder) == known["one"]
    assert os.listdir(folder.parent) == ["out"]
