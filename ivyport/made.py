"""The ports behind live models: those that were made here, and those of a saved folder.

A model that `Class.from_pretrained` of an emitted file made is known by the `port.json` beside
that file.
"""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

from ivyport.core.errors import InputError, WeightsError
from ivyport.folder.manifest import parsed
from ivyport.porting import Port, current
from ivyport.record import PortRecord
from ivyport.saving import CONFIG, PORT, UNPORTED, file_of, open_record, source_config
from ivyport.targets import module_of
from ivyport.weights.mapping import specs_of

PORTS: weakref.WeakKeyDictionary[Any, Port] = weakref.WeakKeyDictionary()
# By emitted class, of which each port has its own: copies of a model are of it too.
_CLASSES: weakref.WeakKeyDictionary[type, Port] = weakref.WeakKeyDictionary()


def remember(model: Any, port: Port) -> None:
    """`model` was made of `port`."""
    module = module_of(model)
    PORTS[module] = port
    if not isinstance(module, FunctionType):
        _CLASSES[type(module)] = port


def port_of(model: Any) -> Port:
    """The port that a live model was made of.

    Raises:
        InputError: the model is no port, or nothing is known of it.
        WeightsError: its weights are not those that its `port.json` tells of.
    """
    module = module_of(model)
    with contextlib.suppress(KeyError, TypeError):
        return PORTS[module]
    for cls in type(module).__mro__:
        if cls in _CLASSES:
            return _CLASSES[cls]
        port = _beside(cls)
        if port is not None:
            _demand_weights(model, port)
            _CLASSES[cls] = port
            return port
    raise InputError(
        f"this {type(module).__name__} was not made by ivyport.transpile or ivyport.load, nor by "
        f"the from_pretrained of an emitted file with its {PORT} beside it: import the class "
        "from the port's own folder"
    )


def _beside(cls: type) -> Port | None:
    """What the folder of the class's own file tells of it."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if not file or not Path(file).with_name(PORT).is_file():
        return None
    folder = Path(file).parent
    record = open_record(folder)
    if (record.cls, record.file) != (cls.__name__, Path(file).name):
        return None
    config = folder / CONFIG
    values = parsed(config, config.read_bytes())
    return port_of_folder(folder, record, file_of(folder, record), values)


def _demand_weights(model: Any, port: Port) -> None:
    try:
        port.record.weights.check_target(specs_of(current(port, model)))
    except WeightsError as error:
        raise WeightsError(
            f"this {type(module_of(model)).__name__} has other weights than its port: {error}"
        ) from error


def port_of_folder(
    folder: Path, record: PortRecord, code: bytes, values: Mapping[str, Any]
) -> Port:
    """What a saved port says: its record, its emitted file, and its ``config.json``."""
    return Port(
        record=record,
        source=code.decode("utf-8"),
        config_values=source_config(values),
        unused=_unported(folder, record),
        beside=others(folder, record),
        checked=record.compared,
    )


def others(folder: Path, record: PortRecord) -> tuple[Path, ...]:
    """What came along with the port, such as the files of a tokenizer."""
    own = {record.file, CONFIG, UNPORTED, "README.md", "parity.json"}
    names = [
        name
        for name in record.files
        if name not in own and not name.startswith(("model.", "model-"))
    ]
    return tuple(folder / name for name in names if (folder / name).is_file())


def _unported(folder: Path, record: PortRecord) -> dict[str, Any]:
    """Source tensors that a saved port keeps without using them."""
    from ivyport.weights.store import TensorStore

    if UNPORTED not in record.files:
        return {}
    store = TensorStore.open(folder / UNPORTED)
    return {name: store.read(name) for name in store.names()}
