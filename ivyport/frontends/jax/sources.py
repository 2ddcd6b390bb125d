"""The sources of this frontend behind one interface: parameters, buffers, inputs, `call`.

`open_source` accepts what users hold: a haiku transformed function with its parameters, a linen
module with its variables, a live NNX module, or a plain function. A `Source` names every array
and runs the source on arrays that are given by these names, traced or not.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ivyport.core.errors import InputError, SourceError
from ivyport.frontends.jax import pytrees
from ivyport.frontends.jax.mismatch import Trees, demand_equal
from ivyport.frontends.jax.scopes import Path, ScopeTable
from ivyport.frontends.jax.structure import closed, is_array, opened
from ivyport.frontends.nested import Given, leaf_names, qualified_name, refill

Arrays = dict[str, Any]

# Arguments that say whether the source trains, and their value in training.
TRAIN_ARGUMENTS = {
    "is_training": True,
    "train": True,
    "training": True,
    "deterministic": False,
}
KEY_ARGUMENTS = ("rng", "key", "prng_key", "rng_key", "dropout_rng", "dropout_key")


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A tensor of the source: its own full name, its module, and its name there.

    A `frozen` one is held as a buffer, because the source does not train it, and is a weight.
    """

    path: str
    module: Path
    name: str
    kind: str  # "parameter" or "buffer"
    frozen: bool = False


class Source(abc.ABC):
    """A source with its arrays.

    Attributes:
        kind: ``haiku``, ``flax.linen``, ``flax.nnx`` or ``jax``.
        name: what the port is called.
        cls: qualified name of the class, or of the function.
        parameters: trained arrays by the source's own full names.
        buffers: other state by such names.
        names: of the arrays in the arguments, keys among them, in order.
        inputs: example arrays by the names of the function's arguments (``x``, ``pair_0``).
        leaves: for each parameter and buffer where it is held.
        train_argument: the Boolean argument that says whether to train, or None.
        has_train: whether train mode can differ from eval mode.
        ignored: parameters whose new values make no difference, and are left out.
        notes: what a port does not keep of how the source holds its arrays.
    """

    kind: str

    def __init__(
        self,
        name: str,
        cls: str,
        function: Callable[..., Any],
        signature: inspect.Signature,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        rng: Any = None,
    ) -> None:
        self.name = name
        self.cls = cls
        self.function = function
        self.signature = signature
        self.rng = as_key(rng)
        self.parameters: Arrays = {}
        self.buffers: Arrays = {}
        self.leaves: dict[str, Leaf] = {}
        self.train_argument = _train_argument(signature)
        self.has_train = self.train_argument is not None
        self.ignored: set[str] = set()
        self.notes: list[str] = []
        self._positions = len(args)
        bound = _bind(name, signature, args, kwargs, self.train_argument)
        self.arguments = {k: opened(name, k, value) for k, value in bound.items()}
        self.names: list[str] = []  # of the arrays in the arguments, in order
        self.inputs, self.keys = self._named_inputs()

    # ---- what each kind of source implements

    @abc.abstractmethod
    def run(
        self, parameters: Arrays, buffers: Arrays, bound: Bound, train: bool, rng: Any
    ) -> tuple[Any, Arrays]:
        """The outputs, and the buffers as the call leaves them; parameters where it may write."""

    def hold(self, paths: Iterable[str]) -> None:
        """Take parameters for state of the model: the call writes them, and nothing trains them."""
        for path in paths:
            self.leaves[path] = dataclasses.replace(self.leaves[path], kind="buffer")
            self.buffers[path] = self.parameters.pop(path)

    def refuse_memory(self, train: bool) -> None:
        """Raise TraceError where the call that was just traced remembers earlier ones."""
        del train

    def repeats(self, paths: Collection[str]) -> bool:
        """Whether what a call writes to these parameters changes no result of the next one."""
        del paths
        return False

    @property
    def settled(self) -> bool:
        """Whether it is known which parameters a call writes."""
        return True

    def marks(self, table: ScopeTable) -> contextlib.AbstractContextManager[None]:
        """While it is active, module calls are recorded in `table`."""
        del table
        return contextlib.nullcontext()

    def shapes(self) -> Trees:
        """The shapes that its init makes and those that were given, for what can differ."""
        return {}

    @property
    def needs_key(self) -> bool:
        """Whether the source cannot run without a key: it has key arguments."""
        return bool(self.keys)

    # ---- what they share

    def check(self) -> None:
        """Compare parameters and state with what the function asks for.

        Raises:
            InputError: listing every difference.
        """
        demand_equal(self.name, self.shapes())

    def call(
        self,
        parameters: Mapping[str, Any],
        inputs: Mapping[str, Any],
        train: bool = False,
        rng: Any = None,
    ) -> Any:
        """The source's outputs, in its own structure.

        `parameters` may name buffers too; what is not named has the source's own value.
        `rng` is a key, a seed or None (the source's own).
        """
        known = {k: v for k, v in parameters.items() if k in self.parameters}
        state = {k: v for k, v in parameters.items() if k in self.buffers}
        if len(known) + len(state) != len(parameters):
            foreign = sorted(set(parameters) - set(known) - set(state))
            raise InputError(f"{self.name} has no tensors {', '.join(foreign)}")
        return self.apply(known, state, inputs, train=train, rng=rng)[0]

    def apply(
        self,
        parameters: Mapping[str, Any],
        buffers: Mapping[str, Any],
        inputs: Mapping[str, Any],
        *,
        train: bool = False,
        rng: Any = None,
    ) -> tuple[Any, Arrays]:
        """The outputs and the new buffers; absent arrays have the source's own values."""
        key = self.rng if rng is None else as_key(rng)
        return self.run(
            {**self.parameters, **parameters},
            {**self.buffers, **buffers},
            self.bind({**self.inputs, **inputs}, train, key),
            train,
            key,
        )

    def trains(self) -> dict[str, bool]:
        """Which modules are in train mode, by path, where modules have modes."""
        return {}

    def bind(self, inputs: Mapping[str, Any], train: bool, key: Any) -> Bound:
        """The arguments of the function with `inputs` in place of the examples."""
        keys = {name: _derive(key, name, own) for name, own in self.keys.items()}
        arrays = {**inputs, **keys}
        names = iter(self.names)
        filled = {
            name: closed(refill(value, is_array, lambda _: arrays[next(names)]))
            for name, value in self.arguments.items()
        }
        if self.train_argument is not None:
            in_training = TRAIN_ARGUMENTS[self.train_argument]
            filled[self.train_argument] = in_training if train else not in_training
        bound = inspect.BoundArguments(self.signature, filled)
        return Bound(bound.args, bound.kwargs)

    def given(self) -> list[Given]:
        """The arguments that a port takes: neither keys nor the one that says how to train."""
        found = []
        for position, (name, value) in enumerate(self.arguments.items()):
            kind = self.signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_KEYWORD:
                found += [Given(key, "keyword", item) for key, item in value.items()]
            elif kind is inspect.Parameter.VAR_POSITIONAL:
                found.append(Given(name, "variadic", tuple(value), True))
            elif name != self.train_argument:
                named = kind is inspect.Parameter.KEYWORD_ONLY
                by_position = position < self._positions
                kept = "keyword" if named else "positional"
                found.append(Given(name, kept, value, by_position))
        return [one for one in found if one.name not in self.keys]

    def _named_inputs(self) -> tuple[Arrays, Arrays]:
        """Arrays among the arguments by name; keys are apart, the target has its own."""
        variadic = inspect.Parameter.VAR_KEYWORD
        given: list[Given] = []
        for name, value in self.arguments.items():
            spread = self.signature.parameters[name].kind is variadic
            items = value.items() if spread else [(name, value)]
            given += [Given(key, "positional", item) for key, item in items]
        pairs = leaf_names(given, is_array)
        self.names = [name for name, _ in pairs]
        keys = {name: x for name, x in pairs if _is_key(name, x)}
        inputs = {name: _canonical(x) for name, x in pairs if name not in keys}
        if not inputs:
            raise InputError(
                f"no array among the example inputs of {self.name}{self.signature}: "
                "give at least one"
            )
        return inputs, keys

    def own(self, leaf: Leaf, array: Any) -> None:
        """File an array under its name; a buffer named like a parameter gets a prefix."""
        path = leaf.path
        if path in self.leaves:
            raise InputError(f"{self.name} has two tensors called {path!r}")
        self.leaves[path] = leaf
        held = self.parameters if leaf.kind == "parameter" else self.buffers
        held[path] = _canonical(array)

    def describe_inputs(self) -> str:
        """Names, dtypes and shapes, for messages."""
        return ", ".join(
            f"{n}={x.dtype}{list(x.shape)}" for n, x in self.inputs.items()
        )


@dataclasses.dataclass(frozen=True)
class Bound:
    """The arguments of one call."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class FunctionSource(Source):
    """A plain function; its first argument holds the parameters if there are any."""

    kind = "jax"

    def __init__(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        params: Any,
        rng: Any,
    ) -> None:
        if params is None and pytrees.is_module(function):
            params, function = function, type(function).__call__
            name, cls = type(params).__name__, qualified_name(type(params))
        else:
            name = camel_case(function_name(function))
            cls = f"{getattr(function, '__module__', '')}.{name}"
        signature = inspect.signature(function)
        if params is not None:
            _, *rest = signature.parameters.values()
            signature = signature.replace(parameters=rest)
        super().__init__(name, cls, function, signature, args, kwargs, rng)
        self._params = params
        self._paths: dict[int, tuple[Any, Path]] = {}  # of the modules of a call
        flat, self._tree = jax.tree_util.tree_flatten_with_path(params)
        self._flat: list[tuple[str, Any]] = []
        # The variables of a linen module, which the function applies: its modules are known.
        self._applies = _is_variables(params)
        for keys, value in flat:
            parts = tuple(key_text(key) for key in keys) or ("params",)
            path = ".".join(parts)
            self._flat.append((path, value))
            module = parts[1:-1] if self._applies else parts[:-1]
            if is_array(value):
                # Nothing trains a counter, nor what linen keeps beside its parameters.
                trains = jnp.issubdtype(value.dtype, jnp.inexact)
                trains &= not self._applies or parts[0] == "params"
                kind = "parameter" if trains else "buffer"
                self.own(Leaf(path, module, parts[-1], kind), value)

    def run(
        self, parameters: Arrays, buffers: Arrays, bound: Bound, train: bool, rng: Any
    ) -> tuple[Any, Arrays]:
        """The function's result; it writes none of its buffers."""
        del train, rng
        args = bound.args
        if self._params is not None:
            arrays = {**parameters, **buffers}
            leaves = [arrays.get(path, value) for path, value in self._flat]
            tree = jax.tree_util.tree_unflatten(self._tree, leaves)
            found = pytrees.modules(tree)
            # The modules are kept beside their paths, so that their ids stay their own.
            self._paths = {id(m): (m, path) for path, m in found.items()}
            args = (tree, *args)
        return self.function(*args, **bound.kwargs), buffers

    def marks(self, table: ScopeTable) -> contextlib.AbstractContextManager[None]:
        """Record the calls of modules: those of linen whose variables are the params, and
        callable pytrees in them.
        """
        if self._params is None:
            return contextlib.nullcontext()
        if self._applies:
            from ivyport.frontends.jax.source_linen import marks

            return marks(table)
        return pytrees.marked(self._params, table, self._path_of)

    def _path_of(self, module: Any) -> Path | None:
        return self._paths.get(id(module), (None, None))[1]


#: Collections that linen's own layers make.
_COLLECTIONS = {"params", "batch_stats", "cache"}


def _is_variables(params: Any) -> bool:
    """Whether a pytree is what a linen module's `init` returns."""
    if "flax.linen" not in sys.modules or not isinstance(params, Mapping):
        return False
    known = "params" in params and set(params) <= _COLLECTIONS
    return known and all(isinstance(tree, Mapping) for tree in params.values())


def open_source(
    source: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    params: Any = None,
    state: Any = None,
    rng: Any = None,
) -> Source:
    """The source behind one interface; arrays in `args` and `kwargs` are example inputs.

    `params` are haiku parameters, linen variables (or their ``params`` collection), or the pytree
    that a plain function takes first; an NNX module holds its own. `state` is haiku's state, or
    linen's other collections. Nothing is run.

    Raises:
        SourceError: `source` is no haiku, Flax or plain function.
        InputError: the inputs or `params` do not fit it.
    """
    kwargs = dict(kwargs or {})
    haiku, linen, nnx = (
        sys.modules.get(n) for n in ("haiku", "flax.linen", "flax.nnx")
    )
    if haiku is not None and isinstance(source, _haiku_kinds(haiku)):
        from ivyport.frontends.jax.source_haiku import HaikuSource

        return HaikuSource(source, args, kwargs, params, state, rng)
    if linen is not None and isinstance(source, linen.Module):
        from ivyport.frontends.jax.source_linen import LinenSource

        return LinenSource(source, args, kwargs, params, state, rng)
    if nnx is not None and isinstance(source, nnx.Module):
        _refuse(source, params, state)
        from ivyport.frontends.jax.source_nnx import NNXSource

        return NNXSource(source, args, kwargs, rng)
    if not callable(source) or isinstance(source, type):
        raise SourceError(
            f"{source!r} is no source of this frontend: give hk.transform(f) with "
            "params=, a linen module with params=, an nnx module, or a function"
        )
    if state is not None:
        raise InputError(
            "a plain function has no state=: give it in params=, or as an argument"
        )
    return FunctionSource(source, args, kwargs, params, rng)


def _haiku_kinds(haiku: Any) -> tuple[Any, ...]:
    return (haiku.Transformed, haiku.TransformedWithState)


def _refuse(source: Any, params: Any, state: Any) -> None:
    if params is not None or state is not None:
        raise InputError(
            f"{type(source).__name__} is an nnx module and holds its own arrays: leave "
            "params= and state= out (nnx.update(model, params) puts others into it)"
        )


# ---- arguments


def _bind(
    name: str,
    signature: inspect.Signature,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    train_argument: str | None,
) -> dict[str, Any]:
    """Arguments by name, the train argument among them if it has no default."""
    given = dict(kwargs)
    try:
        if train_argument is not None:
            partial = signature.bind_partial(*args, **given).arguments
            if train_argument not in partial:
                given[train_argument] = not TRAIN_ARGUMENTS[train_argument]
        return dict(signature.bind(*args, **given).arguments)
    except TypeError as error:
        listed = [f"{len(args)} positional"] if args else []
        listed += list(kwargs)
        valid = [
            f"{p.name} (required)" if _required(p) else p.name
            for p in signature.parameters.values()
        ]
        raise InputError(
            f"the inputs do not fit {name}: {error}; received: "
            f"{', '.join(listed) or 'nothing'}; valid names: {', '.join(valid)}"
        ) from None


def _required(parameter: inspect.Parameter) -> bool:
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and parameter.kind not in variadic


def _train_argument(signature: inspect.Signature) -> str | None:
    """The only argument of the function that says whether it trains."""
    found = [name for name in TRAIN_ARGUMENTS if name in signature.parameters]
    return found[0] if len(found) == 1 else None


def as_key(rng: Any) -> Any:
    """A typed key of a seed, a raw key or a key; None stays None."""
    if rng is None or isinstance(rng, jax.core.Tracer):
        return rng
    if isinstance(rng, int):
        return jax.random.key(rng)
    array = jnp.asarray(rng)
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        return array
    if array.shape == (2,) and array.dtype == jnp.uint32:
        return jax.random.wrap_key_data(array)
    raise InputError(
        f"rng= is {array.dtype}{list(array.shape)}: give jax.random.key(0) or a seed"
    )


def _is_key(name: str, value: Any) -> bool:
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return True
    raw = tuple(value.shape) == (2,) and value.dtype == np.uint32
    return raw and name in KEY_ARGUMENTS


def _derive(key: Any, name: str, own: Any) -> Any:
    """The value of a key argument: one of its own for each name, raw if the example is."""
    if key is None:
        return own
    derived = jax.random.fold_in(key, sum(map(ord, name)))
    typed = jnp.issubdtype(own.dtype, jax.dtypes.prng_key)
    return derived if typed else jax.random.key_data(derived)


def _canonical(x: Any) -> Any:
    """The array in the dtype that jax gives it: 32 bits unless x64 is enabled."""
    dtype = jax.dtypes.canonicalize_dtype(x.dtype)
    if isinstance(x, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(x.shape, dtype)
    return np.asarray(x).astype(dtype) if not isinstance(x, jax.Array) else x


# ---- names


def key_text(key: Any) -> str:
    """The text of one step of a pytree path: a key, an index or an attribute."""
    return jax.tree_util.keystr((key,), simple=True)


def function_name(function: Callable[..., Any]) -> str:
    inner = inspect.unwrap(function)
    while isinstance(inner, functools.partial):
        inner = inner.func
    return inner.__name__ if inspect.isroutine(inner) else type(inner).__name__


_NAMELESS = {
    "<lambda>", "f", "fn", "fun", "func", "function", "forward", "forward_fn", "apply",
    "apply_fn", "call", "model", "model_fn", "network", "net", "net_fn", "network_fn",
}  # fmt: skip


def camel_case(name: str) -> str:
    """A class name for a function: ``tiny_resnet`` is ``TinyResnet``; ``Model`` if it says nothing.

    >>> camel_case("tiny_resnet"), camel_case("<lambda>"), camel_case("_forward")
    ('TinyResnet', 'Model', 'Model')
    """
    bare = name.strip("_")
    if bare in _NAMELESS or not bare.isidentifier():
        return "Model"
    return "".join(part[:1].upper() + part[1:] for part in bare.split("_") if part)


__all__ = [
    "FunctionSource",
    "Leaf",
    "Source",
    "as_key",
    "open_source",
]
