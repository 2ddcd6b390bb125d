from __future__ import annotations

import pytest
import torch

from ivyport.core.errors import InputError
from ivyport.zoo import hf, hf_configs

BATCH, SEQ = 2, 16

# The first output's shape for example inputs and for second inputs.
SHAPES = {
    "bert": ((2, 16, 32), (3, 21, 32)),
    "roberta": ((2, 16, 32), (3, 21, 32)),
    "distilbert": ((2, 16, 32), (3, 21, 32)),
    "albert": ((2, 16, 32), (3, 21, 32)),
    "electra": ((2, 16, 32), (3, 21, 32)),
    "deberta-v2": ((2, 16, 32), (3, 21, 32)),
    "gpt2": ((2, 16, 32), (3, 21, 32)),
    "opt": ((2, 16, 20), (3, 21, 20)),
    "llama": ((2, 16, 32), (3, 21, 32)),
    "qwen3": ((2, 16, 32), (3, 21, 32)),
    "mistral": ((2, 16, 32), (3, 21, 32)),
    "mixtral": ((2, 16, 32), (3, 21, 32)),
    "t5": ((2, 11, 32), (3, 15, 32)),
    "bart": ((2, 11, 32), (3, 15, 32)),
    "vit": ((2, 10, 32), (3, 10, 32)),
    "swin": ((2, 64, 32), (3, 64, 32)),
    "convnext": ((2, 20, 2, 2), (3, 20, 2, 2)),
    "resnet": ((2, 28, 2, 2), (3, 28, 2, 2)),
    "clip": ((3, 2), (4, 3)),  # images by texts
    "whisper": ((2, 16, 32), (3, 21, 32)),
    "wav2vec2": ((2, 24, 32), (3, 29, 32)),
}
TEXT = {0: "batch", 1: "seq"}
IMAGE = {1: None, 2: None, 3: None}


def tiny(family: str, cls: str | None = None, **settings):
    config = hf_configs.tiny_config(family)
    for key, value in settings.items():
        setattr(config, key, value)
    return hf.build(config, cls=cls, perturb=True)


def run(model, inputs):
    with torch.no_grad():
        return model(**inputs)


def tensors(output) -> list[torch.Tensor]:
    return [value for value in output.values() if isinstance(value, torch.Tensor)]


def test_every_family_is_here():
    assert set(SHAPES) == set(hf_configs.FAMILIES)


@pytest.mark.parametrize("family", SHAPES)
def test_families_run_on_both_inputs(family):
    model = tiny(family)
    first, second = SHAPES[family]
    inputs = hf.example_inputs(model)
    others = hf.second_inputs(model)
    outputs, other_outputs = run(model, inputs), run(model, others)
    assert outputs[0].shape == first
    assert other_outputs[0].shape == second
    for value in tensors(outputs) + tensors(other_outputs):
        assert value.isfinite().all()
    assert inputs.keys() == others.keys() == hf.dims(model, inputs).keys()


@pytest.mark.parametrize("family", SHAPES)
def test_named_axes_are_the_ones_that_change(family):
    model = tiny(family)
    inputs, others = hf.example_inputs(model), hf.second_inputs(model)
    sizes: dict[str, set[tuple[int, int]]] = {}
    for name, axes in hf.dims(model, inputs).items():
        assert list(axes) == list(range(inputs[name].ndim))
        for axis, dim in axes.items():
            pair = inputs[name].shape[axis], others[name].shape[axis]
            if dim is None:
                assert pair[0] == pair[1]
            else:
                assert pair[0] != pair[1]
                sizes.setdefault(dim, set()).add(pair)
    assert all(len(pairs) == 1 for pairs in sizes.values())
    # No two free axes have one size, so that mixing them up cannot go unseen.
    assert len({pair for pairs in sizes.values() for pair in pairs}) == len(sizes)


@pytest.mark.parametrize("family", SHAPES)
def test_inputs_are_seeded(family):
    model = tiny(family)
    once, again = hf.example_inputs(model), hf.example_inputs(model)
    other = hf.example_inputs(model, seed=1)
    assert all(torch.equal(once[name], again[name]) for name in once)
    main = model.main_input_name
    assert not torch.equal(once[main], other[main])


@pytest.mark.parametrize("family", SHAPES)
def test_the_random_state_is_left_alone(family):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    hf.example_inputs(tiny(family))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5", "clip"])
def test_the_second_row_is_padded(family):
    model = tiny(family)
    inputs = hf.example_inputs(model)
    mask = inputs["attention_mask"]
    assert mask.dtype == inputs["input_ids"].dtype == torch.int64
    assert mask[0].tolist() == [1] * SEQ
    assert mask[1].tolist() == [1] * 13 + [0] * 3


def test_padding_is_the_padding_token():
    model = tiny("roberta")
    inputs = hf.example_inputs(model)
    padded = inputs["input_ids"] == model.config.pad_token_id
    assert torch.equal(padded, inputs["attention_mask"] == 0)


def test_the_mask_matters():
    model = tiny("bert")
    inputs = hf.example_inputs(model)
    masked = run(model, inputs)[0]
    unmasked = run(model, {"input_ids": inputs["input_ids"]})[0]
    assert torch.equal(masked[0], unmasked[0])
    assert not torch.allclose(masked[1], unmasked[1], atol=1e-2)


@pytest.mark.parametrize(("end", "token"), [(2, 98), (55, 55)])
def test_clip_texts_end_where_clip_pools(end, token):
    config = hf_configs.tiny_config("clip")
    config.text_config.eos_token_id = end
    model = hf.build(config)
    inputs = hf.example_inputs(model, batch=3)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    last = mask.sum(1) - 1
    assert (ids.gather(1, last[:, None]) == token).all()
    assert ((ids == token).sum(1) == 1).all()
    assert len(set(last.tolist())) == 3


@pytest.mark.parametrize(
    ("family", "cls", "names", "shape"),
    [
        ("bert", "BertForMaskedLM", TEXT, (2, 16, 99)),
        ("bert", "BertForSequenceClassification", TEXT, (2, 3)),
        ("bert", "BertForTokenClassification", TEXT, (2, 16, 3)),
        ("bert", "BertForQuestionAnswering", TEXT, (2, 16)),
        ("bert", "BertForMultipleChoice", {0: "batch", 1: None, 2: "seq"}, (2, 3)),
        ("gpt2", "GPT2LMHeadModel", TEXT, (2, 16, 99)),
        ("gpt2", "GPT2ForSequenceClassification", TEXT, (2, 3)),
        ("llama", "LlamaForSequenceClassification", TEXT, (2, 3)),
        ("qwen3", "Qwen3ForCausalLM", TEXT, (2, 16, 99)),
        ("t5", "T5EncoderModel", TEXT, (2, 16, 32)),
        ("t5", "T5ForConditionalGeneration", TEXT, (2, 11, 99)),
        ("bart", "BartForSequenceClassification", TEXT, (2, 3)),
        ("clip", "CLIPTextModelWithProjection", TEXT, (2, 13)),
        ("vit", "ViTForImageClassification", {0: "batch", **IMAGE}, (2, 3)),
        ("clip", "CLIPVisionModel", {0: "batch", **IMAGE}, (2, 5, 24)),
        ("clip", "CLIPForImageClassification", {0: "batch", **IMAGE}, (2, 3)),
        (
            "whisper",
            "WhisperForAudioClassification",
            {0: "batch", 1: None, 2: None},
            (2, 3),
        ),
        ("wav2vec2", "Wav2Vec2ForCTC", {0: "batch", 1: "samples"}, (2, 24, 35)),
    ],
)
def test_heads(family, cls, names, shape):
    config = hf_configs.tiny_config(family)
    if cls == "CLIPForImageClassification":
        config.num_labels = 3
    model = hf.build(config, cls=cls, perturb=True)
    inputs = hf.example_inputs(model)
    assert "labels" not in inputs
    assert hf.dims(model, inputs)[model.main_input_name] == names
    outputs = run(model, inputs)
    assert outputs[0].shape == shape
    assert run(model, hf.second_inputs(model))[0].isfinite().all()


def test_dims_of_two_towers():
    model = tiny("clip")
    inputs = hf.example_inputs(model)
    assert hf.dims(model, inputs) == {
        "input_ids": TEXT,
        "attention_mask": TEXT,
        "pixel_values": {0: "image_batch", **IMAGE},
    }
    assert inputs["pixel_values"].shape == (BATCH + 1, 3, 16, 16)


def test_dims_of_an_encoder_and_a_decoder():
    model = tiny("bart")
    assert hf.dims(model, hf.example_inputs(model)) == {
        "input_ids": TEXT,
        "attention_mask": TEXT,
        "decoder_input_ids": {0: "batch", 1: "decoder_seq"},
    }


def test_sizes_can_be_asked_for():
    model = tiny("bert")
    inputs = hf.example_inputs(model, batch=5, seq_len=9)
    assert inputs["input_ids"].shape == (5, 9)
    others = hf.second_inputs(model, inputs)
    assert others["input_ids"].shape == (6, 14)
    # Nothing longer fits into 43 positions, so the second are shorter.
    longest = hf.example_inputs(model, seq_len=43)
    assert hf.second_inputs(model, longest)["input_ids"].shape == (3, 38)


def test_one_row_and_one_token_work():
    model = tiny("gpt2")
    inputs = hf.example_inputs(model, batch=1, seq_len=1)
    assert inputs["attention_mask"].tolist() == [[1]]
    assert run(model, inputs)[0].isfinite().all()


def test_audio_length_is_counted_in_frames():
    model = tiny("wav2vec2")
    inputs = hf.example_inputs(model, seq_len=9)
    assert run(model, inputs)[0].shape == (BATCH, 9, 32)
    assert run(model, hf.second_inputs(model, inputs))[0].shape == (3, 14, 32)


@pytest.mark.parametrize(
    ("family", "limit"), [("bert", 43), ("roberta", 41), ("whisper", 23), ("clip", 23)]
)
def test_lengths_beyond_the_positions_are_refused(family, limit):
    model = tiny(family)
    longest = hf.example_inputs(model, seq_len=limit)
    assert run(model, longest)[0].isfinite().all()
    with pytest.raises(InputError, match=f"seq_len is {limit + 1}; .* at most {limit}"):
        hf.example_inputs(model, seq_len=limit + 1)


def test_relative_positions_have_no_limit():
    model = tiny("t5")
    assert run(model, hf.example_inputs(model, seq_len=100))[0].shape == (2, 74, 32)


@pytest.mark.parametrize("sizes", [{"batch": 0}, {"seq_len": 0}])
def test_empty_inputs_are_refused(sizes):
    with pytest.raises(InputError, match="at least 1"):
        hf.example_inputs(tiny("bert"), **sizes)


@pytest.mark.parametrize("family", ["vit", "whisper", "wav2vec2"])
def test_floats_have_the_dtype_of_the_model(family):
    config = hf_configs.tiny_config(family)
    model = hf.build(config, dtype="bfloat16")
    inputs = hf.example_inputs(model)
    assert inputs[model.main_input_name].dtype == torch.bfloat16
    assert run(model, inputs)[0].dtype == torch.bfloat16


def test_an_unknown_input_is_refused_by_name():
    model = tiny("bert")
    inputs = {"input_ids": torch.ones(2, 3), "bbox": torch.ones(2, 3, 4)}
    with pytest.raises(InputError, match="axes of bbox of BertModel are not known"):
        hf.dims(model, inputs)
    with pytest.raises(InputError, match=r"shape \(3,\); it must have 2 axes"):
        hf.dims(model, {"input_ids": torch.ones(3)})
    with pytest.raises(InputError, match="lack its main input 'input_ids'"):
        hf.second_inputs(model, {"attention_mask": torch.ones(2, 3)})


def test_a_model_without_a_rule_says_so():
    from transformers import Speech2TextConfig

    config = Speech2TextConfig(
        vocab_size=31,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=20,
        decoder_ffn_dim=20,
        max_source_positions=40,
    )
    model = hf.build(config)
    with pytest.raises(InputError, match=r"no rule .* Speech2Text.*--inputs FILE"):
        hf.example_inputs(model)
