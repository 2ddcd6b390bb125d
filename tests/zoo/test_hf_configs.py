from __future__ import annotations

import pytest
import torch

from ivyport.core.errors import SourceError
from ivyport.zoo import hf, hf_configs

# Parameters of the published checkpoints' own classes, tied ones counted once. A
# setting that is wrong in the table, or a default that changes in transformers, changes
# these.
PARAMETERS = {
    "google-bert/bert-base-uncased": 109_514_298,
    "FacebookAI/roberta-base": 124_697_433,
    "distilbert/distilbert-base-uncased": 66_985_530,
    "albert/albert-base-v2": 11_221_680,
    "google/electra-base-discriminator": 109_483_009,
    "microsoft/deberta-v3-base": 183_831_552,
    "openai-community/gpt2": 124_439_808,
    "facebook/opt-125m": 125_239_296,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "mistral-small-sized": 60_039_680,
    "mixtral-small-sized": 63_815_040,
    "google-t5/t5-small": 60_506_624,
    "google-t5/t5-base": 222_903_552,
    "facebook/bart-base": 139_420_416,
    "google/vit-base-patch16-224": 86_567_656,
    "microsoft/swin-tiny-patch4-window7-224": 28_288_354,
    "facebook/convnext-tiny-224": 28_589_128,
    "microsoft/resnet-50": 25_557_032,
    "openai/clip-vit-base-patch32": 151_277_313,
    "openai/whisper-base": 72_593_920,
    "facebook/wav2vec2-base": 95_044_608,
}


def test_every_row_has_a_count():
    assert set(PARAMETERS) == set(hf_configs.PUBLISHED)


@pytest.mark.parametrize("name", hf_configs.PUBLISHED)
def test_published_configs_have_the_published_size(name):
    config = hf_configs.published_config(name)
    cls = hf.resolve_class(config, None)
    assert cls.__name__ == hf_configs.PUBLISHED[name].architecture
    with torch.device("meta"):
        model = cls(config)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("google-bert/bert-base-uncased", "google-bert/bert-base-uncased"),
        ("bert-base-uncased", "google-bert/bert-base-uncased"),
        ("bert", "google-bert/bert-base-uncased"),
        ("t5", "google-t5/t5-small"),
        ("t5-base", "google-t5/t5-base"),
        ("deberta-v2", "microsoft/deberta-v3-base"),
        ("somebody/bert-base-uncased", None),  # somebody else's may be another model
        ("nothing", None),
    ],
)
def test_names_of_published_configs(name, row):
    assert hf_configs.published_id(name) == row


@pytest.mark.parametrize("family", hf_configs.FAMILIES)
def test_families_have_a_published_row(family):
    row = hf_configs.published_id(family)
    assert row is not None
    assert hf_configs.PUBLISHED[row].model_type == family


def test_a_table_is_not_changed_by_its_users():
    config = hf_configs.tiny_config("swin")
    config.depths.append(5)
    assert hf_configs.tiny_config("swin").depths == [2, 2]


def test_an_unknown_family_lists_the_known():
    with pytest.raises(SourceError, match=r"bert, roberta, .* wav2vec2"):
        hf_configs.tiny_config("perceiver")
