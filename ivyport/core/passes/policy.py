"""What a target's operations expect of a graph: the passes follow it."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Policy:
    """What a target's operations expect.

    Attributes:
        images: layout of convolutions, pools and batch norm.
        attention: axis order of queries, keys and values.
        narrow: whether the target computes in 32 bits.
        writes: whether its function for batch norm updates running statistics.
        statements: whether control flow is written as Python's own.
        unsigned: whether it computes with unsigned integers of 16 and 32 bits.
        even: whether its convolutions pad both ends of an axis alike.
        pools: whether it has average pools to any size.
        softmax: whether attention with a float mask is a softmax, whatever its numbers are.
        fuses: whether its compiler leaves out the rounding of products.
        trains: whether it has a train mode and gradients, and draws random numbers.
        lacks: dtypes that it has not.
        factors: whether it multiplies float16 by numbers that float16 lacks. What computes in 32
            bits has them made float32 in any case.
    """

    images: str
    attention: str
    narrow: bool
    even: bool
    pools: bool
    writes: bool = False
    statements: bool = False
    unsigned: bool = True
    softmax: bool = True
    fuses: bool = True
    trains: bool = True
    lacks: frozenset[str] = frozenset()
    factors: bool = True


#: What XLA expects, in each of JAX's libraries of modules.
XLA = Policy("channels_last", "bshd", narrow=True, even=False, pools=False)
TORCH = Policy(
    "channels_first",
    "bhsd",
    narrow=False,
    even=True,
    pools=True,
    writes=True,
    statements=True,
    unsigned=False,
    softmax=False,
    fuses=False,
)
#: Images as rows of channels, of which products of matrices are made, and heads in front of them.
NUMPY = Policy(
    "channels_last",
    "bhsd",
    narrow=False,
    even=False,
    pools=False,
    statements=True,
    fuses=False,
    trains=False,
    lacks=frozenset({"bfloat16"}),
    factors=False,
)
