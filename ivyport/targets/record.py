"""What a target decides: one record, read wherever targets differ.

Names of modules stand for what loads a framework; `Target.load` imports them when they are needed.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import itertools
import sys
from collections.abc import Callable
from typing import Any

from ivyport.core.passes.policy import Policy


@dataclasses.dataclass(frozen=True)
class Engine:
    """One way in which `ivyport bench` runs a case's model, in a process of its own.

    Attributes:
        name: in a results file.
        label: for people.
        framework: whose device and precision settings it follows, ``torch`` or ``jax``.
        packages: what must be importable.
        loader: ``module:function`` that its worker calls with a `session.Job`.
        port: the target whose port it runs, None for one that runs the source itself.
        path: folders that its worker puts in front of `sys.path`.
        is_baseline: whether it is one of torch's own modes that speed-ups are over.
        compiles: whether its first call compiles.
        scans: whether it runs equal layers as one loop, which is asked for.
    """

    name: str
    label: str
    framework: str
    packages: tuple[str, ...]
    loader: str
    port: str | None = None
    path: tuple[str, ...] = ()
    is_baseline: bool = False
    compiles: bool = True
    scans: bool = False

    @property
    def missing(self) -> list[str]:
        """The packages that it needs and that are not installed."""
        return [p for p in self.packages if importlib.util.find_spec(p) is None]


@dataclasses.dataclass(frozen=True)
class Target:
    """One target of ports.

    Attributes:
        name: as `--to` takes it and ``port.json`` says it.
        aliases: other names that `--to` takes.
        title: what people call it.
        packages: what a saved port needs to run.
        extra: the optional extra of ivyport that installs these packages.
        library: the name of its library on the hub.
        tags: on the hub, beside the library.
        kind: the kind of source (`ivyport.sources.KINDS`) that a port is, taken for one.
        policy: what its operations expect of a graph.
        form: ``module:name`` of how modules are written (`ivyport.modules.form.Form`).
        live: the module that makes live models of emitted source.
        side: ``module:class`` that runs a port in `ivyport.verification`.
        model: ``module:class`` that its live models are of; a class of the emitted file itself
            has no module.
        example: the statement that the example on a port's card begins with.
        ones: ``module.function`` that makes an array there, given a shape and a dtype.
        dtype_keyword: whether that function takes its dtype by keyword alone.
        engines: how `ivyport bench` runs its ports.
        trains: what the card says of training it.
        parts: of how many things a live model consists, in a tuple whose first is of `model`; 1
            for a model that holds its weights.
        result: what the example on a port's card calls these.
        call: how it calls the model.
        saves: how what was trained is written.
        loader: the function of the file that loads a folder; empty where it is the class's.
        loadable: whether transformers' own classes may read a port's folder.
        checks_ids: whether ids that no table holds raise an error.
    """

    name: str
    aliases: tuple[str, ...]
    title: str
    packages: tuple[str, ...]
    extra: str
    library: str
    tags: tuple[str, ...]
    kind: str
    policy: Policy
    form: str
    live: str
    side: str
    model: str
    example: str
    ones: str
    dtype_keyword: bool
    engines: tuple[Engine, ...]
    loadable: bool
    checks_ids: bool
    trains: str
    parts: int = 1
    result: str = "model"
    call: str = "model({})"
    loader: str = ""
    saves: str = "model.save_pretrained(folder)"

    def holds(self, value: Any) -> bool:
        """Whether `value` is a live model of this target; nothing is imported to tell."""
        module, _, name = self.model.partition(":")
        loaded = sys.modules.get(module)
        if self.parts > 1:
            is_one = isinstance(value, tuple) and len(value) == self.parts
            value = value[0] if is_one else None
        if not module:
            bases = itertools.pairwise(type(value).__mro__)
            return any(
                base.__name__ == name and base.__module__ == cls.__module__
                for cls, base in bases
            )
        return loaded is not None and isinstance(value, vars(loaded)[name])

    def open_form(self) -> Any:
        """How its modules are written; loads what the rules need, and no framework."""
        return load(self.form)

    def open_live(self) -> Any:
        """The module that makes its live models; loads the framework."""
        return importlib.import_module(self.live)

    def open_side(self) -> Callable[..., Any]:
        """The class that runs its ports for `ivyport.verification`; loads the framework."""
        side: Callable[..., Any] = load(self.side)
        return side


def load(entry: str) -> Any:
    """What ``module:name`` names."""
    module, _, name = entry.partition(":")
    return getattr(importlib.import_module(module), name)
