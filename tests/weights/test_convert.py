"""Whole checkpoints: to the port, home again, and in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors

from ivyport.core.errors import WeightsError
from ivyport.weights import (
    Pending,
    Permute,
    Row,
    Slice,
    TensorStore,
    WeightMap,
    convert,
    send_home,
    write,
)

STRANGE = "x'] = __import__('os')\n# \"ü.weight"


def save(folder: Path, arrays: dict[str, np.ndarray], **options) -> list[Path]:
    items = [Pending(n, a.dtype.name, a.shape, a.copy) for n, a in arrays.items()]
    return write(folder, items, **options)


def source_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "embed.weight": rng.standard_normal((11, 4)).astype(np.float32),
        "qkv.weight": rng.standard_normal((12, 4)).astype(ml_dtypes.bfloat16),
        "steps": np.array(7, np.int64),
        "mask": np.array([True, False]),
        "none": np.zeros((0, 3), np.float16),
        STRANGE: rng.standard_normal(5).astype(np.float64),
        "pooler.weight": rng.standard_normal((4, 4)).astype(np.float32),
    }


def weight_map() -> WeightMap:
    split = [
        Row("qkv.weight", f"{n}.kernel", (Slice(0, 4 * i, 4 * i + 4), Permute((1, 0))))
        for i, n in enumerate("qkv")
    ]
    return WeightMap(
        (
            Row("embed.weight", "embed.embedding", aliases=("lm_head.weight",)),
            *split,
            Row("steps", "steps", kind="buffer"),
            Row("mask", "mask", kind="buffer"),
            Row("none", "none", (Permute((1, 0)),)),
            Row(STRANGE, "strange"),
        ),
        unused=("pooler.weight", "never.there"),
    )


def contents(path: Path) -> dict[str, tuple]:
    store = TensorStore.open(path)
    return {
        n: (store.info(n).dtype, store.info(n).shape, store.read(n).tobytes())
        for n in store
    }


def port(tmp_path: Path, **options) -> Path:
    save(tmp_path / "source", source_arrays())
    out = tmp_path / "port"
    with TensorStore.open(tmp_path / "source") as store:
        convert(store, weight_map(), out, **options)
    (out / "port.json").write_text(json.dumps({"weights": weight_map().to_json()}))
    return out


@pytest.mark.parametrize("limit", [100, 10**9])
def test_there_and_back_is_bit_exact(tmp_path, limit):
    out = port(tmp_path, keep_unused=True, max_shard_bytes=limit)
    store = TensorStore.open(out)
    source = source_arrays()
    assert np.array_equal(store.read("k.kernel"), source["qkv.weight"][4:8].T)
    assert store.read("k.kernel").flags.c_contiguous
    files = send_home(out, tmp_path / "home", max_shard_bytes=limit)
    assert (len(files) > 1) == (limit == 100)
    assert contents(tmp_path / "home") == contents(tmp_path / "source")
    with safetensors.safe_open(files[0], "np") as file:
        assert file.metadata() == {"format": "pt"}


def test_unused_tensors_are_left_out_by_default(tmp_path):
    out = port(tmp_path)
    assert not (out / "unported.safetensors").exists()
    send_home(out, tmp_path / "home", include_aliases=True)
    home = contents(tmp_path / "home")
    assert home["lm_head.weight"] == home["embed.weight"]
    assert home.keys() - {"lm_head.weight"} == source_arrays().keys() - {
        "pooler.weight"
    }


def test_constants_do_not_go_home(tmp_path):
    rows = (Row("w", "w"), Row("table", "table", kind="constant"))
    arrays = {"w": np.ones(2), "table": np.ones(3)}
    (file,) = convert(arrays, WeightMap(rows), tmp_path / "port")
    assert TensorStore.open(file).names() == ["table", "w"]
    content = {"weights": WeightMap(rows).to_json()}
    (tmp_path / "port" / "port.json").write_text(json.dumps(content))
    send_home(tmp_path / "port", tmp_path / "home")
    assert TensorStore.open(tmp_path / "home").names() == ["w"]


def test_dtype_casts_floating_tensors_only(tmp_path):
    out = port(tmp_path, dtype="bfloat16", keep_unused=True)
    dtypes = {n: dtype for n, (dtype, _, _) in contents(out).items()}
    assert dtypes["steps"] == "int64"
    assert dtypes["mask"] == "bool"
    floating = {d for n, d in dtypes.items() if n not in ("steps", "mask")}
    assert floating == {"bfloat16"}
    expected = source_arrays()["embed.weight"].astype(ml_dtypes.bfloat16)
    store = TensorStore.open(out)
    assert store.read("embed.embedding").tobytes() == expected.tobytes()
    unported = contents(out / "unported.safetensors")
    assert unported["pooler.weight"][0] == "float32", "kept as it was"
    send_home(out, tmp_path / "home", dtype="float32")
    assert contents(tmp_path / "home")["qkv.weight"][0] == "float32"


@pytest.mark.parametrize(
    ("dtype", "message"), [("int8", "floating"), ("float31", "cannot be stored")]
)
def test_dtypes_that_are_none(tmp_path, dtype, message):
    with pytest.raises(WeightsError, match=message):
        port(tmp_path, dtype=dtype)
    assert not (tmp_path / "port").exists()


def test_an_overflowing_cast_writes_nothing(tmp_path):
    with pytest.raises(WeightsError, match="'x' has 2 values out of the range"):
        convert(
            {"a": np.array([1e6, 1.0, np.inf, -1e9], np.float32)},
            WeightMap((Row("a", "x"),)),
            tmp_path / "out",
            dtype="float16",
        )
    assert list(tmp_path.iterdir()) == []


def test_progress_adds_up(tmp_path):
    seen: list[int] = []
    out = port(tmp_path, progress=seen.append)
    assert sum(seen) == TensorStore.open(out).nbytes


def test_a_source_that_does_not_fit_writes_nothing(tmp_path):
    source = source_arrays()
    del source["steps"], source["mask"]
    source["new"] = source.pop("qkv.weight")[:-1]
    with pytest.raises(WeightsError) as caught:
        convert(source, weight_map(), tmp_path / "out")
    for name in ("steps", "mask", "new", "qkv.weight"):
        assert repr(name) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_does_not_fit_is_not_sent_home(tmp_path):
    out = port(tmp_path)
    arrays = {n: np.array(TensorStore.open(out).read(n)) for n in TensorStore.open(out)}
    del arrays["steps"]
    arrays["q.kernel"] = arrays["q.kernel"][:, :3]
    arrays["adapter"] = np.zeros(1)
    save(out, arrays)
    with pytest.raises(WeightsError) as caught:
        send_home(out, tmp_path / "home")
    for name in ("steps", "qkv.weight", "adapter"):
        assert repr(name) in str(caught.value)
    assert not (tmp_path / "home").exists()


def test_weights_being_read_are_not_replaced(tmp_path):
    out = port(tmp_path)
    before = contents(out)
    with pytest.raises(WeightsError, match="choose another folder"):
        send_home(out, out)
    with pytest.raises(WeightsError, match="choose another folder"):
        convert(TensorStore.open(out), WeightMap(()), out / ".." / "port")
    assert contents(out) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("{", "is not JSON"),
        ("{}", 'no weight map under the key "weights"'),
        ('{"weights": 3}', r"port\.json: a weight map is"),
    ],
)
def test_folders_that_are_no_port(tmp_path, content, message):
    out = port(tmp_path)
    (out / "port.json").unlink()
    if content is not None:
        (out / "port.json").write_text(content)
    with pytest.raises(WeightsError, match=message):
        send_home(out, tmp_path / "home")


def test_unported_tensors_of_another_port(tmp_path):
    out = port(tmp_path)
    save(out / "unported.safetensors", {"embed.weight": np.zeros(1)})
    with pytest.raises(WeightsError, match=r"first of them 'embed\.weight'"):
        send_home(out, tmp_path / "home")


MEASURE = """
import json, sys
from ivyport.weights import *

def status(key):
    with open("/proc/self/status") as file:
        return next(int(l.split()[1]) for l in file if l.startswith(key)) * 1024

folder, direction, dtype = sys.argv[1:]
weights = WeightMap.from_json(json.load(open(f"{folder}/port/port.json"))["weights"])
before = status("VmRSS")
if direction == "there":
    store = TensorStore.open(f"{folder}/source")
    convert(store, weights, f"{folder}/port", dtype=None if dtype == "same" else dtype)
else:
    send_home(f"{folder}/port", f"{folder}/home")
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_peak_memory_is_the_largest_tensor(tmp_path):
    """400 MB in 20 tensors, transposed, split and stacked: the peak is one of them."""
    side = 2**20 * 5 // 1024
    names = [f"layer.{i}.weight" for i in range(20)]
    items = [
        Pending(n, "float32", (side, 1024), lambda: np.ones((side, 1024), np.float32))
        for n in names
    ]
    write(tmp_path / "source", items)
    rows = [Row(n, n, (Permute((1, 0)),)) for n in names[:-4]]
    half = side // 2
    for name in names[-4:-2]:
        rows.append(Row(name, f"{name}.a", (Slice(0, 0, half),)))
        rows.append(Row(name, f"{name}.b", (Slice(0, half, side), Permute((1, 0)))))
    for i, name in enumerate(names[-2:]):
        box = (Slice(1, i * 1024, i * 1024 + 1024),)
        rows.append(Row(name, "stacked", target_slice=box))
    (tmp_path / "port").mkdir()
    content = {"weights": WeightMap(tuple(rows)).to_json()}
    (tmp_path / "port" / "port.json").write_text(json.dumps(content))
    largest = 2 * side * 1024 * 4
    for direction, dtype in (
        ("there", "bfloat16"),
        ("there", "same"),
        ("back", "same"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(tmp_path), direction, dtype],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert done.returncode == 0, done.stderr
        grown = int(done.stdout)
        print(f"{direction} {dtype}: {grown / 2**20:.0f} MiB")
        assert grown < largest + 100e6
    assert contents_equal(tmp_path / "home", tmp_path / "source")


def contents_equal(one: Path, two: Path) -> bool:
    (a,), (b,) = one.glob("*.safetensors"), two.glob("*.safetensors")
    stores = TensorStore.open(a), TensorStore.open(b)
    return stores[0].names() == stores[1].names() and all(
        np.array_equal(stores[0].read(n), stores[1].read(n)) for n in stores[0]
    )
