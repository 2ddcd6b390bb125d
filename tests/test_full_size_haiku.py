"""The haiku zoo at its published sizes, with random weights, ported to torch.

Run by `make test-full`. Minutes a model, and up to 18 GiB of memory for the largest.
"""

from __future__ import annotations

import gc

import jax
import numpy as np
import pytest

import ivyport
from ivyport.zoo.haiku.catalogue import ENTRIES

torch = pytest.importorskip("torch")

NETS = [
    (name, v) for name in ENTRIES if name != "perceiver" for v in ENTRIES[name].variants
]
PERCEIVERS = [("perceiver", variant) for variant in ENTRIES["perceiver"].variants]
# What gradients, and float64 where it decides, would not fit beside other work: attention between
# 182,528 pixels and 2,048 latents takes 1.5 GB, and eight blocks of one and the same six layers
# hold what two hold four times over. Those sizes do not change the parameters. Of the flow's 24
# equal layers, with 268 MB of attention each, two are trained. The outputs of the whole models are
# compared below.
SIZES = {
    "optical-flow": {"image_size": (92, 124), "self_attends_per_block": 2},
    "imagenet-learned": {"num_blocks": 2},
    "imagenet-fourier": {"num_blocks": 2},
    "imagenet-conv": {"num_blocks": 2},
}


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("name", "variant"), [*PERCEIVERS, *NETS])
def test_published_size(name, variant, tmp_path):
    batch = 1 if name == "perceiver" else 2
    model = ENTRIES[name].build(variant, batch=batch, sizes=SIZES.get(variant))
    params, state = model.draw(seed=0)
    result = ivyport.port(
        model.transformed,
        "torch",
        tmp_path / "port",
        kwargs=model.inputs,
        params=params,
        state=state,
        rng=0,
        name="port",
    )
    assert result.report is not None
    for line in _summary(result.report.rows):
        print(f"{name} {variant}: {line}")
    failed = [row for row in result.report.rows if not row.passed]
    assert not failed, [(row.name, row.max_rel) for row in failed[:5]]
    del model, params, result
    gc.collect()


def _summary(rows):
    """The largest error of each kind of row; what float64 settled is counted apart."""
    kinds = {}
    for row in rows:
        wide = " in float64" if "in float64" in row.note else ""
        kinds.setdefault(f"{row.kind} ({row.inputs}){wide}", []).append(row)
    for kind, found in kinds.items():
        worst = max(found, key=lambda row: row.max_rel)
        yield f"{kind}: {len(found)} rows, max_rel {worst.max_rel:.1e} ({worst.name})"


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("variant", SIZES)
def test_outputs_of_the_whole_model(variant):
    model = ENTRIES["perceiver"].build(variant, batch=1)
    params, state = model.draw(seed=0)
    expected, _ = jax.jit(model.transformed.apply)(params, state, None, **model.inputs)
    ported = ivyport.transpile(
        model.transformed,
        "torch",
        kwargs=model.inputs,
        params=params,
        state=state,
        verify=False,
    )
    with torch.no_grad():
        found = ported(images=torch.from_numpy(model.inputs["images"]))
    # Sums over 182,528 keys: 1e-5 of the largest value was found, in float32.
    limit = (5e-5 if variant == "optical-flow" else 1e-5) * np.abs(expected).max()
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=limit)
