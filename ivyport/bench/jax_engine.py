"""JAX: a port under jax.jit, its layers one after the other or scanned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ivyport.bench.engines import SCAN
from ivyport.bench.prepare import Arrays
from ivyport.bench.session import Job, NotApplicableError, Session
from ivyport.bench.torch_engine import import_file
from ivyport.record import PortRecord


def load(job: Job) -> Session:
    """The session of `jax` or `jax-scan`; ivyport takes no part in what it computes."""
    names, cls, folder = port_of(job)
    model = names[cls].from_pretrained(folder)
    scanned: list[str] = []
    if job.engine == SCAN:
        from ivyport.bench.scanning import scan_layers

        scanned = scan_layers(model)
        if not scanned:
            raise NotApplicableError("the port has no list of equal layers to scan")
    session = Forward if job.mode == "forward" else Train
    return session(job, model, scanned)


def port_of(job: Job) -> tuple[dict[str, Any], str, Path]:
    """The names of the port's file, its class, and its folder; precision is set before."""
    set_precision(job)
    folder = job.folder / f"port-{job.port}"
    record = PortRecord.read(folder)
    return (
        vars(import_file(folder / record.file, "modeling")),
        record.cls,
        folder,
    )


def set_precision(job: Job) -> None:
    """The precision of products, for the whole process."""
    import jax

    # JAX's default on a GPU is TensorFloat-32. A CPU computes float32 in any case.
    jax.config.update(
        "jax_default_matmul_precision", "tensorfloat32" if job.tf32 else "highest"
    )


class JaxSession(Session):
    """What JAX's engines have: inputs on the device, and what is said of it."""

    def __init__(self, job: Job, scanned: Sequence[str] = ()) -> None:
        import jax

        self._job, self._scanned = job, list(scanned)
        self.device = jax.devices()[0]
        # JAX's integers have 32 bits.
        self.inputs = [
            {n: self._put(v) for n, v in variant.items()} for variant in job.variants()
        ]

    def _put(self, value: np.ndarray) -> Any:
        import jax
        import jax.numpy as jnp

        kind = jnp.dtype(self._job.dtype) if value.dtype.kind == "f" else jnp.int32
        return jax.device_put(jnp.asarray(value, kind), self.device)

    def read(self, output: Any) -> Arrays:
        import jax
        import jax.numpy as jnp

        return {
            name: np.asarray(value.astype(jnp.float32))
            for name, value in self.fields(output).items()
            if isinstance(value, jax.Array)
            and jnp.issubdtype(value.dtype, jnp.floating)
        }

    def fields(self, output: Any) -> dict[str, Any]:
        """An output's values by name; a port's output is a named tuple."""
        return dict(output._asdict())

    def peak_bytes(self) -> int | None:
        if self._job.device == "cpu":
            return None
        return int(self.device.memory_stats()["peak_bytes_in_use"])

    def check_compiled(self) -> None:
        return  # jax.jit compiles everything, or raises

    def about(self) -> dict[str, Any]:
        import jax

        found: dict[str, Any] = {
            "device": self.device.device_kind,
            "default_matmul_precision": jax.config.jax_default_matmul_precision,
        }
        return found | ({"scanned": self._scanned} if self._scanned else {})


class ForwardSession(JaxSession):
    """Forward passes: `_forward`, compiled, of the arrays `_state` and the inputs."""

    _forward: Callable[[Any, dict[str, Any]], Any]
    _state: Any

    def call(self, variant: int) -> Any:
        import jax

        return jax.block_until_ready(self._forward(self._state, self.inputs[variant]))

    def outputs(self, variant: int) -> Arrays:
        return self.read(self.call(variant))

    def set_rate(self, rate: float) -> None:
        raise NotImplementedError("a forward pass has no learning rate")


class Forward(ForwardSession):
    """Forward passes of a module in eval mode, as a pure function of its state."""

    def __init__(self, job: Job, model: Any, scanned: list[str]) -> None:
        import jax
        from flax import nnx

        super().__init__(job, scanned)
        model.eval()
        graphdef, self._state = nnx.split(model)
        self._state = jax.device_put(self._state, self.device)

        @jax.jit
        def forward(state: Any, inputs: dict[str, Any]) -> Any:
            return nnx.merge(graphdef, state)(**inputs)

        self._forward = forward


class Train(JaxSession):
    """SGD steps of a module in train mode; parameters and state are donated."""

    def __init__(self, job: Job, model: Any, scanned: list[str]) -> None:
        import jax
        import jax.numpy as jnp
        from flax import nnx

        super().__init__(job, scanned)
        model.train()
        graphdef, *parts = nnx.split(model, nnx.Param, ...)
        self._parts = jax.device_put(tuple(parts), self.device)
        self._weights = {n: jnp.asarray(v) for n, v in job.loss_weights().items()}
        self.set_rate(job.rate)

        @jax.jit
        def outputs(parts: Any, inputs: dict[str, Any]) -> Any:
            return nnx.merge(graphdef, *parts)(**inputs)

        @partial(jax.jit, donate_argnums=0)
        def step(parts: Any, inputs: dict[str, Any], weights: Any, rate: Any) -> Any:
            params, rest = parts

            def loss(params: Any) -> Any:
                # Mapped, so that its variables belong to this trace, which updates them.
                own = jax.tree.map(lambda leaf: leaf, rest)
                module = nnx.merge(graphdef, params, own)
                output = module(**inputs)
                terms = [
                    (getattr(output, n).astype(jnp.float32) * w).mean()
                    for n, w in weights.items()
                ]
                return sum(terms), nnx.split(module, nnx.Param, ...)[2]

            def updated(old: Any, slope: Any) -> Any:
                moved = old.astype(jnp.float32) - rate * slope.astype(jnp.float32)
                return moved.astype(old.dtype)

            (value, rest), grads = jax.value_and_grad(loss, has_aux=True)(params)
            return value, (jax.tree.map(updated, params, grads), rest)

        self._outputs, self._step = outputs, step

    def call(self, variant: int) -> Any:
        import jax

        value, self._parts = jax.block_until_ready(
            self._step(self._parts, self.inputs[variant], self._weights, self._rate)
        )
        return value

    def outputs(self, variant: int) -> Arrays:
        return self.read(self._outputs(self._parts, self.inputs[variant]))

    def set_rate(self, rate: float) -> None:
        import jax.numpy as jnp

        self._rate = jnp.float32(rate)
