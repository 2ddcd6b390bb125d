"""Building and printing Python syntax trees: the only way code is made here.

Rules never concatenate strings into code. Names are checked to be identifiers, and any other text
(a name from a checkpoint, say) can only become a string literal.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import keyword
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

from ivyport.backends.language import Language
from ivyport.core.dims import Dim, Func, symbol
from ivyport.core.dtype import lowest
from ivyport.core.errors import GraphError, IvyportError
from ivyport.core.ir import NewAxis, Node, Slice, TensorType, Value
from ivyport.core.ops_custom import CUSTOM_VJP, Function

LINE_LENGTH = 88
#: Dtypes whose limits have a name in every library.
_LIMITED = ("float16", "float32", "float64")
OMIT = object()  # as an argument of `call`: leave this argument out

BINARY = {
    "+": ast.Add,
    "-": ast.Sub,
    "*": ast.Mult,
    "/": ast.Div,
    "//": ast.FloorDiv,
    "%": ast.Mod,
    "**": ast.Pow,
    "@": ast.MatMult,
    "&": ast.BitAnd,
    "|": ast.BitOr,
    "^": ast.BitXor,
    "<<": ast.LShift,
    ">>": ast.RShift,
}
COMPARE = {
    "==": ast.Eq,
    "!=": ast.NotEq,
    "<": ast.Lt,
    "<=": ast.LtE,
    ">": ast.Gt,
    ">=": ast.GtE,
}
UNARY = {"-": ast.USub, "~": ast.Invert, "not": ast.Not}


class HoleInt(int):
    """An integer constant that the emitted class spells as an expression (`self.num_heads`)."""

    expr: ast.expr


class HoleFloat(float):
    """A float constant that the emitted class spells as an expression."""

    expr: ast.expr


def hole(value: int | float, expr: ast.expr) -> int | float:
    """`value`, which prints as `expr`; arithmetic on it gives plain numbers again."""
    made = HoleInt(value) if isinstance(value, int) else HoleFloat(value)
    made.expr = expr
    return made


def identifier(name: str) -> str:
    """`name` itself, if Python accepts it as a name; raises `GraphError` otherwise."""
    if not name.isidentifier() or keyword.iskeyword(name):
        raise GraphError(f"{name!r} is not a Python identifier")
    return name


def name(dotted: str) -> ast.expr:
    """``a.b.c`` as a tree of attributes."""
    first, *rest = dotted.split(".")
    expr: ast.expr = ast.Name(identifier(first), ast.Load())
    for part in rest:
        expr = ast.Attribute(expr, identifier(part), ast.Load())
    return expr


def attribute(expr: ast.expr, *names: str) -> ast.expr:
    """``expr.a.b``."""
    for part in names:
        expr = ast.Attribute(expr, identifier(part), ast.Load())
    return expr


def subscript(expr: ast.expr, index: ast.expr) -> ast.expr:
    """``expr[index]``."""
    return ast.Subscript(expr, index, ast.Load())


def assign(target: ast.expr | str, value: ast.expr) -> ast.stmt:
    """``target = value``."""
    left = name(target) if isinstance(target, str) else target
    return ast.Assign([_store(left)], value, lineno=0)


def stored(expr: ast.expr) -> ast.expr:
    """A name or a tuple of names as the target of a loop."""
    return _store(expr)


def function(
    name: str, arguments: Iterable[str], body: list[ast.stmt]
) -> ast.FunctionDef:
    """``def name(*arguments): ...``."""
    args = [ast.arg(identifier(a)) for a in arguments]
    signature = ast.arguments([], args, None, [], [], None, [])
    return ast.FunctionDef(
        identifier(name), signature, body or [ast.Pass()], [], lineno=0
    )


def _store(expr: ast.expr) -> ast.expr:
    if isinstance(expr, ast.Tuple):
        return ast.Tuple([_store(e) for e in expr.elts], ast.Store())
    if isinstance(expr, ast.Name):
        return ast.Name(expr.id, ast.Store())
    if isinstance(expr, ast.Attribute):
        return ast.Attribute(expr.value, expr.attr, ast.Store())
    if isinstance(expr, ast.Subscript):
        return ast.Subscript(expr.value, expr.slice, ast.Store())
    raise GraphError(f"cannot assign to {ast.dump(expr)}")


def tuple_of(items: Iterable[ast.expr]) -> ast.expr:
    """``(a, b)``."""
    return ast.Tuple(list(items), ast.Load())


def call(func: ast.expr, args: Iterable[ast.expr] = (), **kwargs: ast.expr) -> ast.Call:
    """``func(*args, **kwargs)``."""
    keywords = [ast.keyword(identifier(k), v) for k, v in kwargs.items()]
    return ast.Call(func, list(args), keywords)


def is_trivial(expr: ast.expr) -> bool:
    """Whether an expression may be repeated: names, attributes, constants."""
    while isinstance(expr, ast.Attribute | ast.Subscript):
        if isinstance(expr, ast.Subscript) and not isinstance(expr.slice, ast.Constant):
            return False
        expr = expr.value
    return isinstance(expr, ast.Name | ast.Constant)


@dataclasses.dataclass(frozen=True)
class Exprs:
    """Expressions of one language at one place of a file.

    A place is a method, and one operation in it: `within` gives the expressions of another place.
    Those of all places of a file collect what the file needs: `helpers`, `roots`, `functions`.

    Attributes:
        language: how operations are written.
        spell_dim: gives the variable of a symbolic size, None where the place has none.
        spell_device: gives a device to create tensors on (`x.device`), None for the default.
        training: what says whether the model trains (`self.training`), where the target
            has such a thing and the place can reach it.
        dropout_module: the layer that draws the operation's randomness, where it has one.
        stream: a fresh random key for an operation that draws in every mode, where it needs one.
        emitting: the operation that is emitted.
        pools: the module that has pools (``nnx``), where it is not the language's own.
        helpers: functions of the backend's `_rt.py` that the expressions made so far call.
        roots: modules whose names they use (`jnp`).
        functions: what is called for each function that has a derivative of its own.
    """

    language: Language
    spell_dim: Callable[[Dim], ast.expr | None] | None = None
    spell_device: Callable[[], ast.expr | None] | None = None
    training: ast.expr | None = None
    dropout_module: ast.expr | None = None
    stream: ast.expr | None = None
    emitting: Node | None = None
    pools: str | None = None
    helpers: set[str] = dataclasses.field(default_factory=set)
    roots: set[str] = dataclasses.field(default_factory=set)
    functions: dict[Function, ast.expr] = dataclasses.field(default_factory=dict)

    def within(self, **place: Any) -> Exprs:
        """The expressions of another place of the same file; `place` are attributes."""
        return dataclasses.replace(self, **place)

    @property
    def node(self) -> Node:
        """The operation that is emitted, for rules that look at types."""
        if self.emitting is None:
            raise GraphError("no operation is being emitted here")
        return self.emitting

    @property
    def rules(self) -> Mapping[str, Callable[..., Any]]:
        """How each operation is written."""
        return self.language.rules

    @property
    def runtime(self) -> ModuleType:
        """The module of helper functions that files copy."""
        return self.language.runtime()

    @property
    def dtype_prefix(self) -> str:
        """The module whose attributes are dtypes."""
        return self.language.dtypes

    @property
    def layers(self) -> str:
        """The module that has pools, empty where there is none."""
        return self.language.layers if self.pools is None else self.pools

    # ---- what rules look at

    def type(self, position: int) -> TensorType:
        """Type of the operand at `position`; it must be a tensor."""
        operand = self.node.inputs[position]
        if not isinstance(operand, Value):
            raise GraphError(f"operand {position} of {self.node.op} is no tensor")
        return operand.type

    @property
    def out(self) -> TensorType:
        """Type of the node's first result."""
        return self.node.outputs[0].type

    def device(self) -> Any:
        """The device of the tensors at hand, as an argument of what creates another."""
        spelled = self.spell_device() if self.spell_device else None
        return OMIT if spelled is None else spelled

    # ---- what rules build

    def const(self, value: Any) -> ast.expr:
        """A Python literal, a symbolic size, an index, or a tuple of these."""
        if isinstance(value, ast.expr):
            return value
        if isinstance(value, HoleInt | HoleFloat):
            return value.expr
        if isinstance(value, Dim):
            return self.dim(value)
        if isinstance(value, tuple):
            return tuple_of(self.const(v) for v in value)
        if isinstance(value, list):
            return ast.List([self.const(v) for v in value], ast.Load())
        if isinstance(value, float) and (value != value or abs(value) == float("inf")):
            infinite = self.name(
                self.dtype_prefix + (".nan" if value != value else ".inf")
            )
            return self.unary("-", infinite) if value < 0 else infinite
        if isinstance(value, float) and (named := self._named(value)) is not None:
            return named
        large = self.language.large
        if large is not None and type(value) is int and value >= 2**31:
            return self.call(large, ast.Constant(value))
        if isinstance(value, int | float) and not isinstance(value, bool) and value < 0:
            return self.unary("-", ast.Constant(-value))
        if value is None or isinstance(value, bool | int | float | str):
            return ast.Constant(value)
        raise GraphError(f"{value!r} ({type(value).__name__}) has no literal")

    def _named(self, value: float) -> ast.expr | None:
        """``jnp.finfo(jnp.float32).min``: the limits of the operation's own dtype by name."""
        dtype = self.emitting.outputs[0].type.dtype if self.emitting else ""
        if dtype not in _LIMITED or abs(value) != -lowest(dtype):
            return None
        limits = self.call(f"{self.dtype_prefix}.finfo", self.dtype(dtype))
        return attribute(limits, "min" if value < 0 else "max")

    def name(self, dotted: str) -> ast.expr:
        """A dotted name of an imported module: ``jnp.float32``."""
        self.roots.add(dotted.partition(".")[0])
        return name(dotted)

    def dtype(self, dtype: str) -> ast.expr:
        """The target's object for a dtype: ``jnp.float32``; bool is Python's."""
        return (
            name("bool")
            if dtype == "bool"
            else self.name(f"{self.dtype_prefix}.{dtype}")
        )

    def call(self, func: str | ast.expr, *args: Any, **kwargs: Any) -> ast.expr:
        """A call; Python values become literals, arguments that are `OMIT` are left out."""
        target = self.name(func) if isinstance(func, str) else func
        return call(
            target,
            [self.const(a) for a in args if a is not OMIT],
            **{k: self.const(v) for k, v in kwargs.items() if v is not OMIT},
        )

    def library(self, func: str, *args: Any, **kwargs: Any) -> ast.expr:
        """A call of a function of the array library: ``jnp.where(...)``."""
        return self.call(f"{self.dtype_prefix}.{func}", *args, **kwargs)

    def method(self, x: ast.expr, method: str, *args: Any, **kwargs: Any) -> ast.expr:
        """``x.method(...)``."""
        return self.call(attribute(x, method), *args, **kwargs)

    def rt(self, func: str, *args: Any, **kwargs: Any) -> ast.expr:
        """A call of a function in the backend's `_rt.py`, which is copied into the file."""
        if not inspect.isfunction(vars(self.runtime).get(func)):
            raise GraphError(f"{self.runtime.__name__} has no function {func!r}")
        self.helpers.add(func)
        return self.call(name(func), *args, **kwargs)

    def binary(self, operator: str, x: Any, y: Any) -> ast.expr:
        """``x + y``, ``x < y`` and the like."""
        left, right = self.const(x), self.const(y)
        if operator in COMPARE:
            return ast.Compare(left, [COMPARE[operator]()], [right])
        return ast.BinOp(left, BINARY[operator](), right)

    def unary(self, operator: str, x: Any) -> ast.expr:
        """``-x``, ``~x``."""
        return ast.UnaryOp(UNARY[operator](), self.const(x))

    def index(self, x: ast.expr, items: Iterable[Any]) -> ast.expr:
        """``x[1, :, None, 2:n]``; items are integers, sizes, Slice, NewAxis or expressions."""
        parts = [self._index_item(item) for item in items]
        return subscript(x, parts[0] if len(parts) == 1 else tuple_of(parts))

    def _index_item(self, item: Any) -> ast.expr:
        if isinstance(item, NewAxis):
            return ast.Constant(None)
        if isinstance(item, Slice):
            bounds = [
                None if b is None else self.const(b) for b in (item.start, item.stop)
            ]
            step = None if item.step == 1 else self.const(item.step)
            return ast.Slice(bounds[0], bounds[1], step)
        return self.const(item)

    def dim(self, dim: Dim) -> ast.expr:
        """A symbolic size, spelled by the enclosing function (``B``, ``x.shape[1]``)."""
        spelled = self.spell_dim(dim) if self.spell_dim else None
        if spelled is not None:
            return spelled
        total: ast.expr | None = None
        for monomial, coefficient in dim.terms:
            factors = [self._atom(atom) for atom in monomial]
            if abs(coefficient) != 1 or not factors:
                factors.insert(0, ast.Constant(abs(coefficient)))
            term = factors[0]
            for factor in factors[1:]:
                term = self.binary("*", term, factor)
            if total is None:
                total = self.unary("-", term) if coefficient < 0 else term
            else:
                total = self.binary("-" if coefficient < 0 else "+", total, term)
        if total is None:
            raise GraphError("an empty symbolic size")
        return total

    def _atom(self, atom: str | Func) -> ast.expr:
        if isinstance(atom, str):
            spelled = self.spell_dim(symbol(atom)) if self.spell_dim else None
            return name(atom) if spelled is None else spelled
        a, b = (self.const(x) for x in atom.args)
        if atom.op == "floordiv":
            return self.binary("//", a, b)
        if atom.op == "mod":
            return self.binary("%", a, b)
        return call(name(atom.op), [a, b])

    def emit(self, node: Node, operands: list[Any]) -> ast.expr:
        """The expression of one node, given its operands' expressions (None if absent)."""
        if node.op == CUSTOM_VJP:
            return call(self.functions[node.attrs["function"]], operands)
        if node.op not in self.rules:
            raise GraphError(f"{self.runtime.__package__} has no rule for {node.op!r}")
        here = self.within(emitting=node)
        return self.rules[node.op](here, *operands, **node.attrs)


Rule = Callable[..., Any]


def rule_table() -> tuple[dict[str, Rule], Callable[..., Callable[[Rule], Rule]]]:
    """An empty table of emission rules and the ``@emits("op")`` that fills it."""
    rules: dict[str, Rule] = {}

    def emits(*ops: str) -> Callable[[Rule], Rule]:
        def register(rule: Rule) -> Rule:
            for op in ops:
                if op in rules:
                    raise GraphError(f"two rules emit {op!r}")
                rules[op] = rule
            return rule

        return register

    return rules, emits


def helper_sources(runtime: ModuleType, used: Iterable[str]) -> list[ast.stmt]:
    """Definitions of the used functions and classes, and of those that they use, in order.

    What the runtime module defines goes before what its `PARTS` do. The nodes are the caller's own:
    each call makes new ones.
    """
    modules = (runtime, *getattr(runtime, "PARTS", ()))
    defined: dict[str, tuple[str, frozenset[str]]] = {}
    for module in modules:
        defined = {**defined, **_definitions(module), **defined}
    wanted: set[str] = set()
    pending = list(used)
    while pending:
        current = pending.pop()
        if current in wanted or current not in defined:
            continue
        wanted.add(current)
        pending += defined[current][1]
    return [
        node
        for k, (text, _) in defined.items()
        if k in wanted
        for node in ast.parse(text).body
    ]


@functools.cache
def _definitions(module: ModuleType) -> dict[str, tuple[str, frozenset[str]]]:
    """Each function and class of a module: its text, and the names that it reads."""
    source = inspect.getsource(module)
    lines = source.splitlines(keepends=True)
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            names = frozenset(n.id for n in ast.walk(node) if isinstance(n, ast.Name))
            found[node.name] = "".join(lines[first - 1 : node.end_lineno]), names
    return found


def arguments(names: list[str]) -> ast.arguments:
    """The parameters of a function that takes them by position."""
    args = [ast.arg(identifier(n)) for n in names]
    return ast.arguments([], args, None, [], [], None, [])


def repeated(expr: ast.expr, length: ast.expr) -> ast.expr:
    """``[expr for _ in range(length)]``."""
    loop = ast.comprehension(
        ast.Name("_", ast.Store()), call(name("range"), [length]), [], 0
    )
    return ast.ListComp(expr, [loop])


_COMMENT = re.compile(r"^(\s*)'#: (.*)'$")


def comment(text: str) -> ast.stmt:
    """A statement that prints as a comment line; `text` is one line of plain characters."""
    clean = re.sub(r"[^\w\s.,:;()\[\]*/+=<>@%-]", "_", text.replace("\n", " "))
    return ast.Expr(ast.Constant(f"#: {clean}"))


def unparse(body: list[ast.stmt]) -> str:
    """Source text of statements, formatted by ruff; deterministic.

    Raises:
        IvyportError: ruff is missing or refuses the code (a defect of the emitter).
    """
    module = ast.fix_missing_locations(ast.Module(body, []))
    lines = ast.unparse(module).split("\n")
    text = "\n".join(_COMMENT.sub(r"\1# \2", line) for line in lines) + "\n"
    return format_source(text)


def format_source(text: str) -> str:
    """`text` with sorted imports after ``ruff format``, lines of 88 columns."""
    options = ["--isolated", "--line-length", str(LINE_LENGTH)]
    options += ["--stdin-filename", "modeling.py", "-"]
    sorted_ = _ruff(["check", "--select", "I", "--fix-only", "--quiet", *options], text)
    return _ruff(["format", *options], sorted_)


def _ruff(arguments: list[str], text: str) -> str:
    command = [sys.executable, "-m", "ruff", *arguments]
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise IvyportError(f"ruff could not format the emitted source:\n{done.stderr}")
    return done.stdout
