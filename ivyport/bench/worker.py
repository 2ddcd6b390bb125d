"""One engine with one case's model: a process that computes when it is told to.

``python -m ivyport.bench.worker JOB.json`` loads the model, makes the first call, proves
the outputs, and says so in one line of JSON. It then answers each line ``{"run": k}`` with
the times of k calls. All that is printed elsewhere goes to the standard error.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ivyport.bench.prepare import CHECK_STEPS, load_variants
from ivyport.bench.session import Job, Session, status_of
from ivyport.bench.timer import largest_difference, update_difference

# Timed steps go this much slower than checked ones, so that hundreds of them do not
# change what is computed with.
TIMED_RATE = 1e-4


def limit_threads(threads: int) -> None:
    """Give this process `threads` cores, before any framework makes its pools.

    XLA sizes its pool by the cores it may use, OpenMP and torch by a variable.
    """
    if sys.platform == "linux":
        cores = sorted(os.sched_getaffinity(0))[:threads]
        os.sched_setaffinity(0, cores)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["MKL_NUM_THREADS"] = str(threads)


def offer_as_victim() -> None:
    """Where memory runs out, Linux is to end this process and no other."""
    if sys.platform == "linux":
        Path("/proc/self/oom_score_adj").write_text("800", "utf-8")


def forget_peak() -> None:
    """Start the count of the largest resident memory anew, after the load."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5", "utf-8")


def peak_rss() -> int:
    """The largest resident memory in bytes."""
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text("utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def start(job: Job) -> tuple[Session, dict[str, Any]]:
    """Load the engine, make its first call, and compare it with the reference."""
    begun = time.perf_counter()
    module, _, name = job.loader.partition(":")
    sys.path[:0] = job.path
    session: Session = getattr(importlib.import_module(module), name)(job)
    loaded = time.perf_counter()
    forget_peak()
    check = _check_forward if job.mode == "forward" else _check_train
    found = check(session, job)
    session.check_compiled()
    return session, {"load_s": loaded - begun, "about": session.about(), **found}


def _check_forward(session: Session, job: Job) -> dict[str, Any]:
    wanted = load_variants(Path(job.inputs) / "reference.npz")
    begun = time.perf_counter()
    first = session.call(0)
    seconds = time.perf_counter() - begun
    # Read before the next call, which may reuse the memory of its output.
    worst = largest_difference(session.read(first), wanted[0])
    for variant in range(1, len(wanted)):
        found = session.read(session.call(variant))
        worst = max(worst, largest_difference(found, wanted[variant]))
    return {"first_call_s": seconds, "difference": worst, "update": 0.0}


def _check_train(session: Session, job: Job) -> dict[str, Any]:
    with np.load(Path(job.inputs) / "reference.npz") as data:
        losses = data["losses"]
        values = {name: data[name] for name in data.files if name != "losses"}
    wanted = {
        when: {n.partition(".")[2]: v for n, v in values.items() if n.startswith(when)}
        for when in ("before", "after")
    }
    before = session.outputs(0)
    session.set_rate(job.rate)
    begun = time.perf_counter()
    found = [float(session.call(0))]
    seconds = time.perf_counter() - begun
    found += [float(session.call(step)) for step in range(1, CHECK_STEPS)]
    after = session.outputs(0)
    session.set_rate(job.rate * TIMED_RATE)
    worst = max(
        largest_difference(before, wanted["before"]),
        largest_difference(after, wanted["after"]),
    )
    update = update_difference(before, after, wanted["before"], wanted["after"])
    return {
        "first_call_s": seconds,
        "difference": worst,
        "update": update,
        "losses": [found, losses.tolist()],
    }


def serve(session: Session, variants: int, commands: TextIO, replies: TextIO) -> None:
    """Time calls on command until the input ends; each uses the next inputs.

    One call before them is not timed: it wakes the device and its caches.
    """
    index = 0
    gc.collect()
    gc.freeze()
    gc.disable()
    for line in commands:
        count = json.loads(line)["run"]
        session.call(index % variants)
        seconds = []
        cpu = time.process_time()
        for _ in range(count):
            index += 1
            begun = time.perf_counter()
            session.call(index % variants)
            seconds.append(time.perf_counter() - begun)
        cpu = time.process_time() - cpu
        gc.collect()
        peak = session.peak_bytes()
        peak = peak_rss() if peak is None else peak
        reply(replies, {"seconds": seconds, "cpu": cpu, "peak": peak})


def reply(replies: TextIO, values: dict[str, Any]) -> None:
    """One line of JSON to the driver."""
    replies.write(json.dumps(values) + "\n")
    replies.flush()


def main(file: Path) -> None:
    """Load, check, report, serve."""
    # Frameworks print; the driver's pipe is kept for replies.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    data = json.loads(file.read_text("utf-8"))
    job = Job(**data | {"path": tuple(data["path"])})
    limit_threads(job.threads)
    offer_as_victim()
    try:
        session, found = start(job)
        reply(replies, found)
        serve(session, len(job.variants()), sys.stdin, replies)
    except Exception as error:  # noqa: BLE001  # every kind makes a row that says so
        traceback.print_exc()
        lines = str(error).strip().splitlines() or [""]
        detail = f"{type(error).__name__}: {lines[0]}"[:300]
        reply(replies, {"status": status_of(error), "detail": detail})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
