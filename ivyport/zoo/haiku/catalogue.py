"""The entries of the haiku zoo: names, variants, sizes, and published weights.

Data only: haiku is imported when a model is built, so that the list can be shown where
haiku is not installed.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ivyport.core.errors import InputError
from ivyport.targets import require
from ivyport.zoo.haiku import nets_sizes, perceiver_sizes

if TYPE_CHECKING:
    from ivyport.zoo.haiku.model import HaikuModel

#: Where the checkpoints of the Perceiver IO paper's authors are.
PERCEIVER_URL = "https://storage.googleapis.com/perceiver_io"


@dataclasses.dataclass(frozen=True)
class Variant:
    """One form of an entry.

    Attributes:
        make: ``module:function`` below this package; the function makes the transformed
            function of some sizes.
        sizes: a dataclass with the published sizes, and with `inputs` to draw from.
        trains: whether the function takes ``is_training``.
        weights: where its pretrained weights are published, None for nowhere.
    """

    make: str
    sizes: Any
    trains: bool = True
    weights: str | None = None


@dataclasses.dataclass(frozen=True)
class Entry:
    """A model family; its first variant is the default.

    Attributes:
        name: what the command line calls it.
        title: one line on what it is.
        variants: by name, at least one.
    """

    name: str
    title: str
    variants: Mapping[str, Variant]

    def variant(self, name: str | None) -> str:
        """The name of a variant that exists, for None the default's; else `InputError`."""
        if name is None:
            return next(iter(self.variants))
        if name not in self.variants:
            raise InputError(
                f"{self.name} has no variant {name!r}, only: {', '.join(self.variants)}."
            )
        return name

    def build(
        self,
        variant: str | None = None,
        *,
        batch: int = 2,
        seed: int = 0,
        sizes: Mapping[str, Any] | None = None,
    ) -> HaikuModel:
        """A variant's function and example inputs; `sizes` replaces published sizes.

        Raises:
            InputError: no such variant or size, or a size of another type.
            DependencyError: haiku is not installed.
        """
        chosen = self.variants[self.variant(variant)]
        final = _resized(
            f"{self.name} {self.variant(variant)}", chosen.sizes, sizes or {}
        )
        require("haiku")
        from ivyport.zoo.haiku.model import HaikuModel

        module, _, function = chosen.make.partition(":")
        make = getattr(importlib.import_module(f"{__package__}.{module}"), function)
        return HaikuModel(
            make(final),
            final.inputs(batch, np.random.default_rng(seed)),
            {"is_training": True} if chosen.trains else {},
        )


def _resized(what: str, sizes: Any, changes: Mapping[str, Any]) -> Any:
    for name, value in changes.items():
        fields = {f.name: getattr(sizes, f.name) for f in dataclasses.fields(sizes)}
        if name not in fields:
            shown = ", ".join(f"{n}={v}" for n, v in fields.items())
            raise InputError(f"{what} has no size {name!r}. Its sizes: {shown}.")
        if type(value) is not type(fields[name]):
            raise InputError(
                f"{what}: {name}={value!r} is of another type than {fields[name]!r}."
            )
    return dataclasses.replace(sizes, **changes)


def read_sizes(
    entry: Entry, variant: str | None, texts: Iterable[str]
) -> dict[str, Any]:
    """Sizes from texts like ``num_latents=12`` or ``image_size=32x32``.

    Raises `InputError` for a text of another form; names and types are checked by `build`.
    """
    sizes = entry.variants[entry.variant(variant)].sizes
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        example = getattr(sizes, name, None) if name.isidentifier() else None
        try:
            if not equals:
                raise ValueError
            if isinstance(example, bool):
                found[name] = {"true": True, "false": False}[value.lower()]
            elif isinstance(example, tuple):
                found[name] = tuple(int(part) for part in value.split("x"))
            else:
                found[name] = float(value) if isinstance(example, float) else int(value)
        except (ValueError, KeyError):
            raise InputError(
                f"--size {text!r} does not read as name=value, for instance "
                "num_classes=10 or image_size=32x32."
            ) from None
    return found


def find(name: str) -> Entry:
    """The entry of that name; `InputError` with the names that exist otherwise."""
    if name in ENTRIES:
        return ENTRIES[name]
    close = difflib.get_close_matches(name, ENTRIES, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise InputError(
        f"the haiku zoo has no {name!r}, only: {', '.join(ENTRIES)}.{hint}"
    )


def _perceiver(make: str, sizes: Any, file: str, *, trains: bool = False) -> Variant:
    weights = f"{PERCEIVER_URL}/{file}"
    return Variant(f"perceiver_variants:{make}", sizes, trains, weights)


def _resnet(depth: int) -> Entry:
    return Entry(
        f"resnet{depth}",
        f"hk.nets.ResNet{depth}, image classifier",
        {
            f"v{version}": Variant("nets:resnet", nets_sizes.ImageSizes(depth, version))
            for version in (1, 2)
        },
    )


_QUANTIZER = nets_sizes.QuantizerSizes()
ENTRIES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            "perceiver",
            "Perceiver IO (arXiv:2107.14795)",
            {
                "imagenet-learned": _perceiver(
                    "imagenet_learned",
                    perceiver_sizes.ImageNetSizes(),
                    "imagenet_learned_position_encoding.pystate",
                ),
                "imagenet-fourier": _perceiver(
                    "imagenet_fourier",
                    perceiver_sizes.ImageNetSizes(),
                    "imagenet_fourier_position_encoding.pystate",
                ),
                "imagenet-conv": _perceiver(
                    "imagenet_conv",
                    perceiver_sizes.ImageNetSizes(channels=64),
                    "imagenet_conv_preprocessing.pystate",
                    trains=True,
                ),
                "language-bytes": _perceiver(
                    "language_bytes",
                    perceiver_sizes.LanguageSizes(),
                    "language_perceiver_io_bytes.pickle",
                ),
                "optical-flow": _perceiver(
                    "optical_flow",
                    perceiver_sizes.FlowSizes(),
                    "optical_flow_checkpoint.pystate",
                ),
            },
        ),
        *map(_resnet, (18, 34, 50, 101, 152, 200)),
        Entry(
            "mobilenet",
            "hk.nets.MobileNetV1, image classifier",
            {"v1": Variant("nets:mobilenet", nets_sizes.MobileNetSizes())},
        ),
        Entry(
            "mlp",
            "hk.nets.MLP, multi-layer perceptron",
            {"relu": Variant("nets:mlp", nets_sizes.MLPSizes())},
        ),
        Entry(
            "vqvae",
            "hk.nets.VectorQuantizer, the discrete layer of a VQ-VAE",
            {
                "loss": Variant("nets:vector_quantizer", _QUANTIZER),
                "ema": Variant("nets:vector_quantizer_ema", _QUANTIZER),
            },
        ),
    )
}
