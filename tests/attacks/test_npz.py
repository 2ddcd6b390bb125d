"""Hostile .npz files."""

from __future__ import annotations

import io
import random
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest

from ivyport.zoo.array_files import read_npz
from tests.attacks.harness import attacked, peak


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=True)
    return file.getvalue()


def claimed(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode()
    width = "<H" if version[0] == 1 else "<I"
    return b"\x93NUMPY" + version + struct.pack(width, len(text)) + text + data


def archive(entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name, data in entries.items():
            made.writestr(name, data)
    return file.getvalue()


def shaped(shape: object, dtype: str = "<f4") -> str:
    return f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}\n"


WHOLE = archive({"a.npy": npy(np.arange(6.0).reshape(2, 3)), "b.npy": npy(np.int64(3))})


def encrypted() -> bytes:
    data = bytearray(WHOLE)
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    return bytes(data)


def compressed_by(method: int) -> bytes:
    data = bytearray(WHOLE)
    for mark, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = data.index(mark) + offset
        data[at : at + 2] = struct.pack("<H", method)
    return bytes(data)


HOSTILE: dict[str, bytes] = {
    "3.6 TB": archive({"a.npy": claimed(shaped((10**12,)))}),
    "no .npy": archive({"a": npy(np.ones(2))}),
    "a text": archive({"a.txt": b"hello"}),
    "encrypted": encrypted(),
    **{f"method {m}": compressed_by(m) for m in (1, 9, 12, 14, 93, 99, 255)},
    "bzip2": archive({"a.npy": npy(np.ones(2))}, zipfile.ZIP_BZIP2),
    "lzma": archive({"a.npy": npy(np.ones(2))}, zipfile.ZIP_LZMA),
    "objects": archive({"a.npy": npy(np.array([{}], dtype=object))}),
    "65 axes": archive({"a.npy": claimed(shaped((1,) * 65), bytes(4))}),
    "a size of 2**63": archive({"a.npy": claimed(shaped((2**63, 0)))}),
    "sizes without a number": archive({"a.npy": claimed(shaped((2**40, 2**40, 0)))}),
    "negative": archive({"a.npy": claimed(shaped((-1,)))}),
    "a true size": archive({"a.npy": claimed(shaped((True,)), bytes(4))}),
    "a call": archive({"a.npy": claimed("__import__('os').abort()\n")}),
    "a deep header": archive({"a.npy": claimed("(" * 5000 + ")" * 5000)}),
    "a long header": archive({"a.npy": claimed("#" * 60_000)}),
    "no dictionary": archive({"a.npy": claimed("3\n")}),
    "an odd dtype": archive({"a.npy": claimed(shaped((1,), ",q0"), bytes(8))}),
    "dates": archive({"a.npy": claimed(shaped((1,), "<M8[Q]"), bytes(8))}),
    "too short": archive({"a.npy": claimed(shaped((3,)), bytes(8))}),
    "too long": archive({"a.npy": claimed(shaped((1,)), bytes(8))}),
    "version 9": archive({"a.npy": claimed(shaped((1,)), bytes(4), b"\x09\x00")}),
    "no magic": archive({"a.npy": b"hello, world"}),
    "empty": archive({"a.npy": b""}),
    "a name of a terminal": archive({"\x1b[2J": b""}),
    "unnamed bytes": archive({"a.npy": npy(np.zeros(2, "V4"))}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives(tmp_path, name):
    path = tmp_path / "x.npz"
    path.write_bytes(HOSTILE[name])
    before = peak()
    found = attacked(lambda: read_npz(path))
    assert isinstance(found, str), found
    assert len(found) < 1000
    assert peak() - before < 200 * 2**20


def test_a_bomb(tmp_path, monkeypatch):
    path, size = tmp_path / "x.npz", 160 * 2**20
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made,
        made.open("a.npy", "w") as file,
    ):
        file.write(claimed(shaped((size // 4,))))
        for _ in range(size // 2**20):
            file.write(bytes(2**20))
    before = peak()
    assert "IVYPORT_BUDGET=10" in attacked(lambda: read_npz(path))
    assert peak() - before < 32 * 2**20
    monkeypatch.setenv("IVYPORT_BUDGET", "10")
    assert read_npz(path)["a"].nbytes == size


def test_two_entries_of_one_name(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("a.npy", npy(np.ones(2)))
        with pytest.warns(UserWarning, match="Duplicate name"):
            made.writestr("a.npy", npy(np.zeros(2)))
    assert "two entries" in attacked(lambda: read_npz(path))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read(tmp_path, save):
    arrays = {
        "a/b": np.arange(6, dtype=">f4").reshape(2, 3),
        "f": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "none": np.zeros((0, 3), np.float16),
        "scalar": np.float64(2),
        "half": np.ones(3, ml_dtypes.bfloat16),
        "flag": np.array([True, False]),
    }
    save(tmp_path / "x.npz", **arrays)
    found = read_npz(tmp_path / "x.npz")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)


def damaged(rng: random.Random) -> bytes:
    data = bytearray(WHOLE)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data))
        if rng.random() < 0.7:
            data[place] = rng.randrange(256)
        else:
            del data[place : place + rng.randint(1, 8)]
    return bytes(data)


def fuzz(path, count: int, seed: int) -> int:
    rng, read = random.Random(seed), 0
    whole = {"a": np.arange(6.0).reshape(2, 3), "b": np.int64(3)}
    for _ in range(count):
        path.write_bytes(damaged(rng))
        found = attacked(lambda: read_npz(path))
        if isinstance(found, str):
            continue
        read += 1
        for name in found.keys() & whole.keys():
            assert np.array_equal(found[name], whole[name]), (
                "the archive's checksum holds"
            )
    return read


def test_damaged_archives(tmp_path):
    fuzz(tmp_path / "x.npz", 60, 0)


@pytest.mark.slow
def test_a_thousand_damaged_archives(tmp_path):
    read = fuzz(tmp_path / "x.npz", 1000, 1)
    print(f"npz: 1000 damaged archives, {read} of them read as they were")
