"""Emission for PyTorch: one rule an operation, and the helpers that emitted files copy.

`RULES` maps operations to rules, `IMPORTS` the root of a dotted name to the statement
that imports it. Importing this package does not import torch; importing `_rt` does.
"""

from __future__ import annotations

from ivyport.backends import operators
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
    "nn": "from torch import nn",
}
