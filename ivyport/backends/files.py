"""Functions that emitted files of every target copy: they read and write a port's folder."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import secrets
import shutil
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

    port.json comes last and alone names the files that count: until then the folder is
    what it was. Weights of more than `most` bytes are several files.
    """

    def place(name, write):
        part = folder / f".{name}.{secrets.token_hex(4)}.part"
        try:
            write(part)
            with open(part, "r+b") as written:
                os.fsync(written.fileno())
            told = described(part)
            os.replace(part, folder / name)
        finally:
            part.unlink(missing_ok=True)
        files[name] = told

    def read(path):
        return json.loads(path.read_text("utf-8")) if path.is_file() else {}

    def to_text(values):
        return json.dumps(values, indent=2, ensure_ascii=False) + "\n"

    folder = pathlib.Path(folder)
    file = pathlib.Path(file)
    folder.mkdir(parents=True, exist_ok=True)
    record = read(file.with_name("port.json"))
    there = read(folder / "port.json")
    if "files" not in record:
        raise ValueError(f"{file.parent} holds no saved port: ivyport.save writes one")
    if there and there.get("weights") != record["weights"]:
        raise ValueError(f"{folder} holds another port: choose another folder")
    # The card and the comparison tell of the weights before.
    old = there.get("files", {})
    files = {n: old[n] for n in old if n not in ("README.md", "parity.json")}
    values = read(file.with_name("config.json")) | config
    held = folder / "config.json"
    if not held.exists():
        place(held.name, lambda part: part.write_text(to_text(values), "utf-8"))
    elif to_text(values) == to_text(read(held)):
        files[held.name] = described(held)
    else:
        raise ValueError(f"{held} is another one: choose another folder")
    for name in sorted(set(record["files"]) - {"README.md", "parity.json", *files}):
        known = file.with_name(pathlib.Path(name).name)
        if known.is_file() and not name.startswith(("model.", "model-")):
            place_for = folder / known.name
            if place_for.exists() and place_for.read_bytes() != known.read_bytes():
                raise ValueError(f"{place_for} is of yours: choose another folder")
            place(known.name, functools.partial(shutil.copyfile, known))
    single = not there and not (folder / "model.safetensors").exists()
    write_weights(tensors, files, place, save_file, most, single)
    record["files"] = files
    place("port.json", lambda part: part.write_text(to_text(record), "utf-8"))
    remove_stale(folder, old, files)


def write_weights(tensors, files, place, save_file, most, single):
    """Write weights instead of those among `files`, under new names unless `single`."""
    shards = [{}]
    size = 0
    for name, tensor in tensors.items():
        size += tensor.nbytes
        if shards[-1] and size > most:
            shards.append({})
            size = tensor.nbytes
        shards[-1][name] = tensor
    for name in [n for n in files if n.startswith(("model.", "model-"))]:
        del files[name]
    if single and len(shards) == 1:
        place("model.safetensors", functools.partial(save_file, tensors))
        return
    weight_map = {}
    run = secrets.token_hex(4)
    for number, shard in enumerate(shards, 1):
        name = f"model-{run}-{number:05}-of-{len(shards):05}.safetensors"
        place(name, functools.partial(save_file, shard))
        weight_map |= dict.fromkeys(shard, name)
    text = json.dumps({"metadata": {}, "weight_map": weight_map}, indent=2)
    place("model.safetensors.index.json", lambda p: p.write_text(text, "utf-8"))


def remove_stale(folder, old, files):
    """Remove the `old` files that are not listed now and are as they were written."""
    for name, told in old.items():
        path = folder / pathlib.Path(name).name
        if name not in files and path.is_file() and described(path) == told:
            path.unlink(missing_ok=True)
    # Those of a run that was killed; one that still writes has younger ones.
    run = "[0-9a-f]" * 8
    for pattern in (f"model-{run}-?????-of-?????.safetensors", f".*.{run}.part"):
        for path in folder.glob(pattern):
            if path.name not in files and path.stat().st_mtime < time.time() - 3600:
                path.unlink(missing_ok=True)


__all__ = [
    "config_values",
    "demand_traced",
    "load_weights",
    "saved_files",
    "write_pretrained",
]
