"""Symbolic sizes: one form for equal expressions, and arithmetic that is true of numbers."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from ivyport.core.dims import (
    Dim,
    DimLike,
    as_symbol,
    evaluate,
    maximum,
    minimum,
    product,
    symbol,
    symbols,
)

B, S, T = symbol("B"), symbol("S"), symbol("T")
NAMES = ("B", "S", "T")
Number = Callable[[dict[str, int]], int]


class Random:
    """Random expressions, each with the function that computes it from integers."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def leaf(self) -> tuple[DimLike, Number]:
        if self.rng.random() < 0.35:
            value = self.rng.randint(-4, 9)
            return value, lambda env: value
        name = self.rng.choice(NAMES)
        return symbol(name), lambda env: env[name]

    def make(self, depth: int) -> tuple[DimLike, Number]:
        if depth == 0:
            return self.leaf()
        x, f = self.make(depth - 1)
        y, g = self.make(self.rng.randint(0, depth - 1))
        match self.rng.choice("+-*//%mM"):
            case "+":
                return x + y, lambda env: f(env) + g(env)
            case "-":
                return x - y, lambda env: f(env) - g(env)
            case "*":
                return x * y, lambda env: f(env) * g(env)
            case "m":
                return minimum(x, y), lambda env: min(f(env), g(env))
            case "M":
                return maximum(x, y), lambda env: max(f(env), g(env))
            case "%":
                size = self.rng.randint(1, 6)
                return x % size, lambda env: f(env) % size
            case _:
                size = self.rng.randint(1, 6)
                return x // size, lambda env: f(env) // size

    def sizes(self) -> dict[str, int]:
        return {name: self.rng.randint(1, 40) for name in NAMES}


@pytest.mark.parametrize("seed", range(8))
def test_arithmetic_is_that_of_integers(seed: int) -> None:
    r = Random(seed)
    for _ in range(250):
        dim, number = r.make(r.rng.randint(1, 5))
        for _ in range(3):
            env = r.sizes()
            assert evaluate(dim, env) == number(env), f"{dim} of {env}"
        assert isinstance(dim, int) or symbols(dim)


@pytest.mark.parametrize("seed", range(4))
def test_polynomials_have_one_form(seed: int) -> None:
    """Sums and products written in any order and grouping are equal, hash and print alike."""
    rng = random.Random(seed)
    for _ in range(100):
        atoms: list[DimLike] = [
            rng.choice([B, S, T, rng.randint(-3, 5)]) for _ in range(5)
        ]
        a, b, c, d, e = atoms
        forms = [
            a * (b + c) - d * e,
            -(e * d) + c * a + b * a,
            (a * b - e * d) + a * c + 0 * a,
            (b + c) * a - d * e + e - e,
        ]
        assert all(f == forms[0] for f in forms), forms
        assert len({hash(f) for f in forms}) == 1
        assert len({str(f) for f in forms}) == 1


@pytest.mark.parametrize("seed", range(4))
def test_equal_forms_are_equal_numbers_and_others_are_not(seed: int) -> None:
    """Of polynomials: unequal forms differ at some sizes."""
    rng = random.Random(seed)

    def polynomial() -> DimLike:
        total: DimLike = 0
        for _ in range(rng.randint(1, 3)):
            total = total + rng.randint(-2, 2) * product(
                rng.choices([B, S, 1], k=rng.randint(0, 2))
            )
        return total

    sizes = [{"B": b, "S": s} for b in (1, 2, 5, 11) for s in (1, 3, 7, 13)]
    for _ in range(300):
        p, q = polynomial(), polynomial()
        same = all(evaluate(p, env) == evaluate(q, env) for env in sizes)
        assert (p == q) == same, f"{p} and {q}"


@pytest.mark.parametrize("seed", range(4))
def test_exact_division_undoes_a_product(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(100):
        factors = [
            rng.choice([B, S, T]) * rng.randint(1, 3) + rng.randint(0, 2)
            for _ in range(rng.randint(1, 3))
        ]
        cofactor = rng.choice([B, S * 2, T + 1, 3, B * S - T])
        divisor = product(factors)
        assert (divisor * cofactor) // divisor == cofactor
        assert (divisor * cofactor) % divisor == 0


@pytest.mark.parametrize("seed", range(4))
def test_division_with_a_rest(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(100):
        x = rng.randint(-5, 9) * B + rng.randint(-5, 9) * S + rng.randint(-9, 9)
        n = rng.randint(1, 7)
        q, r = x // n, x % n
        for _ in range(4):
            env = {"B": rng.randint(1, 50), "S": rng.randint(1, 50)}
            value = evaluate(x, env)
            assert evaluate(q, env) == value // n
            assert evaluate(r, env) == value % n
            assert evaluate(n * q + r, env) == value


def test_nested_floors_join() -> None:
    assert (S // 2) // 3 == S // 6
    assert ((S - 10) // 5) + 1 == S // 5 - 1
    assert (S // 5 - 4) // 2 == S // 10 - 2
    assert (6 * B + 4) // 2 == 3 * B + 2
    assert (6 * B + 5) // 2 == 3 * B + 2
    assert (B * S) // S == B
    assert (((S + 2 - 3) // 2 + 1) + 2 - 3) // 2 + 1 == (S + 3) // 4
    assert (S // 2) * 2 != S
    assert ((S // 2) * 2) // 2 == S // 2


def test_convolutions_of_one_length_by_two_ways_have_one_form() -> None:
    """What a stack of strided convolutions makes of a length, and a closed formula."""
    length: DimLike = S
    for kernel, stride in ((10, 5), (3, 2), (3, 2), (2, 2)):
        length = (length - kernel) // stride + 1
    assert str(length).count("//") == 1
    for size in range(400, 900, 7):
        expected = size
        for kernel, stride in ((10, 5), (3, 2), (3, 2), (2, 2)):
            expected = (expected - kernel) // stride + 1
        assert evaluate(length, {"S": size}) == expected


def test_negative_and_symbolic_divisors() -> None:
    for x in (S + 3, 2 * S, S * B):
        for y in (-2, B, S + 1, -B):
            for env in ({"S": 7, "B": 3}, {"S": 4, "B": 5}):
                value, size = evaluate(x, env), evaluate(y, env)
                assert evaluate(x // y, env) == value // size, f"{x} // {y}"
                assert evaluate(x % y, env) == value % size, f"{x} % {y}"
    assert evaluate(7 // S, {"S": 2}) == 3
    assert evaluate(7 % S, {"S": 4}) == 3
    assert evaluate(-((-S) // 4), {"S": 9}) == math.ceil(9 / 4)


def test_results_without_symbols_are_integers() -> None:
    assert S - S == 0
    assert type(S - S) is int
    assert (S + 3) - S == 3
    assert S * 0 == 0
    assert S // S == 1
    assert type(evaluate(S * 2, {"S": 3})) is int
    assert (B * S) % S == 0


def test_zero_is_no_divisor() -> None:
    for dim in (S // (B - 1), S % (B - 1)):
        with pytest.raises(ZeroDivisionError):
            evaluate(dim, {"S": 4, "B": 1})


def test_maximum_and_minimum() -> None:
    assert maximum(2, 3) == 3
    assert minimum(2, 3) == 2
    assert maximum(S, S) == S == minimum(S, S)
    assert evaluate(maximum(S, 4), {"S": 2}) == 4
    assert evaluate(minimum(S, B), {"S": 2, "B": 1}) == 1


def test_partial_evaluation() -> None:
    assert evaluate(B * S + 1, {"B": 2}) == 2 * S + 1
    assert evaluate(B // 2 + S, {"S": T}) == B // 2 + T
    assert evaluate((S + 1) // 2, {"S": 2 * B + 1}) == B + 1


def test_queries() -> None:
    assert as_symbol(S) == "S"
    assert as_symbol(2 * S) is None
    assert as_symbol(S * B) is None
    assert as_symbol(S + 1) is None
    assert as_symbol(S // 2) is None
    assert as_symbol(3) is None
    assert symbols(3) == set()
    assert symbols(B * (S // 2) + maximum(T, 1)) == {"B", "S", "T"}
    assert product([]) == 1
    assert product([B, 2, S]) == 2 * B * S


@pytest.mark.parametrize(
    ("dim", "text"),
    [
        (S, "S"),
        (2 * S, "2*S"),
        (-S, "-S"),
        (S + 1, "S+1"),
        (S - 1, "S-1"),
        (1 - S, "-S+1"),
        (B * S, "B*S"),
        (S * B + B, "B*S+B"),
        (S // 2, "(S//2)"),
        ((S + 1) // 2, "((S+1)//2)"),
        (3 * (S // 2), "3*(S//2)"),
        (S % 4, "(S%4)"),
        (maximum(S, 4), "max(S, 4)"),
        (minimum(S + 1, B), "min(S+1, B)"),
        (S * S, "S*S"),
        (2 * B * S - 3 * S + 4, "2*B*S-3*S+4"),
    ],
    ids=str,
)
def test_text(dim: Dim, text: str) -> None:
    assert str(dim) == repr(dim) == text


@pytest.mark.parametrize("seed", range(4))
def test_text_is_python_for_the_same_number(seed: int) -> None:
    r = Random(100 + seed)
    for _ in range(200):
        dim, number = r.make(r.rng.randint(1, 4))
        env = r.sizes()
        value = eval(str(dim), {"min": min, "max": max}, dict(env))
        assert value == number(env), dim
