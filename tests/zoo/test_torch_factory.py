from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from ivyport.core.errors import FactoryError, SourceError, WeightsError
from ivyport.zoo import torch_factory

SOURCE = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Linear(3, 4)
        self.b = torch.nn.Linear(3, 4)
        self.b.weight = self.a.weight

ready = Net()
number = 3
def wrong():
    return "text"
def fails():
    raise ZeroDivisionError("of the factory")
"""


@pytest.fixture
def factories(tmp_path, monkeypatch):
    (tmp_path / "house_factories.py").write_text(SOURCE)
    (tmp_path / "house_broken.py").write_text("import no_such_package")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return "house_factories"


def test_builds_from_a_class_a_function_or_an_instance(factories):
    made = torch_factory.build(f"{factories}:Net", seed=0)
    again = torch_factory.build(f"{factories}:Net", seed=0)
    other = torch_factory.build(f"{factories}:Net", seed=1)
    assert torch.equal(made.a.weight, again.a.weight)
    assert not torch.equal(made.a.weight, other.a.weight)
    ready = torch_factory.build(f"{factories}:ready", seed=0)
    assert type(ready).__name__ == "Net"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("house_factories", "does not read as pkg.module:factory"),
        ("house_factories:", "does not read as pkg.module:factory"),
        ("house factories:Net", "does not read as pkg.module:factory"),
        ("house_factorie:Net", "no module 'house_factorie'"),
        ("house_broken:Net", "no module 'no_such_package'"),
        ("house_factories:net", "no 'net' there, only: Net, fails"),
        ("house_factories:wrong", "gives str, expected a torch.nn.Module"),
        ("house_factories:number", "gives int, expected a torch.nn.Module"),
    ],
)
def test_what_is_no_factory_is_refused(factories, spec, message):
    with pytest.raises(SourceError, match=message):
        torch_factory.build(spec, seed=0)


def test_what_the_factory_raises_is_theirs_with_its_traceback(factories):
    with pytest.raises(FactoryError, match="your own code raises") as error:
        torch_factory.build(f"{factories}:fails", seed=0)
    assert "ZeroDivisionError: of the factory" in str(error.value)
    assert f"{factories}.py" in str(error.value)
    assert "torch_factory.py" not in str(error.value)


@pytest.mark.parametrize("spec", ["os:abort", "sys:exit", "subprocess:run"])
def test_python_s_own_functions_are_no_factories(spec):
    with pytest.raises(SourceError, match="Python's own"):
        torch_factory.build(spec, seed=0)


@pytest.mark.parametrize("tied", ["a.weight", "b.weight"])
def test_params_load_under_either_name_of_a_tied_one(factories, tmp_path, tied):
    net = torch_factory.build(f"{factories}:Net", seed=0)
    file = tmp_path / "params.safetensors"
    params = {tied: torch.ones(4, 3), "a.bias": torch.zeros(4), "b.bias": torch.ones(4)}
    save_file(params, file)
    torch_factory.load_params(net, file)
    assert net.a.weight is net.b.weight
    assert torch.equal(net.a.weight.detach(), torch.ones(4, 3))
    assert torch.equal(net.b.bias.detach(), torch.ones(4))


def test_every_difference_is_listed_and_nothing_is_copied(factories, tmp_path):
    net = torch_factory.build(f"{factories}:Net", seed=0)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    file = tmp_path / "params.safetensors"
    save_file(
        {"a.bias": torch.ones(4), "b.bias": torch.ones(5), "c": torch.ones(1)}, file
    )
    with pytest.raises(WeightsError) as raised:
        torch_factory.load_params(net, file)
    for part in ("a.weight", "b.bias", "(5,)", "(4,)", "c"):
        assert part in str(raised.value)
    assert all(torch.equal(net.state_dict()[k], v) for k, v in before.items())


def test_unreadable_params_are_refused(factories, tmp_path):
    net = torch_factory.build(f"{factories}:Net", seed=0)
    with pytest.raises(WeightsError, match="no such file"):
        torch_factory.load_params(net, tmp_path / "absent.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"\x00" * 9)
    with pytest.raises(WeightsError, match="cannot be read"):
        torch_factory.load_params(net, tmp_path / "cut.safetensors")


def test_compiled_and_scripted_modules_have_the_name_of_their_class():
    from types import SimpleNamespace

    class Named(torch.nn.Module):
        def forward(self, x):
            return x

    assert torch_factory.class_name(Named()) == "Named"
    assert torch_factory.class_name(torch.compile(Named())) == "Named"
    scripted = SimpleNamespace(original_name="Linear")  # as torch.jit has it
    assert torch_factory.class_name(scripted) == "Linear"
