"""Haiku, linen, NNX and plain functions against torch modules written by hand."""

from __future__ import annotations

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

from ivyport import verification
from ivyport.core.errors import InputError
from ivyport.frontends.jax.sources import open_source
from ivyport.verification.jax_side import JaxSide
from ivyport.weights.mapping import Row, WeightMap
from ivyport.weights.transform import Slice
from tests.verification import jax_models, ports
from tests.verification.jax_models import IMAGES, X

KINDS = ("jax", "haiku", "flax.linen", "flax.nnx")
NORMED = ("haiku", "flax.linen", "flax.nnx")
OUTPUT, SECOND = ("output", "traced"), ("output", "second")
GRADIENT, STEP = ("gradient", "traced"), ("train_step", "traced")
MODULES = {"": "", "up": "up", "down": "down"}


def opened(case):
    return open_source(case.source, (), case.inputs, **case.given)


def tensors(case):
    source = opened(case)
    return {**source.parameters, **source.buffers}


def mlp(kind, mistake=""):
    case = jax_models.mlp_case(kind)
    rows = jax_models.mlp_rows(kind)
    return case, *ports.filled(ports.Mlp(mistake), rows, tensors(case))


def conv(kind, mistake=""):
    case = jax_models.conv_case(kind)
    flax = ports.Norm(8, eps=1e-5)
    norm = ports.HaikuNorm(8, mistake) if kind == "haiku" else flax
    port = ports.ConvNet(norm, mistake)
    return case, *ports.filled(port, jax_models.conv_rows(kind), tensors(case))


def failing(found):
    return {(row.kind, row.inputs) for row in found.rows if not row.passed}


def groups(found):
    return {(row.kind, row.inputs) for row in found.rows}


@pytest.mark.parametrize("kind", KINDS)
def test_a_port_by_hand_holds(kind):
    case, port, rows = mlp(kind)
    found = case.run(port, rows, MODULES)
    assert found.passed, found
    assert groups(found) == {OUTPUT, SECOND, GRADIENT, STEP}
    gradients = [row.name for row in found.rows if row.kind == "gradient"]
    assert gradients == ["up.weight", "up.bias", "down.weight", "down.bias"]
    assert found.dims == {"batch": (4, 5, 1)}
    assert found.first_drift is None
    assert found.notes == ()


MISTAKES = {
    "stopped gradient": {GRADIENT},
    "doubled gradient": {GRADIENT},
    "batch times two": {SECOND},
    "baked batch": {SECOND},
    "an error": {OUTPUT},
    "int64": {OUTPUT, SECOND},
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake):
    case, port, rows = mlp("haiku", mistake)
    found = case.run(port, rows, MODULES)
    assert failing(found) - {STEP} == MISTAKES[mistake]
    if mistake == "int64":
        assert "best" in {row.name for row in found.rows if not row.passed}
    else:
        assert found.first_drift


@pytest.mark.parametrize("kind", ["haiku", "flax.linen", "flax.nnx"])
@pytest.mark.parametrize("module", ["up", "down"])
def test_a_wrong_weight_is_traced_to_its_module(kind, module):
    case, port, rows = mlp(kind)
    with torch.no_grad():
        port.get_submodule(module).bias[1] += 0.5
    found = case.run(port, rows, MODULES)
    assert {OUTPUT, SECOND} <= failing(found)
    cls = "Dense" if kind == "flax.linen" else "Linear"
    assert found.first_drift.startswith(f"{module} ({cls}): its relative error")


def test_a_wrong_gradient_is_traced_to_the_module_of_its_parameter():
    case, port, rows = mlp("haiku", "stopped gradient")
    found = case.run(port, rows, MODULES)
    assert found.first_drift.startswith("up: outputs agree, but the gradient of up.b")


def test_a_function_without_modules_has_a_drift_of_its_own():
    case, port, rows = mlp("jax")
    with torch.no_grad():
        port.up.bias[1] += 0.5
    found = case.run(port, rows, MODULES)
    assert found.first_drift.startswith("the model itself (")


@pytest.mark.parametrize("kind", NORMED)
def test_batch_norm_holds_in_train_mode(kind):
    case, port, rows = conv(kind)
    found = case.run(port, rows)
    assert found.passed, found
    names = {row.name for row in found.rows if row.kind == "train_step"}
    buffers = {row.target for row in rows.rows if row.kind == "buffer"}
    assert buffers
    assert buffers <= names
    assert any(row.note.startswith("in train mode") for row in found.rows)
    assert any("after one step of SGD" in row.note for row in found.rows)
    assert any(row.name.startswith("gradient of ") for row in found.rows)
    assert found.notes == ()


NORM_MISTAKES = {
    "unbiased variance": "norm.var_average",
    "decay is not 1 - decay": "norm.mean_hidden",
    "biased average": "norm.mean_average",
    "statistics never updated": "norm.mean_counter",
}


@pytest.mark.parametrize("mistake", NORM_MISTAKES)
def test_a_mistake_that_only_training_shows(mistake):
    case, port, rows = conv("haiku", mistake)
    found = case.run(port, rows)
    assert failing(found) == {STEP}
    assert NORM_MISTAKES[mistake] in {r.name for r in found.rows if not r.passed}


def test_torchs_own_batch_norm_is_not_flaxs():
    case, port, rows = conv("flax.linen")
    other = nn.BatchNorm2d(8, eps=1e-5)
    other.load_state_dict(port.norm.state_dict())
    port.norm = other
    found = case.run(port.eval(), rows)
    wrong = {row.name for row in found.rows if not row.passed}
    assert wrong == {"norm.running_var"}


def test_a_wrong_statistic_shows_in_eval_mode_and_is_traced():
    case, port, rows = conv("haiku")
    with torch.no_grad():
        port.norm.var_average[1] *= 2
    modules = {"": "", "conv": "conv", "batch_norm": "norm", "head": "head"}
    found = case.run(port, rows, modules)
    assert {OUTPUT, SECOND} <= failing(found)
    assert found.first_drift.startswith("batch_norm (BatchNorm): ")
    assert "float32[4, 8, 6, 6] in the port" in found.first_drift
    assert "float32[4, 6, 6, 8] in the source" in found.first_drift


def test_dropout_written_at_the_call_is_off():
    case, port, rows = conv("haiku", "inline dropout")
    assert case.run(port, rows).passed


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_random_numbers_that_nobody_can_switch_off_are_compared(scale):
    def noisy(x, is_training):
        x = hk.BatchNorm(True, True, 0.9)(x, is_training)
        if is_training:
            x += jax.random.normal(hk.next_rng_key(), x.shape)
        return x

    source = hk.transform_with_state(noisy)
    params, state = source.init(jax.random.key(0), IMAGES, True)
    case = jax_models.Case(source, {"x": IMAGES}, {"params": params, "state": state})

    class Port(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = ports.HaikuNorm(3)

        def forward(self, x):
            y = self.norm(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            return y + scale * torch.randn(y.shape) if self.training and scale else y

    port, rows = ports.filled(Port(), ports.norm_rows(3), tensors(case))
    found = case.run(port, rows)
    assert found.passed == (scale == 1), found
    assert found.not_checked == ()
    wrong = {row.name for row in found.rows if not row.passed}
    assert ("random numbers in train mode" in wrong) == (scale == 0)


def test_a_source_for_inference_alone_is_a_note():
    def refuses(x, is_training):
        x = hk.BatchNorm(True, True, 0.9)(x, is_training)
        if is_training:
            raise NotImplementedError("inference only")
        return x

    source = hk.transform_with_state(refuses)
    params, state = hk.transform_with_state(
        lambda x: hk.BatchNorm(True, True, 0.9)(x, True)
    ).init(jax.random.key(0), IMAGES)
    given = {"params": params, "state": state}
    side = JaxSide.open(source, (), {"x": IMAGES}, rng=None, **given)
    assert not side.has_statistics()
    [note] = side.notes()
    assert "train mode is not compared" in note
    assert "inference only" in note


class Scaled(nn.Module):
    """`Softmax` in torch; `mistake` is added to the bias's share of each score."""

    def __init__(self, mistake):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 6))
        self.bias = nn.Parameter(torch.zeros(4, 1))
        self.mistake = mistake

    def forward(self, x):
        scores = x @ self.weight + (self.bias * 100).sum()
        slope = torch.arange(6, dtype=torch.float32) * self.mistake
        return (scores + self.bias.sum() * slope).softmax(-1)


@pytest.mark.parametrize("mistake", [0.0, 1e-2])
def test_rounding_is_settled_in_float64_and_a_mistake_is_not(mistake):
    """A bias that the softmax ignores: its gradient is rounding and nothing else."""

    def softmax(params, x):
        scores = x @ params["weight"] + (params["bias"] * 100).sum()
        return jax.nn.softmax(scores, axis=-1)

    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((4, 6)) * 30).astype(np.float32)
    params = {"weight": weight, "bias": np.zeros((4, 1), np.float32)}
    x = rng.standard_normal((400, 4)).astype(np.float32)
    rows = [Row("weight", "weight"), Row("bias", "bias")]
    port, rows = ports.filled(Scaled(mistake), rows, params)
    case = jax_models.Case(softmax, {"x": x}, {"params": params})
    found = case.run(port, rows)
    [row] = [r for r in found.rows if (r.name, r.kind) == ("bias", "gradient")]
    assert row.passed is not bool(mistake)
    assert found.passed is not bool(mistake)
    if not mistake:
        assert row.note.startswith("in float64; in float32 ")
        assert row.tolerance == 1e-6
    assert jnp.asarray(np.ones(2)).dtype == jnp.float32


def test_stacked_parameters_are_split():
    """Layers that the source scans over are a list in the port."""

    def layers(params, x):
        def layer(h, w):
            return jnp.tanh(h @ w), None

        return jax.lax.scan(layer, x, params["w"])[0]

    class Port(nn.Module):
        def __init__(self, order=(0, 1, 2)):
            super().__init__()
            self.layers = nn.ParameterList(
                nn.Parameter(torch.zeros(5, 5)) for _ in "abc"
            )
            self.order = order

        def forward(self, x):
            for i in self.order:
                x = torch.tanh(x @ self.layers[i][0])
            return x

    params = {"w": np.random.default_rng(0).standard_normal((3, 5, 5)).astype("f4")}
    rows = [Row("w", f"layers.{i}", (Slice(0, i, i + 1),)) for i in range(3)]
    case = jax_models.Case(layers, {"x": X}, {"params": params})
    for order in ((0, 1, 2), (0, 2, 1)):
        port = Port(order)
        for i in range(3):
            port.layers[i] = nn.Parameter(torch.from_numpy(params["w"][i : i + 1]))
        found = case.run(port, WeightMap(tuple(rows)))
        assert found.passed is (order == (0, 1, 2))
        names = [row.name for row in found.rows if row.kind == "gradient"]
        assert names == ["layers.0", "layers.1", "layers.2"]


def test_modules_inside_of_remat_and_jit_are_seen():
    def model(x):
        block = hk.remat(hk.Linear(5, name="block"))
        x = jax.nn.relu(block(x))
        return hk.nets.MLP([6, 3], name="mlp")(x)

    source = hk.transform(model)
    params = source.init(jax.random.key(0), X)
    side = JaxSide.open(source, (), {"x": X}, params=params, state=None, rng=None)
    found = side.activations(None)
    paths = [(a.path, a.cls, a.array.shape) for a in found]
    assert paths == [
        ("block", "Linear", (4, 5)),
        ("mlp.linear_0", "Linear", (4, 6)),
        ("mlp.linear_1", "Linear", (4, 3)),
        ("mlp", "MLP", (4, 3)),
        ("", "Model", (4, 3)),
    ]
    expected = source.apply(params, None, X)
    assert np.allclose(found[-1].array, expected, atol=1e-6)
    assert np.allclose(found[-2].array, expected, atol=1e-6)


def test_modules_inside_of_loops_are_a_note():
    def model(x):
        x = hk.experimental.layer_stack(2)(lambda h: hk.Linear(5, name="inner")(h))(x)
        return hk.Linear(3, name="head")(x)

    source = hk.transform(model)
    params = source.init(jax.random.key(0), X)
    side = JaxSide.open(source, (), {"x": X}, params=params, state=None, rng=None)
    paths = [a.path for a in side.activations(None)]
    assert paths[-2:] == ["head", ""]
    assert not any("inner" in path for path in paths)
    [note] = side.notes()
    assert note.startswith("drift is not looked for inside of loops: ")
    assert "inner" in note


def test_second_inputs_and_nested_arguments():
    def model(params, pair, scale=2.0):
        return pair[0] @ params["w"] * scale + pair[1]

    class Port(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(5, 3))

        def forward(self, pair_0, pair_1):
            return pair_0 @ self.w * 3.0 + pair_1

    params = {"w": np.ones((5, 3), np.float32)}
    kwargs = {"pair": (X, X[:, :3]), "scale": 3.0}
    second = {"pair": (X[:2], X[:2, :3]), "scale": 3.0}
    rows = WeightMap((Row("w", "w"),))
    free = {"pair_0": {0: "batch"}, "pair_1": {0: "batch"}}
    options = {"params": params, "free": free, "second": second}
    found = verification.run(model, Port(), rows, {"": ""}, kwargs, **options)
    assert found.passed, found
    assert found.dims == {"batch": (4, 2)}


def test_arguments_by_position():
    class Port(nn.Module):
        def forward(self, x):
            return torch.sin(x)

    found = verification.run(
        jnp.sin, Port(), WeightMap(()), {"": ""}, {}, args=(X,), free={"x": {0: "b"}}
    )
    assert {row.name for row in found.rows} == {"output"}
    assert found.passed


def test_sixty_four_bit_inputs_are_what_jax_makes_of_them():
    case, port, rows = mlp("haiku")
    found = case.run(port, rows, kwargs={"x": X.astype(np.float64)})
    assert found.passed, found
    assert found.precision == "float32 at full precision"


def test_the_source_must_take_the_inputs():
    case, port, rows = mlp("haiku")
    with pytest.raises(InputError):
        case.run(port, rows, kwargs={"x": X[:, :4]})
    with pytest.raises(InputError):
        case.run(port, rows, kwargs={"y": X})
    shape = jax.ShapeDtypeStruct((4, 5), jnp.float32)
    with pytest.raises(InputError, match="verification needs arrays"):
        case.run(port, rows, kwargs={"x": shape})


def test_an_nnx_source_is_not_changed():
    case, port, rows = conv("flax.nnx")

    def state():
        return [
            (path, np.array(variable.get_value()))
            for path, variable in nnx.to_flat_state(nnx.state(case.source))
            if not isinstance(variable, nnx.RngKey)
        ]

    before = state()
    assert case.run(port, rows).passed
    for (path, own), (_, other) in zip(before, state(), strict=True):
        np.testing.assert_array_equal(own, other, err_msg=str(path))
    assert case.source.norm.use_running_average is False
    assert nnx.Dropout.__call__.__qualname__ == "Dropout.__call__"
    assert hk.dropout.__name__ == "dropout"
