"""What a port is on a GPU, as far as a machine without one can tell: its lowered program."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("flax")

import jax
import jax.numpy as jnp
from flax import nnx
from torch.nn import Conv2d

import ivyport
from ivyport.zoo import hf, hf_configs

CONVOLUTION, PRODUCT = "stablehlo.convolution", "stablehlo.dot_general"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["bert", "gpt2", "convnext", "resnet", "llama"])
def test_a_gpu_gets_convolutions_and_products(family: str, dtype: str) -> None:
    """Not the sums and slices that stand for convolutions on a CPU, and no wide products."""
    config = hf_configs.config_of_type(family, hf_configs.TINY[family])
    model = hf.build(config, dtype=dtype)
    inputs = hf.example_inputs(model)
    ported = ivyport.transpile(
        model,
        "jax",
        kwargs=inputs,
        dims=hf.dims(model, inputs),
        train=False,
        verify=False,  # it is compiled and not run
    )
    graphdef, state = nnx.split(ported)
    arrays = {
        name: jnp.asarray(x.float().numpy(), dtype)
        if x.is_floating_point()
        else jnp.asarray(x.numpy(), jnp.int32)
        for name, x in inputs.items()
    }

    @jax.jit
    def forward(state: nnx.State, inputs: dict[str, jax.Array]) -> list[jax.Array]:
        return jax.tree.leaves(nnx.merge(graphdef, state)(**inputs))

    texts = {
        platform: jax.export.export(forward, platforms=[platform])(
            state, arrays
        ).mlir_module()
        for platform in ("cpu", "cuda")
    }
    assert "stablehlo.while" not in texts["cuda"]
    convolutions = sum(isinstance(m, Conv2d) for m in model.modules())
    assert texts["cuda"].count(CONVOLUTION) == convolutions
    if family in ("convnext", "resnet"):
        assert convolutions > texts["cpu"].count(CONVOLUTION)
    if dtype == "bfloat16":
        _check_operands(texts["cuda"])


def _check_operands(text: str) -> None:
    """Products take bfloat16 operands, whatever they accumulate in."""
    for line in text.splitlines():
        if PRODUCT in line or CONVOLUTION in line:
            operands = line.rpartition(" : ")[2].partition("->")[0]
            assert "f32" not in operands.replace("bf16", ""), line
