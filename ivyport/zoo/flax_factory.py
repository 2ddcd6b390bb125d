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

from ivyport.core.errors import InputError, SourceError
from ivyport.weights.differences import Differences
from ivyport.zoo import flax_checkpoints as checkpoints
from ivyport.zoo.array_files import fitted
from ivyport.zoo.factory import find_factory, theirs

if TYPE_CHECKING:
    from flax import linen, nnx

#: Arguments of a module that say whether it trains, and their value where it does not.
EVAL = {"is_training": False, "train": False, "training": False, "deterministic": True}
#: A tensor's place: the collection (of linen) and the names or indices on the way to it.
Path_ = tuple[str | int, ...]


def build(spec: str) -> linen.Module | nnx.Module:
    """The module that `pkg.module:factory` makes.

    The factory takes no arguments; a ready module is taken as it is. Raises `SourceError`
    where there is no such factory, or where it gives something else, and `FactoryError` where the
    factory itself raises.
    """
    from flax import linen, nnx

    kinds = (linen.Module, nnx.Module)
    factory = find_factory(spec)
    with theirs(spec):
        made = factory
        if callable(factory) and not isinstance(factory, kinds):
            made = factory()
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
    module: linen.Module,
    inputs: Mapping[str, np.ndarray],
    path: Path | None,
    seed: int,
    key: str | None = None,
) -> dict[str, Any]:
    """The variables of a linen module, from a file or else as it initialises them.

    `key` is the tree of a checkpoint to take, as in `flax_checkpoints.chosen`.

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
        path, {place: wanted[place] for place in order}, type(module).__name__, 1, key
    )
    held: dict[str, Any] = unflatten_dict(found)
    return held


def load_into(module: nnx.Module, path: Path, key: str | None = None) -> None:
    """Put the tensors of a file into an nnx module; `key` and errors as in `variables`."""
    import jax.numpy as jnp
    from flax import nnx

    _, _, state = nnx.split(module, nnx.RngState, ...)
    held = dict(nnx.to_flat_state(state))
    wanted = {place: variable[...] for place, variable in held.items()}
    found = _load(path, wanted, type(module).__name__, 0, key)
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
    path: Path, wanted: Mapping[Path_, Any], what: str, prefix: int, key: str | None
) -> dict[Path_, np.ndarray]:
    """The tensors of a file by place; `prefix` parts in front may be left out."""
    places: dict[str, Path_] = {}
    for skipped in range(prefix + 1):
        for place in wanted:
            places.setdefault(".".join(map(str, place[skipped:])), place)
    held = checkpoints.read(path)
    params = {
        ".".join(map(str, p[prefix:])) for p in wanted if not prefix or p[0] == "params"
    }
    others = {str(p[0]): () for p in wanted if prefix and p[0] != "params"}
    found = Differences()
    given: dict[str, np.ndarray] = {}
    for text, array in checkpoints.chosen(held, params, others, key, path).items():
        name = ".".join(map(str, places[text])) if text in places else text
        if name in given:
            found.add("twice in the file", name)
        given[name] = array
    named = {".".join(map(str, place)): place for place in wanted}
    specs = {name: wanted[place] for name, place in named.items()}
    arrays = fitted(given, specs, found, f"--params {path} does not fit {what}:")
    return {named[name]: array for name, array in arrays.items()}
