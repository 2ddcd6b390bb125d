from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from ivyport.core.errors import InputError
from ivyport.zoo.inputs import (
    DTYPES,
    InputSpec,
    given_dims,
    parse_input,
    read_inputs,
    sample_inputs,
    to_torch,
)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("x=float32[2,3]", InputSpec("x", np.dtype("float32"), (2, 3))),
        ("x_1=float64[]", InputSpec("x_1", np.dtype("float64"), ())),
        (" mask=bool[7] ", InputSpec("mask", np.dtype("bool"), (7,))),
        ("ids=int32[2,16]<100", InputSpec("ids", np.dtype("int32"), (2, 16), 100)),
        ("b=uint8[1]<256", InputSpec("b", np.dtype("uint8"), (1,), 256)),
        ("h=bfloat16[2]", InputSpec("h", np.dtype(ml_dtypes.bfloat16), (2,))),
    ],
)
def test_input_reads_as(text, spec):
    assert parse_input(text) == spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "does not read as name=dtype"),
        ("x=float32", "does not read as name=dtype"),
        ("x=float32[2,", "does not read as name=dtype"),
        ("x=float32[2,]", "does not read as name=dtype"),
        ("x=float32[-1]", "does not read as name=dtype"),
        ("x=float32[B,3]", "does not read as name=dtype"),
        ("x=float32[2]]", "does not read as name=dtype"),
        ("x=float32[2]\n", None),
        ("=float32[2]", "does not read as name=dtype"),
        ("1x=float32[2]", "does not read as name=dtype"),
        ("x y=float32[2]", "does not read as name=dtype"),
        ("x=int32[2]<", "does not read as name=dtype"),
        ("x=int32[2]<-4", "does not read as name=dtype"),
        ("x=float31[2]", "no dtype 'float31'"),
        ("x=float32[2,0]", "every dimension must be at least 1"),
        ("x=float32[2]<5", "only an integer input takes a bound"),
        ("x=bool[2]<2", "only an integer input takes a bound"),
        ("x=int32[2]<0", "lies between 1 and 2147483648"),
        ("x=uint8[2]<257", "lies between 1 and 256"),
    ],
)
def test_anything_else_is_refused(text, message):
    if message is None:  # surrounding white space is no part of the text
        assert parse_input(text).name == "x"
        return
    with pytest.raises(InputError, match=message):
        parse_input(text)


@pytest.mark.parametrize("dtype", DTYPES)
def test_samples_have_the_dtype_and_the_range(dtype):
    bound = "<5" if DTYPES[dtype].kind in "iu" else ""
    array = sample_inputs([f"x={dtype}[40,5]{bound}"], seed=0)["x"]
    assert (array.dtype, array.shape) == (DTYPES[dtype], (40, 5))
    if bound:
        assert set(np.unique(array)) == {0, 1, 2, 3, 4}
    again = sample_inputs([f"x={dtype}[40,5]{bound}"], seed=0)["x"]
    assert np.array_equal(array, again)
    assert to_torch({"x": array})["x"].shape == (40, 5)


def test_unbounded_integers_are_zero_and_one_and_scalars_are_arrays():
    arrays = sample_inputs(["n=int64[50]", "s=float32[]"], seed=1)
    assert set(arrays["n"]) == {0, 1}
    assert isinstance(arrays["s"], np.ndarray)
    assert arrays["s"].shape == ()


def test_a_name_twice_and_no_input_are_refused():
    with pytest.raises(InputError, match="--input x is given twice"):
        sample_inputs(["x=float32[2]", "x=float32[3]"], seed=0)
    with pytest.raises(InputError, match="give --input name=dtype"):
        sample_inputs([], seed=0)


def test_bfloat16_goes_to_torch_bit_for_bit():
    values = np.array([1.0, -2.5, 3e38, 1e-40], ml_dtypes.bfloat16)
    tensor = to_torch({"x": values})["x"]
    assert tensor.dtype == torch.bfloat16
    bits = tensor.view(torch.int16).numpy()
    assert np.array_equal(bits, values.view(np.int16))


def test_files_read_back(tmp_path):
    arrays = {"a": np.arange(6, dtype=np.int32).reshape(2, 3), "b": np.ones(2, bool)}
    np.savez(tmp_path / "x.npz", **arrays)
    save_file(arrays, tmp_path / "x.safetensors")
    for name in ("x.npz", "x.safetensors"):
        read = read_inputs(tmp_path / name)
        assert read.keys() == arrays.keys()
        assert all(np.array_equal(read[k], arrays[k]) for k in arrays)


def test_bad_files_are_refused(tmp_path):
    np.savez(tmp_path / "empty.npz")
    np.savez(tmp_path / "pickled.npz", a=np.array([{}], dtype=object))
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "broken.safetensors").write_bytes(b"\x00" * 20)
    (tmp_path / "x.txt").write_text("1 2 3")
    for name, message in {
        "absent.npz": "no such file",
        "empty.npz": "holds no arrays",
        "pickled.npz": "cannot be read",
        "broken.npz": "cannot be read",
        "broken.safetensors": "cannot be read",
        "x.txt": "expected an .npz or .safetensors file",
    }.items():
        with pytest.raises(InputError, match=message):
            read_inputs(tmp_path / name)


def test_dims_of_the_command_line():
    assert given_dims(["x=batch,None", "ids=,seq"]) == {
        "x": {0: "batch", 1: None},
        "ids": {1: "seq"},
    }
    for text in ("x", "=batch", "x=1,2", "x=a b"):
        with pytest.raises(InputError, match="NAME=DIM,DIM is due"):
            given_dims([text])
