"""Reading arrays out of pickles without running them.

A pickle is a program: `pickle.load` imports and calls whatever the file names. Here the file's
opcodes are interpreted by a small machine of our own, which can build plain containers and numpy
arrays and has no way to import or call anything. A name that the file asks for (`GLOBAL`) becomes
an inert `Symbol`; the few symbols that stand for arrays, dtypes and mappings are replaced by what
they mean, and every other one is refused by name.

Opcodes: https://github.com/python/cpython/blob/3.11/Lib/pickletools.py
"""

from __future__ import annotations

import dataclasses
import math
import mmap
import os
import pickletools
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, cast

import ml_dtypes
import numpy as np

from ivyport.core.budget import VARIABLE, Budget, scale
from ivyport.core.errors import WeightsError
from ivyport.core.shown import LONGEST, shown

#: A container nested deeper than this is no checkpoint.
MAX_DEPTH = 64
#: Foreign names that an error lists.
MAX_LISTED = 20
#: Opcodes that are read in seconds: a checkpoint has some for each array.
MAX_STEPS = 500_000

_NUMPY_MODULES = ("numpy.core", "numpy._core")
# What is admitted: the names under which pickles of all numpy versions call it, and what it is
# to the machine below. haiku's mapping of old checkpoints is read as the dict that it wraps.
_ADMITTED: dict[tuple[str, str], str] = {
    **{(f"{m}.multiarray", "_reconstruct"): "reconstruct" for m in _NUMPY_MODULES},
    **{(f"{m}.multiarray", "scalar"): "scalar" for m in _NUMPY_MODULES},
    **{(f"{m}.numeric", "_frombuffer"): "frombuffer" for m in _NUMPY_MODULES},
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("ml_dtypes", "bfloat16"): "bfloat16",
    ("_codecs", "encode"): "encode",
    ("__builtin__", "bytes"): "no bytes",
    ("builtins", "bytearray"): "bytearray",
    ("__builtin__", "bytearray"): "bytearray",
    ("builtins", "dict"): "mapping",
    ("__builtin__", "dict"): "mapping",
    ("collections", "OrderedDict"): "mapping",
    ("haiku._src.data_structures", "FlatMapping"): "mapping",
    ("haiku._src.data_structures", "FlatMap"): "mapping",
    ("haiku._src.data_structures", "frozendict"): "mapping",
}


def load(path: str | os.PathLike[str]) -> Any:
    """What a pickle file holds: dicts, lists, tuples, texts, numbers and numpy arrays.

    Nothing in the file is executed and no module is imported for it. Mappings of haiku and
    OrderedDicts are read as dicts. Arrays may share memory with each other, and are read-only.

    Raises:
        WeightsError: the file is absent, truncated or no pickle; or it needs classes or
            functions that are not admitted, all of which are listed by name.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise WeightsError(f"{path} is empty")
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        warnings.catch_warnings(),
    ):
        # The parser warns of odd escapes in texts: of a damaged file, which is refused or read.
        warnings.simplefilter("ignore", DeprecationWarning)
        return _Machine(path, len(data)).run(data)


def _opcodes(data: mmap.mmap) -> Iterator[tuple[str, Any, int | None]]:
    """Name, argument and place of every opcode; none of them is acted on."""
    for opcode, argument, position in pickletools.genops(cast(IO[bytes], data)):
        yield opcode.name, argument, position


class _Refused(Exception):
    """An opcode or an argument that plain data does not have; the message says which."""


@dataclasses.dataclass(frozen=True)
class _Symbol:
    """A name that the file asks for; never looked up."""

    module: str
    name: str

    @property
    def role(self) -> str | None:
        return _ADMITTED.get((self.module, self.name))

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class _Foreign:
    """What a name that is not admitted would have made."""


@dataclasses.dataclass
class _DType:
    """A dtype in the making: its byte order comes after it."""

    dtype: np.dtype[Any]


@dataclasses.dataclass
class _Array:
    """An array in the making: its elements come after it."""

    array: np.ndarray | None = None


class _Machine:
    """The stack machine of a pickle, for plain data only."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.budget, self.steps = Budget(path, size), int(MAX_STEPS * scale())
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.foreign: dict[str, None] = {}

    def run(self, data: mmap.mmap) -> Any:
        position: int | None = 0
        try:
            for name, argument, position in _opcodes(data):  # noqa: B007
                if name == "STOP":
                    break
                self.steps -= 1
                if self.steps < 0:
                    raise _Refused(
                        f"over {MAX_STEPS} opcodes (set {VARIABLE}=10 to read ten times as "
                        "many)"
                    )
                self.step(name, argument)
            self.refuse_foreign()
            return _finished(self.pop(), 0, {})
        except _Refused as error:
            self.refuse_foreign()
            raise WeightsError(
                f"{self.path} is refused at byte {position}: {error}. Only numpy arrays, dtypes "
                f"and plain containers are read from a pickle. {_ADVICE}"
            ) from None
        except _BROKEN as error:
            self.refuse_foreign()
            raise WeightsError(
                f"{self.path} is truncated or no pickle (near byte {position}: "
                f"{shown(str(error))[1:-1]})"
            ) from None

    def refuse_foreign(self) -> None:
        if self.foreign:
            names = list(self.foreign)
            more = (
                f" and {len(names) - MAX_LISTED} more"
                if len(names) > MAX_LISTED
                else ""
            )
            raise WeightsError(
                f"{self.path} is refused: it asks for {', '.join(names[:MAX_LISTED])}{more}. "
                "Nothing of it was executed. Only numpy arrays, dtypes and plain containers are "
                f"read from a pickle. {_ADVICE}"
            )

    # ---- the machine

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise IndexError("the stack is empty")
        return self.stack.pop()

    def top(self, kind: type | tuple[type, ...]) -> Any:
        value = self.pop()
        self.stack.append(value)
        if not isinstance(value, kind):
            raise TypeError(f"a {_kind(value)} in the place of a container")
        return value

    def popped_mark(self) -> list[Any]:
        """What lies above the last mark."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def step(self, name: str, argument: Any) -> None:
        if name in _IGNORED:
            return
        self.budget.charge(_COSTS.get(name, 8))
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _LITERALS:
            self.budget.charge(sys.getsizeof(argument))
            self.stack.append(argument)
        elif name in _PUTS:
            self.memo[argument] = self.stack[-1]
        elif name in _GETS:
            self.stack.append(self.memo[argument])
        else:
            handler = _HANDLERS.get(name)
            if handler is None:
                raise _Refused(f"the opcode {name}, which {_reason(name)}")
            handler(self, argument)

    def mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def duplicate(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def drop(self, _: Any) -> None:
        # POP also takes a mark that has nothing above it.
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.pop()

    def drop_mark(self, _: Any) -> None:
        self.popped_mark()

    def make_tuple(self, size: int) -> None:
        items = [self.pop() for _ in range(size)]
        self.stack.append(tuple(reversed(items)))

    def mark_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self.popped_mark()))

    def mark_list(self, _: Any) -> None:
        self.stack.append(self.popped_mark())

    def mark_dict(self, _: Any) -> None:
        self.stack.append(_paired(self.popped_mark()))

    def append(self, _: Any) -> None:
        item = self.pop()
        self.extend([item])

    def appends(self, _: Any) -> None:
        self.extend(self.popped_mark())

    def extend(self, items: list[Any]) -> None:
        self.budget.charge(8 * len(items))
        target = self.top((list, _Foreign))
        if isinstance(target, list):
            target.extend(items)

    def set_item(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self.update([key, value])

    def set_items(self, _: Any) -> None:
        self.update(self.popped_mark())

    def update(self, items: list[Any]) -> None:
        self.budget.charge(64 * len(items))
        target = self.top((dict, _Foreign))
        if isinstance(target, dict):
            target.update(_paired(items))

    # ---- names and what they make

    def find(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.symbol(module, name)

    def find_on_stack(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError("a name that is no text")
        self.symbol(module, name)

    def symbol(self, module: str, name: str) -> None:
        symbol = _Symbol(module, name)
        if symbol.role is None:
            # Names are shown escaped: they can hold anything.
            self.foreign[ascii(str(symbol)[:LONGEST])[1:-1]] = None
            self.stack.append(_Foreign())
        else:
            self.stack.append(symbol)

    def reduce(self, _: Any) -> None:
        arguments, function = self.pop(), self.pop()
        self.stack.append(self.made(function, arguments))

    def new_object(self, _: Any) -> None:
        self.reduce(None)

    def new_object_ex(self, _: Any) -> None:
        keywords = self.pop()
        if keywords:
            raise _Refused("keyword arguments for a constructor")
        self.reduce(None)

    def instance(self, argument: str) -> None:
        items = self.popped_mark()
        self.find(argument)
        self.stack.append(self.made(self.pop(), tuple(items)))

    def object(self, _: Any) -> None:
        function, *items = self.popped_mark()
        self.stack.append(self.made(function, tuple(items)))

    def made(self, function: Any, arguments: Any) -> Any:
        if isinstance(function, _Foreign):
            return function
        if not isinstance(function, _Symbol) or not isinstance(arguments, tuple):
            raise _Refused(f"a call of a {_kind(function)}")
        if self.foreign:
            # The file is refused; what is made of foreign parts need not make sense.
            return _Foreign()
        make = _MAKERS.get(str(function.role))
        if make is None:
            raise _Refused(f"a call of {function}")
        self.budget.charge(_COST_OF_CALL + _copied(arguments))
        return make(*arguments)

    def build(self, _: Any) -> None:
        state = self.pop()
        target = self.pop()
        self.stack.append(target)
        if self.foreign:
            return
        if isinstance(target, _DType):
            _set_order(target, state)
        elif isinstance(target, _Array):
            self.budget.charge(_copied(state))
            _fill(target, state)
        elif isinstance(target, dict) and state in ({}, None):
            return
        else:
            raise _Refused(f"attributes for a {_kind(target)}")


_ADVICE = (
    "Where you trust the file, load it there and write it again as .npz: "
    "np.savez(path, **{f'params:{module}:{name}': array, ...})"
)
_IGNORED = frozenset({"PROTO", "FRAME"})
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}
_LITERALS = frozenset(
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT"}
    | {"BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE"}
    | {"SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
    | {"BYTEARRAY8"}
)
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_HANDLERS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "MEMOIZE": _Machine.memoize,
    "DUP": _Machine.duplicate,
    "POP": _Machine.drop,
    "POP_MARK": _Machine.drop_mark,
    "TUPLE": _Machine.mark_tuple,
    "TUPLE1": lambda machine, _: machine.make_tuple(1),
    "TUPLE2": lambda machine, _: machine.make_tuple(2),
    "TUPLE3": lambda machine, _: machine.make_tuple(3),
    "LIST": _Machine.mark_list,
    "DICT": _Machine.mark_dict,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "GLOBAL": _Machine.find,
    "STACK_GLOBAL": _Machine.find_on_stack,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.new_object,
    "NEWOBJ_EX": _Machine.new_object_ex,
    "INST": _Machine.instance,
    "OBJ": _Machine.object,
    "BUILD": _Machine.build,
}


#: What an opcode makes, in bytes; nearly all else is a pointer.
_COSTS = {
    **dict.fromkeys(("EMPTY_LIST", "LIST", "EMPTY_DICT", "DICT"), 72),
    **dict.fromkeys(("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"), 72),
    **dict.fromkeys((*_PUTS, "MEMOIZE"), 100),
    **dict.fromkeys(("GLOBAL", "STACK_GLOBAL", "INST"), 200),
}
_COST_OF_CALL = 200
#: What the opcodes' parser and numpy raise for bytes that make no sense.
_BROKEN = (
    *(ValueError, TypeError, IndexError, KeyError, OverflowError),
    *(SyntaxError, AttributeError, RecursionError, NotImplementedError),
)


def _copied(value: Any) -> int:
    """Bytes of texts, and elements of containers, that a call with these arguments may copy."""
    if not isinstance(value, tuple):
        return 0
    parts = [x for x in value if isinstance(x, str | bytes | list | tuple | dict)]
    return 8 * len(value) + sum(
        len(x) if isinstance(x, str | bytes) else 100 * len(x) for x in parts
    )


def _reason(name: str) -> str:
    if "PERSID" in name:
        return "asks the reader for an object of its own"
    if name.startswith("EXT"):
        return "asks for a class by a number"
    return "no plain data needs"


def _kind(value: Any) -> str:
    return str(value) if isinstance(value, _Symbol) else type(value).__name__.strip("_")


def _paired(items: list[Any]) -> dict[Any, Any]:
    keys, values = items[::2], items[1::2]
    if len(keys) != len(values):
        raise ValueError("a mapping with a key and no value")
    for key in keys:
        if not isinstance(key, str | int | float | bytes | None | _Foreign):
            raise _Refused(f"a {_kind(key)} as a mapping's key")
        # Python finds larger ones slowly where many are made for that.
        if isinstance(key, int) and abs(key) >= 2**60:
            raise _Refused("an integer of over 60 bits as a mapping's key")
    return dict(zip(keys, values, strict=True))


# ---- the makers: what an admitted name does with its arguments


def _make_mapping(items: Any = ()) -> dict[Any, Any]:
    if isinstance(items, dict):
        return dict(items)
    flat: list[Any] = []
    for pair in _checked(items, (list, tuple), "a mapping's items"):
        key, value = _checked(pair, (list, tuple), "a mapping's item")
        flat += [key, value]
    return _paired(flat)


def _make_bytes(text: Any, encoding: Any) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise _Refused(f"bytes encoded as {encoding!r}")
    return str(_checked(text, (str,), "encoded bytes")).encode("latin-1")


def _make_no_bytes() -> bytes:
    """What the protocols before 3 write for empty bytes: a call without arguments."""
    return b""


def _make_bytearray(data: Any = b"", encoding: Any = None) -> bytes:
    return _bytes(data) if encoding is None else _make_bytes(data, encoding)


def _make_dtype(name: Any, align: Any = False, copy: Any = True) -> _DType:
    del align, copy
    if isinstance(name, _Symbol) and name.role == "bfloat16":
        return _DType(np.dtype(ml_dtypes.bfloat16))
    if not isinstance(name, str) or not _DTYPE.fullmatch(name):
        said = f" {shown(name)}" if isinstance(name, str) else ""
        raise _Refused(f"a dtype of a {_kind(name)}{said}")
    return _DType(_plain(np.dtype(name)))


_DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|c8|c16|\?|[bBhHiIlLqQefdgFD])")


def _plain(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind not in "biufc" or dtype.hasobject or dtype.names:
        raise _Refused(f"an array of dtype {dtype}")
    return dtype


def _set_order(target: _DType, state: Any) -> None:
    order = _checked(state, (tuple,), "a dtype's state")[1]
    if order not in ("<", ">", "|", "="):
        raise _Refused(f"a dtype of byte order {shown(order)}")
    if order in "<>" and target.dtype.kind in "biufc":
        target.dtype = target.dtype.newbyteorder(order)


def _make_empty(cls: Any, shape: Any, code: Any) -> _Array:
    # The shape and dtype given here are placeholders: the state has the real ones.
    del shape, code
    if not isinstance(cls, _Symbol) or cls.role != "ndarray":
        raise _Refused(f"an array of class {_kind(cls)}")
    return _Array()


def _fill(target: _Array, state: Any) -> None:
    _, shape, dtype, fortran, data = _checked(state, (tuple,), "an array's state")
    target.array = _array(data, dtype, shape, "F" if fortran else "C")


def _make_from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    if order not in ("C", "F"):
        raise _Refused(f"an array of order {order!r}")
    return _Array(_array(data, dtype, shape, order))


def _make_scalar(dtype: Any, data: Any) -> Any:
    return _array(data, dtype, (), "C")[()]


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, _DType):
        raise _Refused(f"an array whose dtype is a {_kind(dtype)}")
    raw = _bytes(data)
    sizes = [
        _checked(size, (int,), "a shape")
        for size in _checked(shape, (tuple,), "a shape")
    ]
    if len(sizes) > 64 or any(not 0 <= size < 2**63 for size in sizes):
        raise ValueError("an array of a shape that no array has")
    expected = math.prod(sizes) * dtype.dtype.itemsize
    if expected != len(raw):
        raise ValueError(f"an array of shape {tuple(sizes)} in {len(raw)} bytes")
    flat = np.frombuffer(raw, dtype.dtype)
    native = flat.astype(dtype.dtype.newbyteorder("="), copy=False)
    result = native.reshape(sizes, order=order)
    result.setflags(write=False)
    return result


def _bytes(data: Any) -> bytes:
    if isinstance(data, str):  # of Python 2, whose texts were bytes
        return data.encode("latin-1")
    return bytes(_checked(data, (bytes, bytearray), "an array's elements"))


def _checked(value: Any, kinds: tuple[type, ...], what: str) -> Any:
    if not isinstance(value, kinds):
        raise _Refused(f"{what} given as a {_kind(value)}")
    return value


_MAKERS: dict[str, Callable[..., Any]] = {
    "mapping": _make_mapping,
    "encode": _make_bytes,
    "no bytes": _make_no_bytes,
    "bytearray": _make_bytearray,
    "dtype": _make_dtype,
    "reconstruct": _make_empty,
    "frombuffer": _make_from_buffer,
    "scalar": _make_scalar,
}


def _finished(value: Any, depth: int, seen: dict[int, Any]) -> Any:
    """`value` with the arrays in the place of what they were made in."""
    if depth > MAX_DEPTH:
        raise _Refused(f"containers nested deeper than {MAX_DEPTH}")
    if isinstance(value, _Array):
        if value.array is None:
            raise ValueError("an array without elements")
        return value.array
    if isinstance(value, _DType):
        return value.dtype
    if isinstance(value, _Symbol | _Foreign):
        raise _Refused(f"the bare name {_kind(value)}")
    if not isinstance(value, dict | list | tuple):
        return value
    if id(value) not in seen:
        # Each container once, however often it is shared.
        items: Iterable[Any] = value.values() if isinstance(value, dict) else value
        done = [_finished(item, depth + 1, seen) for item in items]
        if isinstance(value, dict):
            seen[id(value)] = dict(zip(value, done, strict=True))
        else:
            seen[id(value)] = type(value)(done)
    return seen[id(value)]
