"""Sizes of axes: integers, or integer polynomials over named symbols in one canonical form.

Two equal expressions have one representation, so ``==`` and ``hash`` decide equality:

>>> b, s = symbol("B"), symbol("S")
>>> (b + 1) * s - s == b * s
True
>>> (4 * b * s) // 4
B*S
>>> (b * s) % s, s // 2
(0, (S//2))
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping


@dataclasses.dataclass(frozen=True)
class Func:
    """A term that is not polynomial: ``floordiv``, ``mod``, ``max`` or ``min`` of two sizes."""

    op: str
    args: tuple[DimLike, DimLike]

    def __str__(self) -> str:
        a, b = (_wrap(x) for x in self.args)
        if self.op == "floordiv":
            return f"{a}//{b}"
        if self.op == "mod":
            return f"{a}%{b}"
        return f"{self.op}({self.args[0]}, {self.args[1]})"


Monomial = tuple["str | Func", ...]


def _key(monomial: Monomial) -> tuple[int, tuple[str, ...]]:
    return (-len(monomial), tuple(str(atom) for atom in monomial))


@dataclasses.dataclass(frozen=True)
class Dim:
    """A symbolic size: a sum of ``coefficient * product of atoms``, never a plain integer."""

    terms: tuple[tuple[Monomial, int], ...]

    def __add__(self, other: DimLike) -> DimLike:
        return _build([*self.terms, *_terms(other)])

    __radd__ = __add__

    def __neg__(self) -> DimLike:
        return _build([(m, -c) for m, c in self.terms])

    def __sub__(self, other: DimLike) -> DimLike:
        return self + (-other)

    def __rsub__(self, other: DimLike) -> DimLike:
        return -self + other

    def __mul__(self, other: DimLike) -> DimLike:
        return _build(
            (tuple(sorted(m1 + m2, key=str)), c1 * c2)
            for m1, c1 in self.terms
            for m2, c2 in _terms(other)
        )

    __rmul__ = __mul__

    def __floordiv__(self, other: DimLike) -> DimLike:
        exact = _divide(self, other)
        return _floor(self, other) if exact is None else exact

    def __rfloordiv__(self, other: int) -> DimLike:
        return _func("floordiv", other, self)

    def __mod__(self, other: DimLike) -> DimLike:
        return _func("mod", self, other) if _divide(self, other) is None else 0

    def __rmod__(self, other: int) -> DimLike:
        return _func("mod", other, self)

    def __str__(self) -> str:
        text = ""
        for monomial, coefficient in self.terms:
            factors = [_wrap_atom(atom) for atom in monomial]
            if abs(coefficient) != 1 or not factors:
                factors.insert(0, str(abs(coefficient)))
            sign = "-" if coefficient < 0 else "+" if text else ""
            text += sign + "*".join(factors)
        return text

    __repr__ = __str__


DimLike = int | Dim


def symbol(name: str) -> Dim:
    """The size called `name`."""
    return Dim((((name,), 1),))


def maximum(a: DimLike, b: DimLike) -> DimLike:
    """The larger of two sizes; folded when both are integers or equal."""
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    return a if a == b else _func("max", a, b)


def minimum(a: DimLike, b: DimLike) -> DimLike:
    """The smaller of two sizes; folded when both are integers or equal."""
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b)
    return a if a == b else _func("min", a, b)


def product(dims: Iterable[DimLike]) -> DimLike:
    """The product of sizes, 1 for none."""
    result: DimLike = 1
    for dim in dims:
        result = result * dim
    return result


def multiple(dim: object, of: object) -> int | None:
    """How often the size `of` goes into `dim`, for every size of the symbols; None if it varies.

    >>> B, S = symbol("B"), symbol("S")
    >>> multiple(2 * B * S, B * S), multiple(2 * B, S), multiple(3 * B, 2 * B)
    (2, None, None)
    """
    if not isinstance(dim, Dim) or not isinstance(of, Dim):
        return None
    if [m for m, _ in dim.terms] != [m for m, _ in of.terms]:
        return None
    ratios = {
        (a // b, a % b) for (_, a), (_, b) in zip(dim.terms, of.terms, strict=True)
    }
    [(ratio, rest), *more] = ratios
    return ratio if not more and rest == 0 and ratio > 0 else None


def symbols(dim: object) -> set[str]:
    """Names of the symbols in a size."""
    found: set[str] = set()
    if isinstance(dim, Dim):
        for monomial, _ in dim.terms:
            for atom in monomial:
                if isinstance(atom, str):
                    found.add(atom)
                else:
                    found |= symbols(atom.args[0]) | symbols(atom.args[1])
    return found


def as_symbol(dim: object) -> str | None:
    """The symbol's name if `dim` is one symbol and nothing else."""
    if isinstance(dim, Dim) and len(dim.terms) == 1:
        monomial, coefficient = dim.terms[0]
        if coefficient == 1 and len(monomial) == 1 and isinstance(monomial[0], str):
            return monomial[0]
    return None


def evaluate(dim: DimLike, env: Mapping[str, DimLike]) -> DimLike:
    """Replace symbols by the sizes in `env`; symbols that it lacks stay.

    >>> evaluate(symbol("B") * 4 + symbol("S") // 2, {"B": 2, "S": 7})
    11
    """
    if isinstance(dim, int):
        return dim
    total: DimLike = 0
    for monomial, coefficient in dim.terms:
        value: DimLike = coefficient
        for atom in monomial:
            value = value * _evaluate_atom(atom, env)
        total = total + value
    return total


_OPERATIONS: dict[str, Callable[[DimLike, DimLike], DimLike]] = {
    "floordiv": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
    "max": maximum,
    "min": minimum,
}


def _evaluate_atom(atom: str | Func, env: Mapping[str, DimLike]) -> DimLike:
    if isinstance(atom, str):
        return env.get(atom, symbol(atom))
    a, b = (evaluate(x, env) for x in atom.args)
    return _OPERATIONS[atom.op](a, b)


def _terms(dim: DimLike) -> Iterable[tuple[Monomial, int]]:
    return dim.terms if isinstance(dim, Dim) else [((), dim)] if dim else []


def _build(terms: Iterable[tuple[Monomial, int]]) -> DimLike:
    sums: dict[Monomial, int] = {}
    for monomial, coefficient in terms:
        sums[monomial] = sums.get(monomial, 0) + coefficient
    kept = sorted(((m, c) for m, c in sums.items() if c), key=lambda t: _key(t[0]))
    if not kept:
        return 0
    if len(kept) == 1 and kept[0][0] == ():
        return kept[0][1]
    return Dim(tuple(kept))


def _func(op: str, a: DimLike, b: DimLike) -> Dim:
    return Dim((((Func(op, (a, b)),), 1),))


def _floor(a: Dim, b: DimLike) -> DimLike:
    """``a // b`` in canonical form: whole multiples of b stand outside, divisions are joined.

    >>> s = symbol("S")
    >>> (s - 10) // 5 + 1 == s // 5 - 1, ((s // 5) - 4) // 2 == s // 10 - 2
    (True, True)
    """
    if not isinstance(b, int) or b <= 0:
        return _func("floordiv", a, b)
    outside: list[tuple[Monomial, int]] = []
    inside: list[tuple[Monomial, int]] = []
    for monomial, coefficient in a.terms:
        if coefficient % b == 0:
            outside.append((monomial, coefficient // b))
        elif not monomial:
            outside.append((monomial, coefficient // b))
            inside.append((monomial, coefficient % b))
        else:
            inside.append((monomial, coefficient))
    rest = _build(inside)
    if isinstance(rest, int):
        return _build(outside) + rest // b
    nested = _single_floor(rest)
    if nested is not None:
        (numerator, divisor), offset = nested
        joined = numerator + offset * divisor
        return _build(outside) + joined // (divisor * b)
    return _build(outside) + _func("floordiv", rest, b)


def _single_floor(dim: Dim) -> tuple[tuple[DimLike, int], int] | None:
    """``x // c + k`` as ((x, c), k), if `dim` is that."""
    offset = 0
    found: tuple[DimLike, int] | None = None
    for monomial, coefficient in dim.terms:
        if not monomial:
            offset = coefficient
            continue
        atom = monomial[0] if len(monomial) == 1 and coefficient == 1 else None
        if found is not None or not isinstance(atom, Func) or atom.op != "floordiv":
            return None
        divisor = atom.args[1]
        if not isinstance(divisor, int):
            return None
        found = (atom.args[0], divisor)
    return None if found is None else (found, offset)


def _divide(a: DimLike, b: DimLike) -> DimLike | None:
    """The exact quotient, or None where the division is not known to be exact.

    Polynomial division by leading terms, in the order that the canonical form has.
    """
    divisor = list(_terms(b))
    if not divisor:
        return None
    lead, scale = divisor[0]
    quotient: DimLike = 0
    rest = a
    while rest != 0:
        monomial, coefficient = next(iter(_terms(rest)))
        remaining = list(monomial)
        for atom in lead:
            if atom not in remaining:
                return None
            remaining.remove(atom)
        if coefficient % scale:
            return None
        step = _build([(tuple(remaining), coefficient // scale)])
        quotient = quotient + step
        rest = rest - step * b
    return quotient


def _wrap(dim: DimLike) -> str:
    simple = isinstance(dim, int) or (len(dim.terms) == 1 and dim.terms[0][1] > 0)
    return str(dim) if simple else f"({dim})"


def _wrap_atom(atom: str | Func) -> str:
    infix = isinstance(atom, Func) and atom.op in ("floordiv", "mod")
    return f"({atom})" if infix else str(atom)
