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

import jax
import jax.numpy as jnp
from flax import nnx
from safetensors.flax import load_file, save_file


@dataclasses.dataclass(frozen=True)
class ResNetConfig:
    num_channels: int = 3
    embedding_size: int = 12


class BaseModelOutputWithPoolingAndNoAttention(NamedTuple):
    last_hidden_state: jax.Array
    pooler_output: jax.Array
    hidden_states: None = None


def check_shapes(
    **arguments: tuple[jax.Array, str] | tuple[jax.Array, str, str],
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
            if not jnp.issubdtype(array.dtype, jnp.integer):
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
    """`given` as a JAX array; TypeError for what is none."""
    try:
        return jnp.asarray(given)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"{name} is {given!r:.60}: the model was traced with an array for it"
        ) from None


class BatchNorm(nnx.BatchNorm):
    """Batch norm whose running variance is unbiased, as in PyTorch."""

    def __call__(self, x):
        if self.use_running_average:
            return super().__call__(x)
        axes = tuple(range(x.ndim - 1))
        mean, var = (x.mean(axes), x.var(axes))
        count = x.size // x.shape[-1]
        if count == 1:
            raise ValueError(f"{x.shape} has one value a channel: train with more")
        kept = self.momentum
        self.mean[...] = kept * self.mean[...] + (1 - kept) * mean
        self.var[...] = kept * self.var[...] + (1 - kept) * var * count / (count - 1)
        y = (x - mean) * jax.lax.rsqrt(var + self.epsilon)
        y = y if self.scale is None else y * self.scale[...]
        return y if self.bias is None else y + self.bias[...]


class PointwiseConv(nnx.Conv):
    """Convolution of single points: on a CPU a matrix product, which uses all cores."""

    def __call__(self, x):
        whole = super().__call__
        return jax.lax.platform_dependent(x, cpu=self.product, default=whole)

    def product(self, x):
        x = x[:, *(slice(None, None, stride) for stride in self.strides)]
        x = x @ self.kernel[...].reshape(self.in_features, self.out_features)
        return x if self.bias is None else x + self.bias[...]


class ResNetConvLayer(nnx.Module):
    def __init__(self, config: ResNetConfig, *, rngs: nnx.Rngs):
        self.convolution = nnx.Conv(
            config.num_channels,
            config.embedding_size,
            kernel_size=(7, 7),
            strides=(2, 2),
            padding=(3, 3),
            use_bias=False,
            rngs=rngs,
        )
        self.normalization = BatchNorm(
            config.embedding_size, momentum=0.9, epsilon=1e-05, rngs=rngs
        )

    def __call__(self, x):
        return jax.nn.relu(self.normalization(self.convolution(x)))


class ResNetEmbeddings(nnx.Module):
    def __init__(self, config: ResNetConfig, *, rngs: nnx.Rngs):
        self.embedder = ResNetConvLayer(config, rngs=rngs)

    def __call__(self, x):
        return nnx.max_pool(
            self.embedder(x), (3, 3), strides=(2, 2), padding=((1, 1), (1, 1))
        )


class ResNetShortCut(nnx.Module):
    def __init__(self, in_features, out_features, strides, *, rngs: nnx.Rngs):
        self.convolution = PointwiseConv(
            in_features,
            out_features,
            kernel_size=(1, 1),
            strides=(strides, strides),
            padding=(0, 0),
            use_bias=False,
            rngs=rngs,
        )
        self.normalization = BatchNorm(
            out_features, momentum=0.9, epsilon=1e-05, rngs=rngs
        )

    def __call__(self, input):
        return self.normalization(self.convolution(input))


class ResNetConvLayer2(nnx.Module):
    def __init__(self, in_features, out_features, *, rngs: nnx.Rngs):
        self.convolution = PointwiseConv(
            in_features,
            out_features,
            kernel_size=(1, 1),
            strides=(1, 1),
            padding=(0, 0),
            use_bias=False,
            rngs=rngs,
        )
        self.normalization = BatchNorm(
            out_features, momentum=0.9, epsilon=1e-05, rngs=rngs
        )

    def __call__(self, hidden_states):
        return jax.nn.relu(self.normalization(self.convolution(hidden_states)))


class ResNetConvLayer3(nnx.Module):
    def __init__(self, in_features, strides, *, rngs: nnx.Rngs):
        self.convolution = nnx.Conv(
            in_features,
            in_features,
            kernel_size=(3, 3),
            strides=(strides, strides),
            padding=(1, 1),
            use_bias=False,
            rngs=rngs,
        )
        self.normalization = BatchNorm(
            in_features, momentum=0.9, epsilon=1e-05, rngs=rngs
        )

    def __call__(self, hidden_states):
        return jax.nn.relu(self.normalization(self.convolution(hidden_states)))


class ResNetConvLayer4(nnx.Module):
    def __init__(self, in_features, out_features, *, rngs: nnx.Rngs):
        self.convolution = PointwiseConv(
            in_features,
            out_features,
            kernel_size=(1, 1),
            strides=(1, 1),
            padding=(0, 0),
            use_bias=False,
            rngs=rngs,
        )
        self.normalization = BatchNorm(
            out_features, momentum=0.9, epsilon=1e-05, rngs=rngs
        )

    def __call__(self, hidden_states):
        return self.normalization(self.convolution(hidden_states))


class ResNetBottleNeckLayer(nnx.Module):
    def __init__(
        self, in_features, out_features, strides, hidden_features, *, rngs: nnx.Rngs
    ):
        self.shortcut = ResNetShortCut(
            in_features=in_features,
            out_features=out_features,
            strides=strides,
            rngs=rngs,
        )
        self.layer = nnx.List(
            [
                ResNetConvLayer2(
                    in_features=in_features, out_features=hidden_features, rngs=rngs
                ),
                ResNetConvLayer3(
                    in_features=hidden_features, strides=strides, rngs=rngs
                ),
                ResNetConvLayer4(
                    in_features=hidden_features, out_features=out_features, rngs=rngs
                ),
            ]
        )

    def __call__(self, hidden_state):
        hidden_states = self.layer[2](self.layer[1](self.layer[0](hidden_state)))
        residual = self.shortcut(hidden_state)
        return jax.nn.relu(hidden_states + residual)


class ResNetStage(nnx.Module):
    def __init__(
        self, in_features, out_features, strides, hidden_features, *, rngs: nnx.Rngs
    ):
        self.layers = nnx.List(
            [
                ResNetBottleNeckLayer(
                    in_features=in_features,
                    out_features=out_features,
                    strides=strides,
                    hidden_features=hidden_features,
                    rngs=rngs,
                )
            ]
        )

    def __call__(self, input):
        return self.layers[0](input)


class ResNetBottleNeckLayer2(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        self.layer = nnx.List(
            [
                ResNetConvLayer2(in_features=20, out_features=5, rngs=rngs),
                ResNetConvLayer3(in_features=5, strides=1, rngs=rngs),
                ResNetConvLayer4(in_features=5, out_features=20, rngs=rngs),
            ]
        )

    def __call__(self, hidden_state):
        hidden_state = (
            self.layer[2](self.layer[1](self.layer[0](hidden_state))) + hidden_state
        )
        return jax.nn.relu(hidden_state)


class ResNetStage2(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        self.layers = nnx.List(
            [
                ResNetBottleNeckLayer(
                    in_features=16,
                    out_features=20,
                    strides=2,
                    hidden_features=5,
                    rngs=rngs,
                ),
                ResNetBottleNeckLayer2(rngs=rngs),
            ]
        )

    def __call__(self, input):
        return self.layers[1](self.layers[0](input))


class ResNetEncoder(nnx.Module):
    def __init__(self, config: ResNetConfig, *, rngs: nnx.Rngs):
        self.stages = nnx.List(
            [
                ResNetStage(
                    in_features=config.embedding_size,
                    out_features=16,
                    strides=1,
                    hidden_features=4,
                    rngs=rngs,
                ),
                ResNetStage2(rngs=rngs),
                ResNetStage(
                    in_features=20,
                    out_features=24,
                    strides=2,
                    hidden_features=6,
                    rngs=rngs,
                ),
                ResNetStage(
                    in_features=24,
                    out_features=28,
                    strides=2,
                    hidden_features=7,
                    rngs=rngs,
                ),
            ]
        )

    def __call__(self, hidden_state):
        hidden_state = self.stages[1](self.stages[0](hidden_state))
        for stage in self.stages[2:]:
            hidden_state = stage(hidden_state)
        return hidden_state


class ResNetModel(nnx.Module):
    def __init__(self, config: ResNetConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.embedder = ResNetEmbeddings(config, rngs=rngs)
        self.encoder = ResNetEncoder(config, rngs=rngs)

    def __call__(self, pixel_values):
        pixel_values = as_array("pixel_values", pixel_values)
        check_shapes(pixel_values=(pixel_values, "B 3 64 64"))
        encoder_outputs = self.encoder(
            self.embedder(pixel_values.transpose(0, 2, 3, 1))
        )
        pooled_output = encoder_outputs.mean(axis=(1, 2), keepdims=True).transpose(
            0, 3, 1, 2
        )
        encoder_outputs = encoder_outputs.transpose(0, 3, 1, 2)
        return BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=encoder_outputs, pooler_output=pooled_output
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
        return load_pretrained(lambda: cls(config, rngs=nnx.Rngs(0)), files)

    def save_pretrained(self, folder: str) -> None:
        """Write the model to `folder`, for `from_pretrained` and for ivyport."""
        save_pretrained(self, folder, __file__, dataclasses.asdict(self.config))


def load_pretrained(make, files):
    """Fill the model that `make` builds with the weights among `saved_files`, by name.

    No parameter is initialised at random first; only the dropout keys are computed. The
    model is in eval mode: call `.train()` on it for dropout.
    """
    graphdef, rngs, state = nnx.split(nnx.eval_shape(make), nnx.RngState, ...)
    variables = {".".join(map(str, p)): (p, v) for p, v in nnx.to_flat_state(state)}
    weights = load_weights(files, load_file)
    expected = {
        name: variable.shape for name, (_, variable) in variables.items()
    }.items()
    found = {name: value.shape for name, value in weights.items()}.items()
    if found != expected:
        raise ValueError(
            f"weights: missing {sorted(expected - found)}, "
            + f"unexpected {sorted(found - expected)}"
        )
    filled = {path: v.replace(weights[name]) for name, (path, v) in variables.items()}
    if nnx.to_flat_state(rngs):
        rngs = jax.jit(lambda: nnx.state(make(), nnx.RngState))()
    model = nnx.merge(graphdef, rngs, nnx.from_flat_state(filled))
    model.eval()
    return model


def save_pretrained(model, folder, file, config):
    """Write what `load_pretrained` reads: the weights as they are now, and the rest."""
    state = nnx.to_flat_state(nnx.split(model, nnx.RngState, ...)[2])
    tensors = {".".join(map(str, path)): value[...] for path, value in state}
    write_pretrained(folder, file, config, tensors, save_file)


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
