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
    """Path and SHA-256 of each file that `folder`'s port.json lists, by name."""
    folder = pathlib.Path(folder)
    record = json.loads((folder / "port.json").read_text(encoding="utf-8"))
    return {
        name: (folder / name, None if changed else file["sha256"])
        for name, file in record["files"].items()
    }


def demand_saved(path, digest):
    """Demand a file as it was saved, where its SHA-256 is given."""
    with open(path, "rb") as file:
        if digest and hashlib.file_digest(file, "sha256").hexdigest() != digest:
            raise ValueError(f"{path} was changed or replaced since it was saved")


def write_pretrained(folder, file, config, tensors, save_file, most=5 * 10**9):
    """Write tensors and configuration to `folder`, and the port's files beside `file`.

    port.json comes last and names the files that count: until then the folder is what
    it was. Weights of more than `most` bytes are several files.
    """

    def place(name, write):
        part = folder / f".{name}.{secrets.token_hex(4)}"
        try:
            write(part)
            os.replace(part, folder / name)
        finally:
            part.unlink(missing_ok=True)
        with open(folder / name, "rb") as placed:
            digest = hashlib.file_digest(placed, "sha256").hexdigest()
        files[name] = {"size": (folder / name).stat().st_size, "sha256": digest}

    def read(path):
        return json.loads(path.read_text("utf-8")) if path.is_file() else {}

    folder = pathlib.Path(folder)
    file = pathlib.Path(file)
    folder.mkdir(parents=True, exist_ok=True)
    record = read(file.with_name("port.json"))
    there = read(folder / "port.json")
    if "files" not in record:
        raise ValueError(f"{file.parent} holds no saved port: ivyport.save writes one")
    if there and there.get("weights") != record["weights"]:
        raise ValueError(f"{folder} holds another port: choose another folder")
    files = dict(there.get("files", {}))
    values = read(file.with_name("config.json")) | config
    held = read(folder / "config.json")
    if "config.json" not in files or values != held:
        if "config.json" not in files and held not in ({}, values):
            raise ValueError(f"{folder} has a config.json of its own: choose another")
        text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        place("config.json", lambda part: part.write_text(text, "utf-8"))
    for name in sorted(set(record["files"]) - {"README.md", "parity.json", *files}):
        known = file.with_name(pathlib.Path(name).name)
        if known.is_file() and not name.startswith(("model.", "model-")):
            there = folder / known.name
            if there.exists() and there.read_bytes() != known.read_bytes():
                raise ValueError(f"{there} is not of this port: choose another folder")
            place(known.name, functools.partial(shutil.copyfile, known))
    stale = write_weights(folder, tensors, files, place, save_file, most)
    record["files"] = {n: told for n, told in files.items() if n not in stale}
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    place("port.json", lambda part: part.write_text(text, "utf-8"))
    # Those of a run that was killed, too.
    runs = {path.name for path in folder.glob("model-????????-*-of-*.safetensors")}
    for name in stale | runs - record["files"].keys():
        (folder / name).unlink(missing_ok=True)


def write_weights(folder, tensors, files, place, save_file, most):
    """Write weights, under new names where there are some; which files they replace."""
    shards = [{}]
    size = 0
    for name, tensor in tensors.items():
        size += tensor.nbytes
        if shards[-1] and size > most:
            shards.append({})
            size = tensor.nbytes
        shards[-1][name] = tensor
    stale = {n for n in files if n.startswith(("model.", "model-"))}
    if len(shards) == 1 and not (folder / "model.safetensors").exists():
        place("model.safetensors", functools.partial(save_file, tensors))
        stale.discard("model.safetensors")
    else:
        weight_map = {}
        run = secrets.token_hex(4)
        for number, shard in enumerate(shards, 1):
            name = f"model-{run}-{number:05}-of-{len(shards):05}.safetensors"
            place(name, functools.partial(save_file, shard))
            weight_map |= dict.fromkeys(shard, name)
        text = json.dumps({"metadata": {}, "weight_map": weight_map}, indent=2)
        place("model.safetensors.index.json", lambda p: p.write_text(text, "utf-8"))
        stale.discard("model.safetensors.index.json")
    return stale


__all__ = [
    "config_values",
    "demand_traced",
    "load_weights",
    "saved_files",
    "write_pretrained",
]
