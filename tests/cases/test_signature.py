"""The port's call takes what the source's call takes (issue 10, emission, second paragraph)."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import ivyport
from tests.cases.signature_models import (
    Batch,
    Cell,
    DictCell,
    Graph,
    Masked,
    Mode,
    Positional,
    Pyramid,
    RecordCell,
    Switched,
    Variadic,
    converted,
    draw,
    seeded,
)

TARGETS = ("jax", "torch")


def ported(source: Any, target: str, *args: Any, **kwargs: Any) -> Any:
    return ivyport.transpile(source, target, args, kwargs, train=False)


def native(target: str, value: Any) -> Any:
    """Example inputs as users of the target hold them: numpy arrays for JAX."""
    if target == "torch":
        return converted(value, torch.clone)
    return converted(value, lambda t: t.numpy())


def equal(found: Any, wanted: Any) -> None:
    found = found.detach() if torch.is_tensor(found) else found
    np.testing.assert_allclose(np.asarray(found), wanted.detach(), atol=1e-5)


# ---- constants


@pytest.fixture(scope="module", params=TARGETS)
def switched(request: pytest.FixtureRequest) -> tuple[str, Any, Any, dict[str, Any]]:
    source, x = seeded(Switched), draw()
    constants = {
        "use_cache": False,
        "return_dict": True,
        "reduction": Mode.MEAN,
        "scale": 0.5,
        "dtype": torch.float32,
        "shifts": (1, 2),
    }
    return (
        request.param,
        ported(source, request.param, x=x, **constants),
        x,
        {"expected": source(x, **constants)["y"]},
    )


def test_constants_are_keyword_arguments_with_their_values(switched: Any) -> None:
    target, port, x, known = switched
    x = native(target, x)
    equal(port(x)["y"], known["expected"])
    equal(port(x=x, use_cache=False, return_dict=True)["y"], known["expected"])
    equal(
        port(x, reduction=Mode.MEAN, scale=0.5, shifts=[1, 2])["y"], known["expected"]
    )
    equal(port(x, reduction="mean")["y"], known["expected"])
    call = port.forward if target == "torch" else port.__call__
    parameters = inspect.signature(call).parameters
    assert list(parameters)[:3] == ["x", "use_cache", "return_dict"]
    assert parameters["use_cache"].default is False
    assert parameters["shifts"].default == (1, 2)


@pytest.mark.parametrize(
    ("given", "traced"),
    [
        ({"use_cache": True}, "False"),
        ({"return_dict": None}, "True"),
        ({"reduction": Mode.SUM}, "'mean'"),
        ({"scale": 2.0}, "0.5"),
    ],
)
def test_another_constant_is_an_error_that_says_so(
    switched: Any, given: dict[str, Any], traced: str
) -> None:
    target, port, x, _ = switched
    (name,) = given
    with pytest.raises(
        ValueError, match=rf"{name} is .*{traced}.*port the model again"
    ):
        port(native(target, x), **given)


def test_constants_that_are_sequences_are_compared_by_item(switched: Any) -> None:
    target, port, x, _ = switched
    with pytest.raises(ValueError, match=r"shifts\[1\] is 3; 2 alone"):
        port(native(target, x), shifts=(1, 3))
    with pytest.raises(TypeError, match="shifts has 1 items; 2 are due"):
        port(native(target, x), shifts=(1,))


@pytest.mark.parametrize("target", TARGETS)
def test_a_positional_constant_keeps_its_place(target: str) -> None:
    source, x, mask = seeded(Positional), draw(), draw()
    port = ported(source, target, x, None, mask)
    expected = source(x, None, mask)
    x, mask = native(target, (x, mask))
    equal(port(x, None, mask), expected)
    equal(port(input=x, mask=mask), expected)
    with pytest.raises(ValueError, match="types is"):
        port(x, mask, mask)
    with pytest.raises(TypeError, match="mask is None: the model was traced with"):
        port(x)


def test_a_hugging_face_port_takes_the_switches_of_its_capture() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50)
    model = transformers.GPT2Model(config).eval()
    ids = torch.randint(0, 50, (2, 5))
    port = ivyport.transpile(model, "jax", kwargs={"input_ids": ids}, train=False)
    port(input_ids=ids.numpy(), use_cache=False)
    with pytest.raises(ValueError, match="use_cache is True; False alone"):
        port(input_ids=ids.numpy(), use_cache=True)


# ---- structures


STATES = {
    Cell: lambda h, c: (h, c),
    DictCell: lambda h, c: {"h": h, "c": c},
    RecordCell: Graph,
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("cell", list(STATES))
def test_a_returned_state_is_fed_back(target: str, cell: Any) -> None:
    source, x, state = seeded(cell), draw(), STATES[cell](draw(), draw())
    port = ported(source, target, x, state)
    wanted, kept = source(x, state)
    wanted, _ = source(wanted, kept)
    found, kept = port(native(target, x), native(target, state))
    found, kept = port(found, kept)
    equal(found, wanted)
    report = ivyport.verify(source, port)
    assert report.passed, report


def pyramid() -> tuple[Any, ...]:
    extra = {"scale": 0.5, "parts": (None, draw())}
    return [draw(), draw()], extra, Batch(draw())


@pytest.mark.parametrize("target", TARGETS)
def test_nested_structures_with_constants_and_holes(target: str) -> None:
    source, given = seeded(Pyramid), pyramid()
    port = ported(source, target, *given)
    feats, extra, batch = native(target, given)
    expected = source(*given)
    equal(port(feats, extra, batch), expected)
    equal(port(batch=batch, extra=extra, feats=tuple(feats)), expected)
    with pytest.raises(TypeError, match=r"extra has the keys \['scale'\]"):
        port(feats, {"scale": 0.5}, batch)
    with pytest.raises(ValueError, match=r"extra\['scale'\] is 2"):
        port(feats, {**extra, "scale": 2}, batch)
    with pytest.raises(TypeError, match="feats has 1 items; 2 are due"):
        port(feats[:1], extra, batch)
    with pytest.raises(ValueError, match=r"batch\.mask is"):
        port(feats, extra, batch._replace(mask=feats[0]))
    with pytest.raises(TypeError, match="batch has other fields than x"):
        port(feats, extra, feats)
    assert ivyport.verify(source, port).passed


@pytest.mark.parametrize("target", TARGETS)
def test_variadic_arguments(target: str, tmp_path: Path) -> None:
    source = seeded(Variadic)
    args, kwargs = (draw(), draw(), draw()), {"scale": 1.5, "offset": draw()}
    port = ported(source, target, *args, **kwargs)
    given, named = native(target, args), native(target, kwargs)
    equal(port(*given, **named), source(*args, **kwargs))
    with pytest.raises(TypeError, match="rest has 1 items; 2 are due"):
        port(*given[:2], **named)
    ivyport.save(port, tmp_path / "port")
    again = ivyport.load(tmp_path / "port")
    equal(again(*given, **named), source(*args, **kwargs))
    assert ivyport.verify(source, again, args=args, kwargs=kwargs).passed


# ---- arrays


def test_numpy_and_jax_arrays_are_taken_eagerly_and_under_jit() -> None:
    source, x = seeded(Masked), torch.randn(3, 4, 5)
    port = ported(source, "jax", x)
    wanted = source(x)
    jitted = nnx.jit(lambda model, x: model(x))
    for given in (x.numpy(), jnp.asarray(x.numpy()), x.numpy().astype(np.float64)):
        for found in (port(given), jitted(port, given)):
            equal(found[0], wanted[0])
            equal(found[1], wanted[1])
            assert all(isinstance(y, jax.Array) and y.dtype == "float32" for y in found)
