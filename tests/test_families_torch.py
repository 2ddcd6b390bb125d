"""Every family that is promised, tiny and with random weights, from torch to torch.

The strictest test that the graph is neutral: the standalone file must compute what the library
does, hold its tensors under the same names, and compile as one graph.
"""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import ivyport  # noqa: E402
from ivyport.zoo import hf, hf_configs, hf_inputs  # noqa: E402
from tests.porting import leaves  # noqa: E402
from tests.test_families import BASE_CLASSES, BASES, HEADS, TIED, _at, check  # noqa: E402

# Names that a port has for what its source makes in the constructor and does not save.
COMPUTED = ("inv_freq", "relative_position_index")


def port(family: str, cls: str) -> tuple[Any, Any, dict[str, Any]]:
    """The source, its port and the example inputs."""
    model = hf.build(hf_configs.tiny_config(family), cls=cls, seed=0, perturb=True)
    inputs = hf_inputs.example_inputs(model)
    dims = hf_inputs.dims(model, inputs)
    return model, ivyport.transpile(model, "torch", kwargs=inputs, dims=dims), inputs


def check_names(model: Any, ported: Any) -> None:
    """Parameters and buffers are called as in the source, each tied one once."""
    ours = {n for n in ported.state_dict() if not n.endswith(COMPUTED)}
    theirs = model.state_dict(keep_vars=True)
    assert ours <= set(theirs), ours - set(theirs)
    held = {id(theirs[name]) for name in ours}
    unused = set(ivyport.api._PORTS[ported].weights.unused)
    lost = {n for n, t in theirs.items() if id(t) not in held} - unused
    assert not lost


@pytest.mark.parametrize("family", BASES)
def test_base_model(family: str) -> None:
    model, ported, inputs = port(family, BASE_CLASSES[family])
    check(ivyport.verify(model, ported))
    check_names(model, ported)
    compiled = torch.compile(ported, fullgraph=True, backend="eager", dynamic=True)
    with torch.no_grad():
        pairs = zip(leaves(compiled(**inputs)), leaves(ported(**inputs)), strict=True)
        for (path, ours), (_, theirs) in pairs:
            if torch.is_tensor(theirs):
                torch.testing.assert_close(ours, theirs, msg=path)


@pytest.mark.parametrize("cls", HEADS)
def test_head(cls: str) -> None:
    model, ported, _ = port(HEADS[cls], cls)
    check(ivyport.verify(model, ported))
    check_names(model, ported)
    if cls in TIED:
        first, second = (_at(model, name) for name in TIED[cls])
        assert first is second
        shapes = [tuple(p.shape) for p in ported.parameters()]
        assert shapes.count(tuple(first.shape)) == 1
