"""Live modules of Flax NNX."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import jax
from flax import nnx

from ivyport.core.errors import TraceError
from ivyport.frontends.jax.memory import alike, assigned, attributes, memory
from ivyport.frontends.jax.scopes import Path, ScopeTable, bind_names, plain_scalars
from ivyport.frontends.jax.sources import Arrays, Bound, Leaf, Source
from ivyport.frontends.nested import qualified_name

Keys = tuple[Any, ...]
_PATH = "ivyport_path"  # metadata of a variable: where the source holds it
_SHOWN = 4  # names in a note
_MODES = ("training", "deterministic", "use_running_average")


#: Parameters that calls of a module write and nothing trains, where a capture has told.
_STATE: WeakKeyDictionary[nnx.Module, set[str]] = WeakKeyDictionary()


class NNXSource(Source):
    """An NNX module; ``layers.0.attention.kernel`` names a leaf. The module is not changed."""

    kind = "flax.nnx"

    def __init__(
        self,
        module: nnx.Module,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        rng: Any,
    ) -> None:
        cls = type(module)
        super().__init__(
            cls.__name__,
            qualified_name(cls),
            module.__call__,
            inspect.signature(module.__call__),
            args,
            kwargs,
            rng,
        )
        self.has_train = True
        self.module = module
        self._definition, state = nnx.split(module)
        self._state = dict(nnx.to_flat_state(state))
        self._keys: dict[str, Keys] = {}
        self._assigned: list[str] = []  # plain attributes that the last call wrote
        order = {path: i for i, path in enumerate(_modules(module))}
        last = len(order)
        for keys, variable in sorted(
            self._state.items(), key=lambda item: order.get(_names(item[0])[:-1], last)
        ):
            if isinstance(variable, nnx.RngState):
                continue
            names = _names(keys)
            kind = "parameter" if isinstance(variable, nnx.Param) else "buffer"
            path = ".".join(names)
            self._keys[path] = keys
            leaf = Leaf(path, names[:-1], names[-1], kind, _is_frozen(variable))
            self.own(leaf, _value(variable))
        self.notes += _kind_notes(self._state)
        super().hold(_STATE.get(module, set()) & self.parameters.keys())

    def run(
        self, parameters: Arrays, buffers: Arrays, bound: Bound, train: bool, rng: Any
    ) -> tuple[Any, Arrays]:
        """Call a copy of the module in that mode."""
        model = self.copy({**parameters, **buffers}, train, rng)
        before = attributes(_modules(model))
        out = model(*bound.args, **bound.kwargs)
        self._assigned = assigned(before, attributes(_modules(model)))
        state = dict(nnx.to_flat_state(nnx.state(model)))
        new = {
            path: array if path in self.ignored else _value(state[self._keys[path]])
            for path, array in {**parameters, **buffers}.items()
        }
        return out, new

    def refuse_memory(self, train: bool) -> None:
        if not self._assigned or self._same_again(train, ()):
            return
        raise TraceError(
            memory(self.name, "train" if train else "eval", self._assigned)
        )

    def repeats(self, paths: Collection[str]) -> bool:
        return all(self._same_again(train, paths) for train in (False, True))

    def _same_again(self, train: bool, kept: Collection[str]) -> bool:
        """Whether a second call has the same results; variables begin anew, except for `kept`.

        What has no values is not looked at; what fails is said where the source is run.
        """
        arrays = {**self.parameters, **self.buffers}
        abstract = (*arrays.values(), *self.inputs.values())
        if any(isinstance(x, jax.ShapeDtypeStruct) for x in abstract):
            return not kept
        key = jax.random.key(0) if self.rng is None else self.rng
        try:
            model = self.copy(arrays, train, key)
            bound = self.bind(self.inputs, train, key)
            own = {self._keys[path] for path in kept}
            first = model(*bound.args, **bound.kwargs)
            anew = nnx.to_flat_state(nnx.state(self.copy(arrays, train, key)))
            before = {keys: x for keys, x in anew if keys not in own}
            nnx.update(model, nnx.from_flat_state(before))
            second = model(*bound.args, **bound.kwargs)
        # The source's own code, of which anything may come.
        except Exception:  # noqa: BLE001
            return not kept
        return alike(first, second)

    def hold(self, paths: Iterable[str]) -> None:
        super().hold(paths)
        _STATE[self.module] = {*_STATE.get(self.module, ()), *paths}

    @property
    def settled(self) -> bool:
        return self.module in _STATE

    @property
    def needs_key(self) -> bool:
        """Whether it holds random streams: their keys must not be constants of a trace."""
        kinds = (type(variable) for variable in self._state.values())
        return bool(self.keys) or any(issubclass(k, nnx.RngState) for k in kinds)

    def copy(self, arrays: Arrays, train: bool, rng: Any) -> Any:
        """The module with other arrays; its random streams start anew from `rng` if given."""
        state: dict[Keys, Any] = {}
        values = {self._keys[path]: array for path, array in arrays.items()}
        for position, (keys, variable) in enumerate(self._state.items()):
            value = values.get(keys, _value(variable))
            if not isinstance(variable, nnx.Variable):
                state[keys] = value
                continue
            if isinstance(variable, nnx.RngKey) and rng is not None:
                shape = value.shape  # layers that a scan runs over have a key each
                value = jax.random.fold_in(rng, position)
                value = jax.random.split(value, shape) if shape else value
            marked = variable.replace(value)
            marked.set_metadata(**{_PATH: _names(keys)})
            state[keys] = marked
        model = nnx.merge(self._definition, nnx.from_flat_state(state))
        if train:
            model.train()
        else:
            model.eval()
        return model

    def trains(self) -> dict[str, bool]:
        found: dict[str, bool] = {}
        for path, module in _modules(self.module).items():
            for name in ("deterministic", "use_running_average"):
                if isinstance(vars(module).get(name), bool):
                    found[".".join(path)] = not vars(module)[name]
        return found

    @contextlib.contextmanager
    def marks(self, table: ScopeTable) -> Iterator[None]:
        """Record module calls: the public methods of every class in the module are wrapped."""
        root = self.module
        for path, module in _modules(root).items():
            own = plain_scalars(vars(module), _MODES)
            table.knows(path, qualified_name(type(module)), own)
        paths = _Paths()
        classes = {type(m) for m in _modules(root).values()}
        with contextlib.ExitStack() as stack:
            for owner, name, method in _methods(classes):
                setattr(owner, name, _wrapped(method, table, paths))
                stack.callback(setattr, owner, name, method)
            yield


def _kind_notes(state: Mapping[Keys, Any]) -> list[str]:
    """A note on each kind of variable that is the source's own and no `nnx.Param`."""
    kinds: dict[type, list[str]] = {}
    for keys, variable in state.items():
        kind = type(variable)
        own = isinstance(variable, nnx.Variable) and not kind.__module__.startswith(
            "flax."
        )
        if own and not isinstance(variable, nnx.Param) and not _is_frozen(variable):
            kinds.setdefault(kind, []).append(".".join(_names(keys)))
    return [
        f"{', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}: of the kind "
        f"{kind.__name__}, which is no nnx.Param: the port has buffers there, which its "
        f"optimizer does not train. If the source trains them, derive {kind.__name__} from "
        "nnx.Param and port again."
        for kind, names in kinds.items()
    ]


def _is_frozen(variable: Any) -> bool:
    """Whether a port holds a weight in it that its own source froze."""
    return type(variable).__name__ == "Frozen" and not isinstance(variable, nnx.Param)


class _Paths:
    """Where a module object is in the source.

    Transforms (`nnx.remat`, `nnx.scan`) call copies of the modules; their variables still say where
    the original is. A module without variables has no path of its own: it belongs to its caller.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, Path | None]] = {}

    def of(self, module: Any) -> Path | None:
        """The path of `module`, None if it holds nothing that the source holds."""
        if id(module) not in self._known:
            # The module is kept beside its path, so that its id stays its own.
            self._known[id(module)] = (module, self._find(module))
            path = self._known[id(module)][1]
            if path is not None:
                for inner, part in _modules(module).items():
                    self._known.setdefault(id(part), (part, (*path, *inner)))
        return self._known[id(module)][1]

    def _find(self, module: Any) -> Path | None:
        for keys, variable in nnx.to_flat_state(nnx.state(module)):
            if not isinstance(variable, nnx.Variable):
                continue
            full = variable.get_metadata().get(_PATH)
            names = _names(keys)
            if full is not None and full[len(full) - len(names) :] == names:
                return tuple(full[: len(full) - len(names)])
        return None


def _wrapped(
    method: Callable[..., Any],
    table: ScopeTable,
    paths: _Paths,
) -> Callable[..., Any]:
    @functools.wraps(method)
    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        path = paths.of(self)
        # The root's call is the whole graph; a module's calls of itself are its own body.
        if not path or table.running(self):
            return method(self, *args, **kwargs)
        named = bind_names(functools.partial(method, self), args, kwargs)
        inner = functools.partial(method, self, *args, **kwargs)
        return table.run(self, path, qualified_name(type(self)), named, inner)

    return called


def _methods(
    classes: set[type],
) -> Iterator[tuple[type, str, Callable[..., Any]]]:
    """Public methods, and ``__call__``, of the classes and of their bases below `nnx.Module`."""
    owners = {
        base: None
        for cls in sorted(classes, key=qualified_name)
        for base in cls.__mro__
        if issubclass(base, nnx.Module) and base is not nnx.Module
    }
    for owner in owners:
        for name, value in list(vars(owner).items()):
            public = name == "__call__" or not name.startswith("_")
            if public and inspect.isfunction(value):
                yield owner, name, value


def _modules(root: Any) -> dict[Path, Any]:
    """Every module by its path, each before its parts, parts in the order of attributes."""
    found = {_names(path): module for path, module in nnx.iter_modules(root)}
    order: dict[Path, Any] = {}

    def visit(path: Path) -> None:
        module = found.pop(path, None)
        if module is None:
            return
        order[path] = module
        below = {p[len(path)]: None for p in found if p[: len(path)] == path}
        attributes = [name for name in map(str, vars(module)) if name in below]
        for name in dict.fromkeys([*attributes, *below]):
            visit((*path, name))

    visit(())
    order.update(found)  # what hangs below containers that are no modules
    return order


def _value(held: Any) -> Any:
    """The array of a variable, or the array that a module holds without one."""
    return held.get_value() if isinstance(held, nnx.Variable) else held


def _names(keys: Keys) -> Path:
    """The keys as texts; one may be a path itself (`nnx.WeightNorm.scales`)."""
    return tuple(
        "_".join(map(str, key)) if isinstance(key, tuple) else str(key) for key in keys
    )
