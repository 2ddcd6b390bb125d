"""What engines share, made in processes of their own: weights, inputs, references, ports.

``python -m ivyport.bench.prepare build JOB`` writes, for one model, dtype and mode,

- ``torch/``: config.json and model.safetensors, as transformers saves them;
- for each case a folder with ``inputs.npz`` (``<variant>.<argument>``) and
  ``reference.npz`` (``<variant>.<output>``, computed in float32 on the CPU);
- ``built.json``: the tolerances of each case.

``python -m ivyport.bench.prepare port JOB TARGET`` writes ``port-<target>/``.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ivyport.bench import suite
from ivyport.bench.case import TOLERANCE, UPDATE_TOLERANCE, VARIANTS
from ivyport.bench.timer import largest_difference, update_difference

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Arrays = dict[str, np.ndarray]
CHECK_STEPS = 2
RELATIVE_STEP = 1e-2  # of the weights' norm: changes the output by a few percent


@dataclasses.dataclass(frozen=True)
class Sizes:
    """One case's inputs: the folder below the model's, batch and length."""

    folder: str
    batch: int
    seq_len: int | None


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One model, dtype and mode, with the sizes of all its cases."""

    entry: suite.Entry
    dtype: str
    mode: str
    sizes: tuple[Sizes, ...]
    threads: int

    def to_json(self) -> dict[str, Any]:
        """JSON-ready data; `read` reads it."""
        return dataclasses.asdict(self)


def read(file: Path) -> Recipe:
    """The recipe of a file."""
    data = json.loads(file.read_text("utf-8"))
    data["entry"] = suite.Entry(**data["entry"])
    data["sizes"] = tuple(Sizes(**sizes) for sizes in data["sizes"])
    return Recipe(**data)


def build(recipe: Recipe, folder: Path) -> None:
    """Write the weights, and the inputs and references of every case."""
    import torch
    import transformers

    torch.set_num_threads(recipe.threads)
    suite.build(recipe.entry, recipe.dtype, recipe.mode).save_pretrained(
        folder / "torch"
    )
    cls = getattr(transformers, recipe.entry.cls)
    built = {}
    for sizes in recipe.sizes:
        # Afresh: a case's reference may widen the weights, or train them.
        model = cls.from_pretrained(folder / "torch").eval()
        drawn = [
            suite.inputs(model, batch=sizes.batch, seq_len=sizes.seq_len, seed=seed)
            for seed in range(VARIANTS)
        ]
        out = folder / sizes.folder
        out.mkdir()
        _save(out / "inputs.npz", [{n: _array(t) for n, t in i.items()} for i in drawn])
        forward = _forward if recipe.mode == "forward" else _train
        built[sizes.folder] = forward(model, drawn, recipe.dtype, out)
    (folder / "built.json").write_text(json.dumps(built), "utf-8")


def _forward(
    model: PreTrainedModel,
    drawn: list[dict[str, torch.Tensor]],
    dtype: str,
    out: Path,
) -> dict[str, float]:
    """References of forward passes; returns what differences are accepted."""
    own = None if dtype == "float32" else outputs(model, drawn[0])
    wide = _wide(model, dtype)
    wanted = [outputs(wide, _wide_inputs(inputs)) for inputs in drawn]
    _save(out / "reference.npz", wanted)
    error = 0.0 if own is None else largest_difference(own, wanted[0])
    return {"tolerance": _accepted(TOLERANCE, dtype, error)}


def _train(
    model: PreTrainedModel,
    drawn: list[dict[str, torch.Tensor]],
    dtype: str,
    out: Path,
) -> dict[str, float]:
    """References of two SGD steps: outputs before and after, and the losses.

    The loss is the mean of the outputs times fixed random numbers, so that each output
    and each parameter takes part.
    """

    wide = _wide(model, dtype).train()
    inputs = [_wide_inputs(i) for i in drawn]
    before = outputs(wide, inputs[0])
    generator = np.random.default_rng(0)
    weights = {
        n: generator.standard_normal(v.shape, np.float32) for n, v in before.items()
    }
    _write(out / "loss_weights.npz", weights)
    rate = _rate(wide, inputs[0], weights)
    losses, after = steps(wide, inputs, weights, rate)
    values = {f"before.{n}": v for n, v in before.items()}
    values |= {f"after.{n}": v for n, v in after.items()}
    values["losses"] = np.array(losses, np.float32)
    _write(out / "reference.npz", values)
    own = moved = 0.0
    if dtype != "float32":
        narrow = type(model).from_pretrained(out.parent / "torch").train()
        start = outputs(narrow, drawn[0])
        _, end = steps(narrow, drawn, weights, rate)
        own = max(largest_difference(start, before), largest_difference(end, after))
        moved = update_difference(start, end, before, after)
    return {
        "tolerance": _accepted(TOLERANCE, dtype, own),
        "update": _accepted(UPDATE_TOLERANCE, dtype, moved),
        "rate": rate,
    }


def _accepted(tolerances: dict[str, float], dtype: str, own: float) -> float:
    """Three times torch's own error, within bounds: beyond them nothing is proved."""
    return max(tolerances[dtype], min(3 * own, 8 * tolerances[dtype]))


def steps(
    model: PreTrainedModel,
    inputs: list[dict[str, torch.Tensor]],
    weights: Arrays,
    rate: float,
) -> tuple[list[float], Arrays]:
    """`CHECK_STEPS` of plain SGD: the losses, and the outputs of the first inputs after."""
    import torch

    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    fixed = {n: torch.from_numpy(v) for n, v in weights.items()}
    losses = []
    for index in range(CHECK_STEPS):
        optimizer.zero_grad()
        value = loss(model(**inputs[index]), fixed)
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    return losses, outputs(model, inputs[0])


def loss(output: Any, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """The sum over output fields of mean(field * weights), in float32."""
    terms = [(getattr(output, n).float() * w).mean() for n, w in weights.items()]
    return sum(terms[1:], start=terms[0])


def _rate(
    model: PreTrainedModel, inputs: dict[str, torch.Tensor], weights: Arrays
) -> float:
    """The learning rate whose first step is `RELATIVE_STEP` of the weights' norm."""
    import torch

    model.zero_grad()
    loss(
        model(**inputs), {n: torch.from_numpy(v) for n, v in weights.items()}
    ).backward()
    pairs = [(p, p.grad) for p in model.parameters() if p.grad is not None]
    size = sum(float(p.detach().square().sum()) for p, _ in pairs) ** 0.5
    slope = sum(float(g.square().sum()) for _, g in pairs) ** 0.5
    model.zero_grad()
    return RELATIVE_STEP * size / slope


def outputs(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> Arrays:
    """The model's outputs that are tensors, by field, in float32."""
    import torch

    with torch.no_grad():
        found = model(**inputs)
    return {
        name: _array(value)
        for name, value in found.items()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
    }


def _wide(model: PreTrainedModel, dtype: str) -> PreTrainedModel:
    """The same weights in float32; `model` itself is changed."""
    return model if dtype == "float32" else model.float()


def _wide_inputs(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n: t.float() if t.is_floating_point() else t for n, t in inputs.items()}


def _array(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy().copy()


def _save(file: Path, variants: list[Arrays]) -> None:
    flat = {
        f"{i}.{n}": v for i, values in enumerate(variants) for n, v in values.items()
    }
    _write(file, flat)


def _write(file: Path, arrays: Arrays) -> None:
    np.savez(file, **arrays)  # type: ignore[arg-type]  # none is called allow_pickle


def load_variants(file: Path) -> list[Arrays]:
    """What `_save` wrote: arrays by name, a dictionary a variant."""
    found: dict[int, Arrays] = {}
    with np.load(file) as data:
        for key in data.files:
            variant, _, name = key.partition(".")
            found.setdefault(int(variant), {})[name] = data[key]
    return [found[i] for i in sorted(found)]


def port(recipe: Recipe, folder: Path, target: str) -> None:
    """Port the built model, as the command line does: from example inputs of its own."""
    import torch
    import transformers

    import ivyport

    torch.set_num_threads(recipe.threads)
    cls = getattr(transformers, recipe.entry.cls)
    model = cls.from_pretrained(folder / "torch").eval()
    example = suite.inputs(model, batch=2, seq_len=None, seed=0)
    ivyport.port(
        model,
        target,
        folder / f"port-{target}",
        kwargs=example,
        dims=suite.dims(model, example),
        name="model",
        verify=False,
    )


def main(arguments: list[str]) -> None:
    """Run one step; an error is left to end the process with its traceback."""
    what, file = arguments[0], Path(arguments[1])
    recipe = read(file)
    os.environ["OMP_NUM_THREADS"] = str(recipe.threads)
    if what == "build":
        build(recipe, file.parent)
    else:
        port(recipe, file.parent, arguments[2])


if __name__ == "__main__":
    main(sys.argv[1:])
