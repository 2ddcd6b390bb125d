"""Where a model came from, in a form that rebuilds it.

The command line builds its sources through these records, and `port.json` keeps them,
so that `ivyport verify` meets the same model with the same example inputs again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, get_args

from ivyport.core.errors import SourceError
from ivyport.targets import require
from ivyport.zoo.built import Built, origin_to_json
from ivyport.zoo.hf_hub import safe_name
from ivyport.zoo.inputs import read_inputs, sample_inputs, to_torch, with_settings
from ivyport.zoo.jax_origin import FlaxOrigin, HaikuFactoryOrigin, HaikuOrigin


@dataclasses.dataclass(frozen=True)
class HFOrigin:
    """A transformers model: a hub id, a cached snapshot or a local folder."""

    kind: ClassVar[str] = "hf"

    model: str
    cls: str | None = None
    weights: bool = True
    dtype: str = "float32"
    revision: str | None = None
    batch: int = 2
    seq_len: int | None = None
    inputs: str | None = None
    settings: tuple[str, ...] = ()
    seed: int = 0

    def build(self, progress: Callable[[int], None] | None = None) -> Built:
        """Load the model; its inputs come from the file, or else from its config.

        Raises `SourceError`, `WeightsError`, `InputError` or `DependencyError`.
        """
        require("torch", "hf")
        # A bad file is found before minutes are spent on loading a model.
        arrays = None if self.inputs is None else read_inputs(Path(self.inputs))
        from ivyport.zoo import hf

        source = hf.load(
            self.model,
            cls=self.cls,
            weights=self.weights,
            dtype=self.dtype,
            revision=self.revision,
            seed=self.seed,
        )
        if arrays is not None:
            inputs, dims = to_torch(arrays), None
        else:
            inputs = hf.example_inputs(
                source, batch=self.batch, seq_len=self.seq_len, seed=self.seed
            )
            dims = hf.dims(source, inputs)
        inputs = with_settings(inputs, self.settings)
        # The commit and the class that were found, not the names that led to them.
        pinned = dataclasses.replace(
            self, cls=source.origin["class"], revision=source.origin["revision"]
        )
        record = source.origin | origin_to_json(pinned)
        notes = tuple(source.notes)
        beside = tuple(source.beside)
        return Built(source.model, inputs, source.name, record, notes, dims, beside)


@dataclasses.dataclass(frozen=True)
class TorchOrigin:
    """A factory of the user's own, `pkg.module:factory`, and texts for its inputs."""

    kind: ClassVar[str] = "torch"

    model: str
    inputs: tuple[str, ...]
    params: str | None = None
    settings: tuple[str, ...] = ()
    seed: int = 0

    def build(self, progress: Callable[[int], None] | None = None) -> Built:
        """Make the module, load its parameters, draw its inputs.

        Raises `SourceError`, `WeightsError`, `InputError` or `DependencyError`.
        """
        require("torch")
        arrays = sample_inputs(self.inputs, seed=self.seed)
        from ivyport.zoo import torch_factory

        module = torch_factory.build(self.model, seed=self.seed)
        if self.params is not None:
            torch_factory.load_params(module, Path(self.params))
        name = safe_name(torch_factory.class_name(module))
        inputs = with_settings(to_torch(arrays), self.settings)
        return Built(module, inputs, name, origin_to_json(self))


Origin = HFOrigin | TorchOrigin | HaikuOrigin | HaikuFactoryOrigin | FlaxOrigin
_KINDS: dict[str, type[Origin]] = {origin.kind: origin for origin in get_args(Origin)}


def origin_from_json(record: Mapping[str, Any]) -> Origin:
    """The origin that a record of `port.json` holds.

    Raises `SourceError` for one that names no known kind, or has no or other fields to
    rebuild from: a port made in Python, from a live model, has none.
    """
    cls = _KINDS.get(str(record.get("kind")))
    fields = dict(record.get("rebuild") or {})
    known = set() if cls is None else {f.name for f in dataclasses.fields(cls)}
    if cls is None or not set(fields) <= known or "model" not in fields:
        raise SourceError(
            f"port.json does not say how to rebuild the source: {dict(record)}. Call "
            "ivyport.verify(model, ported) with the live model instead."
        )
    # JSON has no tuples, and these records no lists.
    rebuilt: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in fields.items()
    }
    return cls(**rebuilt)
