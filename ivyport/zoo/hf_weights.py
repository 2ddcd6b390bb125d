"""Loading a Hugging Face checkpoint strictly.

transformers initialises at random what a checkpoint lacks and drops what it has in
excess, with a log message. A port of such a model would be silently wrong, so here
every difference is collected and raised at once, except those that are explained (see
`load_weights`).
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import math
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ivyport.core.errors import SourceError, WeightsError
from ivyport.zoo import hf_hub

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

    from ivyport.weights.store import TensorStore

# The dtypes of weights that a model can be built in.
_FLOATS = ("float64", "float32", "float16", "bfloat16")

_SHOWN = 8  # names in a note; the rest is counted

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' log, progress bars and warnings for a while."""
    from transformers.utils import logging as hf_logging

    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity(hf_logging.CRITICAL)
    hf_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()


def open_weights(folder: Path) -> TensorStore:
    """The safetensors weights of a folder, headers checked against the files' sizes.

    Raises SourceError where there are none, saying what there is instead, and
    WeightsError for damaged or truncated files or an index that its shards contradict.
    """
    from ivyport.weights.store import TensorStore

    names = (hf_hub.WEIGHTS_FILE, hf_hub.INDEX_FILE)
    if not any((folder / name).is_file() for name in names):
        raise SourceError(hf_hub.no_safetensors_in(folder))
    return TensorStore.open(folder)


def files_of(store: TensorStore) -> list[Path]:
    """The files that hold a store's tensors, sorted."""
    return sorted({store.info(name).file for name in store})


def own_dtype(store: TensorStore) -> tuple[torch.dtype, list[str]]:
    """The dtype that most of the weights have, and notes on those of another.

    Raises SourceError for float8 and other quantised weights.
    """
    import torch

    counts: Counter[str] = Counter()
    for name, (dtype, shape) in store.specs().items():
        if dtype in _FLOATS:
            counts[dtype] += math.prod(shape)
        elif dtype.startswith("float"):
            raise SourceError(
                f"the tensor {name!r} is {dtype}: quantised checkpoints are not read; "
                "save the model dequantised (bfloat16, float16 or float32)"
            )
    if not counts:
        return torch.float32, []
    main = counts.most_common(1)[0][0]
    others = [dtype for dtype in counts if dtype != main]
    notes = []
    if others:
        notes.append(
            f"the checkpoint mixes dtypes: {main} is kept, and weights in "
            f"{', '.join(others)} are cast to it"
        )
    return getattr(torch, main), notes


def load_weights(
    cls: type[PreTrainedModel],
    config: PreTrainedConfig,
    full_config: PreTrainedConfig,
    store: TensorStore,
    dtype: torch.dtype,
    name: str,
) -> tuple[PreTrainedModel, list[str]]:
    """Build `cls` with the weights of a store; returns the model and notes.

    Tensors stay memory-mapped where no cast is needed. `full_config` is the
    checkpoint's own configuration, of which `config` may be a part (CLIP's text half).
    Not an error, but a note: tensors of another head of the same architecture (a
    masked-language-model head where the base model is loaded). Not even a note: names
    that the class itself declares ignorable, and old buffers.

    Raises WeightsError with all missing, extra and mis-shaped tensors.
    """
    from safetensors import SafetensorError, safe_open

    with contextlib.ExitStack() as stack:
        try:
            handles = {
                file: stack.enter_context(safe_open(file, framework="pt"))
                for file in files_of(store)
            }
            tensors = {n: handles[store.info(n).file].get_slice(n) for n in store}
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{name!r} cannot be read: {error}") from error
        model, info = _from_tensors(cls, config, tensors, dtype, name)
    extra, other_heads = _explain(cls, full_config, info["unexpected_keys"])
    _raise_differences(cls, full_config, info, extra, name)
    notes = []
    if other_heads:
        shown = ", ".join(other_heads[:_SHOWN])
        more = f" and {len(other_heads) - _SHOWN} more" * (len(other_heads) > _SHOWN)
        notes.append(
            f"{len(other_heads)} tensors of the checkpoint belong to other parts of "
            f"this architecture and not to {cls.__name__}: {shown}{more}"
        )
    return model, notes


def _from_tensors(
    cls: type[PreTrainedModel],
    config: PreTrainedConfig,
    tensors: dict[str, Any],
    dtype: torch.dtype,
    name: str,
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """transformers' own loading, from tensors instead of a folder.

    It renames and converts the layouts of older checkpoints. Given no folder, it reads
    no further file: no adapter, no generation settings and no code.
    """
    report: list[str] = []
    try:
        with quiet(), _heard("transformers.modeling_utils", report):
            model, info = cls.from_pretrained(
                None,
                config=config,
                state_dict=tensors,
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                local_files_only=True,
            )
    except Exception as error:
        # Whatever stops it: transformers' conversion of layouts raises RuntimeError
        # after logging the names, and building from a strange config raises nearly
        # anything.
        rows = _rows(report) or [f"{type(error).__name__}: {error}"]
        raise WeightsError(
            "\n    ".join([f"{_headline(cls, name)}; transformers says:", *rows])
        ) from error
    return model, info


@contextlib.contextmanager
def _heard(logger_name: str, messages: list[str]) -> Iterator[None]:
    """Collect a logger's warnings instead of showing them."""
    logger = logging.getLogger(logger_name)
    level, propagate = logger.level, logger.propagate

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler = Collect(logging.WARNING)
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def _rows(report: Iterable[str]) -> list[str]:
    """The lines of transformers' load report that name a tensor or a cause."""
    lines = [
        _ANSI.sub("", line).strip() for text in report for line in text.split("\n")
    ]
    wanted = ("| MISSING", "| MISMATCH", "| CONVERSION", "| UNEXPECTED")
    return [
        line.rstrip("| ")
        for line in lines
        if line.startswith(("Error", "RuntimeError", "ValueError"))
        or any(status in line for status in wanted)
    ]


def _explain(
    cls: type[PreTrainedModel], config: PreTrainedConfig, names: Iterable[str]
) -> tuple[list[str], list[str]]:
    """Split tensors that a class does not know into (unexplained, of another head).

    A tensor belongs to another head if some model class of the same source module and
    the same configuration has it. Building those on the meta device costs milliseconds,
    and is proof where a rule on name prefixes would be a guess.
    """
    left = set(names)
    found: set[str] = set()
    for sibling in _siblings(cls, config):
        if not left:
            break
        theirs = _tensor_names(sibling, config)
        prefix = f"{sibling.base_model_prefix}."
        bare = {key.removeprefix(prefix) for key in theirs}
        known = {
            key for key in left if key in theirs or key.removeprefix(prefix) in bare
        }
        found |= known
        left -= known
    return sorted(left), sorted(found)


def _siblings(
    cls: type[PreTrainedModel], config: PreTrainedConfig
) -> list[type[PreTrainedModel]]:
    """The other public model classes of a source module that a configuration builds.

    The one that the checkpoint names as its own comes first.
    """
    from transformers import PreTrainedModel

    module = sys.modules[cls.__module__]
    own = set(config.architectures or ())
    public: list[Any] = [getattr(module, name) for name in module.__all__]
    models = [
        v for v in public if inspect.isclass(v) and issubclass(v, PreTrainedModel)
    ]
    siblings: list[Any] = [
        value
        for value in models
        if "pretrained" not in value.__name__.lower() and value is not cls
    ]
    siblings = [value for value in siblings if value.config_class is type(config)]
    return sorted(siblings, key=lambda value: (value.__name__ not in own,))


def _tensor_names(cls: type[PreTrainedModel], config: PreTrainedConfig) -> set[str]:
    """The state-dict names of a class built on the meta device; none if it refuses."""
    import copy

    import torch

    try:
        with quiet(), torch.device("meta"):
            return set(cls(copy.deepcopy(config)).state_dict())
    except (ValueError, TypeError, AttributeError):
        # Some heads need settings that this checkpoint has not (a decoder, labels):
        # such a class explains nothing, and the tensors stay unexplained, which is an
        # error.
        return set()


def _raise_differences(
    cls: type[PreTrainedModel],
    config: PreTrainedConfig,
    info: dict[str, Any],
    extra: list[str],
    name: str,
) -> None:
    from ivyport.weights.differences import Differences

    differences = Differences()
    for key in info["missing_keys"]:
        # Checkpoints older than this counter are complete without it.
        if not key.endswith("num_batches_tracked"):
            differences.add("missing from the checkpoint", key)
    for key in extra:
        differences.add("in the checkpoint but not in the model", key)
    for key, theirs, ours in info["mismatched_keys"]:
        detail = f"{tuple(theirs)} in the checkpoint, {tuple(ours)} in the model"
        differences.add("of another shape", key, detail)
    own = [known for known in config.architectures or () if known != cls.__name__]
    advice = f"; it was saved from {own[0]} (--class {own[0]})" if own else ""
    differences.raise_if_any(f"{_headline(cls, name)}{advice}:")


def _headline(cls: type[PreTrainedModel], name: str) -> str:
    return f"the checkpoint {name!r} does not fit {cls.__name__}"
