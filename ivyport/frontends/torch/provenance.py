"""Which configuration field sets which number of a module, found by experiment.

The model is built once more, on the meta device, from a configuration whose floats are all
different from each other and from the original. A module's number that followed a field comes
from it. Nothing is guessed: where the experiment fails, there is no answer.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch


def proven_fields(model: torch.nn.Module) -> dict[str, str]:
    """``module.path.attribute`` to configuration field, for floats (rates, epsilons, scales).

    Empty for models that are not built from one ``config`` argument.
    """
    config = vars(model).get("config")
    if config is None or not callable(getattr(config, "to_dict", None)):
        return {}
    changed, marks = _marked(config)
    if not marks:
        return {}
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            twin = type(model)(changed)
    # A class that needs more than a configuration, or refuses the marks, proves nothing.
    except Exception:  # noqa: BLE001
        return {}
    found = {}
    for path, module in twin.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, float) and value in marks:
                found[f"{path}.{name}" if path else name] = marks[value]
    return found


def _marked(config: Any) -> tuple[Any, dict[float, str]]:
    """A copy of the configuration with a mark in each float, and the field of each mark."""
    changed = copy.deepcopy(config)
    marks: dict[float, str] = {}
    floats = [
        (k, v) for k, v in vars(config).items() if isinstance(v, float) and 0 < v < 1
    ]
    for position, (name, value) in enumerate(floats):
        mark = value * (1 + 1e-3 * (position + 1))
        if 0 < mark < 1 and mark not in marks:
            setattr(changed, name, mark)
            marks[mark] = name
    return changed, marks
