"""Layers and loading code that emitted torch files copy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ivyport.backends import files as reading
from ivyport.backends.torch import _layers
from ivyport.folder.manifest import described
from tests.support import assert_close


def _images(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        (rng.standard_normal((4, 5, 3)) * 2 + 1).astype(np.float32)
        for _ in range(count)
    ]


def _first(x: np.ndarray) -> torch.Tensor:
    """Channels-last images as torch has them."""
    return torch.tensor(x).movedim(-1, 1)


def test_batch_norm_is_that_of_flax() -> None:
    nnx = pytest.importorskip("flax.nnx")
    theirs = nnx.BatchNorm(3, momentum=0.9, epsilon=1e-3, rngs=nnx.Rngs(0))
    ours = _layers.BatchNorm(3, eps=1e-3, momentum=0.1)
    for x in _images(3):
        y = ours(_first(x)).movedim(1, -1)
        assert_close(y, np.asarray(theirs(x)), rtol=1e-5)
    assert_close(ours.running_mean, np.asarray(theirs.mean[...]), rtol=1e-5)
    assert_close(ours.running_var, np.asarray(theirs.var[...]), rtol=1e-5)
    theirs.eval(), ours.eval()
    y = ours(_first(x)).movedim(1, -1)
    assert_close(y, np.asarray(theirs(x)), rtol=1e-5)


def test_debiased_batch_norm_is_that_of_haiku() -> None:
    hk, jax = pytest.importorskip("haiku"), pytest.importorskip("jax")

    @hk.transform_with_state
    def norm(x: Any, is_training: bool) -> Any:
        layer = hk.BatchNorm(True, True, decay_rate=0.9, eps=1e-3)
        return layer(x, is_training)

    images = _images(3)
    params, state = norm.init(jax.random.PRNGKey(0), images[0], True)
    ours = _layers.DebiasedBatchNorm(3, eps=1e-3, momentum=0.1)
    for x in images:
        expected, state = norm.apply(params, state, None, x, True)
        y = ours(_first(x)).movedim(1, -1)
        assert_close(y, np.asarray(expected), rtol=1e-5)
    for name in ("mean_ema", "var_ema"):
        theirs = state[f"batch_norm/~/{name}"]
        average = getattr(ours, name)
        for leaf in ("hidden", "average", "counter"):
            expected = np.asarray(theirs[leaf])
            expected = expected.reshape(-1) if expected.ndim else expected
            assert_close(getattr(average, leaf), expected, rtol=1e-5)
    expected, _ = norm.apply(params, state, None, x, False)
    ours.eval()
    assert_close(ours(_first(x)).movedim(1, -1), np.asarray(expected), rtol=1e-5)


@pytest.mark.parametrize("cls", [_layers.BatchNorm, _layers.DebiasedBatchNorm])
def test_batch_norm_trains_like_torch_s(cls: type[nn.Module]) -> None:
    ours, theirs = cls(3, eps=1e-3), nn.BatchNorm1d(3, eps=1e-3)
    x = _first(_images(1)[0])
    grads = []
    for layer in (ours, theirs):
        inputs = x.clone().requires_grad_()
        layer(inputs).square().sum().backward()
        grads.append((inputs.grad, layer.weight.grad, layer.bias.grad))
    for one, other in zip(*grads, strict=True):
        assert_close(one, other, rtol=1e-5)
    assert not any(buffer.requires_grad for buffer in ours.buffers())


@pytest.mark.parametrize("cls", [_layers.BatchNorm, _layers.DebiasedBatchNorm])
def test_batch_norm_without_scale_and_bias(cls: type[nn.Module]) -> None:
    layer = cls(3, scale=False, bias=False)
    assert not list(layer.parameters())
    assert layer(_first(_images(1)[0])).mean().abs() < 1e-6


def test_shared_dropout_draws_once_for_its_axes() -> None:
    torch.manual_seed(0)
    layer, x = _layers.SharedDropout(0.5, axes=(1, 2)), torch.ones(400, 3, 5)
    y = layer(x)
    assert set(y.unique().tolist()) == {0.0, 2.0}
    assert (y == y[:, :1, :1]).all()
    assert abs(float(y.mean()) - 1) < 0.2
    assert layer.eval()(x) is x


class _Tied(nn.Module):
    """Two names of one parameter, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(4, 3)
        self.head = nn.Linear(3, 4, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("offset", torch.zeros(2))


def _saved(folder: Path) -> dict[str, tuple[Path, str]]:
    """The files of a folder as `from_pretrained` gets them, by a port.json that lists all."""
    names = [path.name for path in folder.iterdir()]
    record = {"files": described(folder, names)}
    (folder / "port.json").write_text(json.dumps(record))
    return reading.saved_files(folder, changed=False)


def test_load_pretrained_keeps_what_is_tied(tmp_path: Path) -> None:
    weight = torch.arange(12.0).reshape(4, 3)
    save_file({"embed.weight": weight}, tmp_path / "model-1.safetensors")
    save_file({"offset": torch.ones(2)}, tmp_path / "model-2.safetensors")
    model = _layers.load_pretrained(_Tied, _saved(tmp_path))
    assert not model.training
    assert model.head.weight is model.embed.weight
    assert isinstance(model.head.weight, nn.Parameter)
    assert model.head.weight.requires_grad
    assert dict(model.named_buffers())["offset"].tolist() == [1.0, 1.0]
    assert torch.equal(model.embed.weight, weight)


def test_load_pretrained_is_strict(tmp_path: Path) -> None:
    tensors = {"embed.weight": torch.zeros(4, 2), "other": torch.zeros(1)}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(RuntimeError) as error:
        _layers.load_pretrained(_Tied, _saved(tmp_path))
    for name in ("offset", "other", "embed.weight"):
        assert name in str(error.value)


def test_config_values_are_the_known_fields(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"width": 3, "unknown": 1}))
    files = _saved(tmp_path)
    assert reading.config_values(files, ["width", "depth"]) == {"width": 3}


def test_files_that_port_json_does_not_name_are_not_read(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    files = _saved(tmp_path)
    save_file({"a": torch.ones(2)}, tmp_path / "model_backup.safetensors")
    assert reading.load_weights(files, load_file)["a"].tolist() == [0.0, 0.0]


def test_a_changed_file_is_read_only_where_that_is_asked_for(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    files = _saved(tmp_path)
    save_file({"a": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="changed or replaced"):
        reading.load_weights(files, load_file)
    anything = reading.saved_files(tmp_path, changed=True)
    assert reading.load_weights(anything, load_file)["a"].tolist() == [1.0, 1.0]
