"""The engines on tiny models, in this process: parity, train steps, scanned layers."""

from __future__ import annotations

import dataclasses
import importlib.util
import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("flax")

from ivyport.bench import flax_engine, prepare, scanning, session, suite, worker
from ivyport.bench.engines import SCAN, Engine, baselines, ports


@pytest.fixture(autouse=True)
def _settings():
    """Engines set the precision of products for their whole process."""
    import jax
    import torch

    precision = torch.get_float32_matmul_precision()
    threads, tf32 = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(precision)
    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = tf32
    jax.config.update("jax_default_matmul_precision", None)


def made(folder, model, *, dtype="float32", mode="forward", seq_len=12, **settings):
    """What `prepare` makes of a tiny model, and the job of an engine on it."""
    [entry] = suite.resolve([f"tiny:{model}"])
    entry = dataclasses.replace(entry, settings={**entry.settings, **settings})
    sizes = (prepare.Sizes("case-0", 2, entry.seq_len(seq_len)),)
    recipe = prepare.Recipe(entry, dtype, mode, sizes, 1)
    prepare.build(recipe, folder)
    prepare.port(recipe, folder, "jax")
    built = json.loads((folder / "built.json").read_text())["case-0"]

    def job(engine: Engine) -> session.Job:
        return session.Job(
            engine=engine.name,
            loader=engine.loader,
            port=engine.port,
            path=(),
            model=str(folder),
            inputs=str(folder / "case-0"),
            cls=entry.cls,
            mode=mode,
            dtype=dtype,
            device="cpu",
            threads=1,
            tf32=False,
            rate=built.get("rate", 0.0),
        )

    return job, built


@pytest.mark.parametrize(
    ("model", "dtype", "mode"),
    [
        ("bert", "float32", "forward"),
        ("bert", "float32", "train"),
        # Its batch statistics change in a step.
        pytest.param("resnet", "float32", "train", marks=pytest.mark.slow),
        pytest.param("gpt2", "bfloat16", "forward", marks=pytest.mark.slow),
        pytest.param("gpt2", "bfloat16", "train", marks=pytest.mark.slow),
        pytest.param("t5", "float32", "train", marks=pytest.mark.slow),
        pytest.param("swin", "float32", "train", marks=pytest.mark.slow),
    ],
)
def test_engines_agree(tmp_path, model, dtype, mode):
    job, built = made(tmp_path, model, dtype=dtype, mode=mode)
    scan = model == "bert" and mode == "train"
    for engine in [*baselines(["eager"]), *ports(["jax"], scan_layers=scan)]:
        loaded, found = worker.start(job(engine))
        assert found["difference"] <= built["tolerance"], engine.name
        assert found["update"] <= built.get("update", 0.0), engine.name
        assert found["first_call_s"] > 0
        scanned = ["encoder.layer: 2"] if engine.name == SCAN else None
        assert loaded.about().get("scanned") == scanned
        again = [loaded.call(variant) for variant in (0, 1, 0)]
        if mode == "train":
            # The timed rate hardly moves the weights, so the losses come back.
            losses = [float(value) for value in again]
            assert losses[0] != losses[1]
            assert losses[2] == pytest.approx(losses[0], abs=0.05)
        else:
            first, second, third = (loaded.read(o) for o in again)
            assert set(first) == set(third)
            for name, value in first.items():
                np.testing.assert_array_equal(value, third[name])
            assert any((first[n] != second[n]).any() for n in first)


def test_a_wrong_gradient_is_seen(tmp_path, monkeypatch):
    job, built = made(tmp_path, "bert", mode="train")
    import torch

    honest = torch.nn.functional.gelu
    # Its value, but no gradient: the output before the steps is right.
    monkeypatch.setattr(
        torch.nn.functional, "gelu", lambda x, *a, **k: honest(x, *a, **k).detach()
    )
    monkeypatch.setattr(torch._C._nn, "gelu", torch.nn.functional.gelu)
    _, found = worker.start(job(baselines(["eager"])[0]))
    assert found["update"] > built["update"]


def test_a_model_without_layers_to_scan_says_so(tmp_path):
    from ivyport.bench.case import NOT_APPLICABLE

    job, _ = made(tmp_path, "albert")
    _, scanned = ports(["jax"], scan_layers=True)
    with pytest.raises(session.NotApplicableError) as caught:
        worker.start(job(scanned))
    assert session.status_of(caught.value) == NOT_APPLICABLE


LOOPS = """
class Folds:
    def __call__(self, x, mask):
        for layer in self.layers:
            x = layer(x, mask, scale=mask)
        return x

class Mixes:
    def __call__(self, x, mask):
        for layer in self.layers:
            x = layer(x, x + mask)
        return x

class Keeps:
    def __call__(self, x, mask):
        kept = []
        for layer in self.layers:
            x = layer(x, mask)
            kept.append(x)
        return kept

class Uses:
    def __call__(self, x, mask):
        for layer in self.layers:
            x = layer(x, mask)
        return x + len(self.layers)

class Pairs:
    def __call__(self, x, masks):
        for layer, mask in zip(self.layers, masks):
            x = layer(x, mask)
        return x
"""


def test_only_lists_that_are_passed_through_are_scanned(tmp_path):
    file = tmp_path / "loops.py"
    file.write_text(LOOPS)
    spec = importlib.util.spec_from_file_location("loops", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = {
        name: scanning.passed_through(cls)
        for name, cls in vars(module).items()
        if isinstance(cls, type)
    }
    assert found == {
        "Folds": ["layers"],
        "Mixes": [],
        "Keeps": [],
        "Uses": [],
        "Pairs": [],
    }


@pytest.mark.slow
def test_scanned_layers_compile_in_a_quarter_of_the_time(tmp_path):
    job, built = made(tmp_path, "bert", num_hidden_layers=24)
    plain, scanned = (
        worker.start(job(engine))[1] for engine in ports(["jax"], scan_layers=True)
    )
    assert scanned["about"]["scanned"] == ["encoder.layer: 24"]
    assert scanned["difference"] <= built["tolerance"]
    assert scanned["first_call_s"] <= plain["first_call_s"] / 4


@pytest.mark.slow
def test_torch_compile_runs_and_is_counted(tmp_path):
    job, built = made(tmp_path, "bert")
    loaded, found = worker.start(job(baselines(["compile"])[0]))
    assert found["difference"] <= built["tolerance"]
    assert found["about"]["graphs"] >= 1
    assert loaded.about()["graph_breaks"] == 0


@pytest.mark.slow
def test_what_torch_cannot_compile_is_no_win(tmp_path, monkeypatch):
    from ivyport.bench.case import COMPILE_FAILED

    job, _ = made(tmp_path, "bert")
    import torch

    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    torch._dynamo.utils.counters.clear()
    with pytest.raises(session.CompileError) as caught:
        worker.start(job(baselines(["compile"])[0]))
    assert session.status_of(caught.value) == COMPILE_FAILED


class _HandWritten:
    """What `flax_engine` needs of a Flax class: parameters, and a call."""

    def __init__(self, embedding):
        self.params = {"embedding": embedding}

    def __call__(self, input_ids, attention_mask, *, params):
        return {"hidden": params["embedding"][input_ids], "cache": None}


def test_a_hand_written_class_is_called_with_its_parameters(tmp_path):
    job, _ = made(tmp_path, "bert")
    flax = job(Engine("flax", "", "jax", (), ""))
    ids = flax.variants()[1]["input_ids"]
    rows = max(v["input_ids"].max() for v in flax.variants()) + 1
    embedding = np.random.default_rng(0).normal(size=(rows, 4)).astype("float32")
    forward = flax_engine.Forward(flax, _HandWritten(embedding))
    found = forward.read(forward.call(1))
    assert found.keys() == {"hidden"}
    np.testing.assert_array_equal(found["hidden"], embedding[ids])


def test_transformers_without_flax_classes_is_not_applicable(tmp_path):
    job, _ = made(tmp_path, "bert")
    with pytest.raises(session.NotApplicableError, match="no FlaxBertModel"):
        flax_engine.load(job(Engine("flax", "", "jax", (), "")))
