"""Checkpoints of Flax models: what a file or folder holds by name, and which part is the model's.

A file's kind is what its content says, whatever its suffix (`checkpoint_8` of
`flax.training.checkpoints` has none):

    safetensors, .npz       names with dots or slashes
    msgpack                 flax.serialization.to_bytes, of variables or of a TrainState
    a pickle                read without running it, see `ivyport.weights.unpickle`
    a folder                orbax: a checkpoint, or a step of a CheckpointManager
                            https://orbax.readthedocs.io/en/latest/guides/checkpoint/

A training state has more than the model in it. Its parameters are found by their names; where
several trees have those names (an average of the weights beside them), the user picks one.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ivyport.core.errors import DependencyError, WeightsError
from ivyport.weights import unpickle
from ivyport.zoo.array_files import read_npz, read_safetensors

OPTION = "--params-key"
#: A container nested deeper than this is no checkpoint.
MAX_DEPTH = 64
#: What optimizers keep has the names of the parameters, and is never the model.
_OPTIMIZER = {"opt_state", "optimizer", "optimizer_state", "opt", "mu", "nu", "trace"}
_MAX_LISTED = 12


# ---- reading


def read(path: Path) -> dict[str, Any]:
    """Arrays and numbers of a checkpoint by name, with dots between the parts.

    Raises `WeightsError` where there is none, or it cannot be read; `DependencyError` for a
    folder without orbax.
    """
    if path.is_dir():
        return _flat(_read_orbax(path), path)
    if not path.is_file():
        raise WeightsError(f"--params {path}: no such file or folder.")
    return _flat(_reader(path)(path), path)


def _reader(path: Path) -> Callable[[Path], Any]:
    """How a file is read: by its suffix, or else by its first bytes."""
    known: dict[str, Callable[[Path], Any]] = {
        ".npz": read_npz,
        ".safetensors": read_safetensors,
        ".msgpack": _read_msgpack,
        ".pkl": unpickle.load,
        ".pickle": unpickle.load,
    }
    if path.suffix in known:
        return known[path.suffix]
    with path.open("rb") as file:
        head = file.read(16)
    if zipfile.is_zipfile(path):
        return read_npz
    if head[8:9] == b"{":
        return read_safetensors
    # A pickle since protocol 2 begins with its number; a msgpack begins with a mapping.
    if head[:1] == b"\x80" and len(head) > 1 and 2 <= head[1] <= 5:
        return unpickle.load
    if head and (0x80 <= head[0] <= 0x8F or head[0] in (0xDE, 0xDF)):
        return _read_msgpack
    raise WeightsError(
        f"--params {path}: expected a .safetensors, .npz or .msgpack file "
        "(flax.serialization.to_bytes), a pickle of arrays, or a folder of orbax."
    )


def _read_msgpack(path: Path) -> Any:
    import msgpack  # type: ignore[import-untyped]  # it has no types
    from flax.serialization import msgpack_restore

    # Flax builds arrays from bytes here, and calls nothing that the file names; msgpack
    # bounds every length by the file's own. Malformed arrays are errors of all these kinds.
    broken = (ValueError, TypeError, KeyError, AssertionError, AttributeError)
    try:
        return msgpack_restore(path.read_bytes())
    except (*broken, RecursionError, msgpack.UnpackException) as error:
        raise WeightsError(f"--params {path} cannot be read: {error!r}") from error


def _read_orbax(path: Path) -> Any:
    """The one tree of arrays in a folder, or below it; numbers of other devices are no matter."""
    folders = sorted(_trees(path, 3))
    if len(folders) != 1:
        shown = ", ".join(str(p) for p in folders[:_MAX_LISTED])
        files = sorted(p for p in path.glob("checkpoint*") if p.is_file())
        raise WeightsError(
            f"--params {path} holds several checkpoints, give one of: {shown}"
            if folders
            else f"--params {path} is a folder without a checkpoint of orbax"
            + (f"; give one of its files: {', '.join(map(str, files))}" * bool(files))
        )
    try:
        import jax
        import orbax.checkpoint as ocp  # type: ignore[import-not-found,unused-ignore]  # not in every environment
    except ImportError as error:
        raise DependencyError(
            f"--params {path} is read by orbax: pip install orbax-checkpoint"
        ) from error
    folder = folders[0].resolve()
    reader = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
    try:
        metadata: Any = reader.metadata(folder)
        tree = getattr(metadata, "item_metadata", metadata)
        tree = getattr(tree, "tree", tree)
        kinds = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        return reader.restore(folder, args=ocp.args.PyTreeRestore(restore_args=kinds))
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise WeightsError(f"--params {path} cannot be read: {error}") from error
    finally:
        reader.close()


def _trees(path: Path, depth: int) -> Iterator[Path]:
    """Folders in which orbax keeps a tree of arrays."""
    if any((path / name).exists() for name in ("_METADATA", "manifest.ocdbt")):
        yield path
    elif depth:
        for child in path.iterdir():
            if child.is_dir() and not child.is_symlink():
                yield from _trees(child, depth - 1)


def _flat(tree: Any, path: Path) -> dict[str, Any]:
    """Leaves by name; `WeightsError` for two of one name, or a tree that has no names."""
    found: dict[str, Any] = {}
    if not isinstance(tree, Mapping):
        kind = type(tree).__name__
        raise WeightsError(f"--params {path} does not hold arrays by name, but: {kind}")

    def walk(node: Any, name: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise WeightsError(
                f"--params {path} is nested more than {MAX_DEPTH} levels deep"
            )
        items: Any = ()
        if isinstance(node, Mapping):
            items = node.items()
        elif isinstance(node, list | tuple):
            items = enumerate(node)
        elif node is not None:
            if name in found:
                raise WeightsError(
                    f"--params {path} does not fit: twice in the file: {name!r}"
                )
            found[name] = node
        for key, child in items:
            part = str(key).replace("/", ".")
            walk(child, f"{name}.{part}" if name else part, depth + 1)

    walk(tree, "", 0)
    return found


# ---- which part is the model's


def chosen(
    held: Mapping[str, Any],
    params: Collection[str],
    others: Mapping[str, Collection[str]],
    key: str | None,
    path: Path,
) -> dict[str, np.ndarray]:
    """The arrays of a model out of all that a checkpoint holds.

    params: names of the model's parameters. others: the names that it has in collections
    beside them, by collection. key: the tree to take, None to find it by these names.

    Raises:
        WeightsError: `key` names nothing, or several trees have the parameters' names.
    """
    own = dict(held)
    if key is not None:
        place = key.replace("/", ".").strip(".")
        own = _below(held, place)
        if not own:
            raise WeightsError(
                f"{OPTION} {key}: {path} has no such tree; it holds "
                f"{_listed(_tops(held))}."
            )
        if not any(_below(own, c) for c in ("params", *others)):
            own |= _beside(held, _parent(place), others)
    own = _unwrapped(own, params)
    known = {n.partition(".")[0] for n in params} | {"params", *others}
    if key is None and set(_tops(own)) - known:
        place = _found(own, params, path)
        if place:
            tree = _below(own, place)
            own = tree | _beside(own, _parent(place), others)
    wrong = [n for n, x in own.items() if not isinstance(x, np.ndarray | np.generic)]
    if wrong:
        raise WeightsError(
            f"--params {path} does not hold arrays by name: {_listed(wrong)}"
        )
    return {name: np.asarray(x) for name, x in own.items()}


def _found(held: Mapping[str, Any], params: Collection[str], path: Path) -> str:
    """Where the parameters are; "" where they are at the top, or nowhere by their names."""
    some = min(params, key=lambda n: (-n.count("."), n), default="")
    ends = (name for name in held if name == some or name.endswith(f".{some}"))
    places = sorted({name[: -len(some)].rstrip(".") for name in ends})
    fit = [
        place
        for place in places
        if not _OPTIMIZER & set(place.split("."))
        and set(params) <= (_below(held, place) if place else held).keys()
    ]
    if "" in fit:
        return ""
    if len(fit) > 1:
        options = ", ".join(f"{OPTION} {place}" for place in fit)
        raise WeightsError(
            f"--params {path} holds several trees with the model's parameters. Pick one: "
            f"{options}."
        )
    if fit:
        return fit[0]
    return "params" if _below(held, "params") else ""


def _beside(
    held: Mapping[str, Any], parent: str, others: Mapping[str, Collection[str]]
) -> dict[str, Any]:
    """Collections that are kept beside a tree of parameters, with their names in front."""
    return {
        f"{collection}.{name}": x
        for collection in others
        for name, x in _below(
            held, f"{parent}.{collection}" if parent else collection
        ).items()
    }


def _unwrapped(held: Mapping[str, Any], params: Collection[str]) -> dict[str, Any]:
    """Names without the ``value`` that orbax puts below each variable of nnx."""
    if any(name.endswith(".value") for name in params):
        return dict(held)
    return {name.removesuffix(".value"): x for name, x in held.items()}


def _below(held: Mapping[str, Any], place: str) -> dict[str, Any]:
    start = f"{place}."
    return {n[len(start) :]: x for n, x in held.items() if n.startswith(start)}


def _parent(place: str) -> str:
    return place.rpartition(".")[0]


def _tops(held: Mapping[str, Any]) -> list[str]:
    return sorted({name.partition(".")[0] for name in held})


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED} more" * (len(names) > _MAX_LISTED)
    return ", ".join(names[:_MAX_LISTED]) + more
