"""Whether a port's weights were trained since it was made, and the port with its source's weights.

A port that was fine-tuned no longer computes what its source computes, but its code still can be
compared: with the source's weights in it.
"""

from __future__ import annotations

import types
from typing import Any

import numpy as np

from ivyport.made import port_of, remember
from ivyport.porting import Port, current
from ivyport.sources import Source
from ivyport.targets import TARGETS
from ivyport.weights.checksums import changed


def trained(model: Any) -> list[str]:
    """The names of a live port's weights that have changed since it was made."""
    port = port_of(model)
    return changed(port.record.as_ported, current(port, model))


def said_trained(model: Any) -> list[str]:
    """That a live port's weights have changed, and how many; nothing where none has."""
    names = trained(model)
    total = len(port_of(model).record.as_ported)
    said = f"weights have changed since the port: {len(names)} of {total}"
    return [said] if names else []


def with_source_weights(model: Any, source: Source) -> tuple[Any, list[str]]:
    """A copy of a port with the source's weights, and a note if these have changed themselves.

    What the source's checkpoint does not hold (constants of its program) is the port's own.

    Raises:
        WeightsError: the source's weights have other names or shapes than they had.
    """
    port = port_of(model)
    made = _made(port, model, source)
    backend = TARGETS[port.record.target].open_live()
    # Of the file that the class is in, wherever it was loaded from.
    module = types.SimpleNamespace(**backend.namespace(model))
    filled = backend.fill(
        backend.factory(module, port.record.cls, port.record.config), made
    )
    remember(filled, port)
    moved = changed(port.record.as_ported, made)
    said = f"the source's weights have changed since the port: {len(moved)}"
    return filled, [said] if moved else []


def _made(port: Port, model: Any, source: Source) -> dict[str, np.ndarray]:
    held = source.tensors()
    weights = port.record.weights
    wanted = {name for row in weights.rows for name in (row.source, *row.aliases)}
    tensors = {name: held[name] for name in wanted & held.keys()}
    arrays = source.arrays(
        tensors, narrow=TARGETS[port.record.target].policy.narrow, wide=weights.unused
    )
    own = current(port, model)
    made = {}
    for target in dict.fromkeys(row.target for row in weights.rows):
        rows = [row for row in weights.rows if row.target == target]
        there = len(weights.sources_of(target, arrays)) == len(rows)
        made[target] = weights.read_target(target, arrays) if there else own[target]
    return made
