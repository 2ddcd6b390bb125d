"""Which frontend takes a source, and what the rest of a port asks of the source.

A source's kind is told by its type without importing any framework: a framework whose object the
caller holds is loaded already.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ivyport.core.errors import InputError, WeightsError
from ivyport.core.ir import Graph
from ivyport.core.starts import Starts

if TYPE_CHECKING:
    import torch

    from ivyport.frontends.jax.sources import Source as Opened

Dims = Mapping[str, Mapping[int, str | None]]

#: What each kind of source is called, and the packages whose versions a port records.
KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "torch": ("PyTorch", ("torch",)),
    "haiku": ("Haiku", ("dm-haiku", "jax")),
    "flax.linen": ("Flax Linen", ("flax", "jax")),
    "flax.nnx": ("Flax NNX", ("flax", "jax")),
    "jax": ("JAX", ("jax",)),
}


_PORTED = (
    "this version ports live instances of torch.nn.Module, flax.nnx.Module and "
    "flax.linen.Module, haiku transformed functions, and functions of JAX arrays: pass one of "
    "these"
)


@dataclasses.dataclass
class Captured:
    """A traced source.

    Attributes:
        graph: framework-neutral, before any pass.
        tensors: the framework's own arrays by `Param.path`, those that no longer have a
            parameter included.
        state: every tensor of the source's checkpoint by name, a tied one once.
        places: where the port holds them, by name, if it holds them at all.
        args, kwargs: the example inputs, as the source is called with them.
        notes: what had to be given up.
        trains: which modules of the source are in train mode, by path.
        starts: what fresh models of the source hold.
    """

    graph: Graph
    tensors: dict[str, Any]
    state: dict[str, Any]
    places: dict[str, str]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    notes: list[str]
    trains: dict[str, bool] = dataclasses.field(default_factory=dict)
    starts: Starts = dataclasses.field(default_factory=Starts)


class Source(Protocol):
    """A live model with its weights and example inputs."""

    @property
    def kind(self) -> str:
        """A key of `KINDS`."""

    @property
    def name(self) -> str:
        """The name of its class or function."""

    @property
    def qualified(self) -> str:
        """The same with its module."""

    def capture(self, dims: Dims | None, train: bool) -> Captured:
        """Trace it; see `ivyport.api.trace`."""

    def arrays(
        self, tensors: Mapping[str, Any], *, narrow: bool, wide: Collection[str] = ()
    ) -> Mapping[str, np.ndarray]:
        """Its tensors as arrays, read one at a time.

        With `narrow`, 64-bit ones become 32-bit but for those in `wide`.
        """

    def tensors(self) -> dict[str, Any]:
        """The framework's own tensors of its checkpoint by name, a tied one once."""

    def config(self) -> dict[str, Any]:
        """Its configuration as JSON data, {} for a source without one."""

    @property
    def nbytes(self) -> int:
        """About how many bytes its weights take."""


@dataclasses.dataclass
class TorchSource:
    """A `torch.nn.Module`."""

    model: torch.nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] | None
    kind: str = "torch"

    @property
    def name(self) -> str:
        return type(self.model).__name__

    @property
    def qualified(self) -> str:
        return f"{type(self.model).__module__}.{type(self.model).__qualname__}"

    def capture(self, dims: Dims | None, train: bool) -> Captured:
        from ivyport.frontends.torch.frontend import to_graph
        from ivyport.frontends.torch.inputs import bind_inputs

        traced = to_graph(self.model, self.args, self.kwargs, dims=dims, train=train)
        bound = bind_inputs(self.model, self.args, self.kwargs or {})
        tensors, state = traced.tensors, self.tensors()
        places, (args, kwargs) = {name: name for name in state}, bound.call()
        trains = {path: m.training for path, m in self.model.named_modules()}
        notes = [*traced.notes, *_without_cache(self.config(), kwargs)]
        return Captured(
            traced.graph, tensors, state, places, args, kwargs, notes, trains,
            traced.starts,
        )  # fmt: skip

    @property
    def nbytes(self) -> int:
        return sum(getattr(value, "nbytes", 0) for value in self.tensors().values())

    def tensors(self) -> dict[str, Any]:
        seen: set[int] = set()
        result = {}
        for key, value in self.model.state_dict(keep_vars=True).items():
            if id(value) not in seen:
                seen.add(id(value))
                result[key] = value
        return result

    def arrays(
        self, tensors: Mapping[str, Any], *, narrow: bool, wide: Collection[str] = ()
    ) -> Mapping[str, np.ndarray]:
        from ivyport.frontends.torch.kinds import demand_numbers
        from ivyport.frontends.torch.tensors import Arrays

        demand_numbers(tensors.items())
        return Arrays(tensors, wide=wide if narrow else tensors)

    def config(self) -> dict[str, Any]:
        """The Hugging Face configuration, as far as it is JSON."""
        config = vars(self.model).get("config")
        to_dict = getattr(config, "to_dict", None)
        if to_dict is None:
            return {}
        values = {}
        for key, value in to_dict().items():
            try:
                json.dumps(value)
            except TypeError:
                continue
            values[str(key)] = value
        return values


def _without_cache(config: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """A note where transformers computes something else with its cache, which ports do not have.

    With the cache on, and without a mask, it takes positions that start anew for packed sequences.
    """
    packs = given.get("position_ids") is not None
    if not packs or given.get("attention_mask") is not None:
        return []
    if not config.get("use_cache"):
        return []
    return [
        "Made with position_ids and without attention_mask: where positions start anew or repeat, "
        "transformers takes them for packed sequences while use_cache is on. The port does what "
        "it does with use_cache=False, which attends over all of a row."
    ]


@dataclasses.dataclass
class JaxSource:
    """A haiku transformed function, a Flax module or a plain JAX function."""

    model: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] | None
    given: Mapping[str, Any]
    opened: Opened

    @property
    def kind(self) -> str:
        return self.opened.kind

    @property
    def name(self) -> str:
        return self.opened.name

    @property
    def qualified(self) -> str:
        return self.opened.cls

    def capture(self, dims: Dims | None, train: bool) -> Captured:
        from ivyport.frontends.jax.frontend import to_graph

        traced = to_graph(
            self.model, self.args, self.kwargs, **self.given, dims=dims, train=train
        )
        state = self.tensors()
        return Captured(
            traced.graph, dict(traced.tensors), state, dict(traced.places), self.args,
            dict(self.kwargs or {}), traced.notes, self.opened.trains(),
        )  # fmt: skip

    def arrays(
        self, tensors: Mapping[str, Any], *, narrow: bool, wide: Collection[str] = ()
    ) -> Mapping[str, np.ndarray]:
        return _Arrays(tensors)

    def config(self) -> dict[str, Any]:
        return {}

    @property
    def nbytes(self) -> int:
        return sum(getattr(value, "nbytes", 0) for value in self.tensors().values())

    def tensors(self) -> dict[str, Any]:
        return {**self.opened.parameters, **self.opened.buffers}


class _Arrays(Mapping[str, np.ndarray]):
    """Named JAX arrays, read as numpy arrays one at a time."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self.tensors = tensors

    def __getitem__(self, name: str) -> np.ndarray:
        tensor = self.tensors[name]
        if not hasattr(tensor, "__array__"):
            raise WeightsError(
                f"{name} has a shape and no values ({type(tensor).__name__}): give the "
                "source's weights; ivyport.trace needs none"
            )
        return np.asarray(tensor)

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def open_source(
    source: Any,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    params: Any = None,
    state: Any = None,
    rng: Any = None,
) -> Source:
    """The source with its example inputs, by the type of `source`.

    Raises:
        InputError: it is of no kind that can be ported, `params` are missing or superfluous.
    """
    given = {"params": params, "state": state, "rng": rng}
    _demand_call(args, kwargs)
    demand_source(source)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(source, torch.nn.Module):
        from ivyport.frontends.torch import kinds

        extra = [f"{name}=" for name, value in given.items() if value is not None]
        if extra:
            raise InputError(
                f"a {type(source).__name__} holds its own weights: leave out "
                f"{', '.join(extra)}"
            )
        return TorchSource(kinds.unwrapped(source), tuple(args), kwargs)
    if torch is not None and any(
        isinstance(x, torch.Tensor) for x in (*args, *(kwargs or {}).values())
    ):
        raise InputError(
            f"the source is {_describe(source)} and its example inputs are torch tensors: "
            "put a torch function into the forward of a torch.nn.Module, give a JAX source JAX "
            "arrays"
        )
    from ivyport.frontends.jax.sources import open_source as open_jax

    opened = open_jax(source, args, kwargs, params=params, state=state, rng=rng)
    return JaxSource(source, tuple(args), kwargs, given, opened)


def _demand_call(args: Any, kwargs: Any) -> None:
    """Example inputs are a tuple and a dict by names."""
    if not isinstance(args, tuple | list):
        raise InputError(
            f"args= is a {type(args).__name__}: give the positional inputs as a tuple, "
            "args=(x,) for one"
        )
    if kwargs is None:
        return
    if not isinstance(kwargs, Mapping):
        raise InputError(
            f"kwargs= is a {type(kwargs).__name__}: give the inputs by name, "
            "kwargs={'x': x}"
        )
    foreign = [key for key in kwargs if not isinstance(key, str)]
    if foreign:
        raise InputError(
            f"kwargs= has {type(foreign[0]).__name__} for a name: names of arguments are strings"
        )


def demand_source(source: Any) -> None:
    """Refuse what no port can be made of, with what to pass instead.

    Raises:
        InputError: `source` is of no kind that is ported, or a module that cannot be captured
            whatever its inputs are.
    """
    if (torch := sys.modules.get("torch")) is not None:
        from ivyport.frontends.torch import kinds

        if isinstance(source, torch.nn.Module):
            kinds.demand_module(kinds.unwrapped(source))
            return
        reason = kinds.refusal(source)
        if reason is not None:
            raise InputError(reason)
    if isinstance(source, str | os.PathLike):
        raise InputError(
            f"the source is the text {str(source)!r}: load the model and pass it "
            "(transformers: AutoModel.from_pretrained(name)), or use the command line, "
            "ivyport hf NAME --to TARGET"
        )
    package = type(source).__module__.partition(".")[0]
    if package in ("keras", "tensorflow", "tf_keras"):
        raise InputError(
            f"the source is {_describe(source)} of {package}, which this version does not port; "
            f"{_PORTED}"
        )
    if isinstance(source, type):
        raise InputError(
            f"the source is {_describe(source)}: make one, {source.__name__}(...), and pass it; "
            f"{_PORTED}"
        )
    if not _is_jax(source):
        raise InputError(f"the source is {_describe(source)}; {_PORTED}")


def _is_jax(source: Any) -> bool:
    """Whether the frontend of JAX may know it; no source of JAX comes without JAX loaded."""
    modules = ("haiku", "flax.linen", "flax.nnx")
    held = [sys.modules[name] for name in modules if name in sys.modules]
    kinds = ("Module", "Transformed", "TransformedWithState")
    classes = tuple(
        c for m in held for k in kinds if isinstance(c := vars(m).get(k), type)
    )
    loaded = "jax" in sys.modules
    return loaded and (callable(source) or isinstance(source, classes))


def _describe(source: Any) -> str:
    if isinstance(source, type):
        return f"the class {source.__name__}, not an instance"
    return f"a {type(source).__name__}"
