"""Which configuration field a number comes from.

A number is spelled ``config.hidden_size`` only if a field has exactly that value and its name
fits the number's role; where two fields fit equally, the one sharing words with the place wins.
The choice never changes what the emitted code computes, only what a reader edits later.
"""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

Number = int | float

WIDTH = "hidden dim d_model embd embed inner intermediate ffn d_ff d_kv channels width size mlp"
ROLES: dict[str, str] = {
    "num_embeddings": "vocab position ctx length max type",
    "rate": "drop prob",
    "eps": "eps epsilon",
    "momentum": "momentum",
    "length": "layers layer depth blocks",
    "features": WIDTH,
}
ALIASES = {
    "in_features": "features",
    "out_features": "features",
    "num_features": "features",
    "in_channels": "features",
    "out_channels": "features",
    "num_channels": "features",
    "normalized_shape": "features",
    "embedding_dim": "features",
    "output_size": "features",
    "output_channels": "features",
    "embed_dim": "features",
    "vocab_size": "num_embeddings",
    "p": "rate",
    "size_0": "features",
    "epsilon": "eps",
    "dropout": "rate",
}
# Words that many fields share: they tell nothing about the place.
COMMON = {"drop", "dropout", "pdrop", "prob", "rate", "layer", "layers", "norm", "eps"}
COMMON |= {"epsilon", "size", "num"}
NOT_WIDTH = "vocab position layer head token type num max image patch"


def words(text: str) -> set[str]:
    """Lower-case words of an identifier or path.

    >>> sorted(words("encoder.layer.0.LayerNorm_eps"))
    ['0', 'encoder', 'eps', 'layer', 'norm']
    """
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", text)
    return {w.lower() for w in re.split(r"[^A-Za-z0-9]+", spaced) if w}


# Words of an attribute's name that make it plausible as a length or as a factor.
# A window's size and the number of windows are often equal.
UNSAFE = {"window"}
NAMED = {
    "shape": words(
        "head heads dim size sizes groups group window channels width height features hidden "
        "num buckets span length embed patches proj"
    ),
    "factor": words(
        "scale scaling eps epsilon factor alpha beta gamma theta temperature cap multiplier "
        "slope softcap norm normalizer"
    ),
}


def plausible(attribute: str, role: str) -> bool:
    """Whether an attribute of that name may be a length (``shape``) or a ``factor``."""
    found = words(attribute)
    return bool(found & NAMED[role]) and not found & UNSAFE


class ConfigFields:
    """Numbers of a configuration by field; remembers which were used."""

    def __init__(
        self,
        fields: Mapping[str, Any],
        proven: Mapping[str, str] | None = None,
        sizes: Mapping[str, tuple[Any, ...]] | None = None,
    ) -> None:
        self.proven = dict(proven or {})
        self.sizes = sizes
        self.fields = {
            k: v
            for k, v in fields.items()
            if isinstance(v, int | float)
            and not isinstance(v, bool)
            and k.isidentifier()
            # Python would read another name, which may be that of another field.
            and unicodedata.is_normalized("NFKC", k)
            and not keyword.iskeyword(k)
            and not k.startswith("__")
        }
        self.used: dict[str, Number] = {}

    def find(
        self,
        value: Number,
        role: str,
        place: Iterable[str] = (),
        among: Collection[str] | None = None,
    ) -> str | None:
        """The field that holds `value` in that role, one of `among` if that is given, or None."""
        role = ALIASES.get(role, role)
        context = set().union(*(words(p) for p in place)) if place else set()
        candidates = [
            (self._score(name, role, context), -position, name)
            for position, (name, held) in enumerate(self.fields.items())
            if type(held) is type(value) and held == value and self._fits(name, role)
            and (among is None or name in among)
        ]  # fmt: skip
        if not candidates:
            return None
        field = max(candidates)[2]
        self.used[field] = self.fields[field]
        return field

    def of(self, value: Number, *attributes: str) -> str | None:
        """The field that is proved to set one of these attributes (``path.attribute``)."""
        for attribute in attributes:
            field = self.proven.get(attribute)
            if field in self.fields and self.fields[field] == value:
                self.used[field] = self.fields[field]
                return field
        return None

    def of_all(self, value: Number, attributes: Iterable[str]) -> str | None:
        """The field that is proved to set all of these attributes."""
        fields = {self.proven.get(attribute) for attribute in attributes}
        field = fields.pop() if len(fields) == 1 else None
        if field is None or self.fields.get(field) != value:
            return None
        self.used[field] = self.fields[field]
        return field

    def size(self, places: Iterable[str | None]) -> tuple[Any, ...] | None:
        """The formula that is proved at all places (keys of `core.ir.Graph.sizes`)."""
        formulas = {(self.sizes or {}).get(p) if p else None for p in places}
        formula = formulas.pop() if len(formulas) == 1 else None
        names = list(_fields(formula or ()))
        if formula is None or any(name not in self.fields for name in names):
            return None
        self.used |= {name: self.fields[name] for name in names}
        return formula

    def exact(self, value: Number, attribute: str) -> str | None:
        """The field of the same name as the source's attribute, if it has that value."""
        if attribute in self.fields and self.fields[attribute] == value:
            self.used[attribute] = self.fields[attribute]
            return attribute
        return None

    def head_size(self, value: Number, attribute: str) -> tuple[str, str] | None:
        """The fields of which `value` is the quotient: width of the model by its heads."""
        if "head" not in words(attribute) or not isinstance(value, int):
            return None
        heads = [n for n in self.fields if "heads" in words(n) or n == "n_head"]
        for head in heads:
            width = self.find(
                int(self.fields[head]) * value, "features", ["hidden model"]
            )
            if width is not None:
                self.used[head] = self.fields[head]
                return width, head
        return None

    def _fits(self, name: str, role: str) -> bool:
        if role not in ROLES:
            return False
        if role == "features" and any(w in name for w in NOT_WIDTH.split()):
            return False
        return any(w in name for w in ROLES[role].split())

    def _score(self, name: str, role: str, context: set[str]) -> int:
        own = words(name)
        score = 2 * len((own & context) - COMMON)
        if role == "rate":
            about_attention = bool({"attention", "attn"} & own)
            score += 3 if about_attention == ("attentionop" in context) else 0
        if role == "features":
            score += "hidden" in own or "model" in own or "embd" in own
        return score


def _fields(formula: tuple[Any, ...]) -> Iterator[str]:
    """The fields of a formula."""
    for part in formula[1:] if len(formula) > 1 else formula:
        if isinstance(part, tuple):
            yield from _fields(part)
        elif isinstance(part, str):
            yield part
