"""Pickles: what is read out of them, and that nothing in them ever runs."""

from __future__ import annotations

import collections
import contextlib
import io
import os
import pickle
import struct
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from ivyport.core.errors import WeightsError
from ivyport.weights import unpickle


def read(folder: Path, data: bytes):
    path = folder / "file.pickle"
    path.write_bytes(data)
    return unpickle.load(path)


ARRAYS = {
    "float32": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big endian": np.arange(3, dtype=">i4"),
    "bool": np.array([True, False]),
    "half": np.arange(3, dtype=np.float16),
    "complex": np.array([1 + 2j]),
    "bfloat16": np.arange(3).astype(ml_dtypes.bfloat16),
    "scalar array": np.array(3, np.int32),
    "empty": np.empty((0, 4), np.float32),
    "view": np.arange(10, dtype=np.float32)[::2],
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(tmp_path, name, protocol):
    array = ARRAYS[name]
    found = read(tmp_path, pickle.dumps({"w": array}, protocol))["w"]
    assert found.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data(tmp_path, protocol):
    shared = np.ones(2, np.float32)
    data = {
        "list": [1, -2, 3.5, None, True, 2**70, "é", b"\x00\xff"],
        "tuple": (1, (2,), (), (1, 2, 3, 4)),
        "scalar": np.float32(1.5),
        "step": np.int64(7),
        "dtype": np.dtype("float32"),
        "ordered": collections.OrderedDict(a=shared, b=[shared]),
        7: {"empty": {}},
    }
    found = read(tmp_path, pickle.dumps(data, protocol))
    assert type(found["ordered"]) is dict
    np.testing.assert_array_equal(found["ordered"].pop("a"), shared)
    np.testing.assert_array_equal(found["ordered"].pop("b"), [shared])
    data["ordered"] = {}
    assert found == data
    assert type(found["scalar"]) is np.float32


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_haiku_mappings_are_dicts(tmp_path, protocol):
    data_structures = pytest.importorskip("haiku").data_structures
    tree = {"a/~/linear": {"w": np.ones((2, 3), np.float32)}}
    frozen = data_structures.to_immutable_dict(tree)
    found = read(tmp_path, pickle.dumps({"params": frozen}, protocol))
    assert type(found["params"]) is dict
    assert type(found["params"]["a/~/linear"]) is dict
    np.testing.assert_array_equal(found["params"]["a/~/linear"]["w"], 1)


def test_python_2_text_is_bytes(tmp_path):
    """An array as Python 2 wrote it: protocol 2, its elements a text."""
    elements = np.array([1.5, -2.0], "<f4").tobytes()
    data = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
        b"U\x01b\x87R(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U"
        + bytes([len(elements)])
        + elements
        + b"tb."
    )
    np.testing.assert_array_equal(read(tmp_path, data), np.array([1.5, -2], "f4"))


def test_shared_lists_are_read_once(tmp_path):
    data: list = []
    for _ in range(50):
        data = [data, data]
    found = read(tmp_path, pickle.dumps(data))
    assert found[0] is found[1]


class Runs:
    """An object whose pickle calls `function` when it is loaded."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class State:
    pass


def dumped(value, protocol=4):
    return pickle.dumps(value, protocol)


def persistent(protocol: int) -> bytes:
    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return "somewhere" if isinstance(value, State) else None

    file = io.BytesIO()
    Pickler(file, protocol).dump({"w": State()})
    return file.getvalue()


def short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


def stack_global(module: str, name: str) -> bytes:
    return short(module) + short(name) + b"\x93"


ARRAY = stack_global("numpy._core.multiarray", "_reconstruct")
NDARRAY = stack_global("numpy", "ndarray")
DTYPE = stack_global("numpy", "dtype")
P4 = b"\x80\x04"
#: A pickle, and what the error has to say.
MALICIOUS = {
    "os.system": (dumped({"w": Runs(os.system, "touch owned")}), "posix.system"),
    "builtins.eval": (
        dumped(Runs(eval, "open('owned', 'w')")),
        "builtins.eval",
    ),
    "old GLOBAL": (b"cos\nsystem\n(S'touch owned'\ntR.", "os.system"),
    "INST": (b"(S'touch owned'\nios\nsystem\n.", "os.system"),
    "OBJ": (b"\x80\x02(cos\nsystem\nX\x0b\x00\x00\x00touch ownedo.", "os.system"),
    "NEWOBJ": (
        P4 + stack_global("os", "system") + short("x") + b"\x85\x81.",
        "os.system",
    ),
    "attribute traversal": (
        P4 + stack_global("numpy", "f2py.os.system") + short("touch owned") + b"\x85R.",
        "numpy.f2py.os.system",
    ),
    "traversal of an admitted class": (
        P4 + stack_global("numpy", "ndarray.__class__") + b".",
        "numpy.ndarray.__class__",
    ),
    "numpy.load": (dumped(Runs(np.load, "x")), "numpy.load"),
    "getattr": (dumped(Runs(getattr, "x", "y")), "builtins.getattr"),
    "a class of one's own": (dumped(State()), "State"),
    "copyreg": (dumped(State(), 0), "copy_reg._reconstructor"),
    "posix through ctypes": (
        P4 + stack_global("ctypes", "CDLL") + short("libc.so.6") + b"\x85R.",
        "ctypes.CDLL",
    ),
    "named but not called": (P4 + stack_global("os", "system") + b".", "os.system"),
    "named and dropped": (P4 + stack_global("os", "system") + b"0N.", "os.system"),
    "a name with control characters": (
        P4 + stack_global("os\n", "\x1b[2Jsystem") + b".",
        r"os\n.\x1b[2Jsystem",
    ),
    "persistent id": (persistent(4), "BINPERSID"),
    "old persistent id": (persistent(0), "PERSID"),
    "extension": (b"\x80\x02\x82\x01.", "EXT1"),
    "out of band buffer": (b"\x80\x05\x97.", "NEXT_BUFFER"),
    "a set": (dumped({1}), "EMPTY_SET"),
    "a frozen set": (dumped(frozenset([1])), "FROZENSET"),
    "an array of objects": (dumped(np.array([None])), "dtype of a str|dtype object"),
    "a structured array": (dumped(np.zeros(1, "f4,i4")), "dtype"),
    "an array of texts": (dumped(np.array(["a"])), "dtype"),
    "a date": (dumped(np.array("2020", "M8[D]")), "dtype"),
    "an array of another class": (
        P4 + ARRAY + stack_global("numpy", "dtype") + b"K\x00\x85C\x01b\x87R.",
        "an array of class numpy.dtype",
    ),
    "a dtype from a mapping": (P4 + DTYPE + b"}\x85R.", "a dtype of a dict"),
    "attributes of a function": (
        P4 + ARRAY + b"}" + short("__code__") + b"Nsb.",
        "attributes for a numpy._core.multiarray._reconstruct",
    ),
    "attributes of a class": (
        P4 + NDARRAY + b"}" + short("__reduce__") + b"Nsb.",
        "attributes for a numpy.ndarray",
    ),
    "attributes of a list": (
        P4 + b"]}" + short("a") + b"Nsb.",
        "attributes for a list",
    ),
    "a call of the array class": (
        P4 + NDARRAY + b"K\x02\x85R.",
        "a call of numpy.ndarray",
    ),
    "a call of a text": (P4 + short("os") + b")R.", "a call of a str"),
    "a bare function": (P4 + ARRAY + b".", "the bare name numpy._core"),
    "keyword arguments": (
        P4 + NDARRAY + b"K\x02\x85}" + short("shape") + b"K\x01s\x92.",
        "keyword arguments",
    ),
    "bytes through another codec": (
        P4 + stack_global("_codecs", "encode") + short("x") + short("bz2") + b"\x86R.",
        "bytes encoded as 'bz2'",
    ),
    "a list in itself": (P4 + b"]\x94h\x00a.", "nested deeper than"),
    "a key that is no name": (P4 + b"}" + NDARRAY + b"Ns.", "a numpy.ndarray as a map"),
}


@pytest.mark.parametrize("name", MALICIOUS)
def test_refused_and_not_run(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    data, said = MALICIOUS[name]
    with pytest.raises(WeightsError) as error:
        read(tmp_path, data)
    message = str(error.value)
    assert "is refused" in message
    assert any(part in message for part in said.split("|")), message
    assert "file.pickle" in message
    assert [path.name for path in tmp_path.iterdir()] == ["file.pickle"]


def test_every_foreign_name_at_once(tmp_path):
    data = {
        "w": np.ones(2),
        "a": Runs(os.system, "true"),
        "b": [Runs(eval, "1")],
        "c": np.ones(3),
        "d": State(),
    }
    with pytest.raises(
        WeightsError, match=r"posix\.system, builtins\.eval, .*State\. N"
    ):
        read(tmp_path, dumped(data))


def test_jax_arrays_are_refused_with_the_way_out(tmp_path):
    jax = pytest.importorskip("jax")
    data = dumped({"a": {"w": jax.numpy.ones(2)}})
    with pytest.raises(WeightsError, match=r"jax\._src\.array\._recon.*np\.savez"):
        read(tmp_path, data)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_truncation_is_one_error(tmp_path, protocol):
    whole = pickle.dumps({"a": {"w": np.ones((3, 4), np.float32)}, "b": [1]}, protocol)
    for length in range(1, len(whole)):
        with pytest.raises(WeightsError):
            read(tmp_path, whole[:length])


def test_damage_is_one_error_or_other_data(tmp_path):
    whole = pickle.dumps({"a": {"w": np.ones((3, 4), np.float32)}, "b": [1]}, 4)
    rng = np.random.default_rng(0)
    for _ in range(2000):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] = rng.integers(256)
        with contextlib.suppress(WeightsError):  # and no other error
            read(tmp_path, bytes(damaged))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04 a zip file", "truncated or no pickle"),
        (b"hello, world\n", "truncated or no pickle"),
        (P4 + b"B" + struct.pack("<I", 2**31) + b"abc.", "truncated or no pickle"),
        (P4 + b"\x8e" + struct.pack("<Q", 2**40) + b"abc.", "truncated or no pickle"),
    ],
)
def test_no_pickle(tmp_path, data, said):
    with pytest.raises(WeightsError, match=said):
        read(tmp_path, data)


def test_no_file(tmp_path):
    with pytest.raises(WeightsError, match="no such file"):
        unpickle.load(tmp_path / "absent.pickle")


def test_arrays_need_their_elements(tmp_path):
    empty = P4 + ARRAY + NDARRAY + b"K\x00\x85C\x01b\x87R."
    with pytest.raises(WeightsError, match="an array without elements"):
        read(tmp_path, empty)
    wrong = pickle.dumps(np.ones(2, np.float32), 4).replace(b"K\x02\x85", b"K\x03\x85")
    with pytest.raises(WeightsError, match=r"an array of shape \(3,\) in 8 bytes"):
        read(tmp_path, wrong)
