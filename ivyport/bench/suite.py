"""The models of the benchmark, all from configurations with random weights.

Each is named as it is published. What runs by default is what the machine can hold and
finish; what is left out is said, with the reason.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ivyport.bench.case import Case
from ivyport.core.errors import InputError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

TINY = "tiny:"  # `tiny:bert`: the family at a few thousand parameters, for smoke tests
TEXT, IMAGE, AUDIO = "text", "image", "audio"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A model of the suite.

    name: what it is called on the command line and in results.
    cls: the transformers class.
    source: its row in `ivyport.zoo.hf_configs.PUBLISHED`, or None for `settings` alone.
    kind: text and audio have a length, images none.
    million: parameters; gflop: operations of a forward pass at batch 1 and 128 tokens.
    longest: the positions that the model has, where a case might ask for more.
    by_default: whether a suite without names has it.
    """

    name: str
    cls: str
    source: str | None
    kind: str
    million: float
    gflop: float
    model_type: str = ""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    longest: int | None = None
    by_default: bool = True

    def seq_len(self, wanted: int) -> int | None:
        """The case's length, at most `longest`; None for a model without one."""
        if self.kind == IMAGE or "whisper" in self.name:
            return None
        return wanted if self.longest is None else min(wanted, self.longest)


# Sizes are of the class named here, without language modelling heads: those are one
# matrix product that every engine hands to the same library.
_ROWS: tuple[Entry, ...] = (
    Entry("bert-base-uncased", "BertModel", "google-bert/bert-base-uncased",
          TEXT, 110, 22),
    # 24 layers, for `--scan-layers`. Source: config.json of the published model.
    Entry("bert-large-uncased", "BertModel", None, TEXT, 335, 79, "bert",
          {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
           "num_attention_heads": 16}, by_default=False),
    Entry("roberta-base", "RobertaModel", "FacebookAI/roberta-base", TEXT, 125, 22),
    Entry("distilbert-base-uncased", "DistilBertModel",
          "distilbert/distilbert-base-uncased", TEXT, 66, 11),
    Entry("albert-base-v2", "AlbertModel", "albert/albert-base-v2", TEXT, 12, 22),
    Entry("electra-base-discriminator", "ElectraModel",
          "google/electra-base-discriminator", TEXT, 109, 22),
    Entry("deberta-v3-base", "DebertaV2Model", "microsoft/deberta-v3-base",
          TEXT, 184, 34),
    Entry("gpt2", "GPT2Model", "openai-community/gpt2", TEXT, 124, 22),
    Entry("opt-125m", "OPTModel", "facebook/opt-125m", TEXT, 125, 22),
    Entry("Llama-3.2-1B", "LlamaModel", "meta-llama/Llama-3.2-1B", TEXT, 1236, 250),
    Entry("t5-small", "T5Model", "google-t5/t5-small", TEXT, 60, 8),
    Entry("bart-base", "BartModel", "facebook/bart-base", TEXT, 139, 22),
    Entry("vit-base-patch16-224", "ViTForImageClassification",
          "google/vit-base-patch16-224", IMAGE, 86, 35),
    Entry("swin-tiny-patch4-window7-224", "SwinForImageClassification",
          "microsoft/swin-tiny-patch4-window7-224", IMAGE, 28, 9),
    Entry("convnext-tiny-224", "ConvNextForImageClassification",
          "facebook/convnext-tiny-224", IMAGE, 29, 9),
    Entry("resnet-50", "ResNetForImageClassification", "microsoft/resnet-50",
          IMAGE, 26, 8),
    Entry("clip-vit-base-patch32", "CLIPModel", "openai/clip-vit-base-patch32",
          TEXT, 151, 24, longest=77),
    Entry("wav2vec2-base", "Wav2Vec2Model", "facebook/wav2vec2-base", AUDIO, 94, 40),
    # The encoder, with a linear head on its mean.
    Entry("whisper-base-encoder", "WhisperForAudioClassification",
          "openai/whisper-base", AUDIO, 21, 88),
    # Source: https://huggingface.co/deepmind/vision-perceiver-fourier, config.json.
    Entry("vision-perceiver-fourier", "PerceiverForImageClassificationFourier", None,
          IMAGE, 48, 810, "perceiver",
          {"d_latents": 1024, "d_model": 261, "num_latents": 512, "num_blocks": 8,
           "num_self_attends_per_block": 6, "num_cross_attention_heads": 1,
           "num_labels": 1000}),
)  # fmt: skip
ENTRIES: dict[str, Entry] = {entry.name: entry for entry in _ROWS}

# Families whose tiny configuration is built under another class than `ENTRIES` has.
_TINY_CLASSES = {"qwen3": "Qwen3Model", "mistral": "MistralModel"}
_LIMIT_S = 1.5  # of a call, estimated: slower models are not in a default suite
_GFLOPS_PER_CORE = {"cpu": 50.0, "gpu": 2000.0}


def resolve(names: Iterable[str]) -> list[Entry]:
    """The entries of names as a user types them, each once.

    A name is an entry's, its published id, its model type, or ``tiny:<model type>``.
    Raises InputError for any other, with close names.
    """
    return list({entry.name: entry for entry in map(_resolve, names)}.values())


def _resolve(name: str) -> Entry:
    from ivyport.zoo import hf_configs

    if name.startswith(TINY):
        return _tiny(name)
    if name in ENTRIES:
        return ENTRIES[name]
    published = hf_configs.published_id(name)
    by_source = {entry.source: entry for entry in _ROWS if entry.source}
    if published in by_source:
        return by_source[published]
    by_type = {e.model_type: e for e in _ROWS if e.model_type and e.by_default}
    if name in by_type:
        return by_type[name]
    close = difflib.get_close_matches(name, ENTRIES, n=3, cutoff=0.4)
    hint = f" Close: {', '.join(close)}." if close else ""
    raise InputError(
        f"no benchmark model {name!r}.{hint} There are: {', '.join(ENTRIES)}; and "
        f"{TINY}<type> of {', '.join(tiny_families())}."
    )


def tiny_families() -> list[str]:
    """The model types that ``tiny:`` takes."""
    from ivyport.zoo import hf_configs

    types = {hf_configs.PUBLISHED[e.source].model_type for e in _ROWS if e.source}
    return sorted((types | _TINY_CLASSES.keys()) & set(hf_configs.FAMILIES))


def _tiny(name: str) -> Entry:
    from ivyport.zoo import hf_configs

    family = name.removeprefix(TINY)
    if family not in tiny_families():
        raise InputError(
            f"no tiny benchmark model {name!r}; there are: "
            f"{', '.join(TINY + f for f in tiny_families())}."
        )
    for entry in _ROWS:
        if entry.source and hf_configs.PUBLISHED[entry.source].model_type == family:
            cls, kind = entry.cls, entry.kind
            break
    else:
        cls, kind = _TINY_CLASSES[family], TEXT
    settings = dict(hf_configs.TINY[family])
    name = f"{TINY}{family}"
    return Entry(name, cls, None, kind, 0.1, 0.01, family, settings)


def default_suite(
    *, device: str, cores: int, memory: int, copies: int
) -> tuple[list[Entry], list[str]]:
    """The models suited to a machine, and why each other one is left out.

    memory: bytes that may be used; copies: engines that hold the weights at once.
    """
    chosen, left_out = [], []
    for entry in _ROWS:
        if not entry.by_default:
            continue
        needed = resident_bytes(entry, "float32", "forward") * copies
        seconds = entry.gflop / _GFLOPS_PER_CORE[device] / cores
        if needed > memory:
            why = f"{copies} engines need {needed / 1e9:.0f} of {memory / 1e9:.0f} GB"
            left_out.append(f"{entry.name}: {why}")
        elif seconds > _LIMIT_S:
            left_out.append(
                f"{entry.name}: about {seconds:.0f} s a call on {cores} cores"
            )
        else:
            chosen.append(entry)
    return chosen, left_out


def call_seconds(entry: Entry, case: Case, cores: int = 2) -> float:
    """About how long a call takes on the case's device."""
    length = 1.0 if case.seq_len is None else case.seq_len / 128
    work = entry.gflop * case.batch * length * (3 if case.mode == "train" else 1)
    return max(0.001, work / _GFLOPS_PER_CORE[case.device] / cores)


def resident_bytes(entry: Entry, dtype: str, mode: str) -> int:
    """About what one engine's process holds: imports, weights, and what a step adds."""
    weights = entry.million * 1e6 * (4 if dtype == "float32" else 2)
    return int(0.7e9 + weights * (1.5 if mode == "forward" else 4))


def build(entry: Entry, dtype: str, mode: str) -> PreTrainedModel:
    """The entry's torch model, in eval mode, with seeded weights of the dtype.

    No bias is zero and no scale one, so that parity tests those too. For train steps all
    dropout is off: engines that draw different random numbers cannot be compared.
    """
    from ivyport.zoo import hf, hf_configs

    if entry.source is not None:
        config = hf_configs.published_config(entry.source)
        assert config is not None
    else:
        config = hf_configs.config_of_type(entry.model_type, entry.settings)
    if mode == "train":
        without_dropout(config)
    return hf.build(config, cls=entry.cls, dtype=dtype, perturb=True)


def without_dropout(config: PreTrainedConfig) -> None:
    """Set every dropout and augmentation of a configuration to zero, in place."""
    for part in (config, *(getattr(config, key) for key in type(config).sub_configs)):
        for key, value in part.to_dict().items():
            if "drop" in key and isinstance(value, float):
                setattr(part, key, 0.0)
            elif key == "apply_spec_augment":
                setattr(part, key, False)


def inputs(
    model: PreTrainedModel, *, batch: int, seq_len: int | None, seed: int
) -> dict[str, torch.Tensor]:
    """Example inputs by argument name; equal arguments give equal inputs.

    Raises InputError for a length that the model has no positions for.
    """
    import torch

    from ivyport.zoo import hf

    if model.config.model_type != "perceiver":
        return hf.example_inputs(model, batch=batch, seq_len=seq_len, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn((batch, 3, 224, 224), generator=generator)
    return {"inputs": images.to(model.dtype)}


def dims(
    model: PreTrainedModel, example: dict[str, torch.Tensor]
) -> dict[str, dict[int, str | None]]:
    """Names of the free axes of each example input."""
    from ivyport.zoo import hf

    if model.config.model_type == "perceiver":
        return {"inputs": {0: "batch", 1: None, 2: None, 3: None}}
    return hf.dims(model, example)
