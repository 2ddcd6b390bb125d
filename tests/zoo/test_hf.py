from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers

from ivyport.core.errors import DependencyError, SourceError
from ivyport.zoo import hf, hf_configs


def tiny(family: str, cls: str | None = None):
    return hf.build(hf_configs.tiny_config(family), cls=cls, perturb=True)


CONVNEXT = "ConvNextForImageClassification"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A saved tiny BERT."""
    tiny("bert").save_pretrained(tmp_path / "tiny-bert")
    return tmp_path / "tiny-bert"


def edit_config(folder: Path, **values) -> None:
    """Set values of a folder's config.json; None removes one."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | values
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


# --- building -------------------------------------------------------------------------


@pytest.mark.parametrize("family", hf_configs.FAMILIES)
def test_perturbed_models_have_no_zero_and_no_one(family):
    model = tiny(family)
    for name, parameter in model.named_parameters():
        assert parameter.count_nonzero() == parameter.numel(), name
        assert not (parameter == 1).any(), name
        assert parameter.isfinite().all(), name
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            assert (buffer > 0.5).all(), name


@pytest.mark.parametrize("perturb", [False, True])
def test_a_seed_determines_the_weights(perturb):
    config = hf_configs.tiny_config("bert")
    states = [
        hf.build(config, seed=seed, perturb=perturb).state_dict() for seed in (3, 3, 4)
    ]
    name = "encoder.layer.1.output.dense.weight"
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0][name], states[2][name])


@pytest.mark.parametrize("family", hf_configs.FAMILIES)
def test_models_are_made_for_tracing(family):
    config = hf_configs.tiny_config(family)
    before = config.to_dict()
    model = hf.build(config)
    assert not model.training
    assert config.to_dict() == before
    assert model.config.return_dict
    assert not getattr(model.config, "use_cache", False)
    eager = {"deberta-v2", "convnext", "resnet"}  # these have no choice
    expected = "eager" if family in eager else "sdpa"
    assert model.config._attn_implementation == expected


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
def test_a_dtype_can_be_asked_for(dtype):
    model = hf.build(hf_configs.tiny_config("llama"), dtype=dtype)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    # As in a loaded model, rotary frequencies keep their precision.
    assert model.rotary_emb.inv_freq.dtype == torch.float32


def test_ties_stay_tied():
    model = tiny("gpt2", "GPT2LMHeadModel")
    assert model.lm_head.weight is model.transformer.wte.weight


def test_the_random_state_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    tiny("bert")
    assert torch.equal(torch.rand(3), expected)


def test_a_config_that_builds_nothing_is_a_source_error():
    config = hf_configs.tiny_config("bert")
    config.num_attention_heads = 5
    with pytest.raises(SourceError, match=r"BertModel cannot be built .*multiple of"):
        hf.build(config)


# --- classes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "name", "found"),
    [
        ("bert", None, "BertModel"),
        ("bert", "BertForMaskedLM", "BertForMaskedLM"),
        ("bert", "AutoModelForMaskedLM", "BertForMaskedLM"),
        ("clip", "CLIPTextModel", "CLIPTextModel"),
        ("deberta-v2", "AutoModel", "DebertaV2Model"),
    ],
)
def test_classes_are_found(family, name, found):
    config = hf_configs.tiny_config(family)
    assert hf.resolve_class(config, name).__name__ == found


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("BertForMaskedLm", "close names: .*BertForMaskedLM"),
        ("GPT2Model", "is for 'gpt2' models, and this config .* 'bert'; .*BertModel"),
        ("AutoModelForImageClassification", "has no class for 'bert'; .*BertModel"),
        ("AutoTokenizer", "AutoTokenizer is no model class; .*BertModel"),
        ("BertConfig", "no model class 'BertConfig'"),
        ("pipeline", "no model class 'pipeline'"),
        ("__doc__", "no model class '__doc__'"),
        ("os.system", "no model class 'os.system'"),
    ],
)
def test_other_class_names_are_refused(name, message):
    with pytest.raises(SourceError, match=message):
        hf.resolve_class(hf_configs.tiny_config("bert"), name)


def test_an_architecture_that_transformers_has_not():
    config = hf_configs.tiny_config("bert")
    config.architectures = ["BertForMaskedLMm"]
    with pytest.raises(SourceError, match=r"'BertForMaskedLMm' is no class.*--class"):
        hf.resolve_class(config, None)


# --- loading without weights ----------------------------------------------------------


@pytest.mark.parametrize(
    ("model_id", "name", "cls"),
    [
        ("facebook/convnext-tiny-224", "convnext_tiny_224", CONVNEXT),
        ("resnet", "resnet_50", "ResNetForImageClassification"),
        ("mixtral", "mixtral_small_sized", "MixtralForCausalLM"),
    ],
)
def test_known_models_need_no_network_without_weights(model_id, name, cls):
    source = hf.load(model_id, weights=False, local_only=True)
    assert source.name == name
    assert type(source.model).__name__ == cls
    assert source.files is None
    assert source.origin == {
        "kind": "hf",
        "id": hf_configs.published_id(model_id),
        "class": cls,
        "model_type": source.config.model_type,
        "revision": None,
        "transformers": transformers.__version__,
        "dtype": "float32",
        "weights": "random, seed 0",
    }


def test_a_type_outside_the_table_has_its_class_defaults():
    source = hf.load("squeezebert", weights=False, local_only=True)
    assert type(source.model).__name__ == "SqueezeBertModel"
    assert source.name == "squeezebert"


def test_a_folder_gives_its_architecture_with_random_weights(folder):
    (folder / "model.safetensors").unlink()
    source = hf.load(str(folder), weights=False, seed=3)
    assert (source.name, source.files) == ("tiny_bert", None)
    assert source.origin["weights"] == "random, seed 3"
    assert source.config.hidden_size == 32


def test_a_wrong_dtype_is_refused():
    with pytest.raises(SourceError, match="'int8' is none of float32, bfloat16"):
        hf.load("bert", weights=False, dtype="int8")


# --- configs --------------------------------------------------------------------------


def test_a_folder_without_a_config(tmp_path):
    with pytest.raises(SourceError, match=r"has no config\.json"):
        hf.load(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "holds a list; it must hold an object"),
        ("\xff", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("{}", "neither 'model_type' nor 'architectures'"),
        ('{"architectures": []}', "neither 'model_type' nor 'architectures'"),
        ('{"architectures": "BertModel"}', "neither 'model_type' nor 'arch"),
        ('{"model_type": 3}', "must be text"),
        ('{"model_type": "bertt"}', "'bertt' is unknown .*close names: bert"),
        ('{"architectures": ["Nope"]}', "'Nope' is unknown to transformers"),
        ('{"model_type": "bert", "hidden_size": "x"}', "is no 'bert' configuration"),
    ],
)
def test_malformed_configs(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(SourceError, match=message):
        hf.load(str(tmp_path))


def test_an_old_config_that_names_only_its_class(folder):
    edit_config(folder, model_type=None, architectures=["BertModel"])
    assert type(hf.load(str(folder)).model).__name__ == "BertModel"


def test_remote_code_is_refused_and_never_run(folder, tmp_path):
    witness = tmp_path / "executed"
    code = f"open({str(witness)!r}, 'w').close()\n"
    for name in ("modeling_x.py", "configuration_x.py", "__init__.py"):
        (folder / name).write_text(code)
    auto = {"AutoConfig": "configuration_x.XConfig", "AutoModel": "modeling_x.XModel"}
    edit_config(folder, model_type="x_model", architectures=["XModel"], auto_map=auto)
    with pytest.raises(SourceError, match=r"needs remote code.*never run"):
        hf.load(str(folder))
    with pytest.raises(SourceError, match=r"needs remote code.*never run"):
        hf.load(str(folder), weights=False)
    # A model type of transformers' own is built by transformers, whatever it maps to.
    edit_config(folder, model_type="bert", architectures=["BertModel"])
    assert type(hf.load(str(folder)).model).__module__.startswith("transformers.")
    assert not witness.exists()


def test_settings_that_choose_code_are_dropped(folder):
    edit_config(
        folder,
        attn_implementation="somebody/kernel",
        _attn_implementation="somebody/kernel",
        transformers_weights="../elsewhere.safetensors",
        fusion_config={"patch_embeddings": True},
    )
    model = hf.load(str(folder)).model
    assert model.config._attn_implementation == "sdpa"


def test_quantised_checkpoints_are_refused(folder):
    edit_config(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(SourceError, match="quantised checkpoint"):
        hf.load(str(folder))


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(DependencyError, match=r"'transformers'.*ivyport\[hf\]"):
        hf.load("bert", weights=False)
