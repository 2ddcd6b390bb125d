"""What every origin of a model gives, and how it is recorded."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar, Protocol


@dataclasses.dataclass(frozen=True)
class Built:
    """A live source model and what to port it with.

    model: what `ivyport.port` takes as its source.
    inputs: the example inputs to trace it with, by argument name.
    name: fit for a file name.
    record: what `port.json` says of the source; `origin_from_json` reads it.
    notes: remarks for the user.
    dims: names of the free axes of each input, None to let the tracer find them.
    beside: files that the port's folder gets too, such as those of a tokenizer.
    params, state, rng: weights and randomness of a model that does not hold its own.
    """

    model: Any
    inputs: dict[str, Any]
    name: str
    record: dict[str, Any]
    notes: tuple[str, ...] = ()
    dims: dict[str, dict[int, str | None]] | None = None
    beside: tuple[Path, ...] = ()
    params: Any = None
    state: Any = None
    rng: Any = None

    def weights(self) -> dict[str, Any]:
        """`params`, `state` and `rng` as `ivyport.port` and `ivyport.verify` take them."""
        return {"params": self.params, "state": self.state, "rng": self.rng}


class Recorded(Protocol):
    """A dataclass that says where a model came from; `kind` names the class."""

    kind: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]


def origin_to_json(origin: Recorded) -> dict[str, Any]:
    """The origin as JSON-ready data; `zoo.origin.origin_from_json` reads it back."""
    return {"kind": origin.kind, "rebuild": dataclasses.asdict(origin)}
