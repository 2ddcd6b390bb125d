"""Modules of Flax linen."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.core
import flax.linen as nn
import jax

from ivyport.core.errors import InputError
from ivyport.frontends.jax.mismatch import Trees, shapes
from ivyport.frontends.jax.scopes import Path, ScopeTable, bind_names, plain_scalars
from ivyport.frontends.jax.sources import TRAIN_ARGUMENTS, Arrays, Bound, Leaf, Source
from ivyport.frontends.nested import qualified_name

_HIDDEN = ("name", "parent")
# Written by `sow` and `perturb` for whoever asks; no state of the model.
_REPORTS = ("intermediates", "perturbations")


class LinenSource(Source):
    """A linen module and its variables; ``encoder.block_0.kernel`` names a leaf."""

    kind = "flax.linen"

    def __init__(
        self,
        module: nn.Module,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        params: Any,
        state: Any,
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
        self.module = module
        self._train_field = self._find_train_field()
        self.has_train = self.has_train or self._train_field is not None
        self._keys: dict[str, tuple[str, Path]] = {}
        for collection, tree in self._collections(params, state).items():
            kind = "parameter" if collection == "params" else "buffer"
            for keys, array in _flat(tree).items():
                self._hold(kind, collection, keys, array)

    def _collections(self, params: Any, state: Any) -> dict[str, Any]:
        """Variables by collection, of `params=` as variables or as parameters alone."""
        given = flax.core.meta.unbox(flax.core.unfreeze(params or {}))
        others = flax.core.meta.unbox(flax.core.unfreeze(state or {}))
        variables = given if "params" in given or not given else {"params": given}
        twice = [name for name in others if name in variables]
        if twice:
            raise InputError(
                f"params= and state= of {self.name} both hold {', '.join(twice)}"
            )
        both = {**variables, **others}
        return {name: tree for name, tree in both.items() if name not in _REPORTS}

    def _hold(self, kind: str, collection: str, keys: Path, array: Any) -> None:
        path = ".".join(keys)
        if path in self.leaves:
            path = f"{collection}/{path}"
        self._keys[path] = (collection, keys)
        self.own(Leaf(path, keys[:-1], keys[-1], kind), array)

    def _find_train_field(self) -> str | None:
        """A field of the root module that says whether it trains, if its call does not.

        Where a field is set, linen refuses the argument of that name.
        """
        fields = [f.name for f in dataclasses.fields(self.module)]
        found = [f for f in fields if f in TRAIN_ARGUMENTS]
        if self.train_argument is not None:
            if getattr(self.module, self.train_argument, None) is None:
                return None
            self.arguments.pop(self.train_argument, None)
            self.train_argument = None
        return found[0] if len(found) == 1 else None

    def _mode(self, train: bool) -> nn.Module:
        if self._train_field is None:
            return self.module
        in_training = TRAIN_ARGUMENTS[self._train_field]
        value = in_training if train else not in_training
        return self.module.clone(**{self._train_field: value})

    def run(
        self, parameters: Arrays, buffers: Arrays, bound: Bound, train: bool, rng: Any
    ) -> tuple[Any, Arrays]:
        """Apply the module; every collection but ``params`` may be written."""
        variables = self._tree({**parameters, **buffers})
        mutable = sorted({self._keys[path][0] for path in buffers})
        # Flax takes the stream `params` for any stream that is not given.
        rngs = None
        if rng is not None:
            rngs = {"params": rng, "dropout": jax.random.fold_in(rng, 1)}
        out = self._mode(train).apply(
            variables, *bound.args, rngs=rngs, mutable=mutable or False, **bound.kwargs
        )
        if not mutable:
            return out, buffers
        out, updated = out
        paths = {keys: path for path, keys in self._keys.items()}
        new = dict(buffers)
        for collection, tree in flax.core.unfreeze(updated).items():
            for keys, array in _flat(tree).items():
                if (collection, keys) in paths:
                    new[paths[collection, keys]] = array
        return out, new

    def _tree(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        for path, array in arrays.items():
            collection, keys = self._keys[path]
            node = tree.setdefault(collection, {})
            for key in keys[:-1]:
                node = node.setdefault(key, {})
            node[keys[-1]] = array
        return tree

    def shapes(self) -> Trees:
        """The variables as ``init`` makes them for these inputs, and as given."""

        def init(inputs: Arrays, key: Any) -> Any:
            bound = self.bind(inputs, False, key)
            return self._mode(False).init(key, *bound.args, **bound.kwargs)

        try:
            wanted = jax.eval_shape(init, shapes(self.inputs), jax.random.key(0))
        # A module made for inference may not be able to initialise itself (a batch norm that
        # reads averages): then applying it is what tells whether the arrays fit.
        except Exception:  # noqa: BLE001
            return {}
        wanted = flax.core.meta.unbox(flax.core.unfreeze(wanted))
        made: dict[str, dict[str, Any]] = {"params": {}, "state": {}}
        given: dict[str, dict[str, Any]] = {"params": {}, "state": {}}
        for collection, tree in wanted.items():
            if collection not in _REPORTS:
                for keys, x in _flat(tree).items():
                    made[_group(collection)][_full(collection, keys)] = x.shape
        for path, x in {**self.parameters, **self.buffers}.items():
            collection, keys = self._keys[path]
            name = _full(collection, keys)
            given[_group(collection)][name] = x.shape
            # A cache was made for a whole sequence, and is called with one token.
            if collection == "cache" and len(made["state"].get(name, ())) == x.ndim:
                made["state"][name] = x.shape
        return {kind: (made[kind], given[kind]) for kind in made}

    def marks(self, table: ScopeTable) -> contextlib.AbstractContextManager[None]:
        """Record module calls through linen's own interceptor."""
        return marks(table)


@contextlib.contextmanager
def marks(table: ScopeTable) -> Iterator[None]:
    """Record the calls of linen modules in `table`, those of a root module aside."""

    def intercept(
        following: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        module, method = context.module, context.method_name
        cls = qualified_name(type(module))
        fields = dataclasses.fields(module)
        values = {f.name: getattr(module, f.name) for f in fields}
        table.knows(module.path, cls, plain_scalars(values, _HIDDEN))
        # The root's call is the whole graph; a module's calls of itself are its own body.
        if method == "setup" or not module.path or table.running(module):
            return following(*args, **kwargs)
        named = bind_names(context.orig_method, args, kwargs)
        inner = functools.partial(following, *args, **kwargs)
        return table.run(module, module.path, cls, named, inner)

    with nn.intercept_methods(intercept):
        yield


def _group(collection: str) -> str:
    return "params" if collection == "params" else "state"


def _full(collection: str, keys: Path) -> str:
    path = ".".join(keys)
    return path if collection == "params" else f"{collection}/{path}"


def _flat(tree: Any, prefix: Path = ()) -> dict[Path, Any]:
    """Leaves of nested dicts in their own order (jax would sort the keys)."""
    if not isinstance(tree, Mapping):
        return {prefix: tree}
    found: dict[Path, Any] = {}
    for key, item in tree.items():
        found |= _flat(item, (*prefix, str(key)))
    return found
