"""Everything that training depends on: gradients, statistics, a step of SGD.

Float32 settles none of these for good. A ReLU whose input is within rounding of zero is
open on one side and shut on the other, which changes a gradient of ResNet-50 by a
percent; a bias in front of batch norm has a gradient of rounding and nothing else. So
what fails by little in float32, for the source's own rounding, is decided in float64,
where both sides run again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

import numpy as np

from ivyport.core import memory
from ivyport.core.dtype import FLOATS
from ivyport.core.report import ReportRow
from ivyport.verification import compare
from ivyport.verification.compare import Array, Entry, Flat
from ivyport.verification.gradients import Named, compare_buffers, compare_gradients
from ivyport.verification.sides import (
    PortFails,
    PortSide,
    Result,
    SourceSide,
    WeightsOf,
)
from ivyport.verification.tolerance import EXACT, Tolerances
from ivyport.weights.mapping import WeightMap

SEED = 20240229
#: Calls in train mode, one after the other, whose writes are compared.
CALLS = 3
#: A gradient that is this much smaller in float64 is rounding, and 0 in exact arithmetic.
ZERO = 1e-6
#: Errors of a port that count as rounding, in units of the source's own rounding.
OWN_ROUNDING = 10
#: The step's first-order change of the scalar, in units of the scalar's own spread:
#: large enough to see a wrong step, small enough for a network to stay near linear.
STEP_CHANGE = 1e-2
#: Relative errors in float32 that float64 excuses: up to this, or ten times those of the
#: source itself. More is no rounding of the model but of a formula of the port.
BEYOND_ROUNDING = 1e-2
VANISHED = 1e-6  # of the largest tensor's size

TRAIN = Entry("train_step", note="in train mode")
AFTER = Entry("train_step", note=f"in eval mode, after {CALLS} calls in train mode")
STEP = Entry("train_step", note="after one step of SGD")


@dataclasses.dataclass(frozen=True)
class Pair:
    """A source and its port, in one precision."""

    source: SourceSide
    port: PortSide
    weight_map: WeightMap
    tolerance: Tolerances
    wide: bool = False
    #: What could not be decided, for the report.
    unchecked: list[str] = dataclasses.field(default_factory=list)

    def widened(self) -> Pair:
        """The same pair in float64."""
        source, port = self.source.widened(), self.port.widened()
        return Pair(
            source, port, self.weight_map, EXACT, wide=True, unchecked=self.unchecked
        )

    @property
    def narrow(self) -> bool:
        """Whether the 32 bits of 64 will do: in float64 a port keeps what it names."""
        return self.wide or self.port.narrows

    def eval_rows(
        self,
        inputs: Mapping[str, Array],
        expected: Result,
        actual: Result,
    ) -> list[ReportRow]:
        """Gradients in eval mode, and a step unless train mode has one of its own.

        The gradients are used up.
        """
        rows = self._gradients(expected, actual, Entry("gradient"), train=False)
        if not self.source.has_statistics():
            rows += self._after_step(inputs, expected, actual, train=False)
        return rows

    def _gradients(
        self,
        expected: Result,
        actual: Result,
        entry: Entry,
        name: str = "{}",
        *,
        train: bool,
    ) -> list[ReportRow]:
        """One row a parameter; `name` is what a row is called after the port's name."""
        undecided: dict[str, Array] = {}
        rows = compare_gradients(
            actual.gradients,
            expected.gradients,
            self.weight_map,
            entry,
            self.tolerance,
            sources=self.source.owner,
            targets=self.port.owner,
            name=name.format,
            undecided=None if self.wide else undecided,
        )
        if not undecided:
            return rows
        if expected.gradients.is_large():
            # In float64 the source takes four times its memory: the last resort.
            actual.gradients.put_aside()
            rows = self._rounded(rows, undecided, expected.weights, name, train)
            if not undecided:
                return rows
        own = {name.format(target): array for target, array in undecided.items()}
        exact = self._exact(expected.weights, undecided, train)
        if exact is None:
            some = f"{', '.join(list(undecided)[:3])}{', ...' if len(own) > 3 else ''}"
            self.unchecked.append(
                f"gradients of {len(own)} tensors are below the rounding of the others, and "
                f"the source does not run in float64 to tell ({some})"
            )
            return rows
        known = {name.format(target): array for target, array in exact.items()}
        return [
            _decided(row, own[row.name], known[row.name]) if row.name in own else row
            for row in rows
        ]

    def _rounded(
        self,
        rows: list[ReportRow],
        undecided: dict[str, Array],
        weights: Mapping[str, Array],
        name: str,
        train: bool,
    ) -> list[ReportRow]:
        """Rows with the source's own rounding, where that decides; those are decided then.

        Three times the scalar has three times the gradients, with other roundings.
        """
        scaled = {n: np.multiply(w, 3, dtype=w.dtype) for n, w in weights.items()}
        found = self.source.gradients(lambda _: scaled, train=train).gradients
        named = Named(found, self.source.owner)
        known = {row.name: row for row in rows}
        for target in list(undecided):
            row, own = known[name.format(target)], undecided[target]
            third = self.weight_map.read_target(target, named) / 3
            rounding = float(np.max(np.abs(own - third), initial=0.0))
            if row.max_abs <= OWN_ROUNDING * rounding:
                note = f"rounding: the source's own is {rounding:.0e}"
                known[row.name] = _noted(row, note)
                del undecided[target]
        return [known[row.name] for row in rows]

    def _exact(
        self, weights: Mapping[str, Array], targets: Iterable[str], train: bool
    ) -> dict[str, Array] | None:
        """The source's gradients in float64, by the port's names."""
        try:
            wide = self.source.widened()
            found = wide.gradients(lambda _: weights, train=train).gradients
        # A module may demand float32.
        except (RuntimeError, TypeError, ValueError):
            return None
        named = Named(found, wide.owner)
        return {t: self.weight_map.read_target(t, named) for t in targets}

    def train_rows(
        self,
        inputs: Mapping[str, Array],
        expected: Result,
        actual: Result,
    ) -> list[ReportRow]:
        """Train mode: outputs, running statistics and other state, gradients, a step.

        The gradients are used up.
        """
        rows = self._outputs(actual.outputs, expected.outputs, TRAIN)
        rows += compare_buffers(
            actual.buffers,
            expected.buffers,
            self.weight_map,
            TRAIN,
            self.tolerance,
            narrow=self.narrow,
        )
        if not comparable(actual.outputs, expected):
            return rows
        # Gradients first: they are as large as the model, and are used up.
        found = self._gradients(expected, actual, TRAIN, "gradient of {}", train=True)
        found += self._after_step(inputs, expected, actual, train=True)
        return rows + self._further_calls(inputs, expected, actual) + found

    def _further_calls(
        self, inputs: Mapping[str, Array], expected: Result, actual: Result
    ) -> list[ReportRow]:
        """Two more calls in train mode, and what eval mode computes after them."""
        rows: list[ReportRow] = []
        weights, ours, theirs = expected.weights, expected.state, actual.state
        for number in range(2, CALLS + 1):
            entry = Entry("train_step", note=f"in train mode, call {number}")
            source = self.source.forward(train=True, state=ours)
            port = self.port.gradients(inputs, weights, train=True, state=theirs)
            ours, theirs = source.state, port.state
            rows += self._outputs(port.outputs, source.outputs, entry)
            rows += compare_buffers(
                port.buffers,
                source.buffers,
                self.weight_map,
                entry,
                self.tolerance,
                narrow=self.narrow,
            )
        after = self.source.forward(state=ours).outputs
        port = self.port.gradients(inputs, weights, state=theirs)
        return rows + self._outputs(port.outputs, after, AFTER)

    def expected(self, weights_of: WeightsOf, *, train: bool = False) -> Result:
        """What the source computes; large gradients wait in a file for those of the port."""
        found = self.source.gradients(weights_of, train=train)
        found.gradients.put_aside()
        return found

    def again(
        self, inputs: Mapping[str, Array], weights: Mapping[str, Array], *, train: bool
    ) -> list[ReportRow]:
        """Run both sides on known weights of the outputs, and compare."""
        expected = self.expected(lambda _: weights, train=train)
        actual = self.port.gradients(inputs, weights, train=train)
        rows = self.train_rows if train else self.eval_rows
        return rows(inputs, expected, actual)

    def limit(self, dtype: str) -> float:
        """The largest relative error of what follows from gradients."""
        return self.tolerance.of(dtype).gradient

    def _outputs(self, actual: Flat, expected: Flat, entry: Entry) -> list[ReportRow]:
        return compare.compare_outputs(
            actual, expected, entry, self.limit, narrow=self.narrow
        )

    def _after_step(
        self,
        inputs: Mapping[str, Array],
        expected: Result,
        actual: Result,
        *,
        train: bool,
    ) -> list[ReportRow]:
        """Outputs after one step of SGD on each side.

        The rate is such that the scalar changes by `STEP_CHANGE` of its spread to first
        order.
        """
        norm = sum(compare.squared_norm(g) for g in expected.gradients.values())
        if not norm or not math.isfinite(norm) or not actual.gradients:
            return []
        rate = STEP_CHANGE * _spread(expected.outputs, expected.weights) / norm
        large = expected.gradients.is_large()
        # One side at a time: what it steps to is as large as the model.
        parameters = self.port.stepped(actual.gradients, rate)
        theirs = self.port.outputs(inputs, expected.weights, parameters, train=train)
        del parameters
        if large:
            memory.give_back(now=True)
        parameters = self.source.stepped(expected.gradients, rate)
        ours = self.source.forward(parameters=parameters, train=train).outputs
        return self._outputs(theirs, ours, STEP)


def _decided(row: ReportRow, own: Array, exact: Array) -> ReportRow:
    """A row that passes for the size of other tensors alone, by what float64 says of it.

    `own` is the source's gradient, `exact` the one that it has in float64. A source that
    computes in 32 bits whatever it is given shows its rounding by the difference of the two.
    """
    size, true = (float(np.max(np.abs(x), initial=0.0)) for x in (own, exact))
    rounding = float(np.max(np.abs(own - exact), initial=0.0))
    if true <= ZERO * max(size, row.max_abs):
        return _noted(
            row, f"0 in exact arithmetic: the source's is {true:.0e} in float64"
        )
    if row.max_abs <= OWN_ROUNDING * rounding:
        return _noted(row, f"rounding: the source's own is {rounding:.0e}")
    relative = row.max_abs / size if size else math.inf
    return dataclasses.replace(row, max_rel=relative, passed=relative <= row.tolerance)


def _noted(row: ReportRow, note: str) -> ReportRow:
    return dataclasses.replace(row, note=f"{row.note}; {note}" if row.note else note)


def settle(
    rows: list[ReportRow],
    pair: Pair,
    inputs: Mapping[str, Array],
    weights: Mapping[str, Array],
    *,
    train: bool,
) -> list[ReportRow]:
    """Let float64 decide about the rows that fail, where all of them fail by little.

    A row that passes there, within `EXACT`, holds the errors in float64 and says what
    they were. A model that cannot run in float64 keeps its rows. What is rounding alone has
    no size of its own in float64: its error there is taken over its size in float32.
    """
    failing = [row for row in rows if not row.passed]
    # Integers, another shape and NaN are no matter of rounding.
    if not failing or not all(r.tolerance and r.max_rel < math.inf for r in failing):
        return rows
    wide = pair.widened()
    worst = max((r.max_rel for r in failing if not _vanishes(r, rows)), default=0.0)
    try:
        limit = BEYOND_ROUNDING
        if worst > limit:
            limit = max(limit, OWN_ROUNDING * _rounding(pair, wide, weights, train))
        if worst > limit:
            return rows
        exact = wide.again(inputs, weights, train=train)
    # A module may demand float32, on either side: then nothing is excused.
    except (RuntimeError, TypeError, ValueError, PortFails):
        return rows
    found = {(r.kind, r.name, r.note): r for r in exact}
    settled = []
    for row in rows:
        decided = found.get((row.kind, row.name, row.note))
        if decided is not None and not decided.passed and _vanishes(row, rows):
            decided = _beside(decided, _size(row))
        good = decided is not None and decided.passed
        settled.append(_settled(row, decided) if good else row)
    return settled


def _size(row: ReportRow) -> float:
    """The largest magnitude of the source's tensor, infinite where the row does not tell."""
    return row.max_abs / row.max_rel if row.max_rel else math.inf


def _vanishes(row: ReportRow, rows: list[ReportRow]) -> bool:
    """Whether a tensor is so small beside others of its kind that all of it is rounding.

    The mean of a batch norm behind a convolution of what a batch norm without a bias made
    is 0 in exact arithmetic.
    """
    sizes = [_size(r) for r in rows if r.kind == row.kind and r.max_rel]
    return _size(row) < VANISHED * max(sizes, default=0.0)


def _beside(exact: ReportRow, size: float) -> ReportRow:
    """A row in float64 whose error is taken over what float32 showed."""
    error = exact.max_abs / size
    return dataclasses.replace(exact, max_rel=error, passed=error <= exact.tolerance)


def _rounding(
    pair: Pair, wide: Pair, weights: Mapping[str, Array], train: bool
) -> float:
    """The largest relative error of the source's own gradients in float32."""
    narrow = pair.source.gradients(lambda _: weights, train=train).gradients
    exact = wide.source.gradients(lambda _: weights, train=train).gradients
    largest = {n: float(np.abs(g).max()) for n, g in exact.items() if g.size}
    floor = pair.tolerance.gradient_floor * max(largest.values(), default=0.0)
    errors = [
        float(np.abs(narrow[name] - exact[name]).max()) / max(size, floor)
        for name, size in largest.items()
        if size or floor
    ]
    return max(errors, default=0.0)


def _settled(row: ReportRow, exact: ReportRow | None) -> ReportRow:
    if row.passed or exact is None:
        return row
    note = f"in float64; in float32 {row.max_rel:.1e}, which is rounding"
    note = f"{row.note}; {note}" if row.note else note
    return dataclasses.replace(exact, note=note)


def draw_weights(outputs: Flat) -> dict[str, Array]:
    """The weights of the scalar whose gradient is compared: normal, one an element.

    A seed by position makes them independent of the other outputs. Infinite outputs
    and the numbers that masks are filled with get the weight 0.
    """
    weights = {}
    for position, (name, array) in enumerate(outputs.arrays().items()):
        if array.dtype.name not in FLOATS:
            continue
        rng = np.random.default_rng([SEED, position])
        drawn = rng.standard_normal(array.shape, np.float32)
        usual = compare.is_usual(array)
        weights[name] = drawn if usual is None else np.where(usual, drawn, 0)
    return weights


def comparable(actual: Flat, expected: Result) -> bool:
    """Whether the port's scalar is a sum over the same outputs as the source's."""
    ours, theirs = actual.arrays(), expected.outputs.arrays()
    return all(
        name in ours and ours[name].shape == theirs[name].shape
        for name in expected.weights
    )


def _spread(outputs: Flat, weights: Mapping[str, Array]) -> float:
    """The standard deviation of the scalar over the draw of its weights."""
    arrays = outputs.arrays()
    total = 0.0
    for name, weight in weights.items():
        kept = np.where(weight == 0, 0, arrays[name].astype(np.float64))
        total += float(np.sum(kept**2))
    return math.sqrt(total)
