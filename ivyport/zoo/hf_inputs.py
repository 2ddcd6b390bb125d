"""Example inputs of Hugging Face torch models, from their config and forward signature.

They are what a processor would give: int64 token ids, with a shorter second row that is
padded and masked, float images, audio features or samples. Lengths that belong to
different things (encoder, decoder, image batch) are unequal, so that a port that mixes
them up fails.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ivyport.core.errors import InputError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

    from ivyport.zoo.hf import HFSource

SEQ_LEN = 16
CHOICES = 3
# Audio models get this many encoder frames; one frame is hundreds of samples.
FRAMES = 24

_SPECIAL = ("bos", "eos", "pad", "sep", "cls", "mask", "decoder_start")

# What the axes of an input are called; None is an axis of fixed size.
_AXES: dict[str, tuple[str | None, ...]] = {
    "input_ids": ("batch", "seq"),
    "attention_mask": ("batch", "seq"),
    "token_type_ids": ("batch", "seq"),
    "position_ids": ("batch", "seq"),
    "decoder_input_ids": ("batch", "decoder_seq"),
    "decoder_attention_mask": ("batch", "decoder_seq"),
    "pixel_values": ("batch", None, None, None),
    "input_features": ("batch", None, None),
    "input_values": ("batch", "samples"),
}


@dataclass(frozen=True)
class _Request:
    """What to make inputs for; sizes are settled, and the generator is seeded."""

    model: PreTrainedModel
    names: frozenset[str]  # of forward's arguments
    batch: int
    seq_len: int
    generator: torch.Generator

    @property
    def config(self) -> PreTrainedConfig:
        return self.model.config

    def has(self, *names: str) -> bool:
        return all(name in self.names for name in names)


def example_inputs(
    source: HFSource | PreTrainedModel,
    *,
    batch: int = 2,
    seq_len: int | None = None,
    seed: int = 0,
) -> dict[str, torch.Tensor]:
    """Inputs for a model's forward, by argument name, on the CPU.

    Token ids and masks are int64 (batch, seq_len); images, features and samples are
    normal noise of the model's own dtype. `seq_len` is the number of tokens of a text
    (default 16, or what the model has positions for), of decoder tokens for audio to
    text, and of encoder frames for audio alone. Equal arguments give equal inputs.

    Raises InputError for a length that the model has no positions for, and for a kind
    of model that has no rule here.
    """
    import torch

    model = _model(source)
    if batch < 1:
        raise InputError(f"batch is {batch}; it must be at least 1")
    limit = max_length(model)
    if seq_len is None:
        seq_len = _default_length(model, limit)
    if seq_len < 1 or (limit is not None and seq_len > limit):
        most = "" if limit is None else f" and at most {limit}"
        raise InputError(
            f"seq_len is {seq_len}; {type(model).__name__} takes at least 1{most}"
        )
    generator = torch.Generator().manual_seed(seed)
    names = frozenset(inspect.signature(type(model).forward).parameters)
    return _inputs(_Request(model, names, batch, seq_len, generator))


def second_inputs(
    source: HFSource | PreTrainedModel,
    first: dict[str, torch.Tensor] | None = None,
    *,
    seed: int = 1,
) -> dict[str, torch.Tensor]:
    """Fresh inputs of another batch size, and another length where the model has one.

    `first` are the inputs to differ from (default: `example_inputs(source)`). They are
    longer by five where the model has the positions, else shorter.
    """
    model = _model(source)
    if first is None:
        first = example_inputs(model)
    batch, length = _sizes(model, first)
    limit = max_length(model)
    other = length + 5
    if limit is not None and other > limit:
        other = max(1, length - 5)
    return example_inputs(model, batch=batch + 1, seq_len=other, seed=seed)


def dims(
    source: HFSource | PreTrainedModel, inputs: dict[str, torch.Tensor]
) -> dict[str, dict[int, str | None]]:
    """A name for each free axis of each input; None for an axis of fixed size.

    Axes of one name have one size: an attention mask shares its ids' `seq`, and a
    decoder has a `decoder_seq` of its own. The images of a model with two towers (CLIP)
    have an `image_batch`, as they need not be as many as the texts.

    Raises InputError for an input that has no rule here.
    """
    model = _model(source)
    unknown = sorted(inputs.keys() - _AXES.keys())
    if unknown:
        raise InputError(
            f"the axes of {', '.join(unknown)} of {type(model).__name__} are not "
            f"known; known inputs are {', '.join(_AXES)}"
        )
    named: dict[str, dict[int, str | None]] = {}
    for name, tensor in inputs.items():
        axes = _AXES[name]
        if tensor.ndim == 3 and axes == ("batch", "seq"):
            axes = ("batch", None, "seq")  # multiple choice
        elif name == "pixel_values" and "input_ids" in inputs:
            axes = ("image_batch", None, None, None)
        if tensor.ndim != len(axes):
            raise InputError(
                f"{name} has the shape {tuple(tensor.shape)}; it must have "
                f"{len(axes)} axes"
            )
        named[name] = dict(enumerate(axes))
    return named


def max_length(model: PreTrainedModel) -> int | None:
    """The largest `seq_len` of a model, or None where nothing bounds it.

    Learned positions bound it; relative and rotary ones are bounded by the config's
    word.
    """
    from torch import nn

    if model.main_input_name in ("pixel_values", "input_values"):
        return None
    config = _text_config(model.config)
    limit = _number(config, "max_target_positions")
    if limit is None:
        limit = _number(config, "max_position_embeddings")
    for name, module in model.named_modules():
        # RoBERTa counts positions from behind the padding index, so that its table of
        # 514 holds 512 tokens.
        if (
            limit is not None
            and name.endswith("position_embeddings")
            and isinstance(module, nn.Embedding)
            and module.padding_idx is not None
        ):
            limit = min(limit, module.num_embeddings - module.padding_idx - 1)
    return limit


def _model(source: HFSource | PreTrainedModel) -> PreTrainedModel:
    from torch import nn

    return source if isinstance(source, nn.Module) else source.model


def _default_length(model: PreTrainedModel, limit: int | None) -> int:
    if model.main_input_name == "input_values":
        return FRAMES
    return SEQ_LEN if limit is None else min(SEQ_LEN, limit)


def _sizes(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> tuple[int, int]:
    """(batch, seq_len) that `example_inputs` would need for inputs of these sizes."""
    if "input_ids" in inputs:
        return inputs["input_ids"].shape[0], inputs["input_ids"].shape[-1]
    if "input_values" in inputs:
        batch, samples = inputs["input_values"].shape
        return batch, _frames(model.config, samples)
    main = inputs.get(model.main_input_name)
    if main is None:
        raise InputError(
            f"the inputs {', '.join(inputs)} of {type(model).__name__} lack its main "
            f"input {model.main_input_name!r}"
        )
    decoder = inputs.get("decoder_input_ids")
    length = SEQ_LEN if decoder is None else decoder.shape[-1]
    return main.shape[0], length


def _inputs(request: _Request) -> dict[str, torch.Tensor]:
    main = request.model.main_input_name
    if main == "input_values":
        return {main: _audio(request)}
    if main == "input_features" and request.config.model_type == "whisper":
        inputs = {main: _mel(request)}
        if request.has("decoder_input_ids"):
            inputs["decoder_input_ids"] = _decoder_ids(request, request.seq_len)
        return inputs
    if main == "pixel_values" and not request.has("input_ids"):
        return {main: _images(request, _image_config(request.config), request.batch)}
    if main in ("input_ids", "pixel_values") and request.has("input_ids"):
        return _text(request)
    raise InputError(
        f"there is no rule for example inputs of {type(request.model).__name__}, whose "
        f"main input is {main!r}; give them in a file (--inputs FILE.npz)"
    )


def _text(request: _Request) -> dict[str, torch.Tensor]:
    """Ids, a mask, and what else the signature of a text model asks for."""
    import torch

    shape: tuple[int, ...] = (request.batch, request.seq_len)
    if type(request.model).__name__.endswith("ForMultipleChoice"):
        shape = (request.batch, CHOICES, request.seq_len)
    rows = [_row_length(i, request.seq_len) for i in range(request.batch)]
    lengths = torch.tensor(rows).reshape(-1, *[1] * (len(shape) - 1))
    kept = (torch.arange(request.seq_len) < lengths).expand(shape)
    ids = _ids(request, shape, kept, lengths)
    inputs = {"input_ids": ids}
    if request.has("attention_mask"):
        inputs["attention_mask"] = kept.to(torch.int64)
    if request.has("pixel_values"):
        inputs["pixel_values"] = _second_tower(request)
    # Whole-text heads on encoder-decoders make their decoder's ids from the encoder's.
    whole = ("ForSequenceClassification", "ForQuestionAnswering")
    name = type(request.model).__name__
    if request.has("decoder_input_ids") and not name.endswith(whole):
        # Shorter than the encoder's, so that the two cannot be taken for each other.
        inputs["decoder_input_ids"] = _decoder_ids(request, _decoder_length(request))
    return inputs


def _decoder_length(request: _Request) -> int:
    return max(1, request.seq_len - request.seq_len // 4 - 1)


def _row_length(row: int, seq_len: int) -> int:
    """The tokens of a row: all in the first, some fewer in the second and third."""
    return max(1, seq_len - (row % 3) * max(1, seq_len // 5))


def _ids(
    request: _Request,
    shape: tuple[int, ...],
    kept: torch.Tensor,
    lengths: torch.Tensor,
) -> torch.Tensor:
    """Ordinary tokens, then the end-of-text token, then padding."""
    import torch

    config = _text_config(request.config)
    special = _special_ids(config)
    end = _end_token(config)
    ordinary = _ordinary(
        config.vocab_size, special | ({end} if end is not None else set())
    )
    ids = _draw(ordinary, shape, request.generator)
    if end is not None:
        last = (torch.arange(shape[-1]) == lengths - 1).expand(shape)
        ids = torch.where(last, end, ids)
    pad = _number(config, "pad_token_id")
    if pad is not None and 0 <= pad < config.vocab_size:
        ids = torch.where(kept, ids, pad)
    return ids


def _decoder_ids(request: _Request, length: int) -> torch.Tensor:
    config = request.config
    ordinary = _ordinary(config.vocab_size, _special_ids(config))
    ids = _draw(ordinary, (request.batch, length), request.generator)
    start = _number(config, "decoder_start_token_id")
    if start is not None and 0 <= start < config.vocab_size:
        ids[:, 0] = start
    return ids


def _draw(
    ordinary: torch.Tensor, shape: tuple[int, ...], generator: torch.Generator
) -> torch.Tensor:
    import torch

    return ordinary[torch.randint(0, len(ordinary), shape, generator=generator)]


def _ordinary(vocab_size: int, special: set[int]) -> torch.Tensor:
    """The token ids that mean nothing special, or all where there are no others."""
    import torch

    ids = [i for i in range(vocab_size) if i not in special]
    return torch.tensor(ids or range(vocab_size), dtype=torch.int64)


def _special_ids(config: PreTrainedConfig) -> set[int]:
    special: set[int] = set()
    for name in _SPECIAL:
        value = getattr(config, f"{name}_token_id", None)
        values = value if isinstance(value, list) else [value]
        special.update(v for v in values if isinstance(v, int))
    return special


def _end_token(config: PreTrainedConfig) -> int | None:
    """The token that must end a text, for models that pool or decode by it."""
    value: Any = getattr(config, "eos_token_id", None)
    first = value[0] if isinstance(value, list) and value else value
    end = first if isinstance(first, int) else None
    if config.model_type == "clip_text_model":
        # CLIP pools at the end token. Its early configs say 2, and transformers then
        # takes the largest id, which the vocabulary's last one is.
        return config.vocab_size - 1 if end == 2 else end
    return end if config.is_encoder_decoder else None


def _second_tower(request: _Request) -> torch.Tensor:
    """Images beside texts, one more than those: the two batches are independent."""
    parts = type(request.config).sub_configs
    if (
        "vision_config" not in parts
        or _number(request.config, "projection_dim") is None
    ):
        raise InputError(
            f"there is no rule for the images of {type(request.model).__name__}, which "
            "go into its text; give the inputs in a file (--inputs FILE.npz)"
        )
    return _images(request, request.config.vision_config, request.batch + 1)


def _images(request: _Request, config: PreTrainedConfig, batch: int) -> torch.Tensor:
    """Normal noise (batch, channels, height, width) of the size that the config
    names."""
    size = getattr(config, "image_size", None) or 224  # what most classifiers are fed
    if isinstance(size, dict):
        size = (size["height"], size["width"])
    height, width = (size, size) if isinstance(size, int) else size
    channels = _number(config, "num_channels") or 3
    return _noise(request, (batch, channels, height, width))


def _mel(request: _Request) -> torch.Tensor:
    """Mel features (batch, bins, frames); the encoder takes one number of frames
    only."""
    config = request.config
    frames = 2 * config.max_source_positions  # its second convolution has stride 2
    return _noise(request, (request.batch, config.num_mel_bins, frames))


def _audio(request: _Request) -> torch.Tensor:
    """Raw samples (batch, samples) that make `seq_len` encoder frames, and some
    over."""
    step, field = _receptive(request.config)
    samples = (request.seq_len - 1) * step + field
    return _noise(request, (request.batch, samples + step // 2))


def _frames(config: PreTrainedConfig, samples: int) -> int:
    step, field = _receptive(config)
    return max(1, (samples - field) // step + 1)


def _receptive(config: PreTrainedConfig) -> tuple[int, int]:
    """(samples between frames, samples under a frame) of a stack of convolutions."""
    kernels = getattr(config, "conv_kernel", None)
    strides = getattr(config, "conv_stride", None)
    if not kernels or not strides:
        raise InputError(
            f"there is no rule for the samples of {config.model_type!r} models; give "
            "the inputs in a file (--inputs FILE.npz)"
        )
    step, field = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        field += (kernel - 1) * step
        step *= stride
    return step, field


def _noise(request: _Request, shape: tuple[int, ...]) -> torch.Tensor:
    import torch

    values = torch.randn(shape, generator=request.generator)
    return values.to(request.model.dtype)


def _text_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """The part of a config that has the vocabulary."""
    if "text_config" in type(config).sub_configs:
        return config.text_config
    return config


def _image_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """The part of a config that has the image size."""
    if "vision_config" in type(config).sub_configs:
        return config.vision_config
    return config


def _number(config: PreTrainedConfig, name: str) -> int | None:
    """An integer setting, or None: configs of different families have different
    ones."""
    value: Any = getattr(config, name, None)
    return value if isinstance(value, int) else None
