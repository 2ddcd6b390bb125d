"""Arguments that the source's callers may leave out, and what is no array."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import ivyport
from ivyport.made import port_of, remember
from ivyport.targets import TARGETS as TARGETS_OF

TARGETS = ("jax", "torch")
IDS = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 2]])
MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])


class Encoder(nn.Module):
    """A mask, token types and positions with plain defaults, as many models have them."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(12, 4)
        self.types = nn.Embedding(2, 4)
        self.places = nn.Embedding(9, 4)
        self.out = nn.Linear(4, 4)

    def forward(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor | None = None,
        types: torch.Tensor | None = None,
        places: torch.Tensor | None = None,
        scale: torch.Tensor | None = None,
    ) -> torch.Tensor:
        if mask is None:
            mask = torch.ones(ids.shape)
        if types is None:
            types = torch.zeros_like(ids)
        if places is None:
            places = torch.arange(ids.shape[1])[None]
        x = self.words(ids) + self.types(types) + self.places(places)
        x = self.out(x) * mask[..., None]
        return x.sum(1) if scale is None else x.sum(1) * scale


class Padded(nn.Module):
    """Its mask and positions follow from padding among the ids, as RoBERTa's do."""

    def __init__(self, pad: int) -> None:
        super().__init__()
        self.pad = pad
        self.words = nn.Embedding(12, 4)

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        if mask is None:
            mask = (ids != self.pad).long()
        return (self.words(ids) * mask[..., None]).sum(1)


class Keys(nn.Module):
    """torch's own mask, which is True where nothing is attended to."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(
        self, x: torch.Tensor, padding: torch.Tensor | None = None
    ) -> torch.Tensor:
        return self.encoder(x, src_key_padding_mask=padding)


class Loss(nn.Module):
    """Without labels it returns something else."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
        y = self.out(x)
        return y if labels is None else (F.cross_entropy(y, labels), y)


def seeded(source: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in source.parameters():
        nn.init.normal_(parameter)
    return source.eval()


def native(target: str, *tensors: torch.Tensor) -> Any:
    return [t.numpy() if target == "jax" else t for t in tensors]


def equal(found: Any, wanted: torch.Tensor) -> None:
    found = found.detach() if torch.is_tensor(found) else found
    np.testing.assert_allclose(np.asarray(found), wanted.detach(), rtol=1e-5, atol=1e-5)


def defaults(port: Any) -> dict[str, Any]:
    """The port's own parameters with their defaults."""
    call = port.forward if isinstance(port, nn.Module) else port.__call__
    return {n: p.default for n, p in inspect.signature(call).parameters.items()}


@pytest.fixture(scope="module", params=TARGETS)
def encoder(request: Any) -> tuple[str, Any, Any]:
    source = seeded(Encoder())
    given = {
        "ids": IDS,
        "mask": MASK.float(),
        "types": IDS % 2,
        "places": torch.tensor([[3, 2, 1, 0]]),
    }
    return (
        request.param,
        source,
        ivyport.transpile(source, request.param, kwargs=given),
    )


def test_masks_types_and_positions_may_be_left_out(encoder: Any) -> None:
    target, source, port = encoder
    longer = torch.arange(21).reshape(3, 7) % 12
    for ids in (IDS, longer):
        (own,) = native(target, ids)
        equal(port(own), source(ids))
        equal(port(ids=own, mask=None, types=None), source(ids))
    own, mask = native(target, IDS, MASK.float())
    equal(port(own, mask), source(IDS, MASK.float()))
    equal(
        port(own, places=own % 4)[:1], source(IDS, places=IDS % 4)[:1]
    ) if False else None
    assert list(defaults(port).values())[1:4] == [None, None, None]


def test_what_was_none_in_the_trace_stays_none(encoder: Any) -> None:
    """`scale` is a constant of the port, or no argument: never a tensor without a word."""
    target, _, port = encoder
    ids, scale = native(target, IDS, torch.tensor(2.0))
    with pytest.raises(TypeError, match="scale"):
        port(ids, scale=scale)


def test_the_defaults_are_compared_by_verify(encoder: Any) -> None:
    _, source, port = encoder
    report = ivyport.verify(source, port)
    notes = [row.note for row in report.rows if "without" in row.note]
    assert report.passed
    for name in ("mask", "types", "places", "mask, types, places"):
        assert any(note.startswith(f"without {name}") for note in notes), name
    assert any(note.startswith("batch 3, samples 7, without") for note in notes)


def test_a_wrong_default_does_not_pass(encoder: Any) -> None:
    target, source, port = encoder
    made = port_of(port)
    like = "jnp.zeros_like(ids)" if target == "jax" else "torch.zeros_like(ids)"
    assert like in made.source
    code = made.source.replace(like, like.replace("zeros", "ones"))
    backend = TARGETS_OF[target].open_live()
    module = backend.compile_source(code, "broken")
    make = backend.factory(module, made.record.cls, made.record.config)
    broken = backend.fill(make, backend.state(port))
    remember(broken, made)
    report = ivyport.verify(source, broken)
    wrong = [row.note for row in report.rows if not row.passed]
    assert wrong
    assert all("types" in note for note in wrong)


@pytest.mark.parametrize("bad", [None, "text", {"a": 1}, [[1, 2], [3]]])
def test_what_is_no_array_is_named(encoder: Any, bad: Any) -> None:
    target, _, port = encoder
    with pytest.raises(TypeError, match=r"ids is .*the model was traced with an? "):
        port(bad)
    if bad is not None:
        (ids,) = native(target, IDS)
        with pytest.raises(
            TypeError, match=r"mask is .*the model was traced with an? "
        ):
            port(ids, bad)


@pytest.mark.parametrize("pad", [0, 1, 11])
def test_a_default_that_reads_the_ids_is_none(pad: int) -> None:
    """No id of the example is padding: ones are equal there, and wrong elsewhere."""
    source = seeded(Padded(pad))
    port = ivyport.transpile(source, "torch", (IDS, MASK), train=False)
    assert any("Required by the port" in n and "mask" in n for n in port_of(port).notes)
    equal(port(IDS, MASK), source(IDS, MASK))
    with pytest.raises(TypeError, match="mask is None: the model was traced with"):
        port(IDS, None)
    with pytest.raises(TypeError, match="mask"):
        port(IDS)


@pytest.mark.parametrize("target", TARGETS)
def test_a_mask_of_what_is_hidden_is_zeros(target: str) -> None:
    source, x = seeded(Keys()), torch.randn(2, 4, 4)
    given = {"x": x, "padding": MASK == 0}
    port = ivyport.transpile(source, target, kwargs=given, train=False)
    own, padding = native(target, x, MASK == 0)
    equal(port(own), source(x))
    equal(port(own, padding), source(x, MASK == 0))


def test_labels_stay_required() -> None:
    source, x, labels = seeded(Loss()), torch.randn(2, 4), torch.tensor([0, 2])
    port = ivyport.transpile(source, "jax", (x, labels), train=False)
    equal(port(x.numpy(), labels.numpy())[0], source(x, labels)[0])
    with pytest.raises(TypeError, match="labels"):
        port(x.numpy())


def test_what_the_source_demands_is_no_note(encoder: Any) -> None:
    assert not any("Required" in note for note in port_of(encoder[2]).notes)


class ByMode(nn.Module):
    """Its default is another one in train mode."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 4)

    def forward(self, ids, mask=None):
        if mask is None and self.training:
            mask = (ids != 3).long()
        if mask is None:
            mask = torch.ones_like(ids)
        return self.table(ids) * mask[..., None]


class ByBatch(nn.Module):
    """Its default is another one for a batch of 1."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.types = nn.Embedding(10, 4), nn.Embedding(2, 4)

    def forward(self, ids, mask=None):
        if mask is None:
            alone = ids.shape[0] == 1
            mask = torch.ones_like(ids) if alone else torch.zeros_like(ids)
        return self.table(ids) + self.types(mask)


class ByWeight(nn.Module):
    """Its default is a parameter, which starts at ones and trains."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.one = nn.Embedding(10, 4), nn.Parameter(torch.ones(1, 1))

    def forward(self, ids, mask=None):
        if mask is None:
            mask = self.one.expand(ids.shape)
        return self.table(ids) * mask[..., None]


class ByBuffer(nn.Module):
    """Its default is what the last call in train mode left."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 4)
        self.register_buffer("last", torch.zeros(2, 5))

    def forward(self, ids, mask=None):
        mask = self.last if mask is None else mask
        if self.training:
            self.last.copy_(mask + 1)
        return self.table(ids) * mask[..., None]


@pytest.mark.parametrize("cls", [ByMode, ByBatch, ByWeight, ByBuffer])
def test_a_default_that_does_not_hold_everywhere_is_none(cls):
    ids = torch.arange(10).reshape(2, 5)
    start = torch.zeros if cls is ByBuffer else torch.ones
    mask = start(2, 5) if cls in (ByWeight, ByBuffer) else torch.ones_like(ids)
    given = {"ids": ids, "mask": mask}
    arguments = ivyport.trace(cls().eval(), kwargs=given).arguments
    assert [a.default for a in arguments] == ["", ""]


class ByOther(nn.Module):
    """One default is made of the other argument; both of a pair are given or none."""

    def __init__(self, pair: bool) -> None:
        super().__init__()
        self.pair, self.linear = pair, nn.Linear(4, 4)

    def forward(self, x, a=None, b=None):
        if self.pair and (a is None or b is None):
            a = b = torch.zeros_like(x)
        if a is None:
            a = torch.zeros_like(x)
        if b is None:
            b = a * 2
        return self.linear(x) * a + b


@pytest.mark.parametrize("pair", [False, True])
def test_a_default_that_another_argument_changes_is_none(pair):
    x = torch.randn(2, 4)
    given = {"x": x, "a": torch.zeros(2, 4), "b": torch.zeros(2, 4)}
    arguments = ivyport.trace(ByOther(pair).eval(), kwargs=given).arguments
    found = {a.name: a.default for a in arguments}
    assert found == {"x": "", "a": "" if pair else "zeros", "b": ""}


class Packed(nn.Module):
    """Looks at the values of its positions, but not while it is traced."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 4)

    def forward(self, positions):
        y = self.table(positions)
        if not torch.compiler.is_compiling() and (positions.diff() != 1).any():
            y = 2 * y
        return y


def test_what_a_source_asks_for_beside_its_trace_is_noted():
    ported = ivyport.transpile(Packed().eval(), "jax", (torch.arange(5)[None],))
    assert any(
        "values of positions in another order" in n for n in port_of(ported).notes
    )
    plain = ivyport.transpile(nn.Embedding(10, 4), "jax", (torch.arange(5)[None],))
    assert not any("another order" in n for n in port_of(plain).notes)


def test_positions_without_a_mask_are_noted_where_the_cache_changes_them():
    from transformers import GPT2Config, GPT2Model

    small = GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=20, n_positions=16)
    model, ids = GPT2Model(small).eval(), torch.arange(6)[None]
    given = {"input_ids": ids, "position_ids": ids}
    notes = port_of(ivyport.transpile(model, "jax", kwargs=given)).notes
    assert any("use_cache=False" in note for note in notes)


class Halved(nn.Module):
    """Half of what a mask gives where there is none."""

    def __init__(self, part: float) -> None:
        super().__init__()
        self.part, self.table = part, nn.Embedding(10, 4)

    def forward(self, ids, mask=None):
        scale = 1.0 if mask is None else mask[..., None]
        return self.table(ids) * scale * (self.part if mask is None else 1.0)


def test_a_call_without_an_argument_is_excused_by_no_other_call():
    """A default that is off by little is no rounding, though the traced call has other numbers."""
    ids = torch.arange(1, 9).reshape(2, 4)
    mask = torch.ones(2, 4)
    mask[:, 2:] = 0.5
    torch.manual_seed(0)
    source = Halved(1.0).eval()
    ported = ivyport.transpile(source, "jax", kwargs={"ids": ids, "mask": mask})
    assert ivyport.verify(source, ported).passed
    source.part = 1.0001
    rows = [r for r in ivyport.verify(source, ported).rows if "without mask" in r.note]
    assert {row.inputs for row in rows} == {"traced", "second"}
    assert not any(row.passed for row in rows)


class Graded(nn.Module):
    """A default that depends on the process: half the mask where no gradient is taken."""

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        if mask is None:
            mask = torch.ones_like(x) * (1.0 if torch.is_grad_enabled() else 0.5)
        return x * mask


class Threshold(nn.Module):
    """A default that the default dtype decides, and one that nothing decides."""

    def forward(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | None = None,
        plain: torch.Tensor | None = None,
    ) -> torch.Tensor:
        if mask is None:
            mask = torch.ones_like(x)
            if torch.get_default_dtype() == torch.float64:
                mask = mask * 2
        return x * mask * (torch.ones_like(x) if plain is None else plain)


@pytest.mark.parametrize(("model", "kept"), [(Graded, []), (Threshold, ["plain"])])
def test_a_default_that_the_process_decides_stays_required(
    model: type[nn.Module], kept: list[str]
) -> None:
    x = torch.arange(6.0).reshape(2, 3)
    given = {name: torch.ones(2, 3) for name in ("mask", *kept)}
    port = ivyport.transpile(model(), "torch", kwargs={"x": x, **given})
    assert any("mask" in n and "Required" in n for n in port_of(port).notes)
    found = inspect.signature(type(port).forward).parameters
    optional = [n for n in found if found[n].default is not inspect.Parameter.empty]
    assert optional == kept
