"""The public calls with torch as the target: values, names, modes, saving, compiling."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.numpy import load_file  # noqa: E402
from torch import nn  # noqa: E402

import ivyport  # noqa: E402
from ivyport.core.errors import InputError, WeightsError  # noqa: E402
from ivyport.weights.convert import send_home  # noqa: E402
from tests.plain_models import PLAIN, Images, seeded  # noqa: E402
from tests.porting import leaves  # noqa: E402
from tests.support import as_numpy, assert_close  # noqa: E402

# What a port holds under another name than its source: Python has no such identifiers, and
# what the source makes in its constructor is a buffer of the port.
RENAMED = {"Strange": {"class", "lambda"}, "Custom": {"table"}}


def assert_same(source: nn.Module, ported: nn.Module, inputs: dict[str, Any]) -> None:
    """Demand equal structure and close values."""
    with torch.no_grad():
        expected = list(leaves(source(**{k: v.clone() for k, v in inputs.items()})))
        actual = list(leaves(ported(**{k: v.clone() for k, v in inputs.items()})))
    assert [path for path, _ in actual] == [path for path, _ in expected]
    for (path, ours), (_, theirs) in zip(actual, expected, strict=True):
        if torch.is_tensor(theirs):
            assert ours.dtype == theirs.dtype, path
            assert_close(ours, theirs, rtol=1e-5)
        else:
            assert ours == theirs, path


@pytest.fixture(scope="module")
def images() -> tuple[nn.Module, nn.Module, dict[str, Any]]:
    source = seeded(Images)
    inputs = PLAIN["Images"][1]
    return source, ivyport.transpile(source, "torch", kwargs=inputs), inputs


# ---- values and names


@pytest.mark.parametrize("name", PLAIN)
def test_plain_module(name: str) -> None:
    make, inputs, second = PLAIN[name]
    source = seeded(make)
    ported = ivyport.transpile(source, "torch", kwargs=inputs)
    assert type(ported) is not type(source)
    assert not ported.training
    assert_same(source, ported, inputs)
    assert_same(source, ported, second)
    odd = {n for n in ported.state_dict() if n not in source.state_dict()}
    lost = {n for n in source.state_dict() if n not in ported.state_dict()}
    known = RENAMED.get(name, set())
    assert {n.partition(".")[0].removeprefix("m_") for n in odd | lost} <= known


@pytest.mark.parametrize("name", PLAIN)
def test_it_compiles_as_one_graph(name: str) -> None:
    make, inputs, second = PLAIN[name]
    ported = ivyport.transpile(seeded(make), "torch", kwargs=inputs)
    compiled = torch.compile(ported, fullgraph=True, backend="eager", dynamic=True)
    for given in (inputs, second):
        assert_same(ported, compiled, given)


def test_the_port_has_weights_of_its_own(images: Any) -> None:
    source, ported, _ = images
    theirs = {t.data_ptr() for t in source.state_dict().values()}
    assert not theirs & {t.data_ptr() for t in ported.state_dict().values()}


def test_a_port_of_a_port_is_the_same_file(images: Any) -> None:
    source, ported, inputs = images
    again = ivyport.transpile(ported, "torch", kwargs=inputs)
    assert_same(source, again, inputs)
    first, second = (ivyport.api._PORTS[p].source for p in (ported, again))
    body = "class Images"
    assert first[first.index(body) :] == second[second.index(body) :]


class Tied(nn.Module):
    """A language model whose head is its embedding, and a layer that two parents hold."""

    class Reader(nn.Module):
        def __init__(self, embed: nn.Module) -> None:
            super().__init__()
            self.embed = embed
            self.body = nn.Linear(16, 16)

        def forward(self, ids):
            return torch.tanh(self.body(self.embed(ids)))

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 16)
        self.one, self.two = self.Reader(self.embed), self.Reader(self.embed)
        self.head = nn.Linear(16, 30, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        return self.head(self.one(ids) + self.two(ids))


def test_tied_weights_are_one_parameter(tmp_path: Path) -> None:
    source = seeded(Tied)
    inputs = {"ids": torch.arange(12).reshape(2, 6)}
    result = ivyport.port(source, "torch", tmp_path / "port", kwargs=inputs)
    assert result.report is not None
    assert result.report.passed
    ported = ivyport.load(tmp_path / "port")
    count = sum(p.numel() for p in source.parameters())
    assert sum(p.numel() for p in ported.parameters()) == count
    optimizer = torch.optim.SGD(ported.parameters(), 0.1)
    (ported(**inputs) ** 2).sum().backward()
    optimizer.step()
    ivyport.save(ported, tmp_path / "trained")
    assert_same(ported, ivyport.load(tmp_path / "trained"), inputs)
    send_home(tmp_path / "trained", tmp_path / "home", include_aliases=True)
    home = load_file(tmp_path / "home" / "model.safetensors")
    source.load_state_dict({k: torch.as_tensor(v) for k, v in home.items()})
    assert_same(source, ported, inputs)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_other_precisions(dtype: str) -> None:
    kind = getattr(torch, dtype)
    make, inputs, _ = PLAIN["Functional"]
    source = seeded(make).to(kind)
    given = {"x": inputs["x"].to(kind)}
    ported = ivyport.transpile(source, "torch", kwargs=given)
    assert {p.dtype for p in ported.parameters()} == {kind}
    assert torch.equal(ported(**given), source(**given))


def test_a_cast_port_computes_in_the_new_precision(images: Any) -> None:
    _, ported, inputs = images
    cast = copy.deepcopy(ported).to(torch.bfloat16)
    outputs = cast(**{k: v.to(torch.bfloat16) for k, v in inputs.items()})
    assert outputs[0].dtype == torch.bfloat16
    assert_close(outputs[0].float(), ported(**inputs)[0], rtol=5e-2)


# ---- modes


def test_eval_calls_agree_and_train_calls_differ() -> None:
    make, inputs, _ = PLAIN["FunctionalDropout"]
    ported = ivyport.transpile(seeded(make), "torch", kwargs=inputs)
    x = torch.ones(64, 6)
    assert torch.equal(ported(x), ported(x))
    ported.train()
    assert not torch.equal(ported(x), ported(x))
    ported.eval()
    assert torch.equal(ported(x), ported(x))


def test_batch_norm_updates_its_statistics(images: Any) -> None:
    source, ported, inputs = (copy.deepcopy(x) for x in images)
    source.train()
    ported.train()
    for shift in range(2):
        given = inputs["x"] * 2 + shift
        assert_close(ported(given)[0], source(given)[0], rtol=1e-5)
    ours, theirs = ported.state_dict(), source.state_dict()
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert_close(ours[f"norm.{name}"], theirs[f"norm.{name}"], rtol=1e-6)


# ---- saving


def test_save_load_and_send_home(tmp_path: Path, images: Any) -> None:
    source, ported, inputs = images
    ivyport.save(ported, tmp_path / "port")
    names = {p.name for p in (tmp_path / "port").iterdir()}
    assert {"modeling_port.py", "model.safetensors", "port.json", "README.md"} <= names
    card = (tmp_path / "port" / "README.md").read_text(encoding="utf-8")
    assert "Images for PyTorch" in card
    assert "jax" not in card
    loaded = ivyport.load(tmp_path / "port")
    assert_same(source, loaded, inputs)
    assert all(p.requires_grad for p in loaded.parameters())
    assert ivyport.verify(source, loaded, kwargs=inputs).passed
    send_home(tmp_path / "port", tmp_path / "home", include_aliases=True)
    home = load_file(tmp_path / "home" / "model.safetensors")
    expected = {k: as_numpy(v) for k, v in source.state_dict().items()}
    assert home.keys() == expected.keys()
    for name, array in expected.items():
        assert home[name].tobytes() == array.tobytes(), name
        assert home[name].dtype == array.dtype, name


def test_the_state_is_torch_s_own(images: Any) -> None:
    """What users do with a module: pickle its state, load it into another instance."""
    _, ported, inputs = images
    buffer = io.BytesIO()
    torch.save(ported.state_dict(), buffer)
    buffer.seek(0)
    other = type(ported)()
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert_same(ported, other.eval(), inputs)


@pytest.mark.parametrize("damage", ["drop", "add", "reshape"])
def test_weights_load_strictly(damage: str, tmp_path: Path, images: Any) -> None:
    from safetensors.numpy import save_file

    ivyport.save(images[1], tmp_path / "port")
    file = tmp_path / "port" / "model.safetensors"
    tensors = load_file(file)
    name = "head.weight" if damage != "add" else "extra.weight"
    if damage == "drop":
        del tensors[name]
    else:
        tensors[name] = np.zeros((2, 2), np.float32)
    save_file(tensors, file)
    with pytest.raises((WeightsError, RuntimeError), match=name.replace(".", r"\.")):
        ivyport.load(tmp_path / "port", changed=True)


# ---- arguments and names


class Words(nn.Module):
    """Arguments that are called like what the emitted code uses."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, max, np, F, jax, input, _x, B):
        length = np.shape[1]
        y = torch.nn.functional.gelu(self.layer(max)) + torch.arange(length)
        return y + F + jax, torch.zeros(max.shape[0], min(length, 3)), input * _x * B


@pytest.mark.parametrize("target", ["torch", "jax"])
def test_arguments_keep_their_names(target: str) -> None:
    if target == "jax":
        pytest.importorskip("flax")
    source = seeded(Words)
    names = ("max", "np", "F", "jax", "input", "_x", "B")
    inputs = {name: torch.randn(3, 6) for name in names}
    ported = ivyport.transpile(source, target, kwargs=inputs)
    given = inputs if target == "torch" else {k: as_numpy(v) for k, v in inputs.items()}
    for found, expected in zip(ported(**given), source(**inputs), strict=True):
        assert_close(found, expected, rtol=1e-5)


class Helper(nn.Module):
    """A variable that is called like a helper which its expression uses."""

    def forward(self, adaptive_avg_pool, x):
        layer_norm = nn.functional.layer_norm(x, x.shape[1:])
        pooled = nn.functional.adaptive_avg_pool2d(adaptive_avg_pool, (4, 5))
        return layer_norm * layer_norm.mean() + layer_norm, pooled


def test_helpers_are_not_hidden_by_variables() -> None:
    pytest.importorskip("flax")
    inputs = {
        "adaptive_avg_pool": torch.randn(2, 3, 6, 6),
        "x": torch.randn(2, 4, 4),
    }
    source = Helper().eval()
    ported = ivyport.transpile(source, "jax", kwargs=inputs)
    found = ported(**{k: as_numpy(v) for k, v in inputs.items()})
    for ours, theirs in zip(found, source(**inputs), strict=True):
        assert_close(ours, theirs, rtol=1e-5)


class Uncalled(nn.Module):
    """Weights that are read from modules which are never called, and lists with gaps."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 6)
        self.scales = nn.ParameterList(torch.randn(6) for _ in range(2))
        self.gates = nn.ParameterDict({"a": torch.randn(6), "b": torch.randn(6)})
        self.body = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
        self.sparse = nn.ModuleDict({"x": nn.ModuleList([nn.Linear(6, 6)])})
        self.deep = nn.Sequential(*(nn.Identity() for _ in range(9)), nn.Linear(6, 6))

    def forward(self, x):
        x = x @ self.table.weight.T @ self.table.weight
        x = x * self.scales[0] + self.scales[1]
        x = self.body(x * self.gates["a"] + self.gates["b"])
        return self.deep(self.sparse["x"][0](x))


def test_state_names_are_the_source_s() -> None:
    source = seeded(Uncalled)
    inputs = {"x": torch.randn(3, 6)}
    ported = ivyport.transpile(source, "torch", kwargs=inputs)
    assert_same(source, ported, inputs)
    assert set(ported.state_dict()) == set(source.state_dict())
    ported.load_state_dict(source.state_dict())


@pytest.mark.parametrize("name", ["../up", "a b", "", "a/b"])
def test_a_name_that_is_no_identifier_is_refused(name: str, tmp_path: Path) -> None:
    make, inputs, _ = PLAIN["Functional"]
    with pytest.raises(InputError, match="identifier"):
        ivyport.port(seeded(make), "torch", tmp_path / "p", kwargs=inputs, name=name)
    assert not list(tmp_path.iterdir())


def test_a_torch_source_takes_no_params() -> None:
    make, inputs, _ = PLAIN["Functional"]
    with pytest.raises(InputError, match="params="):
        ivyport.transpile(seeded(make), "torch", kwargs=inputs, params={})


def test_torch_functions_are_refused() -> None:
    with pytest.raises(InputError, match=r"torch\.nn\.Module"):
        ivyport.transpile(torch.relu, "torch", (torch.ones(2),))
