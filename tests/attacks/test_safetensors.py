"""Hostile and damaged safetensors files."""

from __future__ import annotations

import json
import random
import time

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ivyport.weights.store import TensorStore
from tests.attacks.harness import attacked

TENSORS = {
    "encoder.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "encoder.bias": np.ones(4, np.float16),
    "ids": np.arange(5),
    "empty": np.zeros((0, 3), np.float32),
    "scalar": np.array(2, np.float32),
}
WHOLE = save(TENSORS, {"format": "np"})


def header(entries: object, data: bytes = b"") -> bytes:
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(shape: object, start: object = 0, stop: object = 0, dtype: object = "F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def twice(count: int) -> bytes:
    one = json.dumps(entry([0]))
    names = [f'"n{i}":{one}' for i in range(count)]
    return header(("{" + ",".join(names * 2) + "}").encode())


HOSTILE = {
    "names twice": twice(60_000),
    "65 axes": header({"a": entry([0] * 65)}),
    "65 axes of 1": header({"a": entry([1] * 65, 0, 4)}, bytes(4)),
    "a size of 2**63": header({"a": entry([2**63, 0])}),
    "sizes whose product has no number": header({"a": entry([2**40, 2**40, 0])}),
    "a size of 300 digits": header({"a": entry([10**300, 0])}),
    "a number of 5,000 digits": header(b'{"a":' + b"1" * 5000 + b"}"),
    "NaN for a size": header(
        b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,0]}}'
    ),
    "deep": header(b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
    "half a character": header(b'{"\\ud800":' + json.dumps(entry([0])).encode() + b"}"),
    "a control character": header({"\x1b[2J": entry([1])}),
    "a long name": header({"n" * 10**6: entry([1])}),
    "a long dtype": header({"a": entry([1], 0, 4, "F" * 10**6)}, bytes(4)),
    "metadata of numbers": header({"__metadata__": {"a": 1}}),
    "a huge header": (2**63).to_bytes(8, "little"),
    "a list": header([1]),
    "an overlap": header({"a": entry([1], 0, 4), "b": entry([1], 2, 6)}, bytes(6)),
    "negative": header({"a": entry([-1], 0, -4)}),
}


def opened(path):
    with TensorStore.open(path) as store:
        return {name: np.array(store.read(name)) for name in store}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers(tmp_path, name):
    path = tmp_path / "model.safetensors"
    path.write_bytes(HOSTILE[name])
    begun = time.monotonic()
    found = attacked(lambda: opened(path))
    assert isinstance(found, str), "an error"
    assert "model.safetensors" in found
    assert len(found) < 3000
    assert time.monotonic() - begun < 3


def damaged(rng: random.Random) -> bytes:
    """The file with one to four changes."""
    data = bytearray(WHOLE)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data)) if rng.random() < 0.3 else rng.randrange(420)
        kind = rng.randrange(5)
        place = min(place, len(data) - 1)
        if kind == 0:
            data[place] = rng.randrange(256)
        elif kind == 1:
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del data[place : place + rng.randint(1, 16)]
        elif kind == 3:
            data[place:place] = bytes(
                rng.randrange(256) for _ in range(rng.randint(1, 9))
            )
        else:
            data[place:place] = rng.choice(
                [b"9", b"0", b",", b"]", b'"', b"}", b"-", b"e"]
            )
        if len(data) < 9:
            break
    return bytes(data)


def fuzz(path, count: int, seed: int) -> int:
    """How many of `count` damaged files are read; those as the reference reads them."""
    rng, read = random.Random(seed), 0
    for _ in range(count):
        data = damaged(rng)
        path.write_bytes(data)
        found = attacked(lambda: opened(path))
        if isinstance(found, str):
            continue
        read += 1
        try:
            reference = load(data)
        except (SafetensorError, ValueError, KeyError, TypeError):
            continue
        assert found.keys() == reference.keys()
        for name, array in found.items():
            assert array.dtype == reference[name].dtype
            assert array.shape == reference[name].shape
            assert array.tobytes() == reference[name].tobytes()
    return read


def test_damaged_files(tmp_path):
    assert 0 < fuzz(tmp_path / "model.safetensors", 150, 0) < 150


@pytest.mark.slow
def test_two_thousand_damaged_files(tmp_path):
    read = fuzz(tmp_path / "model.safetensors", 2000, 1)
    print(f"safetensors: 2000 damaged files, {read} of them read as the reference does")
    assert 0 < read < 2000
