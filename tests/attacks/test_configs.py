"""Hostile and damaged configurations of Hugging Face folders."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

from ivyport.zoo import hf
from tests.attacks.harness import attacked

SMALL = {
    "model_type": "bert", "architectures": ["BertModel"], "hidden_size": 16,
    "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
    "vocab_size": 30, "max_position_embeddings": 12, "type_vocab_size": 2,
}  # fmt: skip
HOSTILE: dict[str, Any] = {
    "layers without end": SMALL | {"num_hidden_layers": 10**9},
    "a million layers": SMALL | {"num_hidden_layers": 10**6},
    "depths without end": {"model_type": "swin", "depths": [2, 10**9]},
    "stages without end": {"model_type": "t5", "num_decoder_layers": 10**9},
    "labels without end": SMALL | {"num_labels": 10**9},
    "a width of 10**12": SMALL | {"hidden_size": 10**12},
    "a number of 400 digits": SMALL | {"hidden_size": 10**400},
    "NaN": SMALL | {"layer_norm_eps": float("nan")},
    "half a character": SMALL | {"hidden_act": "\ud800"},
    "half a character in a key": SMALL | {"\udc80": 1},
    "half a character for a type": {"model_type": "\ud800"},
    "a terminal's type": {"model_type": "\x1b[2J" * 10_000},
    "a path for a class": SMALL | {"architectures": ["os.abort"]},
    "a number for classes": SMALL | {"architectures": 10**5},
    "an odd class": SMALL | {"architectures": ["__class__"]},
    "a list": [SMALL],
    "empty": {},
    "negative": SMALL | {"num_hidden_layers": -1},
    "a text for a size": SMALL | {"hidden_size": "16"},
    "an attention of none": SMALL | {"num_attention_heads": 0},
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    from transformers import CONFIG_MAPPING

    folder = tmp_path_factory.mktemp("small")
    config = CONFIG_MAPPING["bert"].from_dict(SMALL)
    hf.build(config).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(SMALL))
    hf.load(str(folder))  # what has to be imported is
    return folder


def read(folder: Path, text: str) -> Any:
    (folder / "config.json").write_text(text)
    return attacked(lambda: hf.load(str(folder)), run=True)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_configurations(checkpoint, name):
    found = read(checkpoint, json.dumps(HOSTILE[name]))
    assert isinstance(found, str)
    assert len(found) < 6000


@pytest.mark.parametrize(
    "text", ["", "[", '{"a":' * 5000 + "1" + "}" * 5000, "\ufeff{}"]
)
def test_no_configuration(checkpoint, text):
    assert isinstance(read(checkpoint, text), str)


VALUES: tuple[Any, ...] = (
    *(0, -1, 1, 3, 10**5, 2**31, 2**63, 1e308, float("inf"), float("nan"), None, True),
    *("", "gelu", "\ud800", "a" * 10**5, [], {}, [1], {"a": []}, "os:abort"),
)


def damaged(rng: random.Random) -> str:
    values: dict[str, Any] = copy.deepcopy(SMALL)
    for _ in range(rng.randint(1, 3)):
        key = rng.choice(
            [*SMALL, "hidden_act", "layer_norm_eps", "torch_dtype", "x" * 99]
        )
        values[key] = rng.choice(VALUES)
    text = json.dumps(values)
    if rng.random() < 0.2:
        place = rng.randrange(len(text))
        text = text[:place] + rng.choice(["", '"', "}", ","]) + text[place + 1 :]
    return text


@pytest.mark.slow
def test_a_hundred_damaged_configurations(checkpoint):
    import torch

    rng, loaded, ids = random.Random(0), 0, torch.arange(4)[None]
    (checkpoint / "config.json").write_text(json.dumps(SMALL))
    right = hf.load(str(checkpoint)).model(input_ids=ids).last_hidden_state
    for _ in range(100):
        found = read(checkpoint, damaged(rng))
        if isinstance(found, str):
            continue
        loaded += 1
        assert found.model.config.hidden_size == right.shape[-1]
    print(f"configurations: 100 damaged ones, {loaded} of them loaded")
