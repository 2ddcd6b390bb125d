"""Cases, the suite's names, engines: what a user may ask for, and what is refused."""

from __future__ import annotations

import pytest

from ivyport.bench import suite
from ivyport.bench.case import FIELDS, Case, Row
from ivyport.bench.engines import BASELINES, SCAN, baselines, hand_written, ports
from ivyport.bench.runner import cases_of
from ivyport.core.errors import InputError

SCHEMA = (
    "model", "engine", "mode", "batch", "seq_len", "dtype", "device", "runs",
    "median_ms", "mean_ms", "p10_ms", "p90_ms", "compile_s", "peak_memory_mb",
    "max_rel_diff", "speedup_vs_best_torch", "status", "others",
)  # fmt: skip
# What the benchmark promises to cover, as parts of the entries' class names.
PROMISED = (
    "BertModel", "Roberta", "DistilBert", "Albert", "Electra", "DebertaV2", "GPT2", "OPT",
    "Llama", "T5", "Bart", "ViT", "Swin", "ConvNext", "ResNet", "CLIP", "Wav2Vec2",
    "Whisper", "Perceiver",
)  # fmt: skip


def case(**changes):
    values = {
        "model": "gpt2",
        "mode": "forward",
        "batch": 1,
        "seq_len": 128,
        "dtype": "float32",
        "device": "cpu",
    }
    return Case(**values | changes)


def test_rows_have_the_published_fields():
    assert FIELDS == SCHEMA
    row = Row.of(case(), "jax")
    assert tuple(row.to_json()) == SCHEMA
    assert Row(**row.to_json()) == row


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "backward"}, "mode 'backward' is none of: forward, train"),
        ({"dtype": "int8"}, "dtype 'int8' is none of"),
        ({"device": "tpu"}, "device 'tpu' is none of"),
        ({"batch": 0}, "must be at least 1"),
    ],
)
def test_a_bad_case_is_one_clear_error(changes, message):
    with pytest.raises(InputError, match=message):
        case(**changes)


def test_the_suite_has_every_promised_model():
    classes = [entry.cls for entry in suite.ENTRIES.values()]
    for name in PROMISED:
        assert any(name in cls for cls in classes), name


@pytest.mark.parametrize("name", ["gpt2", "openai-community/gpt2"])
def test_models_are_found_by_any_name(name):
    assert [entry.name for entry in suite.resolve([name, "gpt2"])] == ["gpt2"]


def test_models_are_found_by_their_type():
    names = [entry.name for entry in suite.resolve(["bert", "perceiver", "tiny:t5"])]
    assert names == ["bert-base-uncased", "vision-perceiver-fourier", "tiny:t5"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpt-2", "no benchmark model 'gpt-2'. Close: gpt2"),
        ("tiny:nothing", "no tiny benchmark model 'tiny:nothing'"),
        ("mixtral", "no benchmark model 'mixtral'"),
    ],
)
def test_an_unknown_model_is_one_clear_error(name, message):
    with pytest.raises(InputError, match=message):
        suite.resolve([name])


def test_models_without_a_length_have_no_case_twice():
    entries = suite.resolve(["resnet-50", "gpt2"])
    found = cases_of(
        entries,
        modes=["forward"],
        dtypes=["float32"],
        batches=[1, 8],
        seq_lens=[16, 128],
        device="cpu",
    )
    assert [(c.model, c.batch, c.seq_len) for c in found] == [
        ("resnet-50", 1, None),
        ("resnet-50", 8, None),
        ("gpt2", 1, 16),
        ("gpt2", 1, 128),
        ("gpt2", 8, 16),
        ("gpt2", 8, 128),
    ]


def test_the_default_suite_fits_the_machine():
    small, left_out = suite.default_suite(
        device="cpu", cores=2, memory=12 * 10**9, copies=5
    )
    names = [entry.name for entry in small]
    assert "bert-base-uncased" in names
    assert "Llama-3.2-1B" not in names
    by_default = [entry for entry in suite.ENTRIES.values() if entry.by_default]
    assert len(names) + len(left_out) == len(by_default)
    assert any("Llama-3.2-1B: 5 engines need" in text for text in left_out)
    large, left_out = suite.default_suite(
        device="gpu", cores=16, memory=75 * 10**9, copies=5
    )
    assert large == by_default
    assert not left_out


def test_engines_by_name():
    found = [*baselines(BASELINES), *ports(["jax", "nnx"], scan_layers=True)]
    assert [e.name for e in found] == [*BASELINES, "jax", SCAN]
    assert [e.is_baseline for e in found] == [True] * 4 + [False] * 2


def test_a_length_is_at_most_the_models_own():
    [clip] = suite.resolve(["clip-vit-base-patch32"])
    assert [clip.seq_len(16), clip.seq_len(128)] == [16, 77]


def test_a_folder_without_flax_classes_is_refused(tmp_path):
    with pytest.raises(InputError, match="no transformers with Flax classes there"):
        hand_written(tmp_path)
    (tmp_path / "transformers").mkdir()
    (tmp_path / "transformers" / "modeling_flax_utils.py").touch()
    engine = hand_written(tmp_path)
    assert engine.path == (str(tmp_path),)
    assert not engine.is_baseline


def test_unknown_engines_are_refused():
    with pytest.raises(InputError, match="--baseline 'compiled' is none of: eager"):
        baselines(["compiled"])
    with pytest.raises(InputError, match="no target 'cobol'"):
        ports(["cobol"])
    with pytest.raises(InputError, match="--scan-layers is about ports to JAX"):
        ports([], scan_layers=True)


def test_dropout_is_off_in_train_cases():
    pytest.importorskip("transformers")
    from ivyport.zoo import hf_configs

    for family in hf_configs.FAMILIES:
        config = hf_configs.tiny_config(family)
        suite.without_dropout(config)
        for part in (config, *(getattr(config, k) for k in type(config).sub_configs)):
            values = part.to_dict()
            rates = {k: v for k, v in values.items() if "drop" in k and v}
            assert not rates, family
            assert not values.get("apply_spec_augment"), family
