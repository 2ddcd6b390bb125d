"""What bounds of sizes prove: whether a condition holds for all sizes within them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from fractions import Fraction

from ivyport.core.checks import Check, Line
from ivyport.core.dims import (
    Dim,
    DimLike,
    Func,
    as_symbol,
    evaluate,
    maximum,
    minimum,
    product,
    symbol,
    symbols,
)

Bounds = Mapping[str, tuple[int, int | None]]
_Interval = tuple[Fraction | None, Fraction | None]


def implied(check: Check, bounds: Bounds) -> bool:
    """Whether `check` is proved for all sizes within `bounds`; False where it is not known.

    >>> from ivyport.core.dims import symbol
    >>> t = symbol("T")
    >>> implied(Check(t // 2, "<=", t), {"T": (1, None)})
    True
    """
    a, b = check.left, check.right
    if check.relation == "==":
        return at_least(a, b, bounds) and at_least(b, a, bounds)
    if check.relation == "!=":
        return at_least(a, b + 1, bounds) or at_least(b, a + 1, bounds)
    larger, smaller = (b, a) if check.relation in ("<", "<=") else (a, b)
    strict = 1 if check.relation in ("<", ">") else 0
    return at_least(larger, smaller + strict, bounds)


def at_least(a: DimLike, b: DimLike, bounds: Bounds) -> bool:
    """Whether ``a >= b`` is proved within `bounds`."""
    rest = a - b
    low = Fraction(rest) if isinstance(rest, int) else _lowest(rest, bounds)
    if low is None and isinstance(rest, Dim):
        low = _lowest_factored(rest, bounds)
    # Sizes are integers: more than -1 is 0 or more.
    return low is not None and low > -1


def _lowest_factored(dim: Dim, bounds: Bounds) -> Fraction | None:
    """A lower bound of ``B*T - 2*B + 1``, which is one of ``B`` times one of ``T - 2``, and 1."""
    constant = sum(c for m, c in dim.terms if not m)
    common, inner = _common(dim - constant)
    if not common or isinstance(inner, int):
        return None
    outer, low = _product(common, bounds)[0], _lowest(inner, bounds)
    if outer is None or low is None or low <= -1:
        return None
    return outer * math.ceil(low) + constant


def _common(dim: DimLike) -> tuple[tuple[str, ...], DimLike]:
    """The sizes that all terms have as a factor, and the rest."""
    if isinstance(dim, int):
        return (), dim
    common: list[str] = []
    rest: DimLike = dim
    while isinstance(rest, Dim):
        first, *others = (m for m, _ in rest.terms)
        found = [a for a in first if isinstance(a, str) and all(a in m for m in others)]
        if not found:
            break
        common.append(found[0])
        rest = rest // symbol(found[0])
    return tuple(common), rest


def _lowest(dim: Dim, bounds: Bounds) -> Fraction | None:
    """A lower bound of a size; divisions are replaced by what they lie between."""
    terms = {monomial: Fraction(c) for monomial, c in dim.terms}
    for monomial, coefficient in list(terms.items()):
        (atom, *others) = monomial or ("",)
        if others or not isinstance(atom, Func) or atom.op != "floordiv":
            continue
        over, by = atom.args
        if not isinstance(by, int) or by <= 0:
            continue
        # over / by - (by - 1) / by <= over // by <= over / by
        del terms[monomial]
        share = coefficient / by
        slack = share * (by - 1) if share > 0 else Fraction(0)
        inner = over.terms if isinstance(over, Dim) else (((), over),)
        for m, c in inner:
            terms[m] = terms.get(m, Fraction(0)) + share * c
        terms[()] = terms.get((), Fraction(0)) - slack
    low = Fraction(0)
    for monomial, coefficient in terms.items():
        if not coefficient:
            continue
        least, most = _product(monomial, bounds)
        bound = least if coefficient > 0 else most
        if bound is None:
            return None
        low += coefficient * bound
    return low


def _product(monomial: tuple[str | Func, ...], bounds: Bounds) -> _Interval:
    least: Fraction | None = Fraction(1)
    most: Fraction | None = Fraction(1)
    for atom in monomial:
        low, high = _atom(atom, bounds)
        if low is None or low < 0:
            return None, None
        assert least is not None
        least *= low
        most = None if most is None or high is None else most * high
    return least, most


def _atom(atom: str | Func, bounds: Bounds) -> _Interval:
    if isinstance(atom, str):
        low, high = bounds.get(atom, (1, None))
        return Fraction(low), None if high is None else Fraction(high)
    one, two = atom.args
    a, b = _interval(one, bounds), _interval(two, bounds)
    if atom.op == "mod" and b[0] is not None and b[0] > 0:
        return Fraction(0), None if b[1] is None else b[1] - 1
    if atom.op == "floordiv" and a[0] is not None and a[0] >= 0 and (b[0] or 0) > 0:
        assert b[0] is not None
        least = Fraction(0) if b[1] is None else Fraction(a[0] // b[1])
        return least, None if a[1] is None else Fraction(a[1] // b[0])
    if atom.op == "max":
        lows = [x for x in (a[0], b[0]) if x is not None]
        most = None if a[1] is None or b[1] is None else max(a[1], b[1])
        return max(lows, default=None), most
    if atom.op == "min":
        highs = [x for x in (a[1], b[1]) if x is not None]
        fewest = None if a[0] is None or b[0] is None else min(a[0], b[0])
        return fewest, min(highs, default=None)
    return None, None


def _interval(dim: DimLike, bounds: Bounds) -> _Interval:
    if isinstance(dim, int):
        return Fraction(dim), Fraction(dim)
    low, negated = _lowest(dim, bounds), -dim
    high = _lowest(negated, bounds) if isinstance(negated, Dim) else Fraction(negated)
    return low, None if high is None else -high


def settled(dim: DimLike, bounds: Bounds) -> DimLike:
    """`dim` without the maxima and minima that bounds decide.

    >>> h = symbol("H")
    >>> settled(maximum(2 * (h // 2) - 1, 0) + 1, {"H": (2, None)})
    2*(H//2)
    """
    if isinstance(dim, int):
        return dim
    total: DimLike = 0
    for monomial, coefficient in dim.terms:
        factors = [_settled_atom(atom, bounds) for atom in monomial]
        total = total + coefficient * product(factors)
    return total


def _settled_atom(atom: str | Func, bounds: Bounds) -> DimLike:
    if isinstance(atom, str):
        return symbol(atom)
    a, b = (settled(x, bounds) for x in atom.args)
    if atom.op in ("max", "min"):
        first, second = (a, b) if atom.op == "max" else (b, a)
        if at_least(first, second, bounds):
            return a
        if at_least(second, first, bounds):
            return b
        return maximum(a, b) if atom.op == "max" else minimum(a, b)
    return a // b if atom.op == "floordiv" else a % b


def equal_from(a: DimLike, b: DimLike, sizes: Mapping[str, int]) -> list[Check] | None:
    """Conditions under which two sizes are equal, None where they differ for `sizes`.

    A lower bound where one is proved to do: ``max(2*(H//2)-1, 0)+1`` is ``2*(H//2)`` from 2 on.
    """
    if a == b:
        return []
    if evaluate(a, sizes) != evaluate(b, sizes):
        return None
    names = sorted(symbols(a) | symbols(b))
    for low in range(1, 5):
        bounds = dict.fromkeys(names, (low, None))
        one, two = settled(a, bounds), settled(b, bounds)
        if implied(Check(one, "==", two), bounds):
            more = [Check(symbol(name), ">=", low) for name in names]
            return more if low > 1 else []
    return [Check(a, "==", b)]


@dataclasses.dataclass(frozen=True)
class Reduced:
    """Conditions in their shortest form.

    `bounds` are of each symbol; `multiples` the number that divides it, where that is not 1;
    `checks` say all of it, bounds first, and nothing twice.
    """

    bounds: dict[str, tuple[int, int | None]]
    multiples: dict[str, int]
    checks: list[Check]

    def same(self, a: DimLike, b: DimLike) -> bool:
        """Whether two sizes are proved equal under the conditions."""
        if a == b:
            return True
        a, b = (self._plain(x) for x in (a, b))
        return a == b or implied(Check(a, "==", b), self._bounds())

    def _plain(self, dim: DimLike) -> DimLike:
        return settled(evaluate(dim, self._parts()), self._bounds())

    def _parts(self) -> dict[str, DimLike]:
        """Each size that has a divisor as a multiple of it."""
        return {name: n * symbol(name) for name, n in self.multiples.items()}

    def _bounds(self) -> dict[str, tuple[int, int | None]]:
        found = {}
        for name, (low, high) in self.bounds.items():
            n = self.multiples.get(name, 1)
            found[name] = -(-low // n), None if high is None else high // n
        return found

    def follows(self, check: Check, other: Check) -> bool:
        """Whether `check` holds where `other` does, for both are bounds of one sum."""
        if not {check.relation, other.relation} <= _FLIPPED.keys():
            return False
        slack = _slack(check) - _slack(other)
        return at_least(self._plain(slack), 0, self._bounds())

    def implies(self, check: Check) -> bool:
        """Whether `check` holds wherever these conditions do."""
        left, right = self._plain(check.left), self._plain(check.right)
        return implied(Check(left, check.relation, right), self._bounds())


def reduced(checks: Iterable[Check], names: Iterable[str]) -> Reduced:
    """The conditions `checks` on the sizes `names`, each of which is 1 or more."""
    bounds: dict[str, tuple[int, int | None]] = dict.fromkeys(names, (1, None))
    lines: dict[tuple[str, str], Line | None] = {}
    multiples: dict[str, int] = {}
    rest: dict[tuple[DimLike, str, DimLike], Check] = {}
    plain = [p for check in checks for p in _normal(check)]
    # Whether a size that is not 3 is more than 3 shows when the other bounds are known.
    for check in sorted(plain, key=lambda c: c.relation == "!="):
        if _tighten(check, bounds, lines):
            continue
        multiple = _multiple(check)
        if multiple is not None:
            multiples[multiple[0]] = math.lcm(
                multiples.get(multiple[0], 1), multiple[1]
            )
            lines.setdefault((multiple[0], "%"), check.line)
        else:
            rest.setdefault((check.left, check.relation, check.right), check)
    for key, check in list(rest.items()):
        left, right = settled(check.left, bounds), settled(check.right, bounds)
        plain = _normal(Check(left, check.relation, right, check.line))
        if all(_tighten(c, bounds, lines) for c in plain):
            del rest[key]
    for name, n in multiples.items():
        low, high = bounds[name]
        bounds[name] = n * -(-low // n), None if high is None else n * (high // n)
    found = Reduced(bounds, multiples, [])
    for name, (low, high) in bounds.items():
        size = symbol(name)
        if low == high:
            found.checks.append(Check(size, "==", low, lines.get((name, ">="))))
            continue
        if low > max(1, multiples.get(name, 1)):
            found.checks.append(Check(size, ">=", low, lines.get((name, ">="))))
        if high is not None:
            found.checks.append(Check(size, "<=", high, lines.get((name, "<="))))
    for name, n in multiples.items():
        if bounds[name][0] != bounds[name][1]:
            found.checks.append(Check(symbol(name) % n, "==", 0, lines[name, "%"]))
    open_ = [c for c in rest.values() if not found.implies(c)]
    found.checks.extend(c for c in open_ if not _covered(c, open_, found))
    return found


def by_mode(evaluated: Reduced, both: Reduced) -> list[Check]:
    """The checks of a port: of every call, and those that train mode adds to them."""
    known = evaluated.checks
    more = [
        dataclasses.replace(check, trained=True)
        for check in both.checks
        if not evaluated.implies(check)
        and not any(_same(check, c) or evaluated.follows(check, c) for c in known)
    ]
    return [*known, *more]


def _same(one: Check, other: Check) -> bool:
    return str(one) == str(other)


def _covered(check: Check, others: list[Check], known: Reduced) -> bool:
    """Whether another of the conditions says as much: ``B*T < 50`` says ``B*T <= 60`` too."""
    for other in others:
        if other is check:
            break
        if known.follows(check, other):
            return True
    later = others[others.index(check) + 1 :]
    return any(known.follows(check, o) and not known.follows(o, check) for o in later)


def _normal(check: Check) -> list[Check]:
    """The same condition without common factors; several that say what it says."""
    rest = check.left - check.right
    _, inner = _common(rest)
    if inner != rest:
        # Sizes are more than 0: B*T >= 2*B says that T >= 2.
        return _normal(Check(inner, check.relation, 0, check.line))
    if check.relation == "==" and isinstance(rest, Dim):
        pin = _pinned(rest)
        if pin is not None:
            over, by, value = pin
            low = Check(over, ">=", value * by, check.line)
            return [low, Check(over, "<=", value * by + by - 1, check.line)]
        divided = _divisible(rest)
        if divided is not None:
            return [Check(divided[0] % divided[1], "==", 0, check.line)]
    if check.relation in _FLIPPED and isinstance(rest, Dim):
        bound = _without_division(rest, check.relation)
        if bound is not None:
            return _normal(Check(*bound, check.line))
    return [balanced(check)]


def _without_division(rest: Dim, relation: str) -> tuple[DimLike, str, int] | None:
    """``c * (over // by) + d >= 0`` as a bound of `over`; likewise for the other relations."""
    constant = sum(c for m, c in rest.terms if not m)
    varying = [(m, c) for m, c in rest.terms if m]
    if len(varying) != 1 or len(varying[0][0]) != 1:
        return None
    ((atom,), factor) = varying[0]
    if not isinstance(atom, Func) or atom.op != "floordiv":
        return None
    over, by = atom.args
    if not isinstance(by, int) or by <= 0:
        return None
    relation = relation if factor > 0 else _FLIPPED[relation]
    edge = Fraction(-constant, factor)
    if relation in (">", ">="):
        least = math.floor(edge) + 1 if relation == ">" else math.ceil(edge)
        return over, ">=", least * by
    most = math.ceil(edge) - 1 if relation == "<" else math.floor(edge)
    return over, "<=", most * by + by - 1


def sides(rest: DimLike) -> tuple[DimLike, DimLike]:
    """What is added and what is subtracted in a size: ``(L + 1, 12)`` for ``L - 12 + 1``.

    >>> sides(symbol("L") - 2 * symbol("B"))
    (L, 2*B)
    """
    plus: DimLike = 0
    minus: DimLike = 0
    for monomial, coefficient in rest.terms if isinstance(rest, Dim) else [((), rest)]:
        term = Dim(((monomial, abs(coefficient)),)) if monomial else abs(coefficient)
        if coefficient > 0:
            plus = plus + term
        else:
            minus = minus + term
    return plus, minus


def balanced(check: Check) -> Check:
    """The same condition without subtraction: ``L + R >= 12`` for ``R >= -L + 12``."""
    left, right = sides(check.left - check.right)
    relation = check.relation
    if isinstance(left, int):
        left, right = right, left
        relation = _FLIPPED.get(relation, relation)
    return Check(left, relation, right, check.line)


def _pinned(rest: Dim) -> tuple[DimLike, int, int] | None:
    """``over // by - value`` as its three parts."""
    constant = sum(c for m, c in rest.terms if not m)
    varying = [(m, c) for m, c in rest.terms if m]
    if len(varying) != 1 or len(varying[0][0]) != 1 or abs(varying[0][1]) != 1:
        return None
    ((atom,), sign) = varying[0]
    if not isinstance(atom, Func) or atom.op != "floordiv":
        return None
    over, by = atom.args
    if not isinstance(by, int) or by <= 0:
        return None
    return over, by, -constant * sign


def _divisible(rest: Dim) -> tuple[DimLike, DimLike] | None:
    """(a, b) where ``rest == 0`` says that b divides a: ``a % b``, ``a - b * (a // b)``."""
    if len(rest.terms) == 1:
        monomial, _ = rest.terms[0]
        atom = monomial[0] if len(monomial) == 1 else None
        if isinstance(atom, Func) and atom.op == "mod":
            return _without_common(*atom.args)
        return None
    for monomial, coefficient in rest.terms:
        for atom in monomial:
            if isinstance(atom, Func) and atom.op == "floordiv":
                over, by = atom.args
                others = list(monomial)
                others.remove(atom)
                share = coefficient * product(_size(x) for x in others)
                # share * (over // by) is all but -share * over / by, of a product > 0.
                if (rest - share * _size(atom)) * by == -share * over:
                    return over, by
    return None


def _size(atom: str | Func) -> Dim:
    return symbol(atom) if isinstance(atom, str) else Dim((((atom,), 1),))


def _without_common(a: DimLike, b: DimLike) -> tuple[DimLike, DimLike]:
    """a and b divided by what divides both; ``a % b == 0`` says the same of these."""
    if isinstance(a, Dim) and isinstance(b, Dim):
        common = [
            x for x in b.terms[0][0] if all(x in m for m, _ in (*a.terms, *b.terms))
        ]
        for atom in common:
            if isinstance(atom, str):
                a, b = a // symbol(atom), b // symbol(atom)
                return _without_common(a, b)
    factor = math.gcd(_content(a), _content(b))
    return (a // factor, b // factor) if factor > 1 else (a, b)


def _content(dim: DimLike) -> int:
    return abs(dim) if isinstance(dim, int) else math.gcd(*(c for _, c in dim.terms))


def _multiple(check: Check) -> tuple[str, int] | None:
    """(name, n) of ``name % n == 0``."""
    if check.relation != "==" or check.right != 0 or not isinstance(check.left, Dim):
        return None
    ((monomial, coefficient), *others) = check.left.terms
    atom = monomial[0] if len(monomial) == 1 and not others else None
    if coefficient != 1 or not isinstance(atom, Func) or atom.op != "mod":
        return None
    name, by = as_symbol(atom.args[0]), atom.args[1]
    return (name, by) if name is not None and isinstance(by, int) and by > 0 else None


def _tighten(
    check: Check,
    bounds: dict[str, tuple[int, int | None]],
    lines: dict[tuple[str, str], Line | None],
) -> bool:
    """Take a condition on one size, times a number, into its bounds; False for others."""
    rest = check.left - check.right
    if isinstance(rest, int) or len(symbols(rest)) != 1:
        return False
    varying = [(m, c) for m, c in rest.terms if m]
    if (
        len(varying) != 1
        or not isinstance(varying[0][0][0], str)
        or len(varying[0][0]) > 1
    ):
        return False
    ((name,), factor) = varying[0]
    assert isinstance(name, str)
    edge = Fraction(-sum(c for m, c in rest.terms if not m), factor)
    relation = (
        check.relation if factor > 0 else _FLIPPED.get(check.relation, check.relation)
    )
    low, high = bounds.get(name, (1, None))
    if relation == "!=":
        if edge == low:
            relation = ">"
        elif edge == high:
            relation = "<"
        else:
            return (
                edge.denominator != 1
                or edge < low
                or (high is not None and edge > high)
            )
    if relation in (">", ">=", "=="):
        least = math.floor(edge) + 1 if relation == ">" else math.ceil(edge)
        if least > low:
            low, lines[name, ">="] = least, check.line
    if relation in ("<", "<=", "=="):
        most = math.ceil(edge) - 1 if relation == "<" else math.floor(edge)
        if high is None or most < high:
            high, lines[name, "<="] = most, check.line
    bounds[name] = low, high
    return True


def _slack(check: Check) -> DimLike:
    """What is 0 or more where an inequality holds."""
    larger = check.relation in (">", ">=")
    rest = check.left - check.right if larger else check.right - check.left
    return rest - (1 if check.relation in ("<", ">") else 0)


_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
