"""What bounds prove of sizes, and conditions in their shortest form."""

from __future__ import annotations

import itertools

import pytest

from ivyport.core.checks import Check
from ivyport.core.dims import evaluate, maximum, minimum, symbol
from ivyport.core.proofs import by_mode, equal_from, implied, reduced, settled

B, T = symbol("B"), symbol("T")
EXPRESSIONS = [T, T // 2, (T + 1) // 2, 2 * T - 1, T * B, T % 3, maximum(T // 2, 1),
               minimum(T, B), -((-T) // 3), 5, T - T // 2]  # fmt: skip


def test_what_is_implied_holds() -> None:
    """Every condition that is called implied holds for all small sizes; some are."""
    proved = 0
    sizes = [{"B": b, "T": t} for b in range(1, 12) for t in range(1, 12)]
    for a, b in itertools.product(EXPRESSIONS, repeat=2):
        for relation in ("==", "!=", "<", "<=", ">", ">="):
            check = Check(a, relation, b)
            if implied(check, {}):
                proved += 1
                assert all(check.holds(s) for s in sizes), check
    assert proved > 30


def test_settled_keeps_the_value() -> None:
    bounds = {"T": (2, None)}
    for a in EXPRESSIONS:
        for t in range(2, 9):
            now = evaluate(settled(a, bounds), {"B": 3, "T": t})
            assert now == evaluate(a, {"B": 3, "T": t})


@pytest.mark.parametrize(
    ("checks", "found"),
    [
        ([Check(T % 2, "==", 0)], ["(T%2) == 0"]),
        ([Check(8 * T * B % (32 * B), "==", 0)], ["(T%4) == 0"]),
        ([Check((T + 1) // 2, "==", 4), Check(T, "!=", 1)], ["T >= 7", "T <= 8"]),
        ([Check(B, "!=", 1), Check(T * B, ">", 20)], ["B >= 2", "B*T > 20"]),
        ([Check(T // 2, "<=", T), Check(T, "<=", 512)], ["T <= 512"]),
        ([Check(T // 8, "==", 8), Check(T % 8, "==", 0)], ["T == 64"]),
        ([Check(T, "==", 3 * (T // 3))], ["(T%3) == 0"]),
        ([Check((T + 1) // 2 - 1, ">=", 2), Check(T, ">=", 3)], ["T >= 5"]),
        ([Check((((T - 10) // 5 + 1) - 3) // 2, ">=", 1)], ["T >= 30"]),
        ([Check(-(T // 4), ">", -3), Check(2 * (T // 4), "<", 9)], ["T <= 11"]),
        ([Check(12 - B, ">=", T), Check(T + B, "<", 15)], ["B+T <= 12"]),
        ([Check(T * B, "<", 60), Check(T * B, "<=", 49)], ["B*T <= 49"]),
        ([Check(T * B, "<", 50), Check(T * B, "<=", 49)], ["B*T < 50"]),
        ([Check(T * B, ">", 20), Check(T * B + T, ">", 18)], ["B*T > 20"]),
        ([Check(B * (T // 4), ">=", 2 * B), Check(T, ">=", 6)], ["T >= 8"]),
        (
            [Check(T, ">=", 12), Check(8 * B * (T // 4) - 16 * B, "!=", 0)],
            ["T >= 12"],
        ),
        ([Check(T, ">=", 12), Check(B * (T // 4) - 2 * B, "!=", -1)], ["T >= 12"]),
        (
            [Check(T, ">=", 5), Check(maximum(1, (T + 3) // 4 - 1), ">", 1)],
            ["T >= 9"],
        ),
        (
            [Check(T - 9, "!=", 0), Check(B * T - 3 * B, "!=", 2)],
            ["T != 9", "B*T != 3*B+2"],
        ),
    ],
)
def test_reduced(checks: list[Check], found: list[str]) -> None:
    made = reduced(checks, ["B", "T"])
    assert [str(check) for check in made.checks] == found
    for b, t in itertools.product(range(1, 9), range(1, 70)):
        sizes = {"B": b, "T": t}
        wanted = all(check.holds(sizes) for check in checks)
        assert all(check.holds(sizes) for check in made.checks) == wanted, sizes


def test_checks_of_train_mode_alone() -> None:
    asked = [Check(B * T, ">", 20), Check(T, "!=", 6), Check(T % 2, "==", 0)]
    evaluated = reduced(asked, ["B", "T"])
    both = reduced([*asked, Check(B, ">=", 2), Check(T, ">=", 1)], ["B", "T"])
    found = by_mode(evaluated, both)
    assert [str(c) for c in found if not c.trained] == [
        str(c) for c in evaluated.checks
    ]
    assert [str(c) for c in found if c.trained] == ["B >= 2"]
    assert Check.from_json(found[-1].to_json()).trained


def test_equal_from_a_bound_on() -> None:
    length = maximum(2 * (T // 2) - 1, 0) + 1
    assert equal_from(length, 2 * (T // 2), {"T": 8}) == [Check(T, ">=", 2)]
    assert equal_from(T, T + 1, {"T": 8}) is None
    assert equal_from(T % 3, T % 2, {"T": 6}) == [Check(T % 3, "==", T % 2)]


def test_checks_as_json() -> None:
    for check in (Check(T % 2, "==", 0), Check(T * B - 3, ">", maximum(T // 2, B))):
        assert Check.from_json(check.to_json()) == check
