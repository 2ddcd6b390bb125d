"""Checkpoints of Flax as users have them, and JAX sources whose ports were refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("flax")
pytest.importorskip("haiku")

import flax.linen as fnn
import haiku as hk
import jax
import jax.numpy as jnp
import ml_dtypes
import torch
from flax import nnx
from flax.serialization import to_bytes
from flax.traverse_util import flatten_dict

import ivyport
from ivyport.api import _PORTS
from ivyport.core.errors import InputError, WeightsError
from ivyport.zoo import flax_factory
from tests.support import assert_close

X = np.linspace(-2, 2, 8, dtype=np.float32).reshape(2, 4)
INPUTS = {"x": X}


# ---- checkpoints


class Net(fnn.Module):
    @fnn.compact
    def __call__(self, x: Any) -> Any:
        x = fnn.Dense(4, name="dense")(x)
        x = fnn.BatchNorm(use_running_average=True, name="norm")(x)
        return fnn.Dense(3, name="head", param_dtype=jnp.float32)(x)


def filled(value: float) -> dict[str, Any]:
    """Variables of `Net`, all of one value."""
    made = jax.eval_shape(lambda: Net().init(jax.random.key(0), X))
    return jax.tree.map(lambda s: np.full(s.shape, value, s.dtype), dict(made))


def loaded(path: Path, key: str | None = None) -> dict[str, Any]:
    return flax_factory.variables(Net(), INPUTS, path, 0, key)


def values(variables: Any) -> set[float]:
    return {float(v) for x in jax.tree.leaves(variables) for v in np.unique(x)}


def train_state(*, average: bool) -> dict[str, Any]:
    """What `flax.training.train_state.TrainState` becomes when it is written."""
    held = filled(1)
    adam = {"count": np.int32(8), "mu": filled(3)["params"], "nu": filled(4)["params"]}
    state = {"step": 8, "opt_state": {"0": adam, "1": {}}, **held}
    return state | ({"ema_params": filled(2)["params"]} if average else {})


@pytest.mark.parametrize("name", ["checkpoint_8", "state.msgpack", "state.ckpt"])
def test_a_train_state_without_a_suffix_loads_its_parameters(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(to_bytes(train_state(average=False)))
    found = loaded(tmp_path / name)
    assert values(found) == {1}
    assert set(found) == {"params", "batch_stats"}


def test_an_average_beside_the_parameters_is_picked(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_8"
    path.write_bytes(to_bytes(train_state(average=True)))
    with pytest.raises(
        WeightsError, match=r"--params-key ema_params, --params-key par"
    ):
        loaded(path)
    picked = loaded(path, "ema_params")
    assert values(picked["params"]) == {2}
    assert values(picked["batch_stats"]) == {1}
    assert values(loaded(path, "params")) == {1}
    with pytest.raises(
        WeightsError, match="it holds batch_stats, ema_params, opt_state"
    ):
        loaded(path, "average")


def test_a_state_in_a_state(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    path.write_bytes(to_bytes({"epoch": 3, "model": train_state(average=True)}))
    with pytest.raises(WeightsError, match=r"--params-key model\.ema_params"):
        loaded(path)
    assert values(loaded(path, "model/ema_params")["params"]) == {2}


@pytest.mark.parametrize("kind", ["standard", "manager", "relative"])
def test_a_folder_of_orbax(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ocp = pytest.importorskip("orbax.checkpoint")
    state = train_state(average=False)
    path = tmp_path / "saved"
    if kind == "manager":
        with ocp.CheckpointManager(path) as manager:
            for step in (7, 8):
                manager.save(step, args=ocp.args.StandardSave(state))
            manager.wait_until_finished()
        with pytest.raises(
            WeightsError, match=r"several checkpoints, give one of: .*/7"
        ):
            loaded(path)
        path = path / "8"
    else:
        with ocp.StandardCheckpointer() as writer:
            writer.save(path, state)
    if kind == "relative":
        monkeypatch.chdir(tmp_path)
        path = Path("saved")
    assert values(loaded(path)) == {1}


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="without a checkpoint of orbax"):
        loaded(tmp_path)
    (tmp_path / "checkpoint_8").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"one of its files: .*checkpoint_8"):
        loaded(tmp_path)


def test_an_npz_of_bfloat16(tmp_path: Path) -> None:
    flat = flatten_dict(filled(1.5), sep="/")
    np.savez(tmp_path / "w.npz", **{n: x.astype(jnp.bfloat16) for n, x in flat.items()})
    found = loaded(tmp_path / "w.npz")
    assert values(found) == {1.5}
    assert found["params"]["dense"]["kernel"].dtype == np.float32


def test_bytes_of_an_unknown_dtype_are_refused(tmp_path: Path) -> None:
    flat = flatten_dict(filled(1.5), sep="/")
    small = {n: x.astype(ml_dtypes.float8_e4m3fn) for n, x in flat.items()}
    np.savez(tmp_path / "w.npz", **small)
    with pytest.raises(WeightsError, match=r"Save it as float32"):
        loaded(tmp_path / "w.npz")


def test_a_pickle_is_read_without_running_it(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_bytes(pickle.dumps(filled(1)))
    assert values(loaded(tmp_path / "checkpoint")) == {1}

    class Bad:
        def __reduce__(self) -> Any:
            return print, ("ran",)

    (tmp_path / "checkpoint").write_bytes(pickle.dumps(Bad()))
    with pytest.raises(WeightsError, match="print"):
        loaded(tmp_path / "checkpoint")


@pytest.mark.parametrize(
    "content", [b"", b"\x81", b"\x81" * 5000, b"text", b"\xdf\xff"]
)
def test_a_damaged_file_is_our_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "checkpoint").write_bytes(content)
    with pytest.raises(WeightsError, match=r"--params .*checkpoint"):
        loaded(tmp_path / "checkpoint")


def test_a_folder_of_orbax_for_nnx(tmp_path: Path) -> None:
    ocp = pytest.importorskip("orbax.checkpoint")

    class Live(nnx.Module):
        def __init__(self, seed: int) -> None:
            self.layers = nnx.List([nnx.Linear(4, 4, rngs=nnx.Rngs(seed))])

    source, other = Live(0), Live(1)
    with ocp.StandardCheckpointer() as writer:
        writer.save(tmp_path / "saved", {"model": nnx.state(source), "step": 3})
    flax_factory.load_into(other, tmp_path / "saved")
    kernel = source.layers[0].kernel[...]
    np.testing.assert_array_equal(other.layers[0].kernel[...], kernel)


# ---- layers on other axes, and stacks that count their layers


def to_torch(source: Any, *args: Any, **given: Any) -> tuple[Any, Any]:
    """The port to torch, and what it returns for those arguments."""
    port = ivyport.transpile(source, "torch", args, **given)
    found = port(*(torch.from_numpy(np.array(x)) for x in args))
    return port, found.detach().numpy()


def source_of(port: Any) -> str:
    return _PORTS[port].source


class Block(fnn.Module):
    @fnn.compact
    def __call__(self, carry: Any, _: Any) -> Any:
        x = fnn.BatchNorm(use_running_average=True, name="norm")(carry)
        attention = fnn.MultiHeadDotProductAttention(
            num_heads=2, qkv_features=4, name="attention"
        )
        return x + attention(x, x), None


class Stack(fnn.Module):
    axis: int

    @fnn.compact
    def __call__(self, x: Any) -> Any:
        axes = {"params": self.axis, "batch_stats": self.axis}
        scan = fnn.scan(
            Block, variable_axes=axes, split_rngs={"params": True}, length=3
        )
        return fnn.Dense(2, name="head")(scan(name="layers")(x, None)[0])


def test_layers_on_any_axis_are_a_list_of_layers() -> None:
    x = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4)
    bodies = []
    for axis in (0, 1):
        module = Stack(axis)
        variables = module.init(jax.random.key(0), x)
        port, found = to_torch(module, x, params=variables)
        assert_close(found, module.apply(variables, x))
        assert isinstance(port.layers[2].attention.query, torch.nn.Linear)
        assert sum(t.numel() for t in port.state_dict().values()) == sum(
            t.size for t in jax.tree.leaves(variables)
        )
        bodies.append(source_of(port).partition("\nclass ")[2])
    assert bodies[0] == bodies[1]


def layer_stack(layer: Any, count: int) -> Any:
    """AlphaFold's: parameters are sliced in the body by the number of the layer.

    https://github.com/google-deepmind/alphafold/blob/main/alphafold/model/layer_stack.py
    """

    def sliced(index: Any) -> Any:
        def getter(following: Any, value: Any, context: Any) -> Any:
            axis = value.ndim - len(context.original_shape) - 1
            return following(jax.lax.dynamic_index_in_dim(value, index, axis, False))

        return hk.experimental.custom_getter(getter)

    def stacked(following: Any, shape: Any, dtype: Any, init: Any, _: Any) -> Any:
        def several(shape: Any, dtype: Any) -> Any:
            return jnp.stack([init(shape[1:], dtype) for _ in range(count)])

        return following((count, *shape), dtype, several)

    def step(carry: Any, index: Any) -> Any:
        with sliced(index):
            return layer(carry), None

    def apply(x: Any) -> Any:
        if hk.running_init():
            with hk.experimental.custom_creator(stacked), sliced(0):
                return layer(x)
        return hk.scan(step, x, jnp.arange(count), length=count)[0]

    return apply


class Gated(hk.Module):
    """Parameters of its own beside a layer, as AlphaFold's attention has them."""

    def __call__(self, x: Any) -> Any:
        draw = hk.initializers.RandomNormal()
        query = hk.get_parameter("query_w", (4, 2, 3), init=draw)
        out = hk.get_parameter("output_w", (2, 3, 4), init=draw)
        normed = hk.LayerNorm(-1, True, True)(x)
        heads = jnp.einsum("bc,chd->bhd", normed, query)
        return x + jnp.einsum("bhd,hdc->bc", jnp.tanh(heads), out)


def test_a_stack_that_slices_its_parameters_is_a_list_of_layers() -> None:
    def net(x: Any) -> Any:
        block = Gated(name="block")
        return hk.Linear(2, name="head")(layer_stack(block, 3)(x))

    transformed = hk.without_apply_rng(hk.transform(net))
    params = transformed.init(jax.random.key(0), X)
    port, found = to_torch(transformed, X, params=params)
    assert_close(found, transformed.apply(params, X))
    assert len(port.block) == 3
    assert isinstance(port.block[1].layer_norm, torch.nn.LayerNorm)
    assert "for block in self.block:" in source_of(port)


def test_a_sequence_that_is_counted_is_no_stack() -> None:
    def model(params: Any, x: Any) -> Any:
        def step(carry: Any, i: Any) -> Any:
            row = jax.lax.dynamic_index_in_dim(params["w"], 2 - i, 0, False)
            return jnp.tanh(carry * row), i * carry.sum()

        return jax.lax.scan(step, x, jnp.arange(3))[0]

    params = {"w": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)}
    _, found = to_torch(model, X, params=params)
    assert_close(found, model(params, X))


# ---- modules of one library inside of the other


def test_nnx_around_linen() -> None:
    class Around(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.inner = nnx.bridge.ToNNX(fnn.Dense(5), rngs=rngs).lazy_init(X)
            self.out = nnx.Linear(5, 3, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.out(jnp.tanh(self.inner(x)))

    module = Around(nnx.Rngs(0))
    port, found = to_torch(module, X)
    assert_close(found, module(X))
    assert isinstance(port.inner, torch.nn.Linear)


def test_linen_around_nnx() -> None:
    class Around(fnn.Module):
        @fnn.compact
        def __call__(self, x: Any) -> Any:
            inner = nnx.bridge.to_linen(nnx.Linear, 4, 5, name="inner")
            return fnn.Dense(3, name="out")(jnp.tanh(inner(x)))

    module = Around()
    variables = module.init(jax.random.key(0), X)
    port, found = to_torch(module, X, params=variables)
    assert_close(found, module.apply(variables, X))
    assert isinstance(port.inner, torch.nn.Linear)


# ---- decoding with a cache


class Decoder(fnn.Module):
    @fnn.compact
    def __call__(self, x: Any) -> Any:
        attention = fnn.MultiHeadDotProductAttention(
            num_heads=2, qkv_features=4, decode=True, name="attention"
        )
        return attention(x, x)


def tokens(count: int) -> list[Any]:
    return list(jax.random.normal(jax.random.key(1), (count, 2, 1, 4)))


def test_a_cache_is_of_the_sequence_and_the_call_of_one_token() -> None:
    module = Decoder()
    variables = module.init(jax.random.key(0), jnp.zeros((2, 6, 4)))
    first, *others = tokens(4)
    port = ivyport.transpile(module, "torch", (first,), params=variables)
    cache = variables["cache"]
    for x in (first, *others):
        held = {"params": variables["params"], "cache": cache}
        wanted, new = module.apply(held, x, mutable=["cache"])
        cache = new["cache"]
        assert_close(port(torch.from_numpy(np.array(x))).detach().numpy(), wanted)
    assert int(port.attention.cache_index) == 4


def test_a_cache_among_the_parameters_of_a_function() -> None:
    module = Decoder()
    variables = module.init(jax.random.key(0), jnp.zeros((2, 6, 4)))
    (x,) = tokens(1)

    def step(variables: Any, x: Any) -> Any:
        return module.apply(variables, x, mutable=["cache"])

    port = ivyport.transpile(step, "torch", (x,), params=variables)
    found, new = port(torch.from_numpy(np.array(x)))
    wanted, kept = step(variables, x)
    assert_close(found.detach().numpy(), wanted)
    key = new["cache"]["attention"]["cached_key"].detach().numpy()
    assert_close(key, kept["cache"]["attention"]["cached_key"])
    trained = {name for name, p in port.named_parameters() if p.requires_grad}
    assert not any("cache" in name for name in trained)
    assert isinstance(port.attention.query, torch.nn.Linear)


def test_a_counter_among_the_parameters_of_a_function_is_not_trained() -> None:
    params = {"w": np.ones((4, 4), np.float32), "step": np.int32(3)}
    port, found = to_torch(lambda p, x: x @ p["w"] / p["step"], X, params=params)
    assert_close(found, X @ params["w"] / 3)
    assert [name for name, _ in port.named_parameters()] == ["w"]


def test_statistics_of_another_size_are_refused() -> None:
    held = filled(1)
    held["batch_stats"]["norm"]["mean"] = np.ones(3, np.float32)
    with pytest.raises(InputError, match=r"given \[3\], the function has \[4\]"):
        ivyport.transpile(Net(), "torch", (X,), params=held)


# ---- gradients of sorting


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_the_gradient_of_a_sort(axis: int) -> None:
    def model(params: Any, x: Any) -> Any:
        def loss(y: Any) -> Any:
            return (jnp.sort(y * params["w"], axis) * jnp.arange(4.0)).sum()

        return jax.grad(loss)(x)

    params = {"w": np.array([1, -2, 0.5, -1], np.float32)}
    _, found = to_torch(model, X, params=params)
    assert_close(found, model(params, X))
