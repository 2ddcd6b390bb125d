"""Train mode of a port against that of its source, with every random draw fixed.

Dropout and noise make two calls differ. So both sides run with each draw at the same quantile
of its distribution, and with dropout that keeps everything and scales as it does when it
drops: a dropout that is missing, is elsewhere or has another rate shows, and so does all
arithmetic on random numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from ivyport.core.passes.undropped import rates_left_out
from ivyport.core.report import ReportRow, worst
from ivyport.verification import compare
from ivyport.verification.compare import Array, Flat
from ivyport.verification.modes import noise_rows
from ivyport.verification.sides import (
    NoGradients,
    NotFixed,
    PortFails,
    PortSide,
    Result,
    SourceSide,
)
from ivyport.verification.training import AFTER, TRAIN, Pair, draw_weights, settle

#: Quantiles that draws are fixed at. Stochastic depth is a dropout of the port, which keeps:
#: the source keeps where u < p, or where u + p >= 1, so that it does at one of the two.
QUANTILES = (0.25, 0.75)
#: Of calls that tell whether something is drawn: a branch may be taken in one of two.
SEEDS = (1, 2, 3, 4)


@dataclasses.dataclass
class TrainMode:
    """Compares train mode.

    Attributes:
        pair: the two sides.
        known: what the port's notes say of it.
        through: by output, the narrowest dtype that its values were rounded to.
        rows, notes, unchecked: of the report; they are added to.
    """

    pair: Pair
    known: Sequence[str]
    through: Mapping[str, str]
    rows: list[ReportRow]
    notes: list[str]
    unchecked: list[str]

    def compare(self, inputs: dict[str, Array]) -> None:
        """What training depends on where train mode computes something else."""
        source, port = self.pair.source, self.pair.port
        if unlike := source.unlike():
            self.unchecked.append(unlike)
            return
        noise = source.noisy()
        if noise == "everywhere":
            self.rows += noise_rows(source, port, inputs)
        drops = bool(source.rates(train=True)) and not rates_left_out(self.known)
        if (noise or drops) and self._with_draws_fixed(inputs, noise):
            return
        if (noise == "everywhere" and not source.partly) or self._noisy(inputs):
            self.unchecked.append(
                "train mode is not compared: both sides draw random numbers in it"
            )
            return
        if noise == "everywhere":
            self.unchecked.append(
                "of train mode only batch norms are compared: the source draws random numbers"
            )
        self.rows += self._compared(self.pair, inputs)

    def _with_draws_fixed(self, inputs: Mapping[str, Array], noise: str) -> bool:
        """Compare with draws fixed; False, with the reason, where they cannot be."""
        failing: list[ReportRow] = []
        for quantile in QUANTILES if noise else QUANTILES[:1]:
            source = self.pair.source.fixed(quantile)
            port = self.pair.port.fixed(quantile)
            try:
                if noise and not _steady(source):
                    raise NotFixed("it draws random numbers in Python or numpy")
                fixed = dataclasses.replace(self.pair, source=source, port=port)
                rows = self._compared(fixed, inputs)
            except NotFixed as error:
                self.unchecked.append(f"dropout and noise in train mode: {error}")
                return False
            failing = failing or rows
            if all(row.passed for row in rows):
                failing = rows
                break
        self.rows += failing
        if noise:
            self.notes.append(
                "train mode is compared with every random draw fixed at one number"
            )
        return True

    def _noisy(self, inputs: Mapping[str, Array]) -> bool:
        """Whether the port draws in train mode beside its dropout."""
        try:
            return self.pair.port.draws(inputs, train=True, silent=True)
        except PortFails:
            return False

    def _compared(self, pair: Pair, inputs: Mapping[str, Array]) -> list[ReportRow]:
        """All that train mode writes and computes, or outputs alone where nothing differs."""
        source, port = pair.source, pair.port
        trained = self._silent(pair)
        evaluated = self.pair.source.forward()
        if not source.has_statistics() and not self._differ(trained, evaluated):
            return self._outputs(pair, inputs, source.forward(train=True).outputs)
        try:
            expected = pair.expected(draw_weights, train=True)
        except NoGradients as error:
            self.unchecked.append(f"gradients in train mode: {error}")
            return self._outputs(pair, inputs, source.forward(train=True).outputs)
        weights = expected.weights
        try:
            actual = port.gradients(inputs, weights, train=True)
            rows = pair.train_rows(inputs, expected, actual)
        except PortFails as error:
            return [compare.failed("forward", TRAIN, str(error))]
        del expected, actual
        rows = settle(rows, pair, inputs, weights, train=True)
        # The gradients of eval mode have a row each already, and so has the first call.
        found: list[ReportRow] = []
        groups: tuple[Callable[[ReportRow], bool], ...] = (_is_gradient, _is_later)
        for belongs in groups:
            group = [row for row in rows if belongs(row)]
            rows = [row for row in rows if not belongs(row)]
            found += [worst(group)] if group else []
        return found + rows

    def _silent(self, pair: Pair) -> Result:
        """The source in train mode without dropout, which noise is no part of either."""
        beside = self.pair.source
        return (pair.source if beside.noisy() else beside).forward(train=True)

    def _differ(self, trained: Result, evaluated: Result) -> bool:
        """Whether train mode gives other outputs than eval mode, dropout aside."""
        rows = compare.compare_outputs(
            trained.outputs,
            evaluated.outputs,
            TRAIN,
            lambda dtype: self.pair.tolerance.of(dtype).output,
        )
        return not all(row.passed for row in rows)

    def _outputs(
        self, pair: Pair, inputs: Mapping[str, Array], expected: Flat
    ) -> list[ReportRow]:
        """The outputs in train mode alone: nothing is written and nothing else differs."""
        try:
            actual = pair.port.forward(inputs, train=True).outputs
        except PortFails as error:
            return [compare.failed("forward", TRAIN, str(error))]
        rows = compare.compare_outputs(
            actual,
            expected,
            TRAIN,
            lambda dtype: pair.tolerance.of(dtype).gradient,
            narrow=pair.port.narrows,
            through=self.through,
        )
        return [worst(rows)] if rows else []


def _steady(source: SourceSide) -> bool:
    """Whether two calls in train mode are equal that begin with different seeds."""
    first, second = (source.forward(train=True, seed=seed).outputs for seed in (1, 2))
    return not compare.differ(first, second)


def fixed_outputs(
    source: SourceSide, port: PortSide, inputs: Mapping[str, Array]
) -> tuple[Flat, Flat] | None:
    """Outputs in eval mode of the port and the source with draws fixed; None if they draw on.

    Raises:
        NotFixed: a draw cannot be fixed.
        PortFails: the port raises.
    """
    ours, theirs = source.fixed(QUANTILES[0]), port.fixed(QUANTILES[0])
    first, *others = [ours.forward(inputs, seed=s).outputs for s in SEEDS]
    actual = theirs.forward(inputs).outputs
    return None if any(compare.differ(first, o) for o in others) else (actual, first)


def _is_gradient(row: ReportRow) -> bool:
    return row.name.startswith("gradient of ")


def _is_later(row: ReportRow) -> bool:
    return ", call " in row.note or row.note.startswith(AFTER.note)
