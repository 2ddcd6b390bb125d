"""torch: the source model as it is or through torch.compile, and ports to torch."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ivyport.bench.prepare import Arrays, loss
from ivyport.bench.session import CompileError, Job, Session
from ivyport.record import PortRecord

if TYPE_CHECKING:
    from types import ModuleType

    import torch


def load(job: Job) -> Session:
    """The session of `eager`, `compile`, `compile:<mode>` or `torch` (a port)."""
    import torch

    torch.set_num_threads(job.threads)
    torch.set_float32_matmul_precision("high" if job.tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = job.tf32
    device = torch.device("cuda" if job.device == "gpu" else "cpu")
    if job.port is None:
        import transformers

        model = getattr(transformers, job.cls).from_pretrained(job.folder / "torch")
    else:
        model = from_port(job.folder / f"port-{job.port}")
    return TorchSession(job, model.to(device), device)


def from_port(folder: Path) -> Any:
    """The saved port, loaded by its own code as a user's program would."""
    record = PortRecord.read(folder)
    module = import_file(folder / record.file, "modeling")
    return vars(module)[record.cls].from_pretrained(folder)


def import_file(file: Path, name: str) -> ModuleType:
    """A Python file as a module of a name."""
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class TorchSession(Session):
    """A torch module on a device, compiled or not."""

    def __init__(self, job: Job, model: torch.nn.Module, device: torch.device) -> None:
        import torch

        self._job, self._model, self._device = job, model, device
        self._inputs = [
            {n: self._put(v) for n, v in variant.items()} for variant in job.variants()
        ]
        self._on_gpu = device.type == "cuda"
        self._end = torch.cuda.Event() if self._on_gpu else None
        self._compiles = job.engine.partition(":")[0] == "compile"
        if job.mode == "forward":
            model.eval()
            self._run: Callable[[dict[str, Any]], Any] = self._forward()
        else:
            model.train()
            self._run = self._step()
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats()

    def _put(self, value: Any) -> torch.Tensor:
        import torch

        tensor = torch.from_numpy(value)
        if tensor.is_floating_point():
            tensor = tensor.to(getattr(torch, self._job.dtype))
        return tensor.to(self._device)

    def _compiled(self, function: Any) -> Any:
        import torch

        if not self._compiles:
            return function
        mode = self._job.engine.partition(":")[2] or None
        return torch.compile(function, mode=mode)

    def _forward(self) -> Callable[[dict[str, Any]], Any]:
        import torch

        forward = self._compiled(self._model)

        def run(inputs: dict[str, Any]) -> Any:
            with torch.inference_mode():
                return forward(**inputs)

        return run

    def _step(self) -> Callable[[dict[str, Any]], Any]:
        import torch

        model = self._model
        weights = {
            n: torch.from_numpy(v).to(self._device)
            for n, v in self._job.loss_weights().items()
        }
        parameters = [p for p in model.parameters() if p.requires_grad]
        # One kernel for all parameters, where the default walks through them on a CPU.
        # In bfloat16 on a CPU it is wrong (torch 2.13: off by the size of the step).
        fused = self._on_gpu or self._job.dtype == "float32"
        self._optimizer = torch.optim.SGD(parameters, lr=self._job.rate, fused=fused)
        objective = self._compiled(lambda inputs: loss(model(**inputs), weights))

        def run(inputs: dict[str, Any]) -> Any:
            self._optimizer.zero_grad(set_to_none=True)
            value = objective(inputs)
            value.backward()
            self._optimizer.step()
            return value.detach()

        return run

    def call(self, variant: int) -> Any:
        if not self._on_gpu:
            return self._run(self._inputs[variant])
        import torch

        if self._compiles:
            # Outputs of the call before live in a CUDA graph's memory; they are done.
            torch.compiler.cudagraph_mark_step_begin()
        found = self._run(self._inputs[variant])
        assert self._end is not None
        self._end.record()
        self._end.synchronize()
        return found

    def read(self, output: Any) -> Arrays:
        import torch

        # A transformers output is a dictionary; a port's is a named tuple.
        fields = output if isinstance(output, dict) else output._asdict()
        return {
            name: value.detach().float().cpu().numpy().copy()
            for name, value in fields.items()
            if isinstance(value, torch.Tensor) and value.is_floating_point()
        }

    def outputs(self, variant: int) -> Arrays:
        import torch

        with torch.no_grad():
            return self.read(self._model(**self._inputs[variant]))

    def set_rate(self, rate: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = rate

    def peak_bytes(self) -> int | None:
        import torch

        return torch.cuda.max_memory_allocated() if self._on_gpu else None

    def check_compiled(self) -> None:
        from torch._dynamo.utils import counters

        if self._compiles and not counters["stats"]["unique_graphs"]:
            reasons = "; ".join(map(str, counters["graph_break"])) or "no reason given"
            raise CompileError(f"torch.compile compiled nothing: {reasons}")

    def about(self) -> dict[str, Any]:
        import torch

        found: dict[str, Any] = {
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "attention": self._attention(),
        }
        if self._on_gpu:
            found |= {
                "device": torch.cuda.get_device_name(),
                "cuda": torch.version.cuda,
                "cudnn": torch.backends.cudnn.version(),
                "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
            }
        if self._compiles:
            from torch._dynamo.utils import counters

            found["graphs"] = counters["stats"]["unique_graphs"]
            found["graph_breaks"] = sum(counters["graph_break"].values())
        return found

    def _attention(self) -> str | None:
        with contextlib.suppress(AttributeError):
            return str(self._model.config._attn_implementation)
        return None
