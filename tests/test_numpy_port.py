"""Ports to NumPy: they compute what eval mode of the source does, from a folder alone too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

import ivyport  # noqa: E402
from ivyport.core.errors import InputError, UnsupportedOpsError  # noqa: E402
from tests.plain_models import PLAIN, seeded  # noqa: E402
from tests.small_models import MODELS  # noqa: E402

X = np.linspace(-1, 1, 2 * 3 * 9 * 9, dtype=np.float32).reshape(2, 3, 9, 9)


class Net(nn.Module):
    """Images, running statistics, a tied weight, a buffer that is computed and one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 8, bias=False)
        self.again = nn.Linear(8, 8)
        self.again.weight = self.fc.weight
        self.token = nn.Parameter(torch.randn(1, 8))
        self.register_buffer("scale", torch.rand(8))
        self.register_buffer("ranks", torch.arange(8))

    def forward(self, x):
        y = nn.functional.gelu(self.bn(self.conv(x))).mean((2, 3))
        return self.again(self.fc(y)) * self.scale + self.token + self.ranks


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    model = Net().eval()
    with torch.no_grad():
        model.bn.running_mean.normal_()
        model.bn.running_var.uniform_(0.5, 2)
    return model


@pytest.fixture(scope="module")
def ported(net: nn.Module) -> Any:
    dims = {"x": {0: "batch", 2: "height", 3: "width"}}
    return ivyport.transpile(net, "numpy", (torch.from_numpy(X),), dims=dims)


@pytest.fixture(scope="module")
def folder(ported: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("numpy") / "port"
    ivyport.save(ported, path)
    return path


def test_what_is_not_there_is_not_checked_and_said(net: nn.Module, ported: Any) -> None:
    report = ivyport.verify(net, ported)
    assert report.passed
    assert {row.kind for row in report.rows} == {"output"}
    assert {row.inputs for row in report.rows} == {"traced", "second"}
    assert [t for t in report.not_checked if t.startswith("gradients and train mode")]


def test_a_wrong_weight_is_found(net: nn.Module) -> None:
    wrong = ivyport.transpile(net, "np", (torch.from_numpy(X),))
    wrong.fc.weight = wrong.fc.weight + 0.1
    report = ivyport.verify(net, wrong)
    assert not report.passed
    assert report.first_drift.startswith("fc (")


def test_weights_are_copies_and_tied_ones_are_one(net: nn.Module, ported: Any) -> None:
    shapes = [np.shape(holder[key]) for holder, key in ported.places().values()]
    assert shapes.count((8, 8)) == 1
    for given in (X, X.astype(np.float64), X.tolist()):
        assert ported(given).dtype == np.float32
    held = net.token.detach().numpy()
    assert not np.shares_memory(ported.token, held)


def test_the_folder_works_where_nothing_but_numpy_is(
    net: nn.Module, folder: Path, tmp_path: Path
) -> None:
    script = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {{"ivyport", "torch", "jax", "flax", "ml_dtypes"}}:
            raise ImportError(name)
sys.meta_path.insert(0, Blocker())
import numpy as np
from modeling_port import Net
try:
    Net()(np.ones((1, 3, 5, 5), np.float32))
except ValueError as error:
    print(error)
model = Net.from_pretrained(".")
x = np.linspace(-1, 1, 2 * 3 * 9 * 9, dtype=np.float32).reshape(2, 3, 9, 9)
np.save({str(tmp_path / "y.npy")!r}, model(x))
model.token = model.token + 1
model.save_pretrained({str(tmp_path / "changed")!r})
"""
    run = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(run, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "has no values yet: load the weights first (from_pretrained)" in done.stdout
    with torch.no_grad():
        expected = net(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(
        np.load(tmp_path / "y.npy"), expected, rtol=1e-5, atol=1e-5
    )
    changed = ivyport.load(tmp_path / "changed")
    np.testing.assert_allclose(changed(X), expected + 1, rtol=1e-5, atol=1e-5)


def test_weights_go_home(net: nn.Module, folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    ivyport.send_home(folder, tmp_path / "home")
    home = load_file(tmp_path / "home" / "model.safetensors")
    state = net.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in home.items())
    tied = {"again.weight", "fc.weight"}
    assert set(state) - set(home) <= tied
    assert len(tied & set(home)) == 1


def test_the_card_and_the_file_say_what_it_is(folder: Path) -> None:
    card = (folder / "README.md").read_text()
    assert "it has no gradients, and no train mode" in card
    assert "Both need numpy and safetensors, and not ivyport." in card
    lines = (folder / "modeling_port.py").read_text().splitlines()
    lines = [line for line in lines if line.startswith(("import ", "from "))]
    imported = {line.split()[1].partition(".")[0] for line in lines}
    assert imported - set(sys.stdlib_module_names) == {"numpy", "safetensors"}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_models(name: str) -> None:
    cls, given, _ = PLAIN[name]
    source = seeded(cls)
    report = ivyport.verify(source, ivyport.transpile(source, "numpy", kwargs=given))
    assert report.passed, [r for r in report.rows if not r.passed]


@pytest.mark.parametrize("name", MODELS)
def test_small_models(name: str) -> None:
    torch.manual_seed(0)
    cls, make = MODELS[name]
    source = cls().eval()
    given = (make(),)
    if name == "noisy":
        with pytest.raises(
            UnsupportedOpsError, match="draws random numbers in eval mode"
        ):
            ivyport.transpile(source, "numpy", given)
        return
    report = ivyport.verify(source, ivyport.transpile(source, "numpy", given))
    assert report.passed, [r for r in report.rows if not r.passed]


def test_what_numpy_lacks_is_refused() -> None:
    x = torch.ones(2, 4)
    with pytest.raises(InputError, match=r"the weight weight is bfloat16.*float32"):
        ivyport.transpile(nn.Linear(4, 4).bfloat16(), "numpy", (x.bfloat16(),))
    source = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).eval()
    source[1].train()
    with pytest.raises(InputError, match=r"'1' of the source.* eval mode alone"):
        ivyport.transpile(source, "numpy", (x,), verify=False)


def test_numbers_that_float16_lacks_are_multiplied_in_float32() -> None:
    class Scaled(nn.Module):
        def forward(self, x):
            return x * 1e6 / 2e6

    x = torch.tensor([1e-4, -0.03, 0.0, 0.05]).half()
    ported = ivyport.transpile(Scaled(), "numpy", (x,))
    np.testing.assert_allclose(ported(x.numpy()), Scaled()(x).numpy(), rtol=1e-3)
