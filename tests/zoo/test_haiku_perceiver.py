"""Perceiver IO in haiku: published parameter trees and the authors' own outputs."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
from jax import export

from ivyport.core.errors import InputError
from ivyport.zoo.haiku import perceiver
from tests.haiku_goldens import DATA, SIZES, golden

TREES = json.loads((DATA / "param_trees.json").read_text(encoding="utf-8"))
#: Parameters in millions, as published.
COUNTS = {
    "imagenet-learned": 62.26,
    "imagenet-fourier": 48.44,
    "imagenet-conv": 48.65,
    "language-bytes": 201.11,
    "optical-flow": 41.06,
}


def flat(tree, collection: str) -> dict[str, str]:
    return {
        f"{collection}:{module}:{name}": " ".join([str(a.dtype), *map(str, a.shape)])
        for module, own in tree.items()
        for name, a in own.items()
    }


def expanded(variant: str) -> dict[str, str]:
    """A published tree; ``*`` stands for the number of each self-attention."""
    published = TREES[variant]
    return {
        name.replace("*", f"_{i}" if i else ""): spec
        for name, spec in published["tensors"].items()
        for i in range(published["self_attentions"] if "*" in name else 1)
    }


@pytest.mark.parametrize("variant", COUNTS)
def test_published_tree(variant):
    params, state = perceiver(variant, batch=1).specs()
    assert flat(params, "params") | flat(state, "state") == expanded(variant)
    total = sum(x.size for own in params.values() for x in own.values())
    assert round(total / 1e6, 2) == COUNTS[variant]


@pytest.mark.parametrize("variant", SIZES)
def test_golden(variant):
    case = golden(variant)
    apply = jax.jit(case.model.transformed.apply)
    output, state = apply(case.params, case.state, None, **case.inputs)
    assert output.dtype == case.output.dtype
    np.testing.assert_allclose(output, case.output, rtol=0, atol=1e-5)
    assert jax.tree.structure(dict(state)) == jax.tree.structure(case.state)


@pytest.mark.parametrize("variant", SIZES)
def test_symbolic_batch(variant):
    model = perceiver(variant, **SIZES[variant])
    (batch,) = export.symbolic_shape("batch")
    free = {
        name: jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype)
        for name, x in model.inputs.items()
    }
    params, state = model.specs()
    output, _ = jax.eval_shape(
        lambda p, s, x: model.transformed.apply(p, s, None, **x), params, state, free
    )
    assert output.shape[0] == batch
    assert all(isinstance(size, int) for size in output.shape[1:])


def test_conv_variant_trains():
    case = golden("imagenet-conv")
    apply = case.model.transformed.apply
    still, kept = apply(case.params, case.state, None, **case.inputs)
    moved, state = apply(case.params, case.state, None, **case.inputs, is_training=True)
    mean = "image_preprocessor/~/conv2_d_downsample/~/batchnorm/~/mean_ema"
    np.testing.assert_array_equal(kept[mean]["average"], case.state[mean]["average"])
    assert state[mean]["counter"] == case.state[mean]["counter"] + 1
    assert np.abs(state[mean]["average"] - case.state[mean]["average"]).max() > 1e-3
    assert np.abs(moved - still).max() > 1e-4


def test_masked_tokens_do_not_matter():
    case = golden("language-bytes")
    inputs, mask = case.inputs["inputs"].copy(), case.inputs["input_mask"]
    assert 0 < mask.sum() < mask.size
    inputs[mask == 0] = 7
    output, _ = case.model.transformed.apply(
        case.params, case.state, None, inputs=inputs, input_mask=mask
    )
    np.testing.assert_allclose(output, case.output, rtol=0, atol=1e-5)


def test_nothing_left_to_read_is_finite():
    case = golden("language-bytes")
    mask = np.zeros_like(case.inputs["input_mask"])

    def loss(params):
        apply = case.model.transformed.apply
        output, _ = apply(params, {}, None, case.inputs["inputs"], mask)
        return (output**2).sum()

    value, gradients = jax.value_and_grad(loss)(case.params)
    assert np.isfinite(value)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradients))


def test_example_inputs():
    model = perceiver("language-bytes", batch=3, sequence_length=8, num_latents=4)
    assert model.inputs["inputs"].shape == (3, 8)
    assert model.inputs["input_mask"].sum(axis=1).tolist() == [8, 6, 4]
    again = perceiver("language-bytes", batch=3, sequence_length=8, num_latents=4)
    np.testing.assert_array_equal(model.inputs["inputs"], again.inputs["inputs"])


def test_bad_variant_and_sizes():
    with pytest.raises(InputError, match=r"no variant 'imagenet', only: imagenet-lear"):
        perceiver("imagenet")
    with pytest.raises(InputError, match=r"no size 'latents'.*num_latents=512"):
        perceiver("imagenet-fourier", latents=3)
    with pytest.raises(InputError, match=r"image_size=32 is of another type"):
        perceiver("imagenet-fourier", image_size=32)
