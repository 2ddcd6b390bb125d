"""Weights of haiku models from every kind of file, and from where they are published."""

from __future__ import annotations

import http.server
import pickle
import threading
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from ivyport.core.errors import SourceError, WeightsError
from ivyport.zoo.haiku import checkpoints
from tests.haiku_goldens import golden_file

F32 = np.float32
PARAMS = {
    "net/~/linear": {"w": np.ones((2, 3), F32), "b": np.zeros(3, F32)},
    "net/~/norm": {"scale": np.full((1, 3), 2, F32)},
}
STATE = {
    "net/~/norm/~/ema": {"counter": np.array(4, np.int32), "average": np.ones(3, F32)}
}


def flat(separator: str, *, prefix: bool) -> dict[str, np.ndarray]:
    return {
        f"{collection}:" * prefix + f"{module}{separator}{name}": array
        for collection, tree in (("params", PARAMS), ("state", STATE))
        for module, own in tree.items()
        for name, array in own.items()
    }


def write(path: Path, data: object) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **data)
    elif path.suffix == ".safetensors":
        save_file(data, path)
    else:
        path.write_bytes(pickle.dumps(data))
    return path


def assert_trees(loaded):
    for found, tree in zip(loaded, (PARAMS, STATE), strict=True):
        assert found.keys() == tree.keys()
        for module, own in tree.items():
            assert found[module].keys() == own.keys()
            for name, array in own.items():
                assert found[module][name].dtype == array.dtype
                np.testing.assert_array_equal(found[module][name], array)


@pytest.mark.parametrize(
    ("file", "data"),
    [
        ("a.pystate", {"params": PARAMS, "state": STATE}),
        ("a.npz", flat(":", prefix=True)),
        ("a.npz", flat(":", prefix=True) | {"in:x": np.ones(2), "out": np.ones(1)}),
        ("a.safetensors", flat(":", prefix=True)),
        ("a.safetensors", flat(":", prefix=False)),
        ("a.safetensors", flat("/", prefix=False)),
        ("a.safetensors", flat("/", prefix=True)),
    ],
)
def test_every_form(tmp_path, file, data):
    assert_trees(checkpoints.load(write(tmp_path / file, data), PARAMS, STATE))


def test_params_alone(tmp_path):
    path = write(tmp_path / "a.pickle", PARAMS)
    params, state = checkpoints.load(path, PARAMS, {})
    assert_trees((params, STATE))
    assert state == {}


def test_lower_precision_is_widened(tmp_path):
    half = {
        name: array.astype(ml_dtypes.bfloat16) if array.dtype == F32 else array
        for name, array in flat(":", prefix=False).items()
    }
    path = write(tmp_path / "a.safetensors", half)
    assert_trees(checkpoints.load(path, PARAMS, STATE))


def test_all_differences_at_once(tmp_path):
    data = flat(":", prefix=True)
    del data["params:net/~/linear:b"], data["state:net/~/norm/~/ema:average"]
    data["params:net/~/linear:w"] = np.ones((3, 2), F32)
    data["params:net/~/norm:scale"] = np.ones((1, 3), np.float64)
    data["params:net/~/norm:offset"] = np.ones(3, F32)
    path = write(tmp_path / "a.npz", data)
    with pytest.raises(WeightsError) as error:
        checkpoints.load(path, PARAMS, STATE, what="perceiver imagenet-conv")
    assert str(error.value).splitlines() == [
        f"{path} does not fit perceiver imagenet-conv:",
        "  missing from the file (2):",
        "    'net/~/linear:b'",
        "    'state:net/~/norm/~/ema:average'",
        "  not in the model (1):",
        "    'net/~/norm:offset'",
        "  of another shape (1):",
        "    'net/~/linear:w': (3, 2), expected (2, 3)",
        "  of another dtype (1):",
        "    'net/~/norm:scale': float64, expected float32",
    ]


def test_one_tensor_under_two_names(tmp_path):
    data = {"net/a:w": np.ones(1, F32), "net/a/w": np.ones(1, F32)}
    path = write(tmp_path / "a.safetensors", data)
    with pytest.raises(WeightsError, match=r"twice in the file \(1\):\s+'net/a:w'"):
        checkpoints.load(path, {"net/a": {"w": np.ones(1, F32)}}, {})


@pytest.mark.parametrize(
    ("file", "data", "said"),
    [
        ("a.pystate", [1, 2], "params is a list, expected a mapping by names"),
        (
            "a.pystate",
            {"params": {"a": np.ones(2)}},
            "params:a is a ndarray, expected a",
        ),
        ("a.pystate", {"a": {"w": "text"}}, "params:a:w is a str, expected an array"),
        (
            "a.npz",
            {"linear:w": np.ones(2)},
            "'linear:w' does not read as params:MODULE",
        ),
        (
            "a.npz",
            {"params:w": np.ones(2)},
            "'params:w' does not read as params:MODULE",
        ),
        ("a.npz", {"params:a:w": np.array([None])}, "cannot be read"),
        ("a.safetensors", {"w": np.ones(2)}, r"'w' does not read as .* or MODULE/NAME"),
        (
            "a.ckpt",
            {},
            r"are read from \.pystate, \.pickle, \.pkl, \.npz, \.safetensors",
        ),
    ],
)
def test_wrong_contents(tmp_path, file, data, said):
    with pytest.raises(WeightsError, match=said):
        checkpoints.load(write(tmp_path / file, data), PARAMS, STATE)


@pytest.mark.parametrize("file", ["a.pystate", "a.npz", "a.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_truncated_files(tmp_path, file, share):
    data = {"params": PARAMS} if file == "a.pystate" else flat(":", prefix=True)
    path = write(tmp_path / file, data)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(WeightsError, match=file):
        checkpoints.load(path, PARAMS, STATE)


def test_damaged_npz_member(tmp_path):
    whole = bytearray(golden_file("imagenet-fourier").read_bytes())
    for place in range(200, 4000, 7):
        whole[place] ^= 0xFF
    path = tmp_path / "damaged.npz"
    path.write_bytes(bytes(whole))
    with pytest.raises(WeightsError, match=r"damaged\.npz cannot be read"):
        checkpoints.read(path)


def test_no_file(tmp_path):
    with pytest.raises(WeightsError, match=r"absent\.npz: no such file"):
        checkpoints.load(tmp_path / "absent.npz", PARAMS, STATE)


# ---- published files

CONTENT = b"weights" * 1000


class Server(http.server.BaseHTTPRequestHandler):
    """Serves a whole file, one that ends too soon, and 404 for everything else."""

    asked: list[str]

    def do_GET(self):
        self.asked.append(self.path)
        if self.path.endswith(("whole.pickle", "short.pickle")):
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT if "whole" in self.path else CONTENT[:100])
        else:
            self.send_error(404)

    def log_message(self, format, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The address of a server, and the requests that it gets; the cache is empty."""
    monkeypatch.setenv("IVYPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    Server.asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", Server.asked
        running.shutdown()
        thread.join()


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_download_once(server, tmp_path):
    url, asked = server
    seen: list[int] = []
    path = checkpoints.fetch(f"{url}/bucket/whole.pickle", seen.append)
    assert path.read_bytes() == CONTENT
    assert sum(seen) == len(CONTENT)
    assert checkpoints.fetch(f"{url}/bucket/whole.pickle") == path
    assert asked == ["/bucket/whole.pickle"]
    assert files(tmp_path) == ["cache/bucket/whole.pickle"]


@pytest.mark.parametrize(
    ("name", "said"),
    [("short.pickle", "ended after 100 of 7000 bytes"), ("absent.pickle", "Not Found")],
)
def test_failed_download_leaves_nothing(server, tmp_path, name, said):
    url, _ = server
    with pytest.raises(SourceError, match=said) as error:
        checkpoints.fetch(f"{url}/bucket/{name}")
    for part in (
        f"{url}/bucket/{name}",
        "--weights FILE",
        "--no-weights",
        str(tmp_path),
    ):
        assert part in str(error.value)
    assert files(tmp_path) == []


def test_no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("IVYPORT_CACHE", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(SourceError, match=r"cannot be downloaded: .*--weights FILE"):
        checkpoints.fetch("http://127.0.0.1:9/bucket/whole.pickle")
    assert files(tmp_path) == []


def test_cache_folder(monkeypatch):
    monkeypatch.delenv("IVYPORT_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert checkpoints.cache_folder() == Path.home() / ".cache/ivyport"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert checkpoints.cache_folder() == Path("/x/ivyport")
    monkeypatch.setenv("IVYPORT_CACHE", "/y")
    assert checkpoints.cache_folder() == Path("/y")
