"""Emission for NumPy: one rule an operation, and the helpers that emitted files copy."""

from __future__ import annotations

from functools import partial
from types import ModuleType

from ivyport.backends import functions, operators
from ivyport.backends.absent import absent
from ivyport.backends.language import Language
from ivyport.backends.numpy import (
    rules_array,
    rules_index,
    rules_lax,
    rules_linalg,
    rules_nn,
    rules_vision,
)

RULES = {
    **operators.RULES,
    **functions.RULES,
    **rules_array.RULES,
    **rules_index.RULES,
    **rules_nn.RULES,
    **rules_vision.RULES,
    **rules_lax.RULES,
    **rules_linalg.RULES,
}

IMPORTS = {"math": "import math", "np": "import numpy as np"}


def _runtime() -> ModuleType:
    from ivyport.backends.numpy import _rt

    return _rt


LANGUAGE = Language(
    rules=RULES,
    imports=IMPORTS,
    dtypes="np",
    array="np.ndarray",
    runtime=_runtime,
    absent=partial(absent, integers="int64", floats="float64"),
    stack="np.stack",
    double=True,
)
