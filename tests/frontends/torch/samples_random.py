"""Samples of random draws: what is drawn, in which shape and dtype, and what is refused.

The numbers are the port's own, so that they are not compared with torch's.
"""

from __future__ import annotations

import torch

from tests.frontends.torch.sample import A, Sample, ints, normal, row, uniform

x = normal("B", 4)
half = normal("B", 4, dtype=torch.float16)
chances = uniform(0, 1, "B", 4)
cube = normal("B", 5, "S")

UNIFORM, NORMAL, COIN = "random_uniform", "random_normal", "random_bernoulli"
TWO_THREE = (2, 3)
LIKE_X = ("B", 4)
OTHERS = "this random draw is not supported"


def drawn(name, fn, *inputs, op, shape, dtype="float32", before="", after="") -> Sample:
    """A row of one draw, and the operations before and after it."""
    ops = f"{before} {op} {after}"
    draws = ((op, shape, dtype),)
    return row(f"draw-{name}", fn, *inputs, ops=ops, random=True, draws=draws)


def coin(name, fn, *inputs, shape=LIKE_X, after="astype") -> Sample:
    """A row of one Bernoulli draw."""
    return drawn(name, fn, *inputs, op=COIN, shape=shape, dtype="bool", after=after)


SCALED = "multiply add"
WHOLE = "multiply floor clip"

DRAWN = [
    drawn("rand", lambda x: torch.rand(2, 3), x, op=UNIFORM, shape=TWO_THREE),
    drawn("rand-size", lambda x: torch.rand(x.shape[0]), x, op=UNIFORM, shape=("B",)),
    drawn(
        "rand-dtype",
        lambda x: torch.rand(2, 3, dtype=torch.float16),
        x,
        op=UNIFORM,
        shape=TWO_THREE,
        dtype="float16",
    ),
    drawn("rand_like", torch.rand_like, x, op=UNIFORM, shape=LIKE_X),
    drawn(
        "rand_like-half",
        torch.rand_like,
        half,
        op=UNIFORM,
        shape=LIKE_X,
        dtype="float16",
    ),
    drawn("randn", lambda x: torch.randn(2, 3), x, op=NORMAL, shape=TWO_THREE),
    drawn("randn-size", lambda x: torch.randn(x.shape[0]), x, op=NORMAL, shape=("B",)),
    drawn("randn_like", torch.randn_like, x, op=NORMAL, shape=LIKE_X),
    drawn(
        "randn_like-dtype",
        lambda i: torch.randn_like(i, dtype=torch.float32),
        ints(5, "B", 4),
        op=NORMAL,
        shape=LIKE_X,
    ),
    drawn(
        "normal",
        lambda x: A.normal.float_float(0.0, 1.0, [2]),
        x,
        op=NORMAL,
        shape=(2,),
    ),
    drawn(
        "normal-scaled",
        lambda x: A.normal.float_float(3.0, 2.0, [2, 3]),
        x,
        op=NORMAL,
        shape=TWO_THREE,
        after=SCALED,
    ),
    drawn(
        "normal-tensors",
        A.normal.Tensor_Tensor,
        x,
        chances,
        op=NORMAL,
        shape=LIKE_X,
        after=SCALED,
    ),
    drawn(
        "normal-tensor",
        lambda x: A.normal.Tensor_float(x, 1.0),
        x,
        op=NORMAL,
        shape=LIKE_X,
        after="add",
    ),
    drawn(
        "normal_functional",
        lambda x: A.normal_functional.default(x, 0.0, 0.02),
        x,
        op=NORMAL,
        shape=LIKE_X,
        after="multiply",
    ),
    drawn("normal_", lambda x: x.clone().normal_(), x, op=NORMAL, shape=LIKE_X),
    drawn(
        "uniform",
        lambda x: A.uniform.default(x, -1.0, 1.0),
        x,
        op=UNIFORM,
        shape=LIKE_X,
        after=SCALED,
    ),
    drawn("uniform_", lambda x: x.clone().uniform_(), x, op=UNIFORM, shape=LIKE_X),
    drawn(
        "exponential",
        lambda x: A.exponential.default(x, 2.0),
        x,
        op=UNIFORM,
        shape=LIKE_X,
        after="negative log1p negative clip divide",
    ),
    drawn(
        "geometric_",
        lambda x: x.clone().geometric_(0.25),
        x,
        op=UNIFORM,
        shape=LIKE_X,
        after="negative log1p negative clip divide ceil",
    ),
    drawn(
        "geometric",
        lambda x: A.geometric.default(x, 0.25),
        x,
        op=UNIFORM,
        shape=LIKE_X,
        after="negative log1p negative clip divide ceil",
    ),
    drawn(
        "cauchy_",
        lambda x: x.clone().cauchy_(1.0, 2.0),
        x,
        op=UNIFORM,
        shape=LIKE_X,
        after="multiply add tan multiply add",
    ),
    drawn(
        "cauchy",
        lambda x: A.cauchy.default(x, 1.0, 2.0),
        x,
        op=UNIFORM,
        shape=LIKE_X,
        after="multiply add tan multiply add",
    ),
    drawn(
        "log_normal_",
        lambda x: x.clone().log_normal_(),
        x,
        op=NORMAL,
        shape=LIKE_X,
        after="multiply add exp",
    ),
    drawn(
        "log_normal",
        lambda x: A.log_normal.default(x),
        x,
        op=NORMAL,
        shape=LIKE_X,
        after="multiply add exp",
    ),
    drawn(
        "random_-to",
        lambda x: x.clone().random_(9),
        x,
        op=UNIFORM,
        shape=LIKE_X,
        after="multiply floor clip",
    ),
    drawn(
        "random-to",
        lambda x: A.random.to(x, 9),
        x,
        op=UNIFORM,
        shape=LIKE_X,
        after="multiply floor clip",
    ),
    drawn(
        "exponential_",
        lambda x: x.clone().exponential_(),
        x,
        op=UNIFORM,
        shape=LIKE_X,
        after="negative log1p negative clip",
    ),
    coin("bernoulli", torch.bernoulli, chances),
    coin("bernoulli-p", lambda x: A.bernoulli.p(x, 0.5), x),
    coin("bernoulli-tensor", A.bernoulli.Tensor, x, chances),
    coin("bernoulli_", lambda x: x.clone().bernoulli_(0.5), x),
    coin("bernoulli_-tensor", lambda x, p: x.clone().bernoulli_(p), x, chances),
    drawn(
        "randint",
        lambda x: torch.randint(5, (2, 3)),
        x,
        op=UNIFORM,
        shape=TWO_THREE,
        after=f"{WHOLE} astype",
    ),
    drawn(
        "randint-dtype",
        lambda x: torch.randint(5, (2, 3), dtype=torch.int32),
        x,
        op=UNIFORM,
        shape=TWO_THREE,
        after=f"{WHOLE} astype",
    ),
    drawn(
        "randint-low",
        lambda x: torch.randint(1, 5, (x.shape[0],)),
        x,
        op=UNIFORM,
        shape=("B",),
        after=f"{WHOLE} astype add",
    ),
    drawn(
        "randint_like",
        lambda x: A.randint_like.default(x, 4),
        x,
        op=UNIFORM,
        shape=LIKE_X,
        after=WHOLE,
    ),
    drawn(
        "multinomial",
        lambda p: torch.multinomial(p, 1),
        chances,
        op=UNIFORM,
        shape=LIKE_X,
        after="negative log1p negative clip divide argmax getitem",
    ),
    drawn(
        "rrelu",
        lambda x: A.rrelu.default(x, 0.1, 0.3, True),
        x,
        op=UNIFORM,
        shape=LIKE_X,
        after=f"{SCALED} greater multiply where",
    ),
    drawn(
        "rrelu_",
        lambda x: A.rrelu_.default(x.clone(), 0.1, 0.3, True),
        x,
        op=UNIFORM,
        shape=LIKE_X,
        after=f"{SCALED} greater multiply where",
    ),
    coin(
        "alpha_dropout",
        lambda x: A.alpha_dropout.default(x, 0.5, True),
        x,
        after=f"where {SCALED}",
    ),
    coin(
        "alpha_dropout_",
        lambda x: A.alpha_dropout_.default(x.clone(), 0.5, True),
        x,
        after=f"where {SCALED}",
    ),
    coin(
        "feature_alpha_dropout",
        lambda x: A.feature_alpha_dropout.default(x, 0.5, True),
        cube,
        shape=("B", 5, 1),
        after=f"broadcast_to where {SCALED}",
    ),
    coin(
        "feature_alpha_dropout_",
        lambda x: A.feature_alpha_dropout_.default(x.clone(), 0.5, True),
        cube,
        shape=("B", 5, 1),
        after=f"broadcast_to where {SCALED}",
    ),
]

# What draws in one mode only has the values of torch in the other.
STILL = [
    row("rrelu-eval", lambda x: A.rrelu.default(x), x, ops="leaky_relu"),
    row("alpha_dropout-eval", lambda x: A.alpha_dropout.default(x, 0.5, False), x),
    row("alpha_dropout-none", lambda x: A.alpha_dropout.default(x, 0.0, True), x),
    row("alpha_dropout-all", lambda x: A.alpha_dropout.default(x, 1.0, True), x),
    row(
        "feature_alpha_dropout-eval",
        lambda x: A.feature_alpha_dropout.default(x, 0.5, False),
        cube,
    ),
]

REFUSED = [
    row(f"draw-{name}", fn, chances, refuses=refuses)
    for name, fn, refuses in (
        ("randperm", lambda x: torch.randperm(4), OTHERS),
        ("randint_like-low", lambda x: A.randint_like.low_dtype(x, 1, 4), OTHERS),
        ("poisson", torch.poisson, OTHERS),
        ("random", lambda x: x.clone().random_(), "say from which ones"),
        ("random-out", lambda x: A.random.default(x), "say from which ones"),
        (
            "multinomial-2",
            lambda x: torch.multinomial(x, 2),
            "multinomial of 2 samples",
        ),
        (
            "randint-wide",
            lambda x: torch.randint(2**25, (2,)),
            r"up to 2\*\*24 numbers",
        ),
        (
            "normal-broadcast",
            lambda x: A.normal.Tensor_Tensor(x, x[0]),
            "one type is due",
        ),
    )
]

ROWS: list[Sample] = [*DRAWN, *STILL, *REFUSED]
