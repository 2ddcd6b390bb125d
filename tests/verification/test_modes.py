"""Dropout and noise of train mode, counted on both sides."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ivyport.core.passes.undropped import LEFT_OUT
from ivyport.verification.modes import dropout_rows, noise_rows


def source(*rates: float) -> Any:
    return SimpleNamespace(rates=lambda train: list(rates) if train else [])


def port(*rates: float, noise: bool = False) -> Any:
    def draws(inputs: Any, *, train: bool, silent: bool = False) -> bool:
        return train and (noise or (bool(rates) and not silent))

    return SimpleNamespace(
        rates=lambda inputs, train: list(rates) if train else [], draws=draws
    )


LOOP = f"{LEFT_OUT} (rate 0.3 at model.py:12)."
OTHERS = [
    "Train mode: 'encoder' (m.Encoder) drops whole layers at random in Python (rate 0.3, x)",
    "The forward pass drops its argument 'cache'.",
]


@pytest.mark.parametrize(
    ("known", "found", "passes"),
    [
        ([], [0.1, 0.3], True),
        ([], [0.1], False),
        (OTHERS, [0.1], False),
        ([LOOP], [0.1], True),
        ([LOOP], [], False),
    ],
)
def test_dropout_is_missed_unless_a_note_names_it(
    known: list[str], found: list[float], passes: bool
) -> None:
    [row] = dropout_rows(source(0.1, 0.3), port(*found), {}, known)
    assert row.passed is passes, row


def test_noise_is_missed_beside_dropout() -> None:
    for theirs, passes in (
        (port(0.1, noise=True), True),
        (port(0.1), False),
        (port(), False),
        # Stochastic depth of the source is a dropout of the port.
        (port(0.1, 0.2), True),
    ):
        [row] = noise_rows(source(0.1), theirs, {})
        assert row.passed is passes, row
