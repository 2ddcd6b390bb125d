"""The catalogue of haiku models: every net of `hk.nets` builds, draws and runs."""

from __future__ import annotations

import subprocess
import sys

import haiku as hk
import jax
import numpy as np
import pytest

from ivyport.core.errors import InputError
from ivyport.zoo.haiku.catalogue import ENTRIES, find, read_sizes
from tests.haiku_goldens import SIZES

SMALL = {
    "mlp": {"channels": 6, "layers": (5, 4)},
    "mobilenet": {"image_size": (32, 32), "num_classes": 7},
    "vqvae": {"channels": 4, "num_embeddings": 6, "grid": (2, 3)},
    **{
        f"resnet{depth}": {"image_size": (32, 32), "num_classes": 7}
        for depth in (18, 34, 50, 101, 152, 200)
    },
}
#: The other residual networks differ from ResNet-18 in their blocks only.
RUN = [
    (name, variant)
    for name in ("mlp", "mobilenet", "vqvae", "resnet18")
    for variant in ENTRIES[name].variants
]
NETS = {
    "MLP": "mlp",
    "MobileNetV1": "mobilenet",
    "VectorQuantizer": "vqvae",
    "VectorQuantizerEMA": "vqvae",
    **{f"ResNet{depth}": f"resnet{depth}" for depth in (18, 34, 50, 101, 152, 200)},
}


def test_every_net_of_haiku_has_an_entry():
    nets = {name for name in vars(hk.nets) if name[0].isupper()}
    assert nets - {"ResNet"} == NETS.keys()  # the base class of the others
    assert {"perceiver", *NETS.values()} == ENTRIES.keys()


@pytest.mark.parametrize("name", [n for n in ENTRIES if n != "perceiver"])
def test_full_size_specs(name):
    for variant in ENTRIES[name].variants:
        params, state = ENTRIES[name].build(variant).specs()
        assert params or state


@pytest.mark.parametrize(("name", "variant"), RUN)
def test_drawn_weights_show_in_the_output(name, variant):
    model = ENTRIES[name].build(variant, batch=3, sizes=SMALL[name])
    params, state = model.draw(seed=1)
    want = jax.tree.map(lambda x: (x.shape, str(x.dtype)), model.specs())
    assert jax.tree.map(lambda x: (x.shape, str(x.dtype)), (params, state)) == tuple(
        map(dict, want)
    )
    output, after = jax.jit(model.transformed.apply)(
        params, state, None, **model.inputs
    )
    for value in jax.tree.leaves(output):
        assert np.isfinite(value).all()
        assert name == "vqvae" or np.std(value) > 1e-3
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(after))
    again, _ = model.draw(seed=1)
    other, _ = model.draw(seed=2)
    for module, own in params.items():
        for key, array in own.items():
            assert array.size == 1 or np.std(array) > 0
            np.testing.assert_array_equal(again[module][key], array)
            assert not np.array_equal(other[module][key], array)


def test_versions_differ():
    sizes = SMALL["resnet18"]
    trees = [ENTRIES["resnet18"].build(v, sizes=sizes).specs()[0] for v in ("v1", "v2")]
    assert trees[0].keys() != trees[1].keys()


def test_sizes_from_texts():
    entry = find("perceiver")
    texts = ("num_latents=12", "image_size=32x40")
    assert read_sizes(entry, "imagenet-conv", texts) == {
        "num_latents": 12,
        "image_size": (32, 40),
    }
    assert read_sizes(find("mlp"), None, ["layers=5x4", "dropout=0.5"]) == {
        "layers": (5, 4),
        "dropout": 0.5,
    }
    assert read_sizes(find("mobilenet"), None, ["batch_norm=false"]) == {
        "batch_norm": False
    }
    for text in ("num_latents", "num_latents=", "num_latents=many", "image_size=3x"):
        with pytest.raises(InputError, match="does not read as name=value"):
            read_sizes(entry, None, [text])
    with pytest.raises(InputError, match=r"perceiver imagenet-learned has no size 'x'"):
        entry.build(sizes=read_sizes(entry, None, ["x=3"]))


def test_unknown_name():
    with pytest.raises(InputError, match=r"no 'resnet51', only: .*mean 'resnet50'\?"):
        find("resnet51")


def test_published_addresses():
    files = {
        n: v.weights.rpartition("/")[2] for n, v in find("perceiver").variants.items()
    }
    assert files.keys() == SIZES.keys()
    assert len(set(files.values())) == 5
    assert find("resnet50").variants["v1"].weights is None


def test_the_list_needs_no_framework():
    code = (
        "import sys; from ivyport.zoo.haiku.catalogue import ENTRIES\n"
        "assert ENTRIES and not {'haiku', 'jax', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
