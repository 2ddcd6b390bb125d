"""Fields of config.json that are built into a saved port's code: another value is refused."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import ivyport
from ivyport.core.errors import WeightsError
from ivyport.saving import built_in

IDS = torch.arange(6).reshape(2, 3)


class Settings:
    """A configuration of one's own."""

    def __init__(self, **values: Any) -> None:
        vars(self).update(values)

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self)}


class Small(nn.Module):
    """It reads a name, a flag and a nested value, and no number that a port declares."""

    def __init__(self) -> None:
        super().__init__()
        self.config = Settings(
            act="relu",
            residual=True,
            scale={"kind": "fixed", "by": 3.0},
            id2label={"0": "no"},
            _name_or_path="here",
            limit=float("nan"),
        )
        self.lin = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = getattr(F, self.config.act)(self.lin(x)) * self.config.scale["by"]
        return x + y if self.config.residual else y


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=12, max_position_embeddings=9,
    )  # fmt: skip
    source = BertModel(config, add_pooling_layer=False).eval()
    ported = ivyport.transpile(source, "jax", kwargs={"input_ids": IDS}, train=False)
    folder = tmp_path_factory.mktemp("bert") / "tiny"
    ivyport.save(ported, folder)
    return folder


@pytest.fixture(scope="module", params=["jax", "torch"])
def small(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    ported = ivyport.transpile(
        Small().eval(), request.param, (torch.ones(2, 4),), train=False
    )
    folder = tmp_path_factory.mktemp("small") / "tiny"
    ivyport.save(ported, folder)
    return folder


def edited(folder: Path, tmp_path: Path, **values: Any) -> Path:
    """A copy of the folder with these values in its config.json."""
    copy = tmp_path / "edited"
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, **values}))
    return copy


def own(folder: Path) -> Any:
    """The model's class of the emitted file, imported as a user imports it."""
    file = next(folder.glob("modeling_*.py"))
    spec = importlib.util.spec_from_file_location(f"inputs_{id(folder)}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return vars(module)[json.loads((folder / "port.json").read_text())["class"]]


@pytest.mark.parametrize(
    ("field", "value"), [("hidden_act", "relu"), ("is_decoder", True)]
)
def test_a_field_of_bert_that_is_built_in_is_refused(
    bert: Path, tmp_path: Path, field: str, value: Any
) -> None:
    folder = edited(bert, tmp_path, **{field: value})
    old = json.loads((bert / "config.json").read_text())[field]
    with pytest.raises(ValueError, match="port again") as error:
        own(folder).from_pretrained(folder, changed=True)
    assert f"{field} is {value!r}" in str(error.value)
    assert repr(old) in str(error.value)
    with pytest.raises(WeightsError, match=f"{field} is {value!r}"):
        ivyport.load(folder, trust=True, changed=True)


def test_what_the_class_declares_may_change(bert: Path, tmp_path: Path) -> None:
    folder = edited(bert, tmp_path, hidden_dropout_prob=0.25, id2label={"0": "yes"})
    with pytest.raises(ValueError, match="changed or replaced"):
        own(folder).from_pretrained(folder)
    model = own(folder).from_pretrained(folder, changed=True)
    assert model.config.hidden_dropout_prob == 0.25
    assert model(IDS.numpy()).last_hidden_state.shape == (2, 3, 8)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("act", "gelu"),
        ("residual", False),
        ("scale", {"kind": "fixed", "by": 4.0}),
    ],
)
def test_a_port_without_a_configuration_class_refuses_too(
    small: Path, tmp_path: Path, field: str, value: Any
) -> None:
    folder = edited(small, tmp_path, **{field: value})
    with pytest.raises(ValueError, match=f"{field} is .*port again"):
        own(folder).from_pretrained(folder, changed=True)


def test_names_and_new_fields_pass(small: Path, tmp_path: Path) -> None:
    folder = edited(
        small, tmp_path, id2label={"0": "x"}, _name_or_path="there", added_later=[1]
    )
    model = own(folder).from_pretrained(folder, changed=True)
    again = ivyport.load(small)
    x = np.ones((2, 4), np.float32)
    x = torch.from_numpy(x) if isinstance(model, nn.Module) else x
    assert (np.asarray(model(x).tolist()) == np.asarray(again(x).tolist())).all()


def test_a_saved_copy_refuses_as_well(small: Path, tmp_path: Path) -> None:
    own(small).from_pretrained(small).save_pretrained(tmp_path / "copy")
    folder = edited(tmp_path / "copy", tmp_path, act="gelu")
    with pytest.raises(ValueError, match="act is 'gelu'"):
        own(small).from_pretrained(folder, changed=True)


def test_what_is_built_in() -> None:
    values = {
        "a": 1,
        "b": "x",
        "_c": 2,
        "id2label": {0: "y"},
        "d": float("nan"),
        "e": {3: 4},
    }
    assert built_in(values, ("a",)) == {"b": "x", "e": {"3": 4}}
