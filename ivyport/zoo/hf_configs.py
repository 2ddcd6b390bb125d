"""Configurations of well-known Hugging Face models, for building them without the hub.

`PUBLISHED` holds, as data, what the `config.json` of each model says where it differs
from the defaults of its configuration class (source of a row:
`https://huggingface.co/<id>`, file `config.json`). `TINY` holds a small configuration
of each family, for tests: its sizes differ from each other wherever the architecture
permits, so that a swapped axis shows.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ivyport.core.errors import SourceError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True)
class Published:
    """One published configuration: its model type, its own class and its settings."""

    model_type: str
    architecture: str
    settings: Mapping[str, Any] = field(default_factory=dict)


_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}

# The first row of each model type is what that type's bare name stands for.
PUBLISHED: dict[str, Published] = {
    "google-bert/bert-base-uncased": Published("bert", "BertForMaskedLM"),
    "FacebookAI/roberta-base": Published(
        "roberta",
        "RobertaForMaskedLM",
        {
            "vocab_size": 50265,
            "max_position_embeddings": 514,
            "type_vocab_size": 1,
            "layer_norm_eps": 1e-5,
        },
    ),
    "distilbert/distilbert-base-uncased": Published(
        "distilbert", "DistilBertForMaskedLM"
    ),
    "albert/albert-base-v2": Published(
        "albert",
        "AlbertForMaskedLM",
        {
            "hidden_size": 768,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        },
    ),
    "google/electra-base-discriminator": Published(
        "electra",
        "ElectraForPreTraining",
        {
            "embedding_size": 768,
            "hidden_size": 768,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
        },
    ),
    "microsoft/deberta-v3-base": Published(
        "deberta-v2",
        "DebertaV2Model",
        {
            "vocab_size": 128100,
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "type_vocab_size": 0,
            "relative_attention": True,
            "position_buckets": 256,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
        },
    ),
    "openai-community/gpt2": Published("gpt2", "GPT2LMHeadModel"),
    "facebook/opt-125m": Published(
        "opt", "OPTForCausalLM", {"word_embed_proj_dim": 768}
    ),
    "meta-llama/Llama-3.2-1B": Published(
        "llama",
        "LlamaForCausalLM",
        {
            "vocab_size": 128256,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "max_position_embeddings": 131072,
            "rms_norm_eps": 1e-5,
            "rope_parameters": _LLAMA3_ROPE,
            "tie_word_embeddings": True,
            "bos_token_id": 128000,
            "eos_token_id": 128001,
        },
    ),
    "Qwen/Qwen3-0.6B": Published(
        "qwen3",
        "Qwen3ForCausalLM",
        {
            "vocab_size": 151936,
            "hidden_size": 1024,
            "intermediate_size": 3072,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "max_position_embeddings": 40960,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
            "tie_word_embeddings": True,
            "bos_token_id": 151643,
            "eos_token_id": 151645,
        },
    ),
    # Mistral and Mixtral are published from 7 billion parameters up. These two rows are
    # the same architectures at tens of millions, and not on the hub.
    "mistral-small-sized": Published(
        "mistral",
        "MistralForCausalLM",
        {
            "vocab_size": 32000,
            "hidden_size": 512,
            "intermediate_size": 1792,
            "num_hidden_layers": 8,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "max_position_embeddings": 32768,
            "sliding_window": 4096,
            "tie_word_embeddings": False,
        },
    ),
    "mixtral-small-sized": Published(
        "mixtral",
        "MixtralForCausalLM",
        {
            "vocab_size": 32000,
            "hidden_size": 384,
            "intermediate_size": 1024,
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "max_position_embeddings": 32768,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "sliding_window": None,
            "tie_word_embeddings": False,
        },
    ),
    "google-t5/t5-small": Published(
        "t5", "T5ForConditionalGeneration", {"decoder_start_token_id": 0}
    ),
    "google-t5/t5-base": Published(
        "t5",
        "T5ForConditionalGeneration",
        {
            "d_model": 768,
            "d_ff": 3072,
            "num_layers": 12,
            "num_heads": 12,
            "decoder_start_token_id": 0,
        },
    ),
    "facebook/bart-base": Published(
        "bart",
        "BartModel",
        {
            "d_model": 768,
            "encoder_layers": 6,
            "decoder_layers": 6,
            "encoder_attention_heads": 12,
            "decoder_attention_heads": 12,
            "encoder_ffn_dim": 3072,
            "decoder_ffn_dim": 3072,
            "attention_dropout": 0.1,
            "activation_dropout": 0.1,
            "num_labels": 3,
        },
    ),
    "google/vit-base-patch16-224": Published(
        "vit", "ViTForImageClassification", {"num_labels": 1000}
    ),
    "microsoft/swin-tiny-patch4-window7-224": Published(
        "swin", "SwinForImageClassification", {"num_labels": 1000}
    ),
    "facebook/convnext-tiny-224": Published(
        "convnext", "ConvNextForImageClassification", {"num_labels": 1000}
    ),
    "microsoft/resnet-50": Published(
        "resnet", "ResNetForImageClassification", {"num_labels": 1000}
    ),
    "openai/clip-vit-base-patch32": Published(
        "clip",
        "CLIPModel",
        {
            "text_config": {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1},
            "vision_config": {"patch_size": 32},
            "projection_dim": 512,
        },
    ),
    "openai/whisper-base": Published(
        "whisper",
        "WhisperForConditionalGeneration",
        {
            "d_model": 512,
            "encoder_layers": 6,
            "decoder_layers": 6,
            "encoder_attention_heads": 8,
            "decoder_attention_heads": 8,
            "encoder_ffn_dim": 2048,
            "decoder_ffn_dim": 2048,
            "decoder_start_token_id": 50258,
            "pad_token_id": 50257,
            "bos_token_id": 50257,
            "eos_token_id": 50257,
        },
    ),
    "facebook/wav2vec2-base": Published(
        "wav2vec2",
        "Wav2Vec2ForPreTraining",
        {"activation_dropout": 0.0, "final_dropout": 0.0, "layerdrop": 0.05},
    ),
}

# One tiny configuration a family. The head count divides the hidden size and the
# key-value heads divide the heads; everything else is chosen not to coincide.
_TEXT = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "max_position_embeddings": 43,
}
_LABELS = {"num_labels": 3}

TINY: dict[str, dict[str, Any]] = {
    "bert": {**_TEXT, **_LABELS},
    "roberta": {**_TEXT, **_LABELS, "type_vocab_size": 1},
    "distilbert": {
        "vocab_size": 99,
        "dim": 32,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 37,
        "max_position_embeddings": 43,
        **_LABELS,
    },
    "albert": {
        **_TEXT,
        **_LABELS,
        "embedding_size": 20,
        "num_hidden_layers": 3,  # one layer's weights, called three times
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
    },
    "electra": {**_TEXT, **_LABELS, "embedding_size": 20},
    "deberta-v2": {
        **_TEXT,
        **_LABELS,
        "type_vocab_size": 0,
        "relative_attention": True,
        "position_buckets": 6,  # below the sequence length, so that buckets are shared
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
    },
    "gpt2": {
        "vocab_size": 99,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_inner": 37,
        "n_positions": 43,
        "bos_token_id": 98,
        "eos_token_id": 98,
        **_LABELS,
    },
    "opt": {
        "vocab_size": 99,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "ffn_dim": 37,
        "max_position_embeddings": 43,
        "word_embed_proj_dim": 20,
        **_LABELS,
    },
    "llama": {
        **_TEXT,
        **_LABELS,
        "num_key_value_heads": 2,
        "rope_parameters": {**_LLAMA3_ROPE, "original_max_position_embeddings": 16},
        "tie_word_embeddings": True,
    },
    "qwen3": {
        **_TEXT,
        **_LABELS,
        "num_key_value_heads": 2,
        "head_dim": 12,  # not hidden_size / num_attention_heads
        "tie_word_embeddings": True,
    },
    "mistral": {
        **_TEXT,
        **_LABELS,
        "num_key_value_heads": 2,
        "sliding_window": 7,  # below the sequence length, so that it cuts
    },
    "mixtral": {
        **_TEXT,
        **_LABELS,
        "num_key_value_heads": 2,
        "intermediate_size": 40,  # torch's grouped product wants rows of 16 bytes
        "num_local_experts": 5,
        "num_experts_per_tok": 2,
    },
    "t5": {
        "vocab_size": 99,
        "d_model": 32,
        "d_kv": 10,  # not d_model / num_heads
        "d_ff": 37,
        "num_layers": 2,
        "num_decoder_layers": 3,
        "num_heads": 4,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 9,
        "decoder_start_token_id": 0,
        **_LABELS,
    },
    "bart": {
        "vocab_size": 99,
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 3,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 37,
        "decoder_ffn_dim": 41,
        "max_position_embeddings": 43,
        "attention_dropout": 0.1,
        **_LABELS,
    },
    "vit": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 37,
        "image_size": 24,
        "patch_size": 8,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        **_LABELS,
    },
    "swin": {
        "embed_dim": 16,
        "depths": [2, 2],
        "num_heads": [2, 4],
        "image_size": 32,
        "patch_size": 2,
        "window_size": 4,
        "mlp_ratio": 1.5,
        **_LABELS,
    },
    "convnext": {
        "hidden_sizes": [8, 12, 16, 20],
        "depths": [1, 2, 1, 1],
        "image_size": 64,
        **_LABELS,
    },
    "resnet": {
        "embedding_size": 12,
        "hidden_sizes": [16, 20, 24, 28],
        "depths": [1, 2, 1, 1],
        "image_size": 64,  # the class itself has none; example inputs read it
        **_LABELS,
    },
    "clip": {
        "text_config": {
            **_TEXT,
            "max_position_embeddings": 23,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "pad_token_id": 1,
            "projection_dim": 13,
        },
        "vision_config": {
            "projection_dim": 13,
            "hidden_size": 24,
            "num_hidden_layers": 3,
            "num_attention_heads": 3,
            "intermediate_size": 29,
            "image_size": 16,
            "patch_size": 8,
        },
        "projection_dim": 13,
    },
    "whisper": {
        "vocab_size": 99,
        "num_mel_bins": 10,
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 3,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 37,
        "decoder_ffn_dim": 41,
        "max_source_positions": 15,
        "max_target_positions": 23,
        "dropout": 0.1,
        "decoder_start_token_id": 97,
        "pad_token_id": 98,
        "bos_token_id": 98,
        "eos_token_id": 98,
        "classifier_proj_size": 11,
        **_LABELS,
    },
    "wav2vec2": {
        "vocab_size": 35,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 37,
        "conv_dim": [16, 16, 20],
        "conv_kernel": [10, 3, 2],
        "conv_stride": [5, 2, 2],
        "num_feat_extract_layers": 3,
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2,
        "classifier_proj_size": 11,
        # Both draw from Python or numpy in train mode, outside any trace.
        "layerdrop": 0.0,
        "apply_spec_augment": False,
        **_LABELS,
    },
}

FAMILIES: tuple[str, ...] = tuple(TINY)


def config_of_type(model_type: str, settings: Mapping[str, Any]) -> PreTrainedConfig:
    """The configuration of a model type with the given settings over its defaults.

    Raises SourceError for a model type that this transformers has not.
    """
    from transformers import CONFIG_MAPPING

    if model_type not in CONFIG_MAPPING:
        close = difflib.get_close_matches(model_type, list(CONFIG_MAPPING), n=4)
        hint = f"; close names: {', '.join(close)}" if close else ""
        raise SourceError(
            f"model type {model_type!r} is unknown to this transformers{hint}"
        )
    return CONFIG_MAPPING[model_type](**deepcopy(dict(settings)))


def published_id(name: str) -> str | None:
    """The id of the row that a name stands for, or None.

    A name is a full id, its last part alone (`bert-base-uncased`), or a model type
    (`bert`), which stands for its first row.
    """
    if name in PUBLISHED:
        return name
    if "/" not in name:
        for row in PUBLISHED:
            if row.rpartition("/")[2] == name:
                return row
        for row, entry in PUBLISHED.items():
            if entry.model_type == name:
                return row
    return None


def published_config(name: str) -> PreTrainedConfig | None:
    """The published configuration that a name stands for (see `published_id`), or None.

    Its `architectures` names the class that the published weights are of.
    """
    row = published_id(name)
    if row is None:
        return None
    entry = PUBLISHED[row]
    config = config_of_type(entry.model_type, entry.settings)
    config.architectures = [entry.architecture]
    config.name_or_path = row
    return config


def tiny_config(model_type: str) -> PreTrainedConfig:
    """A configuration of a few thousand parameters of one of `FAMILIES`, for tests.

    Raises SourceError for another model type, listing the families.
    """
    if model_type not in TINY:
        raise SourceError(
            f"no tiny configuration of {model_type!r}; there are: {', '.join(FAMILIES)}"
        )
    return config_of_type(model_type, TINY[model_type])
