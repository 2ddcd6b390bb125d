"""Reading and writing safetensors: bit-exact, atomic, strict about damaged files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from ivyport.core.errors import WeightsError
from ivyport.weights import store as store_module
from ivyport.weights.safetensors import ALIGNMENT
from ivyport.weights.store import Pending, TensorStore, write

FP8 = [
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e8m0fnu",
    "float8_e4m3fnuz",
    "float8_e5m2fnuz",
]
DTYPES = [
    *("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64"),
    *("int64", "float16", "float32", "float64", "complex64", "bfloat16", *FP8),
]
SHAPES = [(), (1,), (0,), (3, 0, 2), (5,), (2, 3, 4)]
STRANGE = [
    "a.b.c",
    "quote\"and'quote",
    "new\nline\ttab\0nul",
    "ünïcødé 重み 🌱",
    "__import__('os').system('x')",
    "{braces} %s \\ /../",
    "",
]


def numpy_dtype(name: str) -> np.dtype:
    return np.dtype(getattr(ml_dtypes, name, None) or name)


def random_bits(rng: np.random.Generator, name: str, shape: tuple) -> np.ndarray:
    """Every bit pattern, NaN payloads included; bool has only two."""
    dtype = numpy_dtype(name)
    count = int(np.prod(shape)) * dtype.itemsize
    bits = rng.integers(0, 2 if name == "bool" else 256, count, dtype=np.uint8)
    return bits.view(dtype).reshape(shape)


def pending(name: str, array: np.ndarray) -> Pending:
    return Pending(name, array.dtype.name, array.shape, lambda: array)


def save(path: Path, arrays: dict[str, np.ndarray], **options) -> list[Path]:
    return write(path, [pending(n, a) for n, a in arrays.items()], **options)


def same_bits(one: np.ndarray, two: np.ndarray) -> bool:
    return (one.dtype, one.shape, one.tobytes()) == (
        two.dtype,
        two.shape,
        two.tobytes(),
    )


def samples() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        f"{dtype}{shape}": random_bits(rng, dtype, shape)
        for dtype in DTYPES
        for shape in SHAPES
    }


def test_every_dtype_and_shape_is_bit_exact(tmp_path):
    arrays = samples()
    save(tmp_path, arrays)
    with TensorStore.open(tmp_path) as store:
        assert store.names() == sorted(arrays)
        assert store.nbytes == sum(a.nbytes for a in arrays.values())
        for name, array in arrays.items():
            read = store.read(name)
            assert same_bits(read, array), name
            assert store.info(name).dtype == array.dtype.name
            assert not read.flags.writeable
            assert read.flags.aligned


def test_reads_are_views_of_the_file(tmp_path):
    save(tmp_path, {"w": np.arange(1000, dtype=np.float32)})
    store = TensorStore.open(tmp_path)
    one, two = store.read("w"), store.read("w")
    assert np.shares_memory(one, two)
    store.release("w")
    store.close()
    assert one[999] == 999, "a view outlives the store"
    with pytest.raises(WeightsError, match="closed"):
        store.read("w")


def test_large_tensors_are_aligned_for_jax(tmp_path):
    arrays = {
        "odd": np.ones(3, np.float64),
        "b": np.ones(64, np.float32),
        "a": np.ones((2, 32), np.int8),
    }
    save(tmp_path, arrays)
    store = TensorStore.open(tmp_path)
    assert [store.info(n).start % ALIGNMENT for n in ("a", "b")] == [0, 0]


def test_strange_names_are_only_data(tmp_path):
    arrays = {n: np.full(3, i, np.int32) for i, n in enumerate(STRANGE)}
    save(tmp_path, arrays)
    save(tmp_path / "sharded", arrays, max_shard_bytes=24)
    for folder in (tmp_path, tmp_path / "sharded"):
        store = TensorStore.open(folder)
        assert store.names() == sorted(STRANGE)
        assert all(same_bits(store.read(n), a) for n, a in arrays.items())
    with safetensors.safe_open(tmp_path / "model.safetensors", "np") as file:
        assert set(file.keys()) == set(STRANGE)


def test_reference_loaders_read_what_is_written(tmp_path):
    torch = pytest.importorskip("torch")
    import safetensors.torch

    arrays = {n: a for n, a in samples().items() if "fnuz" not in n}
    (file,) = save(tmp_path, arrays, metadata={"format": "pt", "a": "ü"})
    with safetensors.safe_open(file, "np") as handle:
        assert handle.metadata() == {"format": "pt", "a": "ü"}
        for name, array in arrays.items():
            if not name.startswith("float8"):  # numpy's loader lacks these
                assert same_bits(handle.get_tensor(name), array), name
    loaded = safetensors.torch.load_file(file)
    for name, array in arrays.items():
        tensor = loaded[name]
        assert tuple(tensor.shape) == array.shape
        if array.size and array.ndim:
            bits = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
            assert bits.tobytes() == array.tobytes(), name


def test_flax_loader_reads_what_is_written(tmp_path):
    pytest.importorskip("flax")
    import safetensors.flax

    arrays = {
        "f32": np.arange(6, dtype=np.float32).reshape(2, 3),
        "bf16": np.arange(6).astype(ml_dtypes.bfloat16),
        "i32": np.arange(4, dtype=np.int32),
        "bool": np.array([True, False]),
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 3), np.float16),
    }
    (file,) = save(tmp_path, arrays)
    loaded = safetensors.flax.load_file(file)
    for name, array in arrays.items():
        assert same_bits(np.asarray(loaded[name]), array), name


def test_reference_writer_is_read(tmp_path):
    names = [n for n in samples() if not n.startswith("float8")]
    arrays = {n: samples()[n] for n in names}
    file = tmp_path / "other.safetensors"
    safetensors.numpy.save_file(arrays, file, metadata={"k": "v"})
    store = TensorStore.open(file)
    assert store.metadata == {"k": "v"}
    assert all(same_bits(store.read(n), a) for n, a in arrays.items())


@pytest.mark.parametrize("block", [1, 24, 100, 10**6])
def test_any_memory_order_is_written_in_c_order(tmp_path, monkeypatch, block):
    monkeypatch.setattr(store_module, "BLOCK_BYTES", block)
    base = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    arrays = {
        "transposed": base.transpose(2, 0, 1),
        "reversed": base[::-1, :, ::2],
        "fortran": np.asfortranarray(base),
        "broadcast": np.broadcast_to(base[0, 0], (5, 4)),
        "big endian": base.astype(">f4"),
    }
    seen: list[int] = []
    (file,) = save(tmp_path, arrays, progress=seen.append)
    store = TensorStore.open(file)
    for name, array in arrays.items():
        assert np.array_equal(store.read(name), array), name
    assert sum(seen) == store.nbytes


def test_shards_and_index(tmp_path):
    arrays = {f"w{i}": np.full(10, i, np.float32) for i in range(5)}
    files = save(tmp_path, arrays, max_shard_bytes=80)
    assert [f.name for f in files] == [
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
        "model.safetensors.index.json",
    ]
    index = json.loads(files[-1].read_text())
    assert index["metadata"] == {"total_size": 200}
    assert index["weight_map"]["w4"] == "model-00003-of-00003.safetensors"
    for path in (tmp_path, files[-1]):
        store = TensorStore.open(path)
        assert all(same_bits(store.read(n), a) for n, a in arrays.items())


def test_a_tensor_above_the_limit_gets_its_own_shard(tmp_path):
    arrays = {
        n: np.zeros(size, np.uint8) for n, size in zip("abc", (1, 9, 1), strict=True)
    }
    assert len(save(tmp_path, arrays, max_shard_bytes=4)) == 4
    with pytest.raises(WeightsError, match="positive"):
        save(tmp_path, arrays, max_shard_bytes=0)


def test_bytes_are_deterministic(tmp_path):
    arrays = samples()
    for folder in ("a", "b"):
        save(
            tmp_path / folder, arrays, max_shard_bytes=500, metadata={"z": "", "a": ""}
        )
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert names == sorted(p.name for p in (tmp_path / "b").iterdir())
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (
            tmp_path / "b" / name
        ).read_bytes()


def test_saving_again_leaves_nothing_stale(tmp_path):
    def sharded(count):
        arrays = {f"w{i}": np.full(4, i, np.int8) for i in range(count)}
        return save(tmp_path, arrays, max_shard_bytes=4)

    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model-00001-of-00009.safetensors").write_text("not named by an index")
    kept = {"config.json", "model-00001-of-00009.safetensors"}
    for make in (
        lambda: save(tmp_path, {"a": np.zeros(2)}),
        lambda: sharded(3),
        lambda: sharded(2),
        lambda: save(tmp_path, {"b": np.zeros(2)}),
    ):
        files = make()
        assert {p.name for p in tmp_path.iterdir()} == kept | {f.name for f in files}
        assert TensorStore.open(tmp_path).names()


def fail() -> np.ndarray:
    raise ZeroDivisionError("on purpose")


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("limit", [8, 10**9])
def test_failure_changes_nothing(tmp_path, existing, limit):
    out = tmp_path / "new" / "out"
    if existing:
        save(out, {"old": np.arange(3)})
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    items = [
        pending("a", np.zeros(2, np.float32)),
        pending("b", np.zeros(2, np.float32)),
        Pending("z", "float32", (2,), fail),
    ]
    with pytest.raises(ZeroDivisionError):
        write(out, items, max_shard_bytes=limit)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert out.exists() == existing
    assert (tmp_path / "new").exists() == existing


def test_a_failing_rename_is_one_clear_error(tmp_path, monkeypatch):
    def refuse(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(WeightsError, match="No space left"):
        save(tmp_path / "out", {"a": np.zeros(2)})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (
            [Pending("a", "float32", (2,), lambda: np.zeros(3, np.float32))],
            r"'a' was announced as float32\[2\] and is float32\[3\]",
        ),
        (
            [Pending("a", "float32", (2,), lambda: np.zeros(2))],
            r"announced as float32\[2\] and is float64\[2\]",
        ),
        ([Pending("a", "complex128", (2,), fail)], "'complex128' cannot be stored"),
        ([Pending("__metadata__", "bool", (), fail)], "no tensor can be named"),
        ([Pending("\ud800", "bool", (), fail)], "UTF-8"),
        ([Pending("x", "bool", (), fail)] * 2, "1 tensors would be written twice: 'x'"),
        (
            [Pending("a", "float16", (1,), lambda: np.full(1, 1e6), cast=True)],
            "'a' has 1 values out of the range of float16",
        ),
    ],
)
def test_wrong_tensors_are_refused(tmp_path, items, message):
    with pytest.raises(WeightsError, match=message):
        write(tmp_path / "out", items)
    assert list(tmp_path.iterdir()) == []


def test_targets_that_cannot_be_files(tmp_path):
    (tmp_path / "model.safetensors").mkdir()
    (tmp_path / "plain").write_text("")
    for path, message in (
        (tmp_path, "is a folder; remove it"),
        (tmp_path / "plain", "cannot write weights"),
    ):
        with pytest.raises(WeightsError, match=message):
            save(path, {"a": np.zeros(1)})
    assert {p.name for p in tmp_path.iterdir()} == {"model.safetensors", "plain"}


def test_files_have_the_usual_permissions(tmp_path):
    (file,) = save(tmp_path, {"a": np.zeros(1)})
    (tmp_path / "usual").write_text("")
    assert file.stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_unknown_name_suggests(tmp_path):
    save(tmp_path, {"layer.weight": np.zeros(1)})
    store = TensorStore.open(tmp_path)
    assert "layer.weight" in store
    assert "layer" not in store
    with pytest.raises(WeightsError, match=r"close names: \['layer.weight'\]"):
        store.read("layer.wieght")
