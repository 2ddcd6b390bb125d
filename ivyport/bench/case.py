"""What is measured: a case, and the row that an engine gets for it."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from ivyport.core.errors import InputError

Mode = Literal["forward", "train"]
Device = Literal["cpu", "gpu"]
MODES: tuple[str, ...] = ("forward", "train")
DTYPES: tuple[str, ...] = ("float32", "bfloat16")
DEVICES: tuple[str, ...] = ("cpu", "gpu")

OK = "ok"
PARITY = "parity"  # its output is wrong, so that it has no latency
OUT_OF_MEMORY = "out_of_memory"
COMPILE_FAILED = "compile_failed"
PORT_FAILED = "port_failed"
NOT_INSTALLED = "not_installed"
NO_DEVICE = "no_device"  # this engine's framework sees no GPU
TIMEOUT = "timeout"
NO_TIME = "no_time"  # the budget was spent
NOT_APPLICABLE = "not_applicable"  # no layers to scan
FAILED = "failed"
STATUSES: tuple[str, ...] = (
    OK,
    PARITY,
    OUT_OF_MEMORY,
    COMPILE_FAILED,
    PORT_FAILED,
    NOT_INSTALLED,
    NO_DEVICE,
    TIMEOUT,
    NO_TIME,
    NOT_APPLICABLE,
    FAILED,
)

VARIANTS = 3  # sets of inputs of a case; calls go through them in turn

# The largest difference that is accepted, as a part of the largest value, between an
# engine and the same weights in float32 on torch's CPU. Where torch's own eager model
# in that dtype differs by more than a third of it, three times that is accepted, but no
# more than eight times what stands here.
TOLERANCE: dict[str, float] = {"float32": 1e-4, "bfloat16": 3e-2}
TF32_TOLERANCE = 1e-2
# The same of what two SGD steps change in the output, which is itself a few percent.
UPDATE_TOLERANCE: dict[str, float] = {"float32": 1e-2, "bfloat16": 0.1}


@dataclasses.dataclass(frozen=True)
class Case:
    """One model, called in one way on inputs of one size.

    model: the suite's name of it.
    seq_len: tokens of a text, frames of audio; None where the model has no such length.
    """

    model: str
    mode: str
    batch: int
    seq_len: int | None
    dtype: str
    device: str

    def __post_init__(self) -> None:
        for what, value, known in (
            ("mode", self.mode, MODES),
            ("dtype", self.dtype, DTYPES),
            ("device", self.device, DEVICES),
        ):
            if value not in known:
                raise InputError(
                    f"{what} {value!r} is none of: {', '.join(known)}. Choose one of them."
                )
        if self.batch < 1 or (self.seq_len is not None and self.seq_len < 1):
            raise InputError(
                f"batch is {self.batch} and seq-len {self.seq_len}; both must be at least 1"
            )

    @property
    def title(self) -> str:
        """The case in words, without its device."""
        length = f", length {self.seq_len}" if self.seq_len is not None else ""
        return f"{self.model} {self.mode}, batch {self.batch}{length}, {self.dtype}"


#: A row's identity, of which a results file holds one each.
KEY: tuple[str, ...] = (
    "model",
    "engine",
    "mode",
    "batch",
    "seq_len",
    "dtype",
    "device",
)


@dataclasses.dataclass
class Row:
    """One engine's result on one case: what `rows` of a results file holds.

    The times are of single calls, None unless `status` is ``ok``. `compile_s` is the time of
    the first call beyond a steady one, None for eager execution. `peak_memory_mb` is the
    device's on a GPU, else the process's resident memory after its weights were loaded.
    `max_rel_diff` is the largest difference from torch in float32 on the CPU, as a part of
    the largest value. `speedup_vs_best_torch` is the median of the fastest torch engine
    over this one's. `others` are the cores that other processes kept busy meanwhile, None where
    that is unknown.
    """

    model: str
    engine: str
    mode: str
    batch: int
    seq_len: int | None
    dtype: str
    device: str
    runs: int = 0
    median_ms: float | None = None
    mean_ms: float | None = None
    p10_ms: float | None = None
    p90_ms: float | None = None
    compile_s: float | None = None
    peak_memory_mb: float | None = None
    max_rel_diff: float | None = None
    speedup_vs_best_torch: float | None = None
    status: str = OK
    others: float | None = None

    @classmethod
    def of(cls, case: Case, engine: str, status: str = OK) -> Row:
        """An empty row of a case."""
        return cls(engine=engine, status=status, **dataclasses.asdict(case))

    @property
    def key(self) -> tuple[Any, ...]:
        """What identifies the row in a file."""
        return tuple(getattr(self, name) for name in KEY)

    def to_json(self) -> dict[str, Any]:
        """The row as JSON-ready data; `Row(**data)` reads it back."""
        return dataclasses.asdict(self)


FIELDS: tuple[str, ...] = tuple(f.name for f in dataclasses.fields(Row))
