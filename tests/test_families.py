"""Every family that is promised, tiny and with random weights, from torch to JAX.

`ivyport.verify` compares outputs, the gradient of every parameter, and outputs on inputs
of other sizes; see `ivyport.verification`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("flax")

import ivyport
from ivyport.core.report import Report
from ivyport.zoo import hf, hf_configs, hf_inputs

BASES = [
    "bert",
    "roberta",
    "distilbert",
    "albert",
    "electra",
    "deberta-v2",
    "gpt2",
    "opt",
    "llama",
    "qwen3",
    "mistral",
    "mixtral",
    "t5",
    "bart",
    "vit",
    "swin",
    "convnext",
    "resnet",
    "clip",
    "whisper",
    "wav2vec2",
]
BASE_CLASSES = {
    "bert": "BertModel",
    "roberta": "RobertaModel",
    "distilbert": "DistilBertModel",
    "albert": "AlbertModel",
    "electra": "ElectraModel",
    "deberta-v2": "DebertaV2Model",
    "gpt2": "GPT2Model",
    "opt": "OPTModel",
    "llama": "LlamaModel",
    "qwen3": "Qwen3Model",
    "mistral": "MistralModel",
    "mixtral": "MixtralModel",
    "t5": "T5Model",
    "bart": "BartModel",
    "vit": "ViTModel",
    "swin": "SwinModel",
    "convnext": "ConvNextModel",
    "resnet": "ResNetModel",
    "clip": "CLIPModel",
    "whisper": "WhisperModel",
    "wav2vec2": "Wav2Vec2Model",
}
HEADS = {
    "BertForMaskedLM": "bert",
    "BertForSequenceClassification": "bert",
    "GPT2LMHeadModel": "gpt2",
    "LlamaForCausalLM": "llama",
    "T5ForConditionalGeneration": "t5",
    "ViTForImageClassification": "vit",
    "Wav2Vec2ForCTC": "wav2vec2",
}
# Parameters that the forward pass of each head does not hold twice.
TIED = {
    "BertForMaskedLM": (
        "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.weight",
    ),
    "GPT2LMHeadModel": ("transformer.wte.weight", "lm_head.weight"),
    "T5ForConditionalGeneration": ("shared.weight", "encoder.embed_tokens.weight"),
}


def test_every_family_has_a_case() -> None:
    assert set(BASES) == set(BASE_CLASSES)
    assert set(BASES) <= set(hf_configs.FAMILIES)


def port(family: str, cls: str) -> tuple[Any, Any, Report]:
    """The source, its port and how they compare."""
    model = hf.build(hf_configs.tiny_config(family), cls=cls, seed=0, perturb=True)
    inputs = hf_inputs.example_inputs(model)
    dims = hf_inputs.dims(model, inputs)
    # All of it is compared right below.
    ported = ivyport.transpile(model, "jax", kwargs=inputs, dims=dims, verify=False)
    return model, ported, ivyport.verify(model, ported)


def check(report: Report) -> None:
    """All that was compared agrees, and everything was compared."""
    failing = [
        f"{row.inputs} {row.kind} {row.name}: {row.max_rel:.2e} > {row.tolerance:.0e}"
        for row in report.rows
        if not row.passed
    ]
    assert not failing, "\n".join([*failing[:12], f"first drift: {report.first_drift}"])
    kinds = {(row.inputs, row.kind) for row in report.rows}
    assert {("traced", "output"), ("traced", "gradient"), ("second", "output")} <= kinds
    for name, (traced, *others) in report.dims.items():
        assert set(others) - {traced}, f"{name} is {traced} in all inputs"
    assert "batch" in {name.rpartition("_")[2] for name in report.dims}


@pytest.mark.parametrize("family", BASES)
def test_base_model(family: str) -> None:
    model, _, report = port(family, BASE_CLASSES[family])
    assert type(model).__name__ == BASE_CLASSES[family]
    check(report)


@pytest.mark.parametrize("cls", HEADS)
def test_head(cls: str) -> None:
    model, ported, report = port(HEADS[cls], cls)
    assert type(model).__name__ == cls
    check(report)
    if cls in TIED:
        first, second = (_at(model, name) for name in TIED[cls])
        assert first is second
        shape = tuple(first.shape)
        assert _shapes(ported).count(shape) + _shapes(ported).count(shape[::-1]) == 1


def _at(model: Any, path: str) -> Any:
    for part in path.split("."):
        model = getattr(model, part)
    return model


def _shapes(ported: Any) -> list[tuple[int, ...]]:
    from flax import nnx

    state = nnx.state(ported, nnx.Param)
    return [tuple(np.shape(v[...])) for _, v in nnx.to_flat_state(state)]
