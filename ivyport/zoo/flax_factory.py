"""A Flax module from a factory in the user's own code, with parameters from a file.

A file names its tensors by the path of their module, with dots or slashes between the parts:
``encoder.block_0.kernel``. Those of a linen module may have their collection in front, and must
where two collections share a name: ``params.encoder.block_0.kernel``, ``batch_stats.norm.mean``.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ivyport.core.errors import InputError, SourceError, WeightsError
from ivyport.weights.differences import Differences
from ivyport.zoo.array_files import fitted, read_npz, read_safetensors
from ivyport.zoo.factory import find_factory

if TYPE_CHECKING:
    from flax import linen, nnx

#: Arguments of a module that say whether it trains, and their value where it does not.
EVAL = {"is_training": False, "train": False, "training": False, "deterministic": True}
#: A tensor's place: the collection (of linen) and the names or indices on the way to it.
Path_ = tuple[str | int, ...]


def build(spec: str) -> linen.Module | nnx.Module:
    """The module that `pkg.module:factory` makes.

    The factory takes no arguments; a ready module is taken as it is. Raises `SourceError`
    where there is no such factory, or where it gives something else; what the factory
    itself raises goes through.
    """
    from flax import linen, nnx

    kinds = (linen.Module, nnx.Module)
    factory = find_factory(spec)
    made = factory if isinstance(factory, kinds) or not callable(factory) else factory()
    if not isinstance(made, kinds):
        raise SourceError(
            f"{spec} gives {type(made).__name__}, expected a flax.linen.Module, a "
            "flax.nnx.Module, or a function without arguments that returns one."
        )
    return made


def is_linen(module: linen.Module | nnx.Module) -> bool:
    """Whether its variables are apart from it."""
    from flax import linen

    return isinstance(module, linen.Module)


def variables(
    module: linen.Module, inputs: Mapping[str, np.ndarray], path: Path | None, seed: int
) -> dict[str, Any]:
    """The variables of a linen module, from a file or else as it initialises them.

    Raises:
        InputError: `inputs` do not fit the module.
        WeightsError: the file cannot be read, or does not fit; all differences are listed.
    """
    import jax
    from flax.core import meta, unfreeze
    from flax.traverse_util import flatten_dict, unflatten_dict

    flags = _eval_flags(module, inputs)

    def init(key: Any) -> Any:
        return meta.unbox(unfreeze(module.init(key, **inputs, **flags)))

    if path is None:
        made: dict[str, Any] = jax.jit(init)(jax.random.key(seed))
        return made
    wanted = flatten_dict(jax.eval_shape(init, jax.random.key(seed)))
    # Parameters come first, so that a name without a collection is theirs.
    order = sorted(wanted, key=lambda place: place[0] != "params")
    found = _load(
        path, {place: wanted[place] for place in order}, type(module).__name__, 1
    )
    held: dict[str, Any] = unflatten_dict(found)
    return held


def load_into(module: nnx.Module, path: Path) -> None:
    """Put the tensors of a file into an nnx module; `WeightsError` as in `variables`."""
    import jax.numpy as jnp
    from flax import nnx

    _, _, state = nnx.split(module, nnx.RngState, ...)
    held = dict(nnx.to_flat_state(state))
    wanted = {place: variable[...] for place, variable in held.items()}
    found = _load(path, wanted, type(module).__name__, 0)
    fresh = [(place, held[place].replace(jnp.asarray(x))) for place, x in found.items()]
    nnx.update(module, nnx.from_flat_state(fresh))


def _eval_flags(module: linen.Module, inputs: Mapping[str, Any]) -> dict[str, bool]:
    """Arguments that the module demands beside the inputs; `InputError` for unknown ones."""
    parameters = inspect.signature(module.__call__).parameters
    flags: dict[str, bool] = {}
    missing: list[str] = []
    for name, parameter in parameters.items():
        optional = parameter.default is not parameter.empty
        variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if name in inputs or optional or variadic:
            continue
        if name in EVAL:
            flags[name] = EVAL[name]
        else:
            missing.append(name)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    foreign = [] if takes_any else [n for n in inputs if n not in parameters]
    if missing or foreign:
        raise InputError(
            f"{type(module).__name__} takes {', '.join(parameters)}; no --input for "
            f"{', '.join(missing) or 'nothing'}, superfluous: {', '.join(foreign) or 'none'}."
        )
    return flags


def _load(
    path: Path, wanted: Mapping[Path_, Any], what: str, prefix: int
) -> dict[Path_, np.ndarray]:
    """The tensors of a file by place; `prefix` parts in front may be left out."""
    places: dict[str, Path_] = {}
    for skipped in range(prefix + 1):
        for place in wanted:
            for separator in "./":
                places.setdefault(separator.join(map(str, place[skipped:])), place)
    found = Differences()
    given: dict[str, np.ndarray] = {}
    for text, array in _read(path).items():
        name = ".".join(map(str, places[text])) if text in places else text
        if name in given:
            found.add("twice in the file", name)
        given[name] = array
    named = {".".join(map(str, place)): place for place in wanted}
    specs = {name: wanted[place] for name, place in named.items()}
    arrays = fitted(given, specs, found, f"--params {path} does not fit {what}:")
    return {named[name]: array for name, array in arrays.items()}


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise WeightsError(f"--params {path}: no such file.")
    if path.suffix == ".npz":
        return read_npz(path)
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if path.suffix == ".msgpack":
        return _read_msgpack(path)
    raise WeightsError(
        f"--params {path}: expected a .safetensors, .npz or .msgpack file "
        "(flax.serialization.to_bytes)."
    )


def _read_msgpack(path: Path) -> dict[str, np.ndarray]:
    import msgpack  # type: ignore[import-untyped]
    from flax.serialization import msgpack_restore
    from flax.traverse_util import flatten_dict

    try:
        tree = msgpack_restore(path.read_bytes())
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise WeightsError(f"--params {path} cannot be read: {error}") from error
    flat = flatten_dict(tree, sep="/") if isinstance(tree, dict) else {"": tree}
    wrong = [name for name, x in flat.items() if not isinstance(x, np.ndarray)]
    if wrong:
        raise WeightsError(
            f"--params {path} does not hold arrays by name: {', '.join(wrong[:5]) or tree!r}"
        )
    return flat
