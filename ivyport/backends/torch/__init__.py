"""Emission for PyTorch: one rule an operation, and the helpers that emitted files copy.

Importing this package does not import torch; importing `_rt` does.
"""

from __future__ import annotations

from functools import partial
from types import ModuleType

from ivyport.backends import functions, operators
from ivyport.backends.absent import absent
from ivyport.backends.language import Language
from ivyport.backends.torch import (
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

IMPORTS = {
    "math": "import math",
    "np": "import numpy as np",
    "torch": "import torch",
    "F": "import torch.nn.functional as F",
}


def _runtime() -> ModuleType:
    from ivyport.backends.torch import _rt

    return _rt


LANGUAGE = Language(
    rules=RULES,
    imports=IMPORTS,
    dtypes="torch",
    array="torch.Tensor",
    runtime=_runtime,
    absent=partial(absent, integers="int64", placed=True),
    default_float=True,
    strided=True,
    stack="torch.stack",
    entries="unbind",
)
