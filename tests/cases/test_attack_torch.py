"""Small torch models that ports got wrong: state in plain attributes, crops of a free size."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ivyport
from ivyport.core.errors import TraceError
from tests.cases.gradients import TARGETS, example
from tests.support import assert_close

Body = Callable[[Any, torch.Tensor], Any]


class Model(nn.Module):
    """A layer, and attributes that are no buffers."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lin = nn.Linear(4, 4)
        self.count = 0
        self.last: torch.Tensor | None = None
        self.seen: list[Any] = []
        self.recent: deque[Any] = deque(maxlen=2)
        self.table: dict[Any, Any] = {}
        self.cache = torch.zeros(3, 4)
        self.body = body

    def forward(self, x: torch.Tensor) -> Any:
        return self.body(self, x)


def counter(m: Model, x: torch.Tensor) -> torch.Tensor:
    m.count += 1
    return m.lin(x) * m.count


def counter_in_training(m: Model, x: torch.Tensor) -> torch.Tensor:
    m.count += m.training
    return m.lin(x) * (1 + m.count)


def last_result(m: Model, x: torch.Tensor) -> torch.Tensor:
    h = m.lin(x) if m.last is None else m.lin(x) + m.last
    m.last = h.detach()
    return h


def history(m: Model, x: torch.Tensor) -> torch.Tensor:
    m.seen.append(m.lin(x))
    return torch.stack(m.seen).sum(0)


def written_in_place(m: Model, x: torch.Tensor) -> torch.Tensor:
    m.cache[:, :2] += m.lin(x)[:, :2]
    return m.cache * 2


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (counter, "count"),
        (counter_in_training, "count"),
        (last_result, "last"),
        (history, "seen"),
        (written_in_place, "cache"),
    ],
    ids=lambda p: getattr(p, "__name__", ""),
)
def test_state_in_plain_attributes_is_refused(body: Body, name: str) -> None:
    model = Model(body).eval()
    with pytest.raises(TraceError, match=f"forward assigns '{name}'.*register_buffer"):
        ivyport.transpile(model, "jax", (example(3, 4),))
    assert model.count == 0
    assert model.last is None
    assert not model.seen
    assert not model.cache.any()


def made_once(m: Model, x: torch.Tensor) -> torch.Tensor:
    if m.last is None:
        m.last = torch.arange(4.0)
    m.count += 1
    m.seen.append(x.shape[1])
    m.recent.append(1)
    m.table["size"] = x.shape[1]
    m.probe = m.lin(x)
    return m.probe * m.last


def scratch(m: Model, x: torch.Tensor) -> torch.Tensor:
    m.cache.copy_(x)
    return m.lin(m.cache)


@pytest.mark.parametrize("body", [made_once, scratch], ids=lambda f: f.__name__)
def test_attributes_that_change_nothing_are_left_out(body: Body) -> None:
    model, x = Model(body).eval(), example(3, 4)
    ported = ivyport.transpile(model, "jax", (x,))
    assert (model.count, model.last, model.seen, model.table) == (0, None, [], {})
    assert not model.recent
    assert not hasattr(model, "probe")
    assert_close(ported(jnp.asarray(x.numpy())), model(x), rtol=1e-5)


def grown_to_five(m: Model, x: torch.Tensor) -> torch.Tensor:
    return F.pad(m.lin(x), (0, 0, 0, 5 - x.shape[0]), value=2.0)


def moved_down(m: Model, x: torch.Tensor) -> torch.Tensor:
    return F.pad(m.lin(x), (1, -1, 2 - x.shape[0], x.shape[0] - 1))


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("body", [grown_to_five, moved_down], ids=lambda f: f.__name__)
def test_padding_that_crops_for_some_sizes(body: Body, to: str) -> None:
    model = Model(body).eval()
    ported = ivyport.transpile(model, to, (example(4, 4),), train=False)
    for size in (1, 3, 5, 6, 7):
        x = example(size, 4)
        y = ported(jnp.asarray(x.numpy()) if to == "jax" else x)
        assert_close(
            np.asarray(y.detach() if to == "torch" else y), model(x), rtol=1e-5
        )


class Counted(nn.Module):
    """A model that returns the counter of its batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.norm(x)
        counter = self.norm.num_batches_tracked
        assert counter is not None
        return y, counter * 2


@pytest.mark.parametrize("to", TARGETS)
def test_counter_of_a_batch_norm_as_a_result(to: str, tmp_path: Path) -> None:
    model, x = Counted(), example(6, 4)
    model(x)
    ported = ivyport.transpile(model.eval(), to, (x,))
    given = jnp.asarray(x.numpy()) if to == "jax" else x
    assert int(ported(given)[1]) == 2
    model.train(), ported.train()
    for _ in range(3):
        assert int(ported(given)[1]) == int(model(x)[1])
    ivyport.save(ported, tmp_path / "port")
    assert int(ivyport.load(tmp_path / "port")(given)[1]) == 8


@pytest.mark.parametrize("to", ["jax", "torch"])
def test_constants_of_train_mode_are_its_own(to: str) -> None:
    """Each capture names its constants from 0: those of train mode are other tensors."""

    class Scaled(torch.nn.Module):
        def forward(self, x):
            if self.training:
                return x * torch.tensor([4.0, 5.0, 6.0])
            return x * torch.tensor([1.0, 2.0, 3.0])

    x = torch.randn(2, 3)
    port = ivyport.transpile(Scaled().eval(), to, (x,))
    port.train()
    found = port(x if to == "torch" else x.numpy())
    wanted = (x * torch.tensor([4.0, 5.0, 6.0])).numpy()
    assert abs(wanted - found.__array__()).max() < 1e-6
