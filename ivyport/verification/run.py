"""The verification of a port: what is compared, in which order.

On the traced inputs: every output and the gradient of every parameter, of a seeded
scalar of the outputs. On fresh inputs of other sizes: every output. Then one training
step, in train mode where the source has batch norm or writes other state, and dropout
off. Both sides compute at full precision, and neither model is changed.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ivyport.core.dtype import FLOATS
from ivyport.core.errors import InputError, IvyportError
from ivyport.core.report import Report, ReportRow, worst
from ivyport.verification import compare, drift
from ivyport.verification.choose import port_side, source_side
from ivyport.verification.compare import Array, Entry, Flat
from ivyport.verification.second import Bounds, Free, Sizes, fresh, plans, sizes_of
from ivyport.verification.sides import NoGradients, PortFails, PortSide, SourceSide
from ivyport.verification.tolerance import DEFAULT, Tolerances
from ivyport.verification.training import (
    SEED,
    TRAIN,
    Pair,
    comparable,
    draw_weights,
    settle,
)
from ivyport.weights.mapping import WeightMap

#: Called with the stage's name, how many of its steps are done, and how many it has.
Progress = Callable[[str, int, int], None]

STEPS = 5


def run(
    source: Any,
    ported: Any,
    weight_map: WeightMap,
    modules: Mapping[str, str],
    kwargs: Mapping[str, Any],
    *,
    second: Mapping[str, Any] | None = None,
    free: Free | None = None,
    bounds: Bounds | None = None,
    tolerance: Tolerances = DEFAULT,
    progress: Progress | None = None,
    args: Sequence[Any] = (),
    params: Any = None,
    state: Any = None,
    rng: Any = None,
) -> Report:
    """Compare `ported` with `source`; neither is changed.

    Args:
        source: a torch module in any mode; a Flax NNX module; a linen module, a haiku
            transformed function or a function, with its `params`.
        ported: the port, in any mode: a Flax NNX module or a torch module.
        weight_map: leads from the source's parameters to the port's.
        modules: source module path to the port's attribute path, to localise drift.
        kwargs: the traced inputs by the source's argument names; everything that is no
            tensor goes to the source alone, since the port has it built in.
        second: other inputs. By default fresh ones are drawn, of other sizes along the
            `free` axes of `kwargs` within `bounds`.
        free: by input, the axes that the trace left free: a name or an expression.
        bounds: smallest and largest size by name.
        tolerance: largest errors by dtype.
        progress: called with 'verify', the steps done and all steps.
        args: inputs by position; `second` has those of a torch module by name, those of
            a JAX source are kept.
        params, state, rng: of a JAX source, what it is called with.

    Raises:
        InputError: the source itself does not take the inputs, or `ported` is no port.
    """
    ours = source_side(source, args, kwargs, params=params, state=state, rng=rng)
    theirs = port_side(ported)
    with ours.precise(), theirs.precise():
        verification = _Verification(
            ours, theirs, weight_map, dict(modules), tolerance, progress or _silent
        )
        given = None if second is None else ours.arrays(second)
        return verification.run(given, free or {}, bounds or {})


def _silent(stage: str, done: int, total: int) -> None:
    """No progress."""


@dataclasses.dataclass
class _Verification:
    source: SourceSide
    port: PortSide
    weight_map: WeightMap
    modules: dict[str, str]
    tolerance: Tolerances
    progress: Progress
    rows: list[ReportRow] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    drift: str | None = None
    done: int = 0

    def run(
        self, second: Mapping[str, Array] | None, free: Free, bounds: Bounds
    ) -> Report:
        """Every comparison, and where the first failing one comes from."""
        self.progress("verify", 0, STEPS)
        inputs = self.source.arrays()
        if self._traced(inputs):
            sizes = self._second(inputs, second, free, bounds)
            if self.source.has_statistics():
                self._train_mode(inputs)
        else:
            sizes = Sizes({}, {})
        self.progress("verify", STEPS, STEPS)
        if self.drift is None:
            self.drift = drift.first_gradient_drift(self.rows, self.weight_map)
        self.notes += self.source.notes()
        if self.tolerance.reason:
            self.notes.append(f"wider tolerances: {self.tolerance.reason}")
        dims = {n: (s, sizes.second[n]) for n, s in sizes.traced.items()}
        return Report(
            tuple(self.rows), self.drift, self._precision(), dims, tuple(self.notes)
        )

    def _step(self) -> None:
        self.done += 1
        self.progress("verify", self.done, STEPS)

    def _precision(self) -> str:
        floats = sorted(self.port.dtypes() & set(FLOATS)) or ["float32"]
        return f"{', '.join(floats)} at full precision"

    # ---- the traced inputs

    def _traced(self, inputs: Mapping[str, Array]) -> bool:
        """Outputs and gradients on the traced inputs; whether the port ran at all."""
        try:
            with self._source_accepts():
                expected = self.source.gradients(draw_weights)
        except NoGradients as error:
            self.notes.append(f"gradients are not compared: the source says: {error}")
            return self._untrained(inputs)
        self._step()
        self.port.silent = self.source.drops
        try:
            actual = self.port.gradients(inputs, expected.weights)
        except PortFails as error:
            self._failed("forward", Entry("output"), str(error), inputs)
            return False
        self._step()
        self._outputs(actual.outputs, expected.outputs, Entry("output"), inputs)
        if comparable(actual.outputs, expected):
            weights = expected.weights
            rows = self._pair.eval_rows(inputs, expected, actual)
            del expected, actual
            self.rows += settle(rows, self._pair, inputs, weights, train=False)
        else:
            self.notes.append("gradients are not compared: outputs have other shapes")
        self._step()
        return True

    def _untrained(self, inputs: Mapping[str, Array]) -> bool:
        """Outputs alone, of a source without gradients; whether the port ran."""
        with self._source_accepts():
            expected = self.source.forward(inputs).outputs
        self.port.silent = self.source.drops
        try:
            actual = self.port.forward(inputs)
        except PortFails as error:
            self._failed("forward", Entry("output"), str(error), inputs)
            return False
        self._outputs(actual.outputs, expected, Entry("output"), inputs)
        return True

    @property
    def _pair(self) -> Pair:
        return Pair(self.source, self.port, self.weight_map, self.tolerance)

    def _outputs(
        self, actual: Flat, expected: Flat, entry: Entry, inputs: Mapping[str, Array]
    ) -> None:
        rows = compare.compare_outputs(
            actual, expected, entry, self._output_limit, narrow=self.port.narrows
        )
        self.rows += rows
        failing = [row for row in rows if not row.passed]
        if failing:
            self._localise(inputs, max(row.tolerance for row in failing))

    def _failed(
        self, name: str, entry: Entry, problem: str, inputs: Mapping[str, Array]
    ) -> None:
        self.rows.append(compare.failed(name, entry, problem))
        self._localise(inputs, self._output_limit("float32"))

    def _localise(self, inputs: Mapping[str, Array], limit: float) -> None:
        if self.drift is None:
            self.drift = drift.first_drift(
                self.source, self.port, inputs, self.modules, limit
            )

    def _output_limit(self, dtype: str) -> float:
        return self.tolerance.of(dtype).output

    @contextlib.contextmanager
    def _source_accepts(self) -> Iterator[None]:
        try:
            yield
        except (IvyportError, NoGradients):
            raise
        # Whatever the user's model raises, the inputs are what it was given.
        except Exception as error:
            shapes = {n: a.shape for n, a in self.source.arrays().items()}
            raise InputError(
                f"the source raises {type(error).__name__} on the inputs {shapes}: "
                f"{error}"
            ) from error

    # ---- other sizes

    def _second(
        self,
        inputs: Mapping[str, Array],
        given: Mapping[str, Array] | None,
        free: Free,
        bounds: Bounds,
    ) -> Sizes:
        """Outputs on inputs of other sizes; the sizes."""
        sizes, second, expected = self._accepted(inputs, given, free, bounds)
        if expected is None:
            return sizes
        self._step()
        entry = Entry("output", "second", sizes.text() or "the traced sizes")
        try:
            actual = self.port.forward(second)
        except PortFails as error:
            self._failed("forward", entry, str(error), second)
            return sizes
        self._outputs(actual.outputs, expected, entry, second)
        self._step()
        return sizes

    def _accepted(
        self,
        inputs: Mapping[str, Array],
        given: Mapping[str, Array] | None,
        free: Free,
        bounds: Bounds,
    ) -> tuple[Sizes, Mapping[str, Array], Flat | None]:
        """Sizes that the source takes, inputs of them, and the source's outputs."""
        if given is not None:
            sizes = Sizes(sizes_of(inputs, free), sizes_of(given, free))
            with self._source_accepts():
                return sizes, given, self.source.forward(given).outputs
        refused = ""
        for sizes in plans(inputs, free, bounds):
            second = fresh(inputs, free, sizes, seed=SEED)
            try:
                return sizes, second, self.source.forward(second).outputs
            # Limits of the source that its trace does not show: the next plan is
            # smaller, and the note below tells when there is none.
            except Exception as error:  # noqa: BLE001
                brief = str(error).partition("\n")[0]
                refused = f"{sizes.text()}: {type(error).__name__}: {brief}"
        self.notes.append(f"no second inputs: the source takes none ({refused})")
        return Sizes({}, {}), {}, None

    # ---- batch norm

    def _train_mode(self, inputs: Mapping[str, Array]) -> None:
        """What training depends on where train mode computes something else."""
        try:
            expected = self.source.gradients(draw_weights, train=True)
        # A batch of one position has no variance; that is the example's fault.
        except ValueError as error:
            self.notes.append(f"train mode is not compared: {error}")
            return
        weights = expected.weights
        try:
            actual = self.port.gradients(inputs, weights, train=True)
        except PortFails as error:
            self.rows.append(compare.failed("forward", TRAIN, str(error)))
            return
        rows = self._pair.train_rows(inputs, expected, actual)
        del expected, actual
        rows = settle(rows, self._pair, inputs, weights, train=True)
        # The gradients of eval mode have a row each already.
        gradients = [row for row in rows if row.name.startswith("gradient of ")]
        self.rows += [row for row in rows if row not in gradients]
        self.rows += [worst(gradients)] if gradients else []
