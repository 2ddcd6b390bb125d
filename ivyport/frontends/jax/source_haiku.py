"""Functions transformed by haiku."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import haiku as hk
import jax

from ivyport.core.errors import SourceError
from ivyport.frontends.jax.mismatch import Trees, shapes
from ivyport.frontends.jax.scopes import Path, ScopeTable, bind_names, plain_scalars
from ivyport.frontends.jax.sources import (
    Arrays,
    Bound,
    Leaf,
    Source,
    camel_case,
    function_name,
)
from ivyport.frontends.nested import qualified_name

_HIDDEN = ("name", "module_name")


class HaikuSource(Source):
    """A haiku function, its parameters (``module/name:w``) and its state."""

    kind = "haiku"

    def __init__(
        self,
        transformed: hk.Transformed | hk.TransformedWithState,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        params: Mapping[str, Mapping[str, Any]] | None,
        state: Mapping[str, Mapping[str, Any]] | None,
        rng: Any,
    ) -> None:
        function = _original(transformed)
        name = camel_case(function_name(function))
        signature = inspect.signature(function)
        module = inspect.unwrap(function).__module__
        super().__init__(
            name, f"{module}.{name}", function, signature, args, kwargs, rng
        )
        self._transformed = hk.transform_with_state(function)
        self._keys: dict[str, tuple[str, str]] = {}
        self._paths = ModulePaths()
        for kind, tree in (("parameter", params or {}), ("buffer", state or {})):
            for module_name, held in tree.items():
                for leaf_name, array in held.items():
                    self._hold(kind, module_name, leaf_name, array)

    def _hold(self, kind: str, module: str, name: str, array: Any) -> None:
        path = f"{module}:{name}"
        if path in self.leaves:
            path = f"state/{path}"
        self._keys[path] = (module, name)
        self.own(Leaf(path, self._paths.of(module), name, kind), array)

    def _tree(self, arrays: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        tree: dict[str, dict[str, Any]] = {}
        for path, array in arrays.items():
            module, name = self._keys[path]
            tree.setdefault(module, {})[name] = array
        return tree

    def run(
        self, parameters: Arrays, buffers: Arrays, bound: Bound, train: bool, rng: Any
    ) -> tuple[Any, Arrays]:
        """Apply the function."""
        del train
        params, state = self._tree(parameters), self._tree(buffers)
        apply = self._transformed.apply
        out: Any
        new: Any
        out, new = apply(params, state, rng, *bound.args, **bound.kwargs)
        paths = {keys: path for path, keys in self._keys.items() if path in buffers}
        updated = {
            paths[module, name]: array
            for module, held in new.items()
            for name, array in held.items()
        }
        return out, {**buffers, **updated}

    def shapes(self) -> Trees:
        """Parameters and state as ``init`` makes them for these inputs, and as given."""
        key = jax.random.key(0)
        inputs = shapes(self.inputs)

        def init(inputs: Arrays, key: Any) -> Any:
            bound = self.bind(inputs, True, key)
            return self._transformed.init(key, *bound.args, **bound.kwargs)

        try:
            wanted = jax.eval_shape(init, inputs, key)
        # A function made for inference may not be able to initialise itself (a batch norm that
        # reads averages): then applying it is what tells whether the arrays fit.
        except Exception:  # noqa: BLE001
            return {}
        trees: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
        for kind, tree, held in zip(
            ("params", "state"), wanted, (self.parameters, self.buffers), strict=True
        ):
            made = {
                f"{module}:{name}": x.shape
                for module, arrays in tree.items()
                for name, x in arrays.items()
            }
            given = {":".join(self._keys[p]): x.shape for p, x in held.items()}
            trees[kind] = (made, given)
        return trees

    def _know(self, table: ScopeTable, module: hk.Module) -> tuple[Path, str]:
        path, cls = self._paths.of(module.module_name), qualified_name(type(module))
        table.knows(path, cls, plain_scalars(vars(module), _HIDDEN))
        return path, cls

    @contextlib.contextmanager
    def marks(self, table: ScopeTable) -> Iterator[None]:
        """Record module calls through haiku's own interceptor."""

        def intercept(
            following: Callable[..., Any],
            args: tuple[Any, ...],
            kwargs: dict[str, Any],
            context: hk.MethodContext,
        ) -> Any:
            module = context.module
            if context.method_name == "__init__":
                result = following(*args, **kwargs)
                self._know(table, module)
                return result
            if table.running(module):
                return following(*args, **kwargs)
            path, cls = self._know(table, module)
            named = bind_names(context.orig_method, args, kwargs)
            inner = functools.partial(following, *args, **kwargs)
            return table.run(module, path, cls, named, inner)

        with hk.intercept_methods(intercept):
            yield


class ModulePaths:
    """Paths of haiku modules: their names without the components of methods (``~``, ``~encode``).

    >>> ModulePaths().of("encoder/~/attention/~project/linear")
    ('encoder', 'attention', 'linear')
    """

    def __init__(self) -> None:
        self._paths: dict[str, Path] = {"": ()}
        self._taken: set[Path] = set()

    def of(self, name: str) -> Path:
        """The path of the module `name`; another one of that path gets its method's name too."""
        if name not in self._paths:
            outer, _, last = name.rpartition("/")
            parent = self.of(outer)
            self._paths[name] = self._free(parent, outer, last)
        return self._paths[name]

    def _free(self, parent: Path, outer: str, last: str) -> Path:
        if last.startswith("~"):
            return parent
        method = outer.rpartition("/")[2]
        prefix = method[1:] if method.startswith("~") and len(method) > 1 else "inner"
        path = (*parent, last)
        while path in self._taken:
            path = (*parent, f"{prefix}_{path[-1]}")
        self._taken.add(path)
        return path


def _original(transformed: hk.Transformed | hk.TransformedWithState) -> Any:
    """The function that was transformed: with its own signature, and with every rng and state."""
    # `tie_in_original_fn` of haiku leaves it on every pair that its transforms make.
    function = vars(transformed.apply).get("_original_fn")
    if function is None:
        raise SourceError(
            "this transformed pair was not made by hk.transform: its function is unknown; "
            "give hk.transform(f) or hk.transform_with_state(f) themselves"
        )
    return function
