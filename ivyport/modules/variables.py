"""The variables of one method: the only place that gives names and lets them be assigned.

A value is spelled in one of three ways: a variable holds it, an expression that is still to be
written stands for it (it is *pending*), or the class does (a parameter). One rule keeps what a
method computes: **a name is assigned only when nothing that is still to be written reads what it
holds.** Every assignment asks this authority for its names (`assign`, `local`, `take_over`), which

- refuses names that a later reader needs: an operation, a result, an update (`uses`), or an
  expression that is being written just now (`pinned`),
- and first binds every pending expression that reads the name to a variable of its own.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import keyword
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from ivyport.backends import pyast
from ivyport.core.ir import Value

# What emitted methods read and that is no variable of theirs.
RESERVED = frozenset({
    "self", "config", "rngs", "jax", "jnp", "nnx", "np", "bool", "max", "min", "range",
    "list", "int", "float", "slice", "lax", "keras", "torch", "nn", "F", "math", "super",
})  # fmt: skip


@dataclasses.dataclass
class Entry:
    """How a value is spelled now.

    `names` are the variables its expression reads, `state` the buffers among those that the method
    writes.
    """

    expr: ast.expr
    names: frozenset[str] = frozenset()
    bound: bool = True
    state: frozenset[Value] = frozenset()


class Variables:
    """Names, what they hold, and what is still to be read.

    Attributes:
        entries: how each value that was met is spelled.
        uses: how often each value is still to be read by what follows.
        holder: what each variable holds.
        sizes: variables of sizes, which are assigned once, at the head of the method.
    """

    def __init__(
        self,
        outside: Callable[[Value], ast.expr],
        hints: Callable[[Value], list[str]],
        write: Callable[[ast.stmt], None],
        written: Collection[Value] = (),
    ) -> None:
        """`outside` spells what no variable holds, `write` takes a finished statement.

        `written` are the buffers that the method writes, itself or by its calls.
        """
        self._written = frozenset(written)
        self._outside = outside
        self._hints = hints
        self._write = write
        self.entries: dict[Value, Entry] = {}
        self.uses: dict[Value, int] = {}
        self.holder: dict[str, Value] = {}
        self.sizes: set[str] = set()
        self._reserved = set(RESERVED)
        self._pins: list[Collection[str]] = []
        self._promised: set[str] = set()
        self._ever: set[str] = set()  # every name that was given

    # ---- values

    def entry(self, value: Value) -> Entry:
        """How `value` is spelled now."""
        if value not in self.entries:
            expr = self._outside(value)
            state = self._written & {value}
            self.entries[value] = Entry(expr, names_in(expr), state=state)
        return self.entries[value]

    def state(self, values: Iterable[Value]) -> frozenset[Value]:
        """The buffers among `values`, or read by their expressions, that the method writes."""
        found = [self.entry(v).state for v in values]
        return frozenset().union(*found)

    def needed(self, value: Value) -> bool:
        """Whether something that is still to be written reads `value`."""
        return self.uses.get(value, 0) > 0

    def count(self, values: Iterable[Value], by: int = 1) -> None:
        """`values` will be read once more each, or `by` times."""
        for value in values:
            self.uses[value] = self.uses.get(value, 0) + by

    def consume(self, values: Iterable[Value]) -> None:
        """One use of each value is spent."""
        self.count(values, -1)

    def pend(self, value: Value, expr: ast.expr, state: Collection[Value] = ()) -> None:
        """`expr` stands for `value` until it is written or bound.

        `state` are values that it reads: those of them that the method writes count.
        """
        read = self._written & frozenset(state)
        self.entries[value] = Entry(expr, names_in(expr), False, read)

    def before_write(self, buffers: Iterable[Value]) -> None:
        """Bind what still reads the present content of `buffers`, which are about to change."""
        changing = self._written & frozenset(buffers)
        for buffer in sorted(filter(self.needed, changing), key=lambda v: str(v.name)):
            self.entry(buffer)
        for value, entry in list(self.entries.items()):
            if entry.state & changing and self.needed(value):
                self.bind(value)

    def bind(self, value: Value) -> None:
        """Assign a pending value to a variable now."""
        entry = self.entries[value]
        entry.bound = True  # a name taken below must not bind this entry again
        self.assign([value], entry.expr)

    # ---- names

    def argument(self, value: Value, hints: Sequence[str]) -> str:
        """A name of its own for an argument, whether anything reads it or not."""
        with self.pinned(set(self.holder)):
            name = self._free(hints)
        self._hold(name, value)
        return name

    def reserve(self, base: str) -> str:
        """A name that nothing else in the method ever has."""
        with self.pinned(self._ever):
            name = self._free([base])
        self._reserved.add(name)
        self._ever.add(name)
        return name

    def refuse(self, names: Iterable[str]) -> None:
        """Never give these names."""
        self._reserved.update(names)

    def size(self, base: str) -> str:
        """A variable for a size; it is assigned at the head of the method."""
        name, count = base, 2
        while name in self._ever or name in self.holder:
            name, count = f"{base}{count}", count + 1
        self.sizes.add(name)
        self._ever.add(name)
        return name

    def assign(self, values: Sequence[Value], expr: ast.expr) -> None:
        """Write ``a, b = expr``, with ``_`` for results that nobody reads."""
        targets = [pyast.name(name) for name in self.take(values, expr)]
        self._write(pyast.assign(targets[0] if len(targets) == 1
                                 else pyast.tuple_of(targets), expr))  # fmt: skip

    def take(self, values: Sequence[Value], reads: ast.expr | None = None) -> list[str]:
        """Variables for values that one statement assigns from `reads`, all at once.

        What is bound on the way is written before the statement: it leaves alone the variables
        that `reads` reads.
        """
        own = frozenset() if reads is None else names_in(reads)
        taken: list[str] = []
        for value in values:
            needed = len(values) == 1 or self.needed(value)
            taken.append(self._take(value, own, taken) if needed else "_")
        return taken

    def local(self, hints: Sequence[str], beside: Collection[str] = ()) -> str:
        """A variable that holds no value of the graph, and is read by the next statement only.

        `beside` are names that the statement needs too.
        """
        while True:
            with self.pinned(beside):
                name = self._free(hints)
            if not self._bind_readers(name, beside):
                self.holder.pop(name, None)
                self._ever.add(name)
                return name

    def take_over(self, value: Value, name: str) -> None:
        """`value` is what the variable `name` holds from now on; its old value is gone."""
        self.clear(name)
        self._promised.discard(name)
        self._hold(name, value)

    def clear(self, name: str) -> None:
        """Bind what is pending and reads a variable that is about to change."""
        while self._bind_readers(name, (name,)):
            pass

    @contextlib.contextmanager
    def pinned(self, names: Collection[str]) -> Iterator[None]:
        """Names that no assignment inside may take."""
        self._pins.append(names)
        try:
            yield
        finally:
            self._pins.pop()

    def promise(self, name: str) -> None:
        """The variable will hold its value only later: `take_over` says when."""
        self._promised.add(name)

    def held_by(self, value: Value) -> str | None:
        """The variable that holds `value` now."""
        entry = self.entries[value]
        name = entry.expr.id if isinstance(entry.expr, ast.Name) else ""
        held = self.holder.get(name) is value and name not in self._promised
        return name if held else None

    def is_tensor(self, name: str) -> bool:
        """Whether the variable, once assigned, holds a tensor at this point."""
        return name not in self._promised

    # ---- parts of the above

    def _take(self, value: Value, reads: Collection[str], beside: list[str]) -> str:
        while True:
            with self.pinned(beside):
                name = self._free(self._hints(value))
            if not self._bind_readers(name, {*reads, *beside}):
                self._hold(name, value)
                return name

    def _bind_readers(self, name: str, reads: Collection[str]) -> bool:
        """Bind one pending expression that reads `name`, if there is one."""
        for other, entry in self.entries.items():
            if not entry.bound and name in entry.names and self.needed(other):
                with self.pinned(reads):
                    self.bind(other)
                return True
        return False

    def _hold(self, name: str, value: Value) -> None:
        self.holder[name] = value
        self._ever.add(name)
        self.entries[value] = Entry(pyast.name(name), frozenset({name}))

    def _free(self, hints: Sequence[str]) -> str:
        """The first hint that holds nothing still needed; numbered if there is none."""
        clean = [h for hint in hints if _variable(h := _plain(hint))] or ["x"]
        for hint in clean:
            if self._is_free(hint):
                return hint
        count = 2
        while not self._is_free(f"{clean[0]}_{count}"):
            count += 1
        return f"{clean[0]}_{count}"

    def _is_free(self, name: str) -> bool:
        if name in self._reserved or name in self.sizes:
            return False
        if any(name in pins for pins in self._pins):
            return False
        held = self.holder.get(name)
        return held is None or not self.needed(held)


def _plain(hint: str) -> str:
    """A hint as Python would read it as a name; those with ``_`` in front are not for values."""
    name = re.sub(r"\W", "_", unicodedata.normalize("NFKC", hint))
    return name.lstrip("_") or ("x" if name else "")


def _variable(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name)


def names_in(expr: ast.expr) -> frozenset[str]:
    """Variables that an expression reads."""
    return frozenset(n.id for n in ast.walk(expr) if isinstance(n, ast.Name))
