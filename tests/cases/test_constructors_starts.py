"""What a port that is built from its configuration starts with, and what may not change in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

import ivyport
from tests.cases.constructors import TARGETS, fresh

IDS = torch.arange(10).reshape(2, 5)


class Settings:
    """A configuration as users write them."""

    def __init__(self, **fields: Any) -> None:
        known = {"width": 8, "depth": 2, "length": 20, "states": 4, "low": 0.001}
        self.__dict__ |= known | fields

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


class Model(nn.Module):
    """A table and a layer; what follows them is a class's own."""

    def __init__(self, config: Settings) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Embedding(config.length, config.width)
        self.layer = nn.Linear(config.width, config.width)
        self.more(config)

    def more(self, config: Settings) -> None:
        """Further parts."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.rest(self.layer(self.table(ids)))


# ---- what parameters start as


class Starts(Model):
    """Trained parameters that are no usual draw."""

    def more(self, config: Settings) -> None:
        decay = torch.arange(1, config.states + 1).float().log()
        self.decay = nn.Parameter(decay.repeat(config.width, 1))
        self.slopes = nn.Parameter(torch.linspace(-1, 1, config.width))
        rates = torch.rand(config.width).clamp(min=config.low)
        self.rate = nn.Parameter(torch.log(0.5 * rates))
        self.mixed = nn.Parameter(torch.eye(config.width))
        self.gate = nn.Linear(config.width, config.width)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        self.score = nn.Linear(config.width, config.width)
        nn.init.eye_(self.score.weight)
        nn.init.constant_(self.score.bias, -2.0)
        self.norm = nn.LayerNorm(config.width)
        nn.init.zeros_(self.norm.weight)
        self.steps = nn.Linear(config.width, config.width)
        with torch.no_grad():
            self.steps.bias.uniform_(-3, -2)

    def rest(self, h: torch.Tensor) -> torch.Tensor:
        h = h + self.norm(self.gate(h)) * self.decay.sum(1) + self.rate.exp()
        return self.steps(self.score(h @ self.mixed * self.slopes))


@pytest.fixture(scope="module")
def starts() -> dict[str, Any]:
    torch.manual_seed(0)
    source = Starts(Settings()).eval()
    with torch.no_grad():  # as trained: the constructor is asked, not the weights
        for parameter in source.parameters():
            parameter.add_(0.1 * torch.rand_like(parameter))
    return {
        t: ivyport.transpile(source, t, (IDS,), train=False, verify=False)
        for t in TARGETS
    }


def held(model: Any, target: str) -> dict[str, Any]:
    """The parameters of a port, or the error of those without values."""
    if target == "torch":
        return {n: p.detach() for n, p in model.named_parameters()}
    found = {}
    for path, variable in nnx.iter_graph(model):
        if isinstance(variable, nnx.Param):
            found[".".join(map(str, path))] = variable
    return found


@pytest.mark.parametrize("target", TARGETS)
def test_parameters_that_are_no_draw_start_as_in_the_source(
    starts: dict[str, Any], target: str
) -> None:
    found = held(fresh(starts[target], target, states=6), target)
    weight, scale = ("weight", "weight") if target == "torch" else ("kernel", "scale")

    def values(name: str) -> np.ndarray:
        return np.asarray(found[name] if target == "torch" else found[name][...])

    decay = np.log(np.arange(1, 7, dtype=np.float32))
    np.testing.assert_allclose(values("decay"), np.tile(decay, (8, 1)), rtol=1e-6)
    np.testing.assert_array_equal(values("mixed"), np.eye(8))
    np.testing.assert_array_equal(values(f"score.{weight}"), np.eye(8))
    assert (values("score.bias") == -2).all()
    assert not values(f"norm.{scale}").any()
    assert not values(f"gate.{weight}").any()
    assert not values("gate.bias").any()
    assert values(f"layer.{weight}").std() > 0.05


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["slopes", "rate", "steps.bias"])
def test_starts_without_a_formula_refuse_and_train_once_loaded(
    starts: dict[str, Any], target: str, name: str
) -> None:
    port = starts[target]
    new = fresh(port, target)
    found = held(new, target)
    with pytest.raises((ValueError, RuntimeError), match=f"{name} has no values yet"):
        found[name] + 1 if target == "torch" else found[name][...]
    if target == "torch":
        new.load_state_dict(port.state_dict())
        new(IDS).sum().backward()
        assert new.get_parameter(name).grad is not None
        torch.testing.assert_close(new(IDS), port(IDS))
        return
    nnx.update(new, nnx.state(port))
    gradients = nnx.grad(lambda model: model(IDS.numpy()).sum())(new)
    assert name in {".".join(map(str, p)) for p, _ in nnx.to_flat_state(gradients)}
    np.testing.assert_allclose(new(IDS.numpy()), port(IDS.numpy()), rtol=1e-6)


# ---- fields that make another model


class Quotient(Model):
    """A quotient of a field that equals another number of the model."""

    def more(self, config: Settings) -> None:
        self.blocks = nn.ModuleList(
            nn.Linear(config.width, config.width) for _ in range(config.depth)
        )

    def rest(self, h: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            h = block(h)
        return h * (self.config.width // 4)


class Local(Quotient):
    """The same by a variable of a helper function's own."""

    def rest(self, h: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            h = block(h)
        return scaled(h, self.config)


def scaled(h: torch.Tensor, config: Settings) -> torch.Tensor:
    quarter = config.width // 4
    return h / quarter


class Extra(Model):
    """A module more from some size on."""

    def more(self, config: Settings) -> None:
        wide = config.width > 10
        self.extra = nn.Linear(config.width, config.width) if wide else None

    def rest(self, h: torch.Tensor) -> torch.Tensor:
        return h if self.extra is None else self.extra(h)


class Flag(Model):
    """A flag that a size sets."""

    def more(self, config: Settings) -> None:
        self.wide = config.width > 10

    def rest(self, h: torch.Tensor) -> torch.Tensor:
        return h.relu() if self.wide else h


class Other(Model):
    """Another activation from some size on."""

    def more(self, config: Settings) -> None:
        self.act = nn.ReLU() if config.width > 10 else nn.Tanh()

    def rest(self, h: torch.Tensor) -> torch.Tensor:
        return self.act(h)


class Called(Other):
    """The same as a function."""

    def more(self, config: Settings) -> None:
        self.act = torch.relu if config.width > 10 else torch.tanh


class Band(Model):
    """A mask whose band follows a field; its size follows another one."""

    def more(self, config: Settings) -> None:
        band = torch.ones(config.length, config.length).tril(5 - config.width)
        self.register_buffer("band", band, False)

    def rest(self, h: torch.Tensor) -> torch.Tensor:
        return h + self.band[: h.shape[1], : h.shape[1]] @ h


class Base(Model):
    """Frequencies whose base is a field."""

    def more(self, config: Settings) -> None:
        steps = torch.arange(0, config.width, 2) / config.width
        self.register_buffer("rates", 1.0 / float(config.length) ** steps, False)

    def rest(self, h: torch.Tensor) -> torch.Tensor:
        return h[..., ::2] * self.rates


class Attribute(Band):
    """A tensor in an attribute that is no buffer."""

    def more(self, config: Settings) -> None:
        self.band = torch.full((5, 5), float(config.width))


class Block(nn.Module):
    """A layer that knows which of a stack it is."""

    def __init__(self, config: Settings, index: int) -> None:
        super().__init__()
        self.layer = nn.Linear(config.width, config.width)
        self.late = index >= 2

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        h = self.layer(h)
        return h.relu() if self.late else h


class Late(Model):
    """Blocks that are other ones from the third on."""

    def more(self, config: Settings) -> None:
        self.blocks = nn.ModuleList(Block(config, i) for i in range(config.depth))

    def rest(self, h: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            h = block(h)
        return h


REFUSED = [
    (Quotient, "width"), (Local, "width"), (Extra, "width"), (Flag, "width"),
    (Other, "width"), (Called, "width"), (Band, "width"), (Base, "length"),
    (Attribute, "width"), (Late, "depth"),
]  # fmt: skip


def port_of(cls: type[Model]) -> Any:
    torch.manual_seed(0)
    source = cls(Settings()).eval()
    return ivyport.transpile(source, "torch", (IDS,), train=False)


#: `tests/test_mutations_built.py` asks the same of these.
PROBED = {Quotient, Local, Flag, Band, Base, Late}


@pytest.mark.parametrize(
    ("cls", "field"),
    [
        pytest.param(
            c, f, id=c.__name__, marks=[pytest.mark.slow] if c in PROBED else []
        )
        for c, f in REFUSED
    ],
)
def test_a_field_that_makes_another_model_is_refused(cls: Any, field: str) -> None:
    port = port_of(cls)
    value = getattr(Settings(), field)
    with pytest.raises(
        ValueError, match=f"^{field} is {2 * value}, but {value} is built"
    ):
        fresh(port, "torch", **{field: 2 * value})


def test_what_the_tables_follow_stays_free() -> None:
    twin = Band(Settings(length=40)).eval()
    new = fresh(port_of(Band), "torch", length=40)
    new.load_state_dict(twin.state_dict(), strict=False)
    torch.testing.assert_close(new(IDS), twin(IDS), rtol=1e-5, atol=1e-6)


def test_a_part_that_was_exchanged_is_not_of_the_configuration() -> None:
    source = Model(Settings()).eval()
    source.table = nn.Embedding(30, 8)
    source.rest = torch.tanh
    port = ivyport.transpile(source, "torch", (IDS,), train=False)
    assert port.table.num_embeddings == 30
    assert fresh(port, "torch").table.num_embeddings == 30
