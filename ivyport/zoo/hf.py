"""Hugging Face torch models: found, built and loaded for a port.

`load` takes what a user types (a folder, a hub id, a model type) and gives a model that
can be traced: eval mode, no cache, structured outputs, `scaled_dot_product_attention`
where the class supports it. Nothing from a model folder is ever executed, and no pickle
is read.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
import functools
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ivyport.core.budget import VARIABLE, scale
from ivyport.core.errors import DependencyError, SourceError
from ivyport.core.shown import printable, shown
from ivyport.zoo import hf_configs, hf_hub
from ivyport.zoo.hf_beside import files_beside, told_by_card
from ivyport.zoo.hf_inputs import dims, example_inputs, second_inputs

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

__all__ = [
    "HFSource",
    "build",
    "dims",
    "example_inputs",
    "load",
    "second_inputs",
]

_DTYPES = ("float32", "bfloat16", "float16", "float64")

# Settings of a config.json that choose code or files, not an architecture. An attention
# implementation, for one, may name a kernel repository on the hub.
_CODE_SETTINGS = frozenset(
    {
        "_attn_implementation",
        "_attn_implementation_internal",
        "_experts_implementation",
        "_experts_implementation_internal",
        "attn_implementation",
        "auto_map",
        "custom_pipelines",
        "experts_implementation",
        "fusion_config",
        "transformers_weights",
    }
)


@dataclass
class HFSource:
    """A Hugging Face torch model, ready to be traced, and where it came from.

    `name` is safe in identifiers and file names. `origin` goes into a port's
    `port.json`: it holds JSON values and no path of this machine. `files` are the
    safetensors files of the weights, or None for random weights. `beside` are the files of
    tokenizer and processor that come along. `notes` are remarks for the user.
    """

    model: PreTrainedModel
    config: PreTrainedConfig
    name: str
    origin: dict[str, Any]
    files: list[Path] | None
    notes: list[str] = field(default_factory=list)
    beside: list[Path] = field(default_factory=list)


def load(
    model_id: str,
    *,
    cls: str | None = None,
    weights: bool = True,
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
    seed: int = 0,
    local_only: bool | None = None,
) -> HFSource:
    """Find, build and load a Hugging Face torch model.

    `model_id` is a local folder (`config.json` and safetensors), a cached hub snapshot
    or a hub id; without `weights` also a well-known id or a model type (`bert`), which
    then need no network. `cls` is a transformers class name; the default is the
    architecture that the config names, else the base model of its type. `dtype` is that
    of the weights unless given, and float32 for random weights, which `seed`
    determines. `local_only` keeps off the network, as HF_HUB_OFFLINE=1 does.

    Raises SourceError for what cannot be found or built, and WeightsError for weights
    that are damaged or do not fit the class, listing every tensor.
    """
    require_transformers()
    wanted = _dtype(dtype)
    if not weights and revision is None and not hf_hub.is_folder(model_id):
        config = _known_config(model_id)
        if config is not None:
            return _random(config, config.name_or_path, cls, wanted, seed)
    found = hf_hub.locate(
        model_id, weights=weights, revision=revision, local_only=local_only
    )
    config = read_config(found.folder)
    if not weights:
        source = _random(config, found.id, cls, wanted, seed)
        source.name = found.name
        source.origin["revision"] = found.revision
        source.beside = files_beside(found.folder)
        return source
    return _pretrained(found, config, cls, wanted, seed)


def build(
    config: PreTrainedConfig,
    *,
    cls: str | None = None,
    seed: int = 0,
    dtype: str | torch.dtype | None = None,
    perturb: bool = False,
) -> PreTrainedModel:
    """Build a model with seeded random weights, in eval mode, from a copy of a config.

    With `perturb`, noise is added to every parameter and to running statistics, so that
    no bias is zero and no scale is one: a port that forgets one of those then differs.

    Raises SourceError for an unknown class, or one that this config cannot build.
    """
    import torch

    require_transformers()
    from ivyport.zoo.hf_weights import quiet

    chosen = resolve_class(config, cls)
    config = _traceable(_part_for(chosen, config))
    if chosen.__name__.endswith("ForQuestionAnswering"):
        config.num_labels = 2  # start and end: that head takes no other number
    try:
        with _seeded(seed), quiet():
            model = chosen._from_config(config, dtype=_dtype(dtype) or torch.float32)
            if perturb:
                _perturb(model)
    except Exception as error:
        # A config can make a constructor raise anything; the cause says what.
        raise _not_built(chosen, error) from error
    _settle_padding(model)
    return model.eval()


def require_transformers() -> None:
    """Raise DependencyError, naming the extra, unless torch and transformers are
    there."""
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise DependencyError(
            f"Hugging Face models need the package {error.name!r}; "
            "install 'ivyport[hf]'"
        ) from error


def read_config(folder: Path) -> PreTrainedConfig:
    """The configuration in a folder's `config.json`, built by transformers' own class.

    Raises SourceError for a missing or malformed file, one that names no architecture,
    a quantised model, and a model whose code is not part of transformers.
    """
    values = _config_values(folder)
    where = f"config.json of {folder.name!r}"
    model_type = values.get("model_type")
    if model_type is None:
        model_type = _type_from_architectures(values, where)
    if not isinstance(model_type, str):
        raise SourceError(
            f"{where} has the model_type {shown(model_type)}; it must be text"
        )
    from transformers import CONFIG_MAPPING

    if model_type not in CONFIG_MAPPING:
        raise _unknown_type(model_type, where, remote="auto_map" in values)
    named = values.get("architectures") or []
    if not isinstance(named, list) or not all(isinstance(n, str) for n in named):
        raise SourceError(
            f"{where} has the architectures {shown(named)}; names are due"
        )
    if values.get("quantization_config"):
        raise SourceError(
            f"{where} describes a quantised checkpoint; save the model dequantised "
            "(bfloat16, float16 or float32)"
        )
    from ivyport.zoo.hf_weights import quiet

    try:
        with quiet():
            return CONFIG_MAPPING[model_type].from_dict(_without_code(values))
    except Exception as error:
        # transformers validates settings with classes of several libraries.
        raise SourceError(
            f"{where} is no {model_type!r} configuration: {_one_line(error)}"
        ) from error


def resolve_class(config: PreTrainedConfig, name: str | None) -> type[PreTrainedModel]:
    """The model class for a config: by name (`Auto...` too), else the config's own.

    Raises SourceError for an unknown name, with close ones, and for a class of another
    model type, with those that fit.
    """
    import transformers
    from transformers import AutoModel, PreTrainedModel

    if name is None:
        own = [n for n in config.architectures or () if isinstance(n, str)]
        known = [n for n in own if _looks_up(n) is not None]
        name = known[0] if known else None
        if own and not known:
            raise SourceError(
                f"the config's architecture {own[0]!r} is no class of transformers "
                f"{transformers.__version__}{_close(own[0])}; choose one with --class"
            )
    if name is None:
        mapping = AutoModel._model_mapping
        if type(config) not in mapping:
            raise SourceError(
                f"transformers has no base model for {config.model_type!r}; choose a "
                f"class with --class{_fitting(config)}"
            )
        return _first_class(mapping[type(config)])
    found = _looks_up(name)
    if found is not None and found.__name__.startswith("Auto"):
        found = _auto_class(found, config)
    if found is None or not issubclass(found, PreTrainedModel):
        raise SourceError(f"transformers has no model class {name!r}{_close(name)}")
    _part_for(found, config)
    return found


def _pretrained(
    found: hf_hub.Located,
    config: PreTrainedConfig,
    cls: str | None,
    dtype: torch.dtype | None,
    seed: int,
) -> HFSource:
    from ivyport.zoo import hf_weights

    chosen = resolve_class(config, cls)
    store = hf_weights.open_weights(found.folder)
    files = hf_weights.files_of(store)
    own, mixed = hf_weights.own_dtype(store)
    notes = mixed if dtype is None else []  # a cast that was asked for is no news
    part = _traceable(_part_for(chosen, config))
    # Buffers that no checkpoint holds can be drawn at random: the seed covers those.
    with _seeded(seed):
        model, more = hf_weights.load_weights(
            chosen, part, config, store, dtype or own, found.id
        )
    notes += more + _settle_padding(model)
    model.config.name_or_path = found.id
    origin = _origin(found.id, model, found.revision, None)
    if told := told_by_card(found.folder):
        origin["card"] = told
    beside = files_beside(found.folder)
    return HFSource(
        model.eval(), model.config, found.name, origin, files, notes, beside
    )


def _random(
    config: PreTrainedConfig,
    model_id: str,
    cls: str | None,
    dtype: torch.dtype | None,
    seed: int,
) -> HFSource:
    model = build(config, cls=cls, seed=seed, dtype=dtype)
    origin = _origin(model_id, model, None, seed)
    return HFSource(model, model.config, hf_hub.safe_name(model_id), origin, None)


def _origin(
    model_id: str, model: PreTrainedModel, revision: str | None, seed: int | None
) -> dict[str, Any]:
    import transformers

    return {
        "kind": "hf",
        "id": model_id,
        "class": type(model).__name__,
        "model_type": model.config.model_type,
        "revision": revision,
        "transformers": transformers.__version__,
        "dtype": str(model.dtype).removeprefix("torch."),
        "weights": "pretrained" if seed is None else f"random, seed {seed}",
    }


def _known_config(model_id: str) -> PreTrainedConfig | None:
    """A config that needs no files: of a well-known id, or the default of a type."""
    from transformers import CONFIG_MAPPING

    config = hf_configs.published_config(model_id)
    if config is None and model_id in CONFIG_MAPPING:
        config = hf_configs.config_of_type(model_id, {})
        config.name_or_path = model_id
    return config


def _config_values(folder: Path) -> dict[str, Any]:
    path = folder / hf_hub.CONFIG_FILE
    if not path.is_file():
        raise SourceError(
            f"the folder {folder.name!r} has no config.json; a model folder has that "
            f"and {hf_hub.WEIGHTS_FILE}"
        )
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(
            f"config.json of {folder.name!r} cannot be read as JSON: {shown(str(error))}"
        ) from error
    if not isinstance(values, dict):
        raise SourceError(
            f"config.json of {folder.name!r} holds a {type(values).__name__}; it must "
            "hold an object"
        )
    _check_values(values, f"config.json of {folder.name!r}", "", 0)
    return values


#: Above these a number of a configuration is no size of a model: building it would not end.
_MOST_NUMBER, _MOST_PARTS, _MOST_LABELS = 2**31, 10_000, 1_000_000
_PARTS = re.compile(r"layer|depth|blocks|stages|experts")
_LABELS = re.compile(r"labels|classes")
_DEEPEST = 32


def _check_values(value: Any, where: str, key: str, depth: int) -> None:
    """Refuse what no model is built from: deep nesting, NaN, broken texts, absurd sizes."""
    if depth > _DEEPEST:
        raise SourceError(f"{where} is nested more than {_DEEPEST} levels deep")
    if isinstance(value, dict):
        for name, item in value.items():
            _check_values(name, where, "a key", depth)
            _check_values(item, where, name if isinstance(name, str) else "", depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_values(item, where, key, depth + 1)
    elif isinstance(value, str):
        if any("\ud800" <= c <= "\udfff" for c in value):
            raise SourceError(
                f"{where}: {shown(key)} has half a character: {shown(value)}"
            )
    elif isinstance(value, float) and math.isnan(value):
        raise SourceError(f"{where}: {shown(key)} is NaN")
    elif type(value) is int:
        most = _MOST_NUMBER
        if _PARTS.search(key):
            most = _MOST_PARTS
        elif _LABELS.search(key):
            most = _MOST_LABELS
        if abs(value) > most * scale():
            raise SourceError(
                f"{where}: {shown(key)} is {shown(value)}, and {most} is the most that is "
                f"built; where it is meant, set {VARIABLE}=10 for ten times as much"
            )


def _type_from_architectures(values: dict[str, Any], where: str) -> str:
    """The model type of an old config that only names its class."""
    from transformers import PreTrainedModel

    architectures = values.get("architectures")
    if not architectures or not isinstance(architectures, list):
        raise SourceError(
            f"{where} has neither 'model_type' nor 'architectures', so it does not say "
            'which model this is; add them (for instance "model_type": "bert")'
        )
    found = _looks_up(architectures[0]) if isinstance(architectures[0], str) else None
    if found is None or not issubclass(found, PreTrainedModel):
        raise _unknown_type(str(architectures[0]), where, remote="auto_map" in values)
    config_class: type[PreTrainedConfig] = found.config_class
    return str(config_class.model_type)


def _unknown_type(name: str, where: str, *, remote: bool) -> SourceError:
    import transformers
    from transformers import CONFIG_MAPPING

    if remote:
        return SourceError(
            f"{where}: the model {shown(name)} needs remote code (its 'auto_map' points at "
            "Python files of its own), which is never run. Load it yourself and port "
            "the live torch module: ivyport torch your.module:factory"
        )
    close = difflib.get_close_matches(name[:100], list(CONFIG_MAPPING), n=4)
    hint = f"; close names: {', '.join(close)}" if close else ""
    return SourceError(
        f"{where}: the model {shown(name)} is unknown to transformers "
        f"{transformers.__version__}{hint}"
    )


def _without_code(values: dict[str, Any]) -> dict[str, Any]:
    """A copy of config values without the settings that choose code, at any depth."""
    return {
        key: _without_code(value) if isinstance(value, dict) else copy.deepcopy(value)
        for key, value in values.items()
        if key not in _CODE_SETTINGS
    }


@functools.cache
def _public() -> frozenset[str]:
    """The names that transformers has; it puts thousands together each time it is asked."""
    import transformers

    return frozenset(dir(transformers))


def _looks_up(name: str) -> type[Any] | None:
    """The transformers class of a name, or None; looks at public classes only."""
    import transformers

    if not name.isidentifier() or name.startswith("_") or name not in _public():
        return None
    try:
        found = getattr(transformers, name)
    except ImportError as error:
        raise DependencyError(
            f"the transformers class {name!r} needs another package: {_one_line(error)}"
        ) from error
    return found if isinstance(found, type) else None


def _auto_class(auto: type, config: PreTrainedConfig) -> type[PreTrainedModel]:
    mapping = getattr(auto, "_model_mapping", None)
    if mapping is None:
        raise SourceError(f"{auto.__name__} is no model class{_fitting(config)}")
    if type(config) not in mapping:
        raise SourceError(
            f"{auto.__name__} has no class for {config.model_type!r}{_fitting(config)}"
        )
    return _first_class(mapping[type(config)])


def _first_class(
    entry: type[PreTrainedModel] | tuple[type[PreTrainedModel], ...],
) -> type[PreTrainedModel]:
    """The class that an auto mapping's entry stands for; a few have several."""
    return entry[0] if isinstance(entry, tuple) else entry


def _part_for(cls: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedConfig:
    """The config that a class takes: this one, or the part of it of the class's
    type."""
    wanted = cls.config_class
    if wanted is None or isinstance(config, wanted):
        return config
    for key, part in type(config).sub_configs.items():
        if part is wanted:
            return getattr(config, key)
    raise SourceError(
        f"the class {cls.__name__} is for {wanted.model_type!r} models, and this "
        f"config is of the type {config.model_type!r}{_fitting(config)}"
    )


def _fitting(config: PreTrainedConfig) -> str:
    """A hint that lists the model classes of a config's own source package."""
    import transformers

    # Classes are named after their config: BertConfig, BertModel, BertForMaskedLM.
    stem = type(config).__name__.removesuffix("Config")
    names = [
        name
        for name in sorted(dir(transformers))
        if name.startswith((f"{stem}For", f"{stem}Model", f"{stem}LMHead"))
    ]
    return f"; classes that fit: {', '.join(names)}" if names else ""


def _close(name: str) -> str:
    import transformers

    names = [
        n
        for n in dir(transformers)
        if n.endswith("Model") or ("For" in n and not n.startswith("Auto"))
    ]
    names = [n for n in names if not n.endswith(("Config", "Processor", "Former"))]
    close = difflib.get_close_matches(name, names, n=5)
    return f"; close names: {', '.join(close)}" if close else ""


def _traceable(config: PreTrainedConfig) -> PreTrainedConfig:
    """A copy of a config for a model that is traced: no cache, structured outputs."""
    config = copy.deepcopy(config)
    parts = [getattr(config, key) for key in type(config).sub_configs]
    for part in [config, *(part for part in parts if part is not None)]:
        # Only where it is set: vision configs have no cache, and get none.
        if getattr(part, "use_cache", False):
            part.use_cache = False
        part.return_dict = True
    return config


def _settle_padding(model: PreTrainedModel) -> list[str]:
    """Name a padding token where a class needs one and the config has none; notes on
    it.

    A decoder's classification head finds the end of each text by its padding, and
    refuses batches without. Done after building, so that no embedding is made with a
    padding row.
    """
    config = model.config
    if not type(model).__name__.endswith("ForSequenceClassification"):
        return []
    if "pad_token_id" not in config.to_dict() or config.pad_token_id is not None:
        return []
    end = config.eos_token_id
    config.pad_token_id = end if isinstance(end, int) else config.vocab_size - 1
    return [
        f"the config has no pad_token_id, which {type(model).__name__} needs for "
        f"batches; the token {config.pad_token_id} serves as one"
    ]


def _perturb(model: PreTrainedModel) -> None:
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            # Matrices get noise of about unit gain, so that attention is not uniform.
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 0
            scale = 0.5 * fan_in**-0.5 if fan_in else 0.1
            parameter.add_(torch.randn_like(parameter), alpha=scale)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(torch.randn_like(buffer), alpha=0.1)
            elif name.endswith("running_var"):
                buffer.mul_(torch.rand_like(buffer) * 0.5 + 0.75)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """torch's CPU generator at a seed, and afterwards as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    import torch

    if dtype is None:
        return None
    name = dtype if isinstance(dtype, str) else str(dtype).removeprefix("torch.")
    if name not in _DTYPES:
        raise SourceError(f"dtype {name!r} is none of {', '.join(_DTYPES)}")
    found: torch.dtype = getattr(torch, name)
    return found


def _not_built(cls: type[PreTrainedModel], error: Exception) -> SourceError:
    return SourceError(
        f"{cls.__name__} cannot be built from this config: {type(error).__name__}: "
        f"{_one_line(error)}"
    )


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return printable(text if len(text) < 1000 else f"{text[:1000]}...")
