"""A port."""

import dataclasses
import hashlib
import json
import pathlib
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn


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
    logits: torch.Tensor
    loss: None = None
    past_key_values: None = None
    hidden_states: None = None
    attentions: None = None
    cross_attentions: None = None


def check_shapes(
    **arguments: tuple[torch.Tensor, str] | tuple[torch.Tensor, str, str],
) -> None:
    """Raise ValueError for an argument whose shape the model was not made for.

    ``x=(x, "B T 4")``: x has three axes, the last of size 4. A letter stands for one
    size in all arguments, 1 or more. A third item says why a size is due.
    """
    sizes: dict[str, int] = {}
    for name, (array, axes, *why) in arguments.items():
        shape, letters = (tuple(getattr(array, "shape", ())), axes.split())
        for letter, size in zip(letters, shape, strict=False):
            sizes.setdefault(letter, int(letter) if letter.isdigit() else max(size, 1))
        due = [sizes.get(letter) for letter in letters]
        wrong = [
            f"axis {axis} is {size}, not {wanted}"
            for axis, (size, wanted) in enumerate(zip(shape, due, strict=False))
            if size != wanted
        ]
        if len(shape) != len(due):
            wrong = [f"it has {len(shape)} axes"]
        if wrong:
            reasons = "; ".join([*wrong, *why])
            raise ValueError(
                f"{name}: ({', '.join(letters)}) is due, not {shape}: {reasons}"
            )


def load_pretrained(make, files):
    """Fill the model that `make` builds with the weights among `saved_files`, by name.

    Nothing is initialised at random first. A tensor with several names is in the files
    under the first. The model is in eval mode: call `.train()` on it for dropout.
    """
    with torch.device("meta"):
        model = make()
    weights = load_weights(files)
    first = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        held = first.setdefault(tensor, name)
        if held == name and name in weights and isinstance(tensor, nn.Parameter):
            weights[name] = nn.Parameter(weights[name], tensor.requires_grad)
        elif held != name and held in weights:
            weights[name] = weights[held]
    model.load_state_dict(weights, strict=True, assign=True)
    return model.eval()


def config_values(files, fields):
    """The given fields of config.json among `saved_files`."""
    path, digest = files["config.json"]
    values = json.loads(path.read_text(encoding="utf-8"))
    demand_saved(path, digest)
    return {key: values[key] for key in fields if key in values}


def load_weights(files):
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


class GPT2Attention(nn.Module):
    def __init__(self, config: GPT2Config):
        super().__init__()
        self.embed_dim = config.n_embd
        self.head_dim = config.n_embd // config.n_head
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)
        self.dropout = nn.Dropout(config.attn_pdrop)

    def forward(self, hidden_states, attention_mask):
        B, S, _ = hidden_states.shape
        query_states, key_states, value_states = self.c_attn(hidden_states).split(
            [self.embed_dim, self.embed_dim, self.embed_dim], dim=-1
        )
        query_states = query_states.reshape(B, S, -1, self.head_dim).transpose(1, 2)
        key_states = key_states.reshape(B, S, -1, self.head_dim).transpose(1, 2)
        value_states = value_states.reshape(B, S, -1, self.head_dim).transpose(1, 2)
        attn_output = F.scaled_dot_product_attention(
            query_states,
            key_states,
            value_states,
            attn_mask=attention_mask,
            dropout_p=self.dropout.p if self.training else 0.0,
        )
        return self.resid_dropout(
            self.c_proj(attn_output.transpose(1, 2).reshape(B, S, -1))
        )


class GPT2MLP(nn.Module):
    def __init__(self, config: GPT2Config):
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, config.n_inner)
        self.c_proj = nn.Linear(config.n_inner, config.n_embd)
        self.dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, hidden_states):
        return self.dropout(
            self.c_proj(F.gelu(self.c_fc(hidden_states), approximate="tanh"))
        )


class GPT2Block(nn.Module):
    def __init__(self, config: GPT2Config):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = GPT2Attention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = GPT2MLP(config)

    def forward(self, hidden_states, attention_mask):
        hidden_states = (
            self.attn(self.ln_1(hidden_states), attention_mask) + hidden_states
        )
        return hidden_states + self.mlp(self.ln_2(hidden_states))


class GPT2Model(nn.Module):
    def __init__(self, config: GPT2Config):
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList([GPT2Block(config) for _ in range(config.n_layer)])
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)

    def forward(self, input_ids, attention_mask):
        S = input_ids.shape[1]
        position_ids = torch.arange(S, device=input_ids.device)
        mask = position_ids[None, None, None] <= position_ids[None, None, :, None]
        attention_mask = attention_mask.bool()[:, None, None]
        causal_mask = mask & attention_mask
        hidden_states = self.drop(self.wte(input_ids) + self.wpe(position_ids[None]))
        for block in self.h:
            hidden_states = block(hidden_states, causal_mask)
        return self.ln_f(hidden_states)


class GPT2LMHeadModel(nn.Module):
    def __init__(self, config: GPT2Config):
        super().__init__()
        self.transformer = GPT2Model(config)

    def forward(self, input_ids, attention_mask):
        check_shapes(
            input_ids=(input_ids, "B S"), attention_mask=(attention_mask, "B S")
        )
        logits = F.linear(
            self.transformer(input_ids, attention_mask), self.transformer.wte.weight
        )
        return CausalLMOutputWithCrossAttentions(logits=logits)

    @classmethod
    def from_pretrained(cls, folder: str, changed: bool = False) -> "GPT2LMHeadModel":
        """The model saved in `folder`, loaded strictly and in eval mode.

        With `changed`, files may be other ones than those that were saved.
        """
        files = saved_files(folder, changed)
        fields = [field.name for field in dataclasses.fields(GPT2Config)]
        config = GPT2Config(**config_values(files, fields))
        return load_pretrained(lambda: cls(config), files)
