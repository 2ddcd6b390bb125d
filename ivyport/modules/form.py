"""What a form of modules decides about an emitted file: its layers, classes and constructors."""

from __future__ import annotations

import ast
import dataclasses
import keyword
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from ivyport.backends import pyast
from ivyport.backends.language import Language
from ivyport.backends.pyast import Exprs
from ivyport.core.ir import Param
from ivyport.modules.blocks import Blocks
from ivyport.modules.formulas import Formula
from ivyport.modules.instances import LayerSpec, LeafRule, ParamSpec
from ivyport.modules.layout import Naming
from ivyport.weights.mapping import Row
from ivyport.weights.transform import Permute

if TYPE_CHECKING:
    from ivyport.modules.body import Body
    from ivyport.modules.custom import Part


#: What the weights of a layer start as, by their names in it, with the shapes of tables.
Starts = Mapping[str, tuple[Formula, ast.expr | None]]


class Writer(Protocol):
    """How a library's modules are written.

    Attributes:
        module_base: the class that every emitted class derives from.
        call_method: the method that a call of a module runs.
        classes: runtime classes that the expressions made so far need.
        at_birth: whether a module is frozen, and its weights get their start, by the call that
            makes it (`frozen`, `starts`); otherwise by statements after it.
        exprs: the expressions of the file, outside of its methods.
        modal: the emitted classes that are told by an argument whether they train.
    """

    module_base: str
    call_method: str
    classes: set[str]
    at_birth: bool
    exprs: Exprs
    modal: set[str]

    @property
    def blocks(self) -> Callable[[Body], Blocks]:
        """How loops and branches are written."""

    def layer(
        self, spec: LayerSpec, numbers: dict[str, ast.expr], starts: Starts
    ) -> ast.expr:
        """Constructor call of a native layer.

        `starts` says what its weights start as, with their shapes, where `starts_layers`.
        """

    def child(
        self, name: str, args: list[ast.expr], kwargs: dict[str, ast.expr]
    ) -> ast.expr:
        """Constructor call of an emitted class."""

    def list_of(self, items: ast.expr, trained: bool = False) -> ast.expr:
        """A container of modules, or of parameters if `trained`, from a list."""

    def dict_of(self, items: ast.expr, trained: bool = False) -> ast.expr:
        """The same from a dictionary."""

    def gap(self) -> ast.expr:
        """What holds a place in a list of modules."""

    def dropout(
        self, rate: ast.expr, broadcast: tuple[int, ...], always: bool
    ) -> ast.expr:
        """Constructor call of a dropout layer, which may drop in eval mode too."""

    def parameter(
        self,
        attr: str,
        param: Param,
        shape: ast.expr,
        frozen: bool = False,
        formula: Formula | None = None,
    ) -> ast.expr:
        """What ``self.<attr>`` is: a parameter of that shape, not trained if `frozen`.

        It starts as `formula` says, drawn without one; a frozen one whose formula is
        `formulas.UNKNOWN` cannot be read before weights were loaded.
        """

    def restart(self, param: ast.expr, formula: Formula, frozen: bool) -> ast.stmt:
        """A layer's parameter starts as ``full`` or ``eye`` say, or as one without values."""

    def freeze(self, module: ast.expr) -> ast.stmt:
        """No parameter of a module is trained."""

    def freeze_param(self, param: ast.expr) -> ast.stmt:
        """The parameter in an attribute is not trained."""

    def buffer(
        self, attr: str, param: Param, shape: ast.expr, formula: Formula | None
    ) -> ast.stmt:
        """``self.<attr>`` becomes a buffer of that shape.

        Without a formula it cannot be read before weights were loaded.
        """

    @property
    def modes(self) -> dict[str, ast.expr]:
        """Attributes that a class must set at first so that `training` can read them."""

    def stream(self) -> ast.expr | None:
        """A new stream of random keys, in a constructor; None where there are none."""

    def key(self) -> ast.expr | None:
        """A fresh random key, in a method; None where they are of a `stream`, or there are none."""

    def training(self) -> ast.expr:
        """What says in a method whether the model trains."""

    def update(
        self, buffer: ast.expr, new: ast.expr, *, trains: bool = False
    ) -> ast.stmt:
        """A buffer gets a new value, or a parameter (`trains`); no gradient flows through it."""

    def read(self, expr: ast.expr, param: Param) -> ast.expr:
        """The array in the attribute of a class's own parameter or buffer."""

    def weight(self, layer: ast.expr, spec: ParamSpec, param: Param) -> ast.expr:
        """The attribute of a native layer that holds a weight."""

    def transposed(self, exprs: Exprs, expr: ast.expr, spec: ParamSpec) -> ast.expr:
        """A layer's parameter in the source's own layout."""

    def function_name(self, name: str) -> str:
        """How a function with its own derivative is called where its name is free."""

    def call_of(self, name: str) -> ast.expr:
        """What is called to apply such a function."""

    def function(self, name: str, forward: Part, backward: Part) -> list[ast.stmt]:
        """The definition of such a function."""

    def constructor(
        self, name: str, body: list[ast.stmt], arguments: dict[str, str], config: bool
    ) -> list[ast.stmt]:
        """What makes the attributes of the class `name`: fields, ``__init__`` or its like.

        `arguments` are those beside the configuration, each with the name of its type.
        """

    def at_root(self) -> None:
        """The class that is written now is the model's own."""

    def frozen(self, made: ast.expr, parts: list[tuple[str, ...]]) -> ast.expr:
        """A constructor call whose module does not train; of `parts` alone if there are any."""


@dataclasses.dataclass(frozen=True)
class Form:
    """How modules of one library are written: what a target adds to its language.

    Attributes:
        language: how operations are written.
        imports: the statement that imports each root of a dotted name, beside the language's.
        leaf: which module calls are layers of the library's own.
        writer: how modules are written.
        layers: the module of helper classes and loading functions; loads the library.
        naming: which names its modules refuse; loads the library.
        load_file: the statement that imports safetensors' reader and writer.
        construct: the expression that builds the model ``cls``, with and without
            configuration.
        methods: the code of the methods that load and save, with and without configuration;
            ``{make}`` stands for `construct`.
        loading: the functions of `layers` that these call, which every file has.
        path: the name of a tensor in the weights' file, of its attribute path; the last argument
            says whether a native layer holds it.
        tail: the functions that make, load and save the model where its class has no `methods`,
            given the rows of its weights, its class, its configuration's, and whether the class
            is told if it trains.
        refused: names of arguments that its way to call a model has for itself.
        draws_biases: whether a layer's bias starts as a random draw.
    """

    language: Language
    imports: Mapping[str, str]
    leaf: LeafRule
    writer: Callable[[Exprs], Writer]
    layers: Callable[[], ModuleType]
    naming: Callable[[], Naming]
    load_file: str
    construct: tuple[str, str]
    methods: tuple[str, str]
    loading: tuple[str, ...]
    path: Callable[[str, Param, bool], str] = lambda path, param, native: path
    tail: Callable[[Sequence[Row], str, str | None, bool], list[ast.stmt]] | None = None
    refused: frozenset[str] = frozenset()
    draws_biases: bool = False


class BaseWriter:
    """What most libraries of modules write alike; a `Writer` says what is its own.

    Attributes:
        permute: the method that gives an array its axes in another order.
    """

    permute = "transpose"

    def __init__(self, exprs: Exprs) -> None:
        self.exprs = exprs
        self.classes: set[str] = set()
        self.modal: set[str] = set()

    def at_root(self) -> None:
        """Nothing more than any other class needs."""

    def gap(self) -> ast.expr:
        """A list may hold None."""
        return ast.Constant(None)

    @property
    def modes(self) -> dict[str, ast.expr]:
        """None: a class need not set anything to have a mode."""
        return {}

    def stream(self) -> ast.expr | None:
        """None: no module holds what is drawn from."""
        return None

    def key(self) -> ast.expr | None:
        """None: no key is handed to what draws."""
        return None

    def read(self, expr: ast.expr, param: Param) -> ast.expr:
        """``self.weight``: parameters are arrays."""
        return expr

    def weight(self, layer: ast.expr, spec: ParamSpec, param: Param) -> ast.expr:
        """``self.embed.weight``."""
        return pyast.attribute(layer, *spec.attr.split("."))

    def transposed(self, exprs: Exprs, expr: ast.expr, spec: ParamSpec) -> ast.expr:
        """A layer's parameter as the source lays it out."""
        for transform in reversed(spec.transforms):
            inverse = transform.inverse()
            assert isinstance(inverse, Permute)
            expr = (
                pyast.attribute(expr, "T")
                if inverse.axes == (1, 0)
                else exprs.method(expr, self.permute, *inverse.axes)
            )
        return expr

    def function_name(self, name: str) -> str:
        """``round_straight_through``."""
        return snake_case(name)

    def call_of(self, name: str) -> ast.expr:
        """The function's name."""
        return pyast.name(name)


def packed(results: Sequence[ast.expr | None]) -> ast.expr:
    """What a function returns: one result by itself, several as a tuple."""
    exprs = [r for r in results if r is not None]
    return exprs[0] if len(exprs) == 1 else pyast.tuple_of(exprs)


def snake_case(name: str) -> str:
    """``round_straight_through`` for ``RoundStraightThrough``.

    >>> snake_case("GradReverse"), snake_case("STE"), snake_case("ste_round")
    ('grad_reverse', 'ste', 'ste_round')
    """
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    found = re.sub(r"\W+", "_", parts).strip("_").lower()
    return (
        found if found.isidentifier() and not keyword.iskeyword(found) else "function"
    )


def parameters(arguments: Iterable[str], config: bool) -> list[ast.arg]:
    """``self, config, size`` of a constructor."""
    args = [ast.arg("self")]
    if config:
        args.append(ast.arg("config"))
    return args + [ast.arg(pyast.identifier(a)) for a in arguments]


_CONFIGURED = '''
@classmethod
def from_pretrained(cls, folder: str, changed: bool = False) -> "Model":
    """The model saved in `folder`, loaded strictly and in eval mode.

    With `changed`, files may be other ones than those that were saved.
    """
    files = saved_files(folder, changed)
    config = Config(
        **config_values(files, [field.name for field in dataclasses.fields(Config)])
    )
    return load_pretrained({make}, files)

def save_pretrained(self, folder: str) -> None:
    """Write the model to `folder`, for `from_pretrained` and for ivyport."""
    save_pretrained(self, folder, __file__, dataclasses.asdict(self.config))
'''
_PLAIN = '''
@classmethod
def from_pretrained(cls, folder: str, changed: bool = False) -> "Model":
    """The model saved in `folder`, loaded strictly and in eval mode.

    With `changed`, files may be other ones than those that were saved.
    """
    return load_pretrained({make}, saved_files(folder, changed))

def save_pretrained(self, folder: str) -> None:
    """Write the model to `folder`, for `from_pretrained` and for ivyport."""
    save_pretrained(self, folder, __file__, {{}})
'''
#: The methods of a form whose models hold their weights, and the functions that they call.
METHODS = (_CONFIGURED, _PLAIN)
LOADING = (
    "load_pretrained",
    "saved_files",
    "save_pretrained",
    "config_values",
    "write_pretrained",
)


def is_constant(expr: ast.expr, value: Any) -> bool:
    """Whether an expression is the literal of a value."""
    return isinstance(expr, ast.Constant) and expr.value == value
