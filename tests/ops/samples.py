"""The samples table: at least one row an operation, more where there are traps.

Every backend's tests run every row: value, dtype, shape, gradient, and a second size of
each symbol.
"""

from __future__ import annotations

from tests.ops import (
    samples_array,
    samples_elementwise,
    samples_index,
    samples_lax,
    samples_linalg,
    samples_nn,
    samples_outside,
    samples_vision,
)
from tests.ops.sample import Sample

SAMPLES: list[Sample] = [
    *samples_elementwise.ROWS,
    *samples_array.ROWS,
    *samples_index.ROWS,
    *samples_outside.ROWS,
    *samples_nn.ROWS,
    *samples_vision.ROWS,
    *samples_lax.ROWS,
    *samples_linalg.LINALG,
]
