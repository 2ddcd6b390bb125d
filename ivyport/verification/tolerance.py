"""How far a port may be from its source, by dtype, and why.

Errors are relative to the largest magnitude of the source's tensor. Both sides compute
the same function at full precision, and differ in the order of sums and in the last
bits of transcendental functions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """Largest relative errors of one dtype, and the reason for them.

    `gradient` is that of gradients and of everything after a training step.
    """

    output: float
    gradient: float
    reason: str


#: By the dtype in which the port gives the tensor.
TABLE: Mapping[str, Tolerance] = {
    "float32": Tolerance(
        1e-5, 1e-4, "84 and 839 times eps = 1.2e-7: rounding grows with depth"
    ),
    "float64": Tolerance(1e-5, 1e-4, "as float32: other steps may be in 32 bits"),
    # Here every operation rounds its result, and frameworks round at other places: one
    # keeps float32 inside a fused operation where the other stores the parts. In six
    # layers of BERT gradients were seen to differ by 2.2 eps.
    "bfloat16": Tolerance(3.2e-2, 1.3e-1, "4 and 16 times eps = 7.8e-3"),
    "float16": Tolerance(4e-3, 1.6e-2, "4 and 16 times eps = 9.8e-4"),
}


@dataclasses.dataclass(frozen=True)
class Tolerances:
    """The tolerance of each dtype, and the floor for gradients that vanish.

    Some gradients are zero in exact arithmetic, and rounding is all that they hold:
    softmax ignores what is added to all scores, so that a key's bias has none; nor has
    a bias in front of batch norm. Relative to itself such a tensor agrees with nothing.
    Errors of gradients are therefore taken relative to at least `gradient_floor` times
    the largest gradient of the model: in float32 an error of 1e-7 of that passes, which
    is float32's own eps (OPT's and CLIP's key biases are off by 1.1e-8 and 1.5e-8), and
    a gradient that is lost or wrong fails wherever it is above that. What rounds worse
    is settled in float64 (see `training`).
    """

    table: Mapping[str, Tolerance] = dataclasses.field(default_factory=lambda: TABLE)
    gradient_floor: float = 1e-3
    reason: str = ""

    def of(self, dtype: str) -> Tolerance:
        """The row of a dtype; complex numbers are pairs of floats."""
        real = {"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)
        return self.table[real]

    def wider(
        self, *, reason: str, output: float = 0.0, gradient: float = 0.0
    ) -> Tolerances:
        """At least these tolerances for every dtype; the report tells the reason."""
        table = {
            dtype: Tolerance(
                max(output, row.output), max(gradient, row.gradient), reason
            )
            for dtype, row in self.table.items()
        }
        return dataclasses.replace(self, table=table, reason=reason)


DEFAULT = Tolerances()

_DECIDED = Tolerance(1e-6, 1e-6, "float64 has eps = 2.2e-16; 1e-13 is usual")

#: For both sides in float64.
EXACT = Tolerances(dict.fromkeys(TABLE, _DECIDED))
