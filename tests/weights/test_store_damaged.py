"""Files that are not what they claim: each is one error that names file and bytes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from ivyport.core.errors import WeightsError
from ivyport.weights.store import Pending, TensorStore, write


def save(path: Path, count: int = 3, **options) -> list[Path]:
    arrays = {f"w{i}": np.full((2, 4), i, np.float32) for i in range(count)}
    items = [Pending(n, "float32", a.shape, a.copy) for n, a in arrays.items()]
    return write(path, items, **options)


def raw(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(start: int, stop: int, dtype: str = "U8", shape: object = None) -> dict:
    shape = [stop - start] if shape is None else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


DAMAGED = {
    "empty": (b"", "is truncated: its header length needs 8 bytes and the file has 0"),
    "short": (b"1234567", "needs 8 bytes and the file has 7"),
    "no header": (raw(b"{}")[:9], "its header needs 10 bytes and the file has 9"),
    "huge header": (b"\xff" * 64, "its header length is 18446744073709551615 bytes"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
    "no json": (raw(b"{'a': 1}"), "is not JSON"),
    "no utf-8": (raw(b'{"\xff": 1}'), "is not JSON"),
    "deep": (raw(b"[" * 100_000), "is not JSON"),
    "list": (raw([]), "not a JSON object"),
    "leading space": (raw(b" {}"), "not a JSON object"),
    "twice": (raw(b'{"a": 1, "a": 1}'), r"names these twice: \['a'\]"),
    "metadata": (raw({"__metadata__": {"a": 1}}), "strings to strings"),
    "entry": (raw({"a": 3}), "'a' needs dtype, shape and data_offsets, got 3"),
    "more": (raw({"a": {**entry(0, 1), "x": 1}}, b"1"), "'a' needs dtype"),
    "dtype": (raw({"a": entry(0, 1, "F4")}, b"1"), "'a' has dtype 'F4'"),
    "list dtype": (raw({"a": entry(0, 1, [])}, b"1"), r"'a' has dtype \[\]"),
    "negative": (raw({"a": entry(0, 1, shape=[-1])}, b"1"), "invalid shape"),
    "bool size": (raw({"a": entry(0, 1, shape=[True])}, b"1"), "invalid shape"),
    "float size": (raw({"a": entry(0, 1, shape=[1.0])}, b"1"), "invalid shape"),
    "backwards": (raw({"a": entry(2, 1, shape=[1])}, b"11"), "invalid data_offsets"),
    "size": (raw({"a": entry(0, 1, "F32", [1])}, b"1"), "takes 4 bytes.* give it 1"),
    "gap": (raw({"a": entry(1, 2)}, b"11"), "a gap of 1 bytes between the header and"),
    "overlap": (
        raw({"a": entry(0, 3), "b": entry(2, 4)}, b"1111"),
        "an overlap of 1 bytes between tensor 'a' and tensor 'b'",
    ),
    "longer": (raw({"a": entry(0, 1)}, b"111"), "last 2 bytes belong to no tensor"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files(tmp_path, case):
    data, message = DAMAGED[case]
    file = tmp_path / "model.safetensors"
    file.write_bytes(data)
    with pytest.raises(WeightsError, match=message) as caught:
        TensorStore.open(tmp_path)
    assert str(file) in str(caught.value)


def test_truncation_at_any_byte(tmp_path):
    (file,) = save(tmp_path)
    whole = file.read_bytes()
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        with pytest.raises(WeightsError, match=f"truncated.* the file has {size};"):
            TensorStore.open(tmp_path)


def test_any_flipped_header_byte_is_an_error_or_a_valid_file(tmp_path):
    (file,) = save(tmp_path)
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(500):
        data = bytearray(whole)
        data[rng.integers(0, 200)] = rng.integers(0, 256)
        file.write_bytes(data)
        try:
            store = TensorStore.open(tmp_path)
        except WeightsError:
            continue
        for name in store.names():
            store.read(name).sum()


def test_truncated_shard_is_named(tmp_path):
    files = save(tmp_path, max_shard_bytes=32)
    data = files[1].read_bytes()
    files[1].write_bytes(data[:-1])
    with pytest.raises(WeightsError) as caught:
        TensorStore.open(tmp_path)
    message = str(caught.value)
    assert str(files[1]) in message
    assert f"{len(data)} bytes and the file has {len(data) - 1}" in message


def test_absent_shards_are_all_named(tmp_path):
    files = save(tmp_path, max_shard_bytes=32)
    files[0].unlink()
    files[2].unlink()
    with pytest.raises(WeightsError, match="2 of them absent") as caught:
        TensorStore.open(tmp_path)
    assert files[0].name in str(caught.value)
    assert files[2].name in str(caught.value)


def test_index_and_shards_disagree(tmp_path):
    files = save(tmp_path, max_shard_bytes=32)
    index = json.loads(files[-1].read_text())
    index["weight_map"]["ghost"] = files[0].name
    index["weight_map"]["w0"] = files[1].name
    del index["weight_map"]["w2"]
    index["weight_map"]["other"] = files[2].name
    files[-1].write_text(json.dumps(index))
    with pytest.raises(WeightsError, match="disagree on 4 tensors") as caught:
        TensorStore.open(tmp_path)
    assert all(repr(n) in str(caught.value) for n in ("ghost", "other", "w0", "w2"))


def test_one_tensor_in_two_shards(tmp_path):
    files = save(tmp_path, max_shard_bytes=32)
    files[1].write_bytes(files[0].read_bytes())
    with pytest.raises(WeightsError, match="in two shards, the first of them 'w0'"):
        TensorStore.open(tmp_path)


@pytest.mark.parametrize("name", ["../w.safetensors", "/w", "a/b", "a\\b", "", "..", 3])
def test_shards_stay_in_their_folder(tmp_path, name):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(WeightsError, match=r"not a plain file name|absent"):
        TensorStore.open(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": {}}', "\x00"])
def test_damaged_index(tmp_path, content):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(content)
    with pytest.raises(WeightsError, match=re.escape(str(index))):
        TensorStore.open(tmp_path)
    save(tmp_path)
    assert len(TensorStore.open(tmp_path)) == 3
    assert not index.exists(), "saving removes an index that points nowhere"


def test_pickles_are_not_read(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02")
    for path in (tmp_path, tmp_path / "pytorch_model.bin"):
        with pytest.raises(WeightsError, match=r"pytorch_model\.bin") as caught:
            TensorStore.open(path)
        assert "not read" in str(caught.value)
        assert "safe_serialization=True" in str(caught.value)


def test_nothing_to_read(tmp_path):
    with pytest.raises(WeightsError, match="does not exist"):
        TensorStore.open(tmp_path / "absent")
    with pytest.raises(WeightsError, match="no weights"):
        TensorStore.open(tmp_path)
    save(tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"it has other\.safetensors: pass the file"):
        TensorStore.open(tmp_path)
