"""Every row of the samples table, as the NumPy backend emits it, against torch."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from ivyport.backends.numpy import LANGUAGE, RULES, _rt
from ivyport.core import opdef
from ivyport.core.errors import InputError, UnsupportedOpsError
from ivyport.core.ir import Graph
from ivyport.core.passes.inference import demand_dtypes, infer
from ivyport.core.passes.policy import NUMPY
from tests.ops.harness import Backend, results, row, tunable
from tests.ops.sample import SIZES, Sample
from tests.ops.samples import SAMPLES
from tests.support import as_torch, assert_close

BACKEND = Backend(LANGUAGE, narrow=False, dropout=lambda: lambda x: x)
#: What NumPy draws is of its own generators; a port computes eval mode alone.
DRAWN = {"random_uniform", "random_normal", "random_bernoulli"}


def _graph(sample: Sample) -> Graph:
    node = BACKEND.node_of(sample)
    return Graph(list(node.values()), {}, [node], list(node.outputs))


def _lacks(sample: Sample) -> bool:
    """Whether a row has a dtype that NumPy lacks: it is refused before anything is emitted."""
    node = BACKEND.node_of(sample)
    return any(v.type.dtype in NUMPY.lacks for v in (*node.values(), *node.outputs))


REFUSED = [s for s in SAMPLES if _lacks(s)]
WRITTEN = [s for s in SAMPLES if s.op not in DRAWN and not _lacks(s)]
every_sample = pytest.mark.parametrize("sample", WRITTEN, ids=lambda s: s.name)


@every_sample
def test_value(sample: Sample) -> None:
    function = BACKEND.function_of(sample)
    for sizes in SIZES:
        arrays = sample.arrays(sizes)
        before = [a.copy() for a in arrays]
        expected = results(sample.torch(*map(as_torch, arrays)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of 0 / 0, as NumPy has it
            actual = results(function(*arrays))
        assert len(actual) == len(expected)
        for ours, theirs in zip(actual, expected, strict=True):
            assert_close(ours, theirs, rtol=sample.rtol)
        for array, was in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(
                array, was
            )  # no operation changes its operands


@every_sample
def test_writes_each_operand_once(sample: Sample) -> None:
    assert not BACKEND.repeated(sample), BACKEND.text(sample)


def test_every_operation_has_a_rule_or_is_refused() -> None:
    assert set(RULES) == set(opdef.REGISTRY) - DRAWN
    for sample in (s for s in SAMPLES if s.op in DRAWN):
        with pytest.raises(
            UnsupportedOpsError, match="draws random numbers in eval mode"
        ):
            infer(_graph(sample))


@pytest.mark.parametrize("sample", REFUSED, ids=lambda s: s.name)
def test_a_dtype_that_numpy_lacks_is_refused(sample: Sample) -> None:
    with pytest.raises(InputError, match="is bfloat16, which this target has not"):
        demand_dtypes(_graph(sample), NUMPY.lacks)


@pytest.mark.parametrize("op", sorted(RULES))
def test_rule_has_the_operation_s_signature(op: str) -> None:
    _, *rule = inspect.signature(RULES[op]).parameters.values()
    operation = opdef.get(op).signature.parameters.values()
    assert [(p.name, p.kind) for p in rule] == [(p.name, p.kind) for p in operation]


@pytest.mark.parametrize(
    ("sample", "attr"),
    [(s, a) for s, a in tunable() if s in WRITTEN],
    ids=lambda x: getattr(x, "op", x),
)
def test_tunable_attribute_is_spelled_by_its_hole(sample: Sample, attr: str) -> None:
    assert BACKEND.spells_hole(sample, attr)


IDIOMS = {
    "add-scalar_right": "x0 + 1.5",
    "arange-symbolic": "np.arange(S)",
    "argmax-keepdims": "x0.argmax(axis=-1, keepdims=True)",
    "attention-bool_mask": "attention(x0, x1, x2, x3)",
    "clip-lower": "np.maximum(x0, 0.1)",
    "concat-axis_0_of_3": "np.concatenate([x0, x1, x2])",
    "embedding": "embedding(x1, x0)",
    "full-0_float32": "np.zeros((B, S), np.float32)",
    "gelu-erf": "gelu(x0)",
    "index-int32": "x0[x1]",
    "linear": "x0 @ x1.T + x2",
    "mean-keepdims": "average(x0, axis=(0, 2), keepdims=True)",
    "permute_dims-last": "x0.mT",
    "permute_dims-swap": "x0.swapaxes(1, 2)",
    "pow-by_2": "x0 ** 2",
    "reshape-split": "x0.reshape(B, S, 2, 3)",
    "softmax": "softmax(x0)",
    "split-equal": "np.split(x0, 3, axis=-1)",
    "stop_gradient": "x0",
    "take_along_axis-equal": "np.take_along_axis(x0, x1, axis=-1)",
    "var-bessel": "x0.var(axis=-1, ddof=1)",
}


@pytest.mark.parametrize("label", IDIOMS)
def test_reads_as_people_write_it(label: str) -> None:
    assert BACKEND.text(row(label)) == IDIOMS[label]


def _dense(low: float, high: float) -> np.ndarray:
    return np.linspace(low, high, 20001)


@pytest.mark.parametrize(
    ("function", "torch_name", "low", "high"),
    [
        ("erf", "erf", -6, 6),
        ("erfc", "erfc", -6, 9),
        ("erfinv", "erfinv", -0.999999, 0.999999),
        ("lgamma", "lgamma", -5.05, 30),
        ("digamma", "digamma", -4.95, 30),
        ("sigmoid", "sigmoid", -120, 120),
        ("softplus", "logaddexp", -120, 120),
    ],
)
def test_functions_of_mathematics(
    function: str, torch_name: str, low: float, high: float
) -> None:
    import torch

    x = torch.from_numpy(_dense(low, high))
    zero = (torch.zeros((), dtype=x.dtype),) if function == "softplus" else ()
    exact = getattr(torch, torch_name)(x, *zero).numpy()
    with np.errstate(all="raise", under="ignore"):
        wide = getattr(_rt, function)(x.numpy())
        narrow = getattr(_rt, function)(x.numpy().astype(np.float32))
    single = (
        getattr(torch, torch_name)(x.float(), *[z.float() for z in zero])
        .double()
        .numpy()
    )
    assert wide.dtype == np.float64
    assert narrow.dtype == np.float32
    np.testing.assert_allclose(wide, exact, rtol=1e-9, atol=1e-12)
    # As near to the exact value, of the rounded x, as torch's float32 is, and a little more.
    rounded = getattr(torch, torch_name)(x.float().double(), *zero).numpy()
    ours = np.abs(narrow - rounded)
    theirs = np.abs(single - rounded).max()
    assert ours.max() <= max(4e-7 * np.abs(rounded).max(), 2 * theirs)


@pytest.mark.parametrize("function", ["lgamma", "digamma", "erfinv", "erfc", "erf"])
def test_functions_of_mathematics_at_their_ends(function: str) -> None:
    import torch

    x = np.array([0.0, -0.0, 1.0, -1.0, 2.0, -2.0, np.inf, np.nan, 40.0], np.float32)
    expected = getattr(torch, function)(torch.from_numpy(x)).numpy()
    with np.errstate(all="ignore"):
        found = getattr(_rt, function)(x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_gelu_of_large_numbers_is_exact() -> None:
    x = np.array([-200.0, -30.0, 200.0, np.inf, np.nan], np.float32)
    assert _rt.gelu(x)[:4].tolist() == [0.0, 0.0, 200.0, np.inf]
    assert np.isnan(_rt.gelu(x)[4])
    assert _rt.erf(x)[:4].tolist() == [-1.0, -1.0, 1.0, 1.0]


def test_nan_is_the_largest_and_equal_elements_keep_their_order() -> None:
    x = np.array([1.0, np.nan, 2.0, 1.0, -0.0, 0.0, 2.0], np.float32)
    assert _rt.sort(x)[1].tolist() == [4, 5, 0, 3, 2, 6, 1]
    assert _rt.sort(x, descending=True)[1].tolist() == [1, 2, 6, 0, 3, 4, 5]
    assert _rt.stable_topk(x, 7)[1].tolist() == [1, 2, 6, 0, 3, 5, 4]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_sums_over_outer_axes_are_as_exact_as_over_the_last(dtype: type) -> None:
    x = np.full((200_000, 2), 0.1, dtype)
    exact = float(dtype(0.1))
    assert abs(float(_rt.average(x, 0)[0]) / exact - 1) < 1e-3
    if dtype is np.float32:
        assert _rt.average(x, 0).tolist() == [np.float32(0.1)] * 2
        assert _rt.summed(x, 0).tolist() == [np.float32(200_000 * exact)] * 2
    assert _rt.variance(x, 0).dtype == _rt.deviation(x, 0).dtype == dtype


def test_ids_that_are_no_rows_are_refused() -> None:
    table = np.ones((3, 2), np.float32)
    for wrong in ([0, 3], [-1]):
        with pytest.raises(IndexError, match="the table has rows 0 to 2"):
            _rt.embedding(table, np.array(wrong))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "uint64"])
def test_bits(dtype: str) -> None:
    limits = np.iinfo(dtype)
    x = np.array([0, 1, 2, limits.max, limits.min], dtype)
    texts = [np.binary_repr(int(n), width=limits.bits) for n in x]
    assert _rt.bit_count(x).tolist() == [t.count("1") for t in texts]
    zeros = [len(t) - len(t.lstrip("0")) for t in texts]
    assert _rt.leading_zeros(x).tolist() == zeros
    assert _rt.leading_zeros(x).dtype == x.dtype


@pytest.mark.parametrize("to", [np.int8, np.int32, np.int64, np.uint8])
def test_saturating_casts(to: Any) -> None:
    limits = np.iinfo(to)
    x = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 2.9, -2.9], np.float32)
    expected = [0, limits.max, limits.min, limits.max, limits.min, 2]
    found = _rt.saturated(x, to)
    assert found.dtype == to
    assert found.tolist() == [*expected, max(-2, int(limits.min))]
