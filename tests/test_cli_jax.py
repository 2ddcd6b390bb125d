"""`ivyport haiku` and `ivyport flax`: where weights come from, and real ports to torch."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

import ivyport
from ivyport.cli import app
from ivyport.cli_jax import _with_value
from ivyport.zoo.haiku.catalogue import ENTRIES
from tests.haiku_goldens import SIZES, golden, golden_file

FACTORY = """
import jax
from flax import linen as nn
from flax import nnx

class Block(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x):
        return x + nn.Dense(self.features)(nn.gelu(nn.LayerNorm()(x)))

class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.BatchNorm(use_running_average=not train)(x)
        for _ in range(2):
            x = Block(8)(x)
        return x

def linen():
    return Net()

class Layer(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.dense = nnx.Linear(8, 8, rngs=rngs)

    def __call__(self, x):
        return x + self.dense(nnx.gelu(self.norm(x)))

def live():
    return Layer(nnx.Rngs(0))

def neither():
    return 3
"""
INPUT = ("--input", "x=float32[3,8]")
TO = ("--to", "torch")
SMALL_MLP = ("--size", "channels=6", "--size", "layers=5x4")


def run(*args: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command, in this process."""
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, " ".join(result.stderr.split())


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder with a module of factories, and an empty cache."""
    (tmp_path / "flax_factories.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("IVYPORT_CACHE", str(tmp_path / "cache"))
    return tmp_path


def sizes(variant: str) -> list[str]:
    texts = []
    for name, value in SIZES[variant].items():
        many = isinstance(value, tuple)
        shown = "x".join(map(str, value)) if many else value
        texts += ["--size", f"{name}={shown}"]
    return texts


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["m", "--weights"], ["m", "--weights", "published"]),
        (["m", "--weights", "-o", "x"], ["m", "--weights", "published", "-o", "x"]),
        (["m", "--weights", "file"], ["m", "--weights", "file"]),
        (["m", "--weights=file", "-o", "x"], ["m", "--weights=file", "-o", "x"]),
        (["m", "--no-weights"], ["m", "--no-weights"]),
    ],
)
def test_weights_with_and_without_a_file(args, expected):
    assert _with_value(args, "--weights", "published") == expected


def test_a_golden_perceiver_ports_with_the_authors_output(here):
    """From the authors' weights to a torch module that gives the authors' output."""
    import torch

    variant = "language-bytes"
    code, out, err = run(
        *("haiku", "perceiver", "--variant", variant, *TO, *sizes(variant)),
        *("--weights", golden_file(variant), "-o", "out", "--json"),
    )
    assert code == 0, err
    found = json.loads(out)
    assert found["passed"] is True
    record = json.loads((here / "out/port.json").read_text())["source"]
    assert record["kind"] == "haiku"
    assert record["rebuild"]["variant"] == variant
    case = golden(variant)
    ported = ivyport.load(here / "out")
    inputs = {name: torch.from_numpy(x) for name, x in case.inputs.items()}
    with torch.no_grad():
        output = ported(**inputs)
    np.testing.assert_allclose(output.numpy(), case.output, rtol=0, atol=1e-5)


def test_random_weights_and_verify_again(here):
    code, _, err = run("haiku", "mlp", *TO, "--no-weights", *SMALL_MLP, "-o", "out")
    assert code == 0, err
    assert "random" not in err  # it was asked for
    code, out, err = run("verify", "out")
    assert code == 0, err
    assert "parity holds" in out


def test_a_net_without_published_weights(here):
    code, out, err = run("haiku", "mlp", *TO, *SMALL_MLP, "--no-verify")
    assert code == 0, err
    assert "note: mlp has no published weights: these are random" in out
    assert (here / "ported/mlp/modeling_mlp.py").is_file()
    code, _, err = run("haiku", "mlp", *TO, *SMALL_MLP, "--weights")
    assert code == 2
    assert "mlp has no published weights: pass --weights FILE, or --no-weights" in err


OWN = """
import haiku as hk
import jax.numpy as jnp

def forward(x, scale):
    x = hk.Linear(5)(x) * scale
    return hk.LayerNorm(-1, True, True)(x)

def made():
    return hk.transform(lambda x: hk.nets.MLP([4, 3])(x))

def nothing():
    return 3
"""


def test_a_haiku_function_of_ones_own(here):
    (here / "own_haiku.py").write_text(OWN)
    args = ("haiku", "own_haiku:forward", *TO, *INPUT, "--set", "scale=2.0")
    code, out, err = run(*args, "-o", "out")
    assert code == 0, err
    assert "the weights are random" in out
    assert "scale=2.0" in out
    code, _, err = run("verify", "out")
    assert code == 0, err
    code, out, _ = run("haiku", "own_haiku:made", *TO, *INPUT, "--no-verify")
    assert code == 0
    assert "source:  own_haiku:made" in out


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("own_haiku:nothing", *INPUT), "own_haiku:nothing gives int"),
        (("own_haiku:made",), "no example inputs: give"),
        (("own_haiku:made", *INPUT, "--weights"), "are for entries of the zoo"),
        (("own_haiku:made", *INPUT, "--variant", "x"), "are for entries of the zoo"),
        (("mlp", *INPUT), "go with pkg.module:function"),
    ],
)
def test_refusals_of_haiku_functions(here, args, said):
    (here / "own_haiku.py").write_text(OWN)
    code, _, err = run("haiku", *args, *TO, "-o", "out")
    assert code == 2
    assert said in err.replace(" │ │ ", " ")


def test_weights_from_a_pickle(here):
    model = ENTRIES["mlp"].build(sizes={"channels": 6, "layers": (5, 4)})
    params, _ = model.draw(3)
    (here / "mlp.pickle").write_bytes(pickle.dumps(params))
    args = ("--weights", "mlp.pickle", "-o", "out", "--no-verify")
    code, _, err = run("haiku", "mlp", *TO, *SMALL_MLP, *args)
    assert code == 0, err
    state = ivyport.load(here / "out").state_dict()
    (name,) = [n for n in state if n.endswith("linear_1.weight")]
    np.testing.assert_array_equal(state[name].numpy(), params["mlp/~/linear_1"]["w"].T)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("perceptron",), "the haiku zoo has no 'perceptron', only: perceiver,"),
        (("perceiver", "--variant", "x"), "perceiver has no variant 'x', only:"),
        (("mlp", "--size", "depth=3"), "mlp relu has no size 'depth'. Its sizes:"),
        (("mlp", "--weights", "no.npz"), "no.npz: no such file"),
        (("mlp", "--weights", "x", "--no-weights"), "give --weights or --no-weights"),
        (
            ("perceiver", "--variant", "imagenet-conv", "--weights", "GOLDEN"),
            "does not fit perceiver imagenet-conv:",
        ),
    ],
)
def test_refusals(here, args, said):
    golden_conv = str(golden_file("imagenet-conv"))
    args = [golden_conv if arg == "GOLDEN" else arg for arg in args]
    code, out, err = run("haiku", *args, *TO, "-o", "out")
    assert code == 2
    assert said in err.replace("│ ", "")
    assert out == ""
    assert not (here / "out").exists()


def test_a_foreign_pickle_is_refused_and_not_run(here):
    (here / "w.pystate").write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    code, _, err = run("haiku", "mlp", *TO, "--weights", "w.pystate", "--json")
    assert code == 2
    assert "os.system" in err
    assert not (here / "owned").exists()


def test_without_a_network(here, monkeypatch):
    from ivyport.zoo.haiku import checkpoints

    def unreachable(*_):
        raise OSError("Name or service not known")

    monkeypatch.setattr(checkpoints, "_download", unreachable)
    code, _, err = run(
        "haiku", "perceiver", "--variant", "optical-flow", *TO, "--weights"
    )
    assert code == 2
    for part in (
        "https://storage.googleapis.com/perceiver_io/optical_flow_checkpoint.pystate",
        "--weights FILE",
        "--no-weights",
    ):
        assert part in err.replace("│ ", "").replace(" │", "")


@pytest.mark.parametrize("factory", ["linen", "live"])
def test_a_flax_module_ports(here, factory):
    code, out, err = run(
        *("flax", f"flax_factories:{factory}", *TO, *INPUT, "-o", "out", "--json")
    )
    assert code == 0, err
    assert json.loads(out)["passed"] is True
    assert run("verify", "out")[0] == 0


@pytest.mark.parametrize("kind", ["npz", "safetensors", "msgpack", "slashes", "full"])
def test_flax_parameters_from_a_file(here, kind):
    import flax_factories
    from flax.serialization import to_bytes
    from flax.traverse_util import flatten_dict

    made = flax_factories.linen().init(jax.random.key(5), np.ones((1, 8), "f"), False)
    made = jax.tree.map(lambda x: np.asarray(x) + 0.5, made)
    flat = flatten_dict(made["params"], sep=".") | flatten_dict(
        made["batch_stats"], sep="."
    )
    path = here / f"w.{kind}"
    if kind == "msgpack":
        path.write_bytes(to_bytes(made))
    elif kind == "npz":
        np.savez(path, **flat)
    else:
        if kind == "full":
            flat = flatten_dict(made, sep=".")
        if kind == "slashes":
            flat = {name.replace(".", "/"): x for name, x in flat.items()}
        path = path.with_suffix(".safetensors")
        save_file(flat, path)
    args = ("flax", "flax_factories:linen", *TO, *INPUT, "--params", path, "-o", "out")
    code, _, err = run(*args, "--no-verify")
    assert code == 0, err
    state = ivyport.load(here / "out").state_dict()
    (bias,) = [
        x for name, x in state.items() if name.endswith("Block_0.Dense_0.bias")
    ] or [x for name, x in state.items() if "0.Dense_0.bias" in name]
    np.testing.assert_array_equal(bias.numpy(), np.full(8, 0.5, np.float32))


def test_nnx_parameters_from_a_file(here):
    arrays = {
        "norm.scale": np.full(8, 2, np.float32),
        "norm.bias": np.full(8, 3, np.float32),
        "dense.kernel": np.full((8, 8), 4, np.float32),
        "dense.bias": np.full(8, 5, np.float32),
    }
    save_file(arrays, here / "w.safetensors")
    args = ("flax", "flax_factories:live", *TO, *INPUT, "--params", "w.safetensors")
    code, _, err = run(*args, "-o", "out")
    assert code == 0, err
    state = ivyport.load(here / "out").state_dict()
    np.testing.assert_array_equal(state["dense.bias"].numpy(), arrays["dense.bias"])
    np.testing.assert_array_equal(state["norm.weight"].numpy(), arrays["norm.scale"])


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("flax_factories:neither", *INPUT), "gives int, expected a flax.linen.Module"),
        (("flax_factories:absent", *INPUT), "no 'absent' there"),
        (("nowhere:make", *INPUT), "no module 'nowhere' here"),
        (("flax_factories:linen",), "no example inputs"),
        (
            ("flax_factories:linen", "--input", "y=float32[3,8]"),
            "Net takes x, train; no --input for x, superfluous: y",
        ),
        (
            ("flax_factories:live", *INPUT, "--params", "no.npz"),
            "--params no.npz: no such file",
        ),
        (
            ("flax_factories:live", *INPUT, "--params", "flax_factories.py"),
            "expected a .safetensors, .npz or .msgpack file",
        ),
    ],
)
def test_flax_refusals(here, args, said):
    code, _, err = run("flax", *args, *TO, "-o", "out")
    assert code == 2
    assert said in err.replace("│ ", "")
    assert not (here / "out").exists()


def test_flax_parameters_that_do_not_fit(here):
    arrays = {
        "norm.scale": np.ones(7, np.float32),
        "dense.kernel": np.ones((8, 8), np.float64),
        "dense.weight": np.ones(8, np.float32),
    }
    np.savez(here / "w.npz", **arrays)
    args = ("flax", "flax_factories:live", *TO, *INPUT, "--params", "w.npz")
    code, out, _ = run(*args, "--json")
    assert code == 2
    assert json.loads(out)["error"]["message"].splitlines() == [
        "--params w.npz does not fit Layer:",
        "  missing from the file (2):",
        "    'dense.bias'",
        "    'norm.bias'",
        "  not in the model (1):",
        "    'dense.weight'",
        "  of another shape (1):",
        "    'norm.scale': (7,), expected (8,)",
        "  of another dtype (1):",
        "    'dense.kernel': float64, expected float32",
    ]


def test_the_zoo_lists_haiku_models():
    code, out, _ = run("zoo", "list")
    assert code == 0
    assert "haiku perceiver" in out
    _, out, _ = run("zoo", "list", "--json")
    rows = {row["model"]: row for row in json.loads(out)["haiku"]}
    assert Path(rows["perceiver"]["variants"]["optical-flow"]).suffix == ".pystate"
    assert rows["mobilenet"]["variants"] == {"v1": None}
