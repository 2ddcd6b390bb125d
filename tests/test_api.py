"""The public calls on small torch modules: values, weights, modes, saving."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("flax")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from flax import nnx  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402
from torch import nn  # noqa: E402

import ivyport  # noqa: E402
from ivyport.core.errors import InputError, SourceError, WeightsError  # noqa: E402
from ivyport.weights.convert import send_home  # noqa: E402
from tests.plain_models import PLAIN, Custom, Images, Structure, seeded  # noqa: E402
from tests.porting import as_jax, assert_same  # noqa: E402
from tests.support import as_numpy, assert_close  # noqa: E402


def params(ported: Any, kind: Any = nnx.Param) -> dict[str, Any]:
    """Variables of a kind by dotted path."""
    found = nnx.to_flat_state(nnx.state(ported, kind))
    return {".".join(map(str, path)): v[...] for path, v in found}


class Tied(nn.Module):
    """A language model whose head is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 16)
        self.body = nn.Linear(16, 16)
        self.head = nn.Linear(16, 30, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, input_ids, attention_mask=None):
        hidden = torch.tanh(self.body(self.embed(input_ids)))
        if attention_mask is not None:
            hidden = hidden * attention_mask[..., None]
        return self.head(hidden)


@pytest.fixture(scope="module")
def tied() -> tuple[nn.Module, Any, dict[str, Any]]:
    source = seeded(Tied)
    ids = torch.arange(12).reshape(2, 6)
    inputs = {"input_ids": ids, "attention_mask": (ids % 5 > 0).long()}
    return source, ivyport.transpile(source, "jax", kwargs=inputs), inputs


@pytest.fixture(scope="module")
def images() -> tuple[nn.Module, Any, dict[str, Any]]:
    source = seeded(Images)
    inputs = PLAIN["Images"][1]
    return source, ivyport.transpile(source, "jax", kwargs=inputs), inputs


# ---- values


@pytest.mark.parametrize("name", PLAIN)
def test_plain_module(name: str) -> None:
    make, inputs, second = PLAIN[name]
    source = seeded(make)
    copied = {k: v.clone() for k, v in inputs.items()}
    ported = ivyport.transpile(source, "jax", kwargs=copied)
    assert isinstance(ported, nnx.Module)
    assert_same(source, ported, inputs)
    assert_same(source, ported, second)


def test_positional_inputs_are_the_named_ones() -> None:
    make, inputs, _ = PLAIN["Where"]
    source = seeded(make)
    ported = ivyport.transpile(source, "jax", tuple(inputs.values()))
    assert_same(source, ported, inputs)
    again = ported(*(as_jax(v) for v in inputs.values()))
    assert_close(again[0], source(**inputs)[0])


def test_integer_inputs_and_masks(tied: Any) -> None:
    source, ported, inputs = tied
    assert_same(source, ported, inputs)
    longer = torch.arange(27).reshape(3, 9)
    assert_same(
        source, ported, {"input_ids": longer, "attention_mask": (longer % 2).long()}
    )


def test_outputs_keep_their_structure() -> None:
    source = seeded(Structure)
    ported = ivyport.transpile(source, "jax", kwargs=PLAIN["Structure"][1])
    found = ported(x=jnp.ones((3, 6)))
    assert list(found) == ["last", "none", "parts", "name", "count"]
    assert found["none"] is None
    assert type(found["parts"]) is list
    assert type(found["parts"][1]) is tuple
    assert found["parts"][1][1] is None


def test_model_output_has_the_source_s_fields() -> None:
    transformers = pytest.importorskip("transformers")
    from ivyport.zoo import hf, hf_configs, hf_inputs

    source = hf.build(hf_configs.tiny_config("distilbert"), cls="DistilBertModel")
    inputs = hf_inputs.example_inputs(source)
    ported = ivyport.transpile(source, "jax", kwargs=inputs)
    found = ported(**{k: as_jax(v) for k, v in inputs.items()})
    assert type(found).__name__ == "BaseModelOutput"
    assert found.hidden_states is None
    expected = source(**inputs)
    assert isinstance(expected, transformers.modeling_outputs.BaseModelOutput)
    assert_close(found.last_hidden_state, expected.last_hidden_state, rtol=1e-5)


def test_bfloat16() -> None:
    source = seeded(PLAIN["Functional"][0]).to(torch.bfloat16)
    inputs = {"x": PLAIN["Functional"][1]["x"].to(torch.bfloat16)}
    ported = ivyport.transpile(source, "jax", kwargs=inputs)
    assert {str(v.dtype) for v in params(ported).values()} == {"bfloat16"}
    found = ported(x=as_jax(inputs["x"]))
    assert found.dtype == jnp.bfloat16
    assert_close(found, source(**inputs), rtol=3e-2)
    theirs = {as_numpy(p).tobytes() for p in source.parameters()}
    ours = {np.asarray(v).tobytes() for v in params(ported).values()}
    transposed = {np.asarray(v).T.tobytes() for v in params(ported).values()}
    assert theirs <= ours | transposed  # the weights are the source's bits


# ---- the source


def _fingerprint(source: nn.Module) -> dict[str, Any]:
    tensors = [*source.named_parameters(), *source.named_buffers()]
    found: dict[str, Any] = {
        name: (id(t), t._version, t.requires_grad, t.grad, _digest(t))
        for name, t in tensors
    }
    for path, module in source.named_modules():
        found[f"mode {path}"] = module.training
        found[f"hooks {path}"] = (
            len(module._forward_hooks),
            len(module._forward_pre_hooks),
            sorted(vars(module)),
        )
    return found


def _digest(tensor: Any) -> str:
    return hashlib.sha256(as_numpy(tensor).tobytes()).hexdigest()


@pytest.mark.parametrize("train", [True, False])
def test_the_source_is_left_as_it_was(train: bool) -> None:
    source = seeded(Images).train(train)
    inputs = {"x": PLAIN["Images"][1]["x"].clone()}
    before, given = _fingerprint(source), inputs["x"].clone()
    ported = ivyport.transpile(source, "jax", kwargs=inputs)
    ivyport.verify(source, ported)
    assert _fingerprint(source) == before
    assert torch.equal(inputs["x"], given)


# ---- parameters


def test_a_tied_weight_is_one_parameter(tied: Any) -> None:
    source, ported, _ = tied
    shapes = sorted(v.shape for v in params(ported).values())
    assert shapes == sorted([(30, 16), (16, 16), (16,)])
    count = sum(p.numel() for p in source.parameters())
    assert sum(v.size for v in params(ported).values()) == count


def test_a_tied_weight_is_trained_from_both_sides(tied: Any) -> None:
    source, ported, inputs = tied
    given = {k: as_jax(v) for k, v in inputs.items()}
    grads = nnx.grad(lambda m: (m(**given) ** 2).sum())(ported)
    found = {".".join(map(str, path)): v[...] for path, v in nnx.to_flat_state(grads)}
    (embedding,) = [v for v in found.values() if v.shape == (30, 16)]
    clone = copy.deepcopy(source)
    (clone(**inputs) ** 2).sum().backward()
    assert_close(embedding, clone.embed.weight.grad, rtol=1e-4)


def test_buffers_are_no_parameters() -> None:
    source = seeded(Custom)
    ported = ivyport.transpile(source, "jax", kwargs=PLAIN["Custom"][1])
    trained = sorted(v.shape for v in params(ported).values())
    assert trained == [(6,), (6, 3)]
    others = nnx.state(ported, nnx.Not(nnx.Any(nnx.Param, nnx.RngState)))
    held = [tuple(v[...].shape) for _, v in nnx.to_flat_state(others)]
    assert (3,) in held


def test_running_statistics_are_no_parameters(images: Any) -> None:
    source, ported, _ = images
    count = sum(p.numel() for p in source.parameters())
    assert sum(v.size for v in params(ported).values()) == count


# ---- modes


def test_eval_calls_agree_and_train_calls_differ() -> None:
    make, inputs, _ = PLAIN["FunctionalDropout"]
    ported = ivyport.transpile(seeded(make), "jax", kwargs=inputs)
    x = jnp.ones((64, 6))
    assert bool((ported(x=x) == ported(x=x)).all())
    ported.train()
    call = nnx.jit(lambda model, x: model(x=x))
    assert not bool((call(ported, x) == call(ported, x)).all())
    ported.eval()
    assert bool((ported(x=x) == ported(x=x)).all())


class Probe(nn.Module):
    """A dropout alone, as a layer or as a function."""

    def __init__(self, layer: bool) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.3) if layer else None

    def forward(self, x):
        if self.drop is not None:
            return self.drop(x)
        return torch.dropout(x, 0.3, self.training)


@pytest.mark.parametrize("layer", [True, False])
def test_dropout_rate_and_scale(layer: bool) -> None:
    probe = Probe(layer).eval()
    ported = ivyport.transpile(probe, "jax", kwargs={"x": torch.ones(2, 6)})
    ported.train()
    out = np.asarray(ported(x=jnp.ones((400, 250))))
    dropped = float((out == 0).mean())
    assert abs(dropped - 0.3) < 0.01  # 0.3 +- 0.0015 (one sigma) of 100 000 draws
    np.testing.assert_allclose(out[out != 0], 1 / 0.7, rtol=1e-6)
    rows = (out == 0).mean(axis=1)
    assert 0.01 < float(rows.std()) < 0.05  # independent: about 0.029 a row


def test_batch_norm_updates_its_statistics_as_torch_does(images: Any) -> None:
    source, _, inputs = images
    source = copy.deepcopy(source)
    ported = ivyport.transpile(source, "jax", kwargs=inputs)
    source.train()
    ported.train()
    for shift in range(2):
        given = inputs["x"] * 2 + shift
        with torch.no_grad():
            expected = source(given)[0]
        assert_close(ported(x=as_jax(given))[0], expected, rtol=1e-5)
    held = [np.asarray(v) for v in params(ported, nnx.BatchStat).values()]
    for name in ("running_mean", "running_var"):
        theirs = as_numpy(getattr(source.norm, name))
        errors = [np.abs(h - theirs).max() for h in held if h.shape == theirs.shape]
        assert min(errors) < 1e-5, name
    source.eval()
    ported.eval()
    assert_same(source, ported, inputs)


# ---- saving


def test_save_and_load(tmp_path: Path, images: Any) -> None:
    source, ported, inputs = images
    ivyport.save(ported, tmp_path / "port")
    names = {p.name for p in (tmp_path / "port").iterdir()}
    assert {
        "modeling_port.py", "model.safetensors", "config.json", "port.json", "README.md",
    } <= names  # fmt: skip
    assert not [p for p in tmp_path.iterdir() if p.name != "port"]
    loaded = ivyport.load(tmp_path / "port")
    assert_same(source, loaded, inputs)
    assert jax.tree.all(
        jax.tree.map(lambda a, b: bool((a == b).all()), params(ported), params(loaded))
    )
    assert ivyport.verify(source, loaded, kwargs=inputs).passed


def test_saving_twice_is_byte_identical(tmp_path: Path, images: Any) -> None:
    _, ported, _ = images
    ivyport.save(ported, tmp_path / "a" / "port")
    ivyport.save(ivyport.load(tmp_path / "a" / "port"), tmp_path / "b" / "port")
    first, second = (
        {p.name: p.read_bytes() for p in sorted((tmp_path / x / "port").iterdir())}
        for x in "ab"
    )
    assert first.keys() == second.keys()
    different = [n for n, data in first.items() if second[n] != data]
    assert not different


@pytest.mark.parametrize("which", ["tied", "images"])
def test_weights_go_home_bit_for_bit(
    which: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source, ported, _ = request.getfixturevalue(which)
    ivyport.save(ported, tmp_path / "port")
    send_home(tmp_path / "port", tmp_path / "home", include_aliases=True)
    home = load_file(tmp_path / "home" / "model.safetensors")
    expected = {k: as_numpy(v) for k, v in source.state_dict().items()}
    assert home.keys() == expected.keys()
    for name, array in expected.items():
        assert home[name].dtype == array.dtype, name
        assert home[name].tobytes() == array.tobytes(), name


def test_edited_weights_go_home(tmp_path: Path, images: Any) -> None:
    source, ported, inputs = images
    ivyport.save(ported, tmp_path / "port")
    file = tmp_path / "port" / "model.safetensors"
    tensors = {k: v + np.float32(0.5) for k, v in load_file(file).items()}
    save_file(tensors, file)
    send_home(tmp_path / "port", tmp_path / "home")
    edited = copy.deepcopy(source)
    state = load_file(tmp_path / "home" / "model.safetensors")
    edited.load_state_dict({k: torch.as_tensor(v) for k, v in state.items()})
    moved = edited.stem.weight - source.stem.weight
    assert torch.allclose(moved, torch.full_like(moved, 0.5))
    with pytest.raises(WeightsError, match=r"model\.safetensors changed since"):
        ivyport.load(tmp_path / "port")
    assert_same(edited, ivyport.load(tmp_path / "port", changed=True), inputs)


def test_trained_port_saves_its_current_weights(tmp_path: Path) -> None:
    make, inputs, _ = PLAIN["Functional"]
    ported = ivyport.transpile(seeded(make), "jax", kwargs=inputs)
    state = nnx.state(ported, nnx.Param)
    nnx.update(ported, jax.tree.map(lambda x: x * 2, state))
    x = as_jax(inputs["x"])
    ivyport.save(ported, tmp_path / "port")
    assert_close(ivyport.load(tmp_path / "port")(x=x), np.asarray(ported(x=x)))


def _drop(tensors: dict[str, Any]) -> None:
    tensors.pop(min(tensors))


def _add(tensors: dict[str, Any]) -> None:
    tensors["extra.weight"] = np.zeros(3, np.float32)


def _reshape(tensors: dict[str, Any]) -> None:
    first = min(tensors)
    tensors[first] = np.zeros((5, 5), np.float32)


@pytest.mark.parametrize("damage", [_drop, _add, _reshape])
def test_weights_load_strictly(damage: Any, tmp_path: Path, images: Any) -> None:
    ivyport.save(images[1], tmp_path / "port")
    file = tmp_path / "port" / "model.safetensors"
    tensors = load_file(file)
    name = min(tensors) if damage is not _add else "extra.weight"
    damage(tensors)
    save_file(tensors, file)
    with pytest.raises(WeightsError, match=name):
        ivyport.load(tmp_path / "port", changed=True)


def test_a_truncated_file_is_a_clear_error(tmp_path: Path, images: Any) -> None:
    ivyport.save(images[1], tmp_path / "port")
    file = tmp_path / "port" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    for changed in (False, True):
        with pytest.raises(WeightsError, match=r"model\.safetensors"):
            ivyport.load(tmp_path / "port", changed=changed)


# ---- requests that are at fault


def test_wrong_requests(tmp_path: Path) -> None:
    source = seeded(Custom)
    x = torch.ones(2, 6)
    with pytest.raises(InputError, match="keras"):
        ivyport.transpile(source, "keras", kwargs={"x": x})
    with pytest.raises(InputError, match="function"):
        ivyport.transpile(lambda x: x, "jax", kwargs={"x": x})
    with pytest.raises(InputError, match="y"):
        ivyport.transpile(source, "jax", kwargs={"y": x})
    with pytest.raises(InputError):
        ivyport.save(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), tmp_path / "port")
    with pytest.raises(SourceError, match="port"):
        ivyport.load(tmp_path)
    assert not list(tmp_path.iterdir())
