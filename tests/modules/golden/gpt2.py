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
class GPT2Config:
    vocab_size: int = 99
    n_positions: int = 43
    n_embd: int = 32
    n_layer: int = 2
    n_head: int = 4
    n_inner: int = 37
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-05


class CausalLMOutputWithCrossAttentions(NamedTuple):
    logits: jax.Array
    loss: None = None
    past_key_values: None = None
    hidden_states: None = None
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


class GPT2Attention(nnx.Module):
    def __init__(self, config: GPT2Config, *, rngs: nnx.Rngs):
        self.embed_dim = config.n_embd
        self.head_dim = config.n_embd // config.n_head
        self.c_attn = nnx.Linear(config.n_embd, 3 * config.n_embd, rngs=rngs)
        self.c_proj = nnx.Linear(config.n_embd, config.n_embd, rngs=rngs)
        self.resid_dropout = nnx.Dropout(config.resid_pdrop, rngs=rngs)
        self.dropout = nnx.Dropout(config.attn_pdrop, rngs=rngs)

    def __call__(self, hidden_states, attention_mask):
        B, S, _ = hidden_states.shape
        query_states, key_states, value_states = jnp.split(
            self.c_attn(hidden_states),
            [self.embed_dim, self.embed_dim + self.embed_dim],
            axis=-1,
        )
        query_states = query_states.reshape(B, S, -1, self.head_dim)
        key_states = key_states.reshape(B, S, -1, self.head_dim)
        value_states = value_states.reshape(B, S, -1, self.head_dim)
        attn_output = attention(
            query_states,
            key_states,
            value_states,
            mask=attention_mask,
            dropout=self.dropout,
        )
        return self.resid_dropout(self.c_proj(attn_output.reshape(B, S, -1)))


class GPT2MLP(nnx.Module):
    def __init__(self, config: GPT2Config, *, rngs: nnx.Rngs):
        self.c_fc = nnx.Linear(config.n_embd, config.n_inner, rngs=rngs)
        self.c_proj = nnx.Linear(config.n_inner, config.n_embd, rngs=rngs)
        self.dropout = nnx.Dropout(config.resid_pdrop, rngs=rngs)

    def __call__(self, hidden_states):
        hidden_states = self.c_proj(
            jax.nn.gelu(self.c_fc(hidden_states), approximate=True)
        )
        return self.dropout(hidden_states)


class GPT2Block(nnx.Module):
    def __init__(self, config: GPT2Config, *, rngs: nnx.Rngs):
        self.ln_1 = nnx.LayerNorm(
            config.n_embd,
            epsilon=config.layer_norm_epsilon,
            use_fast_variance=False,
            rngs=rngs,
        )
        self.attn = GPT2Attention(config, rngs=rngs)
        self.ln_2 = nnx.LayerNorm(
            config.n_embd,
            epsilon=config.layer_norm_epsilon,
            use_fast_variance=False,
            rngs=rngs,
        )
        self.mlp = GPT2MLP(config, rngs=rngs)

    def __call__(self, hidden_states, attention_mask):
        hidden_states = (
            self.attn(self.ln_1(hidden_states), attention_mask) + hidden_states
        )
        return hidden_states + self.mlp(self.ln_2(hidden_states))


class GPT2Model(nnx.Module):
    def __init__(self, config: GPT2Config, *, rngs: nnx.Rngs):
        self.wte = nnx.Embed(config.vocab_size, config.n_embd, rngs=rngs)
        self.wpe = nnx.Embed(config.n_positions, config.n_embd, rngs=rngs)
        self.drop = nnx.Dropout(config.embd_pdrop, rngs=rngs)
        self.h = nnx.List([GPT2Block(config, rngs=rngs) for _ in range(config.n_layer)])
        self.ln_f = nnx.LayerNorm(
            config.n_embd,
            epsilon=config.layer_norm_epsilon,
            use_fast_variance=False,
            rngs=rngs,
        )

    def __call__(self, input_ids, attention_mask):
        S = input_ids.shape[1]
        position_ids = jnp.arange(S)
        mask = position_ids[None, None, None] <= position_ids[None, None, :, None]
        attention_mask = attention_mask.astype(bool)[:, None, None]
        causal_mask = mask & attention_mask
        hidden_states = self.drop(self.wte(input_ids) + self.wpe(position_ids[None]))
        for block in self.h:
            hidden_states = block(hidden_states, causal_mask)
        return self.ln_f(hidden_states)


class GPT2LMHeadModel(nnx.Module):
    def __init__(self, config: GPT2Config, *, rngs: nnx.Rngs):
        self.config = config
        self.n_positions = config.n_positions
        self.transformer = GPT2Model(config, rngs=rngs)

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
            S <= self.n_positions, "S <= n_positions", S=S, n_positions=self.n_positions
        )
        logits = (
            self.transformer(input_ids, attention_mask)
            @ self.transformer.wte.embedding[...].T
        )
        return CausalLMOutputWithCrossAttentions(logits=logits)

    @classmethod
    def from_pretrained(cls, folder: str, changed: bool = False) -> "GPT2LMHeadModel":
        """The model saved in `folder`, loaded strictly and in eval mode.

        With `changed`, files may be other ones than those that were saved.
        """
        files = saved_files(folder, changed)
        config = GPT2Config(
            **config_values(
                files, [field.name for field in dataclasses.fields(GPT2Config)]
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
