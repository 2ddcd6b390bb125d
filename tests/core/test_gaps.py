"""The report of operations that cannot be lowered."""

from __future__ import annotations

from ivyport.core.gaps import NO_RULE, Gap, report


def test_the_most_frequent_come_first_and_ties_in_order_of_their_names() -> None:
    gaps = [Gap("svd", "b", NO_RULE), Gap("fft", "a", NO_RULE)]
    gaps += [Gap("lu", place, "of complex numbers") for place in "ab"]
    assert report(gaps) == (
        "3 operations of this model cannot be ported yet:\n"
        "     2 x lu: of complex numbers\n"
        "           in a\n"
        "           in b\n"
        "     1 x fft\n"
        "           in a\n"
        "     1 x svd\n"
        "           in b\n"
        "Write those lines with other operations, or port the modules around them."
    )
    swapped = [gaps[1], gaps[0], *gaps[2:]]
    assert report(swapped) == report(gaps)


def test_one_operation_at_many_places() -> None:
    def gaps(places: str) -> list[Gap]:
        return [Gap("fft", place, NO_RULE) for place in places]

    assert report(gaps("aaa")) == (
        "1 operation of this model cannot be ported yet:\n"
        "     3 x fft\n"
        "           in a\n"
        "Write that line with other operations, or port the modules around it."
    )
    assert "in c\n           in ... and 1 more place\n" in report(gaps("abcd"))
    assert "in c\n           in ... and 2 more places\n" in report(gaps("abcde"))
