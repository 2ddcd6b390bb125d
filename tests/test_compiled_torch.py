"""Ports to torch compiled by inductor, whole: outputs and gradients are those of eager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import numpy as np
import pytest
import torch
from flax import linen

import ivyport
from tests.frontends.jax import tiny_sources
from tests.frontends.jax.tiny_sources import IMAGES, RNG, Tiny, tiny
from tests.haiku_goldens import SIZES, golden
from tests.porting import leaves

SEQUENCE = RNG.standard_normal((2, 6, 4)).astype(np.float32)


def perceiver(variant: str) -> Tiny:
    case = golden(variant)
    given = {"params": case.params, "state": case.state}
    return Tiny(case.model.transformed, case.model.inputs, given)


def lstm() -> Tiny:
    def function(x: jax.Array) -> Any:
        core = hk.LSTM(8)
        y, state = hk.dynamic_unroll(
            core, x, core.initial_state(x.shape[0]), time_major=False
        )
        return hk.Linear(3)(y), state

    return tiny_sources.haiku(function, x=SEQUENCE)


class ViT(linen.Module):
    """Patches, a class token, two blocks and a head."""

    @linen.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        x = linen.Conv(16, (4, 4), strides=4, name="patches")(images)
        x = x.reshape(x.shape[0], -1, 16)
        token = self.param("token", linen.initializers.zeros, (1, 1, 16))
        token = jax.numpy.broadcast_to(token, (x.shape[0], 1, 16))
        x = jax.numpy.concatenate([token, x], axis=1)
        x += self.param("positions", linen.initializers.zeros, (1, x.shape[1], 16))
        for i in range(2):
            y = linen.LayerNorm()(x)
            x += linen.MultiHeadDotProductAttention(4, name=f"attention_{i}")(y, y)
            y = linen.gelu(linen.Dense(32)(linen.LayerNorm()(x)))
            x += linen.Dense(16)(y)
        return linen.Dense(5, name="head")(linen.LayerNorm()(x)[:, 0])


CASES: dict[str, Callable[[], Tiny]] = {
    **{f"perceiver {v}": lambda v=v: perceiver(v) for v in SIZES},
    "haiku transformer": lambda: tiny("hk_transformer"),
    "haiku resnet": lambda: tiny("hk_resnet"),
    "haiku lstm": lstm,
    "linen vit": lambda: tiny_sources.linen(ViT(), images=IMAGES),
    "nnx transformer": lambda: tiny("nnx_transformer"),
}


def outputs(model: Any, inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {path: x for path, x in leaves(model(**inputs)) if torch.is_tensor(x)}


def gradients(model: Any, found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Of a fixed random sum of the outputs."""
    generator = torch.Generator().manual_seed(0)
    total = sum(
        (x * torch.randn(x.shape, generator=generator)).sum() for x in found.values()
    )
    names = [name for name, _ in model.named_parameters()]
    made = torch.autograd.grad(total, list(model.parameters()), allow_unused=True)
    return {n: g for n, g in zip(names, made, strict=True) if g is not None}


def assert_alike(ours: Any, theirs: Any, limit: float) -> None:
    assert ours.keys() == theirs.keys()
    assert ours
    top = max(float(x.detach().abs().max()) for x in theirs.values())
    for name, x in theirs.items():
        largest = max(float(x.detach().abs().max()), 1e-3 * top)
        error = float((ours[name] - x).detach().abs().max())
        assert error <= limit * largest, (name, error / largest)


@pytest.mark.slow
# torch's own import of inductor, for `torch.utils.mkldnn`.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")
@pytest.mark.parametrize("name", CASES)
def test_compiled_by_inductor(name: str, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    case = CASES[name]()
    model = ivyport.transpile(
        case.source, "torch", kwargs=case.kwargs, verify=False, **case.given
    )
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True)
    inputs = {n: torch.from_numpy(np.array(x)) for n, x in case.kwargs.items()}
    eager, found = outputs(model, inputs), outputs(compiled, inputs)
    assert_alike(found, eager, 1e-5)
    assert_alike(gradients(model, found), gradients(model, eager), 1e-4)
