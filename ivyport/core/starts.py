"""What the constructor of a source puts into its tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Starts:
    """Tensors of fresh models, as numpy arrays.

    Attributes:
        values: parameters that are the same in every fresh model, but no one number, by path.
        changed: for each field of the configuration the tensors that another value of it
            changes, by path; None for those that are not at hand.
    """

    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    changed: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
