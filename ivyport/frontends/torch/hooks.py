"""Records module calls while `torch.export` runs a model.

Forward hooks see the fake tensors that the export traces; the proxy slot of such a
tensor is the fx node that made it. A node may be copied by a later export pass, so it
is not kept by identity: it gets a number in `meta["custom"]`, the one entry that export
promises to carry over, and the numbers are turned back into nodes of the finished
program by `Recorder.resolve`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import random
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.fx.experimental.proxy_tensor import get_proxy_mode, get_proxy_slot
from torch.fx.experimental.symbolic_shapes import is_symbolic

from ivyport.core.errors import TraceError
from ivyport.core.ir import map_leaves, walk
from ivyport.frontends.nested import Leaf, Opaque, qualified_name
from ivyport.frontends.torch import memory
from ivyport.frontends.torch.structure import Size, describe, named_tensors
from ivyport.frontends.torch.transforms import below_autograd

_TAG = "ivyport"


@dataclasses.dataclass(frozen=True)
class ModuleCall:
    """One call of one module.

    `path` is the canonical path ('' for the root) and `index` counts the calls of that
    module object. `alias` is the path under which the caller reaches it: it differs
    from `path` where one module object has several names. `args` pairs parameter names
    of the source's `forward` with fx nodes, constants or nested containers of them;
    `outputs` is described likewise.
    """

    path: str
    index: int
    cls: str
    parent: tuple[str, int] | None
    alias: str
    args: tuple[tuple[str, Any], ...]
    outputs: Any


@dataclasses.dataclass(frozen=True)
class _Ref:
    """The number of an fx node, until the program is finished."""

    number: int


@dataclasses.dataclass
class _Open:
    """A call whose forward is still running."""

    module: torch.nn.Module
    path: str
    index: int
    alias: str
    slot: int


def rng_state() -> tuple[Any, ...]:
    """A cheap fingerprint of numpy's and Python's global generators."""
    kind, keys, position, has_gauss, cached = np.random.get_state()
    return (kind, int(keys[0]), position, has_gauss, cached, random.getstate())


class Recorder:
    """Hooks on every module of `model`; use as a context manager around one export.

    `watch` maps dimension names to the (input, axis) pairs that must be equal; the
    root's pre-hook tells the tracer so, and every hook notices when one became a
    constant.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        watch: Mapping[str, Iterable[tuple[str, int]]],
        *,
        watch_rng: bool = False,
    ) -> None:
        self.model = model
        self.watch = {name: tuple(axes) for name, axes in watch.items()}
        self.watch_rng = watch_rng
        self.names = module_names(model)
        self.spec: Any = None
        self.finished = False  # whether the root was called and returned
        self.host_random: list[str] = []
        self.fixed: dict[str, str] = {}
        # Modules whose forward calls autograd, and the contexts of those that run.
        self.below: set[torch.nn.Module] = set()
        self._contexts: list[tuple[torch.nn.Module, contextlib.ExitStack]] = []
        self._handles: list[Any] = []
        self._clear()

    def _clear(self) -> None:
        self.calls: list[ModuleCall | None] = []
        self.input_refs: dict[str, _Ref] = {}
        self._stack: list[_Open] = []
        self._counts: dict[str, int] = {}
        self._numbers: dict[fx.Node, int] = {}
        self._sizes: dict[str, torch.SymInt] = {}
        self.symbols: dict[str, set[Any]] = {}
        self._attributes: memory.Attributes = {}
        self.assigned: list[str] = []  # plain attributes that a forward assigned

    def __enter__(self) -> Recorder:
        for module in self.names:
            # Export calls shared modules through stand-ins: bind the module itself.
            before = functools.partial(self._before, module)
            after = functools.partial(self._after, module)
            self._handles += [
                module.register_forward_pre_hook(before, with_kwargs=True),
                module.register_forward_hook(after, with_kwargs=True),
            ]
        self._rng = rng_state() if self.watch_rng else ()
        return self

    def __exit__(self, *_: object) -> None:
        while self._contexts:
            self._contexts.pop()[1].close()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def restart(self, below: torch.nn.Module) -> None:
        """Before another export: `below` is a module to be traced below autograd."""
        self.below.add(below)
        while self._contexts:
            self._contexts.pop()[1].close()
        self._stack.clear()

    @property
    def where(self) -> str | None:
        """Path of the innermost module whose forward is running; None outside."""
        return self._stack[-1].path if self._stack else None

    def _before(
        self,
        module: torch.nn.Module,
        _: torch.nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        if torch.compiler.is_dynamo_compiling():
            return  # of a branch of torch.cond, whose modules are no calls of their own
        if module is self.model and not self._stack:
            self._clear()
            self._attributes = memory.attributes(self.names)
        self._checkpoint()
        path = self.names[module][0]
        index = self._counts.get(path, 0)
        self._counts[path] = index + 1
        parent = self._stack[-1] if self._stack else None
        alias = self._alias(module, parent)
        bound = tuple(bind_names(module, args, kwargs))
        self._stack.append(_Open(module, path, index, alias, len(self.calls)))
        if parent is None:
            self._enter_root(bound)
        call = ModuleCall(
            path=path,
            index=index,
            cls=qualified_name(type(module)),
            parent=(parent.path, parent.index) if parent else None,
            alias=alias,
            args=tuple((name, describe(v, self._leaf)) for name, v in bound),
            outputs=None,
        )
        self.calls.append(call)

        if module in self.below:
            context = contextlib.ExitStack()
            context.enter_context(below_autograd())
            self._contexts.append((module, context))

    def _after(
        self,
        module: torch.nn.Module,
        _: torch.nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        output: Any,
    ) -> Any:
        if torch.compiler.is_dynamo_compiling():
            return None
        self._checkpoint()
        if self._contexts and self._contexts[-1][0] is module:
            self._contexts.pop()[1].close()
        # A forward may have swallowed an exception of a submodule: drop its entry.
        while self._stack[-1].module is not module:
            self._stack.pop()
        done = self._stack.pop()
        call = self.calls[done.slot]
        assert call is not None
        outputs = describe(output, self._leaf)
        self.calls[done.slot] = dataclasses.replace(call, outputs=outputs)
        if self._stack or module is not self.model:
            return None
        self.spec, flat = flatten_output(output)
        # torch.export puts them back right after.
        now = memory.attributes(self.names)
        self.assigned = memory.assigned(self._attributes, now)
        self.finished = True
        return flat

    def _enter_root(self, bound: tuple[tuple[str, Any], ...]) -> None:
        leaves = {k: t for name, v in bound for k, t in named_tensors(name, v)}
        for name, tensor in leaves.items():
            ref = self._leaf(tensor)
            if isinstance(ref, _Ref):
                self.input_refs[name] = ref
        for name, axes in self.watch.items():
            sizes = [leaves[leaf].shape[axis] for leaf, axis in axes]
            self.symbols[name] = {
                symbol
                for size in sizes
                if is_symbolic(size)
                for symbol in size.node.expr.free_symbols
            }
            # Comparing makes the tracer use a single symbol for all of them.
            for other in sizes[1:]:
                assert bool(sizes[0] == other)
            if is_symbolic(sizes[0]):
                self._sizes[name] = sizes[0]

    def _alias(self, module: torch.nn.Module, parent: _Open | None) -> str:
        names = self.names[module]
        if parent is None or len(names) == 1:
            return names[0]
        for prefix in (parent.alias, parent.path):
            inside = [n for n in names if n.startswith(prefix + ".") or not prefix]
            if inside:
                return inside[0]
        return names[0]

    def _checkpoint(self) -> None:
        """Blame what happened since the last hook on the module that is running."""
        owner = self._stack[-1].path if self._stack else ""
        for name, size in list(self._sizes.items()):
            if not is_symbolic(size) or size.node.expr.is_number:
                self.fixed[name] = owner
                del self._sizes[name]
        if not self.watch_rng:
            return
        state = rng_state()
        if state != self._rng:
            self._rng = state
            if owner not in self.host_random:
                self.host_random.append(owner)

    def _leaf(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return Size(str(value.node.expr))
        mode = get_proxy_mode()
        slot = None if mode is None else get_proxy_slot(value, mode.tracer, None)
        if slot is None:
            return Opaque("torch.Tensor")
        node = slot.proxy.node
        number = self._numbers.setdefault(node, len(self._numbers))
        node.meta.setdefault("custom", {})[_TAG] = number
        return _Ref(number)

    def resolve(self, graph: fx.Graph) -> tuple[list[ModuleCall], dict[str, fx.Node]]:
        """Calls and named inputs with the nodes of the finished `graph`; tags are
        removed.

        A tensor whose node did not survive (dead code) becomes
        `Opaque("torch.Tensor")`.
        """
        nodes: dict[int, fx.Node] = {}
        for node in graph.nodes:
            custom = dict(node.meta.get("custom", {}))
            if _TAG in custom:
                nodes.setdefault(custom.pop(_TAG), node)
                if custom:
                    node.meta["custom"] = custom
                else:
                    del node.meta["custom"]
        finished = [_resolved(call, nodes) for call in self.calls if call is not None]
        inputs = {
            name: nodes[ref.number]
            for name, ref in self.input_refs.items()
            if ref.number in nodes
        }
        return finished, inputs


def _resolved(call: ModuleCall, nodes: Mapping[int, fx.Node]) -> ModuleCall:
    def node(value: Any) -> Any:
        if isinstance(value, _Ref):
            return nodes.get(value.number, Opaque("torch.Tensor"))
        return value

    args = tuple((name, map_leaves(node, value)) for name, value in call.args)
    outputs = map_leaves(node, call.outputs)
    return dataclasses.replace(call, args=args, outputs=outputs)


def module_names(model: torch.nn.Module) -> dict[torch.nn.Module, tuple[str, ...]]:
    """Every module object of `model` with all of its paths, the canonical one first."""
    names: dict[torch.nn.Module, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(path)
    return {module: tuple(paths) for module, paths in names.items()}


def bind_names(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> list[tuple[str, Any]]:
    """Pair the values of a call with the parameter names of the module's `forward`.

    Defaults are not filled in. `*args` become `args_0`, ...; `**kwargs` keep their own
    names.
    """
    # An instance may carry its own `forward`, which is what runs then.
    own = vars(module).get("forward")
    signature = inspect.signature(own if own is not None else module.forward)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:
        # A decorator that rewrites arguments hides the names: number them instead.
        return [(f"args_{i}", v) for i, v in enumerate(args)] + list(kwargs.items())
    pairs: list[tuple[str, Any]] = []
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            pairs += [(f"{name}_{i}", item) for i, item in enumerate(value)]
        elif kind is inspect.Parameter.VAR_KEYWORD:
            pairs += list(value.items())
        else:
            pairs.append((name, value))
    return pairs


def flatten_output(output: Any) -> tuple[Any, tuple[Any, ...]]:
    """The structure of the root's output and its tensors, in one flat tuple.

    Exporting the flat tuple means that no output class has to be registered with torch.
    Raises TraceError when there is no tensor, or a value that a port could not return.
    """
    flat: list[Any] = []

    def leaf(value: Any) -> Leaf:
        flat.append(value)
        return Leaf(len(flat) - 1)

    spec = describe(output, leaf)
    foreign = {v.cls for v in walk(spec) if isinstance(v, Opaque)}
    foreign |= {
        qualified_name(type(v))
        for v in walk(spec)
        if isinstance(v, torch.dtype | torch.device | complex)
    }
    if foreign:
        raise TraceError(
            f"the model returns {', '.join(sorted(foreign))}, which a port cannot return: ask "
            "it for plain tensors (a Hugging Face model: use_cache=False), or put it into a "
            "module whose forward returns them"
        )
    if not flat:
        raise TraceError(
            f"the model returned {type(output).__name__} without any tensor: there is "
            "nothing to port. Give inputs for which it returns tensors, or put it into a module "
            "whose forward does"
        )
    return spec, tuple(flat)
