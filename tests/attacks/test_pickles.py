"""Hostile and damaged pickles: nothing of them runs, and none of them fills the memory."""

from __future__ import annotations

import pickle
import random
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest

from ivyport.weights import unpickle
from tests.attacks.harness import attacked
from tests.weights.test_unpickle import ARRAY, DTYPE, MALICIOUS, NDARRAY, P4, short
from tests.weights.test_unpickle import stack_global as named

WHOLE = [
    pickle.dumps(
        {
            "params": {
                "a/b": {"w": np.arange(12, dtype=np.float32).reshape(3, 4)},
                "c": {
                    "w": np.float64(3),
                    "b": np.asfortranarray(np.ones((2, 3), ">f4")),
                },
            },
            "step": 10**12,
            "notes": ["x", ("y", 2.5, None, True, b"z")],
        },
        protocol,
    )
    for protocol in range(6)
]
CALLED = [
    *("os.system", "posix.system", "nt.system", "subprocess.Popen", "subprocess.call"),
    *("builtins.eval", "builtins.exec", "builtins.compile", "builtins.__import__"),
    *("builtins.open", "io.open", "runpy.run_path", "code.interact", "pty.spawn"),
    *("importlib.import_module", "pickle.loads", "marshal.loads", "shutil.rmtree"),
    *("numpy.testing._private.utils.runstring", "torch.load", "joblib.load"),
    *("operator.attrgetter", "functools.partial", "types.CodeType", "sys.exit"),
    *("socket.create_connection", "webbrowser.open", "ctypes.CDLL", "os.abort"),
]
INT = b"J" + struct.pack("<i", 2**31 - 1)
F4 = DTYPE + short("f4") + b"\x85R"


def bytearray_of(data: bytes) -> bytes:
    return named("builtins", "bytearray") + data + b"\x85R"


def array_of(shape: bytes, data: bytes = b"C\x00", dtype: bytes = F4) -> bytes:
    state = b"(K\x01" + shape + dtype + b"\x89" + data + b"t"
    return P4 + ARRAY + NDARRAY + b"K\x00\x85C\x01b\x87R" + state + b"b."


def hostile() -> dict[str, bytes]:
    """Pickles by what they try."""
    found = {f"malicious: {name}": data for name, (data, _) in MALICIOUS.items()}
    for name in CALLED:
        module, _, function = name.rpartition(".")
        found[f"call of {name}"] = P4 + named(module, function) + short("x") + b"\x85R."
    many = b"(" + b"]" * 40_000 + b"l."
    doubling = b"(]" + b"".join(b"\x94" + b"h\x00" * 2 for _ in range(3)) + b"l."
    huge = array_of(b"\x8a\x0a" + b"\xff" * 9 + b"\x00" + b"\x85")
    found |= {
        "a bytearray of a number": P4 + bytearray_of(INT) + b".",
        "empty bytearrays": P4 + (bytearray_of(b"C\x00") + b"0") * 20_000 + b"N.",
        "copies of a text": P4
        + short("x" * 250)
        + b"\x940"
        + (named("_codecs", "encode") + b"h\x00" + short("latin1") + b"\x86R") * 9000
        + b".",
        "many lists": P4 + many,
        "lists of themselves": P4 + doubling,
        "an array of 2**71 elements": huge,
        "an array of 65 axes": array_of(b"(" + b"K\x00" * 65 + b"t"),
        "an array of negative size": array_of(b"J" + struct.pack("<i", -1) + b"\x85"),
        "an array of lists": array_of(b"]\x85"),
        "a dtype of several": P4 + DTYPE + short(",q0") + b"\x85R.",
        "a dtype of a sub-array": P4 + DTYPE + short("3f4") + b"\x85R.",
        "a dtype of records": P4 + DTYPE + short("f,i") + b"\x85R.",
        "a dtype of objects": P4 + DTYPE + short("O") + b"\x85R.",
        "a dtype that is none": P4 + DTYPE + short("(") + b"\x85R.",
        "a dtype in an odd order": P4 + F4 + b"(K\x03]NNt" + b"b.",
        "an integer of 5,000 digits": b"I" + b"1" * 5000 + b"\n.",
        "a long of 5,000 digits": b"L" + b"1" * 5000 + b"L\n.",
        "no memory slot": P4 + b"h\x09.",
        "nothing on the stack": P4 + b"0.",
        "a mark alone": P4 + b"(.",
        "NONE and POP": P4 + b"N0" * 3_000_000 + b"N.",
    }
    return found  # fmt: skip


HOSTILE = hostile()
#: What is data after all, and takes little memory.
HARMLESS = ("lists of themselves", "empty bytearrays", "copies of a text", "many lists")


def plain(value: Any, depth: int = 0) -> bool:
    """Whether a value is data and nothing else."""
    if isinstance(value, dict):
        return all(plain(k) and plain(v, depth + 1) for k, v in value.items())
    if isinstance(value, list | tuple):
        return depth > 70 or all(plain(v, depth + 1) for v in value)
    kinds = (str, bytes, int, float, bool, type(None), np.ndarray, np.generic, np.dtype)
    return isinstance(value, kinds)


def test_hostile_pickles(tmp_path):
    assert len(HOSTILE) >= 70
    path = tmp_path / "file.pickle"
    for name, data in HOSTILE.items():
        path.write_bytes(data)
        found = attacked(lambda: unpickle.load(path))
        assert isinstance(found, str) or name in HARMLESS, name


@pytest.mark.parametrize("name", ["copies of a text", "many lists", "bytearrays"])
def test_memory_is_in_proportion_to_the_file(tmp_path, name):
    data = {
        **HOSTILE,
        "bytearrays": P4
        + b"("
        + named("builtins", "bytearray")
        + b"\x94"
        + b"h\x00)R" * 30_000
        + b"l.",
    }[name]
    path = tmp_path / "file.pickle"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        attacked(lambda: unpickle.load(path))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 64 * 2**20 + 16 * len(data) + 2**20


def test_a_budget_can_be_raised(tmp_path, monkeypatch):
    monkeypatch.setattr(unpickle, "MAX_STEPS", 1000)
    path = tmp_path / "file.pickle"
    path.write_bytes(P4 + b"(" + b"]" * 2000 + b"l.")
    assert "IVYPORT_BUDGET=10" in attacked(lambda: unpickle.load(path))
    monkeypatch.setenv("IVYPORT_BUDGET", "10")
    assert len(unpickle.load(path)) == 2000
    for wrong in ("x", "0", "-1", "nan", "inf"):
        monkeypatch.setenv("IVYPORT_BUDGET", wrong)
        assert "a number above 0" in attacked(lambda: unpickle.load(path))


def damaged(rng: random.Random) -> bytes:
    data = bytearray(rng.choice(WHOLE))
    for _ in range(rng.randint(1, 5)):
        place = rng.randrange(len(data))
        kind = rng.randrange(4)
        if kind == 0:
            data[place] = rng.randrange(256)
        elif kind == 1:
            del data[place : place + rng.randint(1, 8)]
        elif kind == 2:
            data[place:place] = bytes(
                rng.randrange(256) for _ in range(rng.randint(1, 5))
            )
        else:
            other = rng.choice(WHOLE)
            start = rng.randrange(len(other))
            data[place:place] = other[start : start + rng.randint(1, 30)]
        if not data:
            break
    return bytes(data) or b"."


def fuzz(path, count: int, seed: int) -> int:
    rng, read = random.Random(seed), 0
    for _ in range(count):
        path.write_bytes(damaged(rng))
        found = attacked(lambda: unpickle.load(path))
        assert plain(found)
        read += not isinstance(found, str)
    return read


def test_damaged_pickles(tmp_path):
    assert 0 < fuzz(tmp_path / "file.pickle", 200, 0) < 200


@pytest.mark.slow
def test_three_thousand_damaged_pickles(tmp_path):
    read = fuzz(tmp_path / "file.pickle", 3000, 1)
    print(f"pickles: 3000 damaged files, {read} of them read as plain data")
    assert 0 < read < 3000
