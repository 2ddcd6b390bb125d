"""One engine with one case's model: a process that runs when it is told to.

``python worker.py ENGINE CASE FOLDER THREADS`` loads the model, checks its output against
torch's, and then answers each line ``{"run": k}`` on its input with the times of k
calls. All it prints elsewhere goes to the standard error.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from cases import CASES, FLAX, PORT, Case

# Calls the engine once and waits for its output, which it returns by field name.
Call = Callable[[], dict[str, Any]]


def limit_threads(threads: int) -> None:
    """Give this process `threads` cores; before any framework makes its pools.

    XLA sizes its pool by the cores it may use, OpenMP and torch by a variable.
    """
    cores = sorted(os.sched_getaffinity(0))[:threads]
    os.sched_setaffinity(0, cores)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["MKL_NUM_THREADS"] = str(threads)


def jax_inputs(folder: Path) -> dict[str, Any]:
    """The case's inputs on JAX's device; integers become 32-bit, as JAX has them."""
    import jax.numpy as jnp
    import numpy as np

    return {k: jnp.asarray(v) for k, v in np.load(folder / "inputs.npz").items()}


def port(folder: Path, case: Case, how: str) -> Call:
    """The saved port, loaded by its own code, jitted as `cases` says of `how`.

    ivyport is not imported.
    """
    import jax
    from flax import nnx

    record = json.loads((folder / "port" / "port.json").read_text("utf-8"))
    file = folder / "port" / record["file"]
    spec = importlib.util.spec_from_file_location("modeling", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["modeling"] = module
    spec.loader.exec_module(module)
    model = vars(module)[record["class"]].from_pretrained(folder / "port")
    model.eval()
    inputs = jax_inputs(folder)
    if how != PORT:
        jit = jax.jit if how == "port-module" else nnx.jit
        forward = jit(lambda model, inputs: model(**inputs))
        return lambda: _fields(jax.block_until_ready(forward(model, inputs)), case)
    graphdef, state = nnx.split(model)

    @jax.jit
    def pure(state: Any, inputs: dict[str, Any]) -> Any:
        return nnx.merge(graphdef, state)(**inputs)

    return lambda: _fields(jax.block_until_ready(pure(state, inputs)), case)


def flax(folder: Path, case: Case) -> Call:
    """The Flax class of transformers 4.55.4 with torch's weights."""
    from setup_flax import FOLDER

    sys.path.insert(0, str(FOLDER))
    import jax
    import transformers

    assert transformers.__version__ == "4.55.4", transformers.__file__
    cls = getattr(transformers, f"Flax{case.cls}")
    model = cls.from_pretrained(folder / "torch", from_pt=True)
    inputs = jax_inputs(folder)
    forward = jax.jit(lambda params, inputs: model(**inputs, params=params))
    params = jax.tree.map(jax.numpy.asarray, model.params)
    return lambda: _fields(jax.block_until_ready(forward(params, inputs)), case)


def torch_(folder: Path, case: Case, mode: str | None) -> Call:
    """The torch model, as it is or through torch.compile in a mode."""
    import numpy as np
    import torch
    import transformers

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model = getattr(transformers, case.cls).from_pretrained(folder / "torch").eval()
    arrays = np.load(folder / "inputs.npz")
    inputs = {k: torch.from_numpy(v) for k, v in arrays.items()}
    forward = model if mode is None else torch.compile(model, mode=mode)

    def call() -> dict[str, Any]:
        with torch.inference_mode():
            return _fields(forward(**inputs), case)

    return call


def engine(name: str, folder: Path, case: Case) -> Call:
    """The engine of a name in `cases.ENGINES`, with the case's model loaded."""
    if name.startswith(PORT):
        return port(folder, case, name)
    if name == FLAX:
        return flax(folder, case)
    if name == "eager":
        return torch_(folder, case, None)
    return torch_(folder, case, name.removeprefix("compile-"))


def _fields(output: Any, case: Case) -> dict[str, Any]:
    return {name: getattr(output, name) for name in case.outputs}


def error_of(output: dict[str, Any], folder: Path) -> float:
    """The largest difference from torch's output, as a part of its largest value."""
    import numpy as np

    worst = 0.0
    for name, wanted in np.load(folder / "reference.npz").items():
        found = np.asarray(output[name])
        if found.size != wanted.size:
            raise ValueError(f"{name} is {found.shape} and torch's {wanted.shape}")
        difference = np.abs(found.reshape(wanted.shape) - wanted).max()
        worst = max(worst, float(difference / np.abs(wanted).max()))
    return worst


def serve(call: Call, commands: TextIO, replies: TextIO) -> None:
    """Time calls on command until the input ends; one call before them is not timed."""
    for line in commands:
        count = json.loads(line)["run"]
        call()
        seconds = []
        cpu = time.process_time()
        for _ in range(count):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        cpu = time.process_time() - cpu
        _reply(replies, {"seconds": seconds, "cpu": cpu})


def _reply(replies: TextIO, values: dict[str, Any]) -> None:
    replies.write(json.dumps(values) + "\n")
    replies.flush()


def main(name: str, case: Case, folder: Path, threads: int) -> None:
    """Load, check, report, serve."""
    # Frameworks print; the driver's pipe is kept for replies.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    limit_threads(threads)
    start = time.perf_counter()
    call = engine(name, folder, case)
    loaded = time.perf_counter()
    output = call()
    first = time.perf_counter()
    _reply(
        replies,
        {
            "error": error_of(output, folder),
            "load_s": loaded - start,
            "first_call_s": first - loaded,
        },
    )
    serve(call, sys.stdin, replies)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    _reply(replies, {"peak_rss": peak})


if __name__ == "__main__":
    main(sys.argv[1], CASES[sys.argv[2]], Path(sys.argv[3]), int(sys.argv[4]))
