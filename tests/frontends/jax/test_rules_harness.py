"""JAX's own test cases of its primitives, through the graph and the JAX backend.

The quick run takes a few cases of each primitive, the `full` one all of them.
"""

from __future__ import annotations

import collections
import re
from typing import Any

import jax
import numpy as np
import pytest

from ivyport.core.errors import UnsupportedOpsError
from ivyport.core.ir import Value
from ivyport.frontends.jax.rules import RULES
from tests.frontends.jax.lowered import lower
from tests.graph_run import run

th = pytest.importorskip("jax._src.internal_test_util.test_harnesses")

# Names in the suite that are other names of primitives.
GROUPS = {
    "reduce_window_add": "reduce_window_sum",
    "scatter_add": "scatter-add",
    "scatter_mul": "scatter-mul",
    "scatter_min": "scatter-min",
    "scatter_max": "scatter-max",
    "min": "min",
    "max": "max",
}
# What the graph does not promise, and no model may rely on.
LEFT_OUT = re.compile(
    r"oob|"  # elements out of bounds
    r"gather_op_shape|gather_batchdims|"  # random windows, many out of bounds
    r"complex|float8|int4|int2|float0|custom_linear|"  # dtypes that the graph lacks
    r"sort.*isstable_False|"  # the order of equal keys
    r"random_|rng_|"  # draws
    r"scatter_(add|mul)_dtypes_shape_bool|"  # JAX refuses these itself
    r"dilation_lhs_float32_2_3_9_10_rhs_float32_3_3_4_5"  # an empty result
)
# Refused with these reasons: known limits, reported to the user.
LIMITS = (
    "a pool of", "a sum over windows", "windows combined by", "batch_group_count",
    "several times over", "several operands at once", "a reduction of several",
    "axes that the indices do not tell apart", "not supported", "a convolution over",
    "bitwise", "arithmetic shift", "a computation",
)  # fmt: skip
RTOL = {"bfloat16": 2e-2, "float16": 1e-2, "float32": 3e-5}
HEAVY = {"conv_general_dilated": 12, "dot_general": 8, "gather": 8, "scatter": 8}


def _cases() -> list[Any]:
    """Cases of primitives with a rule, by name: the suite's own order is that of a set."""
    cases = [
        h
        for h in th.all_harnesses
        if GROUPS.get(h.group_name, h.group_name) in RULES
        and not LEFT_OUT.search(h.fullname)
    ]
    return sorted(cases, key=lambda h: (h.group_name, h.fullname))


def _sample() -> list[Any]:
    """A few of each primitive, spread over its cases."""
    groups: dict[str, list[Any]] = collections.defaultdict(list)
    for case in _cases():
        groups[case.group_name].append(case)
    chosen = []
    for name, members in groups.items():
        wanted = 4 if name in HEAVY else 1
        chosen += members[len(members) // (2 * wanted) :: -(-len(members) // wanted)]
    return chosen


def _check(case: Any) -> None:
    args = case.dyn_args_maker(np.random.RandomState(0))
    if any("complex" in str(getattr(a, "dtype", "")) for a in args):
        return
    try:
        wanted = [np.asarray(x) for x in jax.tree.leaves(case.dyn_fun(*args))]
    except NotImplementedError:
        return  # JAX has no such case on this platform
    try:
        lowered = lower(case.dyn_fun, *args)
    except UnsupportedOpsError as error:
        if not any(limit in str(error) for limit in LIMITS):
            raise
        return
    arrays: dict[str, Any] = {
        f"x{i}": np.asarray(x) for i, x in enumerate(jax.tree.leaves(args))
    }
    found = run(lowered.graph, arrays | lowered.constants, jit=False)
    assert all(isinstance(v, Value) for v in lowered.graph.output_values())
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        rtol = RTOL.get(str(theirs.dtype), 0.0)
        np.testing.assert_allclose(
            ours.astype(np.float64), theirs.astype(np.float64), rtol, rtol
        )


@pytest.mark.parametrize("case", _sample(), ids=lambda h: h.fullname[:80])
def test_sample(case: Any) -> None:
    _check(case)


@pytest.mark.full
@pytest.mark.parametrize("part", range(32))
def test_all(part: int) -> None:
    failures = []
    for case in _cases()[part::32]:
        try:
            _check(case)
        except Exception as error:  # noqa: BLE001 (all failures of a part are listed)
            failures.append(f"{case.fullname}: {type(error).__name__}: {error}"[:300])
    assert not failures, "\n".join(failures)
