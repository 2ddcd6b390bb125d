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
class BertConfig:
    vocab_size: int = 99
    hidden_size: int = 32
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    intermediate_size: int = 37
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 43
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12


class BaseModelOutputWithPoolingAndCrossAttentions(NamedTuple):
    last_hidden_state: torch.Tensor
    pooler_output: torch.Tensor
    hidden_states: None = None
    past_key_values: None = None
    attentions: None = None
    cross_attentions: None = None


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


def check_sizes(holds: bool, due: str, why: str = "", **sizes: int) -> None:
    """Raise ValueError where sizes do not satisfy what the model was traced under."""
    if not holds:
        raise ValueError(
            f"sizes with {due} are due{(f' ({why})' if why else '')}, not "
            + ", ".join((f"{name} = {size}" for name, size in sizes.items()))
        )


class BertEmbeddings(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(
            config.vocab_size, config.hidden_size, padding_idx=0
        )
        self.position_embeddings = nn.Embedding(
            config.max_position_embeddings, config.hidden_size
        )
        self.token_type_embeddings = nn.Embedding(
            config.type_vocab_size, config.hidden_size
        )
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids):
        B, S = input_ids.shape
        inputs_embeds = self.word_embeddings(input_ids)
        token_type_embeddings = self.token_type_embeddings(
            torch.zeros(B, S, dtype=torch.int64, device=input_ids.device)
        )
        embeddings = inputs_embeds + token_type_embeddings
        position_embeddings = self.position_embeddings(
            torch.arange(S, device=input_ids.device)[None]
        )
        return self.dropout(self.LayerNorm(embeddings + position_embeddings))


class BertSelfAttention(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.attention_head_size = config.hidden_size // config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def forward(self, hidden_states, attention_mask):
        B, S, _ = hidden_states.shape
        query_layer = (
            self.query(hidden_states)
            .reshape(B, S, -1, self.attention_head_size)
            .transpose(1, 2)
        )
        key_layer = (
            self.key(hidden_states)
            .reshape(B, S, -1, self.attention_head_size)
            .transpose(1, 2)
        )
        value_layer = (
            self.value(hidden_states)
            .reshape(B, S, -1, self.attention_head_size)
            .transpose(1, 2)
        )
        attn_output = F.scaled_dot_product_attention(
            query_layer,
            key_layer,
            value_layer,
            attn_mask=attention_mask,
            dropout_p=self.dropout.p if self.training else 0.0,
        )
        return attn_output.transpose(1, 2).reshape(B, S, -1)


class BertSelfOutput(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states, input_tensor):
        return self.LayerNorm(self.dropout(self.dense(hidden_states)) + input_tensor)


class BertAttention(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.self = BertSelfAttention(config)
        self.output = BertSelfOutput(config)

    def forward(self, hidden_states, attention_mask):
        return self.output(self.self(hidden_states, attention_mask), hidden_states)


class BertIntermediate(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)

    def forward(self, hidden_states):
        return F.gelu(self.dense(hidden_states))


class BertOutput(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.dense = nn.Linear(config.intermediate_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states, input_tensor):
        return self.LayerNorm(self.dropout(self.dense(hidden_states)) + input_tensor)


class BertLayer(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.attention = BertAttention(config)
        self.intermediate = BertIntermediate(config)
        self.output = BertOutput(config)

    def forward(self, hidden_states, attention_mask):
        self_attention_output = self.attention(hidden_states, attention_mask)
        return self.output(
            self.intermediate(self_attention_output), self_attention_output
        )


class BertEncoder(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.layer = nn.ModuleList(
            [BertLayer(config) for _ in range(config.num_hidden_layers)]
        )

    def forward(self, hidden_states, attention_mask):
        for layer in self.layer:
            hidden_states = layer(hidden_states, attention_mask)
        return hidden_states


class BertPooler(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden_states):
        return torch.tanh(self.dense(hidden_states[:, 0]))


class BertModel(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.config = config
        self.max_position_embeddings = config.max_position_embeddings
        self.embeddings = BertEmbeddings(config)
        self.encoder = BertEncoder(config)
        self.pooler = BertPooler(config)

    def forward(self, input_ids, attention_mask=None):
        input_ids = as_array("input_ids", input_ids)
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        attention_mask = as_array("attention_mask", attention_mask)
        check_shapes(
            input_ids=(input_ids, "int B S"), attention_mask=(attention_mask, "B S")
        )
        S = input_ids.shape[1]
        check_sizes(
            S <= self.max_position_embeddings,
            "S <= max_position_embeddings",
            "transformers/models/bert/modeling_bert.py:84: position_ids = ...",
            S=S,
            max_position_embeddings=self.max_position_embeddings,
        )
        encoder_outputs = self.encoder(
            self.embeddings(input_ids), attention_mask.bool()[:, None, None]
        )
        return BaseModelOutputWithPoolingAndCrossAttentions(
            last_hidden_state=encoder_outputs,
            pooler_output=self.pooler(encoder_outputs),
        )

    @classmethod
    def from_pretrained(cls, folder: str, changed: bool = False) -> "BertModel":
        """The model saved in `folder`, loaded strictly and in eval mode.

        With `changed`, files may be other ones than those that were saved.
        """
        files = saved_files(folder, changed)
        config = BertConfig(
            **config_values(
                files, [field.name for field in dataclasses.fields(BertConfig)]
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
