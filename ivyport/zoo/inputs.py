"""Example inputs from texts (`--input`) and from files (`--inputs`).

An input is written `name=dtype[dims]`, with an exclusive upper bound for integers:

    x=float32[2,3,224,224]     normal values
    input_ids=int32[2,16]<100  integers from 0 to 99
    mask=bool[2,16]            fair coin flips
    scale=float32[]            a scalar
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from ivyport.core.errors import InputError, WeightsError
from ivyport.zoo.array_files import read_npz, read_safetensors

if TYPE_CHECKING:
    import torch

GRAMMAR = (
    "name=dtype[d0,d1,...], for instance x=float32[2,3,224,224], and for integers "
    "an exclusive upper bound if wanted: input_ids=int32[2,16]<100 (without one, "
    "0 and 1 are drawn)"
)

DTYPES: dict[str, np.dtype[Any]] = {
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    **{
        name: np.dtype(name)
        for name in (
            *("bool", "uint8", "int8", "int16", "int32", "int64"),
            *("float16", "float32", "float64"),
        )
    },
}

_INPUT = re.compile(
    r"(?P<name>[^\W\d]\w*)=(?P<dtype>[a-z]+[0-9]*)"
    r"\[(?P<dims>(?:[0-9]+(?:,[0-9]+)*)?)\](?:<(?P<high>[0-9]+))?"
)


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """One example input: its argument name, dtype, shape and, for integers, bound."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    high: int | None = None

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        """An array of this dtype and shape, drawn from `rng`."""
        drawn: np.ndarray
        if self.dtype.kind in "biu":
            drawn = rng.integers(0, self.high or 2, self.shape)
        else:
            drawn = rng.standard_normal(self.shape)
        return np.asarray(drawn).astype(self.dtype)


def parse_input(text: str) -> InputSpec:
    """`x=float32[2,3]` as an `InputSpec`.

    Raises `InputError` with the grammar for anything that does not match it exactly.
    """
    match = _INPUT.fullmatch(text.strip())
    if match is None:
        raise InputError(f"--input {text!r} does not read as {GRAMMAR}.")
    dtype = DTYPES.get(match["dtype"])
    if dtype is None:
        known = ", ".join(DTYPES)
        raise InputError(f"--input {text!r}: no dtype {match['dtype']!r} ({known}).")
    shape = tuple(int(dim) for dim in match["dims"].split(",") if dim)
    if 0 in shape:
        raise InputError(f"--input {text!r}: every dimension must be at least 1.")
    high = None if match["high"] is None else int(match["high"])
    if high is not None:
        _check_bound(text, dtype, high)
    return InputSpec(match["name"], dtype, shape, high)


def _check_bound(text: str, dtype: np.dtype[Any], high: int) -> None:
    if dtype.kind not in "iu":
        raise InputError(f"--input {text!r}: only an integer input takes a bound.")
    limit = int(np.iinfo(dtype).max) + 1
    if not 1 <= high <= limit:
        raise InputError(
            f"--input {text!r}: the bound of {dtype} lies between 1 and {limit}."
        )


def sample_inputs(specs: Iterable[str], *, seed: int) -> dict[str, np.ndarray]:
    """Arrays for a list of `--input` texts, by name, the same for the same seed.

    Raises `InputError` for a bad specification, a name given twice, or an empty list.
    """
    rng = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    for spec in [parse_input(text) for text in specs]:
        if spec.name in arrays:
            raise InputError(f"--input {spec.name} is given twice.")
        arrays[spec.name] = spec.sample(rng)
    if not arrays:
        raise InputError(f"no example inputs: give --input {GRAMMAR}.")
    return arrays


def read_inputs(path: Path) -> dict[str, np.ndarray]:
    """The named arrays of an `.npz` or `.safetensors` file.

    Raises `InputError` where the file is absent, of another kind, or cannot be read.
    """
    if not path.is_file():
        raise InputError(f"--inputs {path}: no such file.")
    try:
        if path.suffix == ".npz":
            arrays = read_npz(path)
        elif path.suffix == ".safetensors":
            arrays = read_safetensors(path)
        else:
            raise InputError(f"--inputs {path}: expected an .npz or .safetensors file.")
    except WeightsError as error:
        raise InputError(f"--inputs {path} cannot be read: {error}") from error
    if not arrays:
        raise InputError(f"--inputs {path} holds no arrays.")
    # Frameworks take over arrays that they may write to.
    return {name: np.array(array) for name, array in arrays.items()}


def to_torch(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """The same arrays as torch tensors, bit for bit (bfloat16 included)."""
    import torch

    bfloat16 = DTYPES["bfloat16"]
    return {
        # torch does not know the dtypes of ml_dtypes: bfloat16 goes over as int16.
        name: torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        if array.dtype == bfloat16
        else torch.from_numpy(array)
        for name, array in arrays.items()
    }


def given_dims(texts: Iterable[str]) -> dict[str, dict[int, str | None]]:
    """``x=batch,None`` as ``{"x": {0: "batch", 1: None}}``: names of the axes of an input.

    ``None`` is the example's size; an axis without a text, between two commas or behind the
    last, is as it is by default.

    Raises:
        InputError: a text is not of that form.

    >>> given_dims(["ids=batch,seq", "x=,None"])
    {'ids': {0: 'batch', 1: 'seq'}, 'x': {1: None}}
    """
    found: dict[str, dict[int, str | None]] = {}
    for text in texts:
        name, mark, axes = text.partition("=")
        parts = [part.strip() for part in axes.split(",")]
        if not name or not mark or not all(p.isidentifier() or not p for p in parts):
            raise InputError(
                f"--dims {text!r}: NAME=DIM,DIM is due, a name for each axis that is free "
                "and None for one of the example's size, such as x=batch,None"
            )
        found.setdefault(name.strip(), {}).update(
            (axis, None if part == "None" else part)
            for axis, part in enumerate(parts)
            if part
        )
    return found


def given_settings(texts: Iterable[str]) -> dict[str, Any]:
    """``use_cache=False`` as ``{"use_cache": False}``: arguments that are no tensors.

    A value is a literal of Python, or text.

    Raises:
        InputError: a text is not of that form, or a name is given twice.

    >>> given_settings(["use_cache=False", "mode=mean", "sizes=(2, 3)"])
    {'use_cache': False, 'mode': 'mean', 'sizes': (2, 3)}
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, mark, value = text.partition("=")
        name = name.strip()
        if not mark or not name.isidentifier():
            raise InputError(
                f"--set {text!r}: NAME=VALUE is due, such as use_cache=False"
            )
        if name in found:
            raise InputError(f"--set {name} is given twice.")
        found[name] = _literal(value.strip())
    return found


def _literal(text: str) -> Any:
    words = {"true": True, "false": False, "null": None, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def with_settings(inputs: Mapping[str, Any], texts: Iterable[str]) -> dict[str, Any]:
    """Example inputs and the values of ``--set``, by name.

    Raises:
        InputError: as `given_settings` does, or a name is that of an input.
    """
    given = given_settings(texts)
    both = sorted(given.keys() & inputs.keys())
    if both:
        raise InputError(f"--set {both[0]}: that is an input already.")
    return {**inputs, **given}
