"""Checkpoints of Flax as users have them, and JAX sources whose ports were refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("flax")

import flax.linen as fnn
import jax
import jax.numpy as jnp
import ml_dtypes
from flax import nnx
from flax.serialization import to_bytes
from flax.traverse_util import flatten_dict

from ivyport.core.errors import WeightsError
from ivyport.zoo import flax_factory

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
