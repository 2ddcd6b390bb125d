from __future__ import annotations

import json

import pytest

from ivyport.core.errors import SourceError
from ivyport.zoo.built import origin_to_json
from ivyport.zoo.origin import (
    FlaxOrigin,
    HaikuOrigin,
    HFOrigin,
    TorchOrigin,
    origin_from_json,
)


@pytest.mark.parametrize(
    "origin",
    [
        HFOrigin("some/model"),
        HFOrigin("folder", cls="BertModel", weights=False, batch=3, seq_len=5),
        TorchOrigin("pkg.module:make", inputs=("x=float32[2]", "y=bool[2]")),
        TorchOrigin("pkg:make", inputs=(), params="p.safetensors", seed=4),
        HaikuOrigin("perceiver"),
        HaikuOrigin(
            "mlp", variant="relu", file="w.npz", sizes=("channels=3",), batch=1
        ),
        FlaxOrigin("pkg.module:make", inputs=("x=float32[2]",), params="p.msgpack"),
    ],
)
def test_an_origin_survives_json(origin):
    assert origin_from_json(json.loads(json.dumps(origin_to_json(origin)))) == origin


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"kind": "live", "rebuild": {"model": "m"}},
        {"kind": "hf", "id": "m"},
        {"kind": "hf", "rebuild": {"cls": "BertModel"}},
        {"kind": "hf", "rebuild": {"model": "m", "extra": 1}},
    ],
)
def test_a_record_without_the_means_is_refused(record):
    with pytest.raises(SourceError, match="does not say how to rebuild the source"):
        origin_from_json(record)
