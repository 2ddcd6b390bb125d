"""What a source computes for tensors that its callers may leave out: masks, positions, types.

A port is traced with a tensor for each argument that the example gives. Where the source's own
default is None, the source is run without that argument, and with plain tensors in its place. One
with which it computes the same is the argument's default (`core.ir.Argument.default`). So it has
to be on the example, in other sizes and in train mode, and without the argument the source must ask
nothing more of its other inputs (RoBERTa counts positions from the first id that is no padding) and
read no more of its weights.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode

from ivyport.core.dims import Dim, as_symbol, evaluate, symbols
from ivyport.core.ir import Argument, Graph, Value
from ivyport.frontends.nested import as_call
from ivyport.frontends.torch.hooks import flatten_output
from ivyport.frontends.torch.inputs import Inputs, bind_inputs
from ivyport.frontends.torch.replay import resized
from ivyport.frontends.torch.session import preserved, quiet, switch_configs

# Of the largest magnitude: attention without a mask rounds otherwise than with one.
_EPSILONS = 200

_REQUIRED = (
    "Required by the port, which was made with them: {}. The source runs without, and does then "
    "what neither ones nor zeros nor positions in their place do: give what it takes then, or "
    "port without them."
)

# transformers looks for padding here, and says so; nothing is computed of it.
_WARNING = "warn_if_padding_and_no_attention_mask"

Filled = Mapping[str, str]


def with_defaults(
    model: torch.nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    graph: Graph,
) -> tuple[list[Argument], list[str]]:
    """The graph's arguments with defaults, and a note of those that the source alone has.

    Without values (on the meta device) nothing is proved.
    """
    inputs = bind_inputs(model, args, kwargs or {})
    names = _optional(model, inputs, graph.arguments)
    held = [*model.parameters(), *model.buffers(), *inputs.leaves.values()]
    if not names or any(t.is_meta or isinstance(t, FakeTensor) for t in held):
        return graph.arguments, []
    with preserved(model), quiet():
        switch_configs(model)
        model.eval()
        for module in model.modules():
            if hasattr(module, _WARNING):
                setattr(module, _WARNING, lambda *_: None)
        # The example in eval mode comes first.
        cases = [(False, inputs), *((False, x) for x in _other_sizes(inputs, graph))]
        proof = _Proof(model, [*cases, (True, inputs)])
        found = {n: fill for n in names if (fill := proof.fill(n, inputs.leaves[n]))}
        found = _sized(graph.arguments, found)
        while len(found) > 1 and not proof.together(found):
            found.popitem()
        found = _sized(graph.arguments, found)
    arguments = [
        dataclasses.replace(a, default=found.get(a.name, "")) for a in graph.arguments
    ]
    left = [name for name in names if name in proof.optional and name not in found]
    return arguments, [_REQUIRED.format(", ".join(left))] if left else []


def _optional(
    model: torch.nn.Module, inputs: Inputs, arguments: Sequence[Argument]
) -> list[str]:
    """Tensors that the example gives, and of which the source's own default is None."""
    known = inspect.signature(model.forward).parameters
    plain = {a.name for a in arguments if isinstance(a.structure, Value)}
    return [
        one.name
        for one in inputs.given
        if one.name in plain
        and torch.is_tensor(one.value)
        and one.name in known
        and known[one.name].default is None
    ]


def _sized(arguments: Sequence[Argument], found: Filled) -> dict[str, str]:
    """Those whose sizes are known from arguments that are always given."""
    while True:
        given: set[str | None] = {
            as_symbol(size)
            for a in arguments
            if isinstance(a.structure, Value) and a.name not in found
            for size in a.structure.type.shape
        }
        kept = {
            a.name: found[a.name]
            for a in arguments
            if a.name in found
            and all(
                not isinstance(size, Dim) or as_symbol(size) in given - {None}
                for size in a.structure.type.shape
            )
        }
        if not given:
            return {}  # nothing says where the tensors are
        if kept == found:
            return kept
        found = kept


def _other_sizes(inputs: Inputs, graph: Graph) -> Iterator[Inputs]:
    """The inputs with each free size larger, and with each of them 1."""
    types = {v.name: v.type for v in graph.inputs}
    shapes = {
        name: types[name].shape if name in types else () for name in inputs.leaves
    }
    found = {
        symbol: tensor.shape[axis]
        for name, tensor in inputs.leaves.items()
        for axis, size in enumerate(shapes[name])
        if (symbol := as_symbol(size)) is not None
    }
    if not found:
        return
    for chosen in (lambda n: n + 1, lambda n: 2 * n + 3, lambda _: 1):
        sizes = {symbol: chosen(size) for symbol, size in found.items()}
        leaves = dict(inputs.leaves)
        for name, shape in shapes.items():
            for axis, size in enumerate(shape):
                if isinstance(size, Dim) and symbols(size) <= sizes.keys():
                    new = evaluate(size, sizes)
                    assert isinstance(new, int)
                    leaves[name] = resized(leaves[name], axis, new)
        yield inputs.refilled(leaves)


def _changed(inputs: Inputs, name: str) -> Inputs:
    """The inputs with other values in all tensors but one: every second one is 0, or half more."""
    leaves = {}
    for other, tensor in inputs.leaves.items():
        leaves[other] = new = tensor.clone()
        if other == name or not tensor.numel():
            continue
        flat = new.reshape(-1)
        if tensor.is_floating_point() or tensor.is_complex():
            flat[::2] += 0.5
        else:
            flat[::2] = 0
        leaves[other] = flat.reshape(tensor.shape)
    return inputs.refilled(leaves)


@dataclasses.dataclass
class _Run:
    """What a call returns, and what it asks of the values of its inputs."""

    structure: Any
    tensors: list[torch.Tensor]
    asked: Counter[str]
    read: set[int]  # the parameters and buffers that it computes with


class _Proof:
    """Runs of a source on inputs of several sizes and in both modes, the example's first."""

    def __init__(
        self, model: torch.nn.Module, cases: Sequence[tuple[bool, Inputs]]
    ) -> None:
        self.model = model
        self.cases = cases
        self.optional: set[str] = set()  # arguments without which the source runs

    def fill(self, name: str, tensor: torch.Tensor) -> str:
        """What stands for an argument that is left out; '' where nothing is proved to."""
        # The default may be made of other inputs, whose values on the example tell nothing.
        cases = [*self.cases, (False, _changed(self.cases[0][1], name))]
        without = [self._run(case, {name: None}) for case in cases]
        if without[0] is None:
            return ""
        self.optional.add(name)
        fills = _fills(name, tensor)
        return next((f for f in fills if self._holds(cases, without, {name: f})), "")

    def together(self, found: Filled) -> bool:
        """Whether that holds where several of them are left out."""
        chosen = [
            {name: found[name] for name in names}
            for count in range(2, len(found) + 1)
            for names in itertools.combinations(found, count)
        ]
        return all(
            self._holds(
                self.cases[:1],
                [self._run(self.cases[0], dict.fromkeys(filled))],
                filled,
            )
            for filled in chosen
        )

    def _holds(
        self,
        cases: Sequence[tuple[bool, Inputs]],
        without: Sequence[_Run | None],
        filled: Filled,
    ) -> bool:
        for case, expected in zip(cases, without, strict=True):
            if expected is None:
                continue  # a size that the source does not take
            run = self._run(case, filled)
            if run is None or not _same(expected, run):
                return False
        return without[0] is not None

    def _run(
        self, case: tuple[bool, Inputs], filled: Mapping[str, str | None]
    ) -> _Run | None:
        """The source with these arguments left out or filled; None where it raises.

        What it asks is counted on the example alone.
        """
        train, inputs = case
        self.model.train(train)
        leaves = {name: tensor.clone() for name, tensor in inputs.leaves.items()}
        given = [
            dataclasses.replace(one, value=_filled(filled[one.name], one.value))
            if one.name in filled
            else one
            for one in inputs.refilled(leaves).given
        ]
        args, kwargs = as_call(given)
        watch = _Asking(
            (t for name, t in leaves.items() if name not in filled),
            [*self.model.parameters(), *self.model.buffers()],
        )
        first = case is self.cases[0]
        watching = watch if first else contextlib.nullcontext()
        kept = [(b, b._version, b.clone()) for b in self.model.buffers()]
        with _undropped(), torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            try:
                with watching:
                    result = self.model(*args, **kwargs)
                structure, tensors = flatten_output(result)
                return _Run(
                    structure, [t.clone() for t in tensors], watch.asked, watch.read
                )
            # The source's own code, of which anything may come.
            except Exception:  # noqa: BLE001
                return None
            finally:
                for buffer, version, value in kept:
                    if buffer._version != version:
                        buffer.copy_(value)


@contextlib.contextmanager
def _undropped() -> Iterator[None]:
    """No dropout: with a mask and without it, attention draws at other places."""
    names = [n for n in dir(F) if "dropout" in n and not n.startswith("_")]
    held = {n: getattr(F, n) for n in names if callable(getattr(F, n))}
    attend = F.scaled_dot_product_attention

    def attended(*args: Any, **kwargs: Any) -> Any:
        bound = inspect.signature(_attention).bind(*args, **kwargs)
        return attend(**{**bound.arguments, "dropout_p": 0.0})

    try:
        for name in held:
            setattr(F, name, _first)
        F.scaled_dot_product_attention = attended
        yield
    finally:
        for name, function in held.items():
            setattr(F, name, function)
        F.scaled_dot_product_attention = attend


def _first(*args: Any, **kwargs: Any) -> Any:
    return args[0] if args else kwargs["input"]


def _attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: Any = None,
    enable_gqa: bool = False,
) -> None:
    """The parameters of torch's attention, which has no signature of its own."""


def _fills(name: str, tensor: torch.Tensor) -> list[str]:
    """What may stand for an argument, the likeliest first."""
    fills = ["ones", "zeros"] if "mask" in name else ["zeros", "ones"]
    number = tensor.dtype is not torch.bool and not tensor.dtype.is_complex
    return fills + ["positions"] * bool(number and tensor.ndim)


def _filled(fill: str | None, like: torch.Tensor) -> torch.Tensor | None:
    if fill is None:
        return None
    if fill == "positions":
        row = torch.arange(like.shape[-1], dtype=like.dtype, device=like.device)
        return row.expand(like.shape).clone()
    return torch.ones_like(like) if fill == "ones" else torch.zeros_like(like)


def _same(without: _Run, filled: _Run) -> bool:
    return (
        without.structure == filled.structure
        and not without.asked - filled.asked
        and without.read <= filled.read
        and len(without.tensors) == len(filled.tensors)
        and all(map(_close, without.tensors, filled.tensors))
    )


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not (a.is_floating_point() or a.is_complex()):
        return torch.equal(a, b)
    scale = a.nan_to_num(0, 0, 0).abs().amax().item() if a.numel() else 0
    most = _EPSILONS * torch.finfo(a.dtype).eps
    return torch.allclose(a, b, rtol=most, atol=most * scale, equal_nan=True)


class _Asking(TorchDispatchMode):
    """Counts what is asked of the values of tensors: comparisons, counts, numbers for Python.

    Arithmetic of floats is no question; operations on integers are. What of the model is read is
    kept, too. So is what is asked of torch itself: a default may be another one under `no_grad`.
    """

    def __init__(
        self, inputs: Iterable[torch.Tensor], held: Sequence[torch.Tensor]
    ) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()
        self.read: set[int] = set()
        self._held = {id(tensor) for tensor in held}
        # They are held, so that no other tensor gets the identity of one.
        self._known = {id(tensor): tensor for tensor in inputs}
        self._states = {name: getattr(torch, name) for name in _STATES}

    def __enter__(self) -> _Asking:
        for name, function in self._states.items():
            setattr(torch, name, self._counted(name, function))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for name, function in self._states.items():
            setattr(torch, name, function)

    def _counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            asker = str(sys._getframe(1).f_globals.get("__name__", ""))
            # torch's own modules choose between equal kernels by it.
            self.asked[name] += asker.partition(".")[0] != "torch"
            return function(*args, **kwargs)

        return counted

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        known = self._known
        given = _tensors((*args, *(kwargs or {}).values()))
        self.read |= {id(t) for t in given} & self._held
        operands = [t for t in given if id(t) in known]
        if not operands:
            return result
        name = func._schema.name.partition("::")[2]
        if name.endswith("_like") or name.startswith("new_"):
            return result
        made = _tensors((result,))
        known.update((id(t), t) for t in made if _is_held(t))
        floats = all(t.is_floating_point() for t in [*operands, *made])
        if not (made and floats) and not func.is_view and name not in _COPIES:
            self.asked[name] += 1
        return result


#: What a forward may ask of the process, and a compiled port cannot.
_STATES = (
    "is_grad_enabled", "is_inference_mode_enabled", "is_autocast_enabled", "get_default_dtype",
)  # fmt: skip
_COPIES = ("_to_copy", "clone", "detach", "copy_", "lift_fresh")


def _is_held(tensor: torch.Tensor) -> bool:
    """Large activations of floats are left out: together they may not fit into memory."""
    return not tensor.is_floating_point() or tensor.numel() <= _LARGE


_LARGE = 2**20


def _tensors(items: Iterable[Any]) -> list[torch.Tensor]:
    """The tensors among the operands or results of an operation, those in lists too."""
    found: list[torch.Tensor] = []
    for item in items:
        if isinstance(item, torch.Tensor):
            found.append(item)
        elif isinstance(item, tuple | list):
            found += _tensors(item)
    return found


__all__ = ["with_defaults"]
