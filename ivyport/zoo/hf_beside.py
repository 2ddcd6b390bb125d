"""What lies beside the weights of a Hugging Face model and comes along with its port: tokenizer,
processor and generation settings, as files that are copied and never run; and what its card tells.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

#: Names that transformers gives them: data of tokenizers and processors, without any code.
NAMES: tuple[str, ...] = (
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "feature_extractor_config.json",
    "generation_config.json",
    "image_processor_config.json",
    "merges.txt",
    "normalizer.json",
    "preprocessor_config.json",
    "processor_config.json",
    "sentencepiece.bpe.model",
    "source.spm",
    "special_tokens_map.json",
    "spiece.model",
    "target.spm",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
    "vocab.json",
    "vocab.txt",
)
CARD = "README.md"
#: What of a source's card holds for its port.
_TOLD = ("license", "license_name", "license_link", "language", "pipeline_tag")
_MOST_BYTES = 200_000_000


def files_beside(folder: Path) -> list[Path]:
    """The files of `NAMES` that a model's folder has."""
    found = (folder / name for name in NAMES)
    return [p for p in found if p.is_file() and p.stat().st_size <= _MOST_BYTES]


def told_by_card(folder: Path) -> dict[str, Any]:
    """License, language and task of the card in a model's folder; {} where it tells nothing."""
    path = folder / CARD
    if not path.is_file() or path.stat().st_size > _MOST_BYTES:
        return {}
    from huggingface_hub import metadata_load

    try:
        told = metadata_load(path)
    # A card is written by hand, and YAML can raise anything: without it the port is complete.
    except Exception:  # noqa: BLE001
        return {}
    if not isinstance(told, dict):
        return {}
    kept = {key: told[key] for key in _TOLD if key in told}
    return {key: value for key, value in kept.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    items = value if isinstance(value, list) else [value]
    return (
        all(isinstance(item, str) for item in items) and len(json.dumps(items)) < 2000
    )


__all__ = ["CARD", "NAMES", "files_beside", "told_by_card"]
