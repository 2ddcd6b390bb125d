"""The samples table of the torch frontend: every rule in one row at least.

The tests lower each row and check types; the JAX backend's rules then give values.
"""

from __future__ import annotations

from tests.frontends.torch import (
    samples_array,
    samples_assembled,
    samples_create,
    samples_linalg,
    samples_nn,
    samples_order,
    samples_random,
    samples_recurrent,
    samples_shape,
)
from tests.frontends.torch.sample import Sample

SAMPLES: list[Sample] = [
    *samples_array.ROWS,
    *samples_assembled.ROWS,
    *samples_shape.ROWS,
    *samples_create.ROWS,
    *samples_nn.ROWS,
    *samples_linalg.ROWS,
    *samples_order.ROWS,
    *samples_random.ROWS,
    *samples_recurrent.ROWS,
]
