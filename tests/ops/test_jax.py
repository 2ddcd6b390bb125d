"""Every row of the samples table, as the JAX backend emits it, against torch."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import numpy as np
import pytest

from ivyport.backends.jax import LANGUAGE, RULES
from ivyport.core import opdef
from tests.ops.harness import (
    Backend,
    assert_random,
    results,
    row,
    torch_gradients,
    tunable,
)
from tests.ops.sample import SIZES, Sample
from tests.ops.samples import SAMPLES
from tests.support import as_torch, assert_close

jax = pytest.importorskip("jax")

from ivyport.backends.jax import _rt  # noqa: E402 (imports JAX)


@functools.cache
def _dropout_off() -> Any:
    from flax import nnx

    return nnx.Dropout(0.5, deterministic=True, rngs=nnx.Rngs(0))


def _noise() -> Any:
    from flax import nnx

    return nnx.Rngs(noise=0).noise


BACKEND = Backend(LANGUAGE, narrow=True, dropout=_dropout_off, stream=_noise)
every_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: s.name)
every_exact_one = pytest.mark.parametrize(
    "sample", [s for s in SAMPLES if s.mean is None], ids=lambda s: s.name
)
every_random_one = pytest.mark.parametrize(
    "sample", [s for s in SAMPLES if s.mean is not None], ids=lambda s: s.name
)


def _compare(actual: Any, expected: Any, rtol: float) -> None:
    actual, expected = results(actual), results(expected)
    assert len(actual) == len(expected)
    for ours, theirs in zip(actual, expected, strict=True):
        assert not ours.weak_type
        assert_close(ours, theirs, rtol=rtol, narrow=True)


@every_exact_one
@pytest.mark.parametrize(
    ("sizes", "jit"), [(SIZES[0], False), (SIZES[1], True)], ids=["eager", "jit"]
)
def test_value(sample: Sample, sizes: dict[str, int], jit: bool) -> None:
    arrays = sample.arrays(sizes)
    function = BACKEND.function_of(sample)
    function = jax.jit(function) if jit else function
    expected = sample.torch(*map(as_torch, arrays))
    _compare(function(*map(jax.numpy.asarray, arrays)), expected, sample.rtol)


@pytest.mark.parametrize(
    "sample", [s for s in SAMPLES if BACKEND.has_gradient(s)], ids=lambda s: s.name
)
def test_gradient(sample: Sample) -> None:
    expected, weights = torch_gradients(sample.torch, sample)
    function = BACKEND.function_of(sample)

    def scalar(*xs: Any) -> Any:
        found = [
            y
            for y in results(function(*xs))
            if jax.numpy.issubdtype(y.dtype, np.floating)
        ]
        return sum(
            (y.astype(np.float32) * w).sum()
            for y, w in zip(found, weights, strict=True)
        )

    arrays = map(jax.numpy.asarray, sample.arrays(SIZES[0]))
    actual = jax.jit(jax.grad(scalar, sample.floats()))(*arrays)
    _compare(actual, expected, sample.grad_rtol)


@every_random_one
def test_draws(sample: Sample) -> None:
    arrays = map(jax.numpy.asarray, sample.arrays(SIZES[0]))
    assert_random(BACKEND.function_of(sample), list(arrays), sample, narrow=True)


@every_sample
def test_writes_each_operand_once(sample: Sample) -> None:
    assert not BACKEND.repeated(sample), BACKEND.text(sample)


def test_every_operation_has_a_rule_and_a_row() -> None:
    assert set(RULES) == set(opdef.REGISTRY)
    assert {s.op for s in SAMPLES} == set(opdef.REGISTRY)


def test_names_are_unique() -> None:
    names = [s.name for s in SAMPLES]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("op", sorted(opdef.REGISTRY))
def test_rule_has_the_operation_s_signature(op: str) -> None:
    _, *rule = inspect.signature(RULES[op]).parameters.values()
    operation = opdef.get(op).signature.parameters.values()
    assert [(p.name, p.kind) for p in rule] == [(p.name, p.kind) for p in operation]


@pytest.mark.parametrize(
    ("sample", "attr"), tunable(), ids=lambda x: getattr(x, "op", x)
)
def test_tunable_attribute_is_spelled_by_its_hole(sample: Sample, attr: str) -> None:
    assert BACKEND.spells_hole(sample, attr)


IDIOMS = {
    "add-scalar_right": "x0 + 1.5",
    "arange-symbolic": "jnp.arange(S)",
    "argmax-keepdims": "x0.argmax(axis=-1, keepdims=True)",
    "astype-truncates": "x0.astype(jnp.int32)",
    "attention-bool_mask_bshd": "attention(x0, x1, x2, mask=x3)",
    "attention-causal": "jax.nn.dot_product_attention(x0, x1, x2, is_causal=True)",
    "attention-dropout_off": "attention(x0, x1, x2, mask=x3, dropout=dropout)",
    "bitwise_invert": "~x0",
    "concat-axis_-1_of_2": "jnp.concatenate([x0, x1], axis=-1)",
    "divide-0": "x0 / x1",
    "embedding": "x1[x0]",
    "full-0_float32": "jnp.zeros((B, S))",
    "full--inf_float32": "jnp.full((B, S), -jnp.inf, jnp.float32)",
    "gelu-erf": "gelu(x0)",
    "getitem-integer": "x0[:, 0]",
    "getitem-new_axis": "x0[:, None, :, 2, None]",
    "getitem-own_bounds": "x0[:, :, 2:]",
    "index_update-mask": "jnp.where(x1, -2.0, x0)",
    "linear": "x0 @ x1.T + x2",
    "logical_and-0": "x0 & x1",
    "max_pool-padded_last": (
        "nnx.max_pool(x0, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))"
    ),
    "mean-keepdims": "x0.mean(axis=(0, 2), keepdims=True)",
    "permute_dims-cycle": "x0.transpose(1, 2, 0)",
    "permute_dims-last": "x0.mT",
    "permute_dims-swap": "x0.swapaxes(1, 2)",
    "pow-by_2": "x0 ** 2",
    "reshape-split": "x0.reshape(B, S, 2, 3)",
    "reshape-merge": "x0.reshape(-1, 6)",
    "slice_update-integer": "x0.at[:, 0].set(x1)",
    "softmax": "jax.nn.softmax(x0, axis=-1)",
    "split-equal": "jnp.split(x0, 3, axis=-1)",
    "split-unequal": "jnp.split(x0, [1, 3], axis=-1)",
    "take-middle": "x0[:, x1]",
    "topk-largest": "jax.lax.top_k(x0, 3)",
    "var-bessel": "x0.var(axis=-1, ddof=1)",
}


@pytest.mark.parametrize("name", IDIOMS)
def test_reads_as_people_write_it(name: str) -> None:
    assert BACKEND.text(row(name)) == IDIOMS[name]


def _attention_inputs(seed: int, *shapes: tuple[int, ...]) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [jax.numpy.asarray(rng.standard_normal(s), np.float32) for s in shapes]


@pytest.mark.parametrize("helper", ["attention", "weighted_sum", "long_attention"])
def test_attention_drops_weights_in_training(helper: str) -> None:
    from flax import nnx

    q, k, v = _attention_inputs(0, (2, 5, 4, 8), (2, 5, 4, 8), (2, 5, 4, 8))
    mask = jax.numpy.tri(5, dtype=bool)[None, None]
    layer = nnx.Dropout(0.5, rngs=nnx.Rngs(0))

    def run() -> Any:
        if helper == "attention":
            return _rt.attention(q, k, v, mask, layer)
        return getattr(_rt, helper)(q, k, v, layer, mask=mask)

    expected = jax.nn.dot_product_attention(q, k, v, mask=mask)
    first, second = run(), run()
    assert not np.allclose(first, second)
    mean = sum(run() for _ in range(400)) / 400  # unbiased: the kept weights are scaled
    assert float(abs(mean - expected).max()) < 0.3
    layer.deterministic = True
    assert_close(run(), expected)


@pytest.mark.parametrize(
    "options",
    [{}, {"is_causal": True}, {"scale": 0.3}, {"bias": True}, {"mask": True}],
    ids=str,
)
def test_written_out_attention_is_jax_s(options: dict[str, Any]) -> None:
    q, k, v, bias = _attention_inputs(
        1, (2, 5, 4, 8), (2, 5, 2, 8), (2, 5, 2, 8), (1, 4, 5, 5)
    )
    arrays = {"bias": bias, "mask": (bias > -1) | jax.numpy.eye(5, dtype=bool)}
    options = {k: arrays.get(k, v) for k, v in options.items()}
    expected = jax.nn.dot_product_attention(q, k, v, **options)
    assert_close(_rt.weighted_sum(q, k, v, **options), expected)
    assert_close(_rt.long_attention(q, k, v, **options), expected)


def test_long_attention_goes_head_by_head_on_a_cpu_alone() -> None:
    q, k, v = _attention_inputs(2, *[(1, 9, 3, 4)] * 3)
    mask = jax.numpy.tri(9, k=-1, dtype=bool)[None, None]  # the first sees nothing

    def loss(attend: Any) -> Any:
        return lambda *x: jax.numpy.sin(attend(*x, mask=mask)).sum()

    grads = [
        jax.grad(loss(f), argnums=(0, 1, 2))(q, k, v)
        for f in (_rt.weighted_sum, _rt.long_attention)
    ]
    jax.tree.map(assert_close, *grads)
    for platform, loops in (("cpu", True), ("cuda", False)):
        exported = jax.export.export(jax.jit(_rt.long_attention), platforms=[platform])
        assert ("stablehlo.while" in exported(q, k, v).mlir_module()) is loops
