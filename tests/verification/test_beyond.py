"""Sizes for which a port was not made are tried: it has to refuse them, or to be right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import ivyport
from ivyport.core.checks import Check
from ivyport.core.dims import symbol
from ivyport.modules import file
from ivyport.verification.beyond import beyond
from ivyport.verification.second import fresh

IDS = {"ids": np.zeros((3, 8), np.int64)}
FREE = {"ids": {0: "batch", 1: "seq"}}
IMAGES = {"x": np.ones((2, 3, 8, 8), np.float32), "m": np.ones((2, 8), np.bool_)}
B, T = symbol("batch"), symbol("seq")


def tried(checks=(), bounds=None):
    sizes = beyond(IDS, FREE, bounds or {}, checks)
    return [tuple(s.second.values()) for s in sizes]


def test_a_length_of_one_is_tried_without_any_check():
    assert tried() == [(3, 1)]


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (Check(T % 2, "==", 0), [(3, 9)]),
        (Check(T % 4, "!=", 3), [(3, 7)]),
        (Check(B, ">=", 2), [(1, 8)]),
        (Check(T, "<", 12), [(3, 12)]),
        (Check(B * T, ">", 20), [(2, 8), (3, 6)]),
    ],
)
def test_sizes_break_each_check(check, expected):
    assert tried([check])[: len(expected)] == expected


def test_sizes_are_outside_of_the_bounds():
    assert {(3, 4), (3, 17)} <= set(tried(bounds={"seq": (5, 16)}))
    # A source may run for minutes on these.
    assert tried(bounds={"seq": (1, 10**9)}) == [(3, 1)]


def test_fixed_axes_are_tried_together_and_each_for_itself():
    free = {"x": {0: "batch"}, "m": {0: "batch"}}
    fixed = [s for s in beyond(IMAGES, free, {}) if s.free]
    assert {s.role for s in fixed} == {"other than 3", "other than 8"}
    shapes = [
        tuple(a.shape for a in fresh(IMAGES, s.free, s, seed=0).values())
        for s in fixed
        if s.role == "other than 8" and s.second["size 8"] == 9
    ]
    assert shapes == [
        ((2, 3, 9, 9), (2, 9)),
        ((2, 3, 9, 8), (2, 8)),
        ((2, 3, 8, 9), (2, 8)),
        ((2, 3, 8, 8), (2, 9)),
    ]


class Guarded(nn.Module):
    def forward(self, x):
        return x * 2 if x.shape[1] % 2 == 0 else x


def test_a_port_without_its_check_does_not_pass(monkeypatch):
    x = torch.randint(0, 9, (3, 8))
    source = Guarded().eval()
    assert ivyport.verify(source, ivyport.transpile(source, "torch", (x,))).passed
    monkeypatch.setattr(file, "sizes_checks", lambda *_: [])
    report = ivyport.verify(source, ivyport.transpile(source, "torch", (x,)))
    failing = {row.note for row in report.rows if not row.passed}
    assert "batch 3, seq 9" in failing
