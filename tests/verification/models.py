"""Small models, their ports, and ports with a mistake."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import ivyport
from ivyport import verification
from ivyport.core.report import Report
from ivyport.weights.mapping import WeightMap


@dataclasses.dataclass
class Case:
    """A source, its inputs, and the folder that its port is saved in."""

    source: nn.Module
    kwargs: dict[str, Any]
    folder: Path

    @property
    def code(self) -> str:
        """The emitted source."""
        [file] = self.folder.glob("modeling_*.py")
        return file.read_text()

    def verify(self) -> Report:
        """The report of the port as it is."""
        return ivyport.verify(
            self.source, ivyport.load(self.folder), kwargs=self.kwargs
        )

    def run(self, **options: Any) -> Report:
        """The report of the port by the verification itself, with other options."""
        record = json.loads((self.folder / "port.json").read_text())
        weights = WeightMap.from_json(record["weights"])
        kwargs = options.pop("kwargs", self.kwargs)
        ported = options.pop("ported", None) or ivyport.load(self.folder)
        return verification.run(
            self.source, ported, weights, record["modules"], kwargs, **options
        )

    def spoilt(self, out: Path, edit: Callable[[str], str]) -> Report:
        """The report of the port with its source edited."""
        shutil.copytree(self.folder, out)
        [file] = out.glob("modeling_*.py")
        before = file.read_text()
        file.write_text(edit(before))
        assert file.read_text() != before, "the edit finds nothing in the source"
        return ivyport.verify(
            self.source, ivyport.load(out, trust=True), kwargs=self.kwargs
        )


def make(source: nn.Module, kwargs: dict[str, Any], folder: Path) -> Case:
    """Port `source` to `folder`."""
    ported = ivyport.transpile(source, "jax", kwargs=kwargs, verify=False)
    ivyport.save(ported, folder)
    return Case(source, kwargs, folder)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.up = nn.Linear(16, 24)
        self.down = nn.Linear(24, 16)

    def forward(self, x):
        return x + self.down(torch.nn.functional.gelu(self.up(self.norm(x))))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = Block()
        self.second = Block()

    def forward(self, x):
        hidden = self.second(self.first(x))
        return {"hidden": hidden, "best": hidden.argmax(-1), "cache": None}


class Conv(nn.Module):
    """Convolutions whose biases have no gradient in train mode, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 12, 3, stride=2)
        self.norm2 = nn.BatchNorm2d(12, momentum=0.3)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(12, 5)

    def forward(self, x):
        x = torch.relu(self.norm1(self.conv1(x)))
        x = torch.relu(self.norm2(self.conv2(x)))
        return self.head(self.drop(x.mean((2, 3))))


class Tied(nn.Module):
    """A language model whose head is its embedding; one parameter is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 16)
        self.body = nn.Linear(16, 16)
        self.head = nn.Linear(16, 30, bias=False)
        self.head.weight = self.embed.weight
        self.body.bias.requires_grad_(False)

    def forward(self, input_ids):
        return self.head(torch.tanh(self.body(self.embed(input_ids))))


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """A model with the same weights each time."""
    torch.manual_seed(0)
    return build().eval()
