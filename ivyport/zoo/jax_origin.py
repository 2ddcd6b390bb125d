"""Where a JAX model came from: an entry of the haiku zoo, or a Flax factory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from ivyport.core.errors import InputError, SourceError
from ivyport.targets import require
from ivyport.zoo.built import Built, origin_to_json
from ivyport.zoo.hf_hub import safe_name
from ivyport.zoo.inputs import sample_inputs, with_settings


@dataclasses.dataclass(frozen=True)
class HaikuOrigin:
    """An entry of the haiku zoo.

    model, variant: names of the entry and of its variant, None for the entry's default.
    weights: whether pretrained, or drawn from `seed`; None takes what the entry has.
    file: pretrained weights, None for the published ones.
    sizes: texts like ``num_latents=12`` that replace published sizes.
    """

    kind: ClassVar[str] = "haiku"

    model: str
    variant: str | None = None
    weights: bool | None = None
    file: str | None = None
    sizes: tuple[str, ...] = ()
    batch: int = 2
    seed: int = 0

    def build(self, progress: Callable[[int], None] | None = None) -> Built:
        """Make the function, load or draw its weights, draw its inputs.

        `progress` gets the bytes of a download as they come. Raises `InputError`,
        `SourceError`, `WeightsError` or `DependencyError`.
        """
        from ivyport.zoo.haiku import catalogue

        if self.file is not None and self.weights is False:
            raise InputError("--weights FILE and --no-weights: give one of them.")
        entry = catalogue.find(self.model)
        variant = entry.variant(self.variant)
        sizes = catalogue.read_sizes(entry, variant, self.sizes)
        model = entry.build(variant, batch=self.batch, seed=self.seed, sizes=sizes)
        path = self._path(entry.variants[variant].weights, progress)
        several = len(entry.variants) > 1
        what = f"{entry.name} {variant}" if several else entry.name
        notes: tuple[str, ...] = ()
        if path is None:
            params, state = model.draw(self.seed)
            if self.weights is None:
                notes = (f"{entry.name} has no published weights: these are random",)
        else:
            from ivyport.zoo.haiku import checkpoints

            params, state = checkpoints.load(path, *model.specs(), what=what)
        pinned = dataclasses.replace(self, variant=variant, weights=path is not None)
        return Built(
            model.transformed,
            dict(model.inputs),
            safe_name(what.replace(" ", "_")),
            origin_to_json(pinned),
            notes,
            params=params,
            state=state,
            rng=self.seed,
        )

    def _path(
        self, url: str | None, progress: Callable[[int], None] | None
    ) -> Path | None:
        """The file of the weights, None for random ones."""
        if self.file is not None:
            return Path(self.file)
        if self.weights is False or (self.weights is None and url is None):
            return None
        if url is None:
            raise SourceError(
                f"{self.model} has no published weights: pass --weights FILE, or "
                "--no-weights for random ones."
            )
        from ivyport.zoo.haiku import checkpoints

        return checkpoints.fetch(url, progress)


@dataclasses.dataclass(frozen=True)
class HaikuFactoryOrigin:
    """A haiku function of the user's own, `pkg.module:name`, and texts for its inputs.

    `params` is a file of weights as the zoo's entries take it; without one they are drawn.
    """

    kind: ClassVar[str] = "haiku-function"

    model: str
    inputs: tuple[str, ...]
    params: str | None = None
    settings: tuple[str, ...] = ()
    seed: int = 0

    def build(self, progress: Callable[[int], None] | None = None) -> Built:
        """Find the function, load or draw its parameters, draw its inputs.

        Raises `SourceError`, `WeightsError`, `InputError` or `DependencyError`.
        """
        require("haiku")
        arrays = sample_inputs(self.inputs, seed=self.seed)
        flags = with_settings({}, self.settings)
        from ivyport.zoo.haiku import checkpoints, own
        from ivyport.zoo.haiku.model import HaikuModel

        model = HaikuModel(own.build(self.model), arrays, flags)
        notes: tuple[str, ...] = ()
        if self.params is None:
            params, state = model.draw(self.seed)
            notes = ("the weights are random: --weights FILE gives your own",)
        else:
            path = Path(self.params)
            params, state = checkpoints.load(path, *model.specs(), what=self.model)
        return Built(
            model.transformed,
            with_settings(arrays, self.settings),
            safe_name(self.model.rpartition(":")[2]),
            origin_to_json(self),
            notes,
            params=params,
            state=state,
            rng=self.seed,
        )


@dataclasses.dataclass(frozen=True)
class FlaxOrigin:
    """A factory of the user's own, `pkg.module:factory`, and texts for its inputs.

    It makes a linen or an nnx module. `params` is a file or a folder of parameters,
    `params_key` the tree in it that holds them.
    """

    kind: ClassVar[str] = "flax"

    model: str
    inputs: tuple[str, ...]
    params: str | None = None
    params_key: str | None = None
    settings: tuple[str, ...] = ()
    seed: int = 0

    def build(self, progress: Callable[[int], None] | None = None) -> Built:
        """Make the module, load or initialise its parameters, draw its inputs.

        Raises `SourceError`, `WeightsError`, `InputError` or `DependencyError`.
        """
        require("flax")
        arrays = with_settings(
            sample_inputs(self.inputs, seed=self.seed), self.settings
        )
        from ivyport.zoo import flax_factory

        if self.params_key is not None and self.params is None:
            raise InputError("--params-key picks a tree of --params: give both.")
        module = flax_factory.build(self.model)
        path = None if self.params is None else Path(self.params)
        params: Any = None
        if flax_factory.is_linen(module):
            key = self.params_key
            params = flax_factory.variables(module, arrays, path, self.seed, key)
        elif path is not None:
            flax_factory.load_into(module, path, self.params_key)
        name, record = safe_name(type(module).__name__), origin_to_json(self)
        return Built(module, arrays, name, record, params=params, rng=self.seed)
