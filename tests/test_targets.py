from __future__ import annotations

import importlib.util

import pytest

from ivyport.core.errors import DependencyError, InputError
from ivyport.targets import require, resolve_target


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("jax", "jax"),
        ("nnx", "jax"),
        ("torch", "torch"),
        ("pytorch", "torch"),
        ("np", "numpy"),
    ],
)
def test_target_names(name, target):
    assert resolve_target(name).name == target


@pytest.mark.parametrize("name", ["keras", "JAX", "", "jax "])
def test_another_target_is_refused_and_the_ones_that_exist_are_named(name):
    with pytest.raises(
        InputError,
        match=r"ports to: haiku, jax, linen, numpy, torch \(aliases: nnx = jax",
    ):
        resolve_target(name)


def test_missing_packages_are_named_with_the_command_to_run(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name: None if name in {"flax", "transformers"} else real(name),
    )
    require("torch")
    expected = r"not installed: flax, transformers. Run: pip install 'ivyport\[jax,hf\]"
    with pytest.raises(DependencyError, match=expected):
        require("torch", "jax", "hf")
