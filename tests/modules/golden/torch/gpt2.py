"""A port."""

import dataclasses
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
        due = [sizes.get(letter) for letter in letters]
        wrong = [
            f"axis {axis} is {size}, not {wanted}" if size else f"axis {axis} is empty"
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


def check_sizes(holds: bool, due: str, why: str = "", **sizes: int) -> None:
    """Raise ValueError where sizes do not satisfy what the model was traced under."""
    if not holds:
        given = ", ".join((f"{name} = {size}" for name, size in sizes.items()))
        reason = f" ({why})" if why else ""
        raise ValueError(f"sizes with {due} are due{reason}, not {given}")


def load_pretrained(make, folder):
    """Fill the model that `make` builds with `folder`'s safetensors, name by name.

    Nothing is initialised at random first. A tensor with several names is in the files
    under the first. The model is in eval mode: call `.train()` on it for dropout.
    """
    with torch.device("meta"):
        model = make()
    weights = {}
    for file in sorted(pathlib.Path(folder).glob("model*.safetensors")):
        weights.update(load_file(file))
    first = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        held = first.setdefault(tensor, name)
        if held == name and name in weights and isinstance(tensor, nn.Parameter):
            weights[name] = nn.Parameter(weights[name], tensor.requires_grad)
        elif held != name and held in weights:
            weights[name] = weights[held]
    model.load_state_dict(weights, strict=True, assign=True)
    return model.eval()


def config_values(path, fields):
    """The given fields of a JSON file."""
    values = json.loads(pathlib.Path(path).read_text())
    return {key: values[key] for key in fields if key in values}


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
        input_ids = torch.as_tensor(input_ids)
        attention_mask = torch.as_tensor(attention_mask)
        check_shapes(
            input_ids=(input_ids, "int B S"), attention_mask=(attention_mask, "B S")
        )
        S = input_ids.shape[1]
        check_sizes(S <= 43, "S <= 43", S=S)
        logits = F.linear(
            self.transformer(input_ids, attention_mask), self.transformer.wte.weight
        )
        return CausalLMOutputWithCrossAttentions(logits=logits)

    @classmethod
    def from_pretrained(cls, folder: str) -> "GPT2LMHeadModel":
        """The model saved in `folder`, loaded strictly and in eval mode."""
        fields = [field.name for field in dataclasses.fields(GPT2Config)]
        config = GPT2Config(
            **config_values(pathlib.Path(folder) / "config.json", fields)
        )
        return load_pretrained(lambda: cls(config), folder)
