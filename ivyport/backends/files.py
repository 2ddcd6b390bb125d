"""Functions that emitted files of every target copy: they read and write a port's folder."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import platform
import re
import secrets
import time


def demand_traced(config, **lines):
    """Refuse another value of a field that is built into the code at the given line."""
    for field in dataclasses.fields(config):
        given = getattr(config, field.name)
        if field.name in lines and given != field.default:
            built = f"{field.default!r} is built into {lines[field.name]}"
            raise ValueError(f"{field.name} is {given!r}, but {built}: port again")


def config_values(files, fields):
    """The given fields of config.json among `saved_files`."""
    path, digest = files["config.json"]
    values = json.loads(path.read_text(encoding="utf-8"))
    demand_saved(path, digest)
    return {key: values[key] for key in fields if key in values}


def load_weights(files, load_file):
    """The tensors of the weights among `saved_files`, by name."""
    weights = {}
    for name, (path, digest) in files.items():
        if name.startswith("model") and name.endswith(".safetensors"):
            weights.update(load_file(path))
            demand_saved(path, digest)
    return weights


def saved_files(folder, changed):
    """Path and SHA-256 of each file that `folder`'s port.json lists, by name.

    Fields of config.json that are built into the code must be those that were ported.
    """
    folder = pathlib.Path(folder)
    record = json.loads((folder / "port.json").read_text(encoding="utf-8"))
    built_in = record.get("built_in", {})
    values = json.loads((folder / "config.json").read_text("utf-8")) if built_in else {}
    for field, ported in built_in.items():
        if values.get(field, ported) != ported:
            given = f"{field} is {values[field]!r} in {folder / 'config.json'}"
            raise ValueError(
                f"{given}, but {ported!r} is built into the code: port again"
            )
    return {
        name: (folder / name, None if changed else file["sha256"])
        for name, file in record["files"].items()
    }


def demand_saved(path, digest):
    """Demand a file as it was saved, where its SHA-256 is given."""
    if digest and described(path)["sha256"] != digest:
        raise ValueError(f"{path} was changed or replaced since it was saved")


def described(path):
    """Size and SHA-256 of a file."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"size": path.stat().st_size, "sha256": digest}


def write_pretrained(folder, file, config, tensors, save_file, most=5 * 10**9):
    """Write tensors and configuration to `folder`, and the port's files beside `file`.

    Weights get new names, in files of about `most` bytes. Until the index and port.json
    name them, what those named before stays: a reader finds the old ones or the new.
    """
    folder = pathlib.Path(folder)
    home = pathlib.Path(file).parent
    folder.mkdir(parents=True, exist_ok=True)
    host = hashlib.sha256(platform.node().encode()).hexdigest()[:4]
    run = f"{host}{os.getpid():06x}{secrets.token_hex(4)}"

    def place(name, write):
        part = folder / f".{name}.{run}.part"
        try:
            write(part)
            with open(part, "r+b") as written:
                os.fsync(written.fileno())
            files[name] = described(part)
            os.replace(part, folder / name)
        finally:
            part.unlink(missing_ok=True)

    def read(path):
        return json.loads(path.read_text("utf-8")) if path.is_file() else {}

    def to_bytes(values):
        return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()

    record = read(home / "port.json")
    there = read(folder / "port.json")
    if "files" not in record:
        raise ValueError(f"{home} holds no saved port: ivyport.save writes one")
    if there and there.get("weights") != record["weights"]:
        raise ValueError(f"{folder} holds another port: choose another folder")
    old = there.get("replaced", {}) | there.get("files", {})
    demand_own(folder, old)
    # The card and the comparison tell of the weights before.
    gone = {"README.md", "parity.json", *filter(is_weights, old)}
    files = {n: told for n, told in there.get("files", {}).items() if n not in gone}
    values = read(home / "config.json") | config
    along = {"config.json": to_bytes(values)}
    for name in sorted(set(record["files"]) - gone - {"config.json", *files}):
        known = home / pathlib.Path(name).name
        if known.is_file() and not is_weights(name):
            along[known.name] = known.read_bytes()
    for name, data in along.items():
        held = folder / name
        if not held.exists():
            place(name, lambda part, data=data: part.write_bytes(data))
            continue
        there_is = to_bytes(read(held)) if name == "config.json" else held.read_bytes()
        if there_is != data:
            raise ValueError(f"{held} is another one: choose another folder")
        files[name] = described(held)
    write_weights(tensors, run, place, save_file, most)
    record["files"] = files
    record["replaced"] = {n: told for n, told in old.items() if n not in files}
    place("port.json", lambda part: part.write_bytes(to_bytes(record)))
    remove_stale(folder, record, host)


def demand_own(folder, old):
    """Refuse a folder with weights under the usual names that are not as in `old`."""
    for path in folder.glob("model*.safetensors"):
        named = re.fullmatch(r"model(-\d{5}-of-\d{5})?\.safetensors", path.name)
        if named and old.get(path.name) != described(path):
            raise ValueError(f"{path} is of yours: choose another folder")


def is_weights(name):
    """Whether a port's file of this name holds weights, or says where they are."""
    return name.startswith(("model.", "model-"))


def write_weights(tensors, run, place, save_file, most):
    """Write weights to files whose names have the run in them, and their index."""
    shards = [{}]
    size = 0
    for name, tensor in tensors.items():
        size += tensor.nbytes
        if shards[-1] and size > most:
            shards.append({})
            size = tensor.nbytes
        shards[-1][name] = tensor
    index = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{run}-{number:05}-of-{len(shards):05}.safetensors"
        place(name, functools.partial(save_file, shard))
        index |= dict.fromkeys(shard, name)
    text = json.dumps({"metadata": {}, "weight_map": index}, indent=2)
    place("model.safetensors.index.json", lambda part: part.write_text(text, "utf-8"))


def remove_stale(folder, record, host):
    """Remove what was replaced and is as it was written, and what killed runs left."""
    for name, told in record["replaced"].items():
        path = folder / pathlib.Path(name).name
        if path.is_file() and described(path) == told:
            path.unlink(missing_ok=True)
    run = r"([0-9a-f]{4})([0-9a-f]{6})[0-9a-f]{8}"
    made = rf"model-{run}-\d{{5}}-of-\d{{5}}\.safetensors|\..+\.{run}\.part"
    for path in folder.iterdir():
        found = re.fullmatch(made, path.name)
        if found is None or path.name in record["files"]:
            continue
        where, process = filter(None, found.groups())
        dead = path.stat().st_mtime < time.time() - 3600
        if os.name == "posix" and where == host:
            try:
                os.kill(int(process, 16), 0)
            except ProcessLookupError:
                dead = True
            except OSError:
                pass
        if dead:
            path.unlink(missing_ok=True)


__all__ = [
    "config_values",
    "demand_traced",
    "load_weights",
    "saved_files",
    "write_pretrained",
]
