"""A port."""

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
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn


@dataclasses.dataclass(frozen=True)
class ResNetConfig:
    num_channels: int = 3
    embedding_size: int = 12


class BaseModelOutputWithPoolingAndNoAttention(NamedTuple):
    last_hidden_state: torch.Tensor
    pooler_output: torch.Tensor
    hidden_states: None = None


def check_shapes(
    **arguments: tuple[torch.Tensor, str] | tuple[torch.Tensor, str, str],
) -> None:
    """Raise ValueError for an argument whose shape the model was not made for.

    ``x=(x, "B T 4")``: x has three axes, the last of size 4. A letter stands for one
    size in all arguments, 1 or more. ``"int B T"`` is for integers, else TypeError is
    raised. A third item says why a size is due.
    """
    sizes: dict[str, int] = {}
    for name, (array, axes, *why) in arguments.items():
        shape, letters = (tuple(getattr(array, "shape", ())), axes.split())
        if letters[:1] == ["int"]:
            letters = letters[1:]
            if array.dtype.is_floating_point or array.dtype == torch.bool:
                raise TypeError(f"{name} is {array.dtype}: integers are due")
        for letter, size in zip(letters, shape, strict=False):
            sizes.setdefault(letter, int(letter) if letter.isdigit() else max(size, 1))
        wrong = [
            f"axis {axis} is {size}, not {wanted}" if size else f"axis {axis} is empty"
            for axis, (size, wanted) in enumerate(
                zip(shape, map(sizes.get, letters), strict=False)
            )
            if size != wanted
        ]
        if len(shape) != len(letters):
            wrong = [f"it has {len(shape)} axes"]
        if wrong:
            raise ValueError(
                f"{name}: ({', '.join(letters)}) is due, not {shape}: "
                + "; ".join([*wrong, *why])
            )


def as_array(name, given):
    """`given` as a tensor; TypeError for what is none."""
    try:
        return torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"{name} is {given!r:.60}: the model was traced with a tensor for it"
        ) from None


class ResNetConvLayer(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, stride, padding):
        super().__init__()
        self.convolution = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            bias=False,
        )
        self.normalization = nn.BatchNorm2d(out_channels)

    def forward(self, hidden_states):
        return F.relu(self.normalization(self.convolution(hidden_states)))


class ResNetEmbeddings(nn.Module):
    def __init__(self, config: ResNetConfig):
        super().__init__()
        self.embedder = ResNetConvLayer(
            in_channels=config.num_channels,
            out_channels=config.embedding_size,
            kernel_size=7,
            stride=2,
            padding=3,
        )

    def forward(self, pixel_values):
        return F.max_pool2d(self.embedder(pixel_values), 3, 2, padding=1)


class ResNetShortCut(nn.Module):
    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        self.convolution = nn.Conv2d(
            in_channels, out_channels, kernel_size=1, stride=stride, bias=False
        )
        self.normalization = nn.BatchNorm2d(out_channels)

    def forward(self, input):
        return self.normalization(self.convolution(input))


class ResNetConvLayer2(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.convolution = nn.Conv2d(
            in_channels, out_channels, kernel_size=1, bias=False
        )
        self.normalization = nn.BatchNorm2d(out_channels)

    def forward(self, hidden_states):
        return self.normalization(self.convolution(hidden_states))


class ResNetBottleNeckLayer(nn.Module):
    def __init__(self, in_channels, out_channels, stride, out_channels_2):
        super().__init__()
        self.shortcut = ResNetShortCut(
            in_channels=in_channels, out_channels=out_channels, stride=stride
        )
        self.layer = nn.ModuleList(
            [
                ResNetConvLayer(
                    in_channels=in_channels,
                    out_channels=out_channels_2,
                    kernel_size=1,
                    stride=1,
                    padding=0,
                ),
                ResNetConvLayer(
                    in_channels=out_channels_2,
                    out_channels=out_channels_2,
                    kernel_size=3,
                    stride=stride,
                    padding=1,
                ),
                ResNetConvLayer2(in_channels=out_channels_2, out_channels=out_channels),
            ]
        )

    def forward(self, hidden_state):
        hidden_states = hidden_state
        for layer in self.layer[:2]:
            hidden_states = layer(hidden_states)
        return F.relu(self.layer[2](hidden_states) + self.shortcut(hidden_state))


class ResNetStage(nn.Module):
    def __init__(self, in_channels, out_channels, stride, out_channels_2):
        super().__init__()
        self.layers = nn.ModuleList(
            [
                ResNetBottleNeckLayer(
                    in_channels=in_channels,
                    out_channels=out_channels,
                    stride=stride,
                    out_channels_2=out_channels_2,
                )
            ]
        )

    def forward(self, input):
        return self.layers[0](input)


class ResNetBottleNeckLayer2(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.ModuleList(
            [
                ResNetConvLayer(
                    in_channels=20, out_channels=5, kernel_size=1, stride=1, padding=0
                ),
                ResNetConvLayer(
                    in_channels=5, out_channels=5, kernel_size=3, stride=1, padding=1
                ),
                ResNetConvLayer2(in_channels=5, out_channels=20),
            ]
        )

    def forward(self, hidden_state):
        hidden_states = hidden_state
        for layer in self.layer[:2]:
            hidden_states = layer(hidden_states)
        return F.relu(self.layer[2](hidden_states) + hidden_state)


class ResNetStage2(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(
            [
                ResNetBottleNeckLayer(
                    in_channels=16, out_channels=20, stride=2, out_channels_2=5
                ),
                ResNetBottleNeckLayer2(),
            ]
        )

    def forward(self, input):
        return self.layers[1](self.layers[0](input))


class ResNetEncoder(nn.Module):
    def __init__(self, config: ResNetConfig):
        super().__init__()
        self.stages = nn.ModuleList(
            [
                ResNetStage(
                    in_channels=config.embedding_size,
                    out_channels=16,
                    stride=1,
                    out_channels_2=4,
                ),
                ResNetStage2(),
                ResNetStage(
                    in_channels=20, out_channels=24, stride=2, out_channels_2=6
                ),
                ResNetStage(
                    in_channels=24, out_channels=28, stride=2, out_channels_2=7
                ),
            ]
        )

    def forward(self, hidden_state):
        hidden_state = self.stages[1](self.stages[0](hidden_state))
        for stage in self.stages[2:]:
            hidden_state = stage(hidden_state)
        return hidden_state


class ResNetModel(nn.Module):
    def __init__(self, config: ResNetConfig):
        super().__init__()
        self.config = config
        self.embedder = ResNetEmbeddings(config)
        self.encoder = ResNetEncoder(config)

    def forward(self, pixel_values):
        pixel_values = as_array("pixel_values", pixel_values)
        check_shapes(pixel_values=(pixel_values, "B 3 64 64"))
        encoder_outputs = self.encoder(self.embedder(pixel_values))
        return BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=encoder_outputs,
            pooler_output=F.adaptive_avg_pool2d(encoder_outputs, 1),
        )

    @classmethod
    def from_pretrained(cls, folder: str, changed: bool = False) -> "ResNetModel":
        """The model saved in `folder`, loaded strictly and in eval mode.

        With `changed`, files may be other ones than those that were saved.
        """
        files = saved_files(folder, changed)
        config = ResNetConfig(
            **config_values(
                files, [field.name for field in dataclasses.fields(ResNetConfig)]
            )
        )
        return load_pretrained(lambda: cls(config), files)

    def save_pretrained(self, folder: str) -> None:
        """Write the model to `folder`, for `from_pretrained` and for ivyport."""
        save_pretrained(self, folder, __file__, dataclasses.asdict(self.config))


def load_pretrained(make, files):
    """Fill the model that `make` builds with the weights among `saved_files`, by name.

    Nothing is initialised at random first. A tensor with several names is in the files
    under the first. The model is in eval mode: call `.train()` on it for dropout.
    """
    with torch.device("meta"):
        model = make()
    weights = load_weights(files, load_file)
    first = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        held = first.setdefault(tensor, name)
        if held == name and name in weights and isinstance(tensor, nn.Parameter):
            weights[name] = nn.Parameter(weights[name], tensor.requires_grad)
        elif held != name and held in weights:
            weights[name] = weights[held]
    model.load_state_dict(weights, strict=True, assign=True)
    return model.eval()


def save_pretrained(model, folder, file, config):
    """Write what `load_pretrained` reads: the weights as they are now, and the rest."""
    first = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        first.setdefault(tensor, name)
    tensors = {name: tensor.detach() for tensor, name in first.items()}

    def save(shard, path):
        save_file({n: t.clone().contiguous() for n, t in shard.items()}, path)

    write_pretrained(folder, file, config, tensors, save)


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
    gone = {"README.md", "parity.json", *filter(is_weights, old)}
    files = {n: told for n, told in there.get("files", {}).items() if n not in gone}
    values = read(home / "config.json") | config
    along = {"config.json": to_bytes(values)}
    for name in sorted(set(record["files"]) - gone - {"config.json", *files}):
        known = home / pathlib.Path(name).name
        if known.is_file() and (not is_weights(name)):
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
        named = re.fullmatch("model(-\\d{5}-of-\\d{5})?\\.safetensors", path.name)
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
    run = "([0-9a-f]{4})([0-9a-f]{6})[0-9a-f]{8}"
    made = f"model-{run}-\\d{{5}}-of-\\d{{5}}\\.safetensors|\\..+\\.{run}\\.part"
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
