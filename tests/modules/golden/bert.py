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
    last_hidden_state: jax.Array
    pooler_output: jax.Array
    hidden_states: None = None
    past_key_values: None = None
    attentions: None = None
    cross_attentions: None = None


def attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None = None,
    dropout=None,
) -> jax.Array:
    """softmax(Q K^T / sqrt(hs)) V; Q, K, V are (B, S, nh, hs).

    A query that may attend to nothing gives zeros.
    """
    query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
    wide = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.matmul(query, key.mT, preferred_element_type=wide)
    scores /= query.shape[-1] ** 0.5
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(wide).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    weights = weights if mask is None else jnp.where(mask, weights, 0)
    weights = weights if dropout is None else dropout(weights)
    return (weights @ value).swapaxes(1, 2)


def gelu(x: jax.Array) -> jax.Array:
    """0.5 * x * (1 + erf(x / sqrt(2))), the GELU (https://arxiv.org/abs/1606.08415).

    XLA computes erf in half the time of the erfc that `jax.nn.gelu` has.
    """
    y = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (0.5 * y * (1 + jax.lax.erf(y * 0.5**0.5))).astype(x.dtype)


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


def check_sizes(holds: bool, due: str, why: str = "", **sizes: int) -> None:
    """Raise ValueError where sizes do not satisfy what the model was traced under."""
    if not holds:
        raise ValueError(
            f"sizes with {due} are due{(f' ({why})' if why else '')}, not "
            + ", ".join((f"{name} = {size}" for name, size in sizes.items()))
        )


class PaddedEmbed(nnx.Embed):
    """Embedding whose row `padding_idx` gets no gradient, as in PyTorch."""

    def __init__(self, *sizes, padding_idx, **options):
        super().__init__(*sizes, **options)
        self.padding_idx = padding_idx

    def __call__(self, inputs):
        rows = super().__call__(inputs)
        padded = (inputs == self.padding_idx)[..., None]
        return jnp.where(padded, jax.lax.stop_gradient(rows), rows)


class BertEmbeddings(nnx.Module):
    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        self.word_embeddings = PaddedEmbed(
            config.vocab_size, config.hidden_size, padding_idx=0, rngs=rngs
        )
        self.position_embeddings = nnx.Embed(
            config.max_position_embeddings, config.hidden_size, rngs=rngs
        )
        self.token_type_embeddings = nnx.Embed(
            config.type_vocab_size, config.hidden_size, rngs=rngs
        )
        self.LayerNorm = nnx.LayerNorm(
            config.hidden_size,
            epsilon=config.layer_norm_eps,
            use_fast_variance=False,
            rngs=rngs,
        )
        self.dropout = nnx.Dropout(config.hidden_dropout_prob, rngs=rngs)

    def __call__(self, input_ids):
        B, S = input_ids.shape
        inputs_embeds = self.word_embeddings(input_ids)
        token_type_embeddings = self.token_type_embeddings(jnp.zeros((B, S), jnp.int32))
        embeddings = inputs_embeds + token_type_embeddings
        position_embeddings = self.position_embeddings(jnp.arange(S)[None])
        return self.dropout(self.LayerNorm(embeddings + position_embeddings))


class BertSelfAttention(nnx.Module):
    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        self.attention_head_size = config.hidden_size // config.num_attention_heads
        self.query = nnx.Linear(config.hidden_size, config.hidden_size, rngs=rngs)
        self.key = nnx.Linear(config.hidden_size, config.hidden_size, rngs=rngs)
        self.value = nnx.Linear(config.hidden_size, config.hidden_size, rngs=rngs)
        self.dropout = nnx.Dropout(config.attention_probs_dropout_prob, rngs=rngs)

    def __call__(self, hidden_states, attention_mask):
        B, S, _ = hidden_states.shape
        query_layer = self.query(hidden_states).reshape(
            B, S, -1, self.attention_head_size
        )
        key_layer = self.key(hidden_states).reshape(B, S, -1, self.attention_head_size)
        value_layer = self.value(hidden_states).reshape(
            B, S, -1, self.attention_head_size
        )
        attn_output = attention(
            query_layer,
            key_layer,
            value_layer,
            mask=attention_mask,
            dropout=self.dropout,
        )
        return attn_output.reshape(B, S, -1)


class BertSelfOutput(nnx.Module):
    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        self.dense = nnx.Linear(config.hidden_size, config.hidden_size, rngs=rngs)
        self.LayerNorm = nnx.LayerNorm(
            config.hidden_size,
            epsilon=config.layer_norm_eps,
            use_fast_variance=False,
            rngs=rngs,
        )
        self.dropout = nnx.Dropout(config.hidden_dropout_prob, rngs=rngs)

    def __call__(self, hidden_states, input_tensor):
        return self.LayerNorm(self.dropout(self.dense(hidden_states)) + input_tensor)


class BertAttention(nnx.Module):
    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        self.self = BertSelfAttention(config, rngs=rngs)
        self.output = BertSelfOutput(config, rngs=rngs)

    def __call__(self, hidden_states, attention_mask):
        return self.output(self.self(hidden_states, attention_mask), hidden_states)


class BertIntermediate(nnx.Module):
    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        self.dense = nnx.Linear(config.hidden_size, config.intermediate_size, rngs=rngs)

    def __call__(self, hidden_states):
        return gelu(self.dense(hidden_states))


class BertOutput(nnx.Module):
    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        self.dense = nnx.Linear(config.intermediate_size, config.hidden_size, rngs=rngs)
        self.LayerNorm = nnx.LayerNorm(
            config.hidden_size,
            epsilon=config.layer_norm_eps,
            use_fast_variance=False,
            rngs=rngs,
        )
        self.dropout = nnx.Dropout(config.hidden_dropout_prob, rngs=rngs)

    def __call__(self, hidden_states, input_tensor):
        return self.LayerNorm(self.dropout(self.dense(hidden_states)) + input_tensor)


class BertLayer(nnx.Module):
    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        self.attention = BertAttention(config, rngs=rngs)
        self.intermediate = BertIntermediate(config, rngs=rngs)
        self.output = BertOutput(config, rngs=rngs)

    def __call__(self, hidden_states, attention_mask):
        self_attention_output = self.attention(hidden_states, attention_mask)
        return self.output(
            self.intermediate(self_attention_output), self_attention_output
        )


class BertEncoder(nnx.Module):
    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        self.layer = nnx.List(
            [BertLayer(config, rngs=rngs) for _ in range(config.num_hidden_layers)]
        )

    def __call__(self, hidden_states, attention_mask):
        for layer in self.layer:
            hidden_states = layer(hidden_states, attention_mask)
        return hidden_states


class BertPooler(nnx.Module):
    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        self.dense = nnx.Linear(config.hidden_size, config.hidden_size, rngs=rngs)

    def __call__(self, hidden_states):
        return jnp.tanh(self.dense(hidden_states[:, 0]))


class BertModel(nnx.Module):
    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.max_position_embeddings = config.max_position_embeddings
        self.embeddings = BertEmbeddings(config, rngs=rngs)
        self.encoder = BertEncoder(config, rngs=rngs)
        self.pooler = BertPooler(config, rngs=rngs)

    def __call__(self, input_ids, attention_mask=None):
        input_ids = as_array("input_ids", input_ids)
        if attention_mask is None:
            attention_mask = jnp.ones_like(input_ids)
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
        embedding_output = self.embeddings(input_ids)
        attention_mask = attention_mask.astype(bool)[:, None, None]
        encoder_outputs = self.encoder(embedding_output, attention_mask)
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
