"""The constructors of ports, and what a call asks, are broken in one place at a time.

`verify` compares a port with the source that it was made of, so it does not see these mistakes. A
probe does: it builds the port anew from its configuration, or calls it otherwise. Each probe
holds for the unbroken product, and fails for the broken one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import ivyport
from ivyport.core.errors import WeightsError
from ivyport.frontends.torch import provenance
from ivyport.modules import fixed
from ivyport.modules.fixed import Fixed
from ivyport.modules.formulas import Formulas
from ivyport.modules.signature import Signature
from tests.cases import test_constructors_starts as cases
from tests.cases.constructors import fresh

Break = tuple[Any, str, Any]


def follows(cls: type[cases.Model], field: str) -> Callable[[], bool]:
    """Whether a port of `cls` computes what the source does with twice the field, or refuses."""

    def probe() -> bool:
        port = cases.port_of(cls)
        value = 2 * getattr(cases.Settings(), field)
        twin = cls(cases.Settings(**{field: value})).eval()
        try:
            new = fresh(port, "torch", **{field: value}).eval()
        except ValueError:
            return True
        new.load_state_dict(twin.state_dict(), strict=False)
        return torch.allclose(new(cases.IDS), twin(cases.IDS), rtol=1e-4, atol=1e-5)

    return probe


def starts() -> bool:
    """Whether a port starts where the source's constructor does, or refuses."""
    source = cases.Starts(cases.Settings()).eval()
    port = ivyport.transpile(source, "torch", (cases.IDS,), train=False, verify=False)
    new = fresh(port, "torch")
    same = all(
        torch.allclose(new.get_parameter(name), source.get_parameter(name))
        for name in ("decay", "mixed", "gate.weight", "score.bias", "norm.weight")
    )
    try:
        new(cases.IDS)
    except RuntimeError as error:
        return same and "no values yet" in str(error)
    return False


def exchanged() -> bool:
    """Whether a part that was put in later keeps its own size."""
    source = cases.Model(cases.Settings()).eval()
    source.table, source.rest = nn.Embedding(30, 8), torch.tanh
    try:
        port = ivyport.transpile(source, "torch", (cases.IDS,), train=False)
    except WeightsError:  # the port has the configuration's size
        return False
    return bool(port.table.num_embeddings == 30)


class Switched(nn.Module):
    """Another function with a switch."""

    def forward(self, x: torch.Tensor, *, wide: bool = False) -> torch.Tensor:
        return x.tanh() if wide else x.sin()


def switched() -> bool:
    """Whether another constant than the traced one is refused."""
    x = torch.randn(2, 3)
    port = ivyport.transpile(Switched(), "torch", (x,), {"wide": True}, train=False)
    try:
        port(x, wide=False)
    except ValueError:
        return True
    return False


#: What is broken, by which name, with what in its place; and the probe that sees it.
MUTANTS: dict[str, tuple[Break, Callable[[], bool]]] = {
    "other models not seen": (
        (provenance, "rebuilt", lambda *_: None),
        follows(cases.Flag, "width"),
    ),
    "new elements not seen": (
        (provenance, "rebuilt", lambda *_: None),
        follows(cases.Late, "depth"),
    ),
    "tables not compared": (
        (Formulas, "following", lambda *_: iter(())),
        follows(cases.Band, "width"),
    ),
    "lines not read": (
        (fixed, "read_at", lambda *_: (frozenset(), frozenset())),
        follows(cases.Quotient, "width"),
    ),
    "numbers of code not noted": (
        (Fixed, "body", lambda *_: None),
        follows(cases.Local, "width"),
    ),
    "refused fields forgotten": (
        (Fixed, "_fix", lambda *_: None),
        follows(cases.Base, "length"),
    ),
    "parameters are drawn": ((Formulas, "start", lambda *_: None), starts),
    "layers are drawn": ((Formulas, "layer_start", lambda *_: None), starts),
    "exchanged parts not seen": ((provenance, "_held", lambda p, _: p), exchanged),
    "constants not checked": (
        (Signature, "_matched", lambda self, name, given, item: given),
        switched,
    ),
}


#: Each has a neighbour that dies of the same probe.
SLOW = {"layers are drawn", "new elements not seen"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in MUTANTS],
)
def test_the_probe_sees_the_mutant_alone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (owner, attribute, other), probe = MUTANTS[name]
    monkeypatch.setattr(provenance, "_FOUND", {})
    assert probe()
    monkeypatch.setattr(provenance, "_FOUND", {})
    monkeypatch.setattr(owner, attribute, other)
    assert not probe()
