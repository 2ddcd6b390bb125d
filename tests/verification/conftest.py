"""Ports that several tests look at, made once."""

from __future__ import annotations

import pytest
import torch

from tests.verification import models


@pytest.fixture(scope="session")
def net(tmp_path_factory):
    source = models.seeded(models.Net)
    kwargs = {"x": torch.randn(2, 7, 16)}
    return models.make(source, kwargs, tmp_path_factory.mktemp("net") / "port")


@pytest.fixture(scope="session")
def conv(tmp_path_factory):
    source = models.seeded(models.Conv)
    with torch.no_grad():
        source.norm1.running_mean.normal_()
        source.norm2.running_var.uniform_(0.5, 2)
    kwargs = {"x": torch.randn(2, 3, 9, 9)}
    return models.make(source, kwargs, tmp_path_factory.mktemp("conv") / "port")


@pytest.fixture(scope="session")
def tied(tmp_path_factory):
    source = models.seeded(models.Tied)
    kwargs = {"input_ids": torch.randint(0, 30, (2, 5))}
    return models.make(source, kwargs, tmp_path_factory.mktemp("tied") / "port")


@pytest.fixture(scope="session")
def bert(tmp_path_factory):
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    config = BertConfig(vocab_size=99, num_hidden_layers=2, **sizes)
    source = models.seeded(lambda: BertModel(config))
    ids = torch.randint(0, 99, (2, 7))
    kwargs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return models.make(source, kwargs, tmp_path_factory.mktemp("bert") / "port")
