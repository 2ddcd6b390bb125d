"""Numbers by the name of a configuration field: only where value, type and role agree."""

from __future__ import annotations

from typing import Any

import pytest

from ivyport.modules.config import ConfigFields, words

BERT: dict[str, Any] = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "is_decoder": False,
    "model_type": "bert",
    "pruned_heads": {},
}


def test_words() -> None:
    assert words("encoder.layer.0.LayerNorm_eps") == {
        "encoder", "layer", "0", "norm", "eps",
    }  # fmt: skip
    assert words("") == set()
    assert words("BertSelfAttention") == {"bert", "self", "attention"}


@pytest.mark.parametrize(
    ("value", "role", "place", "field"),
    [
        (768, "in_features", ["query"], "hidden_size"),
        (3072, "out_features", ["intermediate.dense"], "intermediate_size"),
        (12, "length", ["encoder.layer"], "num_hidden_layers"),
        (30522, "num_embeddings", ["word_embeddings"], "vocab_size"),
        (2, "num_embeddings", ["token_type_embeddings"], "type_vocab_size"),
        (512, "num_embeddings", ["position_embeddings"], "max_position_embeddings"),
        (1e-12, "epsilon", ["LayerNorm"], "layer_norm_eps"),
        (0.1, "rate", ["pkg.BertOutput", ""], "hidden_dropout_prob"),
        (0.1, "rate", ["", "attentionop"], "attention_probs_dropout_prob"),
    ],
)
def test_find(value: Any, role: str, place: list[str], field: str) -> None:
    fields = ConfigFields(BERT)
    assert fields.find(value, role, place) == field
    assert fields.used == {field: value}


@pytest.mark.parametrize(
    ("value", "role"),
    [
        (12, "in_features"),
        (768, "length"),
        (768, "rate"),
        (768.0, "in_features"),
        (769, "in_features"),
        (0, "in_features"),
        (False, "length"),
        (768, "kernel_size"),
        (2, "features"),
    ],
)
def test_find_nothing(value: Any, role: str) -> None:
    fields = ConfigFields(BERT)
    assert fields.find(value, role) is None
    assert fields.used == {}


def test_only_numbers_with_names_are_fields() -> None:
    fields = ConfigFields({**BERT, "a b": 7, "class size": 3, "nested": {"x": 1}})
    assert "is_decoder" not in fields.fields
    assert "model_type" not in fields.fields
    assert "a b" not in fields.fields


def test_keywords_are_no_fields() -> None:
    fields = ConfigFields({"class": 768, "import": 3})
    assert fields.find(768, "features") is None
    assert fields.used == {}


def test_exact() -> None:
    fields = ConfigFields(BERT)
    assert fields.exact(12, "num_attention_heads") == "num_attention_heads"
    assert fields.exact(13, "num_attention_heads") is None
    assert fields.exact(12, "heads") is None
    assert set(fields.used) == {"num_attention_heads"}


def test_head_size() -> None:
    fields = ConfigFields(BERT)
    assert fields.head_size(64, "attention_head_size") == (
        "hidden_size",
        "num_attention_heads",
    )
    assert fields.head_size(63, "attention_head_size") is None
    assert fields.head_size(64, "window_size") is None


def test_proven_fields() -> None:
    fields = ConfigFields(BERT, {"encoder.layer.width": "hidden_size"})
    assert fields.of(768, "other", "encoder.layer.width") == "hidden_size"
    assert fields.of(767, "encoder.layer.width") is None
    assert ConfigFields(BERT).of(768, "encoder.layer.width") is None
