"""The driver's side of the processes, and how quiet the machine is around them."""

from __future__ import annotations

import dataclasses
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from ivyport.bench.case import FAILED, OUT_OF_MEMORY, TIMEOUT

SAMPLE_S = 0.2


class StepError(Exception):
    """A process did not do its work; `status` is what its rows will say."""

    def __init__(self, status: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


def environment(device: str, folder: Path) -> dict[str, str]:
    """The environment variables of every process of a run.

    Caches of compiled kernels are in `folder`, so that no engine finds one of an earlier
    run and its compile time is its own.
    """
    own = {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "TRITON_CACHE_DIR": str(folder / "triton"),
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        # Engines share one GPU, so that none may take all of it in advance.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONHASHSEED": "0",
    }
    # Without a device to fall back to, nothing is silently measured elsewhere.
    own["JAX_PLATFORMS"] = "cuda" if device == "gpu" else "cpu"
    if device == "cpu":
        own["CUDA_VISIBLE_DEVICES"] = ""
    return dict(os.environ) | own


def run_step(
    arguments: list[str], log: Path, env: Mapping[str, str], timeout: float
) -> None:
    """Run ``python -m ...`` to its end.

    Raises StepError with the last line of its log if it fails or takes too long.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env),
            start_new_session=True,  # Ctrl-C is the driver's to handle
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise StepError(TIMEOUT, f"not done after {timeout:.0f} s") from None
        finally:
            _kill(process)
    if code:
        raise _ended(code, log)


class Worker:
    """The driver's side of a `worker` process."""

    def __init__(
        self, name: str, job: Mapping[str, Any], folder: Path, env: Mapping[str, str]
    ) -> None:
        self.name = name
        stem = name.replace(":", "-")
        self._log = folder / f"{stem}.log"
        file = folder / f"{stem}.job.json"
        file.write_text(json.dumps(job), "utf-8")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ivyport.bench.worker", str(file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=dict(env),
                start_new_session=True,
            )

    def ready(self, timeout: float) -> dict[str, Any]:
        """Wait until the engine is loaded and checked; returns what it found."""
        return self._reply(timeout)

    def run(self, count: int, timeout: float) -> dict[str, Any]:
        """The times of `count` calls in seconds, their CPU time, and the peak memory."""
        pipe = _pipe(self._process.stdin)
        try:
            pipe.write(json.dumps({"run": count}).encode() + b"\n")
            pipe.flush()
        except BrokenPipeError:
            raise _ended(self._process.wait(), self._log) from None
        return self._reply(timeout)

    def kill(self) -> None:
        """End the process if it still runs."""
        _kill(self._process)
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                _pipe(pipe).close()
            except BrokenPipeError:
                continue  # a command that the process never read

    def _reply(self, timeout: float) -> dict[str, Any]:
        pipe = _pipe(self._process.stdout)
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            if not selector.select(timeout):
                raise StepError(TIMEOUT, f"no answer in {timeout:.0f} s")
        line = pipe.readline()
        if not line:
            raise _ended(self._process.wait(), self._log)
        found: dict[str, Any] = json.loads(line)
        if "status" in found:
            raise StepError(found["status"], found["detail"])
        return found


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it started, such as compilers."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _ended(code: int, log: Path) -> StepError:
    from ivyport.bench.session import has_memory_words

    text = log.read_text("utf-8", errors="replace")
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "")
    # The kernel ends the process that is too large with SIGKILL, and says nothing.
    memory = code == -signal.SIGKILL or has_memory_words(text[-4000:])
    detail = last.strip()[:300] or f"the process ended with code {code}"
    if code == -signal.SIGKILL:
        detail = "the process was killed, as the kernel does where memory runs out"
    return StepError(OUT_OF_MEMORY if memory else FAILED, detail)


@dataclasses.dataclass(frozen=True)
class Quiet:
    """How quiet the machine must be around a turn, and how long to wait for that.

    cores: that other processes may keep busy. patience: seconds to wait for it, 0 for
    never. tries: turns that were disturbed are repeated, this many times in all.
    """

    cores: float = 0.15
    patience: float = 2.0
    tries: int = 2

    def wait(self) -> None:
        """Sleep until the machine is quiet, or out of patience.

        OpenMP's threads of the engine before spin for a moment; that ends here, too.
        """
        end = time.perf_counter() + self.patience
        while time.perf_counter() < end:
            start, busy = time.perf_counter(), busy_seconds()
            if busy is None:
                return
            time.sleep(SAMPLE_S)
            took = time.perf_counter() - start
            if (_busy() - busy) / took <= self.cores:
                return


def busy_seconds() -> float | None:
    """CPU time that all processes have used since the start; None where unknown."""
    return _busy() if sys.platform == "linux" else None


def _busy() -> float:
    user, nice, system, _, _, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text("utf-8").split("\n", 1)[0].split()[1:9]
    )
    ticks = user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")
