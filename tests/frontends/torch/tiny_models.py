"""Tiny configurations of Hugging Face models: rows of config, class and inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
import transformers

BASE = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 1,
}
GROUPED = {**BASE, "num_key_value_heads": 2}
SEQ2SEQ = {
    "vocab_size": 99,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 1,
    "decoder_start_token_id": 2,
}
DEBERTA = {
    **BASE,
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "norm_rel_ebd": "layer_norm",
    "position_buckets": 8,
    "share_att_key": True,
    "position_biased_input": False,
    "conv_kernel_size": 3,
}
GPT2 = {
    "vocab_size": 99,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
T5 = {
    "vocab_size": 99,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
DISTIL = {"vocab_size": 99, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
VISION = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
SWIN = {
    "image_size": 32,
    "patch_size": 2,
    "embed_dim": 16,
    "depths": [2, 2],
    "num_heads": [2, 4],
    "window_size": 4,
    "drop_path_rate": 0.1,
}
CONVNEXT = {
    "hidden_sizes": [16, 32],
    "depths": [1, 2],
    "num_stages": 2,
    "drop_path_rate": 0.1,
}
RESNET = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 2]}
CLIP = {
    "text_config": {**BASE, "projection_dim": 16, "eos_token_id": 98},
    "vision_config": {**VISION, "projection_dim": 16},
    "projection_dim": 16,
}
WHISPER = {
    **SEQ2SEQ,
    "num_mel_bins": 8,
    "max_source_positions": 20,
    "max_target_positions": 30,
}
WAV2VEC2 = {
    **BASE,
    "vocab_size": 32,
    "conv_dim": (16, 16),
    "conv_stride": (5, 2),
    "conv_kernel": (10, 3),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
OPT = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "ffn_dim": 64,
    "word_embed_proj_dim": 32,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 1,
}


def tokens(batch: int = 2, seq: int = 7) -> dict[str, torch.Tensor]:
    """Token ids and a mask with padding, int64[batch, seq] each."""
    mask = torch.ones(batch, seq, dtype=torch.int64)
    mask[0, -2:] = 0
    return {"input_ids": torch.randint(3, 90, (batch, seq)), "attention_mask": mask}


def pairs(batch: int = 2, seq: int = 7) -> dict[str, torch.Tensor]:
    """Inputs of an encoder and a decoder."""
    target = torch.randint(3, 90, (batch, seq - 2))
    return {**tokens(batch, seq), "decoder_input_ids": target}


def images(batch: int = 2, seq: int = 0) -> dict[str, torch.Tensor]:
    """Pixels, float32[batch, 3, 32, 32]."""
    return {"pixel_values": torch.randn(batch, 3, 32, 32)}


def captions(batch: int = 2, seq: int = 7) -> dict[str, torch.Tensor]:
    """Tokens and as many images."""
    return {**tokens(batch, seq), **images(batch)}


def speech(batch: int = 2, seq: int = 7) -> dict[str, torch.Tensor]:
    """Log-mel features, float32[batch, 8, 40], and decoder tokens."""
    return {
        "input_features": torch.randn(batch, 8, 40),
        "decoder_input_ids": torch.randint(3, 90, (batch, seq - 2)),
    }


def waveform(batch: int = 2, seq: int = 7) -> dict[str, torch.Tensor]:
    """Audio samples, float32[batch, 50 * seq]."""
    return {"input_values": torch.randn(batch, 50 * seq)}


@dataclasses.dataclass(frozen=True)
class Tiny:
    """A row of the table; `dims` are the names that have to stay symbolic."""

    config: str
    arguments: dict[str, Any]
    cls: str
    inputs: Callable[..., dict[str, torch.Tensor]]
    dims: frozenset[str]

    def build(self) -> torch.nn.Module:
        """A model in eval mode with seeded random weights."""
        torch.manual_seed(0)
        config = getattr(transformers, self.config)(**self.arguments)
        model: torch.nn.Module = getattr(transformers, self.cls)(config)
        return model.eval()


TEXT = frozenset({"batch", "seq"})
TWO = frozenset({"batch", "seq", "decoder_seq"})
BATCH = frozenset({"batch"})
SPEECH = frozenset({"batch", "decoder_seq"})
AUDIO = frozenset({"batch", "samples"})
MIXTRAL = {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}

TINY: dict[str, Tiny] = {
    row.cls: row
    for row in (
        Tiny("BertConfig", BASE, "BertModel", tokens, TEXT),
        Tiny("BertConfig", BASE, "BertForMaskedLM", tokens, TEXT),
        Tiny("RobertaConfig", BASE, "RobertaModel", tokens, TEXT),
        Tiny("RobertaConfig", BASE, "RobertaForSequenceClassification", tokens, TEXT),
        Tiny("DistilBertConfig", DISTIL, "DistilBertModel", tokens, TEXT),
        Tiny("DistilBertConfig", DISTIL, "DistilBertForMaskedLM", tokens, TEXT),
        Tiny("AlbertConfig", BASE, "AlbertModel", tokens, TEXT),
        Tiny("AlbertConfig", BASE, "AlbertForMaskedLM", tokens, TEXT),
        Tiny("ElectraConfig", BASE, "ElectraModel", tokens, TEXT),
        Tiny("ElectraConfig", BASE, "ElectraForPreTraining", tokens, TEXT),
        Tiny("DebertaV2Config", DEBERTA, "DebertaV2Model", tokens, TEXT),
        Tiny("DebertaV2Config", DEBERTA, "DebertaV2ForMaskedLM", tokens, TEXT),
        Tiny("GPT2Config", GPT2, "GPT2Model", tokens, TEXT),
        Tiny("GPT2Config", GPT2, "GPT2LMHeadModel", tokens, TEXT),
        Tiny("LlamaConfig", GROUPED, "LlamaModel", tokens, TEXT),
        Tiny("LlamaConfig", GROUPED, "LlamaForCausalLM", tokens, TEXT),
        Tiny("Qwen3Config", {**GROUPED, "head_dim": 8}, "Qwen3Model", tokens, TEXT),
        Tiny(
            "Qwen3Config", {**GROUPED, "head_dim": 8}, "Qwen3ForCausalLM", tokens, TEXT
        ),
        Tiny(
            "MistralConfig",
            {**GROUPED, "sliding_window": 4},
            "MistralForCausalLM",
            tokens,
            TEXT,
        ),
        Tiny("MixtralConfig", MIXTRAL, "MixtralModel", tokens, TEXT),
        Tiny("MixtralConfig", MIXTRAL, "MixtralForCausalLM", tokens, TEXT),
        Tiny("T5Config", T5, "T5Model", pairs, TWO),
        Tiny(
            "T5Config",
            {**T5, "feed_forward_proj": "gated-gelu"},
            "T5ForConditionalGeneration",
            pairs,
            TWO,
        ),
        Tiny("BartConfig", SEQ2SEQ, "BartModel", pairs, TWO),
        Tiny(
            "BartConfig",
            {**SEQ2SEQ, "encoder_layerdrop": 0.1},
            "BartForConditionalGeneration",
            pairs,
            TWO,
        ),
        Tiny("ViTConfig", VISION, "ViTModel", images, BATCH),
        Tiny("ViTConfig", VISION, "ViTForImageClassification", images, BATCH),
        Tiny("SwinConfig", SWIN, "SwinModel", images, BATCH),
        Tiny("SwinConfig", SWIN, "SwinForImageClassification", images, BATCH),
        Tiny("ConvNextConfig", CONVNEXT, "ConvNextModel", images, BATCH),
        Tiny(
            "ConvNextConfig", CONVNEXT, "ConvNextForImageClassification", images, BATCH
        ),
        Tiny("ResNetConfig", RESNET, "ResNetModel", images, BATCH),
        Tiny("ResNetConfig", RESNET, "ResNetForImageClassification", images, BATCH),
        Tiny("CLIPConfig", CLIP, "CLIPModel", captions, TEXT),
        Tiny(
            "CLIPVisionConfig", CLIP["vision_config"], "CLIPVisionModel", images, BATCH
        ),
        Tiny("WhisperConfig", WHISPER, "WhisperModel", speech, SPEECH),
        Tiny(
            "WhisperConfig", WHISPER, "WhisperForConditionalGeneration", speech, SPEECH
        ),
        Tiny("Wav2Vec2Config", WAV2VEC2, "Wav2Vec2Model", waveform, AUDIO),
        Tiny("Wav2Vec2Config", WAV2VEC2, "Wav2Vec2ForCTC", waveform, AUDIO),
        Tiny("OPTConfig", OPT, "OPTModel", tokens, TEXT),
        Tiny("OPTConfig", OPT, "OPTForCausalLM", tokens, TEXT),
    )
}
